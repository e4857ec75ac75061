"""Statistics of cost per success: pure functions on per-task sums. Derivations and sources in docs/statistics.md.

A task is what is independent; its repeats are a cluster. Statistics run on floats; exact sums are the caller's.
"""

from langchain_finops.reports.stats.bootstrap import bca_interval
from langchain_finops.reports.stats.compare import (
    MIN_DIFFERING,
    MIN_SUCCESSES,
    MIN_TASKS,
    Judgement,
    PairedRatio,
    RateDifference,
    VerdictKind,
    holm,
    judge,
    paired_ratio,
    rate_difference,
    rate_verdict,
    tango,
    verdict,
)
from langchain_finops.reports.stats.frontier import Place, frontier
from langchain_finops.reports.stats.intervals import Interval, TaskSums
from langchain_finops.reports.stats.success import (
    Bound,
    CostPerSuccess,
    SuccessRate,
    cost_per_success,
    mean_cost_of_pass,
    pass_at_k,
    pass_hat_k,
    success_rate,
    tasks_needed,
    wilson,
)

__all__ = [
    "MIN_DIFFERING",
    "MIN_SUCCESSES",
    "MIN_TASKS",
    "Bound",
    "CostPerSuccess",
    "Interval",
    "Judgement",
    "PairedRatio",
    "Place",
    "RateDifference",
    "SuccessRate",
    "TaskSums",
    "VerdictKind",
    "bca_interval",
    "cost_per_success",
    "frontier",
    "holm",
    "judge",
    "mean_cost_of_pass",
    "paired_ratio",
    "pass_at_k",
    "pass_hat_k",
    "rate_difference",
    "rate_verdict",
    "success_rate",
    "tango",
    "tasks_needed",
    "verdict",
    "wilson",
]
