"""Runs as a list: filtered, searched, sorted, and a page of them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from langchain_finops.ledger.codec import from_micros, to_micros
from langchain_finops.ledger.run_index import IndexedRun, RunIndex
from langchain_finops.reports.live import QUIET, Spent

__all__ = ["SORTS", "STATUSES", "ListedRun", "RunList", "Wanted", "listed_runs", "spent_of_run"]

STATUSES: Final = ("running", "completed", "stopped", "interrupted", "failed", "cancelled", "no end")
"""`no end`: none is recorded, and there was no call for a quarter of an hour; its process may have died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs, in which order."""

    text: str = ""
    """In the run's id, agent, task, user, thread or customer."""
    agent: str | None = None
    status: str | None = None
    sort: str = "began"
    ascending: bool = False
    page: int = 1
    size: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run as the list shows it."""

    run_id: str
    agent: str | None
    task_id: str | None
    success: bool | None
    """What became of its task; None where nobody said."""
    status: str
    stop_reason: str | None
    spent: Spent
    steps: int | None
    """None as long as no end tells them."""
    began: datetime
    took: timedelta
    """Until its end, or until now where it is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunList:
    """A page of runs, and what there is to choose from."""

    rows: list[ListedRun]
    found: int
    """Runs that are wanted, on all pages."""
    page: int
    pages: int
    agents: list[str]
    spent: Spent
    """Of all that are wanted."""
    running: int
    """Of all runs."""


def status_of(run: IndexedRun, quiet: int) -> str:
    """How a run stands; `quiet`: one whose newest call began before then is not running."""
    if run.is_open:
        return "running" if run.newest >= quiet else "no end"
    return run.status or "no end"


def took_of(run: IndexedRun, status: str, now: int) -> int:
    """How long it took, or takes so far, in microseconds."""
    end = now if status == "running" else run.newest if status == "no end" or run.ended_at is None else run.ended_at
    return max(end - run.began, 0)


_KEYS: Final[Mapping[str, Callable[[IndexedRun], Any]]] = {
    "began": attrgetter("began"),
    "cost": attrgetter("pico", "unpriced"),
    "calls": attrgetter("calls"),
    "tokens": attrgetter("tokens"),
    "steps": attrgetter("steps"),
    "run": attrgetter("run_id"),
    "agent": lambda run: (run.agent or "").casefold(),
}
SORTS: Final = (*_KEYS, "took", "status")
"""What the list can be sorted by."""


def _sort_key(name: str, quiet: int, now: int) -> Callable[[IndexedRun], Any]:
    if name == "status":
        return lambda run: status_of(run, quiet)
    if name == "took":
        return lambda run: took_of(run, status_of(run, quiet), now)
    return _KEYS[name]


def listed_runs(index: RunIndex, wanted: Wanted, now: datetime) -> RunList:
    """Return the page of the runs that are wanted; the last page where there are not so many."""
    quiet, at = to_micros(now - QUIET), to_micros(now)
    every = list(index.runs.values())
    found = every
    if wanted.text:
        hits = index.matching(wanted.text)
        found = [run for run in found if run.run_id in hits]
    if wanted.agent is not None:
        found = [run for run in found if run.agent == wanted.agent]
    if wanted.status is not None:
        found = [run for run in found if status_of(run, quiet) == wanted.status]
    found.sort(key=attrgetter("run_id"))
    found.sort(key=_sort_key(wanted.sort, quiet, at), reverse=not wanted.ascending)
    pages = max(-(-len(found) // wanted.size), 1)
    page = min(max(wanted.page, 1), pages)
    shown = found[(page - 1) * wanted.size : page * wanted.size]
    agents = Counter(run.agent for run in every if run.agent is not None)
    return RunList(
        rows=[_listed(run, index.verdicts, quiet, at) for run in shown],
        found=len(found),
        page=page,
        pages=pages,
        agents=sorted(agents, key=lambda name: (name.casefold(), name)),
        spent=_together(found),
        running=sum(run.newest >= quiet and run.is_open for run in every),
    )


def spent_of_run(run: IndexedRun) -> Spent:
    """What a run cost so far."""
    return Spent(
        calls=run.calls, unpriced=run.unpriced, records=run.calls + run.charges, pico=run.pico, tokens=run.tokens
    )


def _together(runs: list[IndexedRun]) -> Spent:
    total = Spent()
    for run in runs:
        total.calls += run.calls
        total.unpriced += run.unpriced
        total.records += run.calls + run.charges
        total.pico += run.pico
        total.tokens += run.tokens
    return total


def _listed(run: IndexedRun, verdicts: Mapping[str, bool | None], quiet: int, now: int) -> ListedRun:
    status = status_of(run, quiet)
    return ListedRun(
        run_id=run.run_id,
        agent=run.agent,
        task_id=run.task_id,
        success=None if run.task_id is None else verdicts.get(run.task_id),
        status=status,
        stop_reason=None if status in {"running", "no end"} else run.stop_reason,
        spent=spent_of_run(run),
        steps=None if run.status is None else run.steps,
        began=from_micros(run.began),
        took=timedelta(microseconds=took_of(run, status, now)),
    )
