"""Every run with what it cost so far and how it stands, kept up to date: a page may list a hundred thousand of them.

The first look reads sums of all calls and charges, folded ones included; each later one reads what is new.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, or_, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.feed import Entry, Feed
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.work import driver_rows
from langchain_finops.usage import TOKEN_METERS

__all__ = ["IndexedRun", "RunIndex"]

P: Final = schema.postings.c
OVERLAP: Final = 2_000
"""As in a feed: numbers that are read again, for PostgreSQL gives them before it commits."""


@dataclass(slots=True)
class IndexedRun:
    """A logical run: all its invocations together."""

    run_id: str
    agent: str | None = None
    """As its newest call names it."""
    task_id: str | None = None
    began: int = 2**62
    """When its first call, charge or invocation began, in microseconds."""
    newest: int = -(2**62)
    """When its newest call or charge began."""
    calls: int = 0
    charges: int = 0
    unpriced: int = 0
    """Calls and charges without a price: the amount is then a lower bound."""
    pico: int = 0
    tokens: int = 0
    invocation: str | None = None
    """That of its newest call or charge."""
    ended: tuple[str, ...] = ()
    """Invocations whose end is recorded."""
    revision: int = -1
    status: str | None = None
    """How its last recorded invocation ended; None where no end is recorded."""
    stop_reason: str | None = None
    ended_at: int | None = None
    steps: int = 0

    @property
    def is_open(self) -> bool:
        """Whether its newest call was made in an invocation whose end is not recorded."""
        return self.invocation is not None and self.invocation not in self.ended

    def note(self, at: int, agent: str | None, task: str | None, invocation: str | None) -> None:
        """Take a call or charge for the newest one, if it is."""
        self.began = min(self.began, at)
        self.task_id = self.task_id or task
        if at >= self.newest:
            self.newest, self.invocation = at, invocation
            self.agent = agent if agent is not None else self.agent


class RunIndex:
    """All runs of a ledger, by id; `look` brings them up to date."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.runs: dict[str, IndexedRun] = {}
        self.verdicts: dict[str, bool | None] = {}
        """What became of tasks, by id."""
        self._ledger, self._feed = ledger, Feed(ledger, None)
        self._revisions: dict[str, int] = {}
        self._is_loaded = False
        self._last = {"run": 0, "outcome": 0}
        self._seen: dict[str, set[int]] = {"run": set(), "outcome": set()}

    def look(self) -> None:
        """Read what is new."""
        if self._is_loaded:
            for entry in self._feed.look():
                self._add(entry)
            self._ledger.look_at(self._read_ends)
        else:
            self._ledger.look_at(self._load)
            self._is_loaded = True

    def matching(self, text: str) -> set[str]:
        """Return the runs whose own id, agent, task, user, thread or customer has this text in it, in any case.

        It is looked up in the ledger: who was forgotten is not found.
        """
        c = schema.parties.c
        names = (c.run_id, c.task_id, c.user_id, c.thread_id, c.customer_id)
        query = select(c.run_id).where(or_(*(name.icontains(text, autoescape=True) for name in names))).distinct()
        found = self._ledger.look_at(lambda connection: set(connection.execute(query).scalars()))
        wanted = text.casefold()
        agents = {each.run_id for each in self.runs.values() if each.agent and wanted in each.agent.casefold()}
        return found | agents

    # --- the first look ----------------------------------------------------------------------------------------------

    def _load(self, connection: Connection) -> None:
        self._feed.skip(connection)
        whose = self._parties(connection)
        labels = _labels(connection)
        last = -1
        nothing: tuple[str | None, bool, bool] = (None, False, False)
        label = nothing
        for number, party, at, records, pico, tokens in driver_rows(connection, _postings(connection)):
            if number != last:
                last, label = number, labels.get(number, nothing)
            run, invocation, task = whose[party]
            if run is None:
                continue
            agent, is_call, unpriced = label
            if is_call:
                run.calls += records
            else:
                run.charges += records
            if unpriced:
                run.unpriced += records
            run.pico += pico
            run.tokens += tokens
            if records > 0:
                run.note(at, agent, task, invocation)
        self._read_ends(connection)
        self.runs = {id_: run for id_, run in self.runs.items() if run.calls or run.charges or run.status is not None}

    def _parties(self, connection: Connection) -> dict[int, tuple[IndexedRun | None, str | None, str | None]]:
        c = schema.parties.c
        rows = driver_rows(connection, select(c.party, c.run_id, c.invocation_id, c.task_id))
        return {
            party: (None if run is None else self._run(run), invocation, task) for party, run, invocation, task in rows
        }

    def _run(self, run_id: str) -> IndexedRun:
        found = self.runs.get(run_id)
        if found is None:
            found = self.runs[run_id] = IndexedRun(run_id)
        return found

    # --- later looks -------------------------------------------------------------------------------------------------

    def _add(self, entry: Entry) -> None:
        if entry.run_id is None:
            return
        run, sign = self._run(entry.run_id), entry.sign
        if entry.names.is_call:
            run.calls += sign
        else:
            run.charges += sign
        run.unpriced += sign * entry.names.unpriced
        run.pico += sign * entry.pico
        run.tokens += sign * entry.tokens
        if sign > 0:
            run.note(entry.at, entry.names.agent, entry.task_id, entry.invocation_id)

    def _read_ends(self, connection: Connection) -> None:
        """Ends of invocations, and what became of tasks."""
        runs, parties, labels = schema.VERSIONED["run"].c, schema.parties.c, schema.labels.c
        query = (
            select(runs.n, runs.id, runs.revision, runs.at, parties.invocation_id, parties.task_id)
            .add_columns(labels.agent_id, runs.body)
            .join(schema.parties, parties.party == runs.party)
            .join(schema.labels, labels.label == runs.label)
        )
        for _, id_, revision, at, invocation, task, agent, body in self._new(connection, "run", runs.n, query):
            run = self._run(id_)
            run.began = min(run.began, at)
            run.agent, run.task_id = run.agent or agent, run.task_id or task
            if invocation is not None and invocation not in run.ended:
                run.ended += (invocation,)
            if revision > run.revision:
                parts: dict[str, Any] = json.loads(body)
                run.revision, run.status, run.stop_reason = revision, parts["status"], parts.get("stop_reason")
                run.ended_at, run.steps = parts.get("ended_at"), parts.get("steps", 0)
        c = schema.outcomes.c
        for _, id_, revision, success in self._new(
            connection, "outcome", c.n, select(c.n, c.id, c.revision, c.success)
        ):
            if revision >= self._revisions.get(id_, revision):
                self._revisions[id_], self.verdicts[id_] = revision, None if success is None else bool(success)

    def _new(self, connection: Connection, kind: str, n: Any, query: Any) -> Iterator[Any]:
        last, seen = self._last[kind], self._seen[kind]
        rows = [row for row in driver_rows(connection, query.where(n > last - OVERLAP)) if row[0] not in seen]
        self._last[kind] = max((row[0] for row in rows), default=last)
        floor = self._last[kind] - OVERLAP
        self._seen[kind] = {each for each in (*seen, *(row[0] for row in rows)) if each > floor}
        return iter(rows)


def _labels(connection: Connection) -> dict[int, tuple[str | None, bool, bool]]:
    c = schema.labels.c
    rows: Iterable[Any] = driver_rows(connection, select(c.label, c.agent_id, c.kind, c.unpriced))
    return {label: (agent, kind == "call", bool(unpriced)) for label, agent, kind, unpriced in rows}


def _postings(connection: Connection) -> Any:
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    tokens = [P[name] for name in TOKEN_METERS if name in used]
    total = sum(tokens[1:], tokens[0]) if tokens else P.records * 0
    return select(P.label, P.party, P.at, P.records, P.cost_pico, total).order_by(P.label, P.day, P.party, P.n)
