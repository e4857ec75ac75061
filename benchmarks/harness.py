"""What the harness adds to an attempt, how fast it replays, and how long its table takes, beside two other harnesses.

    python benchmarks/harness.py [--attempts 100,1000,10000] [--calls 1000,10000] [--inspect PYTHON]

The same tasks in the same run: a graph of one node that asks a scripted model which answers at once. LangSmith's
`aevaluate(upload_results=False)` runs in this process. Inspect AI wants other packages than ours, so it runs in an
environment of its own, `python -m venv F && F/bin/pip install inspect-ai`, named by `--inspect F/bin/python`.
"""

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

CONCURRENCY = 8
AGENT = """
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph


class Scripted(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: Any = None, **_: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4.1-mini"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        message = AIMessage(
            "42",
            usage_metadata={"input_tokens": 100, "output_tokens": 10, "total_tokens": 110},
            response_metadata={"model_name": "gpt-4.1-mini", "model_provider": "openai"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        return self._generate(messages)


class State(TypedDict, total=False):
    question: str
    answer: str


def build(configuration: Any = None) -> Any:
    model = Scripted()

    async def solve(state: State) -> State:
        return {"answer": (await model.ainvoke(state["question"])).content}

    graph = StateGraph(State)
    graph.add_node("solve", solve)
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    return graph.compile()
"""
SUITE = f"target: harness_agent:build\nscorer: exact\nconcurrency: {CONCURRENCY}\nconfigurations: [{{name: only}}]\n"
INSPECT = """
import sys, tempfile, time
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import exact
from inspect_ai.solver import generate
for place, count in enumerate([20, *map(int, sys.argv[1].split(","))]):
    samples = [Sample(input=f"question {number}", target="42") for number in range(count)]
    # Without usage it counts tokens by tiktoken, which downloads its vocabulary.
    usage = ModelUsage(input_tokens=100, output_tokens=10, total_tokens=110)
    said = ModelOutput.from_content("mockllm/model", "42")
    answers = (said.model_copy(update={"usage": usage}, deep=True) for _ in range(count))
    model = get_model("mockllm/model", custom_outputs=answers)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        log, = eval(Task(dataset=samples, solver=generate(), scorer=exact()), model=model, log_dir=folder,
                    display="none", max_samples=int(sys.argv[2]), log_level="error")
        took = time.perf_counter() - began
    assert log.status == "success" and log.results.completed_samples == count, log.error
    if place:  # The first one imports.
        print(count, 1000 * took / count, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of evaluation harnesses, speed of replays and of the table.")
    parser.add_argument("--attempts", default="100,1000,10000")
    parser.add_argument("--calls", default="1000,10000")
    parser.add_argument(
        "--inspect", default=sys.executable, metavar="PYTHON", help="Of an environment with Inspect AI."
    )
    given = parser.parse_args()
    attempts, calls = ([int(one) for one in text.split(",")] for text in (given.attempts, given.calls))
    warnings.filterwarnings("ignore", message=".*is in beta")
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        os.environ[name] = "false"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "harness_agent.py").write_text(AGENT)
        sys.path.insert(0, folder)
        print(f"milliseconds an attempt, {CONCURRENCY} at once   (ours beyond the bare ainvoke; to reach: <= 2)")
        print("  in brackets what the processor was busy for, all threads, which a busy machine does not lengthen")
        for harness in (_bare, partial(_ours, Path(folder)), _langsmith):
            harness(20)  # What is imported with the first run is not counted.
        for count in attempts:
            bare, ours, theirs = _bare(count), _ours(Path(folder), count), _langsmith(count)
            print(
                f"  {count:>6} attempts: bare {bare.wall:.2f}, langchain-finops {ours.against(bare)}, "
                f"LangSmith {theirs.against(bare)}",
                flush=True,
            )
        _inspect(given.inspect, given.attempts)
        print("replayed calls a second through ChatOpenAI   (to reach: >= 300, whatever the number)")
        for count in calls:
            print(f"  {count:>6} calls: {_replay(Path(folder), count):.0f}", flush=True)
    print("table", flush=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name("evaluation_table.py"))], check=True)


class Took(NamedTuple):
    """Milliseconds an attempt: by the clock on the wall, and of the processor's time."""

    wall: float
    busy: float

    def against(self, bare: "Took") -> str:
        return f"{self.wall:.2f} (adds {self.wall - bare.wall:.2f} [{self.busy - bare.busy:.2f}])"


class Clock:
    """Both times, from when it is made."""

    def __init__(self) -> None:
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def took(self, count: int) -> Took:
        return Took(
            1000 * (time.perf_counter() - self._wall) / count, 1000 * (time.process_time() - self._busy) / count
        )


def _bare(count: int) -> Took:
    from harness_agent import build

    async def every() -> Took:
        graph, waiting = build(), iter(range(count))

        async def work() -> None:
            for number in waiting:
                assert (await graph.ainvoke({"question": f"question {number}"}))["answer"] == "42"

        clock = Clock()
        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return clock.took(count)

    return asyncio.run(every())


def _ours(folder: Path, count: int) -> Took:
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.runner import run
    from langchain_finops.evals.suite import load_suite

    data, suite = folder / f"d{count}.jsonl", folder / f"d{count}.yaml"
    lines = (
        {"id": f"t{n}", "inputs": {"question": f"question {n}"}, "outputs": {"answer": "42"}} for n in range(count)
    )
    data.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    suite.write_text(SUITE)
    dataset = load_dataset(data)
    clock = Clock()
    results = run(dataset, load_suite(suite), Options(folder=folder / f"results{count}"))
    took = clock.took(count)
    assert len(results.attempts) == count
    return took


def _langsmith(count: int) -> Took:
    from harness_agent import build
    from langsmith import Client, aevaluate, tracing_context
    from langsmith.schemas import Example

    graph, of = build(), UUID(int=1)
    examples = [
        Example(id=uuid4(), dataset_id=of, inputs={"question": f"question {n}"}, outputs={"answer": "42"})
        for n in range(count)
    ]

    async def target(inputs: dict[str, Any]) -> dict[str, Any]:
        with tracing_context(enabled=False):  # Without it LangChain's tracer posts each node, upload or not.
            answer: dict[str, Any] = await graph.ainvoke(inputs)
        return answer

    def exact(outputs: dict[str, Any], reference_outputs: dict[str, Any]) -> bool:
        return outputs["answer"] == reference_outputs["answer"]

    async def every() -> Took:
        client = Client(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
        clock = Clock()
        with redirect_stdout(io.StringIO()):  # It names its experiment there.
            results = await aevaluate(
                target,
                data=examples,
                evaluators=[exact],
                client=client,
                upload_results=False,
                max_concurrency=CONCURRENCY,
            )
        rows = [row async for row in results]
        assert len(rows) == count
        return clock.took(count)

    return asyncio.run(every())


def _inspect(python: str, attempts: str) -> None:
    ran = subprocess.run(
        [python, "-c", INSPECT, attempts, str(CONCURRENCY)], capture_output=True, text=True, check=False
    )
    if "No module named 'inspect_ai'" in ran.stderr:
        print("  Inspect AI, mock model: not installed (see --help and the first lines of this file)")
        return
    if ran.returncode:
        sys.exit(f"Inspect AI failed:\n{ran.stderr}")
    for count, took in (line.split() for line in ran.stdout.splitlines()):
        print(f"  {count:>6} samples: Inspect AI, mock model, no graph {float(took):.2f}")


class _Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "42"}}
        said = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


def _replay(folder: Path, count: int) -> float:
    """One call is recorded from a server; its line, with other tasks and prompts of 4 KB, makes the recording."""
    from langchain_openai import ChatOpenAI

    from langchain_finops.evals.recorded import dump, head, loads
    from langchain_finops.evals.replay import Recording, Slot

    one, path = folder / f"one{count}.jsonl", folder / f"recording{count}.jsonl"
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        model = ChatOpenAI(model="m", api_key="none", base_url=f"http://127.0.0.1:{server.server_port}/v1")
        with Recording(one, "record") as recording, recording.slot(Slot("c", "t", 0)):
            model.invoke("prompt")
        server.shutdown()
    (call,) = loads(one.read_bytes(), one)
    prompts = [f"{number} " + "x" * 4000 for number in range(count)]
    body = dict(call.asked.body)
    calls = (
        replace(
            call,
            slot=Slot("c", f"t{n}", 0),
            asked=replace(call.asked, body=body | {"messages": [{"role": "user", "content": prompt}]}),
        )
        for n, prompt in enumerate(prompts)
    )
    path.write_bytes(head() + "".join(dump(each) + "\n" for each in calls).encode())
    with Recording(path, "replay") as recording:
        began = time.perf_counter()
        for number, prompt in enumerate(prompts):
            with recording.slot(Slot("c", f"t{number}", 0)):
                assert model.invoke(prompt).content == "42"
        return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
