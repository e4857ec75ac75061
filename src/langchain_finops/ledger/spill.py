"""Where records go that the ledger could not take: one JSON line each, in a file beside it."""

import glob
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from langchain_finops.errors import LedgerError
from langchain_finops.ledger.codec import dumps, from_text, to_text
from langchain_finops.ledger.holds import Settlement
from langchain_finops.ledger.rows import Row
from langchain_finops.records import CallRecord, ChargeRecord, Record, RunRecord

try:
    import fcntl as _fcntl
except ImportError:  # Windows: recovering while another process spills is then on the user.
    _fcntl = None  # type: ignore[assignment]  # there is no such module there

__all__ = ["Entry", "Line", "Spill", "entry_of", "read"]

fcntl: ModuleType | None = _fcntl
Entry = Record | Settlement
"""What a line holds. A settlement's has a third part, which a record's has not: hold id and amounts."""


def entry_of(row: Row) -> Entry:
    """What is to be written for a row."""
    if not row.settles:
        return row.record
    assert isinstance(row.record, CallRecord | ChargeRecord | RunRecord)
    return Settlement(record=row.record, hold_id=row.hold_id, amounts=row.amounts)


def _to_line(entry: Entry) -> str:
    if not isinstance(entry, Settlement):
        return to_text(entry)
    return f"{to_text(entry.record)[:-1]},{dumps([entry.hold_id, dict(entry.amounts)])}]"


def _from_line(line: str) -> Entry:
    """The entry of a line. Raises ValueError for anything else."""
    try:
        parts = json.loads(line)
        if len(parts) < 3:
            return from_text(line)
        record = from_text(json.dumps(parts[:2]))
        hold_id, amounts = parts[2]
        if not isinstance(record, CallRecord | ChargeRecord | RunRecord):
            raise TypeError(f"{parts[0]} settles nothing")
    except (AttributeError, RecursionError, TypeError) as error:
        raise ValueError(f"not a record: {error}") from error
    return Settlement(record=record, hold_id=None if hold_id is None else str(hold_id), amounts=amounts)


class Spill:
    """The spill file of one ledger. Many processes append at once, while one recovers."""

    def __init__(self, ledger: Path) -> None:
        self.path = ledger.with_name(f"{ledger.name}.spill.jsonl")

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries in one write. Raises LedgerError where that fails: they are then nowhere."""
        # A line that a kill cut short is ended by the newline that the next one begins with.
        data = "".join(f"\n{_to_line(entry)}\n" for entry in entries).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)  # The ledger itself may be far away.
            descriptor = self._open_locked(os.O_WRONLY | os.O_APPEND | os.O_CREAT, exclusive=False)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LedgerError(
                f"{len(entries)} records are lost: neither the ledger nor {self.path}: {error}"
            ) from error

    def _open_locked(self, flags: int, *, exclusive: bool) -> int:
        """The file, locked: shared by those who append, exclusive for who moves it away."""
        while True:
            descriptor = os.open(self.path, flags, 0o600)
            if fcntl is None:
                return descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            try:
                if os.fstat(descriptor).st_ino == self.path.stat().st_ino:
                    return descriptor
            except FileNotFoundError:
                pass
            # It was moved away before we had the lock: what we append to it now might never be read.
            os.close(descriptor)

    def take(self) -> list[Path]:
        """Move what was spilled so far out of the writers' way. Files that an earlier recovery left are among them."""
        try:
            descriptor = self._open_locked(os.O_RDONLY, exclusive=True)
        except FileNotFoundError:
            return self._taken()
        try:
            self.path.rename(self.path.with_name(f"{self.path.name}.{os.getpid()}-{time.time_ns()}.taken"))
        finally:
            os.close(descriptor)
        return self._taken()

    def _taken(self) -> list[Path]:
        return self._ending("taken")

    def _ending(self, suffix: str) -> list[Path]:
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.*.{suffix}"))

    def forget(self, user_id: str) -> None:
        """Take the lines that name a person out of the files that nothing could be made of."""
        name = json.dumps(user_id)[1:-1].encode()
        for path in self._ending("unreadable"):
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if not _may_name(line, name)]
            if len(kept) == len(lines):
                continue
            if kept:
                path.write_bytes(b"".join(kept))
            else:
                path.unlink()

    def is_empty(self) -> bool:
        """Whether nothing waits to be recovered."""
        return not (self.path.exists() or self._taken())


def _may_name(line: bytes, name: bytes) -> bool:
    """Whether a line has the name, or was cut short within it."""
    last = line.rstrip().rpartition(b'"user_id":"')[2]
    return name in line or bool(last and name.startswith(last))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a spill file."""

    text: bytes
    entry: Entry | None
    fault: str = ""
    """Why it is no record."""


def read(path: Path) -> Iterator[Line]:
    """The lines of a file that are not empty."""
    with path.open("rb") as lines:
        for text in lines:
            if not text.strip():
                continue
            try:
                yield Line(text, _from_line(text.decode()))
            except ValueError as error:
                yield Line(text, None, f"{error}")
