"""Rolling windows, burn rates and forecasts, worked out by hand."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from langchain_finops.budgets.burn import Rolling, burn_rates, forecast

DAY_S = 86_400
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)


def test_the_rates_of_30_days_are_the_well_known_ones():
    """14.4 times over 1 h and 5 min, 6 times over 6 h and 30 min, 1 time over 3 d and 6 h."""
    rates = burn_rates(30 * DAY_S)

    assert [(rate.multiple, rate.long.window_s, rate.short.window_s) for rate in rates] == [
        (Fraction(144, 10), 3_600, 300),
        (6, 6 * 3_600, 1_800),
        (1, 3 * DAY_S, 6 * 3_600),
    ]


@pytest.mark.parametrize(
    ("period_s", "windows"),
    [
        (7 * DAY_S, [(840, 70), (5_040, 420), (60_480, 5_040)]),
        (DAY_S, [(120, 10), (720, 60), (8_640, 720)]),
        (3_600, [(360, 30)]),  # 5 s and 0.4 s, 30 s and 2.5 s: shorter than a call.
        (1_800, [(180, 15)]),
        (600, []),
    ],
)
def test_windows_are_the_same_part_of_every_period(period_s, windows):
    """Scaled to the period; those that one call alone may fill are left out."""
    assert [(rate.long.window_s, rate.short.window_s) for rate in burn_rates(period_s)] == windows


@pytest.mark.parametrize("period_s", [3_600, DAY_S, 7 * DAY_S, 30 * DAY_S, 100_000])
def test_each_rate_is_its_part_of_the_limit(period_s):
    """multiple = part x period / window, whatever the period: 2, 5 and 10 hundredths."""
    parts = [rate.multiple * rate.long.window_s / period_s for rate in burn_rates(period_s)]

    assert parts == [Fraction(2, 100), Fraction(5, 100), Fraction(10, 100)][-len(parts) :]


def test_a_window_is_the_sum_of_its_buckets():
    """At a bucket's edge the window is whole buckets: the thirteenth, older one counts nothing."""
    rolling = Rolling(3_600, 300)
    keys = rolling.keys("b", NOON)
    amounts = dict.fromkeys(keys, 10)

    # At 12:00:00 the window began at 11:00:00, where the oldest bucket begins: all of it lies within.
    assert len(keys) == 13
    assert rolling.spent("b", NOON, amounts) == 130
    assert rolling.spent("b", NOON, {keys[-1]: 7}) == 7


def test_the_oldest_bucket_counts_by_the_part_that_lies_within():
    """A quarter of an hour of 5 min buckets at 12:04: 11:49 to 11:50 is a fifth of the oldest one."""
    rolling = Rolling(900, 300)
    at = NOON + timedelta(minutes=4)
    keys = rolling.keys("b", at)  # 11:45, 11:50, 11:55, 12:00

    assert rolling.spent("b", at, dict(zip(keys, (1_000, 1, 2, 4), strict=True))) == 200 + 7
    assert rolling.spent("b", at, {keys[0]: 4}) == 0  # 0.8, rounded down.


def test_what_is_spent_now_is_in_the_window_that_ends_now():
    """The bucket that is added to is the last one that is read."""
    rolling = Rolling(120, 10)

    for second in range(30):
        at = NOON + timedelta(seconds=second, microseconds=999_999)
        assert rolling.key("b", at) == rolling.keys("b", at)[-1]


def test_buckets_of_different_lengths_are_different_balances():
    """The same amount is counted in each, and none is read as another's."""
    assert Rolling(120, 10).key("b", NOON) != Rolling(120, 20).key("b", NOON)


def test_corrections_never_make_a_window_less_than_nothing():
    """A call that turned out cheaper is taken back in the bucket of now."""
    rolling = Rolling(120, 10)

    assert rolling.spent("b", NOON, {rolling.key("b", NOON): -5}) == 0


@pytest.mark.parametrize(
    ("spent", "elapsed", "expected"),
    [
        (6_000, timedelta(hours=6), 24_000),  # 6 + 6 / 6 h x 18 h
        (6_000, timedelta(hours=24), 6_000),
        (1_000, timedelta(0), 21_000),  # 1 + 1 / 1.2 h x 24 h
        (1_000, timedelta(hours=1), 1_000 + 19_166),  # 1 + 1 / 1.2 h x 23 h
        (1_000, timedelta(minutes=72), 1_000 + 19_000),  # 1 + 1 / 1.2 h x 22.8 h
        (1_000, timedelta(hours=-3), 21_000),  # A clock that is slow.
        (1_000, timedelta(hours=30), 1_000),  # One that is fast.
        (0, timedelta(hours=6), 0),
        (9 * 10**30, timedelta(hours=12), 18 * 10**30),
    ],
)
def test_the_forecast_goes_on_at_the_pace_so_far(spent, elapsed, expected):
    """spent + spent / max(elapsed, window / 20) x time left, in whole units."""
    assert forecast(spent, MIDNIGHT, MIDNIGHT + timedelta(days=1), MIDNIGHT + elapsed) == expected
