"""Targets of every kind: a factory, a graph, a plain function, a URL. What they cost is known exactly, or known not to
be known."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from langchain_finops.errors import BadData
from langchain_finops.ledger import open_ledger

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

ONE_CALL = (100 * Decimal(1) + 10 * Decimal(10)) / 1_000_000
TARGETS = """

def solve_in_thread(inputs, configuration):
    model = Scripted(wrong=configuration.get("wrong", False))
    return {"answer": model.invoke(f"answer {inputs['number']}").content}


async def solve_async(inputs, configuration):
    model = Scripted(wrong=configuration.get("wrong", False))
    return {"answer": (await model.ainvoke(f"answer {inputs['number']}")).content}


class Solver:
    async def __call__(self, inputs, configuration):
        return await solve_async(inputs, configuration)


solver = Solver()


def hidden(inputs, configuration):
    return solve_async(inputs, configuration)


def picky(configuration):
    if configuration["name"] == "right":
        raise ValueError("no\\n  way")
    raise KeyError("key")


def spoil(inputs, configuration):
    configuration["tags"].append("seen")
    return {"answer": len(configuration["tags"])}


def of_one(inputs):
    return inputs


async def configured(state: State, config) -> State:
    wrong = config["configurable"].get("wrong", False)
    answer = await Scripted(wrong=wrong).ainvoke(f"answer {state['number']}")
    return {"answer": answer.content}


uncompiled = StateGraph(State)
uncompiled.add_node("configured", configured)
uncompiled.add_edge(START, "configured")
graph = uncompiled.compile()

from langchain_core.runnables import Runnable
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState


def count(state, config):
    return {"messages": [("ai", f"{config['configurable']['name']} {len(state['messages'])}")]}


counting = StateGraph(MessagesState)
counting.add_node("count", count)
counting.add_edge(START, "count")
keeping = counting.compile(checkpointer=InMemorySaver())


class Blocking(Runnable):
    def invoke(self, input, config=None, **kwargs):
        assert threading.current_thread() is not threading.main_thread()
        return solve_in_thread(input, dict(config["configurable"]))


blocking = Blocking()
"""


@pytest.fixture
def with_targets(workshop: "Workshop") -> "Workshop":
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + TARGETS)
    return workshop


def aim(workshop: "Workshop", target: str, *, more: str = "") -> None:
    suite = (workshop.folder / "tasks.yaml").read_text()
    workshop.suite(suite.replace("target: agent:build", f"target: {target}") + more)


@pytest.mark.parametrize(
    "target",
    [
        "{factory: agent:build}",
        "{graph: agent:graph}",
        "{graph: agent:blocking}",
        "{call: agent:solve_in_thread}",
        "{call: agent:solve_async}",
        "{call: agent:solver}",
    ],
)
def test_each_kind_is_given_inputs_and_its_configuration(with_targets: "Workshop", target: str) -> None:
    """One configuration is right, the other one is wrong; each call is metered, and belongs to its attempt."""
    aim(with_targets, target)

    results = with_targets.run()

    assert {(result.configuration, result.cost_usd, result.calls) for result in results.attempts} == {
        ("right", ONE_CALL, 1),
        ("wrong", ONE_CALL, 1),
    }
    assert {(verdict.configuration, verdict.success) for verdict in results.verdicts} == {
        ("right", True),
        ("wrong", False),
    }


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("agent:graph", "is CompiledStateGraph, and no function of a configuration: write `target: {graph: agent:gr"),
        ("{graph: agent:uncompiled}", "'agent:uncompiled' is StateGraph, and no Runnable: compile it"),
        ("{graph: agent:solver}", "'agent:solver' is Solver, and no Runnable"),
        ("{call: agent:of_one}", "'agent:of_one' cannot be called with inputs and configuration: too many pos"),
        ("{call: agent:nowhere}", r"agent\.py has no 'nowhere'"),
        ("{graph: nowhere:graph}", "module 'nowhere' cannot be imported"),
        (
            "agent:solve_async",
            "cannot be built for configurations 'right', 'wrong': TypeError: solve_async.. missing 1",
        ),
    ],
)
def test_a_target_that_is_of_another_kind_is_told_with_what_to_write(
    with_targets: "Workshop", target: str, message: str
) -> None:
    """Nothing is guessed: what a name stands for is said in the suite, and nothing is left behind where it is wrong."""
    aim(with_targets, target)

    with pytest.raises(BadData, match=message):
        with_targets.run()
    assert with_targets.calls() == []
    assert not with_targets.results.parent.exists()


def test_what_an_attempt_does_to_its_configuration_reaches_no_other(with_targets: "Workshop") -> None:
    """However deep: each attempt has its own."""
    with_targets.suite("target: {call: agent:spoil}\nscorer: exact\nconfigurations: [{name: one, tags: []}]\n")

    assert [attempt.answer for attempt in with_targets.run().attempts] == [{"answer": 1}, {"answer": 1}]


def test_a_coroutine_of_a_plain_function_is_an_error_of_the_target(with_targets: "Workshop") -> None:
    """Nobody would await it: no answer is passed off as one."""
    aim(with_targets, "{call: agent:hidden}")

    assert {(result.status, result.stop_reason) for result in with_targets.run().attempts} == {("error", "target")}


TWO_TURNS = [{"messages": [{"type": "human", "content": text}]} for text in ("hi", "more")]


def say_twice(workshop: "Workshop", answer: str) -> None:
    line = {"id": "a", "inputs": {}, "outputs": {"answer": answer}, "turns": TWO_TURNS}
    workshop.dataset.write_text(json.dumps(line) + "\n")
    suite = (workshop.folder / "tasks.yaml").read_text()
    workshop.suite(suite.replace("scorer: exact", "scorer: {type: contains, answer_field: messages.-1.content}"))


def test_a_graph_keeps_a_thread_for_each_attempt(with_targets: "Workshop") -> None:
    """One graph serves all configurations and tries; none sees what another was told."""
    aim(with_targets, "{graph: agent:keeping}")
    say_twice(with_targets, "3")

    results = with_targets.run()

    assert [attempt.answer["messages"][-1]["content"] for attempt in results.attempts] == ["right 3", "wrong 3"]
    assert [verdict.success for verdict in results.verdicts] == [True, True]


def test_parameters_that_langgraph_itself_keeps_are_refused(with_targets: "Workshop") -> None:
    """A `thread_id` of the suite's would have all attempts talk on one thread."""
    suite = (with_targets.folder / "tasks.yaml").read_text().replace("{name: right}", "{name: right, thread_id: 1}")
    with_targets.suite(suite)
    aim(with_targets, "{graph: agent:graph}")

    with pytest.raises(BadData, match=r"`configurable`, where thread_id are LangGraph's own"):
        with_targets.run()


def test_all_configurations_that_cannot_be_built_are_told_at_once(with_targets: "Workshop") -> None:
    """Each fault with those that have it, on one line; earlier results and the folder are as they were."""
    suite = (with_targets.folder / "tasks.yaml").read_text()
    before = with_targets.run()
    with_targets.suite(suite.replace("agent:build", "agent:picky"))

    with pytest.raises(BadData) as caught:
        with_targets.run(fresh=True)

    where = f"{with_targets.folder}/tasks.yaml: target"
    assert [str(fault) for fault in caught.value.faults] == [
        f"{where}: cannot be built for configuration 'right': ValueError: no way",
        f"{where}: cannot be built for configuration 'wrong': KeyError: 'key'",
    ]
    assert [folder.name for folder in with_targets.results.parent.iterdir()] == ["tasks"]
    mine = with_targets.folder / "mine"
    mine.mkdir()
    for folder in (mine / "a" / "b", mine):
        with pytest.raises(BadData):
            with_targets.run(folder=folder)
    assert not (mine / "a").exists()
    assert mine.exists()
    with_targets.suite(suite)
    assert with_targets.run().attempts == before.attempts


def test_a_suite_says_how_its_target_is_asked(workshop: "Workshop") -> None:
    """Everything that is wrong with a target is told at once, and a password is not written down."""
    told = {}
    for target in (
        "7",
        "{}",
        "{graph: agent:build, call: agent:build}",
        "{graf: agent:build}",
        "{call: build, headers: {A: b}}",
        "{url: 'ftp://x'}",
        "{url: 'http://me:secret@x', headers: {'A b': c, D: 5}}",
    ):
        workshop.suite(f"target: {target}\nscorer: exact\nconfigurations: [{{name: one}}]\n")
        with pytest.raises(BadData) as caught:
            workshop.run()
        told[target] = [str(fault).partition("tasks.yaml: ")[2] for fault in caught.value.faults]

    expected = "`module:function` of a function that takes a configuration and returns a Runnable, or one of"
    assert told["7"][0].startswith(f"target: 7 found: {expected}")
    assert told["{}"] == ["target: none of them found: one of factory, graph, call, url is expected"]
    assert told["{graph: agent:build, call: agent:build}"] == [
        "target: graph and call found: one of factory, graph, call, url is expected"
    ]
    assert told["{graf: agent:build}"][0] == "target.graf: is not known: known are factory, graph, call, url, headers"
    assert told["{call: build, headers: {A: b}}"] == [
        "target.headers: are of no use without `url`: leave them out",
        "target.call: 'build' found: `module:function` is expected",
    ]
    assert told["{url: 'ftp://x'}"] == ["target.url: 'ftp://x' found: http://... or https://... is expected"]
    url, name, text = told["{url: 'http://me:secret@x', headers: {'A b': c, D: 5}}"]
    assert url.startswith("target.url: a URL with a password would be written down")
    assert "secret" not in url
    assert name == "target.headers.A b: is no name of a header"
    assert text.startswith("target.headers.D: 5 found: a text")


# --- behind a URL -----------------------------------------------------------------------------------------------------

Answer = tuple[int, Mapping[str, str], object]


class Server:
    """An agent's endpoint on loopback that answers as `say` tells."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], Mapping[str, str]]] = []
        self.say: Callable[[dict[str, Any]], Answer] = lambda body: (200, {}, answer_of(body))
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.asked.append((body, {name.lower(): value for name, value in self.headers.items()}))
                status, headers, said = server.say(body)
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # Of who has gone meanwhile.
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/answer"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer_of(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"answer": str(2 * body["inputs"]["number"])}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


SUITE = """
target: {{url: "{url}", headers: {{authorization: "Bearer ${{AGENT_KEY}}"}}}}
scorer: exact
configurations: [{{name: one, model: "openai:gpt-4.1-mini", shots: 3}}]
tries: 2
cards: {{own: [{{id: own, match: {{model: "gpt-4.1*"}}, rates: {{input_tokens: 1, output_tokens: 10}}}}]}}
"""


@pytest.fixture
def remote(workshop: "Workshop", server: Server, monkeypatch: pytest.MonkeyPatch) -> "Workshop":
    workshop.suite(SUITE.format(url=server.url))
    monkeypatch.setenv("AGENT_KEY", "sesame")
    workshop.data(number=[1])
    return workshop


def test_a_url_is_posted_inputs_and_configuration(remote: "Workshop", server: Server) -> None:
    """It gets what other targets get; the key goes into the header, and into nothing that is written down."""
    (attempt,) = (results := remote.run()).attempts

    ((body, headers),) = server.asked
    assert body == {
        "inputs": {"number": 1, "do": "answer"},
        "configuration": {"name": "one", "model": "openai:gpt-4.1-mini", "shots": 3},
    }
    assert headers["authorization"] == "Bearer sesame"
    assert attempt.answer == {"answer": "2"}
    assert [verdict.success for verdict in results.verdicts] == [True]
    written = [file.read_bytes() for file in remote.results.iterdir()]
    assert not any(b"sesame" in data for data in written)


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ({}, None),
        ({"cost_usd": 0.1}, Decimal("0.1")),
        ({"cost_usd": "0.000000000001"}, Decimal("0.000000000001")),
        ({"cost_usd": 0}, Decimal(0)),
        ({"cost_usd": -1}, None),
        ({"cost_usd": "lots"}, None),
        ({"cost_usd": True}, None),
        ({"usage": {"input_tokens": 100, "output_tokens": 10}}, ONE_CALL),
        ({"usage": {"prompt_tokens": 100, "completion_tokens": 10}, "model": "gpt-4.1"}, ONE_CALL),
        ({"usage": {"input_tokens": 100, "output_tokens": 10}, "model": "nobody-knows-it"}, None),
        ({"usage": {"input_tokens": 100, "output_tokens": 10}, "cost_usd": "0.5"}, Decimal("0.5")),
        ({"usage": {}}, None),
        ({"usage": {"input_tokens": "100"}}, None),
        ({"usage": {"input_tokens": 100, "output_tokens": 10}, "cost_usd": -1}, ONE_CALL),
        ({"usage": "many"}, None),
        ({"model": "gpt-4.1-mini"}, None),
    ],
)
def test_what_a_url_costs_is_what_it_says_and_else_unknown(
    remote: "Workshop", server: Server, said: dict[str, object], cost: Decimal | None
) -> None:
    """Exactly as stated, or its usage at the model's price; where it says neither, the cost is not known, never 0."""
    server.say = lambda body: (200, {}, answer_of(body) | said)

    (attempt,) = remote.run().attempts

    assert attempt.status == "completed"
    assert attempt.cost_usd == cost
    assert (attempt.unpriced_calls, attempt.calls) == (int(cost is None), 1)
    with closing(open_ledger(remote.results / "ledger.db")) as ledger:
        assert [call.cost_usd for call in ledger.calls()] == [cost]


def test_a_url_that_is_asked_too_much_is_asked_again_later(remote: "Workshop", server: Server) -> None:
    """429 with `retry-after` waits and tries again, as with a model; what was turned away costs nothing."""
    server.say = lambda body: (
        (429, {"retry-after": "0"}, {"detail": "later"})
        if len(server.asked) == 1
        else (200, {}, answer_of(body) | {"cost_usd": "0.25"})
    )

    first, second = remote.run().attempts

    assert (first.status, first.stop_reason, first.cost_usd) == ("error", "infrastructure", Decimal(0))
    assert first.error is not None
    assert first.error.http_status == 429
    assert (second.status, second.cost_usd) == ("completed", Decimal("0.25"))


@pytest.mark.parametrize(
    ("status", "body", "came_to"),
    [
        (500, {"detail": "oops"}, (2, "infrastructure", None)),
        (502, b"", (2, "infrastructure", None)),
        (503, {}, (2, "infrastructure", Decimal(0))),
        (422, {"detail": "no such field"}, (1, "target", Decimal(0))),
        (422, {"detail": "after all", "cost_usd": 0.5}, (1, "target", None)),
        (401, {}, (1, "infrastructure", Decimal(0))),
        (200, b"hello", (1, "target", None)),
        (200, [1], (1, "target", None)),
    ],
)
def test_what_a_url_fails_at_may_have_cost_something(
    remote: "Workshop", server: Server, status: int, body: object, came_to: tuple[int, str, Decimal | None]
) -> None:
    """An agent that breaks in the middle was paid for: its cost is not known. What was turned away cost nothing."""
    tries, reason, cost = came_to
    server.say = lambda _: (status, {"retry-after": "0"}, body)

    attempts = remote.run().attempts

    assert [(attempt.status, attempt.stop_reason, attempt.cost_usd) for attempt in attempts] == [
        ("error", reason, cost)
    ] * tries


def test_a_url_may_hand_off_to_a_person(remote: "Workshop", server: Server) -> None:
    """What LangGraph's own server answers with where a graph asks a person is no answer."""
    server.say = lambda _: (200, {}, {"__interrupt__": [{"value": "may I?"}], "cost_usd": "0.25"})

    (attempt,) = remote.run().attempts

    assert (attempt.status, attempt.cost_usd) == ("handed_off", Decimal("0.25"))


def test_a_url_may_stand_alone_as_the_target(workshop: "Workshop", server: Server) -> None:
    """A configuration of no model has no price: the cost is not known."""
    workshop.data(number=[1])
    workshop.suite(f"target: {server.url}\nscorer: exact\nconfigurations: [{{name: one}}]\n")

    (attempt,) = workshop.run().attempts

    assert (attempt.status, attempt.cost_usd, attempt.known_usd) == ("completed", None, Decimal(0))


def test_turns_are_carried_on_to_a_url(remote: "Workshop", server: Server) -> None:
    """Each turn is a request with all that was said before, and costs what it costs."""

    def say(body: dict[str, Any]) -> Answer:
        messages = body["inputs"]["messages"]
        return 200, {}, {"messages": [*messages, {"type": "ai", "content": str(len(messages))}], "cost_usd": "0.1"}

    server.say = say
    say_twice(remote, "3")

    (attempt,) = (results := remote.run()).attempts

    assert (attempt.turns, attempt.calls, attempt.cost_usd) == (2, 2, Decimal("0.2"))
    assert [verdict.success for verdict in results.verdicts] == [True]


def test_what_a_url_did_until_the_time_was_up_is_not_known(remote: "Workshop", server: Server) -> None:
    """The agent behind it goes on, and what it spends is on the bill."""
    over = threading.Event()

    def say(body: dict[str, Any]) -> Answer:
        over.wait(60)
        return 200, {}, answer_of(body)

    server.say = say
    remote.suite((remote.folder / "tasks.yaml").read_text() + "limits: {seconds: 0.5}\n")

    (attempt,) = remote.run().attempts
    over.set()

    assert (attempt.status, attempt.stop_reason, attempt.cost_usd) == ("stopped", "time_limit", None)


def test_nobody_at_a_url_is_an_outage_that_costs_nothing(remote: "Workshop", server: Server) -> None:
    """A connection that was never made was never paid for."""
    server.close()
    remote.suite((remote.folder / "tasks.yaml").read_text().replace("tries: 2", "tries: 1"))

    attempts = remote.run().attempts

    assert {(each.stop_reason, each.cost_usd) for each in attempts} == {("infrastructure", Decimal(0))}


def test_limits_that_nobody_can_hold_behind_a_url_are_refused(remote: "Workshop", server: Server) -> None:
    """A maximum that holds nothing back is worse than none: all of them are told before anything is asked."""
    suite = (remote.folder / "tasks.yaml").read_text()
    remote.suite(suite + "limits: {usd: 1, steps: 5, seconds: 60}\n")

    with pytest.raises(BadData) as caught:
        remote.run(max_usd="2.5")

    assert [fault.where.partition("tasks.yaml: ")[2] for fault in caught.value.faults] == [
        "limits.usd",
        "limits.steps",
        "max_usd",
    ]
    assert server.asked == []


def test_a_key_that_the_environment_lacks_is_told(
    remote: "Workshop", server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked, and not as an error of every attempt."""
    monkeypatch.delenv("AGENT_KEY")

    with pytest.raises(BadData, match="its headers need AGENT_KEY, which the environment does not have: set it"):
        remote.run()
    assert server.asked == []


def test_a_url_is_recorded_and_replayed(remote: "Workshop", server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay asks nobody, needs no key, and costs what was recorded."""
    server.say = lambda body: (200, {}, answer_of(body) | {"cost_usd": "0.25"})
    remote.suite((remote.folder / "tasks.yaml").read_text() + "recording: tasks.rec.jsonl\n")
    remote.run(mode="record")
    server.asked.clear()
    monkeypatch.delenv("AGENT_KEY")

    (attempt,) = remote.run().attempts

    assert server.asked == []
    assert (attempt.status, attempt.cost_usd, attempt.answer) == (
        "completed",
        Decimal("0.25"),
        {"answer": "2", "cost_usd": "0.25"},
    )


def test_a_failure_of_a_url_is_replayed_as_one(remote: "Workshop", server: Server) -> None:
    """With the same reason, and a cost that is as unknown as it was."""
    server.say = lambda _: (500, {}, {"detail": "oops"})
    suite = (remote.folder / "tasks.yaml").read_text().replace("tries: 2", "tries: 1")
    remote.suite(suite + "recording: tasks.rec.jsonl\n")
    (recorded,) = remote.run(mode="record").attempts
    server.asked.clear()

    (replayed,) = remote.run().attempts

    assert server.asked == []
    assert (replayed.stop_reason, replayed.error, replayed.cost_usd) == ("infrastructure", recorded.error, None)
