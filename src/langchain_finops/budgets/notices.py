"""What is said of a balance once: that a share of the limit is spent, and that more than the limit was."""

import logging
import threading
from collections import OrderedDict
from typing import Final

from langchain_finops.budgets.holding import Counted, Share
from langchain_finops.budgets.units import say
from langchain_finops.ledger.forks import renew_in_child

__all__ = ["Notices"]

log = logging.getLogger("langchain_finops")

KEPT: Final = 10_000
"""Things said that are remembered; a window's balance has its start in its key, so that each window is told of."""


class Notices:
    """Log lines, each once for its balance. Safe between threads."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, None] = OrderedDict()
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """The child has a lock of its own."""
        self._lock = threading.RLock()

    def first_time(self, what: str) -> bool:
        """True for exactly one caller."""
        if what in self._said:
            return False
        with self._lock:
            if what in self._said:
                return False
            self._said[what] = None
            if len(self._said) > KEPT:
                self._said.popitem(last=False)
            return True

    def settled(self, share: Share, spent: int, taken: int | None) -> None:
        """Tell of what is spent after a settlement of `taken`, if it is worth a word."""
        limit = share.limit
        cap = limit.amount if share.cap is None else share.cap
        self.spent(share.counted, share.key, spent, cap)
        passed = share.cap is not None and spent > cap and taken is not None and taken > share.amount
        if passed and self.first_time(f"over {share.label} {share.key}"):
            unit = limit.unit
            log.warning(
                "budget %r (%s): %s spent of %s, which is %s too much: calls in flight took more than was expected. "
                "admission='strict' holds bounds instead.",
                share.label,
                share.key,
                say(unit, spent),
                say(unit, cap),
                say(unit, spent - cap),
            )

    def spent(self, counted: Counted, key: str, spent: int, cap: int) -> None:
        """Tell of the shares of a limit at which its budget warns."""
        for share, amount in counted.warnings:
            if spent < amount:
                return
            if self.first_time(f"{share} {counted.label} {key}"):
                unit = counted.limit.unit
                log.warning(
                    "budget %r (%s): %s spent of %s, past %s of it",
                    counted.label,
                    key,
                    say(unit, spent),
                    say(unit, cap),
                    f"{share:.0%}",
                )
