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

__all__ = ["here", "section"]


class Thread:
    """How deep a thread is in sections, and what waits until it is out of all of them."""

    __slots__ = ("catching_up", "depth", "waiting")

    def __init__(self) -> None:
        self.depth = 0
        self.waiting: deque[Callable[[], object]] = deque()
        self.catching_up = False

    def leave(self) -> None:
        """End a section; the outermost one's end does what came meanwhile, in order."""
        self.depth -= 1
        # What is done here has sections of its own: without the flag a thousand streams dropped together would nest.
        if self.waiting and not self.depth and not self.catching_up:
            self.catching_up = True
            try:
                while self.waiting:
                    self.waiting.popleft()()
            finally:
                self.catching_up = False


class Here(threading.local):
    """This thread. Hooks look it up once: what is thread-local takes several times as long to read as a plain slot."""

    def __init__(self) -> None:
        self.thread = Thread()


here: Final = Here()


class _Section:
    """`with section:` marks such bookkeeping."""

    __slots__ = ()

    def __enter__(self) -> None:
        here.thread.depth += 1

    def __exit__(self, *_: object) -> None:
        here.thread.leave()


section: Final = _Section()
