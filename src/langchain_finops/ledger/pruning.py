"""Fold old calls and charges into daily sums: their rows go, what totals are made of stays exact."""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import add
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.append import pruned_key
from langchain_finops.ledger.codec import LARGEST, MICROS_PER_DAY, floor_day
from langchain_finops.ledger.store import Store

__all__ = ["prune"]

PATIENCE_S: Final = 30.0
Posting = tuple[int, ...]
"""Label, day, party, n, at, records, figures."""
N, AT, FIGURES = 3, 4, 5
APART: Final = 2**62
"""From here on postings are numbered that were folded but could not be added up. No row's number is as large."""


def prune(store: Store, before: datetime) -> int:
    """Fold the calls and charges of UTC days that ended by `before`; how many those were.

    One transaction for each label, so that writers are held up for moments only.
    """
    limit = floor_day(before)
    labels = schema.labels.c
    with store.reading() as connection:
        kinds = connection.execute(select(labels.label, labels.kind).where(labels.kind.in_(("call", "charge")))).all()
    folds = {kind: _Fold(store, kind, limit) for kind in ("call", "charge")}
    return sum(
        store.exclusively(lambda cursor: folds[kind].run(cursor, label), time.monotonic() + PATIENCE_S)  # noqa: B023
        for label, kind in kinds
    )


class _Fold:
    """Folding of one kind of record, a label at a time."""

    def __init__(self, store: Store, kind: str, limit: int) -> None:
        self._kind, self._limit = kind, limit
        table, postings = schema.VERSIONED[kind], schema.postings
        one = [postings.c[name] == bindparam(f"the_{name}") for name in ("label", "day", "party", "n")]
        old = select(postings).where(postings.c.label == bindparam("label"), postings.c.day < bindparam("day"))
        self._old = store.sql(old)
        self._id_of = store.sql(select(table.c.id).where(table.c.n == bindparam("n")))
        self._newest = store.sql(select(table.c.at).where(table.c.id == bindparam("id")).order_by(table.c.at.desc()))
        self._delete = store.sql(delete(table).where(table.c.id == bindparam("id")))
        self._delete_posting = store.sql(delete(postings).where(*one))
        self._post = store.sql(insert(postings).values({c.name: bindparam(c.name) for c in postings.c}))
        self._mark = store.sql(insert(schema.pruned).values(key=bindparam("key")))

    def run(self, cursor: sqlite3.Cursor, label: int) -> int:
        """Fold one label's postings; how many records' rows went."""
        old: list[Posting] = cursor.execute(self._old, (label, self._limit // MICROS_PER_DAY)).fetchall()
        ids = {n: found[0] for n in {abs(row[N]) for row in old} if (found := self._find(cursor, n))}
        # A record with a version on a later day stays whole: its next version must still find what to take back.
        stay = {id_ for id_ in set(ids.values()) if cursor.execute(self._newest, (id_,)).fetchone()[0] >= self._limit}
        going = sorted(set(ids.values()) - stay)
        cursor.executemany(self._delete, [(id_,) for id_ in going])
        cursor.executemany(self._mark, [(pruned_key(self._kind, id_),) for id_ in going])
        self._fold(cursor, [row for row in old if ids.get(abs(row[N])) not in stay])
        return len(going)

    def _find(self, cursor: sqlite3.Cursor, n: int) -> Any:
        return cursor.execute(self._id_of, (n,)).fetchone()

    def _fold(self, cursor: sqlite3.Cursor, rows: Sequence[Posting]) -> None:
        """Replace the postings of each day and party by one."""
        groups: dict[Posting, list[Posting]] = {}
        for row in rows:
            groups.setdefault(row[:N], []).append(row)
        for key, group in groups.items():
            if len(group) == 1 and group[0][N] == 0:
                continue
            figures = _sum(row[FIGURES:] for row in group)
            cursor.executemany(self._delete_posting, [row[: N + 1] for row in group])
            if any(abs(figure) > LARGEST for figure in figures):
                # A column cannot hold the sum: the postings stay apart. Their rows' numbers may be given again.
                cursor.executemany(self._post, [(*key, APART + i, *row[AT:]) for i, row in enumerate(group)])
            elif figures[0]:
                cursor.execute(self._post, (*key, 0, _first(group), *figures))


def _first(group: Sequence[Posting]) -> int:
    """When the first record began that counts: a version that was taken back may have begun earlier."""
    records: Counter[int] = Counter()
    for row in group:
        records[row[AT]] += row[FIGURES]
    return min((at for at, count in records.items() if count > 0), default=group[0][AT])


def _sum(rows: Iterable[Sequence[int]]) -> list[int]:
    total: list[int] = []
    for row in rows:
        total = list(map(add, total, row)) if total else list(row)
    return total
