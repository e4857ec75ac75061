"""Balances that are of use for some time only, or of one window, go with `prune`; all others stay for good."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.budgets.keys import balance_keys, parse_key
from langchain_finops.budgets.policy import Budget
from langchain_finops.ledger.holds import Line, Settlement, is_over, timed
from langchain_finops.ledger.pruning import CHUNK
from langchain_finops.records import Attribution
from langchain_finops.testing.records import a_call

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
_numbers = count()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def ledger(request, path, opened):
    if request.param == "postgres":
        return opened(request.getfixturevalue("postgres_url"))
    return opened(":memory:" if request.param == "memory" else path)


def spend(ledger, *keys: str) -> None:
    ledger.settle(Settlement(record=a_call(f"timed-{next(_numbers)}"), amounts=dict.fromkeys(keys, 7)))


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def test_what_was_of_use_until_then_goes(ledger):
    """Up to the beginning of that day, and with nothing else."""
    midnight = MONDAY.replace(hour=0)
    over, open_ = timed("burn a", seconds(midnight) - 1), timed("burn a", seconds(midnight))
    keys = ["usd agent_id=a", "tokens all", "zzz", "until", "until then", "usd/day agent_id=@2020-01-01T00:00:00Z"]
    spend(ledger, over, open_, *keys)

    ledger.prune(MONDAY)
    assert {balance.balance for balance in ledger.balances()} == {open_, *keys}
    ledger.prune(MONDAY + timedelta(days=1))
    assert {balance.balance for balance in ledger.balances()} == set(keys)


@pytest.mark.parametrize(
    ("per", "start", "over_on"),
    [  # Each is over when it has ended, or a day later: some are longer, where clocks change.
        ("hour", datetime(2026, 1, 4, 23, tzinfo=UTC), 6),
        ("30m", datetime(2026, 1, 4, 22, tzinfo=UTC), 6),
        ("day", datetime(2026, 1, 4, tzinfo=UTC), 6),
        ("week", datetime(2025, 12, 29, tzinfo=UTC), 6),
        ("3d", datetime(2026, 1, 3, tzinfo=UTC), 7),
        ("month", datetime(2025, 12, 5, tzinfo=UTC), 6),
        ("quarter", datetime(2025, 10, 5, tzinfo=UTC), 6),
        ("year", datetime(2025, 1, 4, tzinfo=UTC), 6),
    ],
)
def test_windows_long_past_go(ledger, per, start, over_on):
    """With all that is in the key; one that is not over yet stays, whoever keeps the others."""
    key = f"usd/{per} agent_id=a @{start:%Y-%m-%dT%H:%M:%SZ}"
    keys = {key, f"{key} zone=Europe/Berlin match:node=x name=b"}
    spend(ledger, *keys, f"usd/{per} all @2026-01-10T00:00:00Z", "usd/eon all @2000-01-01T00:00:00Z")
    stays = {f"usd/{per} all @2026-01-10T00:00:00Z", "usd/eon all @2000-01-01T00:00:00Z"}

    ledger.prune(datetime(2026, 1, over_on - 1, tzinfo=UTC))
    assert {balance.balance for balance in ledger.balances()} == keys | stays
    ledger.prune(datetime(2026, 1, over_on, tzinfo=UTC))
    assert {balance.balance for balance in ledger.balances()} == stays


@given(
    per=st.sampled_from(["hour", "day", "week", "month", "quarter", "year", "30m", "5h", "45s", "3d", "366d", "7h"]),
    at=st.integers(0, 3 * 10**9),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Australia/Lord_Howe"]),
)
def test_no_window_is_over_before_it_ends(per, at, zone):
    """What the ledger makes of a key agrees with what budgets make of it."""
    limit = Budget(usd=1, per=per, time_zone=zone, name="b").limits()[0]
    (key,) = balance_keys(limit, Attribution(), datetime.fromtimestamp(at, UTC), run_id="r")
    ends_at = parse_key(key).ends_at()

    assert not is_over(key, seconds(ends_at) - 1)
    assert is_over(key, seconds(ends_at) + 5 * 86_400)


def test_it_may_be_counted_on_again(ledger):
    """Whoever comes late begins at nothing; that is what it is worth by then."""
    key = timed("burn a", seconds(MONDAY) - 86_400)
    spend(ledger, key)
    ledger.prune(MONDAY)
    spend(ledger, key)

    assert [balance.spent for balance in ledger.balances(key)] == [7]


def test_what_is_held_stays(ledger):
    """Its hold has still to be settled."""
    key = timed("burn a", seconds(MONDAY) - 86_400)
    ledger.hold("h", [Line(balance=key, amount=5)], at=datetime.now(UTC))
    ledger.prune(MONDAY)
    assert [balance.held for balance in ledger.balances(key)] == [5]

    ledger.release("h")
    ledger.prune(MONDAY)
    assert ledger.balances() == []


def test_more_than_one_transaction_takes(opened, path):
    """A year of buckets goes, too."""
    ledger = opened(path)
    keys = [timed(f"burn {number}", seconds(MONDAY) - 86_400) for number in range(CHUNK + 10)]
    spend(ledger, *keys, "tokens all")
    ledger.prune(MONDAY)

    assert [balance.balance for balance in ledger.balances()] == ["tokens all"]
