"""Machines of one's own: shares by time, an idle rest, and sums that are what was paid."""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.errors import BadArguments
from langchain_finops.ledger import Ledger, open_ledger
from langchain_finops.ledger.codec import from_micros
from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.pricing.cards import read_card_file
from langchain_finops.records import CallRecord
from langchain_finops.reports.machine_time import busy, mark
from langchain_finops.reports.machines import Against, Machines, Paid, machines
from langchain_finops.reports.machines_table import break_even_table, machines_table
from langchain_finops.testing.records import a_call, a_charge
from langchain_finops.usage import Usage

Finops = Callable[..., tuple[int, str, str]]

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DOCS = Path(__file__).parents[2] / "docs" / "economics.md"
CARDS = """
- {id: gpu, match: {model: own}, self_hosted: {usd_per_instance_hour: 3.60, concurrency: 2}}
"""


def book(text: str = CARDS) -> PriceBook:
    import yaml

    return PriceBook.default().with_cards(parse_cards(yaml.safe_load(text), where="test"))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = open_ledger(":memory:")
    yield made
    made.close()


def on_machine(name: str, begin: float, end: float, **more: Any) -> CallRecord:
    """A call from so many minutes past noon until so many, with 1,000 tokens in and 200 out."""
    given = {
        "billing_mode": "self_hosted", "card_id": "gpu", "model": "own", "provider": "own", "usd": "0.01",
        "usage": Usage(input_tokens=1000, output_tokens=200), "agent_id": name, "started_at": NOON + begin * MINUTE,
        "ended_at": NOON + end * MINUTE, "call_id": f"{name}-{begin}-{end}",
    }  # fmt: skip
    return a_call(**{**given, **more})


def of_an_hour(ledger: Ledger, **more: Any) -> Machines:
    """The machines from noon to one."""
    return machines(ledger, **{"since": NOON, "until": NOON + HOUR, "book": book(), **more})


def costs(found: Machines) -> dict[Any, Any]:
    """What each row costs, by its first name; idle by that word."""
    rows = list(machines_table(found, "").rows)
    name = found.by[0] if found.by else "card"
    return {row["kind"] if row["kind"] == "idle" else row[name]: row["usd"] for row in rows}


def usd(*amounts: str) -> list[Decimal]:
    return [Decimal(amount) for amount in amounts]


# --- who bears what --------------------------------------------------------------------------------------------------


def test_calls_share_the_machine_and_the_rest_is_idle(ledger: Ledger) -> None:
    """An hour costs $3.60 and bears two calls at once. Ten minutes of one call, alone or beside another, are five
    minutes of the machine: $0.30. What is left is idle, and all of it is what was paid."""
    ledger.write(on_machine("a", 0, 10), on_machine("b", 5, 15))
    found = of_an_hour(ledger)
    assert costs(found) == dict(zip(("a", "b", "idle"), usd("0.30", "0.30", "3.00"), strict=True))
    (pool,) = found.pools
    assert (pool.utilisation, pool.paid_hours, pool.busy.most, pool.busy.crowded) == (Fraction(1, 6), 1, 2, 0)
    rows = list(machines_table(found, "").rows)
    assert [row["share"] for row in rows] == pytest.approx([1 / 12, 1 / 12, 10 / 12])
    assert [row["instance_hours"] for row in rows] == pytest.approx([1 / 12, 1 / 12, 10 / 12])
    # 30 cents for 1,200 tokens are $250 a million; with the idle time $3.60 for 2,400 are $1,500.
    assert [row["usd_per_million_tokens"] for row in rows] == [Decimal(250), Decimal(250), None]
    assert machines_table(found, "").total["usd_per_million_tokens"] == Decimal(1500)


def test_more_calls_than_a_machine_bears_share_all_of_it(ledger: Ledger) -> None:
    """Three at once for six minutes have two minutes each, then one goes on alone for six: three minutes."""
    ledger.write(on_machine("a", 0, 6), on_machine("b", 0, 6), on_machine("c", 0, 12))
    found = of_an_hour(ledger)
    assert costs(found) == dict(zip(("a", "b", "c", "idle"), usd("0.12", "0.12", "0.30", "3.06"), strict=True))
    (pool,) = found.pools
    assert (pool.busy.most, pool.busy.crowded) == (3, 6 * 60_000_000)
    assert "for 0.10 hours there were more calls at once than 2, up to 3" in notes(found)


def test_calls_one_after_the_other_are_not_at_once(ledger: Ledger) -> None:
    """One that begins at the moment at which another ends."""
    ledger.write(on_machine("a", 0, 10), on_machine("b", 10, 20), on_machine("c", 20, 30, usd="0.02"))
    assert of_an_hour(ledger).pools[0].busy.most == 1


def test_what_cannot_be_divided_goes_by_the_largest_remainder(ledger: Ledger) -> None:
    """A dollar for three equal parts: the first has the picodollar that is left."""
    ledger.write(*(on_machine(name, 0, 60) for name in "abc"))
    found = of_an_hour(ledger, paid=Paid(usd=Decimal(1)))
    assert costs(found) == {
        "a": Decimal("0.333333333334"), "b": Decimal("0.333333333333"), "c": Decimal("0.333333333333"),
        "idle": Decimal(0),
    }  # fmt: skip


def test_several_instances_are_one_whole(ledger: Ledger) -> None:
    """Two instances that bear four calls between them: a call of an hour is a quarter of two hours."""
    two = "- {id: gpu, self_hosted: {usd_per_instance_hour: 3.60, instances: 2, concurrency: 4}}"
    ledger.write(on_machine("a", 0, 60))
    found = of_an_hour(ledger, book=book(two))
    assert costs(found) == {"a": Decimal("1.80"), "idle": Decimal("5.40")}
    assert [row["instance_hours"] for row in machines_table(found, "").rows] == [0.5, 1.5]


def test_the_shares_of_calls_at_ease_are_what_their_card_charges(ledger: Ledger) -> None:
    """price x time / calls at once is what reports tell; the idle row is what no report told."""
    prices = book()
    own = [on_machine("a", 0, 10), on_machine("b", 5, 15)]
    machine = prices.card("gpu")
    assert machine is not None
    assert machine.self_hosted is not None
    charged = [machine.self_hosted.price(Decimal((call.ended_at - call.started_at).seconds)) for call in own]
    ledger.write(*own)
    assert list(costs(of_an_hour(ledger)).values())[:2] == charged == usd("0.30", "0.30")


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (("node",), {"plan": "0.30", "act": "0.15", "idle": "3.15"}),
        (("user",), {"u": "0.45", "idle": "3.15"}),
        (("model",), {"own": "0.45", "idle": "3.15"}),
        ((), {"gpu": "0.45", "idle": "3.15"}),
    ],
)
@pytest.mark.parametrize("where", [":memory:", "file"])
def test_it_is_by_whatever_one_asks_for(
    tmp_path: Path, where: str, by: tuple[str, ...], expected: dict[str, str]
) -> None:
    """By what calls share, by people, and by nothing; in memory and in tables."""
    ledger = open_ledger(where if where == ":memory:" else tmp_path / "ledger.db")
    ledger.write(
        on_machine("a", 0, 10, node_path="plan", user_id="u"), on_machine("a", 20, 25, node_path="act", user_id="u")
    )
    assert costs(of_an_hour(ledger, by=by)) == {name: Decimal(amount) for name, amount in expected.items()}
    ledger.close()


def test_two_cards_are_two_machines(ledger: Ledger) -> None:
    """Each has its own idle row; figures of yours can be true of one only."""
    two = CARDS + "- {id: cpu, self_hosted: {usd_per_instance_hour: 0.10}}"
    ledger.write(on_machine("a", 0, 30), on_machine("a", 0, 30, card_id="cpu", call_id="other"))
    found = of_an_hour(ledger, book=book(two))
    assert [(row["card"], row["kind"], row["usd"]) for row in machines_table(found, "").rows] == [
        ("gpu", "calls", Decimal("0.90")),
        ("gpu", "idle", Decimal("2.70")),
        ("cpu", "calls", Decimal("0.05")),
        ("cpu", "idle", Decimal("0.05")),
    ]
    assert machines_table(found, "").total["usd"] == Decimal("3.70")
    with pytest.raises(BadArguments, match="of the cards cpu, gpu: name one of them with --card"):
        of_an_hour(ledger, book=book(two), paid=Paid(usd=Decimal(1)))
    assert costs(of_an_hour(ledger, book=book(two), card="cpu", paid=Paid(usd=Decimal(1)))) == {
        "a": Decimal("0.5"),
        "idle": Decimal("0.5"),
    }


# --- the period ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [":memory:", "file"])
def test_calls_over_an_edge_count_with_the_part_inside(tmp_path: Path, where: str) -> None:
    """Half of the first, a quarter of the last; time and tokens. What is wholly outside is not there."""
    ledger = open_ledger(where if where == ":memory:" else tmp_path / "ledger.db")
    ledger.write(
        on_machine("early", -10, 10),
        on_machine("late", 50, 90),
        on_machine("before", -20, 0),
        on_machine("after", 60, 70),
    )
    found = of_an_hour(ledger)
    assert costs(found) == dict(zip(("early", "late", "idle"), usd("0.30", "0.30", "3.00"), strict=True))
    early, late, _ = machines_table(found, "").rows
    assert (early["input_tokens"], early["output_tokens"], early["cut_calls"]) == (500, 100, 1)
    assert (late["input_tokens"], late["output_tokens"], late["cut_calls"]) == (250, 50, 1)
    assert "cut at the period's edges, with the part inside counted: 2 calls" in notes(found)
    ledger.close()


def test_an_open_period_is_that_of_the_calls(ledger: Ledger) -> None:
    """From the first begin to the last end: 20 minutes, $1.20, of which two calls had ten minutes each, half of it."""
    ledger.write(on_machine("a", 0, 10), on_machine("a", 10, 20))
    found = machines(ledger, book=book())
    assert costs(found) == {"a": Decimal("0.60"), "idle": Decimal("0.60")}
    row = next(iter(machines_table(found, "").rows))
    assert (row["since"], row["until"]) == (NOON, NOON + 20 * MINUTE)


def test_a_machine_that_stood_still_is_all_idle(ledger: Ledger) -> None:
    """It worked before the period, and is paid for in it."""
    ledger.write(on_machine("a", -30, -20))
    assert costs(of_an_hour(ledger)) == {"idle": Decimal("3.60")}


def test_a_card_is_paid_for_as_long_as_it_counts(ledger: Ledger) -> None:
    """Two prices in one hour are two cards, each for its own part of it."""
    dated = """
- {id: gpu, until: "2026-03-02T12:15:00Z", self_hosted: {usd_per_instance_hour: 3.60}}
- {id: new, from: "2026-03-02T12:15:00Z", self_hosted: {usd_per_instance_hour: 7.20}}
"""
    ledger.write(on_machine("a", 0, 5), on_machine("a", 20, 25, card_id="new"))
    found = of_an_hour(ledger, book=book(dated))
    assert [(row["card"], row["kind"], row["usd"]) for row in machines_table(found, "").rows] == [
        ("new", "calls", Decimal("0.60")),
        ("new", "idle", Decimal("4.80")),
        ("gpu", "calls", Decimal("0.30")),
        ("gpu", "idle", Decimal("0.60")),
    ]


# --- what was paid ---------------------------------------------------------------------------------------------------


def test_you_may_say_what_was_paid(ledger: Ledger) -> None:
    """By hours of instances: 30 minutes of calls at once of two are a quarter hour of two hours, or of a half hour."""
    ledger.write(on_machine("a", 0, 30))
    assert costs(of_an_hour(ledger, paid=Paid(instance_hours=Decimal(2)))) == {
        "a": Decimal("0.90"),
        "idle": Decimal("6.30"),
    }
    short = of_an_hour(ledger, paid=Paid(instance_hours=Decimal("0.1")))
    assert costs(short) == {"a": Decimal("0.36"), "idle": Decimal(0)}
    assert short.pools[0].utilisation == Fraction(5, 2)
    assert "calls took longer than was paid for" in notes(short)
    own = Paid(usd_per_instance_hour=Decimal(8), instances=Decimal(2), concurrency=Decimal(1))
    # 16 dollars; half an hour of the only place there is.
    assert costs(of_an_hour(ledger, paid=own)) == {"a": Decimal(8), "idle": Decimal(8)}


def test_charges_of_the_ledger_may_be_what_was_paid(ledger: Ledger) -> None:
    """Those of kind infrastructure that are called so, in the period; one without a price makes all of it a bound."""
    machine = {"kind": "infrastructure", "at": NOON + MINUTE}
    ledger.write(
        on_machine("a", 0, 60),
        a_charge("1", usd="2.00", name="gpu-rent", **machine),
        a_charge("2", usd="1.00", name="gpu-power", **machine),
        a_charge("3", usd="50", name="office", **machine),
        a_charge("4", usd="50", name="gpu-rent", kind="tool", at=NOON),
        a_charge("5", usd="50", name="gpu-rent", kind="infrastructure", at=NOON - MINUTE),
    )
    assert costs(of_an_hour(ledger, paid=Paid(charges="gpu-*"))) == {"a": Decimal("1.5"), "idle": Decimal("1.5")}
    ledger.write(a_charge("6", usd=None, name="gpu-tax", **machine))
    found = of_an_hour(ledger, paid=Paid(charges="gpu-*"))
    assert [row["usd_is"] for row in machines_table(found, "").rows] == ["at_least", "at_least"]
    unknown = of_an_hour(ledger, paid=Paid(charges="gpu-tax"))
    assert costs(unknown) == {"a": None, "idle": None}
    with pytest.raises(BadArguments, match="no charge of kind infrastructure is called 'tpu'"):
        of_an_hour(ledger, paid=Paid(charges="tpu"))


def test_other_currencies_are_converted_at_each_moment(tmp_path: Path) -> None:
    """3.60 euros an hour: half of it at $1, half at $2. Before the first rate nobody knows."""
    file = tmp_path / "cards.yaml"
    file.write_text(
        'fx: {id: x, rates: {EUR: {"2026-03-02T11:00:00Z": 1, "2026-03-02T12:30:00Z": 2}}}\n'
        "cards: [{id: gpu, currency: EUR, self_hosted: {price_per_instance_hour: 3.60}}]\n"
    )
    faults: list[Any] = []
    cards, _ = read_card_file(file, faults)
    assert not faults
    euros = PriceBook(cards=cards)
    ledger = open_ledger(":memory:")
    ledger.write(on_machine("a", 0, 60))
    assert costs(of_an_hour(ledger, book=euros)) == {"a": Decimal("5.40"), "idle": Decimal(0)}
    early = of_an_hour(ledger, book=euros, since=NOON - 2 * HOUR)
    assert costs(early) == {"a": None, "idle": None}
    assert "unknown for 3.00 instance-hours" in notes(early)
    ledger.close()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"usd": Decimal(0)}, "usd is 0: it is a number above 0"),
        ({"concurrency": Decimal(-1)}, "concurrency is -1"),
        ({"instances": Decimal("NaN")}, "instances is NaN"),
        ({"usd": Decimal(1), "instance_hours": Decimal(1)}, "instance_hours and usd each say what was paid"),
        ({"usd": Decimal(1), "charges": "x"}, "usd and charges each say what was paid"),
        ({"usd": Decimal(1), "usd_per_instance_hour": Decimal(1)}, "usd_per_instance_hour and usd each say"),
    ],
)
def test_figures_that_cannot_be_are_refused(given: dict[str, Any], told: str) -> None:
    """What is not above 0, and what is said twice."""
    with pytest.raises(BadArguments, match=told):
        Paid(**given)


def test_a_card_that_nobody_knows_needs_your_figures(ledger: Ledger) -> None:
    """What it costs and what it bears: neither is guessed."""
    ledger.write(on_machine("a", 0, 30, card_id="gone"))
    for paid in (Paid(), Paid(usd=Decimal(1)), Paid(concurrency=Decimal(1))):
        with pytest.raises(
            BadArguments, match="the card 'gone' is not in your price book: name its file with --prices"
        ):
            of_an_hour(ledger, paid=paid)
    known = Paid(usd=Decimal(1), concurrency=Decimal(1))
    assert costs(of_an_hour(ledger, paid=known)) == {"a": Decimal("0.5"), "idle": Decimal("0.5")}


# --- which calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [":memory:", "file"])
def test_only_calls_on_machines_count(tmp_path: Path, where: str) -> None:
    """Calls that are paid by the token are not there; replays only where one asks for them, and only those that a
    machine's card priced; of a call that was corrected the newest version."""
    ledger = open_ledger(where if where == ":memory:" else tmp_path / "ledger.db")
    machine = {"meter_usd": {"seconds": Decimal("0.01")}, "billing_mode": "replay"}
    ledger.write(
        on_machine("own", 0, 10),
        on_machine("own", 0, 10, ended_at=NOON + 20 * MINUTE, revision=1),
        on_machine("paid", 0, 10, billing_mode="payg", card_id="gpt"),
        on_machine("again", 20, 30, **machine),
        on_machine("sold", 0, 10, billing_mode="replay", meter_usd={"input_tokens": Decimal("0.01")}),
    )
    found = of_an_hour(ledger)
    assert costs(found) == {"own": Decimal("0.60"), "idle": Decimal(3)}
    assert "when they were recorded): 1 call." in notes(found)
    with_them = of_an_hour(ledger, replays=True)
    assert costs(with_them) == dict(zip(("own", "again", "idle"), usd("0.60", "0.30", "2.70"), strict=True))
    ledger.close()


def test_a_folded_replay_of_a_model_that_is_sold_is_none_of_a_machine(tmp_path: Path) -> None:
    """A folded call has no meters left: its card tells. Five replays of gpt-4.1 and two of the machine `gpu`."""
    ledger = open_ledger(tmp_path / "ledger.db")
    sold: dict[str, Any] = {"billing_mode": "replay", "card_id": "openai/gpt-4.1", "model": "gpt-4.1"}
    own: dict[str, Any] = {"billing_mode": "replay", "meter_usd": {"seconds": Decimal("0.01")}}
    ledger.write(*(on_machine("sold", minute, minute + 1, **sold) for minute in range(5)))
    ledger.write(*(on_machine("again", minute, minute + 1, **own) for minute in range(2)), on_machine("a", 0, 5))
    assert machines(ledger, book=book()).replays == 2
    ledger.prune(NOON + timedelta(days=1))
    for replays, folded in ((False, 1), (True, 3)):
        found = machines(ledger, book=book(), replays=replays)
        assert [(pool.card, pool.folded) for pool in found.pools] == [("gpu", folded)]
        assert (found.replays, found.unknown_replays) == (2, 5)
        assert "their cards are none of machines in the price book: 5 calls." in notes(found)
    ledger.close()


def test_prompts_of_one_request_have_its_time_once(ledger: Ledger) -> None:
    """The ledger has a request's time on one of its prompts; the others cost nothing, and have tokens all the same."""
    ledger.write(on_machine("a", 0, 10), on_machine("b", 0, 10, usd="0"))
    found = of_an_hour(ledger)
    assert costs(found) == dict(zip(("a", "b", "idle"), usd("0.30", "0", "3.30"), strict=True))
    assert found.pools[0].all_tokens == 2400
    assert "without a time of their own, which another prompt of the request has: 1 call." in notes(found)


def test_a_machine_that_costs_nothing_has_times_all_the_same(ledger: Ledger) -> None:
    """Its calls cost nothing either: what you say was paid is shared by their time."""
    ledger.write(on_machine("a", 0, 30, usd="0"), on_machine("b", 0, 60, usd="0"))
    found = of_an_hour(ledger, paid=Paid(usd=Decimal(4)))
    assert costs(found) == dict(zip(("b", "a", "idle"), usd("2", "1", "1"), strict=True))


def test_folded_calls_make_idle_a_bound(tmp_path: Path) -> None:
    """`finops prune` keeps sums, and when a call ended is in none of them."""
    ledger = open_ledger(tmp_path / "ledger.db")
    old = timedelta(days=2)
    ledger.write(on_machine("a", 0, 30), on_machine("b", 0, 30, started_at=NOON - old, ended_at=NOON - old + MINUTE))
    ledger.prune(NOON - timedelta(days=1))
    found = machines(ledger, book=book(), since=NOON - timedelta(days=3), until=NOON + HOUR)
    assert [row["utilisation_is"] for row in machines_table(found, "").rows] == ["at_least"] * 2
    assert "so that idle, and what a token costs with it, is at most what it says: 1 call." in notes(found)
    ledger.close()


@pytest.mark.parametrize(
    ("asked", "span", "hours"),
    [
        ({}, (datetime(2026, 2, 28, tzinfo=UTC), NOON + 30 * MINUTE), "60.5"),
        ({"until": NOON - timedelta(days=1)}, (datetime(2026, 2, 28, tzinfo=UTC), NOON - timedelta(days=1)), "36"),
        ({"since": NOON}, (NOON, NOON + 30 * MINUTE), "0.5"),
    ],
)
def test_a_folded_day_is_in_an_open_period_with_all_of_its_hours(
    tmp_path: Path, asked: dict[str, Any], span: tuple[datetime, datetime], hours: str
) -> None:
    """Folded on February 28, timed on March 2 until half past twelve: 24 + 24 + 12.5 hours at $3.60, and reports tell
    one cent for each of the calls."""
    ledger = open_ledger(tmp_path / "ledger.db")
    old = timedelta(days=2)
    ledger.write(on_machine("a", 0, 30), on_machine("b", 0, 30, started_at=NOON - old, ended_at=NOON - old + MINUTE))
    ledger.prune(NOON - timedelta(days=1))
    (pool,) = machines(ledger, book=book(), **asked).pools
    assert (from_micros(pool.begin), from_micros(pool.end)) == span
    assert pool.paid_pico == int(Decimal(hours) * 36 * 10**11)
    assert pool.listed_pico == 10**10 * (1 if asked else 2)
    ledger.close()


def test_folded_days_alone_are_a_period(tmp_path: Path) -> None:
    """One day, of which nothing but a sum is left: $86.40, not nothing since 1970."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(on_machine("a", 0, 5))
    ledger.prune(NOON + timedelta(days=1))
    (row,) = machines_table(machines(ledger, book=book()), "").rows
    assert (row["usd"], row["since"], row["until"]) == (Decimal("86.40"), NOON - 12 * HOUR, NOON + 12 * HOUR)
    told = notes(machines(ledger, book=book()))
    assert "nobody knows how much of it used" in told
    assert "Reports tell $0.0100 for these calls" in told
    ledger.close()


def test_a_folded_day_counts_as_far_as_the_card_does(tmp_path: Path) -> None:
    """The card begins at noon and ends at two: $7.20, with the period open or given."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(on_machine("a", 0, 5))
    ledger.prune(NOON + timedelta(days=1))
    dated = CARDS.replace("match:", "from: 2026-03-02T12:00:00Z, until: 2026-03-02T14:00:00Z, match:")
    whole_day: dict[str, Any] = {"since": NOON - 12 * HOUR, "until": NOON + 12 * HOUR}
    for asked in ({}, whole_day):
        (pool,) = machines(ledger, book=book(dated), **asked).pools
        assert (from_micros(pool.begin), from_micros(pool.end)) == (NOON, NOON + 2 * HOUR)
        assert pool.paid_pico == 72 * 10**11
    ledger.close()


def test_calls_without_length_cost_nothing(ledger: Ledger) -> None:
    """A clock that stood still, or went back; where nothing else was done all is idle."""
    ledger.write(on_machine("a", 5, 5), on_machine("b", 5, 4))
    assert costs(of_an_hour(ledger)) == dict(zip(("a", "b", "idle"), usd("0", "0", "3.60"), strict=True))


def test_unknown_dimensions_are_refused(ledger: Ledger) -> None:
    """A share by run or by day is none that machines have."""
    with pytest.raises(BadArguments, match="cannot group by 'run': there are agent, customer,"):
        machines(ledger, by=("run",), book=book())


# --- against a price by the token ------------------------------------------------------------------------------------


def test_break_even_is_where_a_token_costs_the_same(ledger: Ledger) -> None:
    """A million tokens in for $3.60 at a sixth of utilisation. gpt-4.1 takes $2 a million, so that 30% break even;
    gpt-4.1-nano takes $0.10, which no load of this machine comes to: 600%."""
    usage = Usage(input_tokens=500_000)
    ledger.write(on_machine("a", 0, 10, usage=usage), on_machine("b", 0, 10, usage=usage))
    found = of_an_hour(ledger, against=Against(model="gpt-4.1"))
    (pool,) = found.pools
    assert (pool.against_pico, pool.break_even) == (2 * 10**12, Fraction(3, 10))
    assert "own machines are cheaper above 30.0% of utilisation" in notes(found)
    rows = {round(row["utilisation"], 3): row for row in break_even_table(found, "").rows}
    assert [row["usd_per_million_tokens"] for row in (rows[0.1], rows[0.167], rows[0.3], rows[0.6])] == usd(
        "6", "3.6", "2", "1"
    )
    assert [rows[each]["verdict"] for each in (0.1, 0.3, 0.6)] == ["dearer", "the same", "cheaper"]
    assert [each for each, row in rows.items() if row["is_now"]] == [0.167]
    assert len(rows) == 11

    never = of_an_hour(ledger, against=Against(model="gpt-4.1-nano"))
    assert never.pools[0].break_even == 6
    assert "own machines are dearer even at full load (they break even at 600%)" in notes(never)


def test_the_same_open_model_is_compared_at_whoever_sells_it(ledger: Ledger) -> None:
    """The calls' own model at a host of the catalogue: $0.88 a million in and out at Together AI, in March 2026."""
    model = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    usage = Usage(input_tokens=900_000, output_tokens=100_000)
    ledger.write(on_machine("a", 0, 60, model=model, usage=usage))
    found = of_an_hour(ledger, against=Against(provider="together"))
    assert found.pools[0].against_pico == 88 * 10**10
    assert found.pools[0].seller == f"{model} at together"


def test_what_nobody_sells_is_told_and_what_is_unknown_stays_so(ledger: Ledger) -> None:
    """No price is an error that names the remedy; tokens that a price does not tell make the comparison unknown."""
    ledger.write(on_machine("a", 0, 30))
    with pytest.raises(BadArguments, match="no one price of 'own' at together is known"):
        of_an_hour(ledger, against=Against(provider="together"))
    ledger.write(on_machine("a", 30, 40, usage=Usage(audio_input_tokens=5)))
    found = of_an_hour(ledger, against=Against(model="gpt-4.1"))
    assert (found.pools[0].against_pico, found.pools[0].break_even) == (None, None)
    assert "is not known: some are of a kind that its price leaves out" in notes(found)
    assert {row["verdict"] for row in break_even_table(found, "").rows} == {"unknown"}


# --- whatever the calls ----------------------------------------------------------------------------------------------

minutes = st.integers(-30, 90)
some_calls = st.lists(
    st.tuples(minutes, st.integers(0, 50), st.sampled_from("abc"), st.sampled_from(["0", "0.01"]), st.integers(0, 1)),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(
    calls=some_calls,
    concurrency=st.sampled_from(["1", "2", "2.5", "0.5", "7"]),
    pico=st.integers(1, 10**15),
    is_all=st.booleans(),
)
def test_shares_and_idle_are_what_was_paid_whatever_the_calls(
    calls: list[tuple[int, int, str, str, int]], concurrency: str, pico: int, is_all: bool
) -> None:
    """To the picodollar, and none is negative."""
    records = [
        on_machine(name, begin, begin + length, usd=cost, call_id=f"{number}", revision=revision)
        for number, (begin, length, name, cost, revision) in enumerate(calls)
    ]
    paid = Paid(usd=Decimal(pico).scaleb(-12), concurrency=Decimal(concurrency))
    rows = rows_in(":memory:", records, paid=paid, **({} if is_all else {"since": NOON, "until": NOON + HOUR}))
    if rows:
        assert sum(row["usd"] for row in rows) == paid.usd
        assert min(row["usd"] for row in rows) >= 0


def rows_in(where: object, records: list[CallRecord], **asked: Any) -> list[dict[str, Any]]:
    """The rows of a ledger of these calls."""
    ledger = open_ledger(where)
    ledger.write(*records)
    found = machines(ledger, book=book(), **asked)
    ledger.close()
    return [dict(row) for row in machines_table(found, "").rows]


@settings(max_examples=8, deadline=None)
@given(calls=some_calls, by=st.sampled_from([("agent",), ("model", "user"), ()]))
def test_the_file_says_what_memory_says(calls: list[tuple[int, int, str, str, int]], by: tuple[str, ...]) -> None:
    """Whatever was written, corrected or written twice."""
    records = [
        on_machine(name, begin, begin + length, usd=cost, call_id=f"{number % 5}", revision=revision, user_id=name)
        for number, (begin, length, name, cost, revision) in enumerate(calls)
    ]
    asked: dict[str, Any] = {"by": by, "since": NOON, "until": NOON + HOUR}
    with tempfile.TemporaryDirectory() as folder:
        assert rows_in(":memory:", records, **asked) == rows_in(Path(folder) / "ledger.db", records, **asked)


@settings(max_examples=100, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(0, 2)), max_size=10),
    capacity=st.sampled_from([Fraction(1), Fraction(2), Fraction(5, 2), Fraction(1, 2), Fraction(4)]),
)
def test_time_is_divided_as_if_one_looked_at_each_moment(calls: list[tuple[int, int, int]], capacity: Fraction) -> None:
    """Moment by moment: each of n calls has 1/n of the machines, and 1/capacity at most."""
    wanted = [Fraction(0)] * 3
    crowded = most = 0
    for moment in range(50):
        here = [whose for begin, length, whose in calls if begin <= moment < begin + length]
        most, crowded = max(most, len(here)), crowded + (len(here) > capacity)
        for whose in here:
            wanted[whose] += 1 / max(Fraction(len(here)), capacity)
    begins = sorted(mark(begin, whose) for begin, _, whose in calls)
    ends = sorted(mark(begin + length, whose) for begin, length, whose in calls)
    found = busy(begins, ends, groups=3, capacity=capacity)
    assert (found.most, found.crowded) == (most, crowded)
    for parts, exact in zip(found.parts, wanted, strict=True):
        assert 0 <= Fraction(parts, found.unit) - exact < Fraction(1, 10**9)


# --- as a user meets it ----------------------------------------------------------------------------------------------


def notes(found: Machines) -> str:
    return " ".join(machines_table(found, "").notes)


def fill(file: Path) -> Path:
    """A day of a machine: an agent that answers for nine hours, and one that writes reports at night, two at once."""
    ledger = open_ledger(file)
    day = datetime(2026, 3, 2, tzinfo=UTC)
    answers = [
        machine_call(f"s{number}", "support", day + timedelta(hours=9, minutes=number), 40, (6_000, 750))
        for number in range(540)
    ]
    reports = [
        machine_call(f"r{number}{side}", "reports", day + timedelta(hours=2, minutes=number), 60, (30_000, 4_500))
        for number in range(60)
        for side in "ab"
    ]
    ledger.write(*answers, *reports)
    ledger.close()
    return file


def machine_call(name: str, agent: str, at: datetime, seconds: int, tokens: tuple[int, int]) -> CallRecord:
    cost = Decimal("2.40") * seconds / 4 / 3600
    return a_call(
        name, agent_id=agent, started_at=at, ended_at=at + timedelta(seconds=seconds), billing_mode="self_hosted",
        card_id="gpu", usd=str(round(cost, 12)), provider="own", model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        usage=Usage(input_tokens=tokens[0], output_tokens=tokens[1]),
    )  # fmt: skip


@pytest.fixture
def finops(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finops:
    """Run a command line; return exit code, stdout and stderr."""
    cards = tmp_path / "cards.yaml"
    cards.write_text("cards:\n  - {id: gpu, self_hosted: {usd_per_instance_hour: 2.40, concurrency: 4}}\n")
    monkeypatch.setenv("FINOPS_PRICES", str(cards))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


DAY = ("--since", "2026-03-02", "--until", "2026-03-03")


def test_what_the_documentation_shows_is_what_is_printed(finops: Finops, tmp_path: Path) -> None:
    """24 hours at $2.40 are $57.60. 540 calls of 40 s and 120 of 60 s, four at once, are 5,400 s and 1,800 s of it."""
    fill(tmp_path / "ledger.db")
    text = DOCS.read_text(encoding="utf-8")
    for more in ((), ("--break-even",)):
        words = ("machines", *DAY, "--against-provider", "together", *more)
        code, out, err = finops(*words, "--ledger", tmp_path / "ledger.db")
        assert (code, err) == (0, "")
        assert f"$ finops {' '.join(words)}\n{out}```" in text
        assert all(len(line) <= 80 for line in out.splitlines())


def test_every_format_has_the_same_rows(finops: Finops, tmp_path: Path) -> None:
    """JSON is one array with exact amounts; CSV has the same fields; markdown is for people."""
    fill(tmp_path / "ledger.db")
    words = ("machines", *DAY, "--ledger", tmp_path / "ledger.db")
    code, out, err = finops(*words, "--format", "json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [(row["agent"], row["kind"], row["usd"]) for row in rows] == [
        ("support", "calls", "3.6"),
        ("reports", "calls", "1.2"),
        (None, "idle", "52.8"),
    ]
    assert rows[0]["utilisation"] == pytest.approx(7200 / 86400)
    table = list(csv.DictReader(io.StringIO(finops(*words, "--format", "csv")[1])))
    assert list(table[0]) == list(rows[0])
    assert [row["usd"] for row in table] == ["3.6", "1.2", "52.8"]
    assert "| idle | $52.80 |" in finops(*words, "--format", "markdown")[1]
    tenths = json.loads(finops(*words, "--break-even", "--format", "json")[1])
    assert len(tenths) == 11


def test_a_ledger_without_machines_says_so(finops: Finops, tmp_path: Path) -> None:
    """And where a recording answered for them, how to look at it."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(a_call("x"), on_machine("a", 0, 10, billing_mode="replay", meter_usd={"seconds": Decimal("0.01")}))
    ledger.close()
    code, out, _ = finops("machines", "--ledger", tmp_path / "ledger.db")
    assert code == 0
    assert out.startswith("No calls on machines of your own, all time, in ")
    assert "(1 replay left out: --replays counts them)" in out
    assert finops("machines", "--ledger", tmp_path / "ledger.db", "--format", "json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--usd", "0"], "--usd '0' is no such number: write one above 0."),
        (["--concurrency", "many"], "--concurrency: 'many' is not an amount of money; write it as 5 or 0.25."),
        (["--usd", "1", "--instance-hours", "3"], "instance_hours and usd each say what was paid: give one of them"),
        (["--by", "run"], "cannot group by 'run': there are agent,"),
        (["--against", "nobodys-model"], "no one price of 'nobodys-model' is known"),
        (["--card", ""], "--card is empty: name it, or leave it out."),
        (["--charges", "rent"], "no charge of kind infrastructure is called 'rent' in this period"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops: Finops, tmp_path: Path, words: list[str], told: str) -> None:
    """On stderr, and nothing on stdout."""
    fill(tmp_path / "ledger.db")
    code, out, err = finops("machines", "--ledger", tmp_path / "ledger.db", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
