"""Connections to PostgreSQL that never keep anybody waiting longer than a deadline.

The server's own time-outs end what is slow or locked. They do not help where the server says nothing any more (it is
halted, or a network drops its packets), nor while a connection is made: for those the clock is on this side.
"""

import math
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import psycopg
from psycopg.adapt import Loader

from langchain_finops.ledger.stores import Busy

__all__ = ["Connection", "Link", "connect", "made_by", "plain"]

T = TypeVar("T")

_EVENTS: Final = {1: selectors.EVENT_READ, 2: selectors.EVENT_WRITE, 3: selectors.EVENT_READ | selectors.EVENT_WRITE}
"""What psycopg waits for, by the number it gives it."""
SET_UP_S: Final = 10.0
LOOK_S: Final = 60.0
"""The longest that one look at the socket takes: no deadline at all would be more than the system call can say."""
# One socket at a time: epoll would open a descriptor for each wait.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """Closes itself when the deadline passes while the server says nothing."""

    deadline: float = math.inf
    """Of `time.monotonic()`."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - versions differ in what else they pass
        """The generator's result. Raises OperationalError, and is closed, when the deadline passes first."""
        with _Selector() as selector:
            try:
                selector.register(self.pgconn.socket, _EVENTS[next(gen)])
                while True:
                    ready = selector.select(max(0.0, min(self.deadline - time.monotonic(), LOOK_S)))
                    if ready:
                        selector.modify(self.pgconn.socket, _EVENTS[gen.send(ready[0][1])])
                    elif time.monotonic() >= self.deadline:
                        raise psycopg.OperationalError("the server does not answer")
            except StopIteration as end:
                return end.value
            except psycopg.Error:
                if time.monotonic() >= self.deadline:
                    self.close()  # The server may yet answer, and nobody would know to which statement.
                raise
            except BaseException:  # Ctrl-C: the same.
                self.close()
                raise


class _Integer(Loader):
    """Sums of integers are `numeric` in PostgreSQL: exact, and none of them has a fraction."""

    def load(self, data: Any) -> int:
        """The number."""
        return int(bytes(data))


def connect(parameters: Mapping[str, Any]) -> Connection:
    """A new connection, which leaves transactions to us. Raises psycopg.Error."""
    connection = Connection.connect(**parameters, autocommit=True)
    connection.deadline = time.monotonic() + SET_UP_S  # Until a transaction says how long it may take.
    connection.adapters.register_loader("numeric", _Integer)
    return connection


def plain(error: BaseException) -> str:
    """What the server or the driver says, in one line, without the statement and the values in it."""
    cause = getattr(error, "orig", None) or error
    said = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    return said or (str(cause).strip() or type(cause).__name__).splitlines()[0]


def made_by(deadline: float, make: Callable[[], T], discard: Callable[[T], object]) -> T:
    """What `make` makes, on a thread of its own. Raises Busy where that takes longer: it is then discarded."""
    answers: SimpleQueue[T | Exception] = SimpleQueue()
    ticket: SimpleQueue[None] = SimpleQueue()  # Whoever takes it decides what becomes of what was made.
    ticket.put(None)

    def work() -> None:
        try:
            made: T | Exception = make()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            made = error
        if _taken(ticket):
            answers.put(made)
        elif not isinstance(made, Exception):
            discard(made)

    threading.Thread(target=work, name="finops-connect", daemon=True).start()
    try:
        made = answers.get(timeout=max(0.001, deadline - time.monotonic()))
    except Empty:
        if _taken(ticket):
            raise Busy("the server does not answer") from None
        made = answers.get()  # It came at the last moment.
    if isinstance(made, Exception):
        raise made
    return made


def _taken(ticket: "SimpleQueue[None]") -> bool:
    try:
        ticket.get_nowait()
    except Empty:
        return False
    return True


class Link:
    """The connection that writes. One that is lost is made anew on a thread of its own, for as long as that takes.

    Whoever writes meanwhile waits until its deadline and no longer; the one that comes after finds the connection.
    """

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make
        self._connection: Connection | None = None
        self._attempt: SimpleQueue[Connection | Exception] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def get(self, deadline: float) -> Connection:
        """The connection. Raises psycopg.Error where it cannot be made, Busy where that takes longer."""
        if self._connection is None or self._connection.closed:
            self._connection = self._made(deadline)
        return self._connection

    def _made(self, deadline: float) -> Connection:
        if self._attempt is None:
            self._attempt = SimpleQueue()
            threading.Thread(target=self._try, args=(self._attempt,), name="finops-connect", daemon=True).start()
        try:
            made = self._attempt.get(timeout=max(0.001, deadline - time.monotonic()))
        except Empty:
            raise Busy("the server does not answer") from None
        self._attempt = None
        if isinstance(made, Exception):
            raise made
        return made

    def _try(self, attempt: "SimpleQueue[Connection | Exception]") -> None:
        try:
            made = self._make()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            attempt.put(error)
            return
        with self._lock:
            if not self._closed:
                attempt.put(made)
                return
        made.close()

    def close(self) -> None:
        """Close the connection, and one that is still being made."""
        with self._lock:
            self._closed = True
        if self._connection is not None:
            self._connection.close()
        if self._attempt is not None and not self._attempt.empty():
            made = self._attempt.get()
            if isinstance(made, Connection):
                made.close()
