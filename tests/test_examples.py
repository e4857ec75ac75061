"""Every example runs offline, as it stands, and says what its README says it says."""

import os
import subprocess
import sys
from decimal import Decimal
from hashlib import sha256
from hmac import digest
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from langchain_finops import FinOpsHandler
from langchain_finops.evals.replay import Recording, Slot
from langchain_finops.reports.advise import KINDS

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(name: str) -> str:
    """Standard output of an example. Warnings are errors, as in the tests."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    environment = {**os.environ, "OPENAI_API_KEY": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    return done.stdout


def load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_executed_here() -> None:
    """A new example needs a test."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "ask_a_human.py",
        "event_triggered.py",
        "lever_caching.py",  # By tests/levers/test_caching_proof.py.
        "lever_handoff.py",  # By tests/levers/test_proof_handoff.py.
        "lever_passages.py",  # By tests/levers/test_proof_reading.py.
        "lever_pruning.py",  # By tests/levers/test_proof_reading.py.
        "lever_tiers.py",  # By tests/levers/test_proof_tiers.py.
        "lever_verbosity.py",  # By tests/levers/test_proof_verbosity.py.
        "one_line.py",
        "outcomes.py",
        "runaway_agent.py",
        "shared_budget.py",
        "shop_agent.py",
        "tagged_requests.py",
        "ticket_agent.py",
        "wasteful_agents.py",
    }


def test_one_line_meters_each_node() -> None:
    """gpt-4.1-mini costs $0.40 a million tokens in and $1.60 out: 1,000 and 50 in `plan`, 2,000 and 100 in `answer`."""
    rows = {line.split()[0]: line.split() for line in run("one_line.py").splitlines() if line}

    assert rows["plan"][-1] == f"${Decimal(1_000) * 40 / 10**8 + Decimal(50) * 160 / 10**8:.5f}" == "$0.00048"
    assert rows["answer"][-1] == f"${Decimal(2_000) * 40 / 10**8 + Decimal(100) * 160 / 10**8:.5f}" == "$0.00096"


def test_outcomes_give_the_cost_per_success() -> None:
    """Four calls of $0.0004 + $0.00016, three successes: the failure's cost counts."""
    assert run("outcomes.py").splitlines() == [
        "4 calls, 3 of 4 tasks solved",
        "cost $0.002240, cost per success $0.000747",
    ]


def test_an_agent_that_waits_for_an_event_pays_for_no_looking() -> None:
    """22 looks of 1,000 tokens in and 10 out for nothing, $0.000416 each; two replies of 1,000 and 200, $0.00072."""
    assert run("event_triggered.py").splitlines() == [
        "polling: 24 calls, 2 replies, $0.010592, $0.005296 a reply",
        "triggered: 2 calls, 2 replies, $0.001440, $0.000720 a reply",
    ]


def test_planted_waste_is_found_and_the_mended_twins_are_clean() -> None:
    """Each agent's own kind is found in it, and nothing in its twin. tests/reports/test_advise_examples.py has the
    amounts: 40 calls at $0.0016, of which a cheaper model takes a fifth, in five days, are $0.3072 a month."""
    head, *rows = (line.split() for line in run("wasteful_agents.py").splitlines())
    assert head[:3] == ["planted", "waste", "found"]
    assert [(row[0], row[-1]) for row in rows] == [(kind, "nothing") for kind in KINDS]
    assert [row[0] for row in rows] == [row[1] for row in rows]
    assert rows[0] == ["cheaper_model", "cheaper_model", "0.3072", "medium", "nothing"]


def test_the_runaway_agent_is_stopped_before_its_limit() -> None:
    """Two cents, $0.004 a call: the fifth call would fit by itself, but not with the part of its prompt that grew."""
    halfway, nearly, stop, why, count = run("runaway_agent.py").splitlines()

    assert halfway.endswith("$0.012 spent of $0.02, past 50% of it")
    assert nearly.endswith("$0.016 spent of $0.02, past 80% of it")
    assert stop == "stopped by budget:$0.02 per run in node think: $0.016 of $0.02 spent"
    assert "is estimated at" in why
    assert count == "4 calls were made, and not one more"


def test_a_person_gives_the_agent_more_money() -> None:
    """Six searches and an answer at $0.004 each: paused after four, and seven are paid in all, not eight."""
    lines = run("ask_a_human.py").splitlines()

    assert lines[0].startswith("paused in node think: $0.016 of $0.02 spent")
    assert lines[-4:] == [
        "a person says: yes, two cents more",
        "the agent says: Invoice A-47 is open.",
        "7 calls for $0.028, in 1 run",
        "approved by ada: $0.02 -> $0.04",
    ]


def test_eight_processes_share_a_daily_budget() -> None:
    """25 calls of $0.004 fit into $0.102, whichever process makes them."""
    each, all_of_them = run("shared_budget.py").splitlines()

    counts = [int(count) for count in each.removeprefix("calls of each process: ").split()]
    assert len(counts) <= 8
    assert sum(counts) == 25
    assert all_of_them == "25 calls in all, $0.100 of $0.102 spent"


def test_tenants_of_one_model_are_told_apart_on_the_wire() -> None:
    """Both tenants' requests name the agent, the hashed user and the task; the hash is HMAC-SHA256, cut to 128 bits."""
    ada, bob = (digest(b"a key that is kept secret", user, sha256).hex()[:32] for user in (b"ada", b"bob"))
    assert run("tagged_requests.py").splitlines() == [f"support for ada ({ada}): t-1", f"support for bob ({bob}): t-2"]


async def test_the_ticket_agent_answers_from_the_recording_without_a_key() -> None:
    """The evaluation's target can be called by anyone who holds the recording."""
    agent = load("ticket_agent").build({"shots": 5, "temperature": 0.8, "agree": 2, "readings": 5})
    handler = FinOpsHandler(ledger=":memory:")
    ticket = {
        "message": "Hi, I am writing about order 71530. I placed it on 2 May together with order 71498, and that one "
        "has arrived. Only 71530 is missing.",
        "field": "order number",
    }
    slot = Slot("five-shot-vote", "t01", 0)
    recording = ROOT / "golden_datasets" / "recordings" / "tickets.jsonl"
    with Recording(recording, "replay") as replay, replay.slot(slot):
        said = await agent.ainvoke(ticket, {"callbacks": [handler]})

    nodes = [call.attribution.node for call in handler.ledger.calls()]
    assert said["answer"] in said["readings"]
    assert nodes[0] == "extract"
    assert set(nodes) <= {"extract", "verify"}
    assert 2 <= len(nodes) == len(said["readings"]) <= 5


@pytest.mark.parametrize("readings", [["71530"], ["no number", "71530"], ["71530", "71498", "71530"]])
def test_the_ticket_agent_trusts_what_stands_in_the_message(readings: list[str]) -> None:
    """A reading that is not copied from the message never wins over one that is."""
    agent = load("ticket_agent")

    usable = agent.usable({"message": "orders 71530 and 71498", "field": "order number", "readings": readings})
    assert "no number" not in usable
    assert usable[0] == "71530"
