"""Agents of `examples/wasteful_agents.py`: real graphs that waste, and their mended twins. What the handler wrote is
enough for `advise` to tell them apart."""

import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from langchain_finops import FinOpsHandler, Ledger, open_ledger
from langchain_finops.reports.advise import KINDS, advise

EXAMPLES = Path(__file__).parents[2] / "examples"
SAVED: dict[str, Decimal] = {
    # 40 calls of gpt-4.1, 400 tokens in and 100 out, of which gpt-4.1-mini costs a fifth.
    "cheaper_model": 40 * (400 * Decimal(2) + 100 * Decimal(8)) * 4 / 5,
    # 50 of one token out.
    "small_answers": 50 * (400 * Decimal(2) + Decimal(8)) * 4 / 5,
    # 30 summaries of question and answer.
    "overhead": 30 * (500 * Decimal(2) + 100 * Decimal(8)) * 4 / 5,
    # Ten runs of 3,000, 3,200, 3,400 and 3,600 tokens: 9,600 of them read at $0.30, not $3, and 3,600 written at $3.75.
    "uncached_prefix": 10 * (9_600 * Decimal("2.7") - 3_600 * Decimal("0.75")),
    # 19 of 20 calls send again 3,001 tokens, but for the time in them: read at $0.30, not sent at $3.
    "broken_cache": 19 * 3_001 * Decimal("2.7"),
    # Twelve letters written at $3.75, not $3.
    "unread_cache": 12 * 4_000 * Decimal("0.75"),
    # Six runs of 300, 800, 1,300 ... tokens: 500, 1,000, 1,500 and 2,000 are past the first prompt and three steps.
    "growing_context": 6 * 5_000 * Decimal(2),
    # Two of three calls of 400, 401 ... 409 tokens in and 100 out.
    "repeated_calls": 2 * (4_045 * Decimal("0.4") + 10 * 100 * Decimal("1.6")),
    # Two further tries of six.
    "futile_retries": 12 * (400 * Decimal("0.4") + 100 * Decimal("1.6")),
    # 19 of 24 hours without mail.
    "idle_polling": 19 * (300 * Decimal("0.4") + 10 * Decimal("1.6")),
    # Half of what twelve nights cost.
    "not_waited_for": 12 * (900 * Decimal("1.25") + 100 * Decimal(10)) / 2,
    # The fourth to tenth call of six tasks: 340, 420 ... 820 tokens in, 40 out.
    "late_handoff": 6 * (7 * 580 * Decimal("0.4") + 7 * 40 * Decimal("1.6")),
    # Twenty answers with 800 tokens more than any that solved a task.
    "long_answers": 20 * 800 * Decimal("1.6"),
    # 240 calls, less a machine for 24 hours at $0.25.
    "self_hosting": 240 * (8_000 * Decimal(2) + 2_000 * Decimal(8)) - 24 * 250_000,
}
"""What was wasted, in millionths of a dollar, at the list prices of a million tokens: reckoned by hand."""


@pytest.fixture(scope="module")
def examples() -> Iterator[Callable[[str], ModuleType]]:
    sys.path.insert(0, str(EXAMPLES))
    yield import_module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def wasteful(examples: Callable[[str], ModuleType]) -> ModuleType:
    return examples("wasteful_agents")


def test_every_kind_has_a_wasteful_agent() -> None:
    """And each of them what it wastes, by hand."""
    assert SAVED.keys() == set(KINDS)


@pytest.mark.parametrize("kind", SAVED)
def test_planted_waste_is_found_and_nothing_else(wasteful: ModuleType, kind: str) -> None:
    """What is found is what was wasted, to the picodollar."""
    (row,) = wasteful.findings(kind, mended=False)
    assert (row["kind"], row["saving_usd"]) == (kind, SAVED[kind] / 1_000_000)
    # A machine serves whatever agent; every other finding names the agent.
    assert row["agent"] == (None if kind == "self_hosting" else kind)


@pytest.mark.parametrize("kind", SAVED)
def test_nothing_is_found_in_the_mended_twin(wasteful: ModuleType, kind: str) -> None:
    """Not of this kind, nor of any other; its calls are in the ledger, and have prices."""
    ledger = open_ledger(":memory:")
    wasteful.fill(ledger, kind, mended=True)
    found = advise(ledger, machine=wasteful.MACHINE)
    assert found.rows == []
    assert (found.unpriced, found.cost_usd > 0) == (0, kind != "self_hosting")


def test_all_of_them_in_one_ledger_are_found_each_for_itself(wasteful: ModuleType, tmp_path: Path) -> None:
    """Twelve agents that waste and their twins beside them, in a file: what each wastes is what it wastes alone."""
    ledger = open_ledger(tmp_path / "ledger.db")
    for kind in wasteful.WASTE:
        if kind != "self_hosting":
            wasteful.fill(ledger, kind)
    found = {row["agent"]: (row["kind"], row["saving_usd"]) for row in advise(ledger).rows}
    assert found == {kind: (kind, saved / 1_000_000) for kind, saved in SAVED.items() if kind != "self_hosting"}
    ledger.close()


def test_the_example_prints_what_finops_advise_says(
    wasteful: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late hand-off: $0.012432 in a day is $0.3730 a month; its twin is clean."""

    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["wasteful_agents.py", "late_handoff", *words])
        with pytest.raises(SystemExit) as exit_:
            wasteful.main()
        assert exit_.value.code == 0
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    assert "1  late handoff  late_handoff  -     -      $0.3730  54.0%" in said("--ledger", "waste.db")
    mended = said("--ledger", "mended.db", "--mended")
    assert mended.startswith("Nothing found that would be cheaper, all time, in ")


# --- other graphs ----------------------------------------------------------------------------------------------------


def kinds(ledger: Ledger, **more: Any) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in advise(ledger, **more).rows}


def test_a_loop_that_keeps_everything_is_found_twice_over(wasteful: ModuleType) -> None:
    """Eight calls of 400, 900 ... 3,900 tokens, a minute apart: from the fourth on the one before has 1,024 or more."""
    ledger = open_ledger(":memory:")
    office = wasteful.Office(agent="loop", ledger=ledger)
    graph = wasteful.looping(wasteful.Scripted(model_name="gpt-4.1", looks=7), result=400, minutes=0)
    for number in range(3):
        office.ask(graph, number, wasteful.request(400, word=f"why{number}"))
    found = kinds(ledger)
    assert found.keys() == {"uncached_prefix", "growing_context"}
    reads = 1_400 + 1_900 + 2_400 + 2_900 + 3_400
    assert found["uncached_prefix"]["saving_usd"] == 3 * reads * Decimal("1.5") / 1_000_000
    assert found["uncached_prefix"]["node"] == "think"
    assert kinds(ledger, protect=["think"]) == {}


def test_a_short_loop_is_clean(wasteful: ModuleType) -> None:
    """Two calls a run, long answers, a model that is not dear, users who wait, all solved: nothing is found."""
    ledger = open_ledger(":memory:")
    office = wasteful.Office(agent="loop", ledger=ledger)
    graph = wasteful.looping(wasteful.Scripted(model_name="gpt-4.1-mini", words=400, looks=1), result=0, minutes=0)
    for number in range(60):
        office.ask(graph, number, wasteful.request(400))
    result = advise(ledger)
    assert result.rows == []
    # 60 runs of 400 and 800 tokens in and 400 out twice.
    assert result.cost_usd == 60 * (1200 * Decimal("0.4") + 800 * Decimal("1.6")) / 1_000_000


def test_a_script_that_asks_one_thing_after_the_other_and_names_nobody_is_clean(wasteful: ModuleType) -> None:
    """No user and no outcome, and a word for an answer: that is no clock."""
    handler = FinOpsHandler(ledger=":memory:")
    graph = wasteful.in_a_row(answer=wasteful.calling(wasteful.Scripted(model_name="gpt-4.1-mini", words=1)))
    for _ in range(20):
        graph.invoke({"messages": [wasteful.request(400)]}, {"callbacks": [handler]})
    assert advise(handler.ledger).rows == []


def test_summaries_of_a_small_model_are_the_most_that_can_go(wasteful: ModuleType) -> None:
    """800 tokens in and 400 out after each answer, with gpt-4.1-mini: which of them are of use, nobody knows."""
    ledger = open_ledger(":memory:")
    office = wasteful.Office(agent="sums", ledger=ledger)
    model = wasteful.Scripted(model_name="gpt-4.1-mini", words=400)
    summary = wasteful.calling(model, lc_source="summarization")
    graph = wasteful.in_a_row(answer=wasteful.calling(model), summary=summary)
    for number in range(20):
        office.ask(graph, number, wasteful.request(400))
    (row,) = advise(ledger).rows
    assert (row["kind"], row["node"], row["saving_is"]) == ("overhead", "summary", "at_most")
    assert row["saving_usd"] == 20 * (800 * Decimal("0.4") + 400 * Decimal("1.6")) / 1_000_000


def test_a_cheaper_model_that_fails_is_no_advice(wasteful: ModuleType) -> None:
    """The outcomes of the cheap model's 40 tasks are revised: it solved none of them."""
    ledger = open_ledger(":memory:")
    wasteful.fill(ledger, "cheaper_model")
    handler = FinOpsHandler(ledger=ledger)
    for number in range(0, 80, 2):
        handler.log_outcome(task_id=f"cheaper_model-{number}", success=False)
    assert advise(ledger).rows == []


@pytest.mark.parametrize("name", ["one_line", "outcomes", "event_triggered", "runaway_agent", "ask_a_human"])
def test_the_other_examples_are_told_nothing_false(
    examples: Callable[[str], ModuleType], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few calls each: too few to tell waste from chance, and nothing is told. That the polling example polls, its
    ledger does not show: the day of it passes in a moment."""
    module, ledgers = examples(name), list[Ledger]()

    def handler(**more: Any) -> FinOpsHandler:
        made = FinOpsHandler(**more)
        ledgers.append(made.ledger)
        return made

    monkeypatch.setattr(module, "FinOpsHandler", handler)
    module.main()
    assert [advise(ledger).rows for ledger in ledgers] == [[]] * (2 if name == "event_triggered" else 1)


def test_what_the_shared_budgets_example_is_told_is_true(
    examples: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its loop sends 5,000 tokens in each of 25 calls of one run, and the scripted model reports no cache: 24 times
    5,000 of them at $0.10, not $0.40, a million."""

    class Start:
        """One process waits for no other."""

        def wait(self) -> None:
            """Go on."""

    path = tmp_path / "ledger.db"
    examples("shared_budget").work(path, Start())
    ledger = open_ledger(path)
    (row,) = advise(ledger).rows
    assert (row["kind"], row["saving_usd"]) == ("uncached_prefix", 24 * 5_000 * Decimal("0.3") / 1_000_000)
    ledger.close()
