"""A cursor that goes to the server when a result is asked for, and takes along all that waits: fewer round trips.

On a network each of them costs more than what the server has to do, and balances stay locked meanwhile.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg

__all__ = ["PatientCursor", "Statement"]

MOST_WAITING: Final = 500
Statement = tuple[str, Sequence[Any]]


class PatientCursor:
    """Statements run in the order in which they were given; one that fails ends those that were sent with it.

    Its error is raised where the next result is asked for, or by `send`.
    """

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection
        self._waiting: list[Statement] = []
        self._last: psycopg.Cursor[tuple[Any, ...]] | None = None
        self.has_sent = False
        """Whether the server has answered to anything."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> "PatientCursor":
        """Have a statement run, soon."""
        if len(self._waiting) >= MOST_WAITING:
            self.send()
        self._waiting.append((sql, parameters))
        return self

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        """Have a statement run with each of several rows of parameters."""
        for row in parameters:
            self.execute(sql, row)

    def send(self) -> "psycopg.Cursor[tuple[Any, ...]]":
        """Run what waits; the cursor of the last statement. Raises psycopg.Error."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            sql, parameters = waiting[0]
            self._last = self._connection.cursor().execute(sql.encode(), parameters)
        elif waiting:
            self._last = self._together(waiting)
        self.has_sent = True
        assert self._last is not None
        return self._last

    def _together(self, waiting: Sequence[Statement]) -> "psycopg.Cursor[tuple[Any, ...]]":
        """One message with all of them. The driver's pipeline would send many, and costs twice as much as it saves."""
        cursor = psycopg.ClientCursor(self._connection)
        cursor.execute("; ".join(cursor.mogrify(sql.encode(), parameters) for sql, parameters in waiting).encode())
        while cursor.nextset():
            pass
        return cursor

    @property
    def lastrowid(self) -> int | None:
        """Nothing: statements say RETURNING."""
        return None

    @property
    def rowcount(self) -> int:
        """How many rows the last statement inserted, updated or deleted."""
        return self.send().rowcount

    def fetchone(self) -> Any:
        """The next row of the last statement, None after the last."""
        return self.send().fetchone()

    def fetchall(self) -> list[Any]:
        """All rows of the last statement."""
        return self.send().fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.send())
