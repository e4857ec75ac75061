"""What happens at once: runs that share an id, and sums that are looked at while a run ends."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_finops import FinOpsHandler, Ledger
from langchain_finops.records import Record, RunRecord

pytestmark = pytest.mark.usefixtures("faultless")

Make = Callable[..., Any]
RUN_ID = UUID("00000000-0000-4000-8000-000000000001")


def answer() -> AIMessage:
    return AIMessage("ok", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})


async def test_runs_that_are_given_one_id_at_once_are_all_ended(
    model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Three bare calls under one id, ending in whatever order: each is a run, in the ledger and in the sums."""
    gates = [asyncio.Event() for _ in range(3)]

    async def call(gate: asyncio.Event) -> None:
        async def wait() -> AIMessage:
            await gate.wait()
            return answer()

        await model(wait).ainvoke("hi", {"callbacks": [handler], "run_id": RUN_ID})

    calls = [asyncio.ensure_future(call(gate)) for gate in gates]
    for _ in range(100):
        await asyncio.sleep(0)
    for gate, each in reversed(list(zip(gates, calls, strict=True))):
        gate.set()
        await each

    ids = {str(RUN_ID), f"{RUN_ID}:2", f"{RUN_ID}:3"}
    assert {run.run_id for run in ledger.runs()} == {call.run_id for call in ledger.calls()} == ids
    (group,) = handler.summary(()).groups
    assert (group.runs, group.totals.calls) == (3, 3)
    assert handler._recorder.tracker.open_runs() == []


async def test_one_of_several_calls_with_one_id_is_cancelled(
    model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """It is settled as cancelled whichever it is, and the others by their answers."""
    gate = asyncio.Event()

    async def wait() -> AIMessage:
        await gate.wait()
        return answer()

    config: Any = {"callbacks": [handler], "run_id": RUN_ID}
    calls = [asyncio.ensure_future(model(wait).ainvoke("hi", config)) for _ in range(3)]
    for _ in range(100):
        await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.wait(calls[1:2])
    gate.set()
    await asyncio.gather(calls[0], calls[2])

    assert sorted(run.status for run in ledger.runs()) == ["cancelled", "completed", "completed"]
    assert sorted(call.estimated for call in ledger.calls()) == [False, False, True]


def test_a_run_that_is_being_ended_is_in_the_sums(
    model: Make, handler: FinOpsHandler, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the moment when it is written down: it is no longer open then, and not yet folded."""
    counts: list[int] = []
    write = ledger.write

    def looked_at(*records: Record) -> None:
        write(*records)
        if isinstance(records[0], RunRecord):
            counts.append(handler.summary(()).total().calls)

    monkeypatch.setattr(ledger, "write", looked_at)
    RunnableLambda(lambda _: model().invoke("hi")).invoke({}, {"callbacks": [handler]})

    assert counts == [1]
    assert handler.summary(()).total().calls == 1


def test_no_run_is_folded_while_open_ones_are_looked_at(
    model: Make, handler: FinOpsHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be counted as an open one and as a folded one."""
    sums = handler._recorder.sums
    read, free = sums.summary, []

    def other_thread_meanwhile(*args: Any) -> Any:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(sums.lock.acquire, blocking=False).result())
        return read(*args)

    monkeypatch.setattr(sums, "summary", other_thread_meanwhile)
    model().invoke("hi", {"callbacks": [handler]})

    assert handler.summary(()).total().calls == 1
    assert free == [False]
