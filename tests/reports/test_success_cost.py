"""What a success costs, and what is said where that is no number."""

from decimal import Decimal

import pytest

from langchain_finops.ledger.totals import TaskCost
from langchain_finops.money import to_pico
from langchain_finops.reports.success_cost import SuccessCost, success_cost


def what_it_costs(usd: Decimal | None, *, unknown: int, tasks: int, judged: int, successes: int) -> SuccessCost:
    """A success where that much is known of the tasks' cost, and so many calls have no price."""
    pico = 0 if usd is None else to_pico(usd)
    spent = TaskCost(records=unknown + (usd is not None), unpriced=unknown, pico=pico)
    return success_cost(spent, tasks=tasks, judged=judged, successes=successes)


def test_every_tasks_cost_counts_over_the_successes():
    """$9 for 3 tasks of which 2 succeeded is $4.50 a success: failures are paid for too."""
    success = what_it_costs(Decimal(9), unknown=0, tasks=3, judged=3, successes=2)

    assert success.usd == Decimal("4.5")
    assert success.statement == "known"
    assert str(success) == "$4.5000"


def test_free_successes_cost_zero():
    """Free is known: here $0 is the truth."""
    assert str(what_it_costs(Decimal(0), unknown=0, tasks=2, judged=2, successes=1)) == "$0"


def test_unpriced_calls_make_it_a_lower_bound():
    """With calls of unknown price the figure is `>= X (k unknown)`, rounded down."""
    success = what_it_costs(Decimal(2), unknown=4, tasks=3, judged=3, successes=3)

    assert success.statement == "at_least"
    assert str(success) == ">= $0.6666 (4 unknown)"


def test_nothing_priced_is_no_number():
    """Successes without any known price are `unpriced`, never $0."""
    success = what_it_costs(None, unknown=4, tasks=1, judged=1, successes=1)

    assert success.usd is None
    assert str(success) == success.statement == "unpriced"


@pytest.mark.parametrize(
    ("tasks", "shown"),
    [
        # (60 / n) / (1 - 0.05^(1/n)), by hand: 60 / 0.95; 6 / 0.2588656; 1 / 0.0487023
        (1, "> $63.15"),
        (10, "> $23.17"),
        (60, "> $20.53"),
    ],
)
def test_no_success_gives_a_lower_bound(tasks, shown):
    """Zero successes are never $0 or infinity: at 95% confidence a success costs more than this."""
    success = what_it_costs(Decimal(60), unknown=0, tasks=tasks, judged=tasks, successes=0)

    assert success.usd is None
    assert success.statement == "no_success"
    assert str(success) == shown


def test_no_success_and_unpriced_calls_say_both():
    """The bound stays true when more cost turns up, and says that some is unknown."""
    assert str(what_it_costs(Decimal(95), unknown=2, tasks=1, judged=1, successes=0)) == "> $100.00 (2 unknown)"


def test_no_bound_while_tasks_are_not_judged():
    """An unjudged task may have succeeded: nothing is claimed."""
    success = what_it_costs(Decimal(60), unknown=0, tasks=3, judged=2, successes=0)

    assert success.above_usd is None
    assert str(success) == "-"


def test_no_bound_where_all_is_free():
    """`> $0` would be a figure without content."""
    assert str(what_it_costs(Decimal(0), unknown=0, tasks=2, judged=2, successes=0)) == "-"


@pytest.mark.parametrize(("tasks", "statement"), [(0, "no_task"), (5, "not_judged")])
def test_without_a_verdict_there_is_no_cost_per_success(tasks, statement):
    """The reason is told apart: no task named, or none judged."""
    success = what_it_costs(Decimal(60), unknown=1, tasks=tasks, judged=0, successes=0)

    assert success.statement == statement
    assert str(success) == "-"


def test_many_tasks_come_out_at_the_rule_of_three():
    """For n tasks in the millions the bound is all cost over -ln 0.05, nearly 3: rounding does not get in the way."""
    success = what_it_costs(Decimal(3_000_000), unknown=0, tasks=10**7, judged=10**7, successes=0)
    assert success.above_usd is not None
    assert abs(success.above_usd / Decimal(3_000_000) * Decimal("2.995732") - 1) < Decimal("0.00001")


def test_where_only_judges_worked_a_success_has_no_cost():
    """$0 would say that the agent was free."""
    success = success_cost(TaskCost(), tasks=1, judged=1, successes=1)
    assert (success.statement, success.usd, str(success)) == ("apart", None, "-")
