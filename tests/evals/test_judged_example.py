"""The shop: an agent with a tool and a judge, replayed from a recording of a real model."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_finops import open_ledger
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.resume import Results, table_of
from langchain_finops.evals.runner import run
from langchain_finops.evals.suite import load_suite
from langchain_finops.reports.advise import advise

GOLDEN = Path(__file__).parents[2] / "golden_datasets"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("shop") / "results"
    return run(load_dataset(GOLDEN / "shop.jsonl"), load_suite(GOLDEN / "shop.yaml"), Options(folder=folder))


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    """The recorded answers, with what was asked."""
    lines = (GOLDEN / "recordings" / "shop.jsonl").read_text("utf-8").splitlines()[1:]
    return [json.loads(line) for line in lines]


def cost_usd(lines: list[dict[str, Any]]) -> Decimal:
    """At $0.02 a million tokens in and $0.04 out."""
    usages = [json.loads(line["answer"])["usage"] for line in lines]
    tokens = [Decimal(each["prompt_tokens"] * 2 + each["completion_tokens"] * 4) for each in usages]
    return sum(tokens, Decimal(0)) / 100 / 1_000_000


def test_it_plays_without_a_model_and_finds_what_was_found(results: Results) -> None:
    """120 attempts, all of them replayed, and successes as the README beside the recording says."""
    rows = {row["configuration"]: row for row in table_of(results).rows}

    assert {name: row["successes"] for name, row in rows.items()} == {
        "no-examples": 0,
        "examples": 22,
        "examples-vote": 18,
    }
    assert {row["attempts"] for row in rows.values()} == {40}
    assert all(attempt.replayed_calls == attempt.calls > 0 for attempt in results.attempts)
    assert all(attempt.tool_calls > 0 for attempt in results.attempts)


@pytest.mark.parametrize("configuration", ["no-examples", "examples", "examples-vote"])
def test_agent_and_judge_cost_what_their_calls_do(
    results: Results, recorded: list[dict[str, Any]], configuration: str
) -> None:
    """Added up from the recording by hand; the judge's cost is in none of the agent's."""
    row = {row["configuration"]: row for row in table_of(results).rows}[configuration]
    lines = [line for line in recorded if line["configuration"] == configuration]

    assert row["total_cost_usd"] == cost_usd([line for line in lines if "scorer" not in line])
    assert row["judge_cost_usd"] == cost_usd([line for line in lines if line.get("scorer") == "judge"])
    assert row["judge_calls"] == 40


def test_nothing_is_advised_that_is_false(results: Results) -> None:
    """520 calls of a loop with a tool, of which the judge's are no waste of the agent."""
    ledger = open_ledger(results.folder / "ledger.db")
    assert advise(ledger).rows == []
    assert sum(1 for _ in ledger.calls()) == 520
    ledger.close()


def test_the_judge_is_as_weak_as_the_readme_says(results: Results) -> None:
    """Of answers that hold the fact, and of those that do not, how many it lets pass: by its own recorded words."""
    said = {(*verdict.slot, verdict.scorer): verdict.success for verdict in results.verdicts}
    both = Counter((said[*attempt.slot, "says it"], said[*attempt.slot, "judge"]) for attempt in results.attempts)

    assert both == {(False, True): 62, (True, True): 43, (False, False): 11, (True, False): 4}
    assert {verdict.model for verdict in results.verdicts if verdict.scorer == "judge"} == {"gemma-3-270m"}
