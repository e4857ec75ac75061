"""Counters of a whole ledger by agent, node and model: read once, then only what is new.

They only grow: each is a sum of what was ever written. What was corrected is in them, and in those of what was taken
back. `finops prune` forgets such pairs: a process that has counted them keeps them, one that starts afterwards does
not; see docs/exports.md.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, case, func, literal, select

from langchain_finops.exports.tallies import MOST_SERIES, OTHER, signed
from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.feed import CACHED, OUTPUT, Entry, Feed
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.work import driver_rows
from langchain_finops.usage import TOKEN_METERS

__all__ = ["LedgerCounters", "Series"]

Series = tuple[str, str, str]
"""Agent, node path and model; empty where a record does not say."""
THE_REST: Final[Series] = (OTHER, OTHER, OTHER)
P: Final = schema.postings.c
HALF: Final = 10**6
"""Amounts are summed in two halves: a sum of picodollars passes what a 64-bit column holds at $9 million."""


class LedgerCounters:
    """Reads a ledger's counters. Safe between threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._waiting: list[Entry] = []
        self._counts: dict[Series, Counter[str]] = {}

    def look(self) -> Mapping[Series, Mapping[str, int]]:
        """Each series' counts and picodollars, by the names of the table. Raises what reading the ledger raises."""
        with self._lock:
            self._look()
            return {series: dict(counts) for series, counts in self._counts.items()}

    def _look(self) -> None:
        """Begin once only: sums that are read anew lack what was pruned since, and Prometheus takes what falls for a
        counter that began again from nothing.
        """
        if self._feed is None:
            self._feed = self._begin()
        self._waiting += self._feed.look()
        if not self._waiting:
            return
        # On a copy: where it fails half-way, the next look finds all of it waiting, and nothing is counted twice.
        counts = {series: Counter(each) for series, each in self._counts.items()}
        for entry in self._waiting:
            _add(counts, _series(entry), _amounts(entry))
        self._counts, self._waiting = counts, []

    def _begin(self) -> Feed:
        feed, counts = Feed(self._ledger, None), dict[Series, Counter[str]]()
        if isinstance(self._ledger, SqlLedger):

            def read(connection: Connection) -> list[tuple[Series, Counter[str]]]:
                feed.skip(connection)
                return list(_sums(connection))

            for series, amounts in self._ledger.look_at(read):
                _add(counts, series, amounts)
        self._counts = counts
        return feed


def _add(counts: dict[Series, Counter[str]], series: Series, amounts: Mapping[str, int]) -> None:
    known = counts.get(series)
    if known is None:
        known = counts.setdefault(series if len(counts) < MOST_SERIES else THE_REST, Counter())
    known.update(amounts)


def _series(entry: Entry) -> Series:
    return entry.names.agent or "", entry.names.node or "", entry.names.model or ""


def _amounts(entry: Entry) -> Counter[str]:
    return _of(
        entry.names,
        sign=entry.sign,
        records=1,
        tokens=(entry.tokens, entry.output_tokens, entry.cached_tokens),
        money=[(entry.pico, entry.billed)],
    )


def _of(
    names: Any, *, sign: int, records: int, tokens: tuple[int, int, int], money: Iterable[tuple[int, int]]
) -> Counter[str]:
    """What records of one label add; with sign -1 what taking them back adds. `names` says what they are."""
    counts: Counter[str] = Counter()
    every, output, cached = tokens
    if names.is_call and sign < 0:
        counts.update({"taken_back_calls": records, "taken_back_tokens": every})
    elif names.is_call:
        counts.update({"calls": records, "input_tokens": every - output, "output_tokens": output})
        counts.update({"cached_tokens": cached, "failed": records * names.failed})
        counts.update({"estimated": records * names.estimated, "unpriced": records * names.unpriced})
    elif sign > 0:
        counts.update({"charges": records, "charges_unpriced": records * names.unpriced})
    for cost, billed in money:
        counts.update({name: int(amount) for name, amount in signed(cost, billed, sign=sign).items()})
    return counts


def _sums(connection: Connection) -> Iterable[tuple[Series, Counter[str]]]:
    """What was ever written, label by label, in the order in which labels came: the first ones always have a series."""
    labels = schema.labels.c
    known = {
        row.label: row
        for row in connection.execute(
            select(
                labels.label,
                labels.agent_id,
                labels.node_path,
                labels.model,
                (labels.kind == "call").label("is_call"),
                labels.failed,
                labels.estimated,
                labels.unpriced,
            )
        )
    }
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    meters = [
        func.sum(sum((P[name] for name in names if name in used), literal(0)))
        for names in (TOKEN_METERS, OUTPUT, CACHED)
    ]
    back = case((P.n < 0, 1), else_=0)
    below = case((P.cost_pico * case((P.n < 0, -1), else_=1) < 0, 1), else_=0)
    amounts = ("cost_pico", "billed_pico")
    halves = [func.sum(half) for name in amounts for half in (P[name].op("/")(HALF), P[name].op("%")(HALF))]
    query = select(P.label, back, below, func.sum(P.records), *meters, *halves).group_by(P.label, back, below)
    for row in sorted(driver_rows(connection, query.order_by(P.label)), key=lambda row: row[0]):
        label, is_back, _, records, every, output, cached, *money = map(int, row)
        sign = -1 if is_back else 1
        cost, billed = (sign * (money[place] * HALF + money[place + 1]) for place in (0, 2))
        names = known[label]
        series = (names.agent_id or "", names.node_path or "", names.model or "")
        tokens = (sign * every, sign * output, sign * cached)
        yield series, _of(names, sign=sign, records=sign * records, tokens=tokens, money=[(cost, billed)])
