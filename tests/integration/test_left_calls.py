"""Promise 2 outside graphs: what is cancelled, refused or closed there ends too, in tasks that go on for days."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from graphs import State, graph_of
from kept_objects import keeps_text
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langchain_core.tools import StructuredTool
from scripted_models import Gate, Reply, ScriptedChat, ScriptedLLM, tokens

from langchain_finops import FinOpsHandler, Ledger
from langchain_finops.meter import CALL_CLOCK, CallClock


def stuck(gate: Gate) -> ScriptedChat:
    return ScriptedChat(script=lambda *_: Reply(usage=tokens(1, 1), gate=gate))


class Waiting(BaseRetriever):
    """Finds nothing, ever."""

    gate: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
        raise NotImplementedError

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
        return await self.gate.arrive()


def waiting_tool(gate: Gate) -> StructuredTool:
    async def search(query: str) -> Any:
        return await gate.arrive()

    return StructuredTool.from_function(coroutine=search, name="search", description="Search.")


def asking_tool(gate: Gate) -> StructuredTool:
    async def search(query: str) -> str:
        return str((await stuck(gate).ainvoke(query)).text)

    return StructuredTool.from_function(coroutine=search, name="search", description="Ask.")


ROOTS: dict[str, tuple[Callable[[Gate], Any], int]] = {
    "chat": (stuck, 1),
    "completion": (lambda gate: ScriptedLLM(script=lambda *_: Reply(usage=tokens(1, 1), gate=gate)), 1),
    "tool": (waiting_tool, 0),
    "tool with a call": (asking_tool, 1),
    "retriever": (lambda gate: Waiting(gate=gate), 0),
}
"""What never ends unless its gate is opened, and how many calls it makes."""


async def cut_off(asked: Awaitable[Any], gate: Gate) -> None:
    """Give up waiting, as a time-out in the middle of a long task does, and go on."""

    async def run_out() -> None:
        await gate.reached.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            running_out = asyncio.ensure_future(run_out())
            await asked
    await running_out
    for _ in range(9):  # What is called soon has its turn.
        await asyncio.sleep(0)


@pytest.mark.parametrize("root", ROOTS)
async def test_what_a_time_limit_cuts_off_ends_though_its_task_goes_on(
    root: str, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """LangChain reports no end, and the task has none: it ends with its coroutine, and leaves nothing behind."""
    make, calls = ROOTS[root]
    for _ in range(3):
        gate = Gate(asyncio.Event)
        await cut_off(make(gate).ainvoke("PROMPT", {"callbacks": [handler]}), gate)

    assert [(run.status, run.stop_reason) for run in ledger.runs()] == [("cancelled", "CancelledError")] * 3
    assert [call.estimated for call in ledger.calls()] == [True] * 3 * calls
    assert [charge.error is not None for charge in ledger.charges()] == [True] * 3 * root.startswith("tool")
    assert handler.summary(()).total().calls == 3 * calls
    assert handler._recorder.tracker.open_runs() == []
    assert not keeps_text(handler, "PROMPT")


def test_what_is_left_when_its_loop_is_closed_ends(handler: FinOpsHandler, ledger: Ledger) -> None:
    """There is nothing then that could call us later."""
    loop = asyncio.new_event_loop()
    asked = Waiting(gate=Gate(asyncio.Event)).ainvoke("PROMPT", {"callbacks": [handler]})
    step = asked.__await__()

    async def begin() -> None:
        step.send(None)

    loop.run_until_complete(begin())
    loop.close()
    step.close()
    asked.close()

    assert [run.status for run in ledger.runs()] == ["cancelled"]


async def test_a_slow_completion_is_not_taken_for_a_cancelled_one(handler: FinOpsHandler, ledger: Ledger) -> None:
    """LangChain tells its start in a task of its own, which has long ended when the answer comes."""
    gate = Gate(asyncio.Event)
    model = ScriptedLLM(script=lambda *_: Reply(usage=tokens(7, 3), gate=gate))
    asked = asyncio.ensure_future(model.ainvoke("PROMPT", {"callbacks": [handler]}))
    await gate.reached.wait()
    during = list(ledger.calls())
    gate.opened.set()
    await asked

    assert during == []
    assert [(call.usage.input_tokens, call.estimated, call.revision) for call in ledger.calls(history=True)] == [
        (7, False, 0)
    ]
    assert [run.status for run in ledger.runs()] == ["completed"]


async def test_prompts_of_one_async_request_share_its_usage(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`abatch` of a completion model is one request, charged once, outside graphs as inside."""
    await ScriptedLLM().abatch(["3/1", "4/2", "5/3"], {"callbacks": [handler]})

    calls = list(ledger.calls())
    assert [call.estimated for call in calls] == [False] * 3
    assert sum(call.usage.total_tokens for call in calls) == 3 + 1 + 4 + 2 + 5 + 3
    assert [run.status for run in ledger.runs()] == ["completed"] * 3


async def test_a_replayed_completion_keeps_its_recorded_times(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Its clock is the call's, whose record is written when the answer is there."""
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def replay(prompt: str, call: int) -> Reply:
        clock = CALL_CLOCK.get()
        assert clock is not None
        clock = clock.of_request()
        clock.started_at, clock.ended_at, clock.replayed = at, at + timedelta(seconds=1), True
        return Reply(usage=tokens(7, 3))

    token = CALL_CLOCK.set(CallClock())
    await ScriptedLLM(script=replay).ainvoke("PROMPT", {"callbacks": [handler]})
    CALL_CLOCK.reset(token)

    (call,) = ledger.calls(history=True)
    assert (call.started_at, call.ended_at) == (at, at + timedelta(seconds=1))
    assert (call.billing_mode, call.billed_usd, call.estimated) == ("replay", 0, False)


class RefusesSecond(BaseCallbackHandler):
    """Another handler's guard: one call and no more."""

    raise_error = run_inline = True

    def __init__(self) -> None:
        self.seen = 0

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.seen += 1
        if self.seen == 2:
            raise RuntimeError("SECRET")


@pytest.mark.parametrize("first", ["ours", "the guard"])
def test_only_the_refused_call_is_free_and_not_its_sibling(first: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """One call is on its way when the next one is refused: the one that was sent is charged."""
    gate = Gate(threading.Event)
    model = ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3), gate=gate))
    pool = ContextThreadPoolExecutor()

    def node(state: State) -> State:
        pool.submit(model.invoke, "PROMPT sent")
        gate.reached.wait()
        model.invoke("PROMPT refused")
        return {}

    order = [handler, RefusesSecond()] if first == "ours" else [RefusesSecond(), handler]
    with pytest.raises(RuntimeError, match="SECRET"):
        graph_of({"ask": node}).invoke({"answers": []}, {"callbacks": order})
    reasons = {call.reasons[-1]: bool(call.cost_usd) for call in ledger.calls()}
    gate.opened.set()
    pool.shutdown()

    # A call that was refused before we were told of it is none of ours.
    assert reasons == ({"failed": True, "not_sent": False} if first == "ours" else {"failed": True})
    assert sorted(call.usage.total_tokens for call in ledger.calls()) == ([0, 10] if first == "ours" else [10])
