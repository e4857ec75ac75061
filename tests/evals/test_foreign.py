"""Results of other harnesses: read exactly, refused whole, and unknown where they say nothing."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.errors import BadArguments, BadData
from langchain_finops.evals.foreign import columns_of, read_foreign
from langchain_finops.evals.sources import read_sources
from langchain_finops.evals.table import TableOptions, evaluation_table
from langchain_finops.reports.render import Row

HEADER = "configuration,task,cost,success\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "theirs.csv"


def rows(path: Path, **options: object) -> list[Row]:
    read = read_sources([path], **options)  # type: ignore[arg-type]
    return list(evaluation_table(read.attempts, read.verdicts, plan=read.plan, options=TableOptions()).rows)


def faults(path: Path, columns: str | None = None) -> list[str]:
    with pytest.raises(BadData) as caught:
        read_foreign([path], columns=columns_of(columns))
    return [str(fault) for fault in caught.value.faults]


def test_a_file_by_hand(file: Path) -> None:
    """Costs add up exactly, a success is any of the usual words, and a task's further rows are its repeats."""
    file.write_text(HEADER + "a,t1,0.1,1\na,t1,0.2,0\na,t2,0.3,true\nb,t1,1,no\nb,t1,1,PASS\nb,t2,2.5,1.0\n")

    a, b = rows(file)

    assert (a["configuration"], a["tasks"], a["attempts"], a["successes"]) == ("a", 2, 3, 2)
    assert a["total_cost_usd"] == Decimal("0.6")  # In floats 0.6000000000000001.
    assert (b["total_cost_usd"], b["successes"]) == (Decimal("4.5"), 2)


def test_what_a_file_does_not_say_is_unknown(file: Path) -> None:
    """No tokens, calls, steps, latencies or judges are told: none of them is 0."""
    file.write_text(HEADER + "a,t1,0.1,1\n")

    (row,) = rows(file)

    unsaid = ("calls", "input_tokens", "latency_p50_s", "errors", "stopped", "judge_cost_usd", "steps_per_attempt")
    assert [row[name] for name in unsaid] == [None] * len(unsaid)


@pytest.mark.parametrize("nothing", ["", "None", "null", "NaN", " "])
def test_a_cost_that_is_not_there_is_unknown(file: Path, nothing: str) -> None:
    """The known part is a lower bound, marked as such; nothing is 0, nothing is dropped."""
    file.write_text(HEADER + f"a,t1,0.5,1\na,t2,{nothing},0\n")

    (row,) = rows(file)

    assert (row["attempts"], row["unknown_costs"]) == (2, 1)
    assert (row["cost_per_success_usd"], row["cost_per_success_bound"]) == (0.5, ">=")


def test_a_zero_is_free_unless_it_is_said_to_be_unknown(file: Path) -> None:
    """Leaderboards write 0 for unknown; only the reader knows."""
    file.write_text(HEADER + "a,t1,0,1\na,t2,1,1\n")

    assert [row["unknown_costs"] for row in rows(file)] == [0]
    assert [row["unknown_costs"] for row in rows(file, zero_is_unknown=True)] == [1]


def test_a_success_that_is_not_there_is_unscored(file: Path) -> None:
    """Nobody judged it: the cost per success is a range from all of them right to none."""
    file.write_text(HEADER + "a,t1,1,1\na,t2,1,\n")

    (row,) = rows(file)

    assert (row["unjudged"], row["successes"]) == (1, 1)
    assert (row["unscored_won_cost_per_success_usd"], row["cost_per_success_usd"]) == (1.0, 2.0)


def test_without_any_scored_success_no_bound_is_claimed(file: Path) -> None:
    """That no success was seen bounds nothing where some were not looked at: what is left is the other end."""
    file.write_text(HEADER + "a,t1,1,0\na,t2,1,\n")

    (row,) = rows(file)

    assert (row["cost_per_success_usd"], row["cost_per_success_bound"]) == (2.0, ">=")


def test_json_lines_keep_every_digit(tmp_path: Path) -> None:
    """A price read as a float would be another one."""
    file = tmp_path / "theirs.jsonl"
    cost = "0.1000000000000000055511151231257827"
    line = '{"configuration": "a", "task": 7, "cost": %s, "success": true, "repeat": 2}\n'
    file.write_text(line % cost)

    read = read_foreign([file])

    assert read.attempts[0].cost_usd == Decimal(cost)
    assert (read.attempts[0].task, read.attempts[0].repeat) == ("7", 2)


def test_a_json_array_is_read_too(tmp_path: Path) -> None:
    """As data frames write it."""
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps([{"task": "t", "cost": None, "success": 0}, {"task": "u", "cost": 1, "success": 1}]))

    read = read_foreign([file])

    assert [attempt.cost_usd for attempt in read.attempts] == [None, Decimal(1)]
    assert read.configurations == ("theirs",)  # The file's name, for want of a column.


def test_columns_may_have_other_names(file: Path) -> None:
    """Ours=theirs, and the file's name where no column says which configuration."""
    file.write_text("task_id,trial,reward,user_cost\n0,0,1.0,0.25\n0,1,0.0,0.5\n")

    read = read_foreign([file], columns=columns_of("task=task_id, cost=user_cost,success=reward,repeat=trial"))

    assert [(each.configuration, each.repeat, each.cost_usd) for each in read.attempts] == [
        ("theirs", 0, Decimal("0.25")),
        ("theirs", 1, Decimal("0.5")),
    ]


@pytest.mark.parametrize("columns", ["cost", "price=cost", "cost=", "cost=a,cost=b"])
def test_columns_that_make_no_sense_are_refused(columns: str) -> None:
    """With what is expected."""
    with pytest.raises(BadArguments, match="--columns"):
        columns_of(columns)


def test_columns_that_are_missing_are_named_with_the_remedy(file: Path) -> None:
    """All at once, and with what is there."""
    file.write_text("task,price\nt,1\n")

    assert faults(file) == [
        f"{file}: has no column cost, success; it has task, price: say which is which by --columns cost=...,success=..."
    ]


def test_all_faults_are_told_at_once(file: Path) -> None:
    """With their lines; nothing is guessed, and nothing of a bad file is shown."""
    file.write_text(HEADER + 'a,t1,$5,1\na,,1,1\na,t3,-1,1\na,t4,1,0.5\na,t5,1,maybe\n,t6,1,1\na,"t\n7",inf,1\n')

    said = faults(file)

    assert [each.removeprefix(f"{file}:").split(":")[0] for each in said] == ["2", "3", "4", "5", "6", "7", "9"]
    assert "cost is $5: an amount in dollars is expected" in said[0]
    assert "a partial score is no success" in said[3]


def test_a_cut_row_is_not_half_read(file: Path, tmp_path: Path) -> None:
    """A file that was cut in the middle of a line may have lost a digit of a cost."""
    file.write_text(HEADER + "a,t1,0.5,1\na,t2,0.")
    lines = tmp_path / "theirs.jsonl"
    lines.write_text('{"task": "t", "cost": 1, "success": 1}\n{"task": "u", "co')

    assert faults(file) == [f"{file}:3: has 3 cells, and the header names 4: the row is cut, or a comma unquoted"]
    assert faults(lines)[0].startswith(f"{lines}:2: not JSON")


def test_one_repeat_cannot_be_told_twice(file: Path) -> None:
    """Neither row can be dropped, and both would count one attempt twice."""
    file.write_text("task,cost,success,repeat\nt,1,1,0\nt,2,1,0\nt,2,1,x\n")
    assert "repeat is x: a whole number from 0 on is expected" in faults(file)[0]

    file.write_text("task,cost,success,repeat\nt,1,1,0\nt,2,1,0\n")
    assert faults(file) == [f"{file}:3: theirs, t, repeat 0 was in {file}:2 already: leave one out"]


@pytest.mark.parametrize(("name", "text"), [("x.csv", ""), ("x.csv", HEADER), ("x.jsonl", "\n\n")])
def test_an_empty_file_is_no_table(tmp_path: Path, name: str, text: str) -> None:
    """An empty answer would look like a run without attempts."""
    path = tmp_path / name
    path.write_text(text)

    assert faults(path) == [f"{path}: has no rows: a row for each attempt is expected"]


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    """With those that can be read."""
    path = tmp_path / "x.xlsx"
    path.write_bytes(b"PK")

    assert faults(path) == [f"{path}: a results folder, or a .csv, .tsv, .jsonl or .json file is expected"]


def test_langsmith_exports_are_known_by_their_fields(tmp_path: Path) -> None:
    """No columns need to be named."""
    path = tmp_path / "runs.jsonl"
    run = {"id": "r", "session_name": "cheap", "reference_example_id": "e1", "total_cost": "0.02", "error": None}
    path.write_text(json.dumps(run | {"feedback_stats": {"success": {"n": 1, "avg": 1.0}}}) + "\n")

    read = read_foreign([path])

    assert [(each.configuration, each.task, each.cost_usd) for each in read.attempts] == [
        ("cheap", "e1", Decimal("0.02"))
    ]
    assert [said.success for said in read.verdicts] == [True]


def test_files_stand_side_by_side(tmp_path: Path) -> None:
    """Each is a configuration, compared with the first on the tasks that are complete in both."""
    for name, cost in (("small", 1), ("large", 2)):
        lines = "".join(f"t{number},{cost},{number % 2}\n" for number in range(60))
        (tmp_path / f"{name}.csv").write_text("task,cost,success\n" + lines)

    read = read_sources([tmp_path / "small.csv", tmp_path / "large.csv"])
    small, large = evaluation_table(read.attempts, read.verdicts, plan=read.plan).rows

    assert (small["baseline"], large["vs_baseline_ratio"], large["verdict"]) == (True, 2.0, "WORSE")


def test_the_same_file_twice_would_count_twice(file: Path) -> None:
    """It is refused."""
    file.write_text(HEADER + "a,t1,1,1\n")

    with pytest.raises(BadArguments, match="is named twice"):
        read_sources([file, file.parent / "." / file.name])


def test_numbered_and_unnumbered_rows_are_not_mixed(tmp_path: Path) -> None:
    """A row's place would be taken for another row's repeat: attempts and their costs would run into each other."""
    (tmp_path / "a.csv").write_text("configuration,task,cost,success,repeat\nx,1,0.10,1,1\nx,2,0.10,1,1\n")
    (tmp_path / "b.csv").write_text("configuration,task,cost,success\nx,1,0.20,0\n")

    with pytest.raises(BadData) as caught:
        read_foreign([tmp_path / "a.csv", tmp_path / "b.csv"])
    what = f"x, 1 has rows with a repeat and without: {tmp_path / 'a.csv'}:2 is of the others"
    assert [str(fault) for fault in caught.value.faults] == [f"{tmp_path / 'b.csv'}:2: {what}"]


def test_faults_of_all_files_are_told(tmp_path: Path) -> None:
    """One that is not there, one that is bad, and one of another kind."""
    (tmp_path / "bad.jsonl").write_text('{"task": "t", "cost": 1, "success": "-nan"}\n')
    (tmp_path / "x.xlsx").write_text("")

    with pytest.raises(BadData) as caught:
        read_foreign([tmp_path / "none.csv", tmp_path / "bad.jsonl", tmp_path / "x.xlsx"])
    none, bad, other = map(str, caught.value.faults)
    assert none.startswith(f"{tmp_path / 'none.csv'}: cannot be read: No such file or directory")
    assert "success is -nan: 0 or 1, true or false is expected" in bad
    assert "a .csv, .tsv, .jsonl or .json file is expected" in other


def test_a_column_of_long_answers_is_read(file: Path) -> None:
    """Python's own reader stops at 131,072 letters."""
    file.write_text(f"task,cost,success,answer\nt,1,1,{'x' * 200_000}\n")

    assert read_foreign([file]).attempts[0].cost_usd == 1
