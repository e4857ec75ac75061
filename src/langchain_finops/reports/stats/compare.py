"""One configuration against another, task by task: ratio of costs per success, difference of rates, verdicts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from langchain_finops.errors import BadArguments
from langchain_finops.reports.stats.intervals import (
    Interval,
    TaskSums,
    check_level,
    influence,
    log_interval,
    mean,
    normal_quantile,
    spread,
    t_quantile,
    t_tail,
)
from langchain_finops.reports.stats.success import no_success_bound

__all__ = [
    "MIN_DIFFERING",
    "MIN_SUCCESSES",
    "MIN_TASKS",
    "Judgement",
    "PairedRatio",
    "RateDifference",
    "VerdictKind",
    "holm",
    "judge",
    "paired_ratio",
    "rate_difference",
    "rate_verdict",
    "verdict",
]

VerdictKind = Literal["BETTER", "NON_INFERIOR", "WORSE", "INCONCLUSIVE"]

MIN_TASKS = 50
"""Below it the log-delta interval covers less than it says, and no verdict is given."""
MIN_SUCCESSES = 10
"""For each side that has any success, for the same reason."""
ROUNDING = 1e-12
"""Distances of logarithms below it are rounding: two sides of equal costs must not come out as different."""
MIN_DIFFERING = 5
"""Rates are not told apart on fewer tasks than this on which the two sides differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRatio:
    """Cost per success of one side over the other's, on the same tasks. Below 1 the first is the cheaper one."""

    ratio: float | None
    """None where a side has no success, unknown costs or none: `why` says which."""
    interval: Interval | None
    tasks: int
    successes: tuple[float, float]
    spread: float | None
    """Standard deviation over tasks of the difference of influences."""
    p_value: float
    """Two-sided, of the ratio being 1; 1 where nothing can be said."""
    better: bool | None
    """The direction: the first side looks cheaper. None where there is none."""
    why: str | None = None

    def p_margin(self, margin: float) -> float:
        """Return the one-sided p-value of the first side being dearer by `margin` (0.1 for 10%) or more."""
        if self.ratio is None or self.spread is None:
            return self.p_value if self.better else 1.0
        excess = math.log(self.ratio) - math.log1p(margin)
        return _tail(-excess, self.spread / math.sqrt(self.tasks), self.tasks - 1)


def paired_ratio(a: TaskSums, b: TaskSums, *, level: float = 0.95) -> PairedRatio:
    """Return R_A / R_B with its paired log-delta interval. Place i of both must be the same task, complete in both.

    A task that a side never solved stays in. A side without any success is held by its one-sided lower bound against
    the other's upper bound.
    """
    check_level(level)
    if a.tasks != b.tasks:
        raise BadArguments(f"a comparison by task needs the same tasks on both sides, not {a.tasks} and {b.tasks}")
    successes = math.fsum(a.successes), math.fsum(b.successes)
    if a.unequal or b.unequal:
        a, b = _means(a), _means(b)
    why = _why_no_ratio(a, b, successes)
    if why is not None:
        return _no_ratio(a, b, successes, why)
    ratio_a, of_a = influence(a.cost, a.successes)
    ratio_b, of_b = influence(b.cost, b.successes)
    ratio = ratio_a / ratio_b
    sd = spread([x - y for x, y in zip(of_a, of_b, strict=True)])
    error = sd / math.sqrt(a.tasks)
    return PairedRatio(
        ratio=ratio,
        interval=log_interval(ratio, sd, a.tasks, level),
        tasks=a.tasks,
        successes=successes,
        spread=sd,
        p_value=_two_sided(math.log(ratio), error, a.tasks - 1),
        better=None if ratio == 1 else ratio < 1,
    )


def _means(sums: TaskSums) -> TaskSums:
    """Per-task means, even where this side's own slots are equal: the other's are not."""
    return TaskSums(
        cost=[cost / count for cost, count in zip(sums.cost, sums.attempts, strict=True)],
        successes=[won / count for won, count in zip(sums.successes, sums.attempts, strict=True)],
        attempts=[1] * sums.tasks,
        unknown=sums.unknown,
    )


def _why_no_ratio(a: TaskSums, b: TaskSums, successes: tuple[float, float]) -> str | None:
    if a.tasks < 2:
        return "fewer than 2 tasks in common"
    if a.unknown or b.unknown:
        return "unknown costs"
    if min(math.fsum(a.cost), math.fsum(b.cost)) <= 0:
        return "free"
    return "no success" if min(successes) <= 0 else None


def _no_ratio(a: TaskSums, b: TaskSums, successes: tuple[float, float], why: str) -> PairedRatio:
    p_value, better = 1.0, None
    if why == "no success" and max(successes) > 0:
        better = successes[1] <= 0
        loser, other = (b, a) if better else (a, b)
        p_value = _p_of_no_success(loser, other)
    return PairedRatio(
        ratio=None,
        interval=None,
        tasks=a.tasks,
        successes=successes,
        spread=None,
        p_value=p_value,
        better=better,
        why=why,
    )


def _p_of_no_success(loser: TaskSums, other: TaskSums) -> float:
    """The smallest alpha at which the loser's one-sided lower bound lies above the other's two-sided upper bound."""
    ratio, influences = influence(other.cost, other.successes)
    sd = spread(influences)

    def apart(alpha: float) -> bool:
        low = no_success_bound(loser, 1 - alpha)
        return low is not None and low > log_interval(ratio, sd, other.tasks, 1 - alpha).high

    few, many = 1e-12, 1 - 1e-12
    if not apart(many):
        return 1.0
    if apart(few):
        return few
    low, high = math.log(few), math.log(many)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if apart(math.exp(middle)) else (middle, high)
    return math.exp(high)


def _tail(distance: float, error: float, freedom: int) -> float:
    """One-sided p-value; without any spread the point decides, and just reaching the margin is enough."""
    if error == 0:
        return 0.0 if distance >= -ROUNDING else 1.0
    return t_tail(distance / error, freedom)


def _two_sided(distance: float, error: float, freedom: int) -> float:
    if abs(distance) < ROUNDING:
        return 1.0
    if error == 0:
        return 0.0
    return min(1.0, 2 * t_tail(abs(distance) / error, freedom))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateDifference:
    """Success rate of one side less the other's, on the same tasks."""

    difference: float
    interval: Interval | None
    """None for a single task with repeats."""
    tasks: int
    differing: int
    """Tasks on which the two sides' rates differ: fewer than five tell nothing."""
    method: Literal["tango", "t"]


def rate_difference(a: TaskSums, b: TaskSums, *, level: float = 0.95) -> RateDifference | None:
    """Return the difference of success rates: Tango's interval with one attempt a task, t over tasks with repeats.

    None without tasks. Place i of both must be the same task.
    """
    check_level(level)
    if a.tasks != b.tasks:
        raise BadArguments(f"a comparison by task needs the same tasks on both sides, not {a.tasks} and {b.tasks}")
    if not a.tasks:
        return None
    gaps = [x - y for x, y in zip(_means(a).successes, _means(b).successes, strict=True)]
    difference, tasks = mean(gaps), len(gaps)
    method: Literal["tango", "t"] = "tango" if sum(a.attempts) == sum(b.attempts) == tasks else "t"
    interval = None
    if method == "tango":
        interval = tango(gaps.count(1.0), gaps.count(-1.0), tasks, level=level)
    elif tasks > 1:
        error = math.sqrt(math.fsum((gap - difference) ** 2 for gap in gaps) / (tasks - 1) / tasks)
        half = t_quantile((1 + level) / 2, tasks - 1) * error
        interval = Interval(max(-1.0, difference - half), min(1.0, difference + half), level)
    return RateDifference(
        difference=difference,
        interval=interval,
        tasks=tasks,
        differing=sum(gap != 0 for gap in gaps),
        method=method,
    )


def tango(only_first: int, only_second: int, tasks: int, *, level: float = 0.95) -> Interval:
    """Return Tango's (1998) score interval for p1 - p2, from the tasks that only one side solved."""
    z = normal_quantile((1 + level) / 2)
    difference = (only_first - only_second) / tasks

    def score(delta: float) -> float:
        """The score statistic: falls as delta rises, 0 at the difference seen."""
        linear = (2 * tasks - only_first + only_second) * delta - only_first - only_second
        constant = only_second * delta * (1 - delta)
        second_only = (math.sqrt(max(0.0, linear * linear + 8 * tasks * constant)) - linear) / (4 * tasks)
        variance = tasks * (2 * second_only + delta * (1 - delta))
        gap = only_first - only_second - tasks * delta
        return gap / math.sqrt(variance) if variance > 1e-300 else math.copysign(math.inf, gap) if gap else 0.0

    low = _falling_root(score, z, -1.0, difference)
    high = _falling_root(score, -z, difference, 1.0)
    return Interval(min(low, difference), max(high, difference), level)


def _falling_root(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    if function(low) <= target:
        return low
    if function(high) >= target:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return (low + high) / 2


def verdict(interval: Interval, *, margin: float = 0.0) -> VerdictKind:
    """Return what a ratio's interval says, by its bounds: below 1 is better, up to 1 + margin is not inferior."""
    if interval.high < 1:
        return "BETTER"
    if interval.high <= 1 + margin:
        return "NON_INFERIOR"
    return "WORSE" if interval.low > 1 else "INCONCLUSIVE"


def rate_verdict(difference: RateDifference | None, *, margin: float = 0.0) -> VerdictKind:
    """Return what a rate difference's interval says: above 0 is better, down to -margin is not inferior."""
    if difference is None or difference.interval is None or difference.differing < MIN_DIFFERING:
        return "INCONCLUSIVE"
    if difference.interval.low > 0:
        return "BETTER"
    if difference.interval.low >= -margin:
        return "NON_INFERIOR"
    return "WORSE" if difference.interval.high < 0 else "INCONCLUSIVE"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict on one comparison among several, and why it is no clearer."""

    verdict: VerdictKind
    p_adjusted: float
    """Holm-adjusted p-value of the ratio being 1."""
    why: str | None
    """Why it is INCONCLUSIVE; None where it is not."""


def judge(
    comparisons: Sequence[PairedRatio],
    *,
    level: float = 0.95,
    margin: float = 0.0,
    min_tasks: int = MIN_TASKS,
    min_successes: int = MIN_SUCCESSES,
) -> list[Judgement]:
    """Return a verdict for each of several comparisons against one baseline, Holm-adjusted.

    For a single comparison it is `verdict(comparison.interval)`, behind the two minima.
    """
    check_level(level)
    of_one = holm([comparison.p_value for comparison in comparisons])
    of_margin = holm([comparison.p_margin(margin) for comparison in comparisons])
    alpha = 1 - level
    judgements = []
    for comparison, p_one, p_margin in zip(comparisons, of_one, of_margin, strict=True):
        why = _too_little(comparison, min_tasks, min_successes)
        kind: VerdictKind = "INCONCLUSIVE"
        if why is None:
            kind = _kind(comparison, p_one < alpha, p_margin <= alpha / 2)
            if kind == "INCONCLUSIVE":
                why = comparison.why or _why_undecided(comparison)
        judgements.append(Judgement(verdict=kind, p_adjusted=p_one, why=why))
    return judgements


def _why_undecided(comparison: PairedRatio) -> str:
    alone = comparison.interval is not None and 1 not in comparison.interval
    return "not after Holm's adjustment" if alone else "the interval holds 1"


def _too_little(comparison: PairedRatio, min_tasks: int, min_successes: int) -> str | None:
    if comparison.why is not None and comparison.better is None:
        return comparison.why
    if comparison.tasks < min_tasks:
        return f"fewer than {min_tasks} tasks"
    if any(0 < won < min_successes for won in comparison.successes):
        return f"fewer than {min_successes} successes"
    return None


def _kind(comparison: PairedRatio, differs: bool, within_margin: bool) -> VerdictKind:
    if differs and comparison.better:
        return "BETTER"
    if within_margin:
        return "NON_INFERIOR"
    return "WORSE" if differs and comparison.better is False else "INCONCLUSIVE"
