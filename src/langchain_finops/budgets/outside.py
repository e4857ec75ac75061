"""Budgets that are set without code: as the ledger and policy files hold them, and each change with its event."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import change_event, whoami
from langchain_finops.budgets.texts import where_text
from langchain_finops.errors import BadArguments, Fault, FinOpsError
from langchain_finops.ledger.base import Ledger
from langchain_finops.pricing.fields import Fields

__all__ = [
    "BUDGET",
    "arguments",
    "attempt",
    "budget_body",
    "identity",
    "kept_budgets",
    "names_of",
    "read_budget",
    "remove_budget",
    "set_budget",
]

T = TypeVar("T")
BUDGET: Final = "budget"
"""Kind of the ledger's controls that budgets are."""


def identity(budget: Budget) -> str:
    """What a budget is kept under: all that tells its balances from others', so that a new limit replaces the old."""
    if budget.name is not None:
        return budget.name
    units = "+".join(limit.unit for limit in budget.limits())
    window = "" if budget.per is None else f"/{budget.per}"
    zone = "" if budget.time_zone == "UTC" else f" in {budget.time_zone}"
    return f"{units}{window} per {budget.scope}{where_text(budget.match)}{zone}"


def set_budget(ledger: Ledger, budget: Budget, *, by: str | None = None, reason: str | None = None) -> Budget | None:
    """Have every handler on this ledger keep to a budget; what it replaces, None if it is new.

    Raises BadArguments for one that only code can have.
    """
    key, body = identity(budget), budget_body(budget)
    before = ledger.controls(BUDGET).get(key)
    event = change_event(
        "budget.set", key, by=by or whoami(), at=datetime.now(UTC), reason=reason, before=before, after=body
    )
    ledger.set_control(BUDGET, key, body, event)
    return None if before is None else read_budget(before, key, [])


def remove_budget(
    ledger: Ledger, name: str, *, by: str | None = None, reason: str | None = None
) -> Mapping[str, object] | None:
    """Take a budget away by its name, its identity or its text; what stood there, None if nothing did.

    What was spent stays counted: a budget that is set again goes on from there.
    """
    standing = ledger.controls(BUDGET)
    key = name if name in standing else _identity_of(name)
    before = standing.get(key)
    if before is None:
        return None
    event = change_event("budget.remove", key, by=by or whoami(), at=datetime.now(UTC), reason=reason, before=before)
    ledger.set_control(BUDGET, key, None, event)
    return before


def kept_budgets(bodies: Mapping[str, Mapping[str, object]], faults: list[Fault]) -> tuple[Budget, ...]:
    """Budgets as `Ledger.controls` gives them. What this version cannot read is added to `faults` and left out."""
    found: list[Budget] = []
    for key, body in bodies.items():
        wrong: list[Fault] = []
        budget = read_budget(body, f"budget {key!r} on the ledger", wrong)
        faults += wrong
        if budget is not None and not wrong:
            found.append(budget)
    return tuple(found)


def budget_body(budget: Budget) -> dict[str, object]:
    """The budget as JSON: its text, and those arguments that the text does not say."""
    text = str(budget)
    said = Budget.parse(text)
    body: dict[str, object] = {"budget": text}
    for name in names_of(Budget):
        value = getattr(budget, name)
        if callable(value):
            raise BadArguments(f"budget {budget.label}: {name} is a function, which only code can say; use a word")
        if value != getattr(said, name):
            body[name] = _plain(value)
    return body


def read_budget(data: object, where: str, faults: list[Fault]) -> Budget | None:
    """A budget: its text, or a mapping of `budget` (the text) and `Budget`'s arguments, or of the arguments alone."""
    if isinstance(data, str):
        return attempt(lambda: Budget.parse(data), where, faults)
    names = names_of(Budget)
    before = len(faults)
    fields = Fields(data, where, faults, ("budget", *names))
    options = arguments(fields, names)
    text = fields.text("budget")
    if len(faults) > before:
        return None
    if text is None:
        return attempt(lambda: Budget(**options), where, faults)
    return attempt(lambda: dataclasses.replace(Budget.parse(text), **options), where, faults)


def names_of(policy: Callable[..., object]) -> tuple[str, ...]:
    """The arguments of a policy, which are its fields."""
    return tuple(field.name for field in dataclasses.fields(policy))  # type: ignore[arg-type]  # They are dataclasses.


def arguments(fields: Fields, names: tuple[str, ...]) -> dict[str, Any]:
    """Those arguments that a file gives."""
    return {name: fields.get(name) for name in names if name in fields}


def attempt(make: Callable[[], T], where: str, faults: list[Fault]) -> T | None:
    """What is made; None, and a fault, where that fails."""
    try:
        return make()
    except (FinOpsError, TypeError, ValueError) as error:
        faults.append(Fault(where=where, what=str(error)))
        return None


def _identity_of(text: str) -> str:
    try:
        return identity(Budget.parse(text))
    except BadArguments:
        return text


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Decimal) else value
