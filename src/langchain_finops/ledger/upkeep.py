"""What a person asks of a ledger now and then: recover what was spilled, forget a person."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import bindparam, func, null, select, update

from langchain_finops.errors import BadData, Fault
from langchain_finops.ledger import schema
from langchain_finops.ledger.spill import Spill, read
from langchain_finops.ledger.store import Store
from langchain_finops.records import Record

__all__ = ["forget", "recover"]

PATIENCE_S: Final = 30.0
CHUNK: Final = 500


def recover(spill: Spill, append: Callable[[Sequence[Record]], int]) -> int:
    """Append what was spilled; how many records were new.

    A file goes when all of it is in the ledger. Raises BadData listing lines that are no records, which stay in a file
    ending in `.unreadable`.
    """
    new, faults = 0, list[Fault]()
    for path in spill.take():
        bad = list[Fault]()
        chunk: list[Record] = []
        for record in read(path, bad):
            chunk.append(record)
            if len(chunk) == CHUNK:
                new += append(chunk)
                chunk = []
        new += append(chunk)
        if bad:
            path.rename(path.with_suffix(".unreadable"))
        else:
            path.unlink(missing_ok=True)
        faults += bad
    if faults:
        raise BadData(faults)
    return new


def forget(store: Store, user_id: str) -> int:
    """Take a person's id off all parties; how many calls, charges and runs there are of those."""
    parties = schema.parties.c
    of_user = select(parties.party).where(parties.user_id == bindparam("user_id"))
    counts = [
        store.sql(select(func.count()).select_from(table).where(table.c.party.in_(of_user)))
        for table in schema.VERSIONED.values()
    ]
    unlink = store.sql(
        update(schema.parties).where(parties.user_id == bindparam("user")).values(user_id=null(), key=null())
    )

    def work(cursor: sqlite3.Cursor) -> int:
        # Without it the name stays readable in the bytes that the update leaves behind.
        cursor.execute("PRAGMA secure_delete=ON")
        count = sum(int(cursor.execute(sql, (user_id,)).fetchone()[0]) for sql in counts)
        cursor.execute(unlink, (user_id,))
        return count

    count = store.exclusively(work, time.monotonic() + PATIENCE_S)
    store.truncate_log()
    store.appender.forget_parties()
    return count
