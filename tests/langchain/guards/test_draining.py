"""`on_exceed="drain"`: the superstep finishes, the graph ends, and `invoke(None)` goes on where it was refused."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import START, StateGraph
from limited_graphs import BOOK, Paid, State, asking, cent, fan_out, line, swallowing

from langchain_finops import Budget, CallRefused, FinOpsHandler, Ledger, stopped

DRAINING = Budget(usd="0.035", on_exceed="drain")
MORE = Budget(usd="0.085", on_exceed="drain")


def more(ledger: Ledger) -> FinOpsHandler:
    """A handler of the same ledger whose limit was raised."""
    return FinOpsHandler(budgets=[MORE], ledger=ledger, prices=BOOK)


def test_a_drained_run_is_resumed_with_no_call_made_twice(limited: Any, run: Any, ledger: Ledger) -> None:
    """Three calls, LangGraph's own exception with ours in it, and the rest once the limit was raised."""
    model = Paid()
    graph = line(*[asking(model, "hi")] * 8, checkpointer=InMemorySaver())

    with pytest.raises(GraphDrained, match=r"\$0.03 spent of \$0.035") as raised:
        run(graph, {"said": []}, limited(DRAINING), thread="t")
    assert isinstance(raised.value, CallRefused)
    assert raised.value.budget == DRAINING.label
    assert stopped(raised.value).reason == "drained"  # type: ignore[union-attr]
    assert [(each.status, each.stop_reason) for each in ledger.runs()] == [("stopped", "drained")]
    result = run(graph, None, more(ledger), thread="t")

    assert model.calls == 8
    assert result["said"] == ["ok"] * 8
    assert [each.status for each in ledger.runs()] == ["completed"]


def test_a_drained_run_stays_drained_while_its_limit_stands(limited: Any, run: Any) -> None:
    """What was spent is carried over, so going on makes no call."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 8, checkpointer=InMemorySaver()), limited(DRAINING)

    for state in ({"said": []}, None, None):
        with pytest.raises(GraphDrained):
            run(graph, state, handler, thread="t")

    assert model.calls == 3


def test_the_superstep_finishes(limited: Any, run: Any, ledger: Ledger) -> None:
    """Of eight branches three have answered and are kept; the others alone run when it goes on."""
    model = Paid()
    graph = fan_out(asking(model), 8, checkpointer=InMemorySaver())

    with pytest.raises(GraphDrained):
        run(graph, {}, limited(DRAINING), thread="t")
    assert model.calls == 3
    result = run(graph, None, more(ledger), thread="t")

    assert model.calls == 8
    assert sorted(model.prompts) == sorted(f"p{number}" for number in range(8))
    assert result["said"] == ["ok"] * 8


def test_a_budget_that_is_used_up_by_the_last_call_ends_nothing(limited: Any, run: Any, ledger: Ledger) -> None:
    """Nodes that ask nobody may follow, and the run completes."""
    graph = line(*[asking(Paid(), "hi")] * 3, lambda _: {"said": ["free"]}, checkpointer=InMemorySaver())

    result = run(graph, {"said": []}, limited(DRAINING), thread="t")

    assert result["said"] == ["ok", "ok", "ok", "free"]
    assert [each.status for each in ledger.runs()] == ["completed"]


def test_a_node_that_swallows_the_drain_is_the_last_one(limited: Any, run: Any) -> None:
    """LangGraph was asked as well: it ends after that superstep, and its exception tells what ours would have."""
    model = Paid()

    with pytest.raises(GraphDrained) as raised:
        run(
            line(*[swallowing(model, "hi")] * 8, checkpointer=InMemorySaver()),
            {"said": []},
            limited(DRAINING),
            thread="t",
        )

    assert model.calls == 3
    assert stopped(raised.value).budget == DRAINING.label  # type: ignore[union-attr]


def test_wrappers_buy_nothing_further_while_it_drains(limited: Any, run: Any) -> None:
    """A retry or fallback in the same node is refused again."""
    model = Paid()
    wrapped = model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).with_fallbacks([model])

    with pytest.raises(GraphDrained):
        run(line(*[asking(wrapped, "hi")] * 8), {"said": []}, limited(DRAINING))

    assert model.calls == 3


def test_a_step_too_many_drains_as_well(limited: Any, run: Any) -> None:
    """No call is needed for that."""
    ran: list[int] = []
    graph = line(*[lambda _: ran.append(1) or {}] * 5, checkpointer=InMemorySaver())

    with pytest.raises(GraphDrained):
        run(graph, {"said": []}, limited(Budget(steps=2, on_exceed="drain")), thread="t")

    assert len(ran) == 2


def test_drains_in_subgraphs_and_agents_are_resumed(limited: Any, run: Any, ledger: Ledger) -> None:
    """At any depth, and with the tools that ran."""
    model = Paid()
    builder = StateGraph(State)
    builder.add_node("outer", asking(model, "hi"))
    builder.add_node("inner", line(*[asking(model, "hi")] * 4))
    builder.add_edge(START, "outer")
    builder.add_edge("outer", "inner")
    graph = builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(GraphDrained):
        run(graph, {"said": []}, limited(DRAINING), thread="t")
    assert model.calls == 3
    run(graph, None, more(ledger), thread="t")
    assert model.calls == 5

    ran: list[str] = []

    def say(prompt: str, number: int) -> Any:
        return cent(tool_calls=[{"name": "look", "args": {"at": str(number)}, "id": str(number)}] if number < 5 else [])

    agent_model = Paid(say=say)
    tool = StructuredTool.from_function(lambda at: ran.append(at) or "found", name="look", description="Look.")
    agent = create_agent(agent_model, [tool], checkpointer=InMemorySaver())
    with pytest.raises(GraphDrained):
        run(agent, {"messages": [HumanMessage("hi")]}, limited(DRAINING), thread="u")
    run(agent, None, more(ledger), thread="u")

    assert (agent_model.calls, ran) == (5, ["1", "2", "3", "4"])


def test_somebody_elses_drain_is_no_refusal_and_keeps_what_was_spent(limited: Any, run: Any, ledger: Ledger) -> None:
    """As on SIGTERM: the run goes on, with one call left of its three."""
    from langgraph.runtime import get_runtime

    model = Paid()

    def drains(_: State) -> State:
        get_runtime().control.request_drain("SIGTERM")  # type: ignore[union-attr]
        return {}

    ask = asking(model, "hi")
    graph, handler = line(ask, ask, drains, ask, ask, checkpointer=InMemorySaver()), limited(Budget(llm_calls=3))

    with pytest.raises(GraphDrained) as raised:
        run(graph, {"said": []}, handler, thread="t")
    assert stopped(raised.value).budget is None  # type: ignore[union-attr]
    with pytest.raises(CallRefused):
        run(graph, None, handler, thread="t")

    assert model.calls == 3
