"""`Watch`: the figures of `finops top`, by hand."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from langchain_finops.budgets.outside import set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import kill
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.live import Watch
from langchain_finops.reports.live_table import amount, live_table, per_hour
from langchain_finops.testing.records import MONDAY, a_call, a_run, an_event

NOW = MONDAY + timedelta(hours=6)
"""18:00: three quarters of the day have passed."""


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def ago(**span):
    return NOW - timedelta(**span)


def test_rate_hour_today_and_forecast(ledger):
    """$0.50 in five minutes are $6 an hour; $3 in three quarters of a day are $4 in a day."""
    ledger.write(
        a_call("a", usd="0.5", started_at=ago(minutes=2)),
        a_call("b", usd="1", started_at=ago(minutes=40)),
        a_call("c", usd="1.5", started_at=ago(hours=5)),
        a_call("d", usd="9", started_at=ago(hours=19)),
    )
    live = Watch(ledger, now=NOW).look(NOW)

    assert per_hour(live.pace, timedelta(minutes=5)) == 6
    assert (live.hour.usd, live.today.usd, live.forecast_usd) == (Decimal("1.5"), 3, 4)


def test_unpriced_is_never_zero(ledger):
    """A call without a price is unpriced, beside one with a price it makes a bound."""
    ledger.write(a_call("a", usd=None, agent_id="blind", started_at=ago(minutes=2)))
    watch = Watch(ledger, now=NOW)
    live = watch.look(NOW)
    assert (amount(live.hour), live.forecast_usd) == ("unpriced", None)
    assert {row["cost_usd"] for row in live_table(live).rows} == {None}

    ledger.write(a_call("b", usd="0.25", agent_id="seeing", started_at=ago(minutes=2)))
    live = watch.look(NOW)
    assert amount(live.hour) == ">= $0.2500"
    assert [(key, amount(spent)) for key, spent in live.top["agent"]] == [
        ("seeing", "$0.2500"),
        ("blind", "unpriced"),
    ]


def test_a_run_runs_until_its_invocation_ends(ledger):
    """Cost, step and what is left are the whole run's so far; it goes when it ends."""
    set_budget(ledger, Budget(usd=2), by="anna")
    ledger.write(
        a_call("a", usd="0.5", run_id="r", invocation_id="i1", step=1, started_at=ago(hours=3)),
        a_run(run_id="r", invocation_id="i1", status="interrupted"),
        a_call("b", usd="0.25", run_id="r", invocation_id="i2", step=7, agent_id="s", started_at=ago(minutes=3)),
    )
    watch = Watch(ledger, now=NOW)
    (run,) = watch.look(NOW).runs
    assert (run.run_id, run.agent, run.step, run.left) == ("r", "s", 7, "$1.2500")
    assert run.spent.usd == Decimal("0.75")

    ledger.write(a_run(run_id="r", invocation_id="i2", revision=1))
    live = watch.look(NOW)
    assert (live.runs, live.running) == ([], 0)


def test_a_run_that_fell_silent_is_not_running(ledger):
    """After a quarter of an hour without a call its process may be gone."""
    ledger.write(a_call("a", started_at=ago(minutes=14)))
    watch = Watch(ledger, now=NOW)
    assert watch.look(NOW).running == 1
    assert watch.look(NOW + timedelta(minutes=2)).running == 0


def test_a_correction_counts_from_the_next_look(ledger):
    """A repriced call counts once, at its new price, in the hour and in its run."""
    call = a_call("a", usd="0.25", started_at=ago(minutes=3))
    ledger.write(call)
    watch = Watch(ledger, now=NOW)
    watch.look(NOW)
    ledger.write(replace(call, cost_usd=Decimal(1), contracted_usd=Decimal(1), billed_usd=Decimal(1), revision=1))
    live = watch.look(NOW)

    assert live.hour.usd == 1
    assert [run.spent.usd for run in live.runs] == [1]


def test_kills_and_alerts_are_told(ledger):
    """What is in force comes first, then what was alerted today."""
    kill(ledger, "agent_id", "support", by="anna", reason="loops")
    ledger.write(an_event(at=ago(minutes=1), action="alert", reason="too fast"))
    texts = [text for _, text in Watch(ledger, now=NOW).look(NOW).alerts]

    assert texts == ["KILLED agent_id=support by anna: loops", "too fast"]


def test_an_empty_ledger_has_figures_too(ledger):
    """Nothing was spent: that is $0, and known."""
    live = Watch(ledger, now=NOW).look(NOW)
    assert (live.hour.usd, live.runs, live.alerts) == (0, [], [])


def test_the_dearest_node_of_each_agent(ledger):
    """Of $0.30 and twice $0.20 the two together cost more; what is older than an hour does not count."""
    ledger.write(
        a_call("a", usd="0.3", agent_id="s", node_path="plan", started_at=ago(minutes=3)),
        a_call("b", usd="0.2", agent_id="s", node_path="search", started_at=ago(minutes=3)),
        a_call("c", usd="0.2", agent_id="s", node_path="search", started_at=ago(minutes=4)),
        a_call("d", usd="9", agent_id="s", node_path="old", started_at=ago(minutes=90)),
    )

    live = Watch(ledger, now=NOW).look(NOW)

    assert live.dearest_node == {"s": "search"}
    assert [row["node"] for row in live_table(live).rows if row["kind"] == "agent"] == ["search"]
