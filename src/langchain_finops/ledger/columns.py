"""Every call and charge of a period, in columns: a million of them to look at more than once, in little memory."""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Select, literal, or_, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.doings import in_period, retried_calls
from langchain_finops.ledger.grouping import Period, time_of
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.ledger.pruning import APART as SET_APART
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.tagged import MARKING, cap_in, item_in
from langchain_finops.ledger.work import driver_rows
from langchain_finops.money import to_pico
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["Columns", "Series", "Sort", "columns_of", "sort_of", "sorts_of"]

P: Final = schema.postings.c
WRITTEN: Final = ("cache_write_5m_tokens", "cache_write_30m_tokens")
OTHER: Final = (
    "cache_write_1h_tokens", "cache_write_12h_tokens", "audio_input_tokens", "cached_audio_tokens",
    "audio_output_tokens", "web_searches",
)  # fmt: skip
FIGURES: Final = (("input_tokens",), ("cache_read_tokens",), WRITTEN, ("output_tokens",), OTHER)
"""What the columns of tokens hold, in their order."""
OUTPUT: Final = FIGURES.index(("output_tokens",))
Who = tuple[str | None, str | None, bool]
"""Run, task, and whether a user or a thread is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """What thousands of calls or charges have in common."""

    agent: str | None
    node: str | None
    task_type: str | None
    role: str | None
    is_call: bool
    provider: str | None = None
    model: str | None = None
    failed: bool = False
    unpriced: bool = False
    mode: str | None = None
    tier: str | None = None
    host: str | None = None
    tool: str | None = None
    """The tool's name, for a tool's charge."""


def _column() -> "array[int]":
    return array("q")


@dataclass(slots=True, eq=False)
class Series:
    """The calls or charges of one sort, a place in each column for each of them. Folded ones are not among them."""

    sort: Sort
    n: "array[int]" = field(default_factory=_column)
    """Its number, by which other readers of the same ledger know it."""
    run: "array[int]" = field(default_factory=_column)
    """Which of `Columns.runs`; -1 where none is named."""
    task: "array[int]" = field(default_factory=_column)
    """Which of `Columns.tasks`; -1 where none is named."""
    at: "array[int]" = field(default_factory=_column)
    """When it began, in microseconds."""
    pico: "array[int]" = field(default_factory=_column)
    """Contracted cost: what is paid after discounts. Of a replay, what it would be."""
    fresh: "array[int]" = field(default_factory=_column)
    """Input tokens that no cache had to do with."""
    read: "array[int]" = field(default_factory=_column)
    written: "array[int]" = field(default_factory=_column)
    """Input tokens written to a cache that lives five or thirty minutes."""
    output: "array[int]" = field(default_factory=_column)
    other: "array[int]" = field(default_factory=_column)
    """All other meters together: where this is not 0, the columns before do not tell the whole usage."""
    retried: set[int] = field(default_factory=set)
    """The places that were a second try, of their node or by `with_retry`."""
    cut: set[int] = field(default_factory=set)
    """The places whose answer reached a cap that was set on it: it is longer than it shows."""

    def __len__(self) -> int:
        return len(self.at)


@dataclass(slots=True)
class Columns:
    """All that was done in a period and paid for: what LangChain's own cache answered is not among it."""

    series: list[Series] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    items: dict[int, str] = field(default_factory=dict)
    """By place in `tasks`: the item of a dataset whose attempt it was in an evaluation."""
    waited_for: set[int] = field(default_factory=set)
    """The runs that name a user or a thread."""
    verdicts: dict[str, bool | None] = field(default_factory=dict)
    """What became of tasks, by id: all that the ledger knows, whenever it was said."""
    folded: int = 0
    """Calls and charges that are known as daily sums only."""
    first: int | None = None
    """When the first of all began."""
    last: int | None = None


def columns_of(ledger: Ledger, period: Period) -> Columns:
    """Return the current versions of calls and charges of a period, from one state of the ledger."""
    making = _Making()
    if isinstance(ledger, SqlLedger):
        ledger.look_at(lambda connection: _take_tables(making, connection, period))
    else:
        _take_records(making, ledger, period)
    return making.columns


class _Making:
    """Columns in the making."""

    def __init__(self) -> None:
        self.columns = Columns()
        self._series: dict[Sort, Series] = {}
        self._runs: dict[str, int] = {}
        self._tasks: dict[str, int] = {}

    def series(self, sort: Sort) -> Series:
        """The series of that sort."""
        found = self._series.get(sort)
        if found is None:
            found = self._series[sort] = Series(sort)
            self.columns.series.append(found)
        return found

    def place(self, who: Who) -> tuple[int, int]:
        """The numbers of a run and a task."""
        run_id, task_id, is_named = who
        run = _number(self._runs, self.columns.runs, run_id)
        if is_named and run >= 0:
            self.columns.waited_for.add(run)
        return run, _number(self._tasks, self.columns.tasks, task_id)

    def span(self, at: int) -> None:
        """Remember when the first and the last began."""
        columns = self.columns
        columns.first = at if columns.first is None else min(columns.first, at)
        columns.last = at if columns.last is None else max(columns.last, at)


def _number(numbers: dict[str, int], names: list[str], name: str | None) -> int:
    if name is None:
        return -1
    found = numbers.get(name)
    if found is None:
        found = numbers[name] = len(names)
        names.append(name)
    return found


# --- records, one by one -------------------------------------------------------------------------------------------


def _take_records(making: _Making, ledger: Ledger, period: Period) -> None:
    for n, record in _records(ledger):
        at, who = time_of(record), record.attribution
        sort = sort_of(record)
        if at not in period or sort.mode == "cache":
            continue
        series = making.series(sort)
        run, task = making.place((record.run_id, who.task_id, bool(who.user_id or who.thread_id)))
        if sort.is_call and who.attempt not in {None, 1}:
            series.retried.add(len(series))
        figures = _figures(record.usage) if isinstance(record, CallRecord) else (0,) * len(FIGURES)
        cap, item = cap_in(who.tags), item_in(who.tags)
        if cap is not None and sort.is_call and figures[OUTPUT] >= cap:
            series.cut.add(len(series))
        if item is not None and task >= 0:
            making.columns.items[task] = item
        series.n.append(n)
        _append(series, (run, task), at, _paid(record), figures)
        making.span(at)

    making.columns.verdicts = {outcome.task_id: outcome.success for outcome in ledger.outcomes()}
    if isinstance(ledger, MemoryLedger):
        making.columns.folded = sum(time_of(record) in period for record in ledger.folded())


def _records(ledger: Ledger) -> Iterator[tuple[int, CallRecord | ChargeRecord]]:
    yield from enumerate(ledger.calls())
    yield from enumerate(ledger.charges())


def _paid(record: CallRecord | ChargeRecord) -> int:
    amount = record.cost_usd
    if isinstance(record, CallRecord) and record.contracted_usd is not None:
        amount = record.contracted_usd
    return 0 if amount is None else to_pico(amount)


def _figures(usage: object) -> tuple[int, ...]:
    return tuple(sum(getter(usage) for getter in getters) for getters in _GETTERS)


_GETTERS: Final = tuple(tuple(attrgetter(name) for name in names) for names in FIGURES)


def _append(series: Series, whose: tuple[int, int], at: int, pico: int, figures: Iterable[int]) -> None:
    columns = (series.fresh, series.read, series.written, series.output, series.other)
    for column, figure in zip(columns, figures, strict=True):
        column.append(figure)
    series.run.append(whose[0])
    series.task.append(whose[1])
    series.at.append(at)
    series.pico.append(pico)


def sort_of(record: CallRecord | ChargeRecord) -> Sort:
    """What a record has in common with thousands of others."""
    who = record.attribution
    common = {"agent": who.agent_id, "node": who.node_path, "task_type": who.task_type, "role": who.role}
    if isinstance(record, ChargeRecord):
        tool = record.name or "" if record.kind == "tool" else None
        return Sort(
            **common, is_call=False, failed=record.error is not None, unpriced=record.cost_usd is None, tool=tool
        )
    return Sort(
        **common,
        is_call=True,
        provider=record.provider,
        model=record.model,
        failed=record.error is not None,
        unpriced=record.cost_usd is None,
        mode=record.billing_mode,
        tier=record.service_tier,
        host=record.base_url_host,
    )


# --- tables --------------------------------------------------------------------------------------------------------


def _take_tables(making: _Making, connection: Connection, period: Period) -> None:
    """One loop without calls in it: it runs a million times."""
    sorts, retried = sorts_of(connection), retried_calls(connection)
    whose, marked = _parties(connection), _marked(connection)
    caps = {party: cap for party, tags in marked.items() if (cap := cap_in(tags)) is not None}
    items = {party: item for party, tags in marked.items() if (item := item_in(tags)) is not None}
    making.columns.verdicts = _verdicts(connection)
    places: dict[int, tuple[int, int]] = {}
    columns, last, taken_back = making.columns, -1, set[int]()
    series: Series | None = None
    for label, party, n, at, records, pico, fresh, read, written, output, other in driver_rows(
        connection, _postings(connection, period)
    ):
        if label != last:  # Postings lie in the order of their labels.
            last, taken_back = label, set()
            sort = sorts.get(label)
            series = None if sort is None or sort.mode == "cache" else making.series(sort)
        if n < 0:  # The version that it takes back comes after it.
            taken_back.add(-n)
        if series is None or n < 0 or n in taken_back:
            continue
        if not 0 < n < SET_APART:
            columns.folded += records
            continue
        place = places.get(party)
        if place is None:
            place = places[party] = making.place(whose[party])
            if party in items and place[1] >= 0:
                columns.items[place[1]] = items[party]
        if n in retried and series.sort.is_call:
            series.retried.add(len(series.at))
        if party in caps and output >= caps[party] and series.sort.is_call:
            series.cut.add(len(series.at))
        series.n.append(n)
        series.run.append(place[0])
        series.task.append(place[1])
        series.at.append(at)
        series.pico.append(pico)
        series.fresh.append(fresh)
        series.read.append(read)
        series.written.append(written)
        series.output.append(output)
        series.other.append(other)
    for each in columns.series:
        if each.at:
            making.span(min(each.at))
            making.span(max(each.at))


def _postings(connection: Connection, period: Period) -> Select[Any]:
    """Figures that were never more than 0 are not asked for; contracted cost is stored where it ever differed."""
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    figures = (sum((P[name] for name in names if name in used), literal(0)) for names in FIGURES)
    query: Select[Any] = select(P.label, P.party, P.n, P.at, P.records, P.contracted_pico, *figures)
    return in_period(query, period).order_by(P.label, P.day, P.party, P.n)


def sorts_of(connection: Connection) -> dict[int, Sort]:
    """The same by label."""
    c = schema.labels.c
    found = {}
    for row in connection.execute(select(schema.labels).where(c.kind.in_(("call", "charge")))).mappings():
        detail: dict[str, Any] = json.loads(row["detail"])
        is_call = row["kind"] == "call"
        is_tool = not is_call and detail.get("kind") == "tool"
        found[row["label"]] = Sort(
            agent=row["agent_id"],
            node=row["node_path"],
            task_type=row["task_type"],
            role=row["role"],
            is_call=is_call,
            provider=row["provider"],
            model=row["model"],
            failed=bool(row["failed"]),
            unpriced=bool(row["unpriced"]),
            mode=detail.get("billing_mode") if is_call else None,
            tier=detail.get("service_tier"),
            host=detail.get("base_url_host"),
            tool=detail.get("name", "") if is_tool else None,
        )
    return found


def _verdicts(connection: Connection) -> dict[str, bool | None]:
    c = schema.outcomes.c
    rows = driver_rows(connection, select(c.id, c.success).order_by(c.id, c.revision))  # The last one counts.
    return {task: None if success is None else bool(success) for task, success in rows}


def _parties(connection: Connection) -> dict[int, Who]:
    c = schema.parties.c
    query = select(c.party, c.run_id, c.task_id, c.user_id, c.thread_id)
    return {
        party: (run_id, task_id, bool(user or thread))
        for party, run_id, task_id, user, thread in driver_rows(connection, query)
    }


def _marked(connection: Connection) -> dict[int, dict[str, str]]:
    """The tags of parties that have one of ours."""
    c = schema.parties.c
    query = select(c.party, c.tags).where(or_(*(c.tags.like(f'%"{name}"%') for name in MARKING)))
    return {party: json.loads(tags) for party, tags in driver_rows(connection, query)}
