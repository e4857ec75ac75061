"""How long an answer may be for all budgets to have room for it: what a request's own maximum is best set to."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Final

from langchain_finops.budgets.accounts import MEASURED, Accounts
from langchain_finops.budgets.estimate import Past
from langchain_finops.budgets.holding import balances_of
from langchain_finops.budgets.policy import Limit
from langchain_finops.budgets.run_state import RunState
from langchain_finops.errors import LedgerError
from langchain_finops.meter.asking import AskedPrices, CallEstimates
from langchain_finops.meter.calls import OpenCall
from langchain_finops.records import Attribution

__all__ = ["affordable_output_tokens", "share_left"]

LONGEST: Final = 1 << 20
"""Output tokens beyond which no bound is of use: no model answers at such length."""


def affordable_output_tokens(
    accounts: Accounts,
    call: OpenCall,
    state: RunState,
    *,
    prices: AskedPrices,
    past: Past,
    prompt_bytes: Callable[[], int],
) -> int | None:
    """The most output tokens that a call may ask for, by the estimates that admit it; None: any budget has room."""
    asked = call.request()

    def amount(limit: Limit, output_tokens: int) -> int:
        request = asked._replace(max_tokens=output_tokens)
        estimates = CallEstimates(call, prices, past, lambda: request, prompt_bytes)
        return estimates(limit.budget).of(limit.unit) or 0

    longest = LONGEST
    for limit, _, left in _left(accounts, call.attribution, call.started_at, state):
        if amount(limit, longest) > left:
            longest = _largest(partial(amount, limit), left, longest)
    return None if longest == LONGEST else longest


def share_left(accounts: Accounts, who: Attribution, at: datetime, state: RunState) -> float | None:
    """What is left of the tightest limit of tokens or dollars that applies, as a share of it; None: none applies."""
    shares = [max(0, left) / cap if cap > 0 else 0.0 for _, cap, left in _left(accounts, who, at, state)]
    return min(shares, default=None)


def _left(accounts: Accounts, who: Attribution, at: datetime, state: RunState) -> Iterator[tuple[Limit, int, int]]:
    """Each limit of tokens or dollars that applies and does more than warn, its cap, and what is left of that."""
    shared = []
    limits = [each for each in accounts.limits if each.limit.unit in MEASURED and each.limit.budget.on_exceed != "warn"]
    for each, key in balances_of(limits, who, at, run_id=state.run_id):
        cap = each.limit.amount + state.raised_by(each.name)
        if each.is_own:
            balance = state.balance(key)
            yield each.limit, cap, cap - balance.spent - balance.held
        else:
            shared.append((each.limit, cap, key))
    try:
        balances = accounts.ledger.balances(*(key for _, _, key in shared)) if shared else []
    except LedgerError:  # It will be asked again for the hold, and what is to happen then is decided there.
        return
    for (limit, cap, _), balance in zip(shared, balances, strict=True):
        yield limit, cap, cap - balance.spent - balance.held


def _largest(amount: Callable[[int], int], left: int, longest: int) -> int:
    """The largest number of tokens whose amount is at most what is left; 0 where not even one is."""
    low, high = 0, longest
    while high - low > 1:
        middle = (low + high) // 2
        if amount(middle) <= left:
            low = middle
        else:
            high = middle
    return low
