"""Makes Runnables of a suite's target, one for each configuration, before anything is bought."""

import copy
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals import models
from langchain_finops.evals.matrix import Configuration
from langchain_finops.evals.target import Target, looked_up, resolve

__all__ = ["Make", "built", "endpoint_faults", "maker"]

Make = Callable[[Configuration], object]
"""Returns the Runnable of a configuration, or an awaitable of it."""
OWN = re.compile(r"thread_id|checkpoint_.*|__.*")
"""What LangGraph itself keeps under `configurable`: a parameter of that name would mix attempts."""
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def maker(target: Target, configurations: Sequence[Configuration], roots: Sequence[Path], *, offline: bool) -> Make:
    """Find what the target names. Raises EvalError where it is not there, or is not what it is said to be.

    `offline`: nothing is sent, so that no key is needed.
    """
    with models.offline(wanted=offline):  # A module may make its model when it is imported.
        match target.kind:
            case "factory":
                return _factory(target, roots)
            case "graph":
                return _graph(target, configurations, roots)
            case "call":
                return _call(target, roots)
            case "url":
                return _url(target, offline=offline)


async def built(
    target: Target, make: Make, configurations: Iterable[Configuration], *, suite: Path
) -> dict[str, Runnable[Any, Any]]:
    """The Runnable of each configuration, by its name. Raises BadData with all that cannot be built."""
    runnables: dict[str, Runnable[Any, Any]] = {}
    failed: dict[str, list[str]] = {}
    for configuration in configurations:
        try:
            runnable = make(configuration)
            if inspect.isawaitable(runnable):
                runnable = await runnable
        except (Exception, SystemExit) as error:  # noqa: BLE001  Told with all the others.
            failed.setdefault(f"{type(error).__name__}: {_line(error)}", []).append(configuration.name)
            continue
        if isinstance(runnable, Runnable):
            runnables[configuration.name] = runnable
        else:
            what = (
                f"{target.spec!r} returned {type(runnable).__name__}, which is no Runnable; a function of inputs and "
                f"configuration is `target: {{call: {target.spec}}}`"
            )
            failed.setdefault(what, []).append(configuration.name)
    if failed:
        faults = [
            Fault(where=f"{suite}: target", what=f"cannot be built for {_named(names)}: {what}")
            for what, names in failed.items()
        ]
        raise BadData(faults)
    return runnables


def _line(error: BaseException) -> str:
    """An error's message on one line: pydantic's have many."""
    return " ".join(str(error).split())


def _named(names: Sequence[str]) -> str:
    return f"configuration{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _factory(target: Target, roots: Sequence[Path]) -> Make:
    found = looked_up(target.spec, roots)
    if isinstance(found, Runnable):
        raise EvalError(
            f"{target.spec!r} is {type(found).__name__}, and no function of a configuration: write "
            f"`target: {{graph: {target.spec}}}`"
        )
    build = resolve(target.spec, roots)
    return lambda configuration: build(configuration.for_target())


def _graph(target: Target, configurations: Sequence[Configuration], roots: Sequence[Path]) -> Make:
    found = looked_up(target.spec, roots)
    if not isinstance(found, Runnable):
        remedy = (
            "compile it" if hasattr(found, "compile") else f"a function is `{target.spec}`, or `call: {target.spec}`"
        )
        raise EvalError(f"{target.spec!r} is {type(found).__name__}, and no Runnable: {remedy}")
    own = sorted({name for each in configurations for name in each.parameters if OWN.fullmatch(name)})
    if own:
        raise EvalError(f"parameters are handed over under `configurable`, where {', '.join(own)} are LangGraph's own")
    return lambda configuration: _configured(found, configuration)


def _configured(runnable: Runnable[Any, Any], configuration: Configuration) -> Runnable[Any, Any]:
    said: RunnableConfig = {"configurable": copy.deepcopy(configuration.for_target())}
    if type(runnable).ainvoke is Runnable.ainvoke:  # A binding would hide that it blocks.
        return _Blocking(lambda inputs, config: runnable.invoke(inputs, merge_configs(said, config)))
    return runnable.with_config(said)


class _Blocking(Runnable[Any, Any]):
    """What has no coroutine: the runner gives it a thread of its own."""

    def __init__(self, work: Callable[[Any, RunnableConfig | None], object]) -> None:
        self._work = work

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002  LangChain's.
        return self._work(input, config)


class _Coroutine(Runnable[Any, Any]):
    """A coroutine function of inputs."""

    def __init__(self, work: Callable[[Any], Awaitable[object]]) -> None:
        self._work = work

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002  LangChain's.
        raise NotImplementedError("a coroutine function is awaited")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002, ARG002
        return await self._work(input)


def _call(target: Target, roots: Sequence[Path]) -> Make:
    function = resolve(target.spec, roots)
    if isinstance(function, Runnable):
        raise EvalError(f"{target.spec!r} is {type(function).__name__}: write `graph: {target.spec}`")
    try:
        inspect.signature(function).bind({}, {})
    except TypeError as error:
        raise EvalError(f"{target.spec!r} cannot be called with inputs and configuration: {error}") from error
    except ValueError:  # A built-in one tells no signature.
        pass
    whole = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    def make(configuration: Configuration) -> Runnable[Any, Any]:
        def work(inputs: Any) -> Any:
            said = copy.deepcopy(configuration.for_target())  # What one attempt does to it must not reach another.
            return function(inputs, said)

        return _Coroutine(work) if whole else _Blocking(lambda inputs, _: _settled(work(inputs)))

    return make


def _settled(answer: object) -> object:
    """A plain function's answer. Raises TypeError for a coroutine, which nobody would await in its thread."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError("the function returned an awaitable: declare it with `async def`")
    return answer


def _url(target: Target, *, offline: bool) -> Make:
    from langchain_finops.evals.endpoint import Endpoint

    names = {name for text in target.headers.values() for name in VARIABLE.findall(text)}
    missing = sorted(name for name in names if not os.environ.get(name))
    if missing and not offline:
        raise EvalError(f"its headers need {', '.join(missing)}, which the environment does not have: set it")
    headers = {name: _filled(text) for name, text in target.headers.items()}
    return lambda configuration: _Coroutine(Endpoint(target.spec, headers, configuration.for_target()).ask)


def _filled(text: str) -> str:
    return VARIABLE.sub(lambda found: os.environ.get(found[1], ""), text)


def endpoint_faults(limits: Mapping[str, object], max_usd: object, *, suite: Path) -> list[Fault]:
    """What a suite asks of an endpoint that nobody outside of it can hold: a limit must not look as if it were one."""
    given = [f"limits.{name}" for name, value in limits.items() if value is not None and name != "seconds"]
    given += [] if max_usd is None else ["max_usd"]
    what = "cannot be held behind a URL, where nothing is refused before it is spent: limit it there, and leave it out"
    return [Fault(where=f"{suite}: {name}", what=what) for name in given]
