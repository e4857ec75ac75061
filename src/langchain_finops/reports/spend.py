"""Spend over time by agent, and an agent's nodes: what a page draws, of a million calls in parts of a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from langchain_finops.ledger.codec import from_micros, to_micros
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.label_totals import totals_by_label
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.summary import Summary
from langchain_finops.ledger.totals import Group, Totals
from langchain_finops.reports.live import Spent

__all__ = ["SPANS", "Nodes", "OverTime", "Series", "nodes_of", "spend_over_time", "spent_of"]

SPANS: Final[Mapping[str, tuple[timedelta, timedelta]]] = {
    "1h": (timedelta(hours=1), timedelta(minutes=5)),
    "24h": (timedelta(days=1), timedelta(hours=1)),
    "7d": (timedelta(days=7), timedelta(hours=6)),
    "30d": (timedelta(days=30), timedelta(days=1)),
}
"""How far back a chart looks, and how long each of its bars is."""
NAMED: Final = 6
"""Agents that have a colour of their own; the others are drawn together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One agent's spend, or that of all others together."""

    agent: str | None
    is_rest: bool
    spent: list[Spent]
    """By bar."""
    total: Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTime:
    """Bars from the oldest, which begins within its hour or day, to the newest, which is not over yet."""

    starts: list[datetime]
    step: timedelta
    series: list[Series]
    """Dearest first, all others last."""
    bars: list[Spent]
    total: Spent


def spent_of(totals: Totals) -> Spent:
    """Return sums of calls and charges together."""
    return Spent(
        calls=totals.calls,
        unpriced=totals.unpriced + totals.charges_unpriced,
        records=totals.calls + totals.charges,
        pico=totals.cost_pico + totals.charge_pico,
        tokens=totals.input_tokens + totals.output_tokens,
    )


def spend_over_time(ledger: SqlLedger, span: str, now: datetime) -> OverTime:
    """Return what was spent by agent in each bar of a span of `SPANS`. The bars begin on the clock, but for the first,
    which begins where the span does: what they add up to is the span's."""
    length, step = SPANS[span]
    size = step // timedelta(microseconds=1)
    last = to_micros(now) // size
    since = to_micros(now - length)
    first = since // size
    found = totals_by_label(ledger, ("agent_id",), Period(since, None), bucket=size)
    by_agent: dict[str | None, list[Spent]] = {}
    for ((agent,), place), totals in found.items():
        # A clock that runs ahead: what it dates into the future is of now.
        bars = by_agent.setdefault(agent, [Spent() for _ in range(first, last + 1)])
        bars[min(place, last) - first].merge(spent_of(totals))
    dearest = sorted(by_agent, key=lambda agent: (-sum(each.pico for each in by_agent[agent]), agent or ""))
    series = [_series(agent, by_agent[agent]) for agent in dearest[:NAMED]]
    if rest := dearest[NAMED:]:
        series.append(_series(None, _added(by_agent[agent] for agent in rest), is_rest=True))
    bars = _added((each.spent for each in series), last + 1 - first)
    return OverTime(
        starts=[from_micros(max(place * size, since)) for place in range(first, last + 1)],
        step=step,
        series=series,
        bars=bars,
        total=_whole(bars),
    )


def _added(many: Any, bars: int = 0) -> list[Spent]:
    sums = [Spent() for _ in range(bars)]
    for each in many:
        sums = sums or [Spent() for _ in each]
        for whole, part in zip(sums, each, strict=True):
            whole.merge(part)
    return sums


def _whole(bars: list[Spent]) -> Spent:
    total = Spent()
    for bar in bars:
        total.merge(bar)
    return total


def _series(agent: str | None, spent: list[Spent], *, is_rest: bool = False) -> Series:
    return Series(agent=agent, is_rest=is_rest, spent=spent, total=_whole(spent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """An agent's nodes and models."""

    rows: list[dict[str, Any]]
    """As `Summary.rows` has them: own and subtree cost, parents before children."""
    models: list[tuple[str | None, Spent]]
    """Dearest first."""
    total: Spent


def nodes_of(ledger: SqlLedger, agent: str | None, since: datetime | None) -> Nodes:
    """Return what each node of an agent cost since then; of those that name no agent for None."""
    found = totals_by_label(ledger, ("node_path", "model"), Period.of(since, None), filters={"agent_id": agent})
    by_node: dict[str | None, Totals] = {}
    by_model: dict[str | None, Spent] = {}
    for ((node, model), _), totals in found.items():
        by_node.setdefault(node, Totals()).merge(totals)
        if totals.calls:
            by_model.setdefault(model, Spent()).merge(spent_of(totals))
    groups = [Group(key=(node,), totals=totals) for node, totals in by_node.items()]
    rows: list[dict[str, Any]] = list(Summary(("node",), groups).rows())
    models = sorted(by_model.items(), key=lambda each: (-each[1].pico, each[0] or ""))
    return Nodes(rows=rows, models=models, total=_whole([spent_of(totals) for totals in by_node.values()]))
