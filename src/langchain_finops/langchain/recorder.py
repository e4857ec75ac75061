"""What each event does to the records: opens, settles, sums, ends. The handler's hooks call it and do nothing else."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_finops.langchain import extract, failures
from langchain_finops.langchain.langsmith import Feedback, Trace, find_tracer
from langchain_finops.langchain.leaving import when_left
from langchain_finops.langchain.resuming import resumes, unfinished
from langchain_finops.langchain.runs import Batch, Node, OpenTool, Run, RunCall, Span
from langchain_finops.langchain.settling import (
    NotStarted,
    broken,
    marks_of_call,
    marks_of_run,
    missing,
    model_name,
    numbered,
    run_record,
    streamed,
    tool_charge,
)
from langchain_finops.langchain.sums import Sums, who_of
from langchain_finops.langchain.tracker import Tracker, is_node_start, namespace_of, retry_attempt
from langchain_finops.meter import Answer, Meter
from langchain_finops.records import Attribution, CallRecord, RunStatus
from langchain_finops.sections import section

__all__ = ["Event", "Recorder"]

log = logging.getLogger("langchain_finops")

STEPS_UNWATCHED = 25
"""Steps after which a run without any limit is worth a word."""
LATE_KEPT = 1_000
"""Calls settled without an end whose answer may still come."""


Event = tuple[UUID, UUID | None, Mapping[str, Any], list[str] | None]
"""What every start tells: its id, its parent's, metadata and tags. A plain tuple, because every start makes one."""


class Recorder:
    """Turns events into records. Safe between threads; every method may raise, and the hooks see to that."""

    def __init__(self, meter: Meter, defaults: Attribution, *, judges: bool = False) -> None:
        self.meter = meter
        self._judges = judges
        self.tracker = Tracker(defaults)
        self.sums = Sums()
        self.feedback = Feedback()
        self._calls: dict[int, RunCall] = {}
        self._tools: dict[int, OpenTool] = {}
        self._batches: dict[int, Batch] = {}
        self._late: OrderedDict[int, int] = OrderedDict()
        self._warned = False

    # --- calls -----------------------------------------------------------------------------------------------------

    def open_call(
        self,
        event: Event,
        serialized: Mapping[str, Any] | None,
        prompt: Sequence[BaseMessage] | str,
        details: Mapping[str, Any],
    ) -> None:
        """Open a call, as a run of its own where it belongs to none."""
        run_id, parent_run_id, metadata, tags = event
        twin = self._calls.get(run_id.int)
        while twin is not None:
            if twin.prompt is prompt:
                return  # The handler is on the model and on the config: one call, told twice.
            twin = twin.twin
        tracker = self.tracker
        span = tracker.place(parent_run_id, metadata)
        bare = span is None
        if span is None:
            span = self._open_root(event, model_name(serialized, metadata))
        node, attribution, who = tracker.attribute(span, metadata, tags)
        run = span.run
        params = details.get("invocation_params") or {}
        call = RunCall(
            (run.invocation_id if bare else tracker.name_of(run_id), run.run_id, run.invocation_id),
            attribution,
            metadata,
            partial(extract.request_of, prompt, params, metadata),
        )
        call.run, call.key, call.node, call.who = run, run_id, node, who
        call.prompt, call.twin, call.event_bytes = prompt, None, 0
        call.batch = self._batch(params) if isinstance(prompt, str) and details.get("batch_size", 1) > 1 else None
        # A completion model's start is told in a task of its own, which ends before the call does.
        call.unwatch = self._watch(call) if bare and not isinstance(prompt, str) else None
        if bare:
            self._watch_root(run)
        call.endpoint = extract.endpoint_of(serialized)
        run.open_calls.add(call)
        if node is not None:
            node.open += 1
        last = self._calls.setdefault(run_id.int, call)
        if last is not call:
            while last.twin is not None:
                last = last.twin
            last.twin = call
        if run.trace is not None:
            run.trace.started(run_id)

    def stream(self, run_id: UUID, chunk: object, *, token_bytes: int = 0, event_bytes: int = 0) -> None:
        """Count what is streamed: an aborted stream's answer comes without it."""
        call = self._calls.get(run_id.int)
        if call is None or (chunk is not None and chunk is call.last_chunk):
            return
        call.last_chunk = chunk
        if call.first_token_at is None and (token_bytes or event_bytes):
            call.first_token_at = datetime.now(UTC)
        call.received_bytes += token_bytes
        call.event_bytes += event_bytes
        call.usage_so_far = extract.usage_so_far(call.usage_so_far, chunk)

    def end_call(self, run_id: UUID, response: LLMResult) -> None:
        """Settle a call by its answer; one that was settled without is superseded."""
        call = self._take(run_id)
        if call is None and run_id.int not in self._late:
            return  # The same end told twice.
        answer = self._answer(response)
        if call is not None and call.batch is not None:
            answer.counted_elsewhere = answer.usage is None and call.batch.reported
            call.batch.reported = call.batch.reported or answer.usage is not None
        if call is None:
            self._supersede(run_id, answer)
        else:
            self._settle(call, answer, "completed")

    def _answer(self, response: LLMResult) -> Answer:
        """What an answer says. One that cannot be read was paid for all the same."""
        try:
            answer = extract.answer_of(response)
            if answer.usage is None:
                answer.received_bytes = extract.received_bytes(response)
            return answer
        except Exception as error:  # noqa: BLE001
            self.meter.faults.note(error)
            return Answer(whole=False, reasons=("unreadable_answer",))

    def fail_call(self, run_id: UUID, error: BaseException, response: LLMResult | None) -> None:
        """Settle a call that failed: for nothing if it was refused or never sent, else at its estimate."""
        call = self._take(run_id)
        if call is not None:
            self._settle(call, broken(error, response, streamed=streamed(call)), *failures.run_status(error))
        elif run_id.int in self._late and failures.not_charged(error) is not None:
            self._supersede(run_id, broken(error, response, streamed=False))

    def _batch(self, params: Mapping[str, Any]) -> Batch:
        batch = self._batches.get(id(params))
        if batch is None:
            batch = self._batches[id(params)] = Batch(params)
        batch.open += 1
        return batch

    def _take(self, run_id: UUID) -> RunCall | None:
        """The open call of this id, the oldest of several, which from now on is nobody else's to settle."""
        call = self._calls.pop(run_id.int, None)
        if call is not None and call.twin is not None:
            self._calls[run_id.int] = call.twin
        return call

    def _take_this(self, call: RunCall) -> bool:
        """The same for one of them; False if somebody has settled it."""
        before = self._calls.get(call.key.int)
        if before is call:
            return self._take(call.key) is call
        while before is not None and before.twin is not call:
            before = before.twin
        if before is None:
            return False
        before.twin = call.twin
        return True

    def _settle(
        self, call: RunCall, answer: Answer, status: RunStatus, reason: str | None = None, *, told: bool = True
    ) -> None:
        """Write a call down, sum it, and end the run if the call was all of it. `told`: LangChain tells its end."""
        run = call.run
        bare = run.root == call.key
        try:
            record = self._write_down(call, answer)
            if run.trace is not None and not bare:
                run.trace.settled(call.key, marks_of_call(record), ended=told)
        finally:  # A call that stays open would be charged again when its run ends.
            self._let_go(call)
            if bare:
                self.end_run(run, status, reason, told=told)

    def _write_down(self, call: RunCall, answer: Answer) -> CallRecord:
        run, batch = call.run, call.batch
        call.received_bytes = max(call.received_bytes, call.event_bytes)
        if batch is not None:
            answer.timed_elsewhere, batch.timed = batch.timed, True
        record = self.meter.close(call, answer)
        if not run.add_call(call.who, record):
            self.sums.add_call(call.who, record, run.folded)
        return record

    def _let_go(self, call: RunCall) -> None:
        call.run.open_calls.discard(call)
        if call.node is not None:
            call.node.open -= 1
        if call.unwatch is not None:
            call.unwatch()
        if call.batch is not None:
            call.batch.open -= 1
            if not call.batch.open:
                self._batches.pop(id(call.batch.params), None)

    def _supersede(self, run_id: UUID, answer: Answer) -> None:
        """Replace an estimate by the answer that came after all."""
        number = self._late.pop(run_id.int, None)
        versions = None if number is None else self.meter.supersede(numbered(run_id, number), answer)
        if versions is None:
            return
        old, new = versions
        run, who = self.tracker.run_of(old), who_of(old.attribution)
        if run is None or not run.supersede(who, old, new):
            self.sums.amend(who, old, new)

    def _abandon(self, call: RunCall, error: BaseException | None) -> None:
        """Settle a call whose end nobody will report, and keep a place for an answer that comes all the same."""
        if not self._take_this(call):
            return
        self._settle(call, missing(error), "cancelled", "CancelledError", told=False)
        # Only numbers: of a run that has ended nothing else is kept.
        self._late[call.key.int] = int(call.call_id.partition(":")[2] or 1)
        while len(self._late) > LATE_KEPT:
            self._late.popitem(last=False)

    def _watch(self, call: RunCall) -> Callable[[], None] | None:
        """Settle a bare call when its task ends: LangChain tells nobody that it was cancelled."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return None
        if task is None:
            return None

        def ended(_: object) -> None:
            self._unasked(lambda: self._abandon(call, None))

        def unwatch() -> None:
            task.remove_done_callback(ended)

        task.add_done_callback(ended)
        return unwatch

    def _watch_root(self, run: Run) -> None:
        """End a run whose only call, tool or retriever was cancelled."""
        cancelled = partial(self.end_run, run, "cancelled", "CancelledError", told=False)
        when_left(lambda: not run.closed, lambda: self._unasked(cancelled))

    def _unasked(self, then: Callable[[], None]) -> None:
        """Book what no hook brings. The event loop would print a fault of ours with its message."""
        try:
            with section:
                then()
        except Exception as error:  # noqa: BLE001
            self.meter.faults.note(error)

    # --- chains, nodes and runs ------------------------------------------------------------------------------------

    def start_chain(self, event: Event, name: str | None, inputs: object) -> None:
        """Remember where a runnable's children belong; begin a run or a node if it is one."""
        run_id, parent_run_id, metadata, tags = event
        tracker = self.tracker
        if tracker.span(run_id) is not None:
            return  # Told twice.
        span = tracker.place(parent_run_id, metadata)
        if span is None:
            span = self._open_root(event, name or "chain", inputs)
            if self._judges:
                span.run.own_task = span.run.run_id
        namespace = namespace_of(metadata)
        if namespace is not None and is_node_start(span, name, namespace, metadata):
            self._start_node(run_id, span, namespace)
            return
        attempt = retry_attempt(tags)
        if span.node is None and namespace is None and name is not None:
            if resumes(inputs):
                span.run.paused.discard(name)
            span = Span(span.run, None, span.owner, attempt or span.attempt, name)
        elif attempt is not None:
            span = Span(span.run, span.node, span.owner, attempt, span.graph)
        tracker.open_span(run_id, span)

    def start_retriever(self, event: Event, name: str | None) -> None:
        """Remember where a retriever's calls belong."""
        self.start_chain(event, name, "")
        span = self.tracker.span(event[0])
        if span is not None and span.run.root == event[0]:
            self._watch_root(span.run)

    def end_chain(self, run_id: UUID, error: BaseException | None) -> Run | None:
        """Forget a runnable. A node's end settles its calls, the root's end all; returns a run that ended well."""
        span = self.tracker.close_span(run_id)
        if span is None:
            return None
        run, node = span.run, span.node
        if node is not None and span.owner == run_id.int:
            if node.open:
                self._settle_open(run, node, error)
            self.tracker.close_node(node, failed=error is not None)
            if error is not None and "|" not in node.namespace and failures.is_pause(error):
                run.paused.add(node.graph)
        if run.root != run_id:
            return None
        if error is not None:
            self.end_run(run, *failures.run_status(error), error=error)
            return None
        status: tuple[RunStatus, str | None] = ("interrupted", "interrupt") if run.paused else ("completed", None)
        self.end_run(run, *status)
        return None if run.paused else run

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
            self.meter.write(run_record(run, attribution, status, reason))
        finally:
            with self.sums.lock:  # Without it a summary could count the run twice, or not at all.
                self.sums.fold((run.close_sums(), run.before))
                self.tracker.forget_run(run)
        self.tracker.remember(run, status)
        if run.trace is not None:
            run.trace.settled(run.root, marks_of_run(run, attribution, status), ended=told, root=True)
            self.feedback.remember(attribution.task_id or run.run_id, run.trace)

    def _open_root(self, event: Event, name: str, inputs: object = ...) -> Span:
        run_id, _, metadata, _ = event
        span = self.tracker.open_run(run_id, name, metadata)
        run = span.run
        if run.thread_id is not None and resumes(inputs):
            paused = unfinished(self.tracker, self.meter.ledger, run, run.thread_id)
            if paused is not None:
                run.resume(paused)
        tracer = find_tracer()
        if tracer is not None:
            run.trace = Trace(tracer)
            run.trace.started(run_id)
        return span

    def _start_node(self, run_id: UUID, span: Span, namespace: str) -> None:
        run = span.run
        node = self.tracker.open_node(run_id, span, namespace)
        if run.graph_name is None:
            run.graph_name = node.graph
        if run.steps > STEPS_UNWATCHED and not self._warned:
            self._warned = True
            log.warning(
                "run %s passed %d steps without a limit; `recursion_limit` in its config would stop an endless loop",
                run.run_id,
                STEPS_UNWATCHED,
            )

    def _settle_open(self, run: Run, node: Node | None, error: BaseException | None) -> None:
        """Settle what was started in a node, or anywhere in a run, and has not ended."""
        calls = [call for call in list(run.open_calls) if node is None or call.node is node]
        calls.sort(key=lambda call: call.started_at)
        refused = None if error is None else failures.refused_call(error)
        for call in calls:
            self._abandon(call, NotStarted(error) if call.key == refused else error)
        for tool in list(run.open_tools):
            if node is None or tool.node is node:
                self.end_tool(tool.key, error or asyncio.CancelledError())

    # --- tools -----------------------------------------------------------------------------------------------------

    def start_tool(self, event: Event, name: str | None) -> None:
        """Open a tool's charge, as a run of its own where it belongs to none."""
        run_id, parent_run_id, metadata, tags = event
        tracker = self.tracker
        if tracker.span(run_id) is not None:
            return
        span = tracker.place(parent_run_id, metadata)
        bare = span is None
        if span is None:
            span = self._open_root(event, name or "tool")
        else:
            tracker.open_span(run_id, span)
        run = span.run
        tool = OpenTool(run, run_id, run.invocation_id if bare else tracker.name_of(run_id), name)
        tool.node, tool.attribution, tool.who = tracker.attribute(span, metadata, tags)
        run.open_tools.add(tool)
        if tool.node is not None:
            tool.node.open += 1
        self._tools[run_id.int] = tool
        if bare:
            self._watch_root(run)

    def end_tool(self, run_id: UUID, error: BaseException | None) -> None:
        """Write a tool's charge down. A tool that paused will run again, and is charged then."""
        tool = self._tools.pop(run_id.int, None)
        if tool is None:
            return
        run = tool.run
        self.tracker.close_span(run_id)
        run.open_tools.discard(tool)
        if tool.node is not None:
            tool.node.open -= 1
        if error is None or not failures.is_pause(error):
            charge = self.meter.charge(tool_charge(tool, error))
            if not run.add_charge(tool.who, charge):
                self.sums.add_charge(tool.who, charge, run.folded)
        if run.root == run_id:
            status: tuple[RunStatus, str | None] = ("completed", None)
            self.end_run(run, *(status if error is None else failures.run_status(error)))
