"""Every call and charge with what insight needs of it, as a stream: a million of them in seconds."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, Select, func, literal, or_, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import MICROS_PER_DAY
from langchain_finops.ledger.grouping import Period, time_of
from langchain_finops.ledger.pruning import APART as SET_APART
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.work import driver_rows
from langchain_finops.money import to_pico
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["Doing", "Kind", "daily_costs", "in_period", "retried_calls", "with_doings"]

T = TypeVar("T")
SPLIT: Final = 1_000_000
"""SQLite's sum() fails above 2^63: the millions of an amount are summed apart from the rest."""
P: Final = schema.postings.c
INPUT: Final = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_30m_tokens", "cache_write_1h_tokens",
    "cache_write_12h_tokens", "audio_input_tokens", "cached_audio_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """What thousands of calls or charges have in common."""

    agent: str | None
    node: str | None
    provider: str | None
    model: str | None
    role: str | None
    is_call: bool
    failed: bool
    unpriced: bool
    tool: str | None
    """The tool's name, for a tool's charge."""
    estimated: bool
    """Whether a call's tokens or price were not reported."""


class Doing(NamedTuple):
    """A call or charge, or several that were folded into a daily sum."""

    kind: Kind
    run_id: str | None
    task_id: str | None
    at: int
    """When it began, in microseconds."""
    records: int
    is_folded: bool
    retried: bool
    """Whether it was a second try, of its node or by `with_retry`."""
    pico: int
    input_tokens: int
    output_tokens: int


def with_doings(ledger: Ledger, period: Period, take: Callable[[Iterator[Doing]], T]) -> T:
    """Return what `take` makes of the current versions of calls and charges of a period, in no order.

    It takes them while they are read, from one state of the ledger: a million of them at once would fill the memory.
    """
    if isinstance(ledger, SqlLedger):
        return ledger.look_at(lambda connection: take(_of_tables(connection, period)))
    return take(_of_records(ledger, period))


def daily_costs(ledger: Ledger, period: Period) -> dict[tuple[Kind, int], tuple[int, int]]:
    """Return how many records there were and what they cost, in picodollars, by kind and day since 1970."""
    if isinstance(ledger, SqlLedger):
        return ledger.look_at(partial(_daily, period=period))
    found: dict[tuple[Kind, int], tuple[int, int]] = {}
    for doing in _of_records(ledger, period):
        key = doing.kind, doing.at // MICROS_PER_DAY
        records, pico = found.get(key, (0, 0))
        found[key] = records + 1, pico + doing.pico
    return found


def _daily(connection: Connection, period: Period) -> dict[tuple[Kind, int], tuple[int, int]]:
    kinds = _kinds(connection)
    amounts = [func.sum(P.cost_pico.op(sign)(SPLIT)) for sign in ("/", "%")]
    query: Select[Any] = in_period(select(P.label, P.day, func.sum(P.records), *amounts), period).group_by(
        P.label, P.day
    )
    found: dict[tuple[Kind, int], tuple[int, int]] = {}
    for label, day, records, millions, rest in driver_rows(connection, query):
        if records and (kind := kinds.get(label)) is not None:
            there, pico = found.get((kind, day), (0, 0))
            found[kind, day] = there + int(records), pico + int(millions) * SPLIT + int(rest)
    return found


def in_period(query: Select[Any], period: Period) -> Select[Any]:
    """The query, of postings of that period only."""
    if period.since is not None:
        query = query.where(P.at >= period.since)
    return query if period.until is None else query.where(P.at < period.until)


def _of_records(ledger: Ledger, period: Period) -> Iterator[Doing]:
    for records in cast("tuple[Iterator[CallRecord | ChargeRecord], ...]", (ledger.calls(), ledger.charges())):
        for record in records:
            if (at := time_of(record)) in period:
                yield _doing(record, at)


def _doing(record: CallRecord | ChargeRecord, at: int) -> Doing:
    who, is_call = record.attribution, isinstance(record, CallRecord)
    kind = Kind(
        agent=who.agent_id,
        node=who.node_path,
        provider=record.provider if isinstance(record, CallRecord) else None,
        model=record.model if isinstance(record, CallRecord) else None,
        role=who.role,
        is_call=is_call,
        failed=record.error is not None,
        unpriced=record.cost_usd is None,
        tool=record.name or "" if isinstance(record, ChargeRecord) and record.kind == "tool" else None,
        estimated=isinstance(record, CallRecord) and record.estimated,
    )
    usage = record.usage if isinstance(record, CallRecord) else None
    return Doing(
        kind=kind,
        run_id=record.run_id,
        task_id=who.task_id,
        at=at,
        records=1,
        is_folded=False,
        retried=is_call and who.attempt not in {None, 1},
        pico=0 if record.cost_usd is None else to_pico(record.cost_usd),
        input_tokens=usage.total_input_tokens if usage else 0,
        output_tokens=usage.total_output_tokens if usage else 0,
    )


def _of_tables(connection: Connection, period: Period) -> Iterator[Doing]:
    kinds, retried = _kinds(connection), retried_calls(connection)
    c = schema.parties.c
    parties = {party: (run, task) for party, run, task in driver_rows(connection, select(c.party, c.run_id, c.task_id))}
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    inputs, outputs = (
        sum((P[name] for name in names if name in used), literal(0))
        for names in (INPUT, ("output_tokens", "audio_output_tokens"))
    )
    query: Select[Any] = select(P.label, P.party, P.n, P.at, P.records, P.cost_pico, inputs, outputs)
    query = in_period(query, period).order_by(P.label, P.day, P.party, P.n)
    last, taken_back = -1, set[int]()
    for label, party, n, at, records, pico, tokens, output in driver_rows(connection, query):
        if label != last:
            last, taken_back = label, set()
        if n < 0:  # The version that it takes back comes after it.
            taken_back.add(-n)
        elif n not in taken_back and (kind := kinds.get(label)) is not None:
            run, task = parties[party]
            folded, again = not 0 < n < SET_APART, kind.is_call and n in retried
            yield Doing(kind, run, task, at, records, folded, again, pico, tokens, output)


def _kinds(connection: Connection) -> dict[int, Kind]:
    c = schema.labels.c
    found = {}
    for row in connection.execute(select(schema.labels).where(c.kind.in_(("call", "charge")))).mappings():
        detail: dict[str, Any] = json.loads(row["detail"])
        is_tool = row["kind"] == "charge" and detail.get("kind") == "tool"
        found[row["label"]] = Kind(
            agent=row["agent_id"],
            node=row["node_path"],
            provider=row["provider"],
            model=row["model"],
            role=row["role"],
            is_call=row["kind"] == "call",
            failed=bool(row["failed"]),
            unpriced=bool(row["unpriced"]),
            tool=detail.get("name", "") if is_tool else None,
            estimated=bool(row["estimated"]),
        )
    return found


def retried_calls(connection: Connection) -> set[int]:
    """Numbers of calls that were a second try. It is the last thing in a body: `..."try":[step,attempt]}`."""
    calls = schema.VERSIONED["call"].c
    is_first = or_(*(calls.body.like(f"%,{attempt}]}}") for attempt in ("1", "null")))
    query = select(calls.n).where(calls.body.like('%"try":[%,%]}'), ~is_first)
    return {n for (n,) in driver_rows(connection, query)}
