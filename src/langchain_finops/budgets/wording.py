"""Refusals in words: what was estimated, from what, and how to change it."""

from collections.abc import Sequence

from langchain_finops.budgets.holding import Counted, Estimate, Share, Start
from langchain_finops.budgets.keys import parse_key
from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.budgets.policy import Limit
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.switch import Kill
from langchain_finops.budgets.units import in_units, say
from langchain_finops.ledger.holds import Balance
from langchain_finops.records import Attribution

__all__ = [
    "exceeded",
    "killed",
    "ledger_failed",
    "looping",
    "not_allowed",
    "out_of_time",
    "overspent",
    "unbounded",
    "unknown_past",
    "unlimited",
    "unpriced",
]


def scope_of(share: Share) -> str:
    """Whose balance it is: `run`, `all`, or such as `agent_id=support`."""
    key = parse_key(share.key)
    return key.scope if key.scope in {"run", "all"} else f"{key.scope}={key.value}"


def exceeded(start: Start, run_id: str, share: Share, balance: Balance) -> Refusal:
    """It does not fit beside what is spent and held."""
    limit = share.limit
    unit = limit.unit
    scope = scope_of(share)
    cap = limit.amount if share.cap is None else share.cap
    held = f", {say(unit, balance.held)} held by calls in flight" if balance.held else ""
    unsettled = f" ({say(unit, balance.unsettled)} more by calls that never settled)" if balance.unsettled else ""
    estimate, verb = start.estimated(limit), "takes" if unit in start.fixed else "is estimated at"
    reason = (
        f"budget {share.label!r} of {scope} has {say(unit, balance.spent)} spent{held} of {say(unit, cap)}{unsettled}, "
        f"and {start.what} {verb} {say(unit, share.amount)}{_sources(estimate)}. "
        f"{_remedy(limit, estimate, room=cap - balance.spent - balance.held)}"
    )
    return Refusal(
        kind="budget",
        reason=reason,
        budget=share.label,
        approval=share.counted.name,
        scope=scope,
        unit=unit,
        limit=in_units(unit, cap),
        spent=in_units(unit, balance.spent),
        held=in_units(unit, balance.held),
        estimate=in_units(unit, share.amount),
        node_path=start.who.node_path,
        run_id=run_id,
    )


def _sources(estimate: Estimate) -> str:
    return "" if estimate.expected is None else f" ({estimate.expected.source})"


def _remedy(limit: Limit, estimate: Estimate, *, room: int) -> str:
    """What helps. A smaller call does only where anything is left for it."""
    ways = ["raise the limit"]
    if limit.budget.per is not None:
        ways.append(f"wait for the next {limit.budget.per}")
    if room > 0 and estimate.expected is not None and limit.unit in {"usd", "tokens"}:
        ways.append("shorten the prompt or lower max_tokens")
    return f"To go on, {', or '.join(ways)}."


def out_of_time(start: Start, run_id: str, counted: Counted, cap: int, took: int) -> Refusal:
    """The run's time is up."""
    return Refusal(
        kind="budget",
        reason=(
            f"budget {counted.label!r} of run: the run has taken {say('seconds', took)} of {say('seconds', cap)}, and "
            f"{start.what} would begin. To go on, raise the limit."
        ),
        budget=counted.label,
        approval=counted.name,
        scope="run",
        unit="seconds",
        limit=in_units("seconds", cap),
        spent=in_units("seconds", took),
        held=in_units("seconds", 0),
        node_path=start.who.node_path,
        run_id=run_id,
    )


def unbounded(start: Start, run_id: str, share: Share) -> Refusal:
    """A strict budget, and nothing says how long the prompt or the answer may be."""
    unit = share.limit.unit
    expected = start.estimated(share.limit).expected
    what = f"the answer of {start.what}"
    remedy = "set max_tokens on the model, or promise a bound with Budget(expected_output_tokens=...)"
    if expected is not None and expected.unmeasured is not None:
        what = f"the prompt of {start.what}, because of {expected.unmeasured}"
        remedy = "send what it holds in the request itself, or take Budget(admission='expected')"
    return Refusal(
        kind="budget",
        reason=f"budget {share.label!r} is strict, and nothing bounds {what}: {remedy}.",
        budget=share.label,
        approval=share.counted.name,
        scope=scope_of(share),
        unit=unit,
        limit=in_units(unit, share.limit.amount if share.cap is None else share.cap),
        node_path=start.who.node_path,
        run_id=run_id,
    )


def unpriced(start: Start, run_id: str, share: Share, why: str) -> Refusal:
    """No price is known, so that nobody could say when the budget is used up."""
    unit = share.limit.unit
    return Refusal(
        kind="unpriced",
        reason=(
            f"budget {share.label!r} is in dollars, and {start.what} has no known price ({why}): give the model a "
            "price card, see `finops prices`, or let such calls pass uncounted with Budget(unpriced='estimate')."
        ),
        budget=share.label,
        approval=share.counted.name,
        scope=scope_of(share),
        unit=unit,
        limit=in_units(unit, share.limit.amount if share.cap is None else share.cap),
        node_path=start.who.node_path,
        run_id=run_id,
    )


def ledger_failed(start: Start, run_id: str, share: Share) -> Refusal:
    """The ledger cannot hold, and the budget rather refuses than guess."""
    unit = share.limit.unit
    return Refusal(
        kind="ledger",
        reason=(
            f"budget {share.label!r} is fail_closed, and the ledger did not hold {start.what} in time: repair the "
            "ledger, or let calls go on against the balances known last with fail_closed=False."
        ),
        budget=share.label,
        approval=share.counted.name,
        scope=scope_of(share),
        unit=unit,
        limit=in_units(unit, share.limit.amount if share.cap is None else share.cap),
        estimate=in_units(unit, share.amount),
        node_path=start.who.node_path,
        run_id=run_id,
    )


def unknown_past(run_id: str, label: str) -> Refusal:
    """A run is resumed, and the ledger cannot say what it spent before."""
    return Refusal(
        kind="ledger",
        reason=(
            f"budget {label!r} is fail_closed, and the ledger cannot say what this run spent before it was resumed: "
            "repair the ledger, or let it go on as if that were nothing with fail_closed=False."
        ),
        budget=label,
        scope="run",
        run_id=run_id,
    )


def overspent(run_id: str, share: Share, who: Attribution, taken: int, spent: int) -> Refusal:
    """A call took more than the bound that a strict budget held for it."""
    unit = share.limit.unit
    return Refusal(
        kind="budget",
        reason=(
            f"budget {share.label!r} is strict, and a call took {say(unit, taken)}, more than its bound of "
            f"{say(unit, share.amount)}. Correct max_tokens or expected_output_tokens."
        ),
        budget=share.label,
        approval=share.counted.name,
        scope=scope_of(share),
        unit=unit,
        limit=in_units(unit, share.limit.amount if share.cap is None else share.cap),
        spent=in_units(unit, spent),
        held=in_units(unit, 0),
        estimate=in_units(unit, share.amount),
        node_path=who.node_path,
        run_id=run_id,
    )


def killed(start: Start, run_id: str, kill: Kill) -> Refusal:
    """Somebody stopped it."""
    until = "" if kill.until is None else f" until {kill.until:%Y-%m-%d %H:%M} UTC"
    because = f": {kill.reason}" if kill.reason else ""
    return Refusal(
        kind="kill",
        reason=(
            f"{kill.key} was killed by {kill.by} at {kill.at:%Y-%m-%d %H:%M} UTC{until}{because}; "
            "`finops revive` lets it go on."
        ),
        budget=f"kill {kill.key}",
        scope=kill.key,
        node_path=start.who.node_path,
        run_id=run_id,
    )


def unlimited(start: Start, run_id: str, missing: Sequence[str]) -> Refusal:
    """A strict handler, and the call has no limit, or not all that has to be known of it."""
    if missing:
        metadata = ", ".join(f"'{name}': ..." for name in missing)
        names = ", ".join(missing)
        what = f"does not say its {names}: pass config={{'metadata': {{{metadata}}}}}, or the same to the handler"
    else:
        what = "has no limit: give the handler budgets=[Budget(...)] that apply to it"
    return Refusal(
        kind="strict",
        reason=f"the handler is strict, and {start.what} {what}.",
        budget="strict",
        node_path=start.who.node_path,
        run_id=run_id,
    )


def not_allowed(start: Start, run_id: str, policy: ModelPolicy) -> Refusal:
    """A model that may not be called here."""
    return Refusal(
        kind="model_policy",
        reason=f"{policy.label!r} does not allow {start.what} here: use another model, or change the policy.",
        budget=policy.label,
        scope=None if start.who.node_path is None else f"node={start.who.node_path}",
        node_path=start.who.node_path,
        run_id=run_id,
    )


def looping(start: Start, run_id: str, guard: LoopGuard, what: str) -> Refusal:
    """The run goes in circles."""
    return Refusal(
        kind="loop",
        reason=f"{guard.label!r} saw a loop: {what}. Let the agent see what came of it, or allow more repeats.",
        budget=guard.label,
        scope="run",
        node_path=start.who.node_path,
        run_id=run_id,
    )
