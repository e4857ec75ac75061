"""How far up the sorted values a bound lies that covers most of all values to come, whatever their distribution.

With `confidence` the k-th largest of n independent values is an upper bound of a share `coverage` of all there will be,
where fewer than k of n values lie above that share's quantile with a probability of 1 - `confidence` at most:

    P(Bin(n, 1 - coverage) <= k - 1) <= 1 - confidence

S. S. Wilks, Determination of Sample Sizes for Setting Tolerance Limits, Annals of Mathematical Statistics 12, 1941.
With k = 1, the largest value, it is 1 - coverage^n >= confidence: 299 values for 99% at 95% confidence, 59 for 95%.
"""

from functools import lru_cache
from math import exp, lgamma, log, log1p

from langchain_finops.errors import BadArguments

__all__ = ["bound_place", "values_needed"]


@lru_cache(maxsize=1024)
def bound_place(values: int, *, coverage: float, confidence: float) -> int | None:
    """Which of so many values is the bound, 1 for the largest; None where there are too few for any.

    Raises BadArguments for shares that are not between 0 and 1.
    """
    _check(coverage, confidence)
    left, above = 0.0, 0
    while above < values:
        left += exp(_log_probability(values, above, 1 - coverage))
        if left > 1 - confidence:
            break
        above += 1
    return above or None


def values_needed(*, coverage: float, confidence: float) -> int:
    """The least number of values of which the largest is such a bound. Raises BadArguments, as above."""
    _check(coverage, confidence)
    count = max(1, int(log1p(-confidence) / log(coverage)) - 1)  # Floats may be off by one: the same sum decides.
    while bound_place(count, coverage=coverage, confidence=confidence) is None:
        count += 1
    return count


def _log_probability(trials: int, hits: int, probability: float) -> float:
    ways = lgamma(trials + 1) - lgamma(hits + 1) - lgamma(trials - hits + 1)
    return ways + hits * log(probability) + (trials - hits) * log1p(-probability)


def _check(coverage: float, confidence: float) -> None:
    given: tuple[tuple[str, object], ...] = (("coverage", coverage), ("confidence", confidence))
    for name, share in given:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise BadArguments(f"{name} is {share!r}: it must lie between 0 and 1, such as 0.99")
