"""The report's pictures: cost against success, a strip of tasks, a bar. SVG in the page, without a script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_finops.evals.html_words import dollars, escaped

__all__ = ["Point", "Scale", "bar", "scatter", "strip"]

WIDTH, HEIGHT = 520, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 14, 46
"""Room for the axes' figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A configuration in the picture of cost against success."""

    number: int
    """As the key under the picture counts."""
    name: str
    cost: float
    cost_low: float | None
    cost_high: float | None
    rate: float
    rate_low: float
    rate_high: float
    is_on_frontier: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a cost stands, from 0 to 1: by its logarithm, for the dearest is often a hundred times the cheapest."""

    low: float
    high: float

    @classmethod
    def of(cls, costs: Sequence[float]) -> "Scale | None":
        """A scale that holds them all; None where nothing costs anything."""
        known = [cost for cost in costs if cost > 0 and math.isfinite(cost)]
        if not known:
            return None
        low, high = min(known), max(known)
        return cls(low, high) if high > low * 1.02 else cls(low / 1.5, high * 1.5)

    def place(self, cost: float) -> float:
        """What is free stands at the lower end."""
        if cost <= self.low:
            return 0.0
        return min(math.log(cost / self.low) / math.log(self.high / self.low), 1.0)

    def padded(self) -> "Scale":
        """With some room at both ends."""
        room = (self.high / self.low) ** 0.06
        return Scale(self.low / room, self.high * room)

    def steps(self) -> list[float]:
        """Round figures for an axis: two to seven of them."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100))):
            found = [step * 10.0**decade for decade in decades for step in digits]
            within = [step for step in found if self.low <= step <= self.high]
            if len(within) >= 3:
                return within[:: math.ceil(len(within) / 6)]
        return [self.low, self.high]


def scatter(points: Sequence[Point]) -> str:
    """Cost of an attempt to the right, success rate upwards, intervals as crosses, the frontier as a line."""
    reach = [cost for point in points for cost in (point.cost, point.cost_low, point.cost_high) if cost is not None]
    scale = Scale.of(reach)
    if scale is None:
        return ""
    scale = scale.padded()
    parts = [*_grid(scale), *_front(points, scale)]
    # Dots come last, the frontier's on top of all, or a cross of another would strike out a number.
    ordered = sorted(points, key=lambda point: point.is_on_frontier)
    parts += [line for point in ordered for line in _cross(point, scale)]
    parts += [_dot(point, scale) for point in ordered]
    label = "Cost of an attempt against success rate, with intervals and the frontier"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def strip(costs: Sequence[float], scale: Scale) -> str:
    """A tick for each task, a box over the middle half of them, a line at the median."""
    ordered = sorted(costs)
    places = [2 + 196 * scale.place(cost) for cost in ordered]
    # Ticks that lie on each other are one: 500 tasks would make a page of megabytes.
    ticks = "".join(f'<line class="tick" x1="{at}" x2="{at}" y1="3" y2="15"/>' for at in _apart(places))
    low, middle, high = (2 + 196 * scale.place(_quantile(ordered, share)) for share in (0.25, 0.5, 0.75))
    box = f'<rect class="box" x="{low:.1f}" y="1" width="{max(high - low, 0.5):.1f}" height="16"/>'
    median = f'<line class="middle" x1="{middle:.1f}" x2="{middle:.1f}" y1="0" y2="18"/>'
    return f'<svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true">{box}{ticks}{median}</svg>'


def bar(share: float) -> str:
    """A bar of this share of the width."""
    width = max(0.0, min(share, 1.0)) * 200
    return (
        '<svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar" x="0" y="4" width="{width:.1f}" height="10"/></svg>'
    )


def _grid(scale: Scale) -> list[str]:
    parts = []
    bottom = HEIGHT - BOTTOM
    for percent in range(0, 101, 20):
        y = _y(percent / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{percent}%</text>')
    for cost in scale.steps():
        x = _x(scale, cost)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{escaped(dollars(cost, digits=2))}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">cost of an attempt, logarithmic</text>')
    return parts


def _front(points: Sequence[Point], scale: Scale) -> list[str]:
    on = sorted((point for point in points if point.is_on_frontier), key=lambda point: point.cost)
    if len(on) < 2:
        return []
    way = " ".join(f"{_x(scale, point.cost)},{_y(point.rate)}" for point in on)
    return [f'<polyline class="front" points="{way}" stroke-width="1.5" stroke-dasharray="5 4"/>']


def _cross(point: Point, scale: Scale) -> list[str]:
    x, y = _x(scale, point.cost), _y(point.rate)
    lines = [f'<line class="reach" x1="{x}" x2="{x}" y1="{_y(point.rate_low)}" y2="{_y(point.rate_high)}"/>']
    if point.cost_low is not None and point.cost_high is not None:
        left, right = _x(scale, point.cost_low), _x(scale, point.cost_high)
        lines.append(f'<line class="reach" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
    return lines


def _dot(point: Point, scale: Scale) -> str:
    x, y = _x(scale, point.cost), _y(point.rate)
    kind = "dot on" if point.is_on_frontier else "dot"
    told = escaped(f"{point.name}: {dollars(point.cost)} an attempt, {point.rate:.0%} right")
    return (
        f'<g><title>{told}</title><circle class="{kind}" cx="{x}" cy="{y}" r="8"/>'
        f'<text class="number" x="{x}" y="{y + 3.5:.1f}">{point.number}</text></g>'
    )


def _x(scale: Scale, cost: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * scale.place(cost), 1)


def _y(rate: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate), 1)


def _apart(places: Sequence[float]) -> list[float]:
    return sorted({round(place * 2) / 2 for place in places})


def _quantile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
