"""Holds, balances and controls in memory: what `booking` is in SQL. The caller holds a lock."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langchain_finops.ledger.codec import dumps
from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, answer_to, is_over
from langchain_finops.ledger.naming import is_for, marker, names, renamed

__all__ = ["MemoryBook"]


@dataclass(slots=True)
class _Hold:
    amount: int
    expires_at: int


@dataclass(slots=True)
class _Account:
    """One balance: what is spent, and its holds by id with their sum."""

    spent: int = 0
    total: int = 0
    holds: dict[str, _Hold] = field(default_factory=dict)
    earliest: float = math.inf
    """No hold expires before this time: as long as it has not come, the sum need not be taken apart."""

    def set_aside(self, hold_id: str, amount: int, expires_at: int) -> None:
        held = self.holds.get(hold_id)
        if held is not None:
            amount = max(amount, held.amount)
            self.total -= held.amount
        self.holds[hold_id] = _Hold(amount, expires_at)
        self.total += amount
        self.earliest = min(self.earliest, expires_at)

    def take_away(self, hold_id: str) -> bool:
        """Whether something was held."""
        held = self.holds.pop(hold_id, None)
        if held is None:
            return False
        self.total -= held.amount
        return True

    def stand(self, key: str, at: int, hold_id: str | None = None) -> Balance:
        """The balance without what a hold takes from it."""
        own = None if hold_id is None else self.holds.get(hold_id)
        expired = 0
        if at >= self.earliest:
            self.earliest = min((held.expires_at for held in self.holds.values()), default=math.inf)
            expired = sum(held.amount for held in self.holds.values() if held.expires_at <= at)
            if own is not None and own.expires_at <= at:
                return Balance(balance=key, spent=self.spent, held=self.total - expired, unsettled=expired - own.amount)
        live = self.total - expired - (0 if own is None else own.amount)
        return Balance(balance=key, spent=self.spent, held=live, unsettled=expired)


class MemoryBook:
    """Balances by key, controls by kind and key, claims."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._keys: dict[str, set[str]] = {}
        """The balances that each hold takes from."""
        self._controls: dict[str, dict[str, str]] = {}
        self._claims: set[str] = set()
        self.version = 0

    def _account(self, key: str) -> _Account:
        return self._accounts.setdefault(key, _Account())

    def hold(self, hold_id: str, lines: Sequence[Line], *, at: int, expires_at: int) -> HoldAnswer:
        """Set all the lines aside, or none. Times in microseconds."""
        accounts = {line.balance: self._account(line.balance) for line in lines}
        answer = answer_to(lines, {key: account.stand(key, at, hold_id) for key, account in accounts.items()})
        if answer.refused is None:
            for line in lines:
                accounts[line.balance].set_aside(hold_id, line.amount, expires_at)
            self._keys.setdefault(hold_id, set()).update(accounts)
        return answer

    def settle(self, hold_id: str | None, amounts: Mapping[str, int], *, is_new: bool) -> None:
        """Add amounts to balances, and take away what was held for them; `booking.Book.settle` says when."""
        if hold_id is not None and not amounts:
            self.release(hold_id)
        for key, amount in amounts.items():
            was_held = hold_id is not None and self._take_away(hold_id, key)
            if is_new or was_held:
                self._account(key).spent += amount

    def _take_away(self, hold_id: str, key: str) -> bool:
        keys = self._keys.get(hold_id)
        if keys is None or key not in keys:
            return False
        keys.discard(key)
        if not keys:
            del self._keys[hold_id]
        return self._accounts[key].take_away(hold_id)

    def release(self, hold_id: str) -> None:
        """Give back what is held."""
        for key in self._keys.pop(hold_id, ()):
            self._accounts[key].take_away(hold_id)

    def balances(self, keys: Sequence[str], at: int) -> list[Balance]:
        """The balances of these keys, in order; without keys all in which something stands."""
        if keys:
            return [self._accounts[key].stand(key, at) if key in self._accounts else Balance(balance=key)
                    for key in keys]  # fmt: skip
        everything = (account.stand(key, at) for key, account in sorted(self._accounts.items()))
        return [balance for balance in everything if balance.spent or balance.held or balance.unsettled]

    def claim(self, key: str) -> bool:
        """Whether nobody has claimed it before."""
        if key in self._claims:
            return False
        self._claims.add(key)
        return True

    def set_control(self, kind: str, key: str, body: Mapping[str, object] | None) -> None:
        """Put a control in place of the one before it; None takes it away."""
        of_kind = self._controls.setdefault(kind, {})
        of_kind.pop(key, None)
        if body is not None:
            of_kind[key] = dumps(body)
        self.version += 1

    def controls(self, kind: str) -> dict[str, dict[str, object]]:
        """All of a kind by key."""
        return {key: json.loads(body) for key, body in sorted(self._controls.get(kind, {}).items())}

    def prune(self, by_s: int) -> None:
        """Take away the balances that were of use until that second since 1970."""
        for key in [key for key, account in self._accounts.items() if not account.holds and is_over(key, by_s)]:
            del self._accounts[key]

    def forget(self, user_id: str) -> int:
        """Have nothing here name a person, as `booking` does; how many controls were taken away."""
        for key in [key for key in self._accounts if names(key, user_id)]:
            account = self._accounts.pop(key)
            for hold_id in account.holds:
                self._keys[hold_id].discard(key)
            self._accounts[renamed(key, user_id, marker())] = _Account(spent=account.spent)
        self._claims = {key for key in self._claims if not names(key, user_id)}
        gone = [
            (kind, key)
            for kind, bodies in self._controls.items()
            for key, body in bodies.items()
            if is_for(key, json.loads(body), user_id)
        ]
        for kind, key in gone:
            self.set_control(kind, key, None)
        return len(gone)
