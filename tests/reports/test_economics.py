"""Unit economics, by hand: what a success costs, saves and earns, and what is said where that is not known."""

import io
from datetime import timedelta
from decimal import Decimal

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger import open_ledger
from langchain_finops.records import CallError
from langchain_finops.reports.economics import DIMENSIONS_OF_TASKS, Human, economics
from langchain_finops.reports.economics_table import economics_table
from langchain_finops.reports.render import render
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, an_outcome
from langchain_finops.usage import Usage

PERSON = Human(usd_per_hour=Decimal(25), tasks_per_hour=Decimal(5))
LATER = MONDAY + 30 * DAY


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def told(ledger, by=("agent",), **options):
    """The rows by key, and the total."""
    found = economics(ledger, by, at=LATER, **options)
    return {tuple(row[name] for name in by): row for row in found.rows}, found.total


def shown(found) -> str:
    file = io.StringIO()
    render(economics_table(found), "table", file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("loops", "usd", "roi", "gain", "said"),
    [
        (1, "0.50", "9", "4.5", "a gain of $4.50 a task"),
        (10, "0.60", "-0.166667", "-1", "a loss of $1.00 a task"),
    ],
)
def test_the_published_example(ledger, *, loops, usd, roi, gain, said):
    """At $25 an hour and 5 tickets a person costs $5.00 a ticket: $0.50 has ROI 9.0, 10 loops of $0.60 lose $1.00."""
    for ticket in range(4):
        for loop in range(loops):
            ledger.write(a_call(f"{ticket}-{loop}", usd=usd, agent_id="support", task_id=f"t{ticket}"))
        ledger.write(an_outcome(f"t{ticket}"))

    rows, total = told(ledger, human=PERSON)
    row = rows[("support",)]
    assert row["human_usd_per_task"] == 5
    assert row["gain_per_task_usd"] == Decimal(gain)
    assert round(row["roi"], 6) == Decimal(roi)
    assert row["cost_per_success_usd"] == loops * Decimal(usd)
    assert round(row["break_even_loops"], 3) == round(5 / Decimal(usd), 3)
    assert total["roi"] == row["roi"]
    text = shown(economics(ledger, human=PERSON, at=LATER))
    assert "A person takes $5.00 a task ($25.00 an hour, 5 tasks)." in text
    assert said in text
    assert ("  9.0  " in text) == (loops == 1)


def three_tasks(ledger):
    """One solved at once ($1), one solved by a second run ($2 and $3), one that failed ($4)."""
    usage = {"1": (100, 10), "2": (100, 20), "3": (200, 30), "4": (300, 40)}
    for (number, task, run), usd in zip([("1", "a", "r1"), ("2", "b", "r2"), ("3", "b", "r3"), ("4", "c", "r4")],
                                        ["1", "2", "3", "4"], strict=True):  # fmt: skip
        input_tokens, output_tokens = usage[number]
        ledger.write(
            a_call(
                number,
                usd=usd,
                agent_id="support",
                task_id=task,
                run_id=run,
                usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens),
                started_at=MONDAY + timedelta(minutes=int(number)),
            )
        )
    ledger.write(an_outcome("a"), an_outcome("b"), an_outcome("c", success=False))


def test_every_figure_of_three_tasks(ledger):
    """All by hand: $10 for 2 successes; $4 of it failed; 800 tokens; 10 + 30 of 100 output tokens are answers."""
    three_tasks(ledger)
    rows, total = told(ledger, human=PERSON, value_usd=Decimal(8))
    row = rows[("support",)]

    assert (row["tasks"], row["judged"], row["successes"], row["success_rate"]) == (3, 3, 2, 2 / 3)
    assert row["cost_per_success_usd"] == 5
    assert (row["accepted"], row["cost_per_accepted_usd"]) == (2, 5)
    assert (row["failure_usd"], row["failure_share"]) == (4, 0.4)
    assert row["tokens_per_success"] == 800 / 2
    assert (row["final_tokens"], row["generated_tokens"], row["token_efficiency"]) == (40, 100, 0.4)
    assert (row["first_pass"], row["first_pass_rate"]) == (1, 1 / 3)
    assert (row["calls_per_task_p50"], row["calls_per_task_p95"]) == (1, 2)
    assert (row["human_usd"], row["gain_usd"], row["roi"]) == (10, 0, 0)
    assert row["cost_per_loop_usd"] == Decimal("2.5")
    assert round(row["break_even_loops"], 6) == round(Decimal(10) / 3 / Decimal("2.5"), 6)
    assert (row["value_usd"], row["margin_usd"], row["margin"]) == (16, 6, Decimal("0.375"))
    assert {name: total[name] for name in row if name != "agent"} == {n: row[n] for n in row if n != "agent"}


def test_a_period_holds_the_tasks_that_began_in_it_with_all_they_cost(ledger):
    """Two days' tasks are told apart; the second day's call of the first day's task goes with its task."""
    ledger.write(
        a_call("1", usd="1", task_id="old"),
        a_call("2", usd="2", task_id="old", started_at=MONDAY + DAY),
        a_call("3", usd="4", task_id="new", started_at=MONDAY + DAY),
        a_call("4", usd="8", started_at=MONDAY + DAY),
    )
    _, first = told(ledger, until=MONDAY + DAY)
    _, second = told(ledger, since=MONDAY + DAY)

    assert (first["tasks"], first["tasks_usd"], first["no_task_usd"]) == (1, 3, 0)
    assert (second["tasks"], second["tasks_usd"], second["no_task_usd"], second["agent_usd"]) == (1, 4, 8, 12)


def test_a_success_is_accepted_once_it_has_stood(ledger):
    """Old and standing: accepted. Young: not yet, on neither side. Reopened and failed: its cost counts, no success.
    Reopened and solved again: it stands since then."""
    days = {"old": [(0, True)], "young": [(25, True)], "failed": [(0, True), (2, False)],
            "again": [(0, True), (2, False), (20, True)]}  # fmt: skip
    for number, (task, said) in enumerate(days.items()):
        ledger.write(a_call(str(number), usd=str(10**number), task_id=task))
        for day, success in said:
            ledger.write(an_outcome(task, success=success, at=MONDAY + day * DAY))

    _, total = told(ledger, accept_after=7 * DAY)
    # old $1, failed $100 and again $1000, for two accepted; young's $10 waits.
    assert (total["accepted"], total["not_yet_accepted"], total["reopened"]) == (2, 1, 2)
    assert total["cost_per_accepted_usd"] == Decimal("550.5")
    _, total = told(ledger, accept_after=15 * DAY)
    assert (total["accepted"], total["not_yet_accepted"], total["cost_per_accepted_usd"]) == (1, 2, 101)


def test_unknown_cost_makes_bounds(ledger):
    """An unpriced call: cost is at least, gain, ROI and break-even at most; all unpriced is no figure."""
    ledger.write(a_call("1", usd="0.50", agent_id="a", task_id="1"), a_call("2", usd=None, agent_id="a", task_id="1"))
    ledger.write(a_call("3", usd=None, agent_id="b", task_id="2"), an_outcome("1"), an_outcome("2"))
    rows, _ = told(ledger, human=PERSON)
    text = shown(economics(ledger, human=PERSON, at=LATER))

    assert (rows[("a",)]["cost_per_success_statement"], rows[("a",)]["agent_unpriced"]) == ("at_least", 1)
    assert ">= $0.5000 (1 unknown)" in text
    assert "<= 9.0" in text
    assert "<= $4.50" in text
    assert all(rows[("b",)][name] is None for name in ("agent_usd", "cost_per_success_usd", "roi", "gain_usd"))
    assert "unpriced" in text


def test_no_success_is_a_bound_and_no_verdict_nothing(ledger):
    """One failed task of $95: a success costs more than $95 / 0.95 = $100. Not judged: no rate, no ROI."""
    ledger.write(a_call("1", usd="95", agent_id="bad", task_id="1"), an_outcome("1", success=False))
    ledger.write(a_call("2", usd="1", agent_id="new", task_id="2"))
    rows, total = told(ledger, human=PERSON)

    bad, new = rows[("bad",)], rows[("new",)]
    assert (bad["cost_per_success_usd"], bad["cost_per_success_above_usd"]) == (None, 100)
    assert (bad["cost_per_accepted_above_usd"], bad["tokens_per_success_above"]) == (100, 126)  # 120 / 0.95
    assert (bad["roi"], bad["failure_share"]) == (-1, 1.0)
    assert [new[name] for name in ("success_rate", "roi", "first_pass_rate", "failure_share", "margin")] == [None] * 5
    assert (total["tasks"], total["judged"], total["not_judged_usd"]) == (2, 1, 1)
    assert "not judged: 1 of 2 tasks" in shown(economics(ledger, at=LATER))


def test_a_task_of_several_agents_is_divided_by_what_each_cost(ledger):
    """Planner $1, writer $3, worth $8: $2 and $6; rows add up to the total, which counts one success."""
    ledger.write(
        a_call("1", usd="1", agent_id="planner", task_id="t", usage=Usage(output_tokens=50)),
        a_call("2", usd="3", agent_id="writer", task_id="t", usage=Usage(output_tokens=50),
               started_at=MONDAY + timedelta(minutes=1)),
        an_outcome("t", value_usd=8),
    )  # fmt: skip
    rows, total = told(ledger, human=PERSON)
    planner, writer = rows[("planner",)], rows[("writer",)]

    assert (planner["value_usd"], writer["value_usd"], total["value_usd"]) == (2, 6, 8)
    assert (planner["human_usd"], writer["human_usd"], total["human_usd"]) == (Decimal("1.25"), Decimal("3.75"), 5)
    assert (planner["margin"], writer["margin"], total["margin"]) == (Decimal("0.5"),) * 3
    assert (planner["final_tokens"], writer["final_tokens"], total["token_efficiency"]) == (0, 50, 0.5)
    assert (planner["successes"], writer["successes"], total["successes"]) == (1, 1, 1)


def test_people_tools_and_judges(ledger):
    """A hand-off of $3 counts and is told apart; a tool's counts; a judge's does not."""
    ledger.write(
        a_call("1", usd="1", task_id="t"),
        a_call("2", usd="100", task_id="t", role="judge"),
        a_charge("h", usd="3", kind="human", task_id="t"),
        a_charge("w", usd="0.5", task_id="t"),
        an_outcome("t"),
    )
    _, total = told(ledger)
    assert (total["handoffs"], total["handoff_usd"], total["cost_per_success_usd"]) == (1, 3, Decimal("4.5"))


def test_what_names_no_agent_or_no_task_is_unallocated(ledger):
    """$1 of $4 names no agent: 25%; $2 name no task."""
    ledger.write(
        a_call("1", usd="1", task_id="t"), a_call("2", usd="1", agent_id="a", task_id="t"),
        a_call("3", usd="2", agent_id="a"),
    )  # fmt: skip
    found = economics(ledger, at=LATER)

    assert (found.unallocated_usd, found.unallocated_share) == (1, 0.25)
    assert "unallocated: $1.00, 25.0% of the cost, names no agent." in shown(found)
    assert "no task: $2.00, 50.0% of the cost" in shown(found)


def test_retries_and_failed_calls_are_no_first_pass_and_count_as_generated(ledger):
    """A node's second try is not a first pass; the failed try's tokens are generated, not useful."""
    ledger.write(
        a_call("1", task_id="t", step=1, attempt=1, usage=Usage(output_tokens=60),
               error=CallError(error_class="E", http_status=500)),
        a_call("2", task_id="t", step=1, attempt=2, usage=Usage(output_tokens=40)),
        an_outcome("t"),
    )  # fmt: skip
    _, total = told(ledger)
    assert (total["first_pass"], total["token_efficiency"]) == (0, 0.4)


def test_values_that_nobody_said_leave_the_margin_unknown(ledger):
    """Two successes, one worth $5: value is at least $5, the margin no figure."""
    ledger.write(a_call("1", usd="1", task_id="1"), a_call("2", usd="1", task_id="2"))
    ledger.write(an_outcome("1", value_usd=5), an_outcome("2"))
    _, total = told(ledger)
    assert (total["value_usd"], total["without_value"], total["margin"]) == (5, 1, None)
    _, total = told(ledger, value_usd=Decimal(3))
    assert (total["value_usd"], total["margin_usd"], total["margin"]) == (8, 6, Decimal("0.75"))


def test_an_empty_ledger_has_no_rows():
    """Nothing is no figure, whatever is asked."""
    for by in ((), ("agent", "model")):
        found = economics(open_ledger(":memory:"), by, human=PERSON)
        assert (found.rows, found.total["tasks"], found.total["roi"]) == ([], 0, None)


@pytest.mark.parametrize("by", [*((name,) for name in DIMENSIONS_OF_TASKS), ("agent", "user", "model")])
def test_rows_add_up_by_any_name(ledger, by):
    """Cost, benefit and value of the rows are the total's."""
    for number in range(30):
        who = {"agent_id": f"a{number % 3}", "user_id": f"u{number % 2}", "task_id": f"t{number % 7}"}
        ledger.write(a_call(str(number), usd=f"0.{number + 1:02}", model=f"m{number % 4}", **who))
    for number in range(5):
        ledger.write(an_outcome(f"t{number}", success=number != 2, value_usd=Decimal("0.000000000007")))
    rows, total = told(ledger, by, human=PERSON)

    for name in ("agent_usd", "human_usd", "gain_usd", "value_usd", "credited_successes"):
        assert sum(row[name] for row in rows.values() if row[name] is not None) == total[name]


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": ("agnet",)}, {"by": ("day",)}, {"accept_after": timedelta(-1)}, {"value_usd": Decimal("nan")},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(ledger, wrong):
    """One sentence for each."""
    with pytest.raises(BadArguments):
        economics(ledger, **wrong)


@pytest.mark.parametrize("wage", ["0", "-1", "nan", "Infinity"])
def test_what_is_no_wage_is_refused(wage):
    """A person who costs nothing would make any agent a loss."""
    with pytest.raises(BadArguments):
        Human(usd_per_hour=Decimal(wage), tasks_per_hour=Decimal(5))


def test_hidden_reasoning_is_generated_and_no_answer(ledger):
    """100 tokens, 70 of them hidden: 30 were of use, whichever way the ledger keeps them."""
    ledger.write(
        a_call("1", agent_id="support", task_id="t", usage=Usage(output_tokens=100, reasoning_tokens=70)),
        an_outcome("t"),
    )
    _, total = told(ledger)

    assert (total["final_tokens"], total["generated_tokens"], total["token_efficiency"]) == (30, 100, 0.3)
