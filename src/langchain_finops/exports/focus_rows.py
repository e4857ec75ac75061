"""A call or charge as FOCUS rows: one for each meter, with a unit price, and nothing added or lost on the way.

Rows of one record add up to its list, contracted and billed cost to the picodollar. A unit price times its quantity,
rounded to the picodollar, is the cost of the row.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from langchain_finops.money import EXACT, from_pico, to_pico
from langchain_finops.pricing.providers import rule_of
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.reports.shares import divided
from langchain_finops.usage import TOKEN_METERS

__all__ = ["Cells", "Options", "call_cells", "charge_cells", "unit_price"]

Cells = dict[str, Any]
"""A row by column; what is not in it is null."""
INTERNAL: Final = "Internal"
UNKNOWN: Final = "Unknown provider"
MILLION: Final = 1_000_000
SECOND: Final = timedelta(seconds=1)
LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
OWN_COST: Final = frozenset({"human", "adjustment"})
"""Kinds of charges that nobody sends a bill for. Of the others nothing tells who does."""
PRICE_STEP: Final = Decimal(1).scaleb(-24)

SELLERS: Final[Mapping[str, tuple[str, str]]] = {
    "openai": ("OpenAI API", "OpenAI"),
    "azure": ("Azure OpenAI", "Microsoft"),
    "anthropic": ("Claude API", "Anthropic"),
    "aws": ("Amazon Bedrock", "Amazon Web Services"),
    "google": ("Google Generative AI", "Google"),
    "mistral": ("Mistral API", "Mistral AI"),
    "groq": ("GroqCloud", "Groq"),
    "deepseek": ("DeepSeek API", "DeepSeek"),
    "x-ai": ("xAI API", "xAI"),
    "openrouter": ("OpenRouter", "OpenRouter"),
    "together": ("Together AI", "Together AI"),
    "fireworks": ("Fireworks AI", "Fireworks AI"),
    "cohere": ("Cohere API", "Cohere"),
    "perplexity": ("Perplexity API", "Perplexity"),
    "moonshotai": ("Moonshot API", "Moonshot AI"),
}
"""Service and who sells it, by our name for a provider; others are called as they are."""
RESELLERS: Final = frozenset({"openrouter"})
"""Those that pass a call on to machines of others, and do not say whose."""


class Meter(NamedTuple):
    """How a meter is called in FOCUS."""

    sku: str
    title: str
    direction: str | None = None
    cache: str | None = None


METERS: Final[Mapping[str, Meter]] = {
    "input_tokens": Meter("input", "Input Tokens", "Input", "Uncached"),
    "cache_read_tokens": Meter("cache-read-input", "Cache Read Input Tokens", "Input", "Read"),
    "cache_write_5m_tokens": Meter("cache-write-input", "Cache Write Input Tokens", "Input", "Write"),
    "cache_write_30m_tokens": Meter("cache-write-30m-input", "Cache Write Input Tokens (30 Minutes)", "Input", "Write"),
    "cache_write_1h_tokens": Meter("cache-write-1h-input", "Cache Write Input Tokens (1 Hour)", "Input", "Write"),
    "cache_write_12h_tokens": Meter("cache-write-12h-input", "Cache Write Input Tokens (12 Hours)", "Input", "Write"),
    "audio_input_tokens": Meter("audio-input", "Audio Input Tokens", "Input", "Uncached"),
    "cached_audio_tokens": Meter("cache-read-audio-input", "Cache Read Audio Input Tokens", "Input", "Read"),
    "output_tokens": Meter("output", "Output Tokens", "Output"),
    "audio_output_tokens": Meter("audio-output", "Audio Output Tokens", "Output"),
    "reasoning_tokens": Meter("reasoning-output", "Reasoning Output Tokens", "Output"),
    "web_searches": Meter("web-search", "Web Searches"),
    "requests": Meter("request", "Requests"),
    "seconds": Meter("second", "Machine Seconds"),
}
UNITS: Final = {"web_searches": "Requests", "requests": "Requests", "seconds": "Seconds"}
"""What is counted, where it is not tokens."""
SERVICES: Final[Mapping[str, tuple[str, str]]] = {
    "infrastructure": ("Compute", "Other (Compute)"),
    "human": ("Other", "Other (Other)"),
}
"""Category and subcategory of charges; others are of models."""
AI: Final = ("AI and Machine Learning", "Generative AI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a file holds beyond what records say."""

    billing_account: str = "default"
    """For records that do not name the provider's account."""
    users: bool = False


class Line(NamedTuple):
    """One meter of a call, in picodollars."""

    meter: str
    quantity: Decimal
    list_pico: int


def unit_price(pico: int, quantity: Decimal) -> Decimal:
    """Dollars for one unit: exact, or to 24 decimals where the division never ends.

    That is enough for 10**12 units: no rounding of it comes to a picodollar.
    """
    price = EXACT.divide(from_pico(pico), quantity)
    return price.quantize(PRICE_STEP, ROUND_HALF_EVEN, EXACT)


# --- calls -----------------------------------------------------------------------------------------------------------


def call_cells(call: CallRecord, options: Options) -> Iterator[Cells]:
    """The rows of a call whose price is known; none where it used nothing."""
    assert call.cost_usd is not None
    cost = to_pico(call.cost_usd)
    if cost < 0:
        yield _credit(_of_call(call, options), call.model, _whole(call, cost))
        return
    lines = _lines(call, cost)
    if not lines:
        return
    listed = [line.list_pico for line in lines]
    contracted = _divided(call.contracted_usd, cost, listed)
    billed = _divided(call.billed_usd, cost, contracted)
    common = _of_call(call, options)
    for line, contracted_pico, billed_pico in zip(lines, contracted, billed, strict=True):
        yield common | _priced(call, line, contracted_pico, billed_pico)


def _lines(call: CallRecord, cost: int) -> list[Line]:
    """Each meter with its count and list cost; one line of the whole where the ledger has no breakdown that holds."""
    usage, meters = call.usage, call.meter_usd
    if not meters and not cost:
        counts = [(meter, getattr(usage, meter)) for meter in TOKEN_METERS]
        return [Line(meter, Decimal(count), 0) for meter, count in counts if count]
    lines = [Line(meter, _count(call, meter), to_pico(usd)) for meter, usd in (meters or {}).items()]
    # The second prompt of a batch on one's own machine: the first one's row has the time of both.
    lines = [line for line in lines if line.list_pico or line.meter != "seconds"]
    whole = all(line.quantity > 0 and line.meter in METERS for line in lines)
    if whole and sum(line.list_pico for line in lines) == cost:
        return lines
    return [Line("requests", Decimal(1), cost)]


def _count(call: CallRecord, meter: str) -> Decimal:
    usage = call.usage
    if meter == "seconds":
        return _seconds(call.ended_at - call.started_at)
    if meter == "requests":
        return Decimal(max(usage.requests, 1))
    if meter == "output_tokens" and "reasoning_tokens" in (call.meter_usd or {}):
        return Decimal(usage.output_tokens - usage.reasoning_tokens)
    return Decimal(getattr(usage, meter, 0))


def _seconds(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(microseconds=1)).scaleb(-6)


def _divided(amount: Decimal | None, cost: int, weights: list[int]) -> list[int]:
    """An amount of the whole call by its lines, adding up to it; None counts as the list cost, as in every sum."""
    pico = cost if amount is None else to_pico(amount)
    return weights if pico == sum(weights) else divided(pico, weights)


def _whole(call: CallRecord, cost: int) -> tuple[int, int, int]:
    """List, contracted and billed cost of a call in one line."""
    contracted, billed = (cost if usd is None else to_pico(usd) for usd in (call.contracted_usd, call.billed_usd))
    return cost, contracted, billed


def _priced(call: CallRecord, line: Line, contracted: int, billed: int) -> Cells:
    meter, unit = METERS[line.meter], UNITS.get(line.meter, "Tokens")
    per_million = line.meter not in UNITS
    quantity = line.quantity.scaleb(-6) if per_million else line.quantity
    model = _said(call.model) or _said(call.requested_model) or "unknown-model"
    sku = f"{model}-{meter.sku}"
    tier = _tier(call.provider, call.service_tier)
    details = {"x_ModelId": model, "x_TokenDirection": meter.direction, "x_TokenCacheAction": meter.cache,
               "x_ServiceTier": tier}  # fmt: skip
    return {
        "BilledCost": from_pico(billed),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{meter.title} of {model}",
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": line.quantity,
        "ConsumedUnit": unit,
        "ContractedCost": from_pico(contracted),
        "ContractedUnitPrice": unit_price(contracted, quantity),
        "EffectiveCost": from_pico(billed),
        "ListCost": from_pico(line.list_pico),
        "ListUnitPrice": unit_price(line.list_pico, quantity),
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": f"{MILLION} Tokens" if per_million else unit,
        "SkuId": sku,
        "SkuMeter": meter.title,
        "SkuPriceDetails": {name: value for name, value in details.items() if value is not None},
        "SkuPriceId": f"{sku}-{tier or 'ondemand'}",
    }


@lru_cache(maxsize=1024)
def _tier(provider: str | None, named: str | None) -> str | None:
    """The price variant; None for the standard one."""
    return None if named is None else rule_of(provider).tiers.get(named.lower(), named)


def _of_call(call: CallRecord, options: Options) -> Cells:
    """What all rows of a call have in common."""
    provider, project, region = _said(call.provider), _said(call.project), _said(call.region)
    if call.billing_mode == "self_hosted":
        service, seller = "Self-hosted models", INTERNAL
    elif provider is None:
        service, seller = UNKNOWN, UNKNOWN
    else:
        service, seller = SELLERS.get(provider, (provider, provider))
    return {
        **_common(call, call.started_at, call.ended_at, options),
        "BillingAccountId": _said(call.account) or options.billing_account,
        "InvoiceIssuerName": seller,
        "ProviderName": seller,
        "ServiceProviderName": seller,
        "HostProviderName": None if provider in RESELLERS or seller == UNKNOWN else seller,
        "RegionId": region,
        "RegionName": region,
        "ServiceCategory": AI[0],
        "ServiceSubcategory": AI[1],
        "ServiceName": service,
        "SubAccountId": project,
        "SubAccountName": project,
        "SubAccountType": None if project is None else "Project",
        "x_BillingMode": call.billing_mode,
        "x_CallId": call.call_id,
        "x_CostSource": "provider" if call.cost_status == "reported" else "local",
    }


def _said(name: str | None) -> str | None:
    """A name, unless it is blank: FOCUS takes spaces for nothing."""
    return name if name is not None and name.strip() else None


def _common(record: CallRecord | ChargeRecord, began: datetime, ended: datetime | None, options: Options) -> Cells:
    who = record.attribution
    start = began.astimezone(UTC).replace(microsecond=0)
    end = max(_next_second(ended or began), _after(start))
    month, following = _month(start.year, start.month)
    named = {"agent": who.agent_id, "node": who.node_path, "task_type": who.task_type, "customer": who.customer_id,
             "project": who.project, "environment": who.environment, "release": who.release}  # fmt: skip
    tags = {name: value for name, value in named.items() if value is not None}
    return {
        "BillingAccountType": "Account",
        "BillingCurrency": "USD",
        "BillingPeriodStart": month,
        "BillingPeriodEnd": following,
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "Tags": {**tags, **who.tags} or None,  # Tags of the user's own are never replaced by ours.
        "x_ConsumerId": who.user_id if options.users else None,
        "x_CostStatus": record.cost_status,
        "x_Node": who.node_path,
        "x_PrincipalId": who.agent_id,
        "x_RateCardId": record.card_id,
        "x_Role": who.role,
        "x_RunId": record.run_id,
        "x_TaskId": who.task_id,
    }


def _next_second(at: datetime) -> datetime:
    """The first whole second that is not before it."""
    whole = at.astimezone(UTC).replace(microsecond=0)
    return _after(whole) if at.microsecond else whole


def _after(second: datetime) -> datetime:
    """The next second; the calendar's last one stays."""
    return second if second >= LAST else second + SECOND


@lru_cache(maxsize=1024)
def _month(year: int, month: int) -> tuple[datetime, datetime]:
    """The first moment of a month, and of the next."""
    first = datetime(year, month, 1, tzinfo=UTC)
    if (year, month) == (LAST.year, LAST.month):
        return first, LAST
    return first, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


# --- charges ---------------------------------------------------------------------------------------------------------


def charge_cells(charge: ChargeRecord, options: Options) -> Cells:
    """The row of a charge whose price is known."""
    assert charge.cost_usd is not None
    pico = to_pico(charge.cost_usd)
    category, subcategory = SERVICES.get(charge.kind, AI)
    seller = INTERNAL if charge.kind in OWN_COST else UNKNOWN
    common = {
        **_common(charge, charge.at, charge.ended_at, options),
        "BillingAccountId": options.billing_account,
        "InvoiceIssuerName": seller,
        "ProviderName": seller,
        "ServiceProviderName": seller,
        "ServiceCategory": category,
        "ServiceSubcategory": subcategory,
        "ServiceName": f"{charge.kind}: {charge.name}" if charge.name and charge.kind == "tool" else charge.kind,
        "x_CallId": charge.charge_id,
        "x_CostSource": "local",
    }
    if charge.kind in {"credit", "adjustment"} or pico < 0:
        return _credit(
            common, charge.name, (pico, pico, pico), _class_of(charge) if charge.kind == "adjustment" else ""
        )
    sku = f"{charge.kind}-{charge.name}" if charge.name else charge.kind
    quantity, unit = (charge.quantity, _unit(charge.unit)) if charge.quantity > 0 else (Decimal(1), "Units")
    price, cost = unit_price(pico, quantity), from_pico(pico)
    return common | {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), price),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), quantity),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), unit),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{charge.kind} {charge.name or ''}".rstrip(),
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Standard",
        "SkuId": sku,
        "SkuMeter": unit,
        "SkuPriceId": f"{sku}-ondemand",
    }


def _unit(name: str) -> str:
    """A unit as FOCUS writes them, in capitals; a call of a tool is a request."""
    if name == "calls":
        return "Requests"
    plain = name.strip().title()
    return plain if plain and not plain[0].isdigit() else "Units"


def _class_of(adjustment: ChargeRecord) -> str:
    """`finops close` posts a correction of a closed period in the open one, and takes it back in its own."""
    return "Correction" if adjustment.charge_id.endswith(":post") else "Adjustment"


def _credit(common: Cells, name: str | None, picos: tuple[int, int, int], adjusts: str = "") -> Cells:
    """A credit or an adjustment: an amount without a price, a quantity or a SKU."""
    listed, contracted, billed = map(from_pico, picos)
    category = "Adjustment" if adjusts else "Credit"
    return common | {
        "ListCost": listed,
        "ContractedCost": contracted,
        "BilledCost": billed,
        "EffectiveCost": billed,
        "ChargeCategory": category,
        "ChargeClass": "Correction" if adjusts == "Correction" else None,
        "ChargeDescription": f"{category}: {name}" if name else category,
        "ChargeFrequency": "One-Time",
    }
