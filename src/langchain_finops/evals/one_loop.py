"""One event loop for all that a process runs, one after the other: a client's kept connections belong to their loop.

Each `asyncio.run` opens a loop and closes it. An SDK's client outlives it, and its next request fails on a connection
that belonged to it ("Event loop is closed"); so would the judges and targets of a second run in the same process.
"""

import asyncio
import atexit
import ctypes
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from langchain_finops.errors import BadArguments
from langchain_finops.evals.exits import ProcessExit

__all__ = ["Loop", "result_of", "run_on_loop"]

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop
_kept: list[asyncio.Runner] = []
"""The one that is in use, if any."""
_lock = threading.Lock()


def run_on_loop(start: Callable[[], Coroutine[Any, Any, T]], *, instead: str) -> T:
    """Run what `start` returns, as `asyncio.run` does, but on a loop that stays open for the next.

    What it leaves running is cancelled at its end, and Ctrl-C ends it, both as ever. Where another thread is on that
    loop, on one of its own. Raises BadArguments in code that has a running event loop, which is to await `instead`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise BadArguments(f"an event loop is running here, as in a notebook or a server: use `await {instead}(...)`")
    lock = _lock
    if not lock.acquire(blocking=False):
        return asyncio.run(start())
    try:
        return _run(start())
    finally:
        lock.release()


def result_of(promised: Awaitable[object], loop: Loop | None) -> object:
    """What is promised, awaited on a loop that another thread runs; None: on one of its own."""
    waiting = _awaited(promised)
    return asyncio.run(waiting) if loop is None else asyncio.run_coroutine_threadsafe(waiting, loop).result()


async def _awaited(promised: Awaitable[object]) -> object:
    try:
        return await promised
    except SystemExit as error:  # It would end the loop, and with it the run.
        raise ProcessExit(f"SystemExit: {error.code}") from error


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    if not _kept:
        _kept.append(asyncio.Runner(loop_factory=asyncio.new_event_loop))
    runner = _kept[0]
    try:
        try:
            return runner.run(coroutine, context=copy_context())
        finally:
            runner.run(_cancel_the_rest(), context=copy_context())
    except (KeyboardInterrupt, SystemExit):
        # Who wants the process to end does not wait for what hangs on this loop: closed, as asyncio.run would have it.
        _kept.remove(runner)
        runner.close()
        raise


async def _cancel_the_rest() -> None:
    """Else what a target left running would go on, and spend, in the middle of the next run."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _close() -> None:
    for runner in _kept:
        runner.get_loop().close()  # Not the runner: nobody's code is to run on the way out.


def _leave_to_parent() -> None:
    global _lock  # noqa: PLW0603  It may have been held by a thread that is not here.
    for runner in _kept:
        # Never freed: it would close itself, and with that take the parent's sockets out of the selector they share.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(runner.get_loop()))
    _kept.clear()
    _lock = threading.Lock()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
