"""Metering of the real OpenAI and Anthropic SDKs, against a server that answers as the providers document."""

import threading
from decimal import Decimal
from typing import Any

import pytest
from graphs import graph_of
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAI
from provider_server import Answer, ProviderServer, anthropic_usage, openai_usage

from langchain_finops import FinOpsHandler, Ledger
from langchain_finops.records import CallRecord

MILLION = 1_000_000
LONG_PIECES = 20
LONG = " ".join(["0123456789" * 80] * LONG_PIECES)
"""16,000 characters in few pieces, so that streams of it are fast."""
LEAST_OF_LONG = 2000
"""No tokenizer makes fewer tokens of it."""
Make = Any


def openai_chat(server: ProviderServer, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="scripted-model", base_url=f"{server.url}/v1", api_key="key", **{"max_retries": 0, **fields}
    )


def openai_completion(server: ProviderServer, **fields: Any) -> OpenAI:
    return OpenAI(model="scripted-model", base_url=f"{server.url}/v1", api_key="key", **{"max_retries": 0, **fields})


def anthropic_chat(server: ProviderServer, **fields: Any) -> ChatAnthropic:
    return ChatAnthropic(
        model_name="scripted-model",
        base_url=server.url,
        api_key="key",
        **{"max_retries": 0, "max_tokens": 64, **fields},
    )


MAKERS: dict[str, Make] = {
    "openai chat": openai_chat,
    "openai completion": openai_completion,
    "anthropic chat": anthropic_chat,
}
USAGE = {
    "openai chat": openai_usage(100, 20),
    "openai completion": openai_usage(100, 20),
    "anthropic chat": anthropic_usage(100, 20),
}
"""What each provider says of 100 tokens in and 20 out."""


def the_call(ledger: Ledger) -> CallRecord:
    (call,) = ledger.calls()
    return call


@pytest.fixture(params=MAKERS)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expect_a_known_call(call: CallRecord, which: str) -> None:
    assert (call.usage.input_tokens, call.usage.output_tokens) == (100, 20)
    assert call.cost_usd == call.billed_usd == Decimal(100 * 2 + 20 * 10) / MILLION
    assert (call.estimated, call.cost_status, call.error) == (False, "exact", None)
    assert call.model == "scripted-model"
    assert call.provider == which.split(maxsplit=1)[0]
    assert call.card_id == "scripted"


def test_an_answer_is_charged_as_reported(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Tokens, model, provider and cost of a whole answer, inside a graph."""
    provider.answers = [Answer(usage=USAGE[which])]
    model = MAKERS[which](provider)

    graph_of({"ask": lambda state: {"answers": [str(model.invoke("PROMPT"))]}}).invoke(
        {"answers": []}, {"callbacks": [handler]}
    )

    call = the_call(ledger)
    expect_a_known_call(call, which)
    assert call.attribution.node_path == "ask"
    assert call.requested_model == "scripted-model"


async def test_an_async_answer_is_charged_as_reported(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The SDKs' async clients are other code; the figures are the same."""
    provider.answers = [Answer(usage=USAGE[which])]

    await MAKERS[which](provider).ainvoke("PROMPT", {"callbacks": [handler]})

    expect_a_known_call(the_call(ledger), which)


@pytest.mark.parametrize("which", ["openai chat", "anthropic chat"], indirect=True)
def test_a_stream_with_usage_is_charged_as_reported(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Usage comes at the end of a stream, and counts once."""
    provider.answers = [Answer(usage=USAGE[which])]
    wanted = {} if which == "anthropic chat" else {"stream_usage": True}

    text = list(MAKERS[which](provider, **wanted).stream("PROMPT", {"callbacks": [handler]}))

    call = the_call(ledger)
    assert len(text) > 3
    assert (call.usage.total_input_tokens, call.usage.output_tokens) == (100, 20)
    assert call.cost_usd == Decimal(100 * 2 + 20 * 10) / MILLION
    assert call.first_token_at is not None
    assert call.started_at <= call.first_token_at <= call.ended_at


@pytest.mark.parametrize("which", ["openai chat", "anthropic chat"], indirect=True)
async def test_an_async_stream_with_usage_is_charged_as_reported(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The same from `astream`."""
    provider.answers = [Answer(usage=USAGE[which])]
    wanted = {} if which == "anthropic chat" else {"stream_usage": True}

    _ = [chunk async for chunk in MAKERS[which](provider, **wanted).astream("PROMPT", {"callbacks": [handler]})]

    call = the_call(ledger)
    assert (call.usage.total_input_tokens, call.usage.output_tokens) == (100, 20)
    assert call.first_token_at is not None


@pytest.mark.parametrize("which", ["openai chat", "openai completion"], indirect=True)
def test_a_stream_without_usage_is_charged_at_its_estimate(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """ChatOpenAI asks for no usage in streams where a base URL is set, OpenAI never: that is not zero usage."""
    provider.answers = [Answer(text=LONG, usage=USAGE[which])]

    list(MAKERS[which](provider).stream("PROMPT", {"callbacks": [handler]}))

    call = the_call(ledger)
    assert (call.estimated, call.cost_status) == (True, "estimated")
    assert call.usage.output_tokens >= LEAST_OF_LONG
    assert call.cost_usd == Decimal(call.usage.input_tokens * 2 + call.usage.output_tokens * 10) / MILLION


def test_openai_cached_tokens_are_charged_at_their_own_rate(
    provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """OpenAI counts cached tokens among the prompt's: each is charged once."""
    provider.answers = [Answer(usage=openai_usage(1000, 50, cached=600, reasoning=30))]

    openai_chat(provider).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert (call.usage.input_tokens, call.usage.cache_read_tokens) == (400, 600)
    assert (call.usage.output_tokens, call.usage.reasoning_tokens) == (50, 30)
    assert call.cost_usd == (400 * Decimal(2) + 600 * Decimal("0.2") + 50 * Decimal(10)) / MILLION


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_anthropic_cache_reads_and_writes_are_charged_at_their_own_rates(
    streamed: bool, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Anthropic counts cached tokens apart from the input: all of them are charged, each once."""
    provider.answers = [Answer(usage=anthropic_usage(100, 20, read=700, written_5m=300))]
    model = anthropic_chat(provider)

    if streamed:
        list(model.stream("PROMPT", {"callbacks": [handler]}))
    else:
        model.invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert (call.usage.input_tokens, call.usage.cache_read_tokens) == (100, 700)
    assert (call.usage.cache_write_5m_tokens, call.usage.cache_write_1h_tokens) == (300, 0)
    assert (
        call.cost_usd == (100 * Decimal(2) + 700 * Decimal("0.2") + 300 * Decimal("2.5") + 20 * Decimal(10)) / MILLION
    )


def test_anthropic_cache_writes_are_told_apart_by_lifetime(
    provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """An hour in the cache costs more than five minutes, and the answer says which it was."""
    provider.answers = [Answer(usage=anthropic_usage(100, 20, written_5m=300, written_1h=50))]

    anthropic_chat(provider).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert (call.usage.cache_write_5m_tokens, call.usage.cache_write_1h_tokens) == (300, 50)
    assert call.cost_usd == (100 * Decimal(2) + 300 * Decimal("2.5") + 50 * Decimal(4) + 20 * Decimal(10)) / MILLION


def test_several_answers_are_one_usage(provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger) -> None:
    """`n=3` is one request with one usage, which LangChain repeats on each answer (promise 4)."""
    provider.answers = [Answer(usage=openai_usage(100, 60), answers=3)]

    openai_chat(provider, n=3).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert (call.usage.input_tokens, call.usage.output_tokens, call.usage.requests) == (100, 60, 1)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_an_error_status_is_recorded_and_free(
    status: int, which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Error answers are not billed: class and status are recorded, nothing is charged."""
    provider.answers = [Answer(status=status)]

    with pytest.raises(Exception, match="SECRET") as raised:
        MAKERS[which](provider).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert call.error is not None
    assert (call.error.http_status, call.error.error_class) == (status, type(raised.value).__name__)
    assert (call.cost_usd, call.cost_status, call.usage.total_tokens) == (0, "free", 0)


def test_the_sdks_own_retries_are_one_call(provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger) -> None:
    """The SDK tries again by itself: one start, one end, one usage."""
    provider.answers = [Answer(status=500), Answer(usage=openai_usage(100, 20))]

    openai_chat(provider, max_retries=2).invoke("PROMPT", {"callbacks": [handler]})

    assert len(provider.seen) == 2
    expect_a_known_call(the_call(ledger), "openai")


def test_a_connection_lost_in_a_stream_is_charged_for_what_was_received(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The provider had begun to answer, and bills it."""
    provider.answers = [Answer(text=f"{LONG} end", usage=USAGE[which], drop_after=LONG_PIECES)]

    with pytest.raises(Exception):  # noqa: B017 Each SDK has a class of its own for it.
        list(MAKERS[which](provider).stream("PROMPT", {"callbacks": [handler]}))

    call = the_call(ledger)
    assert call.error is not None
    assert (call.estimated, call.cost_status) == (True, "estimated")
    assert call.usage.output_tokens >= LEAST_OF_LONG
    assert call.usage.total_input_tokens > 0


def test_a_connection_lost_before_the_answer_is_charged(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The request was sent: nobody knows what became of it, so it is charged at its estimate."""
    provider.answers = [Answer(drop_after=0)]

    with pytest.raises(Exception, match="onnection"):
        MAKERS[which](provider).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert (call.estimated, call.cost_status) == (True, "estimated")
    assert call.usage.total_input_tokens > 0
    assert call.usage.output_tokens > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_an_answer_that_comes_too_late_is_charged(
    streamed: bool, which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The client gave up waiting; the provider did the work all the same."""
    held = threading.Event()
    provider.answers = [Answer(usage=USAGE[which], wait_for=held, wait_after=2 if streamed else 0)]
    model = MAKERS[which](provider, timeout=0.1)

    def ask() -> None:
        if streamed:
            list(model.stream("PROMPT", {"callbacks": [handler]}))
        else:
            model.invoke("PROMPT", {"callbacks": [handler]})

    with pytest.raises(Exception, match=r"[Tt]imed? ?out") as raised:
        ask()

    held.set()
    call = the_call(ledger)
    assert call.error is not None
    assert call.error.error_class == type(raised.value).__name__
    assert (call.estimated, call.cost_status) == (True, "estimated")
    assert call.usage.output_tokens > 0


def test_a_refused_connection_is_recorded_and_free(which: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Nobody listens there: nothing was sent, nothing is charged."""
    gone = ProviderServer()
    gone.server_close()

    with pytest.raises(Exception, match="onnection"):
        MAKERS[which](gone).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert call.error is not None
    assert (call.cost_usd, call.cost_status, call.usage.total_tokens) == (0, "free", 0)


def test_an_answer_that_cannot_be_parsed_is_charged(
    provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """A structured answer that fails to parse was paid for all the same."""
    provider.answers = [Answer(text="no JSON at all", usage=openai_usage(100, 20))]
    model = openai_chat(provider).with_structured_output({"title": "Answer", "type": "object"}, method="json_mode")

    with pytest.raises(Exception, match=r"[Jj][Ss][Oo][Nn]"):
        model.invoke("PROMPT in json", {"callbacks": [handler]})

    expect_a_known_call(the_call(ledger), "openai")


def test_a_stream_that_is_left_is_charged_and_its_connection_let_go(
    which: str, provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The caller closes the stream after one piece: the call ends there, at its estimate."""
    provider.answers = [Answer(usage=USAGE[which], wait_for=threading.Event(), wait_after=2)]

    stream = MAKERS[which](provider).stream("PROMPT", {"callbacks": [handler]})
    while not str(getattr(piece := next(stream), "text", piece)).strip():
        pass
    stream.close()

    call = the_call(ledger)
    assert (call.estimated, call.cost_status) == (True, "estimated")
    assert call.usage.total_input_tokens > 0
    assert call.usage.output_tokens > 0


def test_who_answered_is_recorded(provider: ProviderServer, handler: FinOpsHandler, ledger: Ledger) -> None:
    """What a bill can be matched by: the host, the tier and the provider's own id of the request."""
    provider.answers = [Answer(usage=openai_usage(100, 20), tier="default", model="scripted-model-2026-10-01")]

    openai_chat(provider).invoke("PROMPT", {"callbacks": [handler]})

    call = the_call(ledger)
    assert (call.requested_model, call.model) == ("scripted-model", "scripted-model-2026-10-01")
    assert call.provider_request_id == "cmpl-scripted"
    assert call.raw_usage is not None
