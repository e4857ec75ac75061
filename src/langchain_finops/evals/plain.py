"""An answer as plain data, so that it can be stored, and judged again later exactly as it was."""

import dataclasses
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

__all__ = ["plain"]


def plain(value: object) -> object:  # noqa: PLR0911  A table of types.
    """What JSON can hold of a value. Of a message its type, content and tool calls: usage is in the ledger."""
    match value:
        case Enum():
            return plain(value.value)
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case BaseMessage():
            message = {"type": value.type, "content": plain(value.content)}
            calls = getattr(value, "tool_calls", None)
            return {**message, "tool_calls": plain(calls)} if calls else message
        case BaseModel():
            return plain(value.model_dump(mode="json"))
        case Mapping():
            return {str(key): plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [plain(entry) for entry in value]
        case set() | frozenset():
            return sorted((plain(entry) for entry in value), key=repr)  # Sets have no order of their own.
        case Decimal() | date() | datetime() | time():
            return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)
