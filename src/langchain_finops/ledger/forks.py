"""Ledgers survive a fork: before any code of the child runs, they replace what it must not use there.

That is locks that nobody will release, threads that are gone, and connections, which SQLite forbids to carry over.
SQLite has locks of its own, which nobody can replace: a fork waits until no thread is inside of it.
"""

import os
import threading
import weakref
from typing import Final, Protocol

__all__ = ["Forkable", "in_sqlite", "renew_in_child"]

PATIENCE_S: Final = 2.0
"""How long a fork waits for those inside, and those who want in for a fork: neither may hang for good."""


class Forkable(Protocol):
    """Something that holds locks, threads or connections."""

    def after_fork(self) -> None:
        """Replace them, in the child, without touching the old ones."""


_ALIVE: Final["weakref.WeakSet[Forkable]"] = weakref.WeakSet()


def renew_in_child(ledger: Forkable) -> None:
    """Have `after_fork` called in every child that is forked while the ledger lives."""
    _ALIVE.add(ledger)


class _Gate:
    """`with in_sqlite:` goes around whatever uses SQLite, once: who enters again may wait for a fork in vain."""

    def __init__(self) -> None:
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Start anew: nobody is inside, and the lock may have been another thread's."""
        self.changed = threading.Condition()
        self.inside: list[None] = []
        """As many as there are threads inside: a list is one of the few things that count without a lock."""
        self.forking = False

    def __enter__(self) -> None:
        self.inside.append(None)  # Before the look at `forking`, as `close` does it the other way round.
        if self.forking:
            self.__exit__()
            with self.changed:
                self.changed.wait_for(lambda: not self.forking, PATIENCE_S)
                self.inside.append(None)  # With the lock, so that the next fork sees it.

    def __exit__(self, *_: object) -> None:
        self.inside.pop()
        if self.forking:
            with self.changed:
                self.changed.notify_all()

    def close(self) -> None:
        """Let nobody in, and wait until all are out."""
        with self.changed:
            self.forking = True
            self.changed.wait_for(lambda: not self.inside, PATIENCE_S)

    def open(self) -> None:
        """Let them in again."""
        with self.changed:
            self.forking = False
            self.changed.notify_all()


in_sqlite: Final = _Gate()


def _renew_all() -> None:
    in_sqlite.after_fork_in_child()
    for ledger in list(_ALIVE):
        ledger.after_fork()


if hasattr(os, "register_at_fork"):  # Where there is no fork, there is nothing to do.
    os.register_at_fork(before=in_sqlite.close, after_in_parent=in_sqlite.open, after_in_child=_renew_all)
