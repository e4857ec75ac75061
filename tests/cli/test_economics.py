"""`finops economics` and `finops outcomes import`, as a user meets them."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.testing.records import a_call, an_outcome

DOCS = Path(__file__).parents[2] / "docs" / "economics.md"
NOW = datetime.now(UTC) - timedelta(days=10)


@pytest.fixture
def path(tmp_path):
    """Two agents that resolved ten tickets each: one for $0.50 a ticket, one with ten loops of $0.60."""
    file = tmp_path / "ledger.db"
    ledger = open_ledger(file)
    for ticket in range(10):
        ledger.write(a_call(f"s{ticket}", usd="0.50", agent_id="support", task_id=f"s{ticket}", started_at=NOW))
        for loop in range(10):
            own = {"agent_id": "looper", "task_id": f"l{ticket}", "started_at": NOW + timedelta(seconds=loop)}
            ledger.write(a_call(f"l{ticket}-{loop}", usd="0.60", **own))
        ledger.write(an_outcome(f"s{ticket}", at=NOW), an_outcome(f"l{ticket}", at=NOW))
    ledger.close()
    return file


@pytest.fixture
def finops(capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_the_documented_example_is_what_it_prints(finops, path, monkeypatch):
    """docs/economics.md shows this very output: $5.00, ROI 9.0, and a loss of $1.00 a ticket."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    (command, shown), *_ = re.findall(r"```text\n\$ (finops economics .*)\n((?:.*\n)*?)```", DOCS.read_text("utf-8"))
    code, out, err = finops(*command.split()[1:])

    assert (code, err) == (0, "")
    assert out == shown
    assert re.search(r"^support .* \$4\.50 +9\.0 ", out, re.MULTILINE)
    assert re.search(r"^looper .* -\$1\.00 +-0\.17 ", out, re.MULTILINE)
    assert "A person takes $5.00 a task" in out


def test_json_is_one_array_with_every_field(finops, path):
    """Exact decimals as strings; unknown is null."""
    code, out, err = finops("economics", "--ledger", path, "--format", "json", "--human-usd-per-hour", 25,
                            "--human-tasks-per-hour", 5)  # fmt: skip
    rows = {row["agent"]: row for row in json.loads(out)}

    assert (code, err) == (0, "")
    assert rows["support"]["roi"] == "9"
    assert rows["looper"]["gain_per_task_usd"] == "-1"
    assert rows["support"]["margin"] is None
    documented = set(re.findall(r"`([a-z0-9_]+)`", DOCS.read_text("utf-8").partition("## Fields")[2]))
    assert set(rows["support"]) - {"agent"} <= documented


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--human-usd-per-hour", "25"], "--human-usd-per-hour needs --human-tasks-per-hour"),
        (["--human-tasks-per-hour", "5"], "--human-tasks-per-hour needs --human-usd-per-hour"),
        (["--human-usd-per-hour", "25", "--human-tasks-per-hour", "0"], "--human-tasks-per-hour is 0"),
        (["--human-usd-per-hour", "much", "--human-tasks-per-hour", "5"], "--human-usd-per-hour: 'much'"),
        (["--value-usd", "inf"], "--value-usd"),
        (["--accept-after", "soon"], "--accept-after 'soon' is no span of time"),
        (["--by", "agnet"], "did you mean 'agent'?"),
        (["--by", "day"], "'day' is nothing to tell economics by"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, path, words, told):
    """The sentence names the option and what would be right."""
    code, out, err = finops("economics", *words, "--ledger", path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err


def test_an_empty_ledger_and_an_empty_period_say_so(finops, path, tmp_path):
    """No table of nothing; programs get an empty array."""
    open_ledger(tmp_path / "new.db").close()
    assert "is empty" in finops("economics", "--ledger", tmp_path / "new.db")[1]
    assert finops("economics", "--ledger", tmp_path / "new.db", "--format", "json") == (0, "[]\n", "")
    assert finops("economics", "--ledger", path, "--until", "2020-01-01")[1].startswith("No task began, until 2020")


def test_names_run_nothing(finops, tmp_path):
    """An agent called like a formula, one with every kind of character: no formula, no markup, no moved cursor."""
    file = tmp_path / "ledger.db"
    ledger = open_ledger(file)
    for number, name in enumerate(["=HYPERLINK(1)", "\U0001f9ea\u202e\x1b[2J", "[red]x"]):
        ledger.write(a_call(str(number), agent_id=name, task_id=str(number)))
    ledger.close()
    out = finops("economics", "--ledger", file, "--format", "csv")[1]
    assert "\n'=HYPERLINK(1)," in out
    out = finops("economics", "--ledger", file)[1]
    assert "\x1b" not in out
    assert "[red]x" in out


def test_outcomes_are_imported_and_change_the_figures(finops, path, tmp_path):
    """A reopened ticket turns its success into a failure; a second import changes nothing; a dry run nothing at all."""
    file = tmp_path / "reopened.csv"
    at = (NOW + timedelta(days=1)).isoformat()
    file.write_text(f"task_id,success,at\ns0,false,{at}\nnobody,true,{at}\n", "utf-8")

    assert finops("outcomes", "import", file, "--dry-run")[1] == f"{file}: 2 outcomes, no fault. Nothing was written.\n"
    code, out, err = finops("outcomes", "import", file, "--ledger", path)
    assert (code, out.startswith("2 outcomes new, 1 of them revising another, 0 there already")) == (0, True)
    assert err.startswith("Warning: no call names the task of 1 outcome, such as 'nobody'")
    assert finops("outcomes", "import", file, "--ledger", path)[1].startswith("0 outcomes new, 0 of them")
    rows = json.loads(finops("economics", "--ledger", path, "--format", "json")[1])
    assert {row["agent"]: (row["successes"], row["reopened"]) for row in rows} == {"support": (9, 1), "looper": (10, 0)}


def test_a_wrong_file_changes_nothing(finops, path, tmp_path):
    """Every fault on a line of its own, and not one outcome written."""
    file = tmp_path / "x.jsonl"
    file.write_text('{"task_id":"s0","success":false,"at":"2026-01-01"}\n{"task_id"\n{"success":1}', "utf-8")
    code, out, err = finops("outcomes", "import", file, "--ledger", path)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 3
    assert "x.jsonl:2: is no JSON" in err
    assert len(list(open_ledger(path).outcomes(history=True))) == 20
    code, _, err = finops("outcomes", "import", tmp_path / "none.csv", "--ledger", path)
    assert (code, err) == (
        2,
        f"Error: {tmp_path / 'none.csv'}: there is no such file; name a CSV or JSONL file of outcomes.\n",
    )
