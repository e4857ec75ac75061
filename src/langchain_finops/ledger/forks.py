"""Ledgers survive a fork: before any code of the child runs, they replace what it must not use there.

That is locks that nobody will release, threads that are gone, and connections, which SQLite forbids to carry over.
"""

import os
import weakref
from typing import Final, Protocol

__all__ = ["Forkable", "renew_in_child"]


class Forkable(Protocol):
    """Something that holds locks, threads or connections."""

    def after_fork(self) -> None:
        """Replace them, in the child, without touching the old ones."""


_ALIVE: Final["weakref.WeakSet[Forkable]"] = weakref.WeakSet()


def renew_in_child(ledger: Forkable) -> None:
    """Have `after_fork` called in every child that is forked while the ledger lives."""
    _ALIVE.add(ledger)


def _renew_all() -> None:
    for ledger in list(_ALIVE):
        ledger.after_fork()


if hasattr(os, "register_at_fork"):  # Where there is no fork, there is nothing to do.
    os.register_at_fork(after_in_child=_renew_all)
