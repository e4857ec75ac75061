"""Whether a run goes on with one that its thread has left unfinished."""

from datetime import UTC, datetime, timedelta

from langgraph.types import Command

from langchain_finops.langchain.runs import Paused, Run
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
    if known is not None and known.run_id == last.run_id:
        return Paused(last.run_id, last.steps, last.revision, known.cells)
    return Paused(last.run_id, last.steps, last.revision)


def _last_run(ledger: Ledger, thread_id: str, name: str) -> RunRecord | None:
    now = datetime.now(UTC)
    for age in LOOK_BACK:
        runs = list(ledger.runs(since=None if age is None else now - age, thread_id=thread_id, name=name))
        if runs:
            return runs[-1]
    return None
