"""`cache_policy()`: prompts ask for the provider's cache where that pays, by what was seen of them so far.

The marks are set where a model is called, above its callbacks: budgets and the meter see what is sent.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ensure_config
from pydantic import SecretStr

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.tagging_users import key_of
from langchain_finops.levers.cache_marks import (
    DIRECT,
    Dialect,
    cache_key,
    dialect_of,
    is_marked,
    loaded,
    with_breakpoints,
)
from langchain_finops.levers.cache_plans import NOTHING, Plan, plan
from langchain_finops.levers.pressure import handler_in
from langchain_finops.levers.seen_prefixes import Seen, SeenPrefixes
from langchain_finops.levers.tiers import warn_once
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cache_terms import caches_of

__all__ = ["PromptCachePolicy", "cache_policy"]

R = TypeVar("R", bound=Runnable[Any, Any])
T = TypeVar("T")
TTLS: Final = ("5m", "1h")
"""Anthropic's."""
SHAPING: Final = ("tool_choice", "response_format", "output_config", "output_format", "thinking", "instructions")
"""Settings that are a part of the prompt, or without which another request cannot read what was cached."""
ACCOUNT: Final = (
    *("anthropic_api_url", "anthropic_api_key", "openai_api_base", "openai_api_key", "openai_organization"),
    *("azure_endpoint", "deployment_name"),
)
"""Fields of a model: where it asks, and as whom. Nobody reads what another account has cached."""
ONE: Final = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A request as it is sent."""

    messages: Sequence[BaseMessage]
    settings: dict[str, Any]
    seen: Seen | None = None


@dataclass(frozen=True, slots=True)
class _Unread:
    """What could not be read, and is not tried again: the next try could be on an event loop."""

    why: str


class PromptCachePolicy:
    """Has models ask for prompt caches where that pays. Made by `cache_policy(...)`; one serves all threads."""

    def __init__(
        self,
        *,
        ttls: tuple[str, ...] = TTLS,
        expected_uses: int = 0,
        prices: PriceBook | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ttls, self._expected_uses, self._prices, self._clock = ttls, expected_uses, prices, clock
        self._prefixes = SeenPrefixes(clock)
        self._classes: dict[type[BaseChatModel], type[BaseChatModel]] = {}
        self._default: PriceBook | _Unread | None = None
        self._secret: bytes | _Unread | None = None

    def __reduce__(self) -> tuple[object, ...]:  # What was seen stays in the process that saw it.
        return _remade, (self._ttls, self._expected_uses, self._prices, self._clock)

    def bind(self, model: R) -> R:
        """A copy of a model that asks for caches, of the same class and for all uses: tools, schemas, streams, tiers.

        Bindings, retries and fallbacks may be around it. One whose provider has no way to ask that is known here comes
        back as it is. Raises BadArguments for what is no model.
        """
        known: Any = model
        if not isinstance(known, Runnable):
            raise BadArguments(f"cache_policy binds chat models, and this is a {type(model).__name__}.")
        of_several = getattr(known, "with_each_model", None) if isinstance(known, BaseChatModel) else None
        if callable(of_several):  # Several models as one, such as tiers: it sends nothing itself.
            return of_several(self.bind)  # type: ignore[no-any-return]
        if isinstance(known, RunnableBindingBase):
            return known.model_copy(update={"bound": self.bind(known.bound)})  # type: ignore[return-value]
        if isinstance(known, RunnableWithFallbacks):
            both = {"runnable": self.bind(known.runnable), "fallbacks": [self.bind(each) for each in known.fallbacks]}
            return known.model_copy(update=both)  # type: ignore[return-value]
        if (
            not isinstance(known, BaseChatModel)
            or dialect_of(type(known)) is None
            or hasattr(known, "__finops_caches__")
        ):
            return model
        copy = known.model_copy()
        object.__setattr__(copy, "__class__", self._class_of(type(known)))
        return copy  # type: ignore[return-value]

    # --- a call ------------------------------------------------------------------------------------------------------

    def prepared(
        self, model: BaseChatModel, messages: Sequence[BaseMessage], callbacks: Any, settings: dict[str, Any]
    ) -> _Prepared:
        """The request to send. A fault of ours sends it as it was."""
        try:
            return self._prepared(model, messages, callbacks, settings)
        except Exception as error:  # noqa: BLE001  A cheaper prompt is never worth an answer.
            warn_once(f"cache_policy: a prompt is sent without marks, because of a fault of ours ({error!r})")
            return _Prepared(messages=messages, settings=settings)

    async def aprepared(
        self, model: BaseChatModel, messages: Sequence[BaseMessage], callbacks: Any, settings: dict[str, Any]
    ) -> _Prepared:
        """The same on an event loop, which reads no files: what is missing is loaded beside it, once."""
        with suppress(Exception):  # What is wrong is met again, and told, by `prepared`.
            if self._is_missing_files(model, callbacks):
                await asyncio.to_thread(self._load, model, callbacks)
        return self.prepared(model, messages, callbacks, settings)

    def answered(self, request: _Prepared) -> None:
        """Its answer has begun."""
        if request.seen is not None:
            self._prefixes.answered(request.seen)

    def _prepared(
        self, model: BaseChatModel, messages: Sequence[BaseMessage], callbacks: Any, settings: dict[str, Any]
    ) -> _Prepared:
        dialect = dialect_of(type(model))
        if dialect is None or is_marked(dialect, model, messages, settings):
            return _Prepared(messages=messages, settings=settings)
        tools = loaded(settings.get("tools") or ())
        system, rest = _split(messages)
        metadata = dict(model._get_ls_params())  # noqa: SLF001  What callbacks are told; it has no public name.
        seller = model._llm_type  # noqa: SLF001  What the model itself goes by.
        shape = [metadata.get("ls_model_name"), *_account(model), *(settings.get(name) for name in SHAPING)]
        seen = self._prefixes.note([seller, *shape], tools, system, rest, has_runs=seller == DIRECT)
        chosen = self._plan(dialect, metadata, callbacks, seen)
        if not chosen:
            return _Prepared(messages=messages, settings=settings, seen=seen)
        if dialect == "anthropic":
            messages, settings = with_breakpoints(chosen, model, messages, settings)
        else:
            key = cache_key(chosen, tools, system, self._key())
            settings = settings if key is None else {**settings, "prompt_cache_key": key}
        return _Prepared(messages=messages, settings=settings, seen=seen)

    def _plan(self, dialect: Dialect, metadata: Mapping[str, Any], callbacks: Any, seen: Seen) -> Plan:
        book = self._book(callbacks)
        key = book.read(ONE, {}, metadata, at=datetime.now(UTC)).key
        terms = caches_of(book, key, prompt_tokens=max(1, seen.tokens))
        if dialect == "anthropic":
            terms = tuple(each for each in terms if each.name in self._ttls)
        else:  # A time that the provider names as the longest is none to count on.
            terms = tuple(each for each in terms if not each.is_longest)
        if not any(each.break_even_reads is not None for each in terms):
            warn_once(f"cache_policy: no price of a prompt cache is known for {key.model}; nothing is set for it")
            return NOTHING
        return plan(terms, seen, expected_uses=self._expected_uses)

    def _book(self, callbacks: Any) -> PriceBook:
        if self._prices is not None:
            return self._prices
        handler = handler_in(RunnableConfig(callbacks=callbacks))
        if handler is not None:
            return handler.recorder.meter.prices
        if self._default is None:  # Kept: a book finds a price slowly, and then remembers it.
            self._default = _read(PriceBook.default)
        return _known(self._default)

    def _key(self) -> bytes:
        if self._secret is None:
            self._secret = _read(lambda: key_of(None))
        return _known(self._secret)

    def _load(self, model: BaseChatModel, callbacks: Any) -> None:
        """Read what is missing, whether or not this prompt needs it: the next one may."""
        with suppress(RuntimeError):
            self._book(callbacks)
        if dialect_of(type(model)) == "openai":
            with suppress(RuntimeError):
                self._key()

    def _is_missing_files(self, model: BaseChatModel, callbacks: Any) -> bool:
        """Whether the key or the default prices have to be read, which is at the first calls only."""
        if self._secret is None and dialect_of(type(model)) == "openai":
            return True
        is_own = self._prices is not None or self._default is not None
        return not is_own and handler_in(RunnableConfig(callbacks=callbacks)) is None

    def _class_of(self, cls: type[BaseChatModel]) -> type[BaseChatModel]:
        """A class like this one, name and all, that asks for caches by this policy."""
        known = self._classes.get(cls)
        if known is None:
            known = self._classes[cls] = _caching_class(cls, self)
        return known


def cache_policy(
    *,
    ttls: Sequence[str] = TTLS,
    expected_uses: int | None = None,
    prices: PriceBook | None = None,
    clock: Callable[[], float] = time.time,
) -> PromptCachePolicy:
    """A policy that asks for prompt caches only where they pay, for `bind(model)` or `PromptCacheMiddleware`.

    `ttls`: which of Anthropic's caches may be used. `expected_uses`: how often a beginning of a prompt is sent again
    in time, where you know that before it was seen; until so many were seen, the missing ones count. `prices`: None
    for those of the run's FinOpsHandler, else the default ones. `clock`: seconds, as `time.time`.
    Raises BadArguments with all that is wrong with them.
    """
    names = (ttls,) if isinstance(ttls, str) else tuple(ttls)
    faults = [f"ttls has {name!r}: use {' or '.join(map(repr, TTLS))}" for name in names if name not in TTLS]
    if not names:
        faults.append("ttls is empty: name one at least")
    if expected_uses is not None and (type(expected_uses) is not int or expected_uses < 1):
        faults.append(f"expected_uses={expected_uses!r}: a whole number of 1 or more, or None for what was seen")
    book: object = prices
    if book is not None and not isinstance(book, PriceBook):
        faults.append(f"prices is a {type(prices).__name__}: give a PriceBook, or None")
    now: object = clock
    if not callable(now):
        faults.append(f"clock is a {type(clock).__name__}: give a function that returns seconds")
    if faults:
        raise BadArguments(f"cache_policy: {'; '.join(faults)}.")
    return PromptCachePolicy(ttls=names, expected_uses=expected_uses or 0, prices=prices, clock=clock)


def _remade(
    ttls: tuple[str, ...], expected_uses: int, prices: PriceBook | None, clock: Callable[[], float]
) -> PromptCachePolicy:
    return PromptCachePolicy(ttls=ttls, expected_uses=expected_uses, prices=prices, clock=clock)


def _read(read: Callable[[], T]) -> T | _Unread:
    try:
        return read()
    except Exception as error:  # noqa: BLE001  Whatever it is, it is told where it is needed.
        return _Unread(repr(error))


def _known(value: T | _Unread) -> T:
    if not isinstance(value, _Unread):
        return value
    raise RuntimeError(value.why)


def _account(model: BaseChatModel) -> Iterator[Any]:
    for name in ACCOUNT:
        value = getattr(model, name, None)
        yield value.get_secret_value() if isinstance(value, SecretStr) else value


def _split(messages: Sequence[BaseMessage]) -> tuple[BaseMessage | None, Sequence[BaseMessage]]:
    """The system message, which providers read before all others, and the rest."""
    if messages and isinstance(messages[0], SystemMessage):
        return messages[0], messages[1:]
    return None, messages


# --- a model that asks -----------------------------------------------------------------------------------------------


def _unbound(model: BaseChatModel, cls: type[BaseChatModel]) -> BaseChatModel:
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", cls)
    return copy


def _callbacks(config: RunnableConfig | None) -> Any:
    """Those of a call: a node that calls without a config has its run's."""
    return ensure_config(config).get("callbacks")


def _caching_class(cls: type[BaseChatModel], policy: PromptCachePolicy) -> type[BaseChatModel]:
    members: dict[str, Any] = {
        "generate": _whole(cls, policy),
        "agenerate": _awhole(cls, policy),
        "stream": _streamed(cls, policy),
        "astream": _astreamed(cls, policy),
        # Found by its name, a class made here would be another one: pickled, it could not go to another process.
        "__reduce_ex__": lambda model, _: (policy.bind, (_unbound(model, cls),)),
        "__finops_caches__": True,
    }
    about = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    metaclass: Any = type(cls)
    made: Any = metaclass(cls.__name__, (cls,), {**about, **members})
    made.__finops_plain__ = made  # What tags its requests is made of this class, and not of the one below it.
    return made  # type: ignore[no-any-return]


def _whole(cls: type[BaseChatModel], policy: PromptCachePolicy) -> Any:
    @functools.wraps(cls.generate)
    def generate(self: Any, messages: Any, stop: Any = None, callbacks: Any = None, **settings: Any) -> Any:
        if len(messages) != 1:  # Several prompts share their settings.
            return cls.generate(self, messages, stop, callbacks, **settings)
        request = policy.prepared(self, messages[0], callbacks, settings)
        result = cls.generate(self, [list(request.messages)], stop, callbacks, **request.settings)
        policy.answered(request)
        return result

    return generate


def _awhole(cls: type[BaseChatModel], policy: PromptCachePolicy) -> Any:
    @functools.wraps(cls.agenerate)
    async def agenerate(self: Any, messages: Any, stop: Any = None, callbacks: Any = None, **settings: Any) -> Any:
        if len(messages) != 1:
            return await cls.agenerate(self, messages, stop, callbacks, **settings)
        request = await policy.aprepared(self, messages[0], callbacks, settings)
        result = await cls.agenerate(self, [list(request.messages)], stop, callbacks, **request.settings)
        policy.answered(request)
        return result

    return agenerate


def _streamed(cls: type[BaseChatModel], policy: PromptCachePolicy) -> Any:
    @functools.wraps(cls.stream)
    def stream(self: Any, input: Any, config: Any = None, *, stop: Any = None, **settings: Any) -> Iterator[Any]:  # noqa: A002
        if not self._should_stream(async_api=False, **{**settings, "stream": True}):
            yield from cls.stream(self, input, config, stop=stop, **settings)  # It invokes: `generate` prepares it.
            return
        messages = self._convert_input(input).to_messages()
        request = policy.prepared(self, messages, _callbacks(config), settings)
        inner: Any = cls.stream(self, list(request.messages), config, stop=stop, **request.settings)
        with closing(inner):
            for chunk in inner:
                policy.answered(request)
                yield chunk

    return stream


def _astreamed(cls: type[BaseChatModel], policy: PromptCachePolicy) -> Any:
    @functools.wraps(cls.astream)
    async def astream(
        self: Any,
        input: Any,  # noqa: A002
        config: Any = None,
        *,
        stop: Any = None,
        **settings: Any,
    ) -> AsyncIterator[Any]:
        messages: Any = input
        request = None
        if self._should_stream(async_api=True, **{**settings, "stream": True}):
            messages = self._convert_input(input).to_messages()
            request = await policy.aprepared(self, messages, _callbacks(config), settings)
            messages, settings = list(request.messages), request.settings
        inner: Any = cls.astream(self, messages, config, stop=stop, **settings)
        async with aclosing(inner):
            async for chunk in inner:
                if request is not None:
                    policy.answered(request)
                yield chunk

    return astream
