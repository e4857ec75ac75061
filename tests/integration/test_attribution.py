"""Whom a call belongs to: metadata over defaults, thread, node, step, attempt and role."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from graphs import (
    ASK,
    NESTINGS,
    State,
    agent_script,
    asking,
    do_ainvoke,
    do_invoke,
    fail_every_other,
    fan_out,
    graph_of,
    line_of,
    recorded,
)
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from scripted_models import Reply, ScriptedChat, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook
from langchain_finops.pricing.cards import parse_cards
from langchain_finops.records import Attribution


def who(ledger: Ledger) -> Attribution:
    (call,) = ledger.calls()
    return call.attribution


def draft() -> Any:
    return graph_of({"draft": asking(ScriptedChat(), "7/3")})


def test_metadata_of_the_run_goes_over_the_handlers_defaults(ledger: Ledger, prices: PriceBook) -> None:
    """What a run says of itself counts; what it leaves out comes from the handler."""
    handler = FinOpsHandler(
        agent_id="default-agent", user_id="default-user", tags={"team": "cx"}, ledger=ledger, prices=prices
    )
    metadata = {"agent_id": "support", "task_id": "t-42", "task_type": "refund", "customer_id": "c-1",
                "project": "p", "environment": "prod", "release": "1.2"}  # fmt: skip

    draft().invoke({"answers": []}, {"callbacks": [handler], "metadata": metadata})

    said = who(ledger)
    assert (said.agent_id, said.user_id, said.task_id, said.task_type) == ("support", "default-user", "t-42", "refund")
    assert (said.customer_id, said.project, said.environment, said.release) == ("c-1", "p", "prod", "1.2")
    assert dict(said.tags) == {"team": "cx"}
    (run,) = ledger.runs()
    assert (run.attribution.agent_id, run.attribution.user_id, run.attribution.task_id) == (
        "support", "default-user", "t-42",
    )  # fmt: skip


def test_an_agent_is_called_by_its_own_name(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Without an `agent_id`, an agent's calls are under its LangChain name; an agent that is a tool has its own."""
    NESTINGS["agent as tool"]().graph.invoke(ASK, {"callbacks": [handler]})

    assert Counter((call.attribution.agent_id, call.attribution.node_path) for call in ledger.calls()) == {
        ("support", "model"): 2,
        ("helper", "tools/model"): 1,
    }


def test_a_graph_without_an_agent_is_called_by_its_name(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Without agent names the graph's name is the agent's, in subgraphs as well."""
    inner = graph_of({"search": asking(ScriptedChat(), "7/3")}, name="inner")

    graph_of({"researcher": inner}, name="newsroom").invoke({"answers": []}, {"callbacks": [handler]})

    assert who(ledger).agent_id == "newsroom"


@pytest.mark.parametrize("together", [False, True])
def test_two_graphs_in_one_run_keep_their_names(together: bool, handler: FinOpsHandler, ledger: Ledger) -> None:
    """One after the other or side by side: the first one's name is not everybody's."""
    writer = graph_of({"write": asking(ScriptedChat(), "1/1")}, name="writer")
    critic = graph_of({"read": asking(ScriptedChat(), "2/2")}, name="critic")
    root = RunnableParallel(a=writer, b=critic) if together else writer | critic

    root.invoke({"answers": []}, {"callbacks": [handler]})

    assert {(call.attribution.agent_id, call.attribution.node_path) for call in ledger.calls()} == {
        ("writer", "write"), ("critic", "read"),
    }  # fmt: skip


def test_a_router_at_the_entry_is_its_graphs(handler: FinOpsHandler, ledger: Ledger) -> None:
    """It runs before any node, and has a name of its own."""
    model = ScriptedChat()

    def route(_: State) -> str:
        model.invoke("2/2")
        return "draft"

    builder = StateGraph(State)
    builder.add_node("draft", asking(model, "1/1"))
    builder.add_conditional_edges(START, route, ["draft"])
    builder.compile(name="desk").invoke({"answers": []}, {"callbacks": [handler]})

    assert [call.attribution.agent_id for call in ledger.calls()] == ["desk", "desk"]


@pytest.mark.parametrize("where", ["memory", "file"])
def test_half_a_character_in_a_name_loses_no_call(
    where: str, ledger: Ledger, sql_ledger: Ledger, prices: PriceBook
) -> None:
    """JSON can bring a lone surrogate, which no file can hold: it becomes a question mark."""
    kept = ledger if where == "memory" else sql_ledger
    handler = FinOpsHandler(ledger=kept, prices=prices)

    ScriptedChat().invoke("7/3", {"callbacks": [handler], "metadata": {"user_id": "é\ud800", "tags": {"a": "\ud800"}}})

    assert (who(kept).user_id, who(kept).tags) == ("é?", {"a": "?"})
    assert handler.faults == 0


def test_an_agent_id_counts_for_all_that_the_run_calls(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Metadata of the run is inherited by subgraphs, tools and the agents in them."""
    NESTINGS["agent as tool"]().graph.invoke(ASK, {"callbacks": [handler], "metadata": {"agent_id": "desk"}})

    assert {call.attribution.agent_id for call in ledger.calls()} == {"desk"}


def test_the_thread_is_langgraphs(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`thread_id` comes from `configurable`, where LangGraph has it, and is on calls and runs."""
    graph = line_of({"draft": asking(ScriptedChat(), "7/3")}).compile(checkpointer=InMemorySaver())

    graph.invoke({"answers": []}, {"callbacks": [handler], "configurable": {"thread_id": "th-1"}})

    assert who(ledger).thread_id == "th-1"
    assert [run.attribution.thread_id for run in ledger.runs()] == ["th-1"]


def test_two_invocations_of_a_thread_are_two_runs(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A conversation is one thread and many runs; steps are counted for each."""
    graph = line_of({"draft": asking(ScriptedChat(), "7/3")}).compile(checkpointer=InMemorySaver())
    for _ in range(2):
        graph.invoke({"answers": []}, {"callbacks": [handler], "configurable": {"thread_id": "th-1"}})

    assert [run.steps for run in ledger.runs()] == [1, 1]
    assert len({run.run_id for run in ledger.runs()}) == 2
    assert [call.attribution.step for call in ledger.calls()] == [1, 1]


def test_the_innermost_node_and_its_path_are_named(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`node` is the innermost, `node_path` the way to it."""
    inner = graph_of({"search": asking(ScriptedChat(), "7/3")})
    middle = graph_of({"web": inner})

    graph_of({"researcher": middle}).invoke({"answers": []}, {"callbacks": [handler]})

    assert (who(ledger).node, who(ledger).node_path) == ("search", "researcher/web/search")


def test_steps_are_node_executions_at_any_depth(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`draft`, then `researcher`, then `search` in it: three steps, and the calls were in the first and the third."""
    NESTINGS["subgraph"]().graph.invoke({"answers": []}, {"callbacks": [handler]})

    assert [(call.attribution.node_path, call.attribution.step) for call in ledger.calls()] == [
        ("draft", 1),
        ("researcher/search", 3),
    ]
    assert [run.steps for run in ledger.runs()] == [3]


@pytest.mark.parametrize("native_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("nesting", ["with_retry", "RetryPolicy"])
async def test_attempts_are_counted(nesting: str, native_async: bool, handler: FinOpsHandler, ledger: Ledger) -> None:
    """What retries waste can be told: each try has its number."""
    case = NESTINGS[nesting](native_async)

    if native_async:
        await do_ainvoke(case, {"callbacks": [handler]})
    else:
        do_invoke(case, {"callbacks": [handler]})

    assert [(call.attribution.attempt, call.error is None) for call in ledger.calls()] == [(1, False), (2, True)]


def test_a_first_try_is_the_first(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A call that needed no second try has no other number than 1."""
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3, retry_on=Exception)
    line_of({"draft": asking(ScriptedChat(), "7/3")}, retry_policy=policy).compile().invoke(
        {"answers": []}, {"callbacks": [handler]}
    )

    assert who(ledger).attempt in {None, 1}


def test_a_node_tried_again_is_one_step(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A RetryPolicy's second try is the same step: its node was entered once more, the graph went no further."""
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3, retry_on=Exception)
    node = asking(ScriptedChat(script=fail_every_other), "7/3")
    graph = line_of({"draft": node, "polish": lambda state: {"answers": []}}, retry_policy=policy).compile()

    graph.invoke({"answers": []}, {"callbacks": [handler]})

    assert len(list(ledger.calls())) == 2
    assert all(run.status == "completed" for run in ledger.runs())


def test_summaries_are_overhead(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A summariser's calls are no work of the agent's."""
    summariser = ScriptedChat(script=lambda *_: Reply(text="SUMMARY", usage=tokens(50, 9)))
    middleware = SummarizationMiddleware(summariser, trigger=("messages", 4), keep=("messages", 1))
    agent = create_agent(
        ScriptedChat(script=lambda *_: Reply(usage=tokens(8, 2))), [], middleware=[middleware], name="support"
    )
    past = [HumanMessage("a"), AIMessage("b"), HumanMessage("c"), AIMessage("d"), HumanMessage("e")]

    agent.invoke({"messages": past}, {"callbacks": [handler]})

    assert {(call.usage.input_tokens, call.attribution.role) for call in ledger.calls()} == {
        (50, "overhead"),
        (8, "agent"),
    }


def test_a_handler_on_the_model_alone_still_knows_the_node(handler: FinOpsHandler, ledger: Ledger) -> None:
    """It sees no graph and no node begin; the call's own metadata names the way to it."""
    inner = graph_of({"search": asking(ScriptedChat(callbacks=[handler]), "7/3")})

    graph_of({"researcher": inner}).invoke({"answers": []})

    assert recorded(ledger.calls()) == Counter([("researcher/search", 7, 3)])
    assert [run.status for run in ledger.runs()] == ["completed"]


def test_calls_outside_a_graph_are_unattributed(handler: FinOpsHandler) -> None:
    """They have a row of their own, and it is in the total (promise 5)."""
    model = ScriptedChat()
    draft().invoke({"answers": []}, {"callbacks": [handler]})
    model.invoke("100/10", {"callbacks": [handler]})

    rows = {row["node"]: row["cost_usd"] for row in handler.summary(by="node").rows()}
    assert rows == {"draft": Decimal(7 * 2 + 3 * 10) / 1_000_000, None: Decimal(100 * 2 + 10 * 10) / 1_000_000}
    assert "unattributed" in str(handler.summary(by="node"))


def test_subtrees_hold_the_own_cost_of_their_nodes(handler: FinOpsHandler) -> None:
    """A node that asks for itself and calls a subgraph: own and subtree cost, each once."""
    NESTINGS["subgraph invoked in a node"]().graph.invoke({"answers": []}, {"callbacks": [handler]})

    rows = {row["node"]: (row["cost_usd"], row["subtree_cost_usd"]) for row in handler.summary(by="node").rows()}
    own, below = Decimal(4 * 2 + 1 * 10) / 1_000_000, Decimal(13 * 2 + 2 * 10) / 1_000_000
    assert rows == {"researcher": (own, own + below), "researcher/search": (below, below)}


def test_tools_are_charged_by_their_cards(ledger: Ledger) -> None:
    """A tool with a card is a charge at its node; what it costs is in the total and apart from the models'."""
    cards = parse_cards([{"id": "search", "tool": "search", "usd_per_call": "0.005"},
                         {"id": "free", "match": {"model": "scripted*"}, "free": True}], where="test")  # fmt: skip
    handler = FinOpsHandler(ledger=ledger, prices=PriceBook(cards=cards, catalog=False))
    tool = StructuredTool.from_function(lambda query: "found", name="search", description="Search.")

    create_agent(ScriptedChat(script=agent_script), [tool], name="support").invoke(
        ASK, {"callbacks": [handler], "metadata": {"task_id": "t-1"}}
    )

    (charge,) = ledger.charges()
    assert (charge.kind, charge.name, charge.cost_usd) == ("tool", "search", Decimal("0.005"))
    assert (charge.attribution.node_path, charge.attribution.task_id) == ("tools", "t-1")
    total = handler.summary(by="node").total()
    assert (total.model_usd, total.charge_usd, total.cost_usd) == (0, Decimal("0.005"), Decimal("0.005"))


def test_a_task_that_is_sent_to_from_a_subgraph_keeps_its_path(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Fan-out inside a subgraph: the path names the node, not the branch's number."""
    inner = fan_out(asking(ScriptedChat()), ["1/1", "2/2"])

    graph_of({"crowd": inner}).invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("crowd/branch", 1, 1), ("crowd/branch", 2, 2)])


def test_a_subgraph_called_twice_in_a_node_keeps_one_path(handler: FinOpsHandler, ledger: Ledger) -> None:
    """LangGraph numbers repeated calls; the numbers are no nodes."""
    inner = graph_of({"search": asking(ScriptedChat())})

    def node(state: State) -> State:
        for size in ("1/1", "2/2", "3/3"):
            inner.invoke({"prompt": size})
        return {"answers": []}

    graph_of({"researcher": node}).invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter(("researcher/search", size, size) for size in (1, 2, 3))
