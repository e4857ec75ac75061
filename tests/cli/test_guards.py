"""`finops kill`, `revive`, `kills`, `budget`, `policy` and `events`, as a person at a terminal meets them."""

import csv
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from langchain_finops.budgets.keys import balance_keys
from langchain_finops.budgets.outside import set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import kill
from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.holds import Line, Settlement
from langchain_finops.records import Attribution, CallRecord
from langchain_finops.usage import Usage

DOCS = Path(__file__).parents[2] / "docs" / "finops.md"
DAILY = Budget(usd=20, per="day", scope="agent_id")
_numbers = count()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty ledger that $FINOPS_LEDGER names, in a directory without a policy file."""
    file = tmp_path / "ledger.db"
    open_ledger(file).close()
    monkeypatch.setenv("FINOPS_LEDGER", str(file))
    monkeypatch.setenv("LOGNAME", "anna")
    monkeypatch.chdir(tmp_path)
    return file


@pytest.fixture
def finops(capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def spend(path):
    """Have a call settled, and perhaps another one in flight."""

    def settled(budget: Budget, who: Attribution, spent: int, held: int = 0, at: datetime | None = None) -> None:
        at = at or datetime.now(UTC)
        ledger = open_ledger(path)
        for limit in budget.limits():
            for key in balance_keys(limit, who, at, run_id="r-1"):
                ledger.settle(Settlement(record=call(who, at), amounts={key: spent}))
                if held:
                    ledger.hold(f"h-{next(_numbers)}", [Line(balance=key, amount=held)], at=at)
        ledger.close()

    return settled


def call(who: Attribution, at: datetime) -> CallRecord:
    return CallRecord(
        call_id=f"c-{next(_numbers)}",
        run_id="r-1",
        invocation_id="r-1",
        attribution=who,
        usage=Usage(input_tokens=1),
        started_at=at,
        ended_at=at,
    )


def usd(amount: str) -> int:
    return int(Decimal(amount) * 10**12)


def rows(finops, *words: object) -> list[dict[str, object]]:
    code, out, err = finops(*words, "--format", "json")
    assert (code, err) == (0, "")
    return json.loads(out)


# --- kill, revive, kills ---------------------------------------------------------------------------------------------


def test_kill_and_revive(finops, path):
    """Whose calls stop, since when and why is shown until they are let through again."""
    code, out, err = finops("kill", "--agent-id", "support", "--reason", "loops", "--now")
    assert (code, err) == (0, "")
    assert out == f"Killed agent 'support' until `finops revive`, in {path}\n"

    (row,) = rows(finops, "kills")
    assert {name: row[name] for name in ("scope", "value", "by", "reason", "until", "now", "holds")} == {
        "scope": "agent_id", "value": "support", "by": "anna", "reason": "loops", "until": None, "now": True,
        "holds": True,
    }  # fmt: skip
    code, out, err = finops("revive", "--agent-id", "support", "--by", "ben")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"Revived agent 'support', killed by anna at \S+ \S+ UTC, in .*\n", out)
    assert finops("kills") == (0, f"Nobody is killed, in {path}\n", "")
    assert rows(finops, "kills") == []


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--user-id", "u-1"], "user_id=u-1"),
        (["--task-id", "t-1"], "task_id=t-1"),
        (["--all"], "all"),
    ],
)
def test_whom_a_kill_names(finops, path, words, key):
    """One user, one task, or all."""
    finops("kill", *words)

    assert list(open_ledger(path).controls("kill")) == [key]


@pytest.mark.parametrize(("until", "span"), [("90s", 90), ("5m", 300), ("2h", 7_200), ("1d", 86_400), ("1w", 604_800)])
def test_a_kill_ends_in_a_while(finops, path, until, span):
    """A span counts from now on, not back."""
    before = datetime.now(UTC)
    finops("kill", "--all", "--until", until)

    ends = datetime.fromisoformat(rows(finops, "kills")[0]["until"])
    assert before + timedelta(seconds=span) <= ends <= datetime.now(UTC) + timedelta(seconds=span)


def test_a_kill_ends_at_a_time(finops, path):
    """A moment is UTC where it does not say."""
    finops("kill", "--all", "--until", "2099-01-31T12:00")

    assert rows(finops, "kills")[0]["until"] == "2099-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["kill"], "Whose calls? --agent-id, --user-id, --task-id or --all: none of them is given"),
        (["kill", "--all", "--agent-id", "x"], "give one at a time"),
        (["kill", "--agent-id", ""], "--agent-id is empty"),
        (["kill", "--all", "--until", "2020-01-01"], "--until 2020-01-01 has passed"),
        (["kill", "--all", "--until", "soon"], "--until 'soon' is no time"),
        (["kill", "--all", "--until", "0h"], "--until 0h has passed"),
        (["kill", "--all", "--by", " "], "--by is empty"),
        (["revive"], "Whose calls?"),
    ],
)
def test_a_kill_that_makes_no_sense_is_one_sentence(finops, path, words, told):
    """It exits 2, says what would be right, and changes nothing."""
    code, out, err = finops(*words)

    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
    assert list(open_ledger(path).events()) == []


def test_reviving_one_says_that_all_are_still_killed(finops, path):
    """Whoever revives an agent and sees it refused knows why."""
    finops("kill", "--all")
    code, out, err = finops("revive", "--agent-id", "support")

    assert code == 0
    assert out.startswith("Nothing to revive: `finops kills` shows no kill of agent 'support', in ")
    assert err.startswith("Warning: all calls are still killed")


def test_a_kill_that_has_run_out_is_shown_as_ended(finops, path):
    """It stops nobody, and stays until somebody revives it."""
    ledger = open_ledger(path)
    kill(ledger, "all", until=datetime.now(UTC) + timedelta(microseconds=200_000))
    ledger.set_control(
        "kill", "all", {**ledger.controls("kill")["all"], "until": "2026-01-01T00:00:00+00:00"}, _event()
    )
    ledger.close()

    assert rows(finops, "kills")[0]["holds"] is False
    assert re.search(r"^all .* ended$", finops("kills")[1], re.MULTILINE)


def _event():
    from langchain_finops.budgets.switch import change_event

    return change_event("kill", "all", by="x", at=datetime.now(UTC))


# --- budget ----------------------------------------------------------------------------------------------------------


def test_a_budget_is_set_replaced_and_removed(finops, path):
    """Each says what it did, and what stood before."""
    assert finops("budget", "set", "$20/day per agent_id") == (0, f"Set $20/day per agent_id, in {path}\n", "")
    code, out, _ = finops("budget", "set", "$30/day per agent_id", "--reason", "more traffic")
    assert (code, out) == (0, f"Set $30/day per agent_id, was $20/day per agent_id, in {path}\n")
    code, out, _ = finops("budget", "remove", "$30/day per agent_id")
    assert (code, out) == (0, f"Removed $30/day per agent_id, in {path}\n")
    assert rows(finops, "budget", "list") == []


def test_every_option_of_a_budget_is_kept(finops, path):
    """What handlers then read is what was said."""
    code, out, err = finops(
        "budget", "set", "$1/day per user_id where node=plan", "--name", "plan", "--on-exceed", "interrupt",
        "--warn-at", "0.25,0.9", "--admission", "strict", "--expected-output-tokens", "300", "--unpriced", "estimate",
        "--fail-closed", "--time-zone", "Europe/Berlin", "--by", "ben",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "as 'plan'" in out

    from langchain_finops.budgets.outside import kept_budgets

    (budget,) = kept_budgets(open_ledger(path).controls("budget"), [])
    assert budget == Budget(
        usd=1, per="day", scope="user_id", match={"node": "plan"}, name="plan", on_exceed="interrupt",
        warn_at=(0.25, 0.9), admission="strict", expected_output_tokens=300, unpriced="estimate", fail_closed=True,
        time_zone="Europe/Berlin",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["set", "0/day per agent_id"], "Dollars need single quotes: '$20/day'"),
        (["set", "20 bananas"], "cannot read '20 bananas'"),
        (["set", "$0/day"], "must be more than 0"),
        (["set", "$-1/day"], "cannot read"),
        (["set", "$1/day", "--warn-at", "half"], "--warn-at 'half'"),
        (["set", "$1/day", "--warn-at", "7"], "warn_at"),
        (["set", "$1/day", "--on-exceed", "explode"], "raise, interrupt, drain, warn"),
        (["set", "$1/day", "--time-zone", "Mars/Olympus"], "is no time zone"),
        (["set"], "BUDGET"),
        (["remove", "nope"], "no budget 'nope' was set"),
        (["remove", ""], "BUDGET is empty"),
    ],
)
def test_a_budget_that_makes_no_sense_is_one_sentence(finops, path, words, told):
    """It exits 2, says what would be right, and changes nothing."""
    code, out, err = finops("budget", *words)

    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
    assert open_ledger(path).controls("budget") == {}


@pytest.mark.parametrize(
    ("words", "is_trap"),
    [
        (["0/day per agent_id"], True),
        (["/day"], True),
        (["bash.50"], True),
        (["20 dolars"], False),
        (["10 steps", "--on-exceed", "drian"], False),
    ],
)
def test_the_shell_is_blamed_only_where_it_may_have_taken_the_dollars(finops, words, is_trap):
    """Of $20, $5 and $0.50 no word is left before the window; another fault has another remedy."""
    code, _, err = finops("budget", "set", *words)

    assert code == 2
    assert ("single quotes" in err) is is_trap


def test_list_shows_what_stands_against_each_limit(finops, spend):
    """Limit, spent, held, left and state; by hand: $16.40 of $20 with $1 in flight leave $2.60."""
    finops("budget", "set", "$20/day per agent_id")
    spend(DAILY, Attribution(agent_id="support"), usd("16.40"), usd("1"))
    (row,) = rows(finops, "budget", "list")

    names = (
        "budget",
        "source",
        "unit",
        "scope",
        "value",
        "per",
        "limit",
        "spent",
        "held",
        "unsettled",
        "left",
        "share",
    )
    assert [row[name] for name in names] == [
        "$20/day per agent_id", "ledger", "usd", "agent_id", "support", "day", "20", "16.4", "1", "0", "2.6", "0.82",
    ]  # fmt: skip
    assert row["state"] == "warning"
    start, end = (datetime.fromisoformat(row[name]) for name in ("window_start", "window_end"))
    assert (end - start, start.hour) == (timedelta(days=1), 0)
    # The pace goes on until midnight: never less than what is spent.
    assert Decimal(row["forecast"]) >= Decimal("16.4")


def test_a_limit_of_code_is_a_balance_without_one(finops, spend):
    """What the ledger knows of it is shown: not the limit, which its handler checks."""
    spend(DAILY, Attribution(agent_id="support"), usd("5"))
    (row,) = rows(finops, "budget", "list")

    assert (row["budget"], row["limit"], row["state"], row["spent"]) == (None, None, None, "5")
    out = finops("budget", "list")[1]
    assert re.search(r"^usd/day per agent_id +support +- +\$5\.00", out, re.MULTILINE)
    assert "the limit is set in code" in out


def test_the_policy_files_budgets_are_listed(finops, spend, tmp_path, monkeypatch):
    """Those of finops.yaml here, of $FINOPS_POLICY, or of the file that is named."""
    spend(DAILY, Attribution(agent_id="support"), usd("21"))
    other = tmp_path / "other.yaml"
    other.write_text("budgets: [$20/day per agent_id]", encoding="utf-8")
    assert rows(finops, "budget", "list")[0]["source"] is None
    assert rows(finops, "budget", "list", "--policy", other)[0]["source"] == "policy file"
    monkeypatch.setenv("FINOPS_POLICY", str(other))
    (row,) = rows(finops, "budget", "list")
    assert (row["source"], row["state"], row["left"]) == ("policy file", "over", "-1")

    other.write_text("budgets: [$20/moon]", encoding="utf-8")
    code, out, err = finops("budget", "list")
    assert (code, out) == (2, "")
    assert str(other) in err


def test_windows_that_have_ended_are_shown_on_demand(finops, spend):
    """Yesterday's balance is history."""
    spend(DAILY, Attribution(agent_id="support"), usd("5"), at=datetime.now(UTC) - timedelta(days=2))

    assert rows(finops, "budget", "list") == []
    assert [row["spent"] for row in rows(finops, "budget", "list", "--past")] == ["5"]


def test_a_budget_that_nothing_counted_on_is_listed(finops, path):
    """Whoever sets a limit sees that it stands."""
    finops("budget", "set", "$20/day per agent_id")
    (row,) = rows(finops, "budget", "list")

    assert (row["state"], row["spent"], row["left"], row["value"]) == ("unused", "0", "20", None)


def test_what_runs_keep_themselves_is_listed_without_a_balance(finops, path):
    """A limit of each run has no balance on the ledger, and is not shown as if nobody had spent anything."""
    finops("budget", "set", "$0.50 per run")
    (row,) = rows(finops, "budget", "list")

    assert (row["state"], row["limit"], row["spent"], row["left"], row["share"]) == ("in runs", "0.5", None, None, None)
    assert re.search(r"^\$0.50 per run +run +\$0\.5000 +- +- +- +in runs", finops("budget", "list")[1], re.MULTILINE)


def test_budgets_are_listed_without_the_secrets_of_targets(finops, path, tmp_path):
    """Whoever looks at limits need not have the passwords that alerts are sent with."""
    (tmp_path / "finops.yaml").write_text(
        "budgets: [$20/day per agent_id]\nnotify: [{webhook: 'https://example.com/', secret: $NOT_SET}]",
        encoding="utf-8",
    )

    assert [row["source"] for row in rows(finops, "budget", "list")] == ["policy file"]


def test_what_this_version_cannot_read_is_a_warning(finops, path):
    """The others are listed all the same."""
    ledger = open_ledger(path)
    set_budget(ledger, DAILY)
    ledger.set_control("budget", "new", {"budget": "$1 per moon"}, _event())
    ledger.close()
    code, out, err = finops("budget", "list")

    assert code == 0
    assert "$20/day per agent_id" in out
    assert err.startswith("Warning: budget 'new' on the ledger: ")


def test_names_are_no_formulas_in_a_spreadsheet(finops, spend):
    """An agent called =HYPERLINK(...) is text in the CSV file."""
    spend(DAILY, Attribution(agent_id='=HYPERLINK("http://x","y")'), usd("5"))
    finops("kill", "--agent-id", "@evil", "--reason", "+1")

    (row,) = csv.DictReader(io.StringIO(finops("budget", "list", "--format", "csv")[1]))
    assert row["value"] == """'=HYPERLINK("http://x","y")"""
    (row,) = csv.DictReader(io.StringIO(finops("kills", "--format", "csv")[1]))
    assert (row["value"], row["reason"]) == ("'@evil", "'+1")


def test_tables_fit_into_80_columns(finops, spend, monkeypatch):
    """A narrow terminal loses the columns that matter least, and no line is wider."""
    monkeypatch.setenv("COLUMNS", "80")
    finops("budget", "set", "$20/day per agent_id where tag:team=a-team-with-a-long-name", "--reason", "r" * 200)
    finops("budget", "set", "$20/day per agent_id")
    finops("kill", "--user-id", "u" * 100, "--reason", "r" * 100, "--until", "2099-01-31")
    spend(DAILY, Attribution(agent_id="an-agent-with-a-name-of-more-than-forty-letters"), usd("12345.678"), usd("1"))

    for words in (["budget", "list"], ["kills"], ["events"]):
        code, out, _ = finops(*words)
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80
    out = finops("budget", "list")[1]
    for title in ("limit", "spent", "held", "state"):
        assert title in out


# --- policy check ----------------------------------------------------------------------------------------------------


def test_a_file_without_a_fault_is_good(finops, tmp_path):
    """It exits 0 and says what the file says."""
    file = tmp_path / "finops.yaml"
    file.write_text("budgets: [$1 per run, 10 steps]\nprotect: [check]", encoding="utf-8")

    assert finops("policy", "check", file) == (0, f"{file} has no fault. It says: 2 budgets, 1 protected node.\n", "")


def test_all_faults_of_a_file_are_told_and_it_exits_1(finops, tmp_path):
    """The answer is no: each fault on a line of its own, uncut, with file, place and what would be right."""
    file = tmp_path / "finops.yaml"
    file.write_text("budgets: [$1 per moon, {usd: -1}]\ncolour: red", encoding="utf-8")
    code, out, err = finops("policy", "check", file)

    assert (code, out) == (1, "")
    first, second, third = err.splitlines()
    assert first.startswith(f"Error: {file}: colour: ")
    assert second.startswith(f"Error: {file}: budgets[0]: ")
    assert third.startswith(f"Error: {file}: budgets[1]: Budget: usd: must be more than 0, not -1")


def test_a_file_that_is_not_there_could_not_be_checked(finops, tmp_path):
    """That is no answer: it exits 2."""
    code, out, err = finops("policy", "check", tmp_path / "nowhere.yaml")

    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {tmp_path / 'nowhere.yaml'} is no file")


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_tell_who_changed_what(finops, path):
    """Who, when, what, why, before and after, the oldest first; for programs whole, for people short."""
    finops("budget", "set", "$20/day per agent_id", "--by", "ben")
    finops("budget", "set", "$30/day per agent_id", "--reason", "more traffic")
    finops("kill", "--all")

    first, second, third = rows(finops, "events")
    assert [row["action"] for row in (first, second, third)] == ["budget.set", "budget.set", "kill"]
    assert [row["actor"] for row in (first, second, third)] == ["ben", "anna", "anna"]
    assert (second["before"], second["after"], second["reason"]) == (
        {"budget": "$20/day per agent_id"},
        {"budget": "$30/day per agent_id"},
        "more traffic",
    )
    lines = finops("events")[1].splitlines()
    assert lines[-4:-1] == [lines[-4], "    more traffic", "    budget $20/day per agent_id -> $30/day per agent_id"]
    assert re.fullmatch(r"[-\d]+ [:\d]+  anna  budget.set  usd/day per agent_id", lines[-4])


def test_an_event_whose_before_and_after_name_different_things_tells_both(finops, path):
    """A reprice says what it was and what it came to, not that each went from or to nothing."""
    ledger = open_ledger(path)
    before, after = {"cost_before_usd": "0.132"}, {"cost_after_usd": "0.264", "calls": 33}
    ledger.write(replace(_event(), before=before, after=after))
    ledger.close()

    assert "    cost_before_usd 0.132, cost_after_usd 0.264, calls 33\n" in finops("events")[1]


def test_events_are_chosen_by_time_and_action(finops, path):
    """--since, --until and --action, as elsewhere."""
    finops("kill", "--all")
    finops("revive", "--all")

    assert [row["action"] for row in rows(finops, "events", "--action", "revive")] == ["revive"]
    assert len(rows(finops, "events", "--since", "1h")) == 2
    assert rows(finops, "events", "--until", "1h") == []
    assert finops("events", "--until", "1h") == (0, f"No event, in {path}\n", "")
    assert finops("events", "--action", "kil") == (0, f"No event of action 'kil', in {path}\n", "")


# --- the command line itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["kill", "--all"],
        ["revive", "--all"],
        ["kills"],
        ["budget", "set", "$1 per run"],
        ["budget", "list"],
        ["budget", "remove", "x"],
        ["events"],
    ],
)
def test_no_command_makes_a_ledger(finops, tmp_path, words):
    """A mistyped path is told: a kill on a ledger that nobody uses would stop nobody."""
    missing = tmp_path / "nowhere.db"
    code, out, err = finops(*words, "--ledger", missing)

    assert (code, out) == (2, "")
    assert err.startswith(f"Error: no ledger at {missing}")
    assert not missing.exists()


@pytest.mark.parametrize("group", ["budget", "policy"])
def test_a_group_alone_shows_its_help(finops, group):
    """`finops budget` is a question, not an error."""
    code, out, err = finops(group)

    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: finops {group}")


def test_the_docs_name_every_field_of_a_list(finops, path):
    """docs/finops.md explains what `finops budget list --format json` writes."""
    finops("budget", "set", "$1 per run")
    (row,) = rows(finops, "budget", "list")
    section = DOCS.read_text("utf-8").partition("### `finops budget list`")[2].partition("\n### ")[0]

    assert set(row) == set(re.findall(r"`([a-z_]+)`", section.partition("| field |")[2])) - {"null", "ledger", "unused"}
