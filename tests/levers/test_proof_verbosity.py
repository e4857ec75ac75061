"""What a learnt cap saves: from the recording of a real model, and as the pages tell it."""

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from langchain_finops import open_ledger
from langchain_finops.evals import compare, load_results
from langchain_finops.levers import learn_caps

ROOT = Path(__file__).parents[2]
LEVERS = ROOT / "golden_datasets" / "levers"
PAGES = tuple(
    (ROOT / name).read_text(encoding="utf-8") for name in ("docs/levers.md", "golden_datasets/levers/README.md")
)
RATES = {"prompt_tokens": Decimal("0.02"), "completion_tokens": Decimal("0.04")}
"""Dollars a million."""


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield import_module("examples.lever_verbosity")


@pytest.fixture(scope="module")
def replayed(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example leaves behind, replayed once for all tests."""
    folder = tmp_path_factory.mktemp("verbosity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        example.main(folder)
    return folder


def spent(name: str) -> dict[str, tuple[Decimal, Counter[str]]]:
    """Cost and tokens by configuration, from the bare recording."""
    found: dict[str, tuple[Decimal, Counter[str]]] = {}
    lines = (LEVERS / "recordings" / name).read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        call = json.loads(line)
        usage = Counter({meter: json.loads(call["answer"])["usage"][meter] for meter in RATES})
        cost, tokens = found.get(call["configuration"], (Decimal(0), Counter()))
        cost += sum((RATES[meter] * count for meter, count in usage.items()), Decimal(0)) / 1_000_000
        found[call["configuration"]] = cost, tokens + usage
    return found


def test_the_cap_of_the_suite_is_the_one_that_was_learnt(example: ModuleType, replayed: Path) -> None:
    """On tasks that are none of those it is tried on: 51 succeed, so the second largest need covers 90% of them."""
    (row,) = example.learn(replayed / "dev").rows
    suite = yaml.safe_load((LEVERS / "verbosity.yaml").read_text(encoding="utf-8"))
    names = [
        {json.loads(line)["inputs"]["message"] for line in (LEVERS / f"{name}.jsonl").read_text().splitlines()}
        for name in ("verbosity", "verbosity-dev")
    ]

    assert [each["cap"] for each in suite["configurations"]] == [None, row.tokens, None]
    assert (row.tokens, row.successes, row.calls, row.cut_tasks) == (12, 51, 75, 1)
    cost, tokens = spent("verbosity-dev.jsonl")["before"]
    assert row.output_tokens == tokens["completion_tokens"]
    assert row.saved_usd == (row.output_tokens - 75 * 12) * RATES["completion_tokens"] / 1_000_000 < cost
    assert names[0].isdisjoint(names[1])
    assert (len(names[0]), len(names[1])) == (30, 75)


def test_lengths_alone_teach_nothing_here(replayed: Path) -> None:
    """Good answers run to the limit of 128 as bad ones do: a cap at that would have saved nothing."""
    ledger = open_ledger(replayed / "dev" / "ledger.db")
    (row,) = learn_caps(ledger, coverage=0.90).rows
    ledger.close()
    assert (row.tokens, row.longer, row.saved_usd) == (128, 0, 0)


def test_the_pages_tell_what_the_recording_says(replayed: Path) -> None:
    """Successes, costs from the recording's own token counts, and the paired intervals: row by row."""
    results = load_results(replayed / "test")
    won = Counter(verdict.configuration for verdict in results.verdicts if verdict.success)
    costs = spent("verbosity.jsonl")
    for name, shown in (("before", "`before`"), ("capped", "`capped`"), ("stopped", "`stopped`")):
        cost, tokens = costs[name]
        assert sum(each.cost_usd or 0 for each in results.attempts if each.configuration == name) == cost
        told = f"| {shown} | {won[name]} of 60 | {tokens['completion_tokens']:,} | ${cost:.8f} | "
        told += f"${cost / won[name] * 1_000_000:.2f} | "
        if name != "before":
            folder = replayed / "test"
            row = compare(f"{folder}:{name}", f"{folder}:before").rows[0]
            told += f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f}), {row['verdict']}"
        for page in PAGES:
            assert told in page


def test_a_capped_answer_has_no_more_than_its_cap_and_a_longer_one_says_so() -> None:
    """The model goes on all the same: each answer takes all twelve tokens and is cut off there."""
    lines = (LEVERS / "recordings" / "verbosity.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    calls = [call for call in map(json.loads, lines) if call["configuration"] == "capped"]
    answers = [json.loads(call["answer"]) for call in calls]

    assert {call["body"]["max_tokens"] for call in calls} == {12}
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {12}
    assert {answer["choices"][0]["finish_reason"] for answer in answers} == {"length"}
