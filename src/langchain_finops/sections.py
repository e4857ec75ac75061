"""Bookkeeping that a thread must not begin anew in the middle of it.

Python's garbage collector closes dropped streams wherever it happens to run, which may be in our own bookkeeping, and
LangChain then tells us of the stream's end there and then, on the same thread. Locks are no help: one that the thread
holds already is waited for forever, and a re-entrant one lets it change what is half changed. So what comes meanwhile
waits until the thread is through. Locks are re-entrant all the same, for what cannot wait because it returns something.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["here", "leave", "section"]


class Here(threading.local):
    """How deep this thread is in sections, and what waits until it is out of all of them."""

    depth = 0
    catching_up = False

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], object]] = deque()


here: Final = Here()


def leave() -> None:
    """End a section; the outermost one's end does what came meanwhile, in order."""
    here.depth -= 1
    # What is done here has sections of its own: without the flag a thousand streams dropped together would nest.
    if here.waiting and not here.depth and not here.catching_up:
        here.catching_up = True
        try:
            while here.waiting:
                here.waiting.popleft()()
        finally:
            here.catching_up = False


class _Section:
    """`with section:` marks such bookkeeping."""

    __slots__ = ()

    def __enter__(self) -> None:
        here.depth += 1

    def __exit__(self, *_: object) -> None:
        leave()


section: Final = _Section()
