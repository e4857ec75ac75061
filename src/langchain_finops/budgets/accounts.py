"""What limits there are, and what runs, calls and charges come to on them once they have ended."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from langchain_finops.budgets import wording
from langchain_finops.budgets.alerts import AlertBook, BurnRateAlert, Watched
from langchain_finops.budgets.books import Books
from langchain_finops.budgets.carrying import OVERSPEND, carry_over, spent_before, told
from langchain_finops.budgets.checks import ON_EXCEED, Decide
from langchain_finops.budgets.holding import Counted, Estimate, Hold, Share, balances_of, steps_id, taken_from
from langchain_finops.budgets.keys import breadth
from langchain_finops.budgets.notify import Target
from langchain_finops.budgets.policy_file import Policies
from langchain_finops.budgets.refusal import OnExceed, Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.budgets.switch import change_event
from langchain_finops.budgets.units import Unit, say
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.in_time import in_time
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord

__all__ = ["MEASURED", "Accounts", "Notices", "decided"]

log = logging.getLogger("langchain_finops")

MEASURED: Final[frozenset[Unit]] = frozenset({"usd", "tokens"})
"""Units in which a strict budget holds bounds."""

KEPT: Final = 10_000
"""Things said that are remembered; a window's balance has its start in its key, so that each window is told of."""
Written = TypeVar("Written", CallRecord, ChargeRecord)


class Accounts:
    """Settles what was held, counts what was not, and lets alerts look at it. Safe between threads."""

    def __init__(self, ledger: Ledger, failed: Callable[[Exception], None] | None = None) -> None:
        """`failed`: told of faults that are met where nobody waits."""
        self.ledger = ledger
        self._failed = failed or _log_fault
        self.books, self.notices = Books(ledger, self._failed), Notices()
        self.limits: tuple[Counted, ...] = ()
        self.walls: tuple[Counted, ...] = ()
        """Limits on the time of a run, which passes without anybody taking it."""
        self.own: tuple[Counted, ...] = ()
        """Those of the limits whose balances are of one run each."""
        self._alerts: tuple[BurnRateAlert, ...] = ()
        self._targets: tuple[Target, ...] = ()
        self._alert_book: AlertBook | None = None

    def take_up(self, policies: Policies) -> None:
        """From now on these limits and alerts count; outermost first."""
        counted = [Counted.of(limit) for budget in sorted(policies.budgets, key=breadth) for limit in budget.limits()]
        self.limits = tuple(each for each in counted if not each.is_wall)
        self.walls = tuple(each for each in counted if each.is_wall)
        self.own = tuple(each for each in self.limits if each.is_own)
        self._alerts, self._targets = policies.alerts, policies.notify
        if self._alerts and self._alert_book is None:
            book = AlertBook(self.ledger, lambda: self._alerts, lambda: self._targets, failed=self._failed)
            self._alert_book = book

    def settle(self, hold: Hold, record: Written, taken: Estimate) -> Written:
        """Write a record down and replace its hold by the truth; the record as it was written.

        A call that took more than the bound that a strict budget held for it ends the run, unless that only warns.
        Raises LedgerError where the record could not be kept; the run's own balances are settled all the same.
        """
        state = hold.state
        spent = state.settle(hold.own, taken_from(hold.own, taken)) if hold.own else {}
        above = [share for share in hold.shares if _is_above_bound(share, taken)]
        if above and isinstance(record, CallRecord):
            record = replace(record, reasons=(*record.reasons, OVERSPEND))
        watched = self._watched(record, state.run_id, hold.start.at)
        beside = _counted(watched, taken, None)
        try:
            if hold.shared or beside:
                spent |= self.books.settle(record, taken_from(hold.shared, taken), hold, beside)
            else:
                self.ledger.write(record)
            self._look(watched)
        finally:
            for share in hold.shares:
                if share.key in spent:
                    self.notices.settled(share, spent[share.key], taken.of(share.limit.unit))
            for share in above:
                amount = taken.of(share.limit.unit) or 0
                refusal = wording.overspent(state.run_id, share, hold.start.who, amount, spent.get(share.key, amount))
                if decided(share.limit.budget.on_exceed, refusal) != "warn":
                    self._ended_by(state, refusal)
                    break
                if state.first_time(f"overspend {share.counted.name}"):
                    log.warning("%s The run goes on, because on_exceed is warn.", refusal.reason)
        return record

    def _ended_by(self, state: RunState, refusal: Refusal) -> None:
        """End the run, in this process and wherever it is resumed."""
        log.warning("%s The run ends here.", refusal.reason)
        state.end(refusal)
        at, reason = datetime.now(UTC), refusal.reason
        event = change_event(OVERSPEND, state.run_id, by="guard", at=at, reason=reason, after=told(refusal))
        self.ledger.write(event)

    def count(
        self,
        record: CallRecord | ChargeRecord,
        taken: Estimate,
        state: RunState | None,
        *,
        before: Estimate | None = None,
    ) -> None:
        """Write down what was never held, such as a charge, or a record in place of one that counted for `before`."""
        at = record.started_at if isinstance(record, CallRecord) else record.at
        amounts: dict[str, int] = {}
        own: dict[str, int] = {}
        limits = [each for each in self.limits if state is not None or not each.is_own]
        run_id = state.run_id if state is not None else record.run_id or ""
        for each, key in balances_of(limits, record.attribution, at, run_id=run_id):
            amount = _added(each.limit.unit, taken, before)
            if amount:
                (own if each.is_own else amounts)[key] = amount
        if state is not None:
            state.seed(own)
        watched = self._watched(record, record.run_id if state is None else state.run_id, at)
        beside = _counted(watched, taken, before)
        if amounts or beside:
            self.books.settle(record, amounts, None, beside)
        else:
            self.ledger.write(record)
        self._look(watched)

    # --- alerts ------------------------------------------------------------------------------------------------------

    @property
    def watches(self) -> bool:
        """Whether alerts count what nothing is held for."""
        return bool(self._alerts)

    def _watched(self, record: CallRecord | ChargeRecord, run_id: str | None, at: datetime) -> Sequence[Watched]:
        book = self._alert_book
        return () if book is None else book.watched(record.attribution, at, run_id=run_id or "")

    def _look(self, watched: Sequence[Watched]) -> None:
        if watched and self._alert_book is not None:
            self._alert_book.look(watched)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everybody is told of what set an alert off; False if `timeout` seconds passed first."""
        return self._alert_book is None or self._alert_book.flush(timeout)

    def close_run(self, state: RunState, record: RunRecord) -> None:
        """Write down how a run ended, and settle the steps that it took from shared balances."""
        self.books.settle_steps(state.steps, record, steps_id(state.invocation_id))

    def carry_over(self, state: RunState, taken_by: Callable[[CallRecord], Estimate]) -> None:
        """Give a run that is resumed what its earlier invocations spent, took and were allowed."""
        state.limits = self.own
        carry_over(state, (*self.own, *self.walls), self.ledger, taken_by)

    def catch_up(self, state: RunState, taken_by: Callable[[CallRecord], Estimate]) -> None:
        """Count what a run has spent so far on limits that were set while it went on."""
        with state.catching_up:  # What starts meanwhile on another thread would find nothing spent.
            limits = self.own
            new = [] if state.limits is limits else state.uncounted(limits)
            try:
                if new:
                    with in_time():
                        runs = list(self.ledger.runs(history=True, run_id=state.run_id))
                        state.seed(spent_before(state, new, runs, self.ledger, taken_by), anew=True)
            finally:
                state.limits = limits

    def begin_blind(self, state: RunState) -> None:
        """Begin a run that is resumed without what it spent before: with a budget that is fail_closed, not at all."""
        for each in (*self.own, *self.walls):
            if each.limit.budget.fail_closed:
                state.end(wording.unknown_past(state.run_id, each.label))
                return


class Notices:
    """What is said of a balance once: that a share of the limit is spent, and that more than the limit was.

    Safe between threads.
    """

    def __init__(self) -> None:
        self._said: OrderedDict[str, None] = OrderedDict()
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """The child has a lock of its own."""
        self._lock = threading.RLock()

    def first_time(self, what: str) -> bool:
        """True for exactly one caller."""
        if what in self._said:
            return False
        with self._lock:
            if what in self._said:
                return False
            self._said[what] = None
            if len(self._said) > KEPT:
                self._said.popitem(last=False)
            return True

    def settled(self, share: Share, spent: int, taken: int | None) -> None:
        """Tell of what is spent after a settlement of `taken`, if it is worth a word."""
        limit = share.limit
        cap = limit.amount if share.cap is None else share.cap
        self.spent(share.counted, share.key, spent, cap)
        passed = share.cap is not None and spent > cap and taken is not None and taken > share.amount
        if passed and self.first_time(f"over {share.label} {share.key}"):
            unit = limit.unit
            log.warning(
                "budget %r (%s): %s spent of %s, which is %s too much: calls in flight took more than was expected. "
                "admission='strict' holds bounds instead.",
                share.label,
                share.key,
                say(unit, spent),
                say(unit, cap),
                say(unit, spent - cap),
            )

    def spent(self, counted: Counted, key: str, spent: int, cap: int) -> None:
        """Tell of the shares of a limit at which its budget warns."""
        for share, amount in counted.warnings:
            if spent < amount:
                return
            if self.first_time(f"{share} {counted.label} {key}"):
                unit = counted.limit.unit
                log.warning(
                    "budget %r (%s): %s spent of %s, past %s of it",
                    counted.label,
                    key,
                    say(unit, spent),
                    say(unit, cap),
                    f"{share:.0%}",
                )


def decided(on_exceed: OnExceed | Decide, refusal: Refusal) -> OnExceed:
    """What is to become of a refusal. A user's function that fails, or says none of the four words, lets it stand."""
    if isinstance(on_exceed, str):
        return on_exceed
    try:
        word = on_exceed(refusal)
    except Exception as error:  # noqa: BLE001  The user's own code.
        log.warning("on_exceed of %r failed with %s: refused", refusal.budget, type(error).__name__)
        return "raise"
    if word not in ON_EXCEED:
        log.warning("on_exceed of %r said %r, which is none of %s: refused", refusal.budget, word, ", ".join(ON_EXCEED))
        return "raise"
    return word


def _is_above_bound(share: Share, taken: Estimate) -> bool:
    limit, amount = share.limit, taken.of(share.limit.unit)
    is_bound = limit.budget.admission == "strict" and limit.unit in MEASURED and share.cap is not None
    return is_bound and amount is not None and amount > share.amount


def _added(unit: Unit, taken: Estimate, before: Estimate | None) -> int:
    """What a record adds in a unit to what the one before it counted for."""
    amount = taken.of(unit)
    if amount is None or before is None:
        return amount or 0
    # Where nobody knew, what was held was counted, and nobody knows any more what that was.
    counted = before.of(unit)
    return 0 if counted is None else amount - counted


def _counted(watched: Sequence[Watched], taken: Estimate, before: Estimate | None) -> dict[str, int]:
    """What alerts count: on each balance once, whoever else counts on it."""
    amounts = ((each, _added(each.limit.unit, taken, before)) for each in watched)
    return {key: amount for each, amount in amounts if amount for key in each.keys}


def _log_fault(error: Exception) -> None:
    log.error("a guard met a fault that nobody foresaw: %s", type(error).__name__)
