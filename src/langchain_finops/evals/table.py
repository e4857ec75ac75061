"""The evaluation table: every figure for programs; for people columns, a footer, and no more digits than are known."""

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from langchain_finops.evals.arms import Plan
from langchain_finops.evals.checklist import notes_of
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.rows import TableOptions, compute
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["FIELDS", "Plan", "TableOptions", "evaluation_table", "success_unit"]

FIELDS = (
    *("configuration", "baseline", "selected", "tasks", "attempts", "planned_attempts", "complete", "basis"),
    *("completed", "stopped", "stop_reasons", "handed_off", "errors", "tries", "error_tries", "unjudged"),
    *("successes", "success_rate", "success_rate_low", "success_rate_high", "effective_attempts"),
    *("k", "pass_hat_k", "pass_at_k", "mean_score"),
    *("total_cost_usd", "unknown_costs", "imputed_costs", "cost_per_attempt_usd", "share_spent_on_failures"),
    *("cost_per_success_usd", "cost_per_success_bound", "cost_per_success_low", "cost_per_success_high"),
    *("unscored_won_success_rate", "unscored_won_cost_per_success_usd", "unscored_won_expected_cost_usd"),
    *("level", "tasks_needed", "half_width"),
    *("cost_per_credit_usd", "cost_per_credit_low", "cost_per_credit_high"),
    *("expected_cost_usd", "expected_cost_low", "expected_cost_high"),
    *("charges_usd", "contracted_usd", "billed_usd", "overhead_usd", "judge_cost_usd", "judge_calls", "harness_ms"),
    *("input_tokens", "cache_read_tokens", "output_tokens", "token_efficiency"),
    *("calls", "unpriced_calls", "unpriced_charges", "estimated_calls", "replayed_calls"),
    *("steps_per_attempt", "tool_calls_per_attempt"),
    *("cost_p50_usd", "cost_p95_usd", "latency_p50_s", "latency_p95_s"),
    *("human_cost_per_success_usd", "handoff_minutes", "handoff_usd", "cost_per_solved_usd"),
    *("roi", "break_even_success_rate", "value_usd", "margin_usd", "gross_margin"),
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
    columns = _columns(computed.rows, computed.options)
    notes = tuple(notes_of(computed, plan))
    return Table(rows=computed.rows, fields=FIELDS, columns=columns, notes=notes)


# --- columns -----------------------------------------------------------------------------------------------------


def _columns(rows: Sequence[Row], options: TableOptions) -> tuple[Column, ...]:
    """The five that decide stand at any width; the others join as the terminal allows."""
    unit, times = success_unit([row["cost_per_success_usd"] for row in rows])
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
        Column(title="steps", text=lambda row: _plain(row["steps_per_attempt"]), rank=10),
        Column(title="handed off", text=_count("handed_off"), rank=11),
        Column(title="judges", text=_judges, rank=11),
        Column(title="harness ms", text=lambda row: _plain(row["harness_ms"]), rank=13),
        Column(title="useful tokens", text=lambda row: _percent(row["token_efficiency"]), rank=12),
        Column(title="cost p50", text=lambda row: _usd(row["cost_p50_usd"]), rank=13),
        Column(title="cost p95", text=lambda row: _usd(row["cost_p95_usd"]), rank=13),
    ]
    if any(row["k"] is not None and row["k"] > 1 for row in rows):
        columns.append(Column(title="pass^k", text=lambda row: _percent(row["pass_hat_k"]), rank=7))
        columns.append(Column(title="pass@k", text=lambda row: _percent(row["pass_at_k"]), rank=10))
    if any(row["human_cost_per_success_usd"] is not None for row in rows):
        columns.append(Column(title="ROI", text=lambda row: _plain(row["roi"]), rank=2))
        columns.append(
            Column(title="break-even rate", text=lambda row: _percent(row["break_even_success_rate"]), rank=6)
        )
    if any(row["handed_off"] for row in rows):
        columns.append(Column(title="with people", text=lambda row: _usd(row["cost_per_solved_usd"]), rank=3))
    if any(row["value_usd"] is not None for row in rows):
        columns.append(Column(title="margin", text=lambda row: _percent(row["gross_margin"]), rank=3))
    if options.failure_usd is not None:
        columns.insert(8, Column(title="expected cost", text=_expected, rank=1))
    told = {column.title for column in columns if any(column.text(row) not in ("", "-") for row in rows)}
    return tuple(column for column in columns if column.title in told or not column.rank)


def success_unit(figures: Iterable[float | None]) -> tuple[str, int]:
    """What a cost is told for: so many successes that the cheapest configuration's figure can be read."""
    known = [figure for figure in figures if figure is not None and figure > 0]
    if not known or min(known) >= 0.01:
        return "success", 1
    return ("1k successes", 1_000) if min(known) >= 0.00001 else ("1M successes", 1_000_000)


def _count(name: str) -> Callable[[Row], str]:
    return lambda row: "-" if row[name] is None else f"{row[name]:,}"


def _plain(value: float | Decimal | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _judges(row: Row) -> str:
    return "-" if not row["judge_calls"] else _usd(row["judge_cost_usd"])


def _percent(share: float | Decimal | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _rate(row: Row) -> str:
    if row["success_rate"] is None:
        return "-"
    low, high = row["success_rate_low"] * 100, row["success_rate_high"] * 100
    best = row["unscored_won_success_rate"]
    most = "" if best is None else f"-{best:.0%}"
    return f"{row['success_rate']:.0%}{most} ({low:.0f}-{high:.0f})"


def _per_success(row: Row, times: int) -> str:
    unknown = f" ({row['unknown_costs']} unknown)" if row["unknown_costs"] else ""
    if row["cost_per_success_usd"] is None:
        return (f"unknown{unknown}" if unknown else "no success") if row["tasks"] else "-"
    figure = row["cost_per_success_usd"] * times
    if row["unscored_won_cost_per_success_usd"] is not None and row["cost_per_success_bound"] == "=":
        return _unscored_range(row, times)
    if row["cost_per_success_bound"] != "=":
        return f"{row['cost_per_success_bound']} ${_figure(figure, down=True)}{unknown}"
    return f"${_figure(figure)}{_range(row, 'cost_per_success', times)}"


def _unscored_range(row: Row, times: int) -> str:
    """From all unscored attempts as successes to none of them, and the bounds of either end."""
    best, low, high = (
        row[name] for name in ("unscored_won_cost_per_success_usd", "cost_per_success_low", "cost_per_success_high")
    )
    text = f"${_figure(best * times)}-{_figure(row['cost_per_success_usd'] * times)}"
    return text if low is None or high is None else f"{text} ({_figure(low * times)}-{_figure(high * times)})"


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
    best = row["unscored_won_expected_cost_usd"]
    lowest = "" if best is None else f"{_figure(best)}-"
    return f"{bound}${lowest}{_figure(row['expected_cost_usd'])}{_range(row, 'expected_cost')}"


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
