"""However a call ends, nothing stays held: streams left, tasks cancelled, time-outs, retries of the SDK, errors."""

import asyncio
import contextlib
import gc
import threading
from decimal import Decimal
from typing import Any

import pytest
from guarded_scenes import CENT, EVERY_STORE, State, asking, both, cents, fan_out, line
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from provider_server import Answer, ProviderServer, openai_usage
from scripted_models import Gate, ProviderError, Reply, ScriptedChat, scripted

from langchain_finops import Budget, BudgetExceeded, Ledger
from langchain_finops.pricing import PriceBook, parse_cards

AGENT = Budget(usd="0.095", scope="agent_id")
"""Its holds are on the ledger, where they can be seen."""


def standing(ledger: Ledger) -> tuple[int, int]:
    """Spent and held, in picodollars."""
    found = [each for each in ledger.balances() if each.balance.startswith("usd")]
    return sum(each.spent for each in found), sum(each.held for each in found)


def spent_usd(ledger: Ledger) -> Decimal:
    """What the calls cost that are written down."""
    return sum((call.contracted_usd or Decimal() for call in ledger.calls()), Decimal())


def agrees(ledger: Ledger) -> bool:
    """The balance is the sum of the calls, and nothing is held."""
    spent, held = standing(ledger)
    return (spent, held) == (int(spent_usd(ledger) * 10**12), 0)


@EVERY_STORE
def test_a_stream_that_is_dropped_is_charged_and_settled(guarded: Any, ledger: Ledger) -> None:
    """The consumer walks away after a chunk: charged at what was held, and the hold is gone."""
    model, handler = ScriptedChat(script=lambda _p, _c: Reply(text="ab cd ef", usage=CENT, pieces=4)), guarded(AGENT)

    stream = model.stream("hi", {"callbacks": [handler]})
    next(stream)
    assert standing(ledger)[1] > 0
    stream.close()

    assert agrees(ledger)
    (call,) = ledger.calls()
    assert call.estimated
    assert spent_usd(ledger) >= Decimal("0.01")


@pytest.mark.parametrize("way", ["stream", "astream", "astream_events"])
def test_a_consumer_that_walks_away_from_a_graph(way: str, guarded: Any, ledger: Ledger) -> None:
    """The graph's stream is dropped in mid-call: nothing is open or held once it is closed."""
    model = ScriptedChat(script=lambda _p, _c: Reply(text="ab cd ef gh", usage=CENT, pieces=8))
    graph, handler = line({"a": asking(model), "b": asking(model)}), guarded(AGENT)
    config: Any = {"callbacks": [handler]}

    def sync() -> None:
        stream = graph.stream({"said": []}, config, stream_mode="messages")
        next(stream)
        stream.close()

    async def asynchronous() -> None:
        stream = (
            graph.astream({"said": []}, config, stream_mode="messages")
            if way == "astream"
            else graph.astream_events({"said": []}, config, version="v2")
        )
        async for event in stream:
            if way == "astream" or event["event"] == "on_chat_model_stream":
                break
        await stream.aclose()

    sync() if way == "stream" else asyncio.run(asynchronous())
    gc.collect()

    assert agrees(ledger)
    assert 1 <= len(list(ledger.calls())) <= 2


@EVERY_STORE
def test_a_cancelled_call_is_charged_and_settled(guarded: Any, ledger: Ledger) -> None:
    """`wait_for` runs out in mid-call: LangChain reports no end; the run's end settles it."""
    handler = guarded(AGENT)

    async def cancel() -> None:
        gate = Gate(asyncio.Event)
        graph = line({"a": asking(scripted(Reply(usage=CENT, gate=gate)))})
        running = asyncio.create_task(graph.ainvoke({"said": []}, {"callbacks": [handler]}))
        await gate.reached.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(cancel())
    assert agrees(ledger)
    (run,) = ledger.runs()
    assert run.status == "cancelled"
    assert len(list(ledger.calls())) == 1


def test_a_sibling_that_fails_cancels_the_others(guarded: Any, ledger: Ledger) -> None:
    """Seven calls wait when the eighth branch raises: all are settled at the run's end, each once."""
    handler = guarded(AGENT)

    async def fail() -> None:
        gates: list[Gate] = []

        async def branch(state: State) -> State:
            if state["prompt"] == "p7":
                for gate in gates:
                    await gate.reached.wait()
                while len(gates) < 7:
                    await asyncio.sleep(0)
                raise ValueError("user's own")
            gate = Gate(asyncio.Event)
            gates.append(gate)
            return {"said": [(await scripted(Reply(usage=CENT, gate=gate)).ainvoke("hi")).text]}

        graph = fan_out(branch, 8)
        with pytest.raises(ValueError, match="own"):
            await graph.ainvoke({"said": []}, {"callbacks": [handler]})

    asyncio.run(fail())
    assert agrees(ledger)


def test_a_step_that_times_out_is_settled(guarded: Any, ledger: Ledger) -> None:
    """A graph's own `step_timeout` in mid-call."""
    handler = guarded(AGENT)

    async def run() -> None:
        gate = Gate(asyncio.Event)
        graph = line({"a": asking(scripted(Reply(usage=CENT, gate=gate)))})
        graph.step_timeout = 0.05
        with pytest.raises(TimeoutError):
            await graph.ainvoke({"said": []}, {"callbacks": [handler]})

    asyncio.run(run())
    assert agrees(ledger)


def test_a_sync_sibling_goes_on_after_the_run_has_failed(guarded: Any, ledger: Ledger) -> None:
    """Its answer comes late and is charged once, and its hold goes."""
    handler, gate, failed = guarded(AGENT), Gate(threading.Event), threading.Event()
    slow = scripted(Reply(usage=CENT, gate=gate))

    def fail(state: State) -> State:
        gate.reached.wait(20)
        gate.opened.set()
        raise ValueError("user's own")

    builder = StateGraph(State)
    builder.add_node("slow", asking(slow, "hi"))
    builder.add_node("fails", fail)
    builder.add_edge(START, "slow")
    builder.add_edge(START, "fails")
    with pytest.raises(ValueError, match="own"):
        builder.compile().invoke({"said": []}, {"callbacks": [handler]})
    failed.set()

    assert agrees(ledger)
    assert spent_usd(ledger) == Decimal("0.01")
    assert len(list(ledger.calls())) == 1


@EVERY_STORE
def test_errors_of_a_provider_cost_nothing(guarded: Any, play: Any, ledger: Ledger) -> None:
    """An HTTP error is not charged: ten of them leave the budget as it was, then nine answers fit."""
    model = ScriptedChat(script=lambda _p, call: Reply(error=ProviderError(500)) if call < 10 else Reply(usage=CENT))
    handler = guarded(AGENT)
    graph = line({"a": asking(model)})

    for _ in range(10):
        with pytest.raises(ProviderError):
            play(graph, {"said": []}, handler)
    assert standing(ledger) == (0, 0)
    for _ in range(9):
        play(graph, {"said": []}, handler)
    with pytest.raises(BudgetExceeded):
        play(graph, {"said": []}, handler)
    assert model.calls == 19
    assert agrees(ledger)


def test_an_error_without_a_status_is_charged_at_its_estimate(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Nobody knows whether the request was paid for: it counts."""
    model = ScriptedChat(script=lambda _p, _c: Reply(error=ConnectionResetError("lost")))

    with pytest.raises(ConnectionResetError):
        play(line({"a": asking(model)}), {"said": []}, guarded(AGENT))
    assert agrees(ledger)
    assert spent_usd(ledger) >= Decimal("0.01")


GPT = PriceBook(
    cards=parse_cards(
        [{"id": "gpt", "match": {"model": "gpt-4.1-mini"}, "rates": {"input_tokens": "2", "output_tokens": "10"}}],
        where="test",
    ),
    catalog=False,
)


def gpt(provider: ProviderServer, **options: Any) -> ChatOpenAI:
    given = {"max_retries": 0, "stream_usage": True} | options
    return ChatOpenAI(model="gpt-4.1-mini", base_url=f"{provider.url}/v1", api_key="x", **given)  # type: ignore[arg-type]


def test_retries_of_the_sdk_are_one_call(provider: ProviderServer, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Two answers of 429, then one: three requests, one start and one end, one cent."""
    usage = openai_usage(0, 1_000)
    provider.answers = [Answer(status=429), Answer(status=429), Answer(model="gpt-4.1-mini", usage=usage)]

    play(line({"a": asking(gpt(provider, max_retries=3))}), {"said": []}, guarded(AGENT, prices=GPT))

    assert len(provider.seen) == 3
    assert agrees(ledger)
    assert spent_usd(ledger) == Decimal("0.01")


def test_a_time_out_of_the_sdk_is_charged(provider: ProviderServer, guarded: Any, play: Any, ledger: Ledger) -> None:
    """The server never answers: the request was sent, so it counts at its estimate."""
    release = threading.Event()
    provider.answers = [Answer(model="gpt-4.1-mini", wait_for=release)]

    with pytest.raises(Exception, match=r"(?i)timed out"):
        play(line({"a": asking(gpt(provider, timeout=0.3))}), {"said": []}, guarded(AGENT, prices=GPT))
    release.set()

    assert agrees(ledger)
    assert spent_usd(ledger) >= Decimal("0.01")


def test_a_connection_refused_costs_nothing(provider: ProviderServer, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Nothing was sent."""
    model = ChatOpenAI(model="gpt-4.1-mini", base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0)

    with pytest.raises(Exception, match="Connection"):
        play(line({"a": asking(model)}), {"said": []}, guarded(AGENT, prices=GPT))
    assert standing(ledger) == (0, 0)


def test_a_connection_lost_in_mid_stream_is_charged(provider: ProviderServer, guarded: Any, ledger: Ledger) -> None:
    """The server hangs up after two words."""
    provider.answers = [Answer(model="gpt-4.1-mini", drop_after=2)]
    handler = guarded(AGENT, prices=GPT)

    with pytest.raises(Exception, match=r"(?i)connection"):
        list(gpt(provider).stream("hi", {"callbacks": [handler]}))
    assert agrees(ledger)
    assert spent_usd(ledger) >= Decimal("0.01")


def test_a_stream_refused_before_it_begins_gives_no_chunk(guarded: Any, ledger: Ledger) -> None:
    """The refusal comes before the first token."""
    model, handler, chunks = cents(), guarded(Budget(usd="0.015", scope="agent_id")), []
    model.invoke("first", {"callbacks": [handler]})

    with pytest.raises(BudgetExceeded):
        chunks.extend(model.stream("second", {"callbacks": [handler]}))
    assert (chunks, model.calls) == ([], 1)
    assert agrees(ledger)


@pytest.mark.usefixtures("other_handlers")
def test_a_call_refused_by_the_second_handler_gives_back_what_the_first_held(
    guarded: Any, play: Any, ledger: Ledger
) -> None:
    """Two handlers with contradicting budgets: the tighter one decides, whichever comes first, and nothing is left."""
    for budgets in (("0.095", "0.015"), ("0.015", "0.095")):
        model = cents()
        handlers = [guarded(Budget(usd=usd, scope="agent_id", name=f"{budgets}-{usd}")) for usd in budgets]
        graph = line({"a": asking(model), "b": asking(model), "c": asking(model)})
        with pytest.raises(BudgetExceeded) as caught:
            play(graph, {"said": []}, *handlers)
        assert model.calls == 1
        assert caught.value.limit == Decimal("0.015")
        assert [each.held for each in ledger.balances()] == [0] * len(ledger.balances())


def test_a_tool_that_fails_leaves_nothing_held(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Also where the tool's own model call fails inside it."""
    from langchain_core.tools import tool

    @tool
    def broken(place: str) -> str:
        """Break."""
        raise ValueError(place)

    def node(state: State) -> State:
        broken.invoke({"place": "x"})
        return {"said": []}

    async def anode(state: State) -> State:
        await broken.ainvoke({"place": "x"})
        return {"said": []}

    budget = Budget(tool_calls=5, scope="agent_id")
    with pytest.raises(ValueError, match="x"):
        play(line({"a": both(node, anode)}), {"said": []}, guarded(budget))
    assert [(each.spent, each.held) for each in ledger.balances()] == [(1, 0)]
