"""Runs a suite on a dataset: every slot is tried, judged and put on disk; running again goes on where it stopped."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.runnables import Runnable

from langchain_finops.errors import EvalError, MissingExtra
from langchain_finops.evals.attempt import INTERRUPTED, Bench, Tried, attempt, interrupted_result, ledger_task_id
from langchain_finops.evals.dataset import Dataset
from langchain_finops.evals.exits import no_exits
from langchain_finops.evals.journal import Journal
from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.prepare import Options, Prepared, prepare
from langchain_finops.evals.reprice import prices_changed, reprice
from langchain_finops.evals.results import ATTEMPTS, RUN, AttemptResult, Verdict, last_tries, read_run, write_run
from langchain_finops.evals.resume import (
    Earlier,
    Results,
    changed_target,
    check_resumable,
    current_attempts,
    current_verdicts,
    folder_lock,
    pending,
    read_earlier,
    results_of,
    set_aside,
)
from langchain_finops.evals.scorers import decide, judge
from langchain_finops.evals.stock import TryKey, find_tries, key_of
from langchain_finops.evals.suite import Suite
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.money import sum_usd
from langchain_finops.records import Outcome

__all__ = ["Observer", "Progress", "arun", "run"]

OUTAGE_AFTER = 10
"""So many slots in a row that end in infrastructure errors end the run: an outage is no wrong answer."""
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    errors: int
    """Slots that ended in an error, this time."""
    known_usd: Decimal
    """List cost of this time's tries, as far as it is known."""


Observer = Callable[[Progress], None]


def run(dataset: Dataset, suite: Suite, options: Options | None = None, *, observer: Observer | None = None) -> Results:
    """Run a suite on a dataset, as `arun` does, from code that has no event loop of its own."""
    return asyncio.run(arun(dataset, suite, options, observer=observer))


async def arun(
    dataset: Dataset, suite: Suite, options: Options | None = None, *, observer: Observer | None = None
) -> Results:
    """Run what is still to be run of a suite on a dataset, and return all that counts.

    Everything is checked before anything is bought. Raises BadData, BadArguments, EvalError or LedgerError; what was
    finished by then is on disk, as it is after a crash.
    """
    prepared = prepare(dataset, suite, options or Options())
    aside = _make_way(prepared)
    with folder_lock(prepared.folder):
        earlier = read_earlier(prepared.folder)
        manifest = _manifest(prepared, earlier)
        check_resumable(prepared, manifest, earlier)
        again = earlier.attempts and prices_changed(earlier, manifest)
        if again:
            earlier = reprice(prepared, earlier)
        started = _Run(prepared, manifest, earlier, observer)
        if not started.is_finished:
            write_run(prepared.folder, {**manifest, "finished_at": None})
            await started.go()
            manifest = {**manifest, "finished_at": datetime.now(UTC).isoformat()}
        write_run(prepared.folder, manifest)
        results = results_of(prepared.folder, manifest, read_earlier(prepared.folder))
        return replace(results, repriced=len(earlier.attempts) if again else 0, set_aside=aside)


def _make_way(prepared: Prepared) -> Path | None:
    """Set earlier results aside where a fresh start is asked for, or where a replay's recording is another one now."""
    if prepared.options.fresh:
        wanted = any((prepared.folder / name).exists() for name in (RUN, ATTEMPTS))
    elif (prepared.folder / RUN).exists():
        run = read_run(prepared.folder)
        wanted = run["mode"] == prepared.mode == "replay" and run["recording_hash"] != prepared.recording_hash
    else:
        wanted = False
    if not wanted:
        return None
    with folder_lock(prepared.folder):  # Nobody else is writing there.
        pass
    return set_aside(prepared.folder, datetime.now(UTC))


def _manifest(prepared: Prepared, earlier: Earlier) -> dict[str, object]:
    """`run.json` as of now; a run that goes on keeps its id and its birthday."""
    if earlier.run is None:
        run_id = f"{prepared.dataset.name}-{uuid4().hex[:8]}"
        return {**prepared.manifest(run_id, datetime.now(UTC)), "finished_at": None}
    run = earlier.run
    return {
        **prepared.manifest(run["run_id"], datetime.fromisoformat(run["created_at"])),
        "finished_at": run["finished_at"],
    }


class _Run:
    """One run of what is still to be done."""

    def __init__(
        self, prepared: Prepared, manifest: Mapping[str, Any], earlier: Earlier, observer: Observer | None
    ) -> None:
        self.prepared, self.manifest, self.earlier = prepared, manifest, earlier
        self.observer = observer or (lambda _: None)
        self.run_id: str = manifest["run_id"]
        self.current = current = list(current_attempts(manifest, earlier.attempts))
        self.pending = pending(
            prepared.trials, current, prepared.suite.tries, retry_errors=prepared.options.retry_errors
        )
        self.verdicts = _by_answer(current_verdicts(manifest, earlier.verdicts, current))
        self.unjudged = _unjudged(current, self.verdicts, prepared)
        # Counted over all lines of a slot, outdated ones too, so that a verdict never fits two tries.
        self.tries: dict[tuple[str, str, int], int] = {}
        for result in earlier.attempts:
            self.tries[result.slot] = max(result.try_number, self.tries.get(result.slot, 0))
        # An outdated line was of another request, so it is no try of those that the recording holds.
        self.played = Counter(result.task_id for result in earlier.attempts)
        self.stored: set[tuple[str, int]] = set()
        self.done, self.errors, self.outages, self.spent = 0, 0, 0, Decimal(0)

    @property
    def is_finished(self) -> bool:
        """Nothing is left to be done, no crash has kept anything from being written down, no verdict is another now."""
        if self.pending or self.unjudged or self.manifest["finished_at"] is None or self.earlier.run is None:
            return False
        before = self.earlier.run
        return all(before[part] == self.manifest[part] for part in ("scorers", "dataset"))

    async def go(self) -> None:
        """Do what is left to be done."""
        with ExitStack() as stack:
            ledger = open_ledger(self.prepared.ledger)
            stack.callback(ledger.close)
            # A replay's ledger comes first, for a line without its calls would be a figure that nothing adds up to.
            # A live run's answers come first: they were paid for, and their calls are in the ledger already.
            ledger_first = self.prepared.mode == "replay"
            self.journal = stack.enter_context(Journal(self.prepared.folder, ledger, ledger_first=ledger_first))
            self.items = {item.id: item for item in self.prepared.dataset.items}
            await self._mend_outcomes(ledger)
            for result in self.unjudged:
                await self._judge(result)
            if self.pending:
                self.bench = self._bench(ledger, stack)
                await self._take_stock(ledger)
                await self._try_all()

    async def _mend_outcomes(self, ledger: Ledger) -> None:
        """Log outcomes of finished slots that the ledger lacks, or has as other verdicts or scorers had it."""
        if self.earlier.run is None:
            return
        logged = {outcome.task_id: outcome.success for outcome in ledger.outcomes()}
        waiting = {trial.slot for trial in self.pending} | {result.slot for result in self.unjudged}
        stale = []
        for result in last_tries(self.current).values():
            if result.slot not in waiting:
                outcome = self._decided(result, self.verdicts.get((result.slot, result.try_number), {}).values())
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
            recording = stack.enter_context(Recording(prepared.suite.recording, prepared.mode))
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
        )

    async def _take_stock(self, ledger: Ledger) -> None:
        """Find tries that the ledger has and the results have not: a crash ended them.

        They were paid for, so they count. A replay's were complete and cost nothing: they are replayed once more,
        and not written to the ledger a second time.
        """
        if self.earlier.run is None:
            return
        # Calls that a recording answered began when they were recorded, before this run was.
        live = self.prepared.mode == "live"
        since = datetime.fromisoformat(self.manifest["created_at"]) if live else None
        found = find_tries(ledger, self.run_id, since=since)
        known = {key_of(result) for result in self.earlier.attempts}
        waiting = {trial.slot: trial for trial in self.pending}
        lost = [(key, waiting[key[0]]) for key in sorted(found.keys() - known) if key[0] in waiting]
        if self.bench.replays:
            self.stored |= {(self._task_id(trial, key), key[1]) for key, trial in lost}
            return
        paid = [(key, trial) for key, trial in lost if key[2:4] == (trial.item.inputs_hash, trial.configuration.hash)]
        others = sum(key[4] != self.bench.fingerprint for key, _ in paid)
        if others and not self.prepared.options.allow_mixed:
            raise changed_target(self.prepared.folder, others)
        for (slot, number, *_), _ in lost:
            self.tries[slot] = max(number, self.tries.get(slot, 0))
        for key, trial in paid:
            bench = replace(self.bench, fingerprint=key[4])
            await self.journal.keep(attempt=interrupted_result(trial, key[1], bench, found[key]))

    def _task_id(self, trial: Trial, key: TryKey) -> str:
        """The task of a try in the ledger; of another item's, configuration's or target's it is none of this run's."""
        hashes = trial.item.inputs_hash, trial.configuration.hash, self.bench.fingerprint
        return ledger_task_id(self.run_id, trial, self.bench.fingerprint) if key[2:] == hashes else ""

    async def _try_all(self) -> None:
        self.runnables = await self._build()
        loop = asyncio.get_running_loop()
        # LangGraph runs nodes that block on the loop's executor: the default one has too few threads for them.
        executor = ThreadPoolExecutor(4 * self.prepared.concurrency, "finops-eval")
        loop.set_default_executor(executor)
        waiting = iter(self.pending)
        self._tell()
        try:
            with no_exits(loop):
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.prepared.concurrency, len(self.pending))):
                        group.create_task(self._work(waiting))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            # Not waited for: a node that hangs past its attempt's time limit must not keep the table from being shown.
            loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
            executor.shutdown(wait=False, cancel_futures=True)

    async def _build(self) -> dict[str, Runnable[Any, Any]]:
        """Build the target of every configuration before anything is bought."""
        built: dict[str, Runnable[Any, Any]] = {}
        needed = {trial.configuration.name: trial.configuration for trial in self.pending}
        spec = self.prepared.suite.target
        for name, configuration in needed.items():
            try:
                runnable = self.prepared.target(configuration.for_target())
                if inspect.isawaitable(runnable):
                    runnable = await runnable
            except (Exception, SystemExit) as error:
                what = f"{type(error).__name__}: {error}"
                raise EvalError(f"{spec!r} cannot be built for configuration {name!r}: {what}") from error
            if not isinstance(runnable, Runnable):
                what = f"{type(runnable).__name__}, which is no Runnable"
                raise EvalError(f"{spec!r} returned a {what}, for configuration {name!r}")
            built[name] = runnable
        return built

    async def _work(self, waiting: Iterator[Trial]) -> None:
        for trial in waiting:
            await self._slot(trial)
            self._tell()

    def _tell(self) -> None:
        self.observer(Progress(done=self.done, total=len(self.pending), errors=self.errors, known_usd=self.spent))

    async def _slot(self, trial: Trial) -> None:
        """Try a slot until it is answered, or as often as the suite allows where the infrastructure fails."""
        runnable = self.runnables[trial.configuration.name]
        before = self.played[ledger_task_id(self.run_id, trial, self.bench.fingerprint)]
        for failures in range(1, self.prepared.suite.tries + 1):
            number = self.tries[trial.slot] = self.tries.get(trial.slot, 0) + 1
            # A task of its own, whose context no other attempt sees.
            played = before + failures
            tried = await asyncio.create_task(attempt(trial, runnable, number, self.bench, played=played))
            last = not tried.try_again or failures == self.prepared.suite.tries
            kept = self._keep(tried, last=last)
            if tried.result.stop_reason == INTERRUPTED:
                await kept
                raise asyncio.CancelledError
            if last:
                await self._finish(tried)  # Judged while the disk is busy with the answer.
            await kept
            if last:
                break
            await self._pause(tried, failures)

    async def _finish(self, tried: Tried) -> None:
        self._count(tried.result)
        if tried.result.status == "completed":
            outcome = await self._judge(tried.result)
            if self.bench.trace:
                await asyncio.to_thread(_tell_langsmith, tried.handler, outcome)

    def _keep(self, tried: Tried, *, last: bool) -> "asyncio.Future[None]":
        """Put a try on disk. One that Ctrl-C ended counts as well, unless nothing was paid for it."""
        result = tried.result
        interrupted = result.stop_reason == INTERRUPTED
        self.spent = sum_usd([self.spent, result.known_usd])
        if interrupted and self.bench.replays:
            return self.journal.keep()
        stored = (result.task_id, result.try_number) in self.stored
        records = [] if stored else [*tried.held_back]
        if last and result.status != "completed" and not interrupted:
            records.append(self._outcome(result, success=False, reason=result.stop_reason))
        return self.journal.keep(attempt=result, records=records)

    async def _pause(self, tried: Tried, failures: int) -> None:
        """Wait before the next try: as long as the service asks, else 1, 2, 4 s... A replay has nothing to wait for."""
        if not self.bench.replays:
            wait_s = 2.0 ** (failures - 1) if tried.wait_s is None else tried.wait_s
            await asyncio.sleep(min(max(wait_s, 0.0), LONGEST_WAIT_S))

    def _count(self, result: AttemptResult) -> None:
        """Count a slot. Raises EvalError where so many in a row failed that going on would only record an outage."""
        self.done += 1
        self.errors += result.status == "error"
        self.outages = self.outages + 1 if result.stop_reason == "infrastructure" else 0
        if self.outages >= OUTAGE_AFTER:
            raise EvalError(
                f"stopped: {self.outages} attempts in a row ended in {_said(result)}; what was finished is kept in "
                f"{self.prepared.folder}; run again with --retry-errors when it is mended"
            )

    async def _judge(self, result: AttemptResult) -> Outcome:
        """Judge a stored answer, and put the verdicts on disk and the outcome in the ledger."""
        item = self.items[result.task]
        verdicts: list[Verdict] = []
        for scorer in self.prepared.suite.scorers:
            function = self.prepared.functions.get(scorer.name)
            if function is None:
                said = judge(scorer, result.answer, item)
            else:  # In a thread: a function of the user's may take its time, and other attempts go on.
                said = await asyncio.to_thread(judge, scorer, result.answer, item, function)
            verdicts.append(
                Verdict(
                    configuration=result.configuration,
                    task=result.task,
                    repeat=result.repeat,
                    try_number=result.try_number,
                    scorer=scorer.name,
                    success=said.success,
                    score=said.score,
                    reason=said.reason,
                    scorer_hash=self.prepared.scorer_hashes[scorer.name],
                    item_hash=item.hash,
                )
            )
        outcome = self._decided(result, verdicts)
        await self.journal.keep(verdicts=verdicts, records=[outcome])
        return outcome

    def _decided(self, result: AttemptResult, verdicts: Iterable[Verdict]) -> Outcome:
        """The outcome of a finished slot, by the verdicts on its answer, if it has one."""
        if result.status != "completed":
            return self._outcome(result, success=False, reason=result.stop_reason)
        said = list(verdicts)
        reasons = "; ".join(verdict.reason for verdict in said if verdict.reason) or None
        return self._outcome(result, success=decide(verdict.success for verdict in said), reason=reasons)

    def _outcome(self, result: AttemptResult, *, success: bool | None, reason: str | None) -> Outcome:
        """What became of the slot, for the ledger: `finops report` knows the cost of a success by it."""
        judged_by = ", ".join(scorer.name for scorer in self.prepared.suite.scorers)
        now = datetime.now(UTC)
        if reason is not None:  # It may quote half of a surrogate pair, which no ledger can keep.
            reason = reason.encode("utf-8", "replace").decode()
        return Outcome(task_id=result.task_id, success=success, reason=reason, judged_by=judged_by, at=now)


Answers = Mapping[tuple[tuple[str, str, int], int], Mapping[str, Verdict]]
"""Verdicts by slot and try, and in there by scorer."""


def _by_answer(verdicts: Iterable[Verdict]) -> Answers:
    by_answer: dict[tuple[tuple[str, str, int], int], dict[str, Verdict]] = {}
    for verdict in verdicts:  # Of a scorer's several the last one counts.
        by_answer.setdefault((verdict.slot, verdict.try_number), {})[verdict.scorer] = verdict
    return by_answer


def _unjudged(attempts: Sequence[AttemptResult], verdicts: Answers, prepared: Prepared) -> list[AttemptResult]:
    """Stored answers without a verdict of every scorer as it is now."""
    wanted = {scorer.name for scorer in prepared.suite.scorers}
    return [
        result
        for result in last_tries(attempts).values()
        if result.status == "completed" and verdicts.get((result.slot, result.try_number), {}).keys() != wanted
    ]


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
