"""Tiers of models, cheapest first: what each of them can do, and what it is called with."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.extract import request_of

__all__ = ["Slot", "Tier", "chat_model_of", "checked", "prompt_tokens", "warn_once"]

log = logging.getLogger("langchain_finops")

NAME_LENGTH: Final = 64
NO_TOOLS: Final = "no_tools"
TOO_LONG: Final = "context_too_small"

_said: set[str] = set()


@dataclass(frozen=True, slots=True)
class Tier:
    """A model and what it is called, such as `Tier("worker", model)`."""

    name: str
    model: Runnable[Any, Any]
    """A chat model, or one with retries or fallbacks of its own."""
    max_input_tokens: int | None = None
    """What its context takes; None: what the model's profile says, else no bound."""


Binding = Callable[[Any], Runnable[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A tier, and what is bound to its model before it is called: nobody pays for binding tiers that are not asked."""

    tier: Tier
    binding: Binding | None = None
    has_tools: bool = False
    has_schema: bool = False

    @property
    def name(self) -> str:
        """The tier's."""
        return self.tier.name

    def bound(self, binding: Binding, *, has_tools: bool = False, has_schema: bool = False) -> "Slot":
        """The same with something bound to it."""
        earlier = self.binding
        both = binding if earlier is None else lambda model: binding(earlier(model))
        has_tools, has_schema = self.has_tools or has_tools, self.has_schema or has_schema
        return replace(self, binding=both, has_tools=has_tools, has_schema=has_schema)

    def changed(self, change: Callable[[BaseChatModel], BaseChatModel]) -> "Slot":
        """The same with another model inside of its retries and bound arguments; fallbacks stay as they are."""
        return replace(self, tier=replace(self.tier, model=_inside(self.tier.model, lambda each: _with(each, change))))

    def runnable(self) -> Runnable[Any, Any]:
        """What is called. Raises NotImplementedError or AttributeError where the model cannot do what is bound."""
        return self.tier.model if self.binding is None else _inside(self.tier.model, self.binding)

    def lacks(self, tokens: Callable[[], int]) -> str | None:
        """What it lacks for a request of so many tokens, as a short code; None where it may be asked."""
        model: Any = chat_model_of(self.tier.model)
        profile = getattr(model, "profile", None)
        known: Mapping[str, Any] = profile if isinstance(profile, Mapping) else {}
        is_chat, kind = isinstance(model, BaseChatModel), type(model)
        # LangChain's own way to an answer that fits a schema is a tool; a model's own may be another.
        by_tool = self.has_schema and is_chat and kind.with_structured_output is BaseChatModel.with_structured_output
        if self.has_tools or by_tool:
            cannot = is_chat and kind.bind_tools is BaseChatModel.bind_tools
            if cannot or known.get("tool_calling") is False:
                return NO_TOOLS
        most = self.tier.max_input_tokens
        most = known.get("max_input_tokens") if most is None else most
        return TOO_LONG if isinstance(most, int) and tokens() > most else None


def _with(model: Any, change: Callable[[BaseChatModel], BaseChatModel]) -> Any:
    return change(model) if isinstance(model, BaseChatModel) else model


def _inside(model: Runnable[Any, Any], binding: Binding) -> Runnable[Any, Any]:
    """Bind inside of a retry or of bound arguments: LangChain would lose them."""
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": _inside(model.bound, binding)})
    return binding(model)


def checked(tiers: Sequence[Any]) -> tuple[Tier, ...]:
    """The tiers, if they can be used. Raises BadArguments with all that is wrong with them."""
    faults = [] if len(tiers) >= 2 else [f"{len(tiers)} given: two at least, cheapest first, make a choice"]
    for place, tier in enumerate(tiers):
        if not isinstance(tier, Tier):
            faults.append(f"number {place + 1} is a {type(tier).__name__}: give Tier(name, model)")
            continue
        name: object = tier.name
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
            faults.append(f"number {place + 1} is named {tier.name!r}: a name has 1 to {NAME_LENGTH} letters")
        elif name in [each.name for each in tiers[:place] if isinstance(each, Tier)]:
            faults.append(f"two are named {tier.name!r}: the ledger could not tell them apart")
        model: object = tier.model
        if not isinstance(model, Runnable):
            faults.append(f"{tier.name!r} has a {type(model).__name__} for a model: give a chat model")
        most = tier.max_input_tokens
        if most is not None and (type(most) is not int or most < 1):
            faults.append(f"{tier.name!r} has max_input_tokens={most!r}: a whole number of 1 or more, or None")
    if faults:
        raise BadArguments(f"tiers: {'; '.join(faults)}.")
    return tuple(tiers)


def chat_model_of(runnable: object) -> object:
    """The chat model inside of bindings, retries and fallbacks, the first of several."""
    for _ in range(8):
        inner = getattr(runnable, "bound", None) if not isinstance(runnable, BaseChatModel) else None
        inner = inner or (None if isinstance(runnable, BaseChatModel) else getattr(runnable, "runnable", None))
        if not isinstance(inner, Runnable):
            return runnable
        runnable = inner
    return runnable


def prompt_tokens(messages: Sequence[BaseMessage]) -> int:
    """Estimated tokens of messages, tools not counted."""
    return request_of(messages, {}, {}).prompt_tokens


def warn_once(sentence: str) -> None:
    """Log something once in this process, however often it is met."""
    if sentence not in _said and len(_said) < 1_000:
        _said.add(sentence)
        log.warning("%s", sentence)
