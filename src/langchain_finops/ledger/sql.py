"""The ledger in a database: durable when a write returns, shared by many processes, never in the run's way."""

import logging
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from langchain_finops.errors import BadData, LedgerError
from langchain_finops.ledger import reading, upkeep
from langchain_finops.ledger.append import Appender
from langchain_finops.ledger.cleaning import clean_text
from langchain_finops.ledger.codec import now_micros, to_micros
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.grouping import Period, check_by, check_filters, fold, matches
from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, Settlement, checked_lines
from langchain_finops.ledger.in_time import asked_at
from langchain_finops.ledger.pruning import prune
from langchain_finops.ledger.rows import Row, is_kept_by_sums, row_of, row_of_settlement
from langchain_finops.ledger.spill import Entry, Spill
from langchain_finops.ledger.sql_totals import sum_up
from langchain_finops.ledger.stores import Cursor, Place, SqlStore
from langchain_finops.ledger.totals import Group
from langchain_finops.ledger.worker import on_own_thread, under_event_loop
from langchain_finops.ledger.writer import SHARE_FOR_SQL, UPKEEP_TIMEOUT_S, Writer
from langchain_finops.records import CallRecord, ChargeRecord, Event, Outcome, Record, RunRecord
from langchain_finops.sections import section

__all__ = ["SqlLedger"]

T = TypeVar("T")
log = logging.getLogger("langchain_finops")


class SqlLedger:
    """The `Ledger` of `open_ledger("sqlite:///...")` and `open_ledger("postgresql://...")`.

    Many threads and processes may write at once. Under an event loop the ledger's own thread does the work; a hook
    waits `hold_timeout` seconds for it at most. A child that is forked goes on with a connection of its own.
    """

    def __init__(self, place: Place, *, hold_timeout: float = 1.0) -> None:
        self._writer = Writer(place, hold_timeout)
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
    def digest_key(self) -> bytes:
        """Of the ledger that was opened last; in a child that is forked, the parent's, which is the same."""
        return self._writer.digest_key

    @property
    def place(self) -> Place:
        """Where it is, for another process of the same program: with what it takes to open it, a password too."""
        return self._writer.place

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
        self._write([row_of(record) for record in records])

    def _write(self, rows: Sequence[Row]) -> None:
        writer = self._writer
        if not under_event_loop():
            writer.write(rows)
        elif not writer.own_thread().write(rows, writer.hold_timeout):
            late = f"the ledger {writer.place.name} took longer than {writer.hold_timeout} s"
            # The thread may yet write them: writing twice changes nothing, losing them would.
            on_own_thread(lambda: writer.put_aside(rows, late), writer.hold_timeout)

    def settle(self, *settlements: Settlement) -> tuple[Balance, ...]:
        """Append records, add their amounts to balances, and take their holds away; the balances as they now stand."""
        rows = [row_of_settlement(settlement) for settlement in settlements]
        self._write(rows)
        return tuple({balance.balance: balance for row in rows for balance in row.touched}.values())

    def hold(self, hold_id: str, lines: Sequence[Line], *, at: datetime, ttl_s: float = 3600) -> HoldAnswer:
        """Set the lines' amounts aside, all or none. Raises LedgerError if that takes longer than `hold_timeout`."""
        writer, id_, checked, began = self._writer, clean_text(hold_id), checked_lines(lines), to_micros(at)
        if not checked:
            return HoldAnswer(refused=None, balances=())
        expires_at = began + round(ttl_s * 1_000_000)
        held = self._in_time(
            lambda deadline: writer.hold(id_, checked, began, expires_at, deadline),
            undo=lambda held: writer.release(id_, held.new) if held.new else None,
        )
        return held.answer

    def release(self, hold_id: str) -> None:
        """Give back what is held; where the ledger cannot be written, with the next transaction that succeeds."""
        writer, id_ = self._writer, clean_text(hold_id)
        if under_event_loop():
            writer.own_thread().run(lambda: writer.release(id_), writer.hold_timeout)
        else:
            writer.release(id_)

    def balances(self, *keys: str) -> list[Balance]:
        """What stands against these keys, in order; without keys, all balances in which something stands, by key."""
        cleaned = [clean_text(key) for key in keys]
        return self._look(lambda appender, cursor: appender.book.balances(cursor, cleaned, now_micros()))

    def claim(self, key: str, *, at: datetime) -> bool:
        """True for exactly one caller in all processes."""
        writer, cleaned, micros = self._writer, clean_text(key), to_micros(at)

        return self._in_time(
            lambda deadline: writer.claim(cleaned, micros, deadline),
            undo=lambda is_mine: writer.unclaim(cleaned) if is_mine else None,
        )

    def set_control(self, kind: str, key: str, body: Mapping[str, object] | None, event: Event) -> None:
        """Put something set from outside in place of what was there, and the event that tells of it, together."""
        row, cleaned = row_of(event), clean_text(key)
        self._run(lambda: self._writer.set_control(row, kind, cleaned, body))

    def controls(self, kind: str) -> dict[str, dict[str, object]]:
        """What is set now, by key."""
        return self._look(lambda appender, cursor: appender.controls.of(cursor, kind))

    def controls_version(self) -> int:
        """A number that grows with every change of the controls."""
        return self._look(lambda appender, cursor: appender.controls.version(cursor))

    def _look(self, work: Callable[[Appender, Cursor], T]) -> T:
        return self._in_time(lambda deadline: self._writer.look(work, deadline), undo=_nothing)

    def _in_time(self, action: Callable[[float], T], *, undo: Callable[[T], None], began: float | None = None) -> T:
        """What the action gives by its deadline. Raises LedgerError if `hold_timeout` has passed: it is undone then."""
        writer = self._writer
        now = time.monotonic()
        left = writer.hold_timeout - (0.0 if began is None else now - began)
        if left > 0:
            if not under_event_loop():
                return action(now + left)
            results: list[T] = []
            act = partial(_append_result, results, partial(action, now + left * SHARE_FOR_SQL))
            if writer.own_thread().ask(act, lambda: undo(results[0]), left):
                return results[0]
        raise LedgerError(f"the ledger {writer.place.name} took longer than {writer.hold_timeout} s")

    def recover(self) -> int:
        """Bring in what was spilled; how many records were new. Raises LedgerError, BadData: nothing is then lost."""
        return self._run(lambda: upkeep.recover(self._writer.spill, self._append_patiently))

    def _append_patiently(self, entries: Sequence[Entry]) -> int:
        rows = [row_of_settlement(entry) if isinstance(entry, Settlement) else row_of(entry) for entry in entries]
        return self._writer.append(rows, UPKEEP_TIMEOUT_S)

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

    def _store(self, deadline: float | None = None) -> SqlStore:
        if deadline is not None:
            with section, self._writer.turn(deadline) as store:
                return store
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
            read = partial(reading.page, kind=kind, history=history, period=period, filters=filters, after=after)
            page, began = partial(self._connected, read), asked_at()
            records, after = self._run(page) if began is None else self._in_time(page, undo=_nothing, began=began)
            yield from (record for record in records if matches(record, filters))
            if after is None:
                return

    def look_at(self, read: Callable[[Connection], T]) -> T:
        """What `read` finds in one state of the ledger. For sums that no reader gives: it must write nothing."""
        return self._run(partial(self._connected, read))

    def _connected(self, read: Callable[[Connection], T], deadline: float | None = None) -> T:
        with section, self._store(deadline).reading(deadline) as connection:
            return read(connection)

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
        read = partial(sum_up, by=dimensions, period=period, filters=filters)
        return self._run(partial(self._connected, read))

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


def _nothing(*_: object) -> None:
    """What `flush` waits for: all that was handed over before it is then written."""


def _append_result(results: list[T], action: Callable[[], T]) -> None:
    results.append(action())
