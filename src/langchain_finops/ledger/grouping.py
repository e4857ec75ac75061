"""Which records a reader was asked for, and how sums are grouped: the same rules for every ledger."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.codec import KINDS, TIMES, day_of, kind_of, to_micros
from langchain_finops.ledger.totals import APART, DIMENSIONS, Group, TaskCost, Totals
from langchain_finops.money import to_pico
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, Outcome, Record, RunRecord

__all__ = ["Period", "check_by", "check_filters", "fold", "matches", "value_of"]

ATTRIBUTION: Final = frozenset(field.name for field in fields(Attribution))
_FIELDS: Final = {kind: frozenset(field.name for field in fields(type_)) for kind, type_ in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` (inclusive) until `until` (exclusive), in microseconds; None is open."""

    since: int | None = None
    until: int | None = None

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None) -> "Period":
        """Raises BadArguments for a time without a zone."""
        return cls(*(None if moment is None else to_micros(moment) for moment in (since, until)))

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.since is None and self.until is None

    def __contains__(self, at: int) -> bool:
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def check_filters(filters: Mapping[str, object], *kinds: str) -> None:
    """Raises BadArguments for a name that is no field of any of these kinds of record."""
    known = frozenset().union(*(_FIELDS[kind] for kind in kinds))
    if "attribution" in known:
        known |= ATTRIBUTION
    if unknown := sorted(set(filters) - known):
        raise BadArguments(f"no field {', '.join(unknown)} to filter by: there are {', '.join(sorted(known))}")


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """The dimensions. Raises BadArguments for an unknown one."""
    names = (by,) if isinstance(by, str) else tuple(by)
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise BadArguments(f"cannot group by {', '.join(map(repr, unknown))}: there are {', '.join(DIMENSIONS)}")
    return names


def value_of(record: Record, name: str) -> Any:
    """A field of the record's attribution, else of the record; None where it has no such field."""
    if name in ATTRIBUTION:
        who = getattr(record, "attribution", None)
        if who is not None:
            return getattr(who, name)
    return getattr(record, name, None)


def matches(record: Record, filters: Mapping[str, object]) -> bool:
    """Whether every field named has the value it must have."""
    return all(value_of(record, name) == value for name, value in filters.items())


def time_of(record: Record) -> int:
    """The time that periods are compared with, in microseconds."""
    return to_micros(getattr(record, TIMES[kind_of(record)]))


def same(record: Record, other: Record) -> bool:
    """Whether a run or an outcome is another's copy, whatever their revisions: one invocation, or one judgement."""
    if isinstance(record, Outcome) and isinstance(other, Outcome):
        return replace(record, revision=0, supersedes=None) == replace(other, revision=0, supersedes=None)
    return (
        isinstance(record, RunRecord) and isinstance(other, RunRecord) and (record.invocation_id == other.invocation_id)
    )


def is_late(record: Record, current: Record) -> bool:
    """Whether a run ended, or an outcome was judged, before the current one of its id did."""
    if isinstance(record, RunRecord) and isinstance(current, RunRecord):
        return record.ended_at < current.ended_at
    return time_of(record) < time_of(current)


@dataclass(slots=True)
class Sums:
    """A group in the making."""

    totals: Totals = field(default_factory=Totals)
    runs: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)


Key = tuple[str | None, ...]
TaskRule = Callable[[Any, str | None], bool]
"""Whether a task, by its id or number, belongs to the period, and to the day where groups are of a day."""


def finish(
    entries: Iterable[tuple[Key, Totals, int, Collection[Any], TaskCost]],
    by: tuple[str, ...],
    outcome_of: Callable[[Any], tuple[int | None, int]],
) -> list[Group]:
    """The groups, dearest first, of keys with sums, number of runs, tasks by id or number, and what those cost.

    `outcome_of` tells a task's success (1, 0 or None) and its value in picodollars.
    """
    groups = []
    for key, totals, runs, tasks, task_cost in entries:
        known = [outcome_of(task) for task in tasks]
        groups.append(
            Group(
                key=key,
                totals=totals,
                runs=runs,
                tasks=len(tasks),
                judged=sum(success is not None for success, _ in known),
                successes=sum(success == 1 for success, _ in known),
                value_pico=sum(value for _, value in known),
                task_cost=task_cost,
            )
        )
    if not (groups or by):
        return [Group(key=(), totals=Totals())]
    return sorted(groups, key=_dearest_first)


def _dearest_first(group: Group) -> tuple[int, tuple[tuple[bool, str], ...]]:
    cost = group.totals.cost_pico + group.totals.charge_pico
    return -cost, tuple((value is None, value or "") for value in group.key)


def fold(
    calls: Iterable[CallRecord],
    charges: Iterable[ChargeRecord],
    outcomes: Iterable[Outcome],
    *,
    by: tuple[str, ...],
    period: Period,
    filters: Mapping[str, object],
) -> list[Group]:
    """`Ledger.totals` of the current versions of all records, one by one."""
    sums: dict[Key, Sums] = {}
    costs: dict[tuple[Key, str], TaskCost] = {}
    first_call, first_charge = dict[str, int](), dict[str, int]()
    for call in calls:
        at = time_of(call)
        _note_first(first_call, call.attribution.task_id, at)
        if matches(call, filters):
            _note_cost(costs, call, by)
            if at in period:
                _group(sums, call, by, at).totals.add_call(call)
    for charge in charges:
        at = time_of(charge)
        _note_first(first_charge, charge.attribution.task_id, at)
        if matches(charge, filters):
            _note_cost(costs, charge, by)
            if at in period:
                _group(sums, charge, by, at).totals.add_charge(charge)
    first = first_charge | first_call
    known = {outcome.task_id: success_of(outcome) for outcome in outcomes}
    entries = _entries(sums, costs, by, lambda task, day: first[task] in period and day in (None, day_of(first[task])))
    return finish(entries, by, lambda task: known.get(task, (None, 0)))


def _entries(
    sums: Mapping[Key, Sums], costs: Mapping[tuple[Key, str], TaskCost], by: tuple[str, ...], belongs: TaskRule
) -> Iterator[tuple[Key, Totals, int, Collection[str], TaskCost]]:
    """What `finish` takes: the groups with those tasks that belong to them, and what these cost."""
    for key, group in sums.items():
        day = key[by.index("day")] if "day" in by else None
        tasks = [task for task in group.tasks if belongs(task, day)]
        whenever = tuple(None if name == "day" else value for name, value in zip(by, key, strict=True))
        task_cost = TaskCost()
        for task in tasks:
            task_cost.merge(costs.get((whenever, task), TaskCost()))
        yield key, group.totals, len(group.runs), tasks, task_cost


def _note_cost(costs: dict[tuple[Key, str], TaskCost], record: CallRecord | ChargeRecord, by: tuple[str, ...]) -> None:
    """Add a record to what its task costs, by the group whatever the day; judges and simulators are apart."""
    task, cost = record.attribution.task_id, record.cost_usd
    if task is None or record.attribution.role in APART:
        return
    key = tuple(None if name == "day" else value_of(record, DIMENSIONS[name]) for name in by)
    pico = 0 if cost is None else to_pico(cost)
    is_call = isinstance(record, CallRecord)
    costs.setdefault((key, task), TaskCost()).add(1, pico, is_call=is_call, unpriced=cost is None)


def _note_first(first: dict[str, int], task: str | None, at: int) -> None:
    if task is not None and at < first.get(task, at + 1):
        first[task] = at


def _group(sums: dict[Key, Sums], record: CallRecord | ChargeRecord, by: tuple[str, ...], at: int) -> Sums:
    """The group a record is in, with its run and task noted."""
    key = tuple(day_of(at) if name == "day" else value_of(record, DIMENSIONS[name]) for name in by)
    group = sums.get(key)
    if group is None:
        group = sums[key] = Sums()
    if record.run_id is not None:
        group.runs.add(record.run_id)
    if record.attribution.task_id is not None:
        group.tasks.add(record.attribution.task_id)
    return group


def success_of(outcome: Outcome) -> tuple[int | None, int]:
    """What sums need of an outcome: its success as 1, 0 or None, and its value in picodollars."""
    success = None if outcome.success is None else int(outcome.success)
    return success, 0 if outcome.value_usd is None else to_pico(outcome.value_usd)
