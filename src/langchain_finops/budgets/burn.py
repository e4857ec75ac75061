"""How fast a budget is used up: spend in a rolling window, burn rates, and the forecast for a window's end. Pure.

Spend is counted in buckets on the ledger, each a balance of its own: so a rolling window is right for all processes
together, and costs a dozen small reads, however many calls there were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final

from langchain_finops.ledger.holds import timed

__all__ = ["BUCKETS", "LEAST_ELAPSED", "BurnRate", "Rolling", "burn_rates", "forecast"]

BUCKETS: Final = 12
"""Buckets in a rolling window."""
LEAST_ELAPSED: Final = Fraction(1, 20)
"""The part of a window that a forecast takes as elapsed at least: its first call must not be taken for its pace."""
LEAST_BUCKET_S: Final = 10
"""A burn rate whose short window is shorter is left out: one call alone may take that long."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rolling:
    """The last so many seconds, counted in buckets that begin at whole multiples of their length since 1970."""

    window_s: int
    bucket_s: int

    def keys(self, base: str, at: datetime) -> list[str]:
        """The buckets that reach into the window, oldest first; the last one is the one that `at` is in."""
        last, first = self._index(at), self._index(at - timedelta(seconds=self.window_s))
        return [self._key(base, index) for index in range(first, last + 1)]

    def key(self, base: str, at: datetime) -> str:
        """The bucket that what is spent at that moment is counted in."""
        return self._key(base, self._index(at))

    def spent(self, base: str, at: datetime, amounts: Mapping[str, int]) -> int:
        """What was spent in the window, rounded down.

        The oldest bucket reaches out of the window: it counts by the part that lies within, as if what it holds had
        been spent evenly.
        """
        oldest, *others = self.keys(base, at)
        bucket = self.bucket_s * 1_000_000
        outside = _microseconds(at - timedelta(seconds=self.window_s)) % bucket
        within = amounts.get(oldest, 0) * (bucket - outside) // bucket
        return max(within + sum(amounts.get(key, 0) for key in others), 0)

    def _index(self, at: datetime) -> int:
        return _microseconds(at) // (self.bucket_s * 1_000_000)

    def _key(self, base: str, index: int) -> str:
        # Twice the window later nobody reads it, whatever the clocks of other machines say.
        end_s = (index + 1) * self.bucket_s + 2 * self.bucket_s * BUCKETS
        return timed(f"burn {self.bucket_s}s {base}", end_s)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class BurnRate:
    """So many times the rate that would use the limit up just at its period's end, in both of two windows.

    The long window says that it matters, the short one that it still goes on: the alert starts fast and stops fast.
    """

    multiple: Fraction
    long: Rolling
    short: Rolling


def burn_rates(period_s: int) -> tuple[BurnRate, ...]:
    """The rates to alert on for a budget of that period, fastest first.

    For 30 days they are 14.4 times over 1 h and 5 min (2% of the limit), 6 times over 6 h and 30 min (5%), and 1 time
    over 3 d and 6 h (10%); other periods have windows of the same part of theirs. multiple = part x period / window.
    """
    rates = []
    for part, of_period in ((Fraction(2, 100), 720), (Fraction(5, 100), 120), (Fraction(10, 100), 10)):
        bucket_s = period_s // (of_period * BUCKETS)
        if bucket_s >= LEAST_BUCKET_S:
            long_s = bucket_s * BUCKETS
            rates.append(
                BurnRate(part * period_s / long_s, Rolling(long_s, bucket_s), Rolling(bucket_s, bucket_s)),
            )
    return tuple(rates)


def forecast(spent: int, start: datetime, end: datetime, at: datetime) -> int:
    """What will be spent by the window's end if its pace stays: spent + spent / elapsed x time left, rounded down.

    Elapsed is a twentieth of the window at least. A clock that is off does not look out of the window.
    """
    length = end - start
    elapsed = min(max(at - start, timedelta(0)), length)
    least = length * LEAST_ELAPSED.numerator // LEAST_ELAPSED.denominator
    left = length - elapsed
    return spent + spent * (left // _MICROSECOND) // max(max(elapsed, least) // _MICROSECOND, 1)
