"""The `finops` command, as a user meets it."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.spill import Spill
from langchain_finops.ledger.totals import DIMENSIONS
from langchain_finops.records import Attribution, CallRecord
from langchain_finops.usage import Usage

NOW = datetime.now(UTC)
DOCS = Path(__file__).parents[2] / "docs" / "finops.md"


def call(number: int, usd: str | None, *, at: datetime = NOW, **who: str) -> CallRecord:
    return CallRecord(
        call_id=f"call-{number}",
        run_id=f"run-{number}",
        invocation_id=f"run-{number}",
        attribution=Attribution(**who),
        model="gpt-4.1-mini",
        provider="openai",
        usage=Usage(input_tokens=100, output_tokens=10),
        cost_usd=None if usd is None else Decimal(usd),
        cost_status="unpriced" if usd is None else "exact",
        started_at=at,
        ended_at=at + timedelta(seconds=1),
    )


@pytest.fixture
def path(tmp_path):
    """A ledger file with three calls of two agents."""
    file = tmp_path / "ledger.db"
    ledger = open_ledger(file)
    ledger.write(
        call(1, "0.30", agent_id="support", user_id="u-1", task_id="t-1", node_path="plan"),
        call(2, "0.10", agent_id="support", user_id="u-1", task_id="t-2", node_path="act"),
        call(3, "0.20", agent_id="sales", user_id="u-2", task_id="t-3", at=NOW - timedelta(days=10)),
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


def rows(out: str) -> list[dict[str, object]]:
    return json.loads(out)


# --- report ---------------------------------------------------------------------------------------------------------


def test_report_shows_agents_without_any_argument(finops, path, monkeypatch):
    """`finops report` alone is useful: it reads $FINOPS_LEDGER and sums by agent."""
    monkeypatch.setenv("FINOPS_LEDGER", str(path))
    code, out, err = finops("report")

    assert (code, err) == (0, "")
    assert re.search(r"^support\s+2 .*\$0\.4000", out, re.MULTILINE)
    assert re.search(r"^total\s+3 .*\$0\.6000", out, re.MULTILINE)


def test_json_is_exactly_one_array_of_exact_rows(finops, path):
    """Nothing but JSON on stdout; amounts are exact decimal strings."""
    code, out, err = finops("report", "--by", "agent,node", "--format", "json", "--ledger", path)

    assert (code, err) == (0, "")
    found = {(row["agent"], row["node"]): row["cost_usd"] for row in rows(out)}
    assert found == {("support", "plan"): "0.3", ("support", "act"): "0.1", ("sales", None): "0.2"}


@pytest.mark.parametrize(
    ("words", "cost"),
    [
        (["--agent", "support"], "0.4"),
        (["--user", "u-2"], "0.2"),
        (["--task", "t-1"], "0.3"),
        (["--node", "act"], "0.1"),
        (["--model", "gpt-4.1-mini"], "0.6"),
        (["--since", "7d"], "0.4"),
        (["--until", "1w"], "0.2"),
        (["--since", "2020-01-01", "--until", "2020-01-02T12:00+02:00"], None),
    ],
)
def test_report_filters(finops, path, words, cost):
    """Each option keeps what it names."""
    code, out, _ = finops("report", "--by", "total", *words, "--format", "json", "--ledger", path)

    assert code == 0
    assert [row["cost_usd"] for row in rows(out)] == ([] if cost is None else [cost])


def test_an_empty_ledger_says_so_and_exits_0(finops, tmp_path):
    """Nothing recorded is no error; programs get an empty array."""
    open_ledger(tmp_path / "new.db").close()

    code, out, err = finops("report", "--ledger", tmp_path / "new.db")
    assert (code, err) == (0, "")
    assert "is empty" in out
    assert "callbacks=[FinOpsHandler()]" in out
    assert finops("report", "--format", "json", "--ledger", tmp_path / "new.db") == (0, "[]\n", "")


def test_a_selection_without_matches_names_itself(finops, path):
    """The user sees what was asked for, not an empty table."""
    code, out, _ = finops("report", "--agent", "nobody", "--since", "7d", "--ledger", path)

    assert code == 0
    assert out.startswith("No calls or charges match: agent nobody, since 7d, in ")


@pytest.mark.parametrize(
    "words", [["report"], ["outcome", "t", "--success"], ["forget", "u"], ["prune", "--before", "1d"], ["recover"]]
)
@pytest.mark.parametrize("by_url", [True, False])
def test_a_ledger_that_is_not_there_is_an_error_and_not_made(finops, tmp_path, words, by_url):
    """A mistyped path is told with the remedy; no command leaves an empty file in its place."""
    missing = tmp_path / "nowhere" / "ledger.db"
    code, out, err = finops(*words, "--ledger", f"sqlite:///{missing}" if by_url else missing)

    assert (code, out) == (2, "")
    assert err.startswith(f"Error: no ledger at {missing}")
    assert "--ledger" in err
    assert len(err.splitlines()) == 1
    assert not missing.parent.exists()


def test_without_any_ledger_the_default_place_is_named(finops):
    """A user who never ran a graph learns where the ledger would be and what makes one."""
    code, _, err = finops("report")

    assert code == 2
    assert os.environ["XDG_DATA_HOME"] in err
    assert "FinOpsHandler" in err


def test_a_file_that_is_no_ledger_is_told(finops, tmp_path):
    """Another file is named as what it is not, and left as it was."""
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but long enough to look like one\n" * 100)

    code, out, err = finops("report", "--ledger", other)

    assert (code, out) == (2, "")
    assert str(other) in err
    assert "Traceback" not in err
    assert other.read_text().startswith("not a database")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--by", "agnet"], "'agnet'"),
        (["--by", ""], "--by"),
        (["--since", "last week"], "--since 'last week' is no time: write 7d, 24h, 2w, 2026-01-31"),
        (["--until", "2026-13-01"], "--until"),
        (["--since", "999999w"], "--since"),
        (["--since", "1d", "--until", "2d"], "--since 1d is not before --until 2d"),
        (["--format", "xml"], "--format"),
        (["--sinc", "7d"], "--since"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(finops, path, words, told):
    """The sentence names the option and what would be right."""
    code, out, err = finops("report", *words, "--ledger", path)

    assert (code, out) == (2, "")
    assert told in err
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 1


def test_debug_shows_the_traceback(finops, path):
    """Only --debug, wherever it stands, shows where an error came from."""
    for words in (["--debug", "report", "--by", "x"], ["report", "--by", "x", "--debug"]):
        code, _, err = finops(*words, "--ledger", path)
        assert code == 2
        assert "Traceback" in err
        assert "BadArguments" in err


# --- outcome --------------------------------------------------------------------------------------------------------


def test_an_outcome_shows_in_the_next_report(finops, path):
    """Say what became of a task, and the report has its cost per success."""
    code, out, err = finops(
        "outcome", "t-1", "--success", "--value-usd", "5.10", "--score", "0.5", "--reason", "solved",
        "--judged-by", "anna", "--ledger", path,
    )  # fmt: skip
    assert (code, out, err) == (0, "Task 't-1': success.\n", "")

    (kept,) = open_ledger(path).outcomes()
    assert (kept.task_id, kept.success, kept.value_usd, kept.score) == ("t-1", True, Decimal("5.10"), 0.5)
    assert (kept.reason, kept.judged_by, kept.revision, kept.supersedes) == ("solved", "anna", 0, None)
    _, out, _ = finops("report", "--by", "total", "--agent", "support", "--format", "json", "--ledger", path)
    (row,) = rows(out)
    assert (row["judged"], row["successes"], row["cost_per_success_usd"]) == (1, 1, "0.4")


def test_the_last_word_counts_and_the_earlier_stays(finops, path):
    """A revised outcome says what it was; the history keeps both."""
    finops("outcome", "t-1", "--success", "--ledger", path)
    code, out, _ = finops("outcome", "t-1", "--failure", "--ledger", path)

    assert (code, out) == (0, "Task 't-1': failure, was success.\n")
    ledger = open_ledger(path)
    assert [(kept.success, kept.supersedes) for kept in ledger.outcomes(history=True)] == [(True, None), (False, 0)]
    assert [kept.success for kept in ledger.outcomes()] == [False]


def test_an_outcome_of_an_unknown_task_is_kept_with_a_warning(finops, path):
    """The calls may come later; a typing error should not pass unseen."""
    code, out, err = finops("outcome", "t-99", "--failure", "--ledger", path)

    assert (code, out) == (0, "Task 't-99': failure.\n")
    assert err.startswith("Warning: no call names task 't-99'")


def test_a_task_whose_calls_were_pruned_is_known(finops, path):
    """Its outcome may come late; its calls are then in the daily sums alone."""
    finops("prune", "--before", "7d", "--ledger", path)
    assert finops("outcome", "t-3", "--success", "--ledger", path) == (0, "Task 't-3': success.\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--success or --failure"),
        (["--success", "--value-usd", "five"], "--value-usd: 'five' is not an amount of money"),
        (["--success", "--value-usd", "nan"], "--value-usd"),
        (["--success", "--score", "7"], "--score"),
        (["--success", "--score", "nan"], "--score"),
    ],
)
def test_a_bad_outcome_changes_nothing(finops, path, words, told):
    """Half an outcome is refused with the remedy."""
    code, _, err = finops("outcome", "t-1", *words, "--ledger", path)

    assert code == 2
    assert told in err
    assert list(open_ledger(path).outcomes()) == []


# --- forget, prune, recover -----------------------------------------------------------------------------------------


def test_forget_unlinks_a_person_and_keeps_the_cost(finops, path):
    """Costs stay, whose they were does not."""
    code, out, _ = finops("forget", "u-1", "--ledger", path)

    assert code == 0
    assert re.match(r"Unlinked \d+ records from user 'u-1', in ", out)
    assert {found.attribution.user_id for found in open_ledger(path).calls()} == {None, "u-2"}
    _, out, _ = finops("report", "--by", "total", "--format", "json", "--ledger", path)
    assert rows(out)[0]["cost_usd"] == "0.6"
    assert finops("forget", "u-1", "--ledger", path)[1].startswith("No record names user 'u-1'")


def test_prune_folds_what_is_old_and_reports_go_on_counting_it(finops, path):
    """The call of ten days ago leaves the list, not the sums."""
    code, out, _ = finops("prune", "--before", "7d", "--ledger", path)

    assert code == 0
    assert out.startswith("Folded 1 record from before ")
    assert len(list(open_ledger(path).calls())) == 2
    _, out, _ = finops("report", "--by", "total", "--format", "json", "--ledger", path)
    assert (rows(out)[0]["cost_usd"], rows(out)[0]["calls"]) == ("0.6", 3)
    assert finops("prune", "--before", "7d", "--ledger", path)[1].startswith("Nothing is from before ")


def test_recover_without_a_spill_file_has_nothing_to_do(finops, path):
    """It says so and exits 0."""
    code, out, _ = finops("recover", "--ledger", path)
    assert (code, out[:18]) == (0, "Nothing to recover")


def test_what_was_spilled_is_told_and_recovered(finops, path):
    """Records that the ledger could not take are missing from a report: it says so, and `recover` brings them in."""
    Spill(path).append([call(9, "0.50", agent_id="support")])

    code, out, err = finops("report", "--by", "total", "--format", "json", "--ledger", path)
    assert (code, rows(out)[0]["cost_usd"]) == (0, "0.6")
    assert re.match(r"Warning: records in \S+spill.jsonl are not counted yet: run `finops recover`", err)

    assert finops("recover", "--ledger", path)[1].startswith("Recovered 1 record, in ")
    code, out, err = finops("report", "--by", "total", "--format", "json", "--ledger", path)
    assert (rows(out)[0]["cost_usd"], err) == ("1.1", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "--ledger", ""], "--ledger is empty: name a file"),
        (["forget", "", "--ledger", "PATH"], "USER is empty"),
        (["outcome", " ", "--success", "--ledger", "PATH"], "TASK is empty"),
    ],
)
def test_an_empty_name_chooses_nothing_else(finops, path, monkeypatch, words, told):
    """A script's variable that is not set neither falls back to another ledger nor names nobody."""
    monkeypatch.setenv("FINOPS_LEDGER", str(path))
    code, out, err = finops(*(path if word == "PATH" else word for word in words))

    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {told}")
    assert list(open_ledger(path).outcomes()) == []


def test_prune_refuses_a_day_to_come(finops, path):
    """A mistyped year must not fold what is being written; up to now is fine, and folds days that have ended."""
    code, out, err = finops("prune", "--before", f"{NOW.year + 1}-01-31", "--ledger", path)

    assert (code, out) == (2, "")
    assert err.startswith(f"Error: --before {NOW.year + 1}-01-31 lies ahead: ")
    assert len(list(open_ledger(path).calls())) == 3
    began = [each.started_at for each in open_ledger(path).calls()]
    out = finops("prune", "--before", "0d", "--ledger", path)[1]
    midnight = datetime.fromisoformat(re.search(r"before (\d{4}-\d\d-\d\d)", out)[1]).replace(tzinfo=UTC)
    assert midnight.date() in {NOW.date(), datetime.now(UTC).date()}  # The suite may run across midnight.
    ended = sum(at < midnight for at in began)
    assert out.startswith(f"Folded {ended} record")


# --- the command line itself ----------------------------------------------------------------------------------------


def documented() -> dict[str, str]:
    """Help texts in docs/finops.md, by the command they are of."""
    blocks = re.findall(r"```text\n\$ (finops[ a-z]*) --help\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return dict(blocks)


def plain(text: str) -> str:
    """Its words, without the marks and line ends that versions of typer set differently."""
    return " ".join(re.sub(r"[{}\\]| <[\w\[\]]+>|\[required\]|[\[\]]|\.\.\.", "", text).split())


def commands(of=app, name="finops"):
    """Every command there is, groups and what is in them included."""
    yield name
    yield from (f"{name} {each.name}" for each in of.registered_commands)
    for group in of.registered_groups:
        named = group.name if isinstance(group.name, str) else group.typer_instance.info.name
        yield from commands(group.typer_instance, f"{name} {named}")


@pytest.mark.parametrize("command", list(commands()))
def test_documented_help_is_the_help(finops, monkeypatch, command):
    """docs/finops.md shows each command's help as it is at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    code, out, _ = finops(*command.split()[1:], "--help")

    assert code == 0
    assert plain(out) == plain(documented()[command])
    assert all(len(line) <= 80 for line in out.splitlines())


def test_help_names_every_dimension(finops):
    """What `--by` takes is what ledgers can sum by."""
    (words,) = re.findall(r"with commas: (.*?); or total", " ".join(finops("report", "--help")[1].split()))
    assert set(words.split(", ")) == set(DIMENSIONS)


def test_no_arguments_show_the_help(finops):
    """`finops` alone is a question, not an error."""
    code, out, err = finops()
    assert (code, err) == (0, "")
    assert "report" in out


def test_version(finops):
    """`finops --version` names the package and its version."""
    code, out, _ = finops("--version")
    assert code == 0
    assert re.fullmatch(r"langchain-finops \d+\.\d+\.\d+\S*\n", out)


HEAVY = ("langgraph", "langchain_core", "langsmith", "pandas", "numpy", "scipy", "sqlalchemy", "genai_prices", "rich")


def test_starting_loads_nothing_heavy():
    """Help and completion are quick: nothing that they import loads LangGraph, pandas or SQLAlchemy."""
    code = (
        "import sys, typer; before = set(sys.modules);"  # Older versions of typer load rich by themselves.
        "from langchain_finops.cli.common import run; from langchain_finops.cli.finops import app;"
        "run(app, 'finops', ['--help']); run(app, 'finops', ['report', '--help']);"
        f"print([name for name in {HEAVY} if name in sys.modules and name not in before], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_installed_command_reports_and_survives_a_closed_pipe(path):
    """`finops report | head -1` ends without noise, and the entry point exits with the command's code."""
    command = "from langchain_finops.cli.finops import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", command, "report", "--ledger", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
    done = subprocess.run([sys.executable, "-c", command, "report", "--by", "x"], capture_output=True, check=False)
    assert done.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("output_format", ["table", "json"])
def test_a_full_disk_is_one_sentence(path, output_format):
    """`finops report > FILE` where there is no room says so, and the shutdown adds nothing."""
    command = "from langchain_finops.cli.finops import main; main()"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", command, "report", "--format", output_format, "--ledger", str(path)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "Error: The output could not be written: No space left on device. Make room, or write it elsewhere.\n",
    )
