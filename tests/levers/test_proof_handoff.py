"""Hand-off to a person, before and after: `examples/lever_handoff.py`, from the recording of a real model."""

import json
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from langchain_finops import open_ledger
from langchain_finops.evals import Results, compare, load_results, load_suite
from langchain_finops.evals.resume import table_of

ROOT = Path(__file__).parents[2]
LEVERS = ROOT / "golden_datasets" / "levers"
PAGE = (ROOT / "docs" / "levers.md").read_text(encoding="utf-8")
STORY = (LEVERS / "README.md").read_text(encoding="utf-8").split("\n## Hand-off")[1].split("\n## ")[0]
# The card of golden_datasets/levers/handoff.yaml, written down once more by hand.
INPUT_USD, OUTPUT_USD = Decimal("0.02") / 10**6, Decimal("0.04") / 10**6
PERSON_USD, FAILURE_USD = Decimal("0.50"), Decimal("2.00")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = spec_from_file_location("lever_handoff", ROOT / "examples" / "lever_handoff.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example leaves its results, after it printed its tables."""
    folder, said = tmp_path_factory.mktemp("handoff"), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.chdir(ROOT)
        patch.setenv("FINOPS_MODEL_URL", "http://127.0.0.1:1/v1")  # Nobody answers there.
        patch.delenv("FINOPS_LEDGER", raising=False)
        example.main(folder)
    assert "doubt of 0.4 or more is handed off, 15 of them" in said.getvalue()
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_results(folder / "handoff")


@pytest.fixture(scope="module")
def table(results: Results) -> dict[str, dict[str, Any]]:
    return {row["configuration"]: row for row in table_of(results).rows}


def model_costs() -> dict[str, Decimal]:
    """Each recorded answer's own token counts, times the card's rates."""
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for line in (LEVERS / "recordings" / "handoff.jsonl").read_text("utf-8").splitlines()[1:]:
        call = json.loads(line)
        usage = json.loads(call["answer"])["usage"]
        costs[call["configuration"]] += usage["prompt_tokens"] * INPUT_USD + usage["completion_tokens"] * OUTPUT_USD
    return costs


def test_the_threshold_was_chosen_on_other_tasks(example: ModuleType, folder: Path) -> None:
    """`best_threshold` of the development attempts is the suite's, and no task is in both sets."""
    best = example.threshold_of(load_results(folder / "handoff-dev"))
    suite = load_suite(LEVERS / "handoff.yaml")
    tasks = [
        {json.loads(line)["inputs"]["message"] for line in (LEVERS / name).read_text("utf-8").splitlines()}
        for name in ("handoff.jsonl", "handoff-dev.jsonl")
    ]

    assert best.threshold == dict(suite.configurations[1].parameters)["threshold"] == 0.4
    assert not tasks[0] & tasks[1]
    assert (best.tasks, best.handed_off, best.pays) == (45, 15, False)
    for amount in (best.expected_usd, best.held_out_usd, best.agent_first_usd):
        assert f"${amount:.3f}" in STORY


def test_a_persons_minutes_are_in_the_costs(results: Results, folder: Path, table: dict[str, dict[str, Any]]) -> None:
    """Model calls from the recording by hand, and a charge of 50 cents for each attempt that a person answered."""
    asked = Counter(attempt.configuration for attempt in results.attempts if attempt.scripted_answers)
    charges = list(open_ledger(folder / "handoff" / "ledger.db").charges())

    assert list(asked) == ["handoff"]
    assert {(charge.kind, charge.cost_usd, charge.attribution.agent_id) for charge in charges} == {
        ("human", PERSON_USD, "handoff")
    }
    assert len(charges) == asked["handoff"]
    for name, cost in model_costs().items():
        assert table[name]["total_cost_usd"] == cost + PERSON_USD * asked[name]
        assert f"${cost:.8f}" in STORY
    assert f"asked in {asked['handoff']} of 60" in STORY


def test_the_expected_cost_is_of_failures_that_cost_two_dollars(table: dict[str, dict[str, Any]]) -> None:
    """Its own cost, and $2.00 for each failure, over 60 attempts."""
    for row in table.values():
        by_hand = (row["total_cost_usd"] + FAILURE_USD * (60 - row["successes"])) / 60
        assert row["expected_cost_usd"] == pytest.approx(float(by_hand), rel=1e-12)


@pytest.mark.parametrize("text", [PAGE, STORY], ids=["page", "story"])
def test_the_texts_say_what_came_out(results: Results, table: dict[str, dict[str, Any]], text: str) -> None:
    """Rates, costs per success, expected costs and all three paired comparisons, whatever they say."""
    for name, places in (("before", 6), ("handoff", 3)):
        row = table[name]
        for figure, digits in (("cost_per_success", places), ("expected_cost", 3)):
            point, low, high = (float(row[f"{figure}_{end}"]) for end in ("usd", "low", "high"))
            assert f"${point:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})" in text
        assert f"{row['successes']} of 60" in text
    after = table["handoff"]
    low, high = after["vs_baseline_low"], after["vs_baseline_high"]
    assert f"{after['vs_baseline_ratio']:,.0f} times" in text
    assert f"({low:,.0f}-{high:,.0f})" in text
    assert after["verdict"] == "WORSE"
    expected = [after[f"expected_cost_ratio{end}"] for end in ("", "_low", "_high")]
    assert "{:.2f} times as much ({:.2f}-{:.2f})".format(*expected) in text
    assert after["expected_cost_verdict"] == "INCONCLUSIVE"
    (pair,) = compare(f"{results.folder}:handoff", f"{results.folder}:before").rows
    points = [f"{pair[f'success_rate_difference{end}'] * 100:+.1f}" for end in ("", "_low", "_high")]
    assert points == ["+16.7", "+4.0", "+29.8"]
    assert all(point in text for point in points)
    assert PERSON_USD < Decimal(after["expected_cost_usd"]) < Decimal(table["before"]["expected_cost_usd"])
