"""The pytest plugin, in sessions of its own: limits, figures, the summary, recordings, xdist and async tests."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPTED = '''
"""Scripted: answers at once, at one cent a call by the card below."""
from typing import TypedDict
import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph

USAGE = {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010}

def model(name="cent", provider="scripted"):
    class Scripted(GenericFakeChatModel):
        def _get_ls_params(self, stop=None, **kwargs):
            return {"ls_provider": provider, "ls_model_name": name, "ls_model_type": "chat"}
    said = (AIMessage("ok", usage_metadata=USAGE, response_metadata={"model_name": name}) for _ in range(100))
    return Scripted(messages=said)

class State(TypedDict):
    left: int

def looping(model):
    """One call a round, until none is left."""
    def ask(state):
        model.invoke("hello")
        return {"left": state["left"] - 1}
    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", lambda state: "ask" if state["left"] else END)
    return graph.compile()
'''
CARDS = """
cards:
  - id: cent
    match: {model: cent}
    rates: {input_tokens: "0", output_tokens: "10"}
"""


@pytest.fixture
def session(tmp_path: Path) -> "Session":
    return Session(tmp_path)


class Session:
    """A folder with tests, and pytest in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripted.py").write_text(SCRIPTED)
        (folder / "cards.yaml").write_text(CARDS)
        (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    def run(self, tests: str, *options: str) -> str:
        """What pytest prints about these tests."""
        (self.folder / "test_agent.py").write_text("from scripted import *\n" + tests)
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
            cwd=self.folder,
            env={
                **os.environ,
                "FINOPS_PRICES": str(self.folder / "cards.yaml"),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout + ran.stderr


def test_calls_beyond_the_marker_are_refused_and_the_test_fails(session: Session) -> None:
    """At a cent a call three fit into 3.5 cents, over all runs of the test together."""
    said = session.run("""
@pytest.mark.finops(max_usd="0.035")
def test_loop(finops):
    graph = looping(model())
    graph.invoke({"left": 2}, {"callbacks": [finops]})
    try:
        graph.invoke({"left": 5}, {"callbacks": [finops]})
    finally:
        print("calls", finops.calls, "cost", finops.cost_usd)
""")

    assert "BudgetExceeded" in said
    assert "calls 3 cost 0.03" in said
    assert "1 failed" in said


def test_a_limit_that_the_test_swallows_fails_it_all_the_same(session: Session) -> None:
    """What is caught is not passed: a stop by the marker's limit is told at the end."""
    said = session.run("""
@pytest.mark.finops(max_steps=2)
def test_loop(finops):
    try:
        looping(model()).invoke({"left": 5}, {"callbacks": [finops]})
    except Exception:
        pass
    assert finops.steps == 2
""")

    assert "a run was stopped by" in said
    assert "marker max_steps" in said
    assert "1 failed" in said


def test_within_its_limits_a_test_passes_and_the_summary_tells_its_cost(session: Session) -> None:
    """Three tests, of 2 calls, 1 call and none: 3 cents; the dearest first; a test without calls is not named."""
    said = session.run("""
@pytest.mark.finops(max_usd=0.05, max_steps=10, max_calls=2)
def test_two(finops):
    looping(model()).invoke({"left": 2}, {"callbacks": [finops]})
    finops.assert_under(usd="0.02", steps=2, calls=2)

def test_one(finops):
    model().invoke("hello", {"callbacks": [finops]})
    with pytest.raises(AssertionError, match=r"cost \\$0.01\\d*, more than \\$0.005"):
        finops.assert_under(usd="0.005")

def test_none():
    pass
""")

    assert "3 passed" in said
    assert re.search(r"\$0\.03\d*, 3 calls in 2 tests; billed \$0\.03", said)
    assert said.index("test_agent.py::test_two") < said.index("test_agent.py::test_one")
    assert "test_none" not in said


def test_an_unknown_price_is_never_nothing(session: Session) -> None:
    """cost_usd is None, no bound holds, and the summary says so; under a limit such a call is refused."""
    said = session.run("""
def test_unknown(finops):
    model("nobody-prices-it").invoke("hello", {"callbacks": [finops]})
    assert finops.cost_usd is None
    with pytest.raises(AssertionError, match="the price of 1 of its calls and charges is unknown"):
        finops.assert_under(usd=100)

@pytest.mark.finops(max_usd=1)
def test_refused(finops):
    with pytest.raises(Exception, match="price"):
        model("nobody-prices-it").invoke("hello", {"callbacks": [finops]})
    assert finops.calls == 0
""")

    assert "unpriced, 1 call in 1 test" in said


@pytest.mark.parametrize(
    ("tests", "what"),
    [
        ("@pytest.mark.finops(max_usd=1)\ndef test_it():\n    pass\n", "take `finops` as an argument"),
        ("@pytest.mark.finops(max_dollars=1)\ndef test_it(finops):\n    pass\n", "not max_dollars"),
        ("@pytest.mark.finops(0.05)\ndef test_it(finops):\n    pass\n", "name its values, as in max_usd=0.05"),
    ],
)
def test_a_marker_that_would_hold_nothing_is_a_fault(session: Session, tests: str, what: str) -> None:
    """A test that looks guarded and is not would be worse than none."""
    said = session.run(tests)

    assert what in said
    assert "1 error" in said


def test_workers_of_xdist_add_up(session: Session) -> None:
    """Four tests on two workers: one summary of four cents."""
    said = session.run(
        """
@pytest.mark.parametrize("number", range(4))
def test_one(finops, number):
    model().invoke("hello", {"callbacks": [finops]})
""",
        "-n",
        "2",
    )

    assert re.search(r"\$0\.04\d*, 4 calls in 4 tests", said)
    assert "4 passed" in said


def test_async_tests_are_metered_and_limited(session: Session) -> None:
    """With pytest-asyncio: three calls fit."""
    said = session.run(
        """
@pytest.mark.finops(max_calls=3)
async def test_loop(finops):
    with pytest.raises(Exception, match="max_calls"):
        for _ in range(5):
            await model().ainvoke("hello", {"callbacks": [finops]})
    assert finops.calls == 3
""",
        "-o",
        "asyncio_mode=auto",
    )

    assert "3 calls in 1 test" in said
    assert "a run was stopped" in said or "1 passed" in said


def test_a_session_without_the_fixture_loads_nothing(session: Session) -> None:
    """The plugin is there for everybody who installed the package: it must cost them nothing."""
    (session.folder / "test_plain.py").write_text(
        "import sys\n\ndef test_plain():\n    assert 'langgraph' not in sys.modules\n"
        "    assert 'langchain_core' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_plain.py"],
        cwd=session.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed" in ran.stdout, ran.stdout
    assert "finops" not in ran.stdout


class Answers(BaseHTTPRequestHandler):
    """Answers like OpenAI's API, and counts how often it was asked."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 0,
                "model": "cent",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "recorded"}}
                ],
                "usage": {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


RECORDED = """
import json
import os
from langchain_openai import ChatOpenAI

def chat():
    return ChatOpenAI(model="cent", api_key="not-needed-here", base_url=os.environ["MODEL_URL"], max_retries=0)

@pytest.mark.finops(recording=True)
def test_sync(finops):
    assert chat().invoke("hello", {"callbacks": [finops]}).content == "recorded"

@pytest.mark.finops(recording=True)
async def test_async(finops):
    assert (await chat().ainvoke("hello", {"callbacks": [finops]})).content == "recorded"
"""


def test_recordings_by_test_play_without_the_model(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded once, then replayed with nobody there: the same answers, the same list cost, nothing billed."""
    options = ("-o", "asyncio_mode=auto")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MODEL_URL", f"http://127.0.0.1:{server.server_port}/v1")
    try:
        live = session.run(RECORDED, "--finops-record-mode", "once", *options)
        again = session.run(RECORDED, "--finops-record-mode", "once", *options)
    finally:
        server.shutdown()
        server.server_close()
    replayed = session.run(RECORDED, *options)

    assert Answers.asked == 2, live
    assert {path.name for path in (session.folder / "recordings" / "test_agent").iterdir()} == {
        "test_sync.jsonl",
        "test_async.jsonl",
    }
    assert "2 passed" in again
    assert "2 passed" in replayed
    assert re.search(r"\$0\.02\d*, 2 calls in 2 tests; billed \$0\.02", live)
    assert re.search(r"\$0\.02\d*, 2 calls in 2 tests; billed \$0(\.0+)?$", replayed, re.MULTILINE), replayed
