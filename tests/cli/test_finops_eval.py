"""The `finops-eval` command, as a user meets it."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.cli import eval_common
from langchain_finops.cli import finops_eval as command
from langchain_finops.cli.common import run
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.suite import FIELDS, load_suite

TARGET = """
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph


class Scripted(BaseChatModel):
    wrong: bool = False

    @property
    def _llm_type(self):
        return "scripted"

    def _generate(self, messages, stop=None, run_manager=None, **_):
        answer = str(2 * int(messages[-1].content) + self.wrong)
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
        metadata = {"model_name": "tiny", "model_provider": "own"}
        message = AIMessage(answer, usage_metadata=usage, response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])


def build(configuration):
    model = Scripted(wrong=configuration["wrong"])
    graph = StateGraph(MessagesState)
    graph.add_node("solve", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    return graph.compile()
"""

SUITE = """
target: cli_target:build
scorer: exact
configurations: [{name: right, wrong: false}, {name: wrong, wrong: true}]
cards:
  hosted: [{id: hosted, match: {model: tiny}, rates: {input_tokens: 1, output_tokens: 10}}]
  double: [{id: double, match: {model: tiny}, rates: {input_tokens: 2, output_tokens: 20}}]
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a dataset of three tasks, its suite and a target."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_target.py").write_text(TARGET)
    (tmp_path / "tasks.yaml").write_text(SUITE)
    lines = [
        {"id": f"t{n}", "inputs": {"messages": [["human", str(n)]]}, "outputs": {"answer": str(2 * n)}}
        for n in (1, 2, 3)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("cli_target", None)


@pytest.fixture
def finops_eval(capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in the folder, in an activated environment; return exit code, stdout and stderr."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def finops_eval_(*words: object) -> tuple[int, str, str]:
        code = run(command.app, "finops-eval", [str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return finops_eval_


def test_the_command_that_reports_can_be_pasted_where_the_environment_is_not_activated(
    finops_eval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make demo` activates nothing: the command that is printed then names the program by its path."""
    program = Path(sys.executable).parent / "finops-eval"
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    _, _, err = finops_eval("run", "tasks.jsonl")

    assert f"Costs by node: {program.with_name('finops')} report --by node --ledger " in err


def test_a_run_prints_a_row_for_each_configuration_and_what_to_do_next(finops_eval: Command, folder: Path) -> None:
    """The table is on stdout; where results are, and the command that reports on them, on stderr."""
    code, out, err = finops_eval("run", "tasks.jsonl")

    assert code == 0
    rows = [line.split()[0] for line in out.splitlines() if line.startswith(("right", "wrong"))]
    assert rows == ["right", "wrong"]
    assert err == "Results: results/tasks\nCosts by node: finops report --by node --ledger results/tasks/ledger.db\n"
    assert sorted(path.name for path in (folder / "results/tasks").glob("*.json*")) == [
        "attempts.jsonl",
        "begun.jsonl",
        "run.json",
        "scores.jsonl",
    ]


def test_json_is_one_array_and_nothing_else(finops_eval: Command) -> None:
    """Exact amounts are strings; by hand: 3 x (100 x $1 + 10 x $10) / 1,000,000 = $0.0006."""
    code, out, _ = finops_eval("run", "tasks.jsonl", "--format", "json")

    rows = json.loads(out)
    assert code == 0
    assert [(row["configuration"], row["successes"], row["total_cost_usd"]) for row in rows] == [
        ("right", 3, "0.0006"),
        ("wrong", 0, "0.0006"),
    ]


def test_what_a_target_prints_stays_out_of_the_rows(finops_eval: Command, folder: Path) -> None:
    """A `print` in an agent goes to stderr: stdout is for programs."""
    target = folder / "cli_target.py"
    target.write_text(target.read_text().replace("    answer = ", "    print('thinking')\n        answer = ", 1))

    _, out, err = finops_eval("run", "tasks.jsonl", "--format", "json")

    assert len(json.loads(out)) == 2
    assert err.count("thinking") == 6


def test_what_could_not_be_judged_is_told(finops_eval: Command, folder: Path) -> None:
    """A scorer that breaks, or looks at a field that is not there, does not pass for bad answers."""
    target = folder / "cli_target.py"
    target.write_text(target.read_text() + "\n\ndef score(answer, outputs):\n    raise KeyError('total')\n")
    (folder / "tasks.yaml").write_text(SUITE.replace("exact", "{type: python, function: 'cli_target:score'}"))
    _, _, err = finops_eval("run", "tasks.jsonl")
    assert "Warning: 6 verdicts could not be told; the first: the scorer raised KeyError: 'total'" in err

    (folder / "tasks.yaml").write_text(SUITE.replace("exact", "{type: exact, answer_field: total}"))
    _, _, err = finops_eval("run", "tasks.jsonl", "--allow-mixed")
    assert "no answer was a success, each time because of the same: the answer has no field 'total'" in err


def test_csv_and_markdown(finops_eval: Command) -> None:
    """The same rows for a spreadsheet and for a pull request."""
    _, out, _ = finops_eval("run", "tasks.jsonl", "--format", "csv")
    assert [row["configuration"] for row in csv.DictReader(io.StringIO(out))] == ["right", "wrong"]
    _, out, _ = finops_eval("table", "results/tasks", "--format", "markdown")
    assert out.startswith("| configuration")


def test_the_table_is_shown_again_without_running(finops_eval: Command, folder: Path) -> None:
    """`table` needs nothing but the results folder, and shows what `run` showed, priced by any of the card sets."""
    _, ran, _ = finops_eval("run", "tasks.jsonl", "--format", "json")
    for name in ("tasks.jsonl", "tasks.yaml", "cli_target.py"):
        (folder / name).unlink()

    code, shown, err = finops_eval("table", "results/tasks", "--format", "json")
    assert (code, shown, err) == (0, ran, "")
    _, double, _ = finops_eval("table", "results/tasks", "--format", "json", "--cards", "double")
    assert [row["total_cost_usd"] for row in json.loads(double)] == ["0.0012", "0.0012"]


def test_the_same_command_shows_a_finished_run(finops_eval: Command) -> None:
    """Running again answers with the same table, and buys nothing."""
    first = finops_eval("run", "tasks.jsonl", "--format", "json")

    assert finops_eval("run", "tasks.jsonl", "--format", "json") == first


def test_options_reach_the_run(finops_eval: Command, folder: Path) -> None:
    """Suite, results folder, ledger, cards and concurrency are those of the command line."""
    (folder / "tasks.yaml").rename(folder / "other.yaml")
    words = ["--suite", "other.yaml", "--out", "there", "--ledger", "my ledger.db", "--cards", "double"]

    code, out, err = finops_eval("run", "tasks.jsonl", *words, "--concurrency", "1", "--format", "json")

    assert code == 0
    assert json.loads(out)[0]["total_cost_usd"] == "0.0012"
    assert err.splitlines()[1] == "Costs by node: finops report --by node --ledger 'my ledger.db'"
    assert (folder / "there" / "attempts.jsonl").exists()
    assert (folder / "my ledger.db").exists()


def test_outdated_and_torn_lines_are_told(finops_eval: Command, folder: Path) -> None:
    """What is left out of the figures is said on stderr."""
    finops_eval("run", "tasks.jsonl")
    text = (folder / "tasks.jsonl").read_text()
    (folder / "tasks.jsonl").write_text(text.replace('"3"', '"5"').replace('"6"', '"10"'))
    _, _, err = finops_eval("run", "tasks.jsonl")
    assert "Warning: 2 tries at items or configurations that have changed since are left out" in err

    with (folder / "results/tasks/attempts.jsonl").open("a") as file:
        file.write('{"configuration": "right", "ta')
    code, _, err = finops_eval("table", "results/tasks")
    assert code == 0
    assert "attempts.jsonl:9: the last line is torn by a crash and is left out" in err


def test_bad_files_are_told_together_with_file_line_and_field(finops_eval: Command, folder: Path) -> None:
    """Faults of the dataset and of the suite come at once, a sentence each, and nothing runs."""
    (folder / "tasks.jsonl").write_text('{"id": "a"}\n{"id": "a", "inputs": {}, "outputs": {}}\n')
    (folder / "tasks.yaml").write_text("scorer: exact\nconfigurations: [{name: a}]\n")

    code, out, err = finops_eval("run", "tasks.jsonl")

    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "Error: tasks.jsonl:1: inputs: is missing: an object is expected",
        "Error: tasks.jsonl:1: outputs: is missing: an object is expected",
        "Error: tasks.jsonl:2: id: id 'a' is that of line 1 already: ids are distinct",
        (
            "Error: tasks.yaml: target: is missing: `module:function` of a function that takes a configuration and "
            "returns a Runnable, or one of {graph: module:object}, {call: module:function}, {url: https://...}"
        ),
    ]
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nowhere.jsonl", "--suite", "tasks.yaml"], "Error: dataset nowhere.jsonl cannot be read: No such"),
        (["run", "tasks.jsonl", "--suite", "no.yaml"], "Error: suite no.yaml cannot be read: No such file"),
        (["run", "tasks.jsonl", "--cards", "triple"], "Error: 'triple' is no card set of tasks.yaml: it has hosted"),
        (["run", "tasks.jsonl", "--record"], "Error: tasks.yaml names no recording"),
        (["run", "tasks.jsonl", "--record", "--live"], "Error: --record and --live exclude each other"),
        (["run", "tasks.jsonl", "--concurrency", "0"], "Error: Invalid value for '--concurrency'"),
        (["run", "tasks.jsonl", "--format", "xml"], "Error: Invalid value for '--format'"),
        (["run", "tasks.jsonl", "--max-usd", "lots"], "Error: --max-usd lots found: an amount above 0 is expected"),
        (
            ["run", "tasks.jsonl", "--shard", "two"],
            "Error: --shard two found: a part of how many is expected, such as 1/4",
        ),
        (["run", "tasks.jsonl", "--shard", "5/4"], "Error: --shard 5/4 found: from 1/N to N/N is expected"),
        (["run", "tasks.jsonl", "--where", "hard"], "Error: --where hard found: KEY=VALUE is expected"),
        (["merge", "whole", "nowhere"], "Error: "),
        (["table", "nowhere"], "Error: nowhere is no results folder: it has no run.json"),
    ],
)
def test_what_cannot_run_is_one_sentence_and_exit_code_2(finops_eval: Command, words: list[str], message: str) -> None:
    """The error names the file or option and the remedy; no traceback."""
    code, out, err = finops_eval(*words)

    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert "Traceback" not in err


def test_a_missing_extra_prints_the_pip_line(finops_eval: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scipy nothing is bought whose table could not be shown."""
    monkeypatch.setattr(eval_common, "find_spec", lambda name: None)

    assert finops_eval("run", "tasks.jsonl") == (
        2,
        "",
        "Error: finops-eval needs an extra: pip install 'langchain-finops[eval]'\n",
    )


def test_progress_is_for_terminals_only(folder: Path) -> None:
    """Piped, stderr has two lines; on a terminal a bar counts attempts and dollars."""
    piped = subprocess.run(
        [sys.executable, "-m", "langchain_finops.cli.finops_eval", "run", "tasks.jsonl"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert len(piped.stderr.splitlines()) == 2
    assert "\x1b" not in piped.stdout + piped.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_on_a_terminal_a_bar_counts(folder: Path) -> None:
    """Attempts done of all, and what was spent."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "langchain_finops.cli.finops_eval", "run", "tasks.jsonl"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # Linux says EIO where the other side has closed.
        pass
    out, _ = process.communicate()
    os.close(ours)

    assert process.returncode == 0
    assert b"6/6" in seen
    assert b"$0.001200" in seen
    assert b"6/6" not in out


DOCS = Path(__file__).parents[2] / "docs" / "finops-eval.md"


def plain(text: str) -> str:
    """Its words, without the marks and line ends that versions of typer set differently."""
    return " ".join(re.sub(r"[{}\\]| <[\w\[\]]+>|\[required\]|[\[\]]|\.\.\.", "", text).split())


@pytest.mark.parametrize(
    "words", [("finops-eval",), *(("finops-eval", each.name) for each in command.app.registered_commands)]
)
def test_documented_help_is_the_help(
    finops_eval: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """docs/finops-eval.md shows each command's help as it is at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    documented = dict(re.findall(r"```text\n\$ ([a-z -]*) --help\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))

    code, out, _ = finops_eval(*words[1:], "--help")

    assert code == 0
    assert plain(out) == plain(documented[" ".join(words)])
    assert all(len(line) <= 80 for line in out.splitlines())


def test_documented_files_can_be_used(folder: Path) -> None:
    """The dataset line and the suite of docs/finops-eval.md read as they stand, and every field is in its table."""
    text = DOCS.read_text("utf-8")
    (line,), (suite,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("json", "yaml"))
    (folder / "docs.jsonl").write_text(line)
    (folder / "docs.yaml").write_text(suite)

    assert [item.id for item in load_dataset(folder / "docs.jsonl").items] == ["t-1"]
    assert [entry.name for entry in load_suite(folder / "docs.yaml").configurations] == ["small", "large"]
    for field in FIELDS:
        assert f"`{field}" in text


def test_shards_are_merged(finops_eval: Command, folder: Path) -> None:
    """Two parts and their merger print what one run prints; what cannot be merged is told."""
    code, whole, _ = finops_eval("run", "tasks.jsonl", "--format", "json")
    for number in (1, 2):
        finops_eval("run", "tasks.jsonl", "--shard", f"{number}/2", "--out", f"part-{number}")

    code, out, err = finops_eval("merge", "whole", "part-1", "part-2", "--format", "json")

    assert code == 0
    exact = ("configuration", "tasks", "successes", "total_cost_usd", "cost_per_success_usd", "complete")
    assert [[row[name] for name in exact] for row in json.loads(out)] == [
        [row[name] for name in exact] for row in json.loads(whole)
    ]
    assert err == "Results: whole\n"
    code, out, err = finops_eval("merge", "whole", "part-1")
    assert (code, out) == (2, "")
    assert err.startswith("Error: whole is there already")


def test_a_run_that_met_its_maximum_says_so(finops_eval: Command, folder: Path) -> None:
    """It is no error: what was bought is shown, and what is to be done stands beside it."""
    target = folder / "cli_target.py"
    named = '{"ls_provider": "own", "ls_model_name": "tiny", "ls_max_tokens": 10}'
    target.write_text(
        target.read_text().replace(
            "    def _generate",
            f"    def _get_ls_params(self, stop=None, **_):\n        return {named}\n\n    def _generate",
        )
    )

    code, out, err = finops_eval("run", "tasks.jsonl", "--max-usd", "0.0009", "--format", "json")

    assert code == 0
    assert sum(Decimal(row["total_cost_usd"]) for row in json.loads(out)) == Decimal("0.0008")
    assert (
        "the run is not finished: $0.0008 of at most $0.0009 are spent, and the next attempt, of 'right', may cost "
        "$0.0002: run again with a higher --max-usd; 2 of 6 slots are left"
    ) in err


def test_no_arguments_show_the_help(finops_eval: Command) -> None:
    """`finops-eval` alone is a question, not an error."""
    code, out, err = finops_eval()

    assert (code, err) == (0, "")
    assert "table" in out
