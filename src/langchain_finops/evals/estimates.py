"""What a gate's metric is for one configuration: its figure, and the bounds between which the truth lies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from langchain_finops.evals.arms import Arm
from langchain_finops.evals.pairs import expected_sums, with_unscored_won
from langchain_finops.reports import stats
from langchain_finops.reports.stats.percentiles import percentile_interval

__all__ = ["Estimate", "estimate"]

COUNTS = {
    "unpriced": "unpriced_calls",
    "unpriced_charges": "unpriced_charges",
    "unknown_costs": "unknown_costs",
    "estimated": "estimated_calls",
    "unscored": "unjudged",
    "errors": "errors",
    "stopped": "stopped",
    "handed_off": "handed_off",
}
AMOUNTS = {"total_cost": "total_cost_usd", "judge_cost": "judge_cost_usd", "overhead_cost": "overhead_usd"}
SHARES = {"latency_p50": 0.5, "latency_p95": 0.95}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and its bounds; for facts of the run all three are the same."""

    value: Decimal | float | None
    low: Decimal | float | None
    high: Decimal | float | None
    """Infinite where nothing bounds it."""
    why: str | None = None
    """Why there are no bounds; None where there are."""


def estimate(
    metric: str, arm: Arm, row: Mapping[str, Any], *, level: float, failure_usd: Decimal | None, unscored_won: bool
) -> Estimate:
    """Return the metric's figure and bounds. `unscored_won`: unscored attempts count as successes, for a rule whose
    worse end that is."""
    if metric in COUNTS:
        return _fact(row[COUNTS[metric]])
    if metric in AMOUNTS:
        return _amount(metric, row)
    if metric in SHARES:
        return _latency(arm, SHARES[metric], level)
    if not arm.slots:
        return Estimate(value=None, low=None, high=None, why="no attempts")
    sums = with_unscored_won(arm, list(arm.by_task)) if unscored_won else arm.whole
    if metric == "success_rate":
        rate = stats.success_rate(sums.successes, sums.attempts, level=level)
        assert rate is not None  # There are slots.
        return Estimate(value=rate.value, low=rate.interval.low, high=rate.interval.high)
    if metric == "expected_cost":
        assert failure_usd is not None  # Checked with the rules.
        sums = expected_sums(sums, failure_usd)
    return _per_success(sums, level)


def _fact(value: int) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def _amount(metric: str, row: Mapping[str, Any]) -> Estimate:
    value: Decimal | None = row[AMOUNTS[metric]]
    if value is None or (metric == "total_cost" and row["unknown_costs"]):
        return Estimate(value=value, low=value, high=None, why="unknown costs")
    return Estimate(value=value, low=value, high=value)


def _latency(arm: Arm, share: float, level: float) -> Estimate:
    """Attempts that failed have no latency to speak of, as in the table. Repeats of a task are a cluster."""
    timed = {
        task: [slot.last.latency_s for slot in slots if slot.last.status != "error"]
        for task, slots in arm.by_task.items()
    }
    values = sorted(latency for latencies in timed.values() for latency in latencies)
    if not values:
        return Estimate(value=None, low=None, high=None, why="no latencies")
    tasks = sum(bool(latencies) for latencies in timed.values())
    bounds = percentile_interval(values, share, independent=tasks, level=level)
    place = share * (len(values) - 1)
    below, above = values[math.floor(place)], values[math.ceil(place)]
    value = below + (above - below) * (place - math.floor(place))
    why = None
    if math.isinf(bounds.high):
        needed = math.ceil(math.log((1 - level) / 2) / math.log(share))
        why = f"fewer than {needed} tasks leave it without an upper bound"
    return Estimate(value=value, low=max(bounds.low, 0.0), high=bounds.high, why=why)


def _per_success(sums: stats.TaskSums, level: float) -> Estimate:
    cost = stats.cost_per_success(sums.cost, sums.successes, sums.attempts, level=level, unknown=sums.unknown)
    if sums.unknown:
        return Estimate(value=cost.usd, low=cost.usd, high=None, why="unknown costs")
    if cost.bound == ">":
        return Estimate(value=None, low=cost.usd, high=math.inf, why="no success")
    if cost.interval is not None:
        return Estimate(value=cost.usd, low=cost.interval.low, high=cost.interval.high)
    if cost.usd == 0:  # Every attempt is known to be free: there is nothing to be unsure of.
        return Estimate(value=0.0, low=0.0, high=0.0)
    return Estimate(value=cost.usd, low=None, high=None, why="no interval")
