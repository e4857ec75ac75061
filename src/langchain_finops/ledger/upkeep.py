"""What a person asks of a ledger now and then: recover what was spilled, forget a person."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, func, null, select, update

from langchain_finops.errors import BadData, Fault, LedgerError
from langchain_finops.ledger import schema
from langchain_finops.ledger.booking import may_name, patterns
from langchain_finops.ledger.codec import dumps
from langchain_finops.ledger.naming import unlinked_event
from langchain_finops.ledger.spill import Entry, Line, Spill, read
from langchain_finops.ledger.stores import Busy, Cursor, RecordRefused, SqlStore

__all__ = ["forget", "recover"]

log = logging.getLogger("langchain_finops")
PATIENCE_S: Final = 30.0
CHUNK: Final = 500


Append = Callable[[Sequence[Entry]], int]


def recover(spill: Spill, append: Append) -> int:
    """Append what was spilled; how many records were new.

    A file goes when all of it is in the ledger. Raises BadData listing what is no record, or one that no ledger can
    keep: those lines stay in a file ending in `.unreadable`. Raises LedgerError where the ledger cannot be written.
    """
    new, faults = 0, list[Fault]()
    for path in spill.take():
        with contextlib.suppress(FileNotFoundError):  # Another process, which recovers as well, was faster.
            new += _bring_in(path, append, faults)
    if faults:
        raise BadData(faults)
    return new


def _bring_in(path: Path, append: Append, faults: list[Fault]) -> int:
    new, bad = 0, list[Line]()
    lines = read(path)
    while chunk := list(islice(lines, CHUNK)):
        bad += [line for line in chunk if line.entry is None]
        new += _append(chunk, append, bad)
    if bad:
        aside = path.with_suffix(".unreadable")
        aside.touch(0o600)
        aside.write_bytes(b"".join(line.text.rstrip(b"\n") + b"\n" for line in bad))
        faults += [Fault(where=f"{aside}:{number}", what=line.fault) for number, line in enumerate(bad, start=1)]
    path.unlink(missing_ok=True)
    return new


def _append(chunk: Sequence[Line], append: Append, bad: list[Line]) -> int:
    """Append the records of a chunk together, or where one of them is at fault one by one."""
    entries = [line.entry for line in chunk if line.entry is not None]
    try:
        return append(entries) if entries else 0
    except Exception as error:
        if not _is_of_the_record(error):
            raise
        if len(chunk) > 1:
            return sum(_append([line], append, bad) for line in chunk)
        bad.append(Line(chunk[0].text, None, f"{error}"))
        return 0


def _is_of_the_record(error: Exception) -> bool:
    """Whether it is the record that is wrong, and not that the ledger cannot be written."""
    return isinstance(error, RecordRefused) or not isinstance(error, LedgerError | OSError)


def forget(store: SqlStore, user_id: str) -> int:
    """Take a person's id off all that names it; how many calls, charges and runs did.

    Balances keep what was spent, under a key that does not say whose. What was set for the person alone (a kill, a
    budget) goes: nothing could tell any more whom it is for. Raises Busy where the id could not be taken out of the log
    beside the file as well: forgetting again does it then.
    """
    parties = schema.parties.c
    of_user = select(parties.party).where(parties.user_id == bindparam("user_id"))
    counts = [
        store.sql(select(func.count()).select_from(table).where(table.c.party.in_(of_user)))
        for table in schema.VERSIONED.values()
    ]
    unlink = store.sql(
        update(schema.parties).where(parties.user_id == bindparam("user")).values(user_id=null(), key=null())
    )

    def work(cursor: Cursor) -> int:
        store.overwrite(cursor)
        count = sum(int(cursor.execute(sql, (user_id,)).fetchone()[0]) for sql in counts)
        cursor.execute(unlink, (user_id,))
        store.appender.book.forget(cursor, user_id)
        _forget_in_events(store, cursor, user_id)
        if gone := store.appender.controls.forget(cursor, user_id):
            log.warning("%d kills or budgets were set for the person who is forgotten: they no longer hold", gone)
        return count

    deadline = time.monotonic() + PATIENCE_S
    count = store.exclusively(work, deadline)
    store.appender.forget_parties()
    try:
        store.sweep(deadline)
    except Busy as error:
        raise Busy(f"{count} records no longer name the person, but their old bytes remain: {error}") from error
    return count


def _forget_in_events(store: SqlStore, cursor: Cursor, user_id: str) -> None:
    events = schema.events
    naming = store.sql(select(events.c.n, events.c.body).where(may_name(events.c.body)))
    rewrite = store.sql(update(events).where(events.c.n == bindparam("number")).values(body=bindparam("text")))
    for number, body in cursor.execute(naming, patterns(user_id)).fetchall():
        parts = json.loads(body)
        if new := unlinked_event(parts, user_id):
            cursor.execute(rewrite, (dumps(parts | new), number))
