"""The rows of `finops report`, on a real ledger."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger import open_ledger
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord, Outcome
from langchain_finops.reports.render import render
from langchain_finops.reports.summary import report
from langchain_finops.usage import METERS_AND_REASONING, Usage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def call(number: int, usd: str | None, *, at: datetime = NOON, **more: object) -> CallRecord:
    who = {name: more.pop(name) for name in list(more) if name in Attribution.__dataclass_fields__}
    cost = None if usd is None else Decimal(usd)
    fields = {
        "usage": Usage(input_tokens=100, cache_read_tokens=20, output_tokens=10),
        "contracted_usd": cost,
        "billed_usd": cost,
        "cost_status": "unpriced" if usd is None else "exact",
        "model": "gpt-4.1-mini",
        "run_id": f"run-{number}",
        **more,
    }
    return CallRecord(
        call_id=f"call-{number}",
        invocation_id=f"invocation-{number}",
        attribution=Attribution(**who),
        cost_usd=cost,
        started_at=at,
        ended_at=at + timedelta(seconds=1),
        **fields,
    )


def outcome(task: str, *, success: bool | None, **more: object) -> Outcome:
    return Outcome(task_id=task, success=success, at=NOON, **more)


@pytest.fixture
def ledger():
    with_calls = open_ledger(":memory:")
    with_calls.write(
        call(1, "0.30", agent_id="support", task_id="t-1", node_path="plan"),
        call(2, "0.10", agent_id="support", task_id="t-1", node_path="research/search"),
        call(3, "0.40", agent_id="support", task_id="t-2", node_path="research/search"),
        call(4, "0.20", agent_id="sales", task_id="t-3", node_path="plan", at=NOON + timedelta(days=1)),
        call(5, "1.00", at=NOON - timedelta(days=1)),
        outcome("t-1", success=True, value_usd=Decimal(5)),
        outcome("t-2", success=False),
        outcome("t-3", success=True),
    )
    yield with_calls
    with_calls.close()


def test_rows_are_dearest_first_and_add_up_to_the_total(ledger):
    """Own costs, calls and tokens of the rows sum to the total's, whoever or nobody they belong to."""
    result = report(ledger, ["agent"])

    assert [row["agent"] for row in result.rows] == [None, "support", "sales"]
    assert [row["cost_usd"] for row in result.rows] == [Decimal("1.00"), Decimal("0.80"), Decimal("0.20")]
    assert result.total["cost_usd"] == Decimal("2.00")
    for field in ("calls", "total_input_tokens", *METERS_AND_REASONING):
        assert sum(row[field] for row in result.rows) == result.total[field]


def test_shares_are_of_the_total(ledger):
    """A row's share is its cost over all cost."""
    assert [row["share"] for row in report(ledger, ["agent"]).rows] == [0.5, 0.4, 0.1]


def test_cost_per_success_counts_failed_tasks_too(ledger):
    """support: $0.80 for two tasks, one of them a success. All: $1 for two successes of three; the call that names no
    task is of none."""
    result = report(ledger, ["agent"])

    support = result.rows[1]
    assert (support["tasks"], support["judged"], support["successes"]) == (2, 2, 1)
    assert support["success_rate"] == 0.5
    assert support["cost_per_success_usd"] == Decimal("0.8")
    assert (result.total["tasks_usd"], result.total["cost_per_success_usd"]) == (Decimal(1), Decimal("0.5"))
    assert result.total["success_rate"] == 2 / 3


def test_tasks_and_runs_of_the_total_are_counted_once():
    """A task that two agents work on is two rows' task and one task in all."""
    ledger = open_ledger(":memory:")
    ledger.write(
        call(1, "1", agent_id="a", task_id="t", run_id="r"),
        call(2, "1", agent_id="b", task_id="t", run_id="r"),
        outcome("t", success=True),
    )
    result = report(ledger, ["agent"])

    assert [row["tasks"] for row in result.rows] == [1, 1]
    assert (result.total["tasks"], result.total["runs"], result.total["successes"]) == (1, 1, 1)
    assert result.total["cost_per_success_usd"] == 2


def test_by_node_own_costs_add_up_and_prefixes_have_subtrees(ledger):
    """Own cost per node path, subtree cost for each prefix, a row without a name for calls outside any node."""
    result = report(ledger, ["node"])
    rows = {row["node"]: row for row in result.rows}

    assert sum(row["cost_usd"] for row in result.rows) == result.total["cost_usd"]
    assert rows["research"]["cost_usd"] == 0
    assert rows["research"]["subtree_cost_usd"] == rows["research/search"]["cost_usd"] == Decimal("0.50")
    assert rows[None]["cost_usd"] == Decimal("1.00")
    assert result.total["subtree_cost_usd"] == Decimal("2.00")


def test_days_are_in_order(ledger):
    """By day the rows run through time, not by cost."""
    assert [row["day"] for row in report(ledger, ["day"]).rows] == ["2026-02-28", "2026-03-01", "2026-03-02"]


def test_the_period_takes_its_first_moment_and_leaves_its_last(ledger):
    """`since` is inclusive, `until` is not."""
    rows = report(ledger, ["agent"], since=NOON, until=NOON + timedelta(days=1)).rows
    assert [row["agent"] for row in rows] == ["support"]


@pytest.mark.parametrize(
    ("filters", "cost"),
    [
        ({"agent": "support"}, "0.80"),
        ({"task": "t-1"}, "0.40"),
        ({"node": "research/search"}, "0.50"),
        ({"model": "gpt-4.1-mini", "agent": "sales"}, "0.20"),
    ],
)
def test_filters_keep_what_matches_all(ledger, filters, cost):
    """Filters go by the names that reports show."""
    assert report(ledger, (), filters=filters).total["cost_usd"] == Decimal(cost)


def test_without_a_dimension_there_is_one_row_of_everything(ledger):
    """`by=()` gives the total alone, for programs."""
    result = report(ledger, ())
    assert result.rows == [result.total]


def test_an_unknown_dimension_is_refused_with_the_known_ones(ledger):
    """A typo is told, and what was meant."""
    with pytest.raises(BadArguments, match=r"'agnet'.*did you mean 'agent'.*node.*task_type"):
        report(ledger, ["agnet"])
    with pytest.raises(BadArguments, match="'agnet'"):
        report(ledger, ["agent"], filters={"agnet": "x"})


def test_an_empty_ledger_has_no_rows_and_keeps_its_fields():
    """Nothing recorded is not an error: programs find the same columns."""
    ledger = open_ledger(":memory:")
    empty = report(ledger, ["node"])
    ledger.write(call(1, "1", node_path="n"))
    full = report(ledger, ["node"])

    assert empty.rows == []
    assert report(ledger, (), filters={"agent": "nobody"}).rows == []
    assert empty.fields == full.fields == tuple(full.rows[0]) == tuple(full.total)
    assert report(ledger, ["agent"]).fields == tuple(report(ledger, ["agent"]).rows[0])


def test_unpriced_calls_make_amounts_lower_bounds_and_never_zero():
    """No known price: None in the rows, `unpriced` and `>=` in the table, and the remedy below it."""
    ledger = open_ledger(":memory:")
    ledger.write(
        call(1, "3", agent_id="a", task_id="t"),
        call(2, None, agent_id="a", task_id="t"),
        call(3, None, agent_id="b"),
        outcome("t", success=True),
    )
    result = report(ledger, ["agent"])

    assert [(row["cost_usd"], row["unpriced"]) for row in result.rows] == [(Decimal(3), 1), (None, 1)]
    assert result.rows[0]["cost_per_success_statement"] == "at_least"
    lines = shown(result)
    assert "a          2    240      40      20  >= $3.0000" in lines[3]
    assert lines[3].endswith("1/1   100.0%  >= $3.0000 (1 unknown)")
    assert lines[4].split()[:6] == ["b", "1", "120", "20", "10", "unpriced"]
    assert "$0 " not in "\n".join(lines)
    assert any(line.startswith(">=: at least; 2 of 3 calls are unpriced, which is not free.") for line in lines)


def shown(result, output_format: str = "table") -> list[str]:
    file = io.StringIO()
    render(result.table("Cost"), output_format, file)
    return file.getvalue().splitlines()


# --- for people -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(result, columns: int, monkeypatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    render(result.table("Cost by agent"), "table", file)
    return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in file.getvalue().splitlines()]


def test_the_table_at_80_columns(ledger, monkeypatch):
    """Who, calls, tokens, cost and what a success costs fit a narrow terminal."""
    assert on_terminal(report(ledger, ["agent"]), 80, monkeypatch) == [
        "Cost by agent",
        "agent         calls  input  cached  output     cost  success  cost/success",
        "──────────────────────────────────────────────────────────────────────────",
        "unattributed      1    120      20      10  $1.0000        -             -",
        "support           3    360      60      30  $0.8000    50.0%       $0.8000",
        "sales             1    120      20      10  $0.2000   100.0%       $0.2000",
        "──────────────────────────────────────────────────────────────────────────",
        "total             5    600     100      50  $2.0000    66.7%       $0.5000",
        "cost: list price of calls. input: cached tokens included.",
        "cost/success: all cost of tasks, failed and unjudged ones too, over the",
        "  successes.",
        "cost/success leaves out $1.0000 of calls and charges that name no task.",
    ]


def test_the_table_at_200_columns(ledger, monkeypatch):
    """A wide terminal shows shares, runs, and how many tasks are judged as well."""
    lines = on_terminal(report(ledger, ["node"]), 200, monkeypatch)

    assert lines[1].split() == [
        "node", "calls", "input", "cached", "output", "cost", "subtree", "share", "runs", "judged", "success",
        "cost/success",
    ]  # fmt: skip
    assert lines[5].split() == ["research", "0", "0", "0", "0", "$0", "$0.5000", "0.0%", "0", "0/0", "-", "-"]
    assert "cost is a node's own and adds up to the total; subtree is the node and all below it." in lines


def test_columns_that_would_say_nothing_are_left_out(monkeypatch):
    """Without tasks there is no column of dashes, but a line that tells how to fill it."""
    ledger = open_ledger(":memory:")
    ledger.write(call(1, "1", agent_id="a"))
    lines = on_terminal(report(ledger, ["agent"]), 200, monkeypatch)

    assert lines[1].split() == ["agent", "calls", "input", "cached", "output", "cost", "share", "runs"]
    assert lines[-1].startswith('No call names a task: pass metadata={"task_id": ...}')


def test_charges_estimates_and_what_is_paid_show_where_there_are_any(monkeypatch):
    """A tool's charge counts in the cost; a replay's list cost stays beside its billed cost of 0."""
    ledger = open_ledger(":memory:")
    charge = ChargeRecord(
        charge_id="x",
        kind="tool",
        cost_usd=Decimal("0.25"),
        cost_status="exact",
        at=NOON,
        attribution=Attribution(agent_id="a", task_id="t"),
    )
    failed = CallError(error_class="RateLimitError", http_status=429)
    ledger.write(
        call(1, "1", agent_id="a", task_id="t", billed_usd=Decimal(0), contracted_usd=Decimal("0.8")),
        call(2, "2", agent_id="a", task_id="t", estimated=True, error=failed),
        charge,
        outcome("t", success=True),
    )
    result = report(ledger, ["agent"])
    lines = on_terminal(result, 200, monkeypatch)

    (row,) = result.rows
    assert (row["model_usd"], row["charge_usd"], row["cost_usd"]) == (Decimal(3), Decimal("0.25"), Decimal("3.25"))
    assert (row["contracted_usd"], row["billed_usd"], row["errors"]) == (Decimal("2.8"), Decimal(2), 1)
    assert row["cost_per_success_usd"] == Decimal("3.25")
    for title in ("model cost", "charges", "contracted", "billed", "estimated", "errors"):
        assert f"  {title}  " in lines[1]
    assert lines[3].split()[5:12] == ["$3.0000", "$0.2500", "$3.2500", "100.0%", "$2.8000", "$2.0000", "1"]
    assert "estimated: 1 of 2 calls, which did not report tokens or price." in lines


def test_no_success_yet_is_a_bound_with_its_meaning(monkeypatch):
    """$2 and one failed task: more than 2 / 0.95 a success; the footer says what `>` means."""
    ledger = open_ledger(":memory:")
    ledger.write(call(1, "2", agent_id="a", task_id="t"), outcome("t", success=False))
    lines = on_terminal(report(ledger, ["agent"]), 80, monkeypatch)

    assert lines[3].endswith("0.0%     > $2.1052")
    assert lines[-1] == "> $X: no success yet; at 95% confidence one costs more than that."


def test_nothing_judged_tells_how_to_judge(monkeypatch):
    """Tasks without an outcome are counted, and the next step is named."""
    ledger = open_ledger(":memory:")
    ledger.write(call(1, "2", agent_id="a", task_id="t"), outcome("t", success=None))
    lines = on_terminal(report(ledger, ["agent"]), 80, monkeypatch)

    assert "cost/success" not in lines[1]
    assert any(line.startswith("not judged: all 1 tasks. `finops outcome TASK --success`") for line in lines)


def test_the_total_agrees_with_the_rows_while_calls_are_being_written(ledger, monkeypatch):
    """A call that arrives between the ledger's two answers does not make the total differ from its rows."""
    totals, asked = ledger.totals, []

    def late(by, **more):
        if asked:
            ledger.write(call(99, "7", agent_id="support"))
        asked.append(by)
        return totals(by, **more)

    monkeypatch.setattr(ledger, "totals", late)
    result = report(ledger, ["agent"])

    assert asked == [("agent",), ()]
    assert result.total["cost_usd"] == sum(row["cost_usd"] for row in result.rows) == Decimal("2.00")


def test_programs_need_no_total(ledger, monkeypatch):
    """JSON and CSV leave the total out; the ledger is then asked once, and the shares are the same."""
    totals, asked = ledger.totals, []
    monkeypatch.setattr(ledger, "totals", lambda by, **more: asked.append(by) or totals(by, **more))
    result = report(ledger, ["agent"], total=False)

    assert asked == [("agent",)]
    assert [row["share"] for row in json.loads("\n".join(shown(result, "json")))] == [0.5, 0.4, 0.1]


def test_every_format_shows_the_same_costs(ledger):
    """Table and markdown for people, JSON and CSV for programs: one report."""
    result = report(ledger, ["agent"])
    as_json = json.loads("\n".join(shown(result, "json")))
    as_csv = list(csv.DictReader(shown(result, "csv")))

    assert [row["cost_usd"] for row in as_json] == [row["cost_usd"] for row in as_csv] == ["1", "0.8", "0.2"]
    assert list(as_json[0]) == list(as_csv[0]) == list(result.fields)
    assert "| support | 3 | 360 | 60 | 30 | $0.8000 |" in "\n".join(shown(result, "markdown"))


def test_charges_without_a_price_are_left_out_and_told(ledger):
    """A tool without a card makes no cost a bound, as most tools cost nothing; the footer says how many there are."""
    tool = ChargeRecord(
        charge_id="x", kind="tool", name="search", at=NOON, attribution=Attribution(agent_id="support", task_id="t-1")
    )
    ledger.write(tool)
    result = report(ledger, ["agent"])

    (support,) = [row for row in result.rows if row["agent"] == "support"]
    assert (support["charges"], support["charges_unpriced"], support["charge_usd"]) == (1, 1, None)
    assert (support["cost_usd"], support["cost_per_success_statement"]) == (Decimal("0.80"), "known")
    assert any(
        note.startswith("left out: 1 of 1 charges, such as tools, have no price.") for note in result.table().notes
    )


def test_a_node_of_nothing_but_charges_without_a_price_is_unpriced(ledger):
    """Where nothing else is known the cost is not shown as zero."""
    ledger.write(ChargeRecord(charge_id="x", kind="tool", at=NOON, attribution=Attribution(node_path="tools")))

    (tools,) = [row for row in report(ledger, ["node"]).rows if row["node"] == "tools"]
    assert tools["cost_usd"] is None


# --- what a success costs -------------------------------------------------------------------------------------------


def test_judges_and_simulators_are_part_of_the_cost_and_not_of_cost_per_success():
    """$0.10 for the agent, $0.90 for the judge and $0.25 for the simulated user: a success costs $0.10."""
    ledger = open_ledger(":memory:")
    ledger.write(call(1, "0.10", task_id="t"), call(2, "0.90", task_id="t", role="judge"), outcome("t", success=True))
    ledger.write(call(3, "0.25", task_id="t", role="simulator"))
    result = report(ledger, ["agent"])

    (row,) = result.rows
    assert (row["cost_usd"], row["judges_usd"], row["tasks_usd"]) == (Decimal("1.25"), Decimal("1.15"), Decimal("0.1"))
    assert row["cost_per_success_usd"] == result.total["cost_per_success_usd"] == Decimal("0.1")
    lines = shown(result)
    assert "judges" in lines[1].split()
    assert "$1.1500" in lines[3].split()
    assert lines[3].endswith("$0.1000")
    assert "judges: judges and simulators, which are part of the cost, not of cost/success." in lines
    assert not any("name no task" in line for line in lines)


def test_a_judge_without_a_price_is_no_free_judge():
    """Its cost is unknown, which the column says; what the success cost is known all the same."""
    ledger = open_ledger(":memory:")
    ledger.write(call(1, "0.10", task_id="t"), call(2, None, task_id="t", role="judge"), outcome("t", success=True))
    result = report(ledger, ["role"])

    judge, agent = sorted(result.rows, key=lambda row: row["role"], reverse=True)
    assert (judge["judges_usd"], judge["cost_per_success_statement"]) == (None, "apart")
    assert (agent["judges_usd"], agent["cost_per_success_statement"]) == (0, "known")
    assert result.total["cost_per_success_statement"] == "known"


def test_no_bound_is_made_of_calls_that_name_no_task():
    """One failed task of $0.95 beside $100 of other calls: a success costs more than $1, and no more is known."""
    ledger = open_ledger(":memory:")
    others = [call(number, "1", agent_id="a") for number in range(2, 102)]
    ledger.write(call(1, "0.95", agent_id="a", task_id="t"), *others, outcome("t", success=False))
    result = report(ledger, ["agent"])

    (row,) = result.rows
    assert (row["cost_usd"], row["cost_per_success_above_usd"]) == (Decimal("100.95"), Decimal("1.00000"))
    assert "cost/success leaves out $100.00 of calls and charges that name no task." in shown(result)


@pytest.mark.parametrize("where", ["memory", "file"])
def test_in_a_period_or_by_day_a_success_costs_what_its_own_task_cost(where, tmp_path):
    """A task of $1 on Sunday and $9 on Monday is Sunday's success at $10; Monday's own task failed at $0.95."""
    ledger = open_ledger(":memory:" if where == "memory" else tmp_path / "ledger.db")
    monday = NOON + timedelta(days=1)
    ledger.write(call(1, "1", task_id="t-1"), call(2, "9", task_id="t-1", at=monday), outcome("t-1", success=True))
    ledger.write(call(3, "0.95", task_id="t-2", at=monday), outcome("t-2", success=False))

    sunday_row, monday_row = report(ledger, ["day"]).rows
    assert (sunday_row["cost_usd"], sunday_row["cost_per_success_usd"]) == (Decimal(1), Decimal(10))
    assert (monday_row["cost_usd"], monday_row["cost_per_success_above_usd"]) == (Decimal("9.95"), Decimal("1.00000"))
    late, early = report(ledger, ["agent"], since=monday), report(ledger, ["agent"], until=monday)
    assert late.total["cost_per_success_above_usd"] == Decimal("1.00000")
    assert early.total["cost_per_success_usd"] == Decimal(10)
    notes = " ".join(late.table().notes)
    assert "A task belongs to when its first call began, with all that it costs later." in notes
    assert "leaves out what names no task, and tasks that began at another time." in notes
    ledger.close()
