"""Keeps code under test from ending the process: a SystemExit in any of its tasks would end the event loop."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ProcessExit", "no_exits"]


class ProcessExit(Exception):
    """Code under test raised SystemExit."""


@contextmanager
def no_exits(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Turn SystemExit into ProcessExit in every task that begins inside."""
    before = loop.get_task_factory()

    def begin(loop: asyncio.AbstractEventLoop, coroutine: Any, /, **options: Any) -> Any:
        guarded = _Guarded(coroutine)
        return asyncio.Task(guarded, loop=loop, **options) if before is None else before(loop, guarded, **options)

    loop.set_task_factory(begin)
    try:
        yield
    finally:
        loop.set_task_factory(before)


class _Guarded(Coroutine[Any, Any, Any]):
    """A coroutine step by step; wrapped in another one it would never be awaited where its task is cancelled early."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except SystemExit as error:
            raise ProcessExit(f"SystemExit: {error.code}") from error

    def throw(self, error: Any, *older: Any) -> Any:
        try:
            return self._inner.throw(error, *older)
        except SystemExit as exit_:
            raise ProcessExit(f"SystemExit: {exit_.code}") from exit_

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()
