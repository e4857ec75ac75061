"""A resumed run is the same run: what it spent, took and was allowed goes with it, into whichever process."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from worlds import AT, WHO, World, tokens

from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.switch import change_event
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.meter import Answer, OpenCall, Request
from langchain_finops.records import ChargeRecord, RunRecord


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(":memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'l.db'}")
    yield opened
    opened.close()


def resumed(ledger: Ledger, *budgets: Budget, loops: tuple[LoopGuard, ...] = ()) -> World:
    """Another process that goes on with the run."""
    world = World(budgets, ledger, loops)
    world._count = 1000  # LangChain's ids are never used twice.
    world.state = world.run("run", resumed=True)
    return world


def ended(revision: int = 0, *, steps: int = 0, seconds: int = 5) -> RunRecord:
    return RunRecord(
        run_id="run",
        invocation_id=f"invocation-{revision}",
        status="interrupted",
        started_at=AT + timedelta(hours=revision),
        ended_at=AT + timedelta(hours=revision, seconds=seconds),
        steps=steps,
        revision=revision,
    )


@pytest.mark.parametrize("scope", ["run", "node"])
def test_what_the_run_spent_counts_on(ledger: Ledger, scope: str) -> None:
    """Two of 3.5 cents are gone, another run's are none of its."""
    budget = Budget(usd="0.035", scope=scope)
    first = World((budget,), ledger)
    first.made()
    first.made()
    first.made(state=first.run("other"))
    first.meter.close_run(first.state, ended())

    assert resumed(ledger, budget).until_refused() == 1


def test_every_unit_counts_on(ledger: Ledger) -> None:
    """Calls, tokens, tools and charges, as their records tell; of a revised call its last version."""
    first = World((), ledger)
    first.made()
    late = first.admitted()
    first.meter.close(late, Answer(whole=False, reasons=("cancelled",)))
    first.meter.supersede(late.call_id, Answer(usage=tokens(0, 500)))
    tool = ChargeRecord(
        charge_id="t", kind="tool", name="search", source="callback", run_id="run", attribution=WHO, at=AT
    )
    first.meter.charge(tool)
    limits = {
        "usd": Budget(usd=1),
        "tokens": Budget(tokens=10_000),
        "llm_calls": Budget(llm_calls=10),
        "tool_calls": Budget(tool_calls=10),
    }
    world = resumed(ledger, *limits.values())

    spent = {unit: world.state.balance(f"{unit} run=run").spent for unit in limits}
    assert spent == {"usd": 2 * 10**10, "tokens": 1500, "llm_calls": 2, "tool_calls": 1}


def test_steps_count_on(ledger: Ledger) -> None:
    """Seven of ten steps were taken, over two invocations."""
    for revision, steps in enumerate((4, 7)):
        ledger.write(ended(revision, steps=steps))
    world = resumed(ledger, Budget(steps=10))

    assert [world.meter.open_step(world.state, WHO) is None for _ in range(4)] == [True, True, True, False]


def test_two_limits_on_one_balance_count_the_past_once(ledger: Ledger) -> None:
    """An early warning beside a limit: four of eight calls are made, and seven of ten steps."""
    calls = Budget(llm_calls=2, on_exceed="warn"), Budget(llm_calls=8)
    first = World((*calls, Budget(usd=1), Budget(usd=2)), ledger)
    for _ in range(4):
        first.made()
    ledger.write(ended(steps=7))
    steps = Budget(steps=5, on_exceed="warn"), Budget(steps=10)
    world = resumed(ledger, *calls, Budget(usd=1), Budget(usd=2), *steps)

    balances = [world.state.balance(f"{unit} run=run").spent for unit in ("llm_calls", "usd", "steps")]
    assert balances == [4, 4 * 10**10, 7]
    assert world.until_refused() == 4


def test_an_answer_without_a_known_price_counts_on_at_that_of_the_model_asked_for(ledger: Ledger) -> None:
    """A cent was held for it. It was 500 tokens of input and 700 of speech, for which no card has a rate: 0.8 cents as
    plain ones. A model without a price that was let pass counts for nothing."""
    budget = Budget(usd=1, unpriced="estimate")
    first = World((budget,), ledger)
    answer = Answer(usage={**tokens(500, 700), "output_token_details": {"audio": 700}})
    first.meter.close(first.admitted(), answer)
    first.meter.close(first.admitted(model="unheard-of"), answer)

    assert [call.cost_usd for call in ledger.calls()] == [None, None]
    assert first.state.balance("usd run=run").spent == 10**10
    assert resumed(ledger, budget).state.balance("usd run=run").spent == 8 * 10**9


def test_steps_of_one_node_count_on_as_far_as_records_tell(ledger: Ledger) -> None:
    """Two executions of the node made three calls."""
    first = World((), ledger)
    for step in (1, 1, 4):
        first.made(who=replace(WHO, step=step))
    world = resumed(ledger, Budget(steps=3, match={"node": "a"}))

    assert [world.meter.open_step(world.state, WHO) is None for _ in range(2)] == [True, False]


def test_the_time_it_took_counts_on(ledger: Ledger) -> None:
    """Five and four seconds of ten are gone; how long it lay paused is nobody's time."""
    ledger.write(ended(0, seconds=5))
    ledger.write(ended(1, seconds=4))
    world = resumed(ledger, Budget(seconds=10), Budget(seconds=9, name="short"))

    refusal = world.refused()
    assert refusal.budget == "short"
    assert refusal.spent is not None
    assert 9 <= refusal.spent < 10


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_what_somebody_approved_holds_in_every_process(ledger: Ledger, scope: str) -> None:
    """Two cents more than the 1.5: three calls in all, whoever keeps the balance."""
    budget = Budget(usd="0.015", scope=scope, on_exceed="interrupt")
    first = World((budget,), ledger)
    first.made()
    first.meter.approve(first.state, first.refused(), Decimal("0.02"), by="ann")

    assert resumed(ledger, budget).until_refused() == 2


def test_a_run_that_was_denied_stays_ended(ledger: Ledger) -> None:
    """Whoever resumes it: the answer was no."""
    budget = Budget(usd="0.015", scope="agent_id", on_exceed="interrupt")
    first = World((budget,), ledger)
    first.made()
    first.meter.deny(first.state, first.refused(), by="ann")
    refusal = resumed(ledger, budget).refused(Request(0, 1, 1))

    assert (refusal.kind, refusal.on_exceed, refusal.budget) == ("budget", "raise", budget.label)


def test_an_overspend_ends_the_run_in_every_process(ledger: Ledger) -> None:
    """A strict budget's bound was broken: resuming is no way around it."""
    budget = Budget(usd=1, admission="strict", expected_output_tokens=50)
    first = World((budget,), ledger)
    first.meter.close(first.admitted(Request(0, None, 1)), Answer(usage=tokens(0, 51)))

    assert "more than its bound" in resumed(ledger, budget).refused(Request(0, 1, 1)).reason
    assert [event.action for event in ledger.events()] == ["overspend"]


def test_nothing_is_read_for_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is resumed has a past, and only guards ask for it; reading takes time in a hook."""
    for name in ("calls", "events", "runs", "charges"):
        monkeypatch.setattr(type(ledger), name, lambda *_, **__: pytest.fail("the ledger was read"))

    assert isinstance(World((Budget(usd=1),), ledger).open(), OpenCall)
    assert isinstance(resumed(ledger).open(), OpenCall)


@pytest.mark.parametrize("fail_closed", [True, False])
def test_a_ledger_that_cannot_be_read_is_a_fault(
    fail_closed: bool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on as if it were new, unless a budget is fail_closed."""
    monkeypatch.setattr(type(ledger), "events", lambda *_, **__: 1 / 0)
    world = resumed(ledger, Budget(usd=1, fail_closed=fail_closed))
    answer = world.open()

    assert world.faults.count == 1
    assert (answer.kind if isinstance(answer, Refusal) else None) == ("ledger" if fail_closed else None)


def test_a_run_that_went_in_circles_does_not_begin_to_do_so_again(ledger: Ledger) -> None:
    """A loop that was refused for good stays refused; one that a drain ended may go on."""
    for run, word in (("run", "raise"), ("other", "drain")):
        after = {"kind": "loop", "budget": "loops", "on_exceed": word}
        event = change_event("refuse", run, by="guard", at=AT, reason="in circles.", after=after)
        ledger.write(event)
    world = resumed(ledger, loops=(LoopGuard(name="loops"),))
    refusal = world.refused()

    assert (refusal.kind, refusal.budget, refusal.reason) == ("loop", "loops", "in circles.")
    assert isinstance(world.open(state=world.run("other", resumed=True)), OpenCall)


def test_the_day_of_a_shared_budget_needs_no_carrying(ledger: Ledger) -> None:
    """Its balance is the ledger's: a resumed run finds it as it stands, and counts nothing twice."""
    budget = Budget(usd="0.035", per="day", scope="all")
    first = World((budget,), ledger)
    first.made()
    first.made()

    assert resumed(ledger, budget).until_refused() == 1
    assert sum(balance.spent for balance in ledger.balances()) == 3 * 10**10
