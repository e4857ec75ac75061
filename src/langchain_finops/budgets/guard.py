"""Admission: whether a call, a tool or a step may begin, what is held for it, and what it took in the end.

Outermost budget first, all or none. A run's own balances are held under its lock, all others in one `ledger.hold`.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from langchain_finops.budgets import wording
from langchain_finops.budgets.accounts import MEASURED, Accounts, decided
from langchain_finops.budgets.carrying import waiver
from langchain_finops.budgets.checks import Decide
from langchain_finops.budgets.holding import Estimate, Hold, Share, Start, balances_of, taken_from
from langchain_finops.budgets.keys import applies
from langchain_finops.budgets.loops import Kind, Place
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.policy_file import NO_POLICIES, Policies
from langchain_finops.budgets.refusal import OnExceed, Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.budgets.scopes import elements, matches
from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import LARGEST_AMOUNT
from langchain_finops.records import Attribution

if TYPE_CHECKING:
    from langchain_finops.budgets.standing import Standing

__all__ = ["Guard"]

log = logging.getLogger("langchain_finops")

STEPPED: Final = Estimate(steps=1)
REACHES: Final = ("process", "host", "fleet")
SHARED: Final = {"host": "a SQLite file or PostgreSQL", "fleet": "PostgreSQL, which many machines share"}


class Guard:
    """What a handler's guards say to each start. Safe between threads; a run's own state is its `RunState`."""

    def __init__(
        self,
        policies: Policies = NO_POLICIES,
        *,
        ledger: Ledger,
        standing: "Standing | None" = None,
        strict: bool = False,
        require: Sequence[str] = (),
        protect: Sequence[str] = (),
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """`failed`: told of faults that are met where nobody waits. Raises BadArguments for a budget that is to reach
        further than the ledger does."""
        check_reach(policies.budgets, ledger)
        self.accounts = Accounts(ledger, failed)
        self._given, self._standing = policies, standing
        self._strict, self._require, self._protect = strict, tuple(require), frozenset(protect)
        self._outside: Policies | None = None
        self._take_up(NO_POLICIES)

    # --- policies ----------------------------------------------------------------------------------------------------

    def lets_pass(self, state: RunState, who: Attribution) -> bool:
        """Whether nothing has to be looked at here."""
        standing = self._standing
        if standing is not None and standing.kill_for(who) is not None:
            return False
        return self.is_idle and state.refusal is None

    def refresh(self) -> None:
        """Take up what was set from outside meanwhile."""
        standing = self._standing
        if standing is not None:
            standing.refresh()
            if standing.policies is not self._outside:
                self._take_up(standing.policies)

    def _take_up(self, outside: Policies) -> None:
        policies = self._given.together_with(outside)
        self.accounts.take_up(policies)
        self._loop_guards, self._models = policies.loop_guards, policies.models
        self.protected = self._protect.union(policies.protect)
        self.is_idle = not (policies.budgets or self._strict or self._loop_guards or self._models)
        self._outside = outside

    def is_protected(self, who: Attribution) -> bool:
        """Whether it is in a node that no limit stops."""
        protected = self.protected
        return bool(protected) and not protected.isdisjoint(elements(who.node_path))

    # --- admission ---------------------------------------------------------------------------------------------------

    def stopped(self, state: RunState, start: Start) -> Refusal | None:
        """Why nothing more of this run, or of whom it is for, may begin: a kill, or what was refused before."""
        who, standing = start.who, self._standing
        kill = None if standing is None else standing.kill_for(who)
        if kill is not None:
            return self._refuse(state, start, wording.killed(start, state.run_id, kill), "raise")
        refusal = state.refusal_for(who.node_path, who.step)
        return refusal if refusal is None or refusal.kind == "kill" or not self.is_protected(who) else None

    def cut_off(self, state: RunState, call_id: str, who: Attribution) -> Refusal | None:
        """Why a stream in flight is to end now: a kill that says so."""
        standing = self._standing
        if standing is None:
            return None
        standing.refresh()
        kill = standing.kill_for(who, now=True) if standing.kills_now else None
        if kill is None:
            return None
        start = Start(call_id, "a stream", who, datetime.now(UTC), {})
        return self._refuse(state, start, wording.killed(start, state.run_id, kill), "raise")

    def check_strict(self, state: RunState, start: Start) -> Refusal | None:
        """Whether a strict handler lets this begin: with all that has to be known of it, and within some limit."""
        if not self._strict or self.is_protected(start.who):
            return None
        missing = [name for name in self._require if getattr(start.who, name) is None]
        if not missing and any(
            applies(each.limit.budget, start.who) for each in (*self.accounts.limits, *self.accounts.walls)
        ):
            return None
        return self._refuse(state, start, wording.unlimited(start, state.run_id, missing), "raise")

    def check_model(self, state: RunState, start: Start, model: str | None) -> Refusal | None:
        """Whether a model may be called here."""
        for policy in self._models:
            if policy.allows(model) or not matches(policy.match, start.who) or self.is_protected(start.who):
                continue
            refusal = wording.not_allowed(start, state.run_id, policy)
            if (refused := self._refuse(state, start, refusal, policy.on_exceed)) is not None:
                return refused
        return None

    def hold(self, state: RunState, start: Start) -> Hold | Refusal | None:
        """Hold what a start is expected to take from every budget that applies; None where none does."""
        is_protected = self.is_protected(start.who)
        late = None if is_protected else self._out_of_time(state, start)
        if late is not None:
            return late
        shares, own = self._shares(state, start, is_protected=is_protected)
        if not shares:
            return None
        if not is_protected and (refusal := self._unknowable(state, start, shares)) is not None:
            return refusal
        hold = Hold(start, state, shares, own)
        refused = self._take(hold)
        return hold if refused is None else refused

    def _take(self, hold: Hold) -> Refusal | None:
        """Hold all shares, or none, but those that are only warned of."""
        start, state = hold.start, hold.state
        while (misfit := self.accounts.books.reserve(hold)) is not None:
            share, balance = misfit
            if balance is None:
                refusal = wording.ledger_failed(start, state.run_id, share)
                return self._refuse(state, start, refusal, "raise")
            refusal = wording.exceeded(start, state.run_id, share, balance)
            refused = self._refuse(state, start, refusal, share.limit.budget.on_exceed)
            if refused is not None:
                return refused
            share.cap = None  # Warned: counted all the same.
        return None

    def _shares(self, state: RunState, start: Start, *, is_protected: bool) -> tuple[list[Share], list[Share]]:
        """What a start takes, outermost first; and those of it that the run keeps."""
        shares: list[Share] = []
        own: list[Share] = []
        limits = [each for each in self.accounts.limits if start.takes(each.limit.unit)]
        for each, key in balances_of(limits, start.who, start.at, run_id=state.run_id):
            amount = start.amount(each.limit)
            if amount is None:
                continue
            cap = None if is_protected else each.limit.amount + state.raised_by(each.name)
            # More than any ledger keeps fits no limit; without a bound it would be a fault, and the call pass.
            share = Share(each, key, min(amount, LARGEST_AMOUNT), cap)
            shares.append(share)
            if each.is_own:
                own.append(share)
        return shares, own

    def _out_of_time(self, state: RunState, start: Start) -> Refusal | None:
        for each in self.accounts.walls:
            if not applies(each.limit.budget, start.who):
                continue
            cap, took = each.limit.amount + state.raised_by(each.name), state.microseconds
            self.accounts.notices.spent(each, f"run={state.run_id}", took, cap)
            if took >= cap:
                refusal = wording.out_of_time(start, state.run_id, each, cap, took)
                if (refused := self._refuse(state, start, refusal, each.limit.budget.on_exceed)) is not None:
                    return refused
        return None

    def _unknowable(self, state: RunState, start: Start, shares: Sequence[Share]) -> Refusal | None:
        """Whether nobody can say what it will take, where a budget has to know."""
        for share in shares:
            unit, budget = share.limit.unit, share.limit.budget
            if unit not in MEASURED:
                continue
            estimate = start.estimated(share.limit)
            refusal = None
            if unit == "usd" and estimate.unpriced is not None:
                if budget.unpriced == "estimate":
                    if self.accounts.notices.first_time(f"unpriced {start.what}"):
                        log.warning("%s has no known price (%s): it counts as $0", start.what, estimate.unpriced)
                elif not state.is_waived(waiver("unpriced", share.counted.name)):
                    refusal = wording.unpriced(start, state.run_id, share, estimate.unpriced)
            expected = estimate.expected
            is_open = expected is not None and expected.output_from == "unbounded"
            if refusal is None and is_open and not state.is_waived(waiver("budget", share.counted.name)):
                refusal = wording.unbounded(start, state.run_id, share)
            if refusal is not None:
                refused = self._refuse(state, start, refusal, budget.on_exceed)
                if refused is not None:
                    return refused
        return None

    def _refuse(self, state: RunState, start: Start, refusal: Refusal, on_exceed: OnExceed | Decide) -> Refusal | None:
        """What becomes of a refusal: None where it is only warned of."""
        word = decided(on_exceed, refusal)
        if word == "warn":
            if state.first_time(f"warned {refusal.kind} {refusal.budget} {refusal.unit}"):
                log.warning("%s The run goes on, because on_exceed is warn.", refusal.reason)
            return None
        refusal = replace(refusal, on_exceed=word)
        state.refuse(refusal, start.who.step)
        return refusal

    def check_loops(
        self,
        state: RunState,
        start: Start,
        kind: Kind,
        digest: Callable[[], Hashable],
        *,
        tool: str | None = None,
        place: Place = (),
    ) -> Refusal | None:
        """Whether the run goes in circles. The digest is asked for only where a loop guard looks."""
        guards = [guard for guard in self._loop_guards if matches(guard.match, start.who)]
        if not guards:
            return None
        seen, who = digest(), start.who
        for guard in guards:
            loop = state.see(guard, who.node_path, kind, seen, tool=tool, event_id=start.hold_id, place=place)
            if loop is None or self.is_protected(who):
                continue
            refusal = wording.looping(start, state.run_id, guard, loop)
            refused = self._refuse(state, start, refusal, guard.on_exceed)
            if refused is not None:
                self.released(state, start.hold_id)
                return refused
        return None

    def ended(self, state: RunState, event_id: str, result: Callable[[], Hashable] | None = None) -> None:
        """A call or tool that loop guards saw has ended; of a tool, with what."""
        if state.watches:
            state.ended(event_id, None if result is None else result())

    def released(self, state: RunState, event_id: str) -> None:
        """A call or tool that loop guards saw was not made, or cost nothing: to try it again is no repetition."""
        if state.watches:
            state.released(event_id)

    def step(self, state: RunState, start: Start) -> Refusal | None:
        """Count a step on every budget that applies, unless one has no room for it."""
        is_protected = self.is_protected(start.who)
        late = None if is_protected else self._out_of_time(state, start)
        if late is not None:
            return late
        shares, own = self._shares(state, start, is_protected=is_protected)
        if not shares:
            return None
        refusal = self._take(Hold(start, state, shares, own, state.steps))
        if refusal is not None:
            return refusal
        spent = state.settle(own, taken_from(own, STEPPED)) if own else {}
        for share in own:
            self.accounts.notices.settled(share, spent[share.key], 1)
        return None


def check_reach(budgets: Sequence[Budget], ledger: Ledger) -> None:
    """Raise BadArguments for a budget that is to hold where others cannot see this ledger."""
    scheme = ledger.url.partition(":")[0]
    reach = {"": "process", "sqlite": "host"}.get(scheme, "fleet")
    for budget in budgets:
        if budget.reach is not None and REACHES.index(budget.reach) > REACHES.index(reach):
            raise BadArguments(
                f"budget {budget.label!r} has reach={budget.reach!r}, and the ledger {ledger.url} is one {reach}'s: "
                f"pass ledger=, {SHARED[budget.reach]}"
            )
