"""A configuration's figures beside costs and successes: judges, tokens, steps, time, and its worth against people."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

from langchain_finops.evals.arms import Arm, Plan
from langchain_finops.evals.costs import whole_usd
from langchain_finops.evals.results import Verdict
from langchain_finops.usage import TOKEN_METERS

__all__ = ["UNSTATED", "statuses", "work", "worth"]

OUTPUT_METERS = ("output_tokens", "audio_output_tokens")
INPUT_METERS = tuple(meter for meter in TOKEN_METERS if meter not in OUTPUT_METERS)
EXACT, QUOTIENT = Context(prec=100), Context(prec=28)

Figures = dict[str, Any]
"""A row, or a part of it: a row mixes names, counts and amounts."""

UNSTATED = (
    *("completed", "stopped", "stop_reasons", "handed_off", "errors", "tries", "error_tries"),
    *("charges_usd", "contracted_usd", "billed_usd", "overhead_usd", "judge_cost_usd", "judge_calls", "harness_ms"),
    *("input_tokens", "cache_read_tokens", "output_tokens", "token_efficiency"),
    *("calls", "unpriced_calls", "unpriced_charges", "estimated_calls", "replayed_calls"),
    *("steps_per_attempt", "tool_calls_per_attempt", "latency_p50_s", "latency_p95_s"),
    *("handoff_minutes", "handoff_usd", "cost_per_solved_usd"),
)
"""What rows of a foreign file do not say: unknown there, which is not 0."""


def statuses(arm: Arm) -> Figures:
    """How its attempts ended; of each, the try that decides."""
    ends = Counter(slot.last.status for slot in arm.slots)
    reasons = Counter(slot.last.stop_reason or "no reason given" for slot in arm.slots if slot.last.status == "stopped")
    return {
        "completed": ends["completed"],
        "stopped": ends["stopped"],
        "stop_reasons": ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or None,
        "handed_off": ends["handed_off"],
        "errors": ends["error"],
        "tries": len(arm.tries),
        "error_tries": sum(attempt.status == "error" for attempt in arm.tries),
        "unjudged": arm.unjudged,
    }


def work(arm: Arm, verdicts: Iterable[Verdict]) -> Figures:
    """What its attempts took, and what judging them did. `verdicts` are all on this configuration's answers."""
    latencies = sorted(slot.last.latency_s for slot in arm.slots if slot.last.status != "error")
    costs = [] if arm.whole.unknown else sorted(float(slot.cost_usd) for slot in arm.slots)
    said = list(verdicts)
    return {
        "overhead_usd": whole_usd([attempt.overhead_usd for attempt in arm.tries]),
        "judge_cost_usd": whole_usd([verdict.cost_usd for verdict in said]),
        "judge_calls": sum(verdict.calls for verdict in said),
        "harness_ms": _harness_ms(arm),
        **_tokens(arm),
        "calls": sum(attempt.calls for attempt in arm.tries),
        "unpriced_calls": sum(attempt.unpriced_calls for attempt in arm.tries),
        "unpriced_charges": sum(attempt.unpriced_charges for attempt in arm.tries),
        "estimated_calls": sum(attempt.estimated_calls for attempt in arm.tries),
        "replayed_calls": sum(attempt.replayed_calls for attempt in arm.tries),
        "steps_per_attempt": _mean([attempt.steps for attempt in arm.tries], len(arm.slots)),
        "tool_calls_per_attempt": _mean([attempt.tool_calls for attempt in arm.tries], len(arm.slots)),
        "cost_p50_usd": _percentile(costs, 0.5),
        "cost_p95_usd": _percentile(costs, 0.95),
        "latency_p50_s": _percentile(latencies, 0.5),
        "latency_p95_s": _percentile(latencies, 0.95),
    }


def _harness_ms(arm: Arm) -> float | None:
    """Mean of the tries in which it was measured."""
    measured = [attempt.overhead_s for attempt in arm.tries if attempt.overhead_s is not None]
    return 1000 * math.fsum(measured) / len(measured) if measured else None


def _tokens(arm: Arm) -> Figures:
    meters: Counter[str] = Counter()
    for attempt in arm.tries:
        meters.update(attempt.usage)
    generated = sum(meters[meter] for meter in OUTPUT_METERS)
    useful = [slot.last.final_output_tokens for slot in arm.slots if slot.success]
    known = [tokens for tokens in useful if tokens is not None]
    return {
        "input_tokens": sum(meters[meter] for meter in INPUT_METERS),
        "cache_read_tokens": meters["cache_read_tokens"] + meters["cached_audio_tokens"],
        "output_tokens": generated,
        # Final answers of successes over all that was generated: reasoning, loops and failures included.
        "token_efficiency": sum(known) / generated if generated and len(known) == len(useful) else None,
    }


def _mean(counts: Sequence[int], attempts: int) -> float | None:
    return sum(counts) / attempts if attempts else None


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Linear between the two nearest, as spreadsheets do."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def worth(row: Mapping[str, Any], plan: Plan) -> Figures:
    """What it saves against the person of the plan, hand-offs priced in, and what it earns.

    ROI = (a person's cost per success x successes - all cost) / all cost. A handed-off attempt costs a person's
    minutes; they solve it as often as they solve any. Without a known total, nothing of it is known.
    """
    human, successes, attempts = plan.human, row["successes"], row["attempts"]
    figures: Figures = dict.fromkeys(
        ("human_cost_per_success_usd", "handoff_minutes", "handoff_usd", "cost_per_solved_usd")
    )
    figures |= dict.fromkeys(("roi", "break_even_success_rate", "value_usd", "margin_usd", "gross_margin"))
    total: Decimal | None = None if row["unknown_costs"] else row["total_cost_usd"]
    if human is not None:
        figures["human_cost_per_success_usd"] = human.usd_per_success
        minutes = EXACT.multiply(human.minutes_per_handoff, Decimal(row["handed_off"]))
        figures["handoff_minutes"] = minutes
        figures["handoff_usd"] = QUOTIENT.divide(EXACT.multiply(minutes, human.usd_per_hour), Decimal(60))
    if total is None or not attempts:
        return figures
    if human is not None:
        total = EXACT.add(total, figures["handoff_usd"])
        solved = EXACT.add(Decimal(successes), EXACT.multiply(human.success_rate, Decimal(row["handed_off"])))
        figures["cost_per_solved_usd"] = QUOTIENT.divide(total, solved) if solved else None
        saved = EXACT.multiply(human.usd_per_success, Decimal(successes))
        figures["roi"] = QUOTIENT.divide(EXACT.subtract(saved, total), total) if total > 0 else None
        break_even = QUOTIENT.divide(QUOTIENT.divide(total, Decimal(attempts)), human.usd_per_success)
        figures["break_even_success_rate"] = float(break_even)
    if plan.value_usd is not None:
        value = EXACT.multiply(plan.value_usd, Decimal(successes))
        figures |= {"value_usd": value, "margin_usd": EXACT.subtract(value, total)}
        figures["gross_margin"] = QUOTIENT.divide(figures["margin_usd"], value) if value > 0 else None
    return figures
