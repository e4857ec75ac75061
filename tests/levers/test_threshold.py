"""The threshold of least expected cost, reckoned by hand."""

from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.levers import TriedTask, best_threshold


def tasks(*rows: tuple[float, str, bool]) -> list[TriedTask]:
    return [TriedTask(score=score, cost_usd=Decimal(cost), success=success) for score, cost, success in rows]


EASY = [(0.1, "0.10", True)] * 6
HARD = [(0.8, "2.00", False)] * 4
COSTS: dict[str, Any] = {"usd_per_hour": 60, "minutes": 5}
"""A person takes $5 a task."""


def test_the_hard_ones_go_to_a_person_at_once_and_the_easy_ones_do_not() -> None:
    """Six at 10 cents and four at $5: $20.60 of ten. The agent first: 4 x $7 and 60 cents; people only: $5 each."""
    best = best_threshold(tasks(*EASY, *HARD), **COSTS)

    assert (best.threshold, best.handed_off, best.tasks) == (0.8, 4, 10)
    assert (best.expected_usd, best.agent_first_usd, best.person_usd) == (Decimal("2.06"), Decimal("2.86"), Decimal(5))
    assert best.held_out_usd == Decimal("2.06")
    assert best.pays


def test_nobody_is_asked_where_that_does_not_pay() -> None:
    """A hard task that half of the time succeeds for a dollar is cheaper than $5: $1 + half of $5."""
    half = [(0.8, "1.00", True), (0.8, "1.00", False)] * 5

    best = best_threshold(tasks(*half), **COSTS)

    assert (best.threshold, best.handed_off, best.pays) == (None, 0, False)
    assert best.expected_usd == best.agent_first_usd == Decimal("3.5")


def test_what_a_failure_costs_beside_the_person_moves_it() -> None:
    half = [(0.8, "1.00", True), (0.8, "1.00", False)] * 5

    assert best_threshold(tasks(*half), failure_usd=10, **COSTS).threshold == 0.8


def test_a_score_that_says_nothing_shows_in_what_is_held_out() -> None:
    """The one failure per score looks worth handing off on the tasks seen; on others it is not."""
    noise = [(place / 100, "1.00", place % 10 != 9) for place in range(50)]

    best = best_threshold(tasks(*noise), **COSTS)

    assert best.expected_usd <= best.agent_first_usd
    assert best.held_out_usd >= best.expected_usd
    assert not best.pays


def test_a_score_is_on_one_side_of_the_threshold() -> None:
    """Equal scores are handed off together: 0.8 as a whole, or not at all."""
    mixed = tasks(*EASY, (0.8, "9.00", False), (0.8, "0.10", True), (0.8, "0.10", True), (0.8, "0.10", True))

    assert best_threshold(mixed, **COSTS).handed_off == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [TriedTask(score=float("nan"), cost_usd=Decimal(1), success=True)],
        [TriedTask(score=0.5, cost_usd=None, success=True)],  # type: ignore[arg-type]
    ],
)
def test_what_is_unknown_is_not_taken_for_nothing(wrong: list[TriedTask]) -> None:
    with pytest.raises(BadArguments, match="1 of them without"):
        best_threshold([*tasks(*EASY, *HARD), *wrong], **COSTS)
    with pytest.raises(BadArguments, match="6 tasks"):
        best_threshold(tasks(*EASY), **COSTS)
    with pytest.raises(BadArguments):
        best_threshold(tasks(*EASY, *HARD), usd_per_hour="dear", minutes=1)
