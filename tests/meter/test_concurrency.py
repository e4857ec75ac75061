"""Limits that hold to the call, however many threads, tasks and processes ask at once."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import WHO, World, spend_until_refused, spent, tokens

from langchain_finops.budgets.policy import Budget
from langchain_finops.ledger import open_ledger
from langchain_finops.meter import Answer, OpenCall, Request

SCOPES = ["run", "node", "agent_id"]


def at_once(count: int, work: Callable[[], object]) -> list[object]:
    """What `count` threads return that begin together."""
    barrier = Barrier(count)

    def run(_: int) -> object:
        barrier.wait()
        return work()

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))
    finally:
        sys.setswitchinterval(switch)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("count", [20, 64])
def test_a_fan_out_makes_as_many_calls_as_fit(scope: str, count: int) -> None:
    """All ask before any has ended: three of them hold a cent each of 3.5."""
    budget = Budget(usd="0.035", scope=scope)
    world = World((budget,))
    # A refusal is final for its run: each branch has a run of its own here where the balance is shared.
    runs = [world.state if scope != "agent_id" else world.run(f"run-{number}") for number in range(count)]

    calls = at_once(count, lambda: world.open(state=runs.pop()))

    admitted = [call for call in calls if isinstance(call, OpenCall)]
    assert len(admitted) == 3
    assert spent(world, budget).held == 3 * 10**10
    for call in admitted:
        world.meter.close(call, Answer(usage=tokens(0, 1000)))
    assert (spent(world, budget).spent, spent(world, budget).held) == (3 * 10**10, 0)
    assert world.faults.count == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_threads_that_call_in_a_loop_stop_together(scope: str) -> None:
    """64 threads, 100 calls in all: not one more, and every cent is accounted for."""
    budget = Budget(usd=1, scope=scope, warn_at=())
    world = World((budget,))

    made = at_once(64, world.until_refused)

    assert sum(int(str(each)) for each in made) == 100
    assert (spent(world, budget).spent, spent(world, budget).held) == (10**12, 0)


async def test_tasks_stop_together() -> None:
    """200 tasks on one event loop, each of which waits between its call's start and its end."""
    budget = Budget(usd="0.505", scope="agent_id", warn_at=())
    world = World((budget,))

    async def call() -> bool:
        opened = world.open(state=world.run("one"))
        await asyncio.sleep(0)
        if isinstance(opened, OpenCall):
            world.meter.close(opened, Answer(usage=tokens(0, 1000)))
        return isinstance(opened, OpenCall)

    assert sum(await asyncio.gather(*(call() for _ in range(200)))) == 50


def test_processes_on_one_ledger_stop_together(tmp_path: Path) -> None:
    """Three processes, 30 cents, a cent a call."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    open_ledger(url).close()
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:  # A Pool waits for ever if its processes cannot start.
        made = list(pool.map(spend_until_refused, [(url, "0.3", f"run-{number}") for number in range(3)]))
    ledger = open_ledger(url)
    try:
        balances = ledger.balances()
        assert sum(made) == 30
        assert [(each.spent, each.held, each.unsettled) for each in balances] == [(30 * 10**10, 0, 0)]
        assert len(list(ledger.calls())) == 30
    finally:
        ledger.close()


Step = tuple[str, int]


@settings(max_examples=150)
@given(
    scope=st.sampled_from(["run", "agent_id"]),
    admission=st.sampled_from(["strict", "expected"]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["open", "settle", "release", "fail", "cancel"]),
            st.integers(min_value=0, max_value=120),
        ),
        max_size=40,
    ),
)
def test_balances_are_the_sums_of_what_happened(scope: str, admission: str, steps: list[Step]) -> None:
    """Spent is the sum of what was settled, held that of what is open; a strict budget is never passed."""
    budget = Budget(tokens=1000, scope=scope, admission=admission, warn_at=())  # type: ignore[arg-type]
    world = World((budget,))
    open_calls: list[tuple[OpenCall, int]] = []
    settled = 0
    for action, number in steps:
        if action == "open":
            run = world.run("run") if scope == "agent_id" else world.state
            world.state.go_on()  # What a person would say, so that the sequence goes on.
            call = world.open(Request(0, number, 1), run)
            if isinstance(call, OpenCall):
                open_calls.append((call, number))
            else:
                assert settled + sum(held for _, held in open_calls) + number > 1000
        elif open_calls:
            call, held = open_calls.pop(number % len(open_calls))
            if action == "settle":
                used = min(number, held) if admission == "strict" else number
                settled += used
                world.meter.close(call, Answer(usage=tokens(0, used) if used else tokens(0, 0) | {"total_cost": 0}))
            elif action == "release":
                world.meter.release(call)
            elif action == "fail":
                world.meter.close(call, Answer(charged=False, whole=False, reasons=("http_error",)))
            else:
                settled += held
                world.meter.close(call, Answer(whole=False, reasons=("cancelled",)))
        balance = spent(world, budget, WHO)
        assert (balance.spent, balance.held) == (settled, sum(held for _, held in open_calls))
        if admission == "strict":
            assert balance.spent + balance.held <= 1000
    assert world.faults.count == 0
