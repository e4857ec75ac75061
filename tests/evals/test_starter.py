"""`finops-eval init`: what it writes runs as it is, and says how to go on."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_openai import ChatOpenAI

from langchain_finops.cli import finops_eval as command
from langchain_finops.cli.common import run
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.models import chat_model
from langchain_finops.evals.suite import load_suite

Command = Callable[..., tuple[int, str, str]]
FILES = ["agent.py", "tasks.jsonl", "tasks.yaml"]


@pytest.fixture
def finops_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = list(sys.path)

    def finops_eval_(*words: str) -> tuple[int, str, str]:
        code = run(command.app, "finops-eval", list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield finops_eval_
    sys.path[:] = path
    sys.modules.pop("agent", None)


def test_what_is_written_runs_right_after_by_the_command_that_is_told(finops_eval: Command, tmp_path: Path) -> None:
    """Without a key: a scripted model answers, and is called so."""
    code, out, err = finops_eval("init", "my evaluation")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "my evaluation").iterdir()) == FILES

    words = shlex.split(out.strip().splitlines()[-1])
    code, out, _ = finops_eval(*words[1:], "--format", "json")

    assert code == 0
    small, large = json.loads(out)
    assert [(row["configuration"], row["tasks"], row["successes"]) for row in (small, large)] == [
        ("small", 12, 5),
        ("large", 12, 10),
    ]
    # 12 messages and the prompt before each, in words, and a word of answer: by the cards of the suite.
    data = load_dataset(tmp_path / "my evaluation" / "tasks.jsonl")
    words_in = sum(len(str(item.inputs["message"]).split()) + 12 for item in data.items)
    assert Decimal(small["total_cost_usd"]) == (words_in * Decimal("0.1") + 12 * Decimal("0.4")) / 1_000_000
    assert {item.name for item in load_suite(tmp_path / "my evaluation" / "tasks.yaml").configurations} == {
        "small",
        "large",
    }


def test_nothing_is_overwritten_and_nothing_half_written(finops_eval: Command, tmp_path: Path) -> None:
    """One file that is there already keeps all of them from being written, and is named."""
    (tmp_path / "tasks.yaml").write_text("mine")

    code, out, err = finops_eval("init")

    assert (code, out) == (2, "")
    assert err == "Error: . has tasks.yaml already, and no file is overwritten: name another DIR\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.yaml"]
    assert (tmp_path / "tasks.yaml").read_text() == "mine"


def test_a_folder_that_is_a_file_is_one_sentence(finops_eval: Command, tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "here").write_text("")

    code, _, err = finops_eval("init", "here")

    assert code == 2
    assert err.count("\n") == 1
    assert "here" in err


def test_the_real_model_that_the_comment_names_can_be_put_in(
    finops_eval: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the comment, pasted in place of a scripted model, needs a key alone, and is asked."""
    finops_eval("init")
    suite = (tmp_path / "tasks.yaml").read_text()
    found = re.search(r"# .*real one: (\{.*\})", suite)
    assert found is not None
    (tmp_path / "tasks.yaml").write_text(suite.replace("{name: large, model: scripted-large}", found[1]))

    code, out, err = finops_eval("run", "tasks.jsonl")

    assert (code, out) == (2, "")
    assert err == ("Error: tasks.yaml: mini: model: 'openai:gpt-5-mini': its key is missing: set OPENAI_API_KEY\n")
    assert not (tmp_path / "results").exists()
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    (mini,) = (each for each in load_suite(tmp_path / "tasks.yaml").configurations if each.name == "mini")
    assert isinstance(chat_model(mini.for_target()), ChatOpenAI)
