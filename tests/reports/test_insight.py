"""Findings, by hand: each counts what its definition says, and nothing else."""

from datetime import timedelta
from decimal import Decimal

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.records import CallError
from langchain_finops.reports.anomalies import anomalies
from langchain_finops.reports.insight import FIELDS, insight
from langchain_finops.reports.insight_table import finding_table
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, an_outcome
from langchain_finops.usage import Usage

TODAY = MONDAY + 40 * DAY


@pytest.fixture(params=["memory", "file"])
def ledger(request, tmp_path):
    opened = open_ledger(":memory:" if request.param == "memory" else tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_retries_failures_and_overhead_have_their_cost(ledger):
    """$1 of a second try, $2 and one unknown of failed calls, $4 of a summariser; $10 in all; the judge is in none."""
    failed = {"error": CallError(error_class="E", http_status=500), "agent_id": "a", "node_path": "n"}
    ledger.write(
        a_call("1", usd="3", agent_id="a", step=1, attempt=1),
        a_call("2", usd="1", agent_id="a", step=1, attempt=2),
        a_call("3", usd="2", **failed),
        a_call("4", usd=None, **failed),
        a_call("5", usd="4", agent_id="a", role="overhead"),
    )
    found = insight(ledger, at=TODAY)

    assert [(row["calls"], row["cost_usd"], row["share"]) for row in found.rows["retries"]] == [(1, 1, 0.1)]
    assert [(row["node"], row["calls"], row["cost_usd"], row["unpriced"]) for row in found.rows["failures"]] == [
        ("n", 2, 2, 1)
    ]
    assert [row["cost_usd"] for row in found.rows["overhead"]] == [4]
    assert {row["finding"]: row["cost_usd"] for row in found.summary()}["overhead"] == 4
    for name, rows in found.rows.items():
        assert all(tuple(row) == FIELDS[name] for row in rows)


def test_a_call_that_was_priced_again_counts_once(ledger):
    """The version that counts is the current one."""
    for revision, usd in enumerate(["1", "5"]):
        ledger.write(a_call("1", usd=usd, step=1, attempt=2, revision=revision))
    assert [(row["calls"], row["cost_usd"]) for row in insight(ledger).rows["retries"]] == [(1, 5)]


def test_contexts_grow_by_what_each_further_call_adds(ledger):
    """100, 300 and 800 input tokens in one run: +350 a step. A run of one call says nothing."""
    for step, tokens in enumerate([100, 300, 800]):
        at = MONDAY + timedelta(minutes=step)
        ledger.write(a_call(str(step), node_path="n", usage=Usage(input_tokens=tokens), started_at=at))
    ledger.write(a_call("other", run_id="r2", node_path="n", usage=Usage(input_tokens=5000)))
    (row,) = insight(ledger).rows["context"]
    assert (row["runs"], row["calls"], row["first_tokens"], row["last_tokens"]) == (1, 3, 100, 800)
    assert row["growth_per_step"] == 350


def test_an_agent_that_polls_is_idle_and_one_that_works_is_not(ledger):
    """Twelve runs an hour apart, ten the same and without a success: idle. The same at odd hours, or solved: not."""
    for hour in range(12):
        at = MONDAY + timedelta(hours=hour)
        who = {"agent_id": "poller", "node_path": "look", "started_at": at, "task_id": f"p{hour}"}
        ledger.write(a_call(f"p{hour}", usd="0.5", run_id=f"p{hour}", **who))
        ledger.write(a_charge(f"p{hour}", usd="0.1", name="inbox", run_id=f"p{hour}", agent_id="poller", at=at))
        if hour < 2:  # Something was there to do.
            ledger.write(a_charge(f"m{hour}", usd="9", name="mail", run_id=f"p{hour}", agent_id="poller", at=at))
        odd = MONDAY + timedelta(hours=hour**2)
        ledger.write(a_call(f"o{hour}", run_id=f"o{hour}", agent_id="odd", started_at=odd))
        ledger.write(a_call(f"s{hour}", run_id=f"s{hour}", agent_id="solver", task_id=f"s{hour}", started_at=at))
        ledger.write(an_outcome(f"s{hour}"))
    (row,) = insight(ledger).rows["idle"]
    assert (row["agent"], row["runs"], row["idle_runs"], row["every_s"]) == ("poller", 12, 10, 3600)
    assert row["cost_usd"] == 6  # ten of $0.50 and $0.10


def test_a_cache_may_cost_more_than_it_saves(ledger):
    """At $1 a token: 10 uncached, 100 read at 0.1 and 50 written at 1.25 cost $82.50, not $160; 50 only written $62.50,
    not $50, at the price the other call shows."""
    meters = {"input_tokens": Decimal(10), "cache_read_tokens": Decimal(10), "cache_write_5m_tokens": Decimal("62.5")}
    usage = Usage(input_tokens=10, cache_read_tokens=100, cache_write_5m_tokens=50, output_tokens=3)
    ledger.write(
        a_call("1", usd="82.5", usage=usage, meter_usd=meters, agent_id="a"),
        a_call("2", usd="62.5", usage=Usage(cache_write_5m_tokens=50), agent_id="b",
               meter_usd={"cache_write_5m_tokens": Decimal("62.5")}),
        a_call("3", usd=None, usage=Usage(cache_read_tokens=50), agent_id="b"),
    )  # fmt: skip
    bad, good = insight(ledger).rows["cache"]
    assert (good["hit_rate"], good["saved_usd"]) == (100 / 160, Decimal("77.5"))
    assert round(good["efficiency"], 9) == round(1 - 82.5 / 160, 9)
    assert (bad["agent"], bad["saved_usd"], bad["efficiency"], bad["unknown"]) == ("b", Decimal("-12.5"), -0.25, 1)


def spend(ledger, usds, agent="a"):
    """One call a day, the last of them on the last whole day."""
    for back, usd in enumerate(reversed(usds), 1):
        if usd is not None:
            ledger.write(a_call(f"{agent}{back}", usd=usd, agent_id=agent, started_at=TODAY - back * DAY))


def test_a_day_far_from_the_past_is_an_anomaly(ledger):
    """Twenty days of $1.00 to $1.20, then $9: the median is $1.10, the MAD $0.05, so the score 0.6745 x 7.9 / 0.05."""
    spend(ledger, [f"1.{day % 5 * 5:02}" for day in range(20)] + ["9"])
    (row, *_) = [row for row in anomalies(ledger, at=TODAY) if row["what"] == "agent"]
    assert (row["name"], row["cost_usd"], row["usual_usd"]) == ("a", 9, Decimal("1.1"))
    assert row["day"] == (TODAY - DAY).date()
    assert round(row["score"], 2) == round(0.6745 * 7.9 / 0.05, 2)


@pytest.mark.parametrize(
    "usds",
    [
        ["1"] * 13 + ["9"],  # Not enough of a past.
        ["1"] * 20 + ["1.1"],  # Within 3.5 times 5% of the median.
        ["0.001"] * 20 + ["0.009"],  # Less than a cent.
        [str(1 + day % 7) for day in range(20)] + ["9"],  # It always goes up and down like that.
    ],
)
def test_what_is_no_anomaly(ledger, usds):
    """A short past, a small change, small money, and what was always like that."""
    spend(ledger, usds)
    assert anomalies(ledger, at=TODAY) == []


def test_a_day_without_spend_is_one_of_zero_and_today_is_not_judged(ledger):
    """An agent that stopped is seen; the day that is not over is not compared with whole ones."""
    spend(ledger, ["1"] * 20 + [None])
    ledger.write(a_call("now", usd="500", agent_id="a", started_at=TODAY))
    found = [row for row in anomalies(ledger, at=TODAY) if row["what"] == "agent"]
    assert [(row["cost_usd"], row["day"]) for row in found] == [(0, (TODAY - DAY).date())]
    assert found[0]["score"] < 0


def test_an_empty_ledger_has_no_findings(ledger):
    """Nothing is wasted where nothing was spent."""
    assert all(rows == [] for rows in insight(ledger).rows.values())


def test_verbosity_says_what_a_success_took_of_each_node(ledger):
    """Node `say`: a solved task with 100 in and 50 out twice, a failed one with 100 and 700, one that nobody judged
    with 100 and 100, and a call for no task. A success takes 300 + 800 + 200 tokens, a million make 1,000,000 / 1,300;
    of 800 output tokens of judged tasks 700 were for the one that failed. The judge is in none of it."""
    for number, (node, task, output) in enumerate(
        [("say", "good", 50), ("say", "good", 50), ("say", "bad", 700), ("say", "open", 100), ("say", None, 10),
         ("plan", None, 300)]
    ):  # fmt: skip
        usage = Usage(input_tokens=100, output_tokens=output)
        ledger.write(a_call(str(number), agent_id="a", node_path=node, task_id=task, usage=usage))
    ledger.write(a_call("judge", agent_id="a", node_path="say", task_id="good", role="judge"))
    ledger.write(an_outcome("good"), an_outcome("bad", success=False))

    found = insight(ledger)
    say, plan = found.rows["verbosity"]
    assert (say["agent"], say["node"], say["model"], say["calls"]) == ("a", "say", "gpt-4.1-mini", 5)
    assert (say["tasks"], say["judged"], say["successes"], say["output_tokens"]) == (3, 2, 1, 910)
    assert (say["tokens_per_success"], say["successes_per_million"]) == (1300, 1_000_000 / 1300)
    assert (say["output_per_call"], say["output_share"], say["failed_output_share"]) == (182, 910 / 1410, 700 / 800)
    assert (plan["tasks"], plan["output_share"]) == (0, 0.75)
    assert plan["tokens_per_success"] is plan["successes_per_million"] is plan["failed_output_share"] is None
    (summary,) = [row for row in found.summary() if row["finding"] == "verbosity"]
    assert (summary["rows"], summary["cost_usd"], summary["share"]) == (2, None, None)


def test_estimated_output_is_no_measured_one(ledger):
    """Two answers of 40 tokens, and three calls that failed on the way and reported none: 40 each is our estimate."""
    answer = {"agent_id": "a", "node_path": "n", "usage": Usage(input_tokens=100, output_tokens=40)}
    ledger.write(*(a_call(f"said{number}", task_id="good", **answer) for number in range(2)))
    ledger.write(a_call("plan", agent_id="a", node_path="plan", usage=Usage(output_tokens=1)))
    measured = finding_table(insight(ledger), "verbosity", "")
    assert [row["estimated"] for row in measured.rows] == [0, 0]
    assert "estimated" not in [column.title for column in measured.columns]
    assert len(measured.notes) == 1

    ledger.write(*(a_call(f"failed{number}", task_id="bad", estimated=True, **answer) for number in range(3)))
    table = finding_table(insight(ledger), "verbosity", "")
    assert [(row["node"], row["calls"], row["estimated"]) for row in table.rows] == [("n", 5, 3), ("plan", 1, 0)]
    assert "estimated" in table.fields
    (column,) = [column for column in table.columns if column.title == "estimated"]
    assert [column.text(row) for row in table.rows] == ["3", "0"]
    assert table.notes[1].startswith("estimated: 3 of 6 calls, which did not report tokens or price.")


def test_verbosity_without_a_success_is_no_number_of_tokens(ledger):
    """A failed task: no success a million tokens, which is known, and no tokens a success, which is not."""
    ledger.write(a_call("1", task_id="bad", usage=Usage(output_tokens=7)), an_outcome("bad", success=False))
    (row,) = insight(ledger, only=["verbosity"]).rows["verbosity"]
    assert (row["tokens_per_success"], row["successes_per_million"], row["failed_output_share"]) == (None, 0, 1)


def test_what_was_folded_is_no_verbosity(ledger):
    """Daily sums do not say of which task they are."""
    ledger.write(a_call("1", task_id="t", usage=Usage(output_tokens=7)), an_outcome("t"))
    ledger.prune(TODAY)
    assert insight(ledger, only=["verbosity"]).rows["verbosity"] == []
