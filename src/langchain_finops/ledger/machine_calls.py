"""Calls on machines of one's own, each with when it began and ended: a million of them in seconds, in little memory."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import JSON, BigInteger, Connection, Select, and_, cast, func, literal, or_, select

from langchain_finops.errors import BadArguments
from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import to_micros
from langchain_finops.ledger.columns import FIGURES
from langchain_finops.ledger.grouping import Key, value_of
from langchain_finops.ledger.pruning import APART as SET_APART
from langchain_finops.ledger.rows import LABEL_COLUMNS
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.totals import DIMENSIONS
from langchain_finops.ledger.work import driver_rows
from langchain_finops.money import to_pico
from langchain_finops.records import CallRecord

__all__ = ["BY", "MachineCall", "MachineSort", "with_machine_calls"]

T = TypeVar("T")
BY: Final = tuple(name for name in DIMENSIONS if name not in {"day", "run", "task", "thread", "status"})
"""What shares can be grouped by."""
P: Final = schema.postings.c
SECONDS: Final = "seconds"
"""The meter that only a machine's card charges for."""


@dataclass(frozen=True, slots=True)
class MachineSort:
    """What thousands of calls have in common."""

    card: str
    """The id of the card that priced them."""
    provider: str | None
    model: str | None
    host: str | None
    key: Key
    """The values of the dimensions that were asked for."""
    is_replay: bool
    estimated: bool


class MachineCall(NamedTuple):
    """A call on a machine of one's own, or several that were folded into a daily sum: these have no end."""

    sort: MachineSort
    at: int
    """When it began, in microseconds."""
    ended_at: int | None
    records: int
    pico: int
    """List cost by its card."""
    fresh: int
    """Input tokens that no cache had to do with."""
    read: int
    written: int
    output: int
    other: int
    """All other meters together."""


def with_machine_calls(
    ledger: Ledger, by: Sequence[str], until: int | None, take: Callable[[Iterator[MachineCall]], T]
) -> T:
    """Return what `take` makes of the current versions of all calls that a self-hosted card priced and that began
    before `until` (microseconds; None is open), replays too, in no order.

    It takes them while they are read, from one state of the ledger. Raises BadArguments for a dimension that is none.
    """
    if unknown := [name for name in by if name not in BY]:
        raise BadArguments(f"cannot group by {', '.join(map(repr, unknown))}: there are {', '.join(BY)}")
    fields = tuple(DIMENSIONS[name] for name in by)
    if isinstance(ledger, SqlLedger):
        return ledger.look_at(lambda connection: take(_of_tables(connection, fields, until)))
    return take(_of_records(ledger, fields, until))


# --- records, one by one ---------------------------------------------------------------------------------------------


def _of_records(ledger: Ledger, fields: Sequence[str], until: int | None) -> Iterator[MachineCall]:
    for call in ledger.calls():
        at = to_micros(call.started_at)
        is_replay = call.billing_mode == "replay" and SECONDS in (call.meter_usd or {})
        if not (call.billing_mode == "self_hosted" or is_replay) or (until is not None and at >= until):
            continue
        sort = MachineSort(
            card=call.card_id or "",
            provider=call.provider,
            model=call.model,
            host=call.base_url_host,
            key=tuple(value_of(call, name) for name in fields),
            is_replay=is_replay,
            estimated=call.estimated,
        )
        pico = 0 if call.cost_usd is None else to_pico(call.cost_usd)
        yield MachineCall(sort, at, to_micros(call.ended_at), 1, pico, *_figures(call))


def _figures(call: CallRecord) -> tuple[int, ...]:
    return tuple(sum(getattr(call.usage, name) for name in names) for names in FIGURES)


# --- tables ----------------------------------------------------------------------------------------------------------


def _of_tables(connection: Connection, fields: Sequence[str], until: int | None) -> Iterator[MachineCall]:
    labels = _labels(connection)
    own = [name for name in fields if name not in LABEL_COLUMNS]
    parties = _parties(connection, own) if own else {}
    sorts: dict[tuple[int, Key], MachineSort] = {}
    if not labels:
        return
    ends, nobodys = _ends(connection, labels), ()
    last, taken_back = -1, set[int]()
    for label, party, n, at, records, pico, *figures in driver_rows(connection, _query(connection, labels, until)):
        if label != last:  # Postings lie in the order of their labels.
            last, taken_back = label, set()
        if n < 0:  # The version that it takes back comes after it.
            taken_back.add(-n)
            continue
        # A folded row's number is 0, or so large that no call has it: neither has an end.
        ended_at = ends.get(n)
        if n in taken_back or (ended_at is None and 0 < n < SET_APART):
            continue
        whose = parties[party] if own else nobodys
        sort = sorts.get((label, whose))
        if sort is None:
            sort = sorts[label, whose] = labels[label].sort(fields, dict(zip(own, whose, strict=True)))
        yield MachineCall(sort, at, ended_at, records, pico, *figures)


@dataclass(frozen=True, slots=True)
class _Label:
    columns: Mapping[str, Any]
    detail: Mapping[str, Any]

    @property
    def is_replay(self) -> bool:
        return bool(self.detail.get("billing_mode") == "replay")

    def sort(self, fields: Sequence[str], whose: Mapping[str, Any]) -> MachineSort:
        return MachineSort(
            card=self.detail.get("card_id") or "",
            provider=self.columns["provider"],
            model=self.columns["model"],
            host=self.detail.get("base_url_host"),
            key=tuple(self.columns[name] if name in LABEL_COLUMNS else whose[name] for name in fields),
            is_replay=self.is_replay,
            estimated=bool(self.detail.get("estimated")),
        )


def _labels(connection: Connection) -> dict[int, _Label]:
    c = schema.labels.c
    found = {}
    for row in connection.execute(select(schema.labels).where(c.kind == "call")).mappings():
        detail: dict[str, Any] = json.loads(row["detail"])
        if detail.get("billing_mode") in {"self_hosted", "replay"}:
            found[row["label"]] = _Label(dict(row), detail)
    return found


def _parties(connection: Connection, own: Sequence[str]) -> dict[int, Key]:
    c = schema.parties.c
    return {party: tuple(values) for party, *values in driver_rows(connection, select(c.party, *(c[n] for n in own)))}


def _ends(connection: Connection, labels: Mapping[int, _Label]) -> dict[int, int]:
    """When calls ended, by their number. That a replay is one of a machine is told by its meters alone: others have no
    end here."""
    c = schema.VERSIONED["call"].c
    if connection.dialect.name == "sqlite":
        ended_at: Any = func.json_extract(c.body, "$.ended_at")
    else:
        ended_at = cast(func.json_extract_path_text(cast(c.body, JSON), "ended_at"), BigInteger)
    replays = sorted(label for label, each in labels.items() if each.is_replay)
    own = sorted(labels.keys() - set(replays))
    wanted: Any = c.label.in_(own)
    if replays:
        wanted = or_(wanted, and_(c.label.in_(replays), c.body.like(f'%"meter_usd":{{"{SECONDS}":%')))
    return dict(driver_rows(connection, select(c.n, ended_at).where(wanted)))


def _query(connection: Connection, labels: Mapping[int, _Label], until: int | None) -> Select[Any]:
    """Postings, in their order. Figures that were never more than 0 are not asked for."""
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    figures = (sum((P[name] for name in names if name in used), literal(0)) for names in FIGURES)
    query: Select[Any] = (
        select(P.label, P.party, P.n, P.at, P.records, P.cost_pico, *figures)
        .where(P.label.in_(sorted(labels)))
        .order_by(P.label, P.day, P.party, P.n)
    )
    return query if until is None else query.where(P.at < until)
