"""When and on what a price counts, on both sides of each edge."""

from datetime import UTC, datetime, time, timedelta

import pytest

from langchain_finops.pricing import PriceKey
from langchain_finops.pricing.matching import Match, Validity, day_in_name, fits

YEAR = Validity(starts=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2027, 1, 1, tzinfo=UTC))
WEEKEND = Validity(weekdays=frozenset({5, 6}))
PEAK = Validity(hours=((time(1), time(4)), (time(6), time(10))), weekdays=frozenset(range(5)))


def at(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2025-12-31T23:59:59.999999", False),
        ("2026-01-01T00:00:00", True),
        ("2026-12-31T23:59:59.999999", True),
        ("2027-01-01T00:00:00", False),
    ],
)
def test_a_price_counts_from_its_first_moment_to_just_before_its_last(moment: str, holds: bool) -> None:
    """Both sides of both ends."""
    assert YEAR.holds(at(moment)) == holds


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-11-20T00:59:59", False),
        ("2026-11-20T01:00:00", True),
        ("2026-11-20T03:59:59", True),
        ("2026-11-20T04:00:00", False),
        ("2026-11-20T06:00:00", True),
        ("2026-11-20T10:00:00", False),
        ("2026-11-21T02:00:00", False),  # A Saturday,
        ("2026-11-22T02:00:00", False),  # a Sunday,
        ("2026-11-23T02:00:00", True),  # a Monday.
    ],
)
def test_hours_and_weekdays_have_to_hold_both(moment: str, holds: bool) -> None:
    """Peak hours on a weekend are none."""
    assert PEAK.holds(at(moment)) == holds


@pytest.mark.parametrize("validity", [YEAR, PEAK, WEEKEND, Validity()])
@pytest.mark.parametrize("start", ["2026-11-20T00:30:00", "2025-12-31T23:30:00", "2026-11-22T23:59:00"])
def test_nothing_changes_between_two_edges(validity: Validity, start: str) -> None:
    """So that a price may be remembered from one edge to the next."""
    moment = at(start)
    first_edge = min((edge for edge in validity.edges(moment) if edge > moment), default=moment + timedelta(days=2))
    later = [moment + timedelta(minutes=10 * step) for step in range(6 * 48)]

    for other in later:
        if other < first_edge:
            assert validity.holds(other) == validity.holds(moment), other


def key(**fields: object) -> PriceKey:
    """A price key of a call."""
    return PriceKey(**{"provider": "openai", "model": "gpt-4.1-mini-2025-04-14", "at": at("2026-01-01"), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("match", "covers"),
    [
        (Match(), True),
        (Match(provider="openai"), True),
        (Match(provider="anthropic"), False),
        (Match(model=("gpt-4.1*",)), True),
        (Match(model=("gpt-4.1-mini",)), True),  # As requested.
        (Match(model=("GPT-4.1-MINI",)), True),
        (Match(model=("gpt-4.1",)), False),
        (Match(model=("o3", "gpt-*")), True),
        (Match(base_url_host="localhost*"), True),
        (Match(base_url_host="localhost"), False),
        (Match(tags={"team": "cx"}), True),
        (Match(tags={"team": "c*", "env": "prod"}), False),
        (Match(provider="openai", model=("o3",)), False),
    ],
)
def test_all_that_a_card_names_has_to_fit(match: Match, covers: bool) -> None:
    """Provider, model as answered or as requested, host, tags."""
    call = key(requested_model="gpt-4.1-mini", base_url_host="localhost:8000", tags={"team": "cx"})

    assert match.covers(call) == covers


def test_a_glob_does_not_fit_what_is_missing() -> None:
    """`*` means any host, and none is not a host."""
    assert not fits("*", None)
    assert fits(None, None)
    assert not Match(base_url_host="*").covers(key())


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-5-2025-08-07", "2025-08-07"),
        ("claude-sonnet-4-5-20250929", "2025-09-29"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "2025-09-29"),
        ("claude-sonnet-4@20250514", "2025-05-14"),
        ("ft:gpt-4.1-2025-04-14:acme::x", "2025-04-14"),
        ("gpt-5", None),
        ("mistral-small-2603", None),
        ("model-20250230", None),
        ("model-120250929", None),
        ("llama-3.1-405b", None),
    ],
)
def test_a_snapshots_name_says_its_day(model: str, day: str | None) -> None:
    """Before it there was no such model."""
    found = day_in_name(model)

    assert (None if found is None else found.date().isoformat()) == day
