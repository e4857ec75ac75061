"""Graphs whose model calls cost a cent each, and a count of the calls that the provider really received."""

import asyncio
import operator
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import START, StateGraph
from pydantic import PrivateAttr

from langchain_finops import PriceBook
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain.refusals import refused
from langchain_finops.pricing import parse_cards

__all__ = ["BOOK", "Paid", "State", "asking", "cent", "fan_out", "line", "refuse", "swallowing"]

CARDS = [
    {"id": "m", "match": {"model": "m"}, "rates": {"input_tokens": "0", "output_tokens": "10"}},
    {"id": "search", "tool": "search", "usd_per_call": "0.01"},
]
BOOK = PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)
"""$10 for a million tokens of an answer, nothing for the prompt: 1,000 tokens, which nobody bounds, are a cent."""


class State(TypedDict, total=False):
    """What the nodes have said so far."""

    said: Annotated[list[str], operator.add]
    prompt: str


def cent(text: str = "ok", output_tokens: int = 1_000, **fields: Any) -> AIMessage:
    """An answer that costs a cent."""
    usage = {"input_tokens": 0, "output_tokens": output_tokens, "total_tokens": output_tokens}
    return AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "m"}, **fields)  # type: ignore[arg-type]


class Paid(BaseChatModel):
    """Answers each call by `say(prompt, number)`: a message, or an exception to raise; counts what it received."""

    say: Callable[[str, int], AIMessage | BaseException] = lambda _prompt, _number: cent()
    name_asked: str = "m"
    _prompts: list[str] = PrivateAttr(default_factory=list)
    _settings: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[str]:
        """Last message of each call that came through."""
        return self._prompts

    @property
    def settings(self) -> list[dict[str, Any]]:
        """What each call was bound with."""
        return self._settings

    @property
    def calls(self) -> int:
        """How many calls came through."""
        return len(self._prompts)

    @property
    def _llm_type(self) -> str:
        return "paid"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "test", "ls_model_name": self.name_asked, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        return self.bind(tools=tools, **kwargs)

    def _answer(self, messages: Any, settings: dict[str, Any]) -> AIMessage:
        with self._lock:
            self._prompts.append(messages[-1].text)
            self._settings.append(settings)
            number = len(self._prompts)
        answer = self.say(messages[-1].text, number)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, kwargs))])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(0)  # Others of a fan-out get a turn between the hold and the answer.
        return self._generate(messages, stop, run_manager, **kwargs)


class Streaming(Paid):
    """The same, a word at a time; each word's chunk reports no usage but the last."""

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        words = answer.text.split()
        for place, word in enumerate(words, 1):
            usage = answer.usage_metadata if place == len(words) else None
            yield ChatGenerationChunk(message=AIMessageChunk(word, usage_metadata=usage))

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop, run_manager, **kwargs):
            yield chunk


def asking(model: Runnable[Any, Any], *prompts: str) -> Runnable[Any, Any]:
    """A node that asks each prompt, or the state's, in sync and async graphs alike."""

    def ask(state: State) -> State:
        return {"said": [model.invoke(prompt).text for prompt in prompts or (state["prompt"],)]}

    async def aask(state: State) -> State:
        return {"said": [(await model.ainvoke(prompt)).text for prompt in prompts or (state["prompt"],)]}

    return RunnableLambda(ask, afunc=aask)


def swallowing(model: Runnable[Any, Any], prompt: str) -> Runnable[Any, Any]:
    """A node that takes whatever is raised for an answer."""

    def ask(_: State) -> State:
        try:
            return {"said": [model.invoke(prompt).text]}
        except Exception as error:
            return {"said": [f"swallowed {type(error).__name__}"]}

    async def aask(_: State) -> State:
        try:
            return {"said": [(await model.ainvoke(prompt)).text]}
        except Exception as error:
            return {"said": [f"swallowed {type(error).__name__}"]}

    return RunnableLambda(ask, afunc=aask)


def line(*nodes: Any, names: str = "abcdefghijkl", node: dict[str, Any] | None = None, **options: Any) -> Any:
    """A compiled graph of nodes `a`, `b`, `c`, one after the other."""
    builder = StateGraph(State)
    named = dict(zip(names, nodes, strict=False))
    for name, each in named.items():
        builder.add_node(name, each, **(node or {}))
    for before, after in zip([START, *named], named, strict=False):
        builder.add_edge(before, after)
    return builder.compile(**options)


def fan_out(node: Any, prompts: int, **options: Any) -> Any:
    """A compiled graph that sends each prompt to a branch of its own, all at once."""
    from langgraph.types import Send

    builder = StateGraph(State)
    builder.add_node("branch", node)
    builder.add_conditional_edges(START, lambda _: [Send("branch", {"prompt": f"p{n}"}) for n in range(prompts)])
    return builder.compile(**options)


def refuse(refusal: Refusal) -> None:
    """Raise what it becomes. Here, because a process of its own finds no test's module by name."""
    raise refused(refusal)
