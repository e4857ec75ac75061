"""Short words for tests: hold lines, settle a call, and see what stands."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Balance, Line, Settlement
from langchain_finops.testing.records import a_call

__all__ = ["hold", "in_threads", "now", "settle", "standing"]


def now() -> datetime:
    """Balances tell what is held by the clock: holds of tests are made by it, too."""
    return datetime.now(UTC)


def hold(ledger: Ledger, hold_id: str, *lines: tuple[str, int] | tuple[str, int, int], **options: Any) -> int | None:
    """Hold lines given as balance, amount and limit; the index of the one that was refused."""
    wanted = [Line(balance=line[0], amount=line[1], limit=line[2] if len(line) == 3 else None) for line in lines]
    return ledger.hold(hold_id, wanted, **{"at": now(), **options}).refused


def settle(ledger: Ledger, call_id: str, /, **amounts: int) -> tuple[Balance, ...]:
    """Settle a call under its own id."""
    return ledger.settle(Settlement(record=a_call(call_id), hold_id=call_id, amounts=amounts))


def standing(ledger: Ledger, key: str) -> tuple[int, int, int]:
    """Spent, held and unsettled."""
    (balance,) = ledger.balances(key)
    assert balance.balance == key
    return balance.spent, balance.held, balance.unsettled


def in_threads(count: int, work: Callable[[int], object]) -> list[Any]:
    """What the work gives in threads that run at once."""
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
