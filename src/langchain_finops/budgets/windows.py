"""Which stretch of time a limit is for: calendar windows in UTC or in a time zone, and windows of a fixed length.

Every moment is in exactly one window, and each begins where the one before ends. What happens where clocks change:

* A day begins at the first moment of its date, so it may have 23 or 25 hours; weeks begin on Monday (ISO 8601).
* Hours, and lengths that divide a day, such as `30m`, are counted from the day's beginning in time that really
  passed. On a day of 23 or 25 hours there are fewer or more of them, and its last may be short.
* Lengths of whole days are counted in calendar days, from a Monday: `7d` is `week`.
* Other lengths, such as `5h`, are counted from 1970-01-01T00:00Z, whatever the time zone.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from langchain_finops.errors import BadArguments

__all__ = ["PERIODS", "length_s", "per_of", "utc", "window", "zone_of"]

PERIODS: Final = ("hour", "day", "week", "month", "quarter", "year")
LONGEST_DAYS: Final = 366
"""A longer length would begin so long ago that no calendar has the date."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_NAMED: Final = {3_600: "hour", _DAY_S: "day", 7 * _DAY_S: "week"}
_SECONDS: Final = {"w": 7 * _DAY_S, "d": _DAY_S, "h": 3_600, "m": 60, "s": 1}
_LENGTH: Final = re.compile(r"([0-9]{1,8})([smhdw])")


def per_of(text: str) -> str:
    """A window's one name: `60m`, `1h` and `hour` are the same. Raises ValueError for what is no window."""
    word = text.strip().lower()
    if word in PERIODS:
        return word
    found = _LENGTH.fullmatch(word)
    if found is None:
        raise ValueError(f"{text!r} is no window: there are {', '.join(PERIODS)}, and lengths such as 30m, 2h, 7d")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if not 0 < seconds <= LONGEST_DAYS * _DAY_S:
        raise ValueError(
            f"{text!r} is no window: a length is between 1s and {LONGEST_DAYS}d, the others are {', '.join(PERIODS)}"
        )
    if seconds in _NAMED:
        return _NAMED[seconds]
    unit = next(unit for unit in "dhms" if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def zone_of(name: str) -> tzinfo:
    """The time zone of a name such as `Europe/Berlin`. Raises ValueError where this machine does not know it."""
    if name == "UTC":
        return UTC  # Small containers have no time zone data, and nearly all budgets need none.
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # Names of folders are OSErrors, odd characters ValueErrors.
        raise ValueError(
            f"{name!r} is no time zone this machine knows: write one such as Europe/Berlin, or install tzdata"
        ) from error


def length_s(per: str) -> int:
    """About how long a window is, in seconds: what windows are ordered by."""
    if per in _MONTHS:
        return _MONTHS[per] * 30 * _DAY_S
    return _fixed_s(per)


def window(per: str, at: datetime, time_zone: str = "UTC") -> tuple[datetime, datetime]:
    """The window that a moment is in: its start (inclusive) and its end (exclusive), in UTC.

    `per` as `per_of` gives it. Raises BadArguments for a time without a zone.
    """
    moment = utc(at)
    if per in _MONTHS or (seconds := _fixed_s(per)) % _DAY_S == 0:
        return _calendar(per, moment, zone_of(time_zone))
    length = timedelta(seconds=seconds)
    if _DAY_S % seconds:
        start = moment - (moment - _EPOCH) % length
        return start, start + length
    midnight, next_midnight = _calendar("day", moment, zone_of(time_zone))
    start = moment - (moment - midnight) % length
    return start, min(start + length, next_midnight)


def utc(at: datetime) -> datetime:
    """The moment in UTC. Raises BadArguments for a time without a zone."""
    if at.tzinfo is None:
        raise BadArguments(f"{at.isoformat()} has no time zone: give an aware time")
    return at.astimezone(UTC)


def _fixed_s(per: str) -> int:
    if per in PERIODS:
        return next(seconds for seconds, name in _NAMED.items() if name == per)
    return int(per[:-1]) * _SECONDS[per[-1]]


def _calendar(per: str, at: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """The window of whole dates that a moment is in."""
    first, following = _dates(per)
    day = first(at.astimezone(zone).date())
    # Where clocks go back over midnight, a date begins, stops and goes on; where a date is skipped, it has no time.
    while _begin(day, zone) > at:
        day = first(day - timedelta(days=1))
    while (end := _begin(following(day), zone)) <= at:
        day = following(day)
    return _begin(day, zone), end


def _begin(day: date, zone: tzinfo) -> datetime:
    """The first moment of a date. Where clocks skip midnight, that is the moment at which they do."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _dates(per: str) -> tuple[Callable[[date], date], Callable[[date], date]]:
    """How to get from a date to the first of its window, and from there to the first of the next."""
    if per in _MONTHS:
        months = _MONTHS[per]
        return (
            lambda day: date(day.year, (day.month - 1) // months * months + 1, 1),
            lambda day: date(day.year + (day.month - 1 + months) // 12, (day.month - 1 + months) % 12 + 1, 1),
        )
    days = _fixed_s(per) // _DAY_S
    return (
        lambda day: date.fromordinal((day.toordinal() - 1) // days * days + 1),  # 0001-01-01 was a Monday.
        lambda day: day + timedelta(days=days),
    )
