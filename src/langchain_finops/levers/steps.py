"""What a lever wants done, as data: the same lines of a lever serve sync and async code, whole and streamed answers.

A lever is a generator. It yields a `Call` or a `Pending`, is sent what came of it, and returns its result.
"""

import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from json import dumps
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from langchain_finops.errors import BadArguments, FinOpsError
from langchain_finops.langchain.stops import stopped

__all__ = [
    "Call",
    "Given",
    "Pending",
    "Steps",
    "asked",
    "chunk_of",
    "drive",
    "drive_async",
    "passes",
    "resolved",
    "text_of",
    "told",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A model to be called."""

    runnable: Runnable[Any, Any]
    prompt: Any
    config: RunnableConfig
    settings: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False
    """Whether its answer goes to the user as it comes, and so may be streamed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What the user's own function gave back, which async code may have to wait for."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What came of a call."""

    answer: Any
    streamed: bool = False
    """The user has seen it: it cannot be taken back."""


Steps = Generator["Call | Pending", Any, T]


@runtime_checkable
class Stepwise(Protocol):
    """Something of ours that asks models, and does so by steps."""

    def steps(self, *args: Any) -> Steps[Any]:
        """What it wants done."""
        ...


def resolved(function: Callable[..., Any] | Stepwise, *args: Any) -> Steps[Any]:
    """What a function of ours or of the user's says, sync or async."""
    if isinstance(function, Stepwise):
        return (yield from function.steps(*args))
    return (yield Pending(value=function(*args)))


def drive(steps: Steps[T]) -> T:
    """Do all that is wanted, in sync code."""

    def done(want: Call | Pending) -> Any:
        if isinstance(want, Call):
            return Given(answer=want.runnable.invoke(want.prompt, want.config, **want.settings))
        return at_once(want)

    try:
        want = next(steps)
        while True:
            try:
                came = done(want)
            except Exception as error:  # noqa: BLE001  Whether it is one to go on after is the lever's to say.
                want = steps.throw(error)
            else:
                want = steps.send(came)
    except StopIteration as end:
        return cast("T", end.value)


async def drive_async(steps: Steps[T]) -> T:
    """The same, in async code."""

    async def done(want: Call | Pending) -> Any:
        if isinstance(want, Call):
            return Given(answer=await want.runnable.ainvoke(want.prompt, want.config, **want.settings))
        return (await want.value) if inspect.isawaitable(want.value) else want.value

    try:
        want = next(steps)
        while True:
            try:
                came = await done(want)
            except Exception as error:  # noqa: BLE001  As above.
                want = steps.throw(error)
            else:
                want = steps.send(came)
    except StopIteration as end:
        return cast("T", end.value)


def at_once(want: Pending) -> Any:
    """What a function gave back, in sync code. Raises BadArguments for an async one's."""
    if inspect.isawaitable(want.value):
        if inspect.iscoroutine(want.value):
            want.value.close()  # Without it Python warns that it was never awaited.
        raise BadArguments("an async function was given to a lever that runs in sync code: use ainvoke, or a sync one")
    return want.value


def told(
    config: RunnableConfig, tags: Mapping[str, str], *, overhead: str | None = None, quiet: bool = False
) -> RunnableConfig:
    """The config of a call with ledger tags of ours beside the user's own.

    `overhead`: what it is for that is none of the agent's own calls. `quiet`: its tokens are not streamed to the
    graph's user, who would read an answer that may yet be thrown away.
    """
    metadata = dict(config.get("metadata") or {})
    own = metadata.get("tags")
    metadata["tags"] = {**(own if isinstance(own, Mapping) else {}), **tags}
    if overhead is not None:
        metadata["lc_source"] = overhead  # By this the handler knows overhead.
    patched = config.copy()
    patched["metadata"] = metadata
    if quiet:
        patched["tags"] = [*(config.get("tags") or ()), TAG_NOSTREAM]
    return patched


def asked(
    model: Runnable[Any, Any], prompt: list[BaseMessage], config: RunnableConfig, purpose: str
) -> Steps[AIMessage]:
    """What a small model says, metered as overhead and tagged with what it is for."""
    config = told(config, {"tier_for": purpose}, overhead="finops", quiet=True)
    given = yield Call(runnable=model, prompt=prompt, config=config)
    return cast("AIMessage", given.answer)


def text_of(answer: object) -> str:
    """The text of an answer, whatever a model gave: nothing where it has none."""
    return str(answer.text) if isinstance(answer, BaseMessage) else answer if isinstance(answer, str) else ""


def chunk_of(answer: Any) -> Any:
    """A message as a chunk: one that is none could not be added to the next."""
    if not isinstance(answer, AIMessage) or isinstance(answer, AIMessageChunk):
        return answer
    return AIMessageChunk(
        content=answer.content,
        id=answer.id,
        name=answer.name,
        additional_kwargs=answer.additional_kwargs,
        response_metadata=answer.response_metadata,
        usage_metadata=answer.usage_metadata,
        tool_call_chunks=[
            {
                "type": "tool_call_chunk",
                "name": call["name"],
                "args": dumps(call["args"]),
                "id": call["id"],
                "index": at,
            }
            for at, call in enumerate(answer.tool_calls)
        ],
    )


def passes(error: Exception) -> bool:
    """Whether an error is a guard's, a pause or a fault in arguments: no lever goes on after one."""
    return isinstance(error, GraphBubbleUp | FinOpsError) or stopped(error) is not None
