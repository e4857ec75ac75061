"""What stands against shared budgets while the ledger cannot say: a dead ledger is no open door."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from langchain_finops.budgets.holding import Share, amounts_of
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.holds import Balance

__all__ = ["Shadow"]

BALANCES_KEPT: Final = 10_000
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""How long a ledger that failed is left alone: else every call of a run would wait for it."""


class Shadow:
    """Balances as the ledger told them last, and what this process has spent that the ledger does not know of.

    What went to the spill file counts against the limits of this process until it ends, recovered or not: counting it
    twice stops an agent too early, not counting it lets it spend what is not there. Safe between threads.
    """

    __slots__ = ("__weakref__", "_clock", "_failing", "_lock", "_retry_at", "_seen", "_unknown", "_wait_s")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._unknown: dict[str, int] = {}
        self._failing = False
        self._retry_at = 0.0
        self._wait_s = FIRST_WAIT_S
        self._clock = clock
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """The child has a lock of its own."""
        self._lock = threading.RLock()

    # --- whether to ask the ledger -----------------------------------------------------------------------------------

    def may_ask(self) -> bool:
        """Whether the ledger is to be asked: always while it answers, now and then, by one caller, while it fails."""
        if not self._failing:
            return True
        with self._lock:
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._wait_s
            return True

    def failed(self) -> bool:
        """The ledger did not answer; True the first time in a row."""
        with self._lock:
            is_first, self._failing = not self._failing, True
            self._wait_s = FIRST_WAIT_S if is_first else min(2 * self._wait_s, LONGEST_WAIT_S)
            self._retry_at = self._clock() + self._wait_s
            return is_first

    def answered(self) -> bool:
        """The ledger did; True if it had failed before."""
        if not self._failing:
            return False
        with self._lock:
            self._failing = False
            return True

    # --- what it knows -----------------------------------------------------------------------------------------------

    def saw(self, key: str, taken: int) -> None:
        """What the ledger says is spent and held on a balance."""
        with self._lock:
            self._seen[key] = taken
            self._seen.move_to_end(key)
            if len(self._seen) > BALANCES_KEPT:
                self._seen.popitem(last=False)

    def unknown(self, key: str) -> int:
        """What this process has spent on a balance that the ledger did not learn of."""
        return self._unknown.get(key, 0) if self._unknown else 0

    def balance(self, key: str) -> Balance:
        """What stands against a budget, as far as this process knows."""
        with self._lock:
            return Balance(balance=key, spent=self._seen.get(key, 0) + self._unknown.get(key, 0))

    def reserve(self, shares: Sequence[Share]) -> Share | None:
        """Count all of these as spent, or none; the first that does not fit."""
        with self._lock:
            for share in shares:
                if share.cap is not None and self.balance(share.key).spent + share.amount > share.cap:
                    return share
            self.add(amounts_of(shares))
        return None

    def release(self, shares: Sequence[Share]) -> None:
        """Give back what was held."""
        self.add({key: -amount for key, amount in amounts_of(shares).items()})

    def add(self, amounts: Mapping[str, int]) -> None:
        """Count what the ledger does not learn of."""
        with self._lock:
            for key, amount in amounts.items():
                self._unknown[key] = self._unknown.get(key, 0) + amount
