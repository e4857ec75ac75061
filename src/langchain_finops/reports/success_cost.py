"""What a success costs: every task's cost over the number of successes, or what can be said instead."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Literal

from langchain_finops.ledger.summary import show_usd
from langchain_finops.ledger.totals import TaskCost

__all__ = ["QUOTIENT", "Statement", "SuccessCost", "above", "success_cost"]

Statement = Literal["known", "at_least", "no_success", "not_judged", "no_task", "apart", "unpriced"]

# A quotient has no exact decimal: 28 digits are more than any reader or program needs.
QUOTIENT = Context(prec=28)
BOUND = Context(prec=6, rounding=ROUND_FLOOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessCost:
    """Cost per success of one group, and how far it is known."""

    statement: Statement
    """`at_least`: some calls are unpriced; `unpriced`: all are; `no_success`: see `above_usd`; `apart`: none is the
    agent's own."""
    usd: Decimal | None = None
    """All cost of tasks, failed and unjudged ones included, over the successes; None where that is no number."""
    above_usd: Decimal | None = None
    """Without a success: it costs more than this, at 95% confidence; None where that cannot be said either."""
    unknown: int = 0
    """Calls without a price, which the figure leaves out."""

    def __str__(self) -> str:
        unknown = f" ({self.unknown:,} unknown)" if self.unknown else ""
        if self.usd is not None:
            return f">= {show_usd(self.usd, bound=True)}{unknown}" if unknown else show_usd(self.usd)
        if self.above_usd is not None:
            return f"> {show_usd(self.above_usd, bound=True)}{unknown}"
        return "unpriced" if self.statement == "unpriced" else "-"


def success_cost(cost: TaskCost, *, tasks: int, judged: int, successes: int) -> SuccessCost:
    """Return what a success costs. Never 0 or infinity for want of a success, a verdict or a price.

    `cost` is that of the tasks which are counted, and of nothing else: a bound from other cost would be false.
    """
    cost_usd, unknown = cost.usd, cost.unpriced
    if not judged:
        return SuccessCost(statement="not_judged" if tasks else "no_task", unknown=unknown)
    if not cost.records:
        return SuccessCost(statement="apart")
    if cost_usd is None:
        return SuccessCost(statement="unpriced", unknown=unknown)
    if successes:
        usd = QUOTIENT.divide(cost_usd, Decimal(successes))
        return SuccessCost(statement="at_least" if unknown else "known", usd=usd, unknown=unknown)
    # A task that is not judged may have succeeded: with any of them no bound holds.
    bound = above(cost_usd, judged) if judged == tasks and cost_usd > 0 else None
    return SuccessCost(statement="no_success", above_usd=bound, unknown=unknown)


def above(cost_usd: Decimal, tasks: int) -> Decimal:
    """Return the least that a success costs at 95% confidence, where none of so many tasks was one.

    It is the mean cost of a task over the highest success rate that this leaves credible, 1 - 0.05^(1/tasks).
    """
    highest_rate = 1 - 0.05 ** (1 / tasks)
    return BOUND.divide(QUOTIENT.divide(cost_usd, Decimal(tasks)), Decimal(repr(highest_rate)))
