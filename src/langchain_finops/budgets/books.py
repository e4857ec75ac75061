"""Where shares are held: a run's own balances with the run, all others on the ledger, or beside it while it fails."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from langchain_finops.budgets.holding import Hold, Share, amounts_of
from langchain_finops.budgets.shadow import Shadow
from langchain_finops.errors import LedgerError
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Balance, Line, Settlement
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["Books", "Misfit"]

log = logging.getLogger("langchain_finops")

NOTHING: Final[Mapping[str, int]] = {}


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
        shares, shadow = hold.shared, self._shadow
        if shadow.may_ask():
            try:
                answer = self.ledger.hold(hold.start.hold_id, self._lines(shares), at=hold.start.at)
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
                if answer.refused is not None:
                    return Misfit(shares[answer.refused], answer.balances[answer.refused])
                for share, balance in zip(shares, answer.balances, strict=True):
                    shadow.saw(share.key, balance.spent + balance.held + share.amount)
                return None
        for share in shares:
            if share.limit.budget.fail_closed and share.cap is not None:
                return Misfit(share, None)
        misfit = shadow.reserve(shares)
        hold.in_shadow = misfit is None
        return None if misfit is None else Misfit(misfit, shadow.balance(misfit.key))

    def _lines(self, shares: Sequence[Share]) -> list[Line]:
        unknown = self._shadow.unknown
        return [
            Line(
                balance=share.key,
                amount=share.amount,
                limit=None if share.cap is None else share.cap - unknown(share.key),
            )
            for share in shares
        ]

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
            taken = balance.spent + balance.held + self._shadow.unknown(share.key)
            if share.cap is not None and taken + share.amount > share.cap:
                return Misfit(share, balance)
        return None

    def release(self, hold: Hold) -> None:
        """Give back what was held: nothing was spent."""
        if hold.own:
            hold.state.release(hold.own)
        if hold.in_shadow:
            self._shadow.release(hold.shared)
        elif hold.shared:
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
        if hold is not None and hold.in_shadow:
            self._shadow.release(hold.shared)
        hold_id = None if hold is None else hold.start.hold_id
        try:
            all_amounts = {**beside, **amounts} if beside else amounts
            settled = self.ledger.settle(Settlement(record=record, hold_id=hold_id, amounts=all_amounts))
        except Exception:
            self._shadow.add(amounts)
            raise
        if settled:
            balances = [balance for balance in settled if balance.balance in amounts] if beside else settled
            for balance in balances:
                self._shadow.saw(balance.balance, balance.spent + balance.held)
            return {balance.balance: balance.spent for balance in balances}
        held = {} if hold is None or hold.in_shadow else amounts_of(hold.shared)
        # Spilled: the ledger goes on holding the estimate, until somebody recovers it.
        self._shadow.add({key: amount - held.get(key, 0) for key, amount in amounts.items()})
        return {key: self._shadow.balance(key).spent for key in amounts}
