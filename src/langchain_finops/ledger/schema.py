"""The tables, in SQLAlchemy Core. Every change of them is a step in `migrations`."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

from langchain_finops.ledger.rows import LABEL_COLUMNS, PARTY_COLUMNS
from langchain_finops.usage import METERS_AND_REASONING

__all__ = ["AMOUNT_COLUMNS", "CONTROLS_VERSION", "DIGEST_KEY", "PART", "POSTING_COLUMNS", "VERSIONED", "balances",
           "claims", "controls", "events", "holds", "labels", "meta", "metadata", "outcomes", "parties", "postings",
           "prompts", "pruned", "used_figures"]  # fmt: skip

metadata = MetaData()
# SQLite numbers rows by itself only where the type is spelled INTEGER.
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

labels = Table(
    "labels",
    metadata,
    Column("label", _NUMBER, primary_key=True),
    Column("key", LargeBinary, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    *(Column(name, Text) for name in LABEL_COLUMNS),
    *(Column(name, Integer, nullable=False) for name in ("failed", "estimated", "unpriced")),
    Column("detail", Text, nullable=False),
)

parties = Table(
    "parties",
    metadata,
    Column("party", _NUMBER, primary_key=True),
    Column("key", LargeBinary, unique=True),  # NULL where a person was unlinked: nobody is found by it again.
    *(Column(name, Text) for name in PARTY_COLUMNS),
    Column("tags", Text),
    Index("parties_run", "run_id"),
    Index("parties_task", "task_id"),
    Index("parties_thread", "thread_id"),
)


def _versioned(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("n", _NUMBER, primary_key=True),
        Column("id", Text, nullable=False),
        Column("revision", _NUMBER, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("label", _NUMBER, nullable=False),
        Column("party", _NUMBER, nullable=False),
        Column("body", Text, nullable=False),
        UniqueConstraint("id", "revision"),
        Index(f"{name}_at", "at"),
        Index(f"{name}_party", "party"),
        # Without it a number that pruning has freed is given again, and a later step of that pruning takes the new row.
        sqlite_autoincrement=True,
    )


VERSIONED: Final = {"call": _versioned("calls"), "charge": _versioned("charges"), "run": _versioned("runs")}

# The digests of the prompts of calls that have some, in the order of time: who looks for prefixes reads nothing else.
prompts = Table(
    "prompts",
    metadata,
    Column("at", BigInteger, primary_key=True),
    Column("n", BigInteger, primary_key=True),
    Column("ended_at", BigInteger, nullable=False),
    Column("label", _NUMBER, nullable=False),
    Column("party", _NUMBER, nullable=False),
    Column("digests", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("n", _NUMBER, primary_key=True),
    Column("id", Text, nullable=False),
    Column("revision", _NUMBER, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("supersedes", _NUMBER),
    Column("success", Integer),
    Column("value_pico", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("id", "revision"),
)

events = Table(
    "events",
    metadata,
    Column("n", _NUMBER, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

AMOUNT_COLUMNS: Final = ("cost_pico", "contracted_pico", "billed_pico")
POSTING_COLUMNS: Final = (*METERS_AND_REASONING, *AMOUNT_COLUMNS)

# What `totals` reads: one row a call or charge, in the order of its label, so that sums by label need no sorting.
# A version that is superseded is taken back by a second row with `-n` and all its figures negative: nothing is changed,
# and a plain sum is always of the current versions.
postings = Table(
    "postings",
    metadata,
    Column("label", _NUMBER, primary_key=True),
    Column("day", _NUMBER, primary_key=True),
    Column("party", _NUMBER, primary_key=True),
    Column("n", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("records", _NUMBER, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in POSTING_COLUMNS),
    sqlite_with_rowid=False,
)

# Which figures are of any use: meters that were ever more than 0, amounts that ever differed from the list cost. Most
# ledgers use a third of them, and sums of the others need not be asked for.
used_figures = Table("used_figures", metadata, Column("name", Text, primary_key=True), sqlite_with_rowid=False)

# Ids of calls and charges that were folded, as hashes: without them a late copy would be counted twice.
pruned = Table("pruned", metadata, Column("key", LargeBinary, primary_key=True), sqlite_with_rowid=False)

PART: Final = 10**12
"""Amounts of balances and holds lie in two columns, whole `PART`s and the rest: sums of them cannot overflow."""

# Holds name a balance by its number, so that a key which names a person is in one place.
balances = Table(
    "balances",
    metadata,
    Column("balance", _NUMBER, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("spent_high", BigInteger, nullable=False),
    Column("spent_low", BigInteger, nullable=False),
)

# What calls in flight have set aside. A row goes when its call is settled; one that nobody settles stays, so that what
# it held is seen, and a late settlement still finds it.
holds = Table(
    "holds",
    metadata,
    Column("balance", BigInteger, primary_key=True),
    Column("hold_id", Text, primary_key=True),
    Column("amount_high", BigInteger, nullable=False),
    Column("amount_low", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    # Giving a hold back looks for its id alone, which is seldom. SQLite would write one more page for it at each call.
    Index("holds_hold_id", "hold_id").ddl_if(dialect="postgresql"),
    sqlite_with_rowid=False,
)

# What was set from outside: kills, limits, policies.
controls = Table(
    "controls",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)

DIGEST_KEY: Final = "digest_key"
"""The name in `meta` of the key that digests of prompts are made with, in hexadecimal."""

CONTROLS_VERSION: Final = "controls_version"
"""The name in `meta` of how often the controls were changed."""

# What exactly one process may do.
claims = Table(
    "claims",
    metadata,
    Column("key", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
