"""Budgets as a person writes them in one line: `$20/day per agent_id`."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from langchain_finops.budgets.scopes import SCOPES, Match
from langchain_finops.budgets.units import UNITS
from langchain_finops.budgets.windows import PERIODS
from langchain_finops.errors import BadArguments

__all__ = ["where_text", "written"]

_BUDGET: Final = re.compile(
    r"(?P<amounts>[^/]+?)(?:\s*/\s*(?P<per>[a-z0-9]+))?(?P<pers>(?:\s+per\s+\S+)*)", re.IGNORECASE
)
_AMOUNT: Final = re.compile(
    r"(?P<dollar>\$\s*)?(?P<number>[0-9][0-9,_]*(?:\.[0-9]+)?|\.[0-9]+)(?:\s*(?P<unit>[a-z_ ]+))?", re.IGNORECASE
)
_WHERE: Final = re.compile(r"\s+where\s+", re.IGNORECASE)
_LENGTH: Final = re.compile(r"[0-9]+[a-z]", re.IGNORECASE)

_UNITS: Final = {word: unit for unit in UNITS for word in (unit, unit.removesuffix("s"))} | {"usd": "usd"}

UNDERSTOOD: Final = (
    "write AMOUNT[/WINDOW] [per SCOPE] [where NAME=VALUE, ...], such as '$0.50 per run', '$20/day per agent_id', "
    "'10 steps', '100000 tokens/hour per user_id' or '$5/30m per tag:team where node=writer'; "
    f"amounts are dollars or {', '.join(UNITS[1:])}; windows {', '.join(PERIODS)} or lengths such as 30m, 2h, 7d; "
    f"scopes {', '.join(SCOPES)}, tag:NAME"
)


def written(text: str) -> dict[str, Any]:
    """The arguments of the budget that a text says. Raises BadArguments, naming what is understood."""
    if not isinstance(text, str):
        raise BadArguments(f"a budget's text is a str, not {type(text).__name__}")
    try:
        return _written(text.strip())
    except ValueError as error:
        raise BadArguments(f"cannot read {text!r} as a budget: {error}; {UNDERSTOOD}") from error


def where_text(match: Match) -> str:
    """What a budget's text says of its `match`."""
    return f" where {', '.join(f'{name}={value}' for name, value in match)}" if match else ""


def _written(text: str) -> dict[str, Any]:
    head, *where = _WHERE.split(text, maxsplit=1)
    found = _BUDGET.fullmatch(head)
    if found is None:
        raise ValueError("it has another form")
    said = dict(_amounts(found["amounts"]))
    windows = [] if found["per"] is None else [found["per"]]
    scopes: list[str] = []
    for word in found["pers"].split()[1::2]:
        is_window = word.lower() in PERIODS or _LENGTH.fullmatch(word)
        (windows if is_window else scopes).append(word)
    for name, words in (("per", windows), ("scope", scopes)):
        if len(words) > 1:
            raise ValueError(f"{' and '.join(words)} are two {'windows' if name == 'per' else 'scopes'}")
        if words:
            said[name] = words[0]
    if where:
        said["match"] = _match(where[0])
    return said


def _amounts(text: str) -> Iterator[tuple[str, Any]]:
    seen = set()
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE):
        found = _AMOUNT.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"{part.strip()!r} is no amount")
        word = "_".join((found["unit"] or "").lower().split())
        if found["dollar"]:
            word = word or "usd"
        unit = _UNITS.get(word)
        if unit is None or (found["dollar"] and unit != "usd"):
            raise ValueError(f"{part.strip()!r} is in no unit that there is")
        if unit in seen:
            raise ValueError(f"{unit} is limited twice")
        seen.add(unit)
        yield unit, Decimal(re.sub("[,_]", "", found["number"]))


def _match(text: str) -> dict[str, str]:
    match: dict[str, str] = {}
    for pair in text.split(", "):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is no NAME=VALUE")
        if name.strip() in match:
            raise ValueError(f"{name.strip()} is matched twice")
        match[name.strip()] = value.strip()
    return match
