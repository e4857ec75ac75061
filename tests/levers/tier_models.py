"""Models of three prices that say what a test tells them to, whole and streamed, and a book that prices them."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from langchain_finops import PriceBook
from langchain_finops.pricing import parse_cards

__all__ = ["BOOK", "Said", "answer", "tool_call", "worded"]

CARDS = [
    {"id": "small", "match": {"model": "small"}, "rates": {"input_tokens": "1", "output_tokens": "10"}},
    {"id": "judge", "match": {"model": "judge"}, "rates": {"input_tokens": "1", "output_tokens": "2"}},
    {
        "id": "big",
        "match": {"model": "big"},
        "rates": {
            "input_tokens": "10",
            "output_tokens": "100",
            "cache_read_tokens": "1",
            "cache_write_5m_tokens": "12",
        },
    },
]
BOOK = PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)
"""$10 a million tokens of an answer of `small`: 1,000 of them are a cent, and of `big` ten."""


def answer(
    text: str = "ok", model: str = "small", input_tokens: int = 0, output_tokens: int = 1_000, **fields: Any
) -> AIMessage:
    """An answer that reports its usage: a cent of `small`, ten of `big`."""
    total = input_tokens + output_tokens
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": total}
    metadata = {"model_name": model, **fields.pop("response_metadata", {})}
    return AIMessage(text, usage_metadata=usage, response_metadata=metadata, **fields)  # type: ignore[arg-type]


def worded(model: str, text: str | None = None) -> Callable[[Any, int], AIMessage]:
    """Always the same answer, by default the model's name."""
    return lambda _messages, _number: answer(text or model, model)


def tool_call(name: str = "look", **args: Any) -> dict[str, Any]:
    """A call of a tool."""
    return {"name": name, "args": args, "id": f"{name}-1", "type": "tool_call"}


class Said(BaseChatModel):
    """Answers by `say(messages, number)`: a message, or an exception to raise; keeps what it was asked with."""

    say: Callable[[Any, int], Any]
    model_name: str = "small"
    _asked: list[tuple[Any, dict[str, Any]]] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def calls(self) -> int:
        """How often it was reached."""
        return len(self._asked)

    @property
    def asked(self) -> list[tuple[Any, dict[str, Any]]]:
        """Messages and settings of each call."""
        return self._asked

    @property
    def _llm_type(self) -> str:
        return "said"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "test", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _answer(self, messages: Any, settings: dict[str, Any]) -> AIMessage:
        with self._lock:
            self._asked.append((messages, settings))
            number = len(self._asked)
        said = self.say(messages, number)
        if isinstance(said, BaseException):
            raise said
        return said

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        settings = kwargs if stop is None else {**kwargs, "stop": stop}
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, settings).model_copy())])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        whole = self._answer(messages, kwargs)
        pieces = whole.text.partition(" ")
        for piece in (pieces[0], pieces[1] + pieces[2]):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
            if "BREAK" in piece:
                raise ConnectionError("broke off")
        calls = [
            {"name": call["name"], "args": "{}", "id": call["id"], "index": at, "type": "tool_call_chunk"}
            for at, call in enumerate(whole.tool_calls)
        ]
        last = AIMessageChunk(
            content="",
            usage_metadata=whole.usage_metadata,
            response_metadata=whole.response_metadata,
            tool_call_chunks=calls,  # type: ignore[arg-type]
        )
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop, None, **kwargs):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
