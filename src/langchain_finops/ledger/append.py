"""What appending a record means in SQL, within a transaction that is open.

Statements are compiled once and run on the driver's cursor: executing them through SQLAlchemy costs more than the
whole transaction, on the one path that runs inside the user's graph for every call.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import Dialect, Table, Text, bindparam, exists, func, insert, literal_column, select, text
from sqlalchemy.sql import ClauseElement

from langchain_finops.ledger import schema
from langchain_finops.ledger.booking import Book, Controls
from langchain_finops.ledger.codec import MICROS_PER_DAY, now_micros
from langchain_finops.ledger.grouping import success_of
from langchain_finops.ledger.rows import Row, ended_at, label_of, party_of
from langchain_finops.ledger.stores import Cursor
from langchain_finops.records import Outcome

__all__ = ["Appender", "pruned_key"]

CACHE: Final = 20_000
"""How many labels, and how many parties, are remembered by number; then the memory starts again."""
Compile = Callable[[ClauseElement], str]


def pruned_key(kind: str, id_: str) -> bytes:
    """What remains of the id of a call or charge that was folded."""
    return blake2b(f"{kind}:{id_}".encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _use(posting: tuple[int, ...]) -> tuple[bool, ...]:
    """Which figures are not what sums take them for: 0, or the list cost."""
    *meters, cost, contracted, billed = posting
    return (*map(bool, meters), bool(cost), contracted != cost, billed != cost)


def _insert(table: Table, sql: Compile, without: Sequence[str] = ()) -> str:
    """An INSERT that takes one value for each column, in the table's order."""
    return sql(insert(table).values({c.name: bindparam(c.name) for c in table.c if c.name not in without}))


@dataclass(frozen=True, slots=True)
class _Versioned:
    """The statements of calls, charges or runs."""

    latest: str
    """The newest version of an id; a row of NULL where it was folded."""
    there: str
    insert: str


def _versioned(table: Table, sql: Compile) -> _Versioned:
    c = table.c
    versions = select(c.revision, c.n, c.label, c.at, c.party).where(c.id == bindparam("id"))
    is_folded = exists().where(schema.pruned.c.key == bindparam("key"))
    # One question, not two, as it is asked for every call. Of an id that was folded there are no versions.
    latest = versions.union_all(select(*[literal_column("NULL")] * 5).where(is_folded)).order_by(text("1 DESC"))
    there = select(c.n).where(c.id == bindparam("id"), c.revision == bindparam("revision"))
    return _Versioned(latest=sql(latest), there=sql(there), insert=_insert(table, sql, without=("n",)))


def _post(sql: Compile, *, is_numbered: bool) -> str:
    """Append a posting of the version that was inserted just before; its number is given, or the database knows it."""
    c = schema.postings.c
    number = bindparam("n") if is_numbered else func.lastval()
    return sql(insert(schema.postings).values({each.name: bindparam(each.name) for each in c} | {"n": number}))


def _add_prompt(sql: Compile, *, is_numbered: bool) -> str:
    """Keep the digests of a version that was inserted just before; its number as in `_post`."""
    number = bindparam("n") if is_numbered else func.lastval()
    return sql(insert(schema.prompts).values({c.name: bindparam(c.name) for c in schema.prompts.c} | {"n": number}))


def _take_back(sql: Compile) -> str:
    """Append the negative of one posting."""
    c = schema.postings.c
    same = {"label", "day", "party", "at"}
    figures = [column if column.name in same else -column for column in schema.postings.c]
    where = [c[name] == bindparam(f"old_{name}") for name in ("label", "day", "party", "n")]
    return sql(insert(schema.postings).from_select([column.name for column in c], select(*figures).where(*where)))


class Appender:
    """Appends rows, and remembers the numbers of labels and parties that are committed."""

    def __init__(self, dialect: Dialect) -> None:
        def sql(statement: ClauseElement) -> str:
            return str(statement.compile(dialect=dialect))

        self._is_sqlite = dialect.name == "sqlite"
        self.book, self.controls = Book(dialect), Controls(dialect)
        labels, parties, outcomes, runs = schema.labels, schema.parties, schema.outcomes, schema.VERSIONED["run"]
        self._versioned = {kind: _versioned(table, sql) for kind, table in schema.VERSIONED.items()}
        self._add_prompt = _add_prompt(sql, is_numbered=self._is_sqlite)
        self._find_label = sql(select(labels.c.label).where(labels.c.key == bindparam("key")))
        self._find_party = sql(select(parties.c.party).where(parties.c.key == bindparam("key")))
        self._add_label = _insert(labels, sql, without=("label",))
        self._add_party = _insert(parties, sql, without=("party",))
        self._post = _post(sql, is_numbered=self._is_sqlite)
        self._take_back = _take_back(sql)
        self._run_invocation = sql(
            select(runs.c.n)
            .join(parties, parties.c.party == runs.c.party)
            .where(runs.c.id == bindparam("id"), parties.c.invocation_id == bindparam("invocation_id"))
        )
        self._run_versions = sql(
            select(runs.c.revision, runs.c.body).where(runs.c.id == bindparam("id")).order_by(runs.c.revision)
        )
        self._outcome_revisions = sql(
            select(outcomes.c.revision, outcomes.c.at, outcomes.c.body)
            .where(outcomes.c.id == bindparam("id"))
            .order_by(outcomes.c.revision)
        )
        self._add_outcome = _insert(outcomes, sql, without=("n",))
        self._find_event = sql(select(schema.events.c.n).where(schema.events.c.id == bindparam("id")))
        self._add_event = _insert(schema.events, sql, without=("n",))
        self._add_used = sql(
            insert(schema.used_figures).from_select(
                ["name"],
                select(bindparam("name", type_=Text)).where(
                    ~exists().where(schema.used_figures.c.name == bindparam("the_name"))
                ),
            )
        )
        self._uses: set[tuple[bool, ...]] = set()
        self._new_uses: set[tuple[bool, ...]] = set()
        self._labels: dict[tuple[Any, ...], int] = {}
        self._parties: dict[tuple[Any, ...], int] = {}
        self._new_labels: dict[tuple[Any, ...], int] = {}
        self._new_parties: dict[tuple[Any, ...], int] = {}

    def append(self, cursor: Cursor, rows: Sequence[Row]) -> int:
        """Append those that are not there yet, and settle what they settle; how many were new."""
        settling = [row for row in rows if row.settles]
        if not settling:
            return sum(self._append(cursor, row) for row in rows)
        found = self.book.find(cursor, {key for row in settling for key in row.amounts})
        count = 0
        for row in rows:
            is_new = self._append(cursor, row)
            count += is_new
            if row.settles:
                self.book.settle(cursor, row, found, is_new=is_new)
        standing = self.book.save(cursor, found, now_micros())
        for row in settling:
            row.touched = tuple(standing[key] for key in row.amounts)
        return count

    def locks(self, rows: Sequence[Row]) -> Iterator[str | bytes]:
        """What appending these rows must be alone with, where the database lets many write at once."""
        for row in rows:
            yield f"{row.kind} {row.id}"
            yield from self.book.locks(row.amounts)
            if row.label and row.label not in self._labels:
                yield label_of(row)["key"]
            if row.party and row.party not in self._parties:
                yield party_of(row)["key"]
            if row.posting and _use(row.posting) not in self._uses:
                yield "used figures"

    def committed(self) -> None:
        """The transaction is safe, and so are the numbers it gave."""
        for known, new in ((self._labels, self._new_labels), (self._parties, self._new_parties)):
            if len(known) + len(new) > CACHE:
                known.clear()
            known.update(new)
            new.clear()

        self._uses |= self._new_uses
        self._new_uses.clear()

    def rolled_back(self) -> None:
        """Forget the numbers that the transaction gave: another label may get them."""
        self._new_labels.clear()
        self._new_parties.clear()
        self._new_uses.clear()

    def forget_parties(self) -> None:
        """Look every party up again: a person was unlinked."""
        self._parties.clear()

    def _append(self, cursor: Cursor, row: Row) -> bool:
        if row.kind == "outcome":
            return self._append_outcome(cursor, row)
        if row.kind == "event":
            return self._append_event(cursor, row)
        if row.kind == "run":
            return self._append_run(cursor, row)
        return self._append_summed(cursor, row)

    def _append_summed(self, cursor: Cursor, row: Row) -> bool:
        """A call or a charge: its row, and the posting that makes it the current version."""
        statements = self._versioned[row.kind]
        latest = cursor.execute(statements.latest, (row.id, pruned_key(row.kind, row.id))).fetchone()
        if latest is not None and (
            latest[0] in {None, row.revision} or cursor.execute(statements.there, (row.id, row.revision)).fetchone()
        ):
            return False
        label, party = self._label(cursor, row), self._party(cursor, row)
        self._insert_version(cursor, row, row.revision, label, party)
        number = (self._number(cursor),) if self._is_sqlite else ()
        if row.digests is not None:
            cursor.execute(self._add_prompt, (row.at, *number, row.ended_at, label, party, row.digests))
        if latest is not None:
            if latest[0] > row.revision:
                return True  # An older version that comes late is history: the newer one stays the current one.
            _, old_n, old_label, old_at, old_party = latest
            cursor.execute(self._take_back, (old_label, old_at // MICROS_PER_DAY, old_party, old_n))
        self._note_use(cursor, row.posting)
        cursor.execute(self._post, (label, row.day, party, *number, row.at, 1, *row.posting))
        return True

    def _note_use(self, cursor: Cursor, posting: tuple[int, ...]) -> None:
        """Mark the figures that are of use."""
        use = _use(posting)
        if use in self._uses:
            return
        for name, is_used in zip(schema.POSTING_COLUMNS, use, strict=True):
            if is_used:
                cursor.execute(self._add_used, (name, name))
        self._new_uses.add(use)

    def _append_run(self, cursor: Cursor, row: Row) -> bool:
        """A run. An invocation whose revision another invocation took first, in another process, gets the next one.

        If it ended before the current one did, it comes late, and gets one below all others: it is history.
        """
        statements = self._versioned["run"]
        revision = row.revision
        if cursor.execute(statements.there, (row.id, revision)).fetchone():
            if cursor.execute(self._run_invocation, (row.id, row.party[1])).fetchone():
                return False
            there = cursor.execute(self._run_versions, (row.id,)).fetchall()
            is_late = ended_at(row) < json.loads(there[-1][1])["ended_at"]
            revision = there[0][0] - 1 if is_late else there[-1][0] + 1
        self._insert_version(cursor, row, revision, self._label(cursor, row), self._party(cursor, row))
        return True

    def _number(self, cursor: Cursor) -> int:
        """Of the row that was inserted last. The SQLite of some systems that are in use is too old for RETURNING."""
        number = cursor.lastrowid if self._is_sqlite else cursor.fetchone()[0]
        assert number is not None
        return int(number)

    def _insert_version(self, cursor: Cursor, row: Row, revision: int, label: int, party: int) -> None:
        cursor.execute(self._versioned[row.kind].insert, (row.id, revision, row.at, label, party, row.body))

    def _append_outcome(self, cursor: Cursor, row: Row) -> bool:
        """An outcome. One whose revision is taken by a different one gets the next: the last one written counts.

        If it was judged before the current one was, it comes late, and gets one below all others: it is history.
        """
        there = cursor.execute(self._outcome_revisions, (row.id,)).fetchall()
        revision, supersedes = row.revision, row.supersedes
        if any(taken == revision for taken, _, _ in there):
            if any((at, body) == (row.at, row.body) for _, at, body in there):
                return False
            if row.at < there[-1][1]:
                revision = there[0][0] - 1
            else:
                supersedes = there[-1][0]
                revision = supersedes + 1
        assert isinstance(row.record, Outcome)
        success, value_pico = success_of(row.record)
        cursor.execute(self._add_outcome, (row.id, revision, row.at, supersedes, success, value_pico, row.body))
        return True

    def _append_event(self, cursor: Cursor, row: Row) -> bool:
        if cursor.execute(self._find_event, (row.id,)).fetchone():
            return False
        cursor.execute(self._add_event, (row.id, row.at, row.body))
        return True

    def _label(self, cursor: Cursor, row: Row) -> int:
        number = self._labels.get(row.label) or self._new_labels.get(row.label)
        if number is None:
            number = self._intern(cursor, self._find_label, self._add_label, label_of(row))
            self._new_labels[row.label] = number
        return number

    def _party(self, cursor: Cursor, row: Row) -> int:
        number = self._parties.get(row.party) or self._new_parties.get(row.party)
        if number is None:
            number = self._intern(cursor, self._find_party, self._add_party, party_of(row))
            self._new_parties[row.party] = number
        return number

    def _intern(self, cursor: Cursor, find: str, add: str, columns: dict[str, Any]) -> int:
        """The number of the row with these columns, which is added where it is missing."""
        found = cursor.execute(find, (columns["key"],)).fetchone()
        if found is not None:
            return int(found[0])
        cursor.execute(add, tuple(columns.values()))
        return self._number(cursor)
