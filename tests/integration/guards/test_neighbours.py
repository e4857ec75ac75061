"""The standard load on which neighbours fail: a cent a call, three and a half cents to spend, so three calls."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from guarded_scenes import EVERY_STORE, FITS_THREE, asking, cents, ending, fan_out, line, looping, statuses
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from provider_server import Answer, ProviderServer, anthropic_usage, openai_usage

from langchain_finops import Budget, BudgetExceeded, Ledger, PriceBook, stopped
from langchain_finops.pricing import parse_cards

SCOPES = ["run", "agent_id"]
"""Kept in the process, and on the ledger."""


@EVERY_STORE
@pytest.mark.parametrize("scope", SCOPES)
def test_a_loop_makes_three_calls(scope: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Neighbours make 4 to 10."""
    model, budget = cents(), Budget(usd=FITS_THREE, scope=scope)

    with pytest.raises(BudgetExceeded) as caught:
        play(looping(asking(model)), {"said": []}, guarded(budget))

    assert model.calls == 3
    assert (caught.value.limit, caught.value.spent, caught.value.held) == (Decimal(FITS_THREE), Decimal("0.03"), 0)
    assert sum(call.cost_usd or 0 for call in ledger.calls()) == Decimal("0.03")
    assert statuses(ledger) == [("stopped", f"budget:{budget.label}")]


@EVERY_STORE
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("branches", [8, 20])
def test_a_fan_out_makes_three_calls(branches: int, scope: str, guarded: Any, play: Any) -> None:
    """Neighbours make 8 of 8; check-then-act makes 8 to 20 of 20."""
    model = cents()

    refusal = ending(play, fan_out(asking(model), branches), {"said": []}, guarded(Budget(usd=FITS_THREE, scope=scope)))

    assert model.calls == 3
    assert isinstance(refusal, BudgetExceeded)


@pytest.mark.parametrize("scope", SCOPES)
def test_sub_agents_draw_on_one_budget(scope: str, guarded: Any, play: Any) -> None:
    """A graph in a graph, beside another, and an outer node: one budget tree. Neighbours make 10."""
    model = cents()
    inner = looping(asking(model), rounds=2)
    graph = line({"plan": asking(model), "search": inner, "check": inner, "write": asking(model)})

    refusal = ending(play, graph, {"said": []}, guarded(Budget(usd=FITS_THREE, scope=scope)))

    assert model.calls == 3
    assert isinstance(refusal, BudgetExceeded)


@EVERY_STORE
@pytest.mark.parametrize("scope", ["thread_id", "agent_id"])
def test_nothing_is_forgotten_between_invocations(scope: str, guarded: Any, play: Any) -> None:
    """A thread's budget holds for all invocations of it, whichever handler; so does an agent's. Neighbours forget."""
    model = cents()
    graph = line({"chat": asking(model)}, checkpointer=InMemorySaver())

    refusals = [
        ending(
            play, graph, {"said": [], "prompt": f"turn {n}"}, guarded(Budget(usd=FITS_THREE, scope=scope)), thread="t"
        )
        for n in range(6)
    ]

    assert model.calls == 3
    assert [refusal is None for refusal in refusals] == [True] * 3 + [False] * 3
    if scope == "thread_id":
        assert ending(play, graph, {"said": []}, guarded(Budget(usd=FITS_THREE, scope=scope)), thread="other") is None


@pytest.mark.parametrize("scope", SCOPES)
def test_a_node_that_swallows_errors_buys_nothing(scope: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """The node runs once more, meets the refusal, swallows it; the next start ends the run. Neighbours make 10."""
    model, budget = cents(), Budget(usd=FITS_THREE, scope=scope)

    refusal = ending(play, looping(asking(model, swallow=True), rounds=50), {"said": []}, guarded(budget))

    assert model.calls == 3
    assert isinstance(refusal, BudgetExceeded)
    assert max(run.steps for run in ledger.runs()) <= 5
    assert statuses(ledger) == [("stopped", f"budget:{budget.label}")]


RATES = {"input_tokens": "2", "output_tokens": "10"}
CARD = [
    {"id": "gpt", "match": {"model": "gpt-4.1-mini"}, "rates": RATES},
    {"id": "claude", "match": {"model": "claude-haiku-4-5*"}, "rates": RATES},
]


@pytest.fixture
def known_prices() -> PriceBook:
    """Prices of the models that the real clients ask for."""
    return PriceBook(cards=parse_cards(CARD, where="test"), catalog=False)


def chat_of(kind: str, provider: ProviderServer, streaming: bool) -> Any:
    if kind == "openai":
        provider.answers = [Answer(model="gpt-4.1-mini", usage=openai_usage(0, 1_000))]
        return ChatOpenAI(
            model="gpt-4.1-mini", base_url=f"{provider.url}/v1", api_key="x", max_retries=0, streaming=streaming,
            stream_usage=True,
        )  # fmt: skip
    provider.answers = [Answer(model="claude-haiku-4-5", usage=anthropic_usage(0, 1_000))]
    return ChatAnthropic(
        model="claude-haiku-4-5", base_url=provider.url, api_key="x", max_retries=0, streaming=streaming,
        max_tokens=1_000,
    )  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("is_fan_out", [False, True])
def test_real_clients_send_three_requests(  # noqa: PLR0917  Fixtures.
    is_fan_out: bool, kind: str, streaming: bool, known_prices: Any, provider: ProviderServer, guarded: Any, play: Any
) -> None:
    """The providers' own SDKs, whole and streamed: neighbours record $0 or break streaming. Counted by the server."""
    model = chat_of(kind, provider, streaming)
    graph = fan_out(asking(model), 8) if is_fan_out else looping(asking(model))
    handler = guarded(Budget(usd=FITS_THREE, scope="agent_id"), prices=known_prices)

    refusal = ending(play, graph, {"said": []}, handler)

    assert len(provider.seen) == 3
    assert isinstance(refusal, BudgetExceeded)


@pytest.mark.usefixtures("other_handlers")
def test_a_stream_of_a_graph_is_refused_like_a_call(guarded: Any) -> None:
    """`stream`, `astream` and `astream_events` end with the refusal, after what was said before it."""
    model, handler = cents(), guarded(Budget(usd=FITS_THREE, scope="agent_id"))
    graph = looping(asking(model))

    chunks: list[Any] = []
    with pytest.raises(BudgetExceeded):
        chunks.extend(graph.stream({"said": []}, {"callbacks": [handler]}, stream_mode="updates"))
    assert len(chunks) == model.calls == 3

    async def others() -> None:
        with pytest.raises(BudgetExceeded):
            async for _ in graph.astream({"said": []}, {"callbacks": [handler]}, stream_mode="messages"):
                pass
        with pytest.raises(BudgetExceeded) as caught:
            async for _ in graph.astream_events({"said": []}, {"callbacks": [handler]}, version="v2"):
                pass
        assert stopped(caught.value) is not None

    asyncio.run(others())
    assert model.calls == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_makes_three_calls(is_async: bool, guarded: Any) -> None:
    """A batch of prompts to a bare model, each a run of its own, on the agent's budget."""
    model, handler = cents(), guarded(Budget(usd=FITS_THREE, scope="agent_id"))
    prompts, config = [[HumanMessage(f"p{n}")] for n in range(8)], {"callbacks": [handler]}

    if is_async:
        answers = asyncio.run(model.abatch(prompts, config, return_exceptions=True))
    else:
        answers = model.batch(prompts, config, return_exceptions=True)

    assert model.calls == 3
    assert sum(isinstance(each, BudgetExceeded) for each in answers) == 5
