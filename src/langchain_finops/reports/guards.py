"""What guards stand and how full they are, as tables: budgets, kills, and the audit trail."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from langchain_finops.budgets.burn import forecast
from langchain_finops.budgets.keys import BalanceKey, is_local, parse_key
from langchain_finops.budgets.policy import Budget, Limit
from langchain_finops.budgets.switch import Kill
from langchain_finops.budgets.units import in_units
from langchain_finops.budgets.windows import window
from langchain_finops.errors import BadArguments
from langchain_finops.ledger.holds import Balance
from langchain_finops.records import Event
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["budget_table", "event_table", "kill_table"]

BUDGET_FIELDS: Final = (
    "budget",
    "source",
    "unit",
    "scope",
    "value",
    "run_id",
    "per",
    "window_start",
    "window_end",
    "limit",
    "spent",
    "held",
    "unsettled",
    "left",
    "share",
    "forecast",
    "state",
    "balance",
)
KILL_FIELDS: Final = ("scope", "value", "by", "at", "reason", "until", "now", "holds")
EVENT_FIELDS: Final = ("at", "actor", "action", "subject", "reason", "before", "after", "event_id")


@dataclass(frozen=True, slots=True)
class _Known:
    """A limit that was set without code, and where."""

    limit: Limit
    source: str


def budget_table(
    balances: Iterable[Balance],
    budgets: Mapping[str, Iterable[Budget]],
    at: datetime,
    *,
    past: bool = False,
    caption: str | None = None,
) -> Table:
    """What stands against each budget: one row a balance and limit; windows that have ended only with `past`.

    `budgets`: those that were set without code, by where. Of the others the ledger knows what was spent, not the limit.
    """
    known = [
        _Known(limit, source) for source, given in budgets.items() for budget in given for limit in budget.limits()
    ]
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    for balance in balances:
        key = _key(balance)
        if key is None or (not past and _has_ended(key, at)):
            continue
        matching = [index for index, each in enumerate(known) if _counts_on(each.limit, key)]
        seen.update(matching)
        rows += (_row(balance, key, known[index], at) for index in matching)
        if not matching:
            rows.append(_row(balance, key, None, at))
    rows += (_untouched(each, at) for index, each in enumerate(known) if index not in seen)
    rows.sort(key=lambda row: (row["budget"] is None, -(row["share"] or 0), row["balance"]))
    return Table(rows=rows, fields=BUDGET_FIELDS, columns=_BUDGET_COLUMNS, caption=caption, notes=_notes(rows))


def _key(balance: Balance) -> BalanceKey | None:
    try:
        return parse_key(balance.balance)
    except BadArguments:
        return None  # The buckets that alerts count in.


def _has_ended(key: BalanceKey, at: datetime) -> bool:
    end = key.ends_at()
    return end is not None and end <= at


def _counts_on(limit: Limit, key: BalanceKey) -> bool:
    budget = limit.budget
    ours = (limit.unit, budget.per, budget.scope, budget.match, budget.name)
    if ours != (key.unit, key.per, key.scope, key.match, key.name):
        return False
    return budget.per is None or budget.time_zone == key.time_zone


def _row(balance: Balance, key: BalanceKey, known: _Known | None, at: datetime) -> dict[str, Any]:
    end = key.ends_at()
    limit = None if known is None else known.limit.amount
    ahead = None
    if key.start is not None and end is not None:
        ahead = forecast(balance.spent, key.start, end, at)
    left = None if limit is None else limit - balance.spent - balance.held
    amounts = {
        "limit": limit,
        "spent": balance.spent,
        "held": balance.held,
        "unsettled": balance.unsettled,
        "left": left,
        "forecast": ahead,
    }
    return {
        "budget": None if known is None else known.limit.budget.label,
        "source": None if known is None else known.source,
        "unit": key.unit,
        "scope": key.scope,
        "value": key.value,
        "run_id": key.run_id,
        "per": key.per,
        "window_start": key.start,
        "window_end": end,
        **{name: None if amount is None else in_units(key.unit, amount) for name, amount in amounts.items()},
        "share": None if limit is None else round(Decimal(balance.spent) / limit, 4),
        "state": None if known is None else _state(balance, known.limit, ahead),
        "balance": balance.balance,
    }


def _untouched(known: _Known, at: datetime) -> dict[str, Any]:
    """A budget that nothing has counted on yet: whose balance it will be, its first call says. Runs keep their own."""
    limit, budget = known.limit, known.limit.budget
    is_own = is_local(budget)
    start, end = (None, None) if budget.per is None else window(budget.per, at, budget.time_zone)
    nothing = None if is_own else in_units(limit.unit, 0)
    amount = in_units(limit.unit, limit.amount)
    return {
        "budget": budget.label,
        "source": known.source,
        "unit": limit.unit,
        "scope": budget.scope,
        "value": None,
        "run_id": None,
        "per": budget.per,
        "window_start": start,
        "window_end": end,
        "limit": amount,
        "spent": nothing,
        "held": nothing,
        "unsettled": nothing,
        "left": None if is_own else amount,
        "share": None if is_own else Decimal(0),
        "forecast": None if budget.per is None else nothing,
        "state": "in runs" if is_own else "unused",
        "balance": "",
    }


def _state(balance: Balance, limit: Limit, ahead: int | None) -> str:
    if balance.spent > limit.amount:
        return "over"
    if balance.spent + balance.held >= limit.amount:
        return "full"
    if any(balance.spent >= threshold for threshold in limit.warnings()):
        return "warning"
    return "ahead" if ahead is not None and ahead > limit.amount else "ok"


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    states = {row["state"] for row in rows}
    notes = []
    if "ahead" in states:
        notes.append("ahead: at its pace it passes the limit before the window ends.")
    if "over" in states:
        notes.append("over: calls were larger than expected, or the limit was lowered; nothing more is admitted.")
    if "in runs" in states:
        notes.append("in runs: each run keeps a balance of its own, and takes it along.")
    if None in states:
        notes.append("-: the limit is set in code, where each handler checks its own.")
    if any(row["unsettled"] for row in rows):
        notes.append("unsettled: held by calls whose process ended before it could say what they spent.")
    return notes


def _say(row: Row, name: str) -> str:
    value = row[name]
    if value is None:
        return "-"
    if row["unit"] == "usd":
        return f"${value:,.2f}" if not value or abs(value) >= 1 else f"${value:,.4f}"
    return f"{value:,.1f} s" if row["unit"] == "seconds" else f"{value:,f}"


def _whose(row: Row) -> str:
    if row["scope"] in {"all", "run"}:
        return str(row["run_id"] or row["scope"])
    if row["value"] is None:
        return "-" if row["state"] in {"unused", "in runs"} else "not named"
    return str(row["value"])


def _what(row: Row) -> str:
    if row["budget"] is not None:
        return str(row["budget"])
    key = parse_key(row["balance"])
    return f"{key.name or row['unit']}{'/' if key.per else ''}{key.per or ''} per {key.scope}"


def _moment(value: datetime | None) -> str:
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}"


_BUDGET_COLUMNS: Final = (
    Column(title="budget", text=_what, name=True),
    Column(title="whose", text=_whose, name=True),
    Column(title="limit", text=lambda row: _say(row, "limit")),
    Column(title="spent", text=lambda row: _say(row, "spent")),
    Column(title="held", text=lambda row: _say(row, "held"), rank=1),
    Column(title="forecast", text=lambda row: _say(row, "forecast"), rank=2),
    Column(title="state", text=lambda row: row["state"] or "-"),
    Column(title="unsettled", text=lambda row: _say(row, "unsettled"), rank=4),
    Column(title="until (UTC)", text=lambda row: _moment(row["window_end"]), rank=3),
    Column(title="set by", text=lambda row: row["source"] or "code", rank=5),
)


def kill_table(kills: Iterable[Kill], at: datetime, *, caption: str | None = None) -> Table:
    """Whose calls are refused, by whom and why; those that have run out, too."""
    rows = [
        {
            "scope": kill.scope,
            "value": kill.value,
            "by": kill.by,
            "at": kill.at,
            "reason": kill.reason,
            "until": kill.until,
            "now": kill.now,
            "holds": kill.holds(at),
        }
        for kill in kills
    ]
    return Table(rows=rows, fields=KILL_FIELDS, columns=_KILL_COLUMNS, caption=caption)


_KILL_COLUMNS: Final = (
    Column(
        title="killed", text=lambda row: "all" if row["value"] is None else f"{row['scope']} {row['value']}", name=True
    ),
    Column(title="by", text=lambda row: row["by"], name=True),
    Column(title="at (UTC)", text=lambda row: _moment(row["at"]), rank=2),
    Column(title="until (UTC)", text=lambda row: _moment(row["until"]) if row["until"] else "revived", rank=1),
    Column(title="holds", text=lambda row: "yes" if row["holds"] else "ended"),
    Column(title="reason", text=lambda row: row["reason"] or "-", below=True),
)


def event_table(events: Iterable[Event], *, caption: str | None = None) -> Table:
    """Who changed what, when and why."""
    rows = [{name: getattr(event, name) for name in EVENT_FIELDS} for event in events]
    for row in rows:
        row.update({name: None if row[name] is None else dict(row[name]) for name in ("before", "after")})
    return Table(rows=rows, fields=EVENT_FIELDS, columns=_EVENT_COLUMNS, caption=caption)


def _change(row: Row) -> str:
    """What is different, shortly."""
    before, after = row["before"] or {}, row["after"] or {}
    names = [name for name in {**before, **after} if before.get(name) != after.get(name) and name not in _SAID]
    if not before.keys() & after.keys():  # Only one of them is there, or they tell different things, as of a reprice.
        both = {**before, **after}
        return ", ".join(f"{name} {_short(value)}" for name, value in both.items() if _tells(name, value))
    return ", ".join(f"{name} {_short(before.get(name))} -> {_short(after.get(name))}" for name in names)


_SAID: Final = frozenset({"at", "by", "reason", "scope", "value"})
"""Parts of a change that have a column, or are its subject."""


def _tells(name: str, value: object) -> bool:
    return name not in _SAID and value is not None and value is not False


def _short(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_EVENT_COLUMNS: Final = (
    Column(title="at (UTC)", text=lambda row: f"{row['at']:%Y-%m-%d %H:%M:%S}"),
    Column(title="who", text=lambda row: row["actor"], name=True),
    Column(title="what", text=lambda row: row["action"], name=True),
    Column(title="subject", text=lambda row: row["subject"], name=True),
    Column(title="why", text=lambda row: row["reason"] or "-", below=True),
    Column(title="change", text=_change, below=True),
)
