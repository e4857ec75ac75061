"""What each event does to the records: opens, settles, sums, ends. The handler's hooks call it and do nothing else."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from langchain_finops.langchain import failures
from langchain_finops.langchain.calls import Calls
from langchain_finops.langchain.digests import Digests
from langchain_finops.langchain.gate import Gate
from langchain_finops.langchain.langsmith import Feedback, Trace, find_tracer
from langchain_finops.langchain.leaving import when_left
from langchain_finops.langchain.observers import Observers
from langchain_finops.langchain.resuming import Resuming
from langchain_finops.langchain.runs import Node, Run, Span
from langchain_finops.langchain.settling import (
    NotStarted,
    marks_of_run,
    run_record,
)
from langchain_finops.langchain.sums import Sums
from langchain_finops.langchain.tools import Tools
from langchain_finops.langchain.tracker import Tracker, is_node_start, namespace_of, retry_attempt
from langchain_finops.meter import Meter
from langchain_finops.records import Attribution, ChargeRecord, RunStatus
from langchain_finops.sections import section

__all__ = ["Event", "Recorder"]

log = logging.getLogger("langchain_finops")

STEPS_UNWATCHED = 25
"""Steps after which a run without any limit is worth a word."""


Event = tuple[UUID, UUID | None, Mapping[str, Any], list[str] | None]
"""What every start tells: its id, its parent's, metadata and tags. A plain tuple, because every start makes one."""


class Recorder:
    """Turns events into records. Safe between threads; every method may raise, and the hooks see to that."""

    def __init__(self, meter: Meter, defaults: Attribution, *, judges: bool = False) -> None:
        self.meter = meter
        self._judges = judges
        self.tracker = Tracker(defaults)
        self._resuming = Resuming(meter, self.tracker)
        self.sums = Sums()
        self.feedback = Feedback()
        self.observers = Observers(meter.faults)
        self.gate = Gate(meter)
        digests = Digests()
        self.calls = Calls(self, digests)
        self.tools = Tools(self, digests)
        self.given_charges: dict[str, ChargeRecord] = {}
        self._warned = False

    def digest_key(self) -> bytes:
        """What digests of prompts are keyed with."""
        return self.meter.ledger.digest_key

    # --- what nobody tells -----------------------------------------------------------------------------------------

    def watch_root(self, run: Run) -> None:
        """End a run whose only call, tool or retriever was cancelled."""
        end = partial(self.end_run, run, "cancelled", "CancelledError", told=False)
        self.watch(lambda: not run.closed, end, partial(end, error=NotStarted(None)))

    def watch(
        self, still_open: Callable[[], bool], then: Callable[[], None], refused: Callable[[], None] | None = None
    ) -> None:
        """Do this once what starts here is over, if nobody has told its end by then; `refused` where it never began."""
        never_began = None if refused is None else partial(self.unasked, refused)
        when_left(still_open, partial(self.unasked, then), never_began)

    def unasked(self, then: Callable[[], None]) -> None:
        """Book what no hook brings. The event loop would print a fault of ours with its message."""
        try:
            with section:
                then()
        except Exception as error:  # noqa: BLE001
            self.meter.faults.note(error)

    # --- chains, nodes and runs ------------------------------------------------------------------------------------

    def start_chain(self, event: Event, name: str | None, inputs: object) -> BaseException | None:
        """Remember where a runnable's children belong; begin a run or a node if it is one, if that may begin."""
        run_id, parent_run_id, metadata, tags = event
        tracker = self.tracker
        if tracker.span(run_id) is not None:
            return None  # Told twice.
        span = tracker.place(parent_run_id, metadata)
        if span is None:
            span = self.open_root(event, name or "chain", inputs)
            if self._judges:
                span.run.own_task = span.run.run_id
        namespace = namespace_of(metadata)
        if namespace is not None and is_node_start(span, name, namespace, metadata):
            return self._start_node(event, span, namespace)
        attempt = retry_attempt(tags)
        if span.node is None and namespace is None and name is not None:
            if span.run.root != run_id:
                self._resuming.begin_graph(span.run, name, inputs, metadata)
            span = Span(span.run, None, span.owner, attempt or span.attempt, name)
        elif attempt is not None:
            span = Span(span.run, span.node, span.owner, attempt, span.graph)
        tracker.open_span(run_id, span)
        return None

    def start_retriever(self, event: Event, name: str | None) -> None:
        """Remember where a retriever's calls belong."""
        self.start_chain(event, name, "")
        span = self.tracker.span(event[0])
        if span is not None and span.run.root == event[0]:
            self.watch_root(span.run)

    def end_chain(self, run_id: UUID, error: BaseException | None) -> Run | None:
        """Forget a runnable. A node's end settles its calls, the root's end all; returns a run that ended well."""
        span = self.tracker.close_span(run_id)
        if span is None:
            return None
        run, node = span.run, span.node
        if error is not None or (span.owner == run_id.int and run.open_calls and (node is None or node.open)):
            self.tracker.leave(run_id.int, span)
        if node is not None and span.owner == run_id.int:
            self._end_node(node, error)
        if run.root != run_id:
            return None
        if error is not None:
            self.gate.name_unvalidated(run, error)
        status, reason = self.gate.status(run, error)
        self.end_run(run, status, reason, error=error)
        return run if status == "completed" else None

    def pause(self, run_id: UUID) -> None:
        """A graph stopped at a breakpoint, which no node reports."""
        span = self.tracker.span(run_id)
        if span is not None and span.node is None:
            span.run.paused.add(span.graph)

    def end_run(
        self,
        run: Run,
        status: RunStatus,
        reason: str | None = None,
        *,
        error: BaseException | None = None,
        told: bool = True,
    ) -> None:
        """Settle what is open, write the run down, fold its sums, and forget it."""
        self._settle_open(run, None, error)
        if not self.tracker.close_run(run):
            return
        attribution = self.tracker.of_run(run)
        try:
            run.record = record = run_record(run, attribution, status, reason)
            self.meter.close_run(run.state, record)
            if run.begun.steps.is_open:
                self.meter.close_run(run.begun, record)
            self.observers.tell(record)
        finally:
            with self.sums.lock:  # Without it a summary could count the run twice, or not at all.
                self.sums.fold((run.close_sums(), run.before))
                self.tracker.forget_run(run)
        self.tracker.remember(run, status)
        if run.trace is not None:
            run.trace.settled(run.root, marks_of_run(run, attribution, status), ended=told, root=True)
            self.feedback.remember(attribution.task_id or run.run_id, run.trace)

    def open_root(self, event: Event, name: str, inputs: object = ...) -> Span:
        """Begin a run, or go on with one that its thread has left unfinished."""
        run_id, _, metadata, _ = event
        span = self.tracker.open_run(run_id, name, metadata)
        run = span.run
        self._resuming.begin(run, inputs)
        tracer = find_tracer()
        if tracer is not None:
            run.trace = Trace(tracer)
            run.trace.started(run_id)
        return span

    def _start_node(self, event: Event, span: Span, namespace: str) -> BaseException | None:
        run_id, _, metadata, tags = event
        run, tracker = span.run, self.tracker
        node = tracker.open_node(run_id, span, namespace)
        if run.graph_name is None:
            run.graph_name = node.graph
        if node.step is not None:
            _, who, _ = tracker.attribute(span, metadata, tags)
            signal = self.gate.admit_node(node, who)
            if signal is not None:
                tracker.refuse_node(run_id, node)
                return signal
            if run.record is not None and run.state.steps.is_open:  # Nobody else would: the run has ended.
                self.meter.close_run(run.state, run.record)
        self.gate.enter(node, metadata, outer=span.node)
        if run.steps > STEPS_UNWATCHED and not self._warned and self.gate.is_idle:
            self._warned = True
            log.warning(
                "run %s passed %d steps without a limit: budgets=[Budget(steps=...)] on the handler, or "
                "`recursion_limit` in the run's config, would stop an endless loop",
                run.run_id,
                STEPS_UNWATCHED,
            )
        return None

    def _end_node(self, node: Node, error: BaseException | None) -> None:
        run = node.run
        if node.open:
            self._settle_open(run, node, error)
        self.tracker.close_node(node, failed=error is not None)
        self.gate.leave(node, ended_well=error is None)
        if error is not None and "|" not in node.namespace and failures.is_pause(error):
            run.paused.add(node.graph)

    def _settle_open(self, run: Run, node: Node | None, error: BaseException | None) -> None:
        """Settle what was started in a node, or anywhere in a run, and has not ended."""
        calls = [call for call in list(run.open_calls) if node is None or call.node is node]
        calls.sort(key=lambda call: call.started_at)
        refused = None if error is None else failures.refused_call(error)
        for call in calls:
            self.calls.abandon(call, NotStarted(error) if call.key == refused else error)
        for tool in list(run.open_tools):
            if node is None or tool.node is node:
                self.tools.end(tool.key, error or asyncio.CancelledError(), told=False)
