"""Periods by name, in a time zone and with a fiscal year: `2026-03`, `2026-Q1`, `FY2026`, `2026-03-02`.

A day begins at the first moment of its date, also where clocks skip midnight; so days have 23 to 25 hours, and every
moment is in exactly one.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from langchain_finops.budgets.windows import zone_of
from langchain_finops.errors import BadArguments

__all__ = ["Calendar"]

_NAMES: Final = re.compile(
    r"(?P<fiscal>FY)?(?P<year>\d{4})(?:-(?:Q(?P<quarter>[1-4])|(?P<month>\d\d)(?:-(?P<day>\d\d))?))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Where days begin, and in which month a fiscal year. Raises BadArguments for no zone and no month."""

    time_zone: str = "UTC"
    fiscal_start: int = 1
    """The month, 1 to 12. A fiscal year has the name of the calendar year that it ends in."""

    def __post_init__(self) -> None:
        if not 1 <= self.fiscal_start <= 12:
            raise BadArguments(f"fiscal year start {self.fiscal_start} is no month: write 1 to 12")
        try:
            zone_of(self.time_zone)
        except ValueError as error:
            raise BadArguments(str(error)) from error

    def begin(self, day: date) -> datetime:
        """Return the first moment of a date, in UTC."""
        try:
            return datetime(day.year, day.month, day.day, tzinfo=zone_of(self.time_zone)).astimezone(UTC)
        except OverflowError as error:
            raise BadArguments(f"{day} is too far away for a calendar in {self.time_zone}") from error

    def period(self, name: str) -> tuple[datetime, datetime]:
        """Return the first moment of a period and of what follows it. Raises BadArguments for what is no period."""
        found = _NAMES.fullmatch(name)
        try:
            if found is not None:
                first, following = self._dates(found)
                return self.begin(first), self.begin(following)
        except ValueError as error:
            raise BadArguments(f"{name!r} is no period: {error}") from error
        raise BadArguments(f"{name!r} is no period: write 2026-03, 2026-Q1, 2026, 2026-03-02, FY2026 or FY2026-Q1")

    def _dates(self, found: re.Match[str]) -> tuple[date, date]:
        year, fiscal = int(found["year"]), found["fiscal"] is not None
        if found["day"]:
            day = date(year, int(found["month"]), int(found["day"]))
            return day, date.fromordinal(day.toordinal() + 1)
        if found["month"]:
            if fiscal:
                raise ValueError("a month is not of a fiscal year; leave FY out")
            first = date(year, int(found["month"]), 1)
            return first, _later(first, 1)
        first = date(year, 1, 1)
        if fiscal:
            first = date(year - (self.fiscal_start > 1), self.fiscal_start, 1)
        if found["quarter"]:
            first = _later(first, 3 * (int(found["quarter"]) - 1))
            return first, _later(first, 3)
        return first, _later(first, 12)


def _later(day: date, months: int) -> date:
    whole = day.month - 1 + months
    return date(day.year + whole // 12, whole % 12 + 1, 1)
