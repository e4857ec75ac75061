"""The SQLite ledger: on disk when a write returns, for many processes, threads and forks at once."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_finops.budgets.keys import balance_keys, parse_key
from langchain_finops.budgets.policy import Budget
from langchain_finops.errors import LedgerError, LedgerTooNew
from langchain_finops.ledger import migrations, open_ledger
from langchain_finops.ledger.holds import Settlement
from langchain_finops.ledger.in_time import in_time
from langchain_finops.records import Attribution
from langchain_finops.testing.holding import hold, standing
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_full_call, a_run, an_event, an_outcome

FORKS = """
    import os, sys
    from langchain_finops.ledger import open_ledger
    from langchain_finops.ledger.sql import SqlLedger  # Before the forks: it is slow to import.
    from langchain_finops.testing.records import a_call

    def write(path, name, count):
        ledger = open_ledger(path, hold_timeout=30)
        os.write(1, f"{name} pid {os.getpid()}\\n".encode())
        for number in range(count):
            ledger.write(a_call(f"{name}-{number}", usd="0.01", run_id=name, model=f"m{number % 3}"))
            os.write(1, f"{name} {number}\\n".encode())
        assert not ledger.spilled
        ledger.close()

    path, count, together, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    for first in range(0, len(names), together):
        children = []
        for name in names[first:first + together]:
            if not (child := os.fork()):
                write(path, name, count)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
"""


def start(path: Path, names: Sequence[str], *, count: int, together: int) -> "subprocess.Popen[str]":
    """Processes that each write `count` calls and print when one returned; `together` at once."""
    arguments = [str(path), str(count), str(together), *names]
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(FORKS), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_was_written_is_there_after_reopening(path: Path, opened):
    """Nothing lives in the object alone."""
    opened(path).write(a_full_call())

    assert list(opened(f"sqlite:///{path}").calls()) == [a_full_call()]


def test_eight_processes_write_at_once(path: Path, opened):
    """Nothing is lost, doubled or refused, and the file is made once."""
    writers = start(path, list("abcdefgh"), count=60, together=8)

    said = Counter(line.split()[0] for line in writers.communicate()[0].splitlines())

    assert said == dict.fromkeys("abcdefgh", 61)
    (group,) = opened(path).totals()
    assert (group.totals.calls, group.totals.cost_usd, group.runs) == (480, Decimal("4.80"), 8)


def test_kill_9_loses_nothing_that_returned(path: Path, opened):
    """Twenty times: what the child said it wrote is stored, all of it, and the file is sound."""
    names = [f"child{number}" for number in range(20)]
    said = dict.fromkeys(names, 0)
    with start(path, names, count=10**6, together=1) as children:
        assert children.stdout is not None
        for line in children.stdout:
            name, *rest = line.split()
            if rest[0] == "pid":
                pid = int(rest[1])
                continue
            said[name] += 1
            if said[name] == 1 + names.index(name):
                os.kill(pid, signal.SIGKILL)

    stored = Counter(call.run_id for call in opened(path).calls())

    assert all(said.values())
    # A child may be killed between the write's return and its print.
    assert all(said[name] <= stored[name] <= said[name] + 1 for name in names)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_forked_child_writes_to_its_own_connection(path: Path, opened):
    """Both go on, even when a thread held the lock while the process forked."""
    ledger, memory = opened(path), open_ledger(":memory:")
    ledger.write(a_call("parent"))
    ledger._writer.lock.acquire()
    memory._lock.acquire()
    child = os.fork()
    if child == 0:  # pragma: no branch
        code = 1
        try:
            memory.write(a_call("child"))
            ledger.write(a_call("child"))
            code = 0 if {call.call_id for call in ledger.calls()} == {"parent", "child"} else 2
        finally:
            os._exit(code)
    ledger._writer.lock.release()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ledger.write(a_call("later"))
    assert {call.call_id for call in ledger.calls()} == {"parent", "child", "later"}


def test_threads_on_two_objects_of_one_file(path: Path, opened):
    """Opening the same file twice in a process is fine."""
    ledgers = [opened(path), opened(path)]
    threads = [
        threading.Thread(
            target=lambda ledger, name: [ledger.write(a_call(f"{name}{n}")) for n in range(50)], args=(one, name)
        )
        for name, one in enumerate(ledgers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [ledger.totals()[0].totals.calls for ledger in ledgers] == [100, 100]


def test_no_text_of_a_prompt_has_a_place(path: Path, opened):
    """The file holds counts, names and hashes: no column or field is there for text that people wrote."""
    ledger = opened(path)
    ledger.write(a_full_call(), a_charge(), a_run(), an_outcome())
    ledger.close()

    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {row[1] for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
        fields = {
            key for (body,) in connection.execute("SELECT body FROM calls") for key in re.findall(r'"(\w+)":', body)
        }
    connection.close()
    assert not {"prompt", "prompts", "messages", "content", "text", "answer", "message"} & (columns | fields)


def test_forget_leaves_no_bytes_of_the_name(path: Path, opened):
    """Neither in the file, nor in the log beside it, nor in what was spilled; in no form that a key may have it in."""
    ada = "ada.lovelace@example.com"
    key = f"usd/day user_id={ada} @2026-03-02T00:00:00Z"
    ledger = opened(path)
    ledger.write(*(a_call(f"{n}", user_id=ada, run_id=f"{n}") for n in range(50)))
    for number in range(50):
        hold(ledger, f"{number}", (f"{key} match:node={number}", 1))
    ledger.settle(Settlement(record=a_call("1", user_id=ada), hold_id="1", amounts={key: 1}))
    ledger.claim(f"alert {key}", at=MONDAY)
    body = {"scope": "user_id", "value": ada}
    ledger.set_control("kill", f"user_id={ada}", body, an_event(subject=f"user_id={ada}", reason=ada, after=body))

    ledger.forget(ada)

    left = [file for file in path.parent.iterdir() if b"lovelace" in file.read_bytes()]
    assert left == []


@pytest.mark.parametrize("user_id", ["ada l", "a=b", "ä", "a%20b", "caf\udce9", "x*y", "x" * 300, "é" * 300, "a.b"])
@pytest.mark.parametrize("who", [{"scope": "user_id"}, {"match": {"user_id": "{}"}}])
def test_forget_knows_the_person_in_keys_of_budgets(ledger, user_id: str, who: dict[str, Any]):
    """As they quote and shorten ids."""
    match = {name: value.format(user_id) for name, value in who.get("match", {}).items()}
    (limit,) = Budget(usd=1, per="day", **{**who, **({"match": match} if match else {"scope": "user_id"})}).limits()
    (key,) = balance_keys(limit, Attribution(user_id=user_id), MONDAY, run_id="r")
    hold(ledger, "1", (key, 1))
    ledger.settle(Settlement(record=a_call(), amounts={key: 5}))

    ledger.forget("other")
    assert [balance.balance for balance in ledger.balances()] == [key]
    ledger.forget(user_id)

    (balance,) = ledger.balances()
    assert (balance.spent, balance.held) == (5, 0)
    known = parse_key(balance.balance)
    assert (known.value or dict(known.match)["user_id"]).startswith("forgotten-")


@pytest.mark.parametrize("user_id", ["ä", 'it\'s "1"', "a\\b", "50%", "a_b", "!", "x" * 300, "caf\udce9"])
def test_forget_reaches_events_with_any_id(ledger, user_id: str):
    """However JSON writes it, and though the database looks for it by a pattern."""
    other = f"{user_id}2"
    ledger.set_control("kill", f"user_id={user_id}", {"value": 1}, an_event("1", subject=f"user_id={user_id}"))
    ledger.write(an_event("2", after={"user_id": user_id, "by": [f"user_id={other}"]}), an_event("3", reason=user_id))

    ledger.forget(user_id)

    assert ledger.controls("kill") == {}
    one, two, three = ledger.events()
    assert one.subject == "user_id=forgotten"
    assert two.after["user_id"] == "forgotten"
    assert two.after["by"] == [f"user_id={other}"]
    assert three.reason == "forgotten"


def test_forget_says_so_where_bytes_of_the_name_remain(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """A reader of the older state keeps them in the log: not a success, and the next try finishes it."""
    monkeypatch.setattr("langchain_finops.ledger.upkeep.PATIENCE_S", 0.05)
    ledger = opened(path)
    ledger.write(a_call(user_id="ada.lovelace@example.com"))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchall()

    with pytest.raises(LedgerError, match=r"1 records no longer name .*ledger\.db-wal is in use .* try again"):
        ledger.forget("ada.lovelace@example.com")

    assert [call.attribution.user_id for call in ledger.calls()] == [None]
    reader.execute("ROLLBACK")
    reader.close()
    assert ledger.forget("ada.lovelace@example.com") == 0
    assert [file for file in path.parent.iterdir() if b"lovelace" in file.read_bytes()] == []


def test_every_connection_overwrites_what_it_deletes(path: Path, opened):
    """SQLite builds differ in what they do by themselves."""
    store = opened(path)._store()

    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 2
    assert store._writer.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 2


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_query_without_end_ends_at_its_deadline(path: Path, opened):
    """What a run waits for is broken off; the next reader is not."""
    store = opened(path)._store()

    with pytest.raises(LedgerError, match="interrupted"), store.reading(time.monotonic() + 0.01) as connection:
        connection.exec_driver_sql(ENDLESS)
    with store.reading() as connection:
        assert connection.exec_driver_sql(ENDLESS.replace("FROM n)", "FROM n WHERE i < 200000)")).scalar_one() == 200000


def test_all_that_a_run_waits_for_together_takes_hold_timeout(ledger, monkeypatch: pytest.MonkeyPatch):
    """The third read begins when the second that both took is over: it is not begun. Reports know no such end."""
    ledger.write(a_call("1"))
    clock = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with in_time():
        for _ in range(2):
            assert [call.call_id for call in ledger.calls()] == ["1"]
            clock[0] += 0.5
        with pytest.raises(LedgerError, match=r"took longer than 1\.0 s"):
            list(ledger.calls())
    with in_time():
        assert [call.call_id for call in ledger.calls()] == ["1"]
    clock[0] += 1_000
    assert [call.call_id for call in ledger.calls()] == ["1"]


def test_a_file_of_a_newer_version_is_refused(path: Path, opened):
    """By name, with the remedy, and without touching it."""
    opened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '7' WHERE name = 'schema_version'")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(LedgerTooNew, match=r"ledger\.db has schema version 7, .* knows 3: pip install -U"):
        open_ledger(path)

    assert path.read_bytes() == before


def test_an_older_file_is_migrated_step_by_step(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """Each step runs once, in order; a file that is new already runs none."""
    opened(path).close()
    ran: list[str] = []

    def step(name: str) -> migrations.Step:
        def run(connection: object) -> None:
            ran.append(name)
            connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN {name} TEXT")

        return run

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, step("three"), step("four")))
    opened(path).write(a_call())
    opened(path)

    assert ran == ["three", "four"]
    assert len(list(opened(path).calls())) == 1


def test_a_file_of_version_1_becomes_what_a_new_one_is(path: Path, opened):
    """Its records stay as they are, and it holds; table by table it is like one that is made now."""
    with sqlite3.connect(path) as connection:
        connection.executescript(Path(__file__).with_name("version-1.sql").read_text())
    connection.close()

    ledger = opened(path)

    assert list(ledger.calls(history=True)) == [a_call("1", user_id="u"), a_call("1", usd="0.30", revision=1)]
    assert [*ledger.charges(), *ledger.runs(), *ledger.outcomes(), *ledger.events()] == [
        a_charge(), a_run(), an_outcome(), an_event(),
    ]  # fmt: skip
    assert hold(ledger, "1", ("a", 6)) is None
    assert standing(ledger, "a") == (0, 6, 0)
    ledger.set_control("kill", "all", {}, an_event("e2"))
    assert ledger.controls_version() == 1
    new = path.with_name("new.db")
    opened(new)
    assert tables_of(path) == tables_of(new)


def test_a_file_of_version_2_becomes_what_a_new_one_is(path: Path, opened):
    """Its calls stay as they are, without digests, its holds too; from now on it has a key, and keeps digests."""
    with sqlite3.connect(path) as connection:
        connection.executescript(Path(__file__).with_name("version-2.sql").read_text())
    connection.close()

    ledger = opened(path)

    assert list(ledger.calls(history=True)) == [
        a_call("1", user_id="u"), a_call("1", usd="0.30", revision=1), a_call("2", agent_id="a", node_path="n"),
    ]  # fmt: skip
    assert [balance.balance for balance in ledger.balances()] == ["a"]
    ledger.write(a_call("3", prompt_digests=b"\1two"))
    assert [call.prompt_digests for call in opened(path).calls()] == [None, None, b"\1two"]
    assert (len(ledger.digest_key), opened(path).digest_key) == (32, ledger.digest_key)
    new = path.with_name("new.db")
    opened(new)
    assert tables_of(path) == tables_of(new)


def test_a_ledger_without_its_key_is_damaged(path: Path, opened):
    """A new key would make equal prompts look different for ever after: it is not made in passing."""
    opened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'digest_key'")
    connection.close()

    with pytest.raises(LedgerError, match=r"ledger\.db has no key for digests: it is damaged"):
        open_ledger(path)


def test_a_file_that_took_the_place_of_another_has_its_own_key(path: Path, opened):
    """What is written to it from then on is comparable with what others write to it."""
    ledger = opened(path)
    for old in path.parent.glob("ledger.db*"):
        old.unlink()
    other = opened(path)
    assert ledger.digest_key != other.digest_key

    ledger.write(a_call())

    assert ledger.digest_key == other.digest_key


def tables_of(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: re.sub(r"[\s\"]", "", sql) for name, sql in found}


def test_a_migration_that_fails_changes_nothing(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """All steps are one transaction: the older version can still open the file."""
    opened(path).write(a_call())

    def good(connection: object) -> None:
        connection.exec_driver_sql("DROP TABLE events")

    def bad(connection: object) -> None:
        raise LedgerError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*migrations.STEPS, good, bad))
        with pytest.raises(LedgerError, match="on fire"):
            open_ledger(path)

    ledger = opened(path)
    assert (len(list(ledger.calls())), list(ledger.events())) == (1, [])


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be taken for one" * 20, None])
def test_a_file_of_something_else_is_refused(path: Path, content: bytes | None):
    """Neither read as a ledger nor changed, not even to another journal mode."""
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()

    with pytest.raises(LedgerError, match=r"ledger\.db") as raised:
        open_ledger(path)

    assert path.read_bytes() == before
    assert "\n" not in str(raised.value)


def test_who_opens_a_ledger_to_read_needs_no_lock(path: Path, opened):
    """Another process may be in the midst of a long write."""
    opened(path).write(a_call())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    assert [call.call_id for call in opened(path).calls()] == ["c1"]
    other.close()


def test_a_ledger_that_stays_locked_is_named(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """With what to do about it."""
    monkeypatch.setattr("langchain_finops.ledger.store.OPEN_TIMEOUT_S", 0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(LedgerError, match=r"ledger\.db is locked by another process: try again when it is done"):
        open_ledger(path)
    other.close()


def test_a_damaged_file_is_told_in_one_line(path: Path, opened):
    """What SQLite says, not the statement that met it."""
    ledger = opened(path)
    ledger.write(*(a_call(f"{number}", run_id=f"{number}") for number in range(300)))
    ledger.close()
    content = path.read_bytes()
    path.write_bytes(content[: 4096 * 8] + b"\xaa" * (len(content) - 4096 * 8))

    with pytest.raises(LedgerError, match=r"ledger\.db: database disk image is malformed$"):
        opened(path).totals()


def test_a_closed_ledger_says_so(path: Path, opened):
    """A write after close is an error, not a record that is silently gone."""
    ledger = opened(path)
    ledger.close()

    with pytest.raises(LedgerError, match="closed"):
        ledger.write(a_call())
    with pytest.raises(LedgerError, match="closed"):
        ledger.totals()


def test_a_ledger_that_nobody_holds_is_closed(path: Path):
    """Without a close, nothing is left open: garbage collection and exit do it."""
    open_ledger(path).write(a_call())

    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]


def test_long_reading_sees_one_state_and_holds_no_writer_up(path: Path, opened):
    """Writers go on between the pages of a reader."""
    ledger = opened(path)
    ledger.write(*(a_call(f"{n:04}", started_at=MONDAY + n * DAY / 5000) for n in range(1500)))

    reader = ledger.calls()
    first = next(reader)
    ledger.write(a_call("later", started_at=MONDAY + DAY))

    assert first.call_id == "0000"
    assert sum(1 for _ in reader) == 1500


def test_a_repriced_ledger_is_summed_by_as_many_statements_as_one_that_is_not(path: Path, opened):
    """Not by one more for each call that was revised."""
    ledger = opened(path)

    def statements() -> int:
        run = list[str]()
        connect = ledger._store()._engine.connect

        class Watched:
            def __enter__(self):
                self.connection = connect()
                self.connection.connection.dbapi_connection.set_trace_callback(run.append)
                return self.connection.__enter__()

            def __exit__(self, *error):
                self.connection.__exit__(*error)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledger._store()._engine, "connect", Watched)
            (group,) = ledger.totals(since=MONDAY - DAY)
        assert (group.tasks, group.totals.calls) == (30, 30)
        return len(run)

    ledger.write(*(a_call(f"{n}", run_id=f"{n}", task_id=f"{n}") for n in range(30)))
    before = statements()
    ledger.write(*(a_call(f"{n}", run_id=f"{n}", task_id=f"{n}", revision=1) for n in range(30)))

    assert statements() == before


def test_prune_goes_in_small_steps(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """However many calls share a label, writers get their turn between; groups that a step cannot hold stay whole."""
    monkeypatch.setattr("langchain_finops.ledger.pruning.CHUNK", 4)
    ledger, other = opened(path), opened(path)
    runs = "aaabbbbbbbcdeffffg"
    ledger.write(*(a_call(f"{n}", run_id=run, task_id=run) for n, run in enumerate(runs)))
    ledger.write(*(a_call(f"{n}", run_id=run, task_id=run, revision=1, usd="1") for n, run in enumerate(runs)))
    before = ledger.totals(["run"])
    pauses = list[float]()

    def meanwhile(seconds: float) -> None:
        other.write(a_call(f"late{len(pauses)}", started_at=MONDAY + 9 * DAY))
        pauses.append(seconds)

    monkeypatch.setattr("langchain_finops.ledger.pruning.time.sleep", meanwhile)

    assert ledger.prune(MONDAY + DAY) == len(runs)
    assert len(pauses) >= 6
    assert ledger.totals(["run"], until=MONDAY + DAY) == before
    assert len(list(ledger.calls())) == len(pauses)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM postings WHERE n = 0").fetchone() == (7,)
    connection.close()


def test_readers_find_the_ledger_open_while_it_is_pruned(tmp_path: Path, opened):
    """A reader that opens a connection just as the write-ahead log is emptied waits for it, and is not refused."""
    refused = list[str]()

    def read(ledger: Any, done: threading.Event) -> None:
        try:
            while not done.is_set():
                assert len(ledger.totals(["run"])) == 1
        except LedgerError as error:
            refused.append(str(error))

    for number in range(12):
        ledger, done = opened(tmp_path / f"{number}.db"), threading.Event()
        ledger.write(a_call("old"), a_call("new", started_at=MONDAY + DAY))
        readers = [threading.Thread(target=read, args=(ledger, done)) for _ in range(4)]
        for reader in readers:
            reader.start()
        try:
            assert [ledger.prune(MONDAY + DAY) for _ in range(3)] == [1, 0, 0]
        finally:
            done.set()
            for reader in readers:
                reader.join()
    assert refused == []
