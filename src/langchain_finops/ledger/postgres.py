"""One PostgreSQL database: its connections, its transactions, and what they lock.

Many machines write at once. A transaction first takes advisory locks on all that its rows must be alone with, in one
order everywhere, so that no two wait for each other; `prune` and `forget` take the lock that all others share.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql import ClauseElement

from langchain_finops.errors import LedgerError
from langchain_finops.ledger import migrations
from langchain_finops.ledger.append import Appender
from langchain_finops.ledger.postgres_connection import Connection, Link, connect, made_by, plain
from langchain_finops.ledger.postgres_cursor import PatientCursor, Statement
from langchain_finops.ledger.postgres_url import Address, address_of
from langchain_finops.ledger.stores import Busy, Cursor, Place, RecordRefused, SqlStore

__all__ = ["PostgresStore", "place_of"]

T = TypeVar("T")
OPEN_TIMEOUT_S: Final = 10.0
"""How long opening waits for another process that creates or migrates the tables."""
READ_TIMEOUT_S: Final = 300.0
SERVER_SHARE: Final = 0.9
"""Of the time that is left: then the server gives up by itself, and the connection stays."""
MOST_LOCKS: Final = 200
"""A transaction that would need more locks all others out: a server has room for a few thousand in all."""
ALL: Final = int.from_bytes(blake2b(b"langchain-finops", digest_size=7).digest())
"""The advisory lock that every writer shares."""
ALONE_S: Final = 0.2
"""How long a transaction that locks all others out waits for them at a time."""
IDLE_MS: Final = 5_000
"""How long a transaction may pause at least: a process that is short of CPU is not gone."""
IDLE: Final = 2
"""Connections for reading that are kept open."""
_OF_THE_RECORD: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
_IN_THE_WAY: Final = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)
_TRY_AGAIN: Final = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


def place_of(url: str) -> Place:
    """The ledger of a URL; what it cannot take is spilled into the user's data directory.

    Raises LedgerError for what is no URL, MissingExtra without the driver.
    """
    address = address_of(url)
    spill = _spill_folder() / address.file_name
    return Place(url=address.shown, name=address.shown, spill=spill, open=_Opening(address))


class _Opening:
    """Opens the ledger; looks at its tables the first time only.

    A forked child opens it again, in the midst of a run: it must not wait there for a server that is gone.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._digest_key: bytes | None = None

    def __call__(self) -> "PostgresStore":
        store = PostgresStore(self._address, digest_key=self._digest_key)
        self._digest_key = store.digest_key
        return store


def _spill_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("langchain-finops", appauthor=False)


def _lock_number(name: str | bytes) -> int:
    raw = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
    return int.from_bytes(blake2b(raw, digest_size=8).digest(), signed=True)


def _engine(address: Address, make: Callable[[], Connection]) -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        creator=make,
        execution_options={"ledger": address.shown},
        paramstyle="format",
        use_native_hstore=False,
        poolclass=QueuePool,
        pool_size=IDLE,
        max_overflow=-1,
    )


class PostgresStore:
    """An open database. One writer at a time in this process: the caller holds a lock around `transaction`."""

    most_at_once = 100

    def __init__(self, address: Address, *, digest_key: bytes | None = None) -> None:
        """`digest_key`: of a ledger whose tables were looked at before; None to look at them."""
        self._name = address.shown
        make = partial(connect, address.parameters)
        self._engine = _engine(address, make)
        self._link = Link(make)
        self.appender = Appender(self._engine.dialect)
        if digest_key is not None:
            self.digest_key = digest_key
            return
        try:
            self._open()
        except (psycopg.Error, DBAPIError) as error:
            self.close()
            raise LedgerError(f"cannot open the ledger {self._name}: {plain(error)}") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        with self._connected(partial(_begin, deadline=deadline)) as connection:
            raw = _raw(connection)
            # Read first: who only looks needs no rights to write, and another program's database stays as it is.
            if not migrations.is_newest(connection):
                _begin(raw, deadline, _writing(deadline))
                migrations.migrate(connection)
                raw.execute("COMMIT")
            self.digest_key = migrations.digest_key(connection)

    @contextmanager
    def _connected(
        self, begin: Callable[[Connection], object], deadline: float | None = None
    ) -> Iterator[SqlConnection]:
        """A connection of SQLAlchemy's on which `begin` was run; what it leaves open is rolled back."""
        connection = self._begun(begin, deadline)
        raw = _raw(connection)
        try:
            yield connection
        finally:
            _roll_back(raw)
            _hand_back(connection, raw)

    def _begun(self, begin: Callable[[Connection], object], deadline: float | None) -> SqlConnection:
        """A connection on which `begin` went well: those that broke while nobody used them are dropped."""
        for idle in reversed(range(IDLE + 1)):
            connection = self._engine.connect() if deadline is None else self._connected_by(deadline)
            raw = _raw(connection)
            try:
                begin(raw)
            except BaseException as error:
                _roll_back(raw)
                _hand_back(connection, raw)
                if idle and raw.closed and isinstance(error, psycopg.Error):
                    continue
                raise
            return connection
        raise AssertionError("unreachable")

    def _connected_by(self, deadline: float) -> SqlConnection:
        """A connection of the pool, which may have to be made. Raises Busy where that takes longer."""
        try:
            return made_by(deadline, self._engine.connect, _drop)
        except Busy as error:
            raise Busy(f"cannot reach the ledger {self._name}: {error}") from error

    def is_stale(self) -> bool:
        """A server stays the same."""
        return False

    def transaction(self, work: Callable[[Cursor], T], *, deadline: float, locks: Iterable[str | bytes] = ()) -> T:
        """Run `work` in a transaction that no other writer of what `locks` names can come between.

        Where the connection was lost, or another transaction got in its way, it is run again till the deadline.
        """
        names = list(locks)

        def once() -> T:
            return _in_transaction(self._link.get(deadline), work, deadline, _writing(deadline, names))

        try:
            result = self._repeated(once, deadline)
        except psycopg.Error as error:
            self.appender.rolled_back()
            raise self._error("write", error) from error
        except BaseException:
            self.appender.rolled_back()
            raise
        self.appender.committed()
        return result

    def look(self, work: Callable[[Cursor], T], *, deadline: float) -> T:
        """Run `work`, which only reads, on one state of the ledger."""

        def once() -> T:
            return _in_transaction(self._link.get(deadline), work, deadline, _reading(deadline))

        try:
            return self._repeated(once, deadline)
        except psycopg.Error as error:
            raise self._error("read", error) from error

    def _repeated(self, once: Callable[[], T], deadline: float) -> T:
        while True:
            try:
                return once()
            except Busy as error:
                raise Busy(f"cannot reach the ledger {self._name}: {error}") from error
            except _Lost as error:
                if time.monotonic() >= deadline:
                    raise error.reason from None
            except _TRY_AGAIN:
                if time.monotonic() >= deadline:
                    raise
            self.appender.rolled_back()
            time.sleep(random.uniform(0.0005, 0.005))  # noqa: S311 - only spreads the writers out

    def exclusively(self, work: Callable[[Cursor], T], deadline: float) -> T:
        """Run `work`, which may take long, in a transaction on a connection of its own, with all other writers out."""
        try:
            while True:
                with suppress(psycopg.errors.LockNotAvailable):
                    return self._alone(work, deadline)
                if time.monotonic() >= deadline:
                    raise Busy(f"the ledger {self._name} is in use: try again")
        except _Lost as error:
            raise self._error("write", error.reason) from error.reason
        except (psycopg.Error, DBAPIError) as error:
            raise self._error("write", error) from error

    def _alone(self, work: Callable[[Cursor], T], deadline: float) -> T:
        # Whoever comes later waits behind it: it must not stand long in a queue that somebody who is stuck holds up.
        statements = _writing(deadline, lock_s=ALONE_S)
        with self._connected(partial(_begin, deadline=deadline, statements=statements)) as connection:
            return _finish(_raw(connection), PatientCursor(_raw(connection)), work)

    @contextmanager
    def reading(self, deadline: float | None = None) -> Iterator[SqlConnection]:
        """A connection of its own that sees one state of the ledger until the block ends."""
        until = time.monotonic() + READ_TIMEOUT_S if deadline is None else deadline
        begin = partial(_begin, deadline=until, statements=_reading(until))
        try:
            with self._connected(begin, deadline) as connection:
                yield connection
        except (psycopg.Error, DBAPIError) as error:
            raise self._error("read", error) from error

    def sql(self, statement: ClauseElement) -> str:
        """The statement as text for the driver."""
        return str(statement.compile(dialect=self._engine.dialect))

    def overwrite(self, cursor: Cursor) -> None:
        """Nothing: what an update leaves behind goes when the table is swept."""

    def sweep(self, deadline: float) -> None:
        """Take versions of parties that nobody sees any more out of the table."""
        try:
            with self._connected(partial(_begin, deadline=deadline)) as connection:
                _raw(connection).execute("VACUUM parties", prepare=False)
        except (psycopg.Error, DBAPIError) as error:
            raise self._error("write", error) from error

    def _error(self, verb: str, error: psycopg.Error | DBAPIError) -> LedgerError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        kind = LedgerError
        if isinstance(cause, _OF_THE_RECORD):
            kind = RecordRefused
        elif isinstance(cause, _IN_THE_WAY):
            kind = Busy
        return kind(f"cannot {verb} the ledger {self._name}: {plain(error)}")

    def close(self) -> None:
        """Let go of the connections."""
        self._link.close()
        self._engine.dispose()


class _Lost(Exception):
    """The connection broke before anything was committed."""

    def __init__(self, reason: psycopg.Error) -> None:
        super().__init__()
        self.reason = reason


def _raw(connection: SqlConnection) -> Connection:
    return cast("Connection", connection.connection.dbapi_connection)


def _writing(
    deadline: float, locks: Iterable[str | bytes] | None = None, *, lock_s: float = math.inf
) -> list[Statement]:
    """What begins a transaction that writes; without `locks` all other writers are locked out.

    It waits for a lock until the deadline, and `lock_s` at most.
    """
    numbers = [] if locks is None else sorted({_lock_number(name) for name in locks})
    statements: list[Statement] = [
        ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", ()),
        _time_outs(deadline, lock_s),
    ]
    if locks is None or len(numbers) > MOST_LOCKS:
        return [*statements, ("SELECT pg_advisory_xact_lock(%s)", (ALL,))]
    statements.append(("SELECT pg_advisory_xact_lock_shared(%s)", (ALL,)))
    if numbers:
        statements.append(("SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number", (numbers,)))
    return statements


def _reading(deadline: float) -> list[Statement]:
    """What begins a transaction that sees one state."""
    return [("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()), _time_outs(deadline)]


def _time_outs(deadline: float, lock_s: float = math.inf) -> Statement:
    left_ms = max(1, int((deadline - time.monotonic()) * 1000 * SERVER_SHARE))
    # A machine that was cut off in the midst of it must not keep its locks until TCP notices, in two hours.
    times = {
        "statement_timeout": left_ms,
        "lock_timeout": int(min(left_ms, lock_s * 1000)),
        "idle_in_transaction_session_timeout": max(left_ms, IDLE_MS),
    }
    return f"SELECT {', '.join(f'set_config({name!r}, %s, true)' for name in times)}", [
        str(ms) for ms in times.values()
    ]


def _begin(raw: Connection, deadline: float, statements: Iterable[Statement] = ()) -> PatientCursor:
    """Run the statements, and let what follows take until the deadline."""
    raw.deadline = deadline
    cursor = PatientCursor(raw)
    for statement in statements:
        cursor.execute(*statement)
    if statements:
        cursor.send()
    return cursor


def _in_transaction(raw: Connection, work: Callable[[Cursor], T], deadline: float, begin: Iterable[Statement]) -> T:
    """Run `work` in a transaction. Raises _Lost where the connection broke and nothing can have been committed."""
    raw.deadline = deadline
    cursor = PatientCursor(raw)
    for statement in begin:
        cursor.execute(*statement)
    return _finish(raw, cursor, work)


def _finish(raw: Connection, cursor: PatientCursor, work: Callable[[Cursor], T]) -> T:
    """Run `work` in the transaction that is open, or waits to be, and commit it."""
    try:
        result = work(cursor)
        if not cursor.has_sent:  # Or it could not be told whether a connection that was lost took the commit.
            cursor.send()
    except BaseException as error:
        _give_up(raw, error)
        raise
    try:
        cursor.execute("COMMIT").send()
    except BaseException:
        _roll_back(raw)
        raise
    return result


def _give_up(raw: Connection, error: BaseException) -> None:
    """Roll back. Raises _Lost where the error is that the connection is gone: what was open is then gone, too."""
    _roll_back(raw)
    if raw.closed and isinstance(error, psycopg.Error):
        raise _Lost(error) from error


def _drop(connection: SqlConnection) -> None:
    """Close a connection that nobody waits for any more: the pool it is of may have been given up meanwhile."""
    connection.invalidate()
    connection.close()


def _hand_back(connection: SqlConnection, raw: Connection) -> None:
    """Have the pool keep a connection that is in order, and forget one that is closed."""
    if raw.closed:
        connection.invalidate()
    connection.close()


def _roll_back(raw: Connection) -> None:
    """End a transaction that is open; a connection on which that fails is closed."""
    if raw.closed or raw.pgconn.transaction_status == TransactionStatus.IDLE:
        return
    raw.deadline = time.monotonic() + 1.0
    with suppress(psycopg.Error):
        raw.execute("ROLLBACK", prepare=False)
        return
    raw.close()


def _conforms(store: PostgresStore) -> SqlStore:
    """For the type checker alone."""
    return store
