"""Which balance a call counts on: a key that any handler and process works out alike, and that reads back.

`usd/day agent_id=support @2026-11-26T00:00:00Z match:node=writer name=daily`: unit and window, whose it is, when the
window began, then what else tells balances apart. The limit is no part of it: each handler checks its own.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from langchain_finops.budgets.policy import Budget, Limit
from langchain_finops.budgets.scopes import Match, matches, rank, values
from langchain_finops.budgets.units import UNITS, Unit
from langchain_finops.budgets.windows import length_s, utc, window
from langchain_finops.errors import BadArguments
from langchain_finops.records import Attribution

__all__ = ["BalanceKey", "applies", "balance_keys", "breadth", "is_local", "parse_key"]

OF_ONE_RUN: Final = ("run", "node")
"""Scopes that without a window are of one run."""
RUN_INSTEAD: Final = ("thread_id", "task_id")
"""A run without a thread or a task is one of its own; all such runs together would soon be refused for ever."""
LONGEST: Final = 256
"""Characters of a value within a key: databases bound what they index, and users choose their ids themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceKey:
    """What a balance's key says."""

    unit: Unit
    per: str | None
    scope: str
    value: str | None
    """Whose it is; None where calls did not say, and for scopes `all` and `run`."""
    run_id: str | None
    """The run it is of; None where it is of more than one."""
    start: datetime | None
    """When its window began, in UTC; None without a window."""
    match: Match
    name: str | None
    time_zone: str

    def ends_at(self) -> datetime | None:
        """When its window ends, in UTC; None without a window."""
        if self.per is None or self.start is None:
            return None
        return window(self.per, self.start, self.time_zone)[1]


def applies(budget: Budget, who: Attribution) -> bool:
    """Whether a call counts on the budget. One that says nothing of the scope's value does: see `balance_keys`."""
    return matches(budget.match, who)


def is_local(budget: Budget) -> bool:
    """Whether each of its balances is of one run, for the run's whole life."""
    return budget.per is None and budget.scope in OF_ONE_RUN


def breadth(budget: Budget) -> tuple[int, float, int, str, str]:
    """What budgets are sorted by: outermost first, of one scope the longer windows first, then the wider match."""
    length = float("inf") if budget.per is None else length_s(budget.per)
    return rank(budget.scope), -length, len(budget.match), budget.scope, budget.label


def balance_keys(limit: Limit, who: Attribution, at: datetime, *, run_id: str) -> tuple[str, ...]:
    """The balances that a call counts on: one, or of scope `node` that of each node of its path, outermost first.

    Calls that do not say whose they are share one balance, so that leaving an id out is no way around a limit; but a
    run without a thread or task counts as one of its own.
    """
    budget = limit.budget
    head = limit.unit if budget.per is None else f"{limit.unit}/{budget.per}"
    tail = _tail(budget, at)
    return tuple(f"{head} {whose}{tail}" for whose in _whose(budget, who, run_id))


def parse_key(key: str) -> BalanceKey:
    """What a balance's key says; of a value too long for a key, its beginning. Raises BadArguments."""
    try:
        return _parsed(key)
    except ValueError as error:
        raise BadArguments(f"{key!r} is no balance's key: {error}") from error


def _whose(budget: Budget, who: Attribution, run_id: str) -> list[str]:
    scope = budget.scope
    if scope == "all":
        return ["all"]
    if scope == "run":
        return [f"run={_text(run_id)}"]
    run = f" run={_text(run_id)}" if is_local(budget) else ""
    name = _text(scope)
    whose = []
    for value in values(scope, who):
        own = f" run={_text(run_id)}" if value is None and scope in RUN_INSTEAD else run
        whose.append(f"{name}{own}" if value is None else f"{name}={_text(value)}{own}")
    return whose


def _tail(budget: Budget, at: datetime) -> str:
    since = "" if budget.per is None else _since(budget.per, utc(at).replace(microsecond=0), budget.time_zone)
    return since + _rest(budget.match, budget.name)


# These are asked for at each call, and answer the same for most.
@lru_cache(maxsize=256)
def _since(per: str, at: datetime, time_zone: str) -> str:
    start, _ = window(per, at, time_zone)
    # A day that begins alike in two zones may end differently.
    zone = "" if time_zone == "UTC" else f" zone={_text(time_zone)}"
    return f" @{start:%Y-%m-%dT%H:%M:%SZ}{zone}"


@lru_cache(maxsize=256)
def _rest(match: Match, name: str | None) -> str:
    named = "" if name is None else f" name={_text(name)}"
    return "".join(f" match:{_text(field)}={_text(value)}" for field, value in match) + named


@lru_cache(maxsize=4096)
def _short_text(value: str) -> str:
    return _quoted(value)


def _text(value: str) -> str:
    """A value in ASCII, without blanks and equals signs; of a long one the beginning, and a hash of all."""
    return _short_text(value) if len(value) <= LONGEST else _quoted(value)  # Long ones would fill the cache.


def _quoted(value: str) -> str:
    quoted = quote(value, safe="/:@+,", errors="surrogatepass")
    if len(quoted) <= LONGEST:
        return quoted
    begin = re.sub(r"%[0-9A-F]?$", "", quoted[: LONGEST // 2])
    return f"{begin}*{sha256(quoted.encode()).hexdigest()}"


def _value(text: str) -> str:
    begin, cut, _ = text.partition("*")
    # A character may be cut in the middle of its bytes.
    return f"{unquote(begin, errors='replace')}..." if cut else unquote(text, errors="surrogatepass")


def _parsed(key: str) -> BalanceKey:
    head, whose, *rest = key.split(" ")
    unit, _, per = head.partition("/")
    if unit not in UNITS:
        raise ValueError(f"{unit!r} is no unit")
    scope, known, value = whose.partition("=")
    run_id, start, zone, match, name = None, None, "UTC", [], None
    if scope == "run":
        run_id, known = _value(value), ""
    for part in rest:
        label, _, text = part.partition("=")
        if part.startswith("@"):
            start = datetime.strptime(part, "@%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        elif label == "run":
            run_id = _value(text)
        elif label == "zone":
            zone = _value(text)
        elif label == "name":
            name = _value(text)
        elif label.startswith("match:"):
            match.append((_value(label.removeprefix("match:")), _value(text)))
        else:
            raise ValueError(f"{part!r} is none of its parts")
    return BalanceKey(
        unit=unit,
        per=per or None,
        scope=_value(scope),
        value=_value(value) if known else None,
        run_id=run_id,
        start=start,
        match=tuple(match),
        name=name,
        time_zone=zone,
    )
