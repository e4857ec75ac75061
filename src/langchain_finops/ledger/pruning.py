"""Fold old calls and charges into daily sums: their rows go, what totals are made of stays exact."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from operator import add
from typing import Any, Final

from sqlalchemy import Delete, bindparam, delete, insert, literal_column, or_, select, tuple_

from langchain_finops.ledger import schema
from langchain_finops.ledger.append import pruned_key
from langchain_finops.ledger.codec import LARGEST, MICROS_PER_DAY, floor_day
from langchain_finops.ledger.holds import DATED, TIMED, is_over
from langchain_finops.ledger.stores import Cursor, SqlStore

__all__ = ["prune"]

PATIENCE_S: Final = 30.0
Posting = tuple[int, ...]
"""Label, day, party, n, at, records, figures."""
N, AT, FIGURES = 3, 4, 5
CHUNK: Final = 5_000
"""Postings that one transaction folds."""
PAUSE_S: Final = 0.005
Place = tuple[int, int]
"""Day and party."""
START: Final = (-(2**62), 0)
APART: Final = 2**62
"""From here on postings are numbered that were folded but could not be added up. No row's number is as large."""


def prune(store: SqlStore, before: datetime) -> int:
    """Fold the calls and charges of UTC days that ended by `before`; how many those were.

    Many small transactions, with a pause between them, so that writers are held up for moments only.
    """
    limit = floor_day(before)
    labels = schema.labels.c
    with store.reading() as connection:
        kinds = connection.execute(select(labels.label, labels.kind).where(labels.kind.in_(("call", "charge")))).all()
    folds = {kind: _Fold(store, kind, limit) for kind in ("call", "charge")}
    count = sum(_prune_label(store, folds[kind], label) for label, kind in kinds)
    _drop_over(store, limit // 1_000_000)
    return count


def _drop_over(store: SqlStore, limit_s: int) -> None:
    """Take away the balances that were of use until then, but not what holds still take from."""
    b, size = schema.balances.c, min(CHUNK, store.most_at_once)
    held = select(schema.holds.c.balance).where(schema.holds.c.balance == b.balance).exists()
    drop = store.sql(delete(schema.balances).where(b.balance == bindparam("number"), ~held))
    found = select(b.balance, b.key).where(or_(b.key.startswith(TIMED), b.key.contains(DATED)))
    with store.reading() as connection:
        over = [(number,) for number, key in connection.execute(found) if is_over(key, limit_s)]

    def work(cursor: Cursor, numbers: Sequence[tuple[int]]) -> None:
        cursor.executemany(drop, numbers)

    for first in range(0, len(over), size):
        some = over[first : first + size]
        store.exclusively(partial(work, numbers=some), time.monotonic() + PATIENCE_S)
        time.sleep(PAUSE_S)


def _prune_label(store: SqlStore, fold: "_Fold", label: int) -> int:
    count = 0
    place: Place | None = START
    while place is not None:
        went, place = store.exclusively(partial(fold.run, label=label, after=place), time.monotonic() + PATIENCE_S)
        count += went
        if place is not None:
            time.sleep(PAUSE_S)
    return count


class _Fold:
    """Folding of one kind of record, a label at a time."""

    def __init__(self, store: SqlStore, kind: str, limit: int) -> None:
        self._kind, self._limit = kind, limit
        self._size = min(CHUNK, store.most_at_once)
        table, postings = schema.VERSIONED[kind], schema.postings
        one = [postings.c[name] == bindparam(f"the_{name}") for name in ("label", "day", "party", "n")]
        group = (postings.c.day, postings.c.party)
        old = select(postings).where(postings.c.label == bindparam("label"), postings.c.day < bindparam("before"))
        chunk = old.where(tuple_(*group) > tuple_(bindparam("day"), bindparam("party")))
        self._chunk = store.sql(
            chunk.order_by(*group, postings.c.n).limit(bindparam("size")).offset(literal_column("0"))
        )
        self._group = store.sql(old.where(*(c == bindparam(f"the_{c.name}") for c in group)))
        self._id_of = store.sql(select(table.c.id).where(table.c.n == bindparam("n")))
        self._newest = store.sql(select(table.c.at).where(table.c.id == bindparam("id")).order_by(table.c.at.desc()))
        self._delete = store.sql(delete(table).where(table.c.id == bindparam("id")))
        self._delete_prompts = store.sql(_delete_prompts()) if kind == "call" else None
        self._delete_posting = store.sql(delete(postings).where(*one))
        self._post = store.sql(insert(postings).values({c.name: bindparam(c.name) for c in postings.c}))
        self._mark = store.sql(insert(schema.pruned).values(key=bindparam("key")))

    def run(self, cursor: Cursor, label: int, after: Place) -> tuple[int, Place | None]:
        """Fold some of a label's postings; how many records' rows went, and where to go on, None at the end."""
        old, place = self._next(cursor, label, after)
        ids = {n: found[0] for n in {abs(row[N]) for row in old} if (found := self._find(cursor, n))}
        # A record with a version on a later day stays whole: its next version must still find what to take back.
        stay = {id_ for id_ in set(ids.values()) if cursor.execute(self._newest, (id_,)).fetchone()[0] >= self._limit}
        going = sorted(set(ids.values()) - stay)
        if self._delete_prompts is not None:
            cursor.executemany(self._delete_prompts, [(id_,) for id_ in going])
        cursor.executemany(self._delete, [(id_,) for id_ in going])
        cursor.executemany(self._mark, [(pruned_key(self._kind, id_),) for id_ in going])
        self._fold(cursor, [row for row in old if ids.get(abs(row[N])) not in stay])
        return len(going), place

    def _next(self, cursor: Cursor, label: int, after: Place) -> tuple[list[Posting], Place | None]:
        """The postings of the next days and parties, each whole; and the last of those, None if nothing follows."""
        day = self._limit // MICROS_PER_DAY
        rows: list[Posting] = cursor.execute(self._chunk, (label, day, *after, self._size)).fetchall()
        if len(rows) < self._size:
            return rows, None
        whole = [row for row in rows if row[1:N] != rows[-1][1:N]]
        if not whole:
            whole = cursor.execute(self._group, (label, day, *rows[-1][1:N])).fetchall()
        return whole, (whole[-1][1], whole[-1][2])

    def _find(self, cursor: Cursor, n: int) -> Any:
        return cursor.execute(self._id_of, (n,)).fetchone()

    def _fold(self, cursor: Cursor, rows: Sequence[Posting]) -> None:
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


def _delete_prompts() -> Delete:
    """Take away the digests of all versions of a call."""
    p, calls = schema.prompts.c, schema.VERSIONED["call"].c
    return delete(schema.prompts).where(
        tuple_(p.at, p.n).in_(select(calls.at, calls.n).where(calls.id == bindparam("id")))
    )


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
