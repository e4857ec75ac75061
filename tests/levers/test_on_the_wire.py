"""Tiers of two providers' own SDKs, on loopback: each gets its own form of request, and errors go up."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from provider_server import Answer, ProviderServer, anthropic_usage, openai_usage, provider_server
from pydantic import BaseModel

from langchain_finops import FinOpsHandler, open_ledger
from langchain_finops.langchain import tag_requests
from langchain_finops.levers import Tier, TieredChatModel, cascade

LOOK = StructuredTool.from_function(lambda query="": "found", name="look", description="Look.")


class Reply(BaseModel):
    """A reply."""

    city: str


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@pytest.fixture
def model(server: ProviderServer) -> TieredChatModel:
    cheap = ChatOpenAI(model="gpt-4.1-nano", base_url=f"{server.url}/v1", api_key="x", max_retries=0, stream_usage=True)  # type: ignore[arg-type]
    dear = ChatAnthropic(model="claude-sonnet-5", base_url=server.url, api_key="x", max_retries=0, max_tokens=100)  # type: ignore[call-arg, arg-type]
    return TieredChatModel([Tier("worker", cheap), Tier("brain", dear)])


def two_answers(server: ProviderServer, **first: Any) -> None:
    server.answers = [
        Answer(**{"text": "cheap words", "usage": openai_usage(100, 10), "model": "gpt-4.1-nano", **first}),
        Answer(text="dear words", usage=anthropic_usage(100, 10), model="claude-sonnet-5"),
    ]


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_provider_that_fails_gives_way_to_another_in_its_own_form(
    way: str, server: ProviderServer, model: TieredChatModel
) -> None:
    """The first gets OpenAI's tools, the second Anthropic's; the failure costs nothing and is on record."""
    two_answers(server, status=429)
    handler = FinOpsHandler(ledger=open_ledger(":memory:"))
    bound, config = model.bind_tools([LOOK]), {"callbacks": [handler]}

    said = bound.invoke("hi", config) if way == "invoke" else None  # type: ignore[arg-type]
    text = said.text if said else "".join(chunk.text for chunk in bound.stream("hi", config))  # type: ignore[arg-type]

    assert text.strip() == "dear words"
    assert [seen.path for seen in server.seen] == ["/v1/chat/completions", "/v1/messages"]
    assert server.seen[0].body["tools"][0]["function"]["name"] == "look"
    assert server.seen[1].body["tools"][0]["name"] == "look"
    failed, answered = handler.ledger.calls()
    assert (failed.error.http_status, failed.cost_usd) == (429, 0)  # type: ignore[union-attr]
    assert answered.provider == "anthropic"
    assert "RateLimitError" in answered.attribution.tags["tier_why"]
    assert (answered.usage.input_tokens, answered.usage.output_tokens) == (100, 10)
    assert handler.faults == 0


def test_each_tiers_requests_are_tagged(server: ProviderServer, model: TieredChatModel) -> None:
    """By the model as a whole, and with retries and bound arguments of a tier's own around its model."""
    two_answers(server, status=429)
    worker, brain = model.tiers
    several = TieredChatModel([Tier("worker", worker.model.with_retry(stop_after_attempt=1)), brain])
    config: Any = {"metadata": {"agent_id": "support"}}

    assert tag_requests(several, "gateway").bind_tools([LOOK]).invoke("hi", config).text.strip() == "dear words"
    assert [seen.headers["x-agent-id"] for seen in server.seen] == ["support", "support"]


def test_a_judged_answer_of_one_provider_is_replaced_by_anothers(
    server: ProviderServer, model: TieredChatModel
) -> None:
    two_answers(server)
    judged = TieredChatModel(model.tiers, policy=cascade(lambda request, answer: answer.text != "cheap words"))

    assert judged.invoke("hi").text == "dear words"


def test_each_provider_is_asked_for_a_schema_in_its_own_way(server: ProviderServer, model: TieredChatModel) -> None:
    """OpenAI by its response format; what cannot be parsed goes to Anthropic, by a tool."""
    two_answers(server, text="no json")
    server.answers[1] = Answer(text=json.dumps({"city": "Rome"}), usage=anthropic_usage(100, 10))
    structured = model.with_structured_output(Reply, include_raw=True)

    raw = structured.invoke("Where?")

    assert server.seen[0].body["response_format"]["type"] == "json_schema"
    assert "tools" in server.seen[1].body or "output_config" in server.seen[1].body
    assert raw["raw"].response_metadata["finops_tier"]["tried"] == ["worker", "brain"]
