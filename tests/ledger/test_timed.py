"""Balances that are of use for some time only go with `prune`; all others stay for good."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from langchain_finops.ledger.holds import Line, Settlement, timed
from langchain_finops.ledger.pruning import CHUNK
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
    keys = ["usd/day agent_id=a @2020-01-01T00:00:00Z", "tokens all", "zzz", "until", "until then"]
    spend(ledger, over, open_, *keys)

    ledger.prune(MONDAY)
    assert {balance.balance for balance in ledger.balances()} == {open_, *keys}
    ledger.prune(MONDAY + timedelta(days=1))
    assert {balance.balance for balance in ledger.balances()} == set(keys)


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
