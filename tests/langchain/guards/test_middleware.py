"""`FinOpsMiddleware`: answers that fit, and a last message instead of an exception."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, hook_config
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from limited_graphs import Paid, cent, line

from langchain_finops import Budget, BudgetExceeded, Ledger, attach, detach, stopped
from langchain_finops.budgets.switch import kill
from langchain_finops.errors import BadArguments
from langchain_finops.langchain import FinOpsMiddleware, Killed

HELLO: Any = {"messages": [HumanMessage("hi")]}
TOOL = StructuredTool.from_function(lambda query: "found", name="look", description="Look.")


class Bounded(Paid):
    """Answers at the length that it is bound to, 1,000 tokens at most, and calls the tool for ever."""

    max_tokens: int | None = None

    def _answer(self, messages: Any, settings: dict[str, Any]) -> AIMessage:
        super()._answer(messages, settings)
        bound = settings.get("max_tokens") or self.max_tokens or 1_000
        call = {"name": "look", "args": {"query": str(self.calls)}, "id": str(self.calls)}
        return cent(output_tokens=min(1_000, bound), tool_calls=[call])

    @property
    def bounds(self) -> list[int | None]:
        return [settings.get("max_tokens") for settings in self.settings]


@pytest.mark.parametrize("admission", ["expected", "strict"])
def test_answers_are_bounded_by_what_is_left_and_the_last_message_says_so(
    admission: Any, limited: Any, run: Any, ledger: Ledger
) -> None:
    """3.5 cents at $10 a million: 3,500 tokens, then 2,500, 1,500 and 500; nothing is overspent."""
    model, handler = Bounded(), limited(Budget(usd="0.035", admission=admission))

    result = run(create_agent(model, [TOOL], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)

    assert model.bounds == [3_500, 2_500, 1_500, 500]
    assert sum(call.cost_usd for call in ledger.calls()) == Budget(usd="0.035").usd  # type: ignore[misc]
    last = result["messages"][-1]
    assert isinstance(last, AIMessage)
    assert "$0.035 spent of $0.035" in last.text
    assert stopped(result).reason.startswith("budget:")  # type: ignore[union-attr]
    assert [run.status for run in ledger.runs()] == ["stopped"]


def test_tokens_are_afforded_as_well_and_of_the_tightest_budget(limited: Any, run: Any) -> None:
    """700 tokens are less than a cent's 1,000; the prompt takes some of them."""
    model, handler = Bounded(), limited(Budget(usd="0.01"), Budget(tokens=700, scope="all"))

    run(create_agent(model, [], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)

    (bound,) = model.bounds
    assert bound is not None
    assert 600 < bound < 700


def test_a_bound_of_ones_own_stays_where_it_is_smaller(limited: Any, run: Any) -> None:
    """And no bound is set that no budget asks for."""
    handler = limited(Budget(llm_calls=1))
    model, without = Bounded(max_tokens=200), Bounded()

    run(create_agent(model, [TOOL], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)
    run(create_agent(without, [TOOL], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)

    assert model.bounds == without.bounds == [None]


def test_nothing_is_counted_twice(limited: Any, run: Any, ledger: Ledger) -> None:
    """The handler in the callbacks counts, and the middleware does not."""
    model, handler = Bounded(), limited(Budget(llm_calls=3))

    run(create_agent(model, [TOOL], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)

    assert model.calls == len(list(ledger.calls())) == 3


def test_a_handler_that_is_attached_will_do_and_one_that_sees_nothing_is_told_of(limited: Any, run: Any) -> None:
    """A limit that nobody counts on would be none."""
    handler = limited(Budget(llm_calls=1))
    agent = create_agent(Bounded(), [TOOL], middleware=[FinOpsMiddleware(handler)])

    with pytest.raises(BadArguments, match="callbacks"):
        run(agent, HELLO)
    attach(handler)
    try:
        assert stopped(run(agent, HELLO)) is not None
    finally:
        detach()


def test_the_agents_own_last_nodes_run_and_others_after_it_do_not(limited: Any, run: Any) -> None:
    """`after_agent` belongs to the end; the graph around the agent was refused with it."""
    ran: list[str] = []

    class After(AgentMiddleware):  # type: ignore[type-arg]
        def after_agent(self, state: Any, runtime: Any) -> None:
            ran.append("after")

    handler = limited(Budget(llm_calls=2))
    agent = create_agent(Bounded(), [TOOL], middleware=[FinOpsMiddleware(handler), After()])
    run(agent, HELLO, handler)
    assert ran == ["after"]

    with pytest.raises(BudgetExceeded):
        run(line(lambda _: agent.invoke(HELLO) and {}, lambda _: ran.append("outer") or {}), {"said": []}, handler)
    assert ran == ["after"] * 2


def test_a_refused_tool_is_said_not_to_have_run_and_the_agent_ends_with_a_message(
    limited: Any, run: Any, ledger: Ledger
) -> None:
    """Two tools may run; the third, which a third call asks for, does not, and no call follows."""
    ran: list[str] = []
    tool = StructuredTool.from_function(lambda query: ran.append(query) or "found", name="look", description="Look.")
    model, handler = Bounded(), limited(Budget(tool_calls=2))

    result = run(create_agent(model, [tool], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)

    assert (model.calls, ran) == (3, ["1", "2"])
    refused, last = result["messages"][-2:]
    assert (refused.status, refused.tool_call_id, refused.text[:8]) == ("error", "3", "Not run.")
    assert isinstance(last, AIMessage)
    assert stopped(result).budget == "2 tool_calls per run"  # type: ignore[union-attr]
    assert [(each.status, each.stop_reason) for each in ledger.runs()] == [("stopped", "budget:2 tool_calls per run")]


def test_an_agent_that_would_go_on_after_its_last_message_does_not(limited: Any, run: Any) -> None:
    """Another middleware that sends it back to its model meets the refusal."""

    class Again(AgentMiddleware):  # type: ignore[type-arg]
        @hook_config(can_jump_to=["model"])
        def after_model(self, state: Any, runtime: Any) -> Any:
            return {"jump_to": "model"}

    model, handler = Bounded(), limited(Budget(llm_calls=2))
    with pytest.raises(BudgetExceeded):
        run(
            create_agent(model, [], middleware=[FinOpsMiddleware(handler), Again()]), HELLO, handler, recursion_limit=30
        )

    assert model.calls == 2


def test_a_drain_a_question_and_a_kill_are_no_last_message(limited: Any, run: Any, ledger: Ledger) -> None:
    """They go on as without the middleware."""
    for word in ("drain", "interrupt"):
        handler = limited(Budget(llm_calls=1, on_exceed=word))
        agent = create_agent(Bounded(), [TOOL], middleware=[FinOpsMiddleware(handler)], checkpointer=InMemorySaver())
        if word == "drain":
            with pytest.raises(GraphDrained):
                run(agent, HELLO, handler, thread="t")
        else:
            assert "__interrupt__" in run(agent, HELLO, handler, thread="t")
    kill(ledger, "all")
    handler = limited()
    with pytest.raises(Killed):
        run(create_agent(Bounded(), [TOOL], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)


def test_thinking_keeps_its_room(limited: Any, run: Any) -> None:
    """A provider refuses a maximum below the tokens it is to think with: the budget decides on the whole call."""

    class Thinking(Bounded):
        thinking: dict[str, Any]

    model, handler = Thinking(thinking={"type": "enabled", "budget_tokens": 3_000}), limited(Budget(usd="0.02"))

    run(create_agent(model, [TOOL], middleware=[FinOpsMiddleware(handler)]), HELLO, handler)

    assert model.bounds == [None, None]
