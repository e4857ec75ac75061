"""The policy file: what it may say, every fault at once, and what becomes of it while agents run."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from langchain_finops.budgets.alerts import BurnRateAlert
from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.budgets.notify import Webhook
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.policy_file import NO_POLICIES, Policies, PolicyFile, read_policies
from langchain_finops.errors import BadData
from langchain_finops.ledger import open_ledger

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"

ALL = """
budgets:
  - $20/day per agent_id
  - budget: $5/day per user_id where agent_id=support
    on_exceed: interrupt
    warn_at: [0.5, 0.9]
  - {usd: 0.1, match: {node: plan}, name: plan}
loop_guards:
  - {repeats: 2, window: 10}
  - {}
models:
  - {match: {node: router}, allow: ["*mini*"], on_exceed: warn}
alerts:
  - {of: $20/day per agent_id, share: 0.25, within: 1h}
  - {of: {usd: 300, per: month}, forecast: [1.0, 1.5], name: month, notify: [{webhook: "https://example.com/m"}]}
protect: [validate, safety]
notify:
  - {webhook: "https://example.com/hooks/7", secret: $THE_SECRET}
"""


@pytest.fixture
def write(tmp_path):
    """Write a policy file that no look takes for the one before; its path."""
    path, writes = tmp_path / "finops.yaml", iter(range(1, 100))

    def written(text: str) -> Path:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(next(writes) * 10**9,) * 2)
        return path

    return written


def faults_of(path: Path) -> list[str]:
    with pytest.raises(BadData) as caught:
        read_policies(path)
    return [str(fault).replace(str(path), "FILE") for fault in caught.value.faults]


def test_a_file_says_all_that_code_can(write, monkeypatch):
    """Each section becomes what code would have made, floats by their text."""
    monkeypatch.setenv("THE_SECRET", "hush")
    policies = read_policies(write(ALL))

    assert policies.budgets == (
        Budget(usd=20, per="day", scope="agent_id"),
        Budget(
            usd=5, per="day", scope="user_id", match={"agent_id": "support"}, on_exceed="interrupt", warn_at=(0.5, 0.9)
        ),
        Budget(usd="0.1", match={"node": "plan"}, name="plan"),
    )  # fmt: skip
    assert policies.loop_guards == (LoopGuard(repeats=2, window=10), LoopGuard())
    assert policies.models == (ModelPolicy(match={"node": "router"}, allow=("*mini*",), on_exceed="warn"),)
    assert policies.alerts == (
        BurnRateAlert(of=policies.budgets[0], share="0.25", within="1h"),
        BurnRateAlert(
            of=Budget(usd=300, per="month"),
            forecast=(1, "1.5"),
            name="month",
            notify=(Webhook(url="https://example.com/m"),),
        ),
    )
    assert policies.protect == ("validate", "safety")
    assert policies.notify == (Webhook(url="https://example.com/hooks/7", secret="hush"),)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Of modules that Apprise's plug-ins import.
def test_the_file_of_the_documentation_is_read(tmp_path, monkeypatch):
    """What docs/alerts.md shows is a policy file without a fault."""
    pytest.importorskip("apprise")
    text = DOCS.read_text(encoding="utf-8")
    block = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "finops.yaml").write_text(block, encoding="utf-8")
    monkeypatch.setenv("FINOPS_WEBHOOK_SECRET", "hush")
    monkeypatch.setenv("FINOPS_APPRISE_URLS", "json://localhost/")
    policies = read_policies(tmp_path / "finops.yaml")

    said = {name: len(texts) for name, texts in policies.summary().items()}
    assert said == {"budgets": 3, "loop_guards": 1, "models": 1, "alerts": 2, "protect": 1, "notify": 2}


def test_all_faults_are_told_at_once(write):
    """One look is enough: each with its place, and what would be right."""
    found = faults_of(
        write("""
budgets:
  - 20 bananas
  - {usd: -1, per: soon}
  - {usd: 1, on_exceed: explode}
  - 7
loop_guards: {repeats: 3}
models:
  - {match: {node: x}}
alerts:
  - {share: 0.25}
  - {of: $20/day per agent_id, share: 0.25}
protect: [3]
notify:
  - {webhook: example.com}
  - {webhook: "https://example.com/", apprise: "json://x"}
  - {webhook: "https://example.com/", secret: $NOT_SET}
colour: red
""")
    )
    assert [line.partition(" ")[0] + " " + line.partition(" ")[2].split(":")[0].split(" ")[0] for line in found] == [
        "FILE: colour", "FILE: budgets[0]", "FILE: budgets[1]", "FILE: budgets[2]", "FILE: budgets[3]",
        "FILE: loop_guards", "FILE: models[0]", "FILE: alerts[0].of", "FILE: alerts[1]", "FILE: protect",
        "FILE: notify[0]", "FILE: notify[1].webhook", "FILE: notify[2].secret",
    ]  # fmt: skip
    told = "\n".join(found)
    for words in ("bananas", "usd: must be more than 0", "'soon' is no window", "raise, interrupt, drain, warn",
                  "has to be a list", "allow=", "share and within", "NOT_SET is not set"):  # fmt: skip
        assert words in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budgets: [", "is not YAML"),
        ("- $20/day", "is a list"),
        ("budgets:\n  - $1 per run\nbudgets:\n  - $2 per run\n", "'budgets' is given twice"),
        ("budgets:\n  - {usd: 1, usd: 2}\n", "'usd' is given twice"),
        ("notify: [{}]", "a target has"),
        ("notify: [hello]", "is text"),
        ("alerts: [3]", "is a number"),
        ("loop_guards: [{repeats: 0}]", "repeats"),
        ("loop_guards: [{size: 1}]", "size: is no field"),
    ],
)
def test_a_fault_is_told_with_its_place(write, text, told):
    """Whatever is wrong, it is a sentence and no traceback."""
    (found, *_) = faults_of(write(text))

    assert found.startswith("FILE")
    assert told in found


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "budgets:\n", "budgets: []\nalerts: []\n"])
def test_a_file_that_says_nothing_is_one(write, text):
    """A file that is about to be written, or whose limits are commented out."""
    assert read_policies(write(text)) == NO_POLICIES


def test_no_secret_is_in_the_summary(write, monkeypatch):
    """What goes into the audit trail holds no address and no key."""
    monkeypatch.setenv("THE_SECRET", "hush")
    said = str(read_policies(write(ALL)).summary())

    assert "the webhook at example.com" in said
    assert "hooks/7" not in said
    assert "hush" not in said


def test_both_have_what_they_have_in_common_once():
    """The same budget in the file and on the ledger is one."""
    one, two = Budget(usd=1), Budget(usd=2)

    both = Policies(budgets=(one,)).together_with(Policies(budgets=(two, one), protect=("x",)))
    assert (both.budgets, both.protect) == ((one, two), ("x",))


# --- while agents run ------------------------------------------------------------------------------------------------


def test_a_change_is_found_by_the_next_look(write):
    """And told once: what it said, and what it says now."""
    path = write("budgets: [$1 per run]")
    file = PolicyFile(path)

    first = file.look()
    assert (first.before, first.after) == (NO_POLICIES, Policies(budgets=(Budget(usd=1),)))
    assert file.look() is None
    write("budgets: [$2 per run]")
    second = file.look()
    assert (second.before, second.after) == (first.after, Policies(budgets=(Budget(usd=2),)))
    assert file.policies == second.after


def test_a_file_that_became_faulty_keeps_the_last_good_one(write):
    """Its fault is told once; made right, it is taken up."""
    path = write("budgets: [$1 per run]")
    file = PolicyFile(path)
    file.look()
    write("budgets: [$2 per moon]")

    with pytest.raises(BadData, match="moon"):
        file.look()
    assert file.look() is None
    assert file.policies.budgets == (Budget(usd=1),)
    write("budgets: [$2 per run]")
    assert file.look() is not None
    assert file.policies.budgets == (Budget(usd=2),)


def test_a_file_that_is_touched_is_no_change(write):
    """Nothing is told, and handlers keep what they have."""
    text = "budgets: [$1 per run]"
    file = PolicyFile(write(text))
    file.look()
    before = file.policies
    write(text)

    assert file.look() is None
    assert file.policies is before


def test_finops_yaml_of_the_working_directory_comes_and_goes(tmp_path, monkeypatch):
    """Where nothing names a file, one in the directory that the process starts in is read, whenever it appears."""
    monkeypatch.chdir(tmp_path)
    file = PolicyFile()
    monkeypatch.chdir("/")
    assert file.look() is None

    (tmp_path / "finops.yaml").write_text("budgets: [$1 per run]", encoding="utf-8")
    assert file.look().after.budgets == (Budget(usd=1),)
    (tmp_path / "finops.yaml").unlink()
    assert file.look().after == NO_POLICIES


def test_a_file_that_is_named_has_to_be_there(write, tmp_path, monkeypatch):
    """$FINOPS_POLICY names one that is gone: that is a fault, told once, and its limits stay."""
    monkeypatch.setenv("FINOPS_POLICY", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(BadData, match=r"nowhere.yaml: is not there"):
        PolicyFile().look()

    path = write("budgets: [$1 per run]")
    monkeypatch.setenv("FINOPS_POLICY", str(path))
    file = PolicyFile()
    file.look()
    path.unlink()
    with pytest.raises(BadData, match="is not there"):
        file.look()
    assert file.look() is None
    assert file.policies.budgets == (Budget(usd=1),)


def test_a_change_is_in_the_audit_trail_once(write, tmp_path):
    """Two handlers see the same change: one event, with what was before and after."""
    ledger = open_ledger(tmp_path / "l.db")
    path = write("budgets: [$1 per run]")
    files = [PolicyFile(path), PolicyFile(path)]
    for text in ("budgets: [$1 per run]", "budgets: [$2 per run]"):
        write(text)
        for file in files:
            file.tell(file.look(), ledger, NOON)

    first, second = ledger.events(action="policy")
    assert (first.before, first.after) == (None, {"budgets": ["$1 per run"]})
    assert (second.before, second.after) == ({"budgets": ["$1 per run"]}, {"budgets": ["$2 per run"]})
    assert second.subject.endswith(str(path))
    ledger.close()
