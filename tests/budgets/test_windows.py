"""Windows: every moment is in one, each begins where the one before ends, whatever clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_finops.budgets.windows import PERIODS, length_s, per_of, window, zone_of
from langchain_finops.errors import BadArguments

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",  # 5:45 from UTC.
    "Australia/Lord_Howe",  # Changes by half an hour.
    "America/Sao_Paulo",  # Changed at midnight, until 2019.
    "America/Havana",  # Goes back from 01:00 to 00:00: midnight comes twice.
    "America/Goose_Bay",  # Changed at 00:01, until 2011: a date began, stopped and went on.
    "Pacific/Apia",  # Had no 30 December 2011.
)
MICROSECOND = timedelta(microseconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("per", "start", "end"),
    [
        ("hour", "2026-11-26T13:00Z", "2026-11-26T14:00Z"),
        ("day", "2026-11-26T00:00Z", "2026-11-27T00:00Z"),
        ("week", "2026-11-23T00:00Z", "2026-11-30T00:00Z"),  # A Monday.
        ("week", "2026-12-28T00:00Z", "2027-01-04T00:00Z"),  # ISO week 53 lies in two years.
        ("month", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("month", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        ("quarter", "2026-10-01T00:00Z", "2027-01-01T00:00Z"),
        ("quarter", "2026-04-01T00:00Z", "2026-07-01T00:00Z"),
        ("year", "2028-01-01T00:00Z", "2029-01-01T00:00Z"),
        ("30m", "2026-11-26T13:30Z", "2026-11-26T14:00Z"),
        ("2h", "2026-11-26T14:00Z", "2026-11-26T16:00Z"),
        ("5h", "2026-11-26T08:00Z", "2026-11-26T13:00Z"),  # 498,800 hours after 1970 began: 99,760 times five.
        ("14d", "2026-11-23T00:00Z", "2026-12-07T00:00Z"),  # 739,942 days after 1 January 1, a Monday: 52,853 x 14.
        ("10s", "2026-11-26T13:00:20Z", "2026-11-26T13:00:30Z"),
    ],
)
def test_a_window_holds_its_first_moment_and_not_its_end(per: str, start: str, end: str) -> None:
    """Both sides of both boundaries, by hand, in UTC."""
    mine = (at(start), at(end))

    assert window(per, mine[0]) == mine
    assert window(per, mine[1] - MICROSECOND) == mine
    assert window(per, mine[0] - MICROSECOND)[1] == mine[0]
    assert window(per, mine[1])[0] == mine[1]


@pytest.mark.parametrize(
    ("zone", "per", "start", "end"),
    [
        # Summer time begins on 29 March 2026 at 01:00Z: the day has 23 hours, and 02:00 does not exist.
        ("Europe/Berlin", "day", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        ("Europe/Berlin", "week", "2026-03-23T00:00+01:00", "2026-03-30T00:00+02:00"),
        ("Europe/Berlin", "month", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00"),
        ("Europe/Berlin", "hour", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        ("Europe/Berlin", "12h", "2026-03-29T13:00+02:00", "2026-03-30T00:00+02:00"),  # Short: the day is.
        # It ends on 25 October 2026 at 01:00Z: 02:00 to 03:00 comes twice, and each is an hour of its own.
        ("Europe/Berlin", "day", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
        ("Europe/Berlin", "hour", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"),
        ("Europe/Berlin", "hour", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"),
        ("Europe/Berlin", "12h", "2026-10-25T23:00+01:00", "2026-10-26T00:00+01:00"),  # One more: the day is longer.
        ("Asia/Kathmandu", "hour", "2026-11-26T13:00+05:45", "2026-11-26T14:00+05:45"),
        ("Asia/Kathmandu", "30m", "2026-11-26T13:30+05:45", "2026-11-26T14:00+05:45"),
        ("America/New_York", "quarter", "2026-01-01T00:00-05:00", "2026-04-01T00:00-04:00"),
        # Midnight of 4 November 2018 did not exist: the day began at 01:00.
        ("America/Sao_Paulo", "day", "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"),
        # Midnight of 1 November 2026 comes twice: the day begins with the first.
        ("America/Havana", "day", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"),
        # At 00:01 of 7 November 2010 it was 23:01 of the day before again.
        ("America/Goose_Bay", "day", "2010-11-07T00:00-03:00", "2010-11-08T00:00-04:00"),
        # Clocks went from 23:30 of 30 March 1919 to 00:30: the day begins where midnight would have been.
        ("America/Toronto", "day", "1919-03-31T00:00-05:00", "1919-04-01T00:00-04:00"),
        # After 29 December 2011 came the 31st.
        ("Pacific/Apia", "day", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"),
        ("Pacific/Apia", "day", "2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00"),
    ],
)
def test_a_window_is_exact_where_clocks_change(zone: str, per: str, start: str, end: str) -> None:
    """Both sides of both boundaries, by hand, where an hour is missing, comes twice, or a whole date is skipped."""
    mine = (at(start), at(end))

    assert window(per, mine[0], zone) == mine
    assert window(per, mine[1] - MICROSECOND, zone) == mine
    assert window(per, mine[0] - MICROSECOND, zone)[1] == mine[0]
    assert window(per, mine[1], zone)[0] == mine[1]


MOMENTS = st.datetimes(
    min_value=datetime.fromisoformat("1975-01-01"),
    max_value=datetime.fromisoformat("2100-01-01"),
    timezones=st.just(UTC),
)
PERS = st.sampled_from(PERIODS) | st.sampled_from(("1s", "45s", "7m", "30m", "90m", "2h", "5h", "36h", "3d", "14d"))


@given(
    per=PERS.map(per_of),
    moment=MOMENTS,
    zone=st.sampled_from(ZONES),
)
@example(per="day", moment=at("2010-11-07T03:30Z"), zone="America/Goose_Bay")
@example(per="hour", moment=at("2026-04-04T15:15Z"), zone="Australia/Lord_Howe")
@example(per="day", moment=at("1919-03-31T04:45Z"), zone="America/Toronto")
@example(per="month", moment=at("2011-12-30T10:00Z"), zone="Pacific/Apia")
def test_every_moment_is_in_exactly_one_window(per: str, moment: datetime, zone: str) -> None:
    """The window holds the moment, both its ends agree on it, its neighbours touch it, and it is in UTC."""
    start, end = window(per, moment, zone)

    assert start <= moment < end
    assert window(per, start, zone) == window(per, end - MICROSECOND, zone) == (start, end)
    assert window(per, end, zone)[0] == end
    assert window(per, start - MICROSECOND, zone)[1] == start
    assert start.tzinfo is UTC
    assert end.tzinfo is UTC


@given(
    per=PERS.map(per_of),
    moment=MOMENTS,
    zone=st.sampled_from(ZONES),
)
def test_a_moment_is_the_same_in_whatever_zone_it_is_given(per: str, moment: datetime, zone: str) -> None:
    """The window's zone counts and not that of the time, even within an hour that comes twice."""
    assert window(per, moment.astimezone(ZoneInfo("America/New_York")), zone) == window(per, moment, zone)


def test_a_time_without_a_zone_is_refused() -> None:
    """It could mean any of 26 hours."""
    with pytest.raises(BadArguments, match="no time zone"):
        window("day", datetime.fromisoformat("2026-11-26"))


@pytest.mark.parametrize(
    ("written", "one_name"),
    [
        ("60m", "hour"),
        ("1h", "hour"),
        ("3600s", "hour"),
        ("24h", "day"),
        ("1d", "day"),
        ("7d", "week"),
        ("1w", "week"),
        ("Day", "day"),
        (" month ", "month"),
        ("90m", "90m"),
        ("120m", "2h"),
        ("30M", "30m"),
        ("90s", "90s"),
        ("48h", "2d"),
        ("2w", "14d"),
        ("366d", "366d"),
    ],
)
def test_a_window_has_one_name(written: str, one_name: str) -> None:
    """Budgets that say the same window in other words share their balance."""
    assert per_of(written) == one_name


@pytest.mark.parametrize(
    "text", ["", "dayly", "0m", "00d", "367d", "-1h", "1.5h", "h", "1 h", "1mo", "5", "٣h", "9" * 99]
)
def test_what_is_no_window_is_told(text: str) -> None:
    """The error names the windows that there are."""
    with pytest.raises(ValueError, match=r"is no window: .*(month|hour)"):
        per_of(text)


@given(seconds=st.integers(min_value=1, max_value=366 * 86_400))
def test_a_length_keeps_its_length_under_its_one_name(seconds: int) -> None:
    """Whatever unit it is written in."""
    assert length_s(per_of(f"{seconds}s")) == seconds


def test_windows_are_ordered_by_length() -> None:
    """The longer window is the outer one."""
    names = ("10s", "30m", "hour", "5h", "day", "week", "14d", "month", "quarter", "year")

    assert sorted(names, key=length_s) == list(names)


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "Europe", "../etc/passwd", "a\0b", "/etc/localtime"])
def test_an_unknown_time_zone_is_told(name: str) -> None:
    """The error says what to write, or what to install."""
    with pytest.raises(ValueError, match="is no time zone this machine knows: write one such as Europe/Berlin"):
        zone_of(name)


def test_utc_needs_no_time_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small containers have none."""
    monkeypatch.setattr("langchain_finops.budgets.windows.ZoneInfo", None)

    assert window("day", at("2026-11-26T13:00Z")) == (at("2026-11-26T00:00Z"), at("2026-11-27T00:00Z"))
