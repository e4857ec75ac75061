"""The main job as `make demo` runs it: the real command lines on the committed recording of a real model."""

import json
import os
import subprocess
import sys
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT / "golden_datasets" / "tickets.jsonl"
RECORDING = ROOT / "golden_datasets" / "recordings" / "tickets.jsonl"

# The cards of golden_datasets/tickets.yaml, written down once more by hand.
INPUT_USD, OUTPUT_USD = Decimal("0.02") / 10**6, Decimal("0.04") / 10**6
INSTANCE_HOUR_USD = Decimal("0.0816")
PICODOLLAR = Decimal(1).scaleb(-12)

CONFIGURATIONS = ["zero-shot", "two-shot", "five-shot", "five-shot-warm", "five-shot-vote"]


def command(module: str, *arguments: str, columns: str = "200") -> str:
    """Standard output of one of the two commands, in a process of its own, without key or network."""
    ours = ("FINOPS_", "LANGSMITH_", "LANGCHAIN_", "OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    blocked = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    script = f"from langchain_finops.cli.{module} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env={**kept, **blocked, "COLUMNS": columns},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "tickets"
    command("finops_eval", "run", str(DATA), "--out", str(folder), "--format", "json")
    return folder


def rows(results: Path, *more: str) -> dict[str, dict[str, Any]]:
    found = json.loads(command("finops_eval", "table", str(results), "--format", "json", *more))
    return {row["configuration"]: row for row in found}


def calls() -> list[dict[str, Any]]:
    """The recorded calls that were answered, straight from the file."""
    return [json.loads(line) for line in RECORDING.read_text("utf-8").split("\n")[1:-1]]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def test_every_configuration_tries_every_task_three_times(results: Path) -> None:
    """60 tasks x 3 repeats for each of 5 configurations, none in error, each with an interval."""
    table = rows(results)

    assert list(table) == CONFIGURATIONS
    for row in table.values():
        assert (row["tasks"], row["attempts"], row["errors"], row["unknown_costs"]) == (60, 180, 0, 0)
        assert row["success_rate_low"] < row["success_rate"] < row["success_rate_high"]
        assert row["cost_per_success_low"] < float(row["cost_per_success_usd"]) < row["cost_per_success_high"]


def test_success_rates_are_those_of_the_answers_by_hand_and_differ(results: Path) -> None:
    """An answer is right if it is the reference but for case and white space; at least three rates differ."""
    expected = {item["id"]: item["outputs"]["answer"] for item in lines(DATA)}
    right = dict.fromkeys(CONFIGURATIONS, 0)
    for attempt in lines(results / "attempts.jsonl"):
        said = " ".join(attempt["answer"]["answer"].casefold().split())
        right[attempt["configuration"]] += said == expected[attempt["task"]].casefold()
    table = rows(results)

    assert {name: row["successes"] for name, row in table.items()} == right
    assert {name: row["success_rate"] for name, row in table.items()} == {
        name: pytest.approx(count / 180) for name, count in right.items()
    }
    assert len(set(right.values())) >= 3


def test_costs_are_those_of_the_recorded_usage_by_hand(results: Path) -> None:
    """Each recorded answer's own token counts, times the hosted card's rates, exactly."""
    by_hand = dict.fromkeys(CONFIGURATIONS, Decimal(0))
    for call in calls():
        usage = json.loads(call["answer"])["usage"]
        cost = usage["prompt_tokens"] * INPUT_USD + usage["completion_tokens"] * OUTPUT_USD
        by_hand[call["configuration"]] += cost

    assert {name: Decimal(row["total_cost_usd"]) for name, row in rows(results).items()} == by_hand


def test_self_hosted_costs_are_recorded_wall_time_times_price(results: Path) -> None:
    """A call costs its seconds as recorded, at $0.0816 an hour, to the picodollar."""
    by_hand = dict.fromkeys(CONFIGURATIONS, Decimal(0))
    for call in calls():
        cost = Decimal(repr(call["duration_s"])) * INSTANCE_HOUR_USD / 3600
        by_hand[call["configuration"]] += cost.quantize(PICODOLLAR, ROUND_HALF_EVEN)
    table = rows(results, "--cards", "self-hosted")

    assert {name: Decimal(row["total_cost_usd"]) for name, row in table.items()} == by_hand


@pytest.mark.slow
def test_the_idle_time_of_the_machine_is_told(tmp_path: Path) -> None:
    """Of two tasks' calls, one after the other as recorded: each has its seconds, and the time between them is idle."""
    folder = tmp_path / "own-machine"
    words = ("--cards", "self-hosted", "--sample", "2", "--out", str(folder))
    command("finops_eval", "run", str(DATA), *words)
    tasks = {attempt["task"] for attempt in lines(folder / "attempts.jsonl")}
    busy, begins, ends = dict.fromkeys(CONFIGURATIONS, 0.0), [], []
    for call in calls():
        if call["task"] in tasks:
            busy[call["configuration"]] += call["duration_s"]
            begins.append(datetime.fromisoformat(call["started_at"]).timestamp())
            ends.append(begins[-1] + call["duration_s"])
    machine = ("--replays", "--usd-per-instance-hour", str(INSTANCE_HOUR_USD), "--concurrency", "1")
    told = command("finops", "machines", "--ledger", str(folder / "ledger.db"), *machine, "--format", "json")

    dollars = {row["agent"] or "idle": Decimal(row["usd"]) for row in json.loads(told)}
    second = float(INSTANCE_HOUR_USD) / 3600
    paid = (max(ends) - min(begins)) * second
    assert float(sum(dollars.values())) == pytest.approx(paid, rel=1e-5)
    assert float(dollars.pop("idle")) == pytest.approx(paid - sum(busy.values()) * second, rel=1e-4)
    assert {name: float(usd) for name, usd in dollars.items()} == pytest.approx(
        {name: seconds * second for name, seconds in busy.items()}, rel=1e-4
    )


def test_latencies_are_the_recorded_ones(results: Path) -> None:
    """A replay takes milliseconds; an attempt's latency is never less than that of its calls."""
    recorded: dict[tuple[str, str, int], float] = {}
    for call in calls():
        slot = call["configuration"], call["task"], call["repeat"]
        recorded[slot] = recorded.get(slot, 0.0) + call["duration_s"]

    for attempt in lines(results / "attempts.jsonl"):
        slot = attempt["configuration"], attempt["task"], attempt["repeat"]
        assert attempt["latency_s"] >= recorded[slot] - 1e-4


def test_the_report_by_node_adds_up_to_the_table(results: Path) -> None:
    """To the picodollar, and to the number of recorded calls; nothing was billed by replaying."""
    ledger = str(results / "ledger.db")
    report = json.loads(command("finops", "report", "--by", "node", "--ledger", ledger, "--format", "json"))
    nodes = {row["node"]: row for row in report}
    table = rows(results)

    total = sum(Decimal(row["total_cost_usd"]) for row in table.values())
    assert sum(Decimal(row["cost_usd"]) for row in nodes.values()) == total
    assert sum(row["calls"] for row in nodes.values()) == len(calls()) == sum(row["calls"] for row in table.values())
    assert {"extract", "verify"} <= set(nodes)
    assert all(Decimal(row["billed_usd"]) == 0 for row in nodes.values())


def test_no_advice_is_given_that_is_false(results: Path) -> None:
    """One small model with short prompts, none of which are sent again to be read from a cache: nothing to find."""
    assert json.loads(command("finops", "advise", "--ledger", str(results / "ledger.db"), "--format", "json")) == []


def test_running_again_changes_nothing(results: Path) -> None:
    """Everything is done: the same command shows the same table and writes no further line."""
    before = (results / "attempts.jsonl").read_bytes()
    table = rows(results)
    command("finops_eval", "run", str(DATA), "--out", str(results), "--format", "json")

    assert (results / "attempts.jsonl").read_bytes() == before
    assert rows(results) == table


def test_the_recording_holds_no_secret_and_is_small() -> None:
    """Nothing but what was asked and said; well under what a repository should hold."""
    text = RECORDING.read_text("utf-8")

    assert "authorization" not in text.lower()
    assert "not needed" not in text
    assert RECORDING.stat().st_size < 4_000_000
    assert {call["status"] for call in calls()} == {200}


def test_every_task_has_one_answer_that_stands_in_its_message() -> None:
    """Copying is all that is asked for; the prompts were chosen on other tasks."""
    tasks = lines(DATA)
    development = lines(ROOT / "golden_datasets" / "dev" / "tickets-dev.jsonl")

    assert len(tasks) == len({task["inputs"]["message"] for task in tasks}) == 60
    for task in tasks + development:
        assert task["outputs"]["answer"] in task["inputs"]["message"]
    assert {task["split"] for task in tasks} == {"test"}
    assert {task["split"] for task in development} == {"dev"}
    assert not {task["inputs"]["message"] for task in tasks} & {task["inputs"]["message"] for task in development}


def test_the_readme_shows_this_table(results: Path) -> None:
    """The table in the README is what the demo prints, digit by digit."""
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = readme.partition("```text\n")[2].partition("```")[0]
    printed = command("finops_eval", "table", str(results), columns="80")

    assert len(shown.splitlines()) == 2 + len(CONFIGURATIONS)
    assert [line.rstrip() for line in printed.splitlines()][: 2 + len(CONFIGURATIONS)] == shown.splitlines()
