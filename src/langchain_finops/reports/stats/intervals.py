"""Per-task sums, and the one interval behind every ratio of them. Derivations in docs/statistics.md."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from langchain_finops.errors import BadArguments, MissingExtra

__all__ = ["Interval", "TaskSums", "influence", "log_interval", "normal_quantile", "spread", "t_quantile", "t_tail"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Two-sided confidence interval. `high` may be infinite; what is not known at all has no interval."""

    low: float
    high: float
    level: float = 0.95

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSums:
    """One configuration's sums over the slots of each task; place i is one task, the same one in all that is compared.

    Raises BadArguments where the three differ in length, a figure is not finite, or a task has no attempt.
    """

    cost: Sequence[float]
    """Dollars, all tries included. Of attempts of unknown cost, the part that is known."""
    successes: Sequence[float]
    attempts: Sequence[int]
    """Slots, not tries."""
    unknown: int = 0
    """Attempts whose cost is not known in full: `cost` is then a lower bound."""

    def __post_init__(self) -> None:
        if not len(self.cost) == len(self.successes) == len(self.attempts):
            raise BadArguments("costs, successes and attempts must have one figure for each task")
        if not all(map(math.isfinite, self.cost)) or not all(map(math.isfinite, self.successes)):
            raise BadArguments("a cost or success count is not finite: give unknown costs as `unknown`, not as NaN")
        if any(count < 1 for count in self.attempts):
            raise BadArguments("a task without attempts must be left out, not counted as 0")

    @property
    def tasks(self) -> int:
        """Number of tasks: what is independent of each other."""
        return len(self.cost)

    @property
    def unequal(self) -> bool:
        """Tasks differ in their number of slots. Sums would then weigh tasks by their slots: means are needed."""
        return len(set(self.attempts)) > 1

    def balanced(self) -> "TaskSums":
        """The same where slots are equal; else per-task means, which weigh each task alike."""
        if not self.unequal:
            return self
        return TaskSums(
            cost=[cost / count for cost, count in zip(self.cost, self.attempts, strict=True)],
            successes=[won / count for won, count in zip(self.successes, self.attempts, strict=True)],
            attempts=[1] * self.tasks,
            unknown=self.unknown,
        )


def influence(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, list[float]]:
    """Return R = sum(c) / sum(s) and each task's influence on log R: u = (c - R s) / (R mean(s)).

    Both sums must be positive.
    """
    total = math.fsum(denominators)
    ratio = math.fsum(numerators) / total
    scale = ratio * total / len(denominators)
    return ratio, [(c - ratio * s) / scale for c, s in zip(numerators, denominators, strict=True)]


def spread(influences: Sequence[float]) -> float:
    """Return the standard deviation of influences over tasks, n - 1 in the denominator. Their mean is 0 by nature."""
    return math.sqrt(math.fsum(u * u for u in influences) / (len(influences) - 1))


def log_interval(ratio: float, sd: float, tasks: int, level: float) -> Interval:
    """Return ratio * exp(+- t sd / sqrt(n)), t with n - 1 degrees of freedom."""
    half = t_quantile((1 + level) / 2, tasks - 1) * sd / math.sqrt(tasks)
    factor = math.exp(min(half, 700.0))  # Beyond it exp overflows and raises; e^700 is no bound to speak of.
    return Interval(ratio / factor, ratio * factor, level)


def check_level(level: float) -> None:
    """Raise BadArguments unless the level is a probability between 0 and 1; 95 for 95% is the usual slip."""
    if not 0 < level < 1:
        raise BadArguments(f"level is {level}: it must lie between 0 and 1, such as 0.95")


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile."""
    return NormalDist().inv_cdf(probability)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t."""
    return float(_special("stdtrit")(freedom, probability))


def t_tail(t: float, freedom: int) -> float:
    """Return the probability that Student's t is `t` or more."""
    return float(_special("stdtr")(freedom, -t))


def _special(name: str) -> Callable[[float, float], float]:
    try:
        from scipy import special
    except ImportError as error:
        raise MissingExtra("an interval over tasks", "eval") from error
    function: Callable[[float, float], float] = getattr(special, name)
    return function


def mean(values: Iterable[float]) -> float:
    """Return the mean, the same one in whatever order the values come."""
    given = list(values)
    return math.fsum(given) / len(given)
