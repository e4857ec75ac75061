"""What tables and JSON cannot hold, made such that they can: no call is lost for a name or a provider's odd counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, cast

from langchain_finops.records import CallRecord, ChargeRecord, Record, RunRecord

__all__ = ["clean_text", "with_clean_texts", "with_plain_usage"]

_WHO: Final = (
    "agent_id", "user_id", "task_id", "task_type", "thread_id", "customer_id", "project", "environment", "release",
    "node", "node_path", "role",
)  # fmt: skip
_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "call": ("call_id", "run_id", "invocation_id", "provider", "model", "cost_status"),
    "charge": ("charge_id", "run_id", "invocation_id", "cost_status"),
    "run": ("run_id", "invocation_id"),
    "outcome": ("task_id",),
    "event": ("event_id",),
}
"""Fields that are columns of text. All others are JSON, which escapes what UTF-8 has no word for."""


def _getter(kind: str) -> Callable[[Record], Sequence[Any]]:
    who = [f"attribution.{name}" for name in _WHO] if kind in {"call", "charge", "run"} else []
    names = [*_OWN[kind], *who]
    # Of a single name, attrgetter gives the value and no tuple.
    return attrgetter(*names) if len(names) > 1 else lambda record: (getattr(record, names[0]),)


_TEXTS: Final = {kind: _getter(kind) for kind in _OWN}
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
DEEPEST: Final = 8
"""How deep raw usage may be nested; what is below is kept as text."""


def clean_text(value: object) -> str:
    """The value as text that every database can hold.

    What UTF-8 has no word for (a lone surrogate, as from a file name) becomes its escape, and so does NUL.
    """
    text = value if isinstance(value, str) else str(value)
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def with_clean_texts(kind: str, record: Record) -> Record:
    """The record with clean text in all columns of text; itself where it has."""
    try:
        is_clean = b"\0" not in "".join(filter(None, _TEXTS[kind](record))).encode()
    except (TypeError, UnicodeEncodeError):
        is_clean = False
    if not is_clean:
        own: dict[str, Any] = _cleaned(record, _OWN[kind])
        if isinstance(record, CallRecord | ChargeRecord | RunRecord):
            own["attribution"] = replace(record.attribution, **_cleaned(record.attribution, _WHO))
        return replace(record, **own)
    return record


def _cleaned(of: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: clean_text(value) for name in names if (value := getattr(of, name)) is not None}


def with_plain_usage(record: CallRecord) -> CallRecord:
    """The record with raw usage that JSON gives back as it was; itself where it has."""
    raw = record.raw_usage
    if raw is None or _is_plain(raw, DEEPEST):
        return record
    return replace(record, raw_usage=cast("dict[str, Any]", _plain(raw, DEEPEST)))


def _is_plain(parts: Mapping[Any, Any], depth: int) -> bool:
    """Whether there are only dicts of texts and numbers: the slower way takes care of all else."""
    for name, value in parts.items():
        if type(name) is not str:
            return False
        kind = type(value)
        if kind not in _SCALARS and not (kind is dict and depth and _is_plain(value, depth - 1)):
            return False
    return True


def _plain(value: object, depth: int) -> object:
    if type(value) in _SCALARS:
        return value
    if depth < 0:
        return "..."
    if isinstance(value, Mapping):
        return {clean_text(name): _plain(part, depth - 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, depth - 1) for part in value]
    return clean_text(value)
