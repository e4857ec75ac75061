"""The ledger locked, full, read-only, gone, halted: the run goes on or is refused, soon enough, and nothing is lost."""

import logging
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from guarded_scenes import asking, cents, ending, line, looping, statuses
from postgres_server import Server

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger, PriceBook, open_ledger
from langchain_finops.ledger import recover
from langchain_finops.ledger.memory import MemoryLedger

TEN = {"usd": "0.105", "scope": "agent_id"}
OPEN, CLOSED = Budget(**TEN), Budget(**TEN, fail_closed=True)  # type: ignore[arg-type]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the file's write lock."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def full(path: Path) -> Iterator[None]:
    """No file can grow any more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    largest = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """Its table is not there any more."""
    with sqlite3.connect(path) as other:
        names = [
            row[0]
            for row in other.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%hold%'")
        ]
        for name in names:
            other.execute(f"ALTER TABLE {name} RENAME TO {name}_gone")
    other.close()
    try:
        yield
    finally:
        with sqlite3.connect(path) as other:
            for name in names:
                other.execute(f"ALTER TABLE {name}_gone RENAME TO {name}")
        other.close()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Every write is refused: what a file system that was remounted, or a backup tool, does."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TRIGGER t1 BEFORE INSERT ON calls BEGIN SELECT RAISE(ABORT, 'read-only'); END")
        for table in [
            row[0]
            for row in other.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%hold%'")
        ]:
            other.execute(
                f"CREATE TRIGGER t_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'read-only'); END"
            )
    other.close()
    try:
        yield
    finally:
        with sqlite3.connect(path) as other:
            for name in [row[0] for row in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
                if name.startswith("t"):
                    other.execute(f"DROP TRIGGER {name}")
        other.close()


FAULTS = {"locked": locked, "full": full, "gone": gone, "read-only": read_only}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "ledger"
    folder.mkdir()
    return folder / "ledger.db"


def handler_on(ledger: Ledger, prices: PriceBook, *budgets: Budget) -> FinOpsHandler:
    return FinOpsHandler(agent_id="support", budgets=budgets, ledger=ledger, prices=prices)


@pytest.mark.parametrize("fault", FAULTS)
def test_without_fail_closed_the_run_goes_on_and_its_limit_holds(
    fault: str, path: Path, prices: PriceBook, play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Two calls, then the fault: the loop goes on against what was seen last, stops at ten, and is recovered once."""
    model, ledger = cents(), open_ledger(path, hold_timeout=0.3)
    handler = handler_on(ledger, prices, OPEN)
    play(line({"a": asking(model), "b": asking(model)}), {"said": []}, handler)

    with FAULTS[fault](path), caplog.at_level(logging.WARNING, "langchain_finops"):
        began = time.monotonic()
        refusal = ending(play, looping(asking(model), rounds=30), {"said": []}, handler)
        took = time.monotonic() - began

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 10
    assert took < 20  # Not a figure to reach: eight times the wait for the lock, and a slow machine.
    ledger.close()
    again = open_ledger(path)
    recover(again)
    assert recover(again) == 0
    assert len(list(again.calls())) == 10
    assert [each.spent for each in again.balances()] == [10 * 10**10]
    again.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_with_fail_closed_calls_are_refused(fault: str, path: Path, prices: PriceBook, play: Any) -> None:
    """Two calls, then the fault: none is sent; when it is over they pass again, in a new run."""
    model, ledger = cents(), open_ledger(path, hold_timeout=2)  # A healthy ledger is not late, however slow the disk.
    handler = handler_on(ledger, prices, CLOSED)
    graph = line({"a": asking(model), "b": asking(model)})
    play(graph, {"said": []}, handler)

    with FAULTS[fault](path):
        began = time.monotonic()
        refusal = ending(play, graph, {"said": []}, handler)
        assert time.monotonic() - began < 60
    assert isinstance(refusal, BudgetExceeded)
    assert refusal.kind == "ledger"
    assert model.calls == 2
    ledger.close()

    again = open_ledger(path)
    recover(again)
    assert ending(play, graph, {"said": []}, handler_on(again, prices, CLOSED)) is None
    assert model.calls == 4
    assert [(each.spent, each.held) for each in again.balances()] == [(4 * 10**10, 0)]
    again.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_postgres_that_is_halted_in_mid_run(is_closed: bool, postgres: Server, prices: PriceBook, play: Any) -> None:
    """Nobody answers, connections stay open: bounded time either way, and what was spilled comes back once."""
    url = postgres.new_url()
    # Long enough for a healthy server on a slow machine: its first answer must not be taken for a fault.
    model, ledger = cents(), open_ledger(url, hold_timeout=3)
    handler = handler_on(ledger, prices, CLOSED if is_closed else OPEN)
    play(line({"a": asking(model), "b": asking(model)}), {"said": []}, handler)

    with postgres.halted():
        began = time.monotonic()
        refusal = ending(play, looping(asking(model), rounds=30), {"said": []}, handler)
        took = time.monotonic() - began
    assert took < 120
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == (2 if is_closed else 10)
    ledger.close()
    again = open_ledger(url, hold_timeout=20)
    recover(again)
    assert recover(again) == 0
    assert len(list(again.calls())) == model.calls
    assert [each.spent for each in again.balances()] == [model.calls * 10**10]
    again.close()


def test_a_postgres_that_is_stopped_in_mid_run(postgres: Server, prices: PriceBook, play: Any) -> None:
    """The server is shut down after two calls and is back later: ten calls in all, counted once."""
    url = postgres.new_url()
    model, ledger = cents(), open_ledger(url, hold_timeout=0.2)
    handler = handler_on(ledger, prices, OPEN)
    play(line({"a": asking(model), "b": asking(model)}), {"said": []}, handler)
    postgres.stop()
    try:
        refusal = ending(play, looping(asking(model), rounds=30), {"said": []}, handler)
    finally:
        postgres.start()
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 10
    ledger.close()
    again = open_ledger(url, hold_timeout=20)
    recover(again)
    assert [each.spent for each in again.balances()] == [10 * 10**10]
    again.close()


def test_a_folder_that_is_deleted_kills_no_run(path: Path, prices: PriceBook, play: Any) -> None:
    """Somebody removes the ledger's folder in mid-run: calls go on, the limit holds."""
    model, ledger = cents(), open_ledger(path, hold_timeout=0.3)
    handler = handler_on(ledger, prices, OPEN)
    play(line({"a": asking(model), "b": asking(model)}), {"said": []}, handler)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()

    refusal = ending(play, looping(asking(model), rounds=30), {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 10
    ledger.close()


def test_a_clock_that_steps_back_holds_the_limit(
    guarded: Any, play: Any, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    """An hour back in mid-run, as when a laptop's clock is set: three calls in all, nothing negative, nothing open."""
    model, handler = cents(), guarded(Budget(usd="0.035", scope="agent_id"))
    play(line({"a": asking(model), "b": asking(model)}), {"said": []}, handler)

    class Back(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) - timedelta(hours=1)

    ours = [module for name, module in sys.modules.items() if name.startswith("langchain_finops")]
    for module in ours:
        if getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", Back)
    refusal = ending(play, looping(asking(model)), {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3
    assert all(call.ended_at >= call.started_at for call in ledger.calls() if call.ended_at)


def test_a_limit_that_is_lowered_below_what_is_spent(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Two cents are spent when the limit becomes one: refused at once, saying both; raised again it goes on."""
    model = cents()
    graph = line({"a": asking(model), "b": asking(model)})
    play(graph, {"said": []}, guarded(Budget(usd=1, scope="agent_id")))

    refusal = ending(play, graph, {"said": []}, guarded(Budget(usd="0.01", scope="agent_id")))
    assert isinstance(refusal, BudgetExceeded)
    assert (str(refusal.spent), str(refusal.limit)) == ("0.02", "0.01")
    assert model.calls == 2
    assert ending(play, graph, {"said": []}, guarded(Budget(usd="0.045", scope="agent_id"))) is None
    assert model.calls == 4


class Broken(MemoryLedger):
    """Fails as no ledger should."""

    def hold(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault in a ledger")


@pytest.mark.parametrize(("budget", "calls"), [(CLOSED, 0), (OPEN, 10)])
def test_a_fault_of_ours_is_no_open_door(budget: Budget, calls: int, prices: PriceBook, play: Any) -> None:
    """What nobody foresaw inside a hold is counted as a fault; the limit holds, and fail_closed refuses."""
    model, handler = cents(), handler_on(Broken(), prices, budget)

    refusal = ending(play, looping(asking(model), rounds=30), {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == calls
    assert handler.faults > 0


def test_the_run_says_it_was_the_ledger(path: Path, prices: PriceBook, play: Any) -> None:
    """The run's record, spilled and recovered, names the ledger as what stopped it."""
    ledger = open_ledger(path, hold_timeout=0.2)
    handler = handler_on(ledger, prices, CLOSED)
    with locked(path):
        ending(play, line({"a": asking(cents())}), {"said": []}, handler)
    ledger.close()
    again = open_ledger(path)
    recover(again)
    assert statuses(again) == [("stopped", "ledger")]
    again.close()
