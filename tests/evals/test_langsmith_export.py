"""Files that LangSmith exports, as rows for the table."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.langsmith_export import is_export, read_export

RUN = {
    "id": "r1",
    "session_name": "gpt-4.1 on tickets",
    "reference_example_id": "e1",
    "total_cost": "0.0123",
    "error": None,
    "feedback_stats": {"correct": {"n": 1, "avg": 1.0}},
}


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_runs_become_rows(tmp_path: Path) -> None:
    """A second run of the same experiment on the same example is a repeat; steps of a run are none; costs are exact."""
    path = write(
        tmp_path / "runs.jsonl",
        RUN,
        {**RUN, "id": "r2", "total_cost": 0.1, "feedback_stats": {"correct": {"n": 1, "avg": 0.0}}},
        {**RUN, "id": "r3", "parent_run_id": "r2"},
        {**RUN, "id": "r4", "session_name": "other", "total_cost": None},
    )

    assert read_export(path) == [
        {"configuration": "gpt-4.1 on tickets", "task": "e1", "cost": Decimal("0.0123"), "success": 1.0, "repeat": 0},
        {"configuration": "gpt-4.1 on tickets", "task": "e1", "cost": Decimal("0.1"), "success": 0.0, "repeat": 1},
        {"configuration": "other", "task": "e1", "cost": None, "success": 1.0, "repeat": 0},
    ]


def test_one_array_of_runs_is_read_too(tmp_path: Path) -> None:
    """As `json.dump` of a list writes it."""
    (tmp_path / "runs.json").write_text(json.dumps([RUN]))

    assert read_export(tmp_path / "runs.json")[0]["task"] == "e1"


def test_our_own_uploads_are_read_back_exactly(tmp_path: Path) -> None:
    """Their metadata know item, configuration and exact cost, which LangSmith's own figures do not; an error is no
    success, and what nobody judged is unknown."""
    own = {"finops:configuration": "small", "finops:item": "t1", "finops:cost_usd": "0.00000207"}
    run = {**RUN, "extra": {"metadata": own}, "feedback_stats": {"success": {"avg": 1}, "scorer:exact": {"avg": 0}}}
    path = write(tmp_path / "r.jsonl", run, {**run, "error": "stopped"}, {**run, "feedback_stats": {}})

    rows = read_export(path)

    assert rows[0] | {"repeat": None} == {
        "configuration": "small",
        "task": "t1",
        "cost": Decimal("0.00000207"),
        "success": 1.0,
        "repeat": None,
    }
    assert [row["success"] for row in rows] == [1.0, False, None]


def test_an_experiment_as_csv(tmp_path: Path) -> None:
    """The file's name is the configuration's; True and False are words there, and answers may have lines."""
    (tmp_path / "small.csv").write_text(
        "example_id,outputs.answer,error,feedback.correct,total_cost\n"
        'e1,"a\nb",,True,0.01\ne2,x,,False,\ne3,x,Boom,,0.02\n'
    )

    rows = read_export(tmp_path / "small.csv")

    assert [(row["configuration"], row["task"], row["cost"], row["success"]) for row in rows] == [
        ("small", "e1", Decimal("0.01"), True),
        ("small", "e2", None, False),
        ("small", "e3", Decimal("0.02"), False),
    ]


def test_which_feedback_says_success_is_not_guessed(tmp_path: Path) -> None:
    """Of several one has to be chosen."""
    path = write(tmp_path / "r.jsonl", {**RUN, "feedback_stats": {"a": {"avg": 1}, "b": {"avg": 0}}})

    with pytest.raises(BadData, match="choose one of a, b"):
        read_export(path)
    assert read_export(path, feedback="b")[0]["success"] == 0.0


def test_all_bad_records_are_told(tmp_path: Path) -> None:
    """With their line; a file that is none of JSON or UTF-8, and one without runs, too."""
    path = write(tmp_path / "r.jsonl", {**RUN, "reference_example_id": None}, {**RUN, "total_cost": "lots"})
    with pytest.raises(BadData) as caught:
        read_export(path)
    assert [fault.where for fault in caught.value.faults] == [f"{path}:1", f"{path}:2"]

    path.write_text("")
    with pytest.raises(BadData, match="has no runs"):
        read_export(path)
    path.write_text("nonsense\n")
    with pytest.raises(BadData, match=r"r\.jsonl:1: not JSON"):
        read_export(path)
    with pytest.raises(EvalError, match="cannot be read"):
        read_export(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (["session_name", "reference_example_id"], True),
        (["example_id", "feedback.x"], True),
        (["configuration", "task", "cost", "success"], False),
        (["task", "session_id"], False),
    ],
)
def test_an_export_is_known_by_its_fields(fields: list[str], said: bool) -> None:
    """A file with the table's own columns is none, whatever else it has."""
    assert is_export(fields) is said
