"""Metering everything in the process without touching its code, raw threads and `callbacks=[]` included."""

import threading
from contextvars import ContextVar
from typing import cast

from langchain_core.tracers.context import register_configure_hook

from langchain_finops.langchain.handler import FinOpsHandler

__all__ = ["attach", "detach"]


class _Attached:
    """What LangChain asks, like a ContextVar, for the handler to add to every run.

    No ContextVar, because its value is lost in new threads and its default can never be changed.
    """

    def __init__(self) -> None:
        self.handler: FinOpsHandler | None = None
        self.registered = False
        self.lock = threading.Lock()

    def get(self) -> FinOpsHandler | None:
        """The handler attached now."""
        return self.handler


_attached = _Attached()


def attach(handler: FinOpsHandler | None = None) -> FinOpsHandler:
    """Meter everything in the process with this handler, or with a new one; replaces the one attached before.

    A FinOpsHandler that is passed to a run explicitly wins there.
    """
    handler = FinOpsHandler() if handler is None else handler
    with _attached.lock:
        _attached.handler = handler
        if not _attached.registered:  # LangChain keeps hooks for ever: a second one would ask twice.
            hook = cast("ContextVar[FinOpsHandler | None]", _attached)
            register_configure_hook(hook, inheritable=True, handle_class=FinOpsHandler)
            _attached.registered = True
    return handler


def detach() -> FinOpsHandler | None:
    """Stop metering what is started from now on; returns the handler that was attached, if any."""
    with _attached.lock:
        handler, _attached.handler = _attached.handler, None
    return handler
