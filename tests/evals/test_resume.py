"""Going on with a results folder: what was paid for is found again, and results and ledger stay of one mind."""

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadArguments, BadData, EvalError, TargetChanged
from langchain_finops.ledger import open_ledger

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

SUITE = """
target: agent:build
scorers: [exact]
concurrency: 1
configurations: [{name: right}]
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
"""
ONE_CALL = Decimal("0.0002")
"""By hand: (100 x $1 + 10 x $10) / 1,000,000."""


@pytest.fixture
def begun(workshop: "Workshop") -> "Workshop":
    """A finished run of one task."""
    workshop.suite(SUITE)
    workshop.data(number=[1])
    workshop.run()
    workshop.calls()
    return workshop


def outcomes(workshop: "Workshop") -> list[bool | None]:
    ledger = open_ledger(workshop.results / "ledger.db")
    try:
        return [outcome.success for outcome in ledger.outcomes()]
    finally:
        ledger.close()


def crash(workshop: "Workshop") -> None:
    """What a crash leaves between the last call and the answer's line."""
    (workshop.results / "attempts.jsonl").write_text("")
    (workshop.results / "scores.jsonl").write_text("")
    run = json.loads((workshop.results / "run.json").read_text())
    (workshop.results / "run.json").write_text(json.dumps({**run, "finished_at": None}))


def test_the_ledgers_outcome_follows_a_reference_there_and_back(begun: "Workshop") -> None:
    """The first reference's verdicts are on file already: nothing is judged anew, but the ledger must hear of it."""
    right = begun.dataset.read_text()
    for reference, success in (('"wrong"', False), ('"2"', True)):
        begun.dataset.write_text(right.replace('"answer": "2"', f'"answer": {reference}'))

        results = begun.run()

        assert [said.success for said in results.verdicts] == outcomes(begun) == [success]


def test_the_ledgers_outcome_follows_a_scorer_that_is_gone(begun: "Workshop") -> None:
    """Two scorers had to agree; with one of them gone the other decides alone."""
    begun.suite(SUITE.replace("[exact]", "[exact, {type: regex, pattern: zzz}]"))
    begun.run()
    assert outcomes(begun) == [False]

    begun.suite(SUITE)
    begun.run()

    assert outcomes(begun) == [True]
    assert begun.calls() == []


def test_a_try_that_a_kill_ended_may_have_cost_more(begun: "Workshop") -> None:
    """What was in flight is in no ledger: the known part counts, and the cost is unknown, also at other prices."""
    crash(begun)

    lost, again = begun.run().attempts
    assert (lost.stop_reason, lost.cost_usd, lost.known_usd, lost.in_the_dark) == ("interrupted", None, ONE_CALL, True)
    assert (again.cost_usd, again.in_the_dark) == (ONE_CALL, False)

    begun.suite(SUITE.replace("input_tokens: 1,", "input_tokens: 3,"))
    lost, again = begun.run().attempts
    assert (lost.cost_usd, lost.known_usd, lost.unpriced_calls) == (None, 2 * ONE_CALL, 1)
    assert again.cost_usd == 2 * ONE_CALL


def test_a_try_that_a_kill_ended_is_priced_as_all_others(begun: "Workshop") -> None:
    """Prices changed between the crash and the next run: what it lost costs what it would now, in the ledger too."""
    crash(begun)
    begun.suite(SUITE.replace("input_tokens: 1,", "input_tokens: 3,"))

    lost, again = begun.run().attempts

    assert (lost.stop_reason, lost.known_usd, again.cost_usd) == ("interrupted", 2 * ONE_CALL, 2 * ONE_CALL)
    ledger = open_ledger(begun.results / "ledger.db")
    assert [call.cost_usd for call in ledger.calls()] == [2 * ONE_CALL] * 2
    assert [call.cost_usd for call in ledger.calls(history=True)].count(ONE_CALL) == 1, "what it was stays known"
    ledger.close()


def test_another_ledger_is_refused(begun: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls are in the first one; half of them in each would be a ledger that nothing adds up to."""
    first = "results/tasks/ledger.db"
    monkeypatch.setenv("FINOPS_LEDGER", str(begun.folder / "other.db"))

    with pytest.raises(EvalError, match=rf"its calls are in the ledger {first}, not in .*other\.db; run with --ledger"):
        begun.run()

    assert len(begun.run(ledger=first).attempts) == 1
    assert not (begun.folder / "other.db").exists()


def test_a_folder_that_was_moved_keeps_its_ledger(begun: "Workshop") -> None:
    """Its ledger lies in it and moved with it."""
    begun.results.rename(begun.folder / "moved")

    assert len(begun.run(folder=begun.folder / "moved").attempts) == 1
    assert begun.calls() == []


def test_attempts_without_run_json_are_refused(begun: "Workshop") -> None:
    """They would be bought once more and counted twice; `fresh` sets them aside."""
    (begun.results / "run.json").unlink()

    with pytest.raises(EvalError, match=r"has attempts\.jsonl, but no run\.json to tell what they are of; put it back"):
        begun.run()
    assert begun.calls() == []

    fresh = begun.run(fresh=True)
    assert len(fresh.attempts) == 1
    assert fresh.set_aside is not None


def test_what_a_crash_left_counts_after_a_change_of_code_too(begun: "Workshop") -> None:
    """Calls of the former code were paid for: the change is told, and `allow_mixed` counts them."""
    crash(begun)
    agent = begun.folder / "agent.py"
    agent.write_text(agent.read_text() + "\n# Changed.\n")

    with pytest.raises(TargetChanged, match="has changed since 1 of the stored attempts"):
        begun.run()
    assert begun.calls() == []

    lost, again = begun.run(allow_mixed=True).attempts
    assert (lost.try_number, lost.stop_reason, lost.known_usd) == (1, "interrupted", ONE_CALL)
    assert (again.try_number, again.status) == (2, "completed")
    assert lost.fingerprint != again.fingerprint


def test_calls_that_the_target_names_itself_are_found(workshop: "Workshop") -> None:
    """A target may say whose task a call is, and have tags of its own: the harness knows its calls all the same."""
    agent = workshop.folder / "agent.py"
    named = '{"metadata": {"task_id": "mine", "environment": "shop", "tags": {"item": "shoe", "repeat": "x"}}}'
    text = agent.read_text()
    agent.write_text(text.replace("""(f"{act} {state['number']}")""", f"""(f"{{act}} {{state['number']}}", {named})"""))
    workshop.suite(SUITE)
    workshop.data(number=[1])
    workshop.run()

    workshop.suite(SUITE.replace("input_tokens: 1,", "input_tokens: 3,"))
    (result,) = workshop.run().attempts
    assert result.cost_usd == 2 * ONE_CALL

    crash(workshop)
    lost, _ = workshop.run().attempts
    assert (lost.stop_reason, lost.known_usd) == ("interrupted", 2 * ONE_CALL)


def test_a_discount_that_changes_reaches_the_ledger(begun: "Workshop") -> None:
    """List price and card stay, the contract's share does not: results and ledger say the same."""
    contract = 'hosted: [{id: contract, match: {model: "gpt-4.1*"}, factor: 0.5}, '
    begun.suite(SUITE.replace("hosted: [", contract))
    begun.run()
    begun.suite(SUITE.replace("hosted: [", contract.replace("0.5", "0.25")))

    (result,) = begun.run().attempts

    ledger = open_ledger(begun.results / "ledger.db")
    (call,) = ledger.calls()
    ledger.close()
    assert result.contracted_usd == call.contracted_usd == ONE_CALL / 4
    assert result.cost_usd == call.cost_usd == ONE_CALL


def test_no_price_is_changed_where_one_cannot_be(begun: "Workshop") -> None:
    """A call that the ledger lacks is told before anything is written."""
    begun.data(number=[1, 2])
    begun.run()
    path = begun.results / "attempts.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in [lines[0], lines[1].replace('"calls": 1', '"calls": 2')]))
    begun.suite(SUITE.replace("input_tokens: 1,", "input_tokens: 3,"))

    with pytest.raises(EvalError, match="does not have the calls"):
        begun.run()

    ledger = open_ledger(begun.results / "ledger.db")
    assert {call.cost_usd for call in ledger.calls()} == {ONE_CALL}
    ledger.close()


def test_faults_of_the_target_are_not_tried_again(workshop: "Workshop") -> None:
    """Trying failures alone again would flatter the target: `retry_errors` is for outages."""
    workshop.suite(SUITE.replace("concurrency: 1", "tries: 1"))
    workshop.data(number=[1, 2], do=["bug", "status-503-1"])
    workshop.run()

    results = workshop.run(retry_errors=True)

    assert [(result.task, result.try_number, result.status) for result in results.attempts] == [
        ("t1", 1, "error"),
        ("t2", 1, "error"),
        ("t2", 2, "completed"),
    ]


@pytest.mark.parametrize("ledger", [":memory:", "sqlite:///:memory:"])
def test_a_ledger_in_memory_is_refused(workshop: "Workshop", ledger: str) -> None:
    """It would be gone before anything could be priced again or gone on with."""
    with pytest.raises(BadArguments, match="is gone when the run ends: name a file"):
        workshop.run(ledger=ledger)


def test_a_run_json_that_lacks_something_is_told(begun: "Workshop") -> None:
    """It says which file and what to do, and `fresh` does it."""
    (begun.results / "run.json").write_text("{}")

    with pytest.raises(EvalError, match=r"run\.json is not one of this version, for want of baseline, .*--fresh"):
        begun.run()
    assert len(begun.run(fresh=True).attempts) == 1


def test_a_crash_grants_no_further_tries(workshop: "Workshop") -> None:
    """Tries that the infrastructure failed count, before the crash and after it: three are three."""
    workshop.suite(SUITE + "tries: 3\n")
    workshop.data(number=[1], do=["status-503-9"])
    workshop.run()
    path = workshop.results / "attempts.jsonl"
    first, second, _ = path.read_text().splitlines()
    path.write_text(f"{first}\n{second}\n")
    run = json.loads((workshop.results / "run.json").read_text())
    (workshop.results / "run.json").write_text(json.dumps({**run, "finished_at": None}))
    (workshop.results / "ledger.db").unlink()
    (workshop.results / "begun.jsonl").unlink()
    workshop.calls()

    results = workshop.run()

    assert workshop.calls() == ["status-503-9 1"]
    assert [(result.try_number, result.stop_reason) for result in results.attempts] == [
        (1, "infrastructure"),
        (2, "infrastructure"),
        (3, "infrastructure"),
    ]


def test_a_line_cut_in_the_middle_of_the_file_is_told(begun: "Workshop") -> None:
    """A torn last line is a crash's; one in the middle is somebody's, and nothing is bought on top of it."""
    path = begun.results / "attempts.jsonl"
    path.write_text(path.read_text()[:50] + "\n" + path.read_text())

    with pytest.raises(BadData, match=r"attempts\.jsonl:1: not a line of attempts\.jsonl"):
        begun.run()
    assert begun.calls() == []
