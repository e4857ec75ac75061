"""Targets that end in ways of their own, and what an attempt makes of it."""

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.results import AttemptResult, read_attempts
from langchain_finops.evals.runner import arun
from langchain_finops.evals.suite import load_suite
from langchain_finops.ledger import open_ledger

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

SUITE = """
target: agent:own
scorer: {type: exact, answer_field: answer}
concurrency: 1
configurations: [{name: right}]
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
"""

OWN = """

import os
import sys

from langchain_core.runnables import RunnableLambda


async def _own(inputs, config):
    answer = (await Scripted().ainvoke(f"answer {inputs['number']}", config)).content
    BODY
    return {"answer": answer}


def own(configuration):
    return RunnableLambda(_own)
"""


def target(workshop: "Workshop", body: str, more: str = "") -> None:
    """A target that asks the model once and then does what `body` says."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + OWN.replace("BODY", body.replace("\n", "\n    ")))
    workshop.suite(SUITE + more)


def endings(attempts: list[AttemptResult]) -> list[tuple[str, str, str | None]]:
    return [(result.task, result.status, result.stop_reason) for result in attempts]


SWALLOW = """
(HERE / "begun.txt").write_text("")
try:
    await asyncio.sleep(30)
except BaseException:
    answer = "2"
"""


def test_half_a_character_loses_no_answer(workshop: "Workshop", caplog: pytest.LogCaptureFixture) -> None:
    """A model may answer a lone surrogate: that answer is kept as it is, and so are those written beside it."""
    target(workshop, 'answer = answer + "\\ud83d" if inputs["number"] == 1 else answer')

    with caplog.at_level(logging.ERROR):
        results = workshop.run()

    assert [result.answer for result in results.attempts] == [{"answer": "2\ud83d"}, {"answer": "4"}]
    assert [said.success for said in results.verdicts] == [False, True]
    assert list(read_attempts(workshop.results)[0]) == list(results.attempts)
    assert not caplog.records


def test_half_a_character_in_a_reason_reaches_the_ledger_mended(workshop: "Workshop") -> None:
    """A scorer may quote the answer; a ledger holds UTF-8."""
    workshop.data(number=[1])
    target(workshop, "pass")
    scoring = 'def score(answer, outputs):\n    return {"score": 0, "comment": "half \\ud83d"}\n'
    (workshop.folder / "scoring.py").write_text(scoring)
    workshop.suite(SUITE.replace("exact, answer_field: answer", "python, function: 'scoring:score'"))

    (said,) = workshop.run().verdicts

    assert said.reason == "half \ud83d"
    ledger = open_ledger(workshop.results / "ledger.db")
    assert [outcome.reason for outcome in ledger.outcomes()] == ["half ?"]
    ledger.close()


def test_a_time_limit_that_the_target_swallows_stops_it_all_the_same(workshop: "Workshop") -> None:
    """An answer that came after the limit is none."""
    workshop.data(number=[1])
    target(workshop, SWALLOW, "limits: {seconds: 0.2}\n")

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason, result.answer) == ("stopped", "time_limit", None)


async def test_ctrl_c_that_the_target_swallows_ends_the_run(workshop: "Workshop") -> None:
    """No further slot is tried, and what the target said to the cancellation is no answer."""
    target(workshop, SWALLOW)
    suite = load_suite(workshop.folder / "tasks.yaml")
    running = asyncio.create_task(arun(load_dataset(workshop.dataset), suite, Options()))
    while not (workshop.folder / "begun.txt").exists():
        await asyncio.sleep(0.01)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running

    assert workshop.calls() == ["answer 1"]
    assert endings(read_attempts(workshop.results)[0]) == [("t1", "error", "interrupted")]


@pytest.mark.parametrize("body", ["sys.exit(3)", "raise asyncio.CancelledError"])
def test_a_target_that_ends_the_process_is_an_error_of_its_own(workshop: "Workshop", body: str) -> None:
    """The run goes on with the next slot, and what was paid counts."""
    target(workshop, body)

    results = workshop.run()

    assert endings(list(results.attempts)) == [("t1", "error", "target"), ("t2", "error", "target")]
    assert all(result.cost_usd for result in results.attempts)


@pytest.mark.parametrize("error", ["TimeoutError('my own patience')", "ConnectionError('a tool is down')"])
def test_what_fails_besides_the_model_is_the_targets_own(workshop: "Workshop", error: str) -> None:
    """A tool that is down, or a time-out of the target's own, is no outage of the model: it is bought once."""
    workshop.data(number=[1])
    target(workshop, f"raise {error}")

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason) == ("error", "target")
    assert workshop.calls() == ["answer 1"]


def test_a_scorer_that_ends_the_process_cannot_tell(workshop: "Workshop") -> None:
    """The answer was paid for and stays."""
    workshop.data(number=[1])
    target(workshop, "pass")
    (workshop.folder / "scoring.py").write_text("import sys\ndef score(answer, outputs):\n    sys.exit(3)\n")
    workshop.suite(SUITE.replace("exact, answer_field: answer", "python, function: 'scoring:score'"))

    (said,) = workshop.run().verdicts

    assert (said.success, said.reason) == (None, "the scorer raised SystemExit: 3")


@pytest.mark.parametrize("where", ["module", "build"])
def test_code_that_ends_the_process_before_anything_is_bought_is_told(workshop: "Workshop", where: str) -> None:
    """At import, or where the target is built: one sentence, and no traceback or strange exit code."""
    target(workshop, "pass")
    agent = workshop.folder / "agent.py"
    text = agent.read_text()
    agent.write_text(
        f"{text}\nsys.exit(3)\n" if where == "module" else text.replace("return Runn", "sys.exit(3)\n    return Runn")
    )

    with pytest.raises((BadData, EvalError), match="SystemExit: 3"):
        workshop.run()


def test_a_task_of_the_target_that_ends_the_process_ends_its_attempt_alone(workshop: "Workshop") -> None:
    """In a task of its own, as LangGraph's nodes are, SystemExit would tear the event loop down."""
    leave = 'async def leave():\n    sys.exit(3)\nif inputs["number"] == 1:\n    await asyncio.create_task(leave())'
    target(workshop, leave)

    results = workshop.run()

    assert endings(list(results.attempts)) == [("t1", "error", "target"), ("t2", "completed", None)]
