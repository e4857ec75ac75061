"""One run: what each of its nodes cost, its calls in time, how its context grew, and why it stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.grouping import Period, fold
from langchain_finops.ledger.summary import Summary
from langchain_finops.money import to_pico
from langchain_finops.records import (
    NO_ATTRIBUTION,
    Attribution,
    CallRecord,
    ChargeRecord,
    Event,
    Outcome,
    RunRecord,
)
from langchain_finops.reports.live import QUIET, Spent

__all__ = ["Context", "OneRun", "one_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The input of a node's calls, in order: where it grows at each step, so does the price of each step."""

    node: str | None
    points: list[tuple[datetime, int]]
    """When a call of role `agent` began, and its input tokens."""

    @property
    def growth_per_step(self) -> float:
        """Tokens that a step adds, from the first call to the last."""
        return (self.points[-1][1] - self.points[0][1]) / (len(self.points) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRun:
    """All that is known of a run."""

    run_id: str
    name: str | None
    who: Attribution
    """As its newest call names it."""
    status: str
    """That of its last invocation; `running` or `no end` where none is recorded."""
    stop_reason: str | None
    why: str
    """The same in a sentence."""
    began: datetime
    ended: datetime | None
    """None where no end is recorded."""
    newest: datetime
    steps: int | None
    spent: Spent
    """Of all its calls and charges, folded ones too."""
    folded_calls: int
    """Calls that `finops prune` folded into daily sums: they are in `spent`, and in nothing else here."""
    folded_charges: int
    calls: list[CallRecord]
    """Oldest first."""
    charges: list[ChargeRecord]
    invocations: list[RunRecord]
    tree: list[dict[str, Any]]
    """As `Summary.rows` has them: own and subtree cost by node, parents before children."""
    contexts: list[Context]
    """Of nodes with two calls or more, fastest growing first."""
    outcome: Outcome | None


def one_run(ledger: Ledger, run_id: str, now: datetime | None = None, *, counted: Spent | None = None) -> OneRun | None:
    """Return what the ledger knows of a run; None where nothing names it, or all of it was folded.

    `counted`: what sums that hold folded calls too said of it, read before this; without them its cost is that of the
    calls that are still there.
    """
    now = now or datetime.now(UTC)
    calls, charges = list(ledger.calls(run_id=run_id)), list(ledger.charges(run_id=run_id))
    invocations = sorted(ledger.runs(run_id=run_id, history=True), key=lambda run: run.revision)
    moments = [*(call.started_at for call in calls), *(charge.at for charge in charges)]
    starts = [*moments, *(run.started_at for run in invocations)]
    if not starts:
        return None
    who = calls[-1].attribution if calls else charges[-1].attribution if charges else NO_ATTRIBUTION
    if invocations and who is NO_ATTRIBUTION:
        who = invocations[-1].attribution
    newest = max(moments, default=max(starts))
    status, reason = _standing(calls, charges, invocations, newest, now)
    last = invocations[-1] if invocations and status == invocations[-1].status else None
    outcome = None if who.task_id is None else next(ledger.outcomes(task_id=who.task_id), None)
    groups = fold(calls, charges, (), by=("node",), period=Period(), filters={})
    spent = _spent(calls, charges)
    whole = counted if counted is not None and counted.records > spent.records else spent
    folded_calls = max(whole.calls - spent.calls, 0)
    return OneRun(
        run_id=run_id,
        name=next((run.name for run in reversed(invocations) if run.name), None),
        who=who,
        status=status,
        stop_reason=reason,
        why=_why(status, reason, who, _kills(ledger, reason, last)),
        began=min(starts),
        ended=None if last is None else last.ended_at,
        newest=newest,
        steps=invocations[-1].steps if invocations else None,
        spent=whole,
        folded_calls=folded_calls,
        folded_charges=max(whole.records - spent.records - folded_calls, 0),
        calls=calls,
        charges=charges,
        invocations=invocations,
        tree=list(Summary(("node",), groups).rows()),
        contexts=_contexts(calls),
        outcome=outcome,
    )


def _standing(
    calls: Sequence[CallRecord],
    charges: Sequence[ChargeRecord],
    invocations: Sequence[RunRecord],
    newest: datetime,
    now: datetime,
) -> tuple[str, str | None]:
    """Status and stop reason; the same rule as in the list of runs."""
    newest_of = [(call.started_at, call.invocation_id) for call in calls[-1:]]
    newest_of += [(charge.at, charge.invocation_id) for charge in charges[-1:] if charge.invocation_id is not None]
    ended = {run.invocation_id for run in invocations}
    if newest_of and max(newest_of)[1] not in ended:
        return ("running" if newest >= now - QUIET else "no end"), None
    if not invocations:
        return "no end", None
    return invocations[-1].status, invocations[-1].stop_reason


def _spent(calls: Sequence[CallRecord], charges: Sequence[ChargeRecord]) -> Spent:
    costs = [*(call.cost_usd for call in calls), *(charge.cost_usd for charge in charges)]
    return Spent(
        calls=len(calls),
        unpriced=sum(cost is None for cost in costs),
        records=len(costs),
        pico=sum(to_pico(cost) for cost in costs if cost is not None),
        tokens=sum(call.usage.total_input_tokens + call.usage.total_output_tokens for call in calls),
    )


def _contexts(calls: Sequence[CallRecord]) -> list[Context]:
    points: dict[str | None, list[tuple[datetime, int]]] = {}
    for call in calls:
        if call.attribution.role == "agent":
            at = call.started_at, call.usage.total_input_tokens
            points.setdefault(call.attribution.node_path, []).append(at)
    found = [Context(node=node, points=each) for node, each in points.items() if len(each) > 1]
    return sorted(found, key=lambda each: (-each.growth_per_step * len(each.points), each.node or ""))


# --- why it stopped --------------------------------------------------------------------------------------------------

_WHY: Final = {
    "loop": "A loop guard stopped it: it went round without getting on.",
    "unpriced": "Its next call was refused: a budget in dollars is in force, and the model has no known price.",
    "drained": "It was drained: it ended after the step that passed a limit.",
    "recursion_limit": "It reached LangGraph's recursion limit.",
}


def _kills(ledger: Ledger, reason: str | None, last: RunRecord | None) -> list[Event]:
    if reason != "killed" or last is None:
        return []
    return list(ledger.events(until=last.ended_at, action="kill"))


def _why(status: str, reason: str | None, who: Attribution, kills: Sequence[Event]) -> str:
    if status == "running":
        return "It has not ended: its newest call began within the last 15 minutes."
    if status == "no end":
        return "No end is recorded, and no call for 15 minutes: its process may have died, or it waits."
    kind, _, label = (reason or "").partition(":")
    if kind == "budget" and label:
        return f"Budget {label} stopped it: its next call would have passed the limit."
    if kind == "killed":
        return _killed(who, kills)
    if reason in _WHY:
        return _WHY[reason]
    said = f": {reason}" if reason else ""
    return {
        "completed": "It ran to its end.",
        "stopped": f"It was stopped{said}.",
        "interrupted": f"It waits for a person{said}.",
        "failed": f"It failed{said}.",
        "cancelled": f"It was cancelled{said}.",
    }.get(status, status)


def _killed(who: Attribution, kills: Sequence[Event]) -> str:
    meant = {"all", f"agent_id={who.agent_id}", f"user_id={who.user_id}", f"task_id={who.task_id}"}
    last = next((event for event in reversed(kills) if event.subject in meant), None)
    if last is None:
        return "It was killed."
    why = f": {last.reason}" if last.reason else ""
    return f"It was killed ({last.subject}) by {last.actor} at {last.at:%Y-%m-%d %H:%M} UTC{why}."
