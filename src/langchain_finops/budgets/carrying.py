"""What a run takes with it into the process that resumes it: what it spent, how long it took, what it was allowed."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

from langchain_finops.budgets.holding import Counted, Estimate, balances_of, taken_by_charge
from langchain_finops.budgets.keys import balance_keys
from langchain_finops.budgets.refusal import Refusal, RefusalKind
from langchain_finops.budgets.run_state import RunState
from langchain_finops.budgets.units import Unit, in_units, smallest
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import NO_ATTRIBUTION, Attribution, CallRecord, Event, RunRecord

__all__ = [
    "APPROVE",
    "DENY",
    "OVERSPEND",
    "REFUSE",
    "approve",
    "carry_over",
    "refusal_of",
    "spent_before",
    "told",
    "waiver",
]

APPROVE: Final = "approve"
DENY: Final = "deny"
OVERSPEND: Final = "overspend"
"""A call took more than the bound that a strict budget held for it."""
REFUSE: Final = "refuse"
TOLD: Final = ("kind", "budget", "scope", "unit", "limit", "spent", "held", "estimate")
MICROSECONDS: Final = 1_000_000


def waiver(kind: str, label: str) -> str:
    """The name by which an approval lets a run go on with what has no limit."""
    return f"{kind}:{label}"


def carry_over(
    state: RunState, limits: Sequence[Counted], ledger: Ledger, taken_by: Callable[[CallRecord], Estimate]
) -> None:
    """Count what the records of a run's earlier invocations tell, what people allowed it, and what ended it."""
    run_id = state.run_id
    for event in ledger.events(subject=run_id):
        _go_through(state, event)
    runs = list(ledger.runs(history=True, run_id=run_id))
    state.took_before(sum(int((run.ended_at - run.started_at).total_seconds() * MICROSECONDS) for run in runs))
    own = [each for each in limits if not each.is_wall]
    state.seed(spent_before(state, own, runs, ledger, taken_by))


def spent_before(
    state: RunState,
    own: Sequence[Counted],
    runs: Sequence[RunRecord],
    ledger: Ledger,
    taken_by: Callable[[CallRecord], Estimate],
) -> dict[str, int]:
    """What the records of a run tell so far of balances of its own."""
    spent: dict[str, int] = {}
    if not own:
        return spent
    run_id = state.run_id
    facts = [(call.attribution, call.started_at, taken_by(call)) for call in ledger.calls(run_id=run_id)]
    facts += [(charge.attribution, charge.at, taken_by_charge(charge)) for charge in ledger.charges(run_id=run_id)]
    for who, at, taken in facts:
        units = {key: taken.of(each.limit.unit) for each, key in balances_of(own, who, at, run_id=run_id)}
        for key, amount in units.items():  # Once, however many limits a balance has.
            spent[key] = spent.get(key, 0) + (amount or 0)
    # Where a process died, its last steps are only told by what was called in them.
    count = max([run.steps for run in runs] + [who.step or 0 for who, *_ in facts], default=0)
    for each in own:
        if each.limit.unit == "steps":
            spent |= _steps(state, each, [fact[:2] for fact in facts], count)
    return spent


def _go_through(state: RunState, event: Event) -> None:
    """What an entry of the audit trail did to the run."""
    after = event.after or {}
    if event.action == APPROVE:
        name, extra = str(after.get("name")), after.get("extra")
        if extra is None:
            state.waive(name)
        else:
            state.approve(name, int(extra))
    elif event.action in {DENY, OVERSPEND} or (event.action == REFUSE and _stays(after)):
        # What a budget refused may fit by now, such as on a new day; what is no matter of amounts stays refused.
        state.end(refusal_of(state.run_id, event.reason or event.action, after))


def _stays(after: Mapping[str, Any]) -> bool:
    return after.get("kind") == "loop" and after.get("on_exceed") == "raise"


def refusal_of(run_id: str, reason: str, after: Mapping[str, Any]) -> Refusal:
    """A refusal as the audit trail kept it."""

    def amount(name: str) -> Decimal | None:
        return None if after.get(name) is None else Decimal(str(after[name]))

    kind: RefusalKind = "loop" if after.get("kind") == "loop" else "budget"
    return Refusal(
        kind=kind,
        reason=reason,
        budget=after.get("budget"),
        scope=after.get("scope"),
        unit=after.get("unit"),
        limit=amount("limit"),
        spent=amount("spent"),
        held=amount("held"),
        estimate=amount("estimate"),
        run_id=run_id,
    )


def told(refusal: Refusal) -> dict[str, str]:
    """A refusal as the audit trail keeps it."""
    return {name: str(value) for name in TOLD if (value := getattr(refusal, name)) is not None}


def _steps(state: RunState, each: Counted, facts: Sequence[tuple[Attribution, datetime]], steps: int) -> dict[str, int]:
    """Steps so far: all of the run, or where a budget is of some nodes, those of them that left a record."""
    if each.limit.budget.scope == "run" and not each.limit.budget.match:
        return dict.fromkeys(balance_keys(each.limit, NO_ATTRIBUTION, datetime.now(UTC), run_id=state.run_id), steps)
    seen: dict[str, set[int | None]] = {}
    for who, at in facts:
        for _, key in balances_of([each], who, at, run_id=state.run_id):
            seen.setdefault(key, set()).add(who.step)
    return {key: len(numbers) for key, numbers in seen.items()}


def approve(state: RunState, refusal: Refusal, extra: Decimal | None) -> tuple[dict[str, str], dict[str, object]]:
    """Let a run go on: its limit is raised by `extra`, in the refusal's unit, or by the budget's own limit once more.

    For the audit trail: what was before, and what is after.
    """
    unit, limit = cast("Unit | None", refusal.unit), refusal.limit
    if refusal.kind != "budget" or unit is None or limit is None or refusal.spent is None:
        name = waiver(refusal.kind, refusal.approval or refusal.budget or "")
        state.waive(name)
        return {}, {"name": name}
    name = refusal.approval or f"{unit} {refusal.budget}"
    # Not by what stands now: each answer without an amount would double it.
    amount = smallest(unit, limit) - state.raised_by(name) if extra is None else smallest(unit, extra)
    state.approve(name, amount)
    after = {"name": name, "limit": str(limit + in_units(unit, amount)), "extra": amount}
    return {"limit": str(limit)}, after
