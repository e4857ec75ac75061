"""`finops insight` and `finops changes`, as a user meets them."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.insight import FIELDS, FINDINGS
from langchain_finops.testing.records import a_call

NOW = datetime.now(UTC)


@pytest.fixture
def path(tmp_path):
    """$1 ten days ago, $3 yesterday, $2 of it a second try."""
    file = tmp_path / "ledger.db"
    ledger = open_ledger(file)
    ledger.write(
        a_call("1", usd="1", agent_id="=a\x1b[2J", started_at=NOW - timedelta(days=10)),
        a_call("2", usd="1", agent_id="=a\x1b[2J", started_at=NOW - timedelta(days=1), step=1, attempt=1),
        a_call("3", usd="2", agent_id="=a\x1b[2J", started_at=NOW - timedelta(days=1), step=1, attempt=2),
    )
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


def test_the_summary_names_every_finding_and_the_rows_are_behind_it(finops, path):
    """Names run nothing; JSON is one array."""
    code, out, err = finops("insight", "--ledger", path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    rows = {row["finding"]: row for row in json.loads(finops("insight", "--ledger", path, "--format", "json")[1])}
    assert tuple(rows) == FINDINGS
    assert (rows["retries"]["cost_usd"], rows["retries"]["share"]) == ("2", 0.5)
    out = finops("insight", "retries", "--ledger", path, "--format", "csv")[1]
    assert out.splitlines()[0] == ",".join(FIELDS["retries"])
    assert out.splitlines()[1].startswith("'=a")


@pytest.mark.parametrize("name", FINDINGS)
def test_every_finding_has_a_table(finops, path, name):
    """Or a sentence where there is nothing."""
    code, out, err = finops("insight", name, "--ledger", path)
    assert (code, err) == (0, "")
    assert out


def test_a_change_is_split(finops, path):
    """$1 to $3: the parts add up."""
    words = ["changes", "--before", "14d..7d", "--after", "7d..", "--by", "total", "--ledger", path]
    (row,) = json.loads(finops(*words, "--format", "json")[1])
    assert (row["before_usd"], row["after_usd"], row["change_usd"]) == ("1", "3", "2")
    assert "+$2.0000" in finops(*words)[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["insight", "waste"], "'waste' is no finding: choose from anomalies"),
        (["changes", "--before", "7d", "--after", "7d.."], "--before '7d' is no period"),
        (["changes", "--before", "1d..7d", "--after", "7d.."], "--before '1d..7d' is no period: it ends"),
        (["changes", "--before", "14d..7d", "--after", "x..y"], "--after 'x' is no time"),
        (["changes", "--before", "14d..7d", "--after", "7d..", "--by", "dya"], "'dya' is nothing"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, path, words, told):
    """The sentence names the option and what would be right."""
    code, out, err = finops(*words, "--ledger", path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err
