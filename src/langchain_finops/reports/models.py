"""What each model costs: its share, what its cache gives, its tiers, and its list price today."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.label_totals import totals_by_label
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.totals import Totals
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.reports.live import Spent
from langchain_finops.reports.spend import spent_of
from langchain_finops.reports.success_cost import QUOTIENT

__all__ = ["ListPrice", "ModelRow", "models_used"]

PROMPT = (
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_30m_tokens"),
    *("cache_write_1h_tokens", "cache_write_12h_tokens"),
)
"""Meters of text that goes in, as in `insight`'s hit rate."""
MILLION = Decimal(10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrice:
    """Dollars for a million tokens, today, of a plain call."""

    kind: str
    """`rates`, `free`, `self_hosted` or `unpriced`."""
    input_usd: Decimal | None = None
    cached_usd: Decimal | None = None
    output_usd: Decimal | None = None
    is_more: bool = False
    """Whether other prices are in force, too: for tiers, hours, or long prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model as its provider sells it."""

    provider: str | None
    model: str | None
    spent: Spent
    totals: Totals
    hit_rate: float | None
    """The part of the input that was read from the provider's cache; None without input."""
    paid_usd: Decimal | None
    """What a million tokens cost on the average, in and out alike; at least that where calls have no price."""
    tiers: list[tuple[str | None, Spent]]
    """By service tier, dearest first."""
    price: ListPrice


def models_used(ledger: SqlLedger, since: datetime | None, book: PriceBook, at: datetime) -> list[ModelRow]:
    """Return the models called since then, dearest first. Charges, which have no model, are not among them."""
    found = totals_by_label(ledger, ("provider", "model", "service_tier"), Period.of(since, None))
    by_model: dict[tuple[str | None, str | None], Totals] = defaultdict(Totals)
    tiers: dict[tuple[str | None, str | None], dict[str | None, Spent]] = defaultdict(lambda: defaultdict(Spent))
    for ((provider, model, tier), _), totals in found.items():
        if not totals.calls:
            continue
        by_model[provider, model].merge(_calls_only(totals))
        tiers[provider, model][tier].merge(spent_of(_calls_only(totals)))
    rows = [_row(key, totals, tiers[key], book, at) for key, totals in by_model.items()]
    return sorted(rows, key=lambda row: (-row.spent.pico, -row.spent.calls, row.model or "", row.provider or ""))


def _calls_only(totals: Totals) -> Totals:
    """A charge may share the names of no model with calls that name none."""
    calls = Totals()
    calls.merge(totals)
    calls.charges = calls.charge_pico = calls.charges_unpriced = 0
    return calls


def _row(
    key: tuple[str | None, str | None],
    totals: Totals,
    tiers: dict[str | None, Spent],
    book: PriceBook,
    at: datetime,
) -> ModelRow:
    provider, model = key
    spent = spent_of(totals)
    prompt = sum(totals.meters[name] for name in PROMPT)
    paid = None
    if spent.tokens and spent.usd is not None:
        paid = QUOTIENT.divide(EXACT.multiply(spent.usd, MILLION), Decimal(spent.tokens))
    return ModelRow(
        provider=provider,
        model=model,
        spent=spent,
        totals=totals,
        hit_rate=totals.meters["cache_read_tokens"] / prompt if prompt else None,
        paid_usd=paid,
        tiers=sorted(tiers.items(), key=lambda each: (-each[1].pico, -each[1].calls, each[0] or "")),
        price=_list_price(provider, model, book, at),
    )


def _list_price(provider: str | None, model: str | None, book: PriceBook, at: datetime) -> ListPrice:
    if model is None:
        return ListPrice(kind="unpriced")
    current = [period for period in book.history(model, provider=provider, at=at) if period.in_force]
    if not current:
        return ListPrice(kind="unpriced")
    first = current[0]
    charged = {**first.stand_ins, **first.prices}
    return ListPrice(
        kind=first.kind,
        input_usd=charged.get("input_tokens"),
        cached_usd=charged.get("cache_read_tokens"),
        output_usd=charged.get("output_tokens"),
        is_more=len(current) > 1,
    )
