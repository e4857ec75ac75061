"""When and on what a price counts: dates, hours of the day, weekdays, globs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase

from langchain_finops.pricing.cost import PriceKey
from langchain_finops.records import EMPTY

__all__ = ["ALWAYS", "EVERY_CALL", "Match", "Validity", "day_in_name", "fits", "midnight"]

DAY = re.compile(r"(?<!\d)(20[12]\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """When a price counts. All that is given has to hold: dates, hours and weekdays, all in UTC."""

    starts: datetime | None = None
    until: datetime | None = None
    """The first moment at which it no longer counts."""
    hours: tuple[tuple[time, time], ...] = ()
    """Windows of the day, each from its first moment to just before its second; none for the whole day."""
    weekdays: frozenset[int] = frozenset(range(7))
    """0 is Monday."""

    def holds(self, at: datetime) -> bool:
        """True where the price counts at that moment, in UTC."""
        moment = at.time()
        return (
            (self.starts is None or at >= self.starts)
            and (self.until is None or at < self.until)
            and at.weekday() in self.weekdays
            and (not self.hours or any(first <= moment < last for first, last in self.hours))
        )

    def edges(self, at: datetime) -> Iterator[datetime]:
        """The moments near `at` from which `holds` may give another answer."""
        yield from (moment for moment in (self.starts, self.until) if moment is not None)
        days = [at.date() + timedelta(days=step) for step in (-1, 0, 1) if date.min < at.date() < date.max]
        for day in days:
            if len(self.weekdays) < 7:
                yield midnight(day)
            for window in self.hours:
                yield from (datetime.combine(day, edge, UTC) for edge in window)


ALWAYS = Validity()


def midnight(day: date) -> datetime:
    """The first moment of a day in UTC."""
    return datetime.combine(day, time(), UTC)


def day_in_name(model: str) -> datetime | None:
    """The day that a snapshot's name carries, as in `gpt-5-2025-08-07`: it did not exist before. None without one."""
    found = DAY.search(model)
    try:
        return None if found is None else midnight(date(*map(int, found.groups())))
    except ValueError:  # February 30th.
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which calls a card is for. Globs, case apart; all that is given has to fit, and what is not given fits all."""

    provider: str | None = None
    model: tuple[str, ...] = ()
    """One of these has to fit the model as answered or as requested."""
    base_url_host: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)

    def covers(self, key: PriceKey) -> bool:
        """True for a call that the card is for, its dates apart."""
        return (
            fits(self.provider, key.provider)
            and (not self.model or any(fits(glob, name) for glob in self.model for name in _names(key)))
            and fits(self.base_url_host, key.base_url_host)
            and all(fits(glob, key.tags.get(name)) for name, glob in self.tags.items())
        )


def _names(key: PriceKey) -> tuple[str | None, ...]:
    return (key.model, key.requested_model)


EVERY_CALL = Match()


def fits(glob: str | None, value: object) -> bool:
    """True where there is no glob, or it fits a text, case apart."""
    if glob is None:
        return True
    return isinstance(value, str) and fnmatchcase(value.lower(), glob.lower())
