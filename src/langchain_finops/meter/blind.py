"""Calls that could not be looked at as they should be: a fault of ours, or a request in a shape that nobody foresaw."""

from typing import Final

from langchain_finops.budgets.estimate import DEFAULT_OUTPUT_TOKENS, Expectation, OutputSource
from langchain_finops.budgets.guard import Guard
from langchain_finops.budgets.holding import ONE_CALL, Estimate, Start
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.meter.calls import OpenCall

__all__ = ["open_blindly"]

ONE_SECOND: Final = 1_000_000


def open_blindly(guard: Guard, call: OpenCall, state: RunState) -> Refusal | None:
    """Admit a call of which nothing is known but that it is one, and hold what any call is taken for.

    A budget that has to know more, such as a price or a bound, refuses it.
    """
    start = Start(call.call_id, "a call that cannot be read", call.attribution, call.started_at, ONE_CALL, _unreadable)
    refusal = guard.stopped(state, start) or guard.check_strict(state, start)
    if refusal is not None:
        return refusal
    call.state = state
    hold = guard.hold(state, start)
    if isinstance(hold, Refusal):
        return hold
    call.hold = hold
    return None


def _unreadable(budget: Budget) -> Estimate:
    strict = budget.admission == "strict"
    source: OutputSource = "unbounded" if strict else "default"
    expected = Expectation(0, DEFAULT_OUTPUT_TOKENS, source, strict, unmeasured="its shape" if strict else None)
    return Estimate(
        usd=0,
        tokens=DEFAULT_OUTPUT_TOKENS,
        seconds=ONE_SECOND,
        expected=expected,
        unpriced="its request cannot be read",
    )
