"""How many tasks a set needs before it tells what one wants to know of it, and what they would cost."""

import math
from decimal import Decimal

from langchain_finops.errors import BadArguments
from langchain_finops.evals import shown
from langchain_finops.evals.rows import TableOptions, compute
from langchain_finops.evals.sources import Sources
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["power_table"]

FIELDS = (
    *("configuration", "baseline", "tasks", "half_width", "half_width_now", "tasks_needed", "tasks_missing"),
    *("missing_usd", "vs_baseline_tasks_needed", "vs_baseline_tasks_missing", "level"),
)


def power_table(sources: Sources, *, half_width: float = 0.2, level: float = 0.95) -> Table:
    """Return a row for each configuration: tasks needed for an interval of +- `half_width` around its cost per success,
    and around its ratio to the baseline. Source: (z sd(u) / ln(1 + half_width))^2, docs/statistics.md.

    None where it cannot be told: fewer than two tasks, no success, unknown costs. Raises BadArguments for a half-width
    that is none.
    """
    if not 0 < half_width < 10:
        raise BadArguments(f"--half-width {half_width} found: a share is expected, such as 0.2 for +-20%")
    options = TableOptions(level=level, half_width=half_width, cards=sources.cards)
    computed = compute(sources.attempts, sources.verdicts, sources.plan, options)
    rows = [_row(row, half_width, level) for row in computed.rows]
    width = f"+-{half_width:.0%} at {level * 100:g}%"
    notes = [f"Tasks needed for {width}, if further ones are like these; repeats of a task do not stand for tasks."]
    if any(row["tasks_needed"] is None for row in rows):
        notes.append("?: cannot be told, for want of two tasks, of a success, or of known costs.")
    return Table(rows=rows, fields=FIELDS, columns=_COLUMNS, notes=tuple(notes))


def _row(row: Row, half_width: float, level: float) -> Row:
    low, high, now = row["cost_per_success_low"], row["cost_per_success_high"], None
    if low is not None and high is not None and low > 0:
        now = math.sqrt(high / low) - 1  # The interval is symmetric in logarithms.
    needed, ratio = row["tasks_needed"], row["vs_baseline_tasks_needed"]
    missing = None if needed is None else max(0, needed - row["tasks"])
    ratio_missing = None if ratio is None else max(0, ratio - row["vs_baseline_tasks"])
    cost = None
    if missing is not None and row["total_cost_usd"] is not None and not row["unknown_costs"]:
        cost = (row["total_cost_usd"] / row["tasks"] * missing).quantize(Decimal("1E-12")).normalize()
    return {
        "configuration": row["configuration"],
        "baseline": row["baseline"],
        "tasks": row["tasks"],
        "half_width": half_width,
        "half_width_now": now,
        "tasks_needed": needed,
        "tasks_missing": missing,
        "missing_usd": cost,
        "vs_baseline_tasks_needed": ratio,
        "vs_baseline_tasks_missing": ratio_missing,
        "level": level,
    }


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _against(row: Row) -> str:
    return "baseline" if row["baseline"] else _count(row["vs_baseline_tasks_needed"])


_COLUMNS = (
    Column(title="configuration", text=lambda row: row["configuration"], name=True),
    Column(title="tasks", text=lambda row: _count(row["tasks"])),
    Column(title="+- now", text=lambda row: "?" if row["half_width_now"] is None else f"{row['half_width_now']:.0%}"),
    Column(title="needed", text=lambda row: _count(row["tasks_needed"])),
    Column(title="missing", text=lambda row: _count(row["tasks_missing"])),
    Column(title="they cost", text=lambda row: "?" if row["missing_usd"] is None else shown.usd(row["missing_usd"])),
    Column(title="needed for the ratio", text=_against),
)
