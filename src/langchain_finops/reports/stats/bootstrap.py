"""The bootstrap, as an option. Its generator is passed in, so that the same seed gives the same bounds."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_finops.errors import BadArguments, MissingExtra
from langchain_finops.reports.stats.intervals import Interval, TaskSums, check_level, influence, normal_quantile

if TYPE_CHECKING:
    import numpy as np

__all__ = ["bca_interval"]

CHUNK = 1_000_000
"""Numbers drawn at once: bounds the memory, not the number of resamples."""


def bca_interval(
    cost: Sequence[float],
    successes: Sequence[float],
    attempts: Sequence[int],
    *,
    generator: "np.random.Generator",
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval | None:
    """Return the BCa bootstrap interval of the cost per success, resampling tasks; None where there is none.

    Resamples without a success count as infinite, so `high` may be. The acceleration comes from the influences,
    which stay finite where leaving out the only solved task does not.
    """
    check_level(level)
    if resamples < 100:
        raise BadArguments(f"resamples is {resamples}: fewer than 100 tell nothing of a tail")
    sums = TaskSums(cost=cost, successes=successes, attempts=attempts).balanced()
    if sums.tasks < 2 or math.fsum(sums.cost) <= 0 or math.fsum(sums.successes) <= 0:
        return None
    ratio, influences = influence(sums.cost, sums.successes)
    ratios = _resampled(sums, generator, resamples)
    below = (sum(r < ratio for r in ratios) + 0.5 * sum(r == ratio for r in ratios)) / resamples
    # All resamples on one side would make the correction infinite.
    bias = normal_quantile(min(max(below, 1 / (resamples + 1)), resamples / (resamples + 1)))
    squares = math.fsum(u * u for u in influences)
    acceleration = math.fsum(u**3 for u in influences) / (6 * squares**1.5) if squares > 0 else 0.0

    def bound(probability: float, rounding: int) -> float:
        shifted = bias + normal_quantile(probability)
        stretch = 1 - acceleration * shifted
        corrected = _normal_cdf(bias + shifted / stretch) if stretch > 0 else float(shifted > 0)
        place = math.floor(corrected * (resamples + 1)) + rounding  # Outwards: an order statistic, never between two.
        return ratios[min(max(place, 1), resamples) - 1]

    return Interval(bound((1 - level) / 2, 0), bound((1 + level) / 2, 1), level)


def _resampled(sums: TaskSums, generator: "np.random.Generator", resamples: int) -> list[float]:
    """Ratios of resampled tasks, in rising order."""
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtra("the bootstrap", "eval") from error
    cost, successes = np.asarray(sums.cost, dtype=float), np.asarray(sums.successes, dtype=float)
    ratios: list[float] = []
    step = max(1, CHUNK // sums.tasks)
    for start in range(0, resamples, step):
        drawn = generator.integers(0, sums.tasks, size=(min(step, resamples - start), sums.tasks))
        spent, won = cost[drawn].sum(axis=1), successes[drawn].sum(axis=1)
        safe = np.where(won > 0, won, 1.0)
        ratios.extend(np.where(won > 0, spent / safe, np.inf).tolist())
    return sorted(ratios)


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))
