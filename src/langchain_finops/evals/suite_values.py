"""Reads single values of a suite. Each raises ValueError saying what was found and what is expected."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import cast

from langchain_finops.evals.structured import schema_fault
from langchain_finops.money import usd

__all__ = [
    "IGNORABLE_BY",
    "SCORER_OPTIONS",
    "SCORER_TYPES",
    "read_count",
    "read_flag",
    "read_ignore",
    "read_name",
    "read_not_negative",
    "read_one_of",
    "read_pattern",
    "read_positive",
    "read_positive_share",
    "read_schema",
    "read_scorer_type",
    "read_seconds",
    "read_share",
    "read_spec",
    "read_text",
]

SCORER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "exact": ("answer_field", "expected_field", "ignore"),
    "contains": ("answer_field", "expected_field", "ignore"),
    "regex": ("answer_field", "expected_field", "ignore", "pattern"),
    "numeric": ("answer_field", "expected_field", "tolerance", "relative_tolerance"),
    "json": ("answer_field", "expected_field", "tolerance", "relative_tolerance"),
    "json_schema": ("answer_field", "expected_field", "schema"),
    "set": ("answer_field", "expected_field", "ignore", "metric", "separator", "threshold"),
    "trajectory": ("answer_field", "expected_field", "match", "arguments"),
    "python": ("function", "threshold"),
    **dict.fromkeys(
        ("judge", "trajectory_judge"),
        ("model", "function", "prompt", "reasoning", "threshold", "answer_field", "expected_field"),
    ),
}
IGNORABLE_BY: Mapping[str, tuple[str, ...]] = {"regex": ("case",)}
"""A pattern says by itself what it makes of white space and punctuation."""
SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
SCORER_TYPES = f"one of {', '.join(SCORER_OPTIONS)}"


def read_text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} found: a text is expected")
    return value


def read_name(value: object) -> str:
    """A name. YAML reads an unquoted `no` as false and `5` as a number."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} found: a text is expected; write it in quotes")  # noqa: TRY004  A fault.
    if not value.strip() or any(ord(letter) < 32 for letter in value):
        raise ValueError(f"{value!r} found: a text on one line is expected")
    return value


def read_spec(value: object) -> str:
    """`module:function`."""
    if not SPEC.fullmatch(read_text(value)):
        raise ValueError(f"{value!r} found: `module:function` is expected")
    return str(value)


def read_count(value: object) -> int:
    """A whole number, 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} found: a whole number, 1 or more, is expected")
    return value


def read_seconds(value: object) -> float:
    """A time above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{value!r} found: a number of seconds above 0 is expected")
    return float(value)


def read_share(value: object) -> float:
    """A number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} found: a number from 0 to 1 is expected")
    return float(value)


def read_not_negative(value: object) -> Decimal:
    """An exact number, 0 or more."""
    try:
        amount = usd(cast("str", value))
    except ValueError:
        amount = Decimal(-1)
    if amount < 0:
        raise ValueError(f"{value!r} found: a number, 0 or more, is expected")
    return amount


def read_positive(value: object) -> Decimal:
    """An exact number above 0."""
    if (amount := read_not_negative(value)) == 0:
        raise ValueError(f"{value!r} found: an amount above 0 is expected")
    return amount


def read_positive_share(value: object) -> Decimal:
    """An exact number above 0, and not above 1."""
    try:
        share = read_positive(value)
    except ValueError:
        share = Decimal(0)
    if not 0 < share <= 1:
        raise ValueError(f"{value!r} found: a number above 0, and not above 1, is expected")
    return share


def read_scorer_type(value: object) -> str:
    """A type of scorer."""
    if value not in SCORER_OPTIONS:
        raise ValueError(f"{value!r} is no scorer: {SCORER_TYPES}")
    return str(value)


def read_one_of(value: object, known: Sequence[str]) -> str:
    """One of the words that are known."""
    if value not in known:
        raise ValueError(f"{value!r} found: one of {', '.join(known)} is expected")
    return str(value)


def read_flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} found: true or false is expected")  # noqa: TRY004  A fault of the file.
    return value


def read_schema(value: object) -> dict[str, object]:
    """A JSON schema that can be used."""
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} found: a JSON schema is a mapping")  # noqa: TRY004  A fault of the file.
    if wrong := schema_fault(value):
        raise ValueError(wrong)
    return value


def read_ignore(value: object, known: Sequence[str]) -> tuple[str, ...]:
    """What a scorer does not mind: one word or several."""
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if entry not in known:
            raise ValueError(f"{entry!r} found: some of {', '.join(known)} are expected")
    return tuple(entries)


def read_pattern(value: object) -> str:
    """A regular expression."""
    try:
        re.compile(read_text(value))
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    return str(value)
