"""`finops allocate` and `finops close`, as a user meets them."""

import json
import re
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.allocation import read_allocation
from langchain_finops.testing.records import a_call

DOCS = Path(__file__).parents[2] / "docs" / "economics.md"


@pytest.fixture
def path(tmp_path):
    """$4 of an agent whose name a spreadsheet would run, in March 2026."""
    file = tmp_path / "ledger.db"
    ledger = open_ledger(file)
    ledger.write(a_call("1", usd="4", agent_id="support"), a_call("2", usd="1"))
    ledger.close()
    (tmp_path / "shares.yaml").write_text(
        'rules: [{where: {agent: support}, to: [{team: "=cx", share: 0.75}], remainder: {cost_centre: "9"}}]', "utf-8"
    )
    return file


@pytest.fixture
def finops(capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_teams_see_what_they_bear(finops, path):
    """Three quarters, the rest, and what no rule meets; formulas are neutralised."""
    words = ["allocate", path.parent / "shares.yaml", "--ledger", path, "--period", "2026-03", "--tz", "Europe/Berlin"]
    code, out, err = finops(*words)
    assert (code, err) == (0, "")
    assert re.search(r"^unallocated +\$1\.0000 +20\.0%", out, re.MULTILINE)
    rows = json.loads(finops(*words, "--format", "json")[1])
    assert [(row["team"], row["cost_centre"], row["cost_usd"]) for row in rows] == [
        ("=cx", None, "3"), (None, "9", "1"), (None, None, "1"),
    ]  # fmt: skip
    assert "\n'=cx,," in finops(*words, "--format", "csv")[1]
    assert finops("allocate", path.parent / "shares.yaml", "--ledger", path, "--until", "2020-01-01")[1].startswith(
        "No "
    )


def test_a_period_is_closed_and_shown(finops, path):
    """Once, twice, and the list; a fiscal quarter too."""
    assert finops("close", "--ledger", path)[1].startswith("No period is closed")
    assert finops("close", "2026-03", "--ledger", path)[1].startswith("2026-03 is closed at $5.0000")
    assert finops("close", "2026-03", "--ledger", path)[1].startswith("2026-03 was closed before, at $5.0000; nothing")
    ledger = open_ledger(path)
    ledger.write(a_call("late", usd="2"))
    ledger.close()
    assert finops("close", "2026-03", "--ledger", path)[1].startswith("2026-03 stays at $5.0000: $2.0000 came late")
    rows = json.loads(finops("close", "--ledger", path, "--format", "json")[1])
    assert [(row["period"], row["cost_usd"], row["now_usd"], row["adjusted_usd"]) for row in rows] == [
        ("2026-03", "5", "5", "2")
    ]
    code, out, _ = finops("close", "FY2026-Q4", "--fiscal-year-start", "4", "--ledger", path)
    assert (code, out.startswith("FY2026-Q4 is closed at $5.0000")) == (0, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["close", "9999-01"], "9999-01 is not over"),
        (["close", "march"], "'march' is no period"),
        (["close", ""], "PERIOD is empty"),
        (["close", "2026-03", "--tz", "Mars/Olympus"], "'Mars/Olympus' is no time zone"),
        (["close", "2026-03", "--fiscal-year-start", "13"], "--fiscal-year-start"),
        (["allocate", "none.yaml"], "none.yaml: there is no such file"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, path, words, told):
    """The sentence names the argument and what would be right."""
    code, out, err = finops(*words, "--ledger", path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err


def test_a_period_and_a_span_contradict(finops, path):
    """Either says from when until when."""
    words = ["--period", "2026-03", "--since", "7d", "--ledger", path]
    assert "--period says from when" in finops("allocate", path.parent / "shares.yaml", *words)[2]


def test_the_documented_file_is_one(tmp_path):
    """docs/economics.md shows a file of shares that is read as it stands."""
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (tmp_path / "shares.yaml").write_text(block, "utf-8")
    assert len(read_allocation(tmp_path / "shares.yaml").rules) >= 3
