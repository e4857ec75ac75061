"""`cap_answers(model, caps)`: a chat model whose answers are bounded by the cap of the node that it runs in.

The bound is the integration's own (`max_tokens`, `max_completion_tokens`, `num_predict`, ...), set below what LangChain
is told of: budgets hold no more than that, and its cache keeps capped answers apart from whole ones.
"""

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ensure_config, var_child_runnable_config

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.affording import thinking_tokens, whose
from langchain_finops.langchain.attribution import NAMESPACE, attribution, node_path, said
from langchain_finops.langchain.extract import MAX_TOKENS
from langchain_finops.levers.choices import CUT_OFF, ended_by
from langchain_finops.levers.pressure import handler_in
from langchain_finops.levers.steps import Call, Steps, chunk_of, drive, drive_async, passes, told
from langchain_finops.levers.tiers import warn_once
from langchain_finops.levers.verbosity import CAP_TAG, AnswerCaps, checked_caps, too_few
from langchain_finops.records import NO_ATTRIBUTION, Attribution

__all__ = ["cap_answers", "capped_within", "settings_of"]

Model = TypeVar("Model", bound=BaseChatModel | BaseLLM)
PLACES: Final = ("model_kwargs", "extra_body")
"""Where a user can put a bound besides a field or an argument of that name."""
EVENTS: Final = ("_chat_model_stream_v3", "_achat_model_stream_v3")
"""What `stream_events(version="v3")` of the model itself calls."""
AGAIN: Final = "answer_cap_again"
"""Tag of the call that asks again without the cap."""


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
    comes whole rather than streamed. Raises BadArguments.
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
    whole: tuple[Any, RunnableConfig, Mapping[str, Any]]
    """The same without the cap."""


def _ask(model: Any, settings: _Settings, config: RunnableConfig, given: Mapping[str, Any]) -> _Ask:
    cap = _cap_of(settings.caps, model, config, given)
    bounded = None if cap is None else _bounded(model, given, cap)
    if bounded is None:
        return _Ask(model=model, config=config, given=given, cap=None, whole=(model, config, given))
    tagged = told(config, {CAP_TAG: str(cap)}, quiet=settings.retry)
    return _Ask(model=bounded[0], config=tagged, given=bounded[1], cap=cap, whole=(model, config, given))


@dataclass(frozen=True, slots=True)
class _Below:
    """A model without its cap: the methods of the class below, so that what was put on top, such as tags, stays."""

    cls: type[Any]
    model: Any

    def invoke(self, prompt: Any, config: RunnableConfig, **given: Any) -> Any:
        return self.cls.invoke(self.model, prompt, config, **given)

    def ainvoke(self, prompt: Any, config: RunnableConfig, **given: Any) -> Any:
        return self.cls.ainvoke(self.model, prompt, config, **given)


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
        if not retry or not _is_cut(given.answer):
            return given.answer
    model, config, whole = ask.whole
    config = told(config, {AGAIN: str(ask.cap)})
    config.pop("run_id", None)  # It is the first call's.
    given = yield _call(_Below(cls, model), prompt, config, whole)
    return given.answer


def _call(below: _Below, prompt: Any, config: RunnableConfig, given: Mapping[str, Any]) -> Call:
    return Call(runnable=cast("Any", below), prompt=prompt, config=config, settings=given)


def _is_cut(answer: object) -> bool:
    return isinstance(answer, AIMessage) and ended_by(answer) in CUT_OFF


def _check_kept(ask: _Ask, answer: object) -> None:
    """Say it once where a server does not keep to the limit: some do not know its name, and answer on."""
    usage = answer.usage_metadata if isinstance(answer, AIMessage) else None
    if ask.cap is not None and usage is not None and usage["output_tokens"] > ask.cap:
        warn_once(
            f"cap_answers: {type(ask.model).__name__} was to answer with {ask.cap:,} tokens at most and took more: its "
            "server does not know the limit by the name it is sent. Give it one of your own in extra_body, such as "
            "extra_body={'max_tokens': 1000}: it is lowered to the cap"
        )


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
    metadata: dict[str, Any] = {}
    # Whoever gives metadata of their own takes the place of the node's in the config, and not in the callbacks'.
    for place in (var_child_runnable_config.get(), config):
        if place is not None:
            metadata |= getattr(place.get("callbacks"), "metadata", None) or {}
            metadata |= place.get("metadata") or {}
    handler = handler_in(config)
    known = None if handler is None else handler.tell(whose, handler.recorder, metadata)
    namespace = metadata.get(NAMESPACE)
    path = node_path(namespace) if isinstance(namespace, str) and namespace else None
    if known is None:
        return attribution(said(metadata), NO_ATTRIBUTION, graph_name=None, path=path)
    return replace(known, node_path=path) if known.node_path is None else known  # The handler is new to this run.


def _name(model: Any, given: Mapping[str, Any]) -> str | None:
    asked = getattr(model, "_get_ls_params", None)
    name = dict(asked(**given)).get("ls_model_name") if callable(asked) else None
    return name if isinstance(name, str) else None


def _bounded(model: Any, given: Mapping[str, Any], cap: int) -> tuple[Any, Mapping[str, Any]] | None:
    """The model and arguments with the cap wherever a larger bound stands; None where one is as small already."""
    thinking = thinking_tokens(model, given)
    if cap <= thinking:
        warn_once(
            f"cap_answers: a cap of {cap:,} tokens leaves no answer beside {thinking:,} tokens of thinking that the "
            "model is told to take: it is not set"
        )
        return None
    stated = _Stated(model, given)
    if not stated.bounds:
        name = next((each for each in MAX_TOKENS if each in type(model).model_fields), None)
        if name is None:
            return model, {**given, MAX_TOKENS[0]: cap}
        return model.model_copy(update={name: cap}), given
    if min(stated.bounds) <= cap:
        return None
    return stated.lowered(cap)


class _Stated:
    """The bounds that a user has set, and where they stand: several may, and the provider takes one."""

    def __init__(self, model: Any, given: Mapping[str, Any]) -> None:
        self._model, self._given = model, given
        self._arguments = _bounds_in(given)
        self._fields = _bounds_in({name: getattr(model, name, None) for name in type(model).model_fields})
        nested = {place: _bounds_in(given.get(place) or getattr(model, place, None)) for place in PLACES}
        self._nested = {place: found for place, found in nested.items() if found}
        self.bounds = [*self._arguments.values(), *self._fields.values()]
        self.bounds += [value for found in self._nested.values() for value in found.values()]

    def lowered(self, cap: int) -> tuple[Any, Mapping[str, Any]]:
        """Model and arguments with each of them lowered to the cap."""
        given = {**self._given, **dict.fromkeys(self._arguments, cap)}
        update: dict[str, Any] = dict.fromkeys(self._fields, cap)
        for place, names in self._nested.items():
            lower = dict.fromkeys(names, cap)
            if isinstance(given.get(place), Mapping):
                given[place] = {**given[place], **lower}
            else:
                update[place] = {**getattr(self._model, place), **lower}
        return (self._model.model_copy(update=update) if update else self._model), given


def _bounds_in(source: object) -> dict[str, int]:
    if not isinstance(source, Mapping):
        return {}
    return {name: source[name] for name in MAX_TOKENS if type(source.get(name)) is int and source[name] > 0}
