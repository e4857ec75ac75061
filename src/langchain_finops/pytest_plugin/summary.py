"""The lines at the end of a test session: what its model calls cost."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from langchain_finops.ledger.summary import show_usd
from langchain_finops.money import sum_usd

__all__ = ["lines"]

SHOWN = 10
"""Tests that are named; the rest is summed."""


def lines(seen: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """A line of the sums, and one for each of the dearest tests."""
    ranked = sorted(seen, key=lambda one: (-Decimal(one[1]["known_usd"]), one[0]))
    named = [(test, figures) for test, figures in ranked if figures["calls"] or figures["charges"]]
    total = {name: sum(figures[name] for _, figures in named) for name in ("calls", "charges", "unpriced", "estimated")}
    total |= {name: str(sum_usd([Decimal(f[name]) for _, f in named])) for name in ("known_usd", "billed_usd")}
    billed = show_usd(Decimal(total["billed_usd"]))
    head = f"{_words(total)} in {len(named)} test{'s' if len(named) != 1 else ''}; billed {billed}"
    rest = len(named) - SHOWN
    return [
        head,
        *(f"  {_words(figures)}  {test}" for test, figures in named[:SHOWN]),
        *([f"  and {rest} more tests"] if rest > 0 else []),
    ]


def _words(figures: dict[str, Any]) -> str:
    known = show_usd(Decimal(figures["known_usd"]))
    calls = f"{figures['calls']} call{'s' if figures['calls'] != 1 else ''}"
    if not figures["unpriced"]:
        return f"{known}, {calls}"
    if figures["unpriced"] == figures["calls"] + figures["charges"]:
        return f"unpriced, {calls}"
    return f">= {known} ({figures['unpriced']} unknown), {calls}"
