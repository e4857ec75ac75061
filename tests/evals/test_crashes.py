"""Crashes: `kill -9` and Ctrl-C of a real process lose no finished attempt, and nothing is paid for twice."""

import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from langchain_finops.evals.results import read_attempts
from langchain_finops.ledger import open_ledger
from langchain_finops.money import sum_usd

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

SLOW = '''

import os


async def _slow(state):
    """Ends the process once so many attempts are on file: others are then in every state."""
    wish = HERE / "end.txt"
    if wish.exists():
        attempts, number = wish.read_text().split()
        if (HERE / "results/tasks/attempts.jsonl").read_bytes().count(b"\\n") >= int(attempts):
            wish.unlink()
            os.kill(os.getpid(), int(number))
    await asyncio.sleep(0)
    return {}


def slow(configuration):
    model = Scripted(wrong=configuration.get("wrong", False))

    async def ask(state):
        return {"answer": (await model.ainvoke(f"answer {state['number']}")).content}

    async def ask_again(state):
        await model.ainvoke(f"again {state['number']}")
        return {}

    graph = StateGraph(State)
    for name, node in (("ask", ask), ("wait", _slow), ("again", ask_again)):
        graph.add_node(name, node)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "wait")
    graph.add_edge("wait", "again")
    graph.add_edge("again", END)
    return graph.compile()
'''

SUITE = """
target: agent:slow
scorer: exact
concurrency: 3
configurations:
  - {name: right}
  - {name: wrong, wrong: true}
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
"""


@pytest.fixture
def slow_workshop(workshop: "Workshop") -> "Workshop":
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + SLOW)
    workshop.suite(SUITE)
    workshop.data(number=list(range(20)))
    return workshop


def ended_after(workshop: "Workshop", attempts: int, how: signal.Signals) -> int:
    """Start a run that ends itself after so many attempts are on file, and return its exit code."""
    (workshop.folder / "end.txt").write_text(f"{attempts} {int(how)}")
    command = [sys.executable, "-m", "langchain_finops.cli.finops_eval", "run", str(workshop.dataset)]
    return subprocess.run(command, cwd=workshop.folder, capture_output=True, check=False, timeout=120).returncode


def check_whole(workshop: "Workshop") -> None:
    """All slots are answered and judged once; results and ledger agree on what every try cost."""
    results = workshop.run()
    completed = [result.slot for result in results.attempts if result.status == "completed"]
    assert Counter(completed) == {(name, f"t{n}", 0): 1 for name in ("right", "wrong") for n in range(20)}
    assert len(results.verdicts) == 40
    ledger = open_ledger(workshop.results / "ledger.db")
    (total,) = ledger.totals()
    ledger.close()
    assert total.totals.cost_usd == sum_usd([result.known_usd for result in results.attempts])
    for result in results.attempts:  # What was in flight when the process was killed is not known.
        assert (result.cost_usd is None) == result.in_the_dark
        assert not result.in_the_dark or result.stop_reason == "interrupted"
    assert (total.tasks, total.judged, total.successes) == (40, 40, 20)


def test_a_killed_run_loses_no_finished_attempt_and_goes_on(slow_workshop: "Workshop") -> None:
    """`kill -9` in the middle, three times over: what was on file stays, and no finished slot is asked again."""
    before: set[object] = set()
    for attempts in (5, 12, 25):
        assert ended_after(slow_workshop, attempts, signal.SIGKILL) == -signal.SIGKILL
        lines, _ = read_attempts(slow_workshop.results)
        assert len(lines) >= attempts - 1  # The last one may be torn.
        finished = {result.slot for result in lines if result.status == "completed"}
        assert finished > before
        before = finished
        slow_workshop.calls()

    check_whole(slow_workshop)
    asked = Counter(slow_workshop.calls())
    # Only what had no line was asked again: both configurations' slots of an item share a text.
    for n in range(20):
        open_slots = 2 - sum((name, f"t{n}", 0) in before for name in ("right", "wrong"))
        assert asked[f"answer {n}"] == open_slots


def test_ctrl_c_keeps_what_was_finished_and_counts_what_was_not(slow_workshop: "Workshop") -> None:
    """An attempt that Ctrl-C ended was paid for in part: its line says so, and its slot is tried again."""
    assert ended_after(slow_workshop, 6, signal.SIGINT) == 130
    interrupted = [result for result in read_attempts(slow_workshop.results)[0] if result.stop_reason == "interrupted"]
    assert all(result.status == "error" and result.answer is None for result in interrupted)

    check_whole(slow_workshop)


HANGING = '''

async def _hang_first(state):
    """Asks the model, which never answers; the process is killed meanwhile."""
    if (HERE / "end.txt").exists():
        (HERE / "end.txt").unlink()

        class Silent(Scripted):
            async def _agenerate(self, *_, **__):
                os.kill(os.getpid(), 9)

        await Silent().ainvoke("x")
    return {"answer": (await Scripted().ainvoke(f"answer {state['number']}")).content}


def hanging(configuration):
    graph = StateGraph(State)
    graph.add_node("ask", _hang_first)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile()
'''


def test_a_try_that_was_killed_before_its_first_call_ended_leaves_a_trace(slow_workshop: "Workshop") -> None:
    """Its request was on its way, so it may have been paid for: what it cost is unknown, and not nothing."""
    workshop = slow_workshop
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + HANGING)
    workshop.suite(SUITE.replace("agent:slow", "agent:hanging").replace("concurrency: 3", "concurrency: 1"))
    workshop.data(number=[1])
    assert ended_after(workshop, 0, signal.SIGKILL) == -signal.SIGKILL
    assert not read_attempts(workshop.results)[0]

    first, *others = workshop.run().attempts

    assert (first.slot, first.try_number) == (("right", "t1", 0), 1)
    assert (first.status, first.stop_reason, first.in_the_dark) == ("error", "interrupted", True)
    assert (first.cost_usd, first.known_usd, first.calls) == (None, 0, 0)
    assert [(result.slot, result.try_number, result.status) for result in others] == [
        (("right", "t1", 0), 2, "completed"),
        (("wrong", "t1", 0), 1, "completed"),
    ]
    assert len(workshop.run().attempts) == 3


WAITING = '''

async def _wait_for_word(state):
    """Says that it has begun, and answers once it may."""
    (HERE / "begun.txt").write_text("")
    while not (HERE / "go.txt").exists():
        await asyncio.sleep(0.01)
    return {"answer": (await Scripted().ainvoke(f"answer {state['number']}")).content}


def waiting(configuration):
    graph = StateGraph(State)
    graph.add_node("ask", _wait_for_word)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile()
'''


def test_two_processes_do_not_run_into_one_folder(slow_workshop: "Workshop") -> None:
    """The second one is told and buys nothing; the first one is not disturbed."""
    workshop = slow_workshop
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + WAITING)
    workshop.suite(SUITE.replace("agent:slow", "agent:waiting"))
    workshop.data(number=[1])
    command = [sys.executable, "-m", "langchain_finops.cli.finops_eval", "run", str(workshop.dataset)]
    first = subprocess.Popen(command, cwd=workshop.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (workshop.folder / "begun.txt").exists():
        assert first.poll() is None
        time.sleep(0.01)

    second = subprocess.run(command, cwd=workshop.folder, capture_output=True, text=True, check=False, timeout=120)

    assert second.returncode == 2
    assert second.stderr == (
        "Error: results/tasks: another run is writing here; wait for it, or choose another --out\n"
    )
    (workshop.folder / "go.txt").write_text("")
    assert first.wait(timeout=120) == 0
    assert len(read_attempts(workshop.results)[0]) == 2
    assert workshop.calls() == ["answer 1", "answer 1"]
