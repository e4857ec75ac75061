"""Does what is left of a run: attempts side by side on one event loop, each on disk as soon as it has ended."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from langchain_finops.budgets.standing import Standing
from langchain_finops.errors import EvalError, MissingExtra
from langchain_finops.evals.attempt import Bench, Tried, attempt, interrupted_result
from langchain_finops.evals.backoff import LONGEST_WAIT_S, Throttle
from langchain_finops.evals.building import built
from langchain_finops.evals.collecting import few_collections
from langchain_finops.evals.court import Court
from langchain_finops.evals.exits import no_exits
from langchain_finops.evals.journal import Journal
from langchain_finops.evals.lost import find_lost
from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.models import offline
from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.progress import Forecast, Observer, Progress
from langchain_finops.evals.recorded_dataset import RecordedDataset
from langchain_finops.evals.reprice import priced_now
from langchain_finops.evals.results import (
    INTERRUPTED,
    MAX_USD,
    UNFINISHED,
    AttemptResult,
    TryKey,
    Verdict,
    last_tries,
)
from langchain_finops.evals.resume import Earlier, changed_target, current_attempts, current_verdicts, pending
from langchain_finops.evals.spending import Allowance, Spending
from langchain_finops.evals.stock import find_judgings, runs_of
from langchain_finops.evals.turns import turn_faults
from langchain_finops.evals.verdicts import by_answer, decided, failed, unjudged
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.money import sum_usd
from langchain_finops.records import Outcome

__all__ = ["Work"]

OUTAGE_AFTER = 10
"""So many slots in a row that end in infrastructure errors end the run: an outage is no wrong answer."""


class Work:
    """One run of what is still to be done."""

    def __init__(
        self, prepared: Prepared, manifest: Mapping[str, Any], earlier: Earlier, observer: Observer | None
    ) -> None:
        self.prepared, self.manifest, self.earlier = prepared, manifest, earlier
        self.observer = observer or (lambda _: None)
        self.run_id: str = manifest["run_id"]
        self.current = current = list(current_attempts(manifest, earlier.attempts))
        retry_errors = prepared.options.retry_errors
        self.pending = pending(prepared.trials, current, prepared.suite.tries, retry_errors=retry_errors)
        verdicts = list(current_verdicts(manifest, earlier.verdicts, current))
        self.verdicts = by_answer(verdicts)
        self.unjudged = unjudged(current, self.verdicts, prepared)
        # Counted over all lines of a slot, outdated ones too, so that a verdict never fits two tries.
        self.tries: dict[tuple[str, str, int], int] = {}
        for result in earlier.attempts:
            self.tries[result.slot] = max(result.try_number, self.tries.get(result.slot, 0))
        # An outdated line was of another request, so it is no try of those that the recording holds.
        self.played = Counter(result.task_id for result in earlier.attempts)
        # Without it each crash would grant a slot all its tries anew.
        spent = [] if retry_errors else [result.slot for result in current if result.stop_reason == "infrastructure"]
        self.failures = Counter(spent)
        self.stored: set[tuple[str, int]] = set()
        self.counted: dict[tuple[str, str, int], set[datetime]] = {}
        """When calls began, by slot, that earlier tries are charged with: a recording serves them once more."""
        self.throttle = Throttle(most=prepared.concurrency)
        self.spending = Spending(prepared.max_usd, prepared.suite.limits.usd, judges=bool(prepared.judges))
        self.spending.begin(earlier.attempts, earlier.verdicts)
        self.forecast = Forecast(self.pending)
        self.forecast.begin(current, verdicts)
        self.done, self.errors, self.outages, self.spent = 0, 0, 0, Decimal(0)
        self.unheard = 0
        """Answers that the run's money did not suffice to have judged."""

    @property
    def is_finished(self) -> bool:
        """Nothing is left to be done, no crash has kept anything from being written down, no verdict is another now."""
        if self.pending or self.unjudged or self.manifest["finished_at"] is None or self.earlier.run is None:
            return False
        before = self.earlier.run
        return all(before[part] == self.manifest[part] for part in ("scorers", "dataset"))

    async def go(self, *, begun: Callable[[], object] = lambda: None) -> str | None:
        """Do what is left to be done; why some of it is not, in a sentence.

        `begun` is called when all is ready, before anything is bought.
        """
        with ExitStack() as stack:
            stack.enter_context(offline(wanted=self.prepared.mode == "replay"))
            ledger = open_ledger(self.prepared.ledger)
            stack.callback(ledger.close)
            # A replay's ledger comes first, for a line without its calls would be a figure that nothing adds up to.
            # A live run's answers come first: they were paid for, and their calls are in the ledger already.
            ledger_first = self.prepared.mode == "replay"
            self.journal = stack.enter_context(Journal(self.prepared.folder, ledger, ledger_first=ledger_first))
            self.bench = self._bench(ledger, stack)
            self.court = self._court()
            await self._mend_outcomes(ledger)
            await self._take_stock_of_judges(ledger)
            await self._judge_all()
            if self.pending:
                await self._take_stock(ledger)
                await self._build()
                begun()
                await self._try_all()
        return self._why_not_all()

    def _why_not_all(self) -> str | None:
        said, left = self.spending.stopped, len(self.pending) - self.done
        if said is None or not (left or self.unheard):
            return None
        if not left:
            return f"{said}; {self.unheard} answers are yet to be judged"
        return f"{said}; {left} of {len(self.prepared.trials)} slots are left"

    async def _mend_outcomes(self, ledger: Ledger) -> None:
        """Log outcomes of finished slots that the ledger lacks, or has as other verdicts or scorers had it."""
        if self.earlier.run is None:
            return
        logged = {outcome.task_id: outcome.success for outcome in ledger.outcomes()}
        waiting = {trial.slot for trial in self.pending} | {result.slot for result in self.unjudged}
        stale = []
        for result in last_tries(self.current).values():
            if result.slot not in waiting:
                said = self.verdicts.get((result.slot, result.try_number), {}).values()
                outcome = decided(result, said, self.prepared)
                if result.task_id not in logged or logged[result.task_id] != outcome.success:
                    stale.append(outcome)
        if stale:
            await self.journal.keep(records=stale)

    def _bench(self, ledger: Ledger, stack: ExitStack) -> Bench:
        prepared = self.prepared
        recording = None
        if prepared.mode != "live" and prepared.suite.recording is not None:
            try:
                from langchain_finops.evals.replay import Recording
            except ImportError as error:
                raise MissingExtra("a recording", "eval") from error
            of = RecordedDataset.of(prepared.dataset)
            recording = Recording(prepared.suite.recording, prepared.mode, dataset=of, offline=True)
            stack.enter_context(recording)
        return Bench(
            run_id=self.run_id,
            project=prepared.dataset.name,
            ledger=ledger,
            prices=prepared.prices,
            books=prepared.books,
            priced_by=prepared.cards,
            fingerprint=prepared.fingerprint,
            limits=prepared.suite.limits,
            recording=recording,
            replays=prepared.mode == "replay",
            trace=prepared.options.trace,
            standing=Standing(ledger, failed=_told),
        )

    def _court(self) -> Court:
        return Court(
            self.prepared,
            self.bench,
            self.journal,
            spending=self.spending,
            throttle=self.throttle,
            known=self.verdicts,
            spent=self._spend,
        )

    async def _take_stock_of_judges(self, ledger: Ledger) -> None:
        """Count judges' calls whose verdict a crash has lost."""
        if self.earlier.run is None or not self.prepared.judges:
            return
        known = {verdict.judging_id for verdict in self.earlier.verdicts}
        paid = find_judgings(ledger, runs_of(self.manifest))
        lost = {key: records for key, records in paid.items() if key.judging_id not in known}
        lost = await priced_now(lost, self.prepared.prices, self.journal)
        self.spending.begin([], await self.court.take_stock(lost, self.earlier.verdicts))

    def _since(self) -> datetime | None:
        """Calls that a recording answered began when they were recorded, before this run was."""
        return datetime.fromisoformat(self.manifest["created_at"]) if self.prepared.mode == "live" else None

    async def _take_stock(self, ledger: Ledger) -> None:
        """Count tries that a crash ended.

        They were paid for, so they count. A replay's were complete and cost nothing: they are replayed once more,
        and not written to the ledger a second time.
        """
        if self.earlier.run is None:
            return
        earlier = self.earlier
        runs, begun = runs_of(self.manifest), earlier.begun
        lost = find_lost(ledger, runs, earlier.attempts, begun, self.pending, since=self._since())
        mine = {key: lost.records.get(key, ()) for key, _ in lost.tries}
        records = await priced_now(mine, self.prepared.prices, self.journal)
        if self.bench.replays:
            self.stored |= {(self._task_id(trial, key), key[1]) for key, trial in lost.tries}
            return
        if self.prepared.mode == "record":
            self.counted = lost.calls_of(self.pending)
        others = lost.of_other_code(self.bench.fingerprint)
        if others and not self.prepared.options.allow_mixed:
            raise changed_target(self.prepared.folder, others)
        for (slot, number, *_), _ in lost.tries:
            self.tries[slot] = max(number, self.tries.get(slot, 0))
        for key, trial in lost.paid:
            bench = replace(self.bench, fingerprint=key[4])
            result = interrupted_result(trial, key[1], bench, records[key])
            self.spending.begin([result], [])
            await self.journal.keep(attempt=result)

    def _task_id(self, trial: Trial, key: TryKey) -> str:
        """The task of a try in the ledger; of another item's, configuration's or target's it is none of this run's."""
        return self.bench.task_id(trial) if key[2:] == self.bench.hashes(trial) else ""

    # --- trying ------------------------------------------------------------------------------------------------------

    async def _build(self) -> None:
        """Build the target of every configuration that is needed."""
        needed = {trial.configuration.name: trial.configuration for trial in self.pending}
        suite = self.prepared.suite
        self.runnables = await built(suite.target, self.prepared.target, needed.values(), suite=suite.path)
        turn_faults(self.pending, self.runnables, self.prepared.dataset.path)

    async def _try_all(self) -> None:
        waiting = iter(self.pending)
        self._tell()
        try:
            with _many_threads(self.prepared.concurrency), few_collections(), no_exits(asyncio.get_running_loop()):
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.prepared.concurrency, len(self.pending))):
                        group.create_task(self._work(waiting))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _work(self, waiting: Iterator[Trial]) -> None:
        for trial in waiting:
            if not await self._slot(trial):
                break
            self._tell()

    def _tell(self) -> None:
        forecast = self.forecast.total(self.spent)
        stand = Progress(
            done=self.done, total=len(self.pending), errors=self.errors, known_usd=self.spent, forecast_usd=forecast
        )
        self.observer(stand)

    async def _slot(self, trial: Trial) -> bool:
        """Try a slot until it is answered, or as often as the suite allows where the infrastructure fails.

        False where the run's money does not allow another try.
        """
        most = self.prepared.suite.tries
        played = self.played[self.bench.task_id(trial)]
        for failures in range(min(self.failures[trial.slot] + 1, most), most + 1):
            allowance = await self.spending.reserve(trial.configuration.name)
            if allowance is None:
                return False
            played += 1
            tried, last = await self._try_within(allowance, trial, played, may_go_on=failures < most)
            if tried.out_of_money is not None:
                self.spending.stop(tried.out_of_money)
                return False
            if last:
                break
            await self._pause(tried, failures)
        return True

    async def _try_within(
        self, allowance: Allowance, trial: Trial, played: int, *, may_go_on: bool
    ) -> tuple[Tried, bool]:
        """One try with its verdicts, on disk, and its cost in place of what was set aside; whether it was the last."""
        tried: Tried | None = None
        verdicts: Sequence[Verdict] = ()
        try:
            tried = await self._try(trial, played, allowance)
            reason = tried.result.stop_reason
            last = reason not in UNFINISHED and not (tried.try_again and may_go_on)
            kept = self._keep(tried, last=last)
            if reason == INTERRUPTED:
                await kept
                raise asyncio.CancelledError
            if last:
                verdicts = await self._finish(tried, allowance)  # Judged while the disk is busy with the answer.
            await kept
        finally:
            self.spending.settle(allowance, None if tried is None else tried.result, verdicts)
        return tried, last

    async def _try(self, trial: Trial, played: int, allowance: Allowance) -> Tried:
        """Try it once, when whom it asks may be asked."""
        runnable = self.runnables[trial.configuration.name]
        number = self.tries[trial.slot] = self.tries.get(trial.slot, 0) + 1
        if self.bench.replays:
            doing = attempt(trial, runnable, number, self.bench, played=played, cap_usd=allowance.cap_usd)
            return await asyncio.create_task(doing)  # A task of its own, whose context no other attempt sees.
        paces = await self.throttle.enter(trial.configuration.name)
        try:
            await self.journal.begin((trial.slot, number, *self.bench.hashes(trial)))
            counted = self.counted.get(trial.slot, set())
            doing = attempt(
                trial, runnable, number, self.bench, played=played, cap_usd=allowance.cap_usd, counted=counted
            )
            tried = await asyncio.create_task(doing)
        finally:
            self.throttle.leave(paces)
        self.throttle.met(trial.configuration.name, tried.providers)
        for provider in tried.overloaded:
            self.throttle.refused(provider, tried.wait_s)
        self.throttle.answered(tried.providers - tried.overloaded)
        return tried

    async def _finish(self, tried: Tried, allowance: Allowance) -> Sequence[Verdict]:
        self._count(tried.result)
        if tried.result.status != "completed":
            return []
        result = tried.result
        verdicts = await self._judge(result, allowance, sum_usd([result.known_usd, result.overhead_usd or Decimal(0)]))
        if self.bench.trace:
            await asyncio.to_thread(_tell_langsmith, tried.handler, decided(result, verdicts, self.prepared))
        return verdicts

    def _keep(self, tried: Tried, *, last: bool) -> "asyncio.Future[None]":
        """Put a try on disk. One that Ctrl-C ended counts as well, unless nothing was paid for it."""
        result = tried.result
        self._spend(result.configuration, result.known_usd)
        if result.stop_reason == INTERRUPTED and self.bench.replays:
            return self.journal.keep()
        stored = (result.task_id, result.try_number) in self.stored
        records = [] if stored else [*tried.held_back]
        if last and result.status != "completed":
            records.append(failed(result, self.prepared))
        return self.journal.keep(attempt=result, records=records)

    def _spend(self, configuration: str, usd: Decimal) -> None:
        self.spent = sum_usd([self.spent, usd])
        self.forecast.spent(configuration, usd)

    async def _pause(self, tried: Tried, failures: int) -> None:
        """Wait before the next try: as long as the service asks, else 1, 2, 4 s... A replay has nothing to wait for.

        Who is asked too much lets nobody begin for a while, this slot's next try neither.
        """
        if not self.bench.replays and not tried.overloaded:
            wait_s = 2.0 ** (failures - 1) if tried.wait_s is None else tried.wait_s
            await self.throttle.sleep(min(max(wait_s, 0.0), LONGEST_WAIT_S))

    def _count(self, result: AttemptResult) -> None:
        """Count a slot. Raises EvalError where so many in a row failed that going on would only record an outage."""
        self.done += 1
        self.forecast.done(result.configuration)
        self.errors += result.status == "error"
        self.outages = self.outages + 1 if result.stop_reason == "infrastructure" else 0
        if self.outages >= OUTAGE_AFTER:
            raise EvalError(
                f"stopped: {self.outages} attempts in a row ended in {_said(result)}; what was finished is kept in "
                f"{self.prepared.folder}; run again with --retry-errors when it is mended"
            )

    # --- judging -----------------------------------------------------------------------------------------------------

    async def _judge_all(self) -> None:
        """Judge the answers on file that some scorer has not judged."""
        waiting = iter(self.unjudged)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.prepared.concurrency, len(self.unjudged))):
                    group.create_task(self._judge_each(waiting))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _judge_each(self, waiting: Iterator[AttemptResult]) -> None:
        for result in waiting:
            allowance: Allowance | None = Allowance(result.configuration, None)
            if self.court.needs_money(result):
                allowance = await self.spending.reserve_judging(result.configuration)
            if allowance is None:
                self.unheard += 1
                continue
            verdicts: Sequence[Verdict] = ()
            try:
                verdicts = await self._judge(result, allowance, Decimal(0))
            finally:
                self.spending.settle_judging(allowance, verdicts)

    async def _judge(self, result: AttemptResult, allowance: Allowance, tried_usd: Decimal) -> Sequence[Verdict]:
        verdicts = await self.court.judge(result, allowance, tried_usd)
        self.unheard += any(verdict.stop_reason == MAX_USD for verdict in verdicts)
        return verdicts


@contextmanager
def _many_threads(concurrency: int) -> Iterator[None]:
    """LangGraph runs nodes that block on the loop's executor: the default one has too few threads for them."""
    loop = asyncio.get_running_loop()
    before = getattr(loop, "_default_executor", None)  # There is no public way to put a server's own back.
    executor = ThreadPoolExecutor(4 * concurrency, "finops-eval")
    loop.set_default_executor(executor)
    try:
        yield
    finally:
        # Not waited for: a node that hangs past its attempt's time limit must not keep the table from being shown.
        loop.set_default_executor(before or ThreadPoolExecutor(thread_name_prefix="asyncio"))
        executor.shutdown(wait=False, cancel_futures=True)


def _told(_: Exception) -> None:
    """A ledger or policy file that could not be read leaves what was known last; Standing says so itself."""


def _tell_langsmith(handler: FinOpsHandler, outcome: Outcome) -> None:
    """Send the outcome as feedback to the trace that this handler saw; the ledger gets it once more, the same."""
    handler.log_outcome(
        task_id=outcome.task_id, success=outcome.success, reason=outcome.reason, judged_by=outcome.judged_by
    )


def _said(result: AttemptResult) -> str:
    error = result.error
    if error is None:
        return "infrastructure errors"
    return error.error_class if error.http_status is None else f"{error.error_class} (HTTP status {error.http_status})"


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the run; the others are cancellations it caused, or repeat it."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
