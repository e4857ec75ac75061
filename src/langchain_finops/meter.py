"""The only place that knows the order: hold, price, settle, write down."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast

from langchain_finops.budgets.estimate import PastOutput, charged_usage, expected_output_tokens, tokens_of_bytes
from langchain_finops.clock import CALL_CLOCK, CallClock
from langchain_finops.ledger.base import Ledger
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import Cost, MeterCost, PriceKey, Reading
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord, Record
from langchain_finops.usage import Usage

__all__ = ["CALL_CLOCK", "Answer", "CallClock", "Endpoint", "Faults", "Meter", "OpenCall", "Request", "draft_of"]

log = logging.getLogger("langchain_finops")

NOTHING: Mapping[str, Any] = {}
NAME_LENGTH = 256
NAMES_IN_USAGE = frozenset({"service_tier", "speed", "inference_geo"})
NO_USAGE_REPORTED = "no_usage_reported"
UNREADABLE = "unreadable_answer"
NO_USAGE = Usage(requests=0)
"""What a request used that never reached a model, or that the provider refused."""


class Faults:
    """Faults of ours: never raised into the user's run, logged once, counted always."""

    __slots__ = ("_lock", "count")

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.RLock()

    def note(self, error: BaseException) -> None:
        """Count a fault; the first one is logged with its place. Never its message, which may hold a prompt's text."""
        with self._lock:
            self.count += 1
            if self.count > 1:
                return
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        where = "" if traceback is None else f" in {traceback.tb_frame.f_code.co_qualname}:{traceback.tb_lineno}"
        log.error(
            "metering met a fault of its own: %s%s. The run goes on; some of its cost may be missing. "
            "Further faults are only counted, in `FinOpsHandler.faults`.",
            type(error).__name__,
            where,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model's requests go, as far as the model says: what a bill can be matched by."""

    base_url_host: str | None = None
    account: str | None = None
    project: str | None = None
    region: str | None = None


UNKNOWN_ENDPOINT = Endpoint()


class Request(NamedTuple):
    """How large a call is, as far as its request tells."""

    prompt_tokens: int
    """Estimated tokens of the prompt and the tools that go with it."""
    max_tokens: int | None
    """Its own bound on the tokens of one answer."""
    answers: int
    """How many answers it asks for (`n`)."""


class OpenCall:
    """A call between its start and its end: one small mutable slot, because every call pays for it."""

    __slots__ = (
        "attribution",
        "call_id",
        "clock",
        "endpoint",
        "first_token_at",
        "invocation_id",
        "last_chunk",
        "metadata",
        "received_bytes",
        "request",
        "run_id",
        "started_at",
        "usage_so_far",
    )

    def __init__(
        self,
        ids: tuple[str, str, str],
        attribution: Attribution,
        metadata: Mapping[str, Any],
        request: Callable[[], Request],
    ) -> None:
        self.call_id, self.run_id, self.invocation_id = ids
        self.attribution = attribution
        self.metadata = metadata
        """Of the callback: LangChain's provider and model names are in it."""
        self.request = request
        """Measures the request; asked only where no usage is reported, because it takes reading the prompt."""
        self.endpoint = UNKNOWN_ENDPOINT
        self.received_bytes = 0
        """Text streamed so far, in UTF-8 bytes."""
        self.usage_so_far: Mapping[str, Any] | None = None
        """What a stream has reported of its usage, which is all there is if it breaks off."""
        self.last_chunk: object = None
        """The very object that was counted last: a handler given twice is told of each chunk twice."""
        self.first_token_at: datetime | None = None
        clock = CALL_CLOCK.get()
        if clock is not None:
            # A clock that two calls shared would give the second one the first one's times.
            clock = clock.start_call()
            CALL_CLOCK.set(clock)
        self.clock = clock
        self.started_at = datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came back for a call, whole, broken off, or not at all."""

    usage: Mapping[str, Any] | None = None
    """The integration's own counts; None where it reports none."""
    response: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """The integration's `response_metadata`."""
    received_bytes: int = 0
    """Text of the answer, in UTF-8 bytes; looked at only where no usage is reported."""
    error: CallError | None = None
    whole: bool = True
    """False: the answer broke off, so a count it may carry is too small."""
    reasons: tuple[str, ...] = ()
    """Why it is not whole, or not charged."""
    charged: bool = True
    """False: refused by the provider, or never sent."""
    counted_elsewhere: bool = False
    """True: another call of the same request carries the usage of both."""
    timed_elsewhere: bool = False
    """True: another call of the same request carries the time that it took."""


class MeterAmounts(Mapping[str, Decimal]):
    """Cost by meter as amounts, worked out only when somebody looks: most calls are never looked at."""

    __slots__ = ("_costs",)

    def __init__(self, costs: Mapping[str, MeterCost]) -> None:
        self._costs = costs

    def __getitem__(self, meter: str) -> Decimal:
        return self._costs[meter].amount_usd

    def __iter__(self) -> Iterator[str]:
        return iter(self._costs)

    def __len__(self) -> int:
        return len(self._costs)

    def __repr__(self) -> str:
        return repr(dict(self))


def draft_of(record: type) -> Any:
    """A class with the record's slots and none of its frozenness: filling it takes half the constructor's time.

    Whoever fills a draft sets every slot, and turns it into the record by its `__class__`.
    """
    return type(f"{record.__name__}Draft", (), {"__slots__": record.__slots__})  # type: ignore[attr-defined]


CallDraft = draft_of(CallRecord)


class Meter:
    """Prices calls and charges and writes them down. Safe between threads."""

    def __init__(self, *, ledger: Ledger, prices: PriceBook, faults: Faults) -> None:
        self.ledger = ledger
        self.prices = prices
        self.faults = faults
        self._price_book_hash = prices.hash
        self._past = PastOutput()

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
        self.write(record)
        return record

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
            reading = self._complete(call, answer, reading)
            cost = self._price(reading, 0 if answer.timed_elsewhere else (ended_at - started_at).total_seconds())
            if replayed:
                cost = _replayed(cost)
        else:
            cost = _free(answer.reasons)
        return self._record(call, answer, reading, cost, (started_at, first_token_at, ended_at))

    def supersede(self, call_id: str, answer: Answer) -> tuple[CallRecord, CallRecord] | None:
        """Replace the estimate of a call by the answer that came after all; both versions, None if nobody knows it.

        What was known at its start is read back from the ledger: keeping it for every call cut off, in case its answer
        came yet, would keep finished runs in memory.
        """
        old = next(self.ledger.calls(history=True, call_id=call_id), None)
        if old is None:
            return None
        metadata = {"ls_provider": old.provider, "ls_model_name": old.requested_model or old.model}
        # Without the old output as its bound, an answer that still reports nothing would lower the estimate.
        request = Request(old.usage.total_input_tokens, old.usage.total_output_tokens, 1)
        call = OpenCall((old.call_id, old.run_id, old.invocation_id), old.attribution, metadata, lambda: request)
        call.endpoint = Endpoint(
            base_url_host=old.base_url_host, account=old.account, project=old.project, region=old.region
        )
        if call.clock is not None:
            call.clock.end_call()  # No request of its own will come: without it the next call's would be taken for it.
        reading = self._read(call, answer, old.started_at)
        replayed = old.billing_mode == "replay"
        ended_at = old.ended_at if replayed else datetime.now(UTC)
        if answer.charged:
            reading = self._complete(call, answer, reading)
            cost = self._price(reading, (ended_at - old.started_at).total_seconds())
            if replayed:
                cost = _replayed(cost)
        else:
            cost = _free(answer.reasons)
        times = (old.started_at, old.first_token_at, ended_at)
        new = replace(self._record(call, answer, reading, cost, times), revision=old.revision + 1)
        self.write(new)
        return old, new

    def write(self, record: Record) -> None:
        """Write a record down; a ledger's fault is noted and the run goes on."""
        try:
            self.ledger.write(record)
        except Exception as error:  # noqa: BLE001  A ledger that breaks its contract must not kill the user's run.
            self.faults.note(error)

    def tool_price(self, name: str | None, at: datetime) -> tuple[Decimal, str] | None:
        """Dollars for one call of a tool, and the card that says so; None where no card does."""
        if name is None:
            return None
        try:
            return self.prices.tool_price(name, at=at)
        except Exception as error:  # noqa: BLE001  Without its price the charge is still a fact.
            self.faults.note(error)
            return None

    def charge(self, charge: ChargeRecord) -> ChargeRecord:
        """Price a tool's charge by its card if nobody has named an amount, and write it down."""
        if charge.cost_usd is None:
            priced = self.tool_price(charge.name, charge.at)
            if priced is not None:
                amount, card_id = priced
                usd = amount * charge.quantity
                charge = replace(charge, cost_usd=usd, cost_status="exact" if usd else "free", card_id=card_id)
        self.write(charge)
        return charge

    def _read(self, call: OpenCall, answer: Answer, at: datetime) -> Reading:
        try:
            return self.prices.read(
                answer.usage,
                answer.response,
                call.metadata,
                at=at,
                base_url_host=call.endpoint.base_url_host,
                tags=call.attribution.tags,
            )
        except Exception as error:  # noqa: BLE001  An answer that cannot be read was still paid for.
            self.faults.note(error)
            provider, model = call.metadata.get("ls_provider"), call.metadata.get("ls_model_name")
            key = PriceKey(provider=provider, model=model, requested_model=model, at=at)
            return Reading(usage=None, key=key, reasons=(UNREADABLE,))

    def _complete(self, call: OpenCall, answer: Answer, reading: Reading) -> Reading:
        """The reading with usage that can be charged: the reported one, else an estimate, flagged."""
        # Its requested name: the one in the answer may carry a date, and an answer that is missing has none.
        usage, path, model = reading.usage, call.attribution.node_path, _text(call.metadata.get("ls_model_name"))
        if answer.counted_elsewhere:
            return replace(reading, usage=NO_USAGE, reasons=(*reading.reasons, *answer.reasons))
        if usage is not None and answer.whole:
            if not reading.cache_hit:
                self._past.add(path, model, usage.output_tokens)
            return reading
        reasons = (*reading.reasons, *answer.reasons)
        if usage is None and NO_USAGE_REPORTED not in reasons:
            reasons += (NO_USAGE_REPORTED,)
        prompt_tokens, max_tokens, answers = self._size_of(call)
        expected = expected_output_tokens(max_tokens=max_tokens, past=self._past.mean(path, model), answers=answers)
        usage = charged_usage(
            usage,
            prompt_tokens=prompt_tokens,
            received_tokens=tokens_of_bytes(max(call.received_bytes, answer.received_bytes)),
            expected_tokens=expected,
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

    def _record(
        self,
        call: OpenCall,
        answer: Answer,
        reading: Reading,
        cost: Cost,
        times: tuple[datetime, datetime | None, datetime],
    ) -> CallRecord:
        key, endpoint, response = reading.key, call.endpoint, answer.response
        by_meter = cost.by_meter
        draft = CallDraft()
        draft.call_id, draft.run_id, draft.invocation_id = call.call_id, call.run_id, call.invocation_id
        draft.attribution = call.attribution
        draft.provider, draft.model, draft.requested_model = key.provider, key.model, key.requested_model
        draft.usage = (reading.usage if answer.charged else None) or NO_USAGE
        draft.raw_usage = _raw_usage(answer)
        draft.cost_usd, draft.contracted_usd, draft.billed_usd = cost.usd, cost.contracted_usd, cost.billed_usd
        split = cost.usd is not None and (type(by_meter) is not dict or by_meter)
        draft.meter_usd = MeterAmounts(by_meter) if split else None
        draft.currency, draft.fx_id, draft.billing_mode = cost.currency, cost.fx_id, cost.billing_mode
        draft.cost_status, draft.reasons, draft.card_id = cost.status, cost.reasons, cost.card_id
        draft.estimated = answer.charged and (reading.estimated or cost.status == "estimated")
        draft.price_book_hash = self._price_book_hash
        draft.started_at, draft.first_token_at, draft.ended_at = times
        draft.error = answer.error
        draft.provider_request_id = _text(response.get("id")) or _text(response.get("request_id"))
        draft.account, draft.project, draft.region = endpoint.account, endpoint.project, endpoint.region
        draft.service_tier = _text(response.get("service_tier"))
        draft.base_url_host = endpoint.base_url_host
        draft.revision = 0
        draft.__class__ = CallRecord
        return cast(CallRecord, draft)


def _free(reasons: tuple[str, ...]) -> Cost:
    """The known cost of what the provider does not charge."""
    nothing = Decimal(0)
    return Cost(usd=nothing, contracted_usd=nothing, billed_usd=nothing, status="free", reasons=reasons)


def _replayed(cost: Cost) -> Cost:
    """Nothing is paid again, whatever it cost, and even where nobody knows what that was."""
    return replace(cost, billed_usd=Decimal(0), billing_mode="replay")


def _text(value: object) -> str | None:
    """A short name as it stands; None for what is none, so that no longer text can slip into a record."""
    return value if isinstance(value, str) and 0 < len(value) <= NAME_LENGTH else None


def _raw_usage(answer: Answer) -> Mapping[str, Any] | None:
    """The integration's counts as they came, and the provider's own beside them where the integration hands them on."""
    usage, response = answer.usage, answer.response
    provider = response.get("token_usage") or response.get("usage")
    if not usage and not provider:
        return None
    raw = _counts(usage or NOTHING)
    if isinstance(provider, Mapping) and provider is not usage:
        raw["provider_usage"] = _counts(provider)
    return raw


def _counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and short names only: whatever a provider adds to its counts, no text gets in."""
    counts: dict[str, Any] = {}
    for name, value in usage.items():
        kind = type(value)
        if kind is int or kind is float or kind is Decimal or kind is bool or value is None:
            counts[name] = value
        elif isinstance(value, Mapping):
            counts[name] = _counts(value)
        elif name in NAMES_IN_USAGE and _text(value) is not None:
            counts[name] = value
    return counts
