"""Judges answers: each verdict on disk as soon as it is known, judges asked at a provider's pace, on the run's money.

Scorers that ask nobody come first, so that an answer's judges are the last thing that can fail.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

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
from langchain_finops.money import sum_usd
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
        self.stored: dict[JudgingKey, str] = {}
        """What a replay wrote to the ledger before a crash kept its verdict from being written: the time of asking."""
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
                spent = sum_usd([tried_usd, *(verdict.known_usd for verdict in bought)])
                bought.append(await self._buy(scorer, result, allowance, spent))
        new = [*free, *bought]
        outcome = decided(result, [*done.values(), *new], self.prepared)
        await self.journal.keep(verdicts=free, records=[outcome])
        return new

    async def _free(self, scorer: Scorer, result: AttemptResult) -> Verdict:
        item, function = self.prepared.items[result.task], self.prepared.functions.get(scorer.name)
        if function is None and scorer.type != "regex":
            said = judge(scorer, result.answer, item)
        else:  # In a thread: a function of the user's or a pattern may take its time, and other attempts go on.
            loop = asyncio.get_running_loop()
            said = await asyncio.to_thread(judge, scorer, result.answer, item, function, loop)
        return spoken(scorer, result, said, self.prepared)

    async def _buy(self, scorer: Scorer, result: AttemptResult, allowance: Allowance, spent: Decimal) -> Verdict:
        """Ask a judge until it says something, or as often as the suite allows where it cannot be reached."""
        most = self.prepared.suite.tries
        heard: list[Heard] = []
        any_time = self._key(scorer, result)
        stored = self.stored.get(any_time)
        key = any_time._replace(judging_id=stored or uuid4().hex)
        if not self.bench.replays:
            await self.journal.ask(key)
        for failures in range(1, most + 1):
            paid = total_usd(record.cost_usd for one in heard for record in one.priced)[1]
            asking = partial(self._ask, scorer, result, key, failures)
            one = await self._within(allowance, sum_usd([spent, paid]), asking)
            heard.append(one)
            if one.out_of_money is not None:
                self.spending.stop(one.out_of_money)
            if not one.try_again or failures == most:
                break
            await self._pause(one, failures)
        verdict = self._verdict(scorer, result, heard, key)
        self.spent(result.configuration, verdict.known_usd)
        records = [record for one in heard for record in one.held_back]
        await self.journal.keep(verdicts=[verdict], records=[] if stored else records)
        self._count(verdict)
        if verdict.stop_reason == INTERRUPTED:
            raise asyncio.CancelledError
        return verdict

    def _key(self, scorer: Scorer, result: AttemptResult) -> JudgingKey:
        scorer_hash, item_hash = self.prepared.scorer_hashes[scorer.name], self.prepared.items[result.task].hash
        return JudgingKey(result.slot, result.try_number, scorer.name, scorer_hash, item_hash)

    async def _within(
        self, allowance: Allowance, spent: Decimal, ask_with: Callable[[Decimal | None], Awaitable[Heard]]
    ) -> Heard:
        """Ask with what was set aside for the try; where that is refused as too little, with all that nobody else has.

        The call that is refused was not sent, but a judge may have paid for others before it: they count.
        """
        before = allowance.usd
        cap = self.spending.own_usd(allowance, spent)
        heard = None if cap is not None and cap <= 0 else await ask_with(cap)
        if heard is not None and heard.stop_reason != MAX_USD:
            return heard
        if not await self.spending.extend(allowance):
            why = "the run's money is used up before all answers are judged"
            nothing = Heard(judgement=Judgement(success=None, reason=NO_MONEY), stop_reason=MAX_USD, out_of_money=why)
            return heard or nothing
        paid = () if heard is None else heard.priced
        spent = sum_usd([spent, total_usd(record.cost_usd for record in paid)[1]])
        try:
            again = await ask_with(self.spending.own_usd(allowance, spent))
        finally:
            self.spending.shrink(allowance, before)
        return again if heard is None or not paid else again.after(heard)

    async def _ask(
        self, scorer: Scorer, result: AttemptResult, key: JudgingKey, played: int, cap: Decimal | None
    ) -> Heard:
        model, item = self.prepared.judges[scorer.name], self.prepared.items[result.task]
        counted = self.counted.get(key._replace(judging_id=""), ())
        doing = ask(scorer, model, result, item, self.bench, key=key, played=played, cap_usd=cap, counted=counted)
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

    def _verdict(self, scorer: Scorer, result: AttemptResult, heard: Sequence[Heard], key: JudgingKey) -> Verdict:
        last = heard[-1]
        priced = [record for one in heard for record in one.priced]
        asked = costs_of(priced, in_the_dark=any(one.in_the_dark for one in heard))
        assert scorer.judge is not None, "others are asked for free"
        asked |= {"prompt_hash": prompt_hash(scorer.judge), "stop_reason": last.stop_reason}
        asked |= {"judging_id": key.judging_id}
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
        answered = {verdict.judging_id for verdict in on_file}
        asked = read_asked(self.prepared.folder)
        lost: list[Verdict] = []
        for key in sorted({*paid, *asked}):
            if key.judging_id in answered:
                continue
            calls = [record for record in paid.get(key, ()) if isinstance(record, CallRecord)]
            any_time = key._replace(judging_id="")
            if key not in asked and all(call.billing_mode == "replay" for call in calls):
                self.stored[any_time] = key.judging_id
                continue
            self.counted.setdefault(any_time, set()).update(call.started_at for call in calls)
            # One that was killed may have had a call in flight, of which no record tells.
            lost.append(_lost(key, costs_of(calls, in_the_dark=True)))
        if lost:
            await self.journal.keep(verdicts=lost)
        return lost


def _lost(key: JudgingKey, costs: Mapping[str, Any]) -> Verdict:
    configuration, task, repeat = key.slot
    return Verdict(
        configuration=configuration,
        task=task,
        repeat=repeat,
        try_number=key.try_number,
        scorer=key.scorer,
        success=None,
        reason="a crash ended the judging",
        stop_reason=INTERRUPTED,
        scorer_hash=key.scorer_hash,
        item_hash=key.item_hash,
        judging_id=key.judging_id,
        **costs,
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
