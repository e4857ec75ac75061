"""Calls that have digests of their prompt, as a stream in the order in which they began. The others cost nothing."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Select, literal, select

from langchain_finops.ledger import schema
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import MICROS_PER_DAY, to_micros
from langchain_finops.ledger.columns import Sort, sort_of, sorts_of
from langchain_finops.ledger.grouping import Period, time_of
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.work import driver_rows

__all__ = ["Prompted", "with_prompts"]

T = TypeVar("T")
P: Final = schema.postings.c
FRESH: Final = "input_tokens"
READ: Final = "cache_read_tokens"
WRITTEN: Final = ("cache_write_5m_tokens", "cache_write_30m_tokens")
KEPT: Final = ("cache_write_1h_tokens", "cache_write_12h_tokens")
FIGURES: Final = ((FRESH,), (READ,), WRITTEN, KEPT)


class Prompted(NamedTuple):
    """A call, as far as its prompt is concerned."""

    n: int
    """Its number, by which `columns.Series` knows it too."""
    sort: Sort
    run: object
    """Equal for calls of one run; None where none is named."""
    at: int
    """When it began, in microseconds, and when it ended."""
    ended: int
    fresh: int
    """Input tokens that no cache had to do with, those read from one, and those written to one."""
    read: int
    written: int
    kept: int
    """Written to a cache that lives an hour or more."""
    digests: bytes

    @property
    def tokens(self) -> int:
        """All of the prompt."""
        return self.fresh + self.read + self.written + self.kept


def with_prompts(ledger: Ledger, period: Period, take: Callable[[Iterator[Prompted]], T]) -> T:
    """Return what `take` makes of the current versions of a period's calls that have digests, oldest first.

    It takes them while they are read, from one state of the ledger. What LangChain's own cache answered is left out.
    """
    if isinstance(ledger, SqlLedger):
        return ledger.look_at(lambda connection: take(_of_tables(connection, period)))
    return take(_of_records(ledger, period))


def _of_records(ledger: Ledger, period: Period) -> Iterator[Prompted]:
    for n, call in enumerate(ledger.calls()):
        if call.prompt_digests is None or time_of(call) not in period or call.billing_mode == "cache":
            continue
        usage = call.usage
        written, kept = (sum(getattr(usage, name) for name in names) for names in (WRITTEN, KEPT))
        yield Prompted(
            n, sort_of(call), call.run_id, time_of(call), to_micros(call.ended_at), usage.input_tokens,
            usage.cache_read_tokens, written, kept, call.prompt_digests,
        )  # fmt: skip


def _of_tables(connection: Connection, period: Period) -> Iterator[Prompted]:
    sorts = sorts_of(connection)
    runs = schema.parties.c
    invocations: dict[int, int] = {}
    known: dict[str, int] = {}
    for party, run_id in driver_rows(connection, select(runs.party, runs.run_id)):
        if run_id is not None:
            invocations[party] = known.setdefault(run_id, len(known))
    del known
    for label, party, n, at, ended, digests, fresh, read, written, kept in driver_rows(
        connection, _query(connection, period)
    ):
        sort = sorts.get(label)
        if sort is not None and sort.mode != "cache":
            yield Prompted(
                n,
                sort,
                invocations.get(party),
                at,
                ended,
                int(fresh),
                int(read),
                int(written),
                int(kept),
                bytes(digests),
            )


def _query(connection: Connection, period: Period) -> Select[Any]:
    """Of the versions that count: what is taken back has a posting with its number negative."""
    used = set(connection.execute(select(schema.used_figures.c.name)).scalars())
    figures = (sum((P[name] for name in names if name in used), literal(0)) for names in FIGURES)
    c = schema.prompts.c
    taken_back = schema.postings.alias("taken_back").c
    day = c.at // MICROS_PER_DAY
    query: Select[Any] = (
        select(c.label, c.party, c.n, c.at, c.ended_at, c.digests, *figures)
        .join_from(
            schema.prompts,
            schema.postings,
            (P.label == c.label) & (P.day == day) & (P.party == c.party) & (P.n == c.n),
        )
        .where(
            ~select(taken_back.n)
            .where(
                taken_back.label == c.label, taken_back.day == day, taken_back.party == c.party, taken_back.n == -c.n
            )
            .exists()
        )
    )
    if period.since is not None:
        query = query.where(c.at >= period.since)
    if period.until is not None:
        query = query.where(c.at < period.until)
    return query.order_by(c.at, c.n)
