"""`finops export`, as a user meets it."""

import csv
import json
import re
import signal
import subprocess
import sys
from decimal import Decimal
from urllib.request import urlopen

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge


@pytest.fixture
def finops(capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def path(tmp_path):
    """Two priced calls on two days, one unpriced call, and a tool without a card."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(a_call("1", usd="0.25"), a_call("2", usd="0.5", started_at=MONDAY + DAY), a_call("3", usd=None))
    ledger.write(a_charge("h", usd=None))
    ledger.close()
    return tmp_path / "ledger.db"


def test_calls_are_written_and_said_on_stderr(finops, path, tmp_path):
    """Nothing on stdout; the period is kept."""
    code, out, err = finops("export", "calls", "--out", tmp_path / "c.csv", "--ledger", path, "--since", "2026-03-03")
    assert (code, out) == (0, "")
    assert err.startswith(f"Wrote 1 call to {tmp_path / 'c.csv'}, from ")
    with (tmp_path / "c.csv").open(encoding="utf-8") as file:
        assert [row["call_id"] for row in csv.DictReader(file)] == ["2"]


@pytest.mark.parametrize(("kind", "count"), [("charges", 1), ("runs", 0), ("outcomes", 0)])
def test_every_kind_is_written(finops, path, tmp_path, kind, count):
    """As JSON lines."""
    code, _, _ = finops("export", kind, "--out", tmp_path / "file.jsonl", "--ledger", path)
    lines = (tmp_path / "file.jsonl").read_text("utf-8").splitlines()
    assert (code, len(lines)) == (0, count)
    assert all(json.loads(line) for line in lines)


def test_focus_tells_what_it_leaves_out_and_that_the_sums_agree(finops, path, tmp_path):
    """Unpriced calls with their tokens, unpriced charges, and the sums to the last digit."""
    words = ["export", "focus", "--version", "1.4", "--out", tmp_path / "f.csv", "--ledger", path]
    code, out, err = finops(*words)
    assert (code, out) == (0, "")
    assert "Warning: 1 call of 120 tokens without a known price: not in" in err
    assert "Warning: 1 charge without a known price" in err
    assert "Wrote 2 rows of 3 calls and 1 charge to" in err
    assert "ListCost 0.75, ContractedCost 0.75, BilledCost 0.75 USD; the ledger's sums are the same." in err
    with (tmp_path / "f.csv").open(encoding="utf-8") as file:
        assert sum(Decimal(row["BilledCost"]) for row in csv.DictReader(file)) == Decimal("0.75")


def test_folded_days_are_told_with_the_amount(finops, path, tmp_path):
    """A file that is short of the ledger's sums says by how much."""
    finops("prune", "--before", "2026-03-03", "--ledger", path)
    err = finops("export", "focus", "--version", "1.2", "--out", tmp_path / "f.csv", "--ledger", path)[2]
    assert "the ledger's sums are more by ListCost 0.25, ContractedCost 0.25, BilledCost 0.25: folded" in err
    assert "the same" not in err
    err = finops("export", "calls", "--out", tmp_path / "c.csv", "--ledger", path)[2]
    assert "the ledger's sums count 2 calls more, folded by `finops prune`" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["calls", "--out", "calls.txt"], "calls.txt has no ending that tells its format"),
        (["focus", "--version", "1.4", "--out", "focus.jsonl"], "focus.jsonl has no ending that tells its format"),
        (["focus", "--version", "1.5", "--out", "focus.csv"], "--version '1.5' is none that can be written"),
        (["focus", "--version", "1.4", "--out", "focus.csv", "--shares", "none.yaml"], "none.yaml: there is no such"),
        (["focus", "--version", "1.4", "--out", "focus.csv", "--billing-account", ""], "--billing-account is empty"),
        (["calls", "--out", "calls.csv", "--since", "yesterday"], "--since 'yesterday' is no time"),
        (["calls", "--out", "no/calls.csv"], "there is no folder"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, path, monkeypatch, words, told):
    """And no file is made."""
    monkeypatch.chdir(path.parent)
    before = set(path.parent.iterdir())
    code, out, err = finops("export", *words, "--ledger", path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err
    assert set(path.parent.iterdir()) == before


def test_export_alone_shows_its_commands(finops):
    """A question, not an error."""
    code, out, _ = finops("export")
    assert code == 0
    assert "focus" in out


def test_prometheus_serves_until_ctrl_c(path):
    """The address is said on stderr; Ctrl-C is the ordinary end."""
    command = "from langchain_finops.cli.finops import main; main()"
    words = [sys.executable, "-c", command, "export", "prometheus", "--port", "0", "--ledger", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        (url,) = re.findall(r"Serving (http://127\.0\.0\.1:\d+/metrics) from ", line)
        with urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.stdout.read() == ""
    assert "finops_calls_unpriced_total" in text


def test_the_dashboard_is_written_whole(finops, tmp_path):
    """As Grafana imports it; another ending is refused."""
    assert finops("export", "grafana", "--out", tmp_path / "d.json")[0] == 0
    assert json.loads((tmp_path / "d.json").read_text("utf-8"))["panels"]
    code, _, err = finops("export", "grafana", "--out", tmp_path / "d.txt")
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_wrong_policy_file_is_told_at_once(finops, path, tmp_path):
    """And not at some scrape."""
    (tmp_path / "wrong.yaml").write_text("budgets: [{usd: x}]", "utf-8")
    code, out, err = finops("export", "prometheus", "--policy", tmp_path / "wrong.yaml", "--ledger", path)
    assert (code, out) == (2, "")
    assert "wrong.yaml" in err


def test_the_ledger_is_never_replaced_by_its_export(finops, path, tmp_path):
    """Whatever it is called."""
    ledger = path.rename(tmp_path / "ledger.csv")
    before = ledger.read_bytes()
    for words in (["calls"], ["focus", "--version", "1.4"]):
        code, _, err = finops("export", *words, "--out", ledger, "--ledger", ledger)
        assert (code, err) == (2, f"Error: --out {ledger} is the ledger itself: name another file.\n")
    assert ledger.read_bytes() == before


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("pyarrow.parquet", ["calls", "--out", "calls.parquet"], "focus"),
        ("pyarrow.parquet", ["focus", "--version", "1.4", "--out", "focus.parquet"], "focus"),
        ("prometheus_client", ["prometheus"], "prometheus"),
    ],
)
def test_a_missing_extra_is_named_with_its_pip_line(finops, path, monkeypatch, module, words, extra):  # noqa: PLR0917
    """One sentence, exit 2, no file."""
    monkeypatch.chdir(path.parent)
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = finops("export", *words, "--ledger", path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"pip install 'langchain-finops[{extra}]'" in err
    assert not list(path.parent.glob("*.parquet"))
