"""A workshop: a folder with a dataset, a suite and a real LangGraph agent on a scripted model."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.results import AttemptResult, JsonLines, Verdict, write_attempts, write_run
from langchain_finops.evals.resume import Results
from langchain_finops.evals.runner import run
from langchain_finops.evals.suite import load_suite

AGENT = '''
"""A graph that does what its item says: `do` is a list of acts, one a model call."""

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph

HERE = Path(__file__).parent
SEEN: Counter = Counter()


class Refused(Exception):
    """An HTTP error, as SDKs raise it."""

    def __init__(self, status: int) -> None:
        super().__init__("secret text")
        self.status_code = status
        self.response = type("Response", (), {"status_code": status, "headers": {"retry-after": "0"}})()


class Scripted(BaseChatModel):
    """Answers twice the number it is given; 100 tokens in, 10 out. Notes each request on disk before it answers."""

    name_: str = "gpt-4.1-mini"
    wrong: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: Any = None, **_: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.name_, "ls_max_tokens": 10}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        act, _, number = str(messages[-1].content).partition(" ")
        with (HERE / "calls.log").open("a") as log:
            log.write(f"{messages[-1].content}\\n")
        SEEN[act] += 1
        if act.startswith("status"):
            _, status, times = act.split("-")
            if SEEN[act] <= int(times):
                raise Refused(int(status))
        if act == "unreachable":
            raise ConnectionError("no route")
        answer = str(2 * int(number) + self.wrong)
        message = AIMessage(
            answer,
            usage_metadata={"input_tokens": 100, "output_tokens": 10, "total_tokens": 110},
            response_metadata={"model_name": self.name_, "model_provider": "openai"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        return self._generate(messages)


class State(TypedDict, total=False):
    number: int
    do: str
    answer: str


def build(configuration: dict) -> Any:
    model = Scripted(wrong=configuration.get("wrong", False), name_=configuration.get("model", "gpt-4.1-mini"))

    async def solve(state: State) -> State:
        act = state.get("do", "answer")
        if act == "swallow":
            try:
                await model.ainvoke("unreachable 0")
            except ConnectionError:
                return {"answer": "sorry"}
        if act == "hang":
            await model.ainvoke(f"answer {state['number']}")
            await asyncio.Event().wait()
        if act == "bug":
            raise KeyError("total")
        if act == "interrupt":
            from langgraph.types import interrupt

            interrupt("may I?")
        answer = await model.ainvoke(f"{act} {state['number']}")
        return {"answer": answer.content}

    async def check(state: State) -> State:
        return {}

    def after(state: State) -> str:
        return "solve" if state.get("do") == "loop" else END

    graph = StateGraph(State)
    graph.add_node("solve", solve)
    graph.add_node("check", check)
    graph.add_edge(START, "solve")
    graph.add_edge("solve", "check")
    graph.add_conditional_edges("check", after)
    return graph.compile()
'''

SUITE = """
target: agent:build
scorer: exact
configurations:
  - {name: right}
  - {name: wrong, wrong: true}
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
  double: [{id: double, match: {model: "gpt-4.1*"}, rates: {input_tokens: 2, output_tokens: 20}}]
"""


class Workshop:
    """The folder, and what to do in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "agent.py").write_text(AGENT)
        self.suite(SUITE)
        self.data(number=[1, 2])

    @property
    def dataset(self) -> Path:
        return self.folder / "tasks.jsonl"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tasks"

    def suite(self, text: str) -> None:
        (self.folder / "tasks.yaml").write_text(text)

    def data(self, *, number: Sequence[int], do: Sequence[str] = ()) -> None:
        acts = [*do, *["answer"] * len(number)]
        lines = [
            {"id": f"t{n}", "inputs": {"number": n, "do": act}, "outputs": {"answer": str(2 * n)}}
            for n, act in zip(number, acts, strict=False)
        ]
        self.dataset.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(self, **options: object) -> Results:
        return run(load_dataset(self.dataset), load_suite(self.folder / "tasks.yaml"), Options(**options))

    def calls(self) -> list[str]:
        """What the model was asked since the last look."""
        log = self.folder / "calls.log"
        asked = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(asked)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield Workshop(tmp_path)
    sys.path[:] = path
    for name in ("agent", "scoring", "helper"):
        sys.modules.pop(name, None)


MakeResults = Callable[..., Path]


@pytest.fixture
def make_results(tmp_path: Path) -> MakeResults:
    """Write a results folder from figures: {configuration: {task: [(cost, success), ...a repeat each]}}.

    A cost of None is unknown; success of None is an answer that nobody could judge; a status such as "stopped", or
    "interrupted", may stand in its place.
    """

    def make(
        configurations: Mapping[str, Mapping[str, Sequence[tuple[str | None, object]]]],
        *,
        name: str = "results",
        contents: Mapping[str, str] | None = None,
        repeats: int | None = None,
        **changed: object,
    ) -> Path:
        tasks = list(dict.fromkeys(task for by_task in configurations.values() for task in by_task))
        longest = max(len(slots) for by_task in configurations.values() for slots in by_task.values())
        items = {task: [f"in {(contents or {}).get(task, task)}"] * 2 for task in tasks}
        run = {
            "format": 1,
            "run_id": f"{name}-1",
            "created_at": "2026-01-01T00:00:00+00:00",
            "finished_at": "2026-01-01T01:00:00+00:00",
            "mode": "live",
            "dataset": {"path": "tasks.jsonl", "name": "tasks", "hash": json.dumps(items), "items": items},
            "configurations": [{"name": each, "hash": "", "parameters": {}} for each in configurations],
            "repeats": repeats or longest,
            "baseline": None,
            "scorers": [{"name": "exact", "type": "exact", "hash": "s"}],
            "cards": None,
            "card_sets": {},
            "price_book_hashes": {"": "p"},
            "recording_hash": None,
            "ledger": "ledger.db",
            **changed,
        }
        folder = tmp_path / name
        write_run(folder, run)
        made = [
            _made(configuration, task, repeat, *slot, item=items[task][0])
            for configuration, by_task in configurations.items()
            for task, slots in by_task.items()
            for repeat, slot in enumerate(slots)
        ]
        write_attempts(folder, [attempt for attempt, _ in made])
        with JsonLines(folder / "scores.jsonl") as scores:
            scores.append(*[verdict for _, verdict in made if verdict is not None])
        return folder

    return make


def _made(
    configuration: str, task: str, repeat: int, cost: str | None, success: object, *, item: str
) -> tuple[AttemptResult, Verdict | None]:
    status = success if isinstance(success, str) else "completed"
    reason = None
    if status == "interrupted":
        status, reason = "error", "interrupted"
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    known = None if cost is None else Decimal(cost)
    attempt = AttemptResult(
        configuration=configuration,
        task=task,
        repeat=repeat,
        try_number=1,
        status=status,
        stop_reason=reason,
        cost_usd=known,
        known_usd=known or Decimal(0),
        contracted_usd=known,
        billed_usd=known,
        calls=1,
        unpriced_calls=int(known is None),
        latency_s=1.0,
        started_at=moment,
        ended_at=moment,
        task_id=f"{configuration} {task} {repeat}",
        fingerprint="f",
        item_hash=item,
    )
    if status != "completed":
        return attempt, None
    of = {"configuration": configuration, "task": task, "repeat": repeat, "try_number": 1, "item_hash": item}
    return attempt, Verdict(**of, scorer="exact", success=success, scorer_hash="s")
