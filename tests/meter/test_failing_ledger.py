"""What admission does while the ledger cannot hold: no open door, no long wait, and nothing lost."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from worlds import AT, WHO, World, spent, tokens

from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.errors import LedgerError
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, Settlement
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.meter import Answer, OpenCall
from langchain_finops.records import RunRecord


class Failing(MemoryLedger):
    """Fails when it is told to: it holds nothing, and spills what it is to settle; or the latter only."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = self.spills = False
        self.asked = 0
        self.spilled: list[Settlement] = []

    def hold(self, hold_id: str, lines: Sequence[Line], *, at: datetime, ttl_s: float = 3600) -> HoldAnswer:
        self.asked += 1
        if self.fails:
            raise LedgerError("the ledger is busy")
        return super().hold(hold_id, lines, at=at, ttl_s=ttl_s)

    def settle(self, *settlements: Settlement) -> tuple[Balance, ...]:
        if self.fails or self.spills:
            self.spilled += settlements
            return ()
        return super().settle(*settlements)

    def release(self, hold_id: str) -> None:
        if self.fails:
            raise LedgerError("the ledger is busy")
        super().release(hold_id)

    def recover(self) -> None:
        super().settle(*self.spilled)


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def failing_world(clock: Clock, *budgets: Budget, **options: Any) -> tuple[World, Failing]:
    ledger = Failing()
    world = World(budgets, ledger, options=options)
    world.guard.accounts.books._shadow._clock = clock
    return world, ledger


def ended(steps: int) -> RunRecord:
    return RunRecord(
        run_id="run", invocation_id="run-invocation", status="completed", started_at=AT, ended_at=AT, steps=steps
    )


def test_steps_after_a_spilled_settlement_leave_that_its_hold(clock: Clock) -> None:
    """Three steps are spilled with their run, which takes a fourth: recovering finds the three, and adds them once."""
    budget = Budget(steps=9, per="year", scope="agent_id")
    world, ledger = failing_world(clock, budget)
    for _ in range(3):
        assert world.meter.open_step(world.state, WHO) is None
    ledger.spills = True
    world.meter.close_run(world.state, ended(3))
    ledger.spills = False
    assert world.meter.open_step(world.state, WHO) is None
    assert (spent(world, budget).spent, spent(world, budget).held) == (0, 4)

    world.meter.close_run(world.state, ended(3))
    assert (spent(world, budget).spent, spent(world, budget).held) == (1, 3)
    for _ in range(2):
        ledger.recover()
        assert (spent(world, budget).spent, spent(world, budget).held) == (4, 0)


def test_calls_go_on_against_the_balances_known_last(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Two of five cents are spent when the ledger dies: three more calls, then no more. It is said once."""
    world, ledger = failing_world(clock, Budget(usd="0.055", scope="agent_id", warn_at=()))
    world.made()
    world.made()
    ledger.fails = True

    assert world.until_refused() == 3
    refusal = world.refused()
    assert (refusal.kind, str(refusal.spent)) == ("budget", "0.05")
    assert len(ledger.spilled) == 3
    assert len([entry for entry in caplog.records if "fail_closed" in entry.getMessage()]) == 1


def test_a_dead_ledger_that_was_never_seen_alive_is_no_open_door(clock: Clock) -> None:
    """What is not known counts as nothing spent, but what this process spends counts."""
    world, ledger = failing_world(clock, Budget(usd="0.035", scope="agent_id"))
    ledger.fails = True

    assert world.until_refused() == 3


def test_a_dead_ledger_is_not_asked_again_by_every_call(clock: Clock) -> None:
    """Each would wait for it. It is asked after a second, then after two more, and half a minute at most."""
    world, ledger = failing_world(clock, Budget(usd=10, scope="agent_id"))
    ledger.fails = True
    asked = []
    for second in range(100):
        clock.now = float(second)
        before = ledger.asked
        world.made()
        if ledger.asked > before:
            asked.append(second)

    assert asked == [0, 1, 3, 7, 15, 31, 61, 91]


def test_a_call_held_before_and_settled_after_the_ledger_died_counts(clock: Clock) -> None:
    """The truth replaces the estimate in the shadow, too: two cents in place of one leave room for one call."""
    world, ledger = failing_world(clock, Budget(usd="0.035", scope="agent_id", warn_at=()))
    call = world.admitted()
    ledger.fails = True
    world.meter.close(call, Answer(usage=tokens(0, 2000)))

    assert world.until_refused() == 1


def test_what_the_ledger_does_not_know_counts_when_it_is_back(clock: Clock) -> None:
    """Three calls are in the spill file; the ledger knows of none, and one more fits."""
    budget = Budget(usd="0.045", scope="agent_id")
    world, ledger = failing_world(clock, budget)
    ledger.fails = True
    for _ in range(3):
        world.made()
    ledger.fails = False
    clock.now = 10.0

    assert world.until_refused() == 1
    assert world.refused().spent == Decimal("0.04")
    assert spent(world, budget).spent == 10**10


def test_what_was_spilled_is_counted_once_it_is_recovered(clock: Clock) -> None:
    """Each settlement carries its amounts and its hold; a hold that was taken before is gone then."""
    budget = Budget(usd=1, scope="agent_id")
    world, ledger = failing_world(clock, budget)
    call = world.admitted()
    ledger.fails = True
    world.meter.close(call, Answer(usage=tokens(0, 2000)))
    world.made()
    ledger.recover()
    ledger.recover()

    assert (spent(world, budget).spent, spent(world, budget).held) == (3 * 10**10, 0)
    assert len(list(ledger.calls())) == 2


def test_a_spilled_call_that_took_less_than_its_hold_raises_no_limit(clock: Clock) -> None:
    """Three calls took a tenth of the cent each that was held: that stays held until they are recovered. Then it is 0.3
    of 3.5 cents, and three more fit; as differences to holds that are gone they would have made room for five."""
    budget = Budget(usd="0.035", scope="agent_id")
    world, ledger = failing_world(clock, budget)
    ledger.spills = True
    for _ in range(3):
        world.made(output=100)
    assert (spent(world, budget).spent, spent(world, budget).held) == (0, 3 * 10**10)
    ledger.spills = False
    ledger.recover()

    assert world.until_refused() == 3
    assert spent(world, budget).spent == 3 * 10**10 + 3 * 10**9


def test_what_was_spilled_counts_after_its_hold_would_have_expired(clock: Clock) -> None:
    """Two calls of two, an hour ago, and nobody has recovered them."""
    world, ledger = failing_world(clock, Budget(llm_calls=2, scope="all"))
    ledger.spills = True
    world.made()
    world.made()
    ledger.spills = False
    late = world.call()
    late.started_at += timedelta(minutes=61)

    refusal = world.meter.open(late, world.state)

    assert refusal is not None
    assert (refusal.spent, refusal.held) == (2, 0)


def test_two_handlers_whose_settlements_were_spilled_are_both_charged_by_recovery(clock: Clock) -> None:
    """Each has a balance that the other does not know of, and they share the call's record and hold."""
    budgets = Budget(usd=1, scope="agent_id"), Budget(usd=1, scope="user_id")
    world, ledger = failing_world(clock, budgets[0])
    other = World((budgets[1],), ledger)
    calls = [each.admitted() for each in (world, other)]
    ledger.spills = True
    for each, call in zip((world, other), calls, strict=True):
        each.meter.close(call, Answer(usage=tokens(0, 100)))
    ledger.recover()

    assert [spent(world, budget).spent for budget in budgets] == [10**9] * 2


def test_spilled_steps_count_like_spilled_calls(clock: Clock) -> None:
    """Three of four: one more fits, and when all holds have expired, one again, and not four."""
    budget = Budget(steps=4, per="year", scope="agent_id")
    world, ledger = failing_world(clock, budget)
    assert [world.meter.open_step(world.state, WHO) for _ in range(3)] == [None] * 3
    ledger.spills = True
    world.meter.close_run(world.state, ended(3))
    ledger.spills = False
    other = world.run("other")
    assert [world.meter.open_step(other, WHO) is None for _ in range(2)] == [True, False]

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=61), tick=False):
        assert world.meter.open_step(world.run("late"), WHO) is None
        assert world.meter.open_step(world.run("later"), WHO) is not None


def test_steps_count_once_while_the_ledger_comes_and_goes(clock: Clock) -> None:
    """Two on the ledger, three beside it, two on it again: seven of ten are held, then spent. Three are left."""
    budget = Budget(steps=10, per="year", scope="agent_id")
    world, ledger = failing_world(clock, budget)

    def steps(count: int) -> None:
        assert [world.meter.open_step(world.state, WHO) for _ in range(count)] == [None] * count

    steps(2)
    ledger.fails = True
    steps(3)
    ledger.fails, clock.now = False, 10.0
    steps(2)
    assert (spent(world, budget).spent, spent(world, budget).held) == (0, 7)
    world.meter.close_run(world.state, ended(7))
    assert (spent(world, budget).spent, spent(world, budget).held) == (7, 0)

    other = world.run("other")
    assert [world.meter.open_step(other, WHO) is None for _ in range(4)] == [True] * 3 + [False]


def test_a_dead_ledger_is_no_reason_to_count_a_step_more_than_once(clock: Clock) -> None:
    """Ten steps, one by one, and no eleventh; what the run took beside the ledger is settled once it ends."""
    budget = Budget(steps=10, per="year", scope="agent_id")
    world, ledger = failing_world(clock, budget)
    ledger.fails = True
    answers = [world.meter.open_step(world.state, WHO) for _ in range(11)]

    assert [answer is None for answer in answers] == [True] * 10 + [False]
    assert answers[10] is not None
    assert (answers[10].spent, answers[10].estimate) == (10, 1)
    ledger.fails = False
    world.meter.close_run(world.state, ended(10))
    assert (spent(world, budget).spent, spent(world, budget).held) == (10, 0)
    assert world.guard.accounts.books._shadow._unknown == {}


def test_a_hold_that_was_given_back_leaves_its_room_while_the_ledger_is_dead(clock: Clock) -> None:
    """What the ledger said last had it in it."""
    world, ledger = failing_world(clock, Budget(usd="0.015", scope="agent_id"))
    world.meter.release(world.admitted())
    ledger.fails = True

    assert world.until_refused() == 1


@pytest.mark.parametrize("on_exceed", ["raise", "warn", "interrupt"])
def test_a_fail_closed_budget_refuses(clock: Clock, on_exceed: Any) -> None:
    """Whatever it does at its limit: nobody knows where that is. The run's own balance gives back what it held."""
    own = Budget(usd=1)
    world, ledger = failing_world(clock, own, Budget(usd=1, scope="agent_id", fail_closed=True, on_exceed=on_exceed))
    ledger.fails = True
    refusal = world.refused()

    assert (refusal.kind, refusal.on_exceed) == ("ledger", "raise")
    assert "fail_closed=False" in refusal.reason
    assert (spent(world, own).spent, spent(world, own).held) == (0, 0)


def test_a_fail_closed_budget_lets_calls_pass_again_when_the_ledger_is_back(clock: Clock) -> None:
    """Runs that were refused stay refused; new ones begin."""
    world, ledger = failing_world(clock, Budget(usd=1, scope="agent_id", fail_closed=True))
    ledger.fails = True
    world.refused()
    ledger.fails = False
    clock.now = 1.0

    assert isinstance(world.open(state=world.run("other")), OpenCall)
    assert isinstance(world.open(), Refusal)


def test_a_protected_node_goes_on_without_the_ledger(clock: Clock) -> None:
    """Not even a fail_closed budget stops it; what it spends counts."""
    world, ledger = failing_world(clock, Budget(usd=1, scope="agent_id", fail_closed=True), protect=("validate",))
    ledger.fails = True
    world.made(who=replace(WHO, node_path="validate"))

    assert len(ledger.spilled) == 1
    assert sum(ledger.spilled[0].amounts.values()) == 10**10


def test_a_ledger_that_breaks_its_contract_opens_no_door(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where the run's own budget has no room, nor where the shared one is all there is."""
    own, shared = Budget(usd="0.015"), Budget(usd="0.035", scope="agent_id")
    world, ledger = failing_world(clock, own, shared)
    world.made()
    for name in ("hold", "balances", "release"):
        monkeypatch.setattr(ledger, name, lambda *_, **__: 1 / 0)

    assert world.refused().budget == own.label
    assert isinstance(world.open(state=world.run("second")), OpenCall)
    assert isinstance(world.open(state=world.run("third")), OpenCall)
    assert world.refused(state=world.run("fourth")).budget == shared.label


def test_a_hold_that_cannot_be_given_back_expires(clock: Clock) -> None:
    """Nobody is told but the log."""
    world, ledger = failing_world(clock, Budget(usd=1, scope="agent_id"))
    call = world.admitted()
    ledger.fails = True
    world.meter.release(call)

    assert world.faults.count == 0


def test_a_release_in_the_shadow_gives_back(clock: Clock) -> None:
    """What was never sent counts nowhere."""
    world, ledger = failing_world(clock, Budget(usd="0.035", scope="agent_id"))
    ledger.fails = True
    world.meter.release(world.admitted())

    assert world.guard.accounts.books._shadow._unknown == {}
    assert world.until_refused() == 3


def test_budgets_go_on_while_the_file_is_locked(tmp_path: Path) -> None:
    """A SQLite file that somebody holds: no call waits long, none passes the limit, and recovery counts all, once."""
    path = tmp_path / "ledger.db"
    ledger = open_ledger(f"sqlite:///{path}", hold_timeout=0.2)
    budget = Budget(usd="0.045", scope="agent_id")
    world = World((budget,), ledger)
    try:
        world.made()
        locker = sqlite3.connect(path)
        locker.execute("BEGIN EXCLUSIVE")
        assert world.until_refused() == 3
        locker.rollback()
        locker.close()
        ledger.recover()  # type: ignore[attr-defined]

        assert spent(world, budget).spent == 4 * 10**10
        assert World((budget,), ledger).until_refused() == 0
    finally:
        ledger.close()
    assert world.faults.count == 0


async def test_nothing_blocks_the_event_loop(tmp_path: Path) -> None:
    """Under an event loop the ledger's own thread holds and settles."""
    from blockbuster import BlockBuster

    ledger = open_ledger(f"sqlite:///{tmp_path / 'l.db'}")
    world = World((Budget(usd="0.035", scope="agent_id"), Budget(steps=9, scope="all")), ledger)
    detector = BlockBuster()
    detector.activate()
    try:
        assert world.meter.open_step(world.state, WHO) is None
        assert world.until_refused() == 3
    finally:
        detector.deactivate()
        ledger.close()
    assert world.faults.count == 0
