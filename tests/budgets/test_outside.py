"""Budgets that are set without code: kept whole, replaced by what they are for, each change with its event."""

from datetime import UTC, datetime

import pytest

from langchain_finops.budgets.outside import (
    BUDGET,
    budget_body,
    identity,
    kept_budgets,
    read_budget,
    remove_budget,
    set_budget,
)
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import change_event
from langchain_finops.errors import BadArguments, Fault
from langchain_finops.ledger import open_ledger

BUDGETS = [
    Budget(usd="0.000000000001"),
    Budget(usd=20, per="day", scope="agent_id"),
    Budget(usd=20, tokens=5, seconds="1.5", per="30m", scope="tag:team", match={"node": "a b", "tag:x": "1"}),
    Budget(steps=10, on_exceed="interrupt", warn_at=0.9, name="ten, or so"),
    Budget(llm_calls=3, per="month", time_zone="Europe/Berlin", fail_closed=True, reach="fleet"),
    Budget(usd=1, admission="strict", expected_output_tokens=100, unpriced="estimate", scope="thread_id", warn_at=()),
]


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "l.db")
    yield opened
    opened.close()


def read(ledger) -> tuple[Budget, ...]:
    faults: list[Fault] = []
    found = kept_budgets(ledger.controls(BUDGET), faults)
    assert faults == []
    return found


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_budget_is_kept_whole(ledger, budget):
    """Through the ledger's JSON and back it is the same, every argument of it."""
    set_budget(ledger, budget)

    assert read(ledger) == (budget,)


def test_the_body_says_only_what_the_text_does_not():
    """So that a person reads it in the audit trail."""
    assert budget_body(BUDGETS[1]) == {"budget": "$20/day per agent_id"}
    assert budget_body(BUDGETS[3]) == {
        "budget": "10 steps per run",
        "on_exceed": "interrupt",
        "warn_at": [0.9],
        "name": "ten, or so",
    }


def test_a_new_amount_replaces_the_old(ledger):
    """It is the same balance: two limits would leave the lower one in force."""
    assert set_budget(ledger, Budget.parse("$20/day per agent_id"), by="anna") is None
    was = set_budget(ledger, Budget.parse("$30/day per agent_id"), by="ben", reason="more traffic")

    assert was == Budget.parse("$20/day per agent_id")
    assert read(ledger) == (Budget.parse("$30/day per agent_id"),)
    first, second = ledger.events()
    assert (second.actor, second.action, second.subject) == ("ben", "budget.set", "usd/day per agent_id")
    assert (second.before, second.after) == ({"budget": "$20/day per agent_id"}, {"budget": "$30/day per agent_id"})
    assert (first.before, second.reason) == (None, "more traffic")


@pytest.mark.parametrize(
    "other",
    [
        "$20/week per agent_id",
        "$20/day per user_id",
        "20 tokens/day per agent_id",
        "$20/day per agent_id where node=x",
        Budget(usd=20, per="day", scope="agent_id", name="b"),
        Budget(usd=20, per="day", scope="agent_id", time_zone="Europe/Berlin"),
    ],
)
def test_another_balance_stands_beside_it(ledger, other):
    """Unit, window, scope, match, name and time zone tell balances apart."""
    set_budget(ledger, Budget.parse("$20/day per agent_id"))
    set_budget(ledger, Budget.parse(other) if isinstance(other, str) else other)

    assert len(read(ledger)) == 2


@pytest.mark.parametrize("name", ["usd/day per agent_id", "$20/day per agent_id", "$99 / day per agent_id"])
def test_it_is_removed_by_identity_or_by_text(ledger, name):
    """Whatever its amount was; the event says what stood."""
    set_budget(ledger, Budget.parse("$20/day per agent_id"))

    assert remove_budget(ledger, name, by="anna") == {"budget": "$20/day per agent_id"}
    assert read(ledger) == ()
    *_, event = ledger.events()
    assert (event.action, event.before, event.after) == ("budget.remove", {"budget": "$20/day per agent_id"}, None)


def test_it_is_removed_by_its_name(ledger):
    """A named budget goes by its name alone."""
    set_budget(ledger, Budget(usd=1, name="burst"))

    assert remove_budget(ledger, "$1 per run") is None
    assert remove_budget(ledger, "burst") is not None
    assert remove_budget(ledger, "burst") is None


def test_what_only_code_can_say_is_refused(ledger):
    """A function cannot be kept on a ledger."""
    with pytest.raises(BadArguments, match="on_exceed is a function"):
        set_budget(ledger, Budget(usd=1, on_exceed=lambda refusal: "raise"))
    assert ledger.controls(BUDGET) == {}


def test_what_this_version_cannot_read_is_told_and_the_rest_holds(ledger):
    """A newer version's budget must not take the others away."""
    set_budget(ledger, Budget(usd=1, name="good"))
    event = change_event("budget.set", "new", by="anna", at=datetime.now(UTC))
    ledger.set_control(BUDGET, "new", {"budget": "$1 per run", "colour": "red"}, event)
    ledger.set_control(BUDGET, "worse", {"budget": "3 wishes"}, change_event("x", "y", by="z", at=datetime.now(UTC)))
    faults: list[Fault] = []

    assert [budget.name for budget in kept_budgets(ledger.controls(BUDGET), faults)] == ["good"]
    assert [fault.where for fault in faults] == ["budget 'new' on the ledger: colour", "budget 'worse' on the ledger"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (7, "is a number"),
        (None, "is empty"),
        ("7", "cannot read '7'"),
        ({}, "no limit"),
        ({"usd": 1, "bananas": 2}, "is no field"),
        ({"usd": -1, "per": "soon"}, "usd: must be more than 0"),
        ({"budget": "$1 per run", "warn_at": 7}, "warn_at"),
        ({"budget": ["$1"]}, "has to be text"),
    ],
)
def test_what_is_no_budget_is_a_fault(data, told):
    """With its place, and what would be right."""
    faults: list[Fault] = []

    assert read_budget(data, "f.yaml: budgets[0]", faults) is None
    assert told in " ".join(fault.what for fault in faults)
    assert all(fault.where.startswith("f.yaml: budgets[0]") for fault in faults)


def test_the_arguments_add_to_the_text():
    """`budget` says how much, per what, for whom; the others add to it, and win."""
    faults: list[Fault] = []
    data = {"budget": "$1/day per agent_id", "on_exceed": "drain", "per": "week"}

    assert read_budget(data, "f", faults) == Budget(usd=1, per="week", scope="agent_id", on_exceed="drain")
    assert faults == []


def test_identity_is_readable():
    """What `finops budget list` and events show it by."""
    assert identity(BUDGETS[2]) == "usd+tokens+seconds/30m per tag:team where node=a b, tag:x=1"
    assert identity(BUDGETS[4]) == "llm_calls/month per all in Europe/Berlin"
