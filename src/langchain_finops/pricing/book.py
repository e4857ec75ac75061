"""The price book: what a call costs, how we know, and by which card. Immutable, and shared by threads."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_finops.errors import BadArguments, BadData, Fault
from langchain_finops.money import EXACT, from_pico, to_pico
from langchain_finops.pricing.cards import Card, SelfHosted, read_card_file
from langchain_finops.pricing.catalog import current_catalog
from langchain_finops.pricing.cost import Cost, MeterCost, PriceKey, Reading
from langchain_finops.pricing.drafts import CostDraft, sealed
from langchain_finops.pricing.engine import Breakdown, amount_pico, gaps_used, has_rare, round_half_even
from langchain_finops.pricing.matching import fits
from langchain_finops.pricing.normalize import NO_USAGE, read_answer
from langchain_finops.pricing.overlay import shipped_overlay
from langchain_finops.pricing.providers import Identity, identify
from langchain_finops.pricing.quotes import Quote, Quoting
from langchain_finops.pricing.server_tools import NOTHING_SHOWN, Shown, shown_in
from langchain_finops.records import EMPTY, BillingMode, CostStatus

if TYPE_CHECKING:
    from langchain_finops.pricing.history import Period

__all__ = ["PriceBook"]

REMEMBERED = 4096
"""Keys that a book remembers the price of. A process sees tens; names that vary by call must not fill the memory."""
ZERO = from_pico(0)


class PriceBook:
    """Prices a model call, or says why it cannot. Immutable; one may serve many threads.

    Order of precedence: what the provider says it billed, the first of the user's cards that fits, our overlay, the
    catalogue. No price is `unpriced`, never 0. The first book that uses the catalogue takes 0.3 s to load it.
    """

    def __init__(self, *, cards: Sequence[Card] = (), aliases: Mapping[str, str] = EMPTY, catalog: bool = True) -> None:
        """A book of the user's cards, above the shipped catalogue and overlay unless `catalog` is False."""
        self._cards = tuple(cards)
        self._aliases = dict(aliases)
        self._has_catalog = catalog
        overlay, overlay_text = shipped_overlay() if catalog else (None, "")
        listed = current_catalog() if catalog else None
        self._quoting = Quoting(self._cards, listed, overlay)
        self._tag_names = tuple(sorted({name for card in self._cards for name in card.match.tags}))
        self._quotes: dict[tuple[object, ...], Quote] = {}
        self._identities: dict[tuple[object, ...], Identity] = {}
        parts = (listed.name if listed else "", overlay_text, self._cards, sorted(self._aliases.items()))
        self._hash = sha256(repr(parts).encode()).hexdigest()[:16]

    @classmethod
    def default(cls) -> "PriceBook":
        """The shipped book, with the YAML file of $FINOPS_PRICES above it; several are separated as in $PATH."""
        paths = [path for path in os.environ.get("FINOPS_PRICES", "").split(os.pathsep) if path]
        return cls.load(*paths)

    @classmethod
    def load(cls, *paths: str | Path) -> "PriceBook":
        """The user's YAML cards above the shipped book; earlier files first. Raises BadData that names every fault."""
        faults: list[Fault] = []
        cards: list[Card] = []
        aliases: dict[str, str] = {}
        for path in paths:
            more, names = read_card_file(Path(path), faults)
            cards += more
            aliases = names | aliases
        if faults:
            raise BadData(faults)
        return cls(cards=cards, aliases=aliases)

    def with_cards(self, cards: Sequence[Card]) -> "PriceBook":
        """This book with more cards above its own."""
        return PriceBook(cards=(*cards, *self._cards), aliases=self._aliases, catalog=self._has_catalog)

    def card(self, card_id: str) -> Card | None:
        """The user's card of that id; None where the book has none."""
        return next((card for card in self._cards if card.id == card_id), None)

    def without_machines(self) -> "PriceBook":
        """This book without cards of machines of one's own, which may be of models that others sell, too."""
        cards = [card for card in self._cards if card.self_hosted is None]
        return PriceBook(cards=cards, aliases=self._aliases, catalog=self._has_catalog)

    @property
    def hash(self) -> str:
        """The same for books that give the same prices: of the catalogue's version, the overlay, cards and aliases."""
        return self._hash

    def price_message(
        self,
        message: object,
        *,
        metadata: Mapping[str, object] | None = None,
        at: datetime | None = None,
        context: Mapping[str, object] | None = None,
    ) -> Cost:
        """Price an AIMessage, from its `usage_metadata` and `response_metadata`, and the tools its content shows.

        `metadata` is the callback's, `at` when the call began (aware; default now), `context` what only the caller
        knows: `processing`, `service_tier`, `speed`, `region`, `server_tools`, `cache_ttl`, `search_context_size`,
        `seconds`. What it states replaces what the message says. Raises BadArguments for an `at` that is no
        aware datetime, nothing for what a provider wrote.
        """
        moment = datetime.now(UTC) if at is None else _aware(at)
        said = getattr(message, "response_metadata", None)
        reading = self.read(
            getattr(message, "usage_metadata", None),
            said if isinstance(said, Mapping) else {},
            metadata if isinstance(metadata, Mapping) else {},
            at=moment,
            context=context,
            shown=shown_in(message),
        )
        seconds = context.get("seconds") if isinstance(context, Mapping) else None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float | Decimal):
            seconds = None
        return self.price(reading, seconds=seconds)

    def read(
        self,
        usage_metadata: Mapping[str, object] | None,
        response_metadata: Mapping[str, object],
        metadata: Mapping[str, object],
        *,
        at: datetime,
        context: Mapping[str, object] | None = None,
        base_url_host: str | None = None,
        tags: Mapping[str, str] = EMPTY,
        shown: Shown = NOTHING_SHOWN,
    ) -> Reading:
        """Disjoint meters and a price key of one answer. Never raises on a provider's data: it clamps and flags.

        `metadata` is the callback's (`ls_provider`, `ls_model_name`); `at` is aware; `shown` what `shown_in` says of
        the answer's content. A completion model's `token_usage` may stand for `usage_metadata`, its `llm_output` for
        `response_metadata`.
        """
        names = (
            metadata.get("ls_provider"),
            response_metadata.get("model_provider"),
            metadata.get("ls_model_name"),
            response_metadata.get("model_name") or response_metadata.get("model") or response_metadata.get("model_id"),
            base_url_host,
        )
        try:
            identity = self._identities.get(names)
        except TypeError:  # A provider's data again: a list where a name should be.
            identity = None
        if identity is None:
            identity = self._identify(names)
        return read_answer(
            usage_metadata,
            response_metadata,
            identity,
            at=at,
            context=context,
            base_url_host=base_url_host,
            tags=tags,
            shown=shown,
        )

    def price(self, reading: Reading, *, seconds: float | Decimal | None = None) -> Cost:
        """What the call costs. `seconds` is its wall time, which self-hosted cards charge for."""
        quote = self._quote(reading.key)
        card, usage = quote.rates, reading.usage
        if card is None or usage is None or reading.reported_usd is not None:
            return _price_otherwise(reading, quote, seconds)
        steps = card.steps
        step = steps[0] if len(steps) == 1 else card.step(usage)
        units = step.units
        scale = card.scale
        rare = has_rare(usage)
        total = amount_pico(usage, units, rare)
        pico = total if scale == 1 else round_half_even(total, scale)
        reasons = reading.reasons + card.reasons if card.reasons else reading.reasons
        status: CostStatus = "estimated" if reading.estimated or card.reasons else "exact"
        if step.reasons:
            status, reasons = "estimated", reasons + step.reasons
        gaps = gaps_used(usage, card, rare)
        if gaps:
            reasons += tuple(f"no_rate:{meter}" for meter in gaps)
            status = "estimated"
            if not card.unpriced_meters.isdisjoint(gaps):
                return _unpriced(reading, quote, reasons)
        if not pico:
            status, reasons = _zero(status, reasons, nothing_used=not usage.total_tokens, rounded=bool(total))
        return _cost(
            reading,
            quote,
            from_pico(pico),
            status=status,
            reasons=reasons,
            by_meter=Breakdown(usage, units, scale),
        )

    def history(self, model: str, *, provider: str | None = None, at: datetime | None = None) -> "list[Period]":
        """Every price of a model, newest first, with its source; in force are those that count `at` (default now).

        Without a provider the model's name has to tell, as `gpt-` and `claude` do.
        """
        from langchain_finops.pricing.history import history

        identity = self._identify((provider, None, model, None, None))
        known = identity.provider or self._quoting.seller(identity.model or model)
        moment = (at or datetime.now(UTC)).astimezone(UTC)
        key = PriceKey(provider=known, model=identity.model, requested_model=identity.requested_model, at=moment)
        return history(self._quoting, key)

    def similar(self, model: str, *, provider: str | None = None) -> list[str]:
        """Up to three names in the catalogue that a model's name may have been meant for."""
        identity = self._identify((provider, None, model, None, None))
        return self._quoting.similar(identity.provider, identity.model or model)

    def tool_price(self, name: str, *, at: datetime) -> tuple[Decimal, str] | None:
        """Dollars for one call of a tool, and the card that says so; None where no tool card fits."""
        moment = at.astimezone(UTC)
        for card in self._cards:
            if card.tool is None or card.price_per_call is None or not fits(card.tool, name):
                continue
            if card.validity.holds(moment):
                return _tool_price(card, card.price_per_call, moment)
        return None

    def _identify(self, names: tuple[object, ...]) -> Identity:
        asked_provider, answering_provider, asked_model, answering_model, host = (
            name if isinstance(name, str) and name else None for name in names
        )
        identity = identify(
            asked_provider=asked_provider,
            answering_provider=answering_provider,
            asked_model=asked_model,
            answering_model=answering_model,
            host=host,
            aliases=self._aliases,
        )
        if all(name is None or isinstance(name, str) for name in names):
            if len(self._identities) >= REMEMBERED:
                self._identities.clear()
            self._identities[names] = identity
        return identity

    def _quote(self, key: PriceKey) -> Quote:
        """The price in force, remembered until the next moment at which it may change. Misses are remembered, too."""
        tags = tuple(map(key.tags.get, self._tag_names)) if self._tag_names else None
        memo = (
            key.provider,
            key.model,
            key.requested_model,
            key.tier,
            key.batch,
            key.speed,
            key.geography,
            key.base_url_host,
            tags,
        )
        quote = self._quotes.get(memo)
        if quote is None or not quote.starts <= key.at < quote.ends:
            if len(self._quotes) >= REMEMBERED:
                self._quotes.clear()
            quote = self._quotes[memo] = self._quoting.quote(key)
        return quote


def _aware(at: object) -> datetime:
    """The moment in UTC; raises BadArguments that names the remedy."""
    if not isinstance(at, datetime):
        raise BadArguments(f"at={at!r} is a {type(at).__name__}: give a datetime, such as datetime.now(UTC)")
    try:
        if at.utcoffset() is None:
            raise BadArguments(f"at={at.isoformat()} has no time zone: add one, such as datetime.now(UTC)")
        return at.astimezone(UTC)
    except OverflowError:
        raise BadArguments(f"at={at.isoformat()} is out of the calendar in UTC: give a day that is in it") from None


def _tool_price(card: Card, price: Decimal, at: datetime) -> tuple[Decimal, str] | None:
    """Dollars for a call, and the card with the table that converted them, because a charge has no field for it."""
    rate = card.usd_per_unit(at)
    if rate is None:
        return None
    return EXACT.multiply(price, rate), card.id if card.fx is None else f"{card.id} + {card.fx.id}"


def _cost(
    reading: Reading,
    quote: Quote,
    usd: Decimal,
    *,
    status: CostStatus,
    reasons: tuple[str, ...],
    by_meter: Mapping[str, MeterCost],
    mode: BillingMode = "payg",
) -> Cost:
    contract = quote.contract
    cost = CostDraft()
    cost.usd = usd
    contracted = usd if contract is None else from_pico(to_pico(EXACT.multiply(usd, contract)))
    cost.contracted_usd = contracted
    if reading.cache_hit:
        cost.billed_usd, cost.billing_mode = ZERO, "cache"
    else:
        cost.billed_usd, cost.billing_mode = contracted, mode
    cost.status, cost.reasons, cost.card_id, cost.by_meter = status, reasons, quote.card_id, by_meter
    cost.currency, cost.fx_id = quote.currency, quote.fx_id
    return sealed(cost, Cost)


def _unpriced(reading: Reading, quote: Quote, reasons: tuple[str, ...]) -> Cost:
    """No price is known; a cache hit is known to cost nothing all the same."""
    return Cost(
        usd=None,
        contracted_usd=None,
        billed_usd=ZERO if reading.cache_hit else None,
        billing_mode="cache" if reading.cache_hit else "payg",
        status="unpriced",
        reasons=reasons,
        card_id=quote.card_id,
    )


def _price_otherwise(reading: Reading, quote: Quote, seconds: float | Decimal | None) -> Cost:
    """Price what is not tokens times rates: reported, free, by the hour, or unknown."""
    if reading.reported_usd is not None:
        return _reported(reading, reading.reported_usd)
    if quote.free:
        return _cost(reading, quote, ZERO, status="free", reasons=reading.reasons, by_meter={})
    if quote.self_hosted is not None:
        return _self_hosted(reading, quote, quote.self_hosted, seconds)
    reasons = reading.reasons + quote.reasons
    if reading.usage is None and NO_USAGE not in reasons:
        reasons += (NO_USAGE,)
    return _unpriced(reading, quote, reasons)


def _reported(reading: Reading, reported: Decimal) -> Cost:
    usd = from_pico(to_pico(reported))
    status: CostStatus = "reported" if usd else "free"
    by_meter = {"requests": MeterCost(quantity=Decimal(1), unit_price_usd=usd, amount_usd=usd)} if usd else {}
    # What was billed has every discount in it: a contract's factor would take it off twice.
    return _cost(reading, Quote(card_id="reported"), usd, status=status, reasons=reading.reasons, by_meter=by_meter)


def _self_hosted(reading: Reading, quote: Quote, machine: SelfHosted, seconds: float | Decimal | None) -> Cost:
    elapsed = Decimal(repr(seconds)) if isinstance(seconds, int | float) else seconds
    if elapsed is None or not elapsed.is_finite() or elapsed < 0:
        return _unpriced(reading, quote, (*reading.reasons, "no_wall_time"))
    usd = from_pico(to_pico(machine.price(elapsed)))
    by_meter = {"seconds": MeterCost(quantity=elapsed, unit_price_usd=machine.price_per_second, amount_usd=usd)}
    status: CostStatus = "estimated" if reading.estimated else "exact"
    return _cost(reading, quote, usd, status=status, reasons=reading.reasons, by_meter=by_meter, mode="self_hosted")


def _zero(
    status: CostStatus, reasons: tuple[str, ...], *, nothing_used: bool, rounded: bool
) -> tuple[CostStatus, tuple[str, ...]]:
    """Why a cost is 0, which must not pass without a word."""
    if rounded:
        return "estimated", (*reasons, "below_one_picodollar")
    return ("estimated" if status == "estimated" else "free"), (
        *reasons,
        "nothing_used" if nothing_used else "zero_rate",
    )
