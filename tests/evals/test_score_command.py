"""`finops-eval score`, as a user meets it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from langchain_finops.cli import finops_eval as command
from langchain_finops.cli.common import run

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

Score = Callable[..., tuple[int, str, str]]


@pytest.fixture
def score(workshop: "Workshop", capsys: pytest.CaptureFixture[str]) -> Score:
    workshop.run()
    workshop.calls()

    def score_(*words: str) -> tuple[int, str, str]:
        code = run(command.app, "finops-eval", ["score", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return score_


def test_json_is_one_array_of_the_table(score: Score, workshop: "Workshop") -> None:
    """Rows of the new scorer; no model is asked, and nothing else stands on stdout."""
    suite = workshop.folder / "other.yaml"
    before = (workshop.folder / "tasks.yaml").read_text()
    suite.write_text(before.replace("scorer: exact", "scorer: {type: numeric, tolerance: 1}"))

    code, out, _ = score(str(workshop.results), "--suite", str(suite), "--format", "json")

    assert code == 0
    assert [(row["configuration"], row["successes"]) for row in json.loads(out)] == [("right", 2), ("wrong", 2)]
    assert workshop.calls() == []


def test_agreement_is_shown_under_the_table_and_by_itself(score: Score, workshop: "Workshop") -> None:
    """A sentence under the table; with --agreement rows, in any format."""
    label = {"configuration": "right", "task": "t1", "scorer": "exact", "success": True}
    (workshop.folder / "people.jsonl").write_text(json.dumps(label) + "\n")

    code, out, _ = score(str(workshop.results), "--labels", "people.jsonl")
    assert code == 0
    assert "exact agrees with people on 1 of 1 answers" in out

    _, out, _ = score(str(workshop.results), "--agreement", "--format", "json")
    assert [(row["configuration"], row["labelled"], row["kappa"]) for row in json.loads(out)] == [
        (None, 1, None),
        ("right", 1, None),
    ]


def test_what_cannot_be_scored_is_told_and_left_alone(score: Score, workshop: "Workshop") -> None:
    """One sentence with the remedy, exit code 2."""
    assert score("nowhere")[0] == 2
    assert not Path("nowhere").exists()
    code, out, err = score(str(workshop.results), "--live", "--record")
    assert (code, out) == (2, "")
    assert "--live and --record exclude each other" in err
    code, _, err = score(str(workshop.results), "--labels", "nothing.jsonl")
    assert code == 2
    assert "labels nothing.jsonl cannot be read: No such file or directory" in err
