"""What was done for each task, and what became of it: the facts of unit economics, a million calls in seconds.

Judges and simulators are apart: nothing they did is counted here, as in a cost per success.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, Select, exists, func, literal, or_, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.grouping import Key, Period, check_by, time_of, value_of
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.ledger.pruning import APART as SET_APART
from langchain_finops.ledger.rows import LABEL_COLUMNS
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.totals import APART, DIMENSIONS
from langchain_finops.money import to_pico
from langchain_finops.records import CallRecord, ChargeRecord, Outcome
from langchain_finops.usage import TOKEN_METERS

__all__ = ["Task", "Verdict", "Work", "WorkDone", "driver_rows", "known_tasks", "work_done"]

P: Final = schema.postings.c
NEVER: Final = 2**63 - 1
_OUTPUT: Final = ("output_tokens", "audio_output_tokens")


@dataclass(slots=True)
class Work:
    """What one group did for one task, or, in the period, for none."""

    calls: int = 0
    unpriced: int = 0
    """Those of the calls whose price is unknown: the amount is then a lower bound."""
    charges: int = 0
    charges_unpriced: int = 0
    pico: int = 0
    """List cost of calls, and cost of charges."""
    people: int = 0
    """Those of the charges that are a person's time."""
    people_unpriced: int = 0
    people_pico: int = 0
    tokens: int = 0
    """Input and output of the calls."""
    output_tokens: int = 0
    """Reasoning, failed calls and all else included."""
    answered_at: int = -NEVER
    """When the last call of role `agent` that was answered began; of several that began at once, the longest."""
    answer_tokens: int = 0
    """The output tokens of that call, its hidden reasoning left out."""
    folded: int = 0
    """Calls that are known as daily sums only: which of them was the last, nobody can tell."""

    def note_answer(self, at: int, tokens: int) -> None:
        """Take an answered call for the last one, if it is."""
        self.answered_at, self.answer_tokens = max((self.answered_at, self.answer_tokens), (at, tokens))

    def merge(self, other: "Work") -> None:
        """Add what another group did."""
        # Field by field: reports do this for every task, and getattr would take four times as long.
        self.calls += other.calls
        self.unpriced += other.unpriced
        self.charges += other.charges
        self.charges_unpriced += other.charges_unpriced
        self.pico += other.pico
        self.people += other.people
        self.people_unpriced += other.people_unpriced
        self.people_pico += other.people_pico
        self.tokens += other.tokens
        self.output_tokens += other.output_tokens
        self.folded += other.folded
        self.note_answer(other.answered_at, other.answer_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a task, by all that was said about it."""

    success: bool | None
    value_pico: int | None
    """None where nobody said what it is worth."""
    since: int
    """Since when that stands: when the first of the verdicts was given that say the same as the last one."""
    reopened: bool
    """Whether it was a success before, and then was not."""


@dataclass(slots=True)
class Task:
    """A task that belongs to the period."""

    work: dict[Key, Work] = field(default_factory=dict)
    """By group."""
    runs: int = 0
    """Distinct logical runs that worked on it, in whatever group."""
    retried: bool = False
    """Whether a call of it was a second try, of its node or by `with_retry`."""
    first: int = NEVER
    """When its first call began; its first charge, where it has no call."""
    verdict: Verdict | None = None


@dataclass(slots=True)
class WorkDone:
    """All work that belongs to a period."""

    tasks: dict[str, Task] = field(default_factory=dict)
    """Those that began in the period, by id, with all that was done for them, whenever that was."""
    rest: dict[Key, Work] = field(default_factory=dict)
    """What was done in the period and names no task, by group."""


def work_done(ledger: Ledger, by: Sequence[str], period: Period = Period()) -> WorkDone:  # noqa: B008 - frozen
    """Return what was done for the tasks that began in the period, by names of `DIMENSIONS` (but `day`)."""
    dimensions = check_by(by)
    fields = tuple(DIMENSIONS[name] for name in dimensions)
    if isinstance(ledger, SqlLedger):
        return ledger.look_at(lambda connection: _of_tables(connection, fields, period))
    return _of_records(ledger, fields, period)


def known_tasks(ledger: Ledger) -> set[str]:
    """Return the ids that any call, charge or run names, folded ones included."""
    if isinstance(ledger, SqlLedger):
        c = schema.parties.c
        query = select(c.task_id).where(c.task_id.is_not(None)).distinct()
        return ledger.look_at(lambda connection: {id_ for (id_,) in driver_rows(connection, query)})
    records = [*(record for record, _ in _current(ledger)), *ledger.runs()]
    return {record.attribution.task_id for record in records if record.attribution.task_id is not None}


class _Gathering:
    """Work in the making."""

    def __init__(self, period: Period) -> None:
        self.period = period
        self.tasks: dict[str, Task] = {}
        self.rest: dict[Key, Work] = {}
        self.charged: dict[str, int] = {}
        """When a task's first charge was."""
        self.runs: dict[str, set[str]] = {}

    def task(self, task_id: str) -> Task:
        """The task of that id."""
        found = self.tasks.get(task_id)
        if found is None:
            found = self.tasks[task_id] = Task()
        return found

    def note_charge(self, task_id: str, at: int) -> None:
        """Remember when a task was charged first: it counts where the task has no call."""
        if at < self.charged.get(task_id, NEVER):
            self.charged[task_id] = at

    def note_run(self, task_id: str, run_id: str | None) -> None:
        """Remember that a run worked on a task."""
        if run_id is not None:
            self.runs.setdefault(task_id, set()).add(run_id)

    def note_retried(self, task_ids: Iterable[str | None]) -> None:
        """Remember that a call of these tasks was a second try."""
        for id_ in task_ids:
            if id_ is not None and id_ in self.tasks:
                self.tasks[id_].retried = True

    def done(self, verdicts: Mapping[str, Verdict]) -> WorkDone:
        """What belongs to the period. A task that only judges worked on is none of these."""
        found: dict[str, Task] = {}
        for id_, task in self.tasks.items():
            if task.first == NEVER:
                task.first = self.charged.get(id_, NEVER)
            if task.work and task.first in self.period:
                task.runs, task.verdict = len(self.runs.get(id_, ())), verdicts.get(id_)
                found[id_] = task
        return WorkDone(tasks=found, rest=self.rest)


def _verdict(history: Sequence[tuple[int, bool | None, int | None]]) -> Verdict:
    """What the verdicts on one task come to; each is time, success and value, the last one counts."""
    at, success, value = history[-1]
    for earlier_at, earlier, _ in reversed(history):
        if earlier is not success:
            break
        at = min(at, earlier_at)
    words = [each for _, each, _ in history]
    reopened = any(first is True is not then for first, then in pairwise(words))
    return Verdict(success=success, value_pico=value, since=at, reopened=reopened)


# --- records, one by one -----------------------------------------------------------------------------------------


def _of_records(ledger: Ledger, fields: Sequence[str], period: Period) -> WorkDone:
    gathering = _Gathering(period)
    for record, is_folded in _current(ledger):
        _take(gathering, record, tuple(value_of(record, name) for name in fields), is_folded=is_folded)
    history: dict[str, list[Outcome]] = {}
    for outcome in ledger.outcomes(history=True):
        history.setdefault(outcome.task_id, []).append(outcome)
    verdicts = {}
    for id_, said in history.items():
        said.sort(key=lambda outcome: outcome.revision)
        verdicts[id_] = _verdict([(time_of(one), one.success, _pico(one)) for one in said])
    return gathering.done(verdicts)


def _current(ledger: Ledger) -> Iterator[tuple[CallRecord | ChargeRecord, bool]]:
    """Every call and charge, and whether it is one that was folded."""
    yield from ((call, False) for call in ledger.calls())
    yield from ((charge, False) for charge in ledger.charges())
    if isinstance(ledger, MemoryLedger):
        yield from ((record, True) for record in ledger.folded())


def _take(gathering: _Gathering, record: CallRecord | ChargeRecord, key: Key, *, is_folded: bool) -> None:
    who, at = record.attribution, time_of(record)
    task = None if who.task_id is None else gathering.task(who.task_id)
    if task is not None and who.task_id is not None:
        if isinstance(record, CallRecord):
            task.first = min(task.first, at)
        else:
            gathering.note_charge(who.task_id, at)
    if who.role in APART or (task is None and at not in gathering.period):
        return
    work = (gathering.rest if task is None else task.work).setdefault(key, Work())
    pico = 0 if record.cost_usd is None else to_pico(record.cost_usd)
    work.pico += pico
    if isinstance(record, ChargeRecord):
        _add_charges(work, 1, pico, unpriced=record.cost_usd is None, people=record.kind == "human")
    else:
        usage, output = record.usage, record.usage.total_output_tokens
        work.calls += 1
        work.unpriced += record.cost_usd is None
        work.tokens += usage.total_tokens
        work.output_tokens += output
        work.folded += is_folded
        if who.role == "agent" and record.error is None and not is_folded:
            work.note_answer(at, output - usage.reasoning_tokens)
        if task is not None and not is_folded:
            task.retried |= who.attempt not in {None, 1}
    if who.task_id is not None:
        gathering.note_run(who.task_id, record.run_id)


def _add_charges(work: Work, records: int, pico: int, *, unpriced: bool, people: bool) -> None:
    work.charges += records
    work.charges_unpriced += records * unpriced
    if people:
        work.people += records
        work.people_unpriced += records * unpriced
        work.people_pico += pico


def _pico(outcome: Outcome) -> int | None:
    return None if outcome.value_usd is None else to_pico(outcome.value_usd)


# --- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Label:
    key: Key
    is_call: bool
    answered: bool
    """Calls that an agent was answered."""
    unpriced: bool
    apart: bool
    people: bool


@dataclass(frozen=True, slots=True)
class _Party:
    run_id: str | None
    task_id: str | None
    key: Key


def _of_tables(connection: Connection, fields: Sequence[str], period: Period) -> WorkDone:  # noqa: C901, PLR0912
    # One loop without calls in it: it runs a million times.
    gathering = _Gathering(period)
    parties, labels = _parties(connection, fields), _labels(connection, fields)
    last = -1
    label: _Label | None = None
    taken_back: set[int] = set()
    places: dict[int, _Place] = {}
    places_of: dict[tuple[Key, bool], dict[int, _Place]] = {}
    for number, party, n, at, records, pico, tokens, output, answer in driver_rows(connection, _postings(connection)):
        if number != last:  # Postings lie in the order of their labels.
            last, label, taken_back = number, labels.get(number), set()
            places = {} if label is None else places_of.setdefault((label.key, label.apart), {})
        if n < 0:  # The version that it takes back comes after it.
            taken_back.add(-n)
        if label is None or n < 0 or (taken_back and n in taken_back):
            continue
        place = places.get(party)
        if place is None:
            if parties[party].task_id is None and at not in period:
                continue
            place = places[party] = _place(gathering, label, parties[party])
        task, work, task_id = place
        if task is None:
            if at not in period:
                continue
        elif not label.is_call:
            gathering.note_charge(task_id, at)
        elif at < task.first:
            task.first = at
        if work is None:
            continue
        work.pico += pico
        if label.is_call:
            work.calls += records
            work.tokens += tokens
            work.output_tokens += output
            if label.unpriced:
                work.unpriced += records
            if not 0 < n < SET_APART:
                work.folded += records
            elif at >= work.answered_at and label.answered:
                work.note_answer(at, answer)
        else:
            _add_charges(work, records, pico, unpriced=label.unpriced, people=label.people)
    gathering.note_retried(parties[party].task_id for party in _retried(connection))
    return gathering.done(_verdicts(connection))


_Place = tuple[Task | None, Work | None, str]
"""The task, the work that is counted (none for a judge's), and the task's id."""


def _place(gathering: _Gathering, label: _Label, party: _Party) -> _Place:
    """Where what this party did under labels like this one is counted."""
    task_id = party.task_id
    task = None if task_id is None else gathering.task(task_id)
    if label.apart:
        return task, None, task_id or ""
    key = tuple(ours if theirs is None else theirs for ours, theirs in zip(label.key, party.key, strict=True))
    works = gathering.rest if task is None else task.work
    work = works.get(key)
    if work is None:
        work = works[key] = Work()
    if task_id is not None:
        gathering.note_run(task_id, party.run_id)
    return task, work, task_id or ""


def driver_rows(connection: Connection, query: Select[Any]) -> Iterable[Any]:
    """Return rows as the driver gives them: SQLAlchemy's own take twice as long. The query has literals only."""
    sql = query.compile(connection, compile_kwargs={"literal_binds": True})
    driver: Any = connection.connection.dbapi_connection
    rows: Iterable[Any] = driver.execute(str(sql), ())
    return rows


def _postings(connection: Connection) -> Select[Any]:
    """Figures that were never more than 0 are not asked for."""
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    tokens, output = (sum((P[name] for name in names if name in used), literal(0)) for names in (TOKEN_METERS, _OUTPUT))
    answer = output - P.reasoning_tokens if "reasoning_tokens" in used else output
    return select(P.label, P.party, P.n, P.at, P.records, P.cost_pico, tokens, output, answer).order_by(
        P.label, P.day, P.party, P.n
    )


def _labels(connection: Connection, fields: Sequence[str]) -> dict[int, _Label]:
    c = schema.labels.c
    found = {}
    for row in connection.execute(select(schema.labels).where(c.kind.in_(("call", "charge")))).mappings():
        found[row["label"]] = _Label(
            key=tuple(row[name] if name in LABEL_COLUMNS else None for name in fields),
            is_call=row["kind"] == "call",
            answered=row["kind"] == "call" and row["role"] == "agent" and not row["failed"],
            unpriced=bool(row["unpriced"]),
            apart=row["role"] in APART,
            people=row["kind"] == "charge" and json.loads(row["detail"]).get("kind") == "human",
        )
    return found


def _parties(connection: Connection, fields: Sequence[str]) -> dict[int, _Party]:
    c = schema.parties.c
    own = [name for name in fields if name not in LABEL_COLUMNS]
    none: Key = (None,) * len(fields)
    places = [own.index(name) if name in own else None for name in fields]
    found = {}
    for party, run_id, task_id, *values in driver_rows(
        connection, select(c.party, c.run_id, c.task_id, *(c[name] for name in own))
    ):
        key = none if not own else tuple(None if place is None else values[place] for place in places)
        found[party] = _Party(run_id, task_id, key)
    return found


def _retried(connection: Connection) -> Iterator[int]:
    """Parties with a call that was a second try. It is the last thing in a body: `..."try":[step,attempt]}`."""
    calls, labels = schema.VERSIONED["call"], schema.labels.c
    newer = calls.alias("newer")
    is_first = or_(*(calls.c.body.like(f"%,{attempt}]}}") for attempt in ("1", "null")))
    query = (
        select(calls.c.party)
        .join(schema.labels, labels.label == calls.c.label)
        .where(calls.c.body.like('%"try":[%,%]}'), ~is_first, labels.role.not_in(APART))
        .where(~exists().where(newer.c.id == calls.c.id, newer.c.revision > calls.c.revision))
    )
    return (party for (party,) in driver_rows(connection, query.distinct()))


def _verdicts(connection: Connection) -> dict[str, Verdict]:
    c = schema.outcomes.c
    is_valued = func.coalesce(c.body.like('%"value_usd":%'), False)
    query = select(c.id, c.at, c.success, c.value_pico, is_valued).order_by(c.id, c.revision)
    history: dict[str, list[tuple[int, bool | None, int | None]]] = {}
    for id_, at, success, value, valued in driver_rows(connection, query):
        word = None if success is None else bool(success)
        history.setdefault(id_, []).append((at, word, value if valued else None))
    return {id_: _verdict(said) for id_, said in history.items()}
