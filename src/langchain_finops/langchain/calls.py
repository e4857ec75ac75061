"""Model calls from their start to their end: each is admitted, counted while it streams, and settled once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain import extract, failures
from langchain_finops.langchain.digests import Digests
from langchain_finops.langchain.langsmith import paid
from langchain_finops.langchain.opened import OpenCalls
from langchain_finops.langchain.prefixes import Prefixes
from langchain_finops.langchain.runs import RunCall
from langchain_finops.langchain.settling import broken, marks_of_call, missing, model_name, numbered, streamed
from langchain_finops.langchain.sums import who_of
from langchain_finops.langchain.tracker import namespace_of
from langchain_finops.meter import Answer
from langchain_finops.meter.blind import open_blindly
from langchain_finops.records import Attribution, CallRecord, RunStatus

if TYPE_CHECKING:
    from langchain_finops.langchain.recorder import Event, Recorder

__all__ = ["Calls"]

LATE_KEPT = 1_000
"""Calls settled without an end whose answer may still come."""


class Calls:
    """The part of a recorder that books model calls. Safe between threads."""

    __slots__ = ("_digests", "_late", "_open", "_prefixes", "_recorder")

    def __init__(self, recorder: "Recorder", digests: Digests) -> None:
        self._recorder = recorder
        self._digests = digests
        self._prefixes = Prefixes(recorder.digest_key)
        self._open = OpenCalls()
        self._late: OrderedDict[int, tuple[int, str]] = OrderedDict()

    def open(
        self,
        event: "Event",
        serialized: Mapping[str, Any] | None,
        prompts: Sequence[Sequence[BaseMessage] | str],
        details: Mapping[str, Any],
    ) -> BaseException | None:
        """Open a call, as a run of its own where it belongs to none; what is raised if it must not be made."""
        run_id, parent_run_id, metadata, tags = event
        prompt = prompts[0]
        if self._open.has(run_id, prompt):
            return None
        tracker = self._recorder.tracker
        span = tracker.place(parent_run_id, metadata)
        bare = span is None
        if span is None:
            span = self._recorder.open_root(event, model_name(serialized, metadata))
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
        if (signal := self._admit_call(call, params)) is not None:
            self._turn_away(call, bare=bare)
            return signal
        call.prompt_digests = self._prefixes_of(prompt, params)
        if call.sent_with is not None and isinstance(prompt, str):
            call.batch = self._open.batch(params)
        run.open_calls.add(call)
        if node is not None:
            node.open += 1
        self._open.add(call)
        if bare:
            # A completion model's start is told in a task of its own, which ends before the call does.
            call.unwatch = None if isinstance(prompt, str) else self._watch(call)
            self._recorder.watch_root(run)
        elif run.ended:
            self._recorder.watch(lambda: self._open.get(run_id) is call, partial(self.abandon, call, None))
        if run.trace is not None:
            run.trace.started(run_id)
        return None

    def _admit_call(self, call: RunCall, params: Mapping[str, Any]) -> BaseException | None:
        run, prompt = call.run, cast("Sequence[BaseMessage] | str", call.prompt)
        namespace = namespace_of(call.metadata)

        def start() -> Refusal | None:
            try:
                return self._recorder.meter.open(
                    call,
                    run.state,
                    digest=partial(self._digests.of_prompt, prompt),
                    place=run.places.of(namespace),
                    prompt_bytes=partial(extract.request_bytes, prompt, params),
                )
            except Exception as error:  # noqa: BLE001  What cannot be read is no way around a limit.
                self._recorder.meter.faults.note(error)
                return open_blindly(self._recorder.meter.guard, call, run.state)

        return self._recorder.gate.admit(run, namespace, start)

    def _prefixes_of(self, prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any]) -> bytes | None:
        """What the prompt is the same as. One that cannot be read has no digests, and is a call all the same."""
        try:
            return self._prefixes.of(prompt, params)
        except Exception as error:  # noqa: BLE001
            self._recorder.meter.faults.note(error)
            return None

    def _turn_away(self, call: RunCall, *, bare: bool) -> None:
        """Forget a call that was refused, and those of the same request, which nobody will send either."""
        if bare:
            self._recorder.end_run(call.run, *self._recorder.gate.status(call.run, None))
        if call.sent_with is None:
            return
        for other in self._open.refuse_all(call.sent_with):
            self._recorder.meter.release(other)
            self._let_go(other)
            if other.run.root == other.key:
                self._recorder.end_run(other.run, *self._recorder.gate.status(call.run, None))

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
        return self._recorder.gate.cut_off(call)

    def whose(self, run_id: UUID, metadata: Mapping[str, Any] | None) -> tuple[Attribution, str] | None:
        """Whom an open call is for, and the run it belongs to; None where it is not open.

        Of several that were given one id it is the one with the very metadata: another could be another tenant's.
        """
        calls = self._open.all_of(run_id)
        found = calls if len(calls) == 1 else [call for call in calls if call.metadata is metadata]
        return (found[0].attribution, found[0].run_id) if found else None

    def end(self, run_id: UUID, response: LLMResult) -> None:
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
            self._recorder.meter.faults.note(error)
            return Answer(whole=False, reasons=("unreadable_answer",))

    def fail(self, run_id: UUID, error: BaseException, response: LLMResult | None) -> None:
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
            if run.trace is not None:
                run.trace.paid(call.key, paid(record))
                if not bare:
                    run.trace.settled(call.key, marks_of_call(record), ended=told)
        finally:  # A call that stays open would be charged again when its run ends.
            self._let_go(call)
            if bare:
                self._recorder.end_run(run, status, reason, told=told)

    def _write_down(self, call: RunCall, answer: Answer) -> CallRecord:
        run, batch = call.run, call.batch
        call.received_bytes = max(call.received_bytes, call.event_bytes)
        if batch is not None:
            answer.timed_elsewhere, batch.timed = batch.timed, True
        record = self._recorder.meter.close(call, answer)
        self._recorder.observers.tell(record)
        if not run.add_call(call.who, record):
            self._recorder.sums.add_call(call.who, record, run.folded)
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
        run = self._recorder.tracker.run_named(invocation_id)
        versions = self._recorder.meter.supersede(numbered(run_id, number), answer, None if run is None else run.state)
        if versions is None:
            return
        old, new = versions
        self._recorder.observers.tell(new, old)
        who = who_of(old.attribution)
        if run is None or not run.supersede(who, old, new):
            self._recorder.sums.amend(who, old, new)

    def abandon(self, call: RunCall, error: BaseException | None) -> None:
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
            self._recorder.unasked(lambda: self.abandon(call, None))

        def unwatch() -> None:
            task.remove_done_callback(ended)

        task.add_done_callback(ended)
        return unwatch
