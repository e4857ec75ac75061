"""What is new on a ledger since the last look: calls and charges as they are settled, corrected ones taken back.

A look reads only what was written since the one before, so that a page or a terminal can look each second at a ledger
of a million calls.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, Table, and_, func, literal, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import MICROS_PER_DAY, to_micros
from langchain_finops.ledger.grouping import time_of
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.work import driver_rows
from langchain_finops.money import to_pico
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.usage import TOKEN_METERS

__all__ = ["Entry", "Feed", "Names", "ended_invocations"]

OVERLAP: Final = 2_000
"""Numbers that are read again: PostgreSQL gives them before it commits, so that a lower one may show later."""
EARLIEST: Final = -(2**62)
NAMES_KEPT: Final = 100_000
"""So many labels and parties are remembered. Without an end, what looks for months would grow with each run."""
FEW: Final = 400
"""Names that one query lists."""
OUTPUT: Final = ("output_tokens", "audio_output_tokens")
CACHED: Final = ("cache_read_tokens", "cached_audio_tokens")
P: Final = schema.postings.c
_TRY: Final = re.compile(r'"try":\[(\d+),[^\]]*\]\}$')


@dataclass(frozen=True, slots=True)
class Names:
    """What calls or charges of one kind have in common."""

    agent: str | None
    node: str | None
    provider: str | None
    model: str | None
    role: str | None
    is_call: bool
    failed: bool
    unpriced: bool
    estimated: bool


class Entry(NamedTuple):
    """A call or charge that became current, or with sign -1 a version of one that no longer is."""

    names: Names
    run_id: str | None
    invocation_id: str | None
    at: int
    """When it began, in microseconds."""
    sign: int
    pico: int
    tokens: int
    output_tokens: int
    step: int | None
    task_id: str | None = None
    billed: int = 0
    """What is really paid, in picodollars."""
    cached_tokens: int = 0


class Feed:
    """Entries of a ledger whose time is at or after `since`, in looks; None: whatever their time."""

    def __init__(self, ledger: Ledger, since: datetime | None) -> None:
        self._ledger, self._since = ledger, EARLIEST if since is None else to_micros(since)
        self._last: dict[str, int] = {}
        self._seen: dict[str, set[int]] = {"call": set(), "charge": set()}
        self._labels: dict[int, Names] = {}
        self._parties: dict[int, tuple[str | None, str | None, str | None]] = {}
        self._there: dict[tuple[str, str], CallRecord | ChargeRecord] = {}

    def look(self) -> list[Entry]:
        """Return what came since the last look, from one state of the ledger. After one that fails the next has it."""
        if not isinstance(self._ledger, SqlLedger):
            return list(self._of_records(self._ledger))
        if len(self._labels) + len(self._parties) > NAMES_KEPT:
            self._labels, self._parties = {}, {}
        last, seen = dict(self._last), dict(self._seen)
        try:
            return self._ledger.look_at(self._of_tables)
        except BaseException:
            self._last, self._seen = last, seen  # Else rows that nobody was told of would pass for seen.
            raise

    def skip(self, connection: Connection) -> None:
        """Take all that is there now for seen, so that looks begin after it; of a ledger in tables."""
        for kind in ("call", "charge"):
            c = schema.VERSIONED[kind].c
            newest = next(iter(driver_rows(connection, select(func.max(c.n)))))[0] or 0
            self._last[kind] = newest
            late = driver_rows(connection, select(c.n).where(c.n > newest - OVERLAP))
            self._seen[kind] = {n for (n,) in late}

    # --- tables ------------------------------------------------------------------------------------------------------

    def _of_tables(self, connection: Connection) -> list[Entry]:
        rows = [(kind, row) for kind in ("call", "charge") for row in self._new_rows(connection, kind)]
        if not rows:
            return []
        self._learn(connection, [row for _, row in rows])
        return [entry for kind, row in rows for entry in self._entries(connection, kind, row)]

    def _new_rows(self, connection: Connection, kind: str) -> list[Any]:
        table = schema.VERSIONED[kind]
        newest = next(iter(driver_rows(connection, select(func.max(table.c.n)))))[0] or 0
        last = self._last.get(kind)
        query = _versions(connection, table)
        if self._since > EARLIEST:  # Else SQLite may look for it by time, and read all.
            query = query.where(table.c.at >= self._since)
        if last is not None:
            query = query.where(table.c.n > last - OVERLAP)
        seen = self._seen[kind]
        rows = [row for row in driver_rows(connection, query) if row[0] not in seen]
        rows.sort(key=lambda row: row[0])
        self._last[kind] = max(newest, last or 0)
        seen = seen.union(row[0] for row in rows)
        floor = self._last[kind] - OVERLAP
        self._seen[kind] = {n for n in seen if n > floor} if len(seen) > 2 * OVERLAP else seen
        return rows

    def _learn(self, connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
        """Read the labels and parties that are not known yet."""
        labels, parties = schema.labels.c, schema.parties.c
        new_labels, new_parties = set[int](), set[int]()
        for row in rows:
            new_labels.add(row[4])
            new_parties.add(row[5])
        names = (labels.agent_id, labels.node_path, labels.provider, labels.model, labels.role)
        flags = (labels.kind, labels.failed, labels.unpriced, labels.estimated)
        for chunk in _chunks(new_labels - self._labels.keys()):
            for label, *texts, kind, failed, unpriced, estimated in driver_rows(
                connection, select(labels.label, *names, *flags).where(labels.label.in_(chunk))
            ):
                agent, node, provider, model, role = texts
                self._labels[label] = Names(
                    agent=agent,
                    node=node,
                    provider=provider,
                    model=model,
                    role=role,
                    is_call=kind == "call",
                    failed=bool(failed),
                    unpriced=bool(unpriced),
                    estimated=bool(estimated),
                )
        for chunk in _chunks(new_parties - self._parties.keys()):
            whose = (parties.run_id, parties.invocation_id, parties.task_id)
            query = select(parties.party, *whose).where(parties.party.in_(chunk))
            self._parties |= {party: (run, of, task) for party, run, of, task in driver_rows(connection, query)}

    def _entries(self, connection: Connection, kind: str, row: Sequence[Any]) -> Iterator[Entry]:
        n, id_, revision, at, label, party, body, pico, tokens, output, *more = row
        if pico is None:  # An older version that came late: the newer one stays the current one.
            return
        if revision:
            yield from self._taken_back(connection, kind, id_, n)
        step = _TRY.search(body)
        run, invocation, task = self._parties[party]
        number = int(step[1]) if step else None
        yield Entry(self._labels[label], run, invocation, at, 1, pico, tokens, output, number, task, *more)

    def _taken_back(self, connection: Connection, kind: str, id_: str, n: int) -> Iterator[Entry]:
        """The version that was the current one until row `n` came."""
        table = schema.VERSIONED[kind]
        query = _versions(connection, table).where(table.c.id == id_, table.c.n < n)
        earlier = [tuple(row) for row in connection.execute(query)]
        if not earlier:
            return
        self._learn(connection, earlier)
        _, _, _, at, label, party, _, pico, tokens, output, *more = max(earlier, key=lambda row: row[2])
        if pico is not None and at >= self._since:
            run, invocation, task = self._parties[party]
            yield Entry(self._labels[label], run, invocation, at, -1, pico, tokens, output, None, task, *more)

    # --- records, where there are no tables --------------------------------------------------------------------------

    def _of_records(self, ledger: Ledger) -> Iterator[Entry]:
        there = dict(self._there)
        for kind, records in (("call", ledger.calls()), ("charge", ledger.charges())):
            for record in records:
                assert isinstance(record, CallRecord | ChargeRecord)
                key = kind, record.call_id if isinstance(record, CallRecord) else record.charge_id
                before = there.get(key)
                if before == record:
                    continue
                if before is not None and time_of(before) >= self._since:
                    yield _entry(before, -1)
                there[key] = record
                if time_of(record) >= self._since:
                    yield _entry(record, 1)
        self._there = there


def _versions(connection: Connection, table: Table) -> Select[Any]:
    """Rows of calls or charges, with what they cost where they are or were the current version."""
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    tokens, output, cached = (
        sum((func.coalesce(P[name], 0) for name in names if name in used), literal(0))
        for names in (TOKEN_METERS, OUTPUT, CACHED)
    )
    c = table.c
    same = and_(P.label == c.label, P.day == c.at.op("/")(MICROS_PER_DAY), P.party == c.party, P.n == c.n)
    tail = func.substr(c.body, func.length(c.body) - 40)
    columns = (c.n, c.id, c.revision, c.at, c.label, c.party, tail, P.cost_pico, tokens, output, P.billed_pico, cached)
    return select(*columns).select_from(table.outerjoin(schema.postings, same))


def _entry(record: CallRecord | ChargeRecord, sign: int) -> Entry:
    who = record.attribution
    is_call = isinstance(record, CallRecord)
    usage = record.usage if isinstance(record, CallRecord) else None
    pico = 0 if record.cost_usd is None else to_pico(record.cost_usd)
    paid = record.billed_usd if isinstance(record, CallRecord) and record.cost_usd is not None else None
    names = Names(
        agent=who.agent_id,
        node=who.node_path,
        provider=record.provider if isinstance(record, CallRecord) else None,
        model=record.model if isinstance(record, CallRecord) else None,
        role=who.role,
        is_call=is_call,
        failed=record.error is not None,
        unpriced=record.cost_usd is None,
        estimated=isinstance(record, CallRecord) and record.estimated,
    )
    return Entry(
        names=names,
        run_id=record.run_id,
        invocation_id=record.invocation_id,
        at=time_of(record),
        sign=sign,
        pico=pico,
        tokens=usage.total_input_tokens + usage.total_output_tokens if usage else 0,
        output_tokens=usage.total_output_tokens if usage else 0,
        step=who.step,
        task_id=who.task_id,
        billed=pico if paid is None else to_pico(paid),
        cached_tokens=sum(getattr(usage, name) for name in CACHED) if usage else 0,
    )


def ended_invocations(ledger: Ledger, run_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Return run and invocation of those invocations of these runs that have ended."""
    wanted = sorted(run_ids)
    if not isinstance(ledger, SqlLedger):
        return {(run.run_id, run.invocation_id) for id_ in wanted for run in ledger.runs(run_id=id_, history=True)}
    runs, parties = schema.VERSIONED["run"].c, schema.parties.c

    def read(connection: Connection) -> set[tuple[str, str]]:
        found = set[tuple[str, str]]()
        for chunk in _chunks(wanted):
            query = select(runs.id, parties.invocation_id).join(parties.party.table, parties.party == runs.party)
            found |= {(id_, invocation) for id_, invocation in connection.execute(query.where(runs.id.in_(chunk)))}
        return found

    return ledger.look_at(read) if wanted else set()


def _chunks(numbers: Iterable[Any]) -> Iterator[list[Any]]:
    items: list[Any] = list(numbers)
    for first in range(0, len(items), FEW):
        yield items[first : first + FEW]
