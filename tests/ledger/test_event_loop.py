"""Under a running event loop the ledger does no blocking I/O of its own, and a hook waits for a bounded time."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockingError, blockbuster_ctx

from langchain_finops.errors import LedgerError
from langchain_finops.ledger import open_ledger, recover, sql
from langchain_finops.ledger.in_time import in_time
from langchain_finops.ledger.rows import Row, row_of
from langchain_finops.records import CallRecord
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_run, an_outcome


@pytest.fixture
def no_blocking() -> Iterator[BlockBuster]:
    """Blocking I/O on the event loop's thread raises, as under LangGraph's development server."""
    with blockbuster_ctx() as blockbuster:
        yield blockbuster


async def test_blockbuster_would_see_it(no_blocking, path: Path):
    """The tests below mean something: the same I/O in place raises."""
    ledger = await asyncio.to_thread(open_ledger, path)

    with pytest.raises(BlockingError), ledger._store().reading():
        pass
    await asyncio.to_thread(ledger.close)


async def test_every_method_works_under_a_loop(no_blocking, path: Path, monkeypatch: pytest.MonkeyPatch):
    """Opening, writing, reading, summing, upkeep and closing."""
    monkeypatch.setenv("FINOPS_LEDGER", str(path.parent / "new" / "ledger.db"))
    ledger = open_ledger()

    ledger.write(a_call("1", user_id="u"), a_charge(), a_run(), an_outcome())
    ledger.write(a_call("2", started_at=MONDAY + DAY))

    assert [call.call_id for call in ledger.calls()] == ["1", "2"]
    assert [len(list(read())) for read in (ledger.charges, ledger.runs, ledger.outcomes, ledger.events)] == [1, 1, 1, 0]
    assert ledger.totals(["day"], user_id="u")[0].totals.calls == 1
    assert (ledger.forget("u"), ledger.prune(MONDAY + DAY), recover(ledger)) == (1, 2, 0)
    assert ledger.flush(30)
    ledger.close()
    ledger.close()


async def test_the_default_ledger_opens_under_a_loop(no_blocking):
    """Looking for the user's data directory touches the disk."""
    ledger = open_ledger()
    ledger.write(a_call())
    ledger.close()


async def test_a_locked_ledger_spills_under_a_loop(no_blocking, path: Path, opened):
    """The thread gives the database up in time to spill before the hook stops waiting."""
    ledger = opened(path, hold_timeout=0.5)
    other = await asyncio.to_thread(_lock, path)

    ledger.write(a_call())

    assert ledger.spilled == 1
    await asyncio.to_thread(_unlock, other)
    assert await asyncio.to_thread(recover, ledger) == 1


async def test_a_thread_that_hangs_costs_no_record(no_blocking, path: Path, opened):
    """The hook goes on after `hold_timeout` with the record in the spill file; written late as well, it counts once."""
    ledger = opened(path, hold_timeout=0.05)
    hanging = threading.Event()
    ledger._writer.own_thread()._jobs.put(_job_that_waits_for(hanging))

    ledger.write(a_call("1"))

    assert ledger.spilled == 1
    assert not ledger.flush(0.01)
    hanging.set()
    assert ledger.flush(30)
    assert [call.call_id for call in ledger.calls()] == ["1"]
    assert recover(ledger) == 0


async def test_a_thread_that_hangs_keeps_no_run_waiting(no_blocking, path: Path, opened):
    """What a run waits for is given up after `hold_timeout`, and is not done later."""
    ledger = opened(path, hold_timeout=0.05)
    hanging = threading.Event()
    ledger._writer.own_thread()._jobs.put(_job_that_waits_for(hanging))

    with in_time(), pytest.raises(LedgerError, match=r"took longer than 0\.05 s"):
        list(ledger.calls())
    hanging.set()
    assert ledger.flush(30)
    assert list(ledger.calls()) == []


async def test_a_bad_batch_is_its_writers_fault_alone(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """Writes of several loops may share a transaction; a row that SQLite refuses costs the others nothing."""
    ledger = opened(path, hold_timeout=30.0)
    hanging = threading.Event()
    ledger._writer.own_thread()._jobs.put(_job_that_waits_for(hanging))
    raised: list[BaseException] = []

    def write_in_a_loop(call_id: str) -> None:
        async def write() -> None:
            ledger.write(a_call(call_id))

        try:
            asyncio.run(write())
        except UnicodeError as error:
            raised.append(error)

    def unchecked(record: CallRecord) -> Row:
        return replace(row_of(record), id=record.call_id.replace("bad", "\ud800"))

    monkeypatch.setattr(sql, "row_of", unchecked)
    ids = ["1", "2", "bad", "3"]
    threads = [threading.Thread(target=write_in_a_loop, args=(call_id,)) for call_id in ids]
    for thread in threads:
        thread.start()
    while ledger._writer.own_thread()._jobs.qsize() < len(ids):
        await asyncio.sleep(0)
    hanging.set()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])

    assert len(raised) == 1
    assert {call.call_id for call in ledger.calls()} == {"1", "2", "3"}


async def test_a_closed_ledger_says_so_under_a_loop(no_blocking, path: Path, opened):
    """And does not wait for a thread that has ended."""
    ledger = opened(path)
    ledger.close()

    with pytest.raises(LedgerError, match="closed"):
        ledger.write(a_call())


def test_other_threads_write_in_place(path: Path, opened):
    """No thread is started where none is needed."""
    ledger = opened(path)
    ledger.write(a_call())

    assert ledger._writer.worker is None


def _job_that_waits_for(event: threading.Event):
    from langchain_finops.ledger.worker import _Job

    return _Job(action=event.wait)


def _lock(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def _unlock(connection: sqlite3.Connection) -> None:
    connection.execute("ROLLBACK")
    connection.close()


async def test_who_comes_after_the_end_waits_for_nobody(path: Path, opened):
    """Another thread may close the ledger between two steps of a flush."""
    ledger = opened(path)
    ledger.write(a_call())
    worker = ledger._writer.worker
    await asyncio.to_thread(ledger.close)

    assert worker.run(lambda: None) is False
