"""What LangChain's events say of a call, in counts."""

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from pydantic import BaseModel

from langchain_finops.budgets.estimate import WRITE_METERS
from langchain_finops.langchain import extract
from langchain_finops.meter import Endpoint, Request

USAGE: Any = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


def chat(*messages: AIMessage, **fields: Any) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=message) for message in messages]], **fields)


def test_a_chat_answer_speaks_for_itself() -> None:
    """Its usage and its metadata."""
    answer = extract.answer_of(chat(AIMessage("x", usage_metadata=USAGE, response_metadata={"model_name": "m"})))

    assert (answer.usage, answer.response) == (USAGE, {"model_name": "m"})


def test_of_several_answers_the_first_speaks_for_all() -> None:
    """Each repeats the usage of the whole request."""
    assert extract.answer_of(chat(*[AIMessage("x", usage_metadata=USAGE)] * 3)).usage == USAGE


def test_searches_are_counted_in_the_content() -> None:
    """OpenAI's Responses tell them nowhere else; what was searched for is not kept."""
    search: Any = {"type": "web_search_call", "action": {"type": "search", "query": "secret"}}
    answer = extract.answer_of(chat(AIMessage([search, search, {"type": "text", "text": "x"}], usage_metadata=USAGE)))

    assert answer.shown.searches == 2
    assert "secret" not in repr(answer)


def test_counts_beside_the_message_are_found() -> None:
    """Some integrations report them in `llm_output` alone, for chat and completion models."""
    output = {"token_usage": {"prompt_tokens": 7, "completion_tokens": 3}, "model_name": "m"}
    completion = LLMResult(
        generations=[[Generation(text="x", generation_info={"finish_reason": "stop"})]], llm_output=output
    )

    assert extract.answer_of(chat(AIMessage("x"), llm_output=output)).usage == output["token_usage"]
    answer = extract.answer_of(completion)
    assert answer.usage == output["token_usage"]
    assert answer.response == {**output, "finish_reason": "stop"}


def test_ollamas_completions_have_counts_of_their_own() -> None:
    """In the generation's info, under Ollama's names."""
    info = {"prompt_eval_count": 7, "eval_count": 3}

    assert extract.answer_of(LLMResult(generations=[[Generation(text="x", generation_info=info)]])).usage == USAGE


@pytest.mark.parametrize(
    "response", [None, LLMResult(generations=[]), LLMResult(generations=[[]]), chat(AIMessage("x"))]
)
def test_nothing_reported_is_nothing(response: LLMResult | None) -> None:
    """None, and no zero."""
    assert extract.answer_of(response).usage is None


def test_all_that_was_received_counts() -> None:
    """Text and tool calls of every answer, in bytes of UTF-8."""
    call = {"name": "search", "args": {"q": "x" * 100}, "id": "1"}

    assert extract.received_bytes(LLMResult(generations=[[Generation(text="абв"), Generation(text="abc")]])) == 9
    assert extract.received_bytes(chat(AIMessage("x" * 400), AIMessage("x" * 40))) == 440
    assert 100 < extract.received_bytes(chat(AIMessage("", tool_calls=[call]))) < 200
    assert extract.received_bytes(None) == 0


def test_a_request_is_measured() -> None:
    """Two messages of 40 and 400 bytes: 10 and 100 tokens, and 4 for each message."""
    messages = [SystemMessage("x" * 40), HumanMessage("x" * 400)]

    assert extract.request_of(messages, {"n": 2, "max_tokens": 50}, {}) == Request(118, 50, 2)
    assert extract.request_of("x" * 400, {}, {"ls_max_tokens": 9}) == Request(100, 9, 1)
    assert extract.request_of("", {"max_tokens": None, "n": None}, {"ls_max_tokens": None}) == Request(0, None, 1)


@pytest.mark.parametrize(
    "name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict"]
)
def test_a_requests_maximum_has_many_names(name: str) -> None:
    """Each integration has its own; Ollama's -1 means none."""
    assert extract.request_of("", {name: 50}, {}).max_tokens == 50
    assert extract.request_of("", {name: -1}, {}).max_tokens is None


def test_tools_are_part_of_the_prompt() -> None:
    """Their schemas are sent with every request."""
    tools = [{"name": "search", "description": "x" * 4000}]

    assert extract.request_of("", {"tools": tools}, {}).prompt_tokens > 1000


def test_an_image_is_not_measured_by_its_bytes() -> None:
    """A megabyte of base64 is no quarter of a million tokens."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}

    tokens = extract.request_of([HumanMessage([{"type": "text", "text": "x" * 40}, image])], {}, {}).prompt_tokens

    assert tokens == 4 + 10 + extract.MEDIA_TOKENS


def test_an_image_in_a_tools_result_is_one_too() -> None:
    """Blocks hold blocks."""
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 1_000_000}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x" * 40}, image]}

    tokens = extract.request_of([HumanMessage([result])], {}, {}).prompt_tokens

    assert extract.MEDIA_TOKENS + 10 < tokens < extract.MEDIA_TOKENS + 50


@pytest.mark.parametrize("content", [{("a", 1): "x" * 400}, {1j: "x" * 400}])
def test_what_is_no_json_is_measured_all_the_same(content: Any) -> None:
    """Its text is about as long as the request's."""
    message = HumanMessage([{"type": "odd", "data": content}])

    assert 100 < extract.request_of([message], {}, {}).prompt_tokens < 130


def test_what_holds_itself_is_measured_all_the_same() -> None:
    """A tool's schema may."""
    schema: dict[str, Any] = {"text": "x" * 400}
    schema["self"] = schema

    assert 100 < extract.request_of("", {"tools": [schema]}, {}).prompt_tokens < 130


class Reply(BaseModel):
    """How an answer is to look."""

    first: str


@pytest.mark.parametrize("name", ["response_format", "text", "output_config", "output_format"])
def test_how_an_answer_is_to_look_is_part_of_the_prompt(name: str) -> None:
    """A schema of 4,000 letters is at most as many tokens and its marks, and what a provider says of it."""
    schema = {"description": "x" * 4_000}
    plain = extract.request_bytes("hi", {})

    assert plain == 2
    # [{"description": "..."}] has 21 bytes around the text.
    assert extract.request_bytes("hi", {name: schema}) == 2 + 4_021 + extract.ADDED_TOKENS
    assert extract.request_of("hi", {name: schema}, {}).prompt_tokens == 1 + 1_006
    whole = json.dumps([Reply.model_json_schema()])
    assert extract.request_bytes("hi", {name: Reply}) == 2 + extract.ADDED_TOKENS + len(whole)


def test_answers_that_are_picked_from_are_made_as_well() -> None:
    """`best_of=5` makes five to give one, or two."""
    assert extract.request_of("", {"n": 2, "best_of": 5}, {}).answers == 5
    assert extract.request_of("", {"n": 1, "best_of": None}, {}).answers == 1


@pytest.mark.parametrize(
    ("params", "terms"),
    [
        ({"service_tier": "priority"}, (("service_tier", "priority"),)),
        ({"extra_body": {"service_tier": "flex"}}, (("service_tier", "flex"),)),
        ({"serviceTier": {"type": "priority"}}, (("service_tier", "priority"),)),
        ({"speed": "fast", "model_kwargs": {"inference_geo": "us"}}, (("region", "us"), ("speed", "fast"))),
        ({"service_tier": "auto", "speed": None, "model_kwargs": None}, ()),
    ],
)
def test_what_a_request_asks_for_that_changes_its_price(params: dict[str, Any], terms: tuple[object, ...]) -> None:
    """By the names that `context` has for it; what `auto` comes to is the provider's choice."""
    assert extract.request_of("", params, {}).terms == terms


MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


@pytest.mark.parametrize(
    ("messages", "params"),
    [
        ([HumanMessage([{"type": "text", "text": "x", **MARK}])], {}),
        ([HumanMessage([{"type": "tool_result", "content": [{"type": "text", "text": "x", **MARK}]}])], {}),
        ([HumanMessage("x", additional_kwargs=MARK)], {}),
        ([SystemMessage([{"text": "x"}, {"cachePoint": {"type": "default"}}])], {}),
        ([], {"tools": [{"name": "search"}, {"name": "find", **MARK}]}),
        ([], MARK),
        ([], {"model_kwargs": MARK}),
        ([], {"extra_body": MARK}),
    ],
)
def test_a_prompt_that_is_to_be_cached_may_be_written_at_any_rate(messages: Any, params: dict[str, Any]) -> None:
    """Wherever the mark stands."""
    assert extract.request_of(messages, params, {}).meters == WRITE_METERS


def test_other_prompts_are_not_written() -> None:
    """A tool may have a parameter of that name."""
    tools = [{"name": "search", "input_schema": {"properties": MARK}}]

    assert extract.request_of([HumanMessage([{"type": "text", "text": "x"}])], {"tools": tools}, {}).meters == ()
    assert extract.request_of("", {"modalities": ["text", "audio"]}, {}).meters == ("audio_output_tokens",)


@pytest.mark.parametrize(
    ("content", "params"),
    [
        ([{"type": "file", "file": {"file_id": "f-1"}}], {}),
        ([{"type": "file", "source_type": "id", "id": "f-1"}], {}),
        ([{"type": "input_file", "file_url": "https://example.com/a.pdf"}], {}),
        ([{"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}], {}),
        ([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}], {}),
        ([{"type": "tool_result", "content": [{"type": "media", "file_uri": "gs://a/b"}]}], {}),
        ("x", {"previous_response_id": "resp_1"}),
        ("x", {"prompt": {"id": "pmpt_1"}}),
        ("x", {"cached_content": "c"}),
        ("x", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("x", {"tools": [{"google_search": {}}]}),
    ],
)
def test_what_nobody_here_can_measure_is_named(content: Any, params: dict[str, Any]) -> None:
    """The provider adds it to the prompt; no byte of it is in the request."""
    assert extract.request_of([HumanMessage(content)], params, {}).unmeasured is not None


@pytest.mark.parametrize(
    ("content", "params"),
    [
        ([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}], {}),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], {}),
        ([{"type": "image", "source": {"type": "base64", "data": "AAAA"}}], {}),
        ([{"type": "web_search_tool_result", "content": []}], {}),
        ([{"type": "text", "text": "see", "url": "https://example.com"}], {"previous_response_id": None}),
        (
            "x",
            {"tools": [{"type": "function", "function": {"name": "web_search"}}, {"name": "mcp", "input_schema": {}}]},
        ),
    ],
)
def test_what_is_in_the_request_can_be_measured(content: Any, params: dict[str, Any]) -> None:
    """Files that are sent along, earlier results, tools that run here, links in a text."""
    assert extract.request_of([HumanMessage(content)], params, {}).unmeasured is None


@pytest.mark.parametrize("usage", [object(), 7, "many", ["x"]])
def test_counts_that_are_none_are_none(usage: object) -> None:
    """The call is estimated then, and not lost."""
    assert extract.answer_of(chat(AIMessage("x"), llm_output={"token_usage": usage})).usage is None


def test_an_sdks_own_counts_are_read() -> None:
    """Some integrations hand the object on as it came."""

    class Counts(BaseModel):
        prompt_tokens: int = 7
        completion_tokens: int = 3

    answer = extract.answer_of(chat(AIMessage("x"), llm_output={"token_usage": Counts()}))

    assert answer.usage == {"prompt_tokens": 7, "completion_tokens": 3}


def test_a_streams_usage_adds_up() -> None:
    """The input comes first, the output last; chunks between them bring none."""
    start = AIMessageChunk("", usage_metadata={"input_tokens": 50, "output_tokens": 1, "total_tokens": 51})
    end = AIMessageChunk("", usage_metadata={"input_tokens": 0, "output_tokens": 4, "total_tokens": 4})
    usage = None
    for message in (start, AIMessageChunk("hm"), end):
        usage = extract.usage_so_far(usage, ChatGenerationChunk(message=message))

    assert usage == {"input_tokens": 50, "output_tokens": 5, "total_tokens": 55}
    assert extract.usage_so_far(None, None) is None


def test_a_chunk_brings_text_or_a_piece_of_a_tool_call() -> None:
    """What a provider streams was generated, whatever it is."""
    piece = {"name": None, "args": '{"q": "x', "id": None, "index": 0, "type": "tool_call_chunk"}
    tool_call: Any = AIMessageChunk("", tool_call_chunks=[piece])
    thought = AIMessageChunk("", additional_kwargs={"reasoning_content": "hm"})

    assert extract.chunk_bytes("абв", None) == 6
    assert extract.chunk_bytes("", ChatGenerationChunk(message=tool_call)) == 8
    assert extract.chunk_bytes("", ChatGenerationChunk(message=thought)) == 2
    assert extract.chunk_bytes("", None) == 0


def test_an_event_brings_its_delta() -> None:
    """The type's name is no text of the answer."""
    assert extract.event_bytes({"event": "content-block-delta", "delta": {"type": "text-delta", "text": "abc"}}) == 3
    assert extract.event_bytes({"event": "message-finish"}) == 0


@pytest.mark.parametrize(
    ("arguments", "endpoint"),
    [
        (
            {"openai_api_base": "https://user:SECRET@llm.example:8443/v1?k=SECRET"},
            Endpoint(base_url_host="llm.example:8443"),
        ),
        ({"base_url": "localhost:11434"}, Endpoint(base_url_host="localhost:11434")),
        ({"base_url": "https://[broken"}, Endpoint()),
        ({"region_name": "eu-central-1"}, Endpoint(region="eu-central-1")),
        ({"project": "p", "location": "europe-west4"}, Endpoint(project="p", region="europe-west4")),
        ({"openai_organization": "org-1"}, Endpoint(account="org-1")),
        ({"openai_api_key": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}}, Endpoint()),
    ],
)
def test_the_endpoint_is_read_from_the_models_arguments(arguments: dict[str, Any], endpoint: Endpoint) -> None:
    """Host and port, and never what else a URL may carry."""
    assert extract.endpoint_of({"kwargs": arguments}) == endpoint


@pytest.mark.parametrize("serialized", [None, {}, {"repr": "x"}, {"kwargs": None}])
def test_a_model_that_says_nothing_has_an_unknown_endpoint(serialized: Any) -> None:
    """Most of LangChain's models do not serialise."""
    assert extract.endpoint_of(serialized) == Endpoint()
