"""One SQLite file: its connections, its transactions, and how rows are appended in one.

WAL with `synchronous=NORMAL`: what was committed survives `kill -9` of the process. A power cut may take the last
moments before it (never the file): a sync to disk for every call would cost milliseconds inside the user's event loop.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import ClauseElement

from langchain_finops.errors import LedgerError
from langchain_finops.ledger import migrations
from langchain_finops.ledger.append import Appender
from langchain_finops.ledger.forks import in_sqlite
from langchain_finops.ledger.stores import Busy, Cursor, Place, RecordRefused

__all__ = ["Store", "place_of"]

SET_UP_S: Final = 1.0
"""How long a new connection waits for what others hold for a moment."""
OPEN_TIMEOUT_S: Final = 10.0
"""How long opening waits for another process that creates or migrates the file."""
STEPS_BETWEEN_LOOKS: Final = 10_000
"""Of SQLite's machine: a millisecond or less."""
T = TypeVar("T")
_OF_THE_RECORD: Final = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.DataError)


def is_busy(error: BaseException) -> bool:
    """Whether waiting may help."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return isinstance(cause, sqlite3.OperationalError) and code is not None and code & 0xFF in {5, 6}


def _plain(error: sqlite3.Error | DBAPIError) -> BaseException:
    """What SQLite says, without the statement and the link that SQLAlchemy adds."""
    return error if isinstance(error, sqlite3.Error) else error.orig or error


def retry_while_busy(deadline: float, action: Callable[[], T]) -> T:
    """The action's result, tried until `time.monotonic()` passes the deadline, at least once.

    SQLite's own busy handler sleeps up to 100 ms between tries, so that with many writers one starves; and it does not
    run at all where two connections start on a new file at once.
    """
    while True:
        try:
            return action()
        except (sqlite3.OperationalError, DBAPIError) as error:
            if not is_busy(error):
                raise
            if time.monotonic() >= deadline:
                raise Busy("the ledger is locked by another process") from error
        time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - only spreads the writers out


def engine_for(path: Path, *, read_only: bool) -> Engine:
    """An engine whose every connection is new, speaks WAL, and leaves transactions to us."""
    target, query = path.as_posix(), {}
    if read_only:
        target, query = f"file:{quote(target)}", {"mode": "ro", "immutable": "1", "uri": "true"}
    engine = create_engine(
        URL.create("sqlite", database=target, query=query),
        poolclass=NullPool,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": 0.0, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def _set_up(dbapi_connection: sqlite3.Connection, _: object) -> None:
        # Setting up reads the file: without patience it fails while another connection empties the WAL.
        dbapi_connection.execute(f"PRAGMA busy_timeout={SET_UP_S * 1000:.0f}")
        dbapi_connection.execute("PRAGMA synchronous=NORMAL")
        # Or a name that was forgotten stays readable in what pages leave free, where SQLite was not built with it.
        dbapi_connection.execute("PRAGMA secure_delete=FAST")
        dbapi_connection.execute("PRAGMA cache_size=-16384")
        dbapi_connection.execute("PRAGMA temp_store=MEMORY")
        # A checkpoint syncs the file: once every 16 MB of writes, not every 4.
        dbapi_connection.execute("PRAGMA wal_autocheckpoint=4096")
        dbapi_connection.execute("PRAGMA busy_timeout=0")

    return engine


def _write_error(path: Path, error: sqlite3.Error) -> LedgerError:
    kind = RecordRefused if isinstance(error, _OF_THE_RECORD) else LedgerError
    return kind(f"cannot write the ledger {path}: {error}")


def _in_transaction(raw: Any, work: Callable[[Cursor], T], deadline: float, begin: str = "BEGIN IMMEDIATE") -> T:
    """Run `work` in a transaction on a driver's connection; no other writer can come between."""
    retry_while_busy(deadline, lambda: raw.execute(begin))
    try:
        result = work(raw.cursor())
        retry_while_busy(deadline, lambda: raw.execute("COMMIT"))
    except BaseException:
        if raw.in_transaction:  # SQLite has rolled back by itself where the disk is full.
            raw.execute("ROLLBACK")
        raise
    return result


def _migrate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        migrations.migrate(connection)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


def place_of(path: Path) -> Place:
    """The ledger in a file; what it cannot take is spilled beside it."""
    return Place(url=f"sqlite:///{path.as_posix()}", name=str(path), spill=path, open=partial(Store, path))


class Store:
    """An open file. One writer at a time in this process: the caller holds a lock around `append`."""

    most_at_once = 5_000

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = engine_for(path, read_only=False)
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        with in_sqlite:
            try:
                self._writer = retry_while_busy(deadline, self._open)
            except Busy as error:
                raise Busy(f"the ledger {path} is locked by another process: try again when it is done") from error
            except DBAPIError as error:
                self._open_read_only(error)
        self.appender = Appender(self._engine.dialect)
        self._file = self._file_there()

    def _file_there(self) -> tuple[int, int]:
        try:
            there = self.path.stat()
        except OSError as error:
            raise LedgerError(f"the ledger {self.path} is gone: {error.strerror}") from error
        return there.st_dev, there.st_ino

    def is_stale(self) -> bool:
        """Without the look, SQLite would go on for ever with a file that was deleted, and all of it would be lost."""
        return self._file_there() != self._file

    def _open(self) -> Connection:
        connection = self._engine.connect()
        try:
            # Read first: who only looks needs no lock, and another program's file stays as it is.
            is_new = not migrations.is_newest(connection)
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            if is_new:
                _migrate(connection)
            self.digest_key = migrations.digest_key(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_read_only(self, reason: DBAPIError) -> None:
        """A ledger in a folder that may not be written is read as it lies there: WAL would want a file beside it."""
        log = self.path.with_name(f"{self.path.name}-wal")
        if log.exists() and log.stat().st_size:  # As it lies there, the file would lack what only the log holds.
            raise LedgerError(f"cannot open the ledger {self.path}: {reason.orig}") from reason
        self._engine = engine_for(self.path, read_only=True)
        try:
            self._writer = self._engine.connect()
            if migrations.version_of(self._writer) != migrations.newest_version():
                raise LedgerError(f"{self.path} cannot be written: {reason.orig}")
            self.digest_key = migrations.digest_key(self._writer)
        except DBAPIError as error:
            raise LedgerError(f"cannot open the ledger {self.path}: {reason.orig}") from error

    def transaction(
        self,
        work: Callable[[Cursor], T],
        *,
        deadline: float,
        locks: Iterable[str | bytes] = (),  # noqa: ARG002 - SQLite has one writer at a time, whatever it writes
    ) -> T:
        """Run `work` in a transaction that no other writer can come between. Commits at its end, else rolls back."""
        try:
            with in_sqlite:
                result = _in_transaction(self._writer.connection.dbapi_connection, work, deadline)
        except sqlite3.Error as error:
            self.appender.rolled_back()
            raise _write_error(self.path, error) from error
        except BaseException:
            self.appender.rolled_back()
            raise
        self.appender.committed()
        return result

    def look(self, work: Callable[[Cursor], T], *, deadline: float) -> T:
        """Run `work`, which only reads, on one state of the file; other processes that write are not in its way."""
        raw: Any = self._writer.connection.dbapi_connection
        try:
            with in_sqlite:
                return _in_transaction(raw, work, deadline, begin="BEGIN")
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read the ledger {self.path}: {error}") from error

    def exclusively(self, work: Callable[[Cursor], T], deadline: float) -> T:
        """Run `work`, which may take long, in a transaction on a connection of its own.

        Writers of this process wait for it no longer than they would for another process.
        """
        try:
            with in_sqlite, self._engine.connect() as connection:
                return _in_transaction(connection.connection.dbapi_connection, work, deadline)
        except (sqlite3.Error, DBAPIError) as error:
            raise LedgerError(f"cannot write the ledger {self.path}: {_plain(error)}") from error

    def overwrite(self, cursor: Cursor) -> None:
        """Without it a name stays readable in the bytes that an update leaves behind."""
        cursor.execute("PRAGMA secure_delete=ON")

    def sweep(self, deadline: float) -> None:
        """Fold the WAL into the file and empty it. Raises Busy where others read or write until the deadline."""
        try:
            while not self._truncated():
                if time.monotonic() >= deadline:
                    raise Busy(f"{self.path}-wal is in use by another process: try again when it is done")
                time.sleep(0.01)
        except (sqlite3.Error, DBAPIError) as error:
            raise LedgerError(f"cannot write the ledger {self.path}: {_plain(error)}") from error

    def _truncated(self) -> bool:
        with in_sqlite, self._engine.connect() as connection:
            is_busy, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        return not is_busy

    def sql(self, statement: ClauseElement) -> str:
        """The statement as text for the driver."""
        return str(statement.compile(dialect=self._engine.dialect))

    @contextmanager
    def reading(self, deadline: float | None = None) -> Iterator[Connection]:
        """A connection of its own that sees one state of the file until the block ends."""
        try:
            with in_sqlite, self._engine.connect() as connection:
                patience = OPEN_TIMEOUT_S if deadline is None else max(0.0, deadline - time.monotonic())
                connection.exec_driver_sql(f"PRAGMA busy_timeout={patience * 1000:.0f}")
                if deadline is not None:
                    raw: Any = connection.connection.dbapi_connection
                    raw.set_progress_handler(lambda: time.monotonic() >= deadline, STEPS_BETWEEN_LOOKS)
                connection.execute(text("BEGIN"))
                yield connection
                connection.execute(text("ROLLBACK"))
        except (sqlite3.Error, DBAPIError) as error:
            raise LedgerError(f"cannot read the ledger {self.path}: {_plain(error)}") from error

    def close(self) -> None:
        """Let go of the file. The last one to do so folds the WAL into it."""
        with in_sqlite:
            self._writer.close()
            self._engine.dispose()
