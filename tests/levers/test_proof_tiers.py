"""Tiers of models, before and after: what `examples/lever_tiers.py` prints, from the recording of a real model."""

import json
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from decimal import Decimal
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from langchain_finops import PriceBook, open_ledger
from langchain_finops.evals import Results, compare, load_results
from langchain_finops.evals.resume import plan_of, table_of
from langchain_finops.evals.routers import RouterOptions, router_report
from langchain_finops.levers import routing_costs
from langchain_finops.pricing import parse_cards

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "golden_datasets" / "levers" / "recordings" / "tiers.jsonl"
PAGE = (ROOT / "docs" / "levers.md").read_text(encoding="utf-8")
STORY = (
    (ROOT / "golden_datasets" / "levers" / "README.md")
    .read_text(encoding="utf-8")
    .split("## Tiers")[1]
    .split("\n## ")[0]
)
ROUTERS = ("cascade", "cascade-copied", "by-rule", "by-difficulty")
# The card of golden_datasets/levers/tiers.yaml, written down once more by hand.
INPUT_USD, OUTPUT_USD = Decimal("0.02") / 10**6, Decimal("0.04") / 10**6
CARD = {"id": "hosted", "match": {"model": "gemma-3-270m*"}, "rates": {"input_tokens": "0.02", "output_tokens": "0.04"}}
PRICES = PriceBook(cards=parse_cards([CARD], where="the test"), catalog=False)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the example prints, from the recording, and its results folder."""
    folder, said = tmp_path_factory.mktemp("tiers") / "results", StringIO()
    spec = spec_from_file_location("lever_tiers", ROOT / "examples" / "lever_tiers.py")
    assert spec is not None
    assert spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.chdir(ROOT)
        patch.setenv("COLUMNS", "220")
        patch.setenv("FINOPS_MODEL_URL", "http://127.0.0.1:1/v1")  # Nobody answers there.
        patch.delenv("FINOPS_LEDGER", raising=False)
        example.main(folder)
    return said.getvalue(), folder


@pytest.fixture(scope="module")
def results(printed: tuple[str, Path]) -> Results:
    return load_results(printed[1])


@pytest.fixture(scope="module")
def table(results: Results) -> dict[str, dict[str, Any]]:
    return {row["configuration"]: row for row in table_of(results).rows}


@pytest.fixture(scope="module")
def routers(results: Results) -> dict[str, dict[str, Any]]:
    options = RouterOptions(routers=ROUTERS)
    report = router_report(results.attempts, results.verdicts, plan=plan_of(results), options=options)
    return {row["policy"]: row for row in report.rows}


def by_hand() -> dict[str, Decimal]:
    """Each recorded answer's own token counts, times the card's rates."""
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for line in RECORDING.read_text("utf-8").splitlines()[1:]:
        call = json.loads(line)
        usage = json.loads(call["answer"])["usage"]
        costs[call["configuration"]] += usage["prompt_tokens"] * INPUT_USD + usage["completion_tokens"] * OUTPUT_USD
    return costs


def rows_of(text: str, header: str) -> list[list[str]]:
    """The cells of a Markdown table."""
    lines = text[text.index(header) :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def ratio(row: dict[str, Any], name: str = "") -> str:
    """A ratio of costs and its interval, in words."""
    point, low, high = (
        row[name + end] for end in ("ratio", "low" if name else "ratio_low", "high" if name else "ratio_high")
    )
    return f"{point:.2f} ({low:.2f}-{high:.2f})"


def test_it_replays_each_call_and_costs_what_the_recorded_tokens_do(
    results: Results, table: dict[str, dict[str, Any]]
) -> None:
    """720 attempts, 763 calls, none live; to the picodollar."""
    assert {row["attempts"] for row in table.values()} == {120}
    assert sum(attempt.calls for attempt in results.attempts) == 763
    assert all(attempt.replayed_calls == attempt.calls > 0 for attempt in results.attempts)
    assert {name: row["total_cost_usd"] for name, row in table.items()} == by_hand()


def test_successes_are_those_of_the_answers_by_hand(results: Results, table: dict[str, dict[str, Any]]) -> None:
    """An answer is right if it is the reference but for case and white space."""
    lines = (ROOT / "golden_datasets" / "levers" / "tiers.jsonl").read_text("utf-8").splitlines()
    expected = {item["id"]: item["outputs"]["answer"].casefold() for item in map(json.loads, lines)}
    right = dict.fromkeys(table, 0)
    for attempt in results.attempts:
        assert isinstance(attempt.answer, dict)
        right[attempt.configuration] += " ".join(attempt.answer["answer"].casefold().split()) == expected[attempt.task]

    assert {name: row["successes"] for name, row in table.items()} == right
    assert right == {
        "brain": 72,
        "worker": 53,
        "cascade": 58,
        "cascade-copied": 74,
        "by-rule": 61,
        "by-difficulty": 52,
    }


@pytest.mark.parametrize("name", ROUTERS)
def test_what_the_ledger_says_the_tiers_spent_is_what_the_table_says(
    printed: tuple[str, Path], table: dict[str, dict[str, Any]], name: str
) -> None:
    """`routing_costs` over the run's ledger, to the picodollar; one request an attempt, and no router's call beside."""
    ledger = open_ledger(printed[1] / "ledger.db")
    costs = routing_costs(ledger.calls(agent_id=name), dearest="brain", prices=PRICES)

    assert costs.spent_usd == table[name]["total_cost_usd"] > 0
    assert (costs.requests, costs.overhead_usd, costs.unpriced) == (120, 0, 0)
    if name == "cascade-copied":
        # Both tiers are of one price: alone it is the last call of each attempt, the brain's or the worker's.
        last = {
            (call["task"], call["repeat"]): json.loads(call["answer"])["usage"]
            for call in map(json.loads, RECORDING.read_text(encoding="utf-8").splitlines()[1:])
            if call["configuration"] == name
        }
        assert costs.alone_usd == sum(
            each["prompt_tokens"] * INPUT_USD + each["completion_tokens"] * OUTPUT_USD for each in last.values()
        )
        assert f"${costs.alone_usd:.8f} for `cascade-copied`" in STORY


def test_the_page_and_the_story_say_what_came_out(
    table: dict[str, dict[str, Any]], routers: dict[str, dict[str, Any]]
) -> None:
    """Each row of both tables: successes, costs, and both paired ratios with their intervals."""
    page = dict(zip(table, rows_of(PAGE, "| policy | solved | an attempt |"), strict=True))
    story = dict(zip(table, rows_of(STORY, "| configuration | chooses | success |"), strict=True))
    for name, row in table.items():
        to_brain = "" if name == "brain" else ratio(row, "vs_baseline_")
        to_worker = ratio(routers[name], "vs_best_single_") if name in ROUTERS else ""
        solved = f"{row['successes']} of 120"
        each = row["total_cost_usd"] / 120
        assert page[name][1:] == [solved, f"${each:.8f}", to_brain, to_worker]
        assert story[name][0] == f"`{name}`"
        assert story[name][2:] == [
            f"{solved}, {row['success_rate']:.0%}",
            f"${row['total_cost_usd']:.8f}",
            f"${row['cost_per_success_usd'] * 10**6:.2f}",
            to_brain,
            to_worker,
        ]


def test_no_policy_beats_the_best_single_and_both_texts_say_so(
    printed: tuple[str, Path], routers: dict[str, dict[str, Any]]
) -> None:
    """The report's verdicts, and its rows in the README as the example prints them."""
    assert {name: routers[name]["verdict"] for name in ROUTERS} == {
        "cascade": "INCONCLUSIVE",
        "cascade-copied": "does not beat BestSingle",
        "by-rule": "does not beat BestSingle",
        "by-difficulty": "INCONCLUSIVE",
    }
    assert routers["worker"]["best_single"] is True
    assert "No policy beats BestSingle" in STORY
    assert "No policy beats the best single" in PAGE
    shown = STORY.split("```text\n")[1].split("```")[0].splitlines()
    assert len(shown) == 12
    assert set(shown) <= {line.rstrip() for line in printed[0].splitlines()}


def test_the_other_figures_of_the_story(results: Results, table: dict[str, dict[str, Any]]) -> None:
    """How the brain is dearer, what the cascade buys, what chance would do, and where a failure costs something."""
    each = {name: row["total_cost_usd"] / 120 for name, row in table.items()}
    rate = {name: Fraction(row["successes"], 120) for name, row in table.items()}
    assert f"{each['brain'] / each['worker']:.1f}" == "2.9"
    tiers = Counter((attempt.configuration, attempt.answer["tier"]) for attempt in results.attempts)
    assert tiers["cascade-copied", "brain"] == 34
    for name, share, cost in (("by-rule", "50%", "0.000352"), ("by-difficulty", "45%", "0.000242")):
        brain = Fraction(tiers[name, "brain"], 120)
        by_chance = float(brain * rate["brain"] + (1 - brain) * rate["worker"])
        costs = brain * Fraction(each["brain"]) + (1 - brain) * Fraction(each["worker"])
        assert (f"{by_chance:.0%}", f"{float(costs * 120):.6f}") == (share, cost)
    dearer, better = each["cascade-copied"] - each["worker"], rate["cascade-copied"] - rate["worker"]
    assert (f"{float(better) * 100:.1f}", f"{float(Fraction(dearer) / better):.6f}") == ("17.5", "0.000008")
    (pair,) = compare(f"{results.folder}:cascade-copied", f"{results.folder}:brain").rows
    points = [f"{pair[f'success_rate_difference{end}'] * 100:+.1f}" for end in ("", "_low", "_high")]
    assert (ratio(pair), points, pair["verdict"]) == ("0.61 (0.49-0.76)", ["+1.7", "-7.5", "+10.9"], "BETTER")
    options = RouterOptions(routers=ROUTERS, failure_usd=Decimal("0.50"))
    report = router_report(results.attempts, results.verdicts, plan=plan_of(results), options=options)
    found = {row["policy"]: row for row in report.rows}
    assert found["brain"]["best_single"] is True
    assert (ratio(found["cascade-copied"], "vs_best_single_"), found["cascade-copied"]["verdict"]) == (
        "0.96 (0.76-1.21)",
        "INCONCLUSIVE",
    )
