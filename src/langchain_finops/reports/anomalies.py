"""Days on which an agent, node or model cost far more or less than it used to, by its own past.

The modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993): 0.6745 times the distance from
the median, over the median absolute deviation (MAD). Both stay put whatever a few odd days did, where a mean and a
standard deviation would be dragged along by the very days that are looked for. Above 3.5 a day is an anomaly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import MICROS_PER_DAY
from langchain_finops.ledger.doings import daily_costs
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.summary import known_usd
from langchain_finops.money import EXACT, from_pico

__all__ = ["anomalies"]

NAMES: Final = ("agent", "node", "model")
PAST_DAYS: Final = 60
LEAST_DAYS: Final = 14
"""Without so many days before it a day is not judged."""
THRESHOLD: Final = 3.5
CONSISTENT: Final = 0.6745
LEAST_SPREAD: Final = 0.05
"""Of the median: where every day cost the same, the smallest change would else be an anomaly."""
LEAST_PICO: Final = 10**10
"""A cent: what is less is not worth a look."""
ENDLESS: Final = 1e9
"""The score of what never cost anything before: JSON has no word for infinity."""
DAY: Final = timedelta(days=1)
EPOCH: Final = date(1970, 1, 1)


def anomalies(
    ledger: Ledger, *, since: datetime | None = None, until: datetime | None = None, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Return the days of a period (the last seven whole ones) that are far from the 60 before them, farthest first.

    Days are UTC; a day that is not over is not judged, nor is one with less than 14 days of its thing's own before it.
    """
    now = at or datetime.now(UTC)
    over = now.astimezone(UTC).date()
    last = min(over, _date(until)) if until is not None else over
    first = _date(since) if since is not None else last - 7 * DAY
    period = Period(_micros(first - PAST_DAYS * DAY), _micros(last))
    series: dict[tuple[str, str | None], dict[date, _Day]] = {}
    for (kind, number), (records, pico) in daily_costs(ledger, period).items():
        for name in NAMES:
            if name == "agent" or kind.is_call:  # A tool has neither a model nor, always, a node.
                days = series.setdefault((name, getattr(kind, name)), {})
                days.setdefault(EPOCH + number * DAY, _Day()).add(records, pico, unpriced=kind.unpriced)
    found = [row for key, days in series.items() for row in _judged(*key, days, first, last)]
    return sorted(found, key=lambda row: (-abs(row["score"]), row["what"], row["name"] or "", row["day"]))


@dataclass(slots=True)
class _Day:
    records: int = 0
    unpriced: int = 0
    pico: int = 0

    def add(self, records: int, pico: int, *, unpriced: bool) -> None:
        self.records += records
        self.unpriced += records * unpriced
        self.pico += pico


def _micros(day: date) -> int:
    return (day - EPOCH).days * MICROS_PER_DAY


def _date(moment: datetime) -> date:
    """The first whole UTC day from a moment on."""
    utc = moment.astimezone(UTC)
    return utc.date() + (DAY if utc.time() != datetime.min.time() else timedelta(0))


def _judged(name: str, value: str | None, days: Mapping[date, _Day], first: date, last: date) -> list[dict[str, Any]]:
    began = min(days)
    rows = []
    for back in range((last - first).days):
        day = first + back * DAY
        past = [_pico(days.get(day - n * DAY)) for n in range(1, PAST_DAYS + 1) if day - n * DAY >= began]
        if len(past) < LEAST_DAYS:
            continue
        cost, usual = _pico(days.get(day)), median(past)
        score = _score(cost, past)
        if abs(score) > THRESHOLD and abs(cost - usual) >= LEAST_PICO:
            there = days.get(day, _Day())
            rows.append(
                {
                    "what": name,
                    "name": value,
                    "day": day,
                    "cost_usd": known_usd(
                        from_pico(cost), known=there.records - there.unpriced, unknown=there.unpriced
                    ),
                    "unpriced": there.unpriced,
                    "usual_usd": _usual_usd(past),
                    "score": score,
                    "days": len(past),
                }
            )
    return rows


def _pico(day: _Day | None) -> int:
    return 0 if day is None else day.pico


def _usual_usd(past: Sequence[int]) -> Decimal:
    """The median, exactly: of an even number of days it lies between two."""
    ordered, middle = sorted(past), len(past) // 2
    return EXACT.divide(from_pico(ordered[middle] + ordered[~middle]), Decimal(2))


def _score(cost: int, past: Sequence[int]) -> float:
    """How many robust standard deviations a day is from the median of its past."""
    usual = median(past)
    spread = max(median(abs(each - usual) for each in past) / CONSISTENT, LEAST_SPREAD * abs(usual))
    if not spread:
        return 0.0 if cost == usual else ENDLESS * (1 if cost > usual else -1)
    return float((cost - usual) / spread)
