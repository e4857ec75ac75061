"""Where a model's bound on its output tokens stands, and a request with a cap in each of these places."""

import functools
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_finops.langchain.affording import thinking_tokens
from langchain_finops.langchain.extract import MAX_TOKENS
from langchain_finops.levers.tiers import warn_once

__all__ = ["Bounded", "bounded"]

PLACES: Final = ("model_kwargs", "extra_body")
"""Where a user can put a bound besides a field or an argument of that name."""
RESPONSES_LEAST: Final = 16
"""OpenAI's Responses API refuses a request with fewer `max_output_tokens`."""
NO_LIMIT: Final = -1
"""What models take for no limit, if they take a number for it: any negative one is read so."""
REQUESTS: Final = ("_generate", "_agenerate", "_stream", "_astream", "_call", "_acall")
"""What LangChain hands a call's arguments to, of a model that is not told them otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A request with its cap."""

    model: Any
    given: Mapping[str, Any]
    cap: int
    """As it is sent."""
    own: int | None
    """A smaller bound of the user's, which may be the one that the provider takes."""


def bounded(model: Any, given: Mapping[str, Any], cap: int) -> Bounded | None:
    """The request with the cap wherever a larger bound stands; None where all are as small, or none can be set."""
    if _is_response(model, given):
        cap = max(cap, RESPONSES_LEAST)
    thinking = thinking_tokens(model, given)
    if cap <= thinking:
        warn_once(
            f"cap_answers: a cap of {cap:,} tokens leaves no answer beside {thinking:,} tokens of thinking that the "
            "model is told to take: it is not set"
        )
        return None
    plain, settings = _without_none(model, given)
    stated = _Stated(plain, settings)
    if not stated.bounds:
        return _added(plain, settings, cap)
    if max(stated.bounds) <= cap and plain is model and settings == given:
        return None
    model, given = stated.lowered(cap)
    least = min(stated.bounds)
    return Bounded(model=model, given=given, cap=cap, own=least if least < cap else None)


def _without_none(model: Any, given: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The request without a limit that is None: it would be sent in the place of the cap."""
    lifted = {name: NO_LIMIT for name in _bounds_in(_fields_of(model)) if given.get(name, 0) is None}
    settings = {**_stating(given), **lifted}
    update: dict[str, Any] = {}
    for place in PLACES:
        if isinstance(settings.get(place), Mapping):
            settings[place] = _stating(settings[place])
        own = getattr(model, place, None)
        if isinstance(own, Mapping) and _stating(own) != own:
            update[place] = _stating(own)
    return (model.model_copy(update=update) if update else model), settings


def _stating(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if value is not None or name not in MAX_TOKENS}


def _added(model: Any, given: Mapping[str, Any], cap: int) -> Bounded | None:
    """The same where there is no bound yet."""
    name = next((each for each in MAX_TOKENS if each in type(model).model_fields), None)
    if name is not None:
        return Bounded(model=model.model_copy(update={name: cap}), given=given, cap=cap, own=None)
    cls: Any = type(model)
    if not _takes_arguments(cls):
        warn_once(
            f"cap_answers: {cls.__name__} has no field for a limit such as {MAX_TOKENS[0]}, and takes no "
            "argument of that name: its answers are not capped"
        )
        return None
    return Bounded(model=model, given={**given, MAX_TOKENS[0]: cap}, cap=cap, own=None)


@functools.lru_cache(maxsize=256)
def _takes_arguments(cls: type[Any]) -> bool:
    methods = [getattr(cls, name, None) for name in REQUESTS]
    return all(_takes(method) for method in methods if callable(method))


def _takes(method: Any) -> bool:
    parameters = inspect.signature(method).parameters
    return MAX_TOKENS[0] in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _is_response(model: Any, given: Mapping[str, Any]) -> bool:
    """Whether a request goes to OpenAI's Responses API."""
    asked = getattr(model, "_use_responses_api", None)
    if not callable(asked):
        return False
    try:
        return bool(asked({**(getattr(model, "model_kwargs", None) or {}), **given}))
    except Exception:  # noqa: BLE001  It is the integration's own, and may change; the cap is then sent as it is.
        return False


class _Stated:
    """The bounds that a user has set, and where they stand: several may, and the provider takes one."""

    def __init__(self, model: Any, given: Mapping[str, Any]) -> None:
        self._model, self._given = model, given
        self._arguments = _bounds_in(given)
        self._fields = _bounds_in(_fields_of(model))
        nested = {place: _bounds_in(given.get(place) or getattr(model, place, None)) for place in PLACES}
        self._nested = {place: found for place, found in nested.items() if found}
        self.bounds = [*self._arguments.values(), *self._fields.values()]
        self.bounds += [value for found in self._nested.values() for value in found.values()]

    def lowered(self, cap: int) -> tuple[Any, Mapping[str, Any]]:
        """Model and arguments with each of them that is above the cap lowered to it."""
        given = {**self._given, **_at_most(self._arguments, cap)}
        update: dict[str, Any] = _at_most(self._fields, cap)
        for place, names in self._nested.items():
            lower = _at_most(names, cap)
            if isinstance(given.get(place), Mapping):
                given[place] = {**given[place], **lower}
            else:
                update[place] = {**getattr(self._model, place), **lower}
        return (self._model.model_copy(update=update) if update else self._model), given


def _fields_of(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name, None) for name in MAX_TOKENS if name in type(model).model_fields}


def _bounds_in(source: object) -> dict[str, int]:
    """The bounds by their names; no limit is one above all caps."""
    if not isinstance(source, Mapping):
        return {}
    found = {name: source[name] for name in MAX_TOKENS if type(source.get(name)) is int and source[name] != 0}
    return {name: bound if bound > 0 else sys.maxsize for name, bound in found.items()}


def _at_most(bounds: Mapping[str, int], cap: int) -> dict[str, Any]:
    return {name: min(bound, cap) for name, bound in bounds.items()}
