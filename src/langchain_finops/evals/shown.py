"""How decisions show their figures to people: three digits, intervals in brackets, and never $0 for unknown."""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

__all__ = ["bound", "figure", "named", "points", "ratio", "share", "usd"]

NAMES_SHOWN = 12
"""So many names stand in a sentence; programs get all of them."""


def figure(value: float, *, decimals: int | None = None) -> str:
    """Three digits, or more where they stand before the point."""
    if decimals is None or 0 < abs(value) < 0.5 * 10.0**-decimals:
        decimals = _decimals(value)
    return f"{value:,.{decimals}f}"


def _decimals(value: float) -> int:
    return max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0


def usd(amount: float | Decimal | None) -> str:
    """Dollars; `unknown` for what is unknown."""
    if amount is None:
        return "unknown"
    sign = "-" if amount < 0 else ""
    return f"{sign}${figure(abs(float(amount)))}"


def bound(relation: str, amount: float | Decimal) -> str:
    """Dollars behind `>=`, `>` or `<=`, rounded to the side on which the bound still holds."""
    digit = Decimal(1).scaleb(-_decimals(float(amount)))
    rounding = ROUND_CEILING if relation == "<=" else ROUND_FLOOR
    return f"{relation} {usd(Decimal(str(amount)).quantize(digit, rounding))}"


def ratio(value: float | None, low: float | None, high: float | None) -> str:
    """A ratio with its interval."""
    if value is None:
        return "-"
    if low is None or high is None:
        return figure(value, decimals=2)
    return f"{figure(value, decimals=2)} ({figure(low, decimals=2)}-{figure(high, decimals=2)})"


def share(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A rate in per cent, with its interval."""
    if value is None:
        return "-"
    return f"{value:.0%}" if low is None or high is None else f"{value:.0%} ({low * 100:.0f}-{high * 100:.0f})"


def points(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A difference of rates in percentage points, with its interval."""
    if value is None:
        return "-"
    shown = f"{value * 100:+.1f}"
    return shown if low is None or high is None else f"{shown} ({low * 100:+.1f} to {high * 100:+.1f})"


def named(names: Sequence[str]) -> str:
    """Names in a sentence, not more than one can read."""
    if len(names) <= NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_SHOWN])} and {len(names) - NAMES_SHOWN:,} more"
