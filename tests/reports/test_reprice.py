"""Pricing a ledger again: what changes, what stays, and what is said of it."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.records import Attribution, CallRecord, ChargeRecord
from langchain_finops.reports import reprice as module
from langchain_finops.reports.render import render
from langchain_finops.reports.reprice import reprice
from langchain_finops.usage import Usage

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def book(*cards: dict[str, Any]) -> PriceBook:
    return PriceBook(cards=parse_cards(list(cards), where="test"), catalog=False)


CHEAP = {"id": "cheap", "match": {"model": "m*"}, "rates": {"input_tokens": 1, "output_tokens": 2}}
DEAR = {"id": "dear", "match": {"model": "m*"}, "rates": {"input_tokens": 3, "output_tokens": 4}}
SEARCH = {"id": "search", "tool": "search", "usd_per_call": "0.005"}


def call(number: int, *, model: str = "m", at: datetime = AT, usd: str | None = "0.0012", **more: Any) -> CallRecord:
    """1000 tokens in and 100 out: $0.0012 by the cheap card, $0.0034 by the dear one."""
    cost = None if usd is None else Decimal(usd)
    values: dict[str, Any] = {
        "call_id": f"c{number}",
        "run_id": "r",
        "invocation_id": "i",
        "attribution": Attribution(agent_id="a", task_id="t"),
        "provider": "p",
        "model": model,
        "requested_model": model,
        "usage": Usage(input_tokens=1000, output_tokens=100),
        "raw_usage": {"input_tokens": 1000, "output_tokens": 100},
        "cost_usd": cost,
        "contracted_usd": cost,
        "billed_usd": cost,
        "cost_status": "unpriced" if cost is None else "exact",
        "card_id": "cheap",
        "meter_usd": None if cost is None else {"input_tokens": Decimal("0.001"), "output_tokens": Decimal("0.0002")},
        "started_at": at,
        "ended_at": at + timedelta(seconds=1),
    }
    return CallRecord(**values | more)


@pytest.fixture(params=["memory", "sql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return open_ledger(":memory:" if request.param == "memory" else tmp_path / "ledger.db")


def test_new_figures_go_above_the_old_ones(ledger: Ledger) -> None:
    """The report shows the new cost; the history has both, each with its book; an event says who and how much."""
    ledger.write(call(1), call(2))
    found = reprice(ledger, book(DEAR), actor="jo")
    current = next(ledger.calls(call_id="c1"))
    versions = sorted(ledger.calls(call_id="c1", history=True), key=lambda record: record.revision)
    (event,) = ledger.events()

    assert found.changed == 2
    assert (current.cost_usd, current.card_id, current.revision) == (Decimal("0.0034"), "dear", 1)
    assert (current.contracted_usd, current.billed_usd) == (Decimal("0.0034"), Decimal("0.0034"))
    assert dict(current.meter_usd or {}) == {"input_tokens": Decimal("0.003"), "output_tokens": Decimal("0.0004")}
    assert current.price_book_hash == book(DEAR).hash
    assert [record.cost_usd for record in versions] == [Decimal("0.0012"), Decimal("0.0034")]
    assert ledger.totals(())[0].totals.cost_usd == Decimal("0.0068")
    assert (event.actor, event.action, event.subject) == ("jo", "reprice", "calls")
    assert event.before is not None
    assert event.after is not None
    assert Decimal(event.before["cost_before_usd"]) == Decimal("0.0024")
    assert Decimal(event.after["cost_after_usd"]) == Decimal("0.0068")
    assert (event.after["changed"], event.after["price_book_hash"]) == (2, book(DEAR).hash)


def test_twice_changes_nothing_more(ledger: Ledger) -> None:
    """Not a version, not an event: whoever runs it every night fills no disk."""
    ledger.write(call(1), charge(1))
    reprice(ledger, book(DEAR, SEARCH))
    versions, events = len(list(ledger.calls(history=True))), len(list(ledger.events()))
    found = reprice(ledger, book(DEAR, SEARCH))

    assert found.changed == 0
    assert (len(list(ledger.calls(history=True))), len(list(ledger.events()))) == (versions, events) == (2, 1)
    assert len(list(ledger.charges(history=True))) == 2


def test_the_same_price_from_another_card_changes_nothing(ledger: Ledger) -> None:
    """A newer catalogue gives every card a new name; a million calls are not written again for that."""
    ledger.write(call(1))

    assert reprice(ledger, book({**CHEAP, "id": "renamed"})).changed == 0
    assert next(ledger.calls()).card_id == "cheap"


def test_a_dry_run_writes_nothing_and_says_the_same(ledger: Ledger) -> None:
    """What would change is what then does."""
    ledger.write(call(1), call(2, model="m2"))
    dry = reprice(ledger, book(DEAR), dry_run=True)

    assert len(list(ledger.calls(history=True))) == 2
    assert not list(ledger.events())
    assert reprice(ledger, book(DEAR)).total() == dry.total()


def test_a_known_cost_never_becomes_unknown(ledger: Ledger) -> None:
    """A call whose card is gone keeps its cost, and is counted; one that had none stays unpriced, and is counted."""
    ledger.write(call(1), call(2, usd=None))
    found = reprice(ledger, book())
    total = found.total()

    assert (total["changed"], total["kept"], total["unpriced"]) == (0, 1, 1)
    assert next(ledger.calls(call_id="c1")).cost_usd == Decimal("0.0012")
    assert next(ledger.calls(call_id="c2")).cost_usd is None


def test_what_had_no_price_gets_one(ledger: Ledger) -> None:
    """The usual reason to do it: a card was missing."""
    ledger.write(call(1, usd=None))
    total = reprice(ledger, book(CHEAP)).total()

    assert (total["changed"], total["newly_priced"], total["unpriced"]) == (1, 1, 0)
    assert (total["cost_before_usd"], total["cost_after_usd"]) == (0, Decimal("0.0012"))
    assert next(ledger.calls()).cost_status == "exact"


def test_a_contract_changes_what_is_paid_and_not_the_list(ledger: Ledger) -> None:
    """The table then has the columns that show it."""
    ledger.write(call(1))
    found = reprice(ledger, book({"id": "contract", "factor": "0.5"}, CHEAP))
    total = found.total()
    shown = io.StringIO()
    render(found.table("x"), "table", shown)

    assert (total["cost_before_usd"], total["cost_after_usd"]) == (Decimal("0.0012"),) * 2
    assert (total["contracted_before_usd"], total["contracted_after_usd"]) == (Decimal("0.0012"), Decimal("0.0006"))
    assert "contracted after" in shown.getvalue()


def test_what_prices_do_not_decide_is_counted_apart(ledger: Ledger) -> None:
    """A stated bill, a refused call, an amount that a user named."""
    reported = call(1, cost_status="reported", card_id="reported")
    refused = call(2, usd="0", usage=Usage(requests=0), raw_usage=None, cost_status="free", card_id=None)
    ledger.write(reported, refused, charge(1, cost_usd=Decimal(9), cost_status="exact"))
    total = reprice(ledger, book(DEAR, SEARCH)).total()

    assert (total["calls"], total["charges"], total["not_by_price"], total["changed"]) == (2, 1, 3, 0)


def test_an_exact_cost_that_becomes_an_estimate_is_said(ledger: Ledger) -> None:
    """A card without a rate for cached tokens charges them as input, and flags it."""
    raw = {"input_tokens": 1000, "output_tokens": 100, "input_token_details": {"cache_read": 500}}
    ledger.write(call(1, raw_usage=raw, usage=Usage(input_tokens=500, cache_read_tokens=500, output_tokens=100)))
    found = reprice(ledger, book(DEAR))

    assert found.total()["now_estimated"] == 1
    assert next(ledger.calls()).estimated
    # An estimate that stays one is nothing to tell.
    assert (
        reprice(ledger, book({**DEAR, "rates": {"input_tokens": 5, "output_tokens": 4}})).total()["now_estimated"] == 0
    )
    assert any("estimates now" in note for note in found.table("x").notes)


def charge(number: int, **more: Any) -> ChargeRecord:
    values: dict[str, Any] = {"charge_id": f"t{number}", "kind": "tool", "name": "search", "at": AT}
    return ChargeRecord(**values | more)


def test_tools_are_priced_by_their_cards(ledger: Ledger) -> None:
    """And stand in the table by their names."""
    ledger.write(charge(1), charge(2, name="calculator"))
    found = reprice(ledger, book(SEARCH))
    rows = {row["model"]: row for row in found.table("x").rows}

    assert next(ledger.charges(charge_id="t1")).cost_usd == Decimal("0.005")
    assert (rows["search"]["changed"], rows["calculator"]["unpriced"]) == (1, 1)


def test_a_period_bounds_what_is_looked_at(ledger: Ledger) -> None:
    """From the first moment on, until just before the last."""
    ledger.write(*(call(number, at=AT + timedelta(minutes=number)) for number in range(5)))
    found = reprice(ledger, book(DEAR), since=AT + timedelta(minutes=1), until=AT + timedelta(minutes=4))
    changed = {record.call_id for record in ledger.calls() if record.card_id == "dear"}

    assert found.total()["calls"] == 3
    assert changed == {"c1", "c2", "c3"}


def test_calls_far_apart_and_many_at_once_are_all_found(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows meet without a gap or an overlap, and batches lose nothing, whatever their size."""
    monkeypatch.setattr(module, "BATCH", 3)
    written: list[int] = []
    write = ledger.write
    monkeypatch.setattr(ledger, "write", lambda *records: (written.append(len(records)), write(*records)))
    hour = timedelta(hours=1)
    times = [AT, AT, AT + hour - timedelta(microseconds=1), AT + hour, AT + 5000 * hour, AT + 5000 * hour]
    write(*(call(number, at=at) for number, at in enumerate(times)))
    found = reprice(ledger, book(DEAR))

    assert written == [3, 3, 1]  # The calls, and the event.
    assert (found.total()["calls"], found.changed) == (6, 6)
    assert all(record.card_id == "dear" for record in ledger.calls())


def test_pruned_calls_are_counted_and_stay(tmp_path: Path) -> None:
    """Their sums keep the prices they were folded at, and nobody is left to think otherwise."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(call(1), call(2, at=AT + timedelta(days=5)), charge(1, at=AT + timedelta(days=5)))
    ledger.prune(AT + timedelta(days=2))
    found = reprice(ledger, book(DEAR))

    assert (found.folded, found.changed) == (1, 1)
    assert any("1 pruned before" in note for note in found.table("x").notes)
    assert ledger.totals(())[0].totals.cost_usd == Decimal("0.0046")  # 0.0012 folded + 0.0034


def test_replays_and_cache_hits_keep_what_is_billed(ledger: Ledger) -> None:
    """Their list cost follows the book; nothing is paid for them at any price."""
    nothing = Decimal(0)
    ledger.write(
        call(1, billing_mode="replay", billed_usd=nothing),
        call(2, billing_mode="cache", billed_usd=nothing),
    )
    total = reprice(ledger, book(DEAR)).total()

    assert (total["cost_after_usd"], total["billed_after_usd"]) == (Decimal("0.0068"), nothing)
    assert {record.billing_mode for record in ledger.calls()} == {"replay", "cache"}


def test_the_total_row_is_the_sum_and_programs_get_every_field(ledger: Ledger) -> None:
    """Rows of models and tools; the largest change comes first."""
    ledger.write(call(1), call(2, model="m2", usd="0.0034"), call(3, model="other"))
    table = reprice(ledger, book(DEAR), dry_run=True).table("x")
    rows = list(table.rows)

    assert [row["model"] for row in rows] == ["m", "m2", "other"]
    assert all(set(row) == set(table.fields) for row in rows)
    assert table.total is not None
    for name in module.SUMS:
        assert table.total[name] == sum((row[name] for row in rows), Decimal(0))


def test_a_record_that_is_superseded_meanwhile_is_not_overwritten(ledger: Ledger) -> None:
    """Only current versions are looked at: a late answer that came first stays the last word of its counts."""
    ledger.write(call(1))
    ledger.write(replace(call(1), revision=1, usage=Usage(input_tokens=2000, output_tokens=100), raw_usage=None))
    reprice(ledger, book(DEAR))
    current = next(ledger.calls())

    assert (current.revision, current.cost_usd) == (2, Decimal("0.0064"))  # 2000 x 3 + 100 x 4
