"""Puts finished attempts and verdicts on disk without blocking the event loop."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from langchain_finops.evals.results import ATTEMPTS, SCORES, AttemptResult, JsonLines, Verdict, encoded
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Record

__all__ = ["Journal"]

Entry = tuple[bytes, bytes, Sequence[Record], Future[None]]
"""Lines of attempts, lines of verdicts, records, and who waits for them."""


class Journal:
    """One thread that writes what attempts leave behind.

    Entries that wait together share one write and one fsync of each file, so that a slow disk costs a run little.
    `ledger_first` says which of ledger and attempts a crash between them leaves ahead.
    """

    def __init__(self, folder: Path, ledger: Ledger, *, ledger_first: bool) -> None:
        self._ledger, self._ledger_first = ledger, ledger_first
        self._attempts = JsonLines(folder / ATTEMPTS)
        self._scores = JsonLines(folder / SCORES)
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="finops-eval journal", daemon=True)
        self._thread.start()

    def keep(
        self,
        *,
        attempt: AttemptResult | None = None,
        verdicts: Sequence[Verdict] = (),
        records: Sequence[Record] = (),
    ) -> "asyncio.Future[None]":
        """Have something written; what is returned is done when it is on disk. Entries are written in their order."""
        done: Future[None] = Future()
        # Encoded here: a line that cannot be written must not take those with it that share its write.
        line = b"" if attempt is None else encoded(attempt)
        self._queue.put((line, b"".join(map(encoded, verdicts)), records, done))
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
            steps = [self._write_records, self._write_attempts]
            for step in steps if self._ledger_first else reversed(steps):
                step(entries)
            if verdicts := b"".join(entry[1] for entry in entries):
                self._scores.append_encoded(verdicts)
        except BaseException as error:  # noqa: BLE001  Told to every attempt that waits; the thread must go on.
            for entry in entries:
                entry[3].set_exception(error)
        else:
            for entry in entries:
                entry[3].set_result(None)

    def _write_records(self, entries: Sequence[Entry]) -> None:
        if records := [record for entry in entries for record in entry[2]]:
            self._ledger.write(*records)

    def _write_attempts(self, entries: Sequence[Entry]) -> None:
        if attempts := b"".join(entry[0] for entry in entries):
            self._attempts.append_encoded(attempts)


def _seen(kept: "asyncio.Future[None]") -> None:
    """Take note of an error that nobody may wait for any more: asyncio would complain of it on stderr."""
    if not kept.cancelled():
        kept.exception()
