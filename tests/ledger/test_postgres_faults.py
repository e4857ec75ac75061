"""PostgreSQL gone, halted, locked or refusing: the run goes on, soon enough, and nothing is lost or counted twice."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import Server

from langchain_finops.errors import LedgerError, MissingExtra
from langchain_finops.ledger import Ledger, open_ledger, recover
from langchain_finops.ledger import postgres as postgres_store
from langchain_finops.ledger.holds import Balance, Line, Settlement
from langchain_finops.ledger.in_time import in_time
from langchain_finops.ledger.postgres_cursor import PatientCursor
from langchain_finops.ledger.stores import Busy
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_full_call, a_run, an_event, an_outcome

IN_VAIN = r"(lock|statement) timeout|the server does not answer"
"""A wait that ended: the server's own bound comes first, on a slow machine ours."""


def hold(ledger: Ledger, hold_id: str) -> int | None:
    return ledger.hold(hold_id, [Line(balance="b", amount=2, limit=5)], at=datetime.now(UTC)).refused


def settle(ledger: Ledger, call_id: str) -> tuple[Balance, ...]:
    return ledger.settle(Settlement(record=a_call(call_id), hold_id=call_id, amounts={"b": 1}))


@contextmanager
def stopped(postgres: Server) -> Iterator[None]:
    """The server is down, and comes back at the end."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


def waits(ledger: Any, seconds: float) -> Any:
    """The ledger, patient again and for so long from now on: a busy machine must not look like a fault."""
    ledger._writer.hold_timeout, ledger._writer.failing = seconds, False
    return ledger


def kill_connections(postgres: Server) -> None:
    """As a fail-over or a firewall does: all that ledgers have open ends, and the next is let in."""
    with postgres.connected() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'langchain-finops'"
        )


def test_a_server_that_is_stopped_in_mid_run(
    opened, postgres: Server, postgres_url: str, caplog: pytest.LogCaptureFixture
):
    """Every kind of record goes to the spill file and comes back exactly, once; holds are not granted unseen."""
    ledger = opened(postgres_url)
    assert hold(ledger, "1") is None
    records = (a_full_call(), a_charge(), a_run(), an_outcome(), an_event(before={"a": 1}))

    with stopped(postgres), caplog.at_level(logging.WARNING, "langchain_finops"):
        ledger.write(*records)
        assert settle(ledger, "1") == ()
        with pytest.raises(LedgerError, match="cannot"):
            hold(ledger, "2")
        with pytest.raises(LedgerError, match="cannot"):
            ledger.balances("b")
        ledger.release("1")

    assert ledger.spilled == 6
    assert len(caplog.records) == 1
    assert "finops recover" in caplog.text
    assert hold(waits(ledger, 30), "3") is None
    assert recover(ledger) == 6
    assert next(call for call in ledger.calls() if call.call_id == "full") == a_full_call()
    assert [*ledger.charges(), *ledger.runs(), *ledger.outcomes(), *ledger.events()] == list(records[1:])
    assert ledger.balances("b") == [Balance(balance="b", spent=1, held=2)]
    assert recover(ledger) == 0


def test_a_server_that_is_halted(opened, postgres: Server, postgres_url: str):
    """It says nothing, and its own time-outs do not run: the clock on this side ends the wait."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call("0"))

    with postgres.halted():
        waits(ledger, 0.2).write(a_call("1"))
        ledger.write(a_call("2"))
        with pytest.raises(LedgerError, match="the server does not answer"):
            hold(ledger, "3")

    assert ledger.spilled == 2
    assert recover(ledger) == 2
    assert [call.call_id for call in ledger.calls()] == ["0", "1", "2"]
    assert hold(waits(ledger, 30), "4") is None


async def test_a_server_that_is_halted_under_an_event_loop(opened, postgres: Server, postgres_url: str):
    """The hook goes on after `hold_timeout`, with the record in the spill file."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call("0"))

    with postgres.halted():
        waits(ledger, 0.2).write(a_call("1"))
        with pytest.raises(LedgerError):
            hold(ledger, "2")

    assert ledger.spilled == 1
    assert ledger.flush(30)
    assert recover(ledger) == 1


def test_connections_that_were_cut_are_made_anew(opened, postgres: Server, postgres_url: str):
    """Writing, holding and reading go on at once, and nothing is spilled."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call("1"))
    assert ledger.totals()[0].totals.calls == 1

    kill_connections(postgres)
    ledger.write(a_call("2"))
    kill_connections(postgres)
    assert hold(ledger, "3") is None
    kill_connections(postgres)
    assert settle(ledger, "3") == (Balance(balance="b", spent=1),)
    kill_connections(postgres)
    assert ledger.balances("b") == [Balance(balance="b", spent=1)]
    assert ledger.totals()[0].totals.calls == 3
    assert ledger.spilled == 0


@pytest.mark.parametrize("is_committed", [True, False])
def test_an_answer_to_the_commit_that_is_lost(
    opened, postgres_url: str, monkeypatch: pytest.MonkeyPatch, is_committed: bool
):
    """Nobody knows then whether it was committed: it is spilled, and counts once either way."""
    ledger = opened(postgres_url)
    assert hold(ledger, "1") is None
    send, cuts = PatientCursor.send, list[PatientCursor]()

    def cut(cursor: PatientCursor) -> Any:
        if cuts or cursor._waiting[-1:] != [("COMMIT", ())]:
            return send(cursor)
        cuts.append(cursor)
        if is_committed:
            send(cursor)
        cursor._connection.close()
        raise psycopg.OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(PatientCursor, "send", cut)
        assert settle(ledger, "1") == ()

    assert ledger.spilled == 1
    assert recover(ledger) == int(not is_committed)
    assert ledger.balances("b") == [Balance(balance="b", spent=1)]
    assert ledger.totals()[0].totals.calls == 1


def test_a_balance_that_another_machine_locks(opened, postgres: Server, postgres_url: str):
    """A hold that cannot be told in time raises; a settlement is spilled; others go on."""
    ledger = waits(opened(postgres_url), 0.2)
    number = postgres_lock("balance b")

    with postgres.connected() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [number])
        with pytest.raises(Busy, match=IN_VAIN):
            hold(ledger, "1")
        waits(ledger, 30).write(a_call("2"))
        assert settle(waits(ledger, 0.2), "3") == ()

    assert ledger.spilled == 1
    assert recover(ledger) == 1
    assert ledger.balances("b") == [Balance(balance="b", spent=1)]


@contextmanager
def locked_table(postgres: Server, url: str, table: str) -> Iterator[None]:
    """Another session that has the table for itself, such as a migration."""
    statement = f"LOCK TABLE {url.partition('%3D')[2]}.{table} IN ACCESS EXCLUSIVE MODE"
    with postgres.connected() as other, other.transaction():
        other.execute(statement)  # type: ignore[call-overload]  # no text of anybody's
        yield


def test_what_a_run_waits_for_is_read_in_time_or_not_at_all(opened, postgres: Server, postgres_url: str):
    """A table that somebody has for himself ends it after `hold_timeout`; a report waits for as long as it takes."""
    ledger = opened(postgres_url)
    ledger.write(a_run(run_id="r-1"))
    reported: list[Any] = []
    report = threading.Thread(target=lambda: reported.extend(ledger.runs()))

    with locked_table(postgres, postgres_url, "runs"):
        waits(ledger, 0.2)
        report.start()
        with in_time(), pytest.raises(LedgerError, match=IN_VAIN):
            list(ledger.runs())
        assert reported == []
    report.join(30)

    assert [run.run_id for run in reported] == ["r-1"]
    waits(ledger, 30)
    with in_time():
        assert [run.run_id for run in ledger.runs()] == ["r-1"]


async def test_an_event_loop_waits_no_longer_for_a_read(opened, postgres: Server, postgres_url: str):
    """The same on the ledger's own thread, which is free again in time for the next hook."""
    ledger = opened(postgres_url, hold_timeout=30.0)

    with locked_table(postgres, postgres_url, "runs"):
        waits(ledger, 0.5)
        with in_time(), pytest.raises(LedgerError):
            list(ledger.runs())
        assert hold(waits(ledger, 30), "1") is None


@pytest.mark.parametrize("is_new", [False, True])
def test_a_server_that_is_halted_ends_a_read_in_time(opened, postgres: Server, postgres_url: str, is_new: bool):
    """On a connection that is open, and on one that would have to be made; both are forgotten."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call("1"))
    if is_new:
        ledger._store()._engine.dispose()

    with postgres.halted():
        waits(ledger, 0.2)
        with in_time(), pytest.raises(LedgerError, match="the server does not answer"):
            list(ledger.calls())

    waits(ledger, 30)
    with in_time():
        assert [call.call_id for call in ledger.calls()] == ["1"]


def postgres_lock(name: str) -> int:
    return postgres_store._lock_number(name)


def test_transactions_that_get_in_each_others_way_are_run_again(opened, postgres_url: str):
    """What the database breaks off for another's sake has done nothing yet, and is done once."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    store, tries = ledger._store(), list[int]()

    def work(cursor: Any) -> int:
        tries.append(1)
        cursor.execute("INSERT INTO claims (key, at) VALUES (%s, 1)", (f"{len(tries)}",))
        if len(tries) < 3:
            cursor.execute(f"DO $$ BEGIN RAISE SQLSTATE '{('40001', '40P01')[len(tries) - 1]}'; END $$")
        return len(tries)

    assert store.transaction(work, deadline=time.monotonic() + 30) == 3
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT key FROM claims").scalars().all() == ["3"]


def test_a_record_that_the_database_refuses_blocks_nothing(opened, postgres_url: str):
    """An index takes no names of thousands of letters: it is put aside alone, and all others come in."""
    from langchain_finops.errors import BadData
    from langchain_finops.testing.records import a_call as make

    ledger = opened(postgres_url)
    odd = "".join(chr(0x4E00 + number % 9000 * 7 % 20000) for number in range(9000))
    ledger.write(make("1"))
    ledger.write(make(odd))
    ledger.write(make("2"))

    assert ledger.spilled == 1
    with pytest.raises(BadData, match="index row"):
        recover(ledger)
    assert recover(ledger) == 0
    assert [call.call_id for call in ledger.calls()] == ["1", "2"]


def test_a_lost_server_is_named_when_it_is_opened(postgres: Server, postgres_url: str):
    """In one sentence, without a password."""
    url = postgres_url.replace("postgres@", "postgres:s3cret@")

    with stopped(postgres), pytest.raises(LedgerError) as raised:
        open_ledger(url)

    assert "cannot open the ledger postgresql://postgres@/postgres" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/db", "postgresql://127.0.0.1:1,127.0.0.1:2/db"])
def test_who_is_not_there_is_named(url: str):
    """By the URL that was given."""
    with pytest.raises(LedgerError, match=f"cannot open the ledger {url}: .*refused"):
        open_ledger(url)


def test_a_password_is_shown_nowhere(opened, postgres: Server, postgres_url: str, caplog: pytest.LogCaptureFixture):
    """Neither in the ledger's URL, nor in messages, nor in the name of the spill file; whoever signs in."""
    plain, other = opened(postgres_url), opened(postgres_url.replace("postgres@", "postgres:s3cret@"))

    with stopped(postgres), caplog.at_level(logging.DEBUG):
        other.write(a_call())

    told = [other.url, caplog.text, str(other.spill.path)]
    assert [text for text in told if "s3cret" in text] == []
    assert other.url == plain.url == postgres_url
    assert recover(opened(other.url)) == 1


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    """With the line that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)

    with pytest.raises(MissingExtra, match=r"pip install 'langchain-finops\[postgres\]'"):
        open_ledger("postgresql://host/db")


def test_threads_that_wait_for_a_lost_server_share_one_attempt(opened, postgres: Server, postgres_url: str):
    """However many write meanwhile; all of it is there in the end."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call("first"))
    waits(ledger, 0.3)

    with postgres.halted():
        threads = [threading.Thread(target=ledger.write, args=(a_call(f"{number}"),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        waiting = [thread for thread in threading.enumerate() if thread.name == "finops-connect"]

    assert len(waiting) <= 1
    assert recover(ledger) == ledger.spilled == 8
    assert len(list(ledger.calls(since=MONDAY))) == 9


def test_the_spill_file_needs_no_folder_before(
    opened, postgres: Server, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is in the user's data directory, which may not be there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "new"))
    ledger = opened(postgres_url)
    assert not (tmp_path / "new").exists()

    with stopped(postgres):
        ledger.write(a_call())

    assert ledger.spill.path.parent == tmp_path / "new" / "langchain-finops"
    assert recover(ledger) == 1


def test_a_child_that_is_forked_while_the_server_is_gone(opened, postgres: Server, postgres_url: str):
    """It spills like its parent, and writes once the server is back."""
    ledger = opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call("1"))
    postgres.stop()
    to_parent, from_child = os.pipe()
    from_parent, to_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            ledger.write(a_call("2"))
            os.write(from_child, b"x")
            os.read(from_parent, 1)
            waits(ledger, 30).write(a_call("3"))
            os._exit(ledger.spilled)
        finally:
            os._exit(9)
    os.read(to_parent, 1)
    postgres.start()
    os.write(to_child, b"x")

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    for end in (to_parent, from_child, from_parent, to_child):
        os.close(end)
    assert [call.call_id for call in ledger.calls()] == ["1", "3"]
    assert recover(ledger) == 1


def test_pruning_waits_for_who_is_stuck_and_holds_nobody_else_up(
    opened, postgres: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A machine that stands still in mid-write costs the others nothing, and the pruning says so in the end."""
    monkeypatch.setattr("langchain_finops.ledger.pruning.PATIENCE_S", 0.6)
    ledger, other = opened(postgres_url, hold_timeout=30.0), opened(postgres_url, hold_timeout=30.0)
    ledger.write(a_call())
    raised = list[Exception]()

    def prune() -> None:
        try:
            ledger.prune(MONDAY + DAY)
        except Busy as error:
            raised.append(error)

    with postgres.connected() as stuck:
        stuck.execute("SELECT pg_advisory_lock_shared(%s)", [postgres_store.ALL])
        thread = threading.Thread(target=prune)
        thread.start()
        while thread.is_alive():
            other.write(a_call("meanwhile"))
        thread.join()

    assert len(raised) == 1
    assert other.spilled == 0
    assert ledger.prune(MONDAY + DAY) == 2
