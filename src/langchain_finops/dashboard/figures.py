"""What each page needs of the ledger, made on a lane of the desk. Numbers come from `reports`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final

from langchain_finops.budgets.outside import BUDGET, kept_budgets
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import Kill, kills
from langchain_finops.ledger.run_index import RunIndex
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.pricing.book import PriceBook
from langchain_finops.records import Event
from langchain_finops.reports.economics import Economics, Human, economics
from langchain_finops.reports.guards import budget_table
from langchain_finops.reports.insight import Insight, insight
from langchain_finops.reports.live import Live, Watch
from langchain_finops.reports.models import ModelRow, models_used
from langchain_finops.reports.one_run import OneRun, one_run
from langchain_finops.reports.render import Table
from langchain_finops.reports.runs import RunList, Wanted, listed_runs, spent_of_run
from langchain_finops.reports.spend import Nodes, OverTime, nodes_of, spend_over_time

__all__ = [
    "PERIODS",
    "WASTE",
    "Guards",
    "Now",
    "Reader",
    "Worth",
    "economics_of",
    "models_of",
    "nodes_of_agent",
    "spend_of",
    "waste_of",
]

PERIODS: Final[dict[str, timedelta | None]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
WASTE: Final = ("retries", "failures", "failed_tasks", "idle", "context")
"""Findings that the page of agents tells."""
EVENTS_BACK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What `finops top` shows, and the budgets."""

    live: Live
    budgets: Table
    killed: frozenset[str]
    """Agents whose calls are refused."""
    all_killed: bool
    is_spilled: bool
    """Whether records wait beside the ledger that could not be written: no figure counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Kills, budgets, alerts and the audit trail."""

    kills: Sequence[Kill]
    """Those that hold."""
    over: Sequence[Kill]
    """Those that have run out."""
    budgets: Table
    alerts: Sequence[Event]
    """Newest first."""
    changes: Sequence[Event]
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a visitor may ask the economics by."""

    period: str = "7d"
    human: Human | None = None
    value_usd: Decimal | None = None


@dataclass(slots=True)
class Reader:
    """Reads a ledger again and again; each method is called on one lane only."""

    budgets: tuple[Budget, ...] = ()
    """Those of the policy file."""
    _watch: Watch | None = None
    _index: RunIndex | None = None

    def now(self, ledger: SqlLedger, at: datetime) -> Now:
        """The figures of this moment."""
        self._watch = self._watch or Watch(ledger, budgets=self.budgets, now=at)
        standing = [kill for kill in kills(ledger) if kill.holds(at)]
        return Now(
            live=self._watch.look(at),
            budgets=self._budgets(ledger, at),
            killed=frozenset(kill.value for kill in standing if kill.scope == "agent_id" and kill.value is not None),
            all_killed=any(kill.scope == "all" for kill in standing),
            is_spilled=not ledger.spill.is_empty(),
        )

    def _budgets(self, ledger: SqlLedger, at: datetime) -> Table:
        known = {"ledger": kept_budgets(ledger.controls(BUDGET), []), "policy file": self.budgets}
        return budget_table(ledger.balances(), known, at)

    def guards(self, ledger: SqlLedger, at: datetime) -> Guards:
        """Kills, budgets, alerts and changes."""
        standing = kills(ledger)
        events = list(ledger.events(since=at - EVENTS_BACK))
        return Guards(
            kills=[kill for kill in standing if kill.holds(at)],
            over=[kill for kill in standing if not kill.holds(at)],
            budgets=self._budgets(ledger, at),
            alerts=_newest(event for event in events if event.action == "alert"),
            changes=_newest(event for event in events if event.action != "alert"),
        )

    def runs(self, ledger: SqlLedger, at: datetime, wanted: Wanted) -> RunList:
        """A page of runs."""
        self._index = self._index or RunIndex(ledger)
        self._index.look()
        return listed_runs(self._index, wanted, at)

    def run(self, ledger: SqlLedger, at: datetime, run_id: str) -> OneRun | None:
        """One run; the sums are read first, so that a call which is written meanwhile is not taken for a folded one."""
        self._index = self._index or RunIndex(ledger)
        self._index.look()
        found = self._index.runs.get(run_id)
        return one_run(ledger, run_id, at, counted=None if found is None else spent_of_run(found))


@cache
def _book() -> PriceBook:
    return PriceBook.default()


def models_of(ledger: SqlLedger, at: datetime, *, period: str) -> list[ModelRow]:
    """The models of a period, with their prices today."""
    return models_used(ledger, _since(period, at), _book(), at)


def spend_of(ledger: SqlLedger, at: datetime, *, span: str) -> OverTime:
    """Spend by agent over a span of `SPANS`."""
    return spend_over_time(ledger, span, at)


def nodes_of_agent(ledger: SqlLedger, at: datetime, *, agent: str | None, period: str) -> Nodes:
    """What each node of an agent cost; of those that name no agent for None."""
    return nodes_of(ledger, agent, _since(period, at))


def economics_of(ledger: SqlLedger, at: datetime, *, worth: Worth) -> Economics:
    """What a success costs, by agent."""
    since = _since(worth.period, at)
    return economics(ledger, ("agent",), since=since, human=worth.human, value_usd=worth.value_usd, at=at)


def waste_of(ledger: SqlLedger, at: datetime, *, period: str) -> Insight:
    """Where money goes that need not."""
    return insight(ledger, since=_since(period, at), at=at, only=WASTE)


def _since(period: str, at: datetime) -> datetime | None:
    span = PERIODS[period]
    return None if span is None else at - span


def _newest(events: Iterable[Event]) -> list[Any]:
    return list(events)[:-101:-1]
