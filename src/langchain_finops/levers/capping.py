"""`cap_answers(model, caps)`: a chat model whose answers are bounded by the cap of the node that it runs in.

The bound is the integration's own (`max_tokens`, `max_completion_tokens`, `num_predict`, ...), set below what LangChain
is told of: budgets hold no more than that, and its cache keeps capped answers apart from whole ones.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ensure_config, var_child_runnable_config

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.affording import whose
from langchain_finops.langchain.attribution import NAMESPACE, attribution, node_path, said
from langchain_finops.levers.bounds import bounded
from langchain_finops.levers.choices import CUT_OFF, ended_by
from langchain_finops.levers.pressure import handler_in
from langchain_finops.levers.steps import Call, Steps, chunk_of, drive, drive_async, passes, told
from langchain_finops.levers.tiers import warn_once
from langchain_finops.levers.verbosity import CAP_TAG, AnswerCaps, checked_caps, too_few
from langchain_finops.records import NO_ATTRIBUTION, Attribution

__all__ = ["cap_answers", "capped_within", "settings_of"]

Model = TypeVar("Model", bound=BaseChatModel | BaseLLM)
EVENTS: Final = ("_chat_model_stream_v3", "_achat_model_stream_v3")
"""What `stream_events(version="v3")` of the model itself calls."""
AGAIN: Final = "answer_cap_again"
"""Tag of the call that asks again without the cap."""
RUNNING: Final = ("tags", "metadata", "run_name", "run_id")
"""Arguments of `generate` that are none of the model's."""
PROMPTS: Final = "prompts"
_ASKED: Final[ContextVar[Any]] = ContextVar("langchain_finops_asked", default=None)
"""The model that is being invoked: whether it has a cap is decided, and its `generate` decides nothing anew."""


@dataclass(frozen=True, eq=False, slots=True)
class _Settings:
    """What is capped; equal to itself alone, so that a class is made once for each."""

    caps: AnswerCaps | dict[str, int]
    retry: bool


def cap_answers(model: Model, caps: AnswerCaps | Mapping[str, int], *, retry: bool = False) -> Model:
    """A copy of a model that answers with no more output tokens than the cap of the node it runs in, for all uses.

    `caps`: what `learn_caps` returned, or tokens by node. Never more than the user has set, and nothing where there is
    no cap. An answer that reaches the cap is cut off there, and says so as the provider does (`finish_reason`
    `length`, `stop_reason` `max_tokens`). `retry`: ask once more without the cap then; both calls cost, and the answer
    comes whole rather than streamed; `generate` asks for nothing again. A model that can be told no limit is left
    alone, which the log says once. Raises BadArguments.
    """
    settings = settings_of(caps, retry=retry)
    given: object = model
    if not isinstance(given, BaseChatModel | BaseLLM):
        raise BadArguments(
            f"cap_answers takes a model, and this is a {type(given).__name__}: cap the model first, then bind tools, "
            "schemas or fallbacks to it."
        )
    if retry and isinstance(model, BaseLLM):
        raise BadArguments(
            f"cap_answers: retry=True needs a chat model: the text of a {type(model).__name__} does not say whether it "
            "was cut off."
        )
    return _capped(model, settings)


def settings_of(caps: AnswerCaps | Mapping[str, int], *, retry: bool) -> _Settings:
    """The settings, checked; caps of which none was learnt are told of once. Raises BadArguments."""
    settings = _Settings(checked_caps(caps), bool(retry))
    if isinstance(settings.caps, AnswerCaps) and all(row.tokens is None for row in settings.caps.rows):
        warn_once(f"cap_answers: nothing is capped: {too_few(settings.caps.rows)}")
    return settings


def capped_within(model: Any, settings: _Settings) -> Any:
    """The same where bindings, retries and fallbacks may be around the model; what is no model stays as it is."""
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": capped_within(model.bound, settings)})
    if isinstance(model, RunnableWithFallbacks):
        fallbacks = [capped_within(each, settings) for each in model.fallbacks]
        return model.model_copy(update={"runnable": capped_within(model.runnable, settings), "fallbacks": fallbacks})
    return _capped(model, settings) if isinstance(model, BaseChatModel) else model


def _capped(model: Model, settings: _Settings) -> Model:
    of_several = getattr(model, "with_each_model", None)
    if callable(of_several):  # Several models as one, such as tiers: it sends nothing itself.
        return cast("Model", of_several(lambda each: _capped(each, settings)))
    cls: Any = type(model)
    return _of_class(model, _capping_class(cls, settings))


def _again(model: Any, caps: AnswerCaps | dict[str, int], retry: bool) -> Any:
    return _capped(model, _Settings(caps, retry))


@functools.lru_cache(maxsize=256)
def _capping_class(cls: type[Any], settings: _Settings) -> type[Any]:
    """A class like this one, name and all, that asks with a bound."""

    def limited(self: Any, config: RunnableConfig | None, given: Mapping[str, Any]) -> _Ask:
        return _ask(self, settings, ensure_config(config), given)

    def invoke(self: Any, input: Any, config: RunnableConfig | None = None, **given: Any) -> Any:  # noqa: A002
        return drive(_steps(cls, limited(self, config, given), input, settings))

    async def ainvoke(self: Any, input: Any, config: RunnableConfig | None = None, **given: Any) -> Any:  # noqa: A002
        return await drive_async(_steps(cls, limited(self, config, given), input, settings))

    def stream(self: Any, input: Any, config: RunnableConfig | None = None, **given: Any) -> Iterator[Any]:  # noqa: A002
        ask = limited(self, config, given)
        if settings.retry and ask.cap is not None:
            yield chunk_of(drive(_steps(cls, ask, input, settings)))
            return
        yield from cls.stream(ask.model, input, ask.config, **ask.given)

    async def astream(
        self: Any,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **given: Any,
    ) -> AsyncIterator[Any]:
        ask = limited(self, config, given)
        if settings.retry and ask.cap is not None:
            yield chunk_of(await drive_async(_steps(cls, ask, input, settings)))
            return
        chunks = cast("AsyncGenerator[Any, None]", cls.astream(ask.model, input, ask.config, **ask.given))
        async with aclosing(chunks):  # Whoever walks away closes this one alone: the model's call would stay open.
            async for chunk in chunks:
                yield chunk

    def events(name: str) -> Any:
        def run(self: Any, input: Any, config: RunnableConfig | None = None, **given: Any) -> Any:  # noqa: A002
            ask = limited(self, config, given)
            return getattr(cls, name)(ask.model, input, ask.config, **ask.given)

        return run

    members: dict[str, Any] = {"invoke": invoke, "ainvoke": ainvoke, "stream": stream, "astream": astream}
    members |= {name: events(name) for name in EVENTS if hasattr(cls, name)}
    return _made(cls, settings, members | {"generate": _whole(cls, settings), "agenerate": _awhole(cls, settings)})


def _made(cls: type[Any], settings: _Settings, members: dict[str, Any]) -> type[Any]:
    # Found by its name, a class made here would be another one: pickled, it could not go to another process.
    members["__reduce_ex__"] = lambda self, _: (_again, (_of_class(self, cls), settings.caps, settings.retry))
    about = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    metaclass: Any = type(cls)
    made: Any = metaclass(cls.__name__, (cls,), {**about, **members})
    made.__finops_plain__ = made  # What tags its requests later must not take it for the class below.
    return cast("type[Any]", made)


def _of_class(model: Model, cls: type[Any]) -> Model:
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", cls)
    return cast("Model", copy)


# --- one request -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """A request as it is made: with a bound, and a tag that tells of it, or as it was given."""

    model: Any
    config: RunnableConfig
    given: Mapping[str, Any]
    cap: int | None
    own: int | None = None
    """A bound of the user's that is smaller than the cap."""
    whole: tuple[Any, RunnableConfig, Mapping[str, Any]]
    """The same without the cap."""


def _ask(model: Any, settings: _Settings, config: RunnableConfig, given: Mapping[str, Any]) -> _Ask:
    cap = _cap_of(settings.caps, model, config, given)
    whole = (model, config, given)
    found = None if cap is None else bounded(model, given, cap)
    if found is None:
        return _Ask(model=model, config=config, given=given, cap=None, whole=whole)
    tagged = told(config, {CAP_TAG: str(found.cap)}, quiet=settings.retry)
    return _Ask(model=found.model, config=tagged, given=found.given, cap=found.cap, own=found.own, whole=whole)


@dataclass(frozen=True, slots=True)
class _Below:
    """A model without its cap: the methods of the class below, so that what was put on top, such as tags, stays."""

    cls: type[Any]
    model: Any

    def invoke(self, prompt: Any, config: RunnableConfig, **given: Any) -> Any:
        token = _ASKED.set(self.model)
        try:
            return self.cls.invoke(self.model, prompt, config, **given)
        finally:
            _ASKED.reset(token)

    async def ainvoke(self, prompt: Any, config: RunnableConfig, **given: Any) -> Any:
        token = _ASKED.set(self.model)
        try:
            return await self.cls.ainvoke(self.model, prompt, config, **given)
        finally:
            _ASKED.reset(token)


def _steps(cls: type[Any], ask: _Ask, prompt: Any, settings: _Settings) -> Steps[Any]:
    """Ask with the cap, and once more without it where that was wanted and is needed."""
    retry = settings.retry and ask.cap is not None
    try:
        given = yield _call(_Below(cls, ask.model), prompt, ask.config, ask.given)
    except Exception as error:
        # OpenAI's client raises it for an answer that should fit a schema and was cut off.
        if passes(error) or not retry or type(error).__name__ != "LengthFinishReasonError":
            raise
    else:
        _check_kept(ask, given.answer)
        if not retry or not _is_cut(given.answer, ask):
            return given.answer
    model, config, whole = ask.whole
    config = told(config, {AGAIN: str(ask.cap)})
    config.pop("run_id", None)  # It is the first call's.
    given = yield _call(_Below(cls, model), prompt, config, whole)
    return given.answer


def _call(below: _Below, prompt: Any, config: RunnableConfig, given: Mapping[str, Any]) -> Call:
    return Call(runnable=cast("Any", below), prompt=prompt, config=config, settings=given)


def _is_cut(answer: object, ask: _Ask) -> bool:
    """Whether the cap cut it off; where the user's own bound did, it would do so again."""
    if not isinstance(answer, AIMessage) or ended_by(answer) not in CUT_OFF:
        return False
    usage = answer.usage_metadata
    return ask.own is None or usage is None or usage["output_tokens"] > ask.own


def _check_kept(ask: _Ask, answer: object) -> None:
    """Say it once where a server does not keep to the limit: some do not know its name, and answer on."""
    usage = answer.usage_metadata if isinstance(answer, AIMessage) else None
    if ask.cap is not None and usage is not None and usage["output_tokens"] > ask.cap * _answers(ask):
        warn_once(
            f"cap_answers: {type(ask.model).__name__} was to answer with {ask.cap:,} tokens at most and took more: its "
            "server does not know the limit by the name it is sent. Give it one of your own in extra_body, such as "
            "extra_body={'max_tokens': 1000}: it is lowered to the cap"
        )


def _answers(ask: _Ask) -> int:
    """How many answers are asked for at once: each has the limit for itself, and the usage is that of all."""
    nested = getattr(ask.model, "model_kwargs", None) or {}
    count = ask.given.get("n") or nested.get("n") or getattr(ask.model, "n", None)
    return count if type(count) is int and count > 1 else 1


def _cap_of(
    caps: AnswerCaps | dict[str, int], model: Any, config: RunnableConfig, given: Mapping[str, Any]
) -> int | None:
    who = _whose(config)
    if isinstance(caps, AnswerCaps):
        return caps.tokens(who.agent_id, who.node_path, _name(model, given))
    path = who.node_path
    return None if path is None else caps.get(path, caps.get(path.rpartition("/")[2]))


def _whose(config: RunnableConfig) -> Attribution:
    """Whose call this is, and in which node, as the ledger will have it."""
    metadata = _metadata(config)
    handler = handler_in(config)
    known = None if handler is None else handler.tell(whose, handler.recorder, metadata)
    namespace = metadata.get(NAMESPACE)
    path = node_path(namespace) if isinstance(namespace, str) and namespace else None
    if known is None:
        return attribution(said(metadata), NO_ATTRIBUTION, graph_name=None, path=path)
    return replace(known, node_path=path) if known.node_path is None else known  # The handler is new to this run.


def _metadata(config: RunnableConfig) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    # Whoever gives metadata of their own takes the place of the node's in the config, and not in the callbacks'.
    for place in (var_child_runnable_config.get(), config):
        if place is not None:
            metadata |= getattr(place.get("callbacks"), "metadata", None) or {}
            metadata |= place.get("metadata") or {}
    return metadata


def _name(model: Any, given: Mapping[str, Any]) -> str | None:
    asked = getattr(model, "_get_ls_params", None)
    name = dict(asked(**given)).get("ls_model_name") if callable(asked) else None
    return name if isinstance(name, str) else None


# --- several prompts at once -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """Prompts that are asked with one cap, and their places among all."""

    ask: _Ask
    places: list[int]
    size: int
    """Of all."""

    def arguments(self, prompts: Any, stop: Any, callbacks: Any, running: Mapping[str, Any]) -> dict[str, Any]:
        """What its prompts are asked with."""
        listed = {"callbacks": callbacks, **running}
        if self.ask.cap is not None:
            listed["metadata"] = _telling(self.ask, callbacks, running.get("metadata"))
        if len(self.places) == self.size:
            return {**self.ask.given, "stop": stop, **listed, PROMPTS: prompts}
        taken = {
            name: [value[place] for place in self.places] if isinstance(value, list) else value
            for name, value in {**listed, PROMPTS: prompts}.items()
        }
        return {**self.ask.given, "stop": stop, **taken}


def _whole(cls: type[Any], settings: _Settings) -> Any:
    """`generate`, which `batch` of a completion model comes to as well. It asks for nothing again."""

    name = _first_of(cls.generate)

    @functools.wraps(cls.generate)
    def generate(self: Any, prompts: Any = None, /, stop: Any = None, callbacks: Any = None, **given: Any) -> Any:
        prompts = _asked(name, prompts, given)
        if _ASKED.get() is self:
            return cls.generate(self, prompts, stop, callbacks, **given)
        parts, running = _parts(self, settings, prompts, callbacks, given)
        found = []
        for part in parts:
            arguments = part.arguments(prompts, stop, callbacks, running)
            found.append(cls.generate(part.ask.model, arguments.pop(PROMPTS), **arguments))
        return _joined(parts, found)

    return generate


def _awhole(cls: type[Any], settings: _Settings) -> Any:
    """The same, in async code."""

    name = _first_of(cls.agenerate)

    @functools.wraps(cls.agenerate)
    async def agenerate(
        self: Any, prompts: Any = None, /, stop: Any = None, callbacks: Any = None, **given: Any
    ) -> Any:
        prompts = _asked(name, prompts, given)
        if _ASKED.get() is self:
            return await cls.agenerate(self, prompts, stop, callbacks, **given)
        parts, running = _parts(self, settings, prompts, callbacks, given)
        found = []
        for part in parts:
            arguments = part.arguments(prompts, stop, callbacks, running)
            found.append(await cls.agenerate(part.ask.model, arguments.pop(PROMPTS), **arguments))
        return _joined(parts, found)

    return agenerate


def _first_of(method: Any) -> str:
    """What the class calls the prompts: `messages` or `prompts`, which a caller may name."""
    return list(inspect.signature(method).parameters)[1]


def _asked(name: str, prompts: Any, given: dict[str, Any]) -> Any:
    """The prompts, taken out of the named arguments where they are there."""
    if prompts is None and name not in given:
        raise TypeError(f"missing the argument {name!r}: what to ask")
    return given.pop(name) if prompts is None else prompts


def _parts(
    model: Any, settings: _Settings, prompts: Any, callbacks: Any, given: dict[str, Any]
) -> tuple[list[_Part], dict[str, Any]]:
    """The prompts by their caps, and what they are run with: in a batch each may have a config of its own."""
    running = {name: value for name, value in given.items() if name in RUNNING}
    settings = replace(settings, retry=False)
    own = {name: value for name, value in given.items() if name not in RUNNING}
    metadata = running.get("metadata")
    if not _is_each(callbacks) or len(callbacks) != len(prompts) or isinstance(metadata, Mapping):
        ask = _ask(model, settings, _config(callbacks, metadata), own)
        return [_Part(ask, list(range(len(prompts))), len(prompts))], running
    found: dict[int | None, _Part] = {}
    for place, each in enumerate(callbacks):
        said = metadata[place] if isinstance(metadata, list) and len(metadata) == len(prompts) else None
        ask = _ask(model, settings, _config(each, said), own)
        found.setdefault(ask.cap, _Part(ask, [], len(prompts))).places.append(place)
    return list(found.values()), running


def _is_each(callbacks: Any) -> bool:
    """Whether each prompt has callbacks of its own, as LangChain tells it."""
    return (
        isinstance(callbacks, list) and bool(callbacks) and isinstance(callbacks[0], list | BaseCallbackManager | None)
    )


def _config(callbacks: Any, metadata: Any) -> RunnableConfig:
    return ensure_config({"callbacks": callbacks, "metadata": metadata if isinstance(metadata, dict) else {}})


def _telling(ask: _Ask, callbacks: Any, metadata: Any) -> Any:
    """The metadata with the tag of the cap, beside the tags that are there."""

    def one(each: Any, said: Any) -> dict[str, Any]:
        config = _config(each, said)
        tags = _metadata(config).get("tags")
        return {**(said or {}), "tags": {**(tags if isinstance(tags, Mapping) else {}), CAP_TAG: str(ask.cap)}}

    if not _is_each(callbacks):
        return one(callbacks, metadata)
    listed = metadata if isinstance(metadata, list) else [metadata] * len(callbacks)
    return [one(each, said) for each, said in zip(callbacks, listed, strict=False)]


def _joined(parts: list[_Part], found: list[LLMResult]) -> LLMResult:
    """The answers in the order of their prompts; of several parts, what each server said beside is left out."""
    for part, result in zip(parts, found, strict=True):
        for each in result.generations:
            if each and isinstance(each[0], ChatGeneration):
                _check_kept(part.ask, each[0].message)
    if len(found) == 1:
        return found[0]
    places = [place for part in parts for place in part.places]
    answers = [each for result in found for each in result.generations]
    runs = [run for result in found for run in result.run or ()]
    ordered = sorted(range(len(places)), key=places.__getitem__)
    return LLMResult(
        generations=[answers[at] for at in ordered],
        run=[runs[at] for at in ordered] if len(runs) == len(places) else None,
    )
