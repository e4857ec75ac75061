"""`on_exceed="interrupt"`: the run waits for a person, goes on when one allows it, and ends when one does not."""

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from limited_graphs import BOOK, Paid, State, asking, cent, fan_out, line, swallowing

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger, LoopGuard, open_ledger, stopped
from langchain_finops.langchain import answers

ASKING = Budget(usd="0.035", on_exceed="interrupt")


def ended(ledger: Ledger, *, history: bool = False) -> list[tuple[str, str | None]]:
    return [(run.status, run.stop_reason) for run in ledger.runs(history=history)]


def test_the_question_says_all_that_a_person_needs(limited: Any, run: Any, ledger: Ledger) -> None:
    """Budget, scope, what is spent and held, the limit, the node, why, and which answers are understood."""
    graph = line(*[asking(Paid(), "hi")] * 8, checkpointer=InMemorySaver())

    result = run(graph, {"said": []}, limited(ASKING), thread="t")

    (question,) = result["__interrupt__"]
    asked = question.value
    assert {
        name: asked[name] for name in ("budget", "scope", "unit", "limit", "spent", "held", "estimate", "node")
    } == {
        "budget": ASKING.label,
        "scope": "run",
        "unit": "usd",
        "limit": "0.035",
        "spent": "0.03",
        "held": "0",
        "estimate": "0.01",
        "node": "d",
    }
    assert "raise the limit" in asked["reason"]
    assert asked["answers"] == [{"approve": True, "usd": "how much more"}, {"approve": True}, {"approve": False}]
    assert result["said"] == ["ok"] * 3
    assert ended(ledger) == [("interrupted", f"budget:{ASKING.label}")]
    assert stopped(result).budget == ASKING.label  # type: ignore[union-attr]


def test_a_person_raises_the_limit_and_the_run_goes_on(limited: Any, run: Any, ledger: Ledger) -> None:
    """Two cents more buy two calls more; then it asks again; it is one run, and the audit trail has it all."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 8, checkpointer=InMemorySaver()), limited(ASKING)

    run(graph, {"said": []}, handler, thread="t")
    assert model.calls == 3
    result = run(graph, Command(resume={"approve": True, "usd": 0.02, "by": "ada"}), handler, thread="t")
    assert model.calls == 5
    assert stopped(result) is not None
    result = run(graph, Command(resume=answers(result, {"approve": True, "usd": "1"})), handler, thread="t")

    assert model.calls == 8
    assert stopped(result) is None
    assert result["said"] == ["ok"] * 8
    assert ended(ledger) == [("completed", None)]
    first, second = ledger.events(action="approve")
    assert (first.actor, first.before, first.after["limit"]) == ("ada", {"limit": "0.035"}, "0.055")  # type: ignore[index]
    assert (second.before, second.after["limit"]) == ({"limit": "0.055"}, "1.055")  # type: ignore[index]


def test_a_yes_without_an_amount_allows_the_budget_once_more(limited: Any, run: Any) -> None:
    """Another three and a half cents: seven in all, and that is for seven calls."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 12, checkpointer=InMemorySaver()), limited(ASKING)

    run(graph, {"said": []}, handler, thread="t")
    run(graph, Command(resume={"approve": True}), handler, thread="t")

    assert model.calls == 7


def test_a_no_ends_the_run_for_good(limited: Any, run: Any, ledger: Ledger) -> None:
    """The refusal is raised, no call is made, and going on later does not help."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 8, checkpointer=InMemorySaver()), limited(ASKING)

    run(graph, {"said": []}, handler, thread="t")
    with pytest.raises(BudgetExceeded, match="denied by bob"):
        run(graph, Command(resume={"approve": False, "by": "bob"}), handler, thread="t")
    with pytest.raises(BudgetExceeded):
        run(graph, None, handler, thread="t")

    assert model.calls == 3
    assert ended(ledger) == [("stopped", f"budget:{ASKING.label}")]
    assert [event.actor for event in ledger.events(action="deny")] == ["bob"]


@pytest.mark.parametrize(
    "answer", ["yes", True, {"approve": "yes"}, {"approve": True, "usd": -1}, {"approve": True, "tokens": 5}, {"ok": 1}]
)
def test_an_answer_that_is_not_understood_asks_again(answer: Any, limited: Any, run: Any) -> None:
    """Nothing is guessed: the same question comes again and says so, and a proper answer to it still counts."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 4, checkpointer=InMemorySaver()), limited(ASKING)

    run(graph, {"said": []}, handler, thread="t")
    result = run(graph, Command(resume=answer), handler, thread="t")
    assert "not understood" in result["__interrupt__"][0].value["reason"]
    assert model.calls == 3
    run(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="t")

    assert model.calls == 4


def test_going_on_without_an_answer_asks_again(limited: Any, run: Any) -> None:
    """`invoke(None)` is no yes."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 4, checkpointer=InMemorySaver()), limited(ASKING)

    run(graph, {"said": []}, handler, thread="t")
    result = run(graph, None, handler, thread="t")

    assert model.calls == 3
    assert stopped(result) is not None


def own_question(model: Paid, *, first: bool) -> Any:
    """A node with a question of the user's own, before its call or after it."""

    def node(_: State) -> State:
        said = [interrupt("the user's own?")] if first else []
        model.invoke("hi")
        return {"said": [str(each) for each in said or [interrupt("the user's own?")]]}

    async def anode(_: State) -> State:
        said = [interrupt("the user's own?")] if first else []
        await model.ainvoke("hi")
        return {"said": [str(each) for each in said or [interrupt("the user's own?")]]}

    return RunnableLambda(node, afunc=anode)


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_nobodys_answer_is_given_to_another_question(first: bool, by_id: bool, limited: Any, run: Any) -> None:
    """The user's `interrupt()` in the same node gets the user's answer, ours ours, whichever comes first."""
    model = Paid()
    graph = line(own_question(model, first=first), checkpointer=InMemorySaver())
    handler = limited(Budget(tokens=500, on_exceed="interrupt"))
    said = {True: {"approve": True, "tokens": 100_000}, False: {"approve": True, "mine": 1}}

    result = run(graph, {"said": []}, handler, thread="t")
    asked = []
    while "__interrupt__" in result:
        (question,) = result["__interrupt__"]
        ours = stopped(result) is not None
        asked.append(ours)
        resume = {question.id: said[ours]} if by_id else said[ours]
        result = run(graph, Command(resume=resume), handler, thread="t")

    assert asked == [not first, first]
    assert result["said"] == [str(said[False])]


def test_the_answer_to_the_users_question_is_not_taken_for_ours(limited: Any, run: Any) -> None:
    """It looks like one of ours, and our question has not been asked when it comes."""
    model = Paid()
    graph = line(own_question(model, first=False), checkpointer=InMemorySaver())
    handler = limited(Budget(llm_calls=1, on_exceed="interrupt"))

    result = run(graph, {"said": []}, handler, thread="t")
    assert stopped(result) is None
    result = run(
        graph, Command(resume={"approve": True}), handler, thread="t"
    )  # The node's call is made again, and paid.

    assert stopped(result) is not None
    assert model.calls == 1


def test_branches_that_wait_together_are_answered_together(limited: Any, run: Any, ledger: Ledger) -> None:
    """Five branches ask, one map answers all, and one raise of the limit is not made five times."""
    model = Paid()
    graph, handler = fan_out(asking(model), 8, checkpointer=InMemorySaver()), limited(ASKING)

    result = run(graph, {}, handler, thread="t")
    assert model.calls == 3
    assert len(result["__interrupt__"]) == 5
    assert len(answers(result, {"approve": True})) == 5
    result = run(graph, Command(resume=answers(result, {"approve": True, "usd": "0.05"})), handler, thread="t")

    assert model.calls == 8
    assert stopped(result) is None
    assert len(list(ledger.events(action="approve"))) == 1


def test_an_answer_counts_once(limited: Any, run: Any) -> None:
    """By its id it can be read all through the invocation: one call more is one call more."""
    model = Paid()
    graph = line(asking(model, *"wxyz"), checkpointer=InMemorySaver())
    handler = limited(Budget(llm_calls=1, on_exceed="interrupt"))

    result = run(graph, {"said": []}, handler, thread="t")
    result = run(graph, Command(resume=answers(result, {"approve": True, "llm_calls": 1})), handler, thread="t")

    assert stopped(result) is not None
    assert model.calls == 2  # The node begins anew: its first prompt is paid for twice.


def test_of_two_branches_that_were_refused_together_the_second_tries_again_first(limited: Any, ledger: Ledger) -> None:
    """The first one's answer may have made room for both."""
    model = Paid()
    graph, handler = (
        fan_out(asking(model), 2, checkpointer=InMemorySaver()),
        limited(Budget(tokens=9, on_exceed="interrupt")),
    )
    gate, config = handler.recorder.gate, {"callbacks": [handler], "configurable": {"thread_id": "t"}}
    result = graph.invoke({}, config)
    admit, waiting = gate.admit, threading.Barrier(2)

    def together(run: Any, namespace: Any, start: Any) -> Any:
        refusals: list[Any] = []

        def refused_together() -> Any:
            refusals.append(start())
            if len(refusals) == 1 and refusals[0] is not None:
                waiting.wait(30)
            return refusals[-1]

        return admit(run, namespace, refused_together)

    gate.admit = together
    graph.invoke(Command(resume=answers(result, {"approve": True, "tokens": 9_999})), config)

    assert model.calls == 2
    assert len(list(ledger.events(action="approve"))) == 1


@pytest.mark.parametrize("same_handler", [True, False])
def test_an_answer_that_langgraph_turns_away_answers_nothing(
    same_handler: bool, limited: Any, run: Any, ledger: Ledger
) -> None:
    """A plain answer to five questions is an error of LangGraph's, and the map of their ids still counts."""
    model, handler = Paid(), limited(ASKING)
    graph = fan_out(asking(model), 8, checkpointer=InMemorySaver())
    result = run(graph, {"said": []}, handler, thread="t")
    other = handler if same_handler else limited(ASKING)

    with pytest.raises(RuntimeError, match="multiple"):
        run(graph, Command(resume={"approve": True, "usd": 1}), other, thread="t")
    result = run(graph, Command(resume=answers(result, {"approve": True, "usd": 1})), other, thread="t")

    assert (model.calls, len(result["said"]), stopped(result)) == (8, 8, None)
    assert ended(ledger) == [("completed", None)]


def test_answers_may_depend_on_the_question_and_leave_the_users_own_alone(limited: Any, run: Any) -> None:
    """The map names our questions only."""
    model = Paid()

    def node(state: State) -> State:
        return {"said": [interrupt("mine?")]} if state["prompt"] == "p0" else {"said": [model.invoke("hi").text]}

    graph = fan_out(node, 2, checkpointer=InMemorySaver())
    handler = limited(Budget(tokens=10, on_exceed="interrupt"))

    result = run(graph, {}, handler, thread="t")
    mapped = answers(result, lambda question: {"approve": question["node"] == "branch", "tokens": 9_999})
    assert len(result["__interrupt__"]) == 2
    assert len(mapped) == 1
    (mine,) = {each.id for each in result["__interrupt__"]} - mapped.keys()
    result = run(graph, Command(resume={**mapped, mine: "done"}), handler, thread="t")

    assert sorted(result["said"]) == ["done", "ok"]


def test_a_step_is_asked_about_before_it_begins(limited: Any, run: Any) -> None:
    """Also where its node asks the user something first, who gets the user's own answer."""
    ran: list[str] = []
    own = lambda _: ran.append("own") or {"said": [interrupt("the user's own?")]}  # noqa: E731
    graph = line(lambda _: ran.append("a") or {}, own, checkpointer=InMemorySaver())
    handler = limited(Budget(steps=1, on_exceed="interrupt"))

    result = run(graph, {"said": []}, handler, thread="t")
    assert ran == ["a"]
    assert stopped(result).unit == "steps"  # type: ignore[union-attr]
    result = run(graph, Command(resume={"approve": True, "steps": 9}), handler, thread="t")
    assert ran == ["a", "own"]
    assert stopped(result) is None
    result = run(graph, Command(resume="fine"), handler, thread="t")

    assert result["said"] == ["fine"]


def test_a_question_in_a_subgraph_is_answered_from_outside(limited: Any, run: Any, ledger: Ledger) -> None:
    """The subgraph keeps what it did; calls that were made are not made again."""
    model = Paid()
    inner = line(*[asking(model, "inner")] * 5)
    graph, handler = line(asking(model, "outer"), inner, checkpointer=InMemorySaver()), limited(ASKING)

    result = run(graph, {"said": []}, handler, thread="t")
    assert stopped(result).node_path == "b/c"  # type: ignore[union-attr]
    run(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="t")

    assert model.calls == 6
    assert ended(ledger) == [("completed", None)]


def test_an_agent_pauses_at_its_model_and_at_its_tool(limited: Any, run: Any) -> None:
    """Tools wait like calls do."""
    ran: list[str] = []

    def say(prompt: str, number: int) -> Any:
        calls = [{"name": "search", "args": {"query": str(number)}, "id": str(number)}] if number < 4 else []
        return cent(tool_calls=calls)

    tool = StructuredTool.from_function(
        lambda query: ran.append(query) or "found", name="search", description="Search."
    )
    model = Paid(say=say)
    agent = create_agent(model, [tool], checkpointer=InMemorySaver())
    handler = limited(Budget(tool_calls=1, on_exceed="interrupt"), Budget(llm_calls=3, on_exceed="interrupt"))

    result = run(agent, {"messages": [HumanMessage("hi")]}, handler, thread="t")
    assert stopped(result).unit == "tool_calls"  # type: ignore[union-attr]
    result = run(agent, Command(resume={"approve": True, "tool_calls": 5}), handler, thread="t")
    assert stopped(result).unit == "llm_calls"  # type: ignore[union-attr]
    result = run(agent, Command(resume={"approve": True, "llm_calls": 5}), handler, thread="t")

    assert stopped(result) is None
    assert (model.calls, ran) == (4, ["1", "2", "3"])


def test_a_loop_may_be_let_through(limited: Any, run: Any) -> None:
    """A person looks, and the loop is counted anew from there."""
    model = Paid()
    graph = line(*[asking(model, "same", "same", "same", "same", "same")], checkpointer=InMemorySaver())
    handler = limited(LoopGuard(repeats=3, window=12, on_exceed="interrupt"))

    result = run(graph, {"said": []}, handler, thread="t")
    assert stopped(result).reason == "loop"  # type: ignore[union-attr]
    assert model.calls == 3
    run(graph, Command(resume={"approve": True}), handler, thread="t")

    assert model.calls == 8  # The node begins anew from its top.


@pytest.mark.parametrize("order", ["work,free", "free,work"])
def test_what_runs_beside_a_question_runs_on_while_it_spends_nothing(order: str, limited: Any, run: Any) -> None:
    """One question then, which a plain answer answers, whichever branch began first."""
    model = Paid()
    builder = StateGraph(State)
    nodes = {"first": asking(model, "hi"), "work": asking(model, "hi"), "free": lambda _: {"said": ["free"]}}
    for name, node in nodes.items():
        builder.add_node(name, node)
    builder.add_edge(START, "first")
    for name in order.split(","):
        builder.add_edge("first", name)
    graph = builder.compile(checkpointer=InMemorySaver())
    handler = limited(Budget(llm_calls=1, on_exceed="interrupt"))

    result = run(graph, {"said": []}, handler, thread="t")
    assert (len(result["__interrupt__"]), sorted(result["said"])) == (1, ["free", "ok"])
    result = run(graph, Command(resume={"approve": True}), handler, thread="t")

    assert (model.calls, sorted(result["said"])) == (2, ["free", "ok", "ok"])


def test_a_question_that_is_swallowed_inside_is_asked_after_its_node(limited: Any, run: Any) -> None:
    """A graph that a node calls and does not listen to: the next node is asked, and does not begin."""
    model, ran = Paid(), []
    inner = line(*[asking(model, "hi")] * 2)

    def deaf(_: State) -> State:
        try:
            return {"said": inner.invoke({"said": []})["said"]}
        except Exception:
            return {"said": ["deaf"]}

    graph = line(deaf, lambda _: ran.append("next") or {}, checkpointer=InMemorySaver())
    result = run(graph, {"said": []}, limited(Budget(llm_calls=1, on_exceed="interrupt")), thread="t")

    assert (model.calls, ran, result["said"]) == (1, [], ["deaf"])
    assert stopped(result).node == "b"  # type: ignore[union-attr]


def test_a_question_that_is_swallowed_is_asked_where_the_run_goes_next(limited: Any, run: Any) -> None:
    """The node after it does not begin, and nothing further is bought."""
    model = Paid()
    graph, handler = line(*[swallowing(model, "hi")] * 6, checkpointer=InMemorySaver()), limited(ASKING)

    result = run(graph, {"said": []}, handler, thread="t")
    assert model.calls == 3
    assert stopped(result).node_path == "e"  # type: ignore[union-attr]
    run(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="t")

    assert model.calls == 5


def test_without_a_checkpointer_it_is_a_graceful_stop(limited: Any, run: Any, ledger: Ledger) -> None:
    """What was reached comes back, no exception, and the run is not said to wait for anybody."""
    result = run(line(*[asking(Paid(), "hi")] * 8), {"said": []}, limited(ASKING))

    assert result["said"] == ["ok"] * 3
    assert stopped(result).reason == f"budget:{ASKING.label}"  # type: ignore[union-attr]
    assert ended(ledger) == [("stopped", f"budget:{ASKING.label}")]


def chunks_of(graph: Any, state: Any, config: Any, *, is_async: bool, **options: Any) -> list[Any]:
    if not is_async:
        return list(graph.stream(state, config, **options))

    async def collect() -> list[Any]:
        return [chunk async for chunk in graph.astream(state, config, **options)]

    return asyncio.run(collect())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_pauses_and_goes_on(is_async: bool, limited: Any) -> None:
    """Its chunk tells, and the stream that resumes gets the answer."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 5, checkpointer=InMemorySaver()), limited(ASKING)
    config = {"callbacks": [handler], "configurable": {"thread_id": "t"}}

    chunks = chunks_of(graph, {"said": []}, config, is_async=is_async, stream_mode=["updates", "values"])
    assert any(stopped(chunk) is not None for chunk in chunks)
    chunks = chunks_of(graph, Command(resume={"approve": True, "usd": 1}), config, is_async=is_async)

    assert not any(stopped(chunk) for chunk in chunks)
    assert model.calls == 5


def test_new_input_is_a_new_run_with_a_budget_of_its_own(limited: Any, run: Any, ledger: Ledger) -> None:
    """Somebody who starts over on the thread does not answer."""
    model = Paid()
    graph, handler = line(*[asking(model, "hi")] * 3, checkpointer=InMemorySaver()), limited(Budget(llm_calls=2))

    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            run(graph, {"said": []}, handler, thread="t")

    assert model.calls == 4
    assert len(list(ledger.runs())) == 2


def test_a_run_that_the_user_paused_keeps_what_it_spent(limited: Any, run: Any) -> None:
    """Two calls before the pause, one after it, and no fourth."""
    model = Paid()
    pause = lambda _: {"said": [interrupt("go on?")]}  # noqa: E731
    ask = asking(model, "hi")
    graph, handler = line(ask, ask, pause, ask, ask, checkpointer=InMemorySaver()), limited(Budget(llm_calls=3))

    run(graph, {"said": []}, handler, thread="t")
    with pytest.raises(BudgetExceeded):
        run(graph, Command(resume="yes"), handler, thread="t")

    assert model.calls == 3


SCRIPT = Path(__file__).with_name("resumed_elsewhere.py")


def test_another_process_goes_on_with_the_run(tmp_path: Path) -> None:
    """What was spent, allowed and asked is known there: each answer counts once, and two cents buy two calls."""
    command = [sys.executable, str(SCRIPT), str(tmp_path / "l.db"), str(tmp_path / "checkpoints")]

    said = [subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout for _ in range(3)]

    assert [each.split() for each in said] == [["3", "True", "0"], ["2", "True", "0"], ["2", "True", "0"]]
    ledger = open_ledger(tmp_path / "l.db")
    (record,) = ledger.runs()
    assert len(list(ledger.calls(run_id=record.run_id))) == 7
    assert [event.after["limit"] for event in ledger.events(action="approve")] == ["0.055", "0.075"]  # type: ignore[index]


@pytest.fixture
def other() -> FinOpsHandler:
    return FinOpsHandler(budgets=[Budget(tokens=500, on_exceed="interrupt")], ledger=":memory:", prices=BOOK)


@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event' was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LangChain drops the second handler's.
def test_two_handlers_have_questions_of_their_own(limited: Any, run: Any, other: FinOpsHandler) -> None:
    """An answer to one is none to the other."""
    model = Paid()
    graph, ours = (
        line(asking(model, "hi"), checkpointer=InMemorySaver()),
        limited(Budget(tokens=9, on_exceed="interrupt")),
    )

    first = run(graph, {"said": []}, ours, other, thread="t")
    second = run(graph, Command(resume={"approve": True, "tokens": 9_999}), ours, other, thread="t")
    assert model.calls == 0
    assert stopped(first).limit != stopped(second).limit  # type: ignore[union-attr]
    run(graph, Command(resume={"approve": True, "tokens": 9_999}), ours, other, thread="t")

    assert model.calls == 1
    gc.collect()  # What LangChain drops is told of here, and not in another test.


def test_a_tool_that_pauses_is_charged_when_it_runs_through(limited: Any, run: Any, ledger: Ledger) -> None:
    """What was held for it is given back meanwhile."""
    tool = StructuredTool.from_function(lambda query: interrupt("which?"), name="search", description="Search.")
    builder = StateGraph(State)
    builder.add_node("a", lambda _: {"said": [tool.invoke({"query": "x"})]})
    builder.add_edge(START, "a")
    graph = builder.compile(checkpointer=InMemorySaver())
    handler = limited(Budget(usd="0.015", scope="all"))

    run(graph, {"said": []}, handler, thread="t")
    assert list(ledger.charges()) == []
    assert not any(each.held for each in ledger.balances())
    run(graph, Command(resume="this"), handler, thread="t")

    assert len(list(ledger.charges())) == 1
