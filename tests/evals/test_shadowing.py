"""`shadow`: does the expensive configuration still pay? A look after another, with a history."""

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments, BadData
from langchain_finops.evals import history
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.shadowing import ShadowOptions, ShadowReport, shadow
from langchain_finops.evals.suite import load_suite

AGENT = '''
"""A plain graph on a scripted model: `large` answers all, `small` the first of its share; the dearer one costs more."""

from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph

HERE = Path(__file__).parent


class Scripted(BaseChatModel):
    model: str
    solves: int

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        number = int(messages[-1].content)
        with (HERE / "calls.log").open("a") as log:
            log.write(f"{self.model} {number}\\n")
        if (HERE / "crash").exists() and number == 3:
            raise KeyboardInterrupt
        message = AIMessage(
            str(2 * number) if number < self.solves else "no",
            usage_metadata={"input_tokens": 100 + number % 7, "output_tokens": 10, "total_tokens": 110 + number % 7},
            response_metadata={"model_name": self.model, "model_provider": "own"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class State(TypedDict, total=False):
    number: int
    answer: str


def build(configuration: dict) -> Any:
    model = Scripted(model=configuration["name"], solves=configuration["solves"])
    graph = StateGraph(State)
    graph.add_node("solve", lambda state: {"answer": model.invoke(str(state["number"])).content})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    return graph.compile()
'''

SUITE = """
target: shadow_agent:build
scorer: {{type: exact, answer_field: answer}}
configurations: [{{name: large, solves: {large}}}, {{name: small, solves: {small}}}, {{name: other, solves: 1}}]
concurrency: 1
cards:
  hosted:
    - {{id: large, match: {{model: large}}, rates: {{input_tokens: {price}, output_tokens: {price}0}}}}
    - {{id: small, match: {{model: small}}, rates: {{input_tokens: 1, output_tokens: 10}}}}
"""


class Shop:
    """A folder with 60 tasks, and how many of them either configuration solves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shadow_agent.py").write_text(AGENT)
        self.solves(large=60, small=50)
        self.tasks(60)

    def tasks(self, count: int) -> None:
        lines = [{"id": f"t{n}", "inputs": {"number": n}, "outputs": {"answer": str(2 * n)}} for n in range(count)]
        (self.folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def solves(self, *, large: int, small: int, price: int = 10, more: str = "") -> None:
        (self.folder / "tasks.yaml").write_text(SUITE.format(large=large, small=small, price=price) + more)

    def look(self, **options: object) -> ShadowReport:
        dataset, suite = load_dataset(self.folder / "tasks.jsonl"), load_suite(self.folder / "tasks.yaml")
        names = {"baseline": options.pop("baseline", "large"), "candidate": options.pop("candidate", "small")}
        return shadow(dataset, suite, **names, options=ShadowOptions(**options))

    def calls(self) -> int:
        """Calls since the last look at them."""
        log = self.folder / "calls.log"
        count = len(log.read_text().splitlines()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return count


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield Shop(tmp_path)
    sys.path[:] = path
    sys.modules.pop("shadow_agent", None)


def test_what_costs_ten_times_as_much_for_a_sixth_more_does_not_pay(shop: Shop) -> None:
    """60 of 60 at ten times the price against 50 of 60: by hand a success costs 10 x 50 / 60 = 8.33 times as much."""
    report = shop.look()

    assert report.verdict == "NOT_JUSTIFIED"
    assert report.look["ratio"] == pytest.approx(10 * 50 / 60)
    assert report.look["ratio_low"] > 1
    assert report.look["success_rate_difference"] == pytest.approx(10 / 60)
    assert report.look["incremental_usd_per_success"] is not None
    assert shop.calls() == 120  # Two configurations of the three.


def test_what_is_lost_by_failures_is_weighed_where_it_is_stated(shop: Shop) -> None:
    """At $1 a failure, ten of sixty lost outweigh the price: large costs .002 a task, small .17 in failures."""
    shop.solves(large=60, small=50, more="failure_usd: 1\n")

    report = shop.look()

    assert report.verdict == "JUSTIFIED"
    assert report.look["decided_by"] == "expected_cost"
    assert "A failure is counted as $1.00." in report.table().notes[1]


def test_quality_that_is_worth_its_price_is_justified(shop: Shop) -> None:
    """60 of 60 at twice the price of 10 of 60: by hand a success costs 2 x 10 / 60 = a third."""
    shop.solves(large=60, small=10, price=2)

    report = shop.look()

    assert (report.verdict, report.look["ratio"]) == ("JUSTIFIED", pytest.approx(1 / 3))
    assert report.look["ratio_high"] < 1


def test_looks_are_kept_and_counted(shop: Shop) -> None:
    """Each look buys anew, has a folder of its own and a line in the history; other pairs' looks are not counted."""
    shop.tasks(4)
    first = shop.look()
    shop.look(baseline="other", candidate="small")
    second = shop.look()

    assert (first.look["look"], second.look["look"]) == (1, 2)
    assert first.look["folder"] != second.look["folder"]
    lines = [json.loads(line) for line in (shop.folder / "results/tasks-shadow/history.jsonl").read_text().splitlines()]
    assert [(line["baseline"], line["look"]) for line in lines] == [("large", 1), ("other", 1), ("large", 2)]
    assert lines[0]["ratio"] == first.look["ratio"]
    assert [row["look"] for row in second.table().rows] == [1, 2]
    assert any(note.startswith("2 looks are taken, each at 95%") for note in second.table().notes)
    assert shop.calls() == 24


def test_planned_looks_share_the_level(shop: Shop) -> None:
    """5% over two looks is 2.5% each, as Bonferroni has it; a third one was not planned, and buys nothing."""
    shop.tasks(4)
    levels = [shop.look(looks=2).look["level"] for _ in range(2)]
    shop.calls()

    assert levels == pytest.approx([0.975, 0.975])
    with pytest.raises(BadArguments, match="looks taken: 2, planned: 2, at 95% in all"):
        shop.look(looks=2)
    with pytest.raises(BadArguments, match="nothing is left to decide another one on"):
        shop.look(looks=9)
    assert shop.calls() == 0


def test_a_look_that_was_stopped_decides_nothing_and_is_gone_on_with(shop: Shop) -> None:
    """Ctrl-C in the middle: no line in the history. The next look finishes the same folder, and buys only the rest."""
    shop.tasks(5)
    (shop.folder / "crash").write_text("")
    with pytest.raises(KeyboardInterrupt):
        shop.look()
    assert not (shop.folder / "results/tasks-shadow/history.jsonl").exists()
    (shop.folder / "crash").unlink()
    shop.calls()

    report = shop.look()

    assert 0 < shop.calls() < 10
    assert report.look["look"] == 1
    assert len(list((shop.folder / "results/tasks-shadow").glob("*/run.json"))) == 1


def test_a_look_that_ran_out_of_money_is_inconclusive_and_uses_up_no_look(shop: Shop) -> None:
    """It is written down and said; what it has is not passed off as a decision."""
    report = shop.look(run=Options(max_usd="0.01"), looks=1)

    assert (report.verdict, report.look["counted"]) == ("INCONCLUSIVE", False)
    assert "the look was stopped" in report.look["why"]
    assert shop.look(looks=1).look["level"] == pytest.approx(0.95)


def test_a_changed_target_begins_a_new_look(shop: Shop) -> None:
    """An unfinished look of other code is left as it is: its answers are not those of the target as it is now."""
    shop.tasks(5)
    (shop.folder / "crash").write_text("")
    with pytest.raises(KeyboardInterrupt):
        shop.look()
    (shop.folder / "crash").unlink()
    (shop.folder / "shadow_agent.py").write_text(AGENT + "\n# mended\n")
    shop.calls()

    shop.look()

    assert shop.calls() == 10


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"baseline": "huge"}, "'huge' is no configuration of .*: it has large, small, other"),
        ({"baseline": "small"}, "baseline and candidate are both 'small'"),
    ],
)
def test_names_that_make_no_sense_buy_nothing(shop: Shop, names: dict[str, str], said: str) -> None:
    """They are told before anything is run."""
    with pytest.raises(BadArguments, match=said):
        shop.look(**names)
    assert shop.calls() == 0


def test_a_history_that_is_none_is_told_before_anything_is_bought(shop: Shop) -> None:
    """All bad lines at once; a line that a crash has torn is left out, and the next one does not stick to it."""
    shop.tasks(5)
    path = shop.folder / "h.jsonl"
    path.write_text('{"run_id": 1}\nnonsense\n')
    with pytest.raises(BadData) as caught:
        shop.look(history=path)
    assert [fault.where for fault in caught.value.faults] == [f"{path}:1", f"{path}:2"]
    assert shop.calls() == 0

    path.write_text('{"run_id": "torn')
    assert shop.look(history=path).look["look"] == 1
    assert [look["look"] for look in history.read(path)] == [1]


def _append(path: str, number: int) -> None:
    look = {"baseline": "a", "candidate": "b", "dataset": "d", "level": 0.95, "counted": True, "verdict": "x" * 5000}
    history.append(Path(path), {**look, "run_id": str(number)})


def test_a_history_is_appended_by_one_at_a_time(tmp_path: Path) -> None:
    """Eight at once lose no line and mix none; the same look twice is one line."""
    path = tmp_path / "new" / "h.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _append(str(path), number % 30), range(40)))

    assert sorted(int(look["run_id"]) for look in history.read(path)) == list(range(30))


def test_an_append_waits_for_another_to_be_done(tmp_path: Path) -> None:
    """Whoever holds the lock is waited for; then the look is there."""
    path = tmp_path / "h.jsonl"
    waiting = threading.Thread(target=_append, args=(str(path), 1))
    with history._alone(path):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join()

    assert len(history.read(path)) == 1


def test_the_command_says_how_to_repeat_it(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 where it does not pay; the cron line is on stderr, and a % in it would end a crontab's command."""
    monkeypatch.setattr(sys, "argv", ["/nowhere/pytest"])
    monkeypatch.setenv("PATH", "/nowhere")
    words = ["shadow", "tasks.yaml", "--baseline", "large", "--candidate", "small", "--live", "--out", "50% off"]

    assert run(app, "finops-eval", [*words, "--format", "json"]) == 1

    out, err = capsys.readouterr()
    assert [row["verdict"] for row in json.loads(out)] == ["NOT_JUSTIFIED"]
    (line,) = [line for line in err.splitlines() if line.startswith("To repeat it every Monday at six: 0 6 * * 1 cd ")]
    assert "50\\% off" in line
    command = line.split("* * 1 ", 1)[1].replace("\\%", "%")
    assert shlex.split(command)[4:10] == ["shadow", "tasks.yaml", "--baseline", "large", "--candidate", "small"]
    assert command.endswith(">> shadow.log 2>&1")


def test_few_tasks_are_inconclusive(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3 with the reason; the table reads at 80 columns."""
    shop.tasks(20)

    assert run(app, "finops-eval", ["shadow", "tasks.jsonl", "--baseline", "large", "--candidate", "small"]) == 3
    assert "fewer than 50 tasks" in " ".join(capsys.readouterr().out.split())
