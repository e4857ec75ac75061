"""`Feed`: what is new on a ledger, each call once, in whatever order and by whomever it is written."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.feed import Feed, ended_invocations
from langchain_finops.money import from_pico
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_run
from langchain_finops.usage import Usage


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request, tmp_path):
    """A ledger of tables and one of records: both must tell the same."""
    opened = open_ledger(tmp_path / "ledger.db" if request.param == "sqlite" else ":memory:")
    yield opened
    opened.close()


def usd(entries) -> Decimal:
    return from_pico(sum(entry.sign * entry.pico for entry in entries))


def test_each_call_and_charge_comes_once(ledger):
    """A look gives what was written since the one before, and nothing twice."""
    feed = Feed(ledger, MONDAY - DAY)
    ledger.write(a_call("a", usd="0.25", step=3), a_call("b", usd=None))
    first = feed.look()
    ledger.write(a_call("c", usd="0.5"), a_charge("d"))
    second = feed.look()

    assert Counter(entry.names.unpriced for entry in first) == {False: 1, True: 1}
    assert [entry.step for entry in first] == [3, None]
    assert usd(first) == Decimal("0.25")
    assert [entry.names.is_call for entry in second] == [True, False]
    assert feed.look() == []


def test_a_corrected_call_takes_its_old_cost_back(ledger):
    """$0.25 that become $0.75 come to $0.75, also where a look was between."""
    feed = Feed(ledger, MONDAY - DAY)
    call = a_call("a", usd="0.25")
    ledger.write(call)
    seen = feed.look()
    new = Decimal("0.75")
    ledger.write(replace(call, cost_usd=new, contracted_usd=new, billed_usd=new, revision=1))
    seen += feed.look()

    assert usd(seen) == new
    assert usd(Feed(ledger, MONDAY - DAY).look()) == new


def test_an_older_version_that_comes_late_changes_nothing(ledger):
    """The newer version stays the current one."""
    call = a_call("a", usd="0.25", revision=2)
    ledger.write(call)
    feed = Feed(ledger, MONDAY - DAY)
    seen = feed.look()
    ledger.write(replace(call, cost_usd=Decimal(9), contracted_usd=Decimal(9), billed_usd=Decimal(9), revision=1))
    seen += feed.look()

    assert usd(seen) == Decimal("0.25")


def test_what_began_earlier_is_left_out(ledger):
    """Neither calls from before `since` nor corrections of them count."""
    feed = Feed(ledger, MONDAY)
    old = a_call("a", usd="1", started_at=MONDAY - timedelta(seconds=1))
    ledger.write(old, a_call("b", usd="0.25", started_at=MONDAY))
    seen = feed.look()
    ledger.write(replace(old, cost_usd=Decimal(2), contracted_usd=Decimal(2), billed_usd=Decimal(2), revision=1))
    seen += feed.look()

    assert usd(seen) == Decimal("0.25")


def test_another_process_that_writes_is_seen(tmp_path):
    """What one connection writes is new to another's feed."""
    reader, writer = open_ledger(tmp_path / "ledger.db"), open_ledger(tmp_path / "ledger.db")
    feed = Feed(reader, MONDAY - DAY)
    for number in range(3):
        writer.write(*(a_call(f"{number}-{each}", usd="0.01") for each in range(10)))
        assert usd(feed.look()) == Decimal("0.1")
    reader.close()
    writer.close()


def test_invocations_that_ended_are_told(ledger):
    """A resumed run has one invocation that ended and one that did not."""
    ledger.write(a_run(run_id="r1", invocation_id="i1"), a_call("a", run_id="r1", invocation_id="i2"))

    assert ended_invocations(ledger, {"r1", "r2"}) == {("r1", "i1")}


def test_what_is_paid_and_what_was_cached_come_with_the_cost(ledger):
    """A local hit costs its list price and nothing is paid; a charge is paid as it costs; unknown is neither."""
    feed = Feed(ledger, MONDAY - DAY)
    ledger.write(
        a_call("hit", usd="0.25", billed_usd=Decimal(0), usage=Usage(cache_read_tokens=7, output_tokens=1)),
        a_call("paid", usd="0.5", billed_usd=None),
        a_call("unknown", usd=None),
        a_charge("tool", usd="1"),
    )
    entries = feed.look()
    assert [from_pico(entry.billed) for entry in entries] == [0, Decimal("0.5"), 0, 1]
    assert [entry.cached_tokens for entry in entries] == [7, 0, 0, 0]
