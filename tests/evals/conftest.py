"""A workshop: a folder with a dataset, a suite and a real LangGraph agent on a scripted model."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
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
