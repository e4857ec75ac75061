"""How fields of results are read back from JSON. What is none of a field's values raises TypeError or ValueError."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation

from langchain_finops.records import CallError

__all__ = ["READ", "VERDICT_READ", "mapping", "same", "text", "whole"]


def same(value: object) -> object:
    """Anything, as it is."""
    return value


def text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def whole(value: object) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _amount(value: object) -> Decimal | None:
    if value is None:
        return None
    try:
        amount = Decimal(text(value))
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not an exact amount") from error
    if not amount.is_finite():
        raise ValueError(f"{value!r} is not a finite amount")
    return amount


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(text(value))
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return moment


def mapping(value: object) -> dict[str, object]:
    """An object."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a mapping")
    return value


def _known(value: object) -> Decimal:
    amount = _amount(value)
    if amount is None:
        raise TypeError("known_usd is null: an exact amount is expected")
    return amount


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _error(value: object) -> CallError | None:
    if value is None:
        return None
    fields_ = mapping(value)
    status, code = fields_.get("http_status"), fields_.get("code")
    return CallError(
        error_class=text(fields_.get("error_class")),
        http_status=None if status is None else whole(status),
        code=None if code is None else text(code),
    )


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a number of seconds")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value


def _verdict_success(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"success is {value!r}: true, false or null is expected")
    return value


READ: Mapping[str, Callable[[object], object]] = {
    **dict.fromkeys(("configuration", "task", "task_id", "fingerprint", "item_hash", "configuration_hash"), text),
    **dict.fromkeys(
        (
            "repeat",
            "try_number",
            "calls",
            "unpriced_calls",
            "unpriced_charges",
            "estimated_calls",
            "failed_calls",
            "replayed_calls",
            "steps",
            "tool_calls",
            "turns",
            "scripted_answers",
        ),
        whole,
    ),
    **dict.fromkeys(("cost_usd", "contracted_usd", "billed_usd", "charges_usd", "overhead_usd"), _amount),
    "known_usd": _known,
    "in_the_dark": _flag,
    **dict.fromkeys(
        ("costs_by_card", "costs_by_node"),
        lambda value: {name: _amount(amount) for name, amount in mapping(value).items()},
    ),
    "final_output_tokens": lambda value: None if value is None else whole(value),
    "overhead_s": lambda value: None if value is None else _seconds(value),
    "usage": lambda value: {name: whole(count) for name, count in mapping(value).items()},
    "trajectory": lambda value: tuple(map(text, _list(value))),
    "started_at": _moment,
    "ended_at": _moment,
    "latency_s": _seconds,
    "error": _error,
}
VERDICT_READ: Mapping[str, Callable[[object], object]] = {
    **dict.fromkeys(("configuration", "task", "scorer", "scorer_hash", "item_hash"), text),
    **dict.fromkeys(("repeat", "try_number", "calls"), whole),
    "cost_usd": _amount,
    "known_usd": _known,
    **dict.fromkeys(
        ("model", "prompt_hash", "judging_id", "stop_reason"), lambda value: None if value is None else text(value)
    ),
    "success": _verdict_success,
    "score": lambda value: None if value is None else _seconds(value),
}
