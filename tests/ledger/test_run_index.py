"""`RunIndex` and `totals_by_label`: what a page reads, on SQLite and PostgreSQL, by hand."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from langchain_finops.ledger.codec import MICROS_PER_DAY, to_micros
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.label_totals import totals_by_label
from langchain_finops.ledger.run_index import RunIndex
from langchain_finops.money import from_pico, to_pico
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_run, an_outcome
from langchain_finops.usage import Usage

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request, opened, path):
    where = path if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return opened(where)


def test_a_run_costs_its_calls_and_charges_before_and_after_the_first_look(ledger):
    """$0.25 + $0.50 + $1.50 come to $2.25, whichever was there when the index was made; an unpriced call is counted."""
    ledger.write(a_call("a", usd="0.25", agent_id="s", task_id="t"), a_charge("h", usd="1.50"))
    index = RunIndex(ledger)
    index.look()
    assert from_pico(index.runs["r1"].pico) == Decimal("1.75")

    ledger.write(
        a_call("b", usd="0.5", started_at=MONDAY + MINUTE, agent_id="s2"),
        a_call("c", usd=None),
        a_call("d", run_id="r2"),
    )
    index.look()
    index.look()
    run = index.runs["r1"]
    assert (from_pico(run.pico), run.calls, run.charges, run.unpriced) == (Decimal("2.25"), 3, 1, 1)
    assert (run.agent, run.task_id, run.tokens, run.newest) == ("s2", "t", 360, to_micros(MONDAY + MINUTE))
    assert index.runs["r2"].calls == 1


def test_a_correction_replaces_what_was_counted(ledger):
    """A call repriced from $0.25 to $1 costs its run $1, before the first look and after it."""
    call = a_call("a", usd="0.25")
    dearer = {"cost_usd": Decimal(1), "contracted_usd": Decimal(1), "billed_usd": Decimal(1)}
    ledger.write(call)
    early = RunIndex(ledger)
    early.look()
    ledger.write(replace(call, revision=1, **dearer))
    early.look()
    late = RunIndex(ledger)
    late.look()
    assert [from_pico(index.runs["r1"].pico) for index in (early, late)] == [1, 1]
    assert [index.runs["r1"].calls for index in (early, late)] == [1, 1]


def test_how_a_run_stands_is_its_last_invocations(ledger):
    """Open while its newest call's invocation has no end; then as that one ended."""
    ledger.write(
        a_call("a", invocation_id="i1"),
        a_run(invocation_id="i1", status="interrupted", stop_reason="budget:x", steps=3),
        a_call("b", invocation_id="i2", started_at=MONDAY + MINUTE),
    )
    index = RunIndex(ledger)
    index.look()
    run = index.runs["r1"]
    assert (run.is_open, run.status) == (True, "interrupted")

    ledger.write(a_run(invocation_id="i2", status="completed", steps=5, revision=1), an_outcome("t1", success=False))
    index.look()
    assert (run.is_open, run.status, run.stop_reason, run.steps) == (False, "completed", None, 5)
    assert index.verdicts == {"t1": False}


def test_folded_calls_stay_in_a_runs_cost(ledger):
    """`prune` takes the calls away and not what they cost: three of $0.25 are $0.75."""
    ledger.write(*(a_call(name, usd="0.25") for name in "abc"))
    ledger.prune(MONDAY + DAY)
    index = RunIndex(ledger)
    index.look()
    run = index.runs["r1"]
    assert (from_pico(run.pico), run.calls) == (Decimal("0.75"), 3)


def test_a_run_is_found_by_what_names_it_and_a_person_who_was_forgotten_is_not(ledger):
    """Any part of the id, task, user or thread, in any case; `%` and `_` are themselves."""
    ledger.write(
        a_call("a", run_id="r1", task_id="Ticket-7", user_id="Ann%", thread_id="th", agent_id="Billing"),
        a_call("b", run_id="r2", task_id="other", user_id="bob"),
    )
    index = RunIndex(ledger)
    index.look()
    assert [index.matching(text) for text in ("ticket", "ann%", "TH", "billing", "r2")] == [
        {"r1"}, {"r1"}, {"r1", "r2"}, {"r1"}, {"r2"}
    ]  # fmt: skip
    assert index.matching("%") == {"r1"}
    assert index.matching("_") == set()
    ledger.forget("Ann%")
    assert index.matching("ann") == set()


def test_sums_by_label_are_those_of_the_ledger(ledger):
    """By agent and day: $0.75 of s on Monday and $1 on Tuesday, and a charge that counts apart; others are left out."""
    tuesday = MONDAY + DAY
    ledger.write(
        a_call("a", usd="0.25", agent_id="s", service_tier="priority"),
        a_call("b", usd="0.5", agent_id="s", usage=Usage(input_tokens=7, cache_read_tokens=3, output_tokens=1)),
        a_call("c", usd="1", agent_id="s", started_at=tuesday),
        a_call("d", usd=None, agent_id="s", started_at=tuesday),
        a_charge("h", usd="2", agent_id="s", at=tuesday),
        a_call("e", usd="9", agent_id="x"),
    )
    everything = Period()
    days = totals_by_label(ledger, ("agent_id",), everything, bucket=MICROS_PER_DAY, filters={"agent_id": "s"})
    day = to_micros(MONDAY) // MICROS_PER_DAY
    assert {place: (sums.cost_usd, sums.calls, sums.unpriced) for (_, place), sums in days.items()} == {
        day: (Decimal("0.75"), 2, 0),
        day + 1: (Decimal(3), 2, 1),
    }
    tiers = totals_by_label(ledger, ("service_tier",), everything, filters={"agent_id": "s"})
    assert {key: sums.calls for (key, _), sums in tiers.items()} == {("priority",): 1, (None,): 3}
    hours = totals_by_label(ledger, (), Period.of(tuesday, None), bucket=3_600_000_000)
    assert {place: to_pico(sums.cost_usd) for (_, place), sums in hours.items()} == {
        to_micros(tuesday) // 3_600_000_000: to_pico(Decimal(3))
    }
    assert totals_by_label(ledger, ("agent_id",), everything)[("s",), 0].meters["cache_read_tokens"] == 3
