"""The record of a call, filled field by field."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from langchain_finops.meter.calls import NOTHING, Answer, OpenCall, short_text
from langchain_finops.pricing.cost import Cost, MeterCost, Reading
from langchain_finops.records import CallRecord
from langchain_finops.usage import Usage

__all__ = ["NO_USAGE", "draft_of", "free", "record_of", "replayed"]

NAMES_IN_USAGE = frozenset({"service_tier", "speed", "inference_geo"})
NO_USAGE = Usage(requests=0)
"""What a request used that never reached a model, or that the provider refused."""
Times = tuple[datetime, datetime | None, datetime]
"""When a call began, its first token came, and it ended."""


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


def record_of(
    call: OpenCall, answer: Answer, reading: Reading, cost: Cost, times: Times, *, price_book_hash: str
) -> CallRecord:
    """What is known of a call that has ended."""
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
    draft.price_book_hash = price_book_hash
    draft.started_at, draft.first_token_at, draft.ended_at = times
    draft.error = answer.error
    draft.provider_request_id = short_text(response.get("id")) or short_text(response.get("request_id"))
    draft.account, draft.project, draft.region = endpoint.account, endpoint.project, endpoint.region
    # Some say it beside their counts, some in them: without it the call could not be priced again.
    draft.service_tier = short_text(response.get("service_tier")) or ("batch" if key.batch else key.tier)
    draft.base_url_host = endpoint.base_url_host
    draft.prompt_digests = call.prompt_digests
    draft.revision = 0
    draft.__class__ = CallRecord
    return cast(CallRecord, draft)


def free(reasons: tuple[str, ...]) -> Cost:
    """The known cost of what the provider does not charge."""
    nothing = Decimal(0)
    return Cost(usd=nothing, contracted_usd=nothing, billed_usd=nothing, status="free", reasons=reasons)


def replayed(cost: Cost) -> Cost:
    """Nothing is paid again, whatever it cost, and even where nobody knows what that was."""
    return replace(cost, billed_usd=Decimal(0), billing_mode="replay")


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
        elif name in NAMES_IN_USAGE and short_text(value) is not None:
            counts[name] = value
    return counts
