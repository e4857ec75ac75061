"""Promises 2 and 3: a call ends once, by whatever ends it, and what was not reported is charged at its estimate."""

import asyncio
import threading
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from graphs import State, asking, fan_out, graph_of, line_of, recorded
from kept_objects import keeps_text
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.errors import GraphRecursionError, NodeTimeoutError
from langgraph.graph import START, StateGraph
from langgraph.types import TimeoutPolicy
from scripted_models import Gate, ProviderError, Reply, ScriptedChat, ScriptedLLM, scripted, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook
from langchain_finops.pricing.cards import parse_cards
from langchain_finops.records import CallRecord

WAITING = 30
"""Seconds after which a broken test gives up; none waits so long."""


class Ids(BaseCallbackHandler):
    """Notes the calls that LangChain reports to have begun."""

    run_inline = True

    def __init__(self) -> None:
        self.calls: set[UUID] = set()

    def _note(self, *_: object, run_id: UUID, **__: object) -> None:
        self.calls.add(run_id)

    on_chat_model_start = on_llm_start = _note


@pytest.fixture
def ids() -> Ids:
    return Ids()


def expect_nothing_open(handler: FinOpsHandler, ids: Ids) -> None:
    """Each call that began is in the ledger once, none ended in it twice, and its prompt has been let go."""
    assert len(list(handler.ledger.calls(history=True))) == len(ids.calls)
    assert not keeps_text(handler, "PROMPT")


def the_estimate(ledger: Ledger) -> CallRecord:
    """The one call in the ledger, which must be charged at an estimate and say so."""
    (call,) = ledger.calls()
    assert call.estimated
    assert call.cost_status == "estimated"
    assert call.usage.total_input_tokens > 0
    assert call.usage.total_output_tokens > 0
    assert call.cost_usd == (2 * call.usage.input_tokens + 10 * call.usage.output_tokens) * Decimal("0.000001")
    assert call.billed_usd == call.cost_usd
    assert call.reasons
    return call


def stuck(kind: Any = asyncio.Event) -> tuple[ScriptedChat, Gate]:
    """A model that never answers unless the test opens its gate."""
    gate = Gate(kind)
    return ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3), gate=gate)), gate


Wrap = Callable[[Any], Any]


def in_a_subgraph(node: Any) -> Any:
    return graph_of({"outer": graph_of({"ask": node})})


GRAPHS: dict[str, Wrap] = {"plain": lambda node: graph_of({"ask": node}), "subgraph": in_a_subgraph}


@pytest.mark.parametrize("shape", GRAPHS)
async def test_a_call_cut_off_by_wait_for_is_charged_at_its_estimate(
    shape: str, handler: FinOpsHandler, ledger: Ledger, ids: Ids
) -> None:
    """LangChain reports no end of a cancelled call; it ends with its node, and the run is cancelled."""
    model, gate = stuck()
    graph = GRAPHS[shape](asking(model, "PROMPT", native_async=True))
    running = asyncio.ensure_future(
        asyncio.wait_for(graph.ainvoke({"answers": []}, {"callbacks": [handler, ids]}), WAITING)
    )
    await gate.reached.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    call = the_estimate(ledger)
    assert call.error is not None
    assert call.error.error_class == "CancelledError"
    assert [run.status for run in ledger.runs()] == ["cancelled"]
    expect_nothing_open(handler, ids)


async def test_a_time_limit_of_wait_for_ends_the_call(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`asyncio.wait_for` around a whole graph is such a cancellation."""
    model, _ = stuck()
    graph = graph_of({"ask": asking(model, "PROMPT", native_async=True)})

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(graph.ainvoke({"answers": []}, {"callbacks": [handler]}), 0.05)

    the_estimate(ledger)
    assert [run.status for run in ledger.runs()] == ["cancelled"]


async def test_wait_for_inside_a_node_ends_the_call_with_the_node(
    handler: FinOpsHandler, ledger: Ledger, ids: Ids
) -> None:
    """A node that gives up waiting and goes on leaves no call open, and the run is completed."""
    model, _ = stuck()

    async def impatient(state: State) -> State:
        try:
            await asyncio.wait_for(model.ainvoke("PROMPT"), 0.01)
        except TimeoutError:
            return {"answers": ["gave up"]}
        raise AssertionError

    await graph_of({"ask": impatient}).ainvoke({"answers": []}, {"callbacks": [handler, ids]})

    assert the_estimate(ledger).attribution.node_path == "ask"
    assert [run.status for run in ledger.runs()] == ["completed"]
    expect_nothing_open(handler, ids)


async def test_a_call_that_was_given_up_is_charged_when_its_node_ends(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The next node of the same run finds it in the ledger already: a budget must not wait for the run's end."""
    model, _ = stuck()
    found: list[int] = []

    async def impatient(state: State) -> State:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.ainvoke("PROMPT"), 0.01)
        return {"answers": []}

    def look(state: State) -> State:
        found.append(len(list(ledger.calls())))
        return {"answers": []}

    await graph_of({"ask": impatient, "look": look}).ainvoke({"answers": []}, {"callbacks": [handler]})

    assert found == [1]


async def test_a_cancelled_chain_without_nodes_ends_its_call(handler: FinOpsHandler, ledger: Ledger, ids: Ids) -> None:
    """Outside a graph there is no node: the root's end ends what is open."""
    model, gate = stuck()
    chain = RunnableLambda(lambda prompt: prompt) | model
    running = asyncio.ensure_future(chain.ainvoke("PROMPT", {"callbacks": [handler, ids]}))
    await gate.reached.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    the_estimate(ledger)
    assert [run.status for run in ledger.runs()] == ["cancelled"]
    expect_nothing_open(handler, ids)


async def test_a_bare_call_that_was_cancelled_is_charged(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Without a graph around it a cancelled call has no node and no root whose end could end it."""
    model, gate = stuck()
    running = asyncio.ensure_future(model.ainvoke("PROMPT", {"callbacks": [handler]}))
    await gate.reached.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    del running
    handler.flush(WAITING)

    the_estimate(ledger)


async def test_a_failed_sibling_cancels_and_the_cancelled_call_is_charged(
    handler: FinOpsHandler, ledger: Ledger, ids: Ids
) -> None:
    """Where one branch fails, LangGraph cancels the others: theirs are estimates, and the run has failed."""
    model, gate = stuck()

    async def fails(state: State) -> State:
        await gate.reached.wait()
        raise ValueError("SECRET error text")

    builder = StateGraph(State)
    builder.add_node("ask", asking(model, "PROMPT", native_async=True))
    builder.add_node("fails", fails)
    builder.add_edge(START, "ask")
    builder.add_edge(START, "fails")

    with pytest.raises(ValueError, match="SECRET"):
        await builder.compile().ainvoke({"answers": []}, {"callbacks": [handler, ids]})

    the_estimate(ledger)
    (run,) = ledger.runs()
    assert (run.status, run.stop_reason) == ("failed", "ValueError")
    expect_nothing_open(handler, ids)


def test_a_sync_sibling_that_goes_on_after_a_failure_is_charged_once(handler: FinOpsHandler, ledger: Ledger) -> None:
    """In a sync graph the other branch goes on and reports its true usage: that is what counts, once."""
    model, gate = stuck(threading.Event)

    def fails(state: State) -> State:
        gate.reached.wait(WAITING)
        threading.Timer(0.02, gate.opened.set).start()
        raise ValueError("SECRET error text")

    builder = StateGraph(State)
    builder.add_node("ask", asking(model, "PROMPT"))
    builder.add_node("fails", fails)
    builder.add_edge(START, "ask")
    builder.add_edge(START, "fails")

    with pytest.raises(ValueError, match="SECRET"):
        builder.compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("ask", 7, 3)])
    assert [call.estimated for call in ledger.calls()] == [False]


@pytest.mark.parametrize("limit", ["step", "node"])
async def test_a_time_limit_of_the_graph_ends_the_call(
    limit: str, handler: FinOpsHandler, ledger: Ledger, ids: Ids
) -> None:
    """A step time-out and a node's own time-out cancel the call without a word to it."""
    model, _ = stuck()
    node = asking(model, "PROMPT", native_async=True)
    if limit == "step":
        graph = graph_of({"ask": node})
        graph.step_timeout = 0.05
    else:
        graph = line_of({"ask": node}, timeout=TimeoutPolicy(run_timeout=0.05)).compile()

    with pytest.raises((TimeoutError, NodeTimeoutError)):
        await graph.ainvoke({"answers": []}, {"callbacks": [handler, ids]})

    the_estimate(ledger)
    assert [run.status for run in ledger.runs()] == ["failed"]
    expect_nothing_open(handler, ids)


async def test_a_consumer_that_leaves_an_async_stream_ends_its_calls(
    handler: FinOpsHandler, ledger: Ledger, ids: Ids
) -> None:
    """Leaving `graph.astream` early cancels what runs: it is charged, and the run is cancelled."""
    gate = Gate(asyncio.Event)
    model = ScriptedChat(script=lambda *_: Reply(text="one two", usage=tokens(7, 3), gate=gate, gate_after=1))
    graph = graph_of({"ask": asking(model, "PROMPT", native_async=True)})

    stream = graph.astream({"answers": []}, {"callbacks": [handler, ids]}, stream_mode="messages")
    async for _ in stream:
        break
    await stream.aclose()

    the_estimate(ledger)
    assert [run.status for run in ledger.runs()] == ["cancelled"]
    expect_nothing_open(handler, ids)


def test_a_consumer_that_leaves_a_sync_stream_ends_the_run(handler: FinOpsHandler, ledger: Ledger, ids: Ids) -> None:
    """Leaving `graph.stream` between two nodes: what was called is recorded, and the run is cancelled."""
    model = ScriptedChat()
    graph = graph_of({"first": asking(model, "7/3"), "second": asking(model, "1/1")})

    stream = graph.stream({"answers": []}, {"callbacks": [handler, ids]}, stream_mode="updates")
    next(stream)
    stream.close()

    assert recorded(ledger.calls())[("first", 7, 3)] == 1
    assert [run.status for run in ledger.runs()] == ["cancelled"]
    expect_nothing_open(handler, ids)


@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_a_consumer_that_leaves_an_event_stream_ends_its_calls(
    version: str, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Leaving `astream_events` ends the run like leaving any other stream."""
    gate = Gate(asyncio.Event)
    model = ScriptedChat(script=lambda *_: Reply(text="one two", usage=tokens(7, 3), gate=gate, gate_after=1))
    graph = graph_of({"ask": asking(model, "PROMPT", native_async=True)})
    config = {"callbacks": [handler]}

    if version == "v2":
        stream = graph.astream_events({"answers": []}, config, version="v2")
        async for event in stream:
            if event["event"] == "on_chat_model_stream":
                break
        await stream.aclose()
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The v3 streaming protocol")
            run = await graph.astream_events({"answers": []}, config, version="v3")
        async for event in run:
            if event["method"] == "messages":
                break
        await run.abort()

    the_estimate(ledger)
    assert [each.status for each in ledger.runs()] == ["cancelled"]


async def test_an_aborted_stream_is_charged_for_what_was_received(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A stream that the caller closes reports no usage; what was received so far is the least it cost."""
    words = "word " * 8000
    model = ScriptedChat(script=lambda *_: Reply(text=words, usage=tokens(7, 9000), pieces=2))

    stream = model.astream("PROMPT", {"callbacks": [handler]})
    async for _ in stream:
        break
    await stream.aclose()

    # Half the text: 20,000 characters, which no tokenizer makes fewer than 2,500 tokens of.
    assert the_estimate(ledger).usage.output_tokens >= 2500


def test_an_aborted_sync_stream_is_charged_for_what_was_received(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The same in sync code."""
    model = ScriptedChat(script=lambda *_: Reply(text="word " * 8000, usage=tokens(7, 9000), pieces=2))

    stream = model.stream("PROMPT", {"callbacks": [handler]})
    next(stream)
    stream.close()

    assert the_estimate(ledger).usage.output_tokens >= 2500


@pytest.mark.parametrize("native_async", [False, True], ids=["sync", "async"])
def test_a_stream_that_breaks_inside_a_streamed_graph_is_charged_for_what_was_received(
    native_async: bool, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """`invoke()` in a graph that is being streamed streams too, and LangChain's error has none of the text received."""
    reply = Reply(text="word " * 8000, usage=tokens(7, 9), pieces=2, error=ConnectionResetError(), error_after=1)
    graph = graph_of({"ask": asking(ScriptedChat(script=lambda *_: reply), "PROMPT", native_async=native_async)})
    config = {"callbacks": [handler]}

    async def consume() -> None:
        async for _ in graph.astream({"answers": []}, config, stream_mode="messages"):
            pass

    def consume_in_turn() -> None:
        list(graph.stream({"answers": []}, config, stream_mode="messages"))

    with pytest.raises(ConnectionResetError):
        asyncio.run(consume()) if native_async else consume_in_turn()

    call = the_estimate(ledger)
    assert call.usage.output_tokens >= 2500
    assert call.error is not None
    assert call.error.error_class == "ConnectionResetError"


class CountsFirst(ScriptedChat):
    """Reports the prompt at the start of its stream, as Anthropic does; then the connection is lost, or it hangs."""

    then: Any

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for message in (AIMessageChunk("", usage_metadata=tokens(50_000, 1)), AIMessageChunk("hello")):
            chunk = ChatGenerationChunk(message=message)
            if run_manager:
                run_manager.on_llm_new_token(message.text, chunk=chunk)
            yield chunk
        raise self.then

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for chunk in self._stream(messages):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.message.text, chunk=chunk)
            yield chunk


@pytest.mark.parametrize("native_async", [False, True], ids=["sync", "async"])
def test_what_a_broken_stream_reported_at_its_start_counts(
    native_async: bool, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """In a graph that is being streamed LangChain's error has none of it: 50,000 tokens would be estimated as 10."""
    model = CountsFirst(then=ConnectionResetError())
    graph = graph_of({"ask": asking(model, "PROMPT", native_async=native_async)})
    config = {"callbacks": [handler]}

    async def consume() -> None:
        async for _ in graph.astream({"answers": []}, config, stream_mode="messages"):
            pass

    def consume_in_turn() -> None:
        list(graph.stream({"answers": []}, config, stream_mode="messages"))

    with pytest.raises(ConnectionResetError):
        asyncio.run(consume()) if native_async else consume_in_turn()

    assert the_estimate(ledger).usage.total_input_tokens == 50_000


def test_an_aborted_stream_counts_its_text_once_though_told_twice(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A handler on the model and on the call is told of each chunk twice."""
    text = "word " * 8000  # 40,000 bytes, of which all but the last chunk are read.
    model = ScriptedChat(script=lambda *_: Reply(text=text, usage=tokens(7, 9000), pieces=4))

    stream = model.with_config(callbacks=[handler]).stream("PROMPT", {"callbacks": [handler]})
    for _ in range(4):
        next(stream)
    stream.close()

    assert the_estimate(ledger).usage.output_tokens == 10_000


class Unreadable(ScriptedChat):
    """Answers something that has no text and no counts, and breaks whoever looks for them."""

    def _generate(self, *_: Any, **__: Any) -> Any:
        message = AIMessage("hello")
        message.tool_calls = [object()]  # type: ignore[list-item]
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_an_answer_that_cannot_be_read_is_charged(handler: FinOpsHandler, ledger: Ledger) -> None:
    """It was paid for, the run ends as ever, and the fault is counted."""
    Unreadable().invoke("PROMPT", {"callbacks": [handler]})

    assert "unreadable_answer" in the_estimate(ledger).reasons
    assert [run.status for run in ledger.runs()] == ["completed"]
    assert handler.summary(()).total().calls == 1
    assert handler.faults == 1


def test_a_machine_is_paid_once_for_a_request_of_two_prompts(ledger: Ledger) -> None:
    """Both prompts take the same time of it."""
    machine = {"usd_per_instance_hour": "3600", "instances": 1}
    cards = [{"id": "own", "match": {"model": "scripted*"}, "self_hosted": machine}]
    prices = PriceBook(cards=parse_cards(cards, where="test"), catalog=False)

    ScriptedLLM().batch(["3/1", "4/2"], {"callbacks": [FinOpsHandler(ledger=ledger, prices=prices)]})

    assert [bool(call.cost_usd) for call in ledger.calls()] == [True, False]


@pytest.mark.parametrize("model", [ScriptedChat(script=lambda *_: Reply()), ScriptedLLM(script=lambda *_: Reply())])
def test_no_usage_reported_is_not_zero_usage(model: Any, handler: FinOpsHandler, ledger: Ledger) -> None:
    """An answer without usage is charged at its estimate and flagged; it has no raw usage to show."""
    graph_of({"ask": lambda state: {"answers": [str(model.invoke("PROMPT " * 100))]}}).invoke(
        {"answers": []}, {"callbacks": [handler]}
    )

    call = the_estimate(ledger)
    assert call.error is None
    # 700 characters: no tokenizer makes fewer than 70 tokens of them, nor more than 700.
    assert 70 <= call.usage.input_tokens <= 700
    assert call.raw_usage is None


def test_a_long_answer_without_usage_is_charged_for_its_text(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Where the text received shows more than the estimate, it counts."""
    scripted(Reply(text="word " * 40_000)).invoke("PROMPT", {"callbacks": [handler]})

    # 200,000 characters.
    assert the_estimate(ledger).usage.output_tokens >= 25_000


def test_a_short_answer_without_usage_is_charged_for_what_was_to_be_expected(
    handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Hidden reasoning is billed too: the estimate is not cut down to the text that could be seen."""
    # A model that used 5,000 output tokens for each of three visible words.
    reasoning = Reply(text="one", usage=tokens(10, 5000))
    model = scripted(reasoning, reasoning, reasoning, Reply(text="one"))
    graph = graph_of({"ask": asking(model, "PROMPT")})

    for _ in range(4):
        graph.invoke({"answers": []}, {"callbacks": [handler]})

    (call,) = (call for call in ledger.calls() if call.estimated)
    assert call.usage.output_tokens >= 5000


def test_zero_tokens_that_were_reported_are_zero(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A reported zero is a fact and no gap in the report."""
    scripted(Reply(usage=tokens(5, 0))).invoke("PROMPT", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert (call.usage.input_tokens, call.usage.output_tokens, call.estimated) == (5, 0, False)


ERRORS: dict[str, tuple[Callable[[], Exception], int]] = {
    "status_code": (lambda: ProviderError(429), 429),
    "in its response": (lambda: _with(RuntimeError("SECRET"), response=ProviderError(503)), 503),
    "in its cause": (lambda: _caused_by(ProviderError(500)), 500),
}


def _with(error: Exception, **fields: object) -> Exception:
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def _caused_by(cause: Exception) -> Exception:
    error = RuntimeError("SECRET")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("which", ERRORS)
def test_an_answer_with_an_http_error_status_is_recorded_and_free(
    which: str, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Providers bill no error answers: the call is there with its class and status, and costs nothing."""
    make, status = ERRORS[which]
    error = make()

    with pytest.raises(type(error)):
        scripted(Reply(error=error)).invoke("PROMPT", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert call.error is not None
    assert (call.error.error_class, call.error.http_status) == (type(error).__name__, status)
    assert (call.cost_usd, call.cost_status, call.usage.total_tokens) == (0, "free", 0)
    assert [run.status for run in ledger.runs()] == ["failed"]


def test_a_request_that_was_never_sent_is_free(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Connection refused: nothing reached the provider."""
    with pytest.raises(ConnectionRefusedError):
        scripted(Reply(error=ConnectionRefusedError())).invoke("PROMPT", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert (call.cost_usd, call.cost_status, call.usage.total_tokens) == (0, "free", 0)
    assert call.error is not None
    assert call.error.error_class == "ConnectionRefusedError"


@pytest.mark.parametrize("error", [TimeoutError("SECRET"), ConnectionResetError("SECRET"), RuntimeError("SECRET")])
def test_an_error_that_may_have_come_after_the_request_is_charged(
    error: Exception, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """A time-out, a lost connection or an answer that could not be read: the provider may well have billed it."""
    with pytest.raises(type(error)):
        scripted(Reply(error=error)).invoke("PROMPT", {"callbacks": [handler]})

    call = the_estimate(ledger)
    assert call.error is not None
    assert call.error.error_class == type(error).__name__


def test_too_many_steps_stop_a_run(handler: FinOpsHandler, ledger: Ledger, ids: Ids) -> None:
    """A GraphRecursionError is no failure but a stop, and says why (promise 8a)."""
    builder = StateGraph(State)
    builder.add_node("loop", asking(ScriptedChat(), "7/3"))
    builder.add_edge(START, "loop")
    builder.add_edge("loop", "loop")

    with pytest.raises(GraphRecursionError):
        builder.compile().invoke({"answers": []}, {"callbacks": [handler, ids], "recursion_limit": 4})

    (run,) = ledger.runs()
    assert (run.status, run.stop_reason) == ("stopped", "recursion_limit")
    assert recorded(ledger.calls()) == Counter({("loop", 7, 3): 4})
    expect_nothing_open(handler, ids)


async def test_calls_of_a_cancelled_fan_out_all_end(handler: FinOpsHandler, ledger: Ledger, ids: Ids) -> None:
    """Of eight branches three have answered when the run is cancelled: three are exact and five are estimates."""
    gates = [Gate(asyncio.Event) for _ in range(8)]

    def script(prompt: str, call: int) -> Reply:
        return Reply(usage=tokens(7, 3), gate=gates[int(prompt)])

    graph = fan_out(asking(ScriptedChat(script=script), native_async=True), [str(place) for place in range(8)])
    running = asyncio.ensure_future(graph.ainvoke({"answers": []}, {"callbacks": [handler, ids]}))
    for gate in gates:
        await gate.reached.wait()
    for gate in gates[:3]:
        gate.opened.set()
    while sum(1 for _ in ledger.calls()) < 3:
        await asyncio.sleep(0)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert Counter(call.estimated for call in ledger.calls()) == {False: 3, True: 5}
    assert len({call.call_id for call in ledger.calls(history=True)}) == 8
    expect_nothing_open(handler, ids)


async def test_a_late_end_does_not_charge_twice(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A call that was settled with its node and then ends after all is one call; the truth replaces the estimate."""
    model, gate = stuck()
    tasks: list[Awaitable[Any]] = []

    async def walks_on(state: State) -> State:
        tasks.append(asyncio.ensure_future(model.ainvoke("PROMPT")))
        await gate.reached.wait()
        return {"answers": ["not waited for"]}

    await graph_of({"ask": walks_on}).ainvoke({"answers": []}, {"callbacks": [handler]})
    gate.opened.set()
    await asyncio.gather(*tasks)
    handler.flush(WAITING)

    calls = list(ledger.calls())
    assert len(calls) == 1
    assert handler.summary(by="node").total().calls == 1
    assert handler.summary(by="node").total().cost_usd == calls[0].cost_usd
    assert (calls[0].usage.total_input_tokens, calls[0].usage.total_output_tokens) == (7, 3)
