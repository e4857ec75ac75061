"""How the arguments of budgets and guards are read: each by its own rule, and all faults told at once."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, get_args

from langchain_finops.budgets.refusal import OnExceed, Refusal
from langchain_finops.budgets.units import FRACTIONAL, Unit, in_units, say, smallest
from langchain_finops.errors import BadArguments
from langchain_finops.money import usd

__all__ = ["ON_EXCEED", "Decide", "Number", "flag", "limit", "name", "on_exceed", "refuse", "settle", "whole", "word"]

Number = Decimal | int | float | str
Decide = Callable[[Refusal], OnExceed]
"""Sees what is to be refused, and says which of the four words it shall be."""
Rule = Callable[[Any], object]
"""Makes of an argument what is kept. Raises ValueError saying what it must be."""

ON_EXCEED: Final[tuple[str, ...]] = get_args(OnExceed)


def settle(policy: object, rules: Mapping[str, Rule], given: Mapping[str, object]) -> list[str]:
    """Set each field of a frozen policy to what its rule makes of the argument; tells what is wrong with the others."""
    faults = []
    for field, value in given.items():
        try:
            object.__setattr__(policy, field, rules[field](value))
        except ValueError as error:
            faults.append(f"{field}: {error}")
    return faults


def refuse(kind: str, faults: list[str]) -> None:
    """Raises BadArguments with all faults, if there are any."""
    if faults:
        raise BadArguments(f"{kind}: {'; '.join(faults)}")


def limit(unit: Unit) -> Rule:
    """Limits of a unit: more than nothing, and whole where it is; None is no limit."""

    def rule(value: Any) -> Decimal | int | None:
        if value is None:
            return None
        try:
            number = usd(value)
        except ValueError as error:
            raise ValueError(f"must be a finite number, not {value!r}") from error
        if number <= 0:
            raise ValueError(f"must be more than 0, not {value} (the kill switch stops all calls)")
        amount = smallest(unit, number)
        if unit not in FRACTIONAL and amount != number:
            raise ValueError(f"must be a whole number, not {value}")
        if amount == 0:
            raise ValueError(f"must be at least {say(unit, 1)}, not {value}")
        return in_units(unit, amount) if unit in FRACTIONAL else amount

    return rule


def whole(value: object) -> int:
    """A count, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"must be a whole number of at least 1, not {value!r}")
    return value


def word(*words: str | None) -> Rule:
    """One of some words."""

    def rule(value: object) -> object:
        if value not in words:
            named = ", ".join(word for word in words if word is not None)
            raise ValueError(f"must be one of {named}{' or None' if None in words else ''}, not {value!r}")
        return value

    return rule


def flag(value: object) -> bool:
    """True or False; a text such as "no" would be true."""
    if value is True or value is False:
        return value
    raise ValueError(f"must be True or False, not {value!r}")


def name(value: object) -> str | None:
    """What a guard is called, if it is."""
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise ValueError(f"must be a text, not {value!r}")
    return value


def on_exceed(value: object) -> object:
    """What happens at the limit: one of the words, or a function that chooses one."""
    if not callable(value) and value not in ON_EXCEED:
        raise ValueError(f"must be one of {', '.join(ON_EXCEED)}, or a function that returns one, not {value!r}")
    return value
