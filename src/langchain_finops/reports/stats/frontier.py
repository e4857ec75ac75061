"""Is the dearer one worth it? The cost/quality frontier, and what one more success costs along it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Place", "frontier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a configuration stands."""

    status: Literal["on", "dominated", "extended_dominated", "no_success"]
    """`dominated`: another costs no more and succeeds no less. `extended_dominated`: a mix of two others does."""
    against: int | None = None
    """The survivor before it, by index; None for the first and for those that are not on the frontier."""
    incremental_usd: float | None = None
    """Dollars for one more success than `against`."""


def frontier(points: Sequence[tuple[float, float]]) -> list[Place]:
    """Place each (mean cost, success rate): sort by cost, drop the dominated, then the extended-dominated.

    Equal points share their place. One without any success is never on the frontier: doing nothing is as good.
    """
    survivors: list[int] = []
    places = [Place(status="no_success" if rate <= 0 else "dominated") for _, rate in points]
    # Ties go to the higher rate first, so that whatever comes later at the same cost is seen to be dominated.
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        rate = points[index][1]
        if rate > 0 and (not survivors or rate > points[survivors[-1]][1]):
            _drop_extended(points, places, survivors, index)
            survivors.append(index)
    for before, index in zip([None, *survivors], survivors, strict=False):
        incremental = None if before is None else _slope(points[before], points[index])
        places[index] = Place(status="on", against=before, incremental_usd=incremental)
    return _with_ties(points, places, survivors)


def _drop_extended(points: Sequence[tuple[float, float]], places: list[Place], survivors: list[int], new: int) -> None:
    """Drop those before `new` that cost more for a success than going on to `new` does."""
    while len(survivors) > 1:
        last, before = survivors[-1], survivors[-2]
        if _slope(points[before], points[last]) < _slope(points[last], points[new]):
            return
        places[last] = Place(status="extended_dominated")
        survivors.pop()


def _slope(start: tuple[float, float], end: tuple[float, float]) -> float:
    return (end[0] - start[0]) / (end[1] - start[1])


def _with_ties(points: Sequence[tuple[float, float]], places: list[Place], survivors: list[int]) -> list[Place]:
    on = {points[index]: places[index] for index in survivors}
    return [on.get(point, place) for point, place in zip(points, places, strict=True)]
