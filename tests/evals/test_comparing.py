"""`compare`: one results folder against another, task by task."""

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments, EvalError
from langchain_finops.evals.comparing import CompareOptions, compare
from langchain_finops.evals.resume import load_results

MakeResults = Callable[..., Path]
ANY = CompareOptions(min_tasks=2, min_successes=1)


def many(cost: str, won: int, tasks: int = 60, *, dearer: str | None = None) -> dict[str, list[tuple[str, bool]]]:
    """Tasks t0, t1, ...: the first `won` of them solved; every second one at the dearer cost."""
    return {f"t{n}": [((dearer or cost) if n % 2 else cost, n < won)] for n in range(tasks)}


def test_each_task_is_paired_with_itself(make_results: MakeResults) -> None:
    """By hand: A costs .03 + .01 = .04 for one success, B .01 + .01 = .02 for one: A / B = 2. t1 flipped to A's good,
    t2 to its harm."""
    a = make_results({"x": {"t1": [("0.03", True)], "t2": [("0.01", False)]}}, name="a")
    b = make_results({"x": {"t1": [("0.01", False)], "t2": [("0.01", True)]}}, name="b")

    comparison = compare(a, b, ANY)

    (row,) = comparison.rows
    assert (row["a"], row["b"]) == (f"{a}:x", f"{b}:x")
    assert (row["tasks"], row["tasks_left_out"]) == (2, 0)
    assert (row["a_cost_usd"], row["b_cost_usd"], row["cost_difference_usd"]) == (
        Decimal("0.04"),
        Decimal("0.02"),
        Decimal("0.02"),
    )
    assert row["ratio"] == pytest.approx(2.0)
    assert (row["tasks_won"], row["tasks_lost"]) == (["t1"], ["t2"])
    assert row["success_rate_difference"] == 0
    assert comparison.verdict == "INCONCLUSIVE"
    assert [task.cost_difference_usd for task in comparison.pairs[0].by_task] == [Decimal("0.02"), Decimal(0)]


def test_repeats_are_one_task(make_results: MakeResults) -> None:
    """A task that A solves twice of three times and B once is won; an attempt costs 1/3 cent less with B."""
    a = make_results({"x": {"t": [("0.02", True), ("0.01", True), ("0.01", False)]}}, name="a")
    b = make_results({"x": {"t": [("0.01", True), ("0.01", False), ("0.01", False)]}}, name="b")

    (task,) = compare(a, b, ANY).pairs[0].by_task

    assert (task.a_successes, task.b_successes, task.flip) == (2, 1, "won")
    assert task.cost_difference_usd == Decimal("0.003333333333")


@pytest.mark.parametrize(
    ("a", "verdict", "code"),
    [
        (many("0.010", 50, dearer="0.011"), "BETTER", 0),
        (many("0.040", 50, dearer="0.041"), "WORSE", 1),
        (many("0.021", 50, dearer="0.020"), "INCONCLUSIVE", 3),
        (many("0.010", 16, tasks=20, dearer="0.011"), "INCONCLUSIVE", 3),
    ],
)
def test_the_verdict_is_the_exit_code(
    make_results: MakeResults, a: dict[str, object], verdict: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 for a cheaper success, 1 for a dearer one, 3 where nothing is known; few tasks are never enough."""
    one = make_results({"x": a}, name="a")
    other = make_results({"x": many("0.020", 50 if len(a) == 60 else 16, tasks=len(a), dearer="0.021")}, name="b")

    assert run(app, "finops-eval", ["compare", str(one), str(other), "--format", "json"]) == code
    (row,) = json.loads(capsys.readouterr().out)
    assert row["verdict"] == verdict


def test_a_margin_makes_what_is_hardly_dearer_not_inferior(make_results: MakeResults) -> None:
    """Costs 5% up on every task alike: worse without a margin, within one of 10% not inferior, which is good. The
    suite's own margin holds where none is given."""
    a = make_results({"x": many("0.0210", 50)}, name="a", margin=0.1)
    b = make_results({"x": many("0.0200", 50)}, name="b")

    assert compare(a, b, CompareOptions(margin=0)).verdict == "WORSE"
    assert compare(a, b, CompareOptions(margin=0.1)).verdict == "NON_INFERIOR"
    assert compare(a, b).verdict == "NON_INFERIOR"


def test_configurations_of_one_folder_are_compared_by_name(make_results: MakeResults) -> None:
    """FOLDER:CONFIGURATION names a side; a name may have colons of its own."""
    folder = make_results({"openai:small": many("0.01", 50), "openai:large": many("0.04", 50)})

    comparison = compare(f"{folder}:openai:small", f"{folder}:openai:large")

    assert comparison.verdict == "BETTER"
    assert (comparison.rows[0]["a"], comparison.rows[0]["b"]) == ("openai:small", "openai:large")


def test_configurations_of_the_same_name_are_paired(make_results: MakeResults) -> None:
    """Two folders with several configurations: each against its own former self, and the worst decides."""
    a = make_results({"s": many("0.01", 50), "l": many("0.09", 50), "new": many("0.01", 1)}, name="a")
    b = make_results({"l": many("0.04", 50), "s": many("0.02", 50)}, name="b")

    comparison = compare(load_results(a), load_results(b))

    assert [(row["a"], row["verdict"]) for row in comparison.rows] == [(f"{a}:s", "BETTER"), (f"{a}:l", "WORSE")]
    assert comparison.verdict == "WORSE"
    assert "Without a counterpart, left out: new." in comparison.table().notes


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("{folder}", "{folder}", "cannot be compared with itself"),
        ("{folder}:small", "{folder}:small", "cannot be compared with itself"),
        ("{folder}:tiny", "{folder}:small", "no configuration 'tiny': choose one of small, large"),
        ("{other}", "{folder}", "'else' can be compared with any of small, large: name the other"),
        ("{folder}", "{none}", "is no results folder, nor FOLDER:CONFIGURATION"),
    ],
)
def test_sides_that_make_no_pair_are_told(make_results: MakeResults, tmp_path: Path, a: str, b: str, said: str) -> None:
    """One sentence with the remedy, never a comparison of something with itself."""
    places = {
        "folder": make_results({"small": many("0.01", 5), "large": many("0.04", 5)}),
        "other": make_results({"else": many("0.01", 5)}, name="other"),
        "none": tmp_path / "none",
    }

    with pytest.raises((BadArguments, EvalError), match=said):
        compare(a.format(**places), b.format(**places))


def test_other_datasets_are_refused_unless_common_tasks_are_asked_for(make_results: MakeResults) -> None:
    """t1 is the same on both sides, t2 has the same id and other content, t3 is new: one task pairs, and it is said."""
    a = make_results({"x": {"t1": [("0.01", True)], "t2": [("0.01", True)]}}, name="a")
    tasks = {task: [("0.02", True)] for task in ("t1", "t2", "t3")}
    b = make_results({"x": tasks}, name="b", contents={"t2": "other"})

    with pytest.raises(BadArguments, match=r"the datasets differ: 1 of 2 tasks .* 1 of the same id have other content"):
        compare(a, b)

    (row,) = (comparison := compare(a, b, CompareOptions(common_tasks=True))).rows
    assert (row["tasks"], row["tasks_left_out"]) == (1, 2)
    assert any("The datasets differ: 1 of 2 tasks" in note for note in comparison.table().notes)


def test_no_common_task_is_an_error(make_results: MakeResults) -> None:
    """Nothing to compare is said, not shown as an empty table."""
    a = make_results({"x": {"t1": [("0.01", True)]}}, name="a")
    b = make_results({"x": {"t2": [("0.01", True)]}}, name="b")

    with pytest.raises(BadArguments, match="no task in common"):
        compare(a, b, CompareOptions(common_tasks=True))


def test_other_scorers_are_refused(make_results: MakeResults) -> None:
    """Successes by different judges are not compared by accident."""
    a = make_results({"x": many("0.01", 5)}, name="a")
    b = make_results({"x": many("0.01", 5)}, name="b", scorers=[{"name": "exact", "type": "exact", "hash": "other"}])

    with pytest.raises(BadArguments, match="the scorers differ"):
        compare(a, b)
    assert any("scorers differ" in note for note in compare(a, b, CompareOptions(allow_mixed=True)).table().notes)


def test_what_else_may_make_the_difference_is_told(make_results: MakeResults) -> None:
    """Other prices, another mode: said, not refused."""
    a = make_results({"x": many("0.01", 5)}, name="a", mode="replay", price_book_hashes={"": "new"})
    b = make_results({"x": many("0.01", 5)}, name="b")

    notes = compare(a, b).table().notes
    assert "They are priced by different prices: a part of the difference may be that." in notes
    assert "A is a replay run, B a live run." in notes


def test_unknown_costs_are_never_compared_as_zero(make_results: MakeResults) -> None:
    """One attempt of unknown cost: no ratio, no verdict, and the task's cost is unknown rather than nothing."""
    a = make_results({"x": many("0.01", 50) | {"t0": [(None, True)]}}, name="a")
    b = make_results({"x": many("0.04", 50)}, name="b")

    (row,) = compare(a, b).rows

    assert (row["verdict"], row["verdict_why"], row["ratio"]) == ("INCONCLUSIVE", "unknown costs", None)
    assert (row["a_cost_usd"], row["cost_difference_usd"], row["unknown_costs"]) == (None, None, 1)


def test_unscored_attempts_that_could_turn_the_verdict_make_it_inconclusive(make_results: MakeResults) -> None:
    """25 of 60 solved, 35 unscored: A is better if they are right, worse if not. Two unscored turn nothing."""
    half = {f"t{n}": [("0.015", True if n < 25 else None)] for n in range(60)}
    few = {f"t{n}": [("0.015", True if n < 48 else None if n < 50 else False)] for n in range(60)}
    b = make_results({"x": many("0.020", 50)}, name="b")

    (row,) = compare(make_results({"x": half}, name="half"), b).rows
    assert (row["verdict"], row["verdict_why"]) == ("INCONCLUSIVE", "35 unscored attempts could turn it")
    assert row["ratio_low"] < 1 < row["ratio_high"]
    (row,) = compare(make_results({"x": few}, name="few"), b).rows
    assert (row["verdict"], row["unscored"]) == ("BETTER", 2)


def test_an_unfinished_task_is_not_paired(make_results: MakeResults) -> None:
    """A task with one of two repeats made is left out on both sides, and that the run goes on is said."""
    a = make_results({"x": {"t1": [("1", True)] * 2, "t2": [("1", True)]}}, name="a", finished_at=None)
    b = make_results({"x": {"t1": [("1", True)] * 2, "t2": [("1", True)] * 2}}, name="b")

    comparison = compare(a, b, ANY)

    assert comparison.pairs[0].tasks == ("t1",)
    assert comparison.rows[0]["tasks_left_out"] == 1
    assert any("has not finished" in note for note in comparison.table().notes)


def test_a_try_that_the_harness_ended_is_no_failure(make_results: MakeResults) -> None:
    """Ctrl-C in the middle of t1: the slot is tried again by the next run, so the task is not compared yet."""
    a = make_results({"x": {"t1": [("1", "interrupted")], "t2": [("1", True)]}}, name="a", finished_at=None)
    b = make_results({"x": {"t1": [("1", True)], "t2": [("1", True)]}}, name="b")

    assert compare(a, b, ANY).pairs[0].tasks == ("t2",)


def test_rows_by_task_for_people_and_programs(make_results: MakeResults, capsys: pytest.CaptureFixture[str]) -> None:
    """Flips come first, lost ones before won ones; a name cannot become a spreadsheet's formula."""
    a = make_results({"x": {"t1": [("1", True)], "t2": [("1", True)], "=t3": [("1", False)]}}, name="a")
    b = make_results({"x": {"t1": [("1", True)], "t2": [("1", False)], "=t3": [("1", True)]}}, name="b")

    code = run(app, "finops-eval", ["compare", str(a), str(b), "--by", "task", "--format", "csv"])

    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert code == 3
    assert [(row["task"], row["flip"]) for row in rows] == [("'=t3", "lost"), ("t2", "won"), ("t1", "")]


def test_it_reads_at_80_columns(
    make_results: MakeResults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ratio, the verdict and the flips' names are there, and no line is wider."""
    monkeypatch.setenv("COLUMNS", "80")
    a = make_results({"x": many("0.010", 50, dearer="0.011")}, name="a")
    b = make_results({"x": many("0.020", 47, dearer="0.021")}, name="b")

    run(app, "finops-eval", ["compare", str(a), str(b)])

    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "BETTER" in out
    assert "won: t47, t48, t49" in out
