"""Cost by team: shares by hand, rows that add up, files that are wrong, and calendars where clocks change."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.errors import BadArguments, BadData
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.allocation import allocate, read_allocation
from langchain_finops.reports.calendars import Calendar
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge

FILE = """
time_zone: Europe/Berlin
rules:
  - where: {agent: support}
    until: 2026-03-03
    to:
      - {team: cx, cost_centre: "4711", share: "1/3"}
      - {team: sales, share: "1/3"}
    remainder: {team: overhead}
  - where: {agent: support}
    to: [{team: cx, cost_centre: "4711", share: 1}]
  - where: {agent: [router, judge], project: null}
    split: by_cost
"""


@pytest.fixture
def shares(tmp_path):
    def written(text=FILE):
        path = tmp_path / "shares.yaml"
        path.write_text(text, "utf-8")
        return path

    return written


def costs(found):
    return {(row["team"], row["cost_centre"]): row["cost_usd"] for row in found.rows}


def test_shares_go_by_date_and_the_last_picodollar_goes_somewhere(shares):
    """$1.00 in three is 0.333333333334 and twice 0.333333333333; from midnight in Berlin, 23:00 UTC, all is cx's."""
    ledger = open_ledger(":memory:")
    ledger.write(
        a_call("1", usd="1", agent_id="support", started_at=datetime(2026, 3, 2, 22, 59, tzinfo=UTC)),
        a_call("2", usd="5", agent_id="support", started_at=datetime(2026, 3, 2, 23, 0, tzinfo=UTC)),
        a_charge("3", usd="2", agent_id="other"),
    )
    found = allocate(ledger, read_allocation(shares()))
    assert costs(found) == {
        ("cx", "4711"): Decimal("5.333333333334"),
        ("sales", None): Decimal("0.333333333333"),
        ("overhead", None): Decimal("0.333333333333"),
        (None, None): 2,
    }
    assert found.total["cost_usd"] == 8
    assert (found.rows[-1]["team"], found.rows[-1]["share"]) == (None, 0.25)


def test_a_split_by_cost_follows_what_teams_bear(shares):
    """A router's $6 goes 3 to 1 where teams bear $3 and $1; nobody's where no team bears anything; unknown stays so."""
    text = """
rules:
  - {where: {agent: a}, to: [{team: x, share: 1}]}
  - {where: {agent: b}, to: [{team: y, share: 1.0}]}
  - {where: {agent: router}, split: by_cost}
"""
    ledger = open_ledger(":memory:")
    ledger.write(a_call("r", usd="6", agent_id="router"))
    assert costs(allocate(ledger, read_allocation(shares(text)))) == {(None, None): 6}
    ledger.write(a_call("1", usd="3", agent_id="a"), a_call("2", usd="1", agent_id="b"))
    ledger.write(a_call("3", usd=None, agent_id="b"))
    found = allocate(ledger, read_allocation(shares(text)))
    assert costs(found) == {("x", None): Decimal("7.5"), ("y", None): Decimal("2.5")}
    assert [row["unpriced"] for row in found.rows] == [0, 1]


@given(
    usds=st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=6),
    weights=st.lists(st.integers(1, 997), min_size=1, max_size=5),
)
def test_rows_add_up_to_the_ledger(tmp_path_factory, usds, weights):
    """To the picodollar, credits too, whatever the shares."""
    whole = sum(weights) + 1
    parts = "".join(f'      - {{team: t{i}, share: "{weight}/{whole}"}}\n' for i, weight in enumerate(weights))
    path = tmp_path_factory.getbasetemp() / "shares.yaml"
    path.write_text(f"rules:\n  - from: 2026-03-03\n    to:\n{parts}    remainder: {{team: rest}}\n", "utf-8")
    ledger = open_ledger(":memory:")
    for number, pico in enumerate(usds):
        usd = str(Decimal(pico).scaleb(-12))
        ledger.write(a_charge(str(number), usd=usd, agent_id=f"a{number % 2}", at=MONDAY + number * DAY))
    found = allocate(ledger, read_allocation(path))
    assert sum(row["cost_usd"] for row in found.rows) == Decimal(sum(usds)).scaleb(-12) == found.total["cost_usd"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [{to: [{team: a, share: 0.5}]}]", ["rules[0].remainder: is missing: shares come to 0.5"]),
        ("rules: [{to: [{team: a, share: 0.7}, {team: b, share: 0.7}]}]", ["rules[0].to: has shares that come to 1.4"]),
        ("rules: [{to: [{team: a, share: 1}], remainder: {team: b}}]", ["rules[0].remainder: has nothing left"]),
        ("rules: [{to: [{team: a, share: 0.5}, {team: a, share: 0.5}]}]", ["names the same team"]),
        ("rules: [{to: [{share: 1}]}]", ["to[0].team: is missing"]),
        ("rules: [{to: [{team: a, share: 0}]}, {to: [{team: a, share: yes}], from: soon, until: 2026-01-01}]",
         ["rules[0].to[0].share: is 0", "rules[1].to[0].share: is True", "rules[1].from: is 'soon'"]),
        ("rules: [{where: {agnet: x}, split: evenly}]", ["where.agnet: is no field", "split: is 'evenly'"]),
        ("rules: [{split: by_cost, from: 2026-02-01, until: 2026-01-01}]", ["until: is 2026-01-01, which"]),
        ("time_zone: Mars/Olympus\nrules: []", ["time_zone: 'Mars/Olympus' is no time zone", "rules: is empty"]),
        ("rules: [", ["is not YAML"]),
    ],
)  # fmt: skip
def test_every_fault_is_told_at_once(shares, text, told):
    """With file and field and what would be right."""
    with pytest.raises(BadData) as raised:
        read_allocation(shares(text))
    for part in told:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("name", "zone", "fiscal", "since", "until"),
    [
        ("2026-03", "UTC", 1, "2026-03-01T00:00", "2026-04-01T00:00"),
        ("2026-03", "Europe/Berlin", 1, "2026-02-28T23:00", "2026-03-31T22:00"),
        ("2026-03-29", "Europe/Berlin", 1, "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        ("2026-10-25", "Europe/Berlin", 1, "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        # Santiago's clocks skip midnight: the day begins at 01:00 -03:00.
        ("2026-09-06", "America/Santiago", 1, "2026-09-06T04:00", "2026-09-07T03:00"),
        ("FY2026", "UTC", 4, "2025-04-01T00:00", "2026-04-01T00:00"),
        ("FY2026-Q4", "UTC", 4, "2026-01-01T00:00", "2026-04-01T00:00"),
        ("FY2026", "UTC", 1, "2026-01-01T00:00", "2027-01-01T00:00"),
        ("2026-Q4", "UTC", 4, "2026-10-01T00:00", "2027-01-01T00:00"),
        ("2024-02-29", "UTC", 1, "2024-02-29T00:00", "2024-03-01T00:00"),
    ],
)
def test_periods_begin_and_end_where_their_days_do(name, zone, fiscal, since, until):
    """By hand, in UTC."""
    found = Calendar(time_zone=zone, fiscal_start=fiscal).period(name)
    assert found == tuple(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (since, until))


def test_days_follow_each_other_without_a_gap():
    """Every day of a year with two clock changes ends where the next begins."""
    calendar = Calendar(time_zone="America/Santiago")
    day, ends = datetime(2026, 1, 1, tzinfo=UTC).date(), None
    for _ in range(366):
        begin, end = calendar.period(day.isoformat())
        assert ends in {None, begin}
        assert timedelta(hours=23) <= end - begin <= timedelta(hours=25)
        ends, day = end, day + DAY


@pytest.mark.parametrize("name", ["march", "2026-13", "2026-02-30", "FY2026-03", "0000", "2026-Q5", ""])
def test_what_is_no_period_is_refused(name):
    """With what to write instead."""
    with pytest.raises(BadArguments, match="is no period"):
        Calendar().period(name)
