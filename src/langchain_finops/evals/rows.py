"""The figures of the evaluation table, a row for each configuration. Derivations in docs/statistics.md."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from langchain_finops.errors import BadArguments
from langchain_finops.evals.arms import Arm, Plan, arms_of
from langchain_finops.evals.costs import whole_usd
from langchain_finops.evals.figures import UNSTATED, Figures, statuses, work, worth
from langchain_finops.evals.pairs import expected_sums, with_unscored_won
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.money import sum_usd
from langchain_finops.reports import stats

__all__ = ["Computed", "TableOptions", "compute", "price_of_success"]

MIN_DIFFERING = 5
"""Fewer tasks on which two configurations differ tell nothing of their rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """How the table is computed. The footer says so."""

    scorer: str | None = None
    """The scorer that decides alone. None: all that judged must agree."""
    cards: str | None = None
    """The card set that prices. None: the one chosen for the run."""
    impute: Literal["none", "max"] = "none"
    """`max` fills unknown costs with the configuration's dearest attempt."""
    failure_usd: Decimal | None = None
    """What mending a failure costs: adds the expected cost of a task. None: as the plan says."""
    level: float = 0.95
    margin: float | None = None
    """How much dearer still counts as not inferior: 0.1 for 10%. None: as the plan says, else 0."""
    min_tasks: int = stats.MIN_TASKS
    min_successes: int = stats.MIN_SUCCESSES
    k: int | None = None
    """Of pass^k and pass@k. None: as many repeats as every task has."""
    half_width: float = 0.2
    """The precision for which the number of tasks needed is told: 0.2 for +-20%."""

    def __post_init__(self) -> None:
        if self.impute not in ("none", "max"):
            raise BadArguments(f"impute is {self.impute!r}: choose none or max")
        if not 0 < self.level < 1:
            raise BadArguments(f"level is {self.level}: it must lie between 0 and 1, such as 0.95")
        if (self.margin is not None and self.margin < 0) or self.half_width <= 0:
            raise BadArguments("margin must not be negative, and half_width must be more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The rows, and what the footer needs besides."""

    rows: list[Figures]
    arms: list[Arm]
    planned: Mapping[str, frozenset[int]]
    baseline: str | None
    options: TableOptions
    """With what the plan says filled in."""


def compute(
    attempts: Iterable[AttemptResult], verdicts: Iterable[Verdict], plan: Plan, options: TableOptions
) -> Computed:
    """Return a row for each configuration. Sums of dollars are exact Decimals, statistics floats, None is unknown."""
    said = list(verdicts)
    options = _resolved(options, plan)
    arms, planned = arms_of(attempts, said, plan, scorer=options.scorer, cards=options.cards)
    if options.impute == "max":
        arms = [arm.imputed() for arm in arms]
    names = [arm.name for arm in arms]
    if plan.baseline is not None and plan.baseline not in names:
        raise BadArguments(f"baseline {plan.baseline!r} is no configuration: choose one of {', '.join(names)}")
    baseline = plan.baseline or (names[0] if names else None)
    by_arm: defaultdict[str, list[Verdict]] = defaultdict(list)
    for verdict in said:
        by_arm[verdict.configuration].append(verdict)
    rows = [_row(arm, planned, options, by_arm[arm.name], plan) for arm in arms]
    if options.cards not in (
        None,
        plan.priced_by,
    ):  # Known by the run's set alone: beside another's they would mislead.
        for row in rows:
            row |= {"charges_usd": None, "contracted_usd": None, "billed_usd": None}
    _mark_frontier(rows, arms, planned, options)
    _mark_selected(rows)
    _compare(rows, arms, planned, baseline, options)
    return Computed(rows=rows, arms=arms, planned=planned, baseline=baseline, options=options)


def _resolved(options: TableOptions, plan: Plan) -> TableOptions:
    """What the caller leaves open is as the plan has it."""
    failure_usd = plan.failure_usd if options.failure_usd is None else options.failure_usd
    margin = (plan.margin or 0.0) if options.margin is None else options.margin
    return replace(options, failure_usd=failure_usd, margin=margin)


def _row(
    arm: Arm,
    planned: Mapping[str, frozenset[int]],
    options: TableOptions,
    verdicts: Sequence[Verdict],
    plan: Plan,
) -> Figures:
    complete = len(arm.complete) == len(planned)
    basis = "per-task means" if arm.whole.unequal else "sums"
    row: Figures = {"configuration": arm.name, "tasks": arm.whole.tasks, "attempts": len(arm.slots)}
    row |= {"planned_attempts": sum(map(len, planned.values())), "complete": complete, "basis": basis}
    row |= statuses(arm) | price_of_success(arm, options) | work(arm, verdicts)
    row |= worth(row, plan)
    return row | dict.fromkeys(UNSTATED) if arm.name in plan.foreign else row


def price_of_success(arm: Arm, options: TableOptions) -> Figures:
    """How often a configuration succeeds, what it cost, and what a success does, with intervals over tasks."""
    return _rate(arm, options) | _money(arm) | _per_success(arm, options)


def _rate(arm: Arm, options: TableOptions) -> Figures:
    sums = arm.whole
    successes = [round(won) for won in sums.successes]
    rate = stats.success_rate(sums.successes, sums.attempts, level=options.level)
    repeats = _k(sums.attempts, options.k, arm.name)
    scored = [] if arm.unjudged else [slot.score for slot in arm.slots if slot.score is not None]
    row: Figures = {
        "successes": sum(successes),
        "success_rate": rate and rate.value,
        "success_rate_low": rate and rate.interval.low,
        "success_rate_high": rate and rate.interval.high,
        "effective_attempts": rate and rate.effective_attempts,
        "k": repeats,
        "pass_hat_k": repeats and stats.pass_hat_k(successes, sums.attempts, repeats),
        "pass_at_k": repeats and stats.pass_at_k(successes, sums.attempts, repeats),
        # Of all attempts, as in the cost per credit: one that never answered has no score to its credit.
        "mean_score": math.fsum(scored) / len(arm.slots) if scored else None,
    }
    if arm.unjudged:  # Nobody knows which of these tasks were passed: a figure would take all of them for failed.
        row |= {"pass_hat_k": None, "pass_at_k": None}
    return row


def _k(attempts: Sequence[int], wanted: int | None, name: str) -> int | None:
    """How many attempts pass^k and pass@k are of."""
    most = min(attempts, default=None)
    if wanted is None or most is None:
        return most
    if not 1 <= wanted <= most:
        raise BadArguments(f"k is {wanted}: {name} has tasks with {most} attempts, so choose 1 to {most}")
    return wanted


def _money(arm: Arm) -> Figures:
    total = sum_usd([slot.cost_usd for slot in arm.slots])
    unknown = arm.whole.unknown
    all_unknown = bool(arm.slots) and unknown == len(arm.slots) and total == 0
    failed = sum_usd([slot.cost_usd for slot in arm.slots if not slot.success])
    sums = arm.whole.balanced()
    return {
        "total_cost_usd": None if all_unknown else total,
        "unknown_costs": unknown,
        "imputed_costs": sum(slot.imputed for slot in arm.slots),
        "cost_per_attempt_usd": _ratio(sums.cost, sums.attempts) if arm.slots and not all_unknown else None,
        # A share of what is known, or judged, would be a share of something else.
        "share_spent_on_failures": float(failed / total) if total > 0 and not unknown and not arm.unjudged else None,
        "charges_usd": whole_usd([attempt.charges_usd for attempt in arm.tries]),
        "contracted_usd": whole_usd([attempt.contracted_usd for attempt in arm.tries]),
        "billed_usd": whole_usd([attempt.billed_usd for attempt in arm.tries]),
    }


def _ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    return math.fsum(numerators) / math.fsum(denominators)


def _per_success(arm: Arm, options: TableOptions) -> Figures:
    sums, level = arm.whole, options.level
    cost = stats.cost_per_success(sums.cost, sums.successes, sums.attempts, level=level, unknown=sums.unknown)
    scores = [math.fsum(slot.score or 0.0 for slot in slots) for slots in arm.by_task.values()]
    scored = not arm.unjudged and any(slot.score is not None for slot in arm.slots)
    credit = stats.cost_per_success(sums.cost, scores, sums.attempts, level=level, unknown=sums.unknown)
    row: Figures = {"cost_per_success_usd": cost.usd, "cost_per_success_bound": cost.bound}
    row |= _interval("cost_per_success", cost.interval)
    row |= {"level": level, "half_width": options.half_width}
    row["tasks_needed"] = _tasks_needed(cost.spread, options)
    # Partial credit is another quantity, with a name of its own; a bound for want of any credit is none of it.
    row["cost_per_credit_usd"] = credit.usd if scored and credit.bound == "=" else None
    row |= _interval("cost_per_credit", credit.interval if scored else None)
    expected = _expected(arm, list(arm.by_task), options)
    estimate = expected and stats.cost_per_success(
        expected.cost, expected.successes, expected.attempts, level=level, unknown=sums.unknown
    )
    row["expected_cost_usd"] = estimate.usd if estimate and estimate.tasks else None
    row |= _interval("expected_cost", estimate.interval if estimate else None)
    return row | _unscored_won(arm, cost, row, options)


def _unscored_won(arm: Arm, cost: stats.CostPerSuccess, row: Figures, options: TableOptions) -> Figures:
    """The other end of the range that unscored attempts leave, were all of them successes; intervals hold both ends."""
    names = ("unscored_won_success_rate", "unscored_won_cost_per_success_usd", "unscored_won_expected_cost_usd")
    ends: Figures = dict.fromkeys(names)
    if not arm.unjudged:
        return ends
    sums, level = with_unscored_won(arm, list(arm.by_task)), options.level
    won = stats.cost_per_success(sums.cost, sums.successes, sums.attempts, level=level, unknown=sums.unknown)
    rate = stats.success_rate(sums.successes, sums.attempts, level=level)
    assert rate is not None, "there are attempts"
    ends |= {"unscored_won_success_rate": rate.value, "unscored_won_cost_per_success_usd": won.usd}
    ends |= {"success_rate_high": rate.interval.high}
    if row["cost_per_success_low"] is not None:
        ends["cost_per_success_low"] = won.interval.low if won.interval else None
    if cost.bound == ">":  # A bound for want of any success would be false: some of the unscored may be one.
        ends |= {"cost_per_success_usd": won.usd, "cost_per_success_bound": ">="}
    if options.failure_usd is not None:
        mended = expected_sums(sums, options.failure_usd)
        best = stats.cost_per_success(
            mended.cost, mended.successes, mended.attempts, level=level, unknown=mended.unknown
        )
        ends["unscored_won_expected_cost_usd"] = best.usd
        if row["expected_cost_low"] is not None:
            ends["expected_cost_low"] = best.interval.low if best.interval else None
    return ends


def _expected(arm: Arm, tasks: Sequence[str], options: TableOptions) -> stats.TaskSums | None:
    """Cost of attempts and of mending their failures; divided by attempts, not by successes."""
    if options.failure_usd is None:
        return None
    sums, mending = arm.sums(tasks), float(options.failure_usd)
    figures = zip(sums.cost, sums.successes, sums.attempts, strict=True)
    return stats.TaskSums(
        cost=[cost + (count - won) * mending for cost, won, count in figures],
        successes=[float(count) for count in sums.attempts],
        attempts=sums.attempts,
        unknown=sums.unknown,
    )


def _interval(name: str, interval: stats.Interval | None) -> Figures:
    """Bounds as a program can read them: JSON knows no infinity."""
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{name}_low": low, f"{name}_high": high if high is None or math.isfinite(high) else None}


def _tasks_needed(spread: float | None, options: TableOptions) -> int | None:
    if spread is None:
        return None
    return stats.tasks_needed(spread, half_width=options.half_width, level=options.level)


# --- between configurations --------------------------------------------------------------------------------------


def _comparable(arm: Arm, planned: Mapping[str, frozenset[int]]) -> bool:
    """Means can be compared: all slots tried, all costs known, every answer judged."""
    return bool(planned) and len(arm.complete) == len(planned) and not arm.whole.unknown and not arm.unjudged


def _mark_frontier(
    rows: list[Figures], arms: Sequence[Arm], planned: Mapping[str, frozenset[int]], options: TableOptions
) -> None:
    for row in rows:
        row |= {"frontier": None, "frontier_status": None, "incremental_against": None}
        row |= {"incremental_usd_per_success": None, "incremental_identified": None}
    eligible = [place for place, arm in enumerate(arms) if _comparable(arm, planned)]
    places = stats.frontier([(rows[i]["cost_per_attempt_usd"], rows[i]["success_rate"]) for i in eligible])
    for index, place in zip(eligible, places, strict=True):
        rows[index] |= {"frontier": place.status == "on", "frontier_status": place.status}
        if place.against is None:
            continue
        before = eligible[place.against]
        identified = _rates_differ(arms[index], arms[before], list(planned), options.level)
        rows[index] |= {"incremental_against": arms[before].name, "incremental_identified": identified}
        rows[index]["incremental_usd_per_success"] = place.incremental_usd if identified else None


def _rates_differ(a: Arm, b: Arm, tasks: Sequence[str], level: float) -> bool:
    difference = stats.rate_difference(a.sums(tasks), b.sums(tasks), level=level)
    if difference is None or difference.interval is None or difference.differing < MIN_DIFFERING:
        return False
    return 0 not in difference.interval


def _mark_selected(rows: list[Figures]) -> None:
    """The cheapest of three or more was picked by its figure: its interval is too good."""
    for row in rows:
        row["selected"] = False
    candidates = [row for row in rows if row["frontier"] and row["cost_per_success_bound"] == "="]
    if candidates and sum(row["tasks"] > 0 for row in rows) > 2:
        min(candidates, key=lambda row: row["cost_per_success_usd"])["selected"] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A configuration and the baseline on the tasks that are complete in both."""

    ratio: stats.PairedRatio
    rates: stats.RateDifference | None
    expected: stats.PairedRatio | None
    tasks: list[str] = field(default_factory=list)


def _compare(
    rows: list[Figures],
    arms: Sequence[Arm],
    planned: Mapping[str, frozenset[int]],
    baseline: str | None,
    options: TableOptions,
) -> None:
    base = next((arm for arm in arms if arm.name == baseline), None)
    others = [(row, arm) for row, arm in zip(rows, arms, strict=True) if arm.name != baseline]
    for row in rows:
        row.update(dict.fromkeys(COMPARISON), baseline=row["configuration"] == baseline)
    if base is None:
        return
    pairs = [_pair(arm, base, planned, options) for _, arm in others]
    ratios = _judged([pair.ratio for pair in pairs], options)
    expected = _judged([pair.expected for pair in pairs if pair.expected is not None], options)
    for (row, _), pair, judgement in zip(others, pairs, ratios, strict=True):
        row.update(_against(pair, judgement, options))
    for (row, _), judgement in zip(others, expected, strict=bool(expected)):
        row["expected_cost_verdict"] = judgement.verdict


def _judged(comparisons: Sequence[stats.PairedRatio], options: TableOptions) -> list[stats.Judgement]:
    return stats.judge(
        comparisons,
        level=options.level,
        margin=options.margin or 0.0,
        min_tasks=options.min_tasks,
        min_successes=options.min_successes,
    )


def _pair(arm: Arm, base: Arm, planned: Mapping[str, frozenset[int]], options: TableOptions) -> _Pair:
    tasks = [task for task in planned if task in arm.complete and task in base.complete]
    mine, theirs = arm.sums(tasks), base.sums(tasks)
    ratio = stats.paired_ratio(mine, theirs, level=options.level)
    unjudged = sum(not slot.judged for each in (arm, base) for task in tasks for slot in each.by_task[task])
    if unjudged:
        ratio = _without_ratio(ratio, "attempts without a verdict")
    of_mine, of_theirs = _expected(arm, tasks, options), _expected(base, tasks, options)
    expected = stats.paired_ratio(of_mine, of_theirs, level=options.level) if of_mine and of_theirs else None
    if unjudged and expected is not None:
        expected = _without_ratio(expected, "attempts without a verdict")
    rates = None if unjudged else stats.rate_difference(mine, theirs, level=options.level)
    return _Pair(ratio=ratio, rates=rates, expected=expected, tasks=tasks)


def _without_ratio(ratio: stats.PairedRatio, why: str) -> stats.PairedRatio:
    return replace(ratio, ratio=None, interval=None, spread=None, p_value=1.0, better=None, why=why)


COMPARISON = (
    "vs_baseline_ratio",
    "vs_baseline_low",
    "vs_baseline_high",
    "vs_baseline_tasks",
    "vs_baseline_p_adjusted",
    "verdict",
    "verdict_why",
    "vs_baseline_tasks_needed",
    "success_rate_difference",
    "success_rate_difference_low",
    "success_rate_difference_high",
    "expected_cost_ratio",
    "expected_cost_ratio_low",
    "expected_cost_ratio_high",
    "expected_cost_verdict",
)


def _against(pair: _Pair, judgement: stats.Judgement, options: TableOptions) -> Figures:
    ratio, rates, expected = pair.ratio, pair.rates, pair.expected
    row: Figures = {"vs_baseline_ratio": ratio.ratio, "vs_baseline_tasks": ratio.tasks}
    row |= _interval("vs_baseline", ratio.interval)
    row |= {"vs_baseline_p_adjusted": judgement.p_adjusted}
    row |= {"verdict": judgement.verdict, "verdict_why": judgement.why}
    row["vs_baseline_tasks_needed"] = _tasks_needed(ratio.spread, options)
    row["success_rate_difference"] = rates.difference if rates else None
    row |= _interval("success_rate_difference", rates.interval if rates else None)
    row["expected_cost_ratio"] = expected.ratio if expected else None
    return row | _interval("expected_cost_ratio", expected.interval if expected else None)
