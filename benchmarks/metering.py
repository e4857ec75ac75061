"""What metering costs, as ratios measured in one run: `python benchmarks/metering.py [--only ROW] [--repeat N]`.

Each row runs its two sides in turn, A B A B, and prints the median of the ratios pair by pair, so that a machine
whose speed drifts, or that does other things, still tells the truth. Figures to reach stand beside them.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_finops import FinOpsHandler, PriceBook, open_ledger
from langchain_finops.pricing import parse_cards
from langchain_finops.records import Attribution, CallRecord, Outcome
from langchain_finops.usage import Usage

NODES = 1_000
CARDS = parse_cards(
    [{"id": "scripted", "match": {"model": "scripted"}, "rates": {"input_tokens": 3, "output_tokens": 15}}],
    where="benchmark",
)


class Scripted(BaseChatModel):
    """A scripted model that answers at once, so that nothing but the frame around it is measured."""

    model_name: str = "scripted"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        usage = {"input_tokens": 10, "output_tokens": 40, "total_tokens": 50}
        message = AIMessage("ok", usage_metadata=usage, response_metadata={"model_name": "scripted"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages)


class Empty(BaseCallbackHandler):
    """An inline handler that does nothing: what any callback costs."""

    run_inline = True

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None: ...
    def on_chain_end(self, *args: Any, **kwargs: Any) -> None: ...
    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None: ...
    def on_llm_end(self, *args: Any, **kwargs: Any) -> None: ...


class State(TypedDict):
    """A counter."""

    count: int


def loop_graph(*, asynchronous: bool) -> Any:
    """One node that calls the model once and loops until it has run `NODES` times."""
    model = Scripted()

    def node(state: State) -> dict[str, int]:
        model.invoke("hello")
        return {"count": state["count"] + 1}

    async def anode(state: State) -> dict[str, int]:
        await model.ainvoke("hello")
        return {"count": state["count"] + 1}

    builder = StateGraph(State)
    builder.add_node("node", anode if asynchronous else node)
    builder.add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: "node" if state["count"] < NODES else END)
    return builder.compile()


def run_loop(graph: Any, handlers: list[Any], *, asynchronous: bool) -> float:
    """Seconds for one run of the loop."""
    config = {"callbacks": handlers, "recursion_limit": NODES + 10, "metadata": {"task_id": "t", "agent_id": "a"}}
    gc.collect()
    begin = time.perf_counter()
    if asynchronous:
        asyncio.run(graph.ainvoke({"count": 0}, config))
    else:
        graph.invoke({"count": 0}, config)
    return time.perf_counter() - begin


def finops_handler(ledger: Any) -> FinOpsHandler:
    """A handler with a card of its own, so that each call is priced."""
    return FinOpsHandler(ledger=ledger, prices=PriceBook(cards=CARDS))


def pairs(ours: Callable[[], float], other: Callable[[], float], repeat: int) -> tuple[float, float, float]:
    """Median ratio ours / other over pairs after one warm-up pair, and both medians in seconds."""
    ours()
    other()
    rows = [(ours(), other()) for _ in range(repeat)]
    return (
        statistics.median(a / b for a, b in rows),
        statistics.median(a for a, _ in rows),
        statistics.median(b for _, b in rows),
    )


def show(row: str, reach: str, got: str) -> None:
    """Print one row."""
    print(f"{row:58} reach {reach:>8}   got {got}", flush=True)


def metering(repeat: int, where: str, reach: dict[bool, str]) -> None:
    """The loop with our handler against the same with an empty one; a fresh ledger each time, as in a fresh process."""
    for asynchronous in (False, True):
        graph, empty = loop_graph(asynchronous=asynchronous), Empty()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            names = (Path(folder) / f"{number}.db" for number in itertools.count())

            def with_us(graph: Any = graph, names: Any = names, asynchronous: bool = asynchronous) -> float:
                ledger = open_ledger(":memory:" if where == "memory" else next(names))
                seconds = run_loop(graph, [finops_handler(ledger)], asynchronous=asynchronous)
                ledger.close()
                return seconds

            def without(graph: Any = graph, empty: Any = empty, asynchronous: bool = asynchronous) -> float:
                return run_loop(graph, [empty], asynchronous=asynchronous)

            ratio, ours, other = pairs(with_us, without, repeat)
        added = (ours - other) / NODES * 1e6
        kind = "async" if asynchronous else "sync"
        show(
            f"1,000 one-call nodes, {where} ledger, {kind}",
            reach[asynchronous],
            f"{ratio:.2f}x (adds {added:.0f} us to {other / NODES * 1e6:.0f} us a node)",
        )


def row_memory(repeat: int) -> None:
    """Memory ledger."""
    metering(repeat, "memory", {False: "1.25x", True: "1.25x"})


def row_sqlite(repeat: int) -> None:
    """SQLite ledger; budgets are not there yet."""
    metering(repeat, "SQLite", {False: "2.2x", True: "1.7x"})


def row_blocking(repeat: int) -> None:
    """How long a hook keeps the event loop from its other work, SQLite ledger, one process."""
    times: list[float] = []

    class Timed(FinOpsHandler):
        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            begin = time.perf_counter()
            super().on_llm_end(*args, **kwargs)
            times.append(time.perf_counter() - begin)

    graph = loop_graph(asynchronous=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ledger = open_ledger(Path(folder) / "ledger.db")
        handler = Timed(ledger=ledger, prices=PriceBook(cards=CARDS))
        for _ in range(repeat):
            run_loop(graph, [handler], asynchronous=True)
        ledger.close()
    times.sort()
    p99, longest = times[int(len(times) * 0.99)] * 1e3, times[-1] * 1e3
    show("a hook blocks the event loop, SQLite, p99", "2 ms", f"{p99:.2f} ms (longest {longest:.1f} ms)")


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """A loopback server that accepts whatever LangSmith's client posts."""

    class Answer(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.do_GET()

        do_PATCH = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def row_tracer(repeat: int) -> None:
    """What we add to the loop against what LangSmith's tracer adds, posting to loopback."""
    from langchain_core.tracers import LangChainTracer
    from langsmith import Client

    graph = loop_graph(asynchronous=False)
    handler, empty = finops_handler(open_ledger(":memory:")), Empty()
    with sink() as url:
        client = Client(api_url=url, api_key="x")
        tracer = LangChainTracer(client=client)
        rows = []
        for number in range(repeat + 1):
            base = run_loop(graph, [empty], asynchronous=False)
            ours = run_loop(graph, [handler], asynchronous=False)
            theirs = run_loop(graph, [tracer], asynchronous=False)
            client.flush()
            if number:
                rows.append((ours - base) / (theirs - base))
    show("what we add / what LangSmith's tracer adds", "0.33", f"{statistics.median(rows):.2f}")


def process_seconds(*command: str) -> float:
    """Wall seconds of a whole process."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def row_import(repeat: int) -> None:
    """Imports and the start of the command lines."""
    base = [sys.executable, "-c", "import langgraph.graph"]
    for what in ("import langchain_finops", "from langchain_finops import FinOpsHandler"):
        ours = [sys.executable, "-c", f"import langgraph.graph; {what}"]
        _, with_us, without = pairs(lambda: process_seconds(*ours), lambda: process_seconds(*base), repeat)  # noqa: B023
        show(f"{what} beyond langgraph.graph", "60 ms", f"{(with_us - without) * 1e3:.0f} ms")
    typer = [sys.executable, "-c", "import typer"]
    for command in ("finops", "finops-eval"):
        program = str(Path(sys.executable).with_name(command))
        ratio, ours_s, _ = pairs(lambda: process_seconds(program, "--help"), lambda: process_seconds(*typer), repeat)  # noqa: B023
        show(f"{command} --help / import typer", "3x", f"{ratio:.2f}x ({ours_s:.2f} s)")


def fill(path: Path, calls: int) -> None:
    """A ledger of that many calls: 20 agents, 50 nodes, 1,000 users, ten calls a run, two runs a task."""
    ledger = open_ledger(path)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    batch: list[Any] = []
    for number in range(calls):
        run, task = number // 10, number // 20
        attribution = Attribution(
            agent_id=f"agent-{task % 20}",
            user_id=f"user-{task % 1000}",
            task_id=f"task-{task}",
            node_path=f"n{number % 50}",
        )
        at = start + timedelta(seconds=number)
        cost = Decimal(number % 97 + 1) / 100_000
        batch.append(
            CallRecord(
                call_id=f"call-{number}",
                run_id=f"run-{run}",
                invocation_id=f"run-{run}",
                attribution=attribution,
                provider="openai",
                model=f"model-{number % 4}",
                usage=Usage(input_tokens=number % 1000, output_tokens=number % 300),
                cost_usd=cost,
                contracted_usd=cost,
                billed_usd=cost,
                cost_status="exact",
                started_at=at,
                ended_at=at + timedelta(seconds=1),
            )
        )
        if number % 20 == 0:
            batch.append(Outcome(task_id=f"task-{task}", success=task % 3 != 0, at=at))
        if len(batch) >= 5000:
            ledger.write(*batch)
            batch.clear()
    ledger.write(*batch)
    ledger.close()


def row_report(repeat: int, calls: int = 1_000_000) -> None:
    """`finops report` on a million calls, as a whole process, with its peak memory."""
    program = str(Path(sys.executable).with_name("finops"))
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "ledger.db"
        fill(path, calls)
        for by in ("agent", "node", "task"):
            seconds, memory = [], []
            for _ in range(repeat):
                command = [program, "report", "--by", by, "--format", "json", "--ledger", f"sqlite:///{path}"]
                begin = time.perf_counter()
                done = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, check=True)
                seconds.append(time.perf_counter() - begin)
                memory.append(int(done.stdout) / 1024)
            got = f"{statistics.median(seconds):.2f} s, {statistics.median(memory):.0f} MB"
            show(f"finops report --by {by}, {calls:,} calls", "3 s, 300 MB", got)


ROWS = {
    "memory": row_memory,
    "sqlite": row_sqlite,
    "blocking": row_blocking,
    "tracer": row_tracer,
    "import": row_import,
    "report": row_report,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(ROWS), action="append")
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    for name in arguments.only or ROWS:
        ROWS[name](arguments.repeat)


if __name__ == "__main__":
    main()
