"""Keeps figures ready: each is reckoned on a thread of its own, and shown as it last was while that takes long.

A ledger of a million calls takes seconds to add up; a page must not. So a figure that is asked for is reckoned anew if
it is old, and waited for briefly; what takes longer is shown as it was, with its time.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Final, Generic, TypeVar

from langchain_finops.errors import LedgerError
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.stores import Place

__all__ = ["Desk", "Figure", "Lane", "Unreadable"]

T = TypeVar("T")
log = logging.getLogger("langchain_finops")

FRESH_S: Final = 0.5
"""A figure that is younger is not reckoned again."""
REST: Final = 10
"""A figure rests so many times as long as it took: reckoning takes a tenth of a processor at most."""
PATIENCE_S: Final = 0.15
"""How long a page waits for a figure, where there is an older one to show."""
FIRST_PATIENCE_S: Final = 0.5
"""How long it waits where there is none."""
KEPT: Final = 64
"""Figures that are remembered, by when they were asked for."""


class Unreadable(Exception):
    """The ledger could not be read."""


class Lane:
    """One thread: what is quick does not wait for what is slow."""

    def __init__(self, name: str, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self._thread: Executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"finops-{name}")

    async def run(self, work: Callable[[SqlLedger], T]) -> T:
        """Return what `work` makes of the ledger. Raises Unreadable."""
        try:
            return await self._run(work)
        except LedgerError as error:
            # The sentence names the ledger's place, which is nobody's business outside: it goes to the log.
            log.warning("the web page could not use the ledger: %s", error)
            raise Unreadable from error

    async def _run(self, work: Callable[[SqlLedger], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._ledger)

    def close(self) -> None:
        """Let go of the thread, once what it is at is done."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class ProcessLane(Lane):
    """A lane in a process of its own, for sums that keep the interpreter busy for seconds: answers would wait for it.

    What it is to do is pickled, and so is what comes of it.
    """

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger
        context = multiprocessing.get_context("spawn")
        self._thread = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(ledger.place,))

    async def _run(self, work: Callable[[SqlLedger], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _in_process, work)
        except BrokenProcessPool as error:
            raise LedgerError("the process that adds the ledger up has ended: start the page again") from error


_ledger_of_process: SqlLedger | None = None


def _begin(place: Place) -> None:
    """Open the ledger in the lane's process, which ends when the one that serves the page does, however that ends."""
    global _ledger_of_process  # noqa: PLW0603 - a process has one, and all of its work is on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this one.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _ledger_of_process = SqlLedger(place)


def _in_process(work: Callable[[SqlLedger], T]) -> T:
    assert _ledger_of_process is not None
    return work(_ledger_of_process)


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
    error: Exception | None = None


def _timed(make: Callable[[SqlLedger, datetime], T], ledger: SqlLedger) -> tuple[Figure[T], float]:
    """The figure, and how many seconds it took."""
    began, now = time.monotonic(), datetime.now(UTC)
    return Figure(make(ledger, now), now), time.monotonic() - began


class Desk:
    """Figures by name, each made on one of the lanes: `live`, `runs`, `sums`, or `slow`."""

    def __init__(self, ledger: SqlLedger, *, is_large: bool = False) -> None:
        """Of a large ledger, sums are made in processes of their own."""
        self._lanes = {name: Lane(name, ledger) for name in ("live", "runs")}
        for name in ("sums", "slow"):
            self._lanes[name] = ProcessLane(ledger) if is_large else Lane(name, ledger)
        self._slots: dict[Hashable, _Slot] = {}

    def lane(self, name: str) -> Lane:
        """The lane of that name."""
        return self._lanes[name]

    async def figure(
        self,
        name: Hashable,
        lane: str,
        make: Callable[[SqlLedger, datetime], T],
        *,
        patience_s: float | None = None,
    ) -> Figure[T] | None:
        """Return the figure, as new as can be had soon; None while it is made for the first time.

        Raises Unreadable, and whatever else went wrong while it was made.
        """
        slot = self._slots.pop(name, None) or _Slot()
        self._slots[name] = slot  # The last of them is the one that was asked for last.
        self._forget_old()
        age = time.monotonic() - slot.done
        if age < max(FRESH_S, REST * slot.took) and slot.error is None:
            return slot.figure
        if slot.job is None:
            slot.job = asyncio.create_task(self._make(slot, lane, make))
        first = FIRST_PATIENCE_S if patience_s is None else patience_s
        await asyncio.wait({slot.job}, timeout=PATIENCE_S if slot.figure else first)
        if slot.error is not None:
            raise slot.error
        return slot.figure

    async def _make(self, slot: _Slot, lane: str, make: Callable[[SqlLedger, datetime], T]) -> None:
        try:
            slot.figure, slot.took = await self._lanes[lane].run(partial(_timed, make))
            slot.error = None
        except Exception as error:  # noqa: BLE001 - whoever asks for the figure gets it.
            slot.error = error
        finally:
            slot.done, slot.job = time.monotonic(), None

    def outdate(self, name: Hashable) -> None:
        """Have a figure made anew when it is next asked for: somebody has just changed what it tells."""
        if name in self._slots:
            self._slots[name].done = float("-inf")

    def _forget_old(self) -> None:
        for name in list(self._slots)[: max(len(self._slots) - KEPT, 0)]:
            if self._slots[name].job is None:
                del self._slots[name]

    async def close(self) -> None:
        """Wait for what is being reckoned, and let go of the lanes."""
        for lane in self._lanes.values():
            await asyncio.to_thread(lane.close)
