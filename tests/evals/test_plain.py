"""Answers as plain data."""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from langchain_finops.evals.plain import plain


class Kind(Enum):
    BIG = (1, 2)


class Word(StrEnum):
    YES = "yes"


@dataclass
class Point:
    x: int


class Order(BaseModel):
    total: Decimal


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (0.1, 0.1),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Decimal("0.10"), "0.10"),
        (date(2026, 7, 4), "2026-07-04"),
        ((1, {2}), [1, [2]]),
        ({1: {"b", "a"}}, {"1": ["a", "b"]}),
        (Kind.BIG, [1, 2]),
        (Word.YES, "yes"),
        (Point(x=1), {"x": 1}),
        (Order(total=Decimal("1.50")), {"total": "1.50"}),
        (b"x", "b'x'"),
        (HumanMessage("hi"), {"type": "human", "content": "hi"}),
        (
            AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}]),
            {
                "type": "ai",
                "content": "",
                "tool_calls": [{"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}],
            },
        ),
    ],
)
def test_a_value_becomes_what_json_holds(value: object, expected: object) -> None:
    """What is stored is what is judged, now and after a round trip through the file."""
    found = plain(value)

    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == found
