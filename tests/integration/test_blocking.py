"""Promise 19a: no hook blocks an event loop, with the SQLite ledger, in any shape of graph."""

import asyncio
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
from blockbuster import BlockingError, blockbuster_ctx
from graphs import ENTRY_POINTS, NESTINGS, asking, fan_out, graph_of, recorded
from scripted_models import Gate, ProviderError, Reply, ScriptedChat, scripted, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook, attach, detach, open_ledger
from langchain_finops.ledger import recover
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.records import Record

LOOPS = [entry for entry, point in ENTRY_POINTS.items() if point.native_async]


@pytest.fixture
def sql_handler(sql_ledger: Ledger, prices: PriceBook) -> FinOpsHandler:
    return FinOpsHandler(ledger=sql_ledger, prices=prices)


def test_blocking_calls_would_be_noticed(tmp_path: Path) -> None:
    """Without this the other tests could pass because nothing is watched."""

    async def block() -> None:
        (tmp_path / "file").write_text("x")

    with blockbuster_ctx(), pytest.raises(BlockingError):
        asyncio.run(block())


async def test_hooks_run_in_the_event_loops_own_thread(prices: PriceBook) -> None:
    """On another thread they would come late, and a call could return before it is on disk."""
    threads: set[int] = set()

    class Noting(MemoryLedger):
        def write(self, *records: Record) -> None:
            threads.add(threading.get_ident())
            super().write(*records)

    handler = FinOpsHandler(ledger=Noting(), prices=prices)
    await graph_of({"draft": asking(ScriptedChat(), "7/3", native_async=True)}).ainvoke(
        {"answers": []}, {"callbacks": [handler]}
    )

    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("entry", LOOPS)
def test_no_hook_blocks_the_event_loop(
    entry: str, nesting: str, sql_handler: FinOpsHandler, sql_ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Under blockbuster every call is recorded as it is without it, and nothing had to be logged."""
    point = ENTRY_POINTS[entry]
    case = NESTINGS[nesting](point.native_async)

    with blockbuster_ctx():
        point.run(case, {"callbacks": [sql_handler]})

    assert recorded(sql_ledger.calls()) == Counter(case.expected * point.runs)
    assert [run.status for run in sql_ledger.runs()] == ["completed"] * point.runs
    assert [entry.getMessage() for entry in caplog.records if entry.levelname in {"WARNING", "ERROR"}] == []


async def test_errors_cancellations_and_outcomes_block_nothing(
    sql_handler: FinOpsHandler, sql_ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """The rarer ways in which a call ends write to the ledger as well."""
    gate = Gate(asyncio.Event)
    stuck = ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3), gate=gate))
    config = {"callbacks": [sql_handler], "metadata": {"task_id": "t-1"}}

    with blockbuster_ctx():
        with pytest.raises(ProviderError):
            await scripted(Reply(error=ProviderError(500))).ainvoke("PROMPT", config)
        running = asyncio.ensure_future(
            graph_of({"ask": asking(stuck, "PROMPT", native_async=True)}).ainvoke({"answers": []}, config)
        )
        await gate.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        sql_handler.log_outcome(task_id="t-1", success=True)

    assert Counter(call.cost_status for call in sql_ledger.calls()) == {"free": 1, "estimated": 1}
    assert [outcome.success for outcome in sql_ledger.outcomes()] == [True]
    assert [entry.getMessage() for entry in caplog.records if entry.levelname in {"WARNING", "ERROR"}] == []


async def test_the_first_call_of_a_handler_blocks_nothing(ledger_file: Path, prices: PriceBook) -> None:
    """A handler that opens its ledger by itself loads and opens all it needs before the first hook."""
    handler = FinOpsHandler(ledger=str(ledger_file), prices=prices)

    with blockbuster_ctx():
        await graph_of({"draft": asking(ScriptedChat(), "7/3", native_async=True)}).ainvoke(
            {"answers": []}, {"callbacks": [handler]}
        )

    assert recorded(handler.ledger.calls()) == Counter([("draft", 7, 3)])
    handler.ledger.close()


async def test_an_attached_handler_blocks_nothing(sql_handler: FinOpsHandler, sql_ledger: Ledger) -> None:
    """Attached to the process it is the same handler."""
    attach(sql_handler)
    try:
        with blockbuster_ctx():
            await graph_of({"draft": asking(ScriptedChat(), "7/3", native_async=True)}).ainvoke({"answers": []})
    finally:
        detach()

    assert recorded(sql_ledger.calls()) == Counter([("draft", 7, 3)])


async def test_the_shipped_prices_block_nothing(sql_ledger: Ledger) -> None:
    """The price catalogue is loaded by the constructor and by no hook."""
    handler = FinOpsHandler(ledger=sql_ledger)
    model = ScriptedChat(model_name="gpt-4o-mini", provider="openai")

    with blockbuster_ctx():
        await fan_out(asking(model, native_async=True), ["7/3", "1/2"]).ainvoke(
            {"answers": []}, {"callbacks": [handler]}
        )

    assert {call.cost_status for call in sql_ledger.calls()} == {"exact"}


async def test_a_locked_ledger_blocks_for_no_longer_than_its_limit(ledger_file: Path, prices: PriceBook) -> None:
    """Another process holds the file: the run goes on, and the record is spilled and recovered."""
    ledger = open_ledger(ledger_file, hold_timeout=0.05)
    handler = FinOpsHandler(ledger=ledger, prices=prices)
    graph = graph_of({"draft": asking(ScriptedChat(), "7/3", native_async=True)})
    lock = sqlite3.connect(ledger_file, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")

    with blockbuster_ctx():
        state = await graph.ainvoke({"answers": []}, {"callbacks": [handler]})

    lock.execute("ROLLBACK")
    lock.close()
    ledger.flush(30)
    recover(ledger)
    assert state["answers"] == ["ANSWER"]
    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
    ledger.close()
