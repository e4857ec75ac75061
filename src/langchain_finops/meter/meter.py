"""The only place that knows the order: hold, price, settle, write down."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

from langchain_finops.budgets.carrying import APPROVE, DENY, approve, told
from langchain_finops.budgets.estimate import Past, Request, charged_usage, expect, tokens_of_bytes
from langchain_finops.budgets.guard import Guard
from langchain_finops.budgets.holding import (
    ONE_CALL,
    ONE_STEP,
    ONE_TOOL,
    Estimate,
    Hold,
    Start,
    steps_id,
    taken_by,
    taken_by_charge,
)
from langchain_finops.budgets.loops import Place
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.budgets.switch import change_event
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.in_time import in_time
from langchain_finops.meter.affording import affordable_output_tokens
from langchain_finops.meter.asking import AskedPrices, CallEstimates
from langchain_finops.meter.calls import Answer, Endpoint, Faults, OpenCall
from langchain_finops.meter.drafts import NO_USAGE, free, record_of
from langchain_finops.meter.drafts import replayed as replay_of
from langchain_finops.meter.reading import reading_of
from langchain_finops.money import to_pico
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import Cost, PriceKey, Reading
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, Record, RunRecord

__all__ = ["Meter"]

NO_USAGE_REPORTED = "no_usage_reported"
UNREADABLE = "unreadable_answer"
Written = TypeVar("Written", CallRecord, ChargeRecord)


class Meter:
    """Prices calls and charges and writes them down. Safe between threads."""

    def __init__(self, *, ledger: Ledger, prices: PriceBook, faults: Faults, guard: Guard | None = None) -> None:
        """`guard`: what refuses; None: nothing is refused, and nothing held."""
        self.ledger = ledger
        self.prices = prices
        self.faults = faults
        self.guard = Guard(ledger=ledger) if guard is None else guard
        self._asked = AskedPrices(prices)
        self._past = Past()

    # --- before ------------------------------------------------------------------------------------------------------

    def open_run(self, run_id: str, invocation_id: str, *, resumed: bool = False) -> RunState:
        """What a run's guards remember; of one that is resumed, what the ledger knows of its earlier invocations."""
        state = RunState(run_id, invocation_id)
        self.guard.refresh()
        if resumed and not self.guard.is_idle:
            try:
                self.guard.accounts.carry_over(state, self._taken_before)
            except Exception as error:  # noqa: BLE001  A ledger that cannot be read must not kill the user's run.
                self.faults.note(error)
                self.guard.accounts.begin_blind(state)
        return state

    def _lets_pass(self, state: RunState, who: Attribution) -> bool:
        guard = self.guard
        guard.refresh()
        if state.limits is not guard.accounts.own:
            try:
                guard.accounts.catch_up(state, self._taken_before)
            except Exception as error:  # noqa: BLE001  As in `open_run`.
                self.faults.note(error)
                guard.accounts.begin_blind(state)
        return guard.lets_pass(state, who)

    def open(
        self,
        call: OpenCall,
        state: RunState,
        *,
        digest: Callable[[], Hashable] | None = None,
        place: Place = (),
        prompt_bytes: Callable[[], int] | None = None,
    ) -> Refusal | None:
        """Admit a call and hold what it may cost, before its request; or say why it must not be made.

        `digest`: a keyed hash of the prompt, and `place`: where in the graph, for loop guards. `prompt_bytes`: UTF-8
        bytes of messages and tools, for strict budgets. All three are asked only if somebody wants to know.
        """
        guard, who = self.guard, call.attribution
        if self._lets_pass(state, who):
            return None
        call.state = state
        model = call.requested_model
        estimates = CallEstimates(call, self._asked, self._past, lambda: self._size_of(call), prompt_bytes)
        start = Start(call.call_id, f"a call of {model or 'a model'}", who, call.started_at, ONE_CALL, estimates)
        refusal = (
            guard.stopped(state, start)
            or guard.check_strict(state, start)
            or guard.check_model(state, start, model)
            or (guard.check_loops(state, start, "llm", digest, place=place) if digest is not None else None)
        )
        if refusal is not None:
            return refusal
        hold = guard.hold(state, start)
        if isinstance(hold, Refusal):
            guard.released(state, call.call_id)
            return hold
        if hold is not None:
            hold.expected, hold.prompt_tokens = estimates.expectations, estimates.prompt_tokens
            call.hold = hold
        return None

    def release(self, call: OpenCall) -> None:
        """Give back what an open call holds: it was never sent, and is not to be written down."""
        hold, call.hold = call.hold, None
        if hold is not None:
            self.guard.accounts.books.release(hold)
        if call.state is not None:
            self.guard.released(call.state, call.call_id)

    def open_step(self, state: RunState, who: Attribution) -> Refusal | None:
        """Count an execution of a node, before it begins; or say why it must not begin."""
        guard = self.guard
        if self._lets_pass(state, who):
            return None
        what = f"a step in node {who.node_path!r}"
        start = Start(steps_id(state.invocation_id), what, who, datetime.now(UTC), ONE_STEP)
        stopped = guard.stopped(state, start)
        if stopped is not None and not state.pauses_for(stopped):
            return stopped
        return guard.step(state, start)

    def open_tool(
        self,
        state: RunState,
        who: Attribution,
        *,
        tool_id: str,
        name: str | None,
        digest: Callable[[], Hashable] | None = None,
        place: Place = (),
    ) -> Hold | Refusal | None:
        """Admit a tool, before it runs: what it holds, to be handed to `charge`; or why it must not run.

        `tool_id`: of its charge. `digest`: a keyed hash of its arguments.
        """
        guard = self.guard
        if self._lets_pass(state, who):
            return None
        at = datetime.now(UTC)
        priced = self.tool_price(name, at)
        fixed = ONE_TOOL if priced is None else {**ONE_TOOL, "usd": to_pico(priced[0])}
        start = Start(tool_id, f"tool {name or 'without a name'}", who, at, fixed)
        refusal = guard.stopped(state, start)
        if refusal is None and digest is not None:
            refusal = guard.check_loops(state, start, "tool", digest, tool=name, place=place)
        if refusal is not None:
            return refusal
        hold = guard.hold(state, start)
        if isinstance(hold, Refusal):
            guard.released(state, tool_id)
        return hold

    def affordable_output_tokens(
        self, call: OpenCall, state: RunState, *, prompt_bytes: Callable[[], int]
    ) -> int | None:
        """The longest answer that every budget has room for that stops a call; None where any length fits."""
        if self.guard.is_protected(call.attribution):
            return None
        return affordable_output_tokens(
            self.guard.accounts, call, state, prices=self._asked, past=self._past, prompt_bytes=prompt_bytes
        )

    def cut_off(self, call: OpenCall, state: RunState) -> Refusal | None:
        """Why a stream in flight is to end now: a kill that says so, and nothing else."""
        return self.guard.cut_off(state, call.call_id, call.attribution)

    def release_tool(self, state: RunState, tool_id: str, hold: Hold | None) -> None:
        """Give back what a tool holds that paused: it is to run again, and is charged then."""
        if hold is not None:
            self.guard.accounts.books.release(hold)
        self.guard.released(state, tool_id)

    # --- after -------------------------------------------------------------------------------------------------------

    def close(self, call: OpenCall, answer: Answer) -> CallRecord:
        """Settle a call by its answer, and write it down."""
        try:
            record = self._closed(call, answer)
        except Exception as error:  # noqa: BLE001  Whatever is wrong with an answer, it was paid for.
            self.faults.note(error)
            kept = Answer(
                error=answer.error, received_bytes=answer.received_bytes, reasons=(*answer.reasons, UNREADABLE)
            )
            record = self._closed(call, replace(kept, charged=answer.charged, whole=False))
        if call.hold is not None:
            record = self._settle(call.hold, record, taken_by(record, timed_elsewhere=answer.timed_elsewhere))
        elif self.guard.accounts.watches:
            self._count(record, taken_by(record), None)
        else:
            self.write(record)
        if call.state is not None:
            tell = self.guard.ended if answer.charged else self.guard.released
            tell(call.state, call.call_id)
        return record

    def _settle(self, hold: Hold, record: Written, taken: Estimate) -> Written:
        """Write a record down, in place of what was held for it; a ledger's fault is noted and the run goes on."""
        try:
            return self.guard.accounts.settle(hold, record, taken)
        except Exception as error:  # noqa: BLE001  A ledger that breaks its contract must not kill the user's run.
            self.faults.note(error)
            return record

    def _taken_before(self, record: CallRecord) -> Estimate:
        """What a call of an earlier invocation counts for: where its answer has no known price, nobody knows any more
        what was held for it, and its tokens count at the price of the model that it asked for."""
        taken = taken_by(record)
        return taken if taken.usd is not None else taken._replace(usd=self._asked.amount_of(record))

    def _closed(self, call: OpenCall, answer: Answer) -> CallRecord:
        if not answer.whole and answer.usage is None:
            answer.usage = call.usage_so_far
        ended_at = datetime.now(UTC)
        started_at, first_token_at, replayed = call.started_at, call.first_token_at, False
        clock = call.clock
        if clock is not None:
            clock.end_call()
            started_at = clock.started_at or started_at
            first_token_at = clock.first_token_at or first_token_at
            ended_at = clock.ended_at or ended_at
            replayed = clock.replayed
        reading = self._read(call, answer, started_at)
        if answer.charged:
            seconds = max(0.0, (ended_at - started_at).total_seconds())
            reading = self._complete(call, answer, reading, seconds)
            cost = self._price(reading, 0 if answer.timed_elsewhere else seconds)
            if replayed:
                cost = replay_of(cost)
        else:
            cost = free(answer.reasons)
        times = (started_at, first_token_at, ended_at)
        return record_of(call, answer, reading, cost, times, price_book_hash=self.prices.hash)

    def supersede(
        self, call_id: str, answer: Answer, state: RunState | None = None
    ) -> tuple[CallRecord, CallRecord] | None:
        """Replace the estimate of a call by the answer that came after all; both versions, None if nobody knows it.

        Budgets settle the difference; those of its run only if that is still open, and `state` its own.
        What was known at its start is read back from the ledger: keeping it for every call cut off, in case its answer
        came yet, would keep finished runs in memory.
        """
        with in_time():
            old = next(self.ledger.calls(history=True, call_id=call_id), None)
        if old is None:
            return None
        metadata = {"ls_provider": old.provider, "ls_model_name": old.requested_model or old.model}
        # Without the old output as its bound, an answer that still reports nothing would lower the estimate.
        request = Request(old.usage.total_input_tokens, old.usage.total_output_tokens, 1)
        call = OpenCall((old.call_id, old.run_id, old.invocation_id), old.attribution, metadata, lambda: request)
        call.prompt_digests = old.prompt_digests
        call.endpoint = Endpoint(
            base_url_host=old.base_url_host, account=old.account, project=old.project, region=old.region
        )
        if call.clock is not None:
            call.clock.end_call()  # No request of its own will come: without it the next call's would be taken for it.
        reading = self._read(call, answer, old.started_at)
        replayed = old.billing_mode == "replay"
        ended_at = old.ended_at if replayed else datetime.now(UTC)
        if answer.charged:
            seconds = max(0.0, (ended_at - old.started_at).total_seconds())
            reading = self._complete(call, answer, reading, seconds)
            cost = self._price(reading, seconds)
            if replayed:
                cost = replay_of(cost)
        else:
            cost = free(answer.reasons)
        times = (old.started_at, old.first_token_at, ended_at)
        new = record_of(call, answer, reading, cost, times, price_book_hash=self.prices.hash)
        new = replace(new, revision=old.revision + 1)
        self._count(new, taken_by(new), state, before=taken_by(old))
        return old, new

    def _count(
        self,
        record: CallRecord | ChargeRecord,
        taken: Estimate,
        state: RunState | None,
        *,
        before: Estimate | None = None,
    ) -> None:
        """Write down what nothing is held for, and count it on every budget that applies."""
        try:
            self.guard.accounts.count(record, taken, state, before=before)
        except Exception as error:  # noqa: BLE001  As in `_settle`.
            self.faults.note(error)

    def close_run(self, state: RunState, record: RunRecord) -> None:
        """Write down how a run ended, and settle its steps."""
        try:
            self.guard.accounts.close_run(state, record)
        except Exception as error:  # noqa: BLE001  As in `_settle`.
            self.faults.note(error)

    def write(self, record: Record) -> None:
        """Write a record down; a ledger's fault is noted and the run goes on."""
        try:
            self.ledger.write(record)
        except Exception as error:  # noqa: BLE001  A ledger that breaks its contract must not kill the user's run.
            self.faults.note(error)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to guard against but a kill."""
        return self.guard.is_idle

    @property
    def protected(self) -> frozenset[str]:
        """Nodes that no limit stops."""
        return self.guard.protected

    def approve(
        self, state: RunState, refusal: Refusal, amount: Decimal | None = None, *, by: str | None = None
    ) -> None:
        """Let a run go on that was refused, and write down who said so.

        Its limit is raised for this run by `amount`, in the refusal's unit; None: by as much again. What has no limit,
        such as a loop, is let through. A kill stays.
        """
        before, after = approve(state, refusal, amount)
        self._tell(APPROVE, state, refusal, by, before, after)

    def deny(self, state: RunState, refusal: Refusal, *, by: str | None = None) -> None:
        """Refuse everything further of a run for good, and write down who said so."""
        state.end(refusal)
        self._tell(DENY, state, refusal, by, {}, told(refusal))

    def _tell(
        self, action: str, state: RunState, refusal: Refusal, by: str | None, *changed: Mapping[str, object]
    ) -> None:
        """Leave an entry in the audit trail; `changed` is what was before and what is after."""
        before, after = (each or None for each in changed)
        at, by, reason = datetime.now(UTC), by or "unknown", refusal.reason
        self.write(change_event(action, state.run_id, by=by, at=at, reason=reason, before=before, after=after))

    def tool_price(self, name: str | None, at: datetime) -> tuple[Decimal, str] | None:
        """Dollars for one call of a tool, and the card that says so; None where no card does."""
        if name is None:
            return None
        try:
            return self.prices.tool_price(name, at=at)
        except Exception as error:  # noqa: BLE001  Without its price the charge is still a fact.
            self.faults.note(error)
            return None

    def charge(
        self,
        charge: ChargeRecord,
        *,
        state: RunState | None = None,
        hold: Hold | None = None,
        result: Callable[[], Hashable] | None = None,
    ) -> ChargeRecord:
        """Price a charge by its card if nobody has named an amount, write it down, and count it on budgets.

        `state`: of the run it belongs to. `hold`: what `open_tool` gave. `result`: a keyed hash of a tool's result.
        """
        if charge.cost_usd is None:
            priced = self.tool_price(charge.name, charge.at)
            if priced is not None:
                amount, card_id = priced
                usd = amount * charge.quantity
                charge = replace(charge, cost_usd=usd, cost_status="exact" if usd else "free", card_id=card_id)
        taken = taken_by_charge(charge)
        if hold is None:
            self._count(charge, taken, state)
        else:
            charge = self._settle(hold, charge, taken)
        if state is not None:
            self.guard.ended(state, charge.charge_id, result)
        return charge

    # --- reading and pricing -----------------------------------------------------------------------------------------

    def _read(self, call: OpenCall, answer: Answer, at: datetime) -> Reading:
        try:
            return reading_of(self.prices, call, answer, at=at, request=lambda: self._size_of(call))
        except Exception as error:  # noqa: BLE001  An answer that cannot be read was still paid for.
            self.faults.note(error)
            provider, model = call.metadata.get("ls_provider"), call.metadata.get("ls_model_name")
            key = PriceKey(provider=provider, model=model, requested_model=model, at=at)
            return Reading(usage=None, key=key, reasons=(UNREADABLE,))

    def _complete(self, call: OpenCall, answer: Answer, reading: Reading, seconds: float) -> Reading:
        """The reading with usage that can be charged: the reported one, else an estimate, flagged."""
        usage, path, model = reading.usage, call.attribution.node_path, call.requested_model
        if answer.counted_elsewhere:
            return replace(reading, usage=NO_USAGE, reasons=(*reading.reasons, *answer.reasons))
        if usage is not None and answer.whole:
            if not reading.cache_hit:
                self._past.add(path, model, usage.output_tokens, int(seconds * 1_000_000))
                self._past.add_prompt(path, model, usage)
                if call.hold is not None:
                    self._past.measure(model, estimated=call.hold.prompt_tokens, reported=usage.total_input_tokens)
            return reading
        reasons = (*reading.reasons, *answer.reasons)
        if usage is None and NO_USAGE_REPORTED not in reasons:
            reasons += (NO_USAGE_REPORTED,)
        # The larger of what was held, or would be without budgets, and what the text received shows.
        held = () if call.hold is None else call.hold.expected
        expected = held or (expect(self._size_of(call), self._past, node_path=path, model=model),)
        usage = charged_usage(
            usage,
            prompt_tokens=max(each.input_tokens for each in expected),
            received_tokens=tokens_of_bytes(max(call.received_bytes, answer.received_bytes)),
            expected_tokens=max(each.output_tokens for each in expected),
        )
        return replace(reading, usage=usage, reasons=reasons, estimated=True)

    def _size_of(self, call: OpenCall) -> Request:
        try:
            return call.request()
        except Exception as error:  # noqa: BLE001  A prompt that cannot be measured was still sent.
            self.faults.note(error)
            return Request(0, None, 1)

    def _price(self, reading: Reading, seconds: float) -> Cost:
        try:
            return self.prices.price(reading, seconds=seconds)
        except Exception as error:  # noqa: BLE001  A call whose price fails is unpriced, not lost.
            self.faults.note(error)
            return Cost(usd=None, contracted_usd=None, billed_usd=None, status="unpriced", reasons=("pricing_failed",))
