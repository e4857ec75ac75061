"""What a handler is given to guard with: read from its arguments, all that is wrong with them told at once."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

from langchain_finops.budgets.alerts import BurnRateAlert
from langchain_finops.budgets.guard import Guard
from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.policy_file import Policies
from langchain_finops.budgets.standing import Standing
from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Attribution

__all__ = ["REQUIRED", "Policy", "guard_of", "policies_of"]

Policy = Budget | LoopGuard | BurnRateAlert | ModelPolicy | str
"""A text is a budget's: `"$20/day per agent_id"`."""
REQUIRED = ("agent_id", "user_id", "task_id")
"""What a strict handler wants to know of every call."""
NAMES = tuple(field.name for field in fields(Attribution))


def guard_of(
    policies: Policies, ledger: Ledger, *, strict: bool, require: Collection[str], failed: Callable[[Exception], None]
) -> Guard:
    """A handler's guard. Raises BadArguments for a budget that reaches further than the ledger does.

    Views of one ledger that many short-lived handlers are given may share what was set from outside: looking for it
    takes each of them a thread, and longer than all else.
    """
    standing = getattr(ledger, "standing", None) or Standing(ledger, failed=failed)
    return Guard(policies, ledger=ledger, standing=standing, strict=strict, require=tuple(require), failed=failed)


def policies_of(budgets: Iterable[Policy], *, protect: Sequence[str], require: Sequence[str]) -> Policies:
    """The policies that a handler's arguments say. Raises BadArguments with all faults."""
    faults: list[str] = []
    read = [_policy(each, faults) for each in _items("budgets", budgets, faults)]
    for name, given in (("protect", protect), ("require", require)):
        for each in _items(name, given, faults):
            if not isinstance(each, str) or not each:
                faults.append(f"{name}: must be names, such as {name}=['validate'], not {each!r}")
            elif name == "require" and each not in NAMES:
                faults.append(f"require: knows no {each!r}, but {', '.join(NAMES)}")
    if faults:
        raise BadArguments(f"FinOpsHandler: {'; '.join(faults)}")
    return Policies(
        budgets=tuple(each for each in read if isinstance(each, Budget)),
        loop_guards=tuple(each for each in read if isinstance(each, LoopGuard)),
        models=tuple(each for each in read if isinstance(each, ModelPolicy)),
        alerts=tuple(each for each in read if isinstance(each, BurnRateAlert)),
        protect=tuple(protect),
    )


def _items(name: str, given: Any, faults: list[str]) -> list[Any]:
    """The items of a sequence. One that stands alone, above all a text, is told of rather than taken apart."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        given = str(given) if isinstance(given, Budget) else given  # Its repr is three lines of defaults.
        faults.append(f"{name}: must be a list, such as {name}=[{given!r}]")
        return []
    return list(given)


def _policy(given: object, faults: list[str]) -> Policy | None:
    if isinstance(given, Budget | LoopGuard | BurnRateAlert | ModelPolicy):
        return given
    try:
        if isinstance(given, str):
            return Budget.parse(given)
        faults.append(f"budgets: takes Budget, LoopGuard, BurnRateAlert, ModelPolicy or a budget's text, not {given!r}")
    except BadArguments as error:
        faults.append(f"budgets: {given!r}: {error}")
    return None
