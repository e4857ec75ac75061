"""What holding and settling mean in SQL, within a transaction that is open.

Like `append`: statements are compiled once and run on the driver's cursor. Transactions that change a balance name it
in their `locks`, so that what is read here cannot change before it is written back.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Dialect,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql import ClauseElement

from langchain_finops.ledger import schema
from langchain_finops.ledger.codec import dumps
from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, answer_to
from langchain_finops.ledger.naming import fragments, is_for, marker, names, renamed
from langchain_finops.ledger.rows import Row
from langchain_finops.ledger.schema import PART
from langchain_finops.ledger.stores import Cursor

__all__ = ["CONTROLS_LOCK", "Book", "Controls", "Held", "may_name", "patterns"]

Compile = Callable[[ClauseElement], str]
NOBODY: Final = ""
"""No hold has this id."""
CONTROLS_LOCK: Final = "controls"
"""What changing any control locks: their version counts all of them."""


def _compiler(dialect: Dialect) -> Compile:
    return lambda statement: str(statement.compile(dialect=dialect))


def _values(*names: str) -> dict[str, BindParameter[Any]]:
    return {name: bindparam(name) for name in names}


def _add(table: Table, sql: Compile, *names: str) -> str:
    return sql(insert(table).values(_values(*names)))


def may_name(column: Column[str]) -> ColumnElement[bool]:
    """Where a text may name a person, which most need no second look to deny. Its parameters are `patterns`."""
    return or_(*(column.like(bindparam(f"pattern{number}"), escape="!") for number in range(3)))


def patterns(user_id: str) -> list[str]:
    """What texts are like that may name the person."""
    return [f"%{re.sub('[!%_]', _escaped, fragment)}%" for fragment in fragments(user_id)]


def _escaped(found: re.Match[str]) -> str:
    return f"!{found[0]}"


@dataclass(slots=True)
class _Standing:
    """A balance's row."""

    number: int
    spent: int
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What a hold did."""

    answer: HoldAnswer
    new: tuple[int, ...] = ()
    """Numbers of the balances that it took from and had not before: what is to be undone if nobody wants it."""


class Book:
    """Holds and balances."""

    def __init__(self, dialect: Dialect) -> None:
        sql, b, h = _compiler(dialect), schema.balances.c, schema.holds.c
        held = (h.balance == bindparam("the_balance"), h.hold_id == bindparam("the_hold_id"))
        found = select(b.balance, b.spent_high, b.spent_low).where(b.key == bindparam("key"))
        is_live = h.expires_at > bindparam("at")
        sums = (func.sum(h.amount_high), func.sum(h.amount_low))
        self._find = sql(found)
        self._add = _add(schema.balances, sql, "key", "spent_high", "spent_low")
        self._save = sql(
            update(schema.balances)
            .where(b.balance == bindparam("the_balance"))
            .values(_values("spent_high", "spent_low"))
        )
        self._sum = sql(
            select(h.hold_id == bindparam("hold_id"), is_live, *sums)
            .where(h.balance == bindparam("balance"))
            .group_by(text("1"), text("2"))
        )
        self._sum_all = sql(select(h.balance, is_live, *sums).group_by(text("1"), text("2")))
        self._all = sql(select(b.balance, b.key, b.spent_high, b.spent_low).order_by(b.key))
        self._set_aside = _add(schema.holds, sql, *h.keys())
        self._raise = sql(update(schema.holds).where(*held).values(_values("amount_high", "amount_low", "expires_at")))
        is_more = or_(
            h.amount_high > bindparam("high"),
            and_(h.amount_high == bindparam("same_high"), h.amount_low > bindparam("low")),
        )
        number = select(b.balance).where(b.key == bindparam("key")).scalar_subquery()
        self._lower = sql(
            update(schema.holds)
            .where(h.balance == number, h.hold_id == bindparam("the_hold_id"), is_more)
            .values(_values("amount_high", "amount_low"))
        )
        self._take_away = sql(delete(schema.holds).where(*held))
        self._naming = sql(select(b.balance, b.key).where(may_name(b.key)))
        self._rename = sql(update(schema.balances).where(b.balance == bindparam("the_balance")).values(_values("key")))
        self._empty = sql(delete(schema.holds).where(h.balance == bindparam("balance")))
        self._release = sql(delete(schema.holds).where(h.hold_id == bindparam("hold_id")))

    def hold(self, cursor: Cursor, hold_id: str, lines: Sequence[Line], *, at: int, expires_at: int) -> Held:
        """Set all the lines aside, or none. Times in microseconds."""
        amounts: dict[str, int] = {}
        for line in lines:
            amounts[line.balance] = max(line.amount, amounts.get(line.balance, 0))
        found = self.find(cursor, amounts)
        standing, own = {}, {}
        for key, row in found.items():
            standing[key], own[key] = self._stand(cursor, key, row, at, hold_id)
        answer = answer_to(lines, standing)
        if answer.refused is not None:
            return Held(answer)
        for key, amount in amounts.items():
            number, held = found[key].number, own[key]
            if held is None:
                cursor.execute(self._set_aside, (number, hold_id, *divmod(amount, PART), expires_at))
            else:
                cursor.execute(self._raise, (*divmod(max(amount, held), PART), expires_at, number, hold_id))
        return Held(answer, tuple(found[key].number for key in amounts if own[key] is None))

    def locks(self, keys: Iterable[str]) -> list[str]:
        """What changing these balances must be alone with."""
        return [f"balance {key}" for key in keys]

    def find(self, cursor: Cursor, keys: Iterable[str]) -> dict[str, _Standing]:
        """The balances' rows, made where they are missing."""
        found: dict[str, _Standing] = {}
        for key in keys:
            row = cursor.execute(self._find, (key,)).fetchone()
            if row is None:
                cursor.execute(self._add, (key, 0, 0))
                row = cursor.execute(self._find, (key,)).fetchone()
            found[key] = _Standing(row[0], row[1] * PART + row[2])
        return found

    def settle(self, cursor: Cursor, row: Row, found: Mapping[str, _Standing], *, is_new: bool) -> None:
        """Add the row's amounts to balances that `find` found, and take away what was held for them.

        A record that was there already adds nothing, but to a balance that its hold still takes from: two handlers on
        one call may each have balances that the other does not know of, and only one of them writes it first.
        """
        if not row.amounts and row.hold_id is not None:
            self.release(cursor, row.hold_id)
        for key, amount in row.amounts.items():
            balance = found[key]
            was_held = row.hold_id is not None and self._was_held(cursor, balance.number, row.hold_id)
            if amount and (is_new or was_held):
                balance.spent += amount
                balance.changed = True

    def _was_held(self, cursor: Cursor, number: int, hold_id: str) -> bool:
        return bool(cursor.execute(self._take_away, (number, hold_id)).rowcount)

    def save(self, cursor: Cursor, found: Mapping[str, _Standing], at: int) -> dict[str, Balance]:
        """Write back what `settle` changed; the balances as they now stand."""
        for balance in found.values():
            if balance.changed:
                cursor.execute(self._save, (*divmod(balance.spent, PART), balance.number))
        return {key: self._stand(cursor, key, balance, at, NOBODY)[0] for key, balance in found.items()}

    def _stand(self, cursor: Cursor, key: str, row: _Standing, at: int, hold_id: str) -> tuple[Balance, int | None]:
        """The balance without what a hold takes from it, and that; None where it takes nothing."""
        live = expired = 0
        own: int | None = None
        for is_own, is_live, high, low in cursor.execute(self._sum, (hold_id, at, row.number)):
            amount = int(high) * PART + int(low)
            if is_own:
                own = amount
            elif is_live:
                live += amount
            else:
                expired += amount
        return Balance(balance=key, spent=row.spent, held=live, unsettled=expired), own

    def release(self, cursor: Cursor, hold_id: str, numbers: Iterable[int] | None = None) -> None:
        """Give back what is held, on the balances with these numbers or on all."""
        if numbers is None:
            cursor.execute(self._release, (hold_id,))
        for number in numbers or ():
            cursor.execute(self._take_away, (number, hold_id))

    def lower(self, cursor: Cursor, hold_id: str, amounts: Mapping[str, int]) -> None:
        """Hold no more than this on these balances."""
        for key, amount in amounts.items():
            high, low = divmod(max(0, amount), PART)
            cursor.execute(self._lower, (high, low, key, hold_id, high, high, low))

    def forget(self, cursor: Cursor, user_id: str) -> None:
        """Have balances no longer name a person: what was spent stays, what is in flight is held no more."""
        for number, key in cursor.execute(self._naming, patterns(user_id)).fetchall():
            if (new := renamed(key, user_id, marker())) != key:
                cursor.execute(self._rename, (new, number))
                cursor.execute(self._empty, (number,))

    def balances(self, cursor: Cursor, keys: Sequence[str], at: int) -> list[Balance]:
        """The balances of these keys, in order; without keys all in which something stands."""
        if not keys:
            return self._all_balances(cursor, at)
        standing = []
        for key in keys:
            row = cursor.execute(self._find, (key,)).fetchone()
            found = None if row is None else _Standing(row[0], row[1] * PART + row[2])
            standing.append(Balance(balance=key) if found is None else self._stand(cursor, key, found, at, NOBODY)[0])
        return standing

    def _all_balances(self, cursor: Cursor, at: int) -> list[Balance]:
        held: dict[tuple[int, bool], int] = {
            (number, bool(is_live)): int(high) * PART + int(low)
            for number, is_live, high, low in cursor.execute(self._sum_all, (at,)).fetchall()
        }
        everything = [
            Balance(
                balance=key,
                spent=high * PART + low,
                held=held.get((number, True), 0),
                unsettled=held.get((number, False), 0),
            )
            for number, key, high, low in cursor.execute(self._all).fetchall()
        ]
        return [balance for balance in everything if balance.spent or balance.held or balance.unsettled]


class Controls:
    """What was set from outside, and what exactly one process may do."""

    def __init__(self, dialect: Dialect) -> None:
        sql, c, m, claims = _compiler(dialect), schema.controls.c, schema.meta.c, schema.claims.c
        is_named = m.name == bindparam("the_name")
        self._version = sql(select(m.value).where(is_named))
        self._save_version = sql(update(schema.meta).where(is_named).values(value=bindparam("version")))
        self._delete = sql(delete(schema.controls).where(c.kind == bindparam("kind"), c.key == bindparam("key")))
        self._insert = _add(schema.controls, sql, "kind", "key", "body")
        self._of_kind = sql(select(c.key, c.body).where(c.kind == bindparam("kind")).order_by(c.key))
        self._all = sql(select(c.kind, c.key, c.body))
        self._naming_claims = sql(select(claims.key).where(may_name(claims.key)))
        self._find_claim = sql(select(claims.at).where(claims.key == bindparam("key")))
        self._claim = _add(schema.claims, sql, "key", "at")
        self._unclaim = sql(delete(schema.claims).where(claims.key == bindparam("key")))

    def set(self, cursor: Cursor, kind: str, key: str, body: Mapping[str, object] | None) -> None:
        """Put a control in place of the one before it; None takes it away."""
        cursor.execute(self._delete, (kind, key))
        if body is not None:
            cursor.execute(self._insert, (kind, key, dumps(body)))
        cursor.execute(self._save_version, (f"{self.version(cursor) + 1}", schema.CONTROLS_VERSION))

    def of(self, cursor: Cursor, kind: str) -> dict[str, dict[str, object]]:
        """All of a kind by key."""
        return {key: json.loads(body) for key, body in cursor.execute(self._of_kind, (kind,)).fetchall()}

    def version(self, cursor: Cursor) -> int:
        """How often they were changed."""
        return int(cursor.execute(self._version, (schema.CONTROLS_VERSION,)).fetchone()[0])

    def claim(self, cursor: Cursor, key: str, at: int) -> bool:
        """Whether nobody has claimed it before."""
        if cursor.execute(self._find_claim, (key,)).fetchone():
            return False
        cursor.execute(self._claim, (key, at))
        return True

    def unclaim(self, cursor: Cursor, key: str) -> None:
        """Let somebody else have it."""
        cursor.execute(self._unclaim, (key,))

    def forget(self, cursor: Cursor, user_id: str) -> int:
        """Take away what was set for a person, and what was claimed; how many controls that were."""
        for (key,) in cursor.execute(self._naming_claims, patterns(user_id)).fetchall():
            if names(key, user_id):
                self.unclaim(cursor, key)
        gone = [
            (kind, key)
            for kind, key, body in cursor.execute(self._all).fetchall()
            if is_for(key, json.loads(body), user_id)
        ]
        for kind, key in gone:
            self.set(cursor, kind, key, None)
        return len(gone)
