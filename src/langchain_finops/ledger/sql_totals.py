"""`Ledger.totals` over a million calls in a second or two.

Postings lie in the order of label, day, party, so that SQLite sums them without sorting. It is asked for two things:
sums by label (a few thousand rows come back, which Python folds into groups), and which parties occur under which
label, which gives the distinct runs and tasks of a group. Only where groups are of parties it has to sort.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import add
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.codec import MICROS_PER_DAY, day_of, decoded
from langchain_finops.ledger.grouping import Key, Period, finish
from langchain_finops.ledger.rows import LABEL_COLUMNS, PARTY_COLUMNS
from langchain_finops.ledger.totals import APART, DIMENSIONS, Group, TaskCost, Totals
from langchain_finops.usage import METERS_AND_REASONING

__all__ = ["Figures", "Label", "Sum", "sum_up"]

SPLIT: Final = 1_000_000
"""SQLite's sum() fails above 2^63: the millions of an amount are summed apart from the rest."""
FEW: Final = 500
"""Labels that are named in the query; more are picked out of its answer."""
_OF_PARTY: Final = frozenset((*PARTY_COLUMNS, "tags"))
P: Final = schema.postings.c


def sum_up(connection: Connection, by: tuple[str, ...], period: Period, filters: Mapping[str, object]) -> list[Group]:
    """The groups, of one state of the ledger: `connection` is in a transaction."""
    return _Question(connection, by, period, filters).groups()


@dataclass(frozen=True, slots=True)
class Label:
    """What sums need of a label."""

    key: Key
    """Its values of the dimensions; None where a dimension is not a label's."""
    is_call: bool
    failed: bool
    estimated: bool
    unpriced: bool
    apart: bool
    """Of a judge or simulator."""


@dataclass(slots=True)
class Sum:
    """A group in the making."""

    calls: list[int] = field(default_factory=list)
    """Figures of calls, and of charges, in the order of `Figures`; empty for none."""
    charges: list[int] = field(default_factory=list)
    errors: int = 0
    estimated: int = 0
    unpriced: int = 0
    charges_unpriced: int = 0
    apart: int = 0
    apart_unpriced: int = 0
    apart_pico: int = 0
    parties: set[int] = field(default_factory=set)
    tasks: Collection[int] = ()
    """Where there is a period or groups are of days: those of the parties' tasks that belong to it."""
    task_cost: TaskCost = field(default_factory=TaskCost)

    def add(self, label: Label, figures: Sequence[int]) -> None:
        """Count what a row of sums says."""
        records = figures[0]
        if label.is_call:
            self.calls = list(map(add, self.calls, figures)) if self.calls else list(figures)
            self.errors += records * label.failed
            self.estimated += records * label.estimated
            self.unpriced += records * label.unpriced
        else:
            self.charges = list(map(add, self.charges, figures)) if self.charges else list(figures)
            self.charges_unpriced += records * label.unpriced
        if label.apart:
            self.apart += records
            self.apart_unpriced += records * label.unpriced
            self.apart_pico += _cost(figures)

    def add_task_cost(self, label: Label, figures: Sequence[int]) -> None:
        """Count what a row of sums, all of it of tasks, says of their cost."""
        if not label.apart:
            self.task_cost.add(figures[0], _cost(figures), is_call=label.is_call, unpriced=label.unpriced)

    def totals(self, figures: "Figures") -> Totals:
        """The sums, as every ledger gives them."""
        totals = Totals(errors=self.errors, estimated=self.estimated, unpriced=self.unpriced)
        totals.apart, totals.apart_unpriced, totals.apart_pico = self.apart, self.apart_unpriced, self.apart_pico
        if self.calls:
            totals.calls = self.calls[0]
            totals.meters.update(figures.counts(self.calls))
            totals.cost_pico = figures.amount(self.calls, "cost_pico")
            totals.contracted_pico = figures.amount(self.calls, "contracted_pico")
            totals.billed_pico = figures.amount(self.calls, "billed_pico")
        if self.charges:
            totals.charges, totals.charges_unpriced = self.charges[0], self.charges_unpriced
            totals.charge_pico = figures.amount(self.charges, "cost_pico")
        return totals


_NONE: Final[Mapping[int, Sum]] = {}


class Figures:
    """The figures worth asking for: number of records, two halves of each amount, list cost first, then meters."""

    def __init__(self, used: Collection[str]) -> None:
        self._meters = [name for name in METERS_AND_REASONING if name in used]
        self._amounts = ["cost_pico", *(name for name in schema.AMOUNT_COLUMNS[1:] if name in used)]

    def columns(self) -> list[ColumnElement[int]]:
        """What to select."""
        halves = [half for name in self._amounts for half in (P[name].op("/")(SPLIT), P[name].op("%")(SPLIT))]
        return [func.sum(column) for column in (P.records, *halves, *(P[name] for name in self._meters))]

    def counts(self, sums: Sequence[int]) -> Iterator[tuple[str, int]]:
        """The meters and their sums."""
        return zip(self._meters, sums[1 + 2 * len(self._amounts) :], strict=True)

    def amount(self, sums: Sequence[int], name: str) -> int:
        """An amount in picodollars; the list cost for one that never differed from it."""
        place = 1 + 2 * self._amounts.index(name if name in self._amounts else "cost_pico")
        return sums[place] * SPLIT + sums[place + 1]


def _cost(figures: Sequence[int]) -> int:
    """The list cost of a row of sums, in picodollars."""
    return figures[1] * SPLIT + figures[2]


@dataclass(slots=True)
class _Parties:
    """What sums need of parties, by their number. Runs and tasks are numbers too: 0 is none."""

    run: list[int]
    task: list[int]
    task_ids: list[str]
    all_name_tasks: bool = True
    key: dict[int, int] = field(default_factory=dict)
    """Which of `keys` is a party's; missing where it does not pass the filters. Empty unless groups are of parties."""
    keys: list[Key] = field(default_factory=list)
    """Values of the dimensions; None where a dimension is not a party's."""


class _Question:
    """What one call of `totals` asks."""

    def __init__(
        self, connection: Connection, by: tuple[str, ...], period: Period, filters: Mapping[str, object]
    ) -> None:
        self._connection, self._by, self._period = connection, by, period
        self._fields = [DIMENSIONS[name] for name in by]
        self._day = by.index("day") if "day" in by else None
        self._in_part = self._day is not None or not period.is_all
        """Whether a task may have but part of its cost in the groups that it counts in."""
        self._label_filters = {name: value for name, value in filters.items() if name not in _OF_PARTY}
        self._party_filters = {name: value for name, value in filters.items() if name in _OF_PARTY}
        self._by_party = bool(self._party_filters) or not _OF_PARTY.isdisjoint(self._fields)
        self._figures = Figures(connection.execute(select(schema.used_figures.c.name)).scalars().all())
        self._labels = self._read_labels()
        self._parties = self._read_parties()
        self._sums: dict[tuple[Key, int], dict[int, Sum]] = {}
        """By the label's part of the key and the day, then by the number of the party's part."""

    def groups(self) -> list[Group]:
        """Sums, then what became of the tasks."""
        self._add_figures()
        if not self._by_party:
            self._add_parties()
        if self._in_part:
            self._add_tasks()
        elif not (self._by_party or self._parties.all_name_tasks):
            self._add_task_costs()
        known, ids = self._read_outcomes(), self._parties.task_ids
        return finish(self._entries(), self._by, lambda task: known.get(ids[task], (None, 0)))

    def _rows(self, query: Select[Any]) -> Iterator[Any]:
        """Rows as the driver gives them: SQLAlchemy's own take twice as long. All values in the query are numbers."""
        sql = query.compile(self._connection, compile_kwargs={"literal_binds": True})
        driver: Any = self._connection.connection.dbapi_connection
        rows: Iterator[Any] = driver.execute(str(sql), ())
        return rows

    def _read_labels(self) -> dict[int, Label]:
        """The labels of calls and charges that pass the filters."""
        c = schema.labels.c
        columns = [c.label, c.kind, c.failed, c.estimated, c.unpriced, c.detail, *(c[name] for name in LABEL_COLUMNS)]
        labels = {}
        for row in self._connection.execute(select(*columns).where(c.kind.in_(("call", "charge")))).mappings():
            # The attribution's `project` wins over the call's own, as everywhere.
            values = {**decoded(json.loads(row["detail"])), **{name: row[name] for name in LABEL_COLUMNS}}
            if all(values.get(name) == value for name, value in self._label_filters.items()):
                key = tuple(values[name] if name in LABEL_COLUMNS else None for name in self._fields)
                labels[row["label"]] = Label(
                    key=key,
                    is_call=row["kind"] == "call",
                    failed=bool(row["failed"]),
                    estimated=bool(row["estimated"]),
                    unpriced=bool(row["unpriced"]),
                    apart=row["role"] in APART,
                )
        return labels

    def _read_parties(self) -> _Parties:
        c = schema.parties.c
        names = [name for name in (*self._fields, *self._party_filters) if name in _OF_PARTY]
        size = 1 + max((newest or 0 for (newest,) in self._rows(select(func.max(c.party)))), default=0)
        runs, tasks, numbers = dict[str, int](), dict[str, int](), dict[Key, int]()
        parties = _Parties(run=[0] * size, task=[0] * size, task_ids=[""])
        for party, run, task, *values in self._rows(select(c.party, c.run_id, c.task_id, *(c[n] for n in names))):
            if run is not None:
                parties.run[party] = runs.setdefault(run, len(runs) + 1)
            if task is not None:
                parties.task[party] = tasks.setdefault(task, len(tasks) + 1)
            else:
                parties.all_name_tasks = False
            if self._by_party and self._passes(known := dict(zip(names, values, strict=True))):
                key = tuple(known.get(name) for name in self._fields)
                parties.key[party] = numbers.setdefault(key, len(numbers))
        parties.task_ids += tasks
        parties.keys += numbers
        return parties

    def _passes(self, party: dict[str, Any]) -> bool:
        if "tags" in party:
            party["tags"] = json.loads(party["tags"] or "{}")
        return all(party[name] == value for name, value in self._party_filters.items())

    def _add_figures(self) -> None:
        """Sum up by label, and by day and party where the groups are of those."""
        keys = [P.label, *([P.day] if self._by_party or self._day is not None else [])]
        keys += [P.party] if self._by_party else []
        columns = (*keys, *(literal(0) for _ in range(3 - len(keys))))
        number_of, by_party = self._parties.key, self._by_party
        task, in_part = self._parties.task, self._in_part
        of_tasks = self._parties.all_name_tasks and not by_party
        last: tuple[int, int] | None = None
        label, groups = None, dict[int, Sum]()
        for label_number, day, party, *figures in self._rows(
            select(*columns, *self._figures.columns()).where(*self._where()).group_by(*keys)
        ):
            if (label_number, day) != last:
                last, label = (label_number, day), self._labels.get(label_number)
                groups = {} if label is None else self._groups(label, day)
            number = number_of.get(party) if by_party else 0
            if label is None or number is None or not figures[0]:
                continue
            group = groups.get(number)
            if group is None:
                group = groups[number] = Sum()
            group.add(label, figures)
            if by_party:
                group.parties.add(party)
            if not in_part and (of_tasks or task[party]):
                group.add_task_cost(label, figures)

    def _add_parties(self) -> None:
        """Note which parties occur in the groups; only where groups are not of parties."""
        keys = (P.label, P.day, P.party)
        last: tuple[int, int] | None = None
        parties = set[int]()
        there = func.sum(P.records) > 0
        for label_number, day, party in self._rows(select(*keys).where(*self._where()).group_by(*keys).having(there)):
            if (label_number, day) != last:
                last, label = (label_number, day), self._labels.get(label_number)
                parties = set() if label is None else self._groups(label, day)[0].parties
            parties.add(party)

    def _add_task_costs(self) -> None:
        """Sum up by label what names a task; only where neither time nor party tells groups or tasks apart."""
        c = schema.parties.c
        named = P.party.not_in(select(c.party).where(c.task_id.is_(None)))
        query = select(P.label, *self._figures.columns()[:3]).where(*self._where(), named).group_by(P.label)
        for label_number, *figures in self._rows(query):
            label = self._labels.get(label_number)
            if label is not None and figures[0]:
                self._groups(label, 0)[0].add_task_cost(label, figures)

    def _add_tasks(self) -> None:
        """Find the tasks that belong to the period, or to a group's day, and all that they cost, whenever it arose.

        A task belongs to when its first call began.
        """
        first, task = self._first_of_tasks(), self._parties.task
        day_of_task = {each: began // MICROS_PER_DAY for each, began in first.items() if began in self._period}
        of_days = self._day is not None
        for (_, day), groups in self._sums.items():
            for group in groups.values():
                tasks = {task[party] for party in group.parties} & day_of_task.keys()
                group.tasks = {each for each in tasks if day_of_task[each] == day} if of_days else tasks
        keys = (P.label, P.day, P.party)
        query = select(P.label, P.party, *self._figures.columns()[:3]).where(*self._labelled()).group_by(*keys)
        last, label, number_of, by_party = 0, None, self._parties.key, self._by_party
        for label_number, party, *figures in self._rows(query):
            if label_number != last:
                last, label = label_number, self._labels.get(label_number)
            began = day_of_task.get(task[party])
            if label is None or began is None:
                continue
            number = number_of.get(party, -1) if by_party else 0
            found = self._sums.get((label.key, began if of_days else 0), _NONE).get(number)
            if found is not None and task[party] in found.tasks:
                found.add_task_cost(label, figures)

    def _groups(self, label: Label, day: int) -> dict[int, Sum]:
        return self._sums.setdefault((label.key, 0 if self._day is None else day), {})

    def _where(self) -> list[ColumnElement[bool]]:
        """The period; and the labels, where few are meant."""
        where = self._labelled()
        if self._period.since is not None:
            where.append(P.at >= self._period.since)
        if self._period.until is not None:
            where.append(P.at < self._period.until)
        return where

    def _labelled(self) -> list[ColumnElement[bool]]:
        """The labels, where few are meant."""
        return [P.label.in_(self._labels)] if self._label_filters and len(self._labels) <= FEW else []

    def _entries(self) -> Iterator[tuple[Key, Totals, int, Collection[int], TaskCost]]:
        """Groups with their distinct runs and tasks, and what those cost, each let go when it is taken."""
        run, task = self._parties.run, self._parties.task
        while self._sums:
            (labels, day), groups = self._sums.popitem()
            while groups:
                number, group = groups.popitem()
                parties = self._parties.keys[number] if self._by_party else labels
                key = [mine if theirs is None else theirs for mine, theirs in zip(labels, parties, strict=True)]
                if self._day is not None:
                    key[self._day] = day_of(day * MICROS_PER_DAY)
                runs = {run[party] for party in group.parties}
                tasks = group.tasks if self._in_part else {task[party] for party in group.parties} - {0}
                yield tuple(key), group.totals(self._figures), len(runs - {0}), tasks, group.task_cost

    def _first_of_tasks(self) -> dict[int, int]:
        """When each task's first call began, whatever the filters; its first charge, where it has no call."""
        keys = (P.label, P.day, P.party)
        least = func.min(P.records)
        query = select(P.label, P.party, func.min(P.at)).group_by(*keys).having(func.sum(P.records) > 0, least > 0)
        # A version that was taken back may have begun earlier than any that counts.
        revised = select(*keys).group_by(*keys).having(least < 0).subquery()
        same = [ours == theirs for ours, theirs in zip(keys, revised.c, strict=True)]
        counting = select(P.label, P.party, P.at).join(revised, and_(*same)).group_by(*keys, P.at)
        c = schema.labels.c
        calls = {label for (label,) in self._connection.execute(select(c.label).where(c.kind == "call"))}
        of_call, of_charge = dict[int, int](), dict[int, int]()
        for label, party, began in chain(self._rows(query), self._rows(counting.having(func.sum(P.records) > 0))):
            if task := self._parties.task[party]:
                first = of_call if label in calls else of_charge
                if began < first.get(task, began + 1):
                    first[task] = began
        return of_charge | of_call

    def _read_outcomes(self) -> dict[str, tuple[int | None, int]]:
        """Success and value of each task's current outcome."""
        c = schema.outcomes.c
        # Later ones overwrite earlier ones.
        return {id_: (success, value) for id_, success, value in self._rows(
            select(c.id, c.success, c.value_pico).order_by(c.revision))}  # fmt: skip
