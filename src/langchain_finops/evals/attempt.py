"""Tries one slot once: runs the target, tells what became of it, and adds up what it cost."""

import asyncio
import contextvars
import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphRecursionError
from langsmith.run_helpers import tracing_context

from langchain_finops.evals.costs import Tally, tally
from langchain_finops.evals.dataset import content_hash
from langchain_finops.evals.faults import call_error, is_outage, is_worth_another_try, retry_after_s
from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.plain import plain
from langchain_finops.evals.recorded import Slot
from langchain_finops.evals.results import AttemptResult, AttemptStatus
from langchain_finops.evals.stock import tags_of
from langchain_finops.evals.suite import Limits
from langchain_finops.evals.watch import TimeLimitPassed, Watch, Witness
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.ledger.base import Ledger
from langchain_finops.meter import CALL_CLOCK, CallClock
from langchain_finops.pricing import PriceBook
from langchain_finops.records import CallRecord, Record

if TYPE_CHECKING:
    from langchain_finops.evals.replay import Recording

__all__ = ["INTERRUPTED", "Bench", "Tried", "attempt", "interrupted_result", "ledger_task_id"]

INTERRUPTED = "interrupted"
"""Stop reason of a try that a crash or Ctrl-C ended: its slot is tried again, and its cost counts."""

OWN_REASONS = ("time_limit", "recursion_limit", "interrupt")

GRACE_S = 30.0
"""How long a call in flight of a target in a thread may go on after the attempt was ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all attempts of a run share."""

    run_id: str
    project: str
    """The dataset's name."""
    ledger: Ledger
    prices: PriceBook
    books: Mapping[str, PriceBook] = field(default_factory=dict)
    """Price books of the suite's card sets."""
    priced_by: str | None = None
    """The card set that `prices` is of."""
    fingerprint: str
    limits: Limits
    recording: "Recording | None" = None
    replays: bool = False
    """The recording answers; nothing is sent and nothing is paid."""
    trace: bool = False
    """Whether LangSmith's tracing, where the environment turns it on, sees the attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one try came to."""

    result: AttemptResult
    handler: FinOpsHandler
    held_back: Sequence[Record] = ()
    """Records that are yet to be written to the ledger."""
    try_again: bool = False
    """The same request may succeed in a while."""
    wait_s: float | None = None
    """How long the service asks to wait."""


@dataclass(slots=True)
class _End:
    """How a target ended."""

    status: AttemptStatus = "completed"
    stop_reason: str | None = None
    answer: object = None
    error: BaseException | None = None


def ledger_task_id(bench_run_id: str, trial: Trial, fingerprint: str) -> str:
    """The slot's task in the ledger. Its end tells a changed item, configuration or target from the one before."""
    made_of = content_hash([trial.item.inputs_hash, trial.configuration.hash, fingerprint])[:8]
    return f"{bench_run_id}/{trial.configuration.name}/{trial.item.id}/{trial.repeat}-{made_of}"


class _Clock:
    """When a try began and ended, and how long it took."""

    def __init__(self) -> None:
        self.started_at, self._began = datetime.now(UTC), time.perf_counter()
        self.ended_at, self.latency_s = self.started_at, 0.0

    def stop(self) -> None:
        self.ended_at, self.latency_s = datetime.now(UTC), time.perf_counter() - self._began


async def attempt(trial: Trial, runnable: Runnable[Any, Any], try_number: int, bench: Bench, *, played: int) -> Tried:
    """Try a slot once. Every failure is a result, a cancellation too; only a recording that lacks a call raises.

    `played`: which of the recorded tries a replay plays, counted from 1.
    """
    witness = Witness(bench.ledger, hold_back=bench.replays)
    handler = _handler(trial, try_number, bench, witness)
    watch = _watch(bench)
    clock = _Clock()
    with _surroundings(Slot(*trial.slot), bench, played):
        end = await _run(trial, runnable, _config(trial, try_number, bench, handler, watch), bench.limits, watch)
        end = _as_recorded(end, bench)
    clock.stop()
    held_back = witness.let_go()
    sums = tally(witness.records, bench.books, bench.priced_by)
    _correct(end, sums)
    if end.stop_reason == "infrastructure" and not sums.met_outage(end.error):
        end.stop_reason = "target"  # A tool of its own, or its own time-out: no outage of the model.
    # A thread that goes on may have a call in flight; a fault of the metering may have lost one.
    in_the_dark = watch.abandoned or handler.faults > 0
    return Tried(
        result=_result(trial, try_number, bench, end, sums=sums, watch=watch, clock=clock, in_the_dark=in_the_dark),
        held_back=held_back,
        handler=handler,
        try_again=_may_try_again(end) and _goes_on(trial, bench, played),
        wait_s=None if end.error is None else retry_after_s(end.error),
    )


def _watch(bench: Bench) -> Watch:
    if bench.recording is None:
        return Watch(bench.limits.seconds)
    return Watch(bench.limits.seconds, is_over=bench.recording.is_over)


def _as_recorded(end: _End, bench: Bench) -> _End:
    """Tell the recording of a time limit that has passed; in a replay, stop where the recorded attempt was stopped."""
    if bench.recording is None or end.stop_reason == INTERRUPTED:
        return end
    stopped = bench.recording.end("time_limit" if end.stop_reason == "time_limit" else None)
    return end if stopped is None else _End(status="stopped", stop_reason=stopped)


def _may_try_again(end: _End) -> bool:
    return end.stop_reason == "infrastructure" and (end.error is None or is_worth_another_try(end.error))


def _goes_on(trial: Trial, bench: Bench, played: int) -> bool:
    if bench.recording is None or not bench.replays:
        return True
    return bench.recording.goes_on(Slot(*trial.slot), played)


def _handler(trial: Trial, try_number: int, bench: Bench, ledger: Ledger) -> FinOpsHandler:
    return FinOpsHandler(
        agent_id=trial.configuration.name,
        task_id=ledger_task_id(bench.run_id, trial, bench.fingerprint),
        project=bench.project,
        environment="evaluation",
        tags=tags_of(bench.run_id, trial, try_number, bench.fingerprint),
        ledger=ledger,
        prices=bench.prices,
    )


def _config(trial: Trial, try_number: int, bench: Bench, handler: FinOpsHandler, watch: Watch) -> RunnableConfig:
    task_id = ledger_task_id(bench.run_id, trial, bench.fingerprint)
    config: RunnableConfig = {
        "callbacks": [watch, handler],  # In this order: the handler must not see the start of a refused call.
        "metadata": {"task_id": task_id, "configuration": trial.configuration.name},
        "configurable": {"thread_id": f"{task_id}/{try_number}"},  # A checkpointer would mix attempts without it.
    }
    if bench.limits.recursion_limit is not None:
        config["recursion_limit"] = bench.limits.recursion_limit
    return config


@contextmanager
def _surroundings(slot: Slot, bench: Bench, played: int) -> Iterator[None]:
    """The context an attempt runs in. Each attempt is a task of its own, so that none sees another's."""
    with ExitStack() as stack:
        if not bench.trace:
            stack.enter_context(tracing_context(enabled=False))
        if bench.recording is not None:
            stack.enter_context(bench.recording.slot(slot, played))
            stack.callback(CALL_CLOCK.reset, CALL_CLOCK.set(CallClock()))
        yield


async def _run(
    trial: Trial, runnable: Runnable[Any, Any], config: RunnableConfig, limits: Limits, watch: Watch
) -> _End:
    inputs = copy.deepcopy(dict(trial.item.inputs))  # A target may change what it is given.
    scope = asyncio.timeout(limits.seconds)
    try:
        async with scope:
            if type(runnable).ainvoke is Runnable.ainvoke:
                answer = await _in_thread(lambda: runnable.invoke(inputs, config), watch)
            else:
                answer = await runnable.ainvoke(inputs, config)
    except (Exception, asyncio.CancelledError, SystemExit) as error:  # noqa: BLE001  An attempt's end, not the run's.
        return _cut_off(scope, error) or _failed(error)
    # Asked here too: a target may swallow the cancellation and answer all the same.
    if cut_off := _cut_off(scope):
        return cut_off
    if isinstance(answer, Mapping) and "__interrupt__" in answer:
        return _End(status="stopped", stop_reason="interrupt", answer=plain(answer))
    return _End(answer=plain(answer))


def _cut_off(scope: asyncio.Timeout, error: BaseException | None = None) -> _End | None:
    """How we ended an attempt: by Ctrl-C, or by its time limit. None where we did not."""
    task = asyncio.current_task()
    if task is not None and task.cancelling() > 0:
        return _End(status="error", stop_reason=INTERRUPTED, error=error)
    return _End(status="stopped", stop_reason="time_limit") if scope.expired() else None


def _failed(error: BaseException) -> _End:
    """What an exception of the target makes of an attempt; a CancelledError or SystemExit of its own is its fault."""
    if isinstance(error, TimeLimitPassed):
        return _End(status="stopped", stop_reason="time_limit")
    if isinstance(error, GraphRecursionError):
        return _End(status="stopped", stop_reason="recursion_limit")
    if isinstance(error, GraphBubbleUp):  # A guard's or LangGraph's deliberate signal: a refusal, a drain, a pause.
        return _End(status="stopped", stop_reason=type(error).__name__)
    return _End(status="error", stop_reason="infrastructure" if is_outage(error) else "target", error=error)


async def _in_thread(invoke: Callable[[], object], watch: Watch) -> object:
    """Run a target that blocks in a thread of its own, with this task's context.

    Cancelled, it refuses further calls, and waits for the one in flight: what it costs must be counted.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            answer, error = context.run(invoke), None
        except BaseException as raised:  # noqa: BLE001  Carried to the task that waits.
            answer, error = None, raised
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(_settle, done, answer, error)

    # A daemon: a target that hangs must not keep the process from ending.
    threading.Thread(target=work, name="finops-eval target", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        watch.refuse()
        await asyncio.wait([done], timeout=GRACE_S)
        watch.abandoned = not done.done()
        raise


def _settle(done: "asyncio.Future[object]", answer: object, error: BaseException | None) -> None:
    if error is not None:
        done.set_exception(error)
        done.exception()  # Marks it as seen: a cancelled attempt does not ask.
    else:
        done.set_result(answer)


def _correct(end: _End, sums: Tally) -> None:
    """What the records know better: why the run stopped, and whether it was answered by an outage alone."""
    if end.status == "stopped" and sums.runs and sums.runs[-1].stop_reason and end.stop_reason not in OWN_REASONS:
        end.stop_reason = sums.runs[-1].stop_reason
    if end.status == "completed" and sums.outage is not None:
        # A target that swallows the error and answers all the same would have an outage scored as a wrong answer.
        end.status, end.stop_reason, end.answer = "error", "infrastructure", None


def _result(
    trial: Trial,
    try_number: int,
    bench: Bench,
    end: _End,
    *,
    sums: Tally,
    watch: Watch,
    clock: _Clock,
    in_the_dark: bool = False,
) -> AttemptResult:
    """The try's line. `in_the_dark`: it may have cost more than its records say."""
    error = None if end.error is None else call_error(end.error)
    fields_ = sums.fields(in_the_dark=in_the_dark)
    return AttemptResult(
        configuration=trial.configuration.name,
        task=trial.item.id,
        repeat=trial.repeat,
        try_number=try_number,
        status=end.status,
        stop_reason=end.stop_reason,
        answer=end.answer,
        trajectory=tuple(watch.trajectory),
        **fields_,
        in_the_dark=in_the_dark,
        latency_s=clock.latency_s if sums.recorded_s is None else sums.recorded_s,
        started_at=clock.started_at,
        ended_at=clock.ended_at,
        error=sums.outage if error is None and end.status == "error" else error,
        task_id=ledger_task_id(bench.run_id, trial, bench.fingerprint),
        fingerprint=bench.fingerprint,
        item_hash=trial.item.inputs_hash,
        configuration_hash=trial.configuration.hash,
    )


def interrupted_result(trial: Trial, try_number: int, bench: Bench, records: Sequence[Record]) -> AttemptResult:
    """A try that a crash ended, as its calls in the ledger tell of it: it was paid for, so it counts.

    A call that was in flight is not among them, so its cost is not known.
    """
    calls = [record for record in records if isinstance(record, CallRecord)]
    clock = _Clock()
    clock.started_at = min((call.started_at for call in calls), default=clock.started_at)
    clock.ended_at = max((call.ended_at for call in calls), default=clock.started_at)
    clock.latency_s = (clock.ended_at - clock.started_at).total_seconds()
    end = _End(status="error", stop_reason=INTERRUPTED)
    sums = tally(records, bench.books, bench.priced_by)
    return _result(trial, try_number, bench, end, sums=sums, watch=Watch(), clock=clock, in_the_dark=True)
