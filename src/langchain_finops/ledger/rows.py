"""How a record lies in tables: its label, its party, its own body, and the posting that sums are made of.

A label is everything of low cardinality: names a cost is grouped by, and whatever else thousands of calls share. A
party is the run, task and person. Both are written once and referred to by number, which keeps a call's own row small
and lets a million calls be summed by a few thousand labels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

from langchain_finops.ledger.cleaning import clean_text
from langchain_finops.ledger.codec import (
    IDS,
    KINDS,
    MICROS_PER_DAY,
    TIMES,
    check,
    decode,
    dumps,
    encode,
    from_micros,
    kind_of,
    plan,
    to_micros,
)
from langchain_finops.ledger.holds import Balance, Settlement, checked_amounts
from langchain_finops.money import to_pico
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, Record, RunRecord
from langchain_finops.usage import METERS_AND_REASONING

__all__ = [
    "LABEL_COLUMNS",
    "PARTY_COLUMNS",
    "Row",
    "ended_at",
    "is_kept_by_sums",
    "label_of",
    "party_of",
    "record_of",
    "row_of",
    "row_of_settlement",
]

PARTY_COLUMNS: Final = ("run_id", "invocation_id", "task_id", "user_id", "thread_id", "customer_id")
"""Columns of a party, next to its tags."""
LABEL_ATTRIBUTION: Final = (
    "agent_id", "task_type", "project", "environment", "release", "node", "node_path", "role",
)  # fmt: skip
LABEL_CALL: Final = ("provider", "model", "cost_status")
LABEL_COLUMNS: Final = (*LABEL_ATTRIBUTION, *LABEL_CALL)
LABEL_DETAIL: Final[Mapping[str, tuple[str, ...]]] = {
    "call": (
        "requested_model", "currency", "fx_id", "billing_mode", "estimated", "reasons", "card_id", "price_book_hash",
        "error", "account", "project", "region", "service_tier", "base_url_host",
    ),
    "charge": ("kind", "name", "unit", "card_id", "source", "error"),
    "run": ("name",),
}  # fmt: skip
"""Fields that records of a kind share and nothing groups by: the label keeps them as JSON."""
_KEPT: Final = frozenset((*LABEL_COLUMNS, *PARTY_COLUMNS, "tags")).union(*LABEL_DETAIL.values())
_PERSON: Final = ("task_id", "user_id", "thread_id", "customer_id")
_OWN_RUN: Final = ("run_id", "invocation_id")


def _label_fields(kind: str) -> tuple[str, ...]:
    status = {"call": LABEL_CALL, "charge": ("cost_status",)}.get(kind, ())
    return (*status, *LABEL_DETAIL[kind])


def _key_getter(kind: str) -> Callable[[Record], tuple[Any, ...]]:
    return attrgetter(*(f"attribution.{name}" for name in LABEL_ATTRIBUTION), *_label_fields(kind))


_LABEL_KEY: Final = {kind: _key_getter(kind) for kind in LABEL_DETAIL}
_LABEL_PLAN: Final = {
    kind: tuple(step for step in plan(KINDS[kind]) if step[0] in LABEL_DETAIL[kind]) for kind in LABEL_DETAIL
}
_PARTY_KEY: Final = attrgetter(*_OWN_RUN, *(f"attribution.{name}" for name in _PERSON))


def _elsewhere(kind: str) -> tuple[str, ...]:
    """Fields that have columns of their own, or are in the label or party."""
    own = (IDS[kind], TIMES[kind], "revision", "supersedes")
    elsewhere = (*own, "attribution", *_OWN_RUN, *_label_fields(kind)) if kind in LABEL_DETAIL else own
    return (*elsewhere, "prompt_digests") if kind == "call" else elsewhere


_BODY: Final = {kind: plan(KINDS[kind], without=_elsewhere(kind)) for kind in KINDS}
_METERS: Final = attrgetter(*METERS_AND_REASONING)


def is_kept_by_sums(filters: Iterable[str]) -> bool:
    """Whether every field named is one of labels and parties, which calls that were folded still have."""
    return _KEPT.issuperset(filters)


@dataclass(slots=True)
class Row:
    """A record, taken apart and checked: what is left to do needs the database."""

    record: Record
    kind: str
    id: str
    revision: int
    at: int
    """Microseconds."""
    body: str
    label: tuple[Any, ...] = ()
    """What the label is found by. Equal for records that share one."""
    party: tuple[Any, ...] = ()
    posting: tuple[int, ...] = ()
    """Token meters, then list, contracted and billed cost in picodollars. Empty for what is not summed."""

    digests: bytes | None = None
    """Of the prompt of a call."""
    ended_at: int = 0
    """When that call ended, in microseconds; 0 where there are no digests."""
    supersedes: int | None = None
    hold_id: str | None = None
    """The hold that this record settles."""
    amounts: Mapping[str, int] = field(default_factory=dict)
    """What it takes from balances."""
    touched: tuple[Balance, ...] = ()
    """Those balances, as they stood when it had been written."""

    @property
    def settles(self) -> bool:
        """Whether there is more to do than to append it."""
        return self.hold_id is not None or bool(self.amounts)

    @property
    def day(self) -> int:
        """Days since 1970."""
        return self.at // MICROS_PER_DAY


def row_of(record: Record) -> Row:
    """Take a record apart. Raises BadArguments for what a ledger cannot keep."""
    record = check(record)
    kind = kind_of(record)
    row = Row(
        record=record,
        kind=kind,
        id=getattr(record, IDS[kind]),
        revision=getattr(record, "revision", 0),
        at=to_micros(getattr(record, TIMES[kind])),
        body=_body(record, kind),
        supersedes=getattr(record, "supersedes", None),
    )
    if isinstance(record, CallRecord | ChargeRecord | RunRecord):
        row.label = (kind, *_LABEL_KEY[kind](record), getattr(record, "cost_usd", None) is None)
        tags = record.attribution.tags
        row.party = (*_PARTY_KEY(record), tuple(sorted(tags.items())) if tags else ())
        row.posting = _posting(record)
    if isinstance(record, CallRecord) and record.prompt_digests is not None:
        row.digests, row.ended_at = record.prompt_digests, to_micros(record.ended_at)
    return row


def row_of_settlement(settlement: Settlement) -> Row:
    """Take a settlement apart. Raises BadArguments for what a ledger cannot keep."""
    row = row_of(settlement.record)
    row.amounts = checked_amounts(settlement.amounts)
    row.hold_id = None if settlement.hold_id is None else clean_text(settlement.hold_id)
    return row


def _body(record: Record, kind: str) -> str:
    parts = encode(record, _BODY[kind])
    if isinstance(record, CallRecord | ChargeRecord | RunRecord):
        who = record.attribution
        if who.step is not None or who.attempt is not None:
            parts["try"] = [who.step, who.attempt]
    return dumps(parts)


def _posting(record: Record) -> tuple[int, ...]:
    if isinstance(record, CallRecord):
        if record.cost_usd is None:
            return (*_METERS(record.usage), 0, 0, 0)
        cost = to_pico(record.cost_usd)
        contracted, billed = (
            cost if amount is None or amount is record.cost_usd else to_pico(amount)
            for amount in (record.contracted_usd, record.billed_usd)
        )
        return (*_METERS(record.usage), cost, contracted, billed)
    if isinstance(record, ChargeRecord):
        cost = 0 if record.cost_usd is None else to_pico(record.cost_usd)
        return (*(0 for _ in METERS_AND_REASONING), cost, cost, cost)
    return ()


def ended_at(row: Row) -> int:
    """When a run ended, in microseconds."""
    assert isinstance(row.record, RunRecord)
    return to_micros(row.record.ended_at)


def _digest(parts: object) -> bytes:
    return blake2b(dumps(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def label_of(row: Row) -> dict[str, Any]:
    """The label's columns, for a record that is the first with it."""
    record: Any = row.record
    columns: dict[str, Any] = {"kind": row.kind, **dict.fromkeys(LABEL_COLUMNS)}
    columns |= {name: getattr(record.attribution, name) for name in LABEL_ATTRIBUTION}
    columns |= {name: getattr(record, name, None) for name in LABEL_CALL}
    columns["failed"] = int(getattr(record, "error", None) is not None)
    columns["estimated"] = int(getattr(record, "estimated", False))
    columns["unpriced"] = int(row.kind != "run" and record.cost_usd is None)
    columns["detail"] = dumps(encode(record, _LABEL_PLAN[row.kind]))
    return {"key": _digest(columns), **columns}


def party_of(row: Row) -> dict[str, Any]:
    """The party's columns, for a record that is the first with it."""
    columns = dict(zip(PARTY_COLUMNS, row.party[:-1], strict=True))
    columns["tags"] = dumps(dict(row.party[-1])) if row.party[-1] else None
    return {"key": _digest(columns), **columns}


def record_of(kind: str, columns: Mapping[str, Any]) -> Record:
    """The record whose own, label's and party's columns these are: JSON ones already read."""
    parts: dict[str, Any] = dict(columns["body"])
    parts[IDS[kind]] = columns["id"]
    own: dict[str, Any] = {TIMES[kind]: from_micros(columns["at"])}
    if kind in LABEL_DETAIL:
        who: dict[str, Any] = {name: columns[name] for name in (*LABEL_ATTRIBUTION, *_PERSON)}
        who["step"], who["attempt"] = parts.pop("try", (None, None))
        if columns["tags"]:
            who["tags"] = columns["tags"]
        own["attribution"] = Attribution(**who)
        parts |= columns["detail"]
        parts |= {name: columns[name] for name in _OWN_RUN}
        parts |= {name: columns[name] for name in _label_fields(kind) if name in LABEL_CALL}
        parts[IDS[kind]] = columns["id"]
    if kind == "call" and columns["digests"] is not None:
        own["prompt_digests"] = bytes(columns["digests"])
    if kind != "event":
        own["revision"] = columns["revision"]
    if kind == "outcome":
        own["supersedes"] = columns["supersedes"]
    record: Record = decode(KINDS[kind], parts, **own)
    return record
