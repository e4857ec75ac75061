"""What goes on after its run has ended, because nobody cancelled it, has that run's limits and belongs to that run."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langchain_core.tools import StructuredTool
from limited_graphs import Paid, asking, line

from langchain_finops import Budget, BudgetExceeded, Ledger
from langchain_finops.langchain import tracker as module

TURNS = 30
"""Of the event loop that a call takes: a graph that was refused ends in fewer."""


class Slow(Paid):
    """Answers when a graph beside it has had the time to end; the later, the longer the prompt."""

    async def _agenerate(self, messages: Any, *_: Any, **__: Any) -> Any:
        for _turn in range(TURNS * len(messages[-1].text)):
            await asyncio.sleep(0)
        return self._generate(messages)


async def others() -> None:
    """Wait for whatever else goes on in this event loop."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*rest, return_exceptions=True)


async def until(happened: Callable[[], object]) -> None:
    """Wait for something that is to happen in this event loop, but not for ever."""
    for _turn in range(10_000):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


async def ending(runnable: Any, state: Any, handler: Any) -> BaseException | None:
    """What a run raises; then all that it has left behind goes on until it ends."""
    try:
        await runnable.ainvoke(state, {"callbacks": [handler]})
    except Exception as error:
        return error
    finally:
        await others()
    return None


def agents(model: Any, *, times: int = 10, at_once: int = 4) -> Any:
    """A node in which some loops ask the model, all at once."""

    async def agent(number: int) -> None:
        for turn in range(times):
            await model.ainvoke(f"agent {number}, turn {turn}")

    async def node(_: Any) -> Any:
        await asyncio.gather(*(agent(number) for number in range(at_once)))
        return {"said": []}

    return node


def nothing_is_open(handler: Any) -> bool:
    """Whether the tracker has forgotten all that has ended."""
    tracker = handler.recorder.tracker
    return not (tracker._spans or tracker._nodes or tracker._runs)


async def test_the_other_branches_of_a_refused_gather_buy_nothing(limited: Any, ledger: Ledger) -> None:
    """Four loops of ten calls each on three: three calls, in the one run that there was."""
    model, handler = Slow(), limited(Budget(llm_calls=3))

    assert isinstance(await ending(line(agents(model)), {"said": []}, handler), BudgetExceeded)

    assert model.calls == 3
    assert [(run.name, run.status) for run in ledger.runs()] == [("LangGraph", "stopped")]
    assert nothing_is_open(handler)


async def test_the_other_branches_of_langchains_own_parallel_buy_nothing(limited: Any, ledger: Ledger) -> None:
    """No graph at all, and the branches are what goes on."""
    model, handler = Slow(), limited(Budget(llm_calls=5))

    async def agent(text: str) -> str:
        for _ in range(20):
            await model.ainvoke(text)
        return text

    branches = RunnableParallel(a=RunnableLambda(agent), b=RunnableLambda(agent), c=RunnableLambda(agent))
    assert isinstance(await ending(branches, "x", handler), BudgetExceeded)

    assert model.calls == 5
    assert len(list(ledger.runs())) == 1
    assert nothing_is_open(handler)


async def test_graphs_that_go_on_take_no_further_step(limited: Any, ledger: Ledger) -> None:
    """Whole agents in a node, one of which is refused: the others' nodes belong to the run that has ended."""
    model, handler = Slow(), limited(Budget(llm_calls=6), Budget(steps=30))
    agents_at_once = [line(*[asking(model, "x" * speed)] * 9) for speed in (1, 2, 99)]

    async def node(_: Any) -> Any:
        await asyncio.gather(*(agent.ainvoke({"said": []}) for agent in agents_at_once))
        return {"said": []}

    assert isinstance(await ending(line(node), {"said": []}, handler), BudgetExceeded)

    assert model.calls == 6
    assert len(list(ledger.runs())) == 1
    assert nothing_is_open(handler)


async def test_steps_that_go_on_are_spent_once_and_none_stays_held(limited: Any, ledger: Ledger) -> None:
    """A graph of five nodes, whose root fails in the middle of it: five of the day's steps are spent in the end."""
    handler, steps = limited(Budget(steps=9, per="day")), []

    async def slow(_: Any) -> Any:
        steps.append(len(list(ledger.runs())))
        for _turn in range(TURNS):
            await asyncio.sleep(0)
        return {"said": []}

    async def failing() -> None:
        await until(lambda: len(steps) == 3)
        raise ValueError("SECRET")

    async def root(_: Any) -> Any:
        await asyncio.gather(line(*[slow] * 5).ainvoke({"said": []}), failing())

    assert isinstance(await ending(RunnableLambda(root), "x", handler), ValueError)

    assert steps == [0, 0, 0, 1, 1]
    assert [(balance.spent, balance.held) for balance in ledger.balances()] == [(5, 0)]
    assert len(list(ledger.runs(history=True))) == 1


async def test_what_goes_on_after_a_failure_has_the_rest_of_the_runs_budget(limited: Any, ledger: Ledger) -> None:
    """The run failed after one call for a reason of its own: of the others' thirty calls four more fit."""
    model, handler = Paid(), limited(Budget(llm_calls=5), Budget(usd=1))
    loops = agents(model, at_once=3)

    async def failing() -> None:
        await model.ainvoke("once")
        raise ValueError("SECRET")

    async def node(state: Any) -> Any:
        await asyncio.gather(failing(), loops(state))

    assert isinstance(await ending(line(node), {"said": []}, handler), ValueError)

    assert model.calls == 5
    assert [(run.name, run.status) for run in ledger.runs()] == [("LangGraph", "failed")]
    assert len({call.run_id for call in ledger.calls()}) == 1
    assert handler.summary(()).total().calls == 5
    assert nothing_is_open(handler)


async def test_what_a_completed_run_left_behind_has_the_rest_of_its_budget(limited: Any, ledger: Ledger) -> None:
    """A task that its node did not wait for, in the middle of a call when the run ends."""
    model, handler, begun = Paid(), limited(Budget(llm_calls=4)), []

    async def node(state: Any) -> Any:
        begun.append(asyncio.ensure_future(agents(model, at_once=1)(state)))
        await until(lambda: model.calls)
        return {"said": []}

    assert await ending(line(node), {"said": []}, handler) is None

    assert model.calls == 4
    assert [(run.name, run.status) for run in ledger.runs()] == [("LangGraph", "completed")]


async def test_tools_that_go_on_count_on_the_run_as_well(limited: Any, ledger: Ledger) -> None:
    """Two loops of tools on three: one is refused, and so is the other after its run has ended."""
    ran: list[str] = []

    async def search(query: str) -> str:
        ran.append(query)
        for _ in range(TURNS * (1 + int(query[0]))):
            await asyncio.sleep(0)
        return query

    tool = StructuredTool.from_function(coroutine=search, name="search", description="Search.")
    handler = limited(Budget(tool_calls=3))

    async def agent(number: int) -> None:
        for turn in range(9):
            await tool.ainvoke({"query": f"{number} {turn}"})

    async def node(_: Any) -> Any:
        await asyncio.gather(agent(1), agent(2))

    assert isinstance(await ending(line(node), {"said": []}, handler), BudgetExceeded)

    assert len(ran) == 3
    assert len(list(ledger.charges())) == 3
    assert len(list(ledger.runs())) == 1


async def test_what_goes_on_in_a_tool_that_is_no_part_of_a_graph(limited: Any, ledger: Ledger) -> None:
    """The tool is the whole run, and it was refused with loops of calls still going on."""
    model, handler = Slow(), limited(Budget(llm_calls=3))
    loops = agents(model)

    async def search(query: str) -> str:
        await loops(query)
        return query

    tool = StructuredTool.from_function(coroutine=search, name="search", description="Search.")
    assert isinstance(await ending(tool, {"query": "x"}, handler), BudgetExceeded)

    assert model.calls == 3
    assert len(list(ledger.runs())) == 1


async def test_calls_that_end_leave_nothing_to_remember(limited: Any) -> None:
    """Neither does a graph that completes."""
    handler, model = limited(Budget(llm_calls=9)), Paid()
    for runnable, given in ((model, "hi"), (line(asking(model, "hi")), {"said": []})):
        runnable.invoke(given, {"callbacks": [handler]})
        await runnable.ainvoke(given, {"callbacks": [handler]})

    assert model.calls == 4
    assert not handler.recorder.tracker._left


async def test_what_goes_on_and_is_cancelled_leaves_nothing_held(limited: Any, ledger: Ledger) -> None:
    """Its run has been written down already, and nobody reports the end of a cancelled call."""
    handler, stuck = limited(Budget(usd=1, per="day"), Budget(llm_calls=9)), asyncio.Event()

    class Stuck(Paid):
        async def _agenerate(self, messages: Any, *_: Any, **__: Any) -> Any:
            if messages[-1].text == "stuck":
                stuck.set()
                await asyncio.Event().wait()
            return self._generate(messages)

    model = Stuck()

    async def goes_on() -> None:
        await until(lambda: list(ledger.runs()))
        await model.ainvoke("stuck")

    async def failing() -> None:
        raise ValueError("SECRET")

    tasks: list[asyncio.Future[None]] = []

    async def node(_: Any) -> Any:
        tasks.append(asyncio.ensure_future(goes_on()))
        await asyncio.gather(failing(), tasks[0])

    with pytest.raises(ValueError, match="SECRET"):
        await line(node).ainvoke({"said": []}, {"callbacks": [handler]})
    await stuck.wait()
    tasks.pop().cancel()
    for _ in range(9):
        await asyncio.sleep(0)

    assert [(call.estimated, call.error is not None) for call in ledger.calls()] == [(True, True)]
    assert [balance.held for balance in ledger.balances()] == [0]
    assert len(list(ledger.runs())) == 1


def test_threads_that_go_on_count_on_the_run_as_well(limited: Any, ledger: Ledger) -> None:
    """A node's thread, of the pool that keeps LangChain's context, is not waited for; its run fails meanwhile."""
    model, handler, failed, threads = Paid(), limited(Budget(llm_calls=3)), threading.Event(), []

    def loop() -> int:
        failed.wait(30)
        for turn in range(9):
            model.invoke(f"turn {turn}")
        return 9

    pool = ContextThreadPoolExecutor(1)

    def node(_: Any) -> Any:
        threads.append(pool.submit(loop))
        model.invoke("once")
        raise ValueError("SECRET")

    with pytest.raises(ValueError, match="SECRET"):
        line(node).invoke({"said": []}, {"callbacks": [handler]})
    failed.set()
    assert isinstance(threads[0].exception(30), BudgetExceeded)
    pool.shutdown()

    assert model.calls == 3
    assert len({call.run_id for call in ledger.calls()}) == 1
    assert nothing_is_open(handler)


async def test_what_may_go_on_is_remembered_within_bounds(limited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose runs fail all day keeps the last ones."""
    monkeypatch.setattr(module, "LEFT_KEPT", 5)
    handler = limited(Budget(llm_calls=1))

    def fail(_: Any) -> Any:
        raise ValueError("SECRET")

    for _ in range(20):
        assert isinstance(await ending(line(fail), {"said": []}, handler), ValueError)

    assert len(handler.recorder.tracker._left) == 5
