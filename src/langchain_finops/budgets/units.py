"""What limits are counted in: six units, each an integer of its smallest part in storage."""

from decimal import Decimal
from typing import Final, Literal, get_args

from langchain_finops.money import EXACT

__all__ = ["FRACTIONAL", "UNITS", "Unit", "in_units", "say", "smallest"]

Unit = Literal["usd", "tokens", "llm_calls", "tool_calls", "steps", "seconds"]
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)

FRACTIONAL: Final[dict[Unit, int]] = {"usd": 12, "seconds": 6}
"""Decimals kept: dollars in picodollars, seconds in microseconds; the other units are whole."""


def smallest(unit: Unit, value: Decimal) -> int:
    """A value in the unit's smallest part, rounded half to even."""
    return int(value.scaleb(FRACTIONAL.get(unit, 0), EXACT).to_integral_value(context=EXACT))


def in_units(unit: Unit, amount: int) -> Decimal:
    """An amount of the unit's smallest part, in the unit itself, without trailing zeros."""
    value = Decimal(amount).scaleb(-FRACTIONAL.get(unit, 0), EXACT)
    whole = value.to_integral_value()
    return whole if whole == value else value.normalize(EXACT)


def say(unit: Unit, amount: int) -> str:
    """An amount as a budget's text says it: `$0.50`, `1 step`, `100000 tokens`."""
    value = in_units(unit, amount)
    if unit == "usd":
        sign, figures = "-" if value < 0 else "", format(abs(value), "f")
        short = "." in figures and len(figures.partition(".")[2]) == 1
        return f"{sign}${figures}{'0' if short else ''}"
    return f"{value:f} {unit.removesuffix('s') if value == 1 else unit}"
