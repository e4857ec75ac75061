"""What cut contexts save: recordings of a real small model, replayed by the examples, against what the docs say."""

import importlib.util
import json
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from langchain_finops.evals import compare
from langchain_finops.levers import passages

ROOT = Path(__file__).parents[2]
LEVERS = ROOT / "golden_datasets" / "levers"
PAGE = (ROOT / "docs" / "levers.md").read_text(encoding="utf-8")
STORY = (LEVERS / "README.md").read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def replayed(name: str, folder: Path) -> str:
    """What the example prints, from the recording."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(ROOT)
        patch.setenv("XDG_DATA_HOME", str(folder))
        patch.setenv("FINOPS_MODEL_URL", "http://127.0.0.1:1/v1")  # Nobody answers there.
        load(f"lever_{name}").main(folder)
    return printed.getvalue()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sums(folder: Path, configuration: str, scorer: Any) -> tuple[float, int, int]:
    """Dollars, successes and attempts, counted from the recording by hand: $0.02 a million tokens in, $0.04 out."""
    calls = [call for call in lines(folder)[1:] if call["configuration"] == configuration]
    usage = [json.loads(call["answer"])["usage"] for call in calls]
    cost = sum(each["prompt_tokens"] * 2e-8 + each["completion_tokens"] * 4e-8 for each in usage)
    said: dict[str, list[str]] = {}
    for call in calls:
        if not call["body"]["prompt"][0].endswith("Notes:"):
            text = json.loads(call["answer"])["choices"][0]["text"]
            said.setdefault(call["task"], []).append(text.strip().strip("\"'").rstrip(".,;:!").casefold())
    return cost, sum(scorer(task, answers) for task, answers in said.items()), len(said)


# --- a document that is most of the prompt ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("reading") / "passages"
    return folder, replayed("passages", folder)


QUESTIONS = {task["id"]: task for task in lines(LEVERS / "passages.jsonl")}


def test_the_page_tells_what_the_passages_example_finds(reading: tuple[Path, str]) -> None:
    """Costs per success are those of the recording's tokens and answers; intervals are those of `compare`."""
    folder, printed = reading
    for name, words in (("whole", "all of it"), ("passages", "`passages`"), ("first", "its first 950 letters")):
        cost, won, tried = sums(
            LEVERS / "recordings" / "passages.jsonl",
            name,
            lambda task, answers: QUESTIONS[task]["outputs"]["answer"].casefold() in answers[0],
        )
        row = f"| {words} | {won} of {tried} | ${cost / tried:.7f} | ${cost / won:.7f} |"
        if name != "whole":
            (found,) = compare(f"{folder}:{name}", f"{folder}:whole").rows
            row += f" {found['ratio']:.2f} ({found['ratio_low']:.2f}-{found['ratio_high']:.2f}), {found['verdict']} |"
            assert (found["a_successes"], found["b_successes"]) == (won, 14)
            assert float(found["a_cost_usd"] / found["b_cost_usd"]) < 0.4
            assert found["a_cost_per_success_usd"] == pytest.approx(cost / won)
            assert f"{found['ratio']:.2f} ({found['ratio_low']:.2f}-{found['ratio_high']:.2f})" in printed
        assert row in PAGE


def test_of_questions_in_other_words_the_page_tells_what_is_lost(reading: tuple[Path, str]) -> None:
    """How often what was sent had lost the answer, how often it was all of the handbook, and how many were solved."""
    folder, _ = reading
    solved = Counter(
        (score["configuration"], QUESTIONS[score["task"]]["metadata"]["words"])
        for score in lines(folder / "scores.jsonl")
        if score["success"]
    )
    sent: dict[tuple[str, str], str] = {
        (call["configuration"], call["task"]): call["body"]["prompt"][0]
        for call in lines(LEVERS / "recordings" / "passages.jsonl")[1:]
    }
    lost, whole = Counter[str](), Counter[str]()
    for name, task in QUESTIONS.items():
        text = (LEVERS / "handbooks" / f"{task['inputs']['handbook']}.md").read_text(encoding="utf-8")
        read = sent["passages", name].rpartition("Text: ")[2].rpartition("\nQuestion: ")[0]
        words = task["metadata"]["words"]
        assert text in sent["whole", name]
        assert read in {text, passages(text, task["inputs"]["question"])}
        whole[words] += sent["passages", name] == sent["whole", name]
        lost[words] += task["outputs"]["answer"] not in read

    assert (lost, whole) == (Counter(other=6), Counter(other=6))
    assert (
        "Twenty of the questions use other words than the handbook: of these the cut lost the answer in 6, and" in PAGE
    )
    assert (
        f"nothing was cut in 6; {solved['passages', 'other']} were solved, {solved['whole', 'other']} of them" in PAGE
    )
    assert f"Of the other forty {solved['passages', 'same']} were, and {solved['whole', 'same']}." in PAGE


# --- several look-ups in a row ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def errands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("errands") / "pruning"
    return folder, replayed("pruning", folder)


ERRANDS = {task["id"]: task["outputs"]["answers"] for task in lines(LEVERS / "pruning.jsonl")}


def rights(task: str, answers: list[str]) -> int:
    return sum(one.casefold() in other for one, other in zip(ERRANDS[task], answers, strict=True))


def test_the_page_tells_what_the_pruning_example_finds(errands: tuple[Path, str]) -> None:
    """Three of four right are a success; what the summariser costs is in it; no saving a success is claimed."""
    folder, printed = errands
    recording = LEVERS / "recordings" / "pruning.jsonl"
    for name, words in (("keep", "every page"), ("tool_results", "`tool_results`"), ("summary", "`summary`")):
        cost, won, tried = sums(recording, name, lambda task, answers: rights(task, answers) >= 3)
        _, right, _ = sums(recording, name, rights)
        row = f"| {words} | {won} of {tried} | {right} of 80 | ${cost / tried:.7f} | ${cost / won:.7f} |"
        if name != "keep":
            (found,) = compare(f"{folder}:{name}", f"{folder}:keep").rows
            row += f" {found['ratio']:.2f} ({found['ratio_low']:.2f}-{found['ratio_high']:.2f}), {found['verdict']} |"
            share = float(found["a_cost_usd"] / found["b_cost_usd"])
            assert share == pytest.approx({"tool_results": 0.63, "summary": 0.98}[name], abs=0.005)
            assert found["a_successes"] == won
            assert found["a_cost_per_success_usd"] == pytest.approx(cost / won)
            assert f"{found['ratio']:.2f} ({found['ratio_low']:.2f}-{found['ratio_high']:.2f})" in printed
        assert row in PAGE


def test_pages_go_as_soon_as_they_were_read_and_a_summary_is_bought_once(errands: tuple[Path, str]) -> None:
    """Before the second question: over three steps it pays, over two or one it does not, and the pages stay."""
    calls = lines(LEVERS / "recordings" / "pruning.jsonl")[1:]
    prompts: dict[tuple[str, str], list[str]] = {}
    for call in calls:
        prompts.setdefault((call["configuration"], call["task"]), []).append(call["body"]["prompt"][0])

    for task in ERRANDS:
        dropped = [prompt.count("[result dropped") for prompt in prompts["tool_results", task]]
        notes = [prompt.endswith("Notes:") for prompt in prompts["summary", task]]
        assert dropped == [0, 1, 2, 3]
        assert notes == [False, True, False, False, False]
        assert all("Summary of the conversation so far:" in prompt for prompt in prompts["summary", task][2:])
        assert len(prompts["keep", task]) == 4


def test_the_story_tells_how_many_summaries_were_cut_off_and_used() -> None:
    """In the recording: what was written before the limit stands in the next prompt."""
    calls = [call for call in lines(LEVERS / "recordings" / "pruning.jsonl")[1:] if call["configuration"] == "summary"]
    used = 0
    for call, after in pairwise(calls):
        (said,) = json.loads(call["answer"])["choices"]
        if call["body"]["prompt"][0].endswith("Notes:") and said["finish_reason"] == "length":
            assert call["task"] == after["task"]
            used += said["text"].strip() in after["body"]["prompt"][0]

    assert f"\n{used} of the 20 summaries were cut off by their limit of 60 tokens and used all the same" in STORY
    assert used == 4
