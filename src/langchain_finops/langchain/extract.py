"""What LangChain's events say of a call: its answer's counts, its prompt's size, where its requests go. Counts only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import Generation, LLMResult

from langchain_finops.budgets.estimate import tokens_of_bytes
from langchain_finops.meter import NOTHING, UNKNOWN_ENDPOINT, Answer, Endpoint, Request
from langchain_finops.pricing.facts import searches_in

__all__ = [
    "answer_of",
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
MEDIA = frozenset({"image", "image_url", "input_image", "audio", "input_audio", "video", "file", "document", "media"})
MAX_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")
URLS = ("openai_api_base", "base_url", "anthropic_api_url", "azure_endpoint", "endpoint_url", "endpoint")
ACCOUNTS = ("openai_organization", "organization")
REGIONS = ("region_name", "location")


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
        return Answer(usage=_mapping(usage), response=metadata or output, searches=searches_in(message))
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
    """How large a request is: its prompt, the tools it offers, and the bounds it states."""
    return Request(_prompt_tokens(prompt, params), _max_tokens(params, metadata), _answers_wanted(params))


def request_bytes(prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any]) -> int:
    """UTF-8 bytes of a request's messages and tools: more than its tokens, whatever the tokenizer."""
    tools = params.get("tools") or params.get("functions")
    size = _json_bytes(tools) if tools else 0
    if isinstance(prompt, str):
        return size + utf8(prompt)
    return size + sum(_message_bytes(message) for message in prompt)


def _message_bytes(message: BaseMessage) -> int:
    content, calls = message.content, getattr(message, "tool_calls", None)
    blocks: Iterable[object] = () if isinstance(content, str) else content
    media = sum(MEDIA_TOKENS for block in blocks if isinstance(block, Mapping) and block.get("type") in MEDIA)
    size = utf8(content) if isinstance(content, str) else _json_bytes(content)
    return MESSAGE_TOKENS + utf8(message.type) + size + media + (_json_bytes(calls) if calls else 0)


def _prompt_tokens(prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any]) -> int:
    text = tokens_of_bytes(utf8(prompt)) if isinstance(prompt, str) else _message_tokens(prompt)
    tools = params.get("tools") or params.get("functions")
    return text + (tokens_of_bytes(_json_bytes(tools)) if tools else 0)


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
    """How many answers the request asks for (`n`)."""
    wanted = params.get("n")
    return wanted if type(wanted) is int and wanted > 1 else 1


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
