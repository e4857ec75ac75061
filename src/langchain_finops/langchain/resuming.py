"""Whether a run goes on with one that its thread has left unfinished, and what it takes over from it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from langgraph.types import Command

from langchain_finops.langchain.control import ASK
from langchain_finops.langchain.runs import Paused, Run, thread_of
from langchain_finops.langchain.sums import Cell
from langchain_finops.langchain.tracker import Tracker
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.in_time import in_time
from langchain_finops.meter import Meter
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord

__all__ = ["Resuming", "resumes"]

LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=30), None)
"""How far the ledger is asked for a thread's last run: it tells the oldest first, and a thread may have thousands."""
INTEGRATION = "ls_integration"
"""Key by which LangGraph says in a runnable's metadata that it is a graph."""
NEVER = datetime.min.replace(tzinfo=UTC)

Read = TypeVar("Read", RunRecord, CallRecord, ChargeRecord)


def resumes(inputs: object) -> bool:
    """Whether a graph's input goes on with what its thread has left unfinished."""
    return inputs is None or (isinstance(inputs, Command) and inputs.resume is not None)


class Resuming:
    """Has runs go on with what their thread has left unfinished: new input never does. Safe between threads."""

    __slots__ = ("_meter", "_tracker")

    def __init__(self, meter: Meter, tracker: Tracker) -> None:
        self._meter, self._tracker = meter, tracker

    def begin(self, run: Run, inputs: object) -> None:
        """A run begins, from its root."""
        if run.thread_id is not None and resumes(inputs):
            self._go_on(run, run.thread_id)

    def begin_graph(self, run: Run, name: str, inputs: object, metadata: Mapping[str, Any]) -> None:
        """Something begins in a chain, and may be a graph.

        The chain around it gets the user's answer as its input, and its thread from nobody: it is only known here that
        it goes on.
        """
        is_graph = INTEGRATION in metadata or isinstance(inputs, Command)
        if is_graph and run.thread_id is None:
            run.belong_to(thread_of(metadata))
        if not resumes(inputs):
            return
        if name in run.paused:
            run.paused.discard(name)  # It asked in this very run.
        elif is_graph and not run.goes_on and run.thread_id is not None and run.thread_id == thread_of(metadata):
            self._go_on(run, run.thread_id)

    def _go_on(self, run: Run, thread_id: str) -> None:
        meter, tracker = self._meter, self._tracker
        with in_time():
            try:
                paused = self._unfinished(run, thread_id)
            except Exception as error:  # noqa: BLE001  A ledger that cannot be read is no way around its guards.
                meter.faults.note(error)
                paused = tracker.unfinished(thread_id, run.name)
                if paused is None:
                    meter.guard.accounts.begin_blind(run.state)
            if paused is None:
                return
            run.resume(paused)
            if not tracker.join(run):
                tracker.lead(run, meter.open_run(run.run_id, run.invocation_id, resumed=True))

    def _unfinished(self, run: Run, thread_id: str) -> Paused | None:
        """The thread's unfinished run. What this handler knows may be old: another worker may have gone on with it.

        Graphs may share a thread, and calls be made for it: what has this run's name comes first.
        """
        ledger = self._meter.ledger
        known = self._tracker.unfinished(thread_id, run.name)
        if known is not None:
            written = next(ledger.runs(run_id=known.run_id), None)
            if written is None or known.revision > written.revision:
                return known  # Its record is on its way, or in the spill file.
        last = _newest(ledger.runs, lambda _: True, thread_id=thread_id, name=run.name)
        if last is None or last.status == "completed":
            ended_at = NEVER if last is None else last.ended_at
            last = _of_another_name(ledger, thread_id, ended_at)
            if last is None:
                return self._cut_short(run, thread_id)
        cells: frozenset[Cell] = frozenset()
        if known is not None and known.run_id == last.run_id:
            cells = known.cells
        asked, answered = _questions(ledger, last)
        return Paused(last.run_id, last.name or run.name, last.steps, last.revision, cells, asked, answered)

    def _cut_short(self, run: Run, thread_id: str) -> Paused | None:
        """The thread's last run, where its process died in the middle of it: it made calls, and has no record."""
        ledger = self._meter.ledger
        call = _newest(ledger.calls, _in_a_graph, thread_id=thread_id)
        tool = _newest(ledger.charges, _in_a_graph, thread_id=thread_id)
        last = call if tool is None or (call is not None and call.started_at > tool.at) else tool
        if last is None or last.run_id is None or last.invocation_id is None:
            return None
        if self._tracker.run_named(last.invocation_id) is not None:
            return None  # It is not over.
        if any(True for _ in ledger.runs(run_id=last.run_id)) or any(
            True for _ in ledger.runs(history=True, invocation_id=last.invocation_id)
        ):
            return None
        return Paused(last.run_id, run.name, last.attribution.step or 0, -1)


def _of_another_name(ledger: Ledger, thread_id: str, since: datetime) -> RunRecord | None:
    """The thread's last graph run, if it is unfinished: whoever goes on with it may call it something else."""
    last = _newest(ledger.runs, lambda run: run.steps > 0, thread_id=thread_id)
    return last if last is not None and last.status != "completed" and last.ended_at > since else None


def _in_a_graph(record: CallRecord | ChargeRecord) -> bool:
    return record.attribution.node is not None and record.run_id is not None


def _newest(read: Callable[..., Iterator[Read]], wanted: Callable[[Read], bool], **filters: object) -> Read | None:
    now = datetime.now(UTC)
    for age in LOOK_BACK:
        found = [each for each in read(since=None if age is None else now - age, **filters) if wanted(each)]
        if found:
            return found[-1]
    return None


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
