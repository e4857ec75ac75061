"""Which price is in force for a key: the user's card, else our overlay over the catalogue, else none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from langchain_finops.pricing.cards import Card, SelfHosted
from langchain_finops.pricing.catalog import Catalog, Listing
from langchain_finops.pricing.cost import PriceKey
from langchain_finops.pricing.engine import Rate, RateCard, Rates, compile_card
from langchain_finops.pricing.matching import day_in_name
from langchain_finops.pricing.overlay import Correction, Overlay
from langchain_finops.pricing.providers import is_known_endpoint

__all__ = ["FIRST_MOMENT", "LAST_MOMENT", "Quote", "Quoting", "Source"]

FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
NO_CATALOG = "not_on_a_card"
FEES = ("web_searches", "requests")
FEES_STAND = ("anthropic",)
"""Who charges the same for a search in a batch and at each speed (https://platform.claude.com/docs/en/agents-and-tools/
tool-use/web-search-tool); elsewhere that is so only of places."""
FIRST_API = datetime(2020, 6, 11, tzinfo=UTC)
"""When the first of all these APIs opened: a call of before has a wrong date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The price in force for a key, from `starts` to just before `ends`. At most one of the first three is given."""

    rates: RateCard | None = None
    self_hosted: SelfHosted | None = None
    free: bool = False
    card_id: str | None = None
    contract: Decimal | None = None
    """What part of the list cost the user's contract leaves to pay."""
    currency: str = "USD"
    """What the card states its price in; the price here is in dollars all the same."""
    fx_id: str | None = None
    """The table that converted it."""
    reasons: tuple[str, ...] = ()
    """Why there is no price, where there is none."""
    starts: datetime = FIRST_MOMENT
    ends: datetime = LAST_MOMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who says that a price is what it is."""

    card_id: str | None = None
    kind: str = "none"
    """`card`, `overlay`, `catalogue`, or `none` where there is no price."""
    pages: tuple[str, ...] = ()
    """Where it is written."""
    checked: datetime | None = None
    """When somebody looked; None where the source does not say."""


@dataclass(slots=True)
class Listed:
    """A list price being put together."""

    rates: dict[str, Rate]
    card_id: str
    reasons: list[str]
    uncertain: tuple[str, ...] = ()
    long_reasons: tuple[str, ...] = ()
    """Why the rates for long prompts are estimates."""


class Quoting:
    """Finds the price in force. Immutable; slow, so that `PriceBook` remembers what it says."""

    def __init__(self, cards: Sequence[Card], catalog: Catalog | None, overlay: Overlay | None) -> None:
        self._cards = tuple(card for card in cards if card.tool is None)
        self._catalog, self._overlay = catalog, overlay

    def quote(self, key: PriceKey) -> Quote:
        """The price in force. The first of the user's cards that fits decides; a contract looks further for a list."""
        contract = None
        edges: list[datetime] = []
        for card in self._cards:
            if not card.match.covers(key):
                continue
            edges += card.edges(key.at)
            if not card.validity.holds(key.at):
                continue
            if card.factor is None:
                return _from_card(card, key, contract, edges)
            contract = contract or card
        return self._from_list(key, contract, edges)

    def dates(self, key: PriceKey) -> list[datetime]:
        """The dates from which another price of the key's model may count, hours of the day apart."""
        # A date is an edge wherever one looks from; an hour of the day only nearby.
        found = [set(self._edges(key, datetime(year, 1, 1, tzinfo=UTC))) for year in (1, 5000)]
        return sorted(found[0] & found[1])

    def _edges(self, key: PriceKey, at: datetime) -> Iterator[datetime]:
        for card in self._cards:
            if card.match.covers(key):
                yield from card.edges(at)
        if key.model is not None and self._catalog is not None and self._overlay is not None:
            yield from self._overlay.edges(key.provider, key.model, at)
            listing = self._catalog.listing(key.provider, key.model)
            if listing is not None:
                yield from listing.boundaries(at)

    def seller(self, model: str) -> str | None:
        """The provider that a model's name tells of; None where it tells of none."""
        listing = None if self._catalog is None else self._catalog.listing(None, model)
        return None if listing is None else listing.provider

    def similar(self, provider: str | None, model: str) -> list[str]:
        """Names that the provider's list has, or without one its likely seller's, most alike first."""
        seller = provider or self.seller(model)
        return [] if self._catalog is None or seller is None else self._catalog.similar(seller, model)

    def source(self, quote: Quote) -> Source:
        """Who says so. A price put together from several names all their pages, and the oldest look."""
        names = (quote.card_id or "").split(" + ")
        cards = [card for card in self._cards if card.id in names]
        if quote.rates is None and quote.self_hosted is None and not quote.free:
            return Source(card_id=quote.card_id)
        pages = [card.source for card in cards if card.source is not None]
        if any(card.factor is None for card in cards):
            return Source(card_id=quote.card_id, kind="card", pages=tuple(pages))
        assert self._overlay is not None  # What is not on a card is in the overlay or the catalogue.
        assert self._catalog is not None
        entries = self._overlay.named(names)
        kind = "overlay" if entries else "catalogue"
        pages += [entry.source for entry in entries]
        looks = [entry.checked for entry in entries if entry.checked is not None]
        for name in names:
            if name.startswith(f"{self._catalog.name}:"):
                pages += self._catalog.sources(name.removeprefix(f"{self._catalog.name}:").partition("/")[0])
        return Source(card_id=quote.card_id, kind=kind, pages=tuple(pages), checked=min(looks, default=None))

    def _from_list(self, key: PriceKey, contract: Card | None, edges: list[datetime]) -> Quote:
        model = key.model
        if model is None or self._catalog is None or self._overlay is None:
            reason = "no_model_named" if model is None else NO_CATALOG
            return _quote(Quote(reasons=(reason,)), key.at, contract, edges)
        listing = self._catalog.listing(key.provider, model)
        correction = self._overlay.find(key.provider, model, key.at)
        edges += self._overlay.edges(key.provider, model, key.at)
        if listing is not None:
            edges += listing.boundaries(key.at)
        if correction is not None and correction.free:
            return _quote(Quote(free=True, card_id=f"overlay:{correction.id}"), key.at, contract, edges)
        listed = _standard(listing, correction, key)
        if listed is None or not listed.rates:
            return _quote(Quote(reasons=(self._why_unpriced(key, listing),)), key.at, contract, edges)
        self._apply_conditions(listed, listing, key, model)
        released = day_in_name(model) or FIRST_API
        edges.append(released)
        if key.at < released and "before_release" not in listed.reasons:
            listed.reasons.append("before_release")
        if not is_known_endpoint(key.provider, key.base_url_host):
            listed.reasons.append("unknown_endpoint")
        card = compile_card(
            listed.card_id,
            listed.rates,
            listed.reasons,
            uncertain=listed.uncertain,
            long_reasons=listed.long_reasons,
        )
        return _quote(Quote(rates=card, card_id=listed.card_id), key.at, contract, edges)

    def _why_unpriced(self, key: PriceKey, listing: Listing | None) -> str:
        if listing is not None:
            return "listed_without_price"
        assert self._catalog is not None  # Only a book with a catalogue asks.
        known = key.provider is not None and self._catalog.knows(key.provider)
        return "unknown_model" if known else "unknown_provider"

    def _apply_conditions(self, listed: Listed, listing: Listing | None, key: PriceKey, model: str) -> None:
        assert self._overlay is not None  # As in _why_unpriced.
        standard = dict(listed.rates)
        for when in _conditions(key):
            correction, changed, card_id = None, None, when[1]
            for correction in self._overlay.all_in_force(key.provider, model, key.at, when):
                changed = _corrected(listed.rates, standard, correction, listing)
                card_id = f"overlay:{correction.id}"
                if changed is not None:
                    listed.uncertain += correction.uncertain
                    break
            if correction is None and listing is not None and when[0] != "geography":
                changed = listing.variant(key.at, *when)
            if changed is None:
                listed.reasons.append(f"no_rate:{when[0]}={when[1]}")
            else:
                if changed:
                    # Meters that a condition does not name keep their standard rate, which nobody says is right.
                    # Fees stand where what it multiplies are tokens.
                    fees = FEES if when[0] == "geography" or key.provider in FEES_STAND else ()
                    unnamed = (meter for meter in standard if meter not in changed and meter not in fees)
                    listed.uncertain += tuple(unnamed)
                if correction is not None and correction.doubt is not None:
                    listed.reasons.append(correction.doubt)
                listed.rates.update(changed)
                listed.card_id += f" + {card_id}"


def _standard(listing: Listing | None, correction: Correction | None, key: PriceKey) -> Listed | None:
    if listing is None and correction is None:
        return None
    listed = Listed(rates={}, card_id="", reasons=[])
    if listing is not None:
        rates, listed.card_id, doubts = listing.standard(key.at)
        listed.rates.update(rates)
        listed.reasons += doubts
        if key.provider is None:
            listed.reasons.append("provider_guessed")
    if correction is not None:
        listed.uncertain = correction.uncertain
        listed.long_reasons = () if correction.steps_doubt is None else (correction.steps_doubt,)
    if correction is not None and correction.rates is not None:
        listed.rates.update(correction.rates)
        listed.card_id = f"overlay:{correction.id}"
        # The catalogue's doubts about its own dates and fees do not concern a price that is not its own.
        settled = {"before_first_price", *(["request_fee_assumed"] if "requests" in correction.rates else [])}
        listed.reasons = [reason for reason in listed.reasons if reason not in settled]
    if correction is not None and correction.doubt is not None:
        listed.reasons.append(correction.doubt)
    return listed


def _corrected(rates: Rates, standard: Rates, correction: Correction, listing: Listing | None) -> Rates | None:
    """The rates that a correction changes, as it says; None where it leads nowhere."""
    if correction.rates is not None:
        return correction.rates
    if correction.factor is not None:
        return {meter: rates[meter].times(factor) for meter, factor in correction.factor.items() if meter in rates}
    if correction.as_of is None or correction.when is None or listing is None:
        return None
    then = correction.as_of
    variant = listing.variant(then, *correction.when)
    if variant is None:
        return None
    standard_then = listing.standard(then)[0]
    unchanged = all(standard_then.get(meter) == standard.get(meter) for meter in variant)
    return variant if unchanged else None


def _conditions(key: PriceKey) -> Iterator[tuple[str, str]]:
    if key.batch:
        yield "processing", "batch"
    if key.tier is not None:
        yield "service_tier", key.tier
    if key.speed is not None:
        yield "speed", key.speed
    if key.geography is not None:
        yield "geography", key.geography


def _from_card(card: Card, key: PriceKey, contract: Card | None, edges: list[datetime]) -> Quote:
    fx = card.usd_per_unit(key.at)
    if fx is None:
        unknown = Quote(card_id=card.id, reasons=(f"no_fx_rate:{card.currency}",))
        return _quote(unknown, key.at, contract, edges)
    rates = None
    if card.rates is not None:
        # A card has one price; what a tier, a batch or a speed does to it, it does not say.
        doubts = [f"no_rate:{name}={value}" for name, value in _conditions(key) if name != "geography"]
        rates = compile_card(card.id, {meter: rate.times(fx) for meter, rate in card.rates.items()}, doubts)
    quote = Quote(
        rates=rates,
        self_hosted=None if card.self_hosted is None else card.self_hosted.times(fx),
        free=card.free,
        card_id=card.id,
        currency=card.currency,
        fx_id=None if card.fx is None else card.fx.id,
    )
    return _quote(quote, key.at, contract, edges)


def _quote(quote: Quote, at: datetime, contract: Card | None, edges: list[datetime]) -> Quote:
    """The quote with the contract on it, and cut at the next moments from which another one may count."""
    card_id = quote.card_id
    if contract is not None and card_id is not None:
        card_id = f"{card_id} + {contract.id}"
    return Quote(
        rates=quote.rates,
        self_hosted=quote.self_hosted,
        free=quote.free,
        card_id=card_id,
        contract=None if contract is None else contract.factor,
        currency=quote.currency,
        fx_id=quote.fx_id,
        reasons=quote.reasons,
        starts=max((edge for edge in edges if edge <= at), default=FIRST_MOMENT),
        ends=min((edge for edge in edges if edge > at), default=LAST_MOMENT),
    )
