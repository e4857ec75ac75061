"""Where money goes that need not: each finding with the rows behind it. docs/economics.md defines each."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.doings import Doing, with_doings
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.summary import known_usd
from langchain_finops.ledger.totals import APART
from langchain_finops.money import from_pico, sum_usd
from langchain_finops.reports.anomalies import anomalies
from langchain_finops.reports.caching import cache_rows
from langchain_finops.reports.economics import economics
from langchain_finops.reports.prefixes import FIELDS as PREFIX_FIELDS
from langchain_finops.reports.prefixes import prefix_rows
from langchain_finops.reports.verbosity import verbosity_rows

__all__ = [
    "FIELDS",
    "FINDINGS",
    "SUMMARY_FIELDS",
    "WITHOUT_COST",
    "Insight",
    "RunWay",
    "idle_runs",
    "insight",
    "pause_of",
]

Row = dict[str, Any]
COST: Final = ("calls", "cost_usd", "unpriced", "share")
FIELDS: Final = {
    "anomalies": ("what", "name", "day", "cost_usd", "unpriced", "usual_usd", "score", "days"),
    "retries": ("agent", "node", "model", *COST),
    "failures": ("agent", "node", "model", *COST),
    "failed_tasks": ("agent", "tasks", "cost_usd", "unpriced", "share"),
    "overhead": ("agent", "node", "model", *COST),
    "idle": ("agent", "runs", "idle_runs", "every_s", "cost_usd", "unpriced", "share"),
    "context": ("agent", "node", "runs", "calls", "first_tokens", "last_tokens", "growth_per_step"),
    "cache": (
        *("agent", "provider", "model", "calls", "input_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("hit_rate", "prompt_usd", "uncached_usd", "saved_usd", "efficiency", "unknown"),
    ),
    "prefixes": PREFIX_FIELDS,
    "verbosity": (
        *("agent", "node", "model", "calls", "estimated", "tasks", "judged", "successes", "output_tokens"),
        *("output_per_call", "output_share", "tokens_per_success", "successes_per_million", "failed_output_share"),
    ),
}
"""What each finding's rows hold."""
FINDINGS: Final = tuple(FIELDS)
SUMMARY_FIELDS: Final = ("finding", "rows", "cost_usd", "unpriced", "share", "worst")
WITHOUT_COST: Final = frozenset({"anomalies", "context", "cache", "prefixes", "verbosity"})
"""Findings whose rows are no cost that can be summed."""
NAMES: Final = ("agent", "node", "model", "name", "day")
"""What tells one row from another."""
LEAST_RUNS: Final = 10
"""Of an agent: with fewer nobody can tell that they are regular."""
REGULAR: Final = 0.1
"""How far half of the pauses may be from the median, as a part of it."""
MICROS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """The findings of a period."""

    rows: dict[str, list[Row]]
    """Of each finding, by its name, dearest first."""
    cost_usd: Decimal
    """All cost of the period that is known."""

    def summary(self) -> list[Row]:
        """Return a row for each finding: how many rows it has, and what they cost."""
        return [_summed(name, self.rows[name], self.cost_usd) for name in FINDINGS]


@dataclass(slots=True)
class _Cost:
    calls: int = 0
    unpriced: int = 0
    pico: int = 0

    def add(self, doing: Doing) -> None:
        self.calls += doing.records
        self.unpriced += doing.records * doing.kind.unpriced
        self.pico += doing.pico

    @property
    def usd(self) -> Decimal | None:
        return known_usd(from_pico(self.pico), known=self.calls - self.unpriced, unknown=self.unpriced)


@dataclass(slots=True)
class RunWay:
    """What happened in a run."""

    agent: str | None = None
    began: int = 2**63 - 1
    task: str | None = None
    cost: _Cost = field(default_factory=_Cost)
    way: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Nodes that asked a model, and tools, with how often."""


@dataclass(slots=True)
class _Context:
    """The calls of one node in one run: the first and the last."""

    calls: int = 0
    first: tuple[int, int] = (2**63 - 1, 0)
    last: tuple[int, int] = (-1, 0)


def insight(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
    only: Sequence[str] = FINDINGS,
) -> Insight:
    """Return what was found in a period; `at` is the time at which anomalies are looked for (now).

    `only` names the findings that are wanted: each takes its time.
    """
    period = Period.of(since, until)
    seen = with_doings(ledger, period, _see) if _SEEN.intersection(only) else _Seen()
    groups = ledger.totals((), since=since, until=until)
    whole = groups[0].totals.cost_usd if groups else Decimal(0)
    makers: dict[str, Callable[[], Iterable[Row]]] = {
        "anomalies": lambda: anomalies(ledger, since=since, until=until, at=at),
        **{name: partial(_waste_rows, seen.wasted[name], whole) for name in WASTED},
        "failed_tasks": lambda: _failed_rows(ledger, since, until, whole),
        "idle": lambda: _idle_rows(seen.runs.values(), _solved(ledger), whole),
        "context": lambda: _context_rows(seen.contexts),
        "cache": lambda: cache_rows(ledger, since=since, until=until),
        "prefixes": lambda: prefix_rows(ledger, since=since, until=until),
        "verbosity": lambda: verbosity_rows(ledger, since=since, until=until),
    }
    return Insight(rows={name: list(makers[name]()) if name in only else [] for name in FINDINGS}, cost_usd=whole)


def _solved(ledger: Ledger) -> set[str]:
    return {outcome.task_id for outcome in ledger.outcomes() if outcome.success}


WASTED: Final = ("retries", "failures", "overhead")
_SEEN: Final = frozenset((*WASTED, "idle", "context"))


@dataclass(slots=True)
class _Seen:
    """What one look at all calls and charges tells."""

    wasted: dict[str, dict[tuple[str | None, ...], _Cost]] = field(
        default_factory=lambda: {name: {} for name in WASTED}
    )
    runs: dict[str, RunWay] = field(default_factory=dict)
    contexts: dict[tuple[str, str | None, str | None], _Context] = field(default_factory=dict)


def _see(doings: Iterable[Doing]) -> _Seen:
    seen = _Seen()
    for doing in doings:
        kind = doing.kind
        if doing.retried or kind.failed or kind.role == "overhead":
            _note_waste(seen.wasted, doing)
        if doing.run_id is not None and kind.role not in APART:
            _note_run(seen.runs, doing)
            if kind.is_call and kind.role == "agent" and not doing.is_folded:
                _note_context(seen.contexts, doing)
    return seen


def _summed(name: str, rows: Sequence[Row], whole: Decimal) -> Row:
    """A summary's row. What a cache saved is no cost; nor is there one of growing contexts or long answers."""
    costs = [row["cost_usd"] for row in rows if row.get("cost_usd") is not None]
    has_cost = name not in WITHOUT_COST
    unpriced = sum(row["unpriced"] for row in rows) if has_cost else 0
    cost = None
    if has_cost and (costs or not unpriced):
        cost = sum_usd(costs)
    return {
        "finding": name,
        "rows": len(rows),
        "cost_usd": cost,
        "unpriced": unpriced,
        "share": _share(cost, whole),
        "worst": None if not rows else {name: rows[0][name] for name in NAMES if name in rows[0]},
    }


def _share(cost: Decimal | None, whole: Decimal) -> float | None:
    return None if cost is None or not whole else float(cost / whole)


# --- what was paid for nothing -------------------------------------------------------------------------------------


def _note_waste(wasted: dict[str, dict[tuple[str | None, ...], _Cost]], doing: Doing) -> None:
    kind = doing.kind
    if not kind.is_call:
        return
    key = (kind.agent, kind.node, kind.model)
    for name, is_one in (
        ("retries", doing.retried),
        ("failures", kind.failed),
        ("overhead", kind.role == "overhead"),
    ):
        if is_one:
            wasted[name].setdefault(key, _Cost()).add(doing)


def _dearest(entry: tuple[tuple[str | None, ...], _Cost]) -> tuple[int, int, tuple[str, ...]]:
    key, cost = entry
    return -cost.pico, -cost.calls, tuple(name or "" for name in key)


def _waste_rows(groups: dict[tuple[str | None, ...], _Cost], whole: Decimal) -> Iterator[Row]:
    for (agent, node, model), cost in sorted(groups.items(), key=_dearest):
        yield {
            "agent": agent,
            "node": node,
            "model": model,
            "calls": cost.calls,
            "cost_usd": cost.usd,
            "unpriced": cost.unpriced,
            "share": _share(cost.usd, whole),
        }


def _failed_rows(
    ledger: Ledger, since: datetime | None, until: datetime | None, whole: Decimal
) -> Iterator[Row]:  # fmt: skip
    found = economics(ledger, ("agent",), since=since, until=until).rows
    failed = [row for row in found if row["judged"] > row["successes"]]
    for row in sorted(failed, key=lambda row: -(row["failure_usd"] or Decimal(0))):
        yield {
            "agent": row["agent"],
            "tasks": row["judged"] - row["successes"],
            "cost_usd": row["failure_usd"],
            "unpriced": row["failure_unpriced"],
            "share": _share(row["failure_usd"], whole),
        }


# --- agents that run and change nothing ----------------------------------------------------------------------------


def _note_run(runs: dict[str, RunWay], doing: Doing) -> None:
    assert doing.run_id is not None
    run = runs.get(doing.run_id)
    if run is None:
        run = runs[doing.run_id] = RunWay()
    if doing.at < run.began:
        run.began, run.agent = doing.at, doing.kind.agent
    run.task = run.task or doing.task_id
    if doing.kind.is_call:
        run.cost.add(doing)
        run.way["node", doing.kind.node or ""] += doing.records
    else:
        run.cost.pico += doing.pico
        if doing.kind.tool is not None:
            run.way["tool", doing.kind.tool] += doing.records


def _idle_rows(runs: Iterable[RunWay], solved: set[str], whole: Decimal) -> Iterator[Row]:
    by_agent: dict[str | None, list[RunWay]] = {}
    for run in runs:
        by_agent.setdefault(run.agent, []).append(run)
    found = [row for agent, theirs in by_agent.items() if (row := _idle(agent, theirs, solved, whole))]
    yield from sorted(found, key=lambda row: (-(row["cost_usd"] or Decimal(0)), row["agent"] or ""))


def pause_of(moments: Sequence[int]) -> float | None:
    """The usual pause between moments, in order, where half of the pauses are near it; None where they are not."""
    if len(moments) < LEAST_RUNS:
        return None
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    usual = median(pauses)
    is_regular = usual > 0 and median(abs(pause - usual) for pause in pauses) <= REGULAR * usual
    return usual if is_regular else None


def idle_runs(runs: list[RunWay], solved: Set[str]) -> tuple[list[RunWay], float] | None:
    """The runs of an agent that went the usual way and brought nothing about, and the pause between its runs.

    None unless its runs begin at regular times and most of them are such. Sorts the runs by when they began.
    """
    runs.sort(key=lambda run: run.began)
    usual = pause_of([run.began for run in runs])
    if usual is None:
        return None
    ways = Counter(frozenset(run.way.items()) for run in runs)
    ((usual_way, _),) = ways.most_common(1)
    idle = [run for run in runs if frozenset(run.way.items()) == usual_way and run.task not in solved]
    return None if 2 * len(idle) <= len(runs) else (idle, usual)


def _idle(agent: str | None, runs: list[RunWay], solved: set[str], whole: Decimal) -> Row | None:
    """The agent's row, if it polls."""
    found = idle_runs(runs, solved)
    if found is None:
        return None
    idle, usual = found
    cost = _Cost()
    for run in idle:
        cost.calls += run.cost.calls
        cost.unpriced += run.cost.unpriced
        cost.pico += run.cost.pico
    return {
        "agent": agent,
        "runs": len(runs),
        "idle_runs": len(idle),
        "every_s": usual / MICROS,
        "cost_usd": cost.usd,
        "unpriced": cost.unpriced,
        "share": _share(cost.usd, whole),
    }


# --- contexts that grow --------------------------------------------------------------------------------------------


def _note_context(contexts: dict[tuple[str, str | None, str | None], _Context], doing: Doing) -> None:
    assert doing.run_id is not None
    key = (doing.run_id, doing.kind.agent, doing.kind.node)
    context = contexts.get(key)
    if context is None:
        context = contexts[key] = _Context()
    context.calls += 1
    moment = (doing.at, doing.input_tokens)
    context.first = min(context.first, moment)
    context.last = max(context.last, moment)


def _context_rows(contexts: dict[tuple[str, str | None, str | None], _Context]) -> Iterator[Row]:
    """Growth of the input from a node's first to its last call in a run, a call; of runs with two calls or more."""
    groups: dict[tuple[str | None, str | None], list[_Context]] = {}
    for (_, agent, node), context in contexts.items():
        if context.calls > 1:
            groups.setdefault((agent, node), []).append(context)
    rows = []
    for (agent, node), runs in groups.items():
        grown = sum(run.last[1] - run.first[1] for run in runs)
        rows.append(
            {
                "agent": agent,
                "node": node,
                "runs": len(runs),
                "calls": sum(run.calls for run in runs),
                "first_tokens": sum(run.first[1] for run in runs) / len(runs),
                "last_tokens": sum(run.last[1] for run in runs) / len(runs),
                "growth_per_step": grown / sum(run.calls - 1 for run in runs),
            }
        )
    yield from sorted(rows, key=_fastest)


def _fastest(row: Row) -> tuple[float, str, str]:
    return -row["growth_per_step"] * row["calls"], row["agent"] or "", row["node"] or ""
