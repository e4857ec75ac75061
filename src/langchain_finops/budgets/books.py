"""Where shares are held: a run's own balances with the run, all others on the ledger, or beside it while it fails."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Final, NamedTuple

from langchain_finops.budgets.holding import Hold, Share, Steps, amounts_of
from langchain_finops.errors import LedgerError
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, Settlement
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord

__all__ = ["Books", "Misfit", "Shadow"]

log = logging.getLogger("langchain_finops")

NOTHING: Final[Mapping[str, int]] = {}
HELD_S: Final = 3600
"""How long the ledger holds what nobody settles."""
NEVER: Final[Mapping[str, datetime]] = {}
BALANCES_KEPT: Final = 10_000
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""How long a ledger that failed is left alone: else every call of a run would wait for it."""


class Misfit(NamedTuple):
    """The outermost share that does not fit."""

    share: Share
    balance: Balance | None
    """As it stands; None: the ledger cannot say, and the budget is fail_closed."""


class Books:
    """All or none is held, and what was held is replaced by the truth or given back. Safe between threads."""

    def __init__(self, ledger: Ledger, failed: Callable[[Exception], None]) -> None:
        """`failed`: told of what no ledger should raise."""
        self.ledger = ledger
        self._failed = failed
        self._shadow = Shadow()

    # --- holding -----------------------------------------------------------------------------------------------------

    def reserve(self, hold: Hold) -> Misfit | None:
        """Hold all shares, or none; the outermost that does not fit."""
        state = hold.state
        misfit = state.reserve(hold.own) if hold.own else None
        if misfit is not None:
            return self._further_out(hold, misfit) or Misfit(misfit, state.balance(misfit.key))
        if not hold.shared:
            return None
        try:
            refused = self._reserve_shared(hold)
        except BaseException:
            state.release(hold.own)
            raise
        if refused is not None and hold.own:
            state.release(hold.own)
        return refused

    def _reserve_shared(self, hold: Hold) -> Misfit | None:
        if hold.steps is None:
            return self._on_ledger_or_beside(hold)
        with hold.steps.lock:  # Two that grow one hold at once would each add to what was before the other.
            return self._on_ledger_or_beside(hold)

    def _on_ledger_or_beside(self, hold: Hold) -> Misfit | None:
        shadow, at = self._shadow, hold.start.at
        shadow.expire(at)
        if shadow.may_ask():
            hold_id = hold.start.hold_id if hold.steps is None else hold.steps.named(hold.start.hold_id)
            try:
                answer = self.ledger.hold(hold_id, self._lines(hold), at=at, ttl_s=HELD_S)
            except LedgerError as error:
                if shadow.failed():
                    log.warning(
                        "%s. Until the ledger holds again, budgets with fail_closed=True refuse; the others go on "
                        "against their balances as they were known last.",
                        error,
                    )
            except Exception as error:  # noqa: BLE001  A fault of ours must be no open door for spending either.
                self._failed(error)
            else:
                if shadow.answered():
                    log.warning("the ledger holds again")
                return self._answered(hold, answer)
        return self._beside(hold)

    def _lines(self, hold: Hold) -> list[Line]:
        unknown, steps = self._shadow.unknown, hold.steps
        lines = []
        for share in hold.shared:
            key, cap, amount = share.key, share.cap, share.amount
            if cap is not None:
                cap -= unknown(key)
            if steps is not None:
                amount += steps.before(key)
                if cap is not None:
                    cap += steps.in_shadow.get(key, 0)  # It is in the amount, and need not fit twice.
            lines.append(Line(balance=key, amount=amount, limit=cap))
        return lines

    def _answered(self, hold: Hold, answer: HoldAnswer) -> Misfit | None:
        """What the ledger says to a hold."""
        shadow, steps = self._shadow, hold.steps
        if answer.refused is not None:
            share, balance = hold.shared[answer.refused], answer.balances[answer.refused]
            here = shadow.unknown(share.key) + (0 if steps is None else steps.held.get(share.key, 0))
            return Misfit(share, _with(balance, spent=here) if here else balance)
        for share, balance in zip(hold.shared, answer.balances, strict=True):
            before = 0 if steps is None else steps.before(share.key)
            shadow.saw(share.key, balance.spent + balance.held + before + share.amount)
        if steps is not None:
            for key, amount in amounts_of(hold.shared).items():
                steps.held[key], steps.held_at[key] = steps.before(key) + amount, hold.start.at
                shadow.add({key: -steps.in_shadow.pop(key, 0)})
        return None

    def _beside(self, hold: Hold) -> Misfit | None:
        """Hold in this process, while the ledger cannot."""
        shares, shadow = hold.shared, self._shadow
        for share in shares:
            if share.limit.budget.fail_closed and share.cap is not None:
                return Misfit(share, None)
        misfit = shadow.reserve(shares)
        if misfit is not None:
            return Misfit(misfit, shadow.balance(misfit.key))
        hold.in_shadow = True
        if hold.steps is not None:
            in_shadow = hold.steps.in_shadow
            for key, amount in amounts_of(shares).items():
                in_shadow[key] = in_shadow.get(key, 0) + amount
        return None

    def _further_out(self, hold: Hold, own: Share) -> Misfit | None:
        """The outermost shared one that does not fit either, so that the refusal names it and not the run's own."""
        shared = [share for share in hold.shares[: hold.shares.index(own)] if share in hold.shared]
        if not shared or not self._shadow.may_ask():
            return None
        try:
            balances = self.ledger.balances(*(share.key for share in shared))
        except Exception:  # noqa: BLE001  Whatever it is, the run's own budget has no room.
            return None  # Refused it is; only the name is of the inner one.
        for share, balance in zip(shared, balances, strict=True):
            unknown = self._shadow.unknown(share.key)
            taken = balance.spent + balance.held + unknown
            if share.cap is not None and taken + share.amount > share.cap:
                steps = 0 if hold.steps is None else hold.steps.held.get(share.key, 0)
                return Misfit(share, _with(balance, spent=unknown + steps, held=-steps))
        return None

    # --- the end of a hold -------------------------------------------------------------------------------------------

    def release(self, hold: Hold) -> None:
        """Give back what was held: nothing was spent."""
        if hold.own:
            hold.state.release(hold.own)
        if hold.in_shadow:
            self._shadow.release(hold.shared)
        elif hold.shared:
            self._shadow.gave_back(amounts_of(hold.shared))
            try:
                self.ledger.release(hold.start.hold_id)
            except Exception as error:  # noqa: BLE001  Whatever it is, the next call is not to pay for it.
                log.warning("a hold could not be given back, and expires by itself: %s", type(error).__name__)

    def settle(
        self,
        record: CallRecord | ChargeRecord,
        amounts: Mapping[str, int],
        hold: Hold | None,
        beside: Mapping[str, int] = NOTHING,
    ) -> dict[str, int]:
        """Write a record down, and what it takes from shared balances in place of its hold; what is spent on each.

        `beside`: what alerts count; a balance in both counts once. Durable or spilled when it returns. Raises
        LedgerError where neither was possible.
        """
        if hold is None:
            return self._settle(Settlement(record=record, amounts={**beside, **amounts}), amounts)
        settlement = Settlement(record=record, hold_id=hold.start.hold_id, amounts={**beside, **amounts})
        held = amounts_of(hold.shared)
        if hold.in_shadow:
            return self._settle(settlement, amounts, in_shadow=held)
        return self._settle(settlement, amounts, held=held, held_at=dict.fromkeys(held, hold.start.at))

    def settle_steps(self, steps: Steps, record: RunRecord, hold_id: str) -> None:
        """The same for a run that has ended, and all steps that were taken and not settled before."""
        with steps.lock:  # A step that begins meanwhile would lose its hold to this settlement.
            held, held_at, in_shadow = steps.held, steps.held_at, steps.in_shadow
            amounts = {key: steps.before(key) for key in {**held, **in_shadow}}
            if amounts:
                settlement = Settlement(record=record, hold_id=steps.named(hold_id), amounts=amounts)
                steps.clear()  # Another invocation of the run, or what goes on after it, would settle them again.
                self._settle(settlement, amounts, held=held, held_at=held_at, in_shadow=in_shadow)
                return
        self.ledger.write(record)

    def _settle(
        self,
        settlement: Settlement,
        amounts: Mapping[str, int],
        *,
        held: Mapping[str, int] = NOTHING,
        held_at: Mapping[str, datetime] = NEVER,
        in_shadow: Mapping[str, int] = NOTHING,
    ) -> dict[str, int]:
        """Replace what the ledger and the shadow hold by the truth; what is spent on each balance."""
        shadow, is_known = self._shadow, False
        try:
            settled = self.ledger.settle(settlement)
            is_known = bool(settled)
        finally:
            if not is_known:  # Spilled, or lost.
                shadow.spilled(amounts, held, held_at)
            shadow.add({key: -amount for key, amount in in_shadow.items()})
        if not is_known:
            return {key: shadow.balance(key).spent for key in amounts}
        spent = {}
        for balance in settled:
            if balance.balance in amounts:
                shadow.saw(balance.balance, balance.spent + balance.held)
                spent[balance.balance] = balance.spent
        return spent


def _with(balance: Balance, *, spent: int = 0, held: int = 0) -> Balance:
    """The same with what this process knows of: spent and spilled, or steps, which are held until their run ends."""
    return replace(balance, spent=balance.spent + spent, held=balance.held + held)


class Shadow:
    """Balances as the ledger told them last, and what this process has spent that the ledger does not know of.

    What went to the spill file counts against the limits of this process until it ends, recovered or not: counting it
    twice stops an agent too early, not counting it lets it spend what is not there. Safe between threads.
    """

    __slots__ = ("__weakref__", "_clock", "_covered", "_failing", "_lock", "_retry_at", "_seen", "_unknown", "_wait_s")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._unknown: dict[str, int] = {}
        self._covered: list[tuple[datetime, str, int]] = []  # A heap: each hold asks what has expired.
        self._failing = False
        self._retry_at = 0.0
        self._wait_s = FIRST_WAIT_S
        self._clock = clock
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """The child has a lock of its own."""
        self._lock = threading.RLock()

    # --- whether to ask the ledger -----------------------------------------------------------------------------------

    def may_ask(self) -> bool:
        """Whether the ledger is to be asked: always while it answers, now and then, by one caller, while it fails."""
        if not self._failing:
            return True
        with self._lock:
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._wait_s
            return True

    def failed(self) -> bool:
        """The ledger did not answer; True the first time in a row."""
        with self._lock:
            is_first, self._failing = not self._failing, True
            self._wait_s = FIRST_WAIT_S if is_first else min(2 * self._wait_s, LONGEST_WAIT_S)
            self._retry_at = self._clock() + self._wait_s
            return is_first

    def answered(self) -> bool:
        """The ledger did; True if it had failed before."""
        if not self._failing:
            return False
        with self._lock:
            self._failing = False
            return True

    # --- what it knows -----------------------------------------------------------------------------------------------

    def saw(self, key: str, taken: int) -> None:
        """What the ledger says is spent and held on a balance."""
        with self._lock:
            self._seen[key] = taken
            self._seen.move_to_end(key)
            if len(self._seen) > BALANCES_KEPT:
                self._seen.popitem(last=False)

    def unknown(self, key: str) -> int:
        """What this process has spent on a balance that the ledger did not learn of."""
        return self._unknown.get(key, 0) if self._unknown else 0

    def balance(self, key: str) -> Balance:
        """What stands against a budget, as far as this process knows."""
        with self._lock:
            return Balance(balance=key, spent=self._seen.get(key, 0) + self._unknown.get(key, 0))

    def reserve(self, shares: Sequence[Share]) -> Share | None:
        """Count all of these as spent, or none; the first that does not fit."""
        with self._lock:
            for share in shares:
                if share.cap is not None and self.balance(share.key).spent + share.amount > share.cap:
                    return share
            self.add(amounts_of(shares))
        return None

    def release(self, shares: Sequence[Share]) -> None:
        """Give back what was held."""
        self.add({key: -amount for key, amount in amounts_of(shares).items()})

    def spilled(self, amounts: Mapping[str, int], held: Mapping[str, int], held_at: Mapping[str, datetime]) -> None:
        """Count what the ledger learns of when somebody recovers it, if ever; until then it goes on with the hold.

        A hold given back would be lost on a second handler of the same call, and one that took less than it held must
        not make room: nobody here knows when it is recovered. So the hold stands for it until it has expired.
        """
        with self._lock:
            for key, amount in amounts.items():
                covered = min(amount, held.get(key, 0))
                self.add({key: amount - covered})
                if covered:
                    heappush(self._covered, (held_at[key] + timedelta(seconds=HELD_S), key, covered))

    def expire(self, at: datetime) -> None:
        """From now on this process counts what holds stood for that have expired by then."""
        if not self._covered:
            return
        with self._lock:
            while self._covered and self._covered[0][0] <= at:
                _, key, amount = heappop(self._covered)
                self.add({key: amount})

    def gave_back(self, held: Mapping[str, int]) -> None:
        """The ledger holds that much less than it said last."""
        with self._lock:
            for key, amount in held.items():
                if key in self._seen:
                    self._seen[key] = max(0, self._seen[key] - amount)

    def add(self, amounts: Mapping[str, int]) -> None:
        """Count what the ledger does not learn of."""
        with self._lock:
            for key, amount in amounts.items():
                unknown = self._unknown.get(key, 0) + amount
                if unknown:
                    self._unknown[key] = unknown
                else:
                    self._unknown.pop(key, None)
