"""What routing among single configurations could cost: Random and Oracle, exactly. No statistics here, no rounding.

A policy is an arm as any other: its attempts are those of the single that it sends each task to.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from langchain_finops.evals.arms import Arm, Slot
from langchain_finops.money import sum_usd

__all__ = [
    "Price",
    "Reach",
    "at_known_cost",
    "best_single",
    "held_out_oracle",
    "most_solved",
    "on_tasks",
    "oracle",
    "pooled",
]

# --- what a policy's success, or attempt, costs ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Between what a policy's figure lies on these attempts; infinite where there is no success, or no bound."""

    least: Fraction | float
    """Unscored attempts as successes, unknown costs at the part that is known."""
    most: Fraction | float
    """Unscored attempts as failures; infinite with unknown costs."""

    @property
    def exact(self) -> Fraction | None:
        """The figure, where nothing is open and there is one."""
        return self.least if self.least == self.most and isinstance(self.least, Fraction) else None


@dataclass(frozen=True, slots=True)
class Price:
    """What is made least: dollars a success, or with `failure_usd` dollars an attempt, its failure's included."""

    failure_usd: Decimal | None = None

    def of(self, arm: Arm, *, generous: bool = False) -> Fraction | float:
        """An arm's figure by what is known of its costs; tasks weigh alike. Infinite without success or attempts.

        `generous`: unscored attempts count as successes.
        """
        by_count: defaultdict[int, list[Sequence[Slot]]] = defaultdict(list)
        for slots in arm.by_task.values():
            by_count[len(slots)].append(slots)
        cost, won = Fraction(0), Fraction(0)
        for count, tasks in by_count.items():
            cost += Fraction(sum_usd([slot.cost_usd for slots in tasks for slot in slots])) / count
            won += Fraction(sum(_won(slot, generous=generous) for slots in tasks for slot in slots), count)
        if self.failure_usd is not None and arm.by_task:
            tasks_tried = len(arm.by_task)
            return (cost + Fraction(self.failure_usd) * (tasks_tried - won)) / tasks_tried
        return cost / won if won else math.inf

    def reach(self, arm: Arm) -> Reach:
        """Between what it lies."""
        most = math.inf if any(slot.unknown for slot in arm.slots) else self.of(arm)
        return Reach(least=self.of(arm, generous=True), most=most)


def _won(slot: Slot, *, generous: bool) -> bool:
    return slot.success or (generous and not slot.judged)


# --- one single for all tasks ------------------------------------------------------------------------------------


def best_single(singles: Sequence[Arm], price: Price) -> tuple[Arm | None, list[Arm]]:
    """The single of known costs with the least figure, and those that may yet have a lesser one.

    Of singles without any success the cheapest. None where no single's costs are all known.
    """
    reaches = [price.reach(arm) for arm in singles]
    known = [number for number, arm in enumerate(singles) if arm.slots and not any(slot.unknown for slot in arm.slots)]
    if not known:
        return None, list(singles)
    best = min(known, key=lambda number: (reaches[number].most, _mean_cost(singles[number])))
    below = [arm for number, arm in enumerate(singles) if number != best and reaches[number].least < reaches[best].most]
    return singles[best], below


def _mean_cost(arm: Arm) -> Fraction:
    return Fraction(sum_usd([slot.cost_usd for slot in arm.slots])) / len(arm.slots)


def pooled(singles: Sequence[Arm], tasks: Sequence[str]) -> Arm:
    """Random: a single by equal chance for each task. All their attempts together have its means, exactly."""
    return _arm("Random", {task: [slot for arm in singles for slot in arm.by_task[task]] for task in tasks})


def on_tasks(arm: Arm, tasks: Iterable[str]) -> Arm:
    """The same at these tasks alone, repeats in their order: in which order attempts ended changes no choice."""
    return _arm(arm.name, {task: sorted(arm.by_task[task], key=lambda slot: slot.last.repeat) for task in tasks})


def at_known_cost(arm: Arm) -> Arm:
    """The same at what is known of its costs, as if that were all: what is cheaper than this is cheaper than it."""
    by_task = {task: [replace(slot, unknown=False) for slot in slots] for task, slots in arm.by_task.items()}
    return _arm(arm.name, dict(by_task))


def _arm(name: str, by_task: dict[str, Sequence[Slot]]) -> Arm:
    return Arm(name=name, by_task=by_task, complete=frozenset(by_task))


# --- the best single for each task -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    """A single at a task: sums over its attempts, in units that are the same for all cells."""

    cost: int
    won: int
    unknown: bool


_Cells = Sequence[Sequence[_Cell]]
"""By task, and in it by single."""


def oracle(
    singles: Sequence[Arm], tasks: Sequence[str], price: Price, *, generous: bool = False, known_only: bool = False
) -> Arm | None:
    """Of all ways to send each task to one single the one whose figure is least, by what the singles' attempts say.

    `generous`: unscored attempts are successes. `known_only`: no attempt of unknown cost is chosen; None where a task
    has no other.
    """
    cells = _cells([[arm.by_task[task] for arm in singles] for task in tasks], price, generous=generous)
    barred = known_only and any(all(cell.unknown for cell in row) for row in cells)
    picks = None if barred else _cheapest(cells, price, known_only=known_only)
    return None if picks is None else _picked("Oracle", singles, tasks, picks)


def most_solved(singles: Sequence[Arm], tasks: Sequence[str]) -> Arm:
    """Each task to the single that solves it most often, the cheapest of those, whatever that costs."""
    cells = _cells([[arm.by_task[task] for arm in singles] for task in tasks], Price(), generous=False)
    picks = [_least(row, lambda cell: (-cell.won, cell.cost, cell.unknown)) for row in cells]
    return _picked("Oracle, most solved", singles, tasks, picks)


def held_out_oracle(singles: Sequence[Arm], tasks: Sequence[str], price: Price) -> Arm | None:
    """The Oracle, chosen for each repeat on the other repeats: it has not seen the attempts that are counted.

    None where a task has one attempt alone, or none is there.
    """
    most = max((len(singles[0].by_task[task]) for task in tasks), default=0)
    if not tasks or min(len(singles[0].by_task[task]) for task in tasks) < 2:
        return None
    by_task: dict[str, list[Slot]] = {task: [] for task in tasks}
    for repeat in range(most):
        others = [[_without(arm.by_task[task], repeat) for arm in singles] for task in tasks]
        picks = _cheapest(_cells(others, price, generous=False), price, known_only=False)
        for task, pick in zip(tasks, picks, strict=True):
            by_task[task] += singles[pick].by_task[task][repeat : repeat + 1]
    return _arm("Oracle, held out", dict(by_task))


def _without(slots: Sequence[Slot], place: int) -> Sequence[Slot]:
    return [*slots[:place], *slots[place + 1 :]]


def _cells(attempts: Sequence[Sequence[Sequence[Slot]]], price: Price, *, generous: bool) -> _Cells:
    """Whole numbers: fractions of dollars would take ten times as long to compare."""
    costs = [[sum_usd([slot.cost_usd for slot in slots]).as_integer_ratio() for slots in row] for row in attempts]
    failure = Fraction(price.failure_usd or 0)
    unit = math.lcm(failure.denominator, *{below for row in costs for _, below in row})
    repeats = math.lcm(*{len(slots) for row in attempts for slots in row})
    return [
        [
            _Cell(
                cost=above * (unit // below) * (repeats // len(slots)),
                won=sum(_won(slot, generous=generous) for slot in slots) * (repeats // len(slots)) * unit,
                unknown=any(slot.unknown for slot in slots),
            )
            for slots, (above, below) in zip(row, of_row, strict=True)
        ]
        for row, of_row in zip(attempts, costs, strict=True)
    ]


def _cheapest(cells: _Cells, price: Price, *, known_only: bool) -> list[int]:
    """Each task's choice. A success is worth `failure_usd`; or, where a ratio is to be least, what it then costs.

    Source: W. Dinkelbach, On nonlinear fractional programming, Management Science 13 (1967). Begun with what solves
    most, the worth falls from choice to choice until it is what a success costs, and there are finitely many choices.
    """
    if price.failure_usd is not None:
        return _by_worth(cells, Fraction(price.failure_usd), known_only=known_only)
    picks = [_least(row, lambda cell: (-cell.won, cell.cost), known_only=known_only) for row in cells]
    worth: Fraction | None = None
    while True:
        cost, won = (sum(getattr(row[pick], name) for row, pick in zip(cells, picks, strict=True)) for name in _SUMS)
        if not won:
            return _by_worth(cells, Fraction(0), known_only=known_only)
        if worth is not None and Fraction(cost, won) >= worth:
            return picks
        worth = Fraction(cost, won)
        picks = _by_worth(cells, worth, known_only=known_only)


_SUMS = ("cost", "won")


def _by_worth(cells: _Cells, worth: Fraction, *, known_only: bool) -> list[int]:
    """For each task the single whose cost less the worth of its successes is least; of equals the one that wins most.

    Without that last word a choice of free failures would be as good as one that has the same ratio and wins.
    """
    above, below = worth.as_integer_ratio()
    return [
        _least(row, lambda cell: (cell.cost * below - cell.won * above, -cell.won, cell.unknown), known_only=known_only)
        for row in cells
    ]


def _least(row: Sequence[_Cell], key: Callable[[_Cell], tuple[int, ...]], *, known_only: bool = False) -> int:
    """The first of a task's singles with the least key."""
    places = [place for place, cell in enumerate(row) if not (known_only and cell.unknown)]
    return min(places, key=lambda place: key(row[place]))


def _picked(name: str, singles: Sequence[Arm], tasks: Sequence[str], picks: Sequence[int]) -> Arm:
    return _arm(name, {task: singles[pick].by_task[task] for task, pick in zip(tasks, picks, strict=True)})
