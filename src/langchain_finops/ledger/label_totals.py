"""Sums by names and time alone, which count no runs and tasks: a million calls in a fraction of a second."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.codec import MICROS_PER_DAY, decoded
from langchain_finops.ledger.grouping import Key, Period
from langchain_finops.ledger.rows import LABEL_COLUMNS
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.sql_totals import Figures, Label, Sum
from langchain_finops.ledger.totals import APART, Totals
from langchain_finops.ledger.work import driver_rows

__all__ = ["totals_by_label"]

P: Final = schema.postings.c


def totals_by_label(
    ledger: SqlLedger,
    fields: Sequence[str],
    period: Period,
    *,
    bucket: int | None = None,
    filters: Mapping[str, str | None] | None = None,
) -> dict[tuple[Key, int], Totals]:
    """Return exact sums by fields of labels, such as `agent_id` or `service_tier`, and by buckets of so many
    microseconds since 1970; all in bucket 0 without it.

    What was folded counts where the first of it began.
    """
    return ledger.look_at(lambda connection: _sums(connection, fields, period, bucket, filters or {}))


def _sums(
    connection: Connection, fields: Sequence[str], period: Period, bucket: int | None, filters: Mapping[str, str | None]
) -> dict[tuple[Key, int], Totals]:
    labels = _labels(connection, fields, filters)
    figures = Figures(connection.execute(select(schema.used_figures.c.name)).scalars().all())
    keys: list[ColumnElement[Any]] = [P.label]
    if bucket is not None:
        # By day they lie in order already.
        keys.append(P.day if bucket == MICROS_PER_DAY else P.at.op("/")(bucket))
    query = select(*keys, *figures.columns()).group_by(*keys)
    if period.since is not None:
        query = query.where(P.at >= period.since)
    if period.until is not None:
        query = query.where(P.at < period.until)
    sums: dict[tuple[Key, int], Sum] = {}
    for number, *row in driver_rows(connection, query):
        label = labels.get(number)
        place = 0 if bucket is None else int(row.pop(0))
        if label is not None and row[0]:
            found = sums.get((label.key, place))
            if found is None:
                found = sums[label.key, place] = Sum()
            found.add(label, row)
    return {key: found.totals(figures) for key, found in sums.items()}


def _labels(connection: Connection, fields: Sequence[str], filters: Mapping[str, str | None]) -> dict[int, Label]:
    c = schema.labels.c
    columns = [c.label, c.kind, c.failed, c.estimated, c.unpriced, c.detail, *(c[name] for name in LABEL_COLUMNS)]
    found = {}
    for row in connection.execute(select(*columns).where(c.kind.in_(("call", "charge")))).mappings():
        values = {**decoded(json.loads(row["detail"])), **{name: row[name] for name in LABEL_COLUMNS}}
        if any(values.get(name) != value for name, value in filters.items()):
            continue
        found[row["label"]] = Label(
            key=tuple(values.get(name) for name in fields),
            is_call=row["kind"] == "call",
            failed=bool(row["failed"]),
            estimated=bool(row["estimated"]),
            unpriced=bool(row["unpriced"]),
            apart=row["role"] in APART,
        )
    return found
