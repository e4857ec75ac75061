"""The figures of a moment as rows, for programs; and how amounts of them are said."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from langchain_finops.ledger.summary import show_usd
from langchain_finops.reports.live import DIMENSIONS, HOUR, PACE, Live, Spent
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["amount", "live_table", "per_hour", "span"]

FIELDS: Final = (
    "kind", "name", "agent", "cost_usd", "usd_per_hour", "calls", "tokens", "unpriced", "step", "node", "left",
    "began", "newest", "at", "text",
)  # fmt: skip


def amount(spent: Spent) -> str:
    """What was spent, for people: `>=` in front where part of it has no price, which is not free."""
    usd = spent.usd
    if usd is None:
        return "unpriced"
    return f">= {show_usd(usd, bound=True)}" if spent.unpriced else show_usd(usd)


def per_hour(spent: Spent, span: timedelta) -> Decimal | None:
    """What an hour costs at the pace of a span; None where nothing is priced."""
    usd = spent.usd
    return None if usd is None else usd * HOUR.seconds / span.seconds


def span(passed: timedelta) -> str:
    """Minutes and seconds; hours and minutes from an hour on, days from a day on."""
    seconds = max(int(passed.total_seconds()), 0)
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02}"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02}" if seconds < 86_400 else f"{seconds // 86_400} days"


def live_table(live: Live, caption: str | None = None) -> Table:
    """One row each: the rate, the hour, today and its forecast; running runs; who spent most; and alerts."""
    rows = [{**dict.fromkeys(FIELDS), "at": live.at, **row} for row in _rows(live)]
    return Table(rows=rows, fields=FIELDS, columns=_COLUMNS, caption=caption)


def _rows(live: Live) -> Iterator[dict[str, Any]]:
    for name, spent, span in (("5 minutes", live.pace, PACE), ("hour", live.hour, HOUR), ("today", live.today, None)):
        rate = None if span is None else per_hour(spent, span)
        yield {"kind": "spent", "name": name, **_sums(spent), "usd_per_hour": rate}
    yield {"kind": "forecast", "name": "today", "cost_usd": live.forecast_usd, "unpriced": live.today.unpriced}
    for run in live.runs:
        facts = {name: getattr(run, name) for name in ("agent", "step", "node", "left", "began", "newest")}
        yield {"kind": "run", "name": run.run_id, **facts, **_sums(run.spent)}
    for dimension in DIMENSIONS:
        for key, spent in live.top[dimension]:
            node = live.dearest_node.get(key) if dimension == "agent" else None
            yield {"kind": dimension, "name": key, "node": node, **_sums(spent), "usd_per_hour": per_hour(spent, HOUR)}
    for at, text in live.alerts:
        yield {"kind": "alert", "at": at or live.at, "text": text}


def _sums(spent: Spent) -> dict[str, Any]:
    return {"cost_usd": spent.usd, "calls": spent.calls, "tokens": spent.tokens, "unpriced": spent.unpriced}


def _money(row: Row) -> str:
    if row["kind"] == "alert":
        return "-"
    usd, unpriced = row["cost_usd"], row["unpriced"]
    if usd is None:
        return "unpriced"
    return f">= {show_usd(usd, bound=True)}" if unpriced else show_usd(usd)


def _shown(name: str) -> Any:
    return lambda row: "-" if row[name] is None else f"{row[name]:,}" if isinstance(row[name], int) else str(row[name])


_COLUMNS: Final = (
    Column(title="what", text=_shown("kind"), name=True),
    Column(title="name", text=_shown("name"), name=True),
    Column(title="cost", text=_money),
    Column(title="calls", text=_shown("calls"), rank=1),
    Column(title="step", text=_shown("step"), rank=2),
    Column(title="left", text=_shown("left"), rank=2),
    Column(title="text", text=lambda row: row["text"] or "-", below=True),
)
