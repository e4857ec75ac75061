"""Sums of what a handler saw, in bounded memory: 10,000 keys a dimension and as many tasks, then `other`.

A run keeps its own cells while it is open and folds them in when it ends, so that a call costs one addition.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from datetime import date

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.summary import Summary
from langchain_finops.ledger.totals import DIMENSIONS, Group, Totals
from langchain_finops.money import to_pico
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, Outcome

__all__ = [
    "DIMENSIONS_KEPT",
    "KEYS_KEPT",
    "OTHER",
    "Cell",
    "Cells",
    "FoldedRun",
    "RunSums",
    "Sums",
    "cell_of_call",
    "cell_of_charge",
    "who_of",
]

KEYS_KEPT = 10_000
"""Keys that a dimension keeps sums of; later ones are summed as `OTHER`."""
WAITING = 4
"""So few ended runs wait to be summed: adding many at once would hold up an event loop."""
OTHER = "other"

DIMENSIONS_KEPT = tuple(name for name in DIMENSIONS if name != "run")
"""All but single runs: of a run that has ended a handler keeps nothing but its share in the sums."""

Who = tuple[str | None, ...]
"""The part of a cell that an attribution decides, in the order of `WHO`."""
WHO = ("agent", "customer", "environment", "node", "project", "release", "role", "task", "task_type", "thread", "user")
Cell = tuple[Who, str | None, str | None, str | None, int]
"""Who, provider, model, cost status, and the day as an ordinal."""
Cells = dict[Cell, Totals]
RunSums = tuple[Mapping[Cell, Totals], Collection[Cell]]
"""The sums of a run's latest invocation, and the cells that its earlier ones were summed in."""
FoldedRun = tuple[Cells, Collection[Cell]]
"""The same of a run that has been folded; the cells it gets late are added to it."""


def who_of(attribution: Attribution) -> Who:
    """The part of a cell that is the same for all calls with this attribution."""
    return (
        attribution.agent_id,
        attribution.customer_id,
        attribution.environment,
        attribution.node_path,
        attribution.project,
        attribution.release,
        attribution.role,
        attribution.task_id,
        attribution.task_type,
        attribution.thread_id,
        attribution.user_id,
    )


def cell_of_call(who: Who, call: CallRecord) -> Cell:
    """The cell a call is summed in."""
    return who, call.provider, call.model, call.cost_status, call.started_at.toordinal()


def cell_of_charge(who: Who, charge: ChargeRecord) -> Cell:
    """The cell a charge is summed in."""
    return who, None, None, charge.cost_status, charge.at.toordinal()


class _Task:
    """A task's groups and how its current outcome was counted in them."""

    __slots__ = ("groups", "judged", "success", "value_pico")

    def __init__(self) -> None:
        self.groups: tuple[Group, ...] = ()
        self.judged = 0
        self.success = 0
        self.value_pico = 0

    def count_in(self, groups: Iterable[Group], sign: int = 1) -> None:
        for group in groups:
            group.judged += sign * self.judged
            group.successes += sign * self.success
            group.value_pico += sign * self.value_pico


class Sums:
    """Totals by each dimension, over all runs that have ended. Safe between threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held as well by who ends a run or looks at open ones: none may be counted twice meanwhile, or not at all."""
        self._total = Group(key=(), totals=Totals())
        self._by: dict[str, dict[str | None, Group]] = {dimension: {} for dimension in DIMENSIONS_KEPT}
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._waiting: list[RunSums] = []
        """The last runs that ended, yet to be added: who has a handler for one run never asks for the sums."""

    def fold(self, run: RunSums) -> None:
        """Add the cells of a run whose invocation has ended; they must not change until somebody looks."""
        with self.lock:
            self._waiting.append(run)
            if len(self._waiting) > WAITING:
                self._fold_waiting()

    def _fold_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for cells, before in waiting:
            if cells:
                self._fold(cells, before)

    def _fold(self, cells: Mapping[Cell, Totals], before: Collection[Cell]) -> None:
        with self.lock:
            touched = {task: [self._total] for task in _tasks_of(cells)}
            _add(self._total, cells)
            self._total.runs += not before
            for dimension, groups in self._by.items():
                counted = {id(_group(groups, _value(dimension, cell))) for cell in before}
                for value, part in _split(dimension, cells).items():
                    group = _group(groups, value)
                    _add(group, part)
                    group.runs += id(group) not in counted
                    counted.add(id(group))  # Several values may be summed as one.
                    for task in _tasks_of(part):
                        touched[task].append(group)
            for task, task_groups in touched.items():
                self._touch(task, task_groups)

    def amend(self, who: Who, old: CallRecord, new: CallRecord) -> None:
        """Replace a call that was summed by the version that supersedes it."""
        before, after = cell_of_call(who, old), cell_of_call(who, new)
        with self.lock:
            self._fold_waiting()
            self._total.totals.add_call(old, -1)
            self._total.totals.add_call(new)
            for dimension, groups in self._by.items():
                _group(groups, _value(dimension, before)).totals.add_call(old, -1)
                group = _group(groups, _value(dimension, after))
                group.totals.add_call(new)
                if _value(dimension, before) != _value(dimension, after) and group.totals.calls == 1:
                    group.runs += 1  # The answer names a model that the estimate did not know of.
                if new.attribution.task_id is not None:
                    self._touch(new.attribution.task_id, [group])

    def add_call(self, who: Who, call: CallRecord, run: FoldedRun) -> None:
        """Add a call that was settled when its run had been folded already."""
        totals = Totals()
        totals.add_call(call)
        self._add_late(cell_of_call(who, call), totals, run)

    def add_charge(self, who: Who, charge: ChargeRecord, run: FoldedRun | None) -> None:
        """The same for a charge; None: it belongs to no run, and so counts none."""
        totals = Totals()
        totals.add_charge(charge)
        cell = cell_of_charge(who, charge)
        self._add_late(cell, totals, ({}, [cell]) if run is None else run)

    def _add_late(self, cell: Cell, totals: Totals, run: FoldedRun) -> None:
        cells, before = run
        with self.lock:
            self._fold_waiting()  # Before the cells change below.
            self._fold({cell: totals}, {*cells, *before})
            cells.setdefault(cell, totals)  # Without it the next late one would count the run again.

    def judge(self, outcome: Outcome) -> None:
        """Count a task's current outcome in all groups the task has costs in, instead of its former one."""
        with self.lock:
            self._fold_waiting()
            task = self._task(outcome.task_id)
            task.count_in(task.groups, -1)
            task.judged = 0 if outcome.success is None else 1
            task.success = 1 if outcome.success else 0
            task.value_pico = 0 if outcome.value_usd is None else to_pico(outcome.value_usd)
            task.count_in(task.groups)

    def summary(self, by: tuple[str, ...], live: Iterable[RunSums]) -> Summary:
        """Sums by one dimension, or in all for `()`; runs that are still open are counted in."""
        if len(by) > 1 or (by and by[0] not in DIMENSIONS_KEPT):
            raise BadArguments(
                f"a handler keeps no sums by {', '.join(by)}: choose one of {', '.join(DIMENSIONS_KEPT)}, "
                f"or ask the ledger, which counts everything in it: handler.ledger.totals({list(by)!r})"
            )
        with self.lock:
            self._fold_waiting()
            kept: dict[str | None, Group] = {None: self._total} if not by else self._by[by[0]]
            groups = {value: _copied(group) for value, group in kept.items()}
            tasks: set[tuple[int, str]] = set()
            for cells, before in live:
                parts = {None: cells} if not by else _split(by[0], cells)
                counted = {id(_group(groups, _value(by[0], cell) if by else None)) for cell in before}
                for value, part in parts.items():
                    group = _group(groups, value)
                    _add(group, part)
                    group.runs += id(group) not in counted
                    counted.add(id(group))
                    new = {task for task in _tasks_of(part) if (id(group), task) not in tasks}
                    tasks |= {(id(group), task) for task in new}
                    self._count_tasks(group, kept.get(_key(kept, value)), new)
        shown = (group for group in groups.values() if group.totals.calls or group.totals.charges)
        return Summary(by=by, groups=sorted(shown, key=_dearest))

    def _count_tasks(self, group: Group, counted: Group | None, names: Iterable[str]) -> None:
        for name in names:
            task = self._tasks.get(name)
            if task is None or not any(each is counted for each in task.groups):
                group.tasks += 1
                if task is not None:
                    task.count_in((group,))

    def _task(self, task_id: str) -> _Task:
        task = self._tasks.get(task_id)
        if task is None:
            task = self._tasks[task_id] = _Task()
            if len(self._tasks) > KEYS_KEPT:
                self._tasks.popitem(last=False)
        else:
            self._tasks.move_to_end(task_id)
        return task

    def _touch(self, task_id: str, groups: list[Group]) -> None:
        """Count the task in those of the groups that it is new to."""
        task = self._task(task_id)
        new = [group for group in groups if not any(group is each for each in task.groups)]
        for group in new:
            group.tasks += 1
        task.count_in(new)
        task.groups += tuple(new)


def _key(groups: Mapping[str | None, Group], value: str | None) -> str | None:
    """The key that a value is summed under."""
    return OTHER if value not in groups and len(groups) >= KEYS_KEPT else value


def _group(groups: dict[str | None, Group], value: str | None) -> Group:
    key = _key(groups, value)
    group = groups.get(key)
    if group is None:
        group = groups[key] = Group(key=(key,), totals=Totals())
    return group


def _value(dimension: str, cell: Cell) -> str | None:
    who, provider, model, status, day = cell
    match dimension:
        case "provider":
            return provider
        case "model":
            return model
        case "status":
            return status
        case "day":
            return date.fromordinal(day).isoformat()
    return who[WHO.index(dimension)]


def _split(dimension: str, cells: Mapping[Cell, Totals]) -> Mapping[str | None, Mapping[Cell, Totals]]:
    """The cells by their value in a dimension."""
    parts: dict[str | None, dict[Cell, Totals]] = {}
    for cell, totals in cells.items():
        parts.setdefault(_value(dimension, cell), {})[cell] = totals
    return parts


def _tasks_of(cells: Mapping[Cell, Totals]) -> set[str]:
    return {task for cell in cells if (task := cell[0][WHO.index("task")]) is not None}


def _add(group: Group, cells: Mapping[Cell, Totals]) -> None:
    for totals in cells.values():
        group.totals.merge(totals)


def _copied(group: Group) -> Group:
    totals = Totals()
    totals.merge(group.totals)
    return Group(
        key=group.key,
        totals=totals,
        runs=group.runs,
        tasks=group.tasks,
        judged=group.judged,
        successes=group.successes,
        value_pico=group.value_pico,
    )


def _dearest(group: Group) -> tuple[int, tuple[str, ...]]:
    return -(group.totals.cost_pico + group.totals.charge_pico), tuple(value or "" for value in group.key)
