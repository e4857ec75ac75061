"""What was cancelled before it ended: of a bare call, tool or retriever LangChain tells nobody so."""

import asyncio
import inspect
from collections.abc import Callable
from weakref import finalize

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager

from langchain_finops.sections import here

__all__ = ["when_left"]

STARTS = frozenset({"on_chat_model_start", "on_llm_start", "on_tool_start", "on_retriever_start"})
FRAMES = 16
"""How far up the manager is looked for; it is three or four frames away."""


def when_left(
    still_open: Callable[[], bool], then: Callable[[], None], refused: Callable[[], None] | None = None
) -> None:
    """Do this once what starts here can no longer report its end, if it is still open by then.

    LangChain makes a manager for each call, and the call's coroutine holds it: it is gone when the coroutine is, be
    it by `asyncio.timeout()` in a task that goes on for days. Nor is the end told of what was never made,
    because another handler raised at its start: `refused` is done then. In sync code that is all.
    """
    manager = _manager()
    if manager is None:
        return
    may_refuse = refused is not None and sum(bool(each.raise_error) for each in manager.handlers) > 1
    if isinstance(manager, CallbackManager):
        if refused is not None and may_refuse:
            finalize(manager, _at_once, still_open, refused).atexit = False
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    turns: list[None] = []
    if may_refuse:
        loop.call_soon(turns.append, None)
    finalize(manager, _soon, loop, still_open, then, refused if may_refuse else None, turns).atexit = False


def _manager() -> AsyncCallbackManager | CallbackManager | None:
    """The manager that tells of the start which this is part of."""
    frame = inspect.currentframe()
    for _ in range(FRAMES):
        frame = None if frame is None else frame.f_back
        if frame is not None and frame.f_code.co_name in STARTS:
            manager = frame.f_locals.get("self")
            if isinstance(manager, AsyncCallbackManager | CallbackManager):
                return manager
    return None


def _soon(
    loop: asyncio.AbstractEventLoop,
    still_open: Callable[[], bool],
    then: Callable[[], None],
    refused: Callable[[], None] | None,
    turns: list[None],
) -> None:
    """Not at once: what frees the manager may be the garbage collector, in the middle of our own bookkeeping."""
    if not still_open():
        return
    # What was cancelled was waiting for something, and the loop turned meanwhile.
    if refused is not None and not turns:
        then = refused
    try:
        loop.call_soon_threadsafe(then)
    except RuntimeError:  # The loop is closed.
        _at_once(still_open, then)


def _at_once(still_open: Callable[[], bool], then: Callable[[], None]) -> None:
    if not still_open():
        return
    if here.thread.depth:
        here.thread.waiting.append(then)
    else:
        then()
