"""What agents spend right now: rate, running runs, who spends most, what guards say, and what today will come to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from langchain_finops.budgets.burn import forecast
from langchain_finops.budgets.keys import is_local
from langchain_finops.budgets.outside import BUDGET, kept_budgets
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.scopes import matches
from langchain_finops.budgets.switch import kills
from langchain_finops.budgets.units import in_units, smallest
from langchain_finops.errors import Fault
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import from_micros, to_micros
from langchain_finops.ledger.feed import Entry, Feed, Names, ended_invocations
from langchain_finops.money import from_pico, to_pico
from langchain_finops.records import CallRecord
from langchain_finops.reports.guards import budget_table

__all__ = ["DIMENSIONS", "Live", "Run", "Spent", "Watch"]

DIMENSIONS: Final = ("agent", "node", "model")
HOUR: Final = timedelta(hours=1)
PACE: Final = timedelta(minutes=5)
QUIET: Final = timedelta(minutes=15)
"""A run whose last call began longer ago than that is not shown as running: its process may have died."""
CELL: Final = 10_000_000
"""Microseconds that are summed together; every window is a whole number of them."""
RUNS: Final = 50
"""Running runs whose calls are read; the others are counted."""


@dataclass(slots=True)
class Spent:
    """Sums of calls and charges."""

    calls: int = 0
    unpriced: int = 0
    """Calls and charges without a price: the amount is then a lower bound."""
    records: int = 0
    pico: int = 0
    tokens: int = 0

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.calls += entry.sign * entry.names.is_call
        self.unpriced += entry.sign * entry.names.unpriced
        self.records += entry.sign
        self.pico += entry.sign * entry.pico
        self.tokens += entry.sign * entry.tokens

    def merge(self, other: "Spent") -> None:
        """Add another's sums."""
        self.calls += other.calls
        self.unpriced += other.unpriced
        self.records += other.records
        self.pico += other.pico
        self.tokens += other.tokens

    @property
    def usd(self) -> Decimal | None:
        """What is known of the cost; None where nothing is priced."""
        return None if self.unpriced and self.unpriced == self.records else from_pico(self.pico)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has not ended, as far as the ledger knows."""

    run_id: str
    agent: str | None
    spent: Spent
    """Earlier invocations of it included."""
    step: int | None
    node: str | None
    """Where its newest call was made."""
    began: datetime
    newest: datetime
    left: str | None
    """The limit that is nearest, and what is left of it; None where no limit is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The figures of one moment."""

    at: datetime
    hour: Spent
    pace: Spent
    """The last five minutes."""
    today: Spent
    forecast_usd: Decimal | None
    """What today (UTC) will have cost at its end, at today's pace; a lower bound where calls are unpriced."""
    runs: list[Run]
    running: int
    """Running runs in all."""
    top: Mapping[str, list[tuple[str | None, Spent]]]
    """By agent, node and model: the last hour, dearest first. None is what no call names."""
    dearest_node: Mapping[str | None, str | None]
    """Of each agent, the node that spent most of what is known in the last hour."""
    alerts: list[tuple[datetime | None, str]]
    """Kills that hold, budgets near their limit, and alerts of the last day; what is now has no time."""
    faults: list[Fault] = field(default_factory=list)


def _floor(at: datetime) -> int:
    return to_micros(at) // CELL * CELL


class Watch:
    """Looks at a ledger again and again; each look reads what is new."""

    def __init__(self, ledger: Ledger, *, budgets: Iterable[Budget] = (), now: datetime | None = None) -> None:
        """`budgets`: those of the policy file; those set on the ledger are read with each look."""
        now = now or datetime.now(UTC)
        self._ledger, self._from_file = ledger, tuple(budgets)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        self._feed = Feed(ledger, min(midnight, now - HOUR) - timedelta(microseconds=CELL))
        self._cells: dict[tuple[int, Names], Spent] = defaultdict(Spent)
        self._newest: dict[tuple[str, str], int] = {}
        self._known: dict[str, Run] = {}
        self._ended: set[tuple[str, str]] = set()

    def look(self, now: datetime | None = None) -> Live:
        """Return the figures of this moment."""
        now = now or datetime.now(UTC)
        for entry in self._feed.look():
            self._cells[entry.at // CELL * CELL, entry.names].add(entry)
            if entry.run_id is not None and entry.invocation_id is not None and entry.sign > 0:
                key = entry.run_id, entry.invocation_id
                self._newest[key] = max(self._newest.get(key, entry.at), entry.at)
                self._known.pop(entry.run_id, None)
        midnight = to_micros(now.replace(hour=0, minute=0, second=0, microsecond=0))
        self._drop(min(midnight, _floor(now - HOUR)))
        hour, pace, today, top = self._sums(now, midnight)
        faults: list[Fault] = []
        on_ledger = kept_budgets(self._ledger.controls(BUDGET), faults)
        runs, running = self._runs(now, (*on_ledger, *self._from_file))
        ahead = forecast(today.pico, from_micros(midnight), from_micros(midnight) + timedelta(days=1), now)
        return Live(
            at=now,
            hour=hour,
            pace=pace,
            today=today,
            forecast_usd=None if today.usd is None else from_pico(ahead),
            runs=runs,
            running=running,
            top=top,
            dearest_node=self._dearest_nodes(_floor(now - HOUR)),
            alerts=list(self._alerts(now, on_ledger)),
            faults=faults,
        )

    def _drop(self, before: int) -> None:
        """Forget cells of earlier days."""
        for key in [key for key in self._cells if key[0] < before]:
            del self._cells[key]

    def _sums(
        self, now: datetime, midnight: int
    ) -> tuple[Spent, Spent, Spent, dict[str, list[tuple[str | None, Spent]]]]:
        hour, pace, today = Spent(), Spent(), Spent()
        since_hour, since_pace = _floor(now - HOUR), _floor(now - PACE)
        by: dict[str, dict[str | None, Spent]] = {name: defaultdict(Spent) for name in DIMENSIONS}
        for (at, names), spent in self._cells.items():
            if at >= midnight:
                today.merge(spent)
            if at < since_hour:
                continue
            hour.merge(spent)
            if at >= since_pace:
                pace.merge(spent)
            for name in DIMENSIONS:
                if name != "model" or names.is_call:
                    by[name][getattr(names, name)].merge(spent)
        top = {
            name: sorted(
                ((key, spent) for key, spent in sums.items() if spent.records),
                key=lambda each: (-each[1].pico, -each[1].unpriced, each[0] or ""),
            )
            for name, sums in by.items()
        }
        return hour, pace, today, top

    def _dearest_nodes(self, since: int) -> dict[str | None, str | None]:
        sums: dict[tuple[str | None, str | None], int] = defaultdict(int)
        for (at, names), spent in self._cells.items():
            if at >= since:
                sums[names.agent, names.node] += spent.pico
        ascending = sorted(sums.items(), key=lambda each: (each[1], each[0][1] or ""))
        return {agent: node for (agent, node), _ in ascending}

    # --- running runs ------------------------------------------------------------------------------------------------

    def _runs(self, now: datetime, budgets: Iterable[Budget]) -> tuple[list[Run], int]:
        """Those with a call in the last minutes whose invocation has no end, dearest first; and how many in all."""
        quiet = to_micros(now - QUIET)
        self._newest = {key: at for key, at in self._newest.items() if at >= quiet}
        self._ended &= self._newest.keys()
        asked = {run for run, invocation in self._newest.keys() - self._ended}
        self._ended |= ended_invocations(self._ledger, asked) & self._newest.keys()
        running = sorted(
            {run: at for (run, invocation), at in sorted(self._newest.items(), key=lambda each: each[1])
             if (run, invocation) not in self._ended}.items(),
            key=lambda each: -each[1],
        )  # fmt: skip
        self._known = {run: self._known[run] for run, _ in running if run in self._known}
        shown = [self._run(run, budgets) for run, _ in running[:RUNS]]
        return sorted(shown, key=lambda run: (-run.spent.pico, run.run_id)), len(running)

    def _run(self, run_id: str, budgets: Iterable[Budget]) -> Run:
        """What a run has cost so far; read again only when it has a new call."""
        if run_id not in self._known:
            self._known[run_id] = self._read(run_id, budgets)
        return self._known[run_id]

    def _read(self, run_id: str, budgets: Iterable[Budget]) -> Run:
        spent, step, used = Spent(), None, dict[str, int]()
        newest: CallRecord | None = None
        first: datetime | None = None
        for call in self._ledger.calls(run_id=run_id):
            first, newest = first or call.started_at, call
            step = max(step or 0, call.attribution.step) if call.attribution.step else step
            _count(spent, call)
        calls = spent.calls
        for charge in self._ledger.charges(run_id=run_id):
            first = first or charge.at
            _count(spent, charge)
        used = {"usd": spent.pico, "tokens": spent.tokens, "llm_calls": calls, "steps": step or 0}
        who = newest.attribution if newest else None
        at = newest.started_at if newest else first
        assert at is not None
        assert first is not None
        own = [
            (limit, used[limit.unit])
            for budget in budgets
            if is_local(budget) and budget.scope == "run" and (who is None or matches(budget.match, who))
            for limit in budget.limits()
            if limit.unit in used
        ]
        nearest = min(own, key=lambda each: Decimal(each[0].amount - each[1]) / each[0].amount, default=None)
        left = None
        if nearest is not None:
            limit, spent_of_it = nearest
            left = _said(limit.unit, limit.amount - spent_of_it)
        return Run(
            run_id=run_id,
            agent=who.agent_id if who else None,
            spent=spent,
            step=step,
            node=who.node_path if who else None,
            began=first,
            newest=at,
            left=left,
        )

    # --- guards ------------------------------------------------------------------------------------------------------

    def _alerts(self, now: datetime, on_ledger: Iterable[Budget]) -> Iterator[tuple[datetime | None, str]]:
        for kill in kills(self._ledger):
            if kill.holds(now):
                why = f": {kill.reason}" if kill.reason else ""
                yield None, f"KILLED {kill.key} by {kill.by}{why}"
        known = {"ledger": on_ledger, "policy file": self._from_file}
        for row in budget_table(self._ledger.balances(), known, now).rows:
            if row["state"] in _LOUD:
                whose = "" if row["value"] is None else f" for {row['value']}"
                spent = _said(row["unit"], smallest(row["unit"], row["spent"]))
                yield None, f"{_LOUD[row['state']]} {row['budget']}{whose}: {spent} spent, {row['share']:.0%}"
        found = list(self._ledger.events(since=now - timedelta(days=1), action="alert"))
        for event in reversed(found[-20:]):
            after: Mapping[str, Any] = event.after or {}
            yield event.at, str(event.reason or after.get("text") or event.subject)


_LOUD: Final = {"over": "OVER", "full": "FULL", "warning": "WARNING", "ahead": "AHEAD"}
"""States of a budget that somebody should see."""


def _said(unit: Any, amount: int) -> str:
    value = in_units(unit, amount)
    if unit == "usd":
        return f"-${-value:,.4f}" if value < 0 else f"${value:,.4f}"
    return f"{value:,f} {unit.replace('_', ' ')}"


def _count(spent: Spent, record: Any) -> None:
    is_call = isinstance(record, CallRecord)
    spent.records += 1
    spent.calls += is_call
    if is_call:
        spent.tokens += record.usage.total_input_tokens + record.usage.total_output_tokens
    if record.cost_usd is None:
        spent.unpriced += 1
    else:
        spent.pico += to_pico(record.cost_usd)
