"""Promise 4, and what LangChain says of usage: cache hits, several answers, details."""

from decimal import Decimal
from typing import Any

import pytest
from graphs import asking, graph_of
from langchain_core.caches import InMemoryCache
from scripted_models import Reply, ScriptedChat, ScriptedLLM, scripted, tokens

from langchain_finops import FinOpsHandler, Ledger

MILLION = 1_000_000
LIST_COST = Decimal(7 * 2 + 3 * 10) / MILLION


@pytest.mark.parametrize("streamed", [False, True], ids=["invoke", "stream"])
def test_a_cache_hit_has_list_cost_and_is_not_billed(streamed: bool, handler: FinOpsHandler, ledger: Ledger) -> None:
    """LangChain's own cache answers the second time: the provider was asked once, and billed once."""
    model = ScriptedChat(cache=InMemoryCache())
    graph = graph_of({"draft": asking(model, "7/3")})

    for _ in range(2):
        if streamed:
            list(graph.stream({"answers": []}, {"callbacks": [handler]}, stream_mode="messages"))
        else:
            graph.invoke({"answers": []}, {"callbacks": [handler]})

    asked, cached = ledger.calls()
    assert model.calls == 1
    assert (asked.cost_usd, asked.billed_usd, asked.billing_mode) == (LIST_COST, LIST_COST, "payg")
    assert (cached.cost_usd, cached.billed_usd, cached.billing_mode) == (LIST_COST, 0, "cache")
    assert (cached.usage.input_tokens, cached.usage.output_tokens) == (7, 3)
    total = handler.summary(by="node").total()
    assert (total.cost_usd, total.billed_usd) == (2 * LIST_COST, LIST_COST)


async def test_a_cache_hit_in_an_event_loop(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The same in async code."""
    model = ScriptedChat(cache=InMemoryCache())
    for _ in range(2):
        await model.ainvoke("7/3", {"callbacks": [handler]})

    assert [(call.cost_usd, call.billed_usd) for call in ledger.calls()] == [(LIST_COST, LIST_COST), (LIST_COST, 0)]


def test_a_cached_answer_without_usage_is_not_billed(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Even if nobody knows what it would have cost, a hit in LangChain's cache costs nothing."""
    model = ScriptedChat(script=lambda *_: Reply(), cache=InMemoryCache())
    for _ in range(2):
        model.invoke("PROMPT", {"callbacks": [handler]})

    asked, cached = ledger.calls()
    assert asked.billed_usd is not None
    assert asked.billed_usd > 0
    assert (cached.billed_usd, cached.billing_mode) == (0, "cache")


def test_a_cached_completion_is_not_charged_again(handler: FinOpsHandler, ledger: Ledger) -> None:
    """LangChain reports no call for a completion that its cache answered, or one that is not billed."""
    model = ScriptedLLM(cache=InMemoryCache())
    for _ in range(2):
        model.invoke("7/3", {"callbacks": [handler]})

    assert model.calls == 1
    assert sum(call.billed_usd or 0 for call in ledger.calls()) == LIST_COST


@pytest.mark.parametrize("model", [ScriptedChat(), ScriptedLLM()], ids=["chat", "completion"])
def test_several_answers_are_one_calls_usage(
    model: ScriptedChat | ScriptedLLM, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """`n=4` repeats the usage on each generation: it is charged once."""
    prompt: Any = "7/3"
    model.generate_prompt([model._convert_input(prompt)], callbacks=[handler], n=4)

    (call,) = ledger.calls()
    assert (call.usage.input_tokens, call.usage.output_tokens, call.usage.requests) == (7, 3, 1)
    assert call.cost_usd == LIST_COST


def test_several_answers_without_usage_are_all_in_the_estimate(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Four long answers were received: the estimate covers all of them."""
    model = ScriptedChat(script=lambda *_: Reply(text="word " * 8000))
    model.generate_prompt([model._convert_input("PROMPT")], callbacks=[handler], n=4)

    (call,) = ledger.calls()
    # 160,000 characters.
    assert call.estimated
    assert call.usage.output_tokens >= 20_000


def test_details_are_parts_of_the_whole(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Cached, written and reasoning tokens are counted on their own meters and not twice."""
    usage = tokens(
        1000, 200, input_token_details={"cache_read": 500, "cache_creation": 100},
        output_token_details={"reasoning": 150},
    )  # fmt: skip
    scripted(Reply(usage=usage)).invoke("PROMPT", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert (call.usage.input_tokens, call.usage.cache_read_tokens, call.usage.cache_write_5m_tokens) == (400, 500, 100)
    assert (call.usage.output_tokens, call.usage.reasoning_tokens) == (200, 150)
    assert call.usage.total_tokens == 1200
    assert call.cost_usd == (400 * Decimal(2) + 500 * Decimal("0.2") + 100 * Decimal("2.5") + 2000) / MILLION
    assert call.meter_usd is not None
    assert sum(call.meter_usd.values()) == call.cost_usd


def test_what_has_no_price_is_not_free(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A model that no card knows is unpriced: its tokens count, its cost is unknown and never zero."""
    ScriptedChat(model_name="nobody-knows").invoke("7/3", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert (call.cost_usd, call.billed_usd, call.cost_status) == (None, None, "unpriced")
    assert call.usage.total_tokens == 10
    (row,) = handler.summary(by="model").rows()
    assert (row["unpriced"], row["cost_usd"]) == (1, None)


def test_the_book_is_known_that_a_call_was_priced_by(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Raw usage and the price book's hash are kept, so that a past run can be repriced (promise 11)."""
    ScriptedChat().invoke("7/3", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert call.price_book_hash
    assert call.card_id == "scripted"
    assert call.raw_usage is not None
    assert (call.raw_usage["input_tokens"], call.raw_usage["output_tokens"]) == (7, 3)


def test_metering_writes_no_money_into_messages(handler: FinOpsHandler) -> None:
    """A cost in `usage_metadata` would make other handlers fail when they add it up."""
    answer = ScriptedChat().invoke("7/3", {"callbacks": [handler]})

    assert answer.usage_metadata == tokens(7, 3)
    assert answer.response_metadata.keys() <= {"model_provider", "model_name"}


def test_a_stream_tells_when_its_first_token_came(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Start, first token and end are in that order; an answer that came whole has no first token's time."""
    list(ScriptedChat().stream("7/3", {"callbacks": [handler]}))
    ScriptedChat().invoke("7/3", {"callbacks": [handler]})

    streamed, whole = ledger.calls()
    assert streamed.first_token_at is not None
    assert streamed.started_at <= streamed.first_token_at <= streamed.ended_at
    assert whole.started_at <= whole.ended_at
