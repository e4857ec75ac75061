"""Records as JSON and back, exactly: amounts as integer picodollars, times as integer microseconds, counts as they are.

The spill file holds whole records. A SQL ledger holds the fields that many records share in interned rows (a label: the
names a cost is grouped by; a party: the run, task and person it belongs to) and the rest in the record's body.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.cleaning import with_clean_texts, with_plain_usage
from langchain_finops.money import from_pico, to_pico
from langchain_finops.records import (
    Attribution,
    CallError,
    CallRecord,
    ChargeRecord,
    Event,
    Outcome,
    Record,
    RunRecord,
)
from langchain_finops.usage import METERS_AND_REASONING, Usage

__all__ = [
    "KINDS",
    "check",
    "day_of",
    "decode",
    "decoded",
    "encode",
    "floor_day",
    "from_micros",
    "from_text",
    "identity",
    "now_micros",
    "to_micros",
    "to_text",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROS_PER_DAY: Final = 86_400_000_000
LARGEST: Final = 2**63 - 1
"""What a 64-bit column holds: $9.2 million in picodollars, in one record. Sums may be as large as they like."""
LARGEST_COUNT: Final = 10**12
"""Of one meter in one call. Millions of such calls can be summed up in a 64-bit column."""
LARGEST_REVISION: Final = 2**31

KINDS: Final[Mapping[str, type[Record]]] = {
    "call": CallRecord,
    "charge": ChargeRecord,
    "run": RunRecord,
    "outcome": Outcome,
    "event": Event,
}
KIND_OF: Final[Mapping[type, str]] = {type_: kind for kind, type_ in KINDS.items()}
IDS: Final = {"call": "call_id", "charge": "charge_id", "run": "run_id", "outcome": "task_id", "event": "event_id"}
"""The field by which versions of one record belong together."""
TIMES: Final = {"call": "started_at", "charge": "at", "run": "started_at", "outcome": "at", "event": "at"}
"""The field that `since` and `until` are compared with, and by which readers sort."""
AMOUNTS: Final = {
    "call": ("cost_usd", "contracted_usd", "billed_usd"),
    "charge": ("cost_usd",),
    "outcome": ("value_usd",),
}
_METERS: Final = attrgetter(*METERS_AND_REASONING)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly. Raises BadArguments for a time without a zone."""
    if moment.tzinfo is None:
        raise BadArguments(f"{moment.isoformat()} has no time zone: write it as an aware datetime, such as in UTC")
    passed = moment - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def now_micros() -> int:
    """The time, in microseconds since 1970."""
    return time.time_ns() // 1000


def from_micros(micros: int) -> datetime:
    """The time in UTC, exactly."""
    return EPOCH + timedelta(microseconds=micros)


def day_of(micros: int) -> str:
    """The UTC date of a time, as `2026-01-31`."""
    return from_micros(micros).date().isoformat()


def floor_day(moment: datetime) -> int:
    """The start of a time's UTC day, in microseconds."""
    micros = to_micros(moment)
    return micros - micros % MICROS_PER_DAY


def identity(record: Record) -> tuple[str, str, int]:
    """Kind, id and revision: what makes two writes the same one."""
    kind = kind_of(record)
    return kind, getattr(record, IDS[kind]), getattr(record, "revision", 0)


def kind_of(record: Record) -> str:
    """`call`, `charge`, `run`, `outcome` or `event`; raises BadArguments for anything else."""
    try:
        return KIND_OF[type(record)]
    except KeyError:
        raise BadArguments(f"a ledger keeps records, not {type(record).__name__}") from None


def check(record: Record) -> Record:
    """The record as a ledger keeps it: amounts to the picodollar, texts that UTF-8 can hold.

    Raises BadArguments for a time without a zone, and for counts and amounts that are more than a table holds.
    """
    kind = kind_of(record)
    record = with_clean_texts(kind, record)
    to_micros(getattr(record, TIMES[kind]))
    if abs(revision := getattr(record, "revision", 0)) > LARGEST_REVISION:
        raise BadArguments(f"revision {revision} is out of range")
    rounded: dict[str, Any] = {}
    last = None
    for name in AMOUNTS.get(kind, ()):
        amount = getattr(record, name)
        if amount is None or (amount is last and not rounded):  # Without discounts all three are one.
            continue
        last = amount
        pico = to_pico(amount)
        if not -LARGEST <= pico <= LARGEST:
            raise BadArguments(f"{name} is {amount}: one record holds at most ${from_pico(LARGEST)}")
        if (exact := from_pico(pico)) != amount:
            rounded[name] = exact
    if rounded:
        record = replace(record, **rounded)
    return _checked_call(record) if isinstance(record, CallRecord) else record


def _checked_call(call: CallRecord) -> CallRecord:
    if (most := max(_METERS(call.usage))) > LARGEST_COUNT:
        raise BadArguments(f"usage of {most} is more than one call can have: at most {LARGEST_COUNT} of a meter")
    return with_plain_usage(call)


def _usage(usage: Usage) -> dict[str, int]:
    counts = {meter: count for meter in METERS_AND_REASONING if (count := getattr(usage, meter))}
    if counts.get("requests") == 1:
        del counts["requests"]
    elif usage.requests == 0:
        counts["requests"] = 0
    return counts


def _amounts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}


def _attribution(attribution: Attribution) -> dict[str, Any]:
    return encode(attribution, ATTRIBUTION)


Encoder = Callable[[Any], Any]
_TIME: Final[tuple[Encoder, Encoder]] = (to_micros, from_micros)
_USD: Final[tuple[Encoder, Encoder]] = (to_pico, from_pico)
_MAP: Final[tuple[Encoder, Encoder]] = (dict, dict)
_SPECIAL: Final[Mapping[str, tuple[Encoder, Encoder]]] = {
    "usage": (_usage, lambda counts: Usage(**counts)),
    "cost_usd": _USD,
    "contracted_usd": _USD,
    "billed_usd": _USD,
    "value_usd": _USD,
    "quantity": (str, Decimal),
    "meter_usd": (_amounts, lambda amounts: {name: Decimal(amount) for name, amount in amounts.items()}),
    "started_at": _TIME,
    "first_token_at": _TIME,
    "ended_at": _TIME,
    "at": _TIME,
    "error": (lambda error: [error.error_class, error.http_status, error.code], lambda parts: CallError(
        error_class=parts[0], http_status=parts[1], code=parts[2])),
    "reasons": (list, tuple),
    "tags": _MAP,
    "scores": (lambda scores: dict(sorted(scores.items())), dict),
    "prompt_digests": (bytes.hex, bytes.fromhex),
    "raw_usage": _MAP,
    "before": _MAP,
    "after": _MAP,
    "attribution": (_attribution, lambda parts: decode(Attribution, parts)),
}  # fmt: skip
Plan = tuple[tuple[str, Encoder | None], ...]
"""Names of fields, each with the function that makes it JSON, or None where it is already."""


def plan(type_: type, without: Iterable[str] = ()) -> Plan:
    """How to encode a dataclass's fields, some left out."""
    names = [field.name for field in fields(type_) if field.name not in set(without)]
    return tuple((name, _SPECIAL[name][0] if name in _SPECIAL else None) for name in names)


ATTRIBUTION: Final = plan(Attribution)
_WHOLE: Final = {kind: plan(type_) for kind, type_ in KINDS.items()}


def encode(record: object, how: Plan) -> dict[str, Any]:
    """Fields as JSON values; a field that is None is left out."""
    out: dict[str, Any] = {}
    for name, encoder in how:
        value = getattr(record, name)
        if value is not None:
            out[name] = value if encoder is None else encoder(value)
    return out


def decode(type_: type[Any], parts: Mapping[str, Any], **own: object) -> Any:
    """What `encode` was given, with fields that need no decoding as they are."""
    return type_(**decoded(parts), **own)


def decoded(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by name, as records have them."""
    return {name: value if (how := _SPECIAL.get(name)) is None else how[1](value) for name, value in parts.items()}


def dumps(value: object) -> str:
    """JSON as short as it gets. What JSON has no word for is written as its text."""
    return json.dumps(value, separators=(",", ":"), default=str)


def to_text(record: Record) -> str:
    """The whole record on one line."""
    kind = kind_of(record)
    return dumps([kind, encode(record, _WHOLE[kind])])


def from_text(line: str) -> Record:
    """The record that `to_text` wrote. Raises ValueError for anything else."""
    try:
        kind, parts = json.loads(line)
        record: Record = decode(KINDS[kind], parts)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(f"not a record: {error}") from error
    return record
