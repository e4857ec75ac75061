"""Why a cost changed: parts by hand, and parts that always add up."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.ledger import open_ledger
from langchain_finops.reports.changes import PARTS, Spent, changes, split_change
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge
from langchain_finops.usage import Usage

BEFORE, AFTER = (MONDAY, MONDAY + DAY), (MONDAY + DAY, MONDAY + 2 * DAY)
DOLLAR = 10**12


def call(number, day, *, tokens=100, usd="1", run=None, model="m", **changed):
    meters = {"input_tokens": Decimal(usd)}
    return a_call(
        f"{day}-{number}", usd=usd, meter_usd=meters, usage=Usage(input_tokens=tokens), run_id=run or f"{day}-{number}",
        started_at=MONDAY + day * DAY, model=model, agent_id="a", **changed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("later", "part"),
    [
        ([call(1, 1), call(2, 1)], {"volume": 1}),  # two runs for one
        ([call(1, 1, run="r"), call(2, 1, run="r")], {"steps": 1}),  # two calls a run
        ([call(1, 1, tokens=200, usd="2")], {"tokens": 1}),
        ([call(1, 1, usd="2")], {"price": 1}),  # the same tokens of the same model
        ([call(1, 1, usd="2", model="dearer")], {"mix": 1}),  # another model
        # Two runs at twice the price: $1 to $4. Volume alone first adds 1, last adds 2: 1.5 each.
        ([call(1, 1, usd="2"), call(2, 1, usd="2")], {"volume": "1.5", "price": "1.5"}),
    ],
)
def test_what_changed_is_named(later, part):
    """One call of $1 before; each factor alone, and two at once, by hand."""
    ledger = open_ledger(":memory:")
    ledger.write(call(1, 0), *later)
    (row,) = changes(ledger, BEFORE, AFTER).rows
    assert {name: row[f"{name}_usd"] for name in PARTS if row[f"{name}_usd"]} == {
        name: Decimal(value) for name, value in part.items()
    }


def test_a_shift_between_meters_is_mix_and_a_dearer_meter_price():
    """100 input tokens at 1 cent and 100 output at 3 become 50 and 150 at 1 and 4 cents: $4.00 to $6.50.

    Price: output's +1 cent at its mean share of 0.625 of 200 tokens: $1.25. Mix: 0.25 x 3.5 - 0.25 x 1 = 0.625 cents
    a token of 200: $1.25."""
    ledger = open_ledger(":memory:")
    for day, (one, other, usds) in enumerate([(100, 100, ("1", "3")), (50, 150, ("0.5", "6"))]):
        meters = dict(zip(("input_tokens", "output_tokens"), map(Decimal, usds), strict=True))
        usage = Usage(input_tokens=one, output_tokens=other)
        own = {"meter_usd": meters, "usage": usage, "started_at": MONDAY + day * DAY}
        ledger.write(a_call(str(day), usd=str(sum(meters.values())), run_id=str(day), **own))
    (row,) = changes(ledger, BEFORE, AFTER).rows
    assert (row["price_usd"], row["mix_usd"], row["change_usd"]) == (Decimal("1.25"), Decimal("1.25"), Decimal("2.5"))


def test_charges_what_is_new_and_what_is_unpriced_have_their_places():
    """A tool's $2 is charges; an agent that was not there before is volume; calls without a price are counted apart."""
    ledger = open_ledger(":memory:")
    ledger.write(
        call(1, 0), call(2, 1), a_charge(usd="2", agent_id="a", at=MONDAY + DAY),
        a_call("n", usd="5", agent_id="new", started_at=MONDAY + DAY),
        a_call("u", usd=None, agent_id="a", started_at=MONDAY + DAY),
    )  # fmt: skip
    found = changes(ledger, BEFORE, AFTER)
    by = {row["agent"]: row for row in found.rows}
    assert by["a"]["charges_usd"] == by["a"]["change_usd"] == 2
    assert by["new"]["volume_usd"] == by["new"]["change_usd"] == 5
    assert by["a"]["unpriced_after"] == 1
    assert (found.total["change_usd"], found.total["volume_usd"], found.total["charges_usd"]) == (7, 5, 2)


def test_folded_calls_are_told_apart(tmp_path):
    """What was pruned cannot be split: it has its own part, and all still adds up."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(call(1, 0), call(2, 1, usd="3"))
    ledger.prune(MONDAY + timedelta(hours=12))
    (row,) = changes(ledger, BEFORE, AFTER).rows
    assert (row["change_usd"], row["volume_usd"], row["folded_usd"]) == (2, 3, -1)
    ledger.close()


one_call = st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(0, 9 * DOLLAR), st.sampled_from("mn"))


@given(st.lists(one_call, max_size=5), st.lists(one_call, max_size=5))
def test_parts_add_up_to_the_picodollar(before, after):
    """Whatever happened: calls without tokens, for free, of new models, periods without calls."""
    spent = []
    for calls in (before, after):
        sums = Spent()
        for run, tokens, pico, model in calls:
            usd = Decimal(pico).scaleb(-12)
            sums.add(call(1, 0, tokens=tokens, usd=str(usd), run=str(run), model=model))
        spent.append(sums)
    parts = split_change(*spent)
    assert sum(parts.values()) == sum(each[2] for each in after) - sum(each[2] for each in before)
    back = split_change(*reversed(spent))
    assert all(abs(parts[name] + back[name]) <= 1 for name in parts)  # The way back is the same way.
