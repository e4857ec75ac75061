"""Holds where the ledger fails: nothing is held that nobody knows of, nothing is lost, and nothing is counted twice."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from ledger_faults import largest_file, locked, nobody, spill_of

from langchain_finops.errors import BadArguments, BadData, LedgerError
from langchain_finops.ledger import open_ledger, recover
from langchain_finops.ledger.booking import Book
from langchain_finops.ledger.holds import Balance, Settlement
from langchain_finops.ledger.memory_book import MemoryBook
from langchain_finops.ledger.spill import Spill
from langchain_finops.ledger.worker import Worker
from langchain_finops.ledger.writer import ROWS_AT_ONCE
from langchain_finops.sections import here
from langchain_finops.testing.holding import hold, now, settle, standing
from langchain_finops.testing.records import a_call, a_charge, a_run, an_event

# --- a ledger that cannot be written --------------------------------------------------------------------------------


def test_a_locked_ledger_holds_nothing_and_spills_what_is_settled(path: Path, opened):
    """The hold is an error in time; the settlement waits in the spill file, and recovering twice counts it once."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6))

    with locked(path):
        with pytest.raises(LedgerError, match="locked"):
            hold(ledger, "2", ("a", 6))
        assert settle(ledger, "1", a=2**70, b=0) == ()
        assert standing(ledger, "a") == (0, 6, 0)

    kept = spill_of(path).read_bytes()
    assert recover(ledger) == 1
    assert ledger.balances() == [Balance(balance="a", spent=2**70)]
    spill_of(path).write_bytes(kept)
    assert recover(ledger) == 0
    assert ledger.balances() == [Balance(balance="a", spent=2**70)]
    assert list(ledger.calls()) == [a_call("1")]


def test_a_settlement_that_waits_is_not_given_up(path: Path, opened):
    """The hold expires meanwhile, and is seen as unsettled until what was spent is recovered."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6), at=now() - timedelta(hours=2))

    with locked(path):
        settle(ledger, "1", a=9)
    assert standing(ledger, "a") == (0, 0, 6)

    recover(ledger)
    assert standing(ledger, "a") == (9, 0, 0)


def test_a_full_disk_holds_nothing_by_halves(path: Path, opened):
    """Each hold is there or was refused by an error; each settlement counts once in the end."""
    ledger = opened(path)
    held = 0

    with largest_file(path.with_name("ledger.db-wal").stat().st_size + 40_000):
        for number in range(60):
            try:
                hold(ledger, f"{number}", *((f"{key}{number}", 1) for key in "abc"))
                held += 1
            except LedgerError:
                pass
            settle(ledger, f"{number}", **{f"{key}{number}": 2 for key in "abc"})

    assert 0 < held < 60
    assert recover(ledger) == ledger.spilled > 0
    assert {(b.spent, b.held) for b in ledger.balances()} == {(2, 0)}
    assert len(ledger.balances()) == 180


def test_a_read_only_ledger_tells_balances_and_spills(folder: Path):
    """Whoever may write recovers it."""
    path = folder / "ledger.db"
    owner = open_ledger(path)
    hold(owner, "1", ("a", 6))
    for file in folder.iterdir():
        file.chmod(0o444)

    with nobody():
        ledger = open_ledger(path)
        assert standing(ledger, "a") == (0, 6, 0)
        with pytest.raises(LedgerError, match="readonly"):
            hold(ledger, "2", ("a", 6))
        assert settle(ledger, "1", a=5) == ()
        ledger.close()

    assert recover(owner) == 1
    assert standing(owner, "a") == (5, 0, 0)
    owner.close()


def test_a_ledger_that_is_gone_is_not_written_to_in_the_dark(path: Path, opened):
    """SQLite would go on with the deleted file, and all would be lost with the process."""
    ledger = opened(path)
    hold(ledger, "1", ("a", 6))
    for file in path.parent.iterdir():
        file.unlink()

    with pytest.raises(LedgerError, match=r"ledger\.db is gone: No such file"):
        hold(ledger, "2", ("a", 6))
    assert settle(ledger, "1", a=5) == ()
    with pytest.raises(LedgerError, match="is gone"):
        ledger.balances("a")
    with pytest.raises(LedgerError, match="is gone"):
        list(ledger.calls())
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger.db.spill.jsonl"]

    other = opened(path)
    assert recover(other) == 1
    assert standing(other, "a") == (5, 0, 0)
    assert hold(ledger, "3", ("a", 6, 10)) == 0


def test_a_ledger_that_was_put_in_place_of_another_is_used(path: Path, opened):
    """From a backup, perhaps: numbers of balances and labels are that file's own."""
    backup = path.with_name("backup.db")
    with_backup = opened(backup)
    with_backup.write(a_call("old", model="another"), a_call("older", agent_id="b"))
    settle(with_backup, "1", z=1, a=8)
    with_backup.close()
    ledger = opened(path)
    settle(ledger, "2", a=5)
    hold(ledger, "3", ("a", 5))

    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    shutil.copy(backup, path)

    settle(ledger, "3", a=1)
    assert standing(ledger, "a") == (9, 0, 0)
    assert {call.call_id for call in ledger.calls()} == {"1", "3", "old", "older"}
    assert [call.call_id for call in ledger.calls(agent_id="b")] == ["older"]


def test_the_log_of_a_new_file_is_not_taken_away(path: Path, opened):
    """The file that was deleted has the same name, and whoever closes a ledger last deletes its log."""
    ledger = opened(path)
    settle(ledger, "1", a=5)
    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    with open_ledger_in_another_process(path):
        log = path.with_name("ledger.db-wal")
        assert log.stat().st_size

        settle(ledger, "2", a=1)

        assert log.exists()
        assert standing(ledger, "a") == (8, 0, 0)


@contextmanager
def open_ledger_in_another_process(path: Path) -> Iterator[None]:
    """It makes the ledger anew, and keeps it open."""
    work = """
        import sys
        from langchain_finops.ledger import open_ledger
        from langchain_finops.testing.holding import settle

        ledger = open_ledger(sys.argv[1])
        settle(ledger, "other", a=7)
        print("ready", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(work), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def test_a_closed_ledger_neither_holds_nor_settles(path: Path, opened):
    """By name, rather than silently."""
    ledger = opened(path)
    ledger.close()

    for use in (lambda: hold(ledger, "1", ("a", 1)), lambda: settle(ledger, "1", a=1), lambda: ledger.release("1"),
                ledger.balances, ledger.controls_version, lambda: ledger.claim("a", at=now())):  # fmt: skip
        with pytest.raises(LedgerError, match="closed"):
            use()
    assert not spill_of(path).exists()


def test_a_hold_without_a_time_zone_is_refused(ledger):
    """When it expires would depend on the machine."""
    for other in (ledger, open_ledger(":memory:")):
        with pytest.raises(BadArguments, match="time zone"):
            hold(other, "1", ("a", 1), at=now().replace(tzinfo=None))
        with pytest.raises(BadArguments, match="time zone"):
            other.claim("a", at=now().replace(tzinfo=None))


def test_a_hold_after_a_failure_waits_no_second_time(path: Path, opened):
    """A run of many calls is not held up for `hold_timeout` at each; the first that gets through ends the haste."""
    ledger = opened(path, hold_timeout=3600.0)
    ledger._writer.failing = True

    with locked(path), pytest.raises(LedgerError):
        hold(ledger, "1", ("a", 1))
    hold(ledger, "2", ("a", 1))

    assert ledger._writer.failing is False


# --- giving back ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_given_back_now_is_given_back_next(path: Path, opened):
    """Or a hold that nothing was spent on would stand in the way for an hour."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6), ("b", 6))
    hold(ledger, "2", ("a", 1))

    with locked(path):
        ledger.release("1")
        assert standing(ledger, "a") == (0, 7, 0)

    assert standing(ledger, "a") == (0, 1, 0)
    assert ledger.balances() == [Balance(balance="a", held=1)]


def test_what_is_still_to_be_given_back_at_the_end_is_given_back(path: Path, opened):
    """A short-lived process has no next transaction."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6))
    with locked(path):
        ledger.release("1")

    ledger.close()

    assert opened(path).balances() == []


@pytest.mark.parametrize(("held", "took"), [(6, 2), (6, 0), (2, 6), (2**70, 2**65 + 1), (2**70 + 5, 2**70)])
def test_what_was_spilled_holds_no_more_than_it_took(held: int, took: int, path: Path, opened):
    """From the next transaction on, not only once somebody recovers it; what is held elsewhere stays as it is."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", held), ("others", 6))
    hold(ledger, "2", ("a", 9))
    with locked(path):
        assert settle(ledger, "1", a=took, unheld=5) == ()

    hold(ledger, "3", ("c", 1))
    assert standing(ledger, "a") == (0, min(held, took) + 9, 0)
    assert (standing(ledger, "others"), standing(ledger, "unheld")) == ((0, 6, 0), (0, 0, 0))
    assert settle(ledger, "1", others=4) == (Balance(balance="others", spent=4),)

    recover(ledger)
    assert standing(ledger, "others") == (4, 0, 0)


def test_what_was_spilled_and_held_is_recovered_once(path: Path, opened):
    """The hold that was lowered goes with it."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6))
    with locked(path):
        settle(ledger, "1", a=2)
    hold(ledger, "2", ("b", 1))

    assert [recover(ledger), recover(ledger)] == [1, 0]

    assert standing(ledger, "a") == (2, 0, 0)


def test_a_ledger_that_is_away_for_long_owes_no_more_than_one_transaction_can_do(path: Path, opened):
    """Or nothing could be held any more when it is back."""
    ledger = opened(path, hold_timeout=0.05)
    with locked(path):
        for number in range(ROWS_AT_ONCE + 5):
            settle(ledger, f"{number}", a=1)

    assert len(ledger._writer.owed) == ROWS_AT_ONCE
    hold(ledger, "b", ("b", 1))
    assert ledger._writer.owed == []


def test_a_child_gives_nothing_back_for_its_parent(path: Path, opened):
    """The parent still means to, and the child may hold under the same id by then."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6))
    with locked(path):
        ledger.release("1")

    ledger.after_fork()

    assert standing(ledger, "a") == (0, 6, 0)


# --- under an event loop --------------------------------------------------------------------------------------------


def hang(ledger: Any) -> threading.Event:
    """Keep the ledger's own thread busy until the event is set."""
    from langchain_finops.ledger.worker import _Job

    hanging = threading.Event()
    ledger._writer.own_thread()._jobs.put(_Job(action=hanging.wait))
    return hanging


async def test_all_of_it_works_without_blocking_the_loop(path: Path, opened):
    """As LangGraph's development server wants it."""
    ledger = await asyncio.to_thread(opened, path)
    with blockbuster_ctx():
        assert hold(ledger, "1", ("a", 6)) is None
        assert settle(ledger, "1", a=5) == (Balance(balance="a", spent=5),)
        hold(ledger, "2", ("a", 1))
        ledger.release("2")
        ledger.set_control("kill", "all", {}, an_event())
        assert (ledger.claim("c", at=now()), ledger.controls_version()) == (True, 1)
        assert ledger.controls("kill") == {"all": {}}
        assert ledger.balances() == [Balance(balance="a", spent=5)]


async def test_a_hold_that_nobody_waits_for_is_not_made(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """The thread was busy for longer than the hook waited; the call went on, or was refused, without its hold."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "kept", ("a", 1))
    hanging, holds = hang(ledger), list[str]()
    monkeypatch.setattr(ledger._writer, "hold", lambda hold_id, *_: holds.append(hold_id))

    with pytest.raises(LedgerError, match=r"took longer than 0\.05 s"):
        hold(ledger, "1", ("a", 6))
    with pytest.raises(LedgerError, match="took longer"):
        ledger.claim("c", at=now())
    with pytest.raises(LedgerError, match="took longer"):
        ledger.balances("a")
    hanging.set()
    assert ledger.flush(30)

    assert holds == []
    assert standing(ledger, "a") == (0, 1, 0)
    assert ledger.claim("c", at=now()) is True


def gave_up_meanwhile(monkeypatch: pytest.MonkeyPatch, ledger: Any, method: str) -> threading.Event:
    """Have the ledger's thread finish what it does for a hook only when the event is set."""
    gave_up = threading.Event()
    act = getattr(ledger._writer, method)

    def slow(*arguments: Any) -> Any:
        result = act(*arguments)
        gave_up.wait()
        return result

    monkeypatch.setattr(ledger._writer, method, slow)
    return gave_up


async def test_a_hold_that_was_made_too_late_is_undone(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """Nobody knows of it. What another handler held for the same call before stays."""
    ledger = opened(path, hold_timeout=0.1)
    hold(ledger, "1", ("a", 6))
    hold(ledger, "2", ("b", 1))
    gave_up = gave_up_meanwhile(monkeypatch, ledger, "hold")

    with pytest.raises(LedgerError, match="took longer"):
        hold(ledger, "1", ("a", 5), ("b", 6), ("c", 6))
    gave_up.set()
    assert ledger.flush(30)

    assert ledger.balances() == [Balance(balance="a", held=6), Balance(balance="b", held=1)]


async def test_a_hold_that_cannot_be_undone_yet_is_undone_next(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """The ledger was slow because something is wrong with it."""
    ledger = opened(path, hold_timeout=0.1)
    hold(ledger, "2", ("b", 1))
    gave_up = gave_up_meanwhile(monkeypatch, ledger, "hold")

    with pytest.raises(LedgerError, match="took longer"):
        hold(ledger, "1", ("a", 6), ("b", 6))
    with locked(path):
        gave_up.set()
        assert ledger.flush(30)

    assert ledger.balances() == [Balance(balance="b", held=1)]


@pytest.mark.parametrize("key", ["mine", "theirs"])
async def test_a_claim_that_was_made_too_late_is_free_again(path: Path, opened, monkeypatch, key: str):
    """Or the alert would never be delivered. One that was somebody else's stays theirs."""
    ledger = opened(path, hold_timeout=0.1)
    ledger.claim("theirs", at=now())
    gave_up = gave_up_meanwhile(monkeypatch, ledger, "claim")

    with pytest.raises(LedgerError, match="took longer"):
        ledger.claim(key, at=now())
    gave_up.set()
    assert ledger.flush(30)

    assert ledger.claim(key, at=now()) is (key == "mine")


async def test_who_is_interrupted_while_waiting_holds_nothing(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C comes in the middle of a hook, too."""
    ledger = opened(path)
    hanging = hang(ledger)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_wait_on", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            hold(ledger, "1", ("a", 6))
    hanging.set()
    assert ledger.flush(30)

    assert ledger.balances() == []


def _interrupted(*_: object) -> bool:
    raise KeyboardInterrupt


async def test_an_answer_at_the_last_moment_counts(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """The thread was through just when the hook gave up: the hold is made, and the hook is told so."""
    ledger, wait_on, waits = opened(path), Worker._wait_on, list[object]()

    def in_vain_at_first(worker: Worker, job: Any, timeout: float | None) -> bool:
        waits.append(timeout)
        if len(waits) > 1:
            return wait_on(worker, job, timeout)
        while not job.ticket.empty():
            os.sched_yield()
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_wait_on", in_vain_at_first)
        assert hold(ledger, "1", ("a", 6)) is None

    assert len(waits) == 2
    assert standing(ledger, "a") == (0, 6, 0)


async def test_a_settlement_that_was_spilled_and_written_late_counts_once(path: Path, opened):
    """The thread may yet write it: recovering must see that."""
    ledger = opened(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6))
    hanging = hang(ledger)

    assert settle(ledger, "1", a=9) == ()
    hanging.set()
    assert ledger.flush(30)

    assert standing(ledger, "a") == (9, 0, 0)
    assert recover(ledger) == 0
    assert standing(ledger, "a") == (9, 0, 0)


async def test_settlements_that_share_a_transaction_are_each_told_their_own(path: Path, opened):
    """Event loops of several threads hand theirs over at once."""
    ledger = opened(path, hold_timeout=30.0)
    hanging = hang(ledger)
    told: dict[str, tuple[Balance, ...]] = {}

    def settle_in_a_loop(call_id: str) -> None:
        async def work() -> None:
            told[call_id] = settle(ledger, call_id, **{"all": 1, call_id: 2})

        asyncio.run(work())

    threads = [threading.Thread(target=settle_in_a_loop, args=(call_id,)) for call_id in "abcd"]
    for thread in threads:
        thread.start()
    while ledger._writer.own_thread()._jobs.qsize() < 4:
        await asyncio.sleep(0)
    hanging.set()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])

    assert told == {key: (Balance(balance="all", spent=4), Balance(balance=key, spent=2)) for key in "abcd"}


# --- recovering -----------------------------------------------------------------------------------------------------

KILLED = """
    import os, signal, sqlite3, sys
    from langchain_finops.ledger import open_ledger, recover
    from langchain_finops.testing.holding import hold, settle

    path, when = sys.argv[1:]
    ledger = open_ledger(path, hold_timeout=0.05)
    hold(ledger, "1", ("a", 6))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    settle(ledger, "1", a=9)
    other.execute("ROLLBACK")
    if when == "after the append":
        append = ledger._append_patiently
        ledger._append_patiently = lambda entries: (append(entries), os.kill(os.getpid(), signal.SIGKILL))
    elif when == "after the move":
        ledger._append_patiently = lambda entries: os.kill(os.getpid(), signal.SIGKILL)
    elif when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    recover(ledger)
"""


@pytest.mark.parametrize("when", ["before", "after the move", "after the append"])
def test_a_recovery_that_is_killed_loses_and_doubles_nothing(path: Path, opened, when: str):
    """Whoever recovers next brings the settlement in, once."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL

    ledger = opened(path)
    assert not Spill(path).is_empty()
    assert standing(ledger, "a") == ((9, 0, 0) if when == "after the append" else (0, 6, 0))
    assert recover(ledger) == (0 if when == "after the append" else 1)
    assert standing(ledger, "a") == (9, 0, 0)
    assert Spill(path).is_empty()


def test_what_is_written_and_what_is_settled_share_a_spill_file(path: Path, opened):
    """In their order, whatever the record."""
    ledger = opened(path, hold_timeout=0.05)
    with locked(path):
        ledger.write(a_call("1"))
        ledger.settle(
            Settlement(record=a_charge("2"), amounts={"a": -1}),
            Settlement(record=a_call("3"), hold_id="3"),
            Settlement(record=a_run(), hold_id="steps", amounts={"steps": 7}),
            Settlement(record=a_call("4"), hold_id="ä\ud83d", amounts={"ä\ud83d": 1}),
        )

    assert recover(ledger) == 5
    assert [(b.balance, b.spent) for b in ledger.balances()] == [("a", -1), ("steps", 7), ("ä\\ud83d", 1)]
    assert list(ledger.runs()) == [a_run()]


@pytest.mark.parametrize(
    "rest",
    ["[]", "null", '["1",{"a":1.5}]', '["1",{"a":true}]', '["1",{"a":"9"}]', '["1",7]', '["1",{"a":1},2]',
     '["1",{"a":1000000000000000000000000000}]'],
)  # fmt: skip
def test_a_settlement_that_cannot_be_read_blocks_nothing(path: Path, opened, rest: str):
    """It is put aside, not settled by halves."""
    ledger = opened(path)
    Spill(path).append([Settlement(record=a_call("1"), hold_id="1", amounts={"a": 1})])
    line = spill_of(path).read_text().strip()
    whole = '["1",{"a":1}]]'
    assert line.endswith(whole)
    spill_of(path).write_text(f"{line.removesuffix(whole)}{rest}]\n")
    Spill(path).append([Settlement(record=a_call("2"), amounts={"a": 2})])

    with pytest.raises(BadData):
        recover(ledger)

    assert [call.call_id for call in ledger.calls()] == ["2"]
    assert standing(ledger, "a") == (2, 0, 0)


def test_what_settles_nothing_is_no_settlement(path: Path, opened):
    """Events and outcomes take nothing from balances, whatever a line says."""
    ledger = opened(path)
    Spill(path).append([an_event()])
    line = spill_of(path).read_text().strip()
    spill_of(path).write_text(f'{line[:-1]},["1",{{"a":1}}]]\n')

    with pytest.raises(BadData, match="event settles nothing"):
        recover(ledger)
    assert ledger.balances() == []


# --- in our own bookkeeping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "book"), [(":memory:", MemoryBook), (None, Book)])
def test_what_comes_in_the_midst_of_it_waits(path: Path, opened, monkeypatch: pytest.MonkeyPatch, where, book):
    """A dropped stream that is collected meanwhile would settle its call within this one's transaction."""
    ledger = opened(where or path)
    depths: list[int] = []

    def seen(name: str) -> None:
        do = getattr(book, name)

        def look(*arguments: Any, **options: Any) -> Any:
            depths.append(here.thread.depth)
            return do(*arguments, **options)

        monkeypatch.setattr(book, name, look)

    for name in ("hold", "settle", "release", "balances"):
        seen(name)
    hold(ledger, "1", ("a", 1))
    settle(ledger, "1", a=1)
    ledger.release("1")
    ledger.balances("a")

    assert len(depths) >= 4
    assert set(depths) == {1}
