"""The shipped price catalogue, genai-prices, behind our own words. The only module that imports it, and late.

It holds a `DataSnapshot` of its own: `genai_prices.UpdatePrices` replaces a process-wide one, and prices must not
change under a running process.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from langchain_finops.errors import PriceError
from langchain_finops.money import EXACT
from langchain_finops.pricing.engine import Rate, Rates
from langchain_finops.pricing.snapshots import newest

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import (
        ConditionalPrice,
        ModelInfo,
        ModelPrice,
        PriceVariant,
        Provider,
        StartDateConstraint,
        TimeOfDateConstraint,
    )

    Constraint = StartDateConstraint | TimeOfDateConstraint | None

__all__ = ["Catalog", "Listing", "catalog_version", "checked_catalog", "current_catalog", "shipped_catalog"]

log = logging.getLogger("langchain_finops")

METER_OF_KEY: Mapping[str, tuple[str, int]] = {
    "input_mtok": ("input_tokens", 6),
    "cache_read_mtok": ("cache_read_tokens", 6),
    "cache_write_mtok": ("cache_write_5m_tokens", 6),
    "cache_write_5m_mtok": ("cache_write_5m_tokens", 6),
    "cache_write_1h_mtok": ("cache_write_1h_tokens", 6),
    "input_audio_mtok": ("audio_input_tokens", 6),
    "cache_audio_read_mtok": ("cached_audio_tokens", 6),
    "output_mtok": ("output_tokens", 6),
    "output_audio_mtok": ("audio_output_tokens", 6),
    "output_reasoning_mtok": ("reasoning_tokens", 6),
    "web_searches_kcount": ("web_searches", 3),
    "requests_kcount": ("requests", 3),
}
"""The catalogue's names, our meters, and the power of ten of units that the price is for."""

OPENAI_SELLERS = ("openai", "azure")
DOUBTS: Mapping[str, str] = {
    "output_image_mtok": "image_tokens_not_metered",
    "output_video_mtok": "image_tokens_not_metered",
    "input_image_mtok": "image_tokens_not_metered",
    "input_video_mtok": "image_tokens_not_metered",
    # The catalogue takes the highest of the fees that Perplexity charges by search context.
    "requests_kcount": "request_fee_assumed",
}
"""Prices on what integrations do not count, by the catalogue's name: such a card gives estimates."""


@cache
def shipped_catalog() -> "Catalog":
    """The catalogue of the installed genai-prices. Loading takes 0.3 s, once a process."""
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return Catalog(DataSnapshot(providers=providers, from_auto_update=False), catalog_version())


@cache
def current_catalog() -> "Catalog":
    """The newest catalogue that was downloaded and can be used, else the shipped one. One for a whole process."""
    for snapshot, name in newest(catalog_version()):
        try:
            return checked_catalog(snapshot, name)
        except PriceError as error:
            log.warning("a downloaded price catalogue is not used: %s. Run `finops prices update` again.", error)
    return shipped_catalog()


def checked_catalog(snapshot: "DataSnapshot", name: str) -> "Catalog":
    """A catalogue whose every price can be used. Raises PriceError for one that would fail in the middle of a call."""
    catalog = Catalog(snapshot, name)
    for listing in catalog.listings():
        for _, _, rates in listing.every():
            for meter, rate in rates.items():
                if any(not price.is_finite() or price < 0 for price in (rate.usd, *(usd for _, usd in rate.steps))):
                    raise PriceError(
                        f"{name}: the price of {meter} of {listing.provider}/{listing.info.id} is no price"
                    )
    return catalog


def catalog_version() -> str:
    """What the catalogue is called on a rate card. Does not load it."""
    return f"genai-prices-{version('genai-prices')}"


class Catalog:
    """Finds what a provider lists for a model. Immutable."""

    def __init__(self, snapshot: "DataSnapshot", name: str) -> None:
        self._snapshot = snapshot
        self._providers = {provider.id: provider for provider in snapshot.providers}
        self.name = name

    def listing(self, provider: str | None, model: str) -> "Listing | None":
        """The entry for a model; None where the catalogue has no such provider, or the provider no such model.

        Without a provider the model's name has to tell, as `gpt-` and `claude` do.
        """
        seller = self._seller_of(model) if provider is None else self._providers.get(provider)
        info = seller.find_model(model, all_providers=self._snapshot.providers) if seller is not None else None
        if seller is None or info is None:
            return None
        own = any(info is listed for listed in seller.models)
        return Listing(catalog=self.name, provider=seller.id, info=info, own=own)

    def listings(self) -> "Iterator[Listing]":
        """Every model of every provider."""
        for provider in self._snapshot.providers:
            for info in provider.models:
                yield Listing(catalog=self.name, provider=provider.id, info=info, own=True)

    def similar(self, provider: str, model: str) -> list[str]:
        """Up to three names of the provider's models that hold this one, else look like it."""
        from difflib import get_close_matches

        seller = self._providers.get(provider)
        names = [info.id for info in seller.models] if seller is not None else []
        holding = sorted((name for name in names if model.lower() in name.lower()), key=len)
        return holding[:3] or get_close_matches(model, names, n=3)

    def check_size(self, current: "Catalog") -> None:
        """Raise PriceError where this is less than half of the current one: a part of a catalogue is no newer one."""
        mine, theirs = (sum(1 for _ in each.listings()) for each in (self, current))
        if 2 * mine < theirs:
            raise PriceError(
                f"{self.name}: {mine:,} models are in it, and {theirs:,} in the catalogue in use: "
                "that is not a newer one. Nothing was replaced; check the address."
            )

    def sources(self, provider: str) -> tuple[str, ...]:
        """The pages that a provider's prices are from."""
        found = self._providers.get(provider)
        return tuple(found.pricing_urls or ()) if found is not None else ()

    def knows(self, provider: str) -> bool:
        """True for a provider that the catalogue lists models of. Exact: `my-openai-proxy` is not OpenAI."""
        return provider in self._providers

    def _seller_of(self, model: str) -> "Provider | None":
        try:
            return self._snapshot.find_provider(model, None, None)
        except LookupError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a provider lists for a model, through all its history."""

    catalog: str
    provider: str
    info: "ModelInfo"
    own: bool
    """False where the provider sells another's model and the maker's list price stands in."""

    def standard(self, at: datetime) -> "tuple[Rates, str, tuple[str, ...]]":
        """Rates at a time, the card's id, and why they may not be exact. No rates: listed without a price."""
        price, constraint, known = self._in_force(at)
        start = _start(constraint)
        since = f"@{start.isoformat()}" if start else ""
        doubts = dict.fromkeys(DOUBTS[key] for key in _keys(price) if key in DOUBTS)
        if not known:
            doubts["before_first_price"] = None
        return self._rates(price), f"{self.catalog}:{self.provider}/{self.info.id}{since}", tuple(doubts)

    def variant(self, at: datetime, name: str, value: str) -> Rates | None:
        """Rates that differ from the standard ones under a condition; None where the catalogue knows of none.

        An entry with no rates says that the condition costs the same as the standard.
        """
        if not self.own:
            return None
        variants = [
            variant.prices
            for variant in self.info.price_variants or ()
            if variant.when == {name: value} and (variant.constraint is None or variant.constraint.active(at))
        ]
        if not variants:
            return None
        merged: dict[str, Rate] = {}
        for price in reversed(variants):  # The first one that names a price decides it.
            merged.update(self._rates(price, unify_audio=False))
        return merged

    def every(self) -> "Iterator[tuple[str, str, Rates]]":
        """Each entry and variant: its condition, when it counts, and the rates it names.

        Raises PriceError for a price of no known kind.
        """
        named: list[tuple[str, ConditionalPrice | PriceVariant]] = [("standard", entry) for entry in self._entries()]
        named += [(" ".join(variant.when.values()), variant) for variant in self.info.price_variants or ()]
        for condition, entry in named:
            try:
                yield condition, _when(entry.constraint), self._rates(entry.prices, unify_audio=False)
            except (AssertionError, ArithmeticError, TypeError, AttributeError) as error:
                raise PriceError(
                    f"{self.catalog}: {self.provider}/{self.info.id} has a price of no known kind"
                ) from error

    def boundaries(self, at: datetime) -> Iterator[datetime]:
        """Every moment near `at` from which another price may count: all start dates, and the windows of the day."""
        constraints = [entry.constraint for entry in self._entries()]
        constraints += [variant.constraint for variant in self.info.price_variants or ()]
        for constraint in constraints:
            if constraint is None:
                continue
            start = _start(constraint)
            if start is not None:
                yield datetime.combine(start, time(), UTC)
            else:
                yield from _window_edges(constraint, at)

    def _entries(self) -> "list[ConditionalPrice]":
        from genai_prices.types import ConditionalPrice

        prices = self.info.prices
        return prices if isinstance(prices, list) else [ConditionalPrice(prices=prices)]

    def _in_force(self, at: datetime) -> "tuple[ModelPrice, Constraint, bool]":
        entries = self._entries()
        for entry in reversed(entries):
            if entry.constraint is None or entry.constraint.active(at):
                return entry.prices, entry.constraint, True
        return entries[0].prices, entries[0].constraint, False

    def _rates(self, price: "ModelPrice", *, unify_audio: bool = True) -> Rates:
        rates: dict[str, Rate] = {}
        keys = _keys(price)
        for key, (meter, power) in METER_OF_KEY.items():
            if key in keys:
                rates[meter] = _rate(keys[key], power)
        if self.provider in OPENAI_SELLERS and "input_tokens" in rates:
            # Models before GPT-5.6 charge nothing for writing to a cache. The one rate that later ones have for it is
            # for thirty minutes, which is also the default.
            written = rates.setdefault("cache_write_5m_tokens", rates["input_tokens"])
            rates["cache_write_30m_tokens"] = written
        # Google names a price for audio only where it is not the one for text.
        if unify_audio and self.info_provider_is("google") and "audio_input_tokens" not in rates:
            for audio, text in (("audio_input_tokens", "input_tokens"), ("cached_audio_tokens", "cache_read_tokens")):
                if text in rates:
                    rates[audio] = rates[text]
        return rates

    def info_provider_is(self, provider: str) -> bool:
        """True where the price is this provider's own."""
        return self.own and self.provider == provider


def _keys(price: "ModelPrice") -> dict[str, object]:
    return {key: value for key, value in vars(price).items() if value is not None and not key.startswith("_")}


def _rate(value: object, power: int) -> Rate:
    from genai_prices.types import TieredPrices

    if isinstance(value, TieredPrices):
        steps = tuple((tier.start, _per_unit(tier.price, power)) for tier in value.tiers)
        return Rate(usd=_per_unit(value.base, power), steps=steps)
    assert isinstance(value, Decimal)  # The catalogue has no other prices; a float would cost us the last digits.
    return Rate(usd=_per_unit(value, power))


def _per_unit(price: Decimal, power: int) -> Decimal:
    return EXACT.scaleb(price, -power)


def _start(constraint: "Constraint") -> date | None:
    start = getattr(constraint, "start_date", None)
    return start if isinstance(start, date) else None


def _when(constraint: "Constraint") -> str:
    """When an entry counts, as text: its date, its hours, or nothing for always."""
    start = _start(constraint)
    if start is not None or constraint is None:
        return start.isoformat() if start else ""
    hours = [getattr(constraint, name, None) for name in ("start_time", "end_time")]
    return "-".join(f"{hour:%H:%M}" for hour in hours if isinstance(hour, time))


def _window_edges(constraint: "Constraint", at: datetime) -> Iterator[datetime]:
    for edge in (getattr(constraint, "start_time", None), getattr(constraint, "end_time", None)):
        if not isinstance(edge, time):
            continue
        days_around = (-1, 0, 1) if date.min < at.date() < date.max else ()
        for days in days_around:
            moment = datetime.combine(at.date() + timedelta(days=days), edge)
            yield moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
