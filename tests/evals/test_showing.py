"""Behind the table: tasks, attempts, and how many more are needed."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments
from langchain_finops.evals import load_results
from langchain_finops.evals.planning import power_table
from langchain_finops.evals.showing import attempts_table, tasks_table
from langchain_finops.evals.sources import read_sources

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

DATA = Path(__file__).parent.parent / "data"
TAU = ["--columns", "task=task_id,cost=user_cost,success=reward,repeat=trial"]


SUITE = """
target: agent:build
scorer: exact
repeats: 3
configurations: [{name: right, model: gpt-4.1-mini}, {name: wrong, model: gpt-4.1, wrong: true}]
"""


@pytest.fixture
def demo(workshop: "Workshop") -> Path:
    """Twenty tasks, three times each, in two configurations."""
    workshop.suite(SUITE)
    workshop.data(number=list(range(20)))
    return workshop.run().folder


def test_a_task_shows_each_attempt(demo: Path) -> None:
    """Repeats, costs, verdicts and nodes of one task in each configuration, and their costs add up to the table's."""
    results = load_results(demo)
    task = results.attempts[0].task

    rows = list(attempts_table(results, task).rows)

    assert {row["configuration"] for row in rows} == {entry["name"] for entry in results.run["configurations"]}
    assert all(row["task"] == task and row["nodes"] and row["calls"] for row in rows)
    every = sum(
        row["cost_usd"] for item in results.run["dataset"]["items"] for row in attempts_table(results, item).rows
    )
    assert every == sum(attempt.cost_usd for attempt in results.attempts if attempt.cost_usd is not None)


def test_every_task_has_a_row_for_each_configuration(demo: Path) -> None:
    """With costs that add up exactly and successes that are the table's."""
    results = load_results(demo)

    rows = list(tasks_table(results).rows)

    assert len(rows) == 20 * 2
    assert sum(row["successes"] for row in rows) == sum(said.success is True for said in results.verdicts)
    assert sum(row["cost_usd"] for row in rows) == sum(attempt.known_usd for attempt in results.attempts)


def test_another_task_is_refused_with_those_there_are(demo: Path) -> None:
    """A task that nobody knows is no empty table."""
    with pytest.raises(BadArguments, match="has no task 'nix': it has 20, such as"):
        attempts_table(load_results(demo), "nix")


def test_what_is_missing_costs_as_much_as_what_there_is(tmp_path: Path) -> None:
    """30 tasks at $1 and $2, all solved: u = +-1/3, sd(u) = sqrt(30/29)/3 = 0.33903, and for +-5% it takes
    (1.95996 x 0.33903 / ln 1.05)^2 = 185.5 tasks. The 156 that are missing cost $1.50 each."""
    lines = [f"{name},{task},{1 + task % 2},{won}" for name, won in (("right", 1), ("wrong", 0)) for task in range(30)]
    (tmp_path / "theirs.csv").write_text("\n".join(["configuration,task,cost,success", *lines]))

    right, wrong = power_table(read_sources([tmp_path / "theirs.csv"]), half_width=0.05).rows

    assert (right["tasks_needed"], right["tasks_missing"], right["missing_usd"]) == (186, 156, 234)
    assert (wrong["tasks_needed"], wrong["missing_usd"]) == (None, None)  # Without a success nothing can be told.


def test_a_half_width_that_is_none_is_refused(demo: Path) -> None:
    """With the option's name."""
    with pytest.raises(BadArguments, match="--half-width 0 found"):
        power_table(read_sources([demo]), half_width=0)


def test_results_and_files_stand_in_one_table(demo: Path, tmp_path: Path) -> None:
    """A file's configuration is compared on the tasks that both have."""
    items = list(load_results(demo).run["dataset"]["items"])
    lines = [f"{item},{repeat},1,1" for item in items for repeat in range(3)]
    (tmp_path / "theirs.csv").write_text("\n".join(["task,repeat,cost,success", *lines]))

    read = read_sources([demo, tmp_path / "theirs.csv"])

    assert read.plan.foreign == {"theirs"}
    assert len(read.plan.tasks) == 20


def test_public_results_come_out_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    """tau-bench airline, gpt-4o: pass^1..4 are .420 .273 .220 .200; five costs are unknown, all of failures."""
    found = []
    for k in range(1, 5):
        words = ["table", str(DATA / "tau_airline_gpt4o.csv"), *TAU, "--k", str(k), "--format", "json"]
        assert run(app, "finops-eval", words) == 0
        found.append(json.loads(capsys.readouterr().out)[0])

    assert [round(row["pass_hat_k"], 3) for row in found] == [0.42, 0.273, 0.22, 0.2]
    assert (found[0]["unknown_costs"], found[0]["cost_per_success_bound"], found[0]["tasks"]) == (5, ">=", 50)


def test_commands_show_and_plan(
    demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`show`, `show TASK` and `power` fit eighty columns."""
    monkeypatch.setenv("COLUMNS", "80")
    task = load_results(demo).attempts[0].task
    for words in (["show", str(demo)], ["show", str(demo), task], ["power", str(demo), "--half-width", "0.1"]):
        assert run(app, "finops-eval", words) == 0
        out = capsys.readouterr().out
        assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines())) <= 80
