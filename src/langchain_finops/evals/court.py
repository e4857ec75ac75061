"""Judges answers: each verdict on disk as soon as it is known, judges asked at a provider's pace, on the run's money.

Scorers that ask nobody come first, so that an answer's judges are the last thing that can fail.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from langchain_finops.errors import EvalError
from langchain_finops.evals.attempt import Bench
from langchain_finops.evals.backoff import LONGEST_WAIT_S, Throttle
from langchain_finops.evals.costs import total_usd
from langchain_finops.evals.journal import Journal
from langchain_finops.evals.judge_prompts import prompt_hash
from langchain_finops.evals.judging import Heard, ask
from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import INTERRUPTED, MAX_USD, AttemptResult, JudgingKey, Verdict, read_asked
from langchain_finops.evals.scorers import Judgement, Scorer, judge
from langchain_finops.evals.spending import Allowance, Spending
from langchain_finops.evals.stock import Priced
from langchain_finops.evals.verdicts import Answers, decided, final, spoken
from langchain_finops.records import CallRecord

__all__ = ["Court"]

NO_MONEY = "the run's money does not suffice for the judge"

OUTAGE_AFTER = 10
"""So many verdicts in a row whose judge could not be reached end the run: they would only record an outage."""


class Court:
    """All scorers of a run. For one event loop."""

    def __init__(
        self,
        prepared: Prepared,
        bench: Bench,
        journal: Journal,
        *,
        spending: Spending,
        throttle: Throttle,
        known: Answers,
        spent: Callable[[str, Decimal], None],
    ) -> None:
        """`known`: verdicts on file. `spent` is told of each verdict's cost."""
        self.prepared, self.bench, self.journal = prepared, bench, journal
        self.spending, self.throttle, self.known, self.spent = spending, throttle, known, spent
        self.stored: set[JudgingKey] = set()
        """What a replay wrote to the ledger before a crash kept its verdict from being written."""
        self.counted: dict[JudgingKey, set[datetime]] = {}
        """When calls began that a crash has kept from their verdicts: a recording serves them once more."""
        self._outages = 0

    def needs_money(self, result: AttemptResult) -> bool:
        """Whether a judge is still to be asked about an answer."""
        done = final(self.known, result, self.prepared)
        return any(scorer.judge is not None and scorer.name not in done for scorer in self.prepared.suite.scorers)

    async def judge(self, result: AttemptResult, allowance: Allowance, tried_usd: Decimal) -> Sequence[Verdict]:
        """Have an answer judged by every scorer that has not, put the verdicts on disk and the outcome in the ledger.

        `tried_usd`: what of the allowance the try itself has cost. Returns the new verdicts.
        """
        done = final(self.known, result, self.prepared)
        waiting = [scorer for scorer in self.prepared.suite.scorers if scorer.name not in done]
        free = [await self._free(scorer, result) for scorer in waiting if scorer.judge is None]
        bought: list[Verdict] = []
        for scorer in waiting:
            if scorer.judge is not None:
                left = self.spending.left_usd(allowance, tried_usd, *(verdict.known_usd for verdict in bought))
                bought.append(await self._buy(scorer, result, left))
        new = [*free, *bought]
        outcome = decided(result, [*done.values(), *new], self.prepared)
        await self.journal.keep(verdicts=free, records=[outcome])
        return new

    async def _free(self, scorer: Scorer, result: AttemptResult) -> Verdict:
        item, function = self.prepared.items[result.task], self.prepared.functions.get(scorer.name)
        if function is None and scorer.type != "regex":
            said = judge(scorer, result.answer, item)
        else:  # In a thread: a function of the user's or a pattern may take its time, and other attempts go on.
            said = await asyncio.to_thread(judge, scorer, result.answer, item, function)
        return spoken(scorer, result, said, self.prepared)

    async def _buy(self, scorer: Scorer, result: AttemptResult, left: Decimal | None) -> Verdict:
        """Ask a judge until it says something, or as often as the suite allows where it cannot be reached."""
        most = self.prepared.suite.tries
        heard: list[Heard] = []
        key = (result.slot, result.try_number, scorer.name)
        if not self.bench.replays:
            await self.journal.ask(key)
        for failures in range(1, most + 1):
            spent = total_usd(record.cost_usd for one in heard for record in one.priced)[1]
            cap = None if left is None else left - spent
            if cap is not None and cap <= 0:
                heard.append(Heard(judgement=Judgement(success=None, reason=NO_MONEY), stop_reason=MAX_USD))
                self.spending.stop("the run's money is used up before all answers are judged")
                break
            one = await self._ask(scorer, result, failures, cap)
            heard.append(one)
            if one.out_of_money is not None:
                self.spending.stop(one.out_of_money)
            if not one.try_again or failures == most:
                break
            await self._pause(one, failures)
        verdict = self._verdict(scorer, result, heard)
        self.spent(result.configuration, verdict.known_usd)
        records = [record for one in heard for record in one.held_back]
        await self.journal.keep(verdicts=[verdict], records=[] if key in self.stored else records)
        self._count(verdict)
        if verdict.stop_reason == INTERRUPTED:
            raise asyncio.CancelledError
        return verdict

    async def _ask(self, scorer: Scorer, result: AttemptResult, played: int, cap: Decimal | None) -> Heard:
        model, item = self.prepared.judges[scorer.name], self.prepared.items[result.task]
        counted = self.counted.get((result.slot, result.try_number, scorer.name), ())
        doing = ask(scorer, model, result, item, self.bench, played=played, cap_usd=cap, counted=counted)
        if self.bench.replays:
            return await asyncio.create_task(doing)
        who = f"judge {scorer.name}"
        paces = await self.throttle.enter(who)
        try:
            heard = await asyncio.create_task(doing)
        finally:
            self.throttle.leave(paces)
        self.throttle.met(who, heard.providers)
        for provider in heard.overloaded:
            self.throttle.refused(provider, heard.wait_s)
        self.throttle.answered(heard.providers - heard.overloaded)
        return heard

    async def _pause(self, heard: Heard, failures: int) -> None:
        if not self.bench.replays and not heard.overloaded:
            wait_s = 2.0 ** (failures - 1) if heard.wait_s is None else heard.wait_s
            await self.throttle.sleep(min(max(wait_s, 0.0), LONGEST_WAIT_S))

    def _verdict(self, scorer: Scorer, result: AttemptResult, heard: Sequence[Heard]) -> Verdict:
        last = heard[-1]
        priced = [record for one in heard for record in one.priced]
        asked = costs_of(priced, in_the_dark=any(one.in_the_dark for one in heard))
        assert scorer.judge is not None, "others are asked for free"
        asked |= {"prompt_hash": prompt_hash(scorer.judge), "stop_reason": last.stop_reason}
        return spoken(scorer, result, last.judgement, self.prepared, **asked)

    def _count(self, verdict: Verdict) -> None:
        self._outages = self._outages + 1 if verdict.stop_reason == "infrastructure" else 0
        if self._outages >= OUTAGE_AFTER:
            raise EvalError(
                f"stopped: scorer {verdict.scorer!r} has had no answer {self._outages} times in a row, the last time "
                f"because {verdict.reason}; what was finished is kept in {self.prepared.folder}; run again with "
                "--retry-errors when it is mended"
            )

    async def take_stock(
        self, paid: Mapping[JudgingKey, Sequence[Priced]], on_file: Sequence[Verdict]
    ) -> list[Verdict]:
        """Count what judges were paid for verdicts that a crash has lost; the answers are judged again.

        A replay paid nothing: its calls are not written to the ledger a second time.
        """
        counted: Counter[JudgingKey] = Counter()
        answered: Counter[JudgingKey] = Counter()
        for verdict in on_file:
            key = (verdict.slot, verdict.try_number, verdict.scorer)
            counted[key] += verdict.calls
            answered[key] += 1
        asked = read_asked(self.prepared.folder)
        lost: list[Verdict] = []
        for key in sorted({*paid, *asked}):
            calls = [record for record in paid.get(key, ()) if isinstance(record, CallRecord)][counted[key] :]
            if self.bench.replays:
                self.stored |= {key} if calls else set()
            elif calls or asked[key] > answered[key]:
                # One that was killed may have had a call in flight, of which no record tells.
                lost.append(self._lost(key, calls, in_the_dark=asked[key] > answered[key]))
                self.counted[key] = {call.started_at for call in calls}
        if lost:
            await self.journal.keep(verdicts=lost)
        return lost

    def _lost(self, key: JudgingKey, calls: Sequence[CallRecord], *, in_the_dark: bool) -> Verdict:
        (configuration, task, repeat), number, scorer = key
        item = self.prepared.items.get(task)
        return Verdict(
            configuration=configuration,
            task=task,
            repeat=repeat,
            try_number=number,
            scorer=scorer,
            success=None,
            reason="a crash ended the judging",
            stop_reason=INTERRUPTED,
            scorer_hash=self.prepared.scorer_hashes.get(scorer, ""),
            item_hash="" if item is None else item.hash,
            **costs_of(calls, in_the_dark=in_the_dark),
        )


def costs_of(priced: Sequence[Priced], *, in_the_dark: bool = False) -> dict[str, Any]:
    """What judging has cost, as a verdict's fields."""
    whole, known = total_usd(record.cost_usd for record in priced)
    calls = [record for record in priced if isinstance(record, CallRecord)]
    answered = [call for call in calls if call.error is None]
    return {
        "cost_usd": None if in_the_dark else whole,
        "known_usd": known,
        "calls": len(calls),
        "model": (answered or calls)[-1].model if calls else None,
    }
