"""What one configuration achieves: cost per success, success rate, reliability over repeats."""

import math
from collections.abc import Sequence
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
)

__all__ = [
    "Bound",
    "CostPerSuccess",
    "SuccessRate",
    "cost_per_success",
    "mean_cost_of_pass",
    "pass_at_k",
    "pass_hat_k",
    "success_rate",
    "tasks_needed",
    "wilson",
]

Bound = Literal["=", ">=", ">"]
"""`=` an estimate; `>=` some costs are unknown; `>` no success: a one-sided lower bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPerSuccess:
    """All cost of all attempts over the number of successes, and how sure that is."""

    usd: float | None
    """Read together with `bound`. None where nothing can be said."""
    bound: Bound
    interval: Interval | None
    """None for lower bounds, for a single task, and where everything is free."""
    tasks: int
    attempts: int
    successes: float
    unknown: int
    per_task_means: bool
    """Tasks had unequal slots: this is mean cost over mean successes of tasks, not of attempts."""
    spread: float | None
    """Standard deviation over tasks of log R's influences, for planning: see `tasks_needed`."""


def cost_per_success(
    cost: Sequence[float],
    successes: Sequence[float],
    attempts: Sequence[int],
    *,
    level: float = 0.95,
    unknown: int = 0,
) -> CostPerSuccess:
    """Return sum(cost) / sum(successes) with its log-delta interval; the sequences hold sums over slots for each task.

    Without a success the figure is a one-sided lower bound at `level`. With attempts of unknown cost it is a lower
    bound too, without an interval.
    """
    check_level(level)
    given = TaskSums(cost=cost, successes=successes, attempts=attempts, unknown=unknown)
    sums = given.balanced()
    usd, bound, interval, sd = _estimate(sums, level)
    return CostPerSuccess(
        usd=usd,
        bound=bound,
        interval=interval,
        tasks=given.tasks,
        attempts=sum(given.attempts),
        successes=math.fsum(given.successes),
        unknown=unknown,
        per_task_means=given.unequal,
        spread=sd,
    )


def _estimate(sums: TaskSums, level: float) -> tuple[float | None, Bound, Interval | None, float | None]:
    total, won = math.fsum(sums.cost), math.fsum(sums.successes)
    if won <= 0:
        return no_success_bound(sums, level), ">", None, None
    if sums.unknown:
        return (total / won if total > 0 else None), ">=", None, None
    if total <= 0 or sums.tasks < 2:  # Free, or paid back by credits: a logarithm has nothing to say.
        return total / won, "=", None, None
    ratio, influences = influence(sums.cost, sums.successes)
    sd = spread(influences)
    return ratio, "=", log_interval(ratio, sd, sums.tasks, level), sd


def no_success_bound(sums: TaskSums, level: float) -> float | None:
    """Return what a success costs at least, when none of n tasks was solved: mean cost over the rate's upper bound.

    The bound 1 - (1 - level)^(1/n) counts tasks, not attempts: repeats of a task fail together.
    None where nothing was spent.
    """
    total = math.fsum(sums.cost)
    if not sums.tasks or total <= 0:
        return None
    rate_up = -math.expm1(math.log1p(-level) / sums.tasks)
    return total / sum(sums.attempts) / rate_up


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Share of attempts that succeeded, and how sure that is."""

    value: float
    interval: Interval
    tasks: int
    attempts: int
    successes: float
    effective_attempts: float
    """How many independent attempts would tell as much: fewer than `attempts` where repeats of a task agree."""
    per_task_means: bool


def success_rate(successes: Sequence[float], attempts: Sequence[int], *, level: float = 0.95) -> SuccessRate | None:
    """Return the success rate with Wilson's interval at the effective number of attempts; None without tasks.

    The sequences hold sums over slots for each task.
    """
    check_level(level)
    if not successes:
        return None
    given = TaskSums(cost=[0.0] * len(successes), successes=successes, attempts=attempts)
    if any(not 0 <= won <= count for won, count in zip(successes, attempts, strict=True)):
        raise BadArguments("a task has more successes than attempts, or fewer than none")
    sums = given.balanced()
    value = math.fsum(sums.successes) / sum(sums.attempts)
    effective = _effective_attempts(given, value)
    return SuccessRate(
        value=value,
        interval=wilson(value, effective, level=level),
        tasks=given.tasks,
        attempts=sum(attempts),
        successes=math.fsum(successes),
        effective_attempts=effective,
        per_task_means=given.unequal,
    )


def _effective_attempts(given: TaskSums, rate: float) -> float:
    """min(N, p (1 - p) / variance of the rate over tasks); the tasks where that variance tells nothing."""
    attempts, tasks = sum(given.attempts), given.tasks
    if attempts == tasks:  # One attempt a task: no clusters, Wilson's own interval.
        return attempts
    if tasks == 1 or rate in (0.0, 1.0):
        return tasks
    rates = [won / count for won, count in zip(given.successes, given.attempts, strict=True)]
    variance = math.fsum((each - rate) ** 2 for each in rates) / (tasks - 1) / tasks
    return min(attempts, rate * (1 - rate) / variance) if variance > 0 else attempts


def wilson(rate: float, attempts: float, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval for a rate seen in a number of independent attempts, which may be fractional."""
    z = normal_quantile((1 + level) / 2)
    shrink = 1 + z * z / attempts
    middle = (rate + z * z / (2 * attempts)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / attempts + (z / (2 * attempts)) ** 2)
    # At 0 and 1 the bound is the rate itself; rounding may miss it by a hair, on either side.
    return Interval(min(max(0.0, middle - half), rate), max(min(1.0, middle + half), rate), level)


def pass_hat_k(successes: Sequence[int], attempts: Sequence[int], k: int) -> float:
    """Return pass^k: the chance that k attempts at a task all succeed. Mean over tasks of C(s, k) / C(n, k)."""
    _check_k(attempts, k)
    return mean(math.comb(won, k) / math.comb(count, k) for won, count in zip(successes, attempts, strict=True))


def pass_at_k(successes: Sequence[int], attempts: Sequence[int], k: int) -> float:
    """Return pass@k: the chance that one of k attempts succeeds. Mean over tasks of 1 - C(n - s, k) / C(n, k)."""
    _check_k(attempts, k)
    return mean(
        1 - math.comb(count - won, k) / math.comb(count, k) for won, count in zip(successes, attempts, strict=True)
    )


def _check_k(attempts: Sequence[int], k: int) -> None:
    if k < 1 or not attempts or min(attempts) < k:
        raise BadArguments(f"k = {k} needs at least {max(k, 1)} attempts at every task")


def mean_cost_of_pass(cost: Sequence[float], successes: Sequence[float]) -> float:
    """Return the mean over tasks of each task's cost per success (arXiv 2504.13359); infinite for an unsolved task.

    Another quantity than cost per success: one unsolved task decides it.
    """
    TaskSums(cost=cost, successes=successes, attempts=[1] * len(cost))
    if not cost:
        raise BadArguments("cost of pass needs at least one task")
    return mean(c / s if s > 0 else math.inf for c, s in zip(cost, successes, strict=True))


def tasks_needed(spread: float, *, half_width: float = 0.2, level: float = 0.95) -> int:
    """Return how many tasks give an interval of +- half_width (0.2 for 20%): (z sd(u) / ln(1 + half_width))^2.

    For one configuration `spread` is `CostPerSuccess.spread`, for a comparison `PairedRatio.spread`.
    """
    check_level(level)
    if half_width <= 0:
        raise BadArguments(f"half_width is {half_width}: it must be more than 0, such as 0.2 for 20%")
    z = normal_quantile((1 + level) / 2)
    return max(2, math.ceil((z * spread / math.log1p(half_width)) ** 2))
