"""`finops-eval routers`, as a user meets it."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_finops.cli import finops_eval as command
from langchain_finops.cli.common import run
from langchain_finops.evals.results import read_attempts

DATA = Path(__file__).parents[1] / "data"

TARGET = '''
"""Scripted models: tiny is right up to two, big always, sorter says which of them is enough. 100 tokens in, 10 out."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_finops.levers import Tier, TieredChatModel, by_intent


class Scripted(BaseChatModel):
    name_: str

    @property
    def _llm_type(self):
        return "scripted"

    def _get_ls_params(self, stop=None, **_):
        return {"ls_provider": "own", "ls_model_name": self.name_}

    def _generate(self, messages, stop=None, run_manager=None, **_):
        number = int([word for word in messages[-1].text.split() if word.isdigit()][-1])
        answer = str(2 * number + (self.name_ == "tiny" and number > 2))
        if self.name_ == "sorter":
            answer = "easy" if number <= 2 else "hard"
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
        metadata = {"model_name": self.name_, "model_provider": "own"}
        message = AIMessage(answer, usage_metadata=usage, response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])


def build(configuration):
    model = Scripted(name_=configuration["model"])
    if model.name_ == "tiers":
        tiers = [Tier(name, Scripted(name_=name)) for name in ("tiny", "big")]
        policy = by_intent(Scripted(name_="sorter"), {"easy": "tiny", "hard": "big"})
        model = TieredChatModel(tiers, policy=policy)
    graph = StateGraph(MessagesState)
    graph.add_node("solve", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    return graph.compile()
'''

SUITE = """
target: routers_target:build
scorer: exact
configurations:
  - {name: small, model: tiny}
  - {name: large, model: big}
  - {name: tiers, model: tiers, router: true}
cards:
  hosted:
    - {id: cheap, match: {model: tiny}, rates: {input_tokens: 1, output_tokens: 10}}
    - {id: sorter, match: {model: sorter}, rates: {input_tokens: 1, output_tokens: 10}}
    - {id: dear, match: {model: big}, rates: {input_tokens: 10, output_tokens: 100}}
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def finops_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routers_target.py").write_text(TARGET)
    (tmp_path / "tasks.yaml").write_text(SUITE)
    lines = [
        {"id": f"t{n}", "inputs": {"messages": [["human", str(n)]]}, "outputs": {"answer": str(2 * n)}}
        for n in (1, 2, 3)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = list(sys.path)

    def finops_eval_(*words: object) -> tuple[int, str, str]:
        code = run(command.app, "finops-eval", [str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield finops_eval_
    sys.path[:] = path
    sys.modules.pop("routers_target", None)


def rows_of(finops_eval: Command, *words: object) -> dict[str, dict[str, Any]]:
    code, out, _ = finops_eval("routers", *words, "--format", "json")
    assert code == 0
    return {row["policy"]: row for row in json.loads(out)}


def test_a_tiered_model_is_measured_with_what_its_router_costs(finops_eval: Command, tmp_path: Path) -> None:
    """A call of tiny or the sorter is $0.0002, of big $0.002: the router is three sorters, two tinies, one big.

    The suite marks it. small is $0.0006 for two successes, and no choice is less than that a success: the Oracle's.
    """
    finops_eval("run", "tasks.jsonl")

    found = rows_of(finops_eval, "results/tasks")

    assert {name: (row["kind"], row["successes"]) for name, row in found.items()} == {
        "tiers": ("router", 3),
        "small": ("single", 2),
        "large": ("single", 3),
        "Random": ("random", 2.5),
        "Oracle": ("oracle", 2),
        "Oracle, most solved": ("oracle_most_solved", 3),
    }
    totals = {name: Decimal(row["total_cost_usd"]) for name, row in found.items()}
    assert totals["tiers"] == 3 * Decimal("0.0002") + 2 * Decimal("0.0002") + Decimal("0.002")
    assert (totals["small"], totals["large"], totals["Random"]) == tuple(map(Decimal, ("0.0006", "0.006", "0.0033")))
    assert (totals["Oracle"], totals["Oracle, most solved"]) == (Decimal("0.0006"), Decimal("0.0024"))
    assert found["tiers"]["regret_usd"] == pytest.approx(0.003 / 3 - 0.0006 / 2)
    assert sum(attempt.calls for attempt in read_attempts(tmp_path / "results" / "tasks")[0]) == 3 + 3 + 6


def test_marks_of_the_suite_hold_for_several_folders_too(finops_eval: Command) -> None:
    """Configurations of the same name are told by their folders' names, and so are routers."""
    finops_eval("run", "tasks.jsonl")
    finops_eval("run", "tasks.jsonl", "--out", "results/again")

    found = rows_of(finops_eval, "results/tasks", "results/again", "--singles", "tasks:small,tasks:large")

    assert [name for name, row in found.items() if row["kind"] == "router"] == ["tasks:tiers", "again:tiers"]


def test_a_price_of_failure_is_weighed(finops_eval: Command) -> None:
    """At a cent a failure small costs $0.0106 for three tasks, large $0.006, the router $0.003, the Oracle $0.0024."""
    finops_eval("run", "tasks.jsonl")

    found = rows_of(finops_eval, "results/tasks", "--failure-usd", "0.01")

    assert found["small"]["expected_cost_usd"] == pytest.approx(0.0106 / 3)
    assert found["tiers"]["expected_cost_usd"] == pytest.approx(0.003 / 3)
    assert found["Oracle"]["expected_cost_usd"] == pytest.approx(0.0024 / 3)
    assert found["tiers"]["regret_share"] == pytest.approx(0.0006 / 0.0024)
    assert [name for name, row in found.items() if row["best_single"]] == ["large"]
    assert found["tiers"]["gap_closed"] == pytest.approx((0.006 - 0.003) / (0.006 - 0.0024))


def test_whatever_the_verdict_it_exits_with_0_and_says_it(
    finops_eval: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that is worse than the best single is told so in words, in eighty columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with (tmp_path / "theirs.csv").open("w") as file:
        file.write("configuration,task,cost,success\n")
        for task in range(60):
            file.writelines(
                f"{name},{task},{cost},{int(task % 3 > 0)}\n" for name, cost in (("a", 1), ("b", 2), ("r", 5))
            )

    code, out, err = finops_eval("routers", "theirs.csv", "--routers", "r")

    assert (code, err) == (0, "")
    assert "r does not beat BestSingle (a), at 5.00 (5.00-5.00) times its cost per" in out
    assert max(map(len, out.splitlines())) <= 80


def test_tries_of_one_model_as_singles_show_what_an_oracle_is_made_of(finops_eval: Command, tmp_path: Path) -> None:
    """tau-bench airline, gpt-4o, a trial as a configuration: Random is pass^1, the published .42.

    An Oracle of four tries of the same model would solve 1.5 times as much, by luck alone; and five costs are unknown.
    """
    with (DATA / "tau_airline_gpt4o.csv").open() as file:
        trials = list(csv.DictReader(file))
    solved = {row["task_id"] for row in trials if float(row["reward"]) > 0.99}
    columns = "configuration=trial,task=task_id,cost=user_cost,success=reward"

    found = rows_of(finops_eval, DATA / "tau_airline_gpt4o.csv", "--columns", columns)

    assert found["Random"]["success_rate"] == pytest.approx(0.42)
    assert found["Oracle, most solved"]["success_rate"] == pytest.approx(len(solved) / 50)
    assert len(solved) / 50 > 1.4 * 0.42
    assert found["Random"]["unknown_costs"] == 5
    assert found["Random"]["cost_per_success_bound"] == ">="


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--routers", "small,tiers"), "large alone is one"),
        (("--routers", "cheap"), "no configuration is called 'cheap': choose of small, large, tiers"),
        (("--failure-usd", "much"), "--failure-usd much found: an amount in dollars is expected"),
        (("--cards", "other"), "'other' is no card set of"),
        (("--scorer", "other"), "no verdict is by scorer 'other'"),
        (("--columns", "cost=usd"), "--columns is for CSV and JSON lines files"),
        (("--level", "95"), "level is 95.0"),
    ],
)
def test_bad_arguments_are_one_sentence(finops_eval: Command, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, nothing on stdout, and what to do instead."""
    finops_eval("run", "tasks.jsonl")

    code, out, err = finops_eval("routers", "results/tasks", *words)

    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert told in err
    assert err.count("\n") == 1
