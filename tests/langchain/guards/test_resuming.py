"""A run that goes on is the same run: whatever it is called, whoever is first, whether or not its process died."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from limited_graphs import BOOK, Paid, State, asking, cent, line

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger, open_ledger

THREAD: Any = {"configurable": {"thread_id": "t"}}


def asking_first(model: Any, *, once: bool = False, rounds: int = 12, name: str = "LangGraph") -> Any:
    """A node that waits for its user, each time or the first, and then asks the model; again and again."""

    def work(state: State) -> State:
        if not (once and state["said"]):
            interrupt("go on?")
        return {"said": [model.invoke("x").text]}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", lambda state: END if len(state["said"]) >= rounds else "work")
    return builder.compile(checkpointer=InMemorySaver(), name=name)


def answered_until_refused(run: Any, graph: Any, handlers: Any, *, start: Any, answer: Any, **config: Any) -> int:
    """New input, and an answer to each question; how many answers it took until a limit was met."""
    run(graph, start, next(handlers), thread="t", **{name: value(0) for name, value in config.items()})
    for turn in range(1, 12):
        try:
            run(graph, answer, next(handlers), thread="t", **{name: value(turn) for name, value in config.items()})
        except BudgetExceeded:
            return turn
    raise AssertionError("no limit was met")


def handlers_on(ledger: Ledger, *budgets: Any, same: bool) -> Any:
    """One handler for all invocations, or another one for each, as in another process."""
    kept = FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK)
    while True:
        yield kept if same else FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("run_name", ["request {}", "resume"])
def test_a_run_is_known_under_another_name(run_name: str, same: bool, run: Any, ledger: Ledger) -> None:
    """`run_name` says which request it is: three calls in all, and one run, which keeps its first name."""
    model, handlers = Paid(), handlers_on(ledger, Budget(llm_calls=3), same=same)

    turns = answered_until_refused(
        run, asking_first(model), handlers, start={"said": []}, answer=Command(resume="yes"),
        run_name=lambda turn: run_name.format(turn) if turn else "ask",
    )  # fmt: skip

    assert (turns, model.calls) == (4, 3)
    assert [(each.name, each.revision) for each in ledger.runs()] == [("ask", 4)]


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("told", ["thread to the chain", "thread to the graph"])
def test_a_graph_in_a_chain_goes_on_as_the_chains_run(told: str, same: bool, run: Any, ledger: Ledger) -> None:
    """The chain's input is the user's text each time; only the graph in it is told that it goes on."""
    model, handlers = Paid(), handlers_on(ledger, Budget(llm_calls=3), same=same)
    graph = asking_first(model)

    def inner(text: str, config: RunnableConfig) -> tuple[Any, Any]:
        return ({"said": []} if text == "start" else Command(resume=text)), {**config, **THREAD}

    async def aserve(text: str, config: RunnableConfig) -> Any:
        return await graph.ainvoke(*inner(text, config))

    serve = RunnableLambda(lambda text, config: graph.invoke(*inner(text, config)), afunc=aserve, name="serve")
    metadata = {"thread_id": "t"} if told == "thread to the chain" else {}
    turns = answered_until_refused(
        run, serve, handlers, start="start", answer="yes", metadata=lambda _: metadata
    )  # fmt: skip

    assert (turns, model.calls) == (4, 3)
    assert [(each.name, each.revision, each.attribution.thread_id) for each in ledger.runs()] == [("serve", 4, "t")]


def test_steps_before_a_graph_goes_on_in_a_chain_are_spent(run: Any, ledger: Ledger, limited: Any) -> None:
    """A graph of three nodes runs before one that had asked: one step, three, and one again of the day's."""
    handler, model = limited(Budget(steps=9, per="day")), Paid()
    before, waiting = line(*[asking(model, "x")] * 3), asking_first(model, rounds=1)
    run(waiting, {"said": []}, handler, thread="t")

    def work(_: Any) -> None:
        before.invoke({"said": []})
        waiting.invoke(Command(resume="yes"), THREAD)

    run(RunnableLambda(work), "x", handler)

    assert model.calls == 4
    assert [(balance.spent, balance.held) for balance in ledger.balances()] == [(5, 0)]


def test_steps_before_graphs_go_on_at_once_are_spent(ledger: Ledger, limited: Any) -> None:
    """Two chains give the same answer at once: one step, and in each of them three and one more."""
    handler, both = limited(Budget(steps=99, per="day")), threading.Barrier(2)

    def say(_: str, number: int) -> Any:
        if number > 6:  # The graphs before have asked three times each.
            both.wait(30)
        return cent()

    model = Paid(say=say)
    before, waiting = line(*[asking(model, "x")] * 3), asking_first(model, rounds=1)
    waiting.invoke({"said": []}, {**THREAD, "callbacks": [handler]})
    through = threading.Barrier(2)

    def work(_: Any) -> None:
        before.invoke({"said": []})
        through.wait(30)
        waiting.invoke(Command(resume="yes"), THREAD)

    def chain(_: int) -> None:
        RunnableLambda(work).invoke("x", {"callbacks": [handler]})

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(chain, range(2)))

    assert model.calls == 8
    assert [(balance.spent, balance.held) for balance in ledger.balances()] == [(9, 0)]


@pytest.mark.parametrize("same", [True, False])
def test_new_input_is_a_new_run_whatever_waits(same: bool, run: Any, ledger: Ledger) -> None:
    """In a chain as well, and whatever runnable in it is given nothing: each new input has three calls."""
    model, handlers = Paid(), handlers_on(ledger, Budget(llm_calls=3), same=same)
    graph = asking_first(model)

    def begin(_: str, config: RunnableConfig) -> Any:
        RunnableLambda(lambda _: None, name="nothing").invoke(None, {**config, "metadata": {"thread_id": "t"}})
        for given in ({"said": []}, *[Command(resume="yes")] * 3):
            graph.invoke(given, {**config, **THREAD})

    for _ in range(2):
        run(RunnableLambda(begin, name="serve"), "start", next(handlers), metadata={"thread_id": "t"})

    assert model.calls == 6
    assert len(list(ledger.runs())) == 2


def test_another_graph_that_waits_on_the_thread_is_left_alone(run: Any, ledger: Ledger, limited: Any) -> None:
    """Each goes on as itself, however they take turns."""
    model, handler = Paid(), limited(Budget(llm_calls=2))
    graphs = [asking_first(model, name="one"), asking_first(model, name="two")]
    for graph in graphs:
        run(graph, {"said": []}, handler, thread="t")
    for _ in range(2):
        for graph in graphs:
            run(graph, Command(resume="yes"), handler, thread="t")
    assert model.calls == 4
    for graph in graphs:
        with pytest.raises(BudgetExceeded):
            run(graph, Command(resume="yes"), handler, thread="t")

    assert model.calls == 4
    assert sorted((each.name, each.revision) for each in ledger.runs()) == [("one", 3), ("two", 3)]


# --- two at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_two_answers_at_once_share_the_runs_limits(way: str, ledger: Ledger) -> None:
    """A double click: four invocations go on from one pause, and together make the five calls of the run."""
    model, ended = Paid(), []
    handler = FinOpsHandler(budgets=[Budget(llm_calls=5), Budget(steps=90, per="day")], ledger=ledger, prices=BOOK)
    graph = asking_first(model, once=True, rounds=30)
    config: Any = {"callbacks": [handler], **THREAD}
    graph.invoke({"said": []}, config)
    together = threading.Barrier(4)

    def resume() -> None:
        together.wait(30)
        try:
            graph.invoke(Command(resume=1), config)
        except BudgetExceeded as refusal:
            ended.append(refusal)

    async def resume_all() -> None:
        results = await asyncio.gather(
            *(graph.ainvoke(Command(resume=1), config) for _ in range(4)), return_exceptions=True
        )
        ended.extend(results)

    if way == "tasks":
        asyncio.run(resume_all())
    else:
        threads = [threading.Thread(target=resume) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [type(each) for each in ended] == [BudgetExceeded] * 4
    assert model.calls == 5
    assert handler.faults == 0
    runs = list(ledger.runs(history=True))
    assert (len(runs), len({each.run_id for each in runs})) == (5, 1)
    assert handler.recorder.tracker._going_on == {}
    (day,) = [balance for balance in ledger.balances() if balance.balance.startswith("steps")]
    assert (day.held, day.spent <= 1 + 4 * 6) == (0, True)


def test_one_answer_given_twice_raises_a_limit_once(ledger: Ledger) -> None:
    """Both clicks approve the same question: one call more, and not two."""
    model = Paid()
    handler = FinOpsHandler(budgets=[Budget(llm_calls=2, on_exceed="interrupt")], ledger=ledger, prices=BOOK)

    def work(_: State) -> State:
        return {"said": [model.invoke("x").text]}

    graph = line(*[work] * 9, checkpointer=InMemorySaver())
    config: Any = {"callbacks": [handler], **THREAD}
    asked = graph.invoke({"said": []}, config)["__interrupt__"][0].id
    answer: Any = Command(resume={asked: {"approve": True, "llm_calls": 1}})

    async def twice() -> None:
        await asyncio.gather(*(graph.ainvoke(answer, config) for _ in range(2)))

    asyncio.run(twice())

    assert model.calls == 3
    assert len(list(ledger.events(action="approve"))) == 1


# --- a process that died ---------------------------------------------------------------------------------------------


def crashing(ledger: str, kept: Path) -> None:
    """Two calls in a process, which dies then; it goes on from its checkpoint if there is one."""
    from resumed_elsewhere import leave, saver_from

    model, resumes, saver = Paid(), kept.exists(), saver_from(kept)

    def work(_: State) -> State:
        if model.calls == 2:
            leave(saver, kept)
            os._exit(9)
        text = model.invoke("x").text
        print("call", flush=True)
        return {"said": [text]}

    handler = FinOpsHandler(budgets=[Budget(llm_calls=5), Budget(steps=50)], ledger=ledger, prices=BOOK)
    graph = line(*[work] * 12, checkpointer=saver)
    try:
        graph.invoke(None if resumes else {"said": []}, {"callbacks": [handler], **THREAD})
    except BudgetExceeded:
        print("refused", flush=True)


def test_a_run_that_left_no_record_goes_on_as_the_same_run(
    run: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the death of its process, of which only its calls and its checkpoints are left."""
    model = Paid()
    graph = line(*[asking(model, "x")] * 9, checkpointer=InMemorySaver(), interrupt_before=["c", "d"])
    dead, alive, later = (FinOpsHandler(budgets=[Budget(llm_calls=4)], ledger=ledger, prices=BOOK) for _ in range(3))
    monkeypatch.setattr(dead.recorder, "end_run", lambda *_, **__: None)

    run(graph, {"said": []}, dead, thread="t")
    assert (model.calls, list(ledger.runs())) == (2, [])
    run(graph, None, alive, thread="t")
    with pytest.raises(BudgetExceeded):
        run(graph, None, later, thread="t")

    assert model.calls == 4
    assert len({call.run_id for call in ledger.calls()}) == 1
    assert [(each.status, each.revision) for each in ledger.runs(history=True)] == [("interrupted", 0), ("stopped", 1)]
    assert [call.attribution.step for call in ledger.calls()] == [1, 2, 3, 4]


def test_the_steps_of_a_run_that_left_no_record_count(
    run: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls tell how far it came: of four steps two are left."""
    model = Paid()
    graph = line(*[asking(model, "x")] * 9, checkpointer=InMemorySaver(), interrupt_before=["c"])
    dead, alive = (FinOpsHandler(budgets=[Budget(steps=4)], ledger=ledger, prices=BOOK) for _ in range(2))
    monkeypatch.setattr(dead.recorder, "end_run", lambda *_, **__: None)

    run(graph, {"said": []}, dead, thread="t")
    with pytest.raises(BudgetExceeded):
        run(graph, None, alive, thread="t")

    assert model.calls == 4


@pytest.mark.slow
def test_a_run_whose_process_died_goes_on_as_the_same_run(tmp_path: Path) -> None:
    """It left calls and no record of the run; each process that goes on with it dies as well, until five are made."""
    printed: list[str] = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, __file__, f"sqlite:///{tmp_path}/ledger.db", tmp_path / "kept"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        printed += done.stdout.split()

    assert printed == ["call"] * 5 + ["refused"]
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    assert len({call.run_id for call in ledger.calls()}) == 1
    assert [(each.status, each.steps) for each in ledger.runs()] == [("stopped", 6)]
    assert [call.attribution.step for call in ledger.calls()] == [1, 2, 3, 4, 5]


def test_a_run_that_is_still_open_is_no_run_that_died(ledger: Ledger, limited: Any) -> None:
    """It has calls and no record as well; what goes on beside it on its thread is no part of it."""
    model, handler = Paid(), limited(Budget(llm_calls=3))
    called, may_end = threading.Event(), threading.Event()
    config: Any = {"callbacks": [handler], **THREAD}

    def work(_: State) -> State:
        said = [model.invoke("x").text]
        called.set()
        may_end.wait(30)
        return {"said": said}

    beside = line(asking(model, "y"), checkpointer=InMemorySaver(), name="beside")
    beside.update_state(THREAD, {"said": []}, as_node="__start__")
    open_run = threading.Thread(target=line(work).invoke, args=({"said": []}, config))
    open_run.start()
    called.wait(30)
    beside.invoke(None, config)
    may_end.set()
    open_run.join()

    assert model.calls == 2
    assert len({call.run_id for call in ledger.calls()}) == 2
    assert sorted(each.name or "" for each in ledger.runs()) == ["LangGraph", "beside"]


if __name__ == "__main__":
    crashing(sys.argv[1], Path(sys.argv[2]))
