"""How older tables become what `schema` says: one step a version, append-only."""

import secrets
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, insert, inspect, select, update

from langchain_finops.errors import LedgerError, LedgerTooNew
from langchain_finops.ledger import schema

__all__ = ["STEPS", "digest_key", "is_newest", "migrate", "newest_version", "version_of"]

Step = Callable[[Connection], None]


def _run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def _add_holds(connection: Connection) -> None:
    """Balances and what is held on them, controls, claims. No PostgreSQL ledger is older than these."""
    _run(
        connection,
        "CREATE TABLE balances (balance INTEGER NOT NULL, key TEXT NOT NULL, spent_high BIGINT NOT NULL, "
        "spent_low BIGINT NOT NULL, PRIMARY KEY (balance), UNIQUE (key))",
        "CREATE TABLE holds (balance BIGINT NOT NULL, hold_id TEXT NOT NULL, amount_high BIGINT NOT NULL, "
        "amount_low BIGINT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (balance, hold_id)) WITHOUT ROWID",
        "CREATE TABLE controls (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, "
        "PRIMARY KEY (kind, key)) WITHOUT ROWID",
        "CREATE TABLE claims (key TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (key)) WITHOUT ROWID",
        "INSERT INTO meta (name, value) VALUES ('controls_version', '0')",
    )


def _add_prompts(connection: Connection) -> None:
    """Digests of prompts, and the key that they are made with."""
    is_sqlite = connection.dialect.name == "sqlite"
    number, digests, end = ("INTEGER", "BLOB", " WITHOUT ROWID") if is_sqlite else ("BIGINT", "BYTEA", "")
    _run(
        connection,
        "CREATE TABLE prompts (at BIGINT NOT NULL, n BIGINT NOT NULL, ended_at BIGINT NOT NULL, "
        f"label {number} NOT NULL, party {number} NOT NULL, digests {digests} NOT NULL, PRIMARY KEY (at, n)){end}",
    )
    _add_digest_key(connection)


def _add_digest_key(connection: Connection) -> None:
    connection.execute(insert(schema.meta).values(name=schema.DIGEST_KEY, value=secrets.token_hex(32)))


STEPS: Final[tuple[Step, ...]] = (_add_holds, _add_prompts)
"""Step k brings version k + 1 to k + 2. Never change one that was released, and never take one away: append."""


def _name(connection: Connection) -> object:
    """Which ledger it is, for messages."""
    return connection.get_execution_options().get("ledger", connection.engine.url)


def newest_version() -> int:
    """The version of the tables in `schema`."""
    return 1 + len(STEPS)


def version_of(connection: Connection) -> int:
    """The version of the tables there; 0 where there are none. Raises LedgerError for another program's database."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return 0
    if not {"meta", "postings", "labels"} <= tables:
        raise LedgerError(f"{_name(connection)} is a database of something else, not a ledger")
    found = connection.execute(
        select(schema.meta.c.value).where(schema.meta.c.name == "schema_version")
    ).scalar_one_or_none()
    if found is None or not found.isdecimal():
        raise LedgerError(f"{_name(connection)} does not say which version it is: it is damaged")
    return int(found)


def is_newest(connection: Connection) -> bool:
    """Whether nothing is to be done. Raises LedgerTooNew, and LedgerError for another program's database."""
    return _known_version(connection) == newest_version()


def _known_version(connection: Connection) -> int:
    newest, version = newest_version(), version_of(connection)
    if version > newest:
        raise LedgerTooNew(
            f"{_name(connection)} has schema version {version}, and this langchain-finops knows {newest}: "
            "pip install -U langchain-finops"
        )
    return version


def digest_key(connection: Connection) -> bytes:
    """The key that this ledger's digests of prompts are made with. Raises LedgerError where it is gone."""
    meta = schema.meta.c
    found = connection.execute(select(meta.value).where(meta.name == schema.DIGEST_KEY)).scalar_one_or_none()
    if found is None:
        raise LedgerError(f"{_name(connection)} has no key for digests: it is damaged")
    return bytes.fromhex(found)


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest version, within the transaction that is open. Raises LedgerTooNew."""
    newest, version, meta = newest_version(), _known_version(connection), schema.meta
    if version == 0:
        schema.metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(meta).values(name="schema_version", value=str(newest)))
        connection.execute(insert(meta).values(name=schema.CONTROLS_VERSION, value="0"))
        _add_digest_key(connection)
        return
    for step in STEPS[version - 1 :]:
        step(connection)
    if version < newest:
        connection.execute(update(meta).where(meta.c.name == "schema_version").values(value=str(newest)))
