"""The PostgreSQL ledger: the same contract as the others, for many machines at once."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import Server

from langchain_finops.errors import LedgerError, LedgerTooNew
from langchain_finops.ledger import Ledger, migrations, open_ledger, recover
from langchain_finops.ledger.holds import Balance, Line, Settlement
from langchain_finops.testing import LedgerContract
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_full_call, a_run, an_event, an_outcome

PROCESSES = """
    import os, sys
    from datetime import UTC, datetime
    from langchain_finops.ledger import open_ledger
    from langchain_finops.ledger.holds import Line, Settlement
    from langchain_finops.ledger import postgres, sql  # Before the forks: they are slow to import.
    from langchain_finops.testing.records import a_call

    def spend(url, name, count):
        ledger = open_ledger(url, hold_timeout=30)
        os.write(1, f"{name} pid {os.getpid()}\\n".encode())
        for number in range(count):
            id_ = f"{name}-{number}"
            lines = [Line(balance="all", amount=3, limit=900), Line(balance=f"of {name}", amount=3)]
            if ledger.hold(id_, lines, at=datetime.now(UTC)).refused is None:
                record = a_call(id_, usd="0.01", run_id=name, model=f"m{number % 3}")
                ledger.settle(Settlement(record=record, hold_id=id_, amounts={"all": 3, f"of {name}": 3}))
                os.write(1, f"{name} {number}\\n".encode())
        assert not ledger.spilled
        ledger.close()

    url, count, together, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    for first in range(0, len(names), together):
        children = []
        for name in names[first:first + together]:
            if not (child := os.fork()):
                spend(url, name, count)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
"""


def start(url: str, *names: str, count: int, together: int) -> "subprocess.Popen[str]":
    """Processes that each hold and settle `count` calls, and print when one was settled; `together` at once."""
    arguments = [url, str(count), str(together), *names]
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROCESSES), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def count_of(postgres: Server, url: str, table: str) -> int:
    """How many rows there are."""
    with postgres.connected() as connection:
        row = connection.execute(f"SELECT count(*) FROM {schema_of(url)}.{table}").fetchone()
    assert row is not None
    return int(str(row[0]))


def schema_of(url: str) -> str:
    return url.rpartition("%3D")[2]


class TestPostgresLedger(LedgerContract):
    """The contract on the ledger in PostgreSQL."""

    @pytest.fixture
    def ledger(self, opened, postgres_url: str) -> Ledger:
        return opened(postgres_url, hold_timeout=30.0)


def test_what_was_written_is_there_after_reopening(opened, postgres_url: str):
    """Nothing lives in the object alone; both names of the URL's scheme are known."""
    opened(postgres_url).write(a_full_call())

    for scheme in ("postgres", "postgresql+psycopg"):
        assert list(opened(postgres_url.replace("postgresql", scheme, 1)).calls()) == [a_full_call()]


def test_eight_processes_share_a_balance_and_never_exceed_it(opened, postgres_url: str):
    """They open an empty database at once; nothing is lost, doubled or spent beyond the limit."""
    names = list("abcdefgh")

    said = Counter(
        line.split()[0] for line in start(postgres_url, *names, count=50, together=8).communicate()[0].splitlines()
    )

    ledger = opened(postgres_url)
    assert sum(said.values()) - len(names) == 300
    assert ledger.balances("all") == [Balance(balance="all", spent=900)]
    assert {b.balance: b.spent for b in ledger.balances() if b.balance != "all"} == {
        f"of {name}": 3 * (said[name] - 1) for name in names if said[name] > 1
    }
    (group,) = ledger.totals()
    assert (group.totals.calls, group.totals.cost_usd) == (300, Decimal("3.00"))


def test_kill_9_loses_nothing_that_returned(opened, postgres_url: str):
    """What the child said it settled is stored and counted; what it held is seen, and blocks nobody for ever."""
    names = [f"child{number}" for number in range(6)]
    said = dict.fromkeys(names, 0)
    with start(postgres_url, *names, count=10**6, together=1) as children:
        assert children.stdout is not None
        for line in children.stdout:
            name, *rest = line.split()
            if rest[0] == "pid":
                pid = int(rest[1])
                continue
            said[name] += 1
            if said[name] == 5 * (1 + names.index(name)):
                os.kill(pid, signal.SIGKILL)

    ledger = opened(postgres_url)
    stored = Counter(call.run_id for call in ledger.calls())
    (balance,) = ledger.balances("all")

    assert all(said.values())
    # A child may be killed between the settlement's return and its print.
    assert all(said[name] <= stored[name] <= said[name] + 1 for name in names)
    assert balance.spent == 3 * sum(stored.values())
    assert balance.held in {3 * number for number in range(len(names) + 1)}


def test_revisions_of_one_call_from_many_connections_count_once(opened, postgres_url: str):
    """Two that come at once both see no earlier version, if nothing keeps them apart."""
    ledgers = [opened(postgres_url, hold_timeout=30.0) for _ in range(8)]

    def write(revision: int) -> None:
        for number in range(20):
            ledgers[revision].write(a_call(f"{number}", usd=f"{revision + 1}", revision=revision, model=f"m{revision}"))

    run_in_threads([lambda revision=revision: write(revision) for revision in range(8)])

    (group,) = ledgers[0].totals()
    assert (group.totals.calls, group.totals.cost_usd) == (20, Decimal(160))
    assert len(list(ledgers[0].calls(history=True))) == 160


def test_what_is_written_in_any_order_waits_for_nobody_in_a_circle(
    opened, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    """Each writes calls with labels and parties of their own, the other way round; the database breaks none off."""
    monkeypatch.setattr("langchain_finops.ledger.postgres._TRY_AGAIN", ())
    ledgers = [opened(postgres_url, hold_timeout=30.0) for _ in range(4)]

    def write(who: int) -> None:
        for number in range(25):
            calls = [a_call(f"{number}-{end}", model=f"m{number}{end}", run_id=f"r{number}{end}") for end in range(9)]
            ledgers[who].write(*(reversed(calls) if who % 2 else calls))

    run_in_threads([lambda who=who: write(who) for who in range(4)])

    assert [ledger.spilled for ledger in ledgers] == [0, 0, 0, 0]
    assert ledgers[0].totals()[0].totals.calls == 225


def test_pruning_and_writing_at_once_lose_nothing(opened, postgres: Server, postgres_url: str):
    """A late revision is either folded in, or refused because its call was folded: never half of both."""
    ledger, other = opened(postgres_url, hold_timeout=30.0), opened(postgres_url, hold_timeout=30.0)
    ledger.write(*(a_call(f"{number}", run_id=f"{number}", usd="1") for number in range(60)))

    def revise() -> None:
        for number in range(60):
            other.write(a_call(f"{number}", run_id=f"{number}", usd="3", revision=1))

    run_in_threads([revise, lambda: [ledger.prune(MONDAY + DAY) for _ in range(5)]])
    ledger.prune(MONDAY + DAY)

    (group,) = ledger.totals()
    assert group.totals.calls == 60
    assert group.totals.cost_usd % 2 == 0
    assert 60 <= group.totals.cost_usd <= 180
    assert count_of(postgres, postgres_url, "pruned") == 60


def run_in_threads(work: list[Any]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_children_forked_while_threads_write_can_write(opened, postgres_url: str):
    """Each on connections of its own; the parent goes on with its own."""
    ledger = opened(postgres_url, hold_timeout=60.0)
    is_over = threading.Event()

    def write(name: int) -> None:
        number = 0
        while not is_over.is_set():
            ledger.write(a_call(f"{name}-{number}"))
            number += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    codes = [forked(ledger, f"child{number}") for number in range(5)]
    is_over.set()
    for thread in threads:
        thread.join()

    assert codes == [0] * 5
    assert sum(call.call_id.startswith("child") for call in ledger.calls()) == 5
    assert ledger.spilled == 0


def forked(ledger: Ledger, name: str) -> int:
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            ledger.write(a_call(name))
            assert any(call.call_id == name for call in ledger.calls())
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_every_method_works_under_a_loop(postgres_url: str):
    """Without blocking I/O on the event loop's thread, as LangGraph's development server wants it."""
    with blockbuster_ctx():
        ledger = open_ledger(postgres_url)
        ledger.write(a_call("1", user_id="u"), a_charge(), a_run(), an_outcome(), an_event())
        assert ledger.hold("2", [Line(balance="b", amount=2, limit=5)], at=datetime.now(UTC)).refused is None
        assert ledger.settle(Settlement(record=a_call("2"), hold_id="2", amounts={"b": 1})) == (
            Balance(balance="b", spent=1),
        )
        ledger.set_control("kill", "a", {"reason": "x"}, an_event("kill"))
        assert ledger.controls("kill") == {"a": {"reason": "x"}}
        assert (ledger.controls_version(), ledger.claim("c", at=MONDAY), ledger.claim("c", at=MONDAY)) == (
            1,
            True,
            False,
        )
        assert [call.call_id for call in ledger.calls()] == ["1", "2"]
        assert ledger.totals(["user"], user_id="u")[0].totals.calls == 1
        assert (ledger.forget("u"), ledger.prune(MONDAY + DAY), recover(ledger)) == (1, 3, 0)
        assert ledger.flush(30)
        ledger.close()
        ledger.close()


def test_a_newer_version_is_refused(opened, postgres: Server, postgres_url: str):
    """By name, with the remedy."""
    opened(postgres_url).close()
    with postgres.connected() as connection:
        connection.execute(f"UPDATE {schema_of(postgres_url)}.meta SET value = '77' WHERE name = 'schema_version'")

    with pytest.raises(LedgerTooNew, match=r"postgresql://postgres@/postgres\?host=.* has schema version 77, .* pip"):
        open_ledger(postgres_url)


def test_tables_of_version_2_become_what_new_ones_are(opened, postgres: Server, postgres_url: str):
    """They get a key and a place for digests; what they hold stays."""
    opened(postgres_url).write(a_call("1"))
    tables = "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
    tables += "WHERE table_schema = %s ORDER BY 1, 2"
    with postgres.connected() as connection:
        name = schema_of(postgres_url)
        new = connection.execute(tables, (name,)).fetchall()
        connection.execute(f"DROP TABLE {name}.prompts")
        connection.execute(f"DELETE FROM {name}.meta WHERE name = 'digest_key'")
        connection.execute(f"UPDATE {name}.meta SET value = '2' WHERE name = 'schema_version'")

    ledger = opened(postgres_url)

    ledger.write(a_call("2", prompt_digests=b"\1two"))
    assert [call.prompt_digests for call in opened(postgres_url).calls()] == [None, b"\1two"]
    assert (len(ledger.digest_key), opened(postgres_url).digest_key) == (32, ledger.digest_key)
    with postgres.connected() as connection:
        assert connection.execute(tables, (name,)).fetchall() == new


def test_a_migration_that_fails_changes_nothing(opened, postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    """All steps are one transaction: the older version can still open the database."""
    opened(postgres_url).write(a_call())

    def bad(connection: Any) -> None:
        connection.exec_driver_sql("DROP TABLE events")
        raise LedgerError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*migrations.STEPS, bad))
        with pytest.raises(LedgerError, match="on fire"):
            open_ledger(postgres_url)

    ledger = opened(postgres_url)
    assert (len(list(ledger.calls())), list(ledger.events())) == (1, [])


def test_a_database_of_something_else_is_refused(postgres: Server, postgres_url: str):
    """And left as it is."""
    with postgres.connected() as connection:
        connection.execute(f"CREATE TABLE {schema_of(postgres_url)}.calls (id int)")

    with pytest.raises(LedgerError, match="is a database of something else"):
        open_ledger(postgres_url)


def test_who_may_only_read_can_report(opened, postgres: Server, postgres_url: str):
    """A role for dashboards needs no right to write; what it writes all the same is spilled."""
    opened(postgres_url).write(a_call())
    schema = schema_of(postgres_url)
    with postgres.connected() as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    reader = opened(postgres_url.replace("postgres@", "reader@"))

    assert [call.call_id for call in reader.calls()] == ["c1"]
    assert (reader.totals()[0].totals.calls, reader.balances(), reader.controls_version()) == (1, [], 0)
    reader.write(a_call("2"))
    assert reader.spilled == 1
    assert recover(opened(postgres_url)) == 1


def test_forget_leaves_no_version_of_the_name(opened, postgres: Server, postgres_url: str):
    """An update leaves the old row in its place until the table is swept."""
    ledger = opened(postgres_url)
    ledger.write(*(a_call(f"{n}", user_id="ada.lovelace@example.com", run_id=f"{n}") for n in range(50)))

    assert ledger.forget("ada.lovelace@example.com") == 50

    with postgres.connected() as connection:
        row = connection.execute(
            "SELECT vacuum_count FROM pg_stat_all_tables WHERE schemaname = %s AND relname = 'parties'",
            [schema_of(postgres_url)],
        ).fetchone()
    assert row == (1,)


def test_long_reading_sees_one_state_and_holds_no_writer_up(opened, postgres_url: str):
    """Writers go on while somebody sums."""
    ledger, other = opened(postgres_url), opened(postgres_url)
    ledger.write(a_call())

    with ledger._store().reading() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM calls").scalar_one()
        other.write(a_call("2"))
        other.prune(MONDAY + DAY)
        after = connection.exec_driver_sql("SELECT count(*) FROM calls").scalar_one()

    assert (before, after, other.spilled) == (1, 1, 0)


def test_prune_goes_in_small_steps(opened, postgres: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    """Other writers get their turn between, and groups that a step cannot hold stay whole."""
    monkeypatch.setattr("langchain_finops.ledger.pruning.CHUNK", 4)
    ledger, other = opened(postgres_url), opened(postgres_url)
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
    assert count_of(postgres, postgres_url, "postings WHERE n = 0") == 7


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_ledger_that_nobody_holds_is_closed(postgres: Server, postgres_url: str):
    """Without a close, no connection is left open: garbage collection and exit do it."""
    with postgres.connected() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'langchain-finops'"
        before = connection.execute(query).fetchone()
        ledger = open_ledger(postgres_url)
        ledger.write(a_call())
        del ledger
        # The server notices a moment later.
        assert any(connection.execute(query).fetchone() == before for _ in range(20_000))


few = st.sampled_from
who = st.fixed_dictionaries(
    {"run_id": few(["r1", "r2"]), "started_at": few([MONDAY, MONDAY + DAY])},
    optional={"agent_id": few(["a", "b"]), "user_id": few(["u", "v"]), "task_id": few(["t1", "t2"])},
)
calls = st.builds(
    lambda name, usd, revision, of: a_call(name, usd=usd, revision=revision, **of),
    few(["1", "2", "3"]), few([None, "0.1", "9000000"]), st.integers(0, 2), who,
)  # fmt: skip
charges = st.builds(lambda name, usd: a_charge(name, cost_usd=Decimal(usd)), few(["1", "2"]), few(["-1", "2"]))
outcomes = st.builds(
    lambda task, success, revision: an_outcome(task, success=success, revision=revision),
    few(["t1", "t2"]), few([True, False, None]), st.integers(0, 2),
)  # fmt: skip
steps = st.lists(
    st.lists(calls | charges | outcomes, min_size=1, max_size=4)
    | st.tuples(st.just("prune"), few([MONDAY + DAY, MONDAY + 2 * DAY]))
    | st.tuples(st.just("forget"), few(["u", "v"])),
    max_size=8,
)
bys = st.lists(few(["agent", "user", "task", "run", "model", "status", "day"]), max_size=3, unique=True)


@settings(max_examples=25)
@given(steps=steps, questions=st.lists(bys, min_size=1, max_size=3), history=st.booleans())
def test_the_database_says_what_memory_says(postgres: Server, steps: list[Any], questions: list[Any], history: bool):
    """Every reader and every sum, after any sequence of writes, revisions, prunings and forgettings."""
    memory, ledger = open_ledger(":memory:"), open_ledger(postgres.new_url(), hold_timeout=30.0)
    try:
        for step in steps:
            if isinstance(step, list):
                memory.write(*step)
                ledger.write(*step)
            else:
                assert getattr(memory, step[0])(step[1]) == getattr(ledger, step[0])(step[1])
        for name in ("calls", "charges", "outcomes"):
            assert list(getattr(memory, name)(history=history)) == list(getattr(ledger, name)(history=history))
        for by in questions:
            assert memory.totals(by) == ledger.totals(by)
            assert memory.totals(by, since=MONDAY, user_id="u") == ledger.totals(by, since=MONDAY, user_id="u")
    finally:
        ledger.close()


def test_two_event_loops_share_the_ledgers_thread(opened, postgres_url: str):
    """Each waits for its own record alone."""
    ledger = opened(postgres_url, hold_timeout=30.0)

    async def write(name: str) -> None:
        for number in range(20):
            ledger.write(a_call(f"{name}{number}"))
            await asyncio.sleep(0)

    run_in_threads([lambda name=name: asyncio.run(write(name)) for name in "ab"])

    assert (ledger.spilled, ledger.totals()[0].totals.calls) == (0, 40)
