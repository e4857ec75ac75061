"""Records out of tables, in pages, oldest first."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, and_, exists, or_, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.cleaning import clean_text
from langchain_finops.ledger.codec import IDS
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.rows import LABEL_COLUMNS, PARTY_COLUMNS, record_of
from langchain_finops.records import Record

__all__ = ["PAGE", "Place", "page", "table_of"]

PAGE: Final = 1000
Place = tuple[int, int]
"""Where a page ends: the time and number of its last row."""
_JSON: Final = ("body", "detail", "tags")
_INDEXED: Final = frozenset({"run_id", "task_id", "thread_id", *IDS.values()})
"""Filters that leave few rows, which an index finds. Sorted in Python: SQLite would rather read all rows in order."""


def table_of(kind: str) -> Table:
    """The table that holds a kind of record."""
    others = {"outcome": schema.outcomes, "event": schema.events}
    return schema.VERSIONED.get(kind, others.get(kind, schema.events))


def page(
    connection: Connection,
    kind: str,
    *,
    history: bool,
    period: Period,
    filters: Mapping[str, object],
    after: Place | None,
) -> tuple[list[Record], Place | None]:
    """The next records after a place, and where the page ends; None if it is the last.

    Filters are applied as far as SQL can: the caller applies them again.
    """
    few = any(name in _INDEXED for name, _ in _texts(filters, tuple(filters)))
    query = _query(kind, history=history, filters=filters)
    columns = query.selected_columns
    if not few:
        query = _in_period(query, columns, period, after).order_by(columns.at, columns.n).limit(PAGE)
    rows = connection.execute(query).mappings().all()
    if few:
        rows = sorted((row for row in rows if row["at"] in period), key=lambda row: (row["at"], row["n"]))
    records = [record_of(kind, _read_json(row)) for row in rows]
    is_last = few or len(rows) < PAGE
    return records, None if is_last else (rows[-1]["at"], rows[-1]["n"])


def _query(kind: str, *, history: bool, filters: Mapping[str, object]) -> Select[Any]:
    table = table_of(kind)
    query = select(table)
    if kind in schema.VERSIONED:
        labels, parties = schema.labels, schema.parties
        query = (
            select(table, *(labels.c[name] for name in (*LABEL_COLUMNS, "detail")))
            .add_columns(*(parties.c[name] for name in (*PARTY_COLUMNS, "tags")))
            .join(labels, labels.c.label == table.c.label)
            .join(parties, parties.c.party == table.c.party)
        )
        if kind == "call":
            prompts = schema.prompts
            is_its_own = and_(prompts.c.at == table.c.at, prompts.c.n == table.c.n)
            query = query.add_columns(prompts.c.digests).join(prompts, is_its_own, isouter=True)
        for columns, names in ((labels.c, LABEL_COLUMNS), (parties.c, PARTY_COLUMNS)):
            query = query.where(*(columns[name] == value for name, value in _texts(filters, names)))
    query = query.where(*(table.c.id == value for _, value in _texts(filters, (IDS[kind],))))
    if not history and "revision" in table.c:
        newer = table.alias("newer")
        query = query.where(~exists().where(newer.c.id == table.c.id, newer.c.revision > table.c.revision))
    return query


def _texts(filters: Mapping[str, object], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, clean_text(value)) for name in names if isinstance(value := filters.get(name), str)]


def _in_period(query: Select[Any], columns: Any, period: Period, after: Place | None) -> Select[Any]:
    if period.until is not None:
        query = query.where(columns.at < period.until)
    if after is not None:
        at, n = after
        return query.where(columns.at >= at, or_(columns.at > at, and_(columns.at == at, columns.n > n)))
    return query if period.since is None else query.where(columns.at >= period.since)


def _read_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    columns = dict(row)
    for name in _JSON:
        if text := columns.get(name):
            columns[name] = json.loads(text)
    return columns
