"""Recording and replay through the runner: a real OpenAI client against a server on this machine, then without it."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadArguments, EvalError, RecordingMissing
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.ledger import open_ledger
from langchain_finops.money import sum_usd

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

AGENT = """
import os
from typing import TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    number: int
    answer: str


def build(configuration):
    model = ChatOpenAI(
        model="gpt-4.1-mini", base_url=os.environ.get("SERVER", "http://127.0.0.1:9/v1"), api_key="secret",
        temperature=configuration["temperature"], max_retries=0,
    )

    async def first(state: State) -> State:
        return {"answer": (await model.ainvoke(f"double {state['number']}")).content}

    async def second(state: State) -> State:
        return {"answer": (await model.ainvoke(f"check {state['answer']}")).content}

    graph = StateGraph(State)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile()
"""

SUITE = """
target: agent:build
scorer: exact
configurations:
  - {name: cold, temperature: 0.0}
  - {name: hot, temperature: 1.0}
repeats: 2
recording: tasks.recording.jsonl
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
  own: [{id: own, match: {model: "gpt-4.1*"}, self_hosted: {usd_per_instance_hour: 3600}}]
"""


class Server(BaseHTTPRequestHandler):
    """Doubles numbers; each answer differs in its token count, so that a mixed-up replay is noticed."""

    asked = 0
    failing = 0
    url = ""
    held: threading.Event | None = None
    """Answers to `check` wait for it."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kind = type(self)
        kind.asked += 1
        asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"][0]
        word, _, number = asked.partition(" ")
        if kind.failing:
            kind.failing -= 1
            self._answer(503, {"error": {"message": "busy", "code": "busy"}})
            return
        if word == "check" and kind.held is not None:
            kind.held.wait(60)
            return
        text = str(int(number) * 2) if word == "double" else number
        usage = {"prompt_tokens": kind.asked, "completion_tokens": 1, "total_tokens": kind.asked + 1}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, "text": text}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage}
        self._answer(200, {**answer, "choices": [choice]})

    def _answer(self, status: int, content: dict[str, object]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 503:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    kind = type("ThisServer", (Server,), {"asked": 0, "failing": 0})
    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 100)  # Else a busy machine refuses connections.
    listening = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    kind.url = f"http://127.0.0.1:{listening.server_port}/v1"
    monkeypatch.setenv("SERVER", kind.url)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield kind
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def recorded(workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch) -> "Workshop":
    """A workshop whose recording is made, and whose server is out of reach."""
    (workshop.folder / "agent.py").write_text(AGENT)
    workshop.suite(SUITE)
    workshop.data(number=[1, 2, 3])
    recording = workshop.run(mode="record")
    assert server.asked == 24
    assert {result.status for result in recording.attempts} == {"completed"}
    monkeypatch.delenv("SERVER")
    return workshop


def figures(results: object) -> dict[object, object]:
    return {
        (result.slot, result.try_number): (
            result.status,
            json.dumps(result.answer, sort_keys=True),
            result.cost_usd,
            dict(result.usage),
            result.trajectory,
        )
        for result in results.attempts
    }


def test_a_replay_is_what_was_recorded(recorded: "Workshop") -> None:
    """Answers, tokens, cost and recorded latency come out the same at any concurrency; nothing is billed."""
    live = recorded.run(mode="record")

    for concurrency in (1, 7):
        replay = recorded.run(concurrency=concurrency, fresh=True)

        assert figures(replay) == figures(live)
        assert replay.run["mode"] == "replay"
        assert {result.billed_usd for result in replay.attempts} == {0}
        assert {result.replayed_calls for result in replay.attempts} == {2}
    again = recorded.run(fresh=True)
    latencies = {(result.slot): result.latency_s for result in again.attempts}
    assert latencies == {result.slot: result.latency_s for result in replay.attempts}
    costs = {result.slot: result.costs_by_card["own"] for result in again.attempts}
    assert costs == {result.slot: result.costs_by_card["own"] for result in replay.attempts}
    assert all(cost is not None and cost > 0 for cost in costs.values())


def test_a_card_set_by_the_hour_prices_the_recorded_time(recorded: "Workshop") -> None:
    """Chosen for the run or computed besides, a self-hosted card gives the same cost of a replay, to the picodollar."""
    besides = {result.slot: result.costs_by_card["own"] for result in recorded.run().attempts}

    chosen = recorded.run(cards="own", fresh=True)

    assert {result.slot: result.cost_usd for result in chosen.attempts} == besides
    assert {result.slot: result.costs_by_card["own"] for result in chosen.attempts} == besides
    ledger = open_ledger(chosen.run["ledger"])
    (total,) = ledger.totals()
    ledger.close()
    assert total.totals.cost_usd == sum_usd(list(besides.values()))
    assert total.totals.billed_usd == 0


def test_a_replay_that_lost_lines_adds_up_the_same(recorded: "Workshop") -> None:
    """A crash between ledger and results costs a replay nothing: no call is counted twice."""
    whole = recorded.run()
    path = recorded.results / "attempts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]) + lines[7][:30])

    again = recorded.run()

    assert figures(again) == figures(whole)
    ledger = open_ledger(recorded.results / "ledger.db")
    (total,) = ledger.totals()
    ledger.close()
    assert total.totals.cost_usd == sum_usd([result.cost_usd for result in again.attempts])
    assert total.totals.calls == 24


def test_what_was_not_recorded_ends_the_run(recorded: "Workshop") -> None:
    """A replay that lacks a call names the slot and what changed; it does not count as a failure."""
    recorded.suite(SUITE.replace("repeats: 2", "repeats: 3"))

    with pytest.raises(RecordingMissing, match=r"repeat 2: .*nothing was for this repeat; run with --record"):
        recorded.run()


def test_errors_are_replayed_as_they_were(
    workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries that failed while recording fail again in the replay, and their successors answer."""
    (workshop.folder / "agent.py").write_text(AGENT)
    workshop.suite(SUITE.replace("repeats: 2", "concurrency: 1"))
    workshop.data(number=[1])
    server.failing = 2
    live = workshop.run(mode="record")
    monkeypatch.delenv("SERVER")

    replay = workshop.run()

    assert [result.status for result in live.attempts] == ["error", "error", "completed", "completed"]
    assert figures(replay) == figures(live)


def test_an_attempt_that_its_time_limit_stopped_is_stopped_in_the_replay(
    workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, at the same cost, that of the call in flight included: the recording has no other try to serve."""
    (workshop.folder / "agent.py").write_text(AGENT)
    workshop.suite(SUITE.replace("repeats: 2", "limits: {seconds: 3}"))
    workshop.data(number=[1])
    server.held = threading.Event()
    live = workshop.run(mode="record")
    server.held.set()
    monkeypatch.delenv("SERVER")

    replay = workshop.run()

    assert [(result.status, result.stop_reason) for result in live.attempts] == [("stopped", "time_limit")] * 2
    assert {result.estimated_calls for result in live.attempts} == {1}
    assert figures(replay) == figures(live)
    assert {result.stop_reason for result in replay.attempts} == {"time_limit"}
    assert {result.billed_usd for result in replay.attempts} == {0}


def test_a_replay_that_was_killed_between_tries_goes_on_with_the_next(
    workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed try counts once: resumed, it is not played again, and the next one gets its own answers."""
    (workshop.folder / "agent.py").write_text(AGENT)
    workshop.suite(SUITE.replace("repeats: 2", "concurrency: 1"))
    workshop.data(number=[1])
    server.failing = 2
    workshop.run(mode="record")
    monkeypatch.delenv("SERVER")
    whole = workshop.run()
    path = workshop.results / "attempts.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])

    assert figures(workshop.run()) == figures(whole)


def test_a_replay_that_was_killed_before_prices_changed_leaves_one_price_in_the_ledger(recorded: "Workshop") -> None:
    """What is replayed once more is not written to the ledger again, so what is there is priced as the answers are."""
    before = {result.slot: result.known_usd for result in recorded.run().attempts}
    path = recorded.results / "attempts.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    recorded.suite(SUITE.replace("input_tokens: 1, output_tokens: 10", "input_tokens: 2, output_tokens: 20"))

    results = recorded.run()

    ledger = open_ledger(recorded.results / "ledger.db")
    (total,) = ledger.totals()
    ledger.close()
    assert {result.slot: result.cost_usd for result in results.attempts} == {
        slot: 2 * cost for slot, cost in before.items()
    }
    assert total.totals.cost_usd == sum_usd([result.known_usd for result in results.attempts])


def test_a_try_that_was_never_recorded_is_not_made_in_a_replay(
    workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded with fewer tries than are allowed now: the last answers are not served, and counted, once more."""
    (workshop.folder / "agent.py").write_text(AGENT)
    workshop.suite(SUITE.replace("repeats: 2", "tries: 1"))
    workshop.data(number=[1])
    server.failing = 2
    live = workshop.run(mode="record")
    monkeypatch.delenv("SERVER")
    workshop.suite(SUITE.replace("repeats: 2", "tries: 3"))

    replay = workshop.run()

    assert [result.status for result in live.attempts] == ["error", "error"]
    assert figures(replay) == figures(live)


def test_a_replay_needs_its_recording(workshop: "Workshop") -> None:
    """A recording that is named and not there, or not named and asked for, is one sentence with the remedy."""
    workshop.suite(SUITE)
    with pytest.raises(EvalError, match=r"tasks\.recording\.jsonl is not there: make it with --record"):
        workshop.run()
    workshop.suite(SUITE.replace("recording: tasks.recording.jsonl", ""))
    with pytest.raises(BadArguments, match=r"names no recording: add `recording: FILE\.jsonl`"):
        workshop.run(mode="record")


def test_another_recording_is_played_anew(recorded: "Workshop") -> None:
    """Results of the recording before are not passed off as this one's; they are kept beside."""
    first = recorded.run()
    path = recorded.folder / "tasks.recording.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1])

    again = recorded.run()

    assert again.run["run_id"] != first.run["run_id"]
    assert again.set_aside is not None
    assert (again.set_aside / "attempts.jsonl").exists()
    assert recorded.run().set_aside is None


COMPLETIONS = """
import operator
import os
from typing import Annotated, TypedDict

from langchain_openai import OpenAI
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    number: int
    said: Annotated[list, operator.add]
    answer: str


def build(configuration):
    model = OpenAI(
        model="gpt-3.5-turbo-instruct", base_url=os.environ.get("SERVER", "http://127.0.0.1:9/v1"), api_key="secret",
        temperature=configuration["temperature"], max_retries=0,
    )

    def branch(name):
        async def ask(state: State) -> State:
            return {"said": [await model.ainvoke(f"{name} {state['number']}")]}

        return ask

    graph = StateGraph(State)
    names = ("double", "slow", "check")
    for name in names:
        graph.add_node(name, branch(name))
        graph.add_edge(START, name)
    graph.add_node("join", lambda state: {"answer": state["said"][0]})
    graph.add_edge(list(names), "join")
    graph.add_edge("join", END)
    return graph.compile()
"""


def test_completion_models_in_branches_keep_their_own_times(
    workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain starts an async completion model in another context than it sends its request in: the recorded times
    still reach the call they are of, and nothing is billed."""
    (workshop.folder / "agent.py").write_text(COMPLETIONS)
    workshop.suite(SUITE.replace("gpt-4.1*", "gpt-3.5*"))
    workshop.data(number=[1, 2])
    workshop.run(mode="record", concurrency=1)
    monkeypatch.delenv("SERVER")

    replay = workshop.run()

    assert {result.status for result in replay.attempts} == {"completed"}
    assert {result.replayed_calls for result in replay.attempts} == {3}
    assert {result.billed_usd for result in replay.attempts} == {0}
    lines = [json.loads(line) for line in (workshop.folder / "tasks.recording.jsonl").read_text().splitlines()[1:]]
    # The server counts requests, and says the count as prompt tokens: it tells the calls apart.
    recorded_s = {json.loads(line["answer"])["usage"]["prompt_tokens"]: line["duration_s"] for line in lines}
    ledger = open_ledger(replay.run["ledger"])
    replayed_s = {call.usage.input_tokens: (call.ended_at - call.started_at).total_seconds() for call in ledger.calls()}
    ledger.close()
    assert replayed_s == pytest.approx(recorded_s, abs=2e-6)


THREADS = """
from concurrent.futures import ThreadPoolExecutor

from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI


def build(configuration):
    model = ChatOpenAI(model="gpt-4.1-mini", base_url="http://127.0.0.1:9/v1", api_key="secret", max_retries=0)

    def ask(inputs):
        with ThreadPoolExecutor(1) as pool:
            return {"answer": "fallback" if pool.submit(model.invoke, "double 1").exception() else "good"}

    return RunnableLambda(ask)
"""


def test_calls_in_threads_that_lost_their_context_end_the_run(recorded: "Workshop") -> None:
    """A target that swallows the refusal would have completed, at no cost: the run ends with the remedy instead."""
    (recorded.folder / "agent.py").write_text(THREADS)
    del sys.modules["agent"]

    with pytest.raises(EvalError, match=r"outside of every slot: start threads with contextvars\.copy_context"):
        recorded.run()


def test_record_modes_say_what_is_asked(workshop: "Workshop", server: type[Server]) -> None:
    """`once` asks what the recording lacks, `none` nothing, `all` everything, and sets the old recording aside."""
    (workshop.folder / "agent.py").write_text(AGENT)
    workshop.suite(SUITE)
    cassette = workshop.folder / "own.jsonl"
    first = workshop.run(record_mode="once", cassette=cassette, folder=workshop.folder / "first")
    asked = server.asked
    assert asked == 16
    recorded = cassette.read_bytes()

    workshop.run(record_mode="once", cassette=cassette, folder=workshop.folder / "once")
    replayed = workshop.run(record_mode="none", cassette=cassette, folder=workshop.folder / "none")
    assert server.asked == asked
    assert figures(replayed) == figures(first)
    assert cassette.read_bytes() == recorded

    workshop.run(record_mode="all", cassette=cassette, folder=workshop.folder / "all")
    assert server.asked == 2 * asked
    (aside,) = workshop.folder.glob("own-until-*.jsonl")
    assert aside.read_bytes() == recorded
    workshop.run(record_mode="all", cassette=cassette, folder=workshop.folder / "all")
    assert server.asked == 2 * asked


def test_a_record_mode_goes_alone(workshop: "Workshop") -> None:
    """Beside --live or --record it would say two things; without a recording none."""
    with pytest.raises(BadArguments, match="--record-mode once says by itself what is asked and recorded"):
        workshop.run(record_mode="once", mode="live")
    with pytest.raises(BadArguments, match="pass --cassette FILE"):
        workshop.run(record_mode="once")


def test_a_recording_of_another_dataset_version_is_told_before_anything_runs(recorded: "Workshop") -> None:
    """One sentence names the recording, what has changed and the remedy; stored results stay as they are."""
    recorded.run()
    before = {path: path.read_bytes() for path in recorded.results.iterdir() if path.is_file()}
    recorded.data(number=[1, 9, 3])  # t2 is gone, t9 new...
    lines = recorded.dataset.read_text().replace('{"number": 3, ', '{"number": 3, "urgent": true, ')  # ...t3 changed.
    recorded.dataset.write_text(lines)

    with pytest.raises(EvalError) as raised:
        recorded.run()

    told = re.sub("[0-9a-f]{12}", "HASH", str(raised.value))
    assert told == (
        f"recording {recorded.folder / 'tasks.recording.jsonl'} was made for another version of the dataset tasks, "
        "HASH and not HASH: "
        "'t3' was changed since and 't9' was not in it; run with --record to buy what these need and keep the rest, "
        "or replay the dataset as it was"
    )
    assert {path: path.read_bytes() for path in recorded.results.iterdir() if path.is_file()} == before


def test_items_that_are_as_they_were_replay(recorded: "Workshop") -> None:
    """Others may be gone, and references corrected: what was said is still what the model says to them."""
    whole = figures(recorded.run())
    recorded.data(number=[1, 3])
    recorded.dataset.write_text(recorded.dataset.read_text().replace('"answer": "6"', '"answer": "7"'))

    part = figures(recorded.run(folder=recorded.folder / "part"))

    assert part == {key: value for key, value in whole.items() if key[0][1] != "t2"}


def test_each_version_of_an_item_is_played_its_own_answers(
    recorded: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed item is bought again, alone; going back to the dataset as it was, its old answers are there."""
    before = figures(recorded.run())
    old = recorded.dataset.read_text()
    recorded.dataset.write_text(old.replace('{"number": 3, ', '{"number": 3, "urgent": true, '))
    asked = server.asked
    monkeypatch.setenv("SERVER", server.url)
    bought = figures(recorded.run(mode="record", folder=recorded.folder / "bought"))
    monkeypatch.delenv("SERVER")
    assert server.asked == asked + 8  # 2 configurations x 2 repeats x 2 calls.

    assert figures(recorded.run(folder=recorded.folder / "new")) == bought
    recorded.dataset.write_text(old)
    assert figures(recorded.run(folder=recorded.folder / "old")) == before
    assert {key for key in before if before[key] != bought[key]} <= {key for key in before if key[0][1] == "t3"}


def test_a_recording_says_of_which_dataset_it_is_once(recorded: "Workshop", server: type[Server]) -> None:
    """In its first line; going on with the same items adds no other."""
    path = recorded.folder / "tasks.recording.jsonl"
    data = path.read_bytes()
    stated = json.loads(data.split(b"\n")[0])["dataset"]
    dataset = load_dataset(recorded.dataset)
    recorded.run(mode="record", folder=recorded.folder / "again")

    assert stated == {
        "name": "tasks",
        "hash": dataset.hash,
        "items": {item.id: item.inputs_hash for item in dataset.items},
    }
    assert path.read_bytes() == data


def test_a_recording_that_names_no_dataset_is_taken_as_it_is(recorded: "Workshop") -> None:
    """Those of before; what is asked otherwise than was recorded is told when it is asked."""
    path = recorded.folder / "tasks.recording.jsonl"
    whole = figures(recorded.run())
    path.write_bytes(b'{"recording": 1}\n' + path.read_bytes().partition(b"\n")[2])
    assert figures(recorded.run()) == whole
    recorded.data(number=[1, 2, 3, 4])

    with pytest.raises(RecordingMissing, match=r"task 't4', repeat 0: .*was not recorded: nothing was for this task"):
        recorded.run()


ENDING = """
import asyncio
from pathlib import Path


async def end():
    wish = Path(__file__).with_name("end.txt")
    if wish.exists():
        number = int(wish.read_text())
        wish.unlink()
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()  # Ctrl-C cancels it.
"""
SECOND = "    async def second(state: State) -> State:\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_a_recording_serves_to_the_run_that_bought_it_counts_once(
    how: signal.Signals, workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process dies between two calls of an attempt. Gone on with, the first is not bought again, and is on the
    interrupted try's line alone: results, ledger, what was sent and a replay come to the same."""
    (workshop.folder / "agent.py").write_text(AGENT.replace(SECOND, f"{SECOND}        await end()\n") + ENDING)
    workshop.suite(SUITE.replace("repeats: 2", "concurrency: 1"))
    workshop.data(number=[1])
    (workshop.folder / "end.txt").write_text(str(int(how)))
    command = [sys.executable, "-m", "langchain_finops.cli.finops_eval", "run", str(workshop.dataset), "--record"]
    folder = workshop.folder / "results"
    ended = subprocess.run([*command, "--out", str(folder)], cwd=workshop.folder, capture_output=True, check=False)
    assert ended.returncode == (130 if how == signal.SIGINT else -how), ended.stderr.decode()
    assert server.asked == 1

    resumed = workshop.run(mode="record", folder=folder)

    assert server.asked == 4
    lines = [(result.slot[0], result.stop_reason, result.calls, result.replayed_calls) for result in resumed.attempts]
    assert lines == [("cold", "interrupted", 1, 0), ("cold", None, 1, 0), ("hot", None, 2, 0)]
    sent = Decimal(sum(range(1, 5)) + 4 * 10) / 1_000_000  # Input tokens are numbered, each answer is one token.
    assert sum_usd([result.known_usd for result in resumed.attempts]) == sent
    ledger = open_ledger(folder / "ledger.db")
    (total,) = ledger.totals()
    ledger.close()
    assert (total.totals.calls, total.totals.cost_usd) == (4, sent)

    monkeypatch.delenv("SERVER")
    replay = workshop.run()
    assert [(result.slot[0], result.stop_reason, result.calls) for result in replay.attempts] == [
        ("cold", None, 2),
        ("hot", None, 2),
    ]
    assert sum_usd([result.cost_usd for result in replay.attempts]) == sent


@pytest.mark.parametrize("limit", ["usd: 0.0005", "steps: 1", "llm_calls: 1", "tokens: 500"])
def test_limits_stop_a_replay_where_they_stopped_the_recording(
    limit: str, workshop: "Workshop", server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """List cost, steps, calls and tokens count as if they were sent: the same call is refused, and nothing differs."""
    (workshop.folder / "agent.py").write_text(AGENT.replace("max_retries=0", "max_retries=0, max_tokens=1"))
    workshop.suite(SUITE.replace("repeats: 2", f"limits: {{{limit}}}"))
    workshop.data(number=[1, 2])
    server.asked = 1000  # Tokens of an answer: what is held for one is far below the limit, what it takes above.
    live = workshop.run(mode="record")
    monkeypatch.delenv("SERVER")

    replay = workshop.run()

    reason = limit.partition(":")[0] + "_limit"
    assert [(result.status, result.stop_reason, result.calls) for result in live.attempts] == [
        ("stopped", reason, 1)
    ] * 4
    assert server.asked == 1004
    assert figures(replay) == figures(live)
    assert {(result.stop_reason, result.calls, result.billed_usd) for result in replay.attempts} == {(reason, 1, 0)}
    assert all(result.cost_usd > Decimal("0.001") for result in replay.attempts)


@pytest.mark.parametrize(("usd", "calls"), [("90", 1), ("500", 2)])
def test_recorded_time_counts_on_a_limit_in_dollars(usd: str, calls: int, recorded: "Workshop") -> None:
    """A model that is paid by the hour costs the time that it took then, not the moment that a replay takes."""
    path = recorded.folder / "tasks.recording.jsonl"
    path.write_text(re.sub(r'"duration_s": [0-9.e-]+', '"duration_s": 100', path.read_text()))  # $100 a call.
    recorded.suite(SUITE.replace("repeats: 2", f"limits: {{usd: {usd}}}"))

    replay = recorded.run(cards="own")

    assert {(result.calls, result.cost_usd) for result in replay.attempts} == {(calls, 100 * calls)}
    assert {result.stop_reason for result in replay.attempts} == ({"usd_limit"} if calls == 1 else {None})
