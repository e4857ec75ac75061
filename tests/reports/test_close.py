"""Closed periods: whatever is corrected later, their figures stay, and the whole is right."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger import open_ledger
from langchain_finops.pricing import PriceBook
from langchain_finops.reports.calendars import Calendar
from langchain_finops.reports.close import adjustments, close_period, closed_periods, closed_table
from langchain_finops.reports.reprice import reprice
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, an_event
from langchain_finops.usage import Usage

MARCH = Calendar().period("2026-03")
MAY = datetime(2026, 5, 5, tzinfo=UTC)


@pytest.fixture(params=["memory", "file"])
def ledger(request, tmp_path):
    opened = open_ledger(":memory:" if request.param == "memory" else tmp_path / "ledger.db")
    yield opened
    opened.close()


def sums(ledger, by=("agent",), since=None, until=None):
    groups = ledger.totals(by, since=since, until=until)
    return {group.key[0] if by else None: group.totals.cost_usd for group in groups}


def close(ledger, at=MAY):
    return close_period(ledger, "2026-03", *MARCH, actor="anna", at=at)


def test_a_late_reprice_posts_the_difference_and_the_period_stays(ledger, tmp_path):
    """1,000 tokens at $1 a million were a mistake: they are $3. March stays at $0.001, $0.002 is posted now, and names
    the call; pricing again once more changes nothing."""
    ledger.write(
        a_call(
            "c",
            usd="0.001",
            agent_id="a",
            task_id="t",
            model="ours",
            provider="us",
            usage=Usage(input_tokens=1000),
            raw_usage={"input_tokens": 1000, "output_tokens": 0},
        )
    )
    closing = close(ledger)
    assert (closing.is_new, closing.period.cost_pico) == (True, 10**9)
    (tmp_path / "cards.yaml").write_text(
        "cards: [{id: ours, match: {model: ours}, rates: {input_tokens: 3, output_tokens: 3}}]", "utf-8"
    )
    book = PriceBook.load(tmp_path / "cards.yaml")
    assert reprice(ledger, book).changed == 1

    assert sums(ledger, since=MARCH[0], until=MARCH[1]) == {"a": Decimal("0.001")}
    assert sums(ledger, ("day",), until=MARCH[1]) == {"2026-03-02": Decimal("0.001")}
    assert sums(ledger, since=MARCH[1]) == {"a": Decimal("0.002")}
    assert sums(ledger) == {"a": Decimal("0.003")}
    back, post = sorted(ledger.charges(), key=lambda charge: charge.at)
    assert (back.name, back.kind, back.cost_usd, back.at) == ("c priced again", "adjustment", Decimal("-0.002"), MONDAY)
    assert (post.cost_usd, post.attribution.task_id) == (Decimal("0.002"), "t")
    again = reprice(ledger, book)
    assert (again.changed, again.folded) == (0, 0)
    assert close(ledger).posted == 0
    assert len(list(ledger.charges())) == 2


def test_closing_twice_changes_nothing_and_keeps_who_closed_first(ledger):
    """One event, however often, whoever says it."""
    ledger.write(a_call("c", agent_id="a"))
    close(ledger)
    again = close_period(ledger, "2026-03", *MARCH, actor="bert", at=MAY + DAY)
    assert (again.is_new, again.posted, again.period.closed_by) == (False, 0, "anna")
    assert len(list(ledger.events(action="close"))) == 1
    assert list(ledger.charges()) == []


def test_what_comes_late_is_posted_when_the_period_is_closed_again(ledger):
    """A spilled call of March turns up in May: $2 more in March until it is closed again, then in May, by agent."""
    ledger.write(a_call("c", usd="1", agent_id="a"))
    close(ledger)
    ledger.write(a_call("late", usd="2", agent_id="b"))
    (row,) = closed_table(ledger, "").rows
    assert (row["cost_usd"], row["now_usd"], row["late_usd"]) == (1, 3, 2)

    closing = close(ledger, MAY + DAY)
    assert (closing.posted, closing.late_usd) == (1, 2)
    assert sums(ledger, since=MARCH[0], until=MARCH[1]) == {"a": 1, "b": 0}
    assert sums(ledger, since=MARCH[1]) == {"b": 2}
    assert close(ledger, MAY + 2 * DAY).posted == 0
    ledger.write(a_call("later", usd="4", agent_id="b"))
    assert close(ledger, MAY + 3 * DAY).late_usd == 4
    assert sums(ledger, (), since=MARCH[0], until=MARCH[1]) == {None: 1}
    assert sums(ledger, ()) == {None: 7}
    (row,) = closed_table(ledger, "").rows
    assert (row["late_usd"], row["adjusted_usd"]) == (0, 6)


def test_a_price_for_what_had_none_is_posted_whole_and_open_periods_are_left_alone(ledger):
    """Unknown was never $0: when it becomes $5 those are the open period's. A call of an open period gets none."""
    close(ledger)
    old = a_call("c", usd=None)
    new = replace(old, cost_usd=Decimal(5), revision=1)
    open_one = a_call("o", started_at=MARCH[1])
    closed = closed_periods(ledger)
    found = adjustments(closed, [(old, new), (open_one, replace(open_one, cost_usd=Decimal(9)))], at=MAY)
    assert [(charge.cost_usd, charge.at) for charge in found] == [(-5, MONDAY), (5, MAY)]
    assert adjustments(closed, [(new, new)], at=MAY) == []
    tool = a_charge("h", usd="1")
    assert len(adjustments(closed, [(tool, replace(tool, cost_usd=Decimal(2), revision=1))], at=MAY)) == 2


def test_a_closed_cost_with_unknown_prices_is_a_bound(ledger):
    """Not $1, but at least $1, also when it is shown later."""
    ledger.write(a_call("c", usd="1"), a_call("u", usd=None))
    close(ledger)
    (row,) = closed_table(ledger, "").rows
    assert (row["cost_usd"], row["unpriced"]) == (1, 1)
    assert closed_table(ledger, "").columns[4].text(row) == ">= $1.0000 (1 unknown)"


def test_a_period_that_is_not_over_stays_open(ledger):
    """What is still being written cannot be closed; other events are not closings."""
    ledger.write(an_event())
    with pytest.raises(BadArguments, match="2026-03 is not over"):
        close(ledger, MARCH[1] - timedelta(microseconds=1))
    assert closed_periods(ledger) == []
