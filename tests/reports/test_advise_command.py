"""`finops advise`, as a user meets it."""

import csv
import io
import json
import shlex
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.advise import FIELDS, KINDS
from langchain_finops.testing.records import a_call, an_outcome
from langchain_finops.usage import Usage

DOCS = Path(__file__).parents[2] / "docs" / "advise.md"
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def fill(file, agent="support"):
    """60 tasks each by gpt-4.1 at $0.006 and gpt-4.1-mini at $0.0012; 60 words of a router, by gpt-4.1 at $0.000408."""
    ledger = open_ledger(file)
    for number in range(60):
        at = NOON + timedelta(minutes=number**2)
        for model, usd in (("gpt-4.1", "0.006"), ("gpt-4.1-mini", "0.0012")):
            task = f"{model}-{number}"
            who = {"agent_id": agent, "user_id": "u", "task_id": task, "run_id": task, "started_at": at}
            usage = Usage(input_tokens=1000, output_tokens=500)
            ledger.write(
                a_call(task, usd=usd, model=model, usage=usage, node_path="answer", **who),
                an_outcome(task, success=number < 57),
            )
        usage = Usage(input_tokens=200, output_tokens=1)
        ledger.write(
            a_call(f"r{number}", usd="0.000408", model="gpt-4.1", usage=usage, node_path="route", **who)
        )  # fmt: skip
    ledger.close()
    return file


@pytest.fixture
def path(tmp_path):
    return fill(tmp_path / "ledger.db")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """No policy file of the machine's is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINOPS_POLICY", raising=False)


@pytest.fixture
def finops(capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_json_is_one_array_with_exact_amounts(finops, path):
    """60 times $0.0048 is $0.288, in one day or two as the minutes squared go: three days."""
    code, out, err = finops("advise", "--ledger", path, "--format", "json")
    assert (code, err) == (0, "")
    cheaper, small = json.loads(out)
    assert tuple(cheaper) == tuple(small) == FIELDS
    assert (cheaper["n"], cheaper["kind"], cheaper["saving_usd"], cheaper["days"]) == (1, "cheaper_model", "0.288", 3)
    assert cheaper["usd_per_month"] == cheaper["adds_usd_per_month"] == "2.88"
    assert cheaper["evidence"][1]["model"] == "gpt-4.1-mini"
    assert cheaper["change"] == small["change"] == {"provider": "openai", "model": "gpt-4.1-mini"}
    assert (small["kind"], small["saving_usd"]) == ("small_answers", str(60 * Decimal("0.000408") * 4 / 5))


def test_the_command_that_shows_more_runs(finops, path):
    """What `see` says, with the ledger named."""
    for row in json.loads(finops("advise", "--ledger", path, "--format", "json")[1]):
        program, *words = shlex.split(row["see"])
        code, out, err = finops(*words, "--ledger", path)
        assert (program, code, err) == ("finops", 0, "")
        assert out


def test_what_the_documentation_shows_is_what_is_printed(finops, tmp_path, monkeypatch):
    """The example of docs/advise.md, at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HOME", str(tmp_path))
    out = finops("advise", "--ledger", fill(tmp_path / "ledger.db"))[1]
    assert f"$ finops advise --ledger ledger.db\n{out}```" in DOCS.read_text(encoding="utf-8")
    assert all(len(line) <= 80 for line in out.splitlines())


def test_every_kind_is_documented():
    """The page defines each finding by its name."""
    text = DOCS.read_text(encoding="utf-8")
    assert all(f"| `{kind}` |" in text for kind in KINDS)


def test_names_run_nothing(finops, tmp_path):
    """Not in a terminal, not in a spreadsheet."""
    file = fill(tmp_path / "odd.db", agent="=a\x1b[2J'; rm -rf /")
    out = finops("advise", "--ledger", file)[1]
    assert "\x1b" not in out
    rows = list(csv.DictReader(io.StringIO(finops("advise", "--ledger", file, "--format", "csv")[1])))
    assert rows[0]["agent"].startswith("'=a")
    assert json.loads(rows[0]["evidence"])[0]["tasks"] == 60
    assert "\x1b" not in finops("advise", "--ledger", file, "--format", "markdown")[1]


def test_protected_nodes_come_from_options_and_the_policy_file(finops, path, tmp_path):
    """Both count; the footer says so."""
    code, out, _ = finops("advise", "--ledger", path, "--protect", "answer")
    assert (code, "cheaper model" in out, "small answers" in out) == (0, False, True)
    assert "Protected, and left as they are: answer." in out
    (tmp_path / "finops.yaml").write_text("protect: [route]\n", encoding="utf-8")
    assert "small answers" not in finops("advise", "--ledger", path)[1]
    code, out, _ = finops("advise", "--ledger", path, "--protect", "answer")
    assert (code, out.startswith("Nothing found that would be cheaper, all time")) == (0, True)
    assert json.loads(finops("advise", "--ledger", path, "--protect", "answer", "--format", "json")[1]) == []


def test_an_unpriced_ledger_is_no_clean_bill(finops, tmp_path):
    """The sentence says what could not be looked at."""
    ledger = open_ledger(tmp_path / "free.db")
    ledger.write(a_call("1", usd=None))
    ledger.close()
    code, out, _ = finops("advise", "--ledger", tmp_path / "free.db")
    assert code == 0
    assert "1 call without a known price left out" in out


def test_a_machine_is_asked_for_by_both_figures(finops, path):
    """At a price next to nothing it pays for each model."""
    words = ["advise", "--ledger", path, "--machine-usd-per-hour", "0.0001", "--machine-tokens-per-second", "1e6"]
    rows = json.loads(finops(*words, "--format", "json")[1])
    assert {row["model"] for row in rows if row["kind"] == "self_hosting"} == {"gpt-4.1", "gpt-4.1-mini"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--machine-usd-per-hour", "2"], "go together: give both"),
        (["--machine-usd-per-hour", "x", "--machine-tokens-per-second", "5"], "--machine-usd-per-hour: 'x' is not"),
        (["--machine-usd-per-hour", "2", "--machine-tokens-per-second", "0"], "--machine-tokens-per-second '0'"),
        (["--since", "soon"], "--since 'soon' is no time"),
        (["--policy", "none.yaml"], "is not there"),
        (["--protect", ""], "--protect is empty"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, path, words, told):
    """The sentence names the option and what would be right."""
    code, out, err = finops("advise", "--ledger", path, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err
