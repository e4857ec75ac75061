"""Counters of a whole ledger, for Prometheus: they grow, over restarts as well, and come to the ledger's sums.

Beside the ledgers' own tests, because they share PostgreSQL's server with them.
"""

import itertools
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest

from langchain_finops.exports import ledger_counters
from langchain_finops.exports.ledger_counters import LedgerCounters
from langchain_finops.exports.tallies import MOST_SERIES
from langchain_finops.ledger import feed
from langchain_finops.money import from_pico
from langchain_finops.records import CallError
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge
from langchain_finops.usage import Usage

ERROR = CallError(error_class="RateLimitError")
HIT = {"billed_usd": Decimal(0), "usage": Usage(input_tokens=10, cache_read_tokens=30, output_tokens=5)}


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def kept(request, opened, path):
    """A ledger of each kind."""
    places = {"sqlite": lambda: path, "postgres": lambda: request.getfixturevalue("postgres_url")}
    return opened(places.get(request.param, lambda: ":memory:")())


def whole(counters) -> Counter[str]:
    """All series together, as the ledger sums."""
    total: Counter[str] = Counter()
    for counts in counters.look().values():
        total.update(counts)
    return total


def net_usd(counts) -> Decimal:
    return from_pico(counts["cost"] - counts["credits"] - counts["taken_back_cost"])


def test_what_is_read_at_once_is_what_is_read_piece_by_piece(kept):
    """The same counters, whether the exporter was there or is started afterwards."""
    live = LedgerCounters(kept)
    steps = (
        [a_call("1", agent_id="a", node_path="plan"), a_call("2", usd=None, agent_id="a"), a_charge("h")],
        [a_call("3", usd="0.75", error=ERROR, estimated=True), a_charge("c", usd="-2", kind="credit")],
        [a_call("4", **HIT), a_charge("u", usd=None)],
        [replace(a_call("3", usd="0.5"), revision=1), a_call("2", usd="0.1", agent_id="a", revision=1)],
    )
    seen = []
    for records in steps:
        kept.write(*records)
        seen.append(whole(live))
    for before, after in itertools.pairwise(seen):
        assert all(after[name] >= count for name, count in before.items())
    if kept.url != ":memory:":  # A memory ledger ends with its process: nobody is started afterwards.
        assert LedgerCounters(kept).look() == {series: dict(counts) for series, counts in live.look().items()}
    last, (group,) = seen[-1], kept.totals(())
    totals = group.totals
    assert net_usd(last) == totals.cost_usd
    assert (
        from_pico(last["billed"] - last["credits"] - last["taken_back_billed"]) == totals.billed_usd + totals.charge_usd
    )
    assert last["calls"] - last["taken_back_calls"] == totals.calls == 4
    assert last["input_tokens"] + last["output_tokens"] - last["taken_back_tokens"] == (
        totals.input_tokens + totals.output_tokens
    )
    assert (last["failed"], last["estimated"], last["unpriced"]) == (1, 1, 1)
    assert (last["cached_tokens"], last["charges"], last["charges_unpriced"]) == (30, 3, 1)


def test_series_are_of_agent_node_and_model(kept):
    """Never of a user or a task; what a record does not say is empty."""
    kept.write(a_call("1", agent_id="a", node_path="plan", user_id="ada", task_id="t"), a_charge("h", user_id="bob"))
    found = LedgerCounters(kept).look()
    assert set(found) == {("a", "plan", "gpt-4.1-mini"), ("", "", "")}
    assert found["a", "plan", "gpt-4.1-mini"]["calls"] == 1
    assert found["", "", ""]["charges"] == 1


def test_names_without_end_share_one_series(kept):
    """The first thousand have one of their own, over restarts the same ones."""
    kept.write(*(a_call(str(number), usd="1", agent_id=f"agent-{number}") for number in range(MOST_SERIES + 3)))
    for _ in range(2):
        found = LedgerCounters(kept).look()
        assert len(found) == MOST_SERIES + 1
        assert from_pico(found["other", "other", "other"]["cost"]) == 3


def test_sums_beyond_a_column_are_exact(kept):
    """Two records of $9 million are more picodollars than a 64-bit sum holds."""
    kept.write(*(a_call(str(number), usd="9000000.000000000001") for number in range(4)))
    assert net_usd(whole(LedgerCounters(kept))) == Decimal("36000000.000000000004")


def test_after_many_runs_their_names_are_let_go(kept, monkeypatch):
    """The feed remembers runs that it meets, so many: nothing is counted twice or lost when it lets them go."""
    monkeypatch.setattr(feed, "NAMES_KEPT", 2)
    counters = LedgerCounters(kept)
    for number in range(9):
        kept.write(a_call(str(number), usd="1", run_id=f"run-{number}"))
        assert net_usd(whole(counters)) == number + 1


FAILS_AT = [
    (ledger_counters, "_amounts"),  # After the ledger was read.
    (feed.Feed, "_learn"),  # In the midst of reading tables.
    (feed, "_entry"),  # In the midst of reading records.
]


@pytest.mark.parametrize("at", FAILS_AT, ids=[name for _, name in FAILS_AT])
def test_a_look_that_fails_loses_nothing(kept, monkeypatch, at):
    """The next one counts what it would have, once."""
    counters = LedgerCounters(kept)
    kept.write(a_call("1", usd="1"))
    counters.look()
    kept.write(a_call("2", usd="1"), a_call("3", usd="1", run_id="another"))
    with monkeypatch.context() as patch:
        patch.setattr(*at, lambda *_: 1 / 0)
        with suppress(ZeroDivisionError):  # Each kind of ledger has one place that it does not pass.
            counters.look()
    assert net_usd(whole(counters)) == 3


def test_folded_days_stay_counted(opened, path):
    """`finops prune` folds calls into sums, and the counters do not fall."""
    kept = opened(path)
    kept.write(a_call("1", usd="1"), a_call("2", usd="1", started_at=MONDAY + 3 * DAY))
    before = whole(LedgerCounters(kept))
    kept.prune(MONDAY + DAY)
    assert whole(LedgerCounters(kept)) == before


@pytest.mark.parametrize("after", ["a failed look", "many runs"])
def test_counters_do_not_fall_when_corrections_were_pruned(opened, path, monkeypatch, after):
    """$1 corrected to $2, folded, then $3 more: cost 1 + 2 + 3, taken back 1. Prometheus takes a fall for a
    counter that began again, and would show all that was ever spent as spent now.
    """
    monkeypatch.setattr(feed, "NAMES_KEPT", 2)
    kept = opened(path)
    kept.write(a_call("1", usd="1"), a_call("1", usd="2", revision=1))
    counters = LedgerCounters(kept)
    before = whole(counters)
    assert (from_pico(before["cost"]), from_pico(before["taken_back_cost"])) == (3, 1)
    assert kept.prune(MONDAY + DAY) == 1
    for number in range(6):
        kept.write(a_call(f"new {number}", usd="0.5", run_id=f"run-{number}", started_at=MONDAY + 3 * DAY))
        if after == "many runs":
            counters.look()
    if after == "a failed look":
        with monkeypatch.context() as patch:
            patch.setattr(type(kept), "look_at", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                counters.look()
    found = whole(counters)
    assert (from_pico(found["cost"]), from_pico(found["taken_back_cost"])) == (6, 1)
    assert all(found[name] >= count for name, count in before.items())
    # The one that starts now knows of what is left, and spent is the same.
    assert whole(LedgerCounters(kept))["taken_back_cost"] == 0
    assert net_usd(whole(LedgerCounters(kept))) == net_usd(found) == 5
