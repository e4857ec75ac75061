"""A PostgreSQL URL: read, shown to people without its secrets, and told apart from other ledgers."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from langchain_finops.errors import LedgerError, MissingExtra

__all__ = ["Address", "address_of", "is_postgres"]

_URL: Final = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://(?P<place>[^?#]*)(?:\?(?P<query>.*))?", re.DOTALL)
_SAME_LEDGER: Final = ("host", "hostaddr", "port", "dbname", "service", "options")
"""What two URLs of one ledger have in common, whoever signs in."""
CONNECT_TIMEOUT_S: Final = 10
_SAY: Final = "write postgresql://USER@HOST/DATABASE, with what is no letter or digit in a password percent-encoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a PostgreSQL ledger is."""

    shown: str
    """The URL without passwords."""
    parameters: Mapping[str, Any]
    """What the driver connects with."""
    file_name: str
    """For files about this ledger. The same for every URL of it that names the same host, port, database and schema."""


def is_postgres(scheme: str) -> bool:
    """Whether a URL's scheme means PostgreSQL."""
    return scheme in {"postgres", "postgresql", "postgres+psycopg", "postgresql+psycopg"}


def address_of(url: str) -> Address:
    """Read a URL. Raises LedgerError for what is none, never showing a password; MissingExtra without the driver."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise MissingExtra("a PostgreSQL ledger", "postgres") from error
    match = _URL.fullmatch(url)
    if match is None or not _is_plain(match["place"]):
        raise LedgerError(f"the URL of the PostgreSQL ledger cannot be read: {_SAY}")
    place, query = match["place"], match["query"]
    try:
        parameters = conninfo_to_dict(f"postgresql://{place}{'' if query is None else '?' + query}")
    except ProgrammingError:  # Its message may repeat the password.
        raise LedgerError(f"the URL of the PostgreSQL ledger cannot be read: {_SAY}") from None
    same = {name: parameters.get(name) for name in _SAME_LEDGER}
    digest = blake2b(json.dumps(same, sort_keys=True).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join(str(same[name] or "") for name in ("host", "dbname")))
    return Address(
        shown=_shown(place, query),
        parameters={
            "application_name": "langchain-finops",
            "connect_timeout": CONNECT_TIMEOUT_S,
            # Whatever the server's default is: records are text of any language.
            "client_encoding": "utf8",
            **parameters,
        },
        file_name=f"postgresql-{readable[:60].strip('_-')}-{digest}",
    )


def _is_plain(place: str) -> bool:
    """Whether user, host and database are told apart as they were meant: else parts of a password would be shown."""
    who, at, rest = place.partition("@")
    return "@" not in rest and not (at and "/" in who)


def _shown(place: str, query: str | None) -> str:
    who, at, rest = place.rpartition("@")
    shown = f"postgresql://{who.partition(':')[0]}{at}{rest}"
    # `finops.db?password=...` is as secret as the one before the host.
    told = [
        (name, value)
        for name, value in parse_qsl(query or "", keep_blank_values=True)
        if not re.search("password|secret|token", name.lower())
    ]
    return f"{shown}?{urlencode(told, quote_via=quote, safe='/,')}" if told else shown
