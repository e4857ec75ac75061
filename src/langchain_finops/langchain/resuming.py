"""Whether a run goes on with one that its thread has left unfinished."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from langgraph.types import Command

from langchain_finops.langchain.control import ASK
from langchain_finops.langchain.runs import Paused, Run
from langchain_finops.langchain.sums import Cell
from langchain_finops.langchain.tracker import Tracker
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import RunRecord

__all__ = ["resumes", "unfinished"]

LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=30), None)
"""How far the ledger is asked for a thread's last run: it tells the oldest first, and a thread may have thousands."""


def resumes(inputs: object) -> bool:
    """Whether a graph's input goes on with what its thread has left unfinished."""
    return inputs is None or (isinstance(inputs, Command) and inputs.resume is not None)


def unfinished(tracker: Tracker, ledger: Ledger, run: Run, thread_id: str) -> Paused | None:
    """The thread's unfinished run. What this handler knows may be old: another worker may have gone on with it.

    Graphs may share a thread, and calls be made for it: what has another name is none of this run's.
    """
    known = tracker.unfinished(thread_id, run.name)
    if known is not None:
        written = next(ledger.runs(run_id=known.run_id), None)
        if written is None or known.revision > written.revision:
            return known  # Its record is on its way, or in the spill file.
    last = _last_run(ledger, thread_id, run.name)
    if last is None or last.status == "completed":
        return None
    cells: frozenset[Cell] = frozenset()
    if known is not None and known.run_id == last.run_id:
        cells = known.cells
    return Paused(last.run_id, last.steps, last.revision, cells, *_questions(ledger, last))


def _questions(ledger: Ledger, run: RunRecord) -> tuple[frozenset[str], dict[str, int]]:
    """What the run's last invocation asked, and how many answers each place has had by then."""
    asked: dict[str, dict[str, str]] = {}
    for event in ledger.events(subject=run.run_id, action=ASK):
        after = event.after or {}
        asked.setdefault(after["place"], {})[after["question"]] = after["invocation_id"]
    if not asked:
        return frozenset(), {}
    latest = _latest_to_begin(ledger, run, {each for ids in asked.values() for each in ids.values()})
    waiting = {id_ for ids in asked.values() for id_, invocation in ids.items() if invocation == latest}
    return frozenset(waiting), {place: len(ids) - bool(waiting & ids.keys()) for place, ids in asked.items()}


def _latest_to_begin(ledger: Ledger, run: RunRecord, asking: Collection[str]) -> str:
    """The run's last invocation in which something began: one that LangGraph turned away answered no question."""
    latest, steps = run.invocation_id, 0
    for each in ledger.runs(history=True, run_id=run.run_id):
        if each.status not in {"failed", "cancelled"} or each.steps > steps or each.invocation_id in asking:
            latest, steps = each.invocation_id, each.steps
    return latest


def _last_run(ledger: Ledger, thread_id: str, name: str) -> RunRecord | None:
    now = datetime.now(UTC)
    for age in LOOK_BACK:
        runs = list(ledger.runs(since=None if age is None else now - age, thread_id=thread_id, name=name))
        if runs:
            return runs[-1]
    return None
