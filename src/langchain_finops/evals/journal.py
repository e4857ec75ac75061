"""Puts finished attempts and verdicts on disk without blocking the event loop."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from langchain_finops.evals.results import (
    ASKED,
    ATTEMPTS,
    BEGUN,
    SCORES,
    AttemptResult,
    JsonLines,
    JudgingKey,
    TryKey,
    Verdict,
    encoded,
    encoded_start,
)
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Record

__all__ = ["Journal"]


class Entry(NamedTuple):
    """What is to be written, and who waits for it."""

    done: Future[None]
    begun: bytes = b""
    asked: bytes = b""
    attempts: bytes = b""
    verdicts: bytes = b""
    records: Sequence[Record] = ()


class Journal:
    """One thread that writes what attempts leave behind.

    Entries that wait together share one write and one fsync of each file, so that a slow disk costs a run little.
    `ledger_first` says which of ledger and attempts a crash between them leaves ahead.
    """

    def __init__(self, folder: Path, ledger: Ledger, *, ledger_first: bool) -> None:
        self._ledger, self._ledger_first = ledger, ledger_first
        self._attempts = JsonLines(folder / ATTEMPTS)
        self._scores = JsonLines(folder / SCORES)
        self._begun = JsonLines(folder / BEGUN)
        self._folder = folder
        self._asked: JsonLines | None = None
        """Runs without a judge have no such file."""
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="finops-eval journal", daemon=True)
        self._thread.start()

    def begin(self, key: TryKey) -> "asyncio.Future[None]":
        """Have it written that a try begins: a crash before its first call has ended leaves this and nothing else.

        The operating system has it then, which a killed process does not change; a disk may not.
        """
        return self._put(begun=encoded_start(key))

    def ask(self, key: JudgingKey) -> "asyncio.Future[None]":
        """Have it written that a judge is about to be asked: a crash before its verdict leaves this."""
        return self._put(asked=encoded_start(key))

    def keep(
        self,
        *,
        attempt: AttemptResult | None = None,
        verdicts: Sequence[Verdict] = (),
        records: Sequence[Record] = (),
    ) -> "asyncio.Future[None]":
        """Have something written; what is returned is done when it is on disk. Entries are written in their order."""
        # Encoded here: a line that cannot be written must not take those with it that share its write.
        line = b"" if attempt is None else encoded(attempt)
        return self._put(attempts=line, verdicts=b"".join(map(encoded, verdicts)), records=records)

    def _put(self, **what: Any) -> "asyncio.Future[None]":
        done: Future[None] = Future()
        self._queue.put(Entry(done, **what))
        # Shielded: a cancelled attempt must not lose a line that is already on its way to the disk.
        kept = asyncio.shield(asyncio.wrap_future(done))
        kept.add_done_callback(_seen)
        return kept

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()
        self._attempts.close()
        self._scores.close()
        self._begun.close()
        if self._asked is not None:
            self._asked.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_all(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            closing = None in batch
            self._write([entry for entry in batch if entry is not None])

    def _write(self, entries: Sequence[Entry]) -> None:
        try:
            if begun := b"".join(entry.begun for entry in entries):
                self._begun.write_encoded(begun)
            if asked := b"".join(entry.asked for entry in entries):
                self._asked = self._asked or JsonLines(self._folder / ASKED)
                self._asked.write_encoded(asked)
            steps = [self._write_records, self._write_attempts]
            for step in steps if self._ledger_first else reversed(steps):
                step(entries)
            if verdicts := b"".join(entry.verdicts for entry in entries):
                self._scores.append_encoded(verdicts)
        except BaseException as error:  # noqa: BLE001  Told to every attempt that waits; the thread must go on.
            for entry in entries:
                entry.done.set_exception(error)
        else:
            for entry in entries:
                entry.done.set_result(None)

    def _write_records(self, entries: Sequence[Entry]) -> None:
        if records := [record for entry in entries for record in entry.records]:
            self._ledger.write(*records)

    def _write_attempts(self, entries: Sequence[Entry]) -> None:
        if attempts := b"".join(entry.attempts for entry in entries):
            self._attempts.append_encoded(attempts)


def _seen(kept: "asyncio.Future[None]") -> None:
    """Take note of an error that nobody may wait for any more: asyncio would complain of it on stderr."""
    if not kept.cancelled():
        kept.exception()
