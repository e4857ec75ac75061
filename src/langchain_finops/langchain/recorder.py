"""What each event does to the records: opens, settles, sums, ends. The handler's hooks call it and do nothing else."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain import extract, failures
from langchain_finops.langchain.digests import Digests
from langchain_finops.langchain.gate import Gate
from langchain_finops.langchain.langsmith import Feedback, Trace, find_tracer
from langchain_finops.langchain.leaving import when_left
from langchain_finops.langchain.opened import OpenCalls
from langchain_finops.langchain.resuming import resumes, unfinished
from langchain_finops.langchain.runs import Node, Run, RunCall, Span
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
)
from langchain_finops.langchain.sums import Sums, who_of
from langchain_finops.langchain.tools import Tools
from langchain_finops.langchain.tracker import Tracker, is_node_start, namespace_of, retry_attempt
from langchain_finops.ledger.in_time import in_time
from langchain_finops.meter import Answer, Meter
from langchain_finops.meter.blind import open_blindly
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
        self.gate = Gate(meter)
        self._digests = Digests()
        self._open = OpenCalls()
        self.tools = Tools(self, self._digests)
        self._late: OrderedDict[int, tuple[int, str]] = OrderedDict()
        self._warned = False

    # --- calls -----------------------------------------------------------------------------------------------------

    def open_call(
        self,
        event: Event,
        serialized: Mapping[str, Any] | None,
        prompts: Sequence[Sequence[BaseMessage] | str],
        details: Mapping[str, Any],
    ) -> BaseException | None:
        """Open a call, as a run of its own where it belongs to none; what is raised if it must not be made."""
        run_id, parent_run_id, metadata, tags = event
        prompt = prompts[0]
        if self._open.has(run_id, prompt):
            return None
        tracker = self.tracker
        span = tracker.place(parent_run_id, metadata)
        bare = span is None
        if span is None:
            span = self.open_root(event, model_name(serialized, metadata))
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
        call.sent_with = params if details.get("batch_size", 1) > 1 else None
        call.batch, call.unwatch = None, None
        call.endpoint = extract.endpoint_of(serialized)
        signal = self._admit_call(call, params)
        if signal is not None:
            self._turn_away(call, bare=bare)
            return signal
        if call.sent_with is not None and isinstance(prompt, str):
            call.batch = self._open.batch(params)
        if bare:
            # A completion model's start is told in a task of its own, which ends before the call does.
            call.unwatch = None if isinstance(prompt, str) else self._watch(call)
            self.watch_root(run)
        elif run.ended:
            self.watch(lambda: self._open.get(run_id) is call, partial(self._abandon, call, None))
        run.open_calls.add(call)
        if node is not None:
            node.open += 1
        self._open.add(call)
        if run.trace is not None:
            run.trace.started(run_id)
        return None

    def _admit_call(self, call: RunCall, params: Mapping[str, Any]) -> BaseException | None:
        run, prompt = call.run, cast("Sequence[BaseMessage] | str", call.prompt)
        namespace = namespace_of(call.metadata)

        def start() -> Refusal | None:
            try:
                return self.meter.open(
                    call,
                    run.state,
                    digest=partial(self._digests.of_prompt, prompt),
                    place=run.places.of(namespace),
                    prompt_bytes=partial(extract.request_bytes, prompt, params),
                )
            except Exception as error:  # noqa: BLE001  What cannot be read is no way around a limit.
                self.meter.faults.note(error)
                return open_blindly(self.meter.guard, call, run.state)

        return self.gate.admit(run, namespace, start)

    def _turn_away(self, call: RunCall, *, bare: bool) -> None:
        """Forget a call that was refused, and those of the same request, which nobody will send either."""
        if bare:
            self.end_run(call.run, *self.gate.status(call.run, None))
        if call.sent_with is None:
            return
        for other in self._open.refuse_all(call.sent_with):
            self.meter.release(other)
            self._let_go(other)
            if other.run.root == other.key:
                self.end_run(other.run, *self.gate.status(call.run, None))

    def stream(self, run_id: UUID, chunk: object, token_bytes: Callable[[], int]) -> BaseException | None:
        """Count what is streamed: an aborted stream's answer comes without it. What is raised if it is cut off."""
        call = self._open.get(run_id)
        if call is None or (chunk is not None and chunk is call.last_chunk):
            return None
        size = token_bytes()
        call.received_bytes += size
        return self._streamed(call, chunk, size)

    def stream_event(self, run_id: UUID, event: Mapping[str, Any]) -> BaseException | None:
        """The same for a content-block event."""
        call = self._open.get(run_id)
        if call is None or event is call.last_chunk:
            return None
        size = extract.event_bytes(event)
        call.event_bytes += size
        return self._streamed(call, event, size)

    def _streamed(self, call: RunCall, chunk: object, size: int) -> BaseException | None:
        call.last_chunk = chunk
        if call.first_token_at is None and size:
            call.first_token_at = datetime.now(UTC)
        call.usage_so_far = extract.usage_so_far(call.usage_so_far, chunk)
        return self.gate.cut_off(call)

    def end_call(self, run_id: UUID, response: LLMResult) -> None:
        """Settle a call by its answer; one that was settled without is superseded."""
        call = self._open.take(run_id)
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
        call = self._open.take(run_id)
        if call is not None:
            self._settle(call, broken(error, response, streamed=streamed(call)), *failures.run_status(error))
        elif run_id.int in self._late and failures.not_charged(error) is not None:
            self._supersede(run_id, broken(error, response, streamed=False))

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
            self._open.leave_batch(call.batch)

    def _supersede(self, run_id: UUID, answer: Answer) -> None:
        """Replace an estimate by the answer that came after all."""
        late = self._late.pop(run_id.int, None)
        if late is None:
            return
        number, invocation_id = late
        run = self.tracker.run_named(invocation_id)
        versions = self.meter.supersede(numbered(run_id, number), answer, None if run is None else run.state)
        if versions is None:
            return
        old, new = versions
        who = who_of(old.attribution)
        if run is None or not run.supersede(who, old, new):
            self.sums.amend(who, old, new)

    def _abandon(self, call: RunCall, error: BaseException | None) -> None:
        """Settle a call whose end nobody will report, and keep a place for an answer that comes all the same."""
        if not self._open.take_this(call):
            return
        self._settle(call, missing(error), "cancelled", "CancelledError", told=False)
        # Only a number and a name: of a run that has ended nothing else is kept.
        self._late[call.key.int] = int(call.call_id.partition(":")[2] or 1), call.invocation_id
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

    def watch_root(self, run: Run) -> None:
        """End a run whose only call, tool or retriever was cancelled."""
        self.watch(lambda: not run.closed, partial(self.end_run, run, "cancelled", "CancelledError", told=False))

    def watch(self, still_open: Callable[[], bool], then: Callable[[], None]) -> None:
        """Do this once what starts here is over, if nobody has told its end by then."""
        when_left(still_open, lambda: self._unasked(then))

    def _unasked(self, then: Callable[[], None]) -> None:
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
            if resumes(inputs):
                span.run.paused.discard(name)
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
            self.meter.close_run(run.state, run_record(run, attribution, status, reason))
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
        with in_time():
            self._begin(run, inputs)
        tracer = find_tracer()
        if tracer is not None:
            run.trace = Trace(tracer)
            run.trace.started(run_id)
        return span

    def _begin(self, run: Run, inputs: object) -> None:
        paused, is_blind = None, False
        if run.thread_id is not None and resumes(inputs):
            try:
                paused = unfinished(self.tracker, self.meter.ledger, run, run.thread_id)
            except Exception as error:  # noqa: BLE001  A ledger that cannot be read is no way around its guards.
                self.meter.faults.note(error)
                paused = self.tracker.unfinished(run.thread_id, run.name)
                is_blind = paused is None
            if paused is not None:
                run.resume(paused)
        run.state = self.meter.open_run(run.run_id, run.invocation_id, resumed=paused is not None)
        if is_blind:
            self.meter.guard.accounts.begin_blind(run.state)

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
            self._abandon(call, NotStarted(error) if call.key == refused else error)
        for tool in list(run.open_tools):
            if node is None or tool.node is node:
                self.tools.end(tool.key, error or asyncio.CancelledError())
