"""What a call costs, how we know, and what was asked of the price book."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from langchain_finops.records import EMPTY, BillingMode, CostStatus
from langchain_finops.usage import Usage

__all__ = ["Cost", "MeterCost", "PriceKey", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterCost:
    """One meter's share of a cost."""

    quantity: Decimal
    """Tokens, searches, requests or seconds."""
    unit_price_usd: Decimal
    """Dollars for one unit of `quantity`."""
    amount_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a call costs. `by_meter` adds up to `usd` exactly."""

    usd: Decimal | None
    """List cost; None where no price is known, which is not the same as free."""
    contracted_usd: Decimal | None
    """List cost after the user's discounts."""
    billed_usd: Decimal | None
    """What is really paid."""
    billing_mode: BillingMode = "payg"
    status: CostStatus
    reasons: tuple[str, ...] = ()
    """Short codes for why the status is what it is, such as `unknown_model`."""
    card_id: str | None = None
    """The rate card used: where the price stands, and from when it counts."""
    by_meter: Mapping[str, MeterCost] = field(default_factory=dict)
    currency: str = "USD"
    fx_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceKey:
    """What a price depends on besides the counts. Hashable, `at` apart, so that cards can be memoised."""

    provider: str | None
    model: str | None
    """As the answer names it, else as the request did."""
    at: datetime
    """When the call began, in UTC."""
    requested_model: str | None = None
    tier: str | None = None
    """`flex`, `priority` or None for the standard one."""
    batch: bool = False
    speed: str | None = None
    geography: str | None = None
    base_url_host: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an answer says of itself, made comparable: disjoint meters and a price key."""

    usage: Usage | None
    """None where the answer reports no usage, which is not the same as none used."""
    key: PriceKey
    reported_usd: Decimal | None = None
    """Billed amount that the provider states in the answer."""
    cache_hit: bool = False
    """LangChain's own cache answered: list cost, nothing billed."""
    reasons: tuple[str, ...] = ()
    """What had to be clamped or assumed."""
    estimated: bool = False
