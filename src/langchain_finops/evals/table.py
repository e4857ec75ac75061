"""The evaluation table: every figure for programs; for people columns, a footer, and no more digits than are known."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

from langchain_finops.evals.arms import Plan
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.rows import Computed, TableOptions, compute
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["FIELDS", "Plan", "TableOptions", "evaluation_table"]

FIELDS = (
    *("configuration", "baseline", "selected", "tasks", "attempts", "planned_attempts", "complete", "basis"),
    *("completed", "stopped", "errors", "tries", "error_tries", "unjudged"),
    *("successes", "success_rate", "success_rate_low", "success_rate_high", "effective_attempts"),
    *("k", "pass_hat_k", "pass_at_k", "mean_score"),
    *("total_cost_usd", "unknown_costs", "imputed_costs", "cost_per_attempt_usd", "share_spent_on_failures"),
    *("cost_per_success_usd", "cost_per_success_bound", "cost_per_success_low", "cost_per_success_high"),
    *("level", "tasks_needed", "half_width"),
    *("cost_per_credit_usd", "cost_per_credit_low", "cost_per_credit_high"),
    *("expected_cost_usd", "expected_cost_low", "expected_cost_high"),
    *("charges_usd", "contracted_usd", "billed_usd", "overhead_usd"),
    *("input_tokens", "cache_read_tokens", "output_tokens"),
    *("calls", "unpriced_calls", "unpriced_charges", "estimated_calls", "replayed_calls"),
    *("latency_p50_s", "latency_p95_s"),
    *("frontier", "frontier_status", "incremental_against", "incremental_usd_per_success", "incremental_identified"),
    *("vs_baseline_ratio", "vs_baseline_low", "vs_baseline_high", "vs_baseline_tasks", "vs_baseline_p_adjusted"),
    *("verdict", "verdict_why", "vs_baseline_tasks_needed"),
    *("success_rate_difference", "success_rate_difference_low", "success_rate_difference_high"),
    *("expected_cost_ratio", "expected_cost_ratio_low", "expected_cost_ratio_high", "expected_cost_verdict"),
)
"""Names and order of every row's fields, the same for any data."""


def evaluation_table(
    attempts: Iterable[AttemptResult],
    verdicts: Iterable[Verdict],
    *,
    plan: Plan | None = None,
    options: TableOptions | None = None,
) -> Table:
    """Return one row a configuration. `attempts` are all tries in the order they were written; of the `verdicts` on a
    try the last one of each scorer counts.

    Raises BadArguments for a scorer, card set or baseline that is not there, MissingExtra without scipy.
    """
    plan, options = plan or Plan(), options or TableOptions()
    computed = compute(attempts, verdicts, plan, options)
    columns = _columns(computed.rows, options)
    return Table(rows=computed.rows, fields=FIELDS, columns=columns, notes=tuple(_notes(computed, plan, options)))


# --- columns -----------------------------------------------------------------------------------------------------


def _columns(rows: Sequence[Row], options: TableOptions) -> tuple[Column, ...]:
    """The five that decide stand at any width; the others join as the terminal allows."""
    unit, times = _unit([row["cost_per_success_usd"] for row in rows])
    columns = [
        Column(title="configuration", text=lambda row: row["configuration"], name=True),
        Column(title="tasks", text=_count("tasks"), rank=2),
        Column(title="attempts", text=_count("attempts"), rank=3),
        Column(title="success rate", text=_rate),
        Column(title="total cost", text=lambda row: _cost(row, row["total_cost_usd"]), rank=4),
        Column(title="per attempt", text=lambda row: _cost(row, row["cost_per_attempt_usd"]), rank=6),
        Column(title=f"cost per {unit}", text=lambda row: _per_success(row, times)),
        Column(title="vs baseline", text=_against),
        Column(title="verdict", text=lambda row: row["verdict"] or "", rank=1),
        Column(title="frontier", text=_frontier),
        Column(title="on failures", text=lambda row: _percent(row["share_spent_on_failures"]), rank=5),
        Column(title="one more success", text=_incremental, rank=12),
        Column(title="tokens in", text=_count("input_tokens"), rank=9),
        Column(title="tokens out", text=_count("output_tokens"), rank=9),
        Column(title="p50 s", text=lambda row: _seconds(row["latency_p50_s"]), rank=8),
        Column(title="p95 s", text=lambda row: _seconds(row["latency_p95_s"]), rank=8),
        Column(title="stopped", text=_count("stopped"), rank=7),
        Column(title="errors", text=_count("errors"), rank=7),
        Column(title="judges", text=lambda row: _usd(row["overhead_usd"]), rank=11),
    ]
    if options.failure_usd is not None:
        columns.insert(8, Column(title="expected cost", text=_expected, rank=1))
    return tuple(columns)


def _unit(figures: Iterable[float | None]) -> tuple[str, int]:
    """What a cost is told for: so many successes that the cheapest configuration's figure can be read."""
    known = [figure for figure in figures if figure is not None and figure > 0]
    if not known or min(known) >= 0.01:
        return "success", 1
    return ("1k successes", 1_000) if min(known) >= 0.00001 else ("1M successes", 1_000_000)


def _count(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _rate(row: Row) -> str:
    if row["success_rate"] is None:
        return "-"
    low, high = row["success_rate_low"] * 100, row["success_rate_high"] * 100
    return f"{row['success_rate']:.0%} ({low:.0f}-{high:.0f})"


def _per_success(row: Row, times: int) -> str:
    unknown = f" ({row['unknown_costs']} unknown)" if row["unknown_costs"] else ""
    if row["cost_per_success_usd"] is None:
        return (f"unknown{unknown}" if unknown else "no success") if row["tasks"] else "-"
    figure = row["cost_per_success_usd"] * times
    if row["cost_per_success_bound"] != "=":
        return f"{row['cost_per_success_bound']} ${_figure(figure, down=True)}{unknown}"
    return f"${_figure(figure)}{_range(row, 'cost_per_success', times)}"


def _range(row: Row, name: str, times: float = 1, decimals: int | None = None) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None:
        return ""
    shown = _figure(low * times, decimals=decimals)
    return f" ({shown}-{_figure(high * times, decimals=decimals)})" if high is not None else f" (from {shown})"


def _figure(value: float, *, decimals: int | None = None, down: bool = False) -> str:
    """Three digits, or more where they stand before the point. `down`: a lower bound must not be rounded up."""
    if decimals is None or 0 < abs(value) < 0.5 * 10.0**-decimals:
        decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    if down:
        value = math.floor(value * 10.0**decimals) / 10.0**decimals
    return f"{value:,.{decimals}f}"


def _usd(amount: float | Decimal | None) -> str:
    return "unknown" if amount is None else f"${_figure(float(amount))}"


def _cost(row: Row, amount: float | Decimal | None) -> str:
    if amount is None:
        return "unknown" if row["unknown_costs"] else "-"
    return f">= ${_figure(float(amount), down=True)}" if row["unknown_costs"] else _usd(amount)


def _expected(row: Row) -> str:
    if row["expected_cost_usd"] is None:
        return "-"
    bound = ">= " if row["unknown_costs"] else ""
    return f"{bound}${_figure(row['expected_cost_usd'])}{_range(row, 'expected_cost')}"


def _against(row: Row) -> str:
    if row["baseline"]:
        return "baseline"
    if row["vs_baseline_ratio"] is None:
        return "-"
    return f"{_figure(row['vs_baseline_ratio'], decimals=2)}{_range(row, 'vs_baseline', decimals=2)}"


def _frontier(row: Row) -> str:
    if row["frontier"] is None:
        return "?"
    return "selected" if row["selected"] else "*" if row["frontier"] else ""


def _incremental(row: Row) -> str:
    if row["incremental_against"] is None:
        return ""
    return _usd(row["incremental_usd_per_success"]) if row["incremental_identified"] else "not identified"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# --- the footer --------------------------------------------------------------------------------------------------


def _notes(computed: Computed, plan: Plan, options: TableOptions) -> Iterator[str]:
    """What was counted, at which prices, and what was assumed: one sentence a line."""
    if not computed.arms:
        yield "No attempts yet."
        return
    yield _counted(computed, options)
    yield _priced(computed, plan, options)
    yield from _verdicts(computed, options)
    yield from _precision(computed, options)
    yield from _marks(computed)
    yield from _unusual(computed, options)
    yield from _provenance(computed)


def _level(options: TableOptions) -> str:
    return f"{options.level * 100:g}%"


def _counted(computed: Computed, options: TableOptions) -> str:
    tasks = len(computed.planned)
    repeats = {len(each) for each in computed.planned.values()}
    times = f" x {max(repeats)} repeats" if len(repeats) == 1 and repeats != {1} else ""
    attempts = sum(row["attempts"] for row in computed.rows)
    clusters = ", repeats of a task counted as one cluster" if times or len(repeats) > 1 else ""
    scorer = f" Success as judged by {options.scorer}." if options.scorer else ""
    return f"{tasks:,} tasks{times}, {attempts:,} attempts. {_level(options)} intervals over tasks{clusters}.{scorer}"


def _priced(computed: Computed, plan: Plan, options: TableOptions) -> str:
    seen = dict.fromkeys(name for arm in computed.arms for attempt in arm.tries for name in attempt.costs_by_card)
    names = [*plan.cards, *(name for name in seen if name not in plan.cards)]
    used = options.cards or plan.priced_by
    told = {name: f"{name} ({plan.cards[name]})" if plan.cards.get(name) else name for name in names}
    others = [told[name] for name in names if name != used]
    text = f"Costs are list costs by card set {told.get(used, used)}" if used else "Costs are list costs"
    if others and used:
        text += f"; --cards chooses {', '.join(others)}"
    elif others:
        text += f"; card sets: {', '.join(others)}"
    return f"{text}. Judges and harness are apart, in no other figure."


def _verdicts(computed: Computed, options: TableOptions) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for row in computed.rows:
        if row["verdict"] is not None:
            why = f" ({row['verdict_why']})" if row["verdict_why"] else ""
            said.setdefault(f"{row['verdict']}{why}", []).append(row["configuration"])
    if not said:
        return
    margin = f", not inferior up to +{options.margin:.0%}" if options.margin else ""
    findings = "; ".join(f"{finding}: {', '.join(names)}" for finding, names in said.items())
    yield (
        f"Cost per success against {computed.baseline}, paired by task, Holm-adjusted{margin}; needs "
        f"{options.min_tasks} tasks and {options.min_successes} successes: {findings}."
    )


def _precision(computed: Computed, options: TableOptions) -> Iterator[str]:
    tasks = len(computed.planned)
    for name, what in (("tasks_needed", "a cost per success"), ("vs_baseline_tasks_needed", "a ratio to the baseline")):
        needed = [row[name] for row in computed.rows if row[name] is not None]
        if needed:
            fewest, most = min(needed), max(needed)
            span = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
            width = f"+-{options.half_width:.0%}"
            yield f"To know {what} to {width}, about {span} tasks are needed; there are {tasks:,}."
    if len(computed.arms) > 1 and tasks < options.min_tasks:
        yield f"A set of {tasks:,} tasks cannot rank close configurations."


def _marks(computed: Computed) -> Iterator[str]:
    rows = computed.rows
    placed = [row for row in rows if row["frontier"] is not None]
    of = f"the {len(placed)} placed" if len(placed) < len(rows) else f"{len(rows)}"
    if any(row["frontier"] for row in rows):
        yield "*: on the cost/quality frontier: none costs less and succeeds as often, nor does a mix of two."
    for row in rows:
        if row["selected"]:
            yield (
                f"selected: {row['configuration']}, on the frontier too, has the lowest cost per success of "
                f"{of}; picked by its figure, so its interval is too good: confirm it on fresh tasks."
            )
    unplaced = [row["configuration"] for row in rows if row["frontier"] is None]
    if unplaced:
        yield f"?: not placed, for want of attempts, costs or verdicts: {', '.join(unplaced)}."


def _unusual(computed: Computed, options: TableOptions) -> Iterator[str]:
    """Sentences on whatever keeps a figure from being what it seems."""
    rows = computed.rows
    for row in rows:
        if not row["complete"]:
            yield (
                f"{row['configuration']}: {row['attempts']:,} of {row['planned_attempts']:,} attempts were made; its "
                "own figures are over those, comparisons over the tasks that are complete on both sides."
            )
    yield from _listed(rows, lambda row: row["basis"] != "sums", "per-task means, as tasks have unequal slots")
    yield from _listed(rows, lambda row: row["unknown_costs"], ">=: attempts of unknown cost, no upper bound")
    yield from _listed(rows, lambda row: row["imputed_costs"], "unknown costs filled with the dearest attempt")
    bounded = [row for row in rows if row["cost_per_success_bound"] == ">" and row["cost_per_success_usd"] is not None]
    yield from _listed(
        bounded, lambda _: True, f">: no success; one-sided {_level(options)} bound by the number of tasks"
    )
    yield from _listed(rows, lambda row: row["unjudged"], "attempts without a verdict, counted as no success")
    yield from _listed(
        rows, lambda row: row["unpriced_charges"], "charges without a price, such as tools without a card, left out"
    )
    yield from _listed(rows, lambda row: row["estimated_calls"], "calls whose tokens were estimated, counted as such")
    yield from _ends(computed)


def _listed(rows: Sequence[Row], wanted: Callable[[Row], object], what: str) -> Iterator[str]:
    """One sentence with the names, and the counts where `wanted` gives them."""
    found = [(row["configuration"], wanted(row)) for row in rows if wanted(row)]
    if found:
        names = [name if count is True else f"{name} {count:,}" for name, count in found]
        yield f"{what[0].upper()}{what[1:]}: {', '.join(names)}."


def _ends(computed: Computed) -> Iterator[str]:
    """How attempts ended that did not complete; each counts, with its cost, as no success."""
    ends = [slot.last for arm in computed.arms for slot in arm.slots if slot.last.status != "completed"]
    reasons = Counter(f"{last.status} ({last.stop_reason or 'no reason given'})" for last in ends)
    if reasons:
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        yield f"Counted as no success, with their cost: {told}."
    again = Counter(
        attempt.stop_reason
        for arm in computed.arms
        for slot in arm.slots
        for attempt in slot.tries
        if attempt is not slot.last
    )
    why = {"infrastructure": "infrastructure errors", "interrupted": "a crash or Ctrl-C"}
    for reason, count in sorted(again.items(), key=str):
        yield f"{count:,} tries were repeated after {why.get(reason or '', reason)}; their cost is in their attempt's."


def _provenance(computed: Computed) -> Iterator[str]:
    replayed = sum(row["replayed_calls"] for row in computed.rows)
    if replayed:
        yield f"{replayed:,} calls were replayed: list costs and latencies as recorded, nothing was billed for them."
    targets = {attempt.fingerprint for arm in computed.arms for attempt in arm.tries}
    if len(targets) > 1:
        yield f"Answers come from {len(targets)} versions of the target."
