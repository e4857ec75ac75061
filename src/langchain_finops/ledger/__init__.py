"""Where the facts are kept: `open_ledger` finds the one meant."""

import os
from pathlib import Path

from langchain_finops.errors import BadArguments, LedgerError
from langchain_finops.ledger.base import Ledger

__all__ = ["Ledger", "default_path", "open_ledger", "recover"]

OPEN_TIMEOUT_S = 30.0


def default_path() -> Path:
    """The ledger of whoever names none: `ledger.db` in the user's data directory."""
    from platformdirs import user_data_path

    return user_data_path("langchain-finops", appauthor=False) / "ledger.db"


def open_ledger(where: "str | Path | Ledger | None" = None, *, hold_timeout: float = 1.0) -> Ledger:
    """The ledger at a path or URL, made if it is missing.

    None: `$FINOPS_LEDGER`, else a file in the user's data directory. `:memory:`: one that ends with the process. A
    ledger: itself. `hold_timeout`: how many seconds a hook under an event loop waits for the ledger's own thread before
    it puts a record into the spill file instead. Raises LedgerError, and LedgerTooNew for a file of a newer version.
    """
    if isinstance(where, Ledger):
        return where
    if not hold_timeout > 0:
        raise BadArguments(f"hold_timeout is {hold_timeout}: it is a number of seconds, more than 0")
    if where is None:
        where = os.environ.get("FINOPS_LEDGER") or None
    if where is not None and str(where) in {":memory:", "sqlite://", "sqlite:///:memory:"}:
        from langchain_finops.ledger.memory import MemoryLedger

        return MemoryLedger()
    return _open_file(where, hold_timeout)


def _open_file(where: str | Path | None, hold_timeout: float) -> Ledger:
    from langchain_finops.ledger.worker import on_own_thread

    def opened() -> Ledger:
        from langchain_finops.ledger.sql import SqlLedger
        from langchain_finops.ledger.store import place_of

        path = default_path() if where is None else _path(where)
        if path.is_dir():
            raise LedgerError(f"cannot open the ledger {path}: it is a folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"cannot make the folder of the ledger {path}: {error.strerror}") from error
        return SqlLedger(place_of(path.resolve()), hold_timeout=hold_timeout)

    try:
        return on_own_thread(opened, OPEN_TIMEOUT_S)
    except TimeoutError:
        raise LedgerError(f"the ledger {where} could not be opened within {OPEN_TIMEOUT_S:.0f} s") from None


def _path(where: str | Path) -> Path:
    """The file that a path or a URL names."""
    if isinstance(where, Path):
        return where.expanduser()
    scheme, found, rest = where.partition("://")
    if not found:
        return Path(where).expanduser()
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return Path(rest[1:]).expanduser()
    if scheme.partition("+")[0] in {"postgres", "postgresql"}:
        raise LedgerError("PostgreSQL is not there yet: use a SQLite file, such as sqlite:///ledger.db")
    raise LedgerError(f"{where!r} is no ledger: write a path, :memory:, or sqlite:///PATH")


def recover(ledger: Ledger) -> int:
    """Bring in what had to be spilled while the ledger could not be written; how many records were new to it."""
    from langchain_finops.ledger.sql import SqlLedger

    return ledger.recover() if isinstance(ledger, SqlLedger) else 0
