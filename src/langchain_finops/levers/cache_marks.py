"""How a request asks for a cache: Anthropic's breakpoints, OpenAI's `prompt_cache_key`. Requests are copied."""

import hmac
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_finops.langchain.extract import CACHE_MARKS
from langchain_finops.levers.cache_plans import Plan

__all__ = ["DIRECT", "Dialect", "cache_key", "dialect_of", "is_marked", "loaded", "with_breakpoints"]

Dialect = Literal["anthropic", "openai"]
KEY: Final = "prompt_cache_key"
DIRECT: Final = "anthropic-chat"
"""What a model is that calls Anthropic itself: only there a request takes a `cache_control` of its own."""
KEY_CHARACTERS: Final = 32
HOLDING: Final = ("tools", "system", "messages", "content", "source", "extras")
"""Names, in a request and its blocks, under which further ones stand."""


def dialect_of(cls: type[object]) -> Dialect | None:
    """Whose way of asking a chat model's class has; None for one that is left alone."""
    names = {each.__name__ for each in cls.__mro__}
    if "ChatAnthropic" in names:
        return "anthropic"
    return "openai" if "BaseChatOpenAI" in names else None


def is_marked(
    dialect: Dialect, model: BaseChatModel, messages: Sequence[BaseMessage], settings: Mapping[str, Any]
) -> bool:
    """Whether the user has asked for a cache already, wherever that stands: then nothing is added."""
    places = [settings, getattr(model, "model_kwargs", None), settings.get("extra_body")]
    places.append(getattr(model, "extra_body", None))
    if dialect == "openai":
        return any(isinstance(place, Mapping) and KEY in place for place in places)
    return any(map(_holds_mark, (*places, *(message.content for message in messages))))


def _holds_mark(value: Any) -> bool:
    """Whether there is a mark at a block, or tool, or in what it holds; what a tool takes is no part of that."""
    if isinstance(value, Mapping):
        return not CACHE_MARKS.isdisjoint(value) or any(_holds_mark(value.get(name)) for name in HOLDING)
    return isinstance(value, list | tuple) and any(map(_holds_mark, value))


def loaded(tools: Sequence[Any]) -> list[Any]:
    """The tools that a prompt begins with: those that a model finds by a search stand later, and take no mark."""
    return [tool for tool in tools if not _is_deferred(tool)]


def _is_deferred(tool: Any) -> bool:
    return isinstance(tool, Mapping) and bool(tool.get("defer_loading"))


def with_breakpoints(
    plan: Plan, model: BaseChatModel, messages: Sequence[BaseMessage], settings: Mapping[str, Any]
) -> tuple[list[BaseMessage], dict[str, Any]]:
    """The request with Anthropic's marks, three at most: the last loaded tool, the system message, the last message.

    The last one is the request's own `cache_control`, which Anthropic puts at the last block that may have one. Others
    who sell Claude do not take that: the last message is marked itself.
    """
    marked, kept = list(messages), dict(settings)
    if plan.tools is not None:
        tools = list(kept["tools"])
        at = max(at for at, tool in enumerate(tools) if not _is_deferred(tool))
        if isinstance(tools[at], Mapping):
            tools[at] = {**tools[at], "cache_control": _control(plan.tools)}
            kept["tools"] = tools
    if plan.system is not None:
        marked[0] = _marked(marked[0], _control(plan.system))
    if plan.messages is not None and model._llm_type == DIRECT:  # noqa: SLF001  What the model itself goes by.
        kept["cache_control"] = _control(plan.messages)
    elif plan.messages is not None and _may_be_marked(marked):
        marked[-1] = _marked(marked[-1], _control(plan.messages))
    return marked, kept


def cache_key(plan: Plan, tools: Sequence[Any], system: BaseMessage | None, secret: bytes) -> str | None:
    """The same for all requests that begin alike, in every process that has the secret; None where none pays.

    An HMAC of what the provider is sent anyway, so that no text is in it.
    """
    if plan.tools is None and plan.system is None:
        return None
    begun = [list(tools), None if plan.system is None or system is None else system.content]
    text = json.dumps(begun, default=repr, sort_keys=True)
    return "finops-" + hmac.digest(secret, b"prompt_cache_key\0" + text.encode(), sha256).hex()[:KEY_CHARACTERS]


def _control(ttl: str) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": ttl}


def _may_be_marked(messages: Sequence[BaseMessage]) -> bool:
    """Whether the last one is no answer, which may be thought, and no result of a call by code, which takes no mark."""
    if not messages or not isinstance(messages[-1], ToolMessage):
        return bool(messages) and isinstance(messages[-1], HumanMessage)
    answers = (message.content for message in messages if isinstance(message, AIMessage))
    return not any(_is_by_code(block) for content in answers if isinstance(content, list) for block in content)


def _is_by_code(block: Any) -> bool:
    caller = block.get("caller") if isinstance(block, Mapping) else None
    return isinstance(caller, Mapping) and str(caller.get("type")).startswith("code_execution")


def _marked(message: BaseMessage, control: Mapping[str, str]) -> BaseMessage:
    """A copy whose last block is marked; as it is where that is no text, on which a mark is sure to be taken."""
    content = message.content
    blocks: list[Any] = [content] if isinstance(content, str) else list(content)
    last = blocks[-1] if blocks else ""
    block = {"type": "text", "text": last} if isinstance(last, str) else last
    if not isinstance(block, Mapping) or block.get("type") != "text" or not str(block.get("text", "")).strip():
        return message
    return message.model_copy(update={"content": [*blocks[:-1], {**block, "cache_control": control}]})
