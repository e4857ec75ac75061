"""Where the facts are kept: `open_ledger` finds the one meant."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from langchain_finops.errors import BadArguments, LedgerError
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.postgres_url import is_postgres

if TYPE_CHECKING:
    from langchain_finops.ledger.stores import Place

__all__ = ["Ledger", "default_path", "open_ledger", "recover"]

OPEN_TIMEOUT_S = 30.0


def default_path() -> Path:
    """The ledger of whoever names none: `ledger.db` in the user's data directory."""
    from platformdirs import user_data_path

    return user_data_path("langchain-finops", appauthor=False) / "ledger.db"


_LEDGERS: set[type] = set()
"""Classes that are known to be ledgers: looking for all that one has takes longer than opening a handler on it."""


def open_ledger(where: "str | Path | Ledger | None" = None, *, hold_timeout: float = 1.0) -> Ledger:
    """The ledger at a path or URL, made if it is missing: `sqlite:///PATH`, `postgresql://USER@HOST/DATABASE`.

    None: `$FINOPS_LEDGER`, else a file in the user's data directory. `:memory:`: one that ends with the process. A
    ledger: itself. `hold_timeout`: how many seconds a hook under an event loop waits for the ledger's own thread before
    it puts a record into the spill file instead. Raises LedgerError, LedgerTooNew for one of a newer version, and
    MissingExtra for PostgreSQL without its driver.
    """
    if type(where) in _LEDGERS or isinstance(where, Ledger):
        _LEDGERS.add(type(where))
        return cast("Ledger", where)
    if not hold_timeout > 0:
        raise BadArguments(f"hold_timeout is {hold_timeout}: it is a number of seconds, more than 0")
    if where is None:
        where = os.environ.get("FINOPS_LEDGER") or None
    if where is not None and str(where) in {":memory:", "sqlite://", "sqlite:///:memory:"}:
        from langchain_finops.ledger.memory import MemoryLedger

        return MemoryLedger()
    return _open_place(where, hold_timeout)


def _open_place(where: str | Path | None, hold_timeout: float) -> Ledger:
    from langchain_finops.ledger.worker import on_own_thread

    name = "ledger"  # Until the URL is read: it may have a password in it.

    def opened() -> Ledger:
        from langchain_finops.ledger.sql import SqlLedger

        nonlocal name
        place = _place(where)
        name = f"ledger {place.name}"
        return SqlLedger(place, hold_timeout=hold_timeout)

    try:
        return on_own_thread(opened, OPEN_TIMEOUT_S)
    except TimeoutError:
        raise LedgerError(f"the {name} could not be opened within {OPEN_TIMEOUT_S:.0f} s") from None


def _place(where: str | Path | None) -> "Place":
    """The database that a path or a URL names. Makes the folder of a file."""
    if isinstance(where, str) and is_postgres(where.partition("://")[0]):
        from langchain_finops.ledger import postgres

        return postgres.place_of(where)
    from langchain_finops.ledger import store

    path = default_path() if where is None else _path(where)
    if path.is_dir():
        raise LedgerError(f"cannot open the ledger {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot make the folder of the ledger {path}: {error.strerror}") from error
    return store.place_of(path.resolve())


def _path(where: str | Path) -> Path:
    """The file that a path or a URL names."""
    if isinstance(where, Path):
        return where.expanduser()
    scheme, found, rest = where.partition("://")
    if not found:
        return Path(where).expanduser()
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return Path(rest[1:]).expanduser()
    raise LedgerError(
        f"{scheme}://... is no ledger: write a path, :memory:, sqlite:///PATH, or postgresql://USER@HOST/DATABASE"
    )


def recover(ledger: Ledger) -> int:
    """Bring in what had to be spilled while the ledger could not be written; how many records were new to it."""
    from langchain_finops.ledger.sql import SqlLedger

    return ledger.recover() if isinstance(ledger, SqlLedger) else 0
