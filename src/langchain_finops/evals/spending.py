"""Holds a run to its money: what is spent, what attempts in flight may spend, and whether another one may begin.

List cost is counted, of agents and judges, replays as if they had been sent.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from langchain_finops.errors import BadArguments
from langchain_finops.evals.results import INTERRUPTED, AttemptResult, Verdict
from langchain_finops.money import sum_usd

__all__ = ["Allowance", "Spending"]


@dataclass(slots=True)
class Allowance:
    """What is set aside for one try."""

    configuration: str
    usd: Decimal | None
    """None where the run's money has no limit."""
    cap_usd: Decimal | None = None
    """What the try may spend at most: all that nobody else has set aside."""


class Spending:
    """The money of a run. For one event loop.

    A try begins only where its limit in dollars fits into what is left, or without one what the dearest try of its
    configuration has cost. The first try of a configuration without a limit begins alone, with all that is left.
    """

    def __init__(self, max_usd: Decimal | None, limit_usd: Decimal | None, *, judges: bool = False) -> None:
        """`limit_usd`: of each attempt, by the suite. `judges`: whether models judge, whose cost no limit bounds."""
        self.max_usd = max_usd
        self.spent_usd = Decimal(0)
        """Of tries and judges, as far as it is known; what is unknown as the most it was let spend."""
        self.guessed = 0
        """Tries of unknown cost among them."""
        self.stopped: str | None = None
        """Why nothing more may begin, in a sentence."""
        self._limit_usd = limit_usd
        self._judges = judges
        self._held = Decimal(0)
        self._holding = 0
        self._short = 0
        """Of those that hold something, how many wait for more."""
        self._dearest: dict[str, Decimal] = {}
        self._judged: dict[str, Decimal] = {}
        self._freed = asyncio.Event()
        self._first_come = asyncio.Lock()

    def begin(self, attempts: Iterable[AttemptResult], verdicts: Iterable[Verdict]) -> None:
        """Count what earlier runs into the folder spent. Raises BadArguments where that cannot be known."""
        attempts, verdicts = list(attempts), list(verdicts)
        if self.max_usd is not None:
            _check_known(attempts, verdicts)
        judged: dict[tuple[tuple[str, str, int], int], Decimal] = {}
        for verdict in verdicts:
            if verdict.calls:
                key = verdict.slot, verdict.try_number
                judged[key] = sum_usd([judged.get(key, Decimal(0)), verdict.known_usd])
        for (slot, _), cost in judged.items():
            self._note_judged(slot[0], cost)
        self.spent_usd = sum_usd([self.spent_usd, *map(self._counted_verdict, verdicts)])
        for attempt in attempts:
            self._note(attempt.configuration, _cost(attempt))
        for attempt in attempts:  # Once the dearest is known.
            allowance = Allowance(attempt.configuration, self.need_usd(attempt.configuration) or Decimal(0))
            self.spent_usd = sum_usd([self.spent_usd, self._counted(attempt, allowance)])

    def need_usd(self, configuration: str) -> Decimal | None:
        """What another try of a configuration may cost; None where nothing is known of it."""
        judged = self._judged.get(configuration, None if self._judges else Decimal(0))
        if judged is None:  # What its judges cost is not known: the first attempt begins alone.
            return None
        usd = self._limit_usd if self._limit_usd is not None else self._dearest.get(configuration)
        return None if usd is None else sum_usd([usd, judged])

    async def reserve(self, configuration: str) -> Allowance | None:
        """Set money aside for a try, once there is room for it; None where there will be none: the run is over."""
        return await self._reserve(configuration, self.need_usd, "attempt")

    async def reserve_judging(self, configuration: str) -> Allowance | None:
        """Set money aside for judging an answer that is on file; None where there will be none: the run is over."""
        return await self._reserve(configuration, self._judged.get, "verdict")

    async def _reserve(
        self, configuration: str, need_usd: Callable[[str], Decimal | None], what: str
    ) -> Allowance | None:
        if self.max_usd is None:
            return Allowance(configuration, None)
        async with self._first_come:  # Without it one that must begin alone would wait until all others are through.
            while self.stopped is None:
                left = self.max_usd - self.spent_usd - self._held
                need = need_usd(configuration)
                if left > 0 and (not self._holding if need is None else need <= left):
                    return self._hold(configuration, left if need is None else need, cap=left)
                if not self._holding:
                    self.stop(self._broke(configuration, need, what))
                    break
                self._freed.clear()
                await self._freed.wait()
        return None

    def own_usd(self, allowance: Allowance, *spent: Decimal) -> Decimal | None:
        """What of the allowance is left for a judge; None without a maximum."""
        if self.max_usd is None or allowance.usd is None:
            return None
        return allowance.usd - sum_usd(spent)

    async def extend(self, allowance: Allowance) -> bool:
        """Set aside all that nobody else has, for a judge that needs more; False where nothing is left."""
        assert self.max_usd is not None, "without a maximum nobody needs more"
        assert allowance.usd is not None, "without a maximum nobody needs more"
        while self.stopped is None:
            left = self.max_usd - self.spent_usd - self._held
            if left > 0:
                self._held += left
                allowance.usd += left
                return True
            if self._holding - self._short <= 1:  # All others wait for more as well: nobody would ever free any.
                return False
            self._short += 1
            self._freed.clear()
            try:
                await self._freed.wait()
            finally:
                self._short -= 1
        return False

    def shrink(self, allowance: Allowance, to_usd: Decimal | None) -> None:
        """Give back what was set aside beyond this."""
        if allowance.usd is not None and to_usd is not None and allowance.usd > to_usd:
            self._held -= allowance.usd - to_usd
            allowance.usd = to_usd
            self._freed.set()

    def _hold(self, configuration: str, usd: Decimal, *, cap: Decimal) -> Allowance:
        self._held += usd
        self._holding += 1
        return Allowance(configuration, usd, None if self._limit_usd is not None else cap)

    def settle(self, allowance: Allowance, result: AttemptResult | None, verdicts: Iterable[Verdict] = ()) -> None:
        """Put in place of what was set aside what a try and its judges have cost."""
        self._free(allowance)
        if result is None:
            return
        self.spent_usd = sum_usd([self.spent_usd, self._counted(result, allowance)])
        self._note(result.configuration, _cost(result))
        self._count_judges(allowance, list(verdicts))
        if allowance.usd is not None and result.cost_usd is None and not result.in_the_dark:
            self._stop_unpriced("the agent's", result.configuration, result.task)

    def settle_judging(self, allowance: Allowance, verdicts: Iterable[Verdict]) -> None:
        """Put in place of what was set aside what judging an answer that was on file has cost."""
        self._free(allowance)
        self._count_judges(allowance, list(verdicts))

    def _free(self, allowance: Allowance) -> None:
        if allowance.usd is not None:
            self._held -= allowance.usd
            self._holding -= 1
            self._freed.set()

    def _count_judges(self, allowance: Allowance, verdicts: Sequence[Verdict]) -> None:
        asked = [verdict for verdict in verdicts if verdict.calls]
        if asked:
            self._note_judged(allowance.configuration, sum_usd([verdict.known_usd for verdict in asked]))
        self.spent_usd = sum_usd([self.spent_usd, *map(self._counted_verdict, verdicts)])
        unknown = [verdict for verdict in verdicts if verdict.cost_usd is None and verdict.stop_reason != INTERRUPTED]
        if allowance.usd is not None and unknown:
            self._stop_unpriced("a judge's", allowance.configuration, unknown[0].task)

    def _stop_unpriced(self, whose: str, configuration: str, task: str) -> None:
        self.stop(
            f"the price of {whose} calls for configuration {configuration!r}, task {task!r} is not "
            "known, so that no maximum can be held: add a price card to the suite, or run without --max-usd"
        )

    def stop(self, why: str) -> None:
        """Let nothing more begin."""
        self.stopped = self.stopped or why
        self._freed.set()

    def _counted(self, result: AttemptResult, allowance: Allowance) -> Decimal:
        """A try's cost; where it is not known, what was set aside for it, if that is more than the known part."""
        cost = _cost(result)
        if result.cost_usd is not None and result.overhead_usd is not None:
            return cost
        self.guessed += 1
        return max(cost, allowance.usd or Decimal(0))

    def _counted_verdict(self, verdict: Verdict) -> Decimal:
        """A verdict's cost; where it is not known, what the dearest of its configuration's cost, if that is more."""
        if verdict.cost_usd is not None:
            return verdict.cost_usd
        self.guessed += 1
        return max(verdict.known_usd, self._judged.get(verdict.configuration, Decimal(0)))

    def _note(self, configuration: str, usd: Decimal) -> None:
        self._dearest[configuration] = max(usd, self._dearest.get(configuration, Decimal(0)))

    def _note_judged(self, configuration: str, usd: Decimal) -> None:
        self._judged[configuration] = max(usd, self._judged.get(configuration, Decimal(0)))

    def _broke(self, configuration: str, need: Decimal | None, what: str) -> str:
        at_most = "" if need is None else f", and the next {what}, of {configuration!r}, may cost {_dollars(need)}"
        spent, most = _dollars(self.spent_usd), _dollars(self.max_usd or Decimal(0))
        return f"{spent} of at most {most} are spent{at_most}: run again with a higher --max-usd"


def _dollars(amount: Decimal) -> str:
    return f"${amount.normalize():f}"


def _cost(result: AttemptResult) -> Decimal:
    """What a try cost as far as it is known, with what is metered apart."""
    return sum_usd([result.known_usd, result.overhead_usd or Decimal(0)])


def _check_known(attempts: list[AttemptResult], verdicts: list[Verdict]) -> None:
    unknown = sum(attempt.cost_usd is None and not attempt.in_the_dark for attempt in attempts)
    unknown += sum(verdict.cost_usd is None and verdict.stop_reason != INTERRUPTED for verdict in verdicts)
    if unknown:
        raise BadArguments(
            f"--max-usd cannot be held: {unknown} stored attempts or verdicts are of unknown price; add price cards to "
            "the suite, or run without it"
        )
