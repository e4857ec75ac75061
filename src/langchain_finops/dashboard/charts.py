"""Shapes of the charts, as numbers: templates draw them as SVG in boxes of 1000 x 100 that stretch to their place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Final

from langchain_finops.ledger.summary import show_usd
from langchain_finops.money import from_pico
from langchain_finops.reports.live import Spent
from langchain_finops.reports.live_table import amount
from langchain_finops.reports.one_run import Context
from langchain_finops.reports.spend import OverTime

__all__ = ["Bar", "Chart", "Part", "Span", "line_of", "share_of", "span_of", "spend_chart"]

WIDTH: Final = 1000
HEIGHT: Final = 100
TICKS: Final = 6
"""Times that are written under a chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An agent's part of a bar."""

    series: int
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One span of time."""

    x: float
    width: float
    parts: list[Part]
    label: str
    """Its time, for people."""
    tick: str
    """Its time under the chart; empty where there is no room."""
    total: str
    amounts: list[str]
    """By series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Stacked bars."""

    bars: list[Bar]
    top: str
    """What the highest line stands for; empty where nothing has a known price."""
    middle: str
    is_empty: bool


def spend_chart(over: OverTime) -> Chart:
    """Return the bars of what was spent; a credit, which is negative, is not drawn below the line."""
    highest = max((sum(max(each.spent[place].pico, 0) for each in over.series) for place in range(len(over.starts))),
                  default=0)  # fmt: skip
    top = _round_up(highest)
    slot = WIDTH / max(len(over.starts), 1)
    bars = [_bar(over, place, slot, top) for place in range(len(over.starts))]
    return Chart(
        bars=bars,
        top=_axis(Decimal(top)) if highest else "",
        middle=_axis(Decimal(top) / 2) if highest else "",
        is_empty=not any(bar.records for bar in over.bars),
    )


def _bar(over: OverTime, place: int, slot: float, top: int) -> Bar:
    y, parts = float(HEIGHT), []
    for number, each in enumerate(over.series):
        height = max(each.spent[place].pico, 0) / top * HEIGHT
        if height:
            y -= height
            parts.append(Part(series=number, y=round(y, 3), height=round(height, 3)))
    start = over.starts[place]
    end = over.starts[place + 1] if place + 1 < len(over.starts) else start + over.step
    every = -(-len(over.starts) // TICKS)
    return Bar(
        x=round(place * slot + slot * 0.08, 2),
        width=round(slot * 0.84, 2),
        parts=parts,
        label=_label(start, end, over.step),
        tick=_tick(start, over.step) if (len(over.starts) - 1 - place) % every == 0 else "",
        total=said(over.bars[place]),
        amounts=[said(each.spent[place]) for each in over.series],
    )


def said(spent: Spent) -> str:
    """An amount, or `-` where there was nothing to pay for."""
    return amount(spent) if spent.records else "-"


def _round_up(pico: int) -> int:
    """The next amount that reads well: 1, 2, 2.5 or 5 times a power of ten."""
    power: int = 10 ** max(len(str(pico)) - 1, 1)
    return next(step * power // 4 for step in (4, 8, 10, 20, 40) if step * power // 4 >= pico)


def _axis(pico: Decimal) -> str:
    usd = from_pico(int(pico))
    if usd >= 1000:
        return f"${usd:,.0f}"
    return f"${usd.normalize():f}" if usd == usd.quantize(Decimal("0.001")) else show_usd(usd)


def _label(start: datetime, end: datetime, step: timedelta) -> str:
    if step >= timedelta(days=1):
        return f"{start:%Y-%m-%d}" if start.time() == time() else f"{start:%Y-%m-%d} from {start:%H:%M}"
    return f"{start:%Y-%m-%d %H:%M} - {end:%H:%M}"


def _tick(start: datetime, step: timedelta) -> str:
    return f"{start:%d %b}" if step >= timedelta(hours=6) else f"{start:%H:%M}"


def share_of(part: int | Decimal, whole: int | Decimal) -> float:
    """How far a bar reaches, in 1000: what is more than nothing is seen."""
    if whole <= 0 or part <= 0:
        return 0.0
    return round(min(max(float(part / whole), 0.003), 1) * WIDTH, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where in a run a call lies."""

    x: float
    width: float


def span_of(began: datetime, ended: datetime, first: datetime, last: datetime) -> Span:
    """Return the place of a call between a run's first and last moment."""
    whole = max((last - first) / timedelta(microseconds=1), 1)
    x = (began - first) / timedelta(microseconds=1) / whole * WIDTH
    width = (ended - began) / timedelta(microseconds=1) / whole * WIDTH
    return Span(x=round(min(x, WIDTH - 4), 1), width=round(max(width, 4), 1))


def line_of(context: Context, highest: int) -> str:
    """Return the points of a line: one each call, as high as its input."""
    points: Sequence[tuple[datetime, int]] = context.points
    wide = WIDTH / (len(points) - 1)
    return " ".join(
        f"{place * wide:.1f},{HEIGHT - tokens / max(highest, 1) * HEIGHT:.1f}"
        for place, (_, tokens) in enumerate(points)
    )
