"""One writer at a time, for a bounded time: what a ledger in SQL cannot take by then goes to its spill file."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from langchain_finops.errors import LedgerError
from langchain_finops.ledger.append import Appender
from langchain_finops.ledger.booking import CONTROLS_LOCK, Book, Held
from langchain_finops.ledger.holds import Line
from langchain_finops.ledger.rows import Row
from langchain_finops.ledger.spill import Spill, entry_of
from langchain_finops.ledger.stores import Cursor, Place, SqlStore
from langchain_finops.ledger.worker import Worker
from langchain_finops.sections import section

__all__ = ["SHARE_FOR_SQL", "UPKEEP_TIMEOUT_S", "Writer"]

T = TypeVar("T")
Owed = Callable[[Book, Cursor], None]
"""Changes holds, in a transaction."""
log = logging.getLogger("langchain_finops")
SHARE_FOR_SQL: Final = 0.8
"""Of the time a hook waits: the rest is for the spill file, should the database be locked for all of it."""
ROWS_AT_ONCE: Final = 200
"""What the time that a hook waits is enough for, by far, over a network."""
IMPATIENT_S: Final = 0.05
"""How long a write waits for a locked database while the last one failed: else every call of a run would wait."""
UPKEEP_TIMEOUT_S: Final = 30.0


class Writer:
    """Writes rows to the store, or where that fails to the spill file. Any thread may call it."""

    def __init__(self, place: Place, hold_timeout: float) -> None:
        self.place = place
        self.hold_timeout = hold_timeout
        self.spill = Spill(place.spill)
        self.spilled = 0
        self.failing = False
        self.closed = False
        self.lock = threading.RLock()
        self.starting = threading.RLock()
        self.store: SqlStore | None = place.open()
        self.digest_key = self.store.digest_key
        self.worker: Worker | None = None
        self.owed: list[Owed] = []
        """What holds are to be given back or lowered once the ledger can be written."""
        self.abandoned: list[object] = []
        """What a parent process had open: closing it, even by garbage collection, is forbidden in a child."""

    def after_fork(self) -> None:
        """Go on in the child with nothing of the parent's."""
        self.abandoned += [self.store, self.worker]
        self.store, self.worker = None, None
        self.owed = []  # The parent gives them back.
        self.lock, self.starting = threading.RLock(), threading.RLock()

    def opened(self) -> SqlStore:
        """The store; in a child, one of its own, and a new one where the file was replaced. The caller has the lock."""
        if self.closed:
            raise LedgerError(f"the ledger {self.place.name} is closed")
        if self.store is not None and self.store.is_stale():
            stale, self.store = self.store, None
            stale.close()  # SQLite sees that the file has moved, and leaves the log of its successor alone.
        if self.store is None:
            self.store = self.place.open()
            self.digest_key = self.store.digest_key
        return self.store

    def own_thread(self) -> Worker:
        """The ledger's thread, started when it is first needed."""
        with section, self.starting:  # Two event loops that come first at once would each start one.
            if self.worker is None:
                if self.closed:
                    raise LedgerError(f"the ledger {self.place.name} is closed")
                self.worker = Worker(self.write)
            return self.worker

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows, else spill them. Raises LedgerError only where that fails too."""
        with section:
            try:
                self.append(rows, IMPATIENT_S if self.failing else self.patience_s(len(rows)))
                self.failing = False
            except LedgerError as error:
                if self.closed:
                    raise
                self.failing = True
                self.put_aside(rows, error)

    def patience_s(self, rows: int) -> float:
        """How long a write may take: one of hundreds of records is no hook's, and is given the time that it needs."""
        return self.hold_timeout * SHARE_FOR_SQL * max(1.0, rows / ROWS_AT_ONCE)

    def append(self, rows: Sequence[Row], timeout: float) -> int:
        """Append rows; how many were new. Raises LedgerError where that is not possible in time."""
        deadline = time.monotonic() + timeout
        with self.turn(deadline) as store:
            work = partial(store.appender.append, rows=rows)
            return store.transaction(work, deadline=deadline, locks=store.appender.locks(rows))

    @contextmanager
    def turn(self, deadline: float) -> Iterator[SqlStore]:
        """The store, for this thread alone. Raises LedgerError where others need it until the deadline."""
        if not self.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise LedgerError(f"the ledger {self.place.name} is busy")
        try:
            store = self.opened()
            if self.owed:
                self.give_back(store, deadline)
            yield store
        finally:
            self.lock.release()

    def hold(self, hold_id: str, lines: Sequence[Line], at: int, expires_at: int, deadline: float) -> Held:
        """Set aside. Raises LedgerError where that is not possible in time."""
        if self.failing:
            deadline = min(deadline, time.monotonic() + IMPATIENT_S)
        try:
            with section, self.turn(deadline) as store:
                book = store.appender.book
                work = partial(book.hold, hold_id=hold_id, lines=lines, at=at, expires_at=expires_at)
                locks = book.locks(line.balance for line in lines)
                held = store.transaction(work, deadline=deadline, locks=locks)
        except LedgerError:
            self.failing = True
            raise
        self.failing = False
        return held

    def release(self, hold_id: str, numbers: Sequence[int] | None = None) -> None:
        """Give a hold back, now or before whatever this ledger does next."""
        timeout = IMPATIENT_S if self.failing else self.hold_timeout * SHARE_FOR_SQL
        with section:
            self.owed.append(partial(Book.release, hold_id=hold_id, numbers=numbers))
            try:
                with self.turn(time.monotonic() + timeout):
                    pass
            except LedgerError:
                if self.closed:
                    raise

    def give_back(self, store: SqlStore, deadline: float) -> None:
        """Give back what is owed; what cannot be given back now stays owed. The caller holds the lock."""
        owed = list(self.owed)

        def work(cursor: Cursor) -> None:
            for change in owed:
                change(store.appender.book, cursor)

        try:
            store.transaction(work, deadline=deadline)
        except LedgerError as error:
            log.debug("%d holds are changed later: %s", len(owed), error)
        else:
            del self.owed[: len(owed)]

    def claim(self, key: str, at: int, deadline: float) -> bool:
        """Whether nobody has claimed it before. Raises LedgerError where that cannot be told in time."""
        with section, self.turn(deadline) as store:
            work = partial(store.appender.controls.claim, key=key, at=at)
            return store.transaction(work, deadline=deadline, locks=[f"claim {key}"])

    def unclaim(self, key: str) -> None:
        """Let somebody else have it."""
        deadline = time.monotonic() + UPKEEP_TIMEOUT_S
        with section, self.turn(deadline) as store:
            store.transaction(partial(store.appender.controls.unclaim, key=key), deadline=deadline)

    def set_control(self, event: Row, kind: str, key: str, body: Mapping[str, object] | None) -> None:
        """Change a control and append the event. Raises LedgerError where that is not possible."""
        deadline = time.monotonic() + UPKEEP_TIMEOUT_S
        with section, self.turn(deadline) as store:
            appender = store.appender

            def work(cursor: Cursor) -> None:
                if appender.append(cursor, [event]):
                    appender.controls.set(cursor, kind, key, body)

            store.transaction(work, deadline=deadline, locks=[CONTROLS_LOCK, *appender.locks([event])])

    def look(self, work: Callable[[Appender, Cursor], T], deadline: float) -> T:
        """Run `work`, which only reads. Raises LedgerError where that is not possible in time."""
        with section, self.turn(deadline) as store:
            return store.look(partial(work, store.appender), deadline=deadline)

    def put_aside(self, rows: Sequence[Row], reason: object) -> None:
        """Spill rows, and say so once."""
        for row in rows:
            row.touched = ()  # Nobody knows how balances stand: the transaction that was to tell came to nothing.
        self.spill.append([entry_of(row) for row in rows])
        for row in rows:
            # What a call was expected to take beyond what it took is not to stay held until somebody recovers it.
            if row.hold_id is not None and row.amounts and len(self.owed) < ROWS_AT_ONCE:
                self.owed.append(partial(Book.lower, hold_id=row.hold_id, amounts=row.amounts))
        if not self.spilled:
            log.warning("%s; records go to %s: run `finops recover` later", reason, self.spill.path)
        self.spilled += len(rows)

    def close(self) -> None:
        """Write what is pending and let go of file and thread."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.stop(UPKEEP_TIMEOUT_S)
        with section, self.lock:
            if self.owed and self.store is not None:
                self.give_back(self.store, time.monotonic() + self.hold_timeout)
            self.closed = True
            store, self.store = self.store, None
            if store is not None:
                store.close()
