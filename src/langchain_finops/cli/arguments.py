"""What the commands of `finops` take: a ledger that is there, and times as people write them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_finops.cli.common import warn
from langchain_finops.errors import BadArguments, LedgerError

if TYPE_CHECKING:
    from langchain_finops.ledger.base import Ledger

__all__ = [
    "check_named",
    "counted",
    "existing_ledger",
    "moment_of",
    "names_of",
    "period_of",
    "place_of",
    "warn_of_spilled",
]


@contextmanager
def existing_ledger(url: str | None, option: str = "--ledger") -> Iterator["Ledger"]:
    """The ledger to work on; a file that is not there is an error, not an empty ledger that looking made."""
    from langchain_finops.ledger import default_path, open_ledger

    check_named(url, option, "name a file, or leave it out for $FINOPS_LEDGER or the default")
    named = url or os.environ.get("FINOPS_LEDGER") or str(default_path())
    place = named.removeprefix("sqlite:///")
    path = Path(place).expanduser()
    if "://" not in place and place != ":memory:" and not path.exists():
        made = "run a graph with callbacks=[FinOpsHandler()], or"
        remedy = f"name another with {option}" if url else f"{made} name another with {option} or $FINOPS_LEDGER"
        raise LedgerError(f"no ledger at {path}: {remedy}.")
    ledger = open_ledger(named)
    try:
        yield ledger
    finally:
        ledger.close()


def check_named(value: str | None, option: str, remedy: str) -> None:
    """A variable of a script that is empty must not choose something else."""
    if value is not None and not value.strip():
        raise BadArguments(f"{option} is empty: {remedy}.")


def place_of(ledger: "Ledger") -> str:
    """Where the ledger is, as a shell takes it."""
    path = ledger.url.removeprefix("sqlite:///")
    home = str(Path.home())
    return f"~{path.removeprefix(home)}" if path.startswith(home + os.sep) else path


def warn_of_spilled(ledger: "Ledger") -> None:
    """Say that calls are missing from the sums: the ledger could not be written when they ended."""
    from langchain_finops.ledger.sql import SqlLedger

    if isinstance(ledger, SqlLedger) and not ledger.spill.is_empty():
        warn(f"records in {ledger.spill.path} are not counted yet: run `finops recover`, then look again.")


def counted(count: int, noun: str) -> str:
    """A number of things, as a sentence has it."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def names_of(by: str) -> tuple[str, ...]:
    """What `--by` names; none for `total`."""
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    if not names:
        raise BadArguments("--by names nothing: write dimensions with commas, such as agent,node.")
    return () if names == ("total",) else names


def period_of(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """What `--since` and `--until` name: from the first, included, to the second, excluded."""
    start = None if since is None else moment_of(since, "--since")
    end = None if until is None else moment_of(until, "--until")
    if start is not None and end is not None and start >= end:
        raise BadArguments(f"--since {since} is not before --until {until}: nothing lies between them.")
    return start, end


_AGO = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def moment_of(text: str, option: str) -> datetime:
    """A span back from now, a date, or a time; UTC where it does not say."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadArguments(
            f"{option} {text!r} is no time: write 7d, 24h, 2w, 2026-01-31 or 2026-01-31T12:00."
        ) from error
