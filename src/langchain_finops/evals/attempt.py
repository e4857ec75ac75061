"""Tries one slot once: runs the target, tells what became of it, and adds up what it cost."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphInterrupt, GraphRecursionError
from langsmith.run_helpers import tracing_context

from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.standing import Standing
from langchain_finops.evals.costs import Tally, tally
from langchain_finops.evals.dataset import content_hash
from langchain_finops.evals.faults import call_error, is_outage, is_worth_another_try, retry_after_s
from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.plain import plain
from langchain_finops.evals.recorded import Slot
from langchain_finops.evals.results import INTERRUPTED, MAX_USD, AttemptResult, AttemptStatus
from langchain_finops.evals.stock import tags_of
from langchain_finops.evals.suite import Limits
from langchain_finops.evals.turns import Talk, converse, is_asking, root_run
from langchain_finops.evals.watch import TimeLimitPassed, Watch, Watched, Witness
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.langchain.stops import stopped
from langchain_finops.ledger.base import Ledger
from langchain_finops.meter import CALL_CLOCK, CallClock
from langchain_finops.pricing import PriceBook
from langchain_finops.records import CallRecord, Record

if TYPE_CHECKING:
    from langchain_finops.evals.replay import Recording

__all__ = ["Bench", "Tried", "attempt", "interrupted_result", "out_of_money", "surroundings"]

OWN_REASONS = ("time_limit", "recursion_limit", "interrupt")


@dataclass(frozen=True, kw_only=True)
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
    standing: Standing | None = None
    """Kills and budgets that are set from outside: looked for once for all attempts."""
    _hashed: dict[tuple[str, str], str] = field(default_factory=dict, init=False)
    _made_of: dict[tuple[str, str], str] = field(default_factory=dict, init=False)

    def hashes(self, trial: Trial) -> tuple[str, str, str]:
        """Of the item's inputs, the configuration and the target's code: what makes an answer another one."""
        item, configuration = trial.item, trial.configuration
        if (inputs := self._hashed.get(("item", item.id))) is None:  # Hashing them for each use would take longer
            inputs = self._hashed["item", item.id] = item.inputs_hash  # than all else that is done for an attempt.
        if (parameters := self._hashed.get(("configuration", configuration.name))) is None:
            parameters = self._hashed["configuration", configuration.name] = configuration.hash
        return inputs, parameters, self.fingerprint

    def task_id(self, trial: Trial) -> str:
        """The slot's task in the ledger. Its end tells a changed item, configuration or target from the one before."""
        key = trial.configuration.name, trial.item.id
        if (made_of := self._made_of.get(key)) is None:
            made_of = self._made_of[key] = content_hash(list(self.hashes(trial)))[:8]
        return f"{self.run_id}/{trial.configuration.name}/{trial.item.id}/{trial.repeat}-{made_of}"

    @cached_property
    def budgets(self) -> tuple[Budget, ...]:
        """The limits of each attempt. Of scope `run`, which an attempt is: balances are its own."""
        return self.limits.budgets()

    @cached_property
    def limit_reasons(self) -> Mapping[str, str]:
        """What results call a stop by one of them, by the stop reason of its run."""
        units = {budget.label: [limit.unit for limit in budget.limits()] for budget in self.budgets}
        return {f"budget:{label}": f"{of[0]}_limit" for label, of in units.items() if len(of) == 1}


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
    providers: frozenset[str] = frozenset()
    """Whom it asked."""
    overloaded: frozenset[str] = frozenset()
    """Those of them that said they were asked too much."""
    out_of_money: str | None = None
    """Why the run's money ended it, in a sentence."""


@dataclass(slots=True)
class _End:
    """How a target ended."""

    status: AttemptStatus = "completed"
    stop_reason: str | None = None
    answer: object = None
    error: BaseException | None = None


class _Clock:
    """When a try began and ended, and how long it took."""

    def __init__(self) -> None:
        self.started_at, self._began = datetime.now(UTC), time.perf_counter()
        self.ended_at, self.latency_s = self.started_at, 0.0

    def stop(self) -> None:
        self.ended_at, self.latency_s = datetime.now(UTC), time.perf_counter() - self._began


async def attempt(
    trial: Trial,
    runnable: Runnable[Any, Any],
    try_number: int,
    bench: Bench,
    *,
    played: int,
    cap_usd: Decimal | None = None,
    counted: Collection[datetime] = (),
) -> Tried:
    """Try a slot once. Every failure is a result, a cancellation too; only a recording that lacks a call raises.

    `played`: which of the recorded tries a replay plays, counted from 1. `cap_usd`: what the run's money leaves it.
    `counted`: when calls began that earlier tries of the slot are charged with, and that the recording may serve again.
    """
    began = time.perf_counter()
    witness = Witness(bench.ledger, hold_back=bench.replays, standing=bench.standing, counted=counted)
    watch, clock, talk = _watch(bench), _Clock(), Talk()
    handler = _handler(trial, try_number, bench, watch=watch, ledger=witness, cap_usd=cap_usd)
    with surroundings(Slot(*trial.slot), bench, played):
        end = await _run(trial, runnable, _config(trial, try_number, bench, handler), watch, talk)
        end = _as_recorded(end, bench)
    clock.stop()
    held_back = witness.let_go()
    sums = tally(witness.records, bench.books, bench.priced_by)
    _correct(end, sums, bench.limit_reasons)
    if end.stop_reason == "infrastructure" and not sums.met_outage(end.error):
        end.stop_reason = "target"  # A tool of its own, or its own time-out: no outage of the model.
    # A thread that goes on may have a call in flight; a fault of the metering may have lost one.
    in_the_dark = watch.abandoned or handler.faults > 0
    seen: dict[str, Any] = {"sums": sums, "watch": watch, "clock": clock, "in_the_dark": in_the_dark}
    result = _result(trial, try_number, bench, end, served_again=witness.served_again, **seen)
    overhead_s = max(time.perf_counter() - began - talk.target_s, 0.0)
    said: dict[str, Any] = {"turns": max(talk.turns, 1), "scripted_answers": talk.scripted_answers}
    return Tried(
        result=replace(result, overhead_s=overhead_s, **said),
        held_back=held_back,
        handler=handler,
        try_again=_may_try_again(end) and _goes_on(trial, bench, played),
        wait_s=None if end.error is None else retry_after_s(end.error),
        providers=sums.providers,
        overloaded=sums.overloaded,
        out_of_money=out_of_money(sums),
    )


def out_of_money(sums: Tally) -> str | None:
    """Why the run's money ended it, in a sentence; None where it did not."""
    event = sums.refusals.get(MAX_USD)
    if event is None:
        return None
    if (event.after or {}).get("kind") == "unpriced":
        return (
            "a call was refused whose price is not known, so that no maximum can be held: have the model name itself, "
            "add a price card to the suite, or run without --max-usd"
        )
    return f"what is left of --max-usd is not enough: {event.reason}"


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


def _handler(
    trial: Trial, try_number: int, bench: Bench, *, watch: Watch, ledger: Ledger, cap_usd: Decimal | None
) -> FinOpsHandler:
    cap = () if cap_usd is None else (Budget(usd=cap_usd, name=MAX_USD, warn_at=()),)
    return Watched(
        watch,
        agent_id=trial.configuration.name,
        task_id=bench.task_id(trial),
        project=bench.project,
        environment="evaluation",
        tags=tags_of(bench.run_id, trial, try_number, bench.hashes(trial)),
        budgets=(*bench.budgets, *cap),
        ledger=ledger,
        prices=bench.prices,
    )


def _config(trial: Trial, try_number: int, bench: Bench, handler: FinOpsHandler) -> RunnableConfig:
    task_id = bench.task_id(trial)
    config: RunnableConfig = {
        "callbacks": [handler],
        "metadata": {
            "task_id": task_id,
            "configuration": trial.configuration.name,
            "thread_id": f"{task_id}/{try_number}",
        },
        "configurable": {"thread_id": f"{task_id}/{try_number}"},  # A checkpointer would mix attempts without it.
    }
    if bench.limits.recursion_limit is not None:
        config["recursion_limit"] = bench.limits.recursion_limit
    return config


@contextmanager
def surroundings(slot: Slot, bench: Bench, played: int) -> Iterator[None]:
    """The context an attempt runs in. Each attempt is a task of its own, so that none sees another's."""
    with ExitStack() as stack:
        if not bench.trace:
            stack.enter_context(tracing_context(enabled=False))
        if bench.recording is not None:
            stack.enter_context(bench.recording.slot(slot, played))
            stack.callback(CALL_CLOCK.reset, CALL_CLOCK.set(CallClock()))
        yield


async def _run(trial: Trial, runnable: Runnable[Any, Any], config: RunnableConfig, watch: Watch, talk: Talk) -> _End:
    scope = asyncio.timeout(watch.seconds)
    with root_run(config) as (inner, root):
        try:
            async with scope:
                answer = await converse(trial, runnable, inner, watch, talk)
        except (Exception, asyncio.CancelledError, SystemExit) as error:  # noqa: BLE001  An attempt's end, not the run's.
            cut_off = _cut_off(scope, error)
            root.end(error if cut_off is None else asyncio.CancelledError())
            return cut_off or _failed(error)
    # Asked here too: a target may swallow the cancellation and answer all the same.
    return _cut_off(scope) or _answered(answer)


def _answered(answer: object) -> _End:
    if not is_asking(answer):
        return _End(answer=plain(answer))
    stop = stopped(answer)
    if stop is not None:  # A guard asks: nobody is there to raise its limit.
        return _End(status="stopped", stop_reason=stop.reason, answer=plain(answer))
    return _End(status="handed_off", stop_reason="interrupt", answer=plain(answer))


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
    if isinstance(error, GraphInterrupt) and stopped(error) is None:
        return _End(status="handed_off", stop_reason="interrupt")
    if isinstance(error, GraphBubbleUp):  # A guard's or LangGraph's deliberate signal: a refusal, a drain, a pause.
        return _End(status="stopped", stop_reason=type(error).__name__)
    return _End(status="error", stop_reason="infrastructure" if is_outage(error) else "target", error=error)


def _correct(end: _End, sums: Tally, limit_reasons: Mapping[str, str]) -> None:
    """What the records know better: why the run stopped, and whether it was answered by an outage alone."""
    if end.stop_reason == INTERRUPTED:
        return
    if MAX_USD in sums.refusals:
        end.status, end.stop_reason, end.answer = "error", MAX_USD, None
        return
    last = sums.runs[-1] if sums.runs else None
    swallowed = bool(sums.refusals) and (end.status == "completed" or end.stop_reason == "target")
    if swallowed:  # A target that swallows a refusal and goes on was stopped all the same.
        end.status, end.stop_reason, end.answer, end.error = "stopped", "guard", None, None
    if end.status == "stopped" and last is not None and last.stop_reason and end.stop_reason not in OWN_REASONS:
        end.stop_reason = last.stop_reason
    if end.status == "stopped" and end.stop_reason is not None:
        end.stop_reason = limit_reasons.get(end.stop_reason, end.stop_reason)
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
    served_again: Sequence[CallRecord] = (),
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
        steps=sums.steps,
        tool_calls=sums.tool_calls,
        final_output_tokens=sums.final_output_tokens,
        latency_s=_latency_s(sums, clock, served_again),
        started_at=clock.started_at,
        ended_at=clock.ended_at,
        error=sums.outage if error is None and end.status == "error" else error,
        task_id=bench.task_id(trial),
        fingerprint=bench.fingerprint,
        item_hash=bench.hashes(trial)[0],
        configuration_hash=bench.hashes(trial)[1],
    )


def _latency_s(sums: Tally, clock: _Clock, served_again: Sequence[CallRecord]) -> float:
    """How long the try takes: as recorded where a recording answered, and by the clock where a model did."""
    replayed = [call for call in (*sums.calls, *served_again) if call.billing_mode == "replay"]
    if not replayed:
        return clock.latency_s
    recorded_s = (max(call.ended_at for call in replayed) - min(call.started_at for call in replayed)).total_seconds()
    return recorded_s if len(replayed) == len(sums.calls) + len(served_again) else recorded_s + clock.latency_s


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
