"""One event loop for all runs of a process: what a client kept open in one run serves it in the next."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openai import AsyncOpenAI
from tests.integration.provider_server import Answer, openai_usage, provider_server

from langchain_finops.errors import BadArguments
from langchain_finops.evals.one_loop import run_on_loop
from langchain_finops.evals.scoring import score
from langchain_finops.evals.suite import load_suite

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

AGENT = """
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

def model():
    return ChatOpenAI(model="gpt-4.1-nano", base_url="{url}/v1", api_key="k", max_retries=0)

def build(configuration):
    async def solve(inputs):
        return (await model().ainvoke(str(inputs))).text
    return RunnableLambda(solve)

async def scored(answer, outputs):
    return bool((await model().ainvoke("Is it right?")).text)
"""
SUITE = """
target: agent:build
scorers:
  - {{type: python, name: scored, function: "agent:scored"}}
  - type: judge
    name: {judge}
    model: {{model: "openai:gpt-4.1-nano", base_url: "{url}/v1", max_retries: 0, max_tokens: 20}}
    prompt: "{{inputs}} {{outputs}} {{reference_outputs}}"
configurations: [{{name: only}}]
concurrency: 2
tries: 1
"""
FORKS = """
import asyncio, gc, os, sys
from langchain_finops.evals.one_loop import run_on_loop

async def told(word):
    return await asyncio.wait_for(asyncio.to_thread(lambda: word), 20)

first = run_on_loop(lambda: told("parent"), instead="")
child = os.fork()
if child == 0:
    assert run_on_loop(lambda: told("child"), instead="") == "child"
    gc.collect()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(first, run_on_loop(lambda: told("again"), instead=""))
"""


async def close_clients() -> None:
    """LangChain keeps those of an SDK for as long as the process lives."""
    for client in [each for each in gc.get_objects() if isinstance(each, AsyncOpenAI)]:
        await client.close()


def test_runs_of_one_process_share_a_clients_connections(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs and a scoring with the real OpenAI SDK, which keeps its connections: agent, scorer and judge are all
    answered, each time, over as many connections as there are attempts at once."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    workshop.data(number=range(4))
    with provider_server() as server:
        server.keeps_alive = True
        text = json.dumps({"reasoning": "because", "score": True})
        server.answers = [Answer(text=text, usage=openai_usage(200, 20), model="gpt-4.1-nano-2025-04-14")]
        (workshop.folder / "agent.py").write_text(AGENT.format(url=server.url))
        workshop.suite(SUITE.format(url=server.url, judge="judged"))
        (again := workshop.folder / "again.yaml").write_text(SUITE.format(url=server.url, judge="again"))
        done = [workshop.run(folder=workshop.folder / name) for name in ("one", "two")]
        done.append(score(workshop.folder / "one", load_suite(again)))
        run_on_loop(close_clients, instead="")
    verdicts = sorted((each.scorer, each.success, each.reason) for results in done for each in results.verdicts)
    # Four tasks: two verdicts each by either run, and by the scoring one of a new judge beside the scorer's.
    assert (
        verdicts == [("again", True, "because")] * 4 + [("judged", True, "because")] * 8 + [("scored", True, None)] * 12
    )
    assert {each.status for results in done for each in results.attempts} == {"completed"}
    # Three requests for each of eight attempts, and four of the new judge.
    assert (len(server.seen), server.connections) == (28, 2)


def test_a_forked_process_has_a_loop_of_its_own_and_leaves_the_parents_alone(tmp_path: Path) -> None:
    """The child runs, and ends as a program does. It does not close the parent's loop, of which Python would tell: the
    parent's selector would lose its sockets by that, and hear of its threads no more."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning", "-c", FORKS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["parent", "again"], "")


def test_what_a_run_leaves_behind_does_not_go_on_in_the_next() -> None:
    """A task that was never awaited is cancelled at the end, also of a run that failed."""
    left: list[asyncio.Task[None]] = []

    async def work() -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))
        await asyncio.sleep(0)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            run_on_loop(work, instead="")
    assert [task.cancelled() for task in left] == [True, True]
    assert left[0].get_loop() is left[1].get_loop()


def test_each_run_has_its_callers_context() -> None:
    """Not that of the first one, and nothing of it comes back."""
    who: ContextVar[str] = ContextVar("who")

    async def seen() -> str:
        before = who.get()
        who.set("nobody")
        return before

    said = []
    for name in ("ada", "bob"):
        who.set(name)
        said.append(run_on_loop(seen, instead=""))
    assert (said, who.get()) == (["ada", "bob"], "bob")


def test_two_threads_run_at_once() -> None:
    """The second one does not wait for the first one's loop."""
    inside, over = threading.Event(), threading.Event()

    async def first() -> str:
        inside.set()
        return "first" if await asyncio.to_thread(over.wait, 20) else "late"

    async def second() -> str:
        over.set()
        return "second"

    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(run_on_loop(first, instead="")))
    thread.start()
    assert inside.wait(20)
    said.append(run_on_loop(second, instead=""))
    thread.join(20)
    assert sorted(said) == ["first", "second"]


def test_an_interrupted_loop_is_closed_and_the_next_run_has_another() -> None:
    """As with asyncio.run: what hangs on it is ended."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def work(error: type[BaseException] | None) -> None:
        loops.append(asyncio.get_running_loop())
        if error is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        run_on_loop(lambda: work(KeyboardInterrupt), instead="")
    run_on_loop(lambda: work(None), instead="")
    assert [loop.is_closed() for loop in loops] == [True, False]


async def test_code_in_a_loop_is_told_what_to_await() -> None:
    """Before a coroutine is made that nobody would await."""
    with pytest.raises(BadArguments, match="use `await arun"):
        run_on_loop(lambda: pytest.fail("it was started"), instead="arun")
