"""A stored call or tool at a book's prices: its counts were paid for, the price is only looked up again."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from langchain_finops.money import EXACT, from_pico, to_pico
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import Reading
from langchain_finops.pricing.facts import NO_SEARCHES
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.usage import Usage

__all__ = ["BROKEN", "is_matter_of_prices", "price_call_again", "price_tool_again"]

NOT_CHARGED = Usage(requests=0)
"""What the ledger notes of a call that never reached a model, or that the provider refused."""
BROKEN = frozenset(
    {
        *("no_usage_reported", "unreadable_answer", "failed", "cancelled", "stream_left", "timed_out"),
        *("connection_lost", "stopped"),
    }
)
"""Reasons of a call whose answer was missing or cut off: its stored counts are more than the answer told."""
ASSUMED = ("clamped:", "bad_count:", "cache_ttl_assumed", "cached_audio_assumed", NO_SEARCHES)
"""How other reasons begin that are about the counts and not about the price."""


def is_matter_of_prices(record: CallRecord | ChargeRecord) -> bool:
    """False for what no book decides: a stated bill, a call that was not charged, an amount that a user named."""
    if isinstance(record, ChargeRecord):
        by_card = record.cost_usd is None or record.card_id is not None
        return record.kind == "tool" and record.name is not None and by_card
    return record.cost_status != "reported" and record.card_id != "reported" and record.usage != NOT_CHARGED


def price_call_again(record: CallRecord, book: PriceBook) -> CallRecord:
    """The same call as the book reads and prices it, under the same revision; itself where prices do not decide."""
    if not is_matter_of_prices(record):
        return record
    reading = _read_again(record, book)
    cost = book.price(reading, seconds=_seconds(record))
    replayed = record.billing_mode == "replay"
    return replace(
        record,
        usage=reading.usage or record.usage,
        cost_usd=cost.usd,
        contracted_usd=cost.contracted_usd,
        billed_usd=Decimal(0) if replayed else cost.billed_usd,
        meter_usd={meter: share.amount_usd for meter, share in cost.by_meter.items()} or None,
        currency=cost.currency,
        fx_id=cost.fx_id,
        billing_mode="replay" if replayed else cost.billing_mode,
        cost_status=cost.status,
        reasons=cost.reasons,
        card_id=cost.card_id,
        estimated=reading.estimated or cost.status == "estimated",
        price_book_hash=book.hash,
    )


def price_tool_again(charge: ChargeRecord, book: PriceBook) -> ChargeRecord:
    """The same charge at the book's tool card; itself where no card fits or prices do not decide."""
    if not is_matter_of_prices(charge) or charge.name is None:
        return charge
    found = book.tool_price(charge.name, at=charge.at)
    if found is None:
        return charge
    # As the ledger keeps it: else the next look would find another amount.
    usd = from_pico(to_pico(EXACT.multiply(found[0], charge.quantity)))
    return replace(charge, cost_usd=usd, cost_status="exact" if usd else "free", card_id=found[1])


def _read_again(record: CallRecord, book: PriceBook) -> Reading:
    """What the integration's own counts say today; the stored ones where those are not all that was charged."""
    raw = record.raw_usage or {}
    counts = {name: value for name, value in raw.items() if name != "provider_usage"}
    reading = book.read(
        counts or None,
        _said(record, raw.get("provider_usage")),
        {"ls_provider": record.provider, "ls_model_name": record.requested_model or record.model},
        at=record.started_at,
        context=_context(record),
        base_url_host=record.base_url_host,
        tags=record.attribution.tags,
    )
    reading = replace(reading, cache_hit=reading.cache_hit or record.billing_mode == "cache")
    usage = reading.usage
    if usage is None or not BROKEN.isdisjoint(record.reasons) or (record.estimated and not _same(usage, record.usage)):
        reasons = tuple(reason for reason in record.reasons if reason in BROKEN or reason.startswith(ASSUMED))
        return replace(reading, usage=record.usage, estimated=record.estimated, reasons=reasons)
    return replace(reading, usage=replace(usage, requests=record.usage.requests))


def _same(usage: Usage, stored: Usage) -> bool:
    return (usage.total_input_tokens, usage.total_output_tokens) == (
        stored.total_input_tokens,
        stored.total_output_tokens,
    )


def _said(record: CallRecord, provider_usage: object) -> dict[str, object]:
    """What the answer said next to its counts, as far as the record keeps it."""
    said: dict[str, object] = {"model_name": record.model, "service_tier": record.service_tier}
    if isinstance(provider_usage, Mapping):
        said["usage" if "cache_read_input_tokens" in provider_usage else "token_usage"] = provider_usage
    if record.provider == "perplexity":  # There the size of the search context is to a price what a tier is.
        said["search_context_size"] = record.service_tier
    return said


def _context(record: CallRecord) -> dict[str, object] | None:
    """Searches are often told beside the counts, and nothing but their number was kept."""
    if record.usage.web_searches or (record.provider == "perplexity" and NO_SEARCHES not in record.reasons):
        return {"server_tools": {"web_search": record.usage.web_searches}}
    return None


def _seconds(record: CallRecord) -> float:
    """How long a machine was in use. None of it for the second prompt of a batch: the first one paid for both."""
    paid_elsewhere = record.billing_mode == "self_hosted" and dict(record.meter_usd or {}) == {"seconds": 0}
    return 0.0 if paid_elsewhere else (record.ended_at - record.started_at).total_seconds()
