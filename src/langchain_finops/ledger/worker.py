"""The ledger's own thread: SQL and spill for callers that run an event loop, which must not do blocking I/O themselves.

Callers wait by `SimpleQueue.get`, which releases the GIL and is the one wait that blockbuster lets pass.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from langchain_finops.ledger.rows import Row

__all__ = ["Worker", "on_own_thread", "under_event_loop"]

T = TypeVar("T")
BATCH: Final = 64
"""Waiting writes that one transaction takes in: event loops on several threads share its cost."""
LOOK_S: Final = 0.5
"""How often who waits looks whether the thread still lives."""


def under_event_loop() -> bool:
    """Whether this thread is running an event loop right now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@dataclass(slots=True, eq=False)
class _Job:
    """Something to do on the worker's thread; `reply` gets None, or what was raised."""

    rows: Sequence[Row] = ()
    action: Callable[[], None] | None = None
    last: bool = False
    undo: Callable[[], None] | None = None
    """Takes back what the action did, for who has stopped waiting for it; None where it is wanted all the same."""
    ticket: "SimpleQueue[None]" = field(default_factory=SimpleQueue)
    """One of the two sides takes it: who waits, when giving up, or the thread, when it is done."""
    reply: "SimpleQueue[BaseException | None]" = field(default_factory=SimpleQueue)

    def take_ticket(self) -> bool:
        """Whether the other side has not taken it before."""
        try:
            self.ticket.get_nowait()
        except Empty:
            return False
        return True


class Worker:
    """A thread that writes rows in the order in which they were handed over."""

    def __init__(self, write: Callable[[Sequence[Row]], None]) -> None:
        self._write = write
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="finops-ledger", daemon=True)
        self._thread.start()

    def write(self, rows: Sequence[Row], timeout: float) -> bool:
        """Have rows written; False if that took longer than `timeout` seconds. They will be written all the same."""
        return self._wait(_Job(rows=rows), timeout)

    def run(self, action: Callable[[], None], timeout: float | None = None) -> bool:
        """Have something done after all that was handed over before; False on time-out."""
        return self._wait(_Job(action=action), timeout)

    def ask(self, action: Callable[[], None], undo: Callable[[], None], timeout: float) -> bool:
        """Have something done that nobody wants later; False on time-out, and it is then not done, or undone."""
        job = _Job(action=action, undo=undo)
        job.ticket.put(None)
        answered = False
        try:
            answered = self._wait(job, timeout)
        except BaseException:
            job.take_ticket()  # A Ctrl-C while we waited: nobody wants it any more.
            raise
        if answered or job.take_ticket():
            return answered
        return self._wait_on(job, None)  # It was done at the last moment, and its reply is on the way.

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread after all that was handed over; False if it is still busy after `timeout` seconds."""
        if threading.current_thread() is self._thread:  # A garbage collection on it ended the ledger's life.
            self._jobs.put(_Job(last=True))
            return False
        return self._wait(_Job(last=True), timeout)

    def _wait(self, job: _Job, timeout: float | None) -> bool:
        self._jobs.put(job)
        return self._wait_on(job, timeout)

    def _wait_on(self, job: _Job, timeout: float | None) -> bool:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            try:
                raised = job.reply.get(timeout=max(0.0, min(LOOK_S, deadline - time.monotonic())))
            except Empty:
                # Whoever came after `stop` would wait for ever: the thread that was to answer is gone.
                if time.monotonic() >= deadline or not self._thread.is_alive():
                    return False
                continue
            if raised is not None:
                raise raised
            return True

    def _run(self) -> None:
        while True:
            job: _Job | None = self._jobs.get()
            batch: list[_Job] = []
            while job is not None and job.rows and len(batch) < BATCH:
                batch.append(job)
                job = self._next()
            self._write_batch(batch)
            if job is None:
                continue
            if job.rows:
                self._write_batch([job])
                continue
            if job.undo is not None:
                _do_or_undo(job, job.undo)
                continue
            job.reply.put(_raised(job.action))
            if job.last:
                return

    def _next(self) -> _Job | None:
        try:
            return self._jobs.get_nowait()
        except Empty:
            return None

    def _write_batch(self, batch: Sequence[_Job]) -> None:
        raised = _raised(lambda: self._write([row for job in batch for row in job.rows])) if batch else None
        for job in batch:
            # One writer's bad row must not cost the others theirs.
            alone = raised is not None and len(batch) > 1
            job.reply.put(_raised(partial(self._write, job.rows)) if alone else raised)


def _do_or_undo(job: _Job, undo: Callable[[], None]) -> None:
    """Do what is still wanted, and take it back where it is no longer."""
    if job.ticket.empty():
        return
    raised = _raised(job.action)
    if job.take_ticket():
        job.reply.put(raised)
    elif raised is None:
        _raised(undo)


def _raised(action: Callable[[], Any] | None) -> BaseException | None:
    """What an action raises, to be raised again where its result is waited for."""
    if action is not None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - the thread goes on, and whoever waits gets it
            return error
    return None


def on_own_thread(action: Callable[[], T], timeout: float | None = None) -> T:
    """The action's result: in place, or on a thread made for it where this one runs an event loop.

    Raises TimeoutError if that thread needs longer than `timeout` seconds, and whatever the action raises.
    """
    if not under_event_loop():
        return action()
    results: list[T] = []
    reply: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        reply.put(_raised(lambda: results.append(action())))

    threading.Thread(target=work, name="finops-ledger-once", daemon=True).start()
    try:
        raised = reply.get(timeout=timeout)
    except Empty:
        raise TimeoutError from None
    if raised is not None:
        raise raised
    return results[0]
