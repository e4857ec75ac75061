"""The ledger in a database: durable when a write returns, shared by many processes, never in the run's way."""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from langchain_finops.errors import BadData, LedgerError
from langchain_finops.ledger import reading, upkeep
from langchain_finops.ledger.cleaning import clean_text
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.grouping import Period, check_by, check_filters, fold, matches
from langchain_finops.ledger.pruning import prune
from langchain_finops.ledger.rows import Row, is_kept_by_sums, row_of
from langchain_finops.ledger.spill import Spill
from langchain_finops.ledger.sql_totals import sum_up
from langchain_finops.ledger.stores import Place, SqlStore
from langchain_finops.ledger.totals import Group
from langchain_finops.ledger.worker import Worker, on_own_thread, under_event_loop
from langchain_finops.records import CallRecord, ChargeRecord, Event, Outcome, Record, RunRecord
from langchain_finops.sections import section

__all__ = ["SqlLedger"]

T = TypeVar("T")
log = logging.getLogger("langchain_finops")
SHARE_FOR_SQL: Final = 0.8
"""Of the time a hook waits: the rest is for the spill file, should the database be locked for all of it."""
IMPATIENT_S: Final = 0.05
"""How long a write waits for a locked database while the last one failed: else every call of a run would wait."""
UPKEEP_TIMEOUT_S: Final = 30.0


class _Writer:
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
        self.worker: Worker | None = None
        self.abandoned: list[object] = []
        """What a parent process had open: closing it, even by garbage collection, is forbidden in a child."""

    def after_fork(self) -> None:
        self.abandoned += [self.store, self.worker]
        self.store, self.worker = None, None
        self.lock, self.starting = threading.RLock(), threading.RLock()

    def opened(self) -> SqlStore:
        """The store; in a child, one of its own. The caller holds the lock."""
        if self.closed:
            raise LedgerError(f"the ledger {self.place.name} is closed")
        if self.store is None:
            self.store = self.place.open()
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
                self.append(rows, IMPATIENT_S if self.failing else self.hold_timeout * SHARE_FOR_SQL)
                self.failing = False
            except LedgerError as error:
                if self.closed:
                    raise
                self.failing = True
                self.put_aside(rows, error)

    def append(self, rows: Sequence[Row], timeout: float) -> int:
        """Append rows; how many were new. Raises LedgerError where that is not possible in time."""
        deadline = time.monotonic() + timeout
        if not self.lock.acquire(timeout=timeout):
            raise LedgerError(f"the ledger {self.place.name} is busy")
        try:
            appender = (store := self.opened()).appender
            work = partial(appender.append, rows=rows)
            return store.transaction(work, deadline=deadline, locks=appender.locks(rows))
        finally:
            self.lock.release()

    def put_aside(self, rows: Sequence[Row], reason: object) -> None:
        """Spill rows, and say so once."""
        self.spill.append([row.record for row in rows])
        if not self.spilled:
            log.warning("%s; records go to %s: run `finops recover` later", reason, self.spill.path)
        self.spilled += len(rows)

    def close(self) -> None:
        """Write what is pending and let go of file and thread."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.stop(UPKEEP_TIMEOUT_S)
        with section, self.lock:
            self.closed = True
            store, self.store = self.store, None
            if store is not None:
                store.close()


class SqlLedger:
    """The `Ledger` of `open_ledger("sqlite:///...")` and `open_ledger("postgresql://...")`.

    Many threads and processes may write at once. Under an event loop the ledger's own thread does the work; a hook
    waits `hold_timeout` seconds for it at most. A child that is forked goes on with a connection of its own.
    """

    def __init__(self, place: Place, *, hold_timeout: float = 1.0) -> None:
        self._writer = _Writer(place, hold_timeout)
        self._closing = weakref.finalize(self, self._writer.close)
        renew_in_child(self)

    def after_fork(self) -> None:
        """Leave the parent's connection and thread alone."""
        self._writer.after_fork()

    @property
    def url(self) -> str:
        """Where it is, in the form `open_ledger` takes. A password is left out: it may be in `$PGPASSWORD`."""
        return self._writer.place.url

    @property
    def spill(self) -> Spill:
        """Where records go that the database could not take."""
        return self._writer.spill

    @property
    def spilled(self) -> int:
        """Records that this object had to put into the spill file."""
        return self._writer.spilled

    def write(self, *records: Record) -> None:
        """Append records, all or none. On return they are durable: in the database, else in the spill file."""
        if not records:
            return
        rows = [row_of(record) for record in records]
        writer = self._writer
        if not under_event_loop():
            writer.write(rows)
        elif not writer.own_thread().write(rows, writer.hold_timeout):
            late = f"the ledger {writer.place.name} took longer than {writer.hold_timeout} s"
            # The thread may yet write them: writing twice changes nothing, losing them would.
            on_own_thread(lambda: writer.put_aside(rows, late), writer.hold_timeout)

    def recover(self) -> int:
        """Bring in what was spilled; how many records were new. Raises LedgerError, BadData: nothing is then lost."""
        return self._run(lambda: upkeep.recover(self._writer.spill, self._append_patiently))

    def _append_patiently(self, records: Sequence[Record]) -> int:
        return self._writer.append([row_of(record) for record in records], UPKEEP_TIMEOUT_S)

    def _run(self, action: Callable[[], T]) -> T:
        """The action's result; under an event loop it runs on the ledger's own thread."""
        results: list[T] = []

        def act() -> None:
            with section:
                results.append(action())

        if under_event_loop():
            self._writer.own_thread().run(act)
        else:
            act()
        return results[0]

    def _store(self) -> SqlStore:
        with section, self._writer.lock:
            return self._writer.opened()

    def _read(
        self, kind: str, history: bool, since: datetime | None, until: datetime | None, filters: Mapping[str, object]
    ) -> Iterator[Any]:
        check_filters(filters, kind)
        return self._pages(kind, history, Period.of(since, until), filters)

    def _pages(self, kind: str, history: bool, period: Period, filters: Mapping[str, object]) -> Iterator[Any]:
        after: reading.Place | None = None
        while True:
            records, after = self._run(partial(self._page, kind, history, period, filters, after))
            yield from (record for record in records if matches(record, filters))
            if after is None:
                return

    def _page(
        self,
        kind: str,
        history: bool,
        period: Period,
        filters: Mapping[str, object],
        after: reading.Place | None,
    ) -> tuple[list[Record], reading.Place | None]:
        with self._store().reading() as connection:
            return reading.page(connection, kind, history=history, period=period, filters=filters, after=after)

    def calls(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[CallRecord]:
        """Model calls, oldest first."""
        return self._read("call", history, since, until, filters)

    def charges(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[ChargeRecord]:
        """What is not a model call, oldest first."""
        return self._read("charge", history, since, until, filters)

    def runs(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[RunRecord]:
        """Logical runs, oldest first."""
        return self._read("run", history, since, until, filters)

    def outcomes(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Outcome]:
        """What became of tasks, oldest first."""
        return self._read("outcome", history, since, until, filters)

    def events(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Event]:
        """The audit trail, oldest first."""
        return self._read("event", history, since, until, filters)

    def totals(
        self, by: Sequence[str] = (), *, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> list[Group]:
        """Exact sums of the current versions, grouped, dearest first.

        Of days that were pruned, filters by what only a call's own row held (such as `step`) find nothing, and a
        period counts what shares a label and a party on a day if the first of it is in the period.
        """
        dimensions = check_by(by)
        check_filters(filters, "call", "charge")
        period = Period.of(since, until)
        if not is_kept_by_sums(filters):
            calls, charges, outcomes = self.calls(), self.charges(), self.outcomes()
            return fold(calls, charges, outcomes, by=dimensions, period=period, filters=filters)
        return self._run(lambda: self._sum_up(dimensions, period, filters))

    def _sum_up(self, by: tuple[str, ...], period: Period, filters: Mapping[str, object]) -> list[Group]:
        with self._store().reading() as connection:
            return sum_up(connection, by, period, filters)

    def forget(self, user_id: str) -> int:
        """Unlink a person: `user_id` becomes None in all records, spilled ones included; how many named it."""
        user_id = clean_text(user_id)

        def action() -> int:
            try:
                upkeep.recover(self._writer.spill, self._append_patiently)
            except BadData as error:  # What nobody can read must not keep a person in the ledger.
                log.warning("%d spilled lines could not be recovered: %s", len(error.faults), error.faults[0])
            count = upkeep.forget(self._store(), user_id)
            self._writer.spill.forget(user_id)
            return count

        return self._run(action)

    def prune(self, before: datetime) -> int:
        """Fold calls and charges of UTC days that ended by `before` into daily sums; how many those were.

        Readers no longer yield them; totals still count them. The file keeps its size, and reuses what is free.
        """
        return self._run(lambda: prune(self._store(), before))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is durable; False if `timeout` seconds passed first."""
        worker = self._writer.worker
        return worker is None or worker.run(_nothing, timeout)

    def close(self) -> None:
        """Write what is pending and let go of file and thread. Closing twice is fine."""
        on_own_thread(self._closing)


def _nothing() -> None:
    """What `flush` waits for: all that was handed over before it is then written."""
