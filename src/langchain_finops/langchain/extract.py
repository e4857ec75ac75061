"""What LangChain's events say of a call: its answer's counts, its prompt's size, where its requests go. Counts only."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import Generation, LLMResult

from langchain_finops.budgets.estimate import WRITE_METERS, tokens_of_bytes
from langchain_finops.meter import NOTHING, UNKNOWN_ENDPOINT, Answer, Endpoint, Request
from langchain_finops.pricing.server_tools import shown_in

__all__ = [
    "BESIDE",
    "CACHE_MARKS",
    "MEDIA",
    "answer_of",
    "beside",
    "chunk_bytes",
    "endpoint_of",
    "event_bytes",
    "received_bytes",
    "request_bytes",
    "request_of",
    "usage_so_far",
]

MESSAGE_TOKENS = 4
"""What a message costs beyond its text: its role and the marks around it."""
MEDIA_TOKENS = 1_000
"""What an image, a sound or a file is taken for; their bytes say nothing of their tokens."""
MEDIA = frozenset(
    {"image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document", "media",
     "container_upload"}
)  # fmt: skip
REFERENCES = ("url", "image_url", "file_id", "file_url", "file_uri")
"""Where a file says where its bytes are, if they are not in the request."""
CACHE_MARKS = frozenset({"cache_control", "cachePoint", "cache_point"})
"""What has a prompt written to a cache, wherever it stands."""
SCHEMAS = ("response_format", "text", "output_config", "output_format", "instructions")
"""What goes into the prompt beside its messages and tools."""
BESIDE = frozenset({"tools", "functions", *SCHEMAS})
"""Parameters that hold what goes into the prompt beside its messages."""
ADDED_TOKENS = 1_000
"""What a provider adds to a prompt that has tools, or a schema, in words of its own: hundreds of tokens at most."""
SERVED = (
    "web_search", "web_fetch", "file_search", "code_interpreter", "code_execution", "mcp", "image_generation",
    "google_search", "url_context", "retrieval", "x_search",
)  # fmt: skip
"""How the types of tools begin that the provider runs: what they find goes into the prompt."""
KEPT_THERE = {
    "previous_response_id": "the answer that it goes on from",
    "conversation": "the conversation that the provider keeps",
    "cached_content": "the prompt that the provider has cached",
    "mcp_servers": "tools that the provider runs",
    "web_search_options": "tools that the provider runs",
}
"""Parameters that add to the prompt what is not in the request."""
TERMS = {"service_tier": "service_tier", "serviceTier": "service_tier", "speed": "speed", "inference_geo": "region"}
"""Parameters that change the price, and what `context` calls them."""
MAX_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")
URLS = ("openai_api_base", "base_url", "anthropic_api_url", "azure_endpoint", "endpoint_url", "endpoint")
ACCOUNTS = ("openai_organization", "organization")
REGIONS = ("region_name", "location", "inference_geo")


def answer_of(response: LLMResult | None) -> Answer:
    """What an answer reports. With `n` > 1 each generation repeats the whole usage, so the first one speaks for all."""
    generations = response.generations if response is not None else ()
    first = generations[0][0] if generations and generations[0] else None
    output: Mapping[str, Any] = (response.llm_output if response is not None else None) or NOTHING
    message = getattr(first, "message", None)
    if message is not None:
        usage = getattr(message, "usage_metadata", None)
        metadata = message.response_metadata
        if usage is None:
            usage = output.get("token_usage")
        return Answer(usage=_mapping(usage), response=metadata or output, shown=shown_in(message))
    info = (first.generation_info if first is not None else None) or NOTHING
    usage = output.get("token_usage") or _ollama_usage(info)
    return Answer(usage=_mapping(usage), response={**output, **info})


def _mapping(usage: object) -> Mapping[str, Any] | None:
    """Counts by name; some integrations hand on the SDK's own object. None where there are none."""
    if not isinstance(usage, Mapping):
        dump = getattr(usage, "model_dump", None)
        usage = dump() if callable(dump) else None
    return usage if isinstance(usage, Mapping) and usage else None


def received_bytes(response: LLMResult | None) -> int:
    """UTF-8 bytes of all generations' text and tool calls: looked at only where no usage is reported."""
    if response is None:
        return 0
    return sum(_generation_bytes(each) for row in response.generations for each in row)


def _generation_bytes(generation: Generation) -> int:
    message = getattr(generation, "message", None)
    return utf8(generation.text) if message is None else 4 * _content_tokens(message)


def _ollama_usage(info: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Counts of Ollama's completion models, which have names of their own."""
    prompt, output = info.get("prompt_eval_count"), info.get("eval_count")
    if not isinstance(prompt, int) or not isinstance(output, int):
        return None
    return {"input_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output}


def utf8(text: str) -> int:
    """UTF-8 bytes of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def chunk_bytes(token: object, chunk: object) -> int:
    """Bytes that a streamed chunk brings: its text, else what its message holds, such as a piece of a tool call."""
    if isinstance(token, str) and token:
        return utf8(token)
    message = getattr(chunk, "message", None)
    if message is None:
        return 0
    pieces = sum(utf8(piece.get("args") or "") for piece in getattr(message, "tool_call_chunks", ()) or ())
    reasoning = message.additional_kwargs.get("reasoning_content")
    pieces += utf8(reasoning) if isinstance(reasoning, str) else 0
    return pieces if isinstance(message.content, str) else pieces + 4 * _content_tokens(message)


def usage_so_far(before: Mapping[str, Any] | None, chunk: object) -> Mapping[str, Any] | None:
    """Usage that a stream has reported up to this chunk: some providers count the input at its very start."""
    brought = getattr(getattr(chunk, "message", None), "usage_metadata", None)
    return before if brought is None else add_usage(cast("UsageMetadata | None", before), brought)


def event_bytes(event: Mapping[str, Any]) -> int:
    """Bytes that a content-block event (`astream_events` v3) brings."""
    delta = event.get("delta")
    if not isinstance(delta, Mapping):
        return 0
    return sum(utf8(value) for name, value in delta.items() if name != "type" and isinstance(value, str))


def _message_tokens(messages: Iterable[BaseMessage]) -> int:
    """Estimated tokens of a chat prompt, without the tools that go with it."""
    return sum(MESSAGE_TOKENS + _content_tokens(message) for message in messages)


def request_of(prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any], metadata: Mapping[str, Any]) -> Request:
    """How large a request is: its prompt, the tools it offers, the bounds it states, and what makes it dearer."""
    blocks = list(_blocks(prompt))
    return Request(
        _prompt_tokens(prompt, params),
        _max_tokens(params, metadata),
        _answers_wanted(params),
        _terms(params),
        _meters(params, blocks),
        _unmeasured(params, blocks),
        _cache_ttl(params, blocks),
    )


def request_bytes(prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any]) -> int:
    """UTF-8 bytes of all that goes into a request's prompt: more than its tokens, whatever the tokenizer."""
    extra = beside(params)
    size = _json_bytes(extra) + ADDED_TOKENS if extra else 0
    if isinstance(prompt, str):
        return size + utf8(prompt)
    return size + sum(_message_bytes(message) for message in prompt)


def _tools(params: Mapping[str, Any]) -> Sequence[Any]:
    tools = params.get("tools") or params.get("functions") or ()
    return tools if isinstance(tools, Sequence) and not isinstance(tools, str) else (tools,)


def beside(params: Mapping[str, Any]) -> list[object]:
    """What goes into the prompt beside its messages: tools, and how the answer is to look."""
    return [*_tools(params), *(_schema(value) for name in SCHEMAS if (value := params.get(name)))]


def _schema(value: object) -> object:
    """What is sent for a class that says how an answer is to look."""
    schema = getattr(value, "model_json_schema", None)
    return schema() if isinstance(value, type) and callable(schema) else value


def _blocks(prompt: Sequence[BaseMessage] | str) -> Iterator[Mapping[str, Any]]:
    """All blocks of a prompt's messages, and those within them."""
    for message in () if isinstance(prompt, str) else prompt:
        if message.additional_kwargs:
            yield message.additional_kwargs
        if isinstance(message.content, list):
            yield from _within(message.content)


def _within(blocks: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    for block in blocks:
        if isinstance(block, Mapping):
            yield block
            inner = block.get("content")
            if isinstance(inner, list):
                yield from _within(inner)


def _terms(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a request asks for that changes its price. What `auto` comes to is the provider's choice."""
    terms: dict[str, str] = {}
    for source in (params.get("model_kwargs"), params.get("extra_body"), params):
        if isinstance(source, Mapping):
            for name, ours in TERMS.items():
                value = source.get(name)
                value = value.get("type") if isinstance(value, Mapping) else value
                if isinstance(value, str) and value and value.lower() != "auto":
                    terms[ours] = value
    return tuple(sorted(terms.items()))


def _meters(params: Mapping[str, Any], blocks: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What a request's tokens may be charged on besides plain input and output."""
    meters = () if all(map(CACHE_MARKS.isdisjoint, _parts(params, blocks))) else WRITE_METERS
    wanted = params.get("modalities")
    speaks = isinstance(wanted, Sequence) and "audio" in wanted
    return (*meters, "audio_output_tokens") if speaks else meters


def _parts(params: Mapping[str, Any], blocks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All in a request that may have a mark of a cache."""
    others = (params.get("model_kwargs"), params.get("extra_body"), *_tools(params))
    return [params, *(each for each in others if isinstance(each, Mapping)), *blocks]


def _cache_ttl(params: Mapping[str, Any], blocks: Iterable[Mapping[str, Any]]) -> str | None:
    """The time to live that all of its marks name, five minutes where one names none; None: several, or no mark."""
    marks = [part[name] for part in _parts(params, blocks) for name in CACHE_MARKS & part.keys()]
    named = {mark.get("ttl", "5m") if isinstance(mark, Mapping) else None for mark in marks}
    only = named.pop() if len(named) == 1 else None
    return only if isinstance(only, str) else None


def _unmeasured(params: Mapping[str, Any], blocks: Iterable[Mapping[str, Any]]) -> str | None:
    """What the provider adds to the prompt that is not in the request, in words; None where that is nothing."""
    for name, what in KEPT_THERE.items():
        if params.get(name):
            return what
    if isinstance(params.get("prompt"), Mapping):
        return "the prompt that the provider keeps"
    if any(_is_served(tool) for tool in _tools(params) if isinstance(tool, Mapping)):
        return "tools that the provider runs"
    if any(block.get("type") in MEDIA and _is_elsewhere(block) for block in blocks):
        return "a file that it names by its id or address"
    return None


def _is_served(tool: Mapping[str, Any]) -> bool:
    """Whether the provider runs a tool; Google's have no type, and are named by their only key."""
    names: Iterable[object] = [tool["type"]] if "type" in tool else tool
    return any(isinstance(name, str) and name.startswith(SERVED) for name in names)


def _is_elsewhere(block: Mapping[str, Any]) -> bool:
    """Whether a file's block says where its bytes are instead of holding them."""
    if block.get("source_type") == "id":
        return True
    places = [block, *(value for value in block.values() if isinstance(value, Mapping))]
    values = (place.get(name) for place in places for name in REFERENCES)
    return any(isinstance(value, str) and not value.startswith("data:") for value in values)


def _message_bytes(message: BaseMessage) -> int:
    content, calls = message.content, getattr(message, "tool_calls", None)
    blocks: Iterable[object] = () if isinstance(content, str) else content
    media = sum(MEDIA_TOKENS for block in blocks if isinstance(block, Mapping) and block.get("type") in MEDIA)
    size = utf8(content) if isinstance(content, str) else _json_bytes(content)
    return MESSAGE_TOKENS + utf8(message.type) + size + media + (_json_bytes(calls) if calls else 0)


def _prompt_tokens(prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any]) -> int:
    text = tokens_of_bytes(utf8(prompt)) if isinstance(prompt, str) else _message_tokens(prompt)
    extra = beside(params)
    return text + (tokens_of_bytes(_json_bytes(extra)) if extra else 0)


def _content_tokens(message: BaseMessage) -> int:
    content = message.content
    blocks: Iterable[object] = [content] if isinstance(content, str) else content
    tokens = sum(_block_tokens(block) for block in blocks)
    calls = getattr(message, "tool_calls", None) or getattr(message, "tool_call_chunks", None)
    if calls:
        tokens += tokens_of_bytes(_json_bytes([(call.get("name"), call.get("args")) for call in calls]))
    return tokens


def _block_tokens(block: object) -> int:
    if isinstance(block, str):
        return tokens_of_bytes(utf8(block))
    if not isinstance(block, Mapping):
        return 0
    if block.get("type") in MEDIA:
        return MEDIA_TOKENS
    text, content = block.get("text"), block.get("content")
    if isinstance(content, list):  # A tool's result may hold images of its own.
        rest = {name: value for name, value in block.items() if name != "content"}
        return tokens_of_bytes(_json_bytes(rest)) + sum(_block_tokens(each) for each in content)
    return tokens_of_bytes(utf8(text) if isinstance(text, str) else _json_bytes(block))


def _json_bytes(value: object) -> int:
    try:
        return utf8(json.dumps(value, default=str, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):  # No JSON, but its size is about the same.
        return utf8(repr(value))


def _max_tokens(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> int | None:
    """The request's own bound on output tokens; None where it states none."""
    for name in MAX_TOKENS:
        value = params.get(name)
        if type(value) is int and value > 0:
            return value
    stated = metadata.get("ls_max_tokens")
    return stated if type(stated) is int and stated > 0 else None


def _answers_wanted(params: Mapping[str, Any]) -> int:
    """How many answers the request has made: `n`, or more where the best of them are picked."""
    wanted = [params.get(name) for name in ("n", "best_of")]
    return max([1, *(count for count in wanted if type(count) is int)])


def endpoint_of(serialized: Mapping[str, Any] | None) -> Endpoint:
    """Where the model's requests go, as its constructor's arguments say."""
    arguments = serialized.get("kwargs") if serialized else None
    if not isinstance(arguments, Mapping) or not arguments:
        return UNKNOWN_ENDPOINT
    url = _first_text(arguments, URLS)
    account, region = _first_text(arguments, ACCOUNTS), _first_text(arguments, REGIONS)
    project = _first_text(arguments, ("project",))
    if url is None and account is None and region is None and project is None:
        return UNKNOWN_ENDPOINT
    return Endpoint(base_url_host=_host(url), account=account, project=project, region=region)


def _first_text(arguments: Mapping[str, Any], names: Sequence[str]) -> str | None:
    for name in names:
        value = arguments.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _host(url: str | None) -> str | None:
    """Host and port only: a URL may carry a password."""
    if url is None:
        return None
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        return parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    except ValueError:
        return None
