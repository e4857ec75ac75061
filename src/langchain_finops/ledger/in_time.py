"""Reads that a run waits for. They end in time or fail; those of a report take as long as they need."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["asked_at", "in_time"]

_ASKED_AT: Final[ContextVar[float | None]] = ContextVar("finops_asked_at", default=None)


@contextmanager
def in_time() -> Iterator[None]:
    """What is read of a ledger in this block takes its `hold_timeout` at most, all of it together.

    Readers raise LedgerError where that is not enough. A block within another one is a part of it. It must not await:
    what runs meanwhile would be in a hurry, too.
    """
    outer = _ASKED_AT.get()
    token = _ASKED_AT.set(time.monotonic() if outer is None else outer)
    try:
        yield
    finally:
        _ASKED_AT.reset(token)


def asked_at() -> float | None:
    """When somebody began to wait, by `time.monotonic()`; None where nobody minds how long a read takes."""
    return _ASKED_AT.get()
