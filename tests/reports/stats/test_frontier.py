"""The cost/quality frontier."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.reports import stats


def statuses(points: list[tuple[float, float]]) -> list[str]:
    return [place.status for place in stats.frontier(points)]


def test_the_dominated_leave_and_increments_are_against_the_survivor_before() -> None:
    """$1 at 20%, $2 at 50%, $3 at 40%, $6 at 70%: the third costs more for less; then 1/.3 and 4/.2."""
    found = stats.frontier([(1, 0.2), (2, 0.5), (3, 0.4), (6, 0.7)])

    assert [place.status for place in found] == ["on", "on", "dominated", "on"]
    assert [place.against for place in found] == [None, 0, None, 1]
    assert found[1].incremental_usd == pytest.approx(1 / 0.3)
    assert found[3].incremental_usd == pytest.approx(4 / 0.2)


def test_a_mix_of_two_dominates_too() -> None:
    """$1 at 20%, $3 at 30%, $4 at 60%: 20 a success to the second, 10 on from there. A mix beats the second."""
    found = stats.frontier([(1, 0.2), (3, 0.3), (4, 0.6)])

    assert [place.status for place in found] == ["on", "extended_dominated", "on"]
    assert (found[2].against, found[2].incremental_usd) == (0, pytest.approx(3 / 0.4))


def test_dropping_one_may_drop_the_one_before() -> None:
    """Slopes 10, 20, then 4: the last one's slope makes both before it pointless."""
    assert statuses([(1, 0.1), (2, 0.2), (4, 0.3), (5, 0.55)]) == [
        "on",
        "extended_dominated",
        "extended_dominated",
        "on",
    ]


def test_the_order_given_does_not_matter() -> None:
    """Dearest first gives the same places."""
    assert statuses([(6, 0.7), (3, 0.4), (2, 0.5), (1, 0.2)]) == ["on", "dominated", "on", "on"]


def test_ties() -> None:
    """Equal points share their place; at equal cost the better rate wins, at equal rate the lower cost."""
    assert statuses([(1, 0.5), (1, 0.5)]) == ["on", "on"]
    assert statuses([(1, 0.5), (1, 0.6)]) == ["dominated", "on"]
    assert statuses([(1, 0.5), (2, 0.5)]) == ["on", "dominated"]


def test_no_success_is_not_on_the_frontier_however_cheap() -> None:
    """Doing nothing is as good and costs less."""
    assert statuses([(0.001, 0.0), (1, 0.5)]) == ["no_success", "on"]
    assert statuses([(0.0, 0.0)]) == ["no_success"]
    assert stats.frontier([]) == []


POINTS = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=12)


@given(POINTS)
def test_the_frontier_rises_ever_steeper_and_nothing_lies_above_it(points: list[tuple[int, int]]) -> None:
    """Along the survivors each further success costs more; every dropped point is beaten by one or by a mix."""
    scaled = [(float(cost), rate / 20) for cost, rate in points]
    places = stats.frontier(scaled)
    on = sorted({scaled[i] for i, place in enumerate(places) if place.status == "on"})
    slopes = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in itertools.pairwise(on)]

    assert all(slope > 0 for slope in slopes)
    assert slopes == sorted(slopes)
    for (cost, rate), place in zip(scaled, places, strict=True):
        if place.status == "dominated":
            assert any(c <= cost and r >= rate and (c, r) != (cost, rate) for c, r in scaled)
        if place.status == "extended_dominated":
            left, right = max(p for p in on if p[0] <= cost), min(p for p in on if p[1] >= rate)
            share = (rate - left[1]) / (right[1] - left[1])
            assert left[0] + share * (right[0] - left[0]) <= cost + 1e-9
