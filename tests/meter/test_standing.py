"""What people set while agents run: kills and budgets from outside, taken up at the next start."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from worlds import WHO, World

from langchain_finops.budgets.outside import BUDGET, remove_budget, set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.standing import POLL_S, Standing
from langchain_finops.budgets.switch import change_event, kill, revive
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.meter import OpenCall
from langchain_finops.records import CallRecord

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Seconds and moments that are set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def pass_time(self) -> None:
        self.seconds += POLL_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    ledger = MemoryLedger()
    faults: list[Exception] = []
    standing = Standing(ledger, failed=faults.append, monotonic=clock.monotonic, now=lambda: AT)
    yield World((), ledger, options={"standing": standing, "protect": ("validate",)})
    assert faults == []


def test_a_kill_refuses_the_next_start_of_whom_it_is_for(world: World, clock: Clock) -> None:
    """Calls, steps and tools, protected or not; others go on."""
    world.made()
    kill(world.ledger, "agent_id", "support", by="ann", reason="runaway")
    clock.pass_time()

    refusal = world.refused()
    assert (refusal.kind, refusal.scope, refusal.on_exceed) == ("kill", "agent_id=support", "raise")
    assert "killed by ann" in refusal.reason
    assert "runaway" in refusal.reason
    assert world.meter.open_step(world.state, WHO) is not None
    assert world.meter.open_tool(world.state, WHO, tool_id="t", name="search") is not None
    assert world.refused(who=replace(WHO, node_path="validate")).kind == "kill"
    assert isinstance(world.open(state=world.run("other"), who=replace(WHO, agent_id="other")), OpenCall)


def test_a_run_that_was_killed_stays_refused_when_others_are_revived(world: World, clock: Clock) -> None:
    """A refusal is final for its run, in its protected nodes too; new runs begin."""
    kill(world.ledger, "all")
    clock.pass_time()
    world.refused()
    revive(world.ledger, "all")
    clock.pass_time()

    assert world.refused().kind == "kill"
    assert world.refused(who=replace(WHO, node_path="validate")).kind == "kill"
    assert isinstance(world.open(state=world.run("other")), OpenCall)


def test_a_budget_set_from_outside_holds_from_the_next_call(world: World, clock: Clock) -> None:
    """A run that is under way meets it; what it spent before was not counted. Taken away, it holds no longer."""
    world.made()
    body: dict[str, object] = {"budget": "$0.025 per agent_id"}
    world.ledger.set_control(BUDGET, "b", body, change_event("set", "b", by="ann", at=AT))
    clock.pass_time()
    assert world.until_refused() == 2

    world.ledger.set_control(BUDGET, "b", None, change_event("remove", "b", by="ann", at=AT))
    clock.pass_time()
    assert isinstance(world.open(state=world.run("other")), OpenCall)


def test_a_call_that_began_before_a_budget_was_set_is_settled(world: World, clock: Clock) -> None:
    """It holds nothing, and is written down as ever."""
    call = world.admitted()
    world.ledger.set_control(BUDGET, "b", {"budget": "$1 per agent_id"}, change_event("set", "b", by="ann", at=AT))
    clock.pass_time()
    world.made()
    world.meter.release(call)

    assert [balance.spent for balance in world.ledger.balances()] == [10**10]


def test_a_limit_lowered_from_outside_counts_at_once(world: World, clock: Clock) -> None:
    """The balance is the same; only the limit is another one."""
    for text in ("$1 per agent_id", "$0.015 per agent_id"):
        world.ledger.set_control(BUDGET, "b", {"budget": text}, change_event("set", "b", by="ann", at=AT))
        clock.pass_time()
        if text.startswith("$1"):
            world.made()

    assert world.refused().budget == str(Budget(usd="0.015", scope="agent_id"))


def test_a_limit_of_the_run_that_is_set_in_mid_run_counts_what_the_run_has_spent(world: World, clock: Clock) -> None:
    """Two calls were made, and one more may be, though nothing was guarded when they were; it takes a new run to make
    three more. A limit that comes back counts what was spent meanwhile."""
    world.made()
    world.made()
    set_budget(world.ledger, Budget(llm_calls=3))
    clock.pass_time()
    assert world.until_refused() == 1
    assert world.until_refused(state=world.run("other")) == 3

    late = world.run("late")
    world.made(state=late)
    remove_budget(world.ledger, "3 llm_calls per run")
    clock.pass_time()
    world.made(state=late)
    set_budget(world.ledger, Budget(llm_calls=3))
    clock.pass_time()

    assert world.until_refused(state=late) == 1


def test_what_starts_while_a_new_limit_is_counted_waits_for_it(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of three calls were made; another thread's start comes while the first one reads what the run has spent."""
    for _ in range(3):
        world.made()
    set_budget(world.ledger, Budget(llm_calls=3))
    clock.pass_time()
    got: list[OpenCall | Refusal] = []
    through, read, lock = threading.Event(), world.ledger.calls, world.state.catching_up

    class Waited:
        """The lock, which tells that somebody waits for it."""

        def __enter__(self) -> None:
            if threading.current_thread() is other:
                through.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    def start() -> None:
        got.append(world.open())
        through.set()

    def calls(**filters: Any) -> Iterator[CallRecord]:
        if not other.ident:
            other.start()
            assert through.wait(30)
        return read(**filters)

    other = threading.Thread(target=start)
    world.state.catching_up = Waited()  # type: ignore[assignment]
    monkeypatch.setattr(world.ledger, "calls", calls)
    world.refused()
    other.join(30)

    assert [type(each) for each in got] == [Refusal]


def test_a_second_limit_on_a_balance_takes_it_as_it_stands(world: World, clock: Clock) -> None:
    """What is in flight is in it already, and nothing is read anew."""
    set_budget(world.ledger, Budget(llm_calls=9))
    clock.pass_time()
    world.made()
    set_budget(world.ledger, Budget(llm_calls=3))
    clock.pass_time()

    assert world.until_refused() == 2
    assert world.state.balance("llm_calls run=run").spent == 3


def test_a_resumed_run_counts_what_it_spent_on_limits_from_outside(world: World, clock: Clock) -> None:
    """Another process that has none of its own, and hears of them as the run goes on."""
    world.made()
    set_budget(world.ledger, Budget(llm_calls=3))
    clock.pass_time()
    standing = Standing(world.ledger, failed=lambda error: None, monotonic=clock.monotonic, now=lambda: AT)
    other = World((), world.ledger, options={"standing": standing})
    other._count = 100

    assert other.until_refused(state=other.run("run", resumed=True)) == 2


def test_a_limit_whose_past_cannot_be_read_counts_from_now_on(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is fail_closed: then the run ends."""
    world.made()
    fresh = world.run("fresh")
    world.made(state=fresh)
    monkeypatch.setattr(world.ledger, "calls", lambda **_: 1 / 0)
    set_budget(world.ledger, Budget(llm_calls=3))
    clock.pass_time()
    assert world.until_refused() == 3
    assert world.faults.count == 1

    set_budget(world.ledger, Budget(usd=1, fail_closed=True))
    clock.pass_time()
    assert world.refused(state=fresh).kind == "ledger"
