"""Models that say what a test tells them to: programmable usage, errors, streams, and waits that events control."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr

__all__ = ["Gate", "ProviderError", "Reply", "ScriptedChat", "ScriptedLLM", "failing", "scripted", "tokens"]


class ProviderError(Exception):
    """An answer with an HTTP error status, shaped as the providers' SDKs shape theirs."""

    def __init__(self, status_code: int, text: str = "SECRET error text") -> None:
        super().__init__(text)
        self.status_code = status_code


class Gate:
    """Where a scripted call waits, so that a test decides what happens meanwhile. Made of two events of one kind."""

    def __init__(self, kind: type[threading.Event] | type[asyncio.Event]) -> None:
        self.reached, self.opened = kind(), kind()

    def arrive(self) -> Any:
        """Tell the test that the call is being made; then wait, or hand back what is to be awaited."""
        self.reached.set()
        # The limit only keeps a broken test from hanging; no test waits for it.
        return self.opened.wait(30) if isinstance(self.opened, threading.Event) else self.opened.wait()


def tokens(input_tokens: int, output_tokens: int, **details: Any) -> UsageMetadata:
    """Usage as LangChain's integrations report it; `details` are subsets of the input and the output."""
    usage = UsageMetadata(
        input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens
    )
    usage.update(details)  # type: ignore[typeddict-item]
    return usage


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One scripted answer."""

    text: str = "ANSWER"
    usage: UsageMetadata | None = None
    pieces: int = 2
    """Chunks of a stream; the usage comes with the last one, as both big providers send it."""
    error: BaseException | None = None
    """Raised in place of the answer; in a stream after `error_after` chunks."""
    error_after: int = 0
    gate: Gate | None = None
    """Waited at before the answer; in a stream after `gate_after` chunks."""
    gate_after: int = 0
    tool_calls: Sequence[tuple[str, dict[str, Any]]] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def message(self, call: int) -> AIMessage:
        """The whole answer."""
        return AIMessage(
            self.text,
            usage_metadata=self.usage,
            response_metadata=self.metadata,
            tool_calls=[
                {"name": name, "args": args, "id": f"tool-{call}-{place}", "type": "tool_call"}
                for place, (name, args) in enumerate(self.tool_calls)
            ],
        )

    def chunks(self, call: int) -> list[AIMessageChunk]:
        """The answer cut into pieces."""
        cuts = [len(self.text) * place // self.pieces for place in range(self.pieces + 1)]
        texts = [self.text[start:end] for start, end in pairwise(cuts)]
        whole = self.message(call)
        last = AIMessageChunk(
            texts[-1],
            usage_metadata=self.usage,
            response_metadata=self.metadata,
            tool_call_chunks=[
                {
                    "name": part["name"],
                    "args": str(part["args"]).replace("'", '"'),
                    "id": part["id"],
                    "index": place,
                    "type": "tool_call_chunk",
                }
                for place, part in enumerate(whole.tool_calls)
            ],
        )
        return [*(AIMessageChunk(text) for text in texts[:-1]), last]


def by_prompt(prompt: str, call: int) -> Reply:
    """Use what the prompt asks for: `7/3` is 7 input tokens and 3 output tokens."""
    found = re.search(r"(\d+)/(\d+)", prompt)
    assert found, f"the prompt {prompt!r} names no usage such as 7/3"
    return Reply(usage=tokens(int(found[1]), int(found[2])))


Script = Callable[[str, int], Reply]


class _Scripted:
    """What chat and completion models share: a script, and a count of calls made."""

    _lock: threading.Lock
    _calls: int

    @property
    def calls(self) -> int:
        """How often the provider was reached."""
        return self._calls

    def _next(self, prompt: str) -> tuple[Reply, int]:
        with self._lock:
            call, self._calls = self._calls, self._calls + 1
        return self.script(prompt, call), call  # type: ignore[attr-defined]


class ScriptedChat(_Scripted, BaseChatModel):
    """A chat model that answers by its script; called natively from sync and async code."""

    script: Script = by_prompt
    model_name: str = "scripted-chat"
    provider: str = "scripted"
    max_tokens: int | None = None
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _calls: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}  # LangChain's cache needs two equal models to have one key.

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = {"ls_provider": self.provider, "ls_model_name": self.model_name, "ls_model_type": "chat"}
        return params | ({"ls_max_tokens": self.max_tokens} if self.max_tokens else {})

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Accept tools, as agents want; the script decides whether they are called."""
        return self.bind()

    def _result(self, reply: Reply, call: int, answers: int) -> ChatResult:
        if reply.error:
            raise reply.error
        message = reply.message(call)
        # `n > 1`: LangChain's integrations repeat the whole usage on every generation.
        return ChatResult(generations=[ChatGeneration(message=message.model_copy()) for _ in range(answers)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply, call = self._next(str(messages[-1].text))
        if reply.gate:
            reply.gate.arrive()
        return self._result(reply, call, kwargs.get("n", 1))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply, call = self._next(str(messages[-1].text))
        if reply.gate:
            await reply.gate.arrive()
        return self._result(reply, call, kwargs.get("n", 1))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        reply, call = self._next(str(messages[-1].text))
        for place, message in enumerate([*reply.chunks(call), None]):
            if reply.gate and place == reply.gate_after:
                reply.gate.arrive()
            if reply.error and place == reply.error_after:
                raise reply.error
            if message is not None:
                chunk = ChatGenerationChunk(message=message)
                if run_manager:
                    run_manager.on_llm_new_token(str(message.text), chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply, call = self._next(str(messages[-1].text))
        for place, message in enumerate([*reply.chunks(call), None]):
            if reply.gate and place == reply.gate_after:
                await reply.gate.arrive()
            if reply.error and place == reply.error_after:
                raise reply.error
            if message is not None:
                chunk = ChatGenerationChunk(message=message)
                if run_manager:
                    await run_manager.on_llm_new_token(str(message.text), chunk=chunk)
                yield chunk


class ScriptedLLM(_Scripted, BaseLLM):
    """A completion model that answers by its script and reports usage as OpenAI's does, in `llm_output`."""

    script: Script = by_prompt
    model_name: str = "scripted-completion"
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _calls: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted-completion"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "scripted", "ls_model_name": self.model_name, "ls_model_type": "llm"}

    def _result(self, replies: Sequence[Reply], answers: int) -> LLMResult:
        for reply in replies:
            if reply.error:
                raise reply.error
        # OpenAI's integration writes an empty dictionary where the answer reports nothing.
        output: dict[str, Any] = {"model_name": self.model_name, "token_usage": {}}
        reported = [reply.usage for reply in replies if reply.usage]
        if reported:
            output["token_usage"] = {
                "prompt_tokens": sum(usage["input_tokens"] for usage in reported),
                "completion_tokens": sum(usage["output_tokens"] for usage in reported),
                "total_tokens": sum(usage["total_tokens"] for usage in reported),
            }
        generations = [[Generation(text=reply.text) for _ in range(answers)] for reply in replies]
        return LLMResult(generations=generations, llm_output=output)

    def _generate(
        self, prompts: list[str], stop: Any = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> LLMResult:
        replies = [self._next(prompt)[0] for prompt in prompts]
        for reply in replies:
            if reply.gate:
                reply.gate.arrive()
        return self._result(replies, kwargs.get("n", 1))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: Any = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        replies = [self._next(prompt)[0] for prompt in prompts]
        for reply in replies:
            if reply.gate:
                await reply.gate.arrive()
        return self._result(replies, kwargs.get("n", 1))


def scripted(*replies: Reply, **fields: Any) -> ScriptedChat:
    """A chat model that gives these replies in this order, and no more."""

    def script(prompt: str, call: int) -> Reply:
        assert call < len(replies), f"call {call + 1} of a model with {len(replies)} replies"
        return replies[call]

    return ScriptedChat(script=script, **fields)


def failing(first: int = 1, status_code: int = 429) -> Script:
    """Fail the first calls with an HTTP error status, then do as the prompt says."""

    def script(prompt: str, call: int) -> Reply:
        return Reply(error=ProviderError(status_code)) if call < first else by_prompt(prompt, call)

    return script
