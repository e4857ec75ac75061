"""`finops import` and `finops reconcile`, as a user meets them."""

import json
from datetime import UTC, datetime

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.testing.records import a_call

START = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())


@pytest.fixture
def bill(tmp_path):
    """$0.25 of one model on one day."""
    result = {"amount": {"value": 0.25, "currency": "usd"}, "line_item": "gpt-4.1-mini, input", "project_id": "=p"}
    page = {"data": [{"start_time": START, "end_time": START + 86_400, "results": [result]}], "has_more": False}
    (tmp_path / "costs.json").write_text(json.dumps(page), "utf-8")
    return tmp_path / "costs.json"


@pytest.fixture
def finops(capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_a_bill_is_imported_once_into_a_new_ledger(finops, bill, tmp_path):
    """The table has the unallocated row; a second import says that all is there."""
    words = ["import", "openai", bill, "--ledger", tmp_path / "new.db"]
    code, out, err = finops(*words)
    assert (code, err) == (0, "")
    assert "unallocated" in out
    assert "1 new, 0 corrected, 0 there already." in out
    assert "0 new, 0 corrected, 1 there already." in finops(*words)[1]
    assert "\n'=p," in finops(*words, "--format", "csv")[1]
    rows = json.loads(finops("report", "--ledger", tmp_path / "new.db", "--format", "json")[1])
    assert [(row["agent"], row["cost_usd"]) for row in rows] == [(None, "0.25")]


def test_reconcile_exits_0_1_and_2(finops, bill, tmp_path):
    """Agrees, differs, could not run."""
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    ledger.write(a_call("1", usd="0.25"))
    ledger.close()
    code, out, err = finops("reconcile", bill, "--by", "day,model", "--ledger", path)
    assert (code, err) == (0, "")
    assert "agrees" in out
    code, out, _ = finops("reconcile", bill, "--ledger", path, "--format", "json")
    assert code == 1
    assert {row["what"] for row in json.loads(out)} == {"only in the file", "only in the ledger"}  # The project.
    assert finops("reconcile", bill, "--ledger", tmp_path / "none.db")[0] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["import", "azure", "costs.json"], "'azure' is nothing to import"),
        (["import", "openai", "none.json"], "none.json: there is no such file"),
        (["reconcile", "none.json"], "none.json: there is no such file"),
        (["reconcile", "none.json", "--tolerance", "-1"], "--tolerance is -1"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, tmp_path, words, told):
    """And no ledger is made."""
    code, out, err = finops(*words, "--ledger", tmp_path / "new.db")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "new.db").exists()


def test_a_half_written_file_makes_no_ledger_and_imports_nothing(finops, bill, tmp_path):
    """One clear error."""
    bill.write_text(bill.read_text("utf-8")[:-30], "utf-8")
    code, out, err = finops("import", "openai", bill, "--ledger", tmp_path / "new.db")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "is the file whole?" in err
    assert not (tmp_path / "new.db").exists()
