"""How sure a percentile is: bounds from order statistics, whatever the distribution."""

import math
from collections.abc import Sequence

from langchain_finops.errors import BadArguments
from langchain_finops.reports.stats.intervals import Interval, check_level

__all__ = ["percentile_interval"]


def percentile_interval(values: Sequence[float], share: float, *, independent: int, level: float = 0.95) -> Interval:
    """Return bounds for the percentile that `share` names (0.95 for p95).

    Of n independent values, Binomial(n, share) lie below the true percentile: the bounds are the order statistics that
    leave (1 - level) / 2 on either side. `independent` is n where values come in clusters, such as repeats of a task:
    the number of clusters. A bound beyond the largest value is infinite: too few values to bound it.
    """
    check_level(level)
    if not values or not 0 < independent <= len(values) or not 0 < share < 1:
        raise BadArguments("a percentile needs values, a share between 0 and 1, and independent values among them")
    ordered, n, tail = sorted(values), independent, (1 - level) / 2
    below = _cumulated(n, share)
    # P(the k-th smallest of n <= percentile) = P(Binomial >= k), so the lower bound is the largest k with a tail below.
    low = max((k for k in range(n + 1) if (below[k - 1] if k else 0.0) <= tail), default=0)
    high = next((k for k in range(1, n + 1) if below[k - 1] >= 1 - tail), None)
    lower = ordered[(low - 1) * len(ordered) // n] if low else -math.inf
    upper = math.inf if high is None else ordered[-(-high * len(ordered) // n) - 1]
    return Interval(lower, upper, level)


def _cumulated(n: int, share: float) -> list[float]:
    """P(Binomial(n, share) <= k) for k from 0 to n."""
    total, cumulated = 0.0, []
    for k in range(n + 1):
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(ways + k * math.log(share) + (n - k) * math.log1p(-share))
        cumulated.append(min(total, 1.0))
    return cumulated
