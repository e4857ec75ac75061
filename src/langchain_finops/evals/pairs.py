"""Two configurations on the tasks that are complete in both: who wins where, and what their statistics say.

An attempt without a verdict is not wrong, only unscored: a pair is computed at both ends, the unscored of one side as
failures and of the other as successes, and what the two ends do not agree on is inconclusive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from langchain_finops.evals.arms import Arm, Slot
from langchain_finops.money import sum_usd
from langchain_finops.reports import stats

__all__ = [
    "Judged",
    "Pair",
    "TaskPair",
    "divided",
    "expected_sums",
    "is_settled",
    "judged",
    "paired",
    "with_unscored_won",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPair:
    """One task in both configurations, all its repeats."""

    task: str
    a_cost_usd: Decimal | None
    """List cost of all its attempts; None where a part is unknown."""
    b_cost_usd: Decimal | None
    a_successes: int
    b_successes: int
    a_attempts: int
    b_attempts: int
    unscored: int
    """Attempts of either side that nobody could judge."""

    @property
    def cost_difference_usd(self) -> Decimal | None:
        """What an attempt costs more with A, on average; None where unknown. Rounded to a picodollar."""
        if self.a_cost_usd is None or self.b_cost_usd is None:
            return None
        mean = self.a_cost_usd / self.a_attempts - self.b_cost_usd / self.b_attempts
        return mean.quantize(Decimal("1E-12")) if mean % Decimal("1E-12") else mean

    @property
    def rate_difference(self) -> float:
        """How much more often A succeeds: 1 where A alone solves it each time."""
        return self.a_successes / self.a_attempts - self.b_successes / self.b_attempts

    @property
    def flip(self) -> str | None:
        """`won` where A succeeds more often, `lost` where B does, None where they do alike."""
        gap = self.a_successes * self.b_attempts - self.b_successes * self.a_attempts
        return None if gap == 0 else "won" if gap > 0 else "lost"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A against B, on the tasks that are complete in both."""

    a: Arm
    b: Arm
    tasks: tuple[str, ...]
    level: float
    failure_usd: Decimal | None = None
    """What a failure costs besides: the ratio is then one of expected costs of an attempt."""

    @cached_property
    def by_task(self) -> tuple[TaskPair, ...]:
        """What each task cost and how often it succeeded, in the order of the tasks."""
        return tuple(_task_pair(task, self.a.by_task[task], self.b.by_task[task]) for task in self.tasks)

    @cached_property
    def unscored(self) -> int:
        """Attempts of either side that nobody could judge."""
        slots = (slot for arm in (self.a, self.b) for task in self.tasks for slot in arm.by_task[task])
        return sum(not slot.judged for slot in slots)  # `by_task` knows it too, and takes ten times as long.

    @cached_property
    def ratio(self) -> stats.PairedRatio:
        """Cost per success of A over B's, unscored attempts as no success; expected cost with `failure_usd`."""
        return self._ratio(self.a.sums(self.tasks), self.b.sums(self.tasks))

    @cached_property
    def worst(self) -> stats.PairedRatio:
        """The same at the end that is worse for A; `ratio` where all is scored."""
        return self._end(generous_to_a=False) if self.unscored else self.ratio

    @cached_property
    def best(self) -> stats.PairedRatio:
        """The same at the end that is better for A."""
        return self._end(generous_to_a=True) if self.unscored else self.ratio

    @cached_property
    def rates(self) -> stats.RateDifference | None:
        """Success rate of A less B's, unscored attempts as no success."""
        return stats.rate_difference(self.a.sums(self.tasks), self.b.sums(self.tasks), level=self.level)

    @cached_property
    def worst_rates(self) -> stats.RateDifference | None:
        """The same at the end that is worse for A."""
        return self._rates_end(generous_to_a=False) if self.unscored else self.rates

    @cached_property
    def best_rates(self) -> stats.RateDifference | None:
        """The same at the end that is better for A."""
        return self._rates_end(generous_to_a=True) if self.unscored else self.rates

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """The ratio's interval, over both ends."""
        if self.worst.interval is None or self.best.interval is None:
            return None, None
        return self.best.interval.low, self.worst.interval.high

    @property
    def rates_interval(self) -> tuple[float | None, float | None]:
        """The rate difference's interval, over both ends."""
        worst, best = self.worst_rates, self.best_rates
        if worst is None or best is None or worst.interval is None or best.interval is None:
            return None, None
        return worst.interval.low, best.interval.high

    def rate_verdict(self, margin: float, *, worse_end: bool = False) -> stats.VerdictKind:
        """What the rate difference says; where unscored attempts could turn it, the worse end or INCONCLUSIVE."""
        worst, best = (stats.rate_verdict(end, margin=margin) for end in (self.worst_rates, self.best_rates))
        return worst if worse_end else _agreed(worst, best)

    def _end(self, *, generous_to_a: bool) -> stats.PairedRatio:
        return self._ratio(*self._sums(generous_to_a=generous_to_a))

    def _ratio(self, a: stats.TaskSums, b: stats.TaskSums) -> stats.PairedRatio:
        if self.failure_usd is not None:
            a, b = expected_sums(a, self.failure_usd), expected_sums(b, self.failure_usd)
        return stats.paired_ratio(a, b, level=self.level)

    def _rates_end(self, *, generous_to_a: bool) -> stats.RateDifference | None:
        a, b = self._sums(generous_to_a=generous_to_a)
        return stats.rate_difference(a, b, level=self.level)

    def _sums(self, *, generous_to_a: bool) -> tuple[stats.TaskSums, stats.TaskSums]:
        favoured, other = (self.a, self.b) if generous_to_a else (self.b, self.a)
        generous, strict = with_unscored_won(favoured, self.tasks), other.sums(self.tasks)
        return (generous, strict) if generous_to_a else (strict, generous)


def paired(a: Arm, b: Arm, tasks: Sequence[str], *, level: float, failure_usd: Decimal | None = None) -> Pair:
    """Return A against B on those of `tasks` that are complete in both, and wait for no further try."""
    complete = tuple(task for task in tasks if is_settled(a, task) and is_settled(b, task))
    return Pair(a=a, b=b, tasks=complete, level=level, failure_usd=failure_usd)


PENDING = frozenset({"interrupted", "max_usd"})
"""How the harness itself ends a try: the next run tries again. As a failure it would say something of the target."""


def is_settled(arm: Arm, task: str) -> bool:
    """Whether the arm has every attempt at the task that was planned, and waits for no further try."""
    if task not in arm.complete:
        return False
    return not any(slot.last.status == "error" and slot.last.stop_reason in PENDING for slot in arm.by_task[task])


def divided(level: float, comparisons: int) -> float:
    """The level of each of several comparisons, so that all of them together keep to `level` (Bonferroni)."""
    return 1 - (1 - level) / max(comparisons, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one of several pairs comes to."""

    verdict: stats.VerdictKind
    p_adjusted: float
    why: str | None
    """Why it is inconclusive."""


def judged(
    pairs: Sequence[Pair], *, margin: float, min_tasks: int, min_successes: int, worse_end: bool = False
) -> list[Judged]:
    """Judge the ratios of several pairs, Holm-adjusted. `worse_end`: unscored attempts count against A, as gates want
    it; else a verdict that they could turn is inconclusive."""
    if not pairs:
        return []

    def ends(ratios: Sequence[stats.PairedRatio]) -> list[stats.Judgement]:
        level = pairs[0].level
        return stats.judge(ratios, level=level, margin=margin, min_tasks=min_tasks, min_successes=min_successes)

    found = []
    worst, best = ends([pair.worst for pair in pairs]), ends([pair.best for pair in pairs])
    for pair, low, high in zip(pairs, worst, best, strict=True):
        kind = low.verdict if worse_end else _agreed(low.verdict, high.verdict)
        why = low.why if low.verdict == kind else f"{pair.unscored:,} unscored attempts could turn it"
        found.append(Judged(verdict=kind, p_adjusted=low.p_adjusted, why=why if kind == "INCONCLUSIVE" else None))
    return found


def _agreed(worst: stats.VerdictKind, best: stats.VerdictKind) -> stats.VerdictKind:
    """What both ends say. Where both are good, the lesser of the two."""
    if worst == best or worst in ("BETTER", "NON_INFERIOR"):
        return worst
    return "INCONCLUSIVE"


def _task_pair(task: str, a: Sequence[Slot], b: Sequence[Slot]) -> TaskPair:
    return TaskPair(
        task=task,
        a_cost_usd=_cost(a),
        b_cost_usd=_cost(b),
        a_successes=sum(slot.success for slot in a),
        b_successes=sum(slot.success for slot in b),
        a_attempts=len(a),
        b_attempts=len(b),
        unscored=sum(not slot.judged for slot in (*a, *b)),
    )


def _cost(slots: Sequence[Slot]) -> Decimal | None:
    return None if any(slot.unknown for slot in slots) else sum_usd([slot.cost_usd for slot in slots])


def with_unscored_won(arm: Arm, tasks: Sequence[str]) -> stats.TaskSums:
    """An arm's sums, its unscored attempts as successes."""
    sums = arm.sums(tasks)
    unscored = [sum(not slot.judged for slot in arm.by_task[task]) for task in tasks]
    return replace(sums, successes=[won + more for won, more in zip(sums.successes, unscored, strict=True)])


def expected_sums(sums: stats.TaskSums, failure_usd: Decimal) -> stats.TaskSums:
    """Cost of attempts and of what their failures cost; over attempts, so that the ratio is a cost per attempt."""
    figures = zip(sums.cost, sums.successes, sums.attempts, strict=True)
    return replace(
        sums,
        cost=[cost + (count - won) * float(failure_usd) for cost, won, count in figures],
        successes=[float(count) for count in sums.attempts],
    )
