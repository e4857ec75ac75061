"""What a ledger in SQL asks of its database: transactions that nobody comes between, and one state to read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.sql import ClauseElement

from langchain_finops.errors import LedgerError

if TYPE_CHECKING:
    from langchain_finops.ledger.append import Appender

__all__ = ["Busy", "Cursor", "Place", "RecordRefused", "SqlStore"]

T = TypeVar("T")


class Busy(LedgerError):
    """Another process held the database, or what we need of it, for longer than we may wait."""


class RecordRefused(LedgerError):
    """The database takes writes, but not this one: what is to be written is at fault."""


class Cursor(Protocol):
    """What the drivers' cursors have in common. Parameters are positional, in the order of the compiled statement."""

    @property
    def lastrowid(self) -> int | None:
        """The number SQLite gave the row that was inserted last."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement inserted, updated or deleted."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> "Cursor":
        """Run a statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        """Run a statement with each of several rows of parameters."""

    def fetchone(self) -> Any:
        """The next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """All rows."""

    def __iter__(self) -> Iterator[Any]: ...


class SqlStore(Protocol):
    """An open database. One writer at a time in this process: the caller holds a lock around `transaction`."""

    appender: "Appender"
    digest_key: bytes
    """What digests of prompts are keyed with, read when it was opened."""
    most_at_once: int
    """How many rows a transaction that holds all writers up may touch."""

    def is_stale(self) -> bool:
        """Whether the place now holds another ledger than the one that is open. Raises LedgerError if it holds none."""

    def transaction(self, work: Callable[[Cursor], T], *, deadline: float, locks: Iterable[str | bytes] = ()) -> T:
        """Run `work` in a transaction that no other writer of what `locks` names can come between.

        Commits at its end, else rolls back; `work` may be run again where another transaction got in its way. Raises
        LedgerError if that is not possible until `time.monotonic()` passes the deadline.
        """

    def exclusively(self, work: Callable[[Cursor], T], deadline: float) -> T:
        """Run `work`, which may take long, in a transaction that no other writer at all can come between."""

    def look(self, work: Callable[[Cursor], T], *, deadline: float) -> T:
        """Run `work`, which only reads, on one state of the ledger, without waiting for who writes.

        Raises LedgerError if that is not possible until the deadline. For what hooks ask; the caller holds the lock.
        """

    def reading(self, deadline: float | None = None) -> AbstractContextManager[Connection]:
        """A connection of its own that sees one state of the ledger until the block ends.

        What it runs raises LedgerError once `time.monotonic()` passes the deadline; None: when it has taken minutes.
        """

    def sql(self, statement: ClauseElement) -> str:
        """The statement as text for the driver's cursor."""

    def overwrite(self, cursor: Cursor) -> None:
        """Have what this transaction deletes leave no bytes behind, as far as the database can."""

    def sweep(self, deadline: float) -> None:
        """Take what was deleted out of logs and free space. Raises Busy where others are in the way till then."""

    def close(self) -> None:
        """Let go of connections and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a ledger is, and how it is opened."""

    url: str
    """In the form `open_ledger` takes; without a password."""
    name: str
    """As messages name it."""
    spill: Path
    """What the names of its spill files begin with."""
    open: Callable[[], SqlStore]
    """Raises LedgerError."""
