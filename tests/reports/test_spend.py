"""Spend over time, an agent's nodes, models, and runs as a list: by hand."""

from datetime import timedelta
from decimal import Decimal

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.run_index import RunIndex
from langchain_finops.pricing.book import PriceBook
from langchain_finops.reports.live_table import amount
from langchain_finops.reports.models import models_used
from langchain_finops.reports.runs import Wanted, listed_runs
from langchain_finops.reports.spend import SPANS, nodes_of, spend_over_time
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_run, an_outcome
from langchain_finops.usage import Usage

NOW = MONDAY + timedelta(minutes=32)


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def ago(**span):
    return NOW - timedelta(**span)


@pytest.mark.parametrize(("span", "bars"), [("1h", 13), ("24h", 25), ("7d", 29), ("30d", 31)])
def test_each_span_has_its_bars_and_they_add_up(ledger, span, bars):
    """$1 now and $2 when the span begins, within its first bar; what is older is left out. Reports say the same."""
    length, _ = SPANS[span]
    ledger.write(
        a_call("new", usd="1", agent_id="a", started_at=NOW),
        a_call("old", usd="2", agent_id="b", started_at=NOW - length),
        a_call("older", usd="4", agent_id="b", started_at=NOW - length - timedelta(microseconds=1)),
    )
    over = spend_over_time(ledger, span, NOW)
    assert len(over.starts) == len(over.bars) == bars
    assert over.total.usd == 3 == next(iter(ledger.totals((), since=NOW - length))).totals.cost_usd
    assert over.starts[0] == NOW - length
    assert [(each.agent, each.total.usd) for each in over.series] == [("b", 2), ("a", 1)]
    assert (over.bars[0].usd, over.bars[-1].usd) == (2, 1)


def test_agents_beyond_the_sixth_are_drawn_together(ledger):
    """Eight agents of $8 to $1: six by name, $3 of the others, and nothing is lost."""
    ledger.write(*(a_call(f"c{n}", usd=str(n), agent_id=f"agent-{n}", started_at=NOW) for n in range(1, 9)))
    over = spend_over_time(ledger, "1h", NOW)
    assert [(each.agent, each.is_rest, each.total.usd) for each in over.series[5:]] == [
        ("agent-3", False, 3), (None, True, 3)
    ]  # fmt: skip
    assert over.total.usd == 36


def test_unpriced_is_a_bound_and_alone_is_unknown(ledger):
    """A bar with a call of unknown price is at least what is known; one without any known price is unpriced."""
    ledger.write(
        a_call("a", usd=None, agent_id="blind", started_at=NOW), a_call("b", usd="1", agent_id="b", started_at=NOW)
    )
    over = spend_over_time(ledger, "1h", NOW)
    assert [amount(each.total) for each in over.series] == ["$1.0000", "unpriced"]
    assert amount(over.bars[-1]) == ">= $1.0000"


def test_nodes_of_an_agent_have_own_and_subtree_cost(ledger):
    """researcher has no calls of its own, and $3 below it; another agent's nodes are not among them."""
    ledger.write(
        a_call("a", usd="1", agent_id="s", node_path="researcher/read", model="m"),
        a_call("b", usd="2", agent_id="s", node_path="researcher/search", model="n"),
        a_call("c", usd="0.5", agent_id="s", node_path="plan", model="n"),
        a_call("d", usd="9", agent_id="x", node_path="plan"),
        a_call("e", usd="9", agent_id="s", node_path="plan", started_at=MONDAY - 8 * DAY),
    )
    nodes = nodes_of(ledger, "s", MONDAY - 7 * DAY)
    assert [(row["node"], row["cost_usd"], row["subtree_cost_usd"]) for row in nodes.rows] == [
        ("researcher", 0, 3),
        ("researcher/search", 2, 2),
        ("researcher/read", 1, 1),
        ("plan", Decimal("0.5"), Decimal("0.5")),
    ]
    assert nodes.total.usd == Decimal("3.5")
    assert [(model, spent.usd) for model, spent in nodes.models] == [("n", Decimal("2.5")), ("m", 1)]


def test_models_tell_cache_rate_tiers_and_what_a_million_tokens_cost(ledger):
    """300 of 400 input tokens from the cache are 75%; $0.50 for 500 tokens are $1,000 a million. Charges apart."""
    usage = Usage(input_tokens=50, cache_read_tokens=150, output_tokens=50)
    ledger.write(
        a_call("a", usd="0.3", usage=usage, service_tier="priority"),
        a_call("b", usd="0.2", usage=usage),
        a_call("c", usd=None, provider=None, model="nobody-knows", usage=usage),
        a_charge("h"),
    )
    first, second = models_used(ledger, None, PriceBook.default(), NOW)
    assert (first.model, first.hit_rate, first.paid_usd) == ("gpt-4.1-mini", 0.75, 1000)
    assert [(tier, spent.usd) for tier, spent in first.tiers] == [("priority", Decimal("0.3")), (None, Decimal("0.2"))]
    assert (first.price.kind, first.price.input_usd, first.price.output_usd) == (
        "rates",
        Decimal("0.4"),
        Decimal("1.6"),
    )
    assert (second.spent.usd, second.paid_usd, second.price.kind) == (None, None, "unpriced")


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(ledger):
    """Of four runs one is running, one completed, one stopped, and one fell silent."""
    ledger.write(
        a_call("a", usd="1", run_id="live", invocation_id="l", agent_id="a", started_at=ago(minutes=2)),
        a_call("b", usd="3", run_id="done", invocation_id="d", agent_id="b", task_id="t", started_at=ago(hours=2)),
        a_run("done", invocation_id="d", started_at=ago(hours=2), ended_at=ago(hours=1), steps=4),
        an_outcome("t", success=False),
        a_call("c", usd="2", run_id="cut", invocation_id="c", agent_id="a", started_at=ago(hours=3)),
        a_run("cut", invocation_id="c", status="stopped", stop_reason="loop", started_at=ago(hours=3), ended_at=NOW),
        a_call("d", usd=None, run_id="lost", invocation_id="x", agent_id="b", started_at=ago(hours=4)),
    )
    index = RunIndex(ledger)
    index.look()
    return lambda **wanted: listed_runs(index, Wanted(**wanted), NOW)


def test_runs_are_listed_newest_first_with_how_they_stand(runs):
    """Running, completed, stopped, and no end; with what each cost and what became of its task."""
    found = runs()
    assert [(run.run_id, run.status, run.success) for run in found.rows] == [
        ("live", "running", None), ("done", "completed", False), ("cut", "stopped", None), ("lost", "no end", None)
    ]  # fmt: skip
    assert [amount(run.spent) for run in found.rows] == ["$1.0000", "$3.0000", "$2.0000", "unpriced"]
    assert (found.rows[1].took, found.rows[0].took) == (timedelta(hours=1), timedelta(minutes=2))
    assert (amount(found.spent), found.running, found.agents) == (">= $6.0000", 1, ["a", "b"])


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"agent": "a"}, ["live", "cut"]),
        ({"status": "stopped"}, ["cut"]),
        ({"status": "no end"}, ["lost"]),
        ({"text": "don"}, ["done"]),
        ({"text": "nothing"}, []),
        ({"sort": "cost"}, ["done", "cut", "live", "lost"]),
        ({"sort": "took", "ascending": True}, ["lost", "live", "done", "cut"]),
        ({"sort": "run", "ascending": True}, ["cut", "done", "live", "lost"]),
        ({"size": 3, "page": 2}, ["lost"]),
        ({"size": 3, "page": 99}, ["lost"]),
    ],
)
def test_runs_are_filtered_searched_sorted_and_paged(runs, wanted, ids):
    """Each alone; a page that is not there is the last one."""
    assert [run.run_id for run in runs(**wanted).rows] == ids
