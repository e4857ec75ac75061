"""Tools from their start to their end: each is a charge, and may be refused like a call."""

from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain import failures
from langchain_finops.langchain.digests import Digests
from langchain_finops.langchain.langsmith import paid
from langchain_finops.langchain.runs import OpenTool, Run
from langchain_finops.langchain.settling import NotStarted, marks_of_tool, tool_charge
from langchain_finops.langchain.tracker import namespace_of
from langchain_finops.records import ChargeRecord

if TYPE_CHECKING:
    from langchain_finops.langchain.recorder import Event, Recorder

__all__ = ["Tools"]


class Tools:
    """The part of a recorder that books tools. Safe between threads."""

    __slots__ = ("_digests", "_open", "_recorder")

    def __init__(self, recorder: "Recorder", digests: Digests) -> None:
        self._recorder = recorder
        self._digests = digests
        self._open: dict[int, OpenTool] = {}

    def start(self, event: "Event", name: str | None, arguments: str) -> BaseException | None:
        """Open a tool's charge, as a run of its own where it belongs to none; what is raised if it must not run."""
        run_id, parent_run_id, metadata, tags = event
        recorder, tracker = self._recorder, self._recorder.tracker
        if tracker.span(run_id) is not None:
            return None
        span = tracker.place(parent_run_id, metadata)
        bare = span is None
        if span is None:
            span = recorder.open_root(event, name or "tool")
        run = span.run
        tool = OpenTool(run, run_id, run.invocation_id if bare else tracker.name_of(run_id), name)
        tool.node, tool.attribution, tool.who = tracker.attribute(span, metadata, tags)
        signal = self._admit(tool, namespace_of(metadata), arguments)
        if signal is not None:
            if bare:
                recorder.end_run(run, *recorder.gate.status(run, None))
            return signal
        if not bare:
            tracker.open_span(run_id, span)
        run.open_tools.add(tool)
        if tool.node is not None:
            tool.node.open += 1
        self._open[run_id.int] = tool
        if run.trace is not None:
            run.trace.started(run_id)
        if bare:
            recorder.watch_root(run)
        elif run.ended:
            recorder.watch(
                lambda: self._open.get(run_id.int) is tool, partial(self.end, run_id, CancelledError(), told=False)
            )
        return None

    def _admit(self, tool: OpenTool, namespace: str | None, arguments: str) -> BaseException | None:
        run, recorder = tool.run, self._recorder

        def start() -> Refusal | None:
            held = recorder.meter.open_tool(
                run.state,
                tool.attribution,
                tool_id=tool.charge_id,
                name=tool.name,
                digest=partial(self._digests.of_value, arguments),
                place=run.places.of(namespace),
            )
            if isinstance(held, Refusal):
                return held
            tool.hold = held
            return None

        return recorder.gate.admit(run, namespace, start)

    def end(self, run_id: UUID, error: BaseException | None, output: object = None, *, told: bool = True) -> None:
        """Write a tool's charge down. One that paused runs again, and is charged then; one that never ran, never.

        `told`: LangChain tells its end.
        """
        tool = self._open.pop(run_id.int, None)
        if tool is None:
            return
        run, recorder = tool.run, self._recorder
        span = recorder.tracker.close_span(run_id)
        if error is not None and span is not None:
            recorder.tracker.leave(run_id.int, span)
        run.open_tools.discard(tool)
        if tool.node is not None:
            tool.node.open -= 1
        never_ran = isinstance(error, NotStarted)
        if error is not None and (never_ran or failures.is_pause(error)):
            recorder.meter.release_tool(run.state, tool.charge_id, tool.hold)
        else:
            result = partial(self._digests.of_result, type(error).__name__ if error is not None else output)
            charge = recorder.meter.charge(tool_charge(tool, error), state=run.state, hold=tool.hold, result=result)
            recorder.observers.tell(charge)
            if not run.add_charge(tool.who, charge):
                recorder.sums.add_charge(tool.who, charge, run.folded)
            self._tell_trace(run_id, run, charge, told=told)
        if run.root == run_id and not never_ran:  # Who knows that is just ending the run.
            recorder.end_run(run, *recorder.gate.status(run, error))

    @staticmethod
    def _tell_trace(run_id: UUID, run: Run, charge: ChargeRecord, *, told: bool) -> None:
        """Mark the trace of a tool that has a price; nearly every one has none."""
        trace = run.trace
        if trace is None:
            return
        trace.paid(run_id, paid(charge))
        if run.root == run_id:
            return  # Marked when the run ends.
        if charge.cost_usd is None:
            trace.let_go(run_id)
        else:
            trace.settled(run_id, marks_of_tool(charge), ended=told)
