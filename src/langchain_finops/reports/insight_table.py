"""Findings as tables: the summary, and the rows behind one of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from langchain_finops.ledger.summary import UNATTRIBUTED, show_usd
from langchain_finops.reports.economics_table import percent
from langchain_finops.reports.insight import FIELDS, FINDINGS, SUMMARY_FIELDS, WITHOUT_COST, Insight
from langchain_finops.reports.render import Column, Table

__all__ = ["finding_table", "insight_table"]

Row = Mapping[str, Any]

NOTES: Final = {
    "anomalies": "Days that are more than 3.5 robust standard deviations (median and MAD) from those before "
    "them, of which there must be 14. Only whole UTC days are judged.",
    "retries": "Calls that were a second try or later, of their node (RetryPolicy) or by with_retry.",
    "failures": "Calls that ended in an error and were charged all the same.",
    "failed_tasks": "All that was done for tasks that failed; finops economics has what succeeded.",
    "overhead": "Calls of role overhead, such as summaries of the history.",
    "idle": "Agents whose runs begin at regular times and mostly go the same way (the same calls and tools) without a "
    "success: what polling costs.",
    "context": "Input tokens of a node's first and last call in a run, and how many each further call adds; of runs in "
    "which it made two or more.",
    "cache": "hit rate: tokens read from a cache, of all input. efficiency: 1 - prompt cost / what it had cost without "
    "a cache; below 0 the cache cost more than it saved.",
    "prefixes": "Of calls whose prompts have digests. prefix: the beginning that came again most, its tokens; again: "
    "calls that begin as an earlier one did, and how soon after it. best cache: the one of the model's that saves most "
    "against none. cached: what caches saved so far; could save: what the best had saved more than that. broken by: "
    "what kept most tokens from being the same as five minutes before or less, and the cost of that.",
    "verbosity": "Tokens of calls that name a task: tokens/success and successes a million over all such tasks, failed "
    "output: of the output in judged tasks that of failed ones. output share: of all tokens. Daily sums are left out.",
}


def insight_table(found: Insight, caption: str) -> Table:
    """Return the summary ready to render."""
    return Table(
        rows=found.summary(),
        fields=SUMMARY_FIELDS,
        columns=(
            Column(title="finding", text=lambda row: str(row["finding"]), name=True),
            Column(title="rows", text=lambda row: f"{row['rows']:,}"),
            Column(title="cost", text=_summary_cost),
            Column(title="share", text=lambda row: percent(row["share"]), rank=2),
            Column(title="first of them", text=_worst, name=True, rank=1),
        ),
        caption=caption,
        notes=(
            f"`finops insight NAME` shows the rows: {', '.join(FINDINGS)}. A cost may be part of several findings.",
            "share: of all cost of the period that is known.",
        ),
    )


def finding_table(found: Insight, name: str, caption: str) -> Table:
    """Return the rows behind a finding, ready to render."""
    rows = found.rows[name]
    estimated = sum(row.get("estimated", 0) for row in rows)
    hidden = () if estimated else ("estimated",)
    return Table(
        rows=rows,
        fields=FIELDS[name],
        columns=tuple(_columns(name, hidden)),
        caption=caption,
        notes=(NOTES[name], *((_estimated(estimated, rows),) if estimated else ())),
    )


def _estimated(count: int, rows: Sequence[Row]) -> str:
    calls = sum(row["calls"] for row in rows)
    return f"estimated: {count:,} of {calls:,} calls, which did not report tokens or price."


def _summary_cost(row: Row) -> str:
    return "" if row["finding"] in WITHOUT_COST else _cost(row)


def _cost(row: Row) -> str:
    return _usd("cost_usd")(row)


def _worst(row: Row) -> str:
    return "" if row["worst"] is None else " ".join(_said(value) for value in row["worst"].values())


def _said(value: object) -> str:
    return UNATTRIBUTED if value is None else str(value)


def _usd(name: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        if row[name] is None:
            return "unpriced" if name == "cost_usd" else "-"
        bound = name == "cost_usd" and bool(row.get("unpriced"))
        return f">= {show_usd(row[name], bound=True)} ({row['unpriced']:,} unknown)" if bound else show_usd(row[name])

    return show


def _count(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,}"


def _name(name: str) -> Callable[[Row], str]:
    return lambda row: _said(row[name])


def _part(name: str) -> Callable[[Row], str]:
    return lambda row: percent(row[name])


def _number(name: str) -> Callable[[Row], str]:
    return lambda row: "-" if row[name] is None else f"{row[name]:,.0f}" if row[name] >= 10 else f"{row[name]:,.2g}"


def _tokens(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,.0f}"


SHOWN: Final[Mapping[str, tuple[str, Callable[[str], Callable[[Row], str]], int]]] = {
    **{name: (name, _name, 0) for name in ("agent", "node", "model", "what", "name", "day")},
    "provider": ("provider", _name, 5),
    **{name: (name, _count, 1) for name in ("calls", "tasks", "runs", "days")},
    "prefix": ("prefix", _name, 3),
    "prefix_tokens": ("tokens", _number, 2),
    "repeats": ("again", _count, 0),
    "within_5m": ("in 5 min", _part, 4),
    "within_1h": ("in 1 h", _part, 6),
    "cached_usd": ("cached", _usd, 5),
    "best_cache": ("best cache", lambda name: lambda row: row[name] or "unknown", 1),
    "could_save_usd": ("could save", _usd, 0),
    "broken_by": ("broken by", lambda name: lambda row: row[name] or "", 0),
    "lost_usd": ("lost", _usd, 2),
    "judged": ("judged", _count, 6),
    "estimated": ("estimated", _count, 2),
    "successes": ("success", _count, 0),
    "output_tokens": ("output", _count, 5),
    "output_per_call": ("a call", _number, 2),
    "output_share": ("output share", _part, 3),
    "tokens_per_success": ("tokens/success", _number, 4),
    "successes_per_million": ("success/million", _number, 0),
    "failed_output_share": ("failed output", _part, 0),
    "idle_runs": ("idle", _count, 0),
    "every_s": ("every", lambda name: lambda row: str(timedelta(seconds=round(row[name]))), 0),
    "cost_usd": ("cost", _usd, 0),
    "usual_usd": ("usual", _usd, 0),
    "score": ("score", lambda name: lambda row: f"{row[name]:+,.1f}" if abs(row[name]) < 1e6 else "new", 0),
    "share": ("share", _part, 2),
    "first_tokens": ("first", _tokens, 0),
    "last_tokens": ("last", _tokens, 0),
    "growth_per_step": ("a step", lambda name: lambda row: f"{row[name]:+,.0f}", 0),
    "input_tokens": ("input", _count, 4),
    "cache_read_tokens": ("read", _count, 4),
    "cache_write_tokens": ("written", _count, 6),
    "hit_rate": ("hit rate", _part, 0),
    "prompt_usd": ("prompt", _usd, 3),
    "saved_usd": ("saved", _usd, 0),
    "efficiency": ("efficiency", _part, 0),
    "unknown": ("unknown", _count, 5),
}


def _columns(name: str, hidden: Sequence[str]) -> Iterator[Column]:
    for field in FIELDS[name]:
        if field in SHOWN and field not in hidden:
            title, text, rank = SHOWN[field]
            yield Column(title=title, text=text(field), name=text is _name, rank=rank)
