"""At the limit the next call is not made, whatever the code around it does with the refusal."""

import asyncio
import gc
import logging
import re
from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware, SummarizationMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langgraph.errors import GraphBubbleUp
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import RetryPolicy
from limited_graphs import Paid, State, asking, cent, fan_out, line, swallowing

from langchain_finops import Budget, BudgetExceeded, CallRefused, FinOpsHandler, Ledger, LoopGuard, attach, detach
from langchain_finops.errors import BadArguments
from langchain_finops.langchain import LoopDetected, UnpricedCall

THREE = Budget(usd="0.035")
"""Three calls of a cent fit, a fourth does not."""


def ended(ledger: Ledger) -> list[tuple[str, str | None]]:
    return [(run.status, run.stop_reason) for run in ledger.runs()]


def test_the_call_that_would_break_the_budget_is_not_made(limited: Any, run: Any, ledger: Ledger) -> None:
    """Three calls of eight come through; the error reaches the caller, the record says why, nothing stays open."""
    model = Paid()

    with pytest.raises(BudgetExceeded, match=r"\$0.03 spent of \$0.035"):
        run(line(*[asking(model, "hi")] * 8), {"said": []}, limited(THREE))

    assert model.calls == 3
    assert len(list(ledger.calls())) == 3
    assert ended(ledger) == [("stopped", f"budget:{THREE.label}")]
    (event,) = ledger.events(action="refuse")
    assert event.after is not None
    assert event.after["budget"] == THREE.label


def test_a_fan_out_makes_no_more_calls_than_fit(limited: Any, run: Any) -> None:
    """Twenty branches ask at once, and three may."""
    model = Paid()

    with pytest.raises(BudgetExceeded):
        run(fan_out(asking(model), 20), {}, limited(THREE))

    assert model.calls == 3


WRAPPERS = {
    "with_fallbacks": lambda model: model.with_fallbacks([model, model]),
    "with_retry": lambda model: model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False),
    "batch": lambda model: RunnableLambda(lambda prompt: model.batch([prompt] * 4)[0]),
    "batch, exceptions returned": lambda model: RunnableLambda(
        lambda prompt: model.batch([prompt] * 4, return_exceptions=True) and cent()
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_of_a_model_buy_nothing_further(wrapper: str, limited: Any, run: Any) -> None:
    """Retries, fallbacks and batches meet the same refusal again, and the next node ends the run."""
    model = Paid()

    with pytest.raises(BudgetExceeded):
        run(line(*[asking(WRAPPERS[wrapper](model), "hi")] * 5), {"said": []}, limited(THREE))

    assert model.calls == 3


@pytest.mark.parametrize(
    "node",
    [
        {"retry_policy": RetryPolicy(initial_interval=0, jitter=False, max_attempts=5, retry_on=Exception)},
        {"error_handler": lambda state, error: {"said": ["handled"]}},
    ],
    ids=["RetryPolicy", "error_handler"],
)
def test_retries_and_error_handlers_of_nodes_buy_nothing_further(
    node: dict[str, Any], limited: Any, run: Any, ledger: Ledger
) -> None:
    """LangGraph lets the refusal through: no second attempt, nobody handles it."""
    model = Paid()

    with pytest.raises(BudgetExceeded):
        run(line(*[asking(model, "hi")] * 5, node=node), {"said": []}, limited(THREE))

    assert model.calls == 3
    assert len(list(ledger.events(action="refuse"))) == 1


def test_a_node_that_swallows_the_refusal_is_the_last_one(limited: Any, run: Any, ledger: Ledger) -> None:
    """The node after it does not begin, so a loop of such nodes ends at once."""
    model, ran = Paid(), []

    def count(state: State) -> State:
        ran.append(state)
        return {}

    builder = StateGraph(State)
    builder.add_node("ask", swallowing(model, "hi"))
    builder.add_node("count", count)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "count")
    builder.add_edge("count", "ask")
    with pytest.raises(BudgetExceeded):
        run(builder.compile(), {"said": []}, limited(THREE), recursion_limit=50)

    assert model.calls == 3
    assert len(ran) == 3
    assert ended(ledger) == [("stopped", f"budget:{THREE.label}")]
    assert len(list(ledger.events(action="refuse"))) == 1


def test_a_refusal_swallowed_in_the_last_node_still_says_that_the_run_was_stopped(
    limited: Any, run: Any, ledger: Ledger
) -> None:
    """Its result is not whole, and the record must not call it so."""
    result = run(line(*[swallowing(Paid(), "hi")] * 4), {"said": []}, limited(THREE))

    assert result["said"] == ["ok", "ok", "ok", "swallowed BudgetExceeded"]
    assert ended(ledger) == [("stopped", f"budget:{THREE.label}")]


def test_what_is_raised_because_of_a_refusal_is_no_failure(limited: Any, run: Any, ledger: Ledger) -> None:
    """A node that wraps it in an error of its own was stopped; one that fails by itself before has failed."""
    model = Paid()

    def wrapped(_: State) -> State:
        try:
            model.invoke("hi")
        except CallRefused as error:
            raise ValueError("could not ask") from error
        return {}

    with pytest.raises(ValueError, match="could not ask"):
        run(line(wrapped), {"said": []}, limited(Budget(llm_calls=1), Budget(tokens=10)))

    def fails_later(_: State) -> State:
        with suppress(CallRefused):
            model.invoke("hi")
        return {"said": [1 // 0]}  # type: ignore[list-item]

    with pytest.raises(ZeroDivisionError):
        run(line(fails_later), {"said": []}, limited(Budget(tokens=10)))

    assert [status for status, _ in ended(ledger)] == ["stopped", "failed"]


def test_a_retried_node_is_one_step(limited: Any, run: Any) -> None:
    """As in the run's record: attempts are told apart there by their number."""
    tries: list[int] = []

    def fails_twice(_: State) -> State:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return {}

    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3)
    with pytest.raises(BudgetExceeded):
        run(line(fails_twice, lambda _: {}, node={"retry_policy": policy}), {"said": []}, limited(Budget(steps=1)))

    assert len(tries) == 3


def loop_of_tools(prompt: str, number: int) -> Any:
    return cent(tool_calls=[{"name": "search", "args": {"query": str(number)}, "id": str(number)}])


def search(model: Paid | None = None) -> StructuredTool:
    def find(query: str) -> str:
        return model.invoke(query).text if model is not None else "found"

    async def afind(query: str) -> str:
        return (await model.ainvoke(query)).text if model is not None else "found"

    return StructuredTool.from_function(find, coroutine=afind, name="search", description="Search.")


HELLO: Any = {"messages": [HumanMessage("hi")]}


@pytest.mark.parametrize(
    "middleware",
    [
        [],
        [ModelRetryMiddleware(max_retries=3, initial_delay=0)],
        [SummarizationMiddleware(Paid(), trigger=("messages", 2), keep=("messages", 1))],
    ],
    ids=["none", "ModelRetryMiddleware", "SummarizationMiddleware"],
)
def test_an_agent_that_calls_tools_for_ever_ends_at_its_limit(middleware: list[Any], limited: Any, run: Any) -> None:
    """Three calls, those of its middleware included, and the middleware makes no message of the refusal."""
    model = Paid(say=loop_of_tools)
    handler = limited(Budget(llm_calls=3))

    with pytest.raises(BudgetExceeded):
        run(create_agent(model, [search()], middleware=middleware), HELLO, handler)

    calls = list(handler.ledger.calls())
    assert len(calls) == 3
    assert model.calls == sum(call.attribution.role == "agent" for call in calls)


def test_a_tool_node_hands_no_refusal_to_the_model(limited: Any, run: Any) -> None:
    """`handle_tool_errors=True` makes answers of tools' errors, and of refusals not."""
    inside = Paid()
    node = ToolNode([search(inside)], handle_tool_errors=True)
    message = cent(tool_calls=[{"name": "search", "args": {"query": "x"}, "id": "1"}])
    builder = StateGraph(dict)
    builder.add_node("tools", RunnableLambda(lambda _: node.invoke([message]), afunc=lambda _: node.ainvoke([message])))
    builder.add_edge(START, "tools")

    with pytest.raises(BudgetExceeded):
        run(builder.compile(), {}, limited(Budget(llm_calls=1), Budget(tokens=10)))

    assert inside.calls == 0


def test_tools_are_refused_before_they_run(limited: Any, run: Any, ledger: Ledger) -> None:
    """Two tools may run; the third, which a third call asks for, does not."""
    ran: list[str] = []
    tool = StructuredTool.from_function(lambda query: ran.append(query) or "", name="search", description="Search.")
    model = Paid(say=loop_of_tools)

    with pytest.raises(BudgetExceeded, match="search"):
        run(create_agent(model, [tool]), HELLO, limited(Budget(tool_calls=2)))

    assert (model.calls, len(ran), len(list(ledger.charges()))) == (3, 2, 2)


def test_tools_with_a_price_count_in_dollars(limited: Any, run: Any, ledger: Ledger) -> None:
    """Call, tool, call, tool are four cents; the fifth cent is not there."""
    model = Paid(say=loop_of_tools)

    with pytest.raises(BudgetExceeded):
        run(create_agent(model, [search()]), HELLO, limited(Budget(usd="0.045")))

    assert (model.calls, len(list(ledger.charges()))) == (2, 2)


def test_tasks_of_a_workflow_are_refused_too(limited: Any) -> None:
    """The functional API's tasks are steps, and their calls are calls."""
    model = Paid()

    @task
    def ask(number: int) -> str:
        return str(model.invoke(str(number)).text)

    @entrypoint()
    def workflow(_: object) -> list[str]:
        return [ask(number).result() for number in range(8)]

    with pytest.raises(BudgetExceeded):
        workflow.invoke("", {"callbacks": [limited(THREE)]})

    assert model.calls == 3


def test_steps_are_counted_at_any_depth_and_the_next_does_not_begin(limited: Any, run: Any, ledger: Ledger) -> None:
    """Outer node, inner node, inner node, outer node: four; the fifth, which asks nobody, is refused as well."""
    ran: list[str] = []

    def noting(name: str) -> Any:
        return lambda _: ran.append(name) or {}

    inner = line(noting("inner"), noting("inner"))

    with pytest.raises(BudgetExceeded, match="4 steps"):
        run(line(inner, noting("b"), noting("c")), {"said": []}, limited(Budget(steps=4)))

    assert ran == ["inner", "inner", "b"]
    assert [record.steps for record in ledger.runs()] == [4]


def test_a_bare_call_and_a_chain_are_refused_without_a_graph(limited: Any, ledger: Ledger) -> None:
    """Nothing can be paused or drained there, so whatever `on_exceed` says, it is raised."""
    model = Paid()
    for word in ("raise", "interrupt", "drain"):
        handler = limited(Budget(llm_calls=1, scope="agent_id", on_exceed=word), agent_id=word)
        model.invoke("hi", {"callbacks": [handler]})
        with pytest.raises(BudgetExceeded):
            model.invoke("hi", {"callbacks": [handler]})
        with pytest.raises(BudgetExceeded):
            (RunnableLambda(lambda _: "hi") | model).invoke("", {"callbacks": [handler]})

    assert model.calls == 3
    assert sorted(status for status, _ in ended(ledger)) == ["completed"] * 3 + ["stopped"] * 6
    assert {reason for _, reason in ended(ledger)} == {None, "budget:1 llm_call per agent_id"}
    assert not any(handler.recorder.tracker.open_runs())


@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event' was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LangChain tells nobody of the third.
def test_of_a_request_for_several_prompts_all_or_none_is_sent(limited: Any, ledger: Ledger) -> None:
    """`generate` sends nothing once one prompt is refused: what was held for the others is given back."""
    model = Paid()
    budget = Budget(llm_calls=2, scope="all")
    handler = limited(budget)

    with pytest.raises(BudgetExceeded):
        model.generate([[HumanMessage("a")], [HumanMessage("b")], [HumanMessage("c")]], callbacks=[handler])
    with pytest.raises(BudgetExceeded):
        asyncio.run(model.agenerate([[HumanMessage(each)] for each in "abc"], callbacks=[handler]))
    model.generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=[handler])

    assert model.calls == 2
    assert len(list(ledger.calls())) == 2
    (balance,) = ledger.balances()
    assert (balance.spent, balance.held) == (2, 0)
    assert not handler.recorder.tracker.open_runs()
    gc.collect()


def test_what_was_held_for_a_call_that_another_handler_refused_is_given_back(limited: Any, ledger: Ledger) -> None:
    """Two handlers with contradicting budgets: the stricter one wins, and the other's balance is as before."""
    model = Paid()
    generous, strict = limited(Budget(llm_calls=9, scope="all")), limited(Budget(tokens=10))

    with pytest.raises(BudgetExceeded):
        line(asking(model, "hi")).invoke({"said": []}, {"callbacks": [generous, strict]})

    assert model.calls == 0
    assert not any(each.spent or each.held for each in ledger.balances())


def test_a_handler_that_is_attached_refuses_the_same_way(limited: Any) -> None:
    """No graph names it."""
    model = Paid()
    attach(limited(THREE))
    try:
        with pytest.raises(BudgetExceeded):
            line(*[asking(model, "hi")] * 8).invoke({"said": []})
    finally:
        detach()

    assert model.calls == 3


def test_a_loop_is_refused_and_its_run_says_so(limited: Any, run: Any, ledger: Ledger) -> None:
    """Three calls of the same node with the same prompt are let through, the fourth is not; neither is a fallback."""
    model = Paid()
    builder = StateGraph(State)
    builder.add_node("a", swallowing(model.with_fallbacks([model]), "the same"))
    builder.add_edge(START, "a")
    builder.add_edge("a", "a")

    with pytest.raises(LoopDetected):
        run(builder.compile(), {"said": []}, limited(LoopGuard(repeats=3, window=12)), recursion_limit=30)

    assert model.calls == 3
    assert ended(ledger) == [("stopped", "loop")]


def test_a_tool_called_with_the_same_arguments_and_result_is_a_loop_and_a_poll_is_none(limited: Any, run: Any) -> None:
    """What tells them apart is the result."""
    asks = Paid(say=lambda prompt, n: cent(tool_calls=[{"name": "poll", "args": {"job": 1}, "id": str(n)}]))
    results = iter(range(100))
    moving = StructuredTool.from_function(lambda job: next(results), name="poll", description="Poll.")
    stuck = StructuredTool.from_function(lambda job: "pending", name="poll", description="Poll.")

    with pytest.raises(LoopDetected, match="poll"):
        run(create_agent(asks, [stuck]), HELLO, limited(LoopGuard(repeats=3, window=12)))
    assert asks.calls == 4
    with pytest.raises(BudgetExceeded):
        run(create_agent(asks, [moving]), HELLO, limited(LoopGuard(repeats=3, window=12), Budget(llm_calls=9)))


def test_a_healthy_fan_out_is_no_loop(limited: Any, run: Any) -> None:
    """Twenty branches that ask the same at once are one round, not twenty."""
    model = Paid()

    run(fan_out(asking(model, "the same"), 20), {}, limited(LoopGuard(repeats=3, window=12)))

    assert model.calls == 20


def test_a_model_without_a_price_is_refused_where_dollars_count(limited: Any, run: Any, ledger: Ledger) -> None:
    """Unless the budget says that it is to be estimated."""
    model = Paid(name_asked="unheard-of")

    with pytest.raises(UnpricedCall, match="no known price"):
        run(line(asking(model, "hi")), {"said": []}, limited(THREE))
    assert model.calls == 0
    assert ended(ledger) == [("stopped", "unpriced")]

    run(line(asking(model, "hi")), {"said": []}, limited(Budget(usd="0.035", unpriced="estimate")))
    assert model.calls == 1


def test_a_strict_handler_wants_a_limit_and_names(limited: Any, run: Any) -> None:
    """Without one or the other no call is made."""
    model, graph = Paid(), line(asking(Paid(), "hi"))

    with pytest.raises(CallRefused, match="user_id, task_id"):
        run(graph, {"said": []}, limited(THREE, strict=True))
    with pytest.raises(CallRefused, match="no limit"):
        run(graph, {"said": []}, limited(strict=True, require=["agent_id"]))
    run(line(asking(model, "hi")), {"said": []}, limited(THREE, strict=True, user_id="u", task_id="t"))

    assert model.calls == 1


def test_a_warning_lets_the_call_through_and_says_so_once(limited: Any, run: Any, caplog: Any) -> None:
    """`on_exceed="warn"` never stops anything."""
    model = Paid()

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        run(line(*[asking(model, "hi")] * 6), {"said": []}, limited(Budget(usd="0.035", on_exceed="warn")))

    assert model.calls == 6
    assert sum("on_exceed is warn" in record.getMessage() for record in caplog.records) == 1


def test_a_callable_decides(limited: Any, run: Any) -> None:
    """It sees the refusal, and says one of the four words."""
    seen: list[Any] = []
    model = Paid()

    def decide(refusal: Any) -> str:
        seen.append(refusal)
        return "warn" if len(seen) < 3 else "raise"

    with pytest.raises(BudgetExceeded):
        run(line(*[asking(model, "hi")] * 8), {"said": []}, limited(Budget(usd="0.035", on_exceed=decide)))

    assert model.calls == 5
    assert [refusal.budget for refusal in seen] == [seen[0].budget] * 3


def test_faults_of_guards_are_told_all_at_once() -> None:
    """Constructing a handler is where they show, not the first call."""
    with pytest.raises(Exception, match="budgets") as raised:
        FinOpsHandler(budgets=["$5 per moon", 7], protect="validate", require=["agnet_id"], ledger=":memory:")  # type: ignore[list-item]

    for part in ("'$5 per moon'", "not 7", "protect", "agnet_id"):
        assert part in str(raised.value)


def test_a_budget_that_stands_alone_is_told_how_to_be_given() -> None:
    """In words that can be pasted, not as three lines of defaults."""
    with pytest.raises(BadArguments, match=re.escape("budgets: must be a list, such as budgets=['$1 per run']")):
        FinOpsHandler(budgets=Budget(usd=1), ledger=":memory:")  # type: ignore[arg-type]


def test_refusals_are_what_langgraph_lets_through() -> None:
    """The whole enforcement stands on that."""
    assert issubclass(CallRefused, GraphBubbleUp)
    assert CallRefused.is_retryable is False
