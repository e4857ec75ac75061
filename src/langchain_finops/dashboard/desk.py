"""Keeps figures ready: each is reckoned on a thread of its own, and shown as it last was while that takes long.

A ledger of a million calls takes seconds to add up; a page must not. So a figure that is asked for is reckoned anew if
it is old, and waited for briefly; what takes longer is shown as it was, with its time.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from langchain_finops.errors import LedgerError
from langchain_finops.ledger.sql import SqlLedger

__all__ = ["Desk", "Figure", "Lane", "Unreadable"]

T = TypeVar("T")
log = logging.getLogger("langchain_finops")

FRESH_S: Final = 0.5
"""A figure that is younger is not reckoned again."""
REST: Final = 10
"""A figure rests so many times as long as it took: reckoning takes a tenth of a processor at most."""
PATIENCE_S: Final = 0.15
"""How long a page waits for a figure, where there is an older one to show."""
FIRST_PATIENCE_S: Final = 0.8
"""How long it waits where there is none."""
KEPT: Final = 64
"""Figures that are remembered, by when they were asked for."""


class Unreadable(Exception):
    """The ledger could not be read."""


class Lane:
    """One thread: what is quick does not wait for what is slow."""

    def __init__(self, name: str, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"finops-{name}")

    async def run(self, work: Callable[[SqlLedger], T]) -> T:
        """Return what `work` makes of the ledger, on the lane's thread. Raises Unreadable."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._ledger)
        except LedgerError as error:
            # The sentence names the ledger's place, which is nobody's business outside: it goes to the log.
            log.warning("the web page could not use the ledger: %s", error)
            raise Unreadable from error

    def close(self) -> None:
        """Let go of the thread, once what it is at is done."""
        self._thread.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Figure(Generic[T]):
    """A value, and when it was true."""

    value: T
    at: datetime


@dataclass(slots=True)
class _Slot:
    figure: Figure[Any] | None = None
    done: float = float("-inf")
    took: float = 0.0
    job: "asyncio.Task[None] | None" = None
    error: Unreadable | None = None


class Desk:
    """Figures by name, each made on one of the lanes."""

    def __init__(self, ledger: SqlLedger, lanes: tuple[str, ...]) -> None:
        self._lanes = {name: Lane(name, ledger) for name in lanes}
        self._slots: dict[Hashable, _Slot] = {}

    def lane(self, name: str) -> Lane:
        """The lane of that name."""
        return self._lanes[name]

    async def figure(self, name: Hashable, lane: str, make: Callable[[SqlLedger, datetime], T]) -> Figure[T] | None:
        """Return the figure, as new as can be had soon; None while it is made for the first time. Raises Unreadable."""
        slot = self._slots.pop(name, None) or _Slot()
        self._slots[name] = slot  # The last of them is the one that was asked for last.
        self._forget_old()
        age = time.monotonic() - slot.done
        if age < max(FRESH_S, REST * slot.took) and slot.error is None:
            return slot.figure
        if slot.job is None:
            slot.job = asyncio.create_task(self._make(slot, lane, make))
        await asyncio.wait({slot.job}, timeout=PATIENCE_S if slot.figure else FIRST_PATIENCE_S)
        if slot.error is not None:
            raise slot.error
        return slot.figure

    async def _make(self, slot: _Slot, lane: str, make: Callable[[SqlLedger, datetime], T]) -> None:
        took = 0.0

        def timed(ledger: SqlLedger) -> Figure[T]:
            nonlocal took
            began, now = time.monotonic(), datetime.now(UTC)
            try:
                return Figure(make(ledger, now), now)
            finally:
                took = time.monotonic() - began

        try:
            slot.figure, slot.error = await self._lanes[lane].run(timed), None
        except Unreadable as error:
            slot.error = error
        finally:
            slot.took, slot.done, slot.job = took, time.monotonic(), None

    def _forget_old(self) -> None:
        for name in list(self._slots)[: max(len(self._slots) - KEPT, 0)]:
            if self._slots[name].job is None:
                del self._slots[name]

    async def close(self) -> None:
        """Wait for what is being reckoned, and let go of the lanes."""
        for lane in self._lanes.values():
            await asyncio.to_thread(lane.close)
