"""The user's price cards: what they may say, and every fault of a card file at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from langchain_finops.errors import BadData, Fault
from langchain_finops.money import EXACT
from langchain_finops.pricing.engine import Rate, Rates
from langchain_finops.pricing.fields import Fields, kind_of, read_validity, read_yaml
from langchain_finops.pricing.fx import FxTable, is_currency, read_fx
from langchain_finops.pricing.matching import ALWAYS, EVERY_CALL, Match, Validity
from langchain_finops.pricing.providers import canonical_provider
from langchain_finops.usage import METERS, TOKEN_METERS

__all__ = ["Card", "Fields", "SelfHosted", "parse_cards", "read_card_file", "read_rates", "read_validity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfHosted:
    """A machine of one's own: a call costs its share of the wall time it took."""

    price_per_instance_hour: Decimal
    """In the card's currency."""
    instances: Decimal = Decimal(1)
    concurrency: Decimal = Decimal(1)
    """Calls that share the machines at once."""

    @property
    def price_per_second(self) -> Decimal:
        """What one call pays for each second, to 60 digits."""
        return self.price(Decimal(1))

    def price(self, seconds: Decimal) -> Decimal:
        """What a call of that length costs, to 60 digits. Divides last, so that whole amounts stay whole."""
        machines = EXACT.multiply(self.price_per_instance_hour, self.instances)
        return EXACT.divide(EXACT.multiply(machines, seconds), EXACT.multiply(self.concurrency, Decimal(3600)))

    def times(self, factor: Decimal) -> "SelfHosted":
        """The same machine at a multiple of its price."""
        return replace(self, price_per_instance_hour=EXACT.multiply(self.price_per_instance_hour, factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One price that the user states. Exactly one of `rates`, `factor`, `self_hosted`, `free` and `tool` is given."""

    id: str
    match: Match = EVERY_CALL
    validity: Validity = ALWAYS
    rates: Rates | None = None
    factor: Decimal | None = None
    """Contracted cost as a part of the list cost; the list stays."""
    self_hosted: SelfHosted | None = None
    free: bool = False
    tool: str | None = None
    """Glob of the names of tools that cost `price_per_call`."""
    price_per_call: Decimal | None = None
    """In the card's currency."""
    currency: str = "USD"
    """What the card's amounts are in."""
    fx: FxTable | None = None
    """What converts them to dollars, where they are in something else."""
    source: str | None = None

    def usd_per_unit(self, at: datetime) -> Decimal | None:
        """Dollars for one unit of the card's currency at a moment; None where its table does not say."""
        if self.currency == "USD":
            return Decimal(1)
        return None if self.fx is None else self.fx.usd_per_unit(self.currency, at)

    def edges(self, at: datetime) -> Iterator[datetime]:
        """The moments near `at` from which the card may give another price."""
        yield from self.validity.edges(at)
        if self.fx is not None:
            yield from self.fx.edges(self.currency)


KINDS = ("rates", "factor", "self_hosted", "free", "tool")
CARD_FIELDS = (
    *("id", "match", *KINDS, "steps", "usd_per_call", "price_per_call"),
    *("currency", "from", "until", "source"),
)
CURRENCY_KINDS = ("rates", "self_hosted", "tool")
"""The kinds of cards that have amounts."""
STEP_FIELDS = ("above", "rates")
MATCH_FIELDS = ("provider", "model", "base_url_host", "tags")
SELF_HOSTED_FIELDS = ("usd_per_instance_hour", "price_per_instance_hour", "instances", "concurrency")


def parse_cards(data: object, *, where: str) -> tuple[Card, ...]:
    """Cards from a list as YAML gives it. Raises BadData that names every fault in it, with `where` before each."""
    faults: list[Fault] = []
    cards = _cards(data, where, faults, None)
    if faults:
        raise BadData(faults)
    return cards


def read_card_file(path: Path, faults: list[Fault]) -> tuple[tuple[Card, ...], dict[str, str]]:
    """Cards and aliases of a YAML file. What is wrong with it is added to `faults`."""
    where = str(path)
    fields = Fields(read_yaml(path, faults), where, faults, ("cards", "aliases", "fx"))
    fx = read_fx(fields, faults)
    cards = _cards(fields.get("cards") or [], f"{where}: cards", faults, fx)
    aliases = fields.mapping("aliases")
    for name, model in aliases.items():
        if not isinstance(name, str) or not isinstance(model, str) or not model:
            fields.fault(f"aliases.{name}", "an alias is a name and a model, both text")
    return cards, {str(name): str(model) for name, model in aliases.items()}


def _cards(data: object, where: str, faults: list[Fault], fx: FxTable | None) -> tuple[Card, ...]:
    if not isinstance(data, list):
        faults.append(Fault(where=where, what=f"is {kind_of(data)}; it has to be a list of cards"))
        return ()
    cards = [_card(item, f"{where}[{index}]", faults, fx) for index, item in enumerate(data)]
    seen: set[str] = set()
    for index, card in enumerate(cards):
        if card.id in seen:
            faults.append(Fault(where=f"{where}[{index}].id", what=f"{card.id!r} is the id of an earlier card, too"))
        seen.add(card.id)
    return tuple(cards)


def _card(data: object, where: str, faults: list[Fault], fx: FxTable | None) -> Card:
    fields = Fields(data, where, faults, CARD_FIELDS)
    kind = _kind(data, fields)
    card_id = fields.text("id")
    if card_id is None and isinstance(data, Mapping) and fields.get("id") is None:
        fields.fault("id", "is missing; reports name a card by it")
    currency = _currency(fields, kind, fx)
    return Card(
        id=card_id or where,
        match=_match(fields, faults),
        validity=read_validity(fields),
        rates=read_stepped_rates(fields, faults) if fields.get("rates") is not None else None,
        factor=fields.amount("factor"),
        self_hosted=_self_hosted(fields, faults, currency) if fields.get("self_hosted") is not None else None,
        free=fields.flag("free"),
        tool=fields.text("tool"),
        price_per_call=_price(fields, "call", currency, needed=kind == "tool"),
        currency=currency,
        fx=None if currency == "USD" else fx,
        source=fields.text("source"),
    )


def _kind(data: object, fields: Fields) -> str | None:
    """Which kind of card it is; notes what does not belong to that kind."""
    kinds = [kind for kind in KINDS if fields.get(kind) is not None]
    if isinstance(data, Mapping) and len(kinds) != 1:
        found = ", ".join(kinds) or "none"
        fields.fault("rates", f"a card has exactly one of {', '.join(KINDS)}; this one has {found}")
    if fields.get("free") is False:
        fields.fault("free", "is false; leave it out, and give a price")
    if "steps" in fields and "rates" not in fields:
        fields.fault("steps", "is for a card with `rates`")
    if "tool" in fields and fields.get("match") is not None:
        fields.fault("match", "is for cards of models; a tool is matched by the pattern in `tool`")
    if "tool" not in fields:
        for name in ("usd_per_call", "price_per_call"):
            if name in fields:
                fields.fault(name, "is for a card with `tool`")
    return kinds[0] if len(kinds) == 1 else None


def _currency(fields: Fields, kind: str | None, fx: FxTable | None) -> str:
    """What the amounts are in, and whether they can be converted."""
    currency = fields.text("currency") or "USD"
    if not is_currency(currency):
        fields.fault("currency", f"is {currency!r}; write its three letters, such as EUR")
        return "USD"
    if currency == "USD":
        return currency
    if kind is not None and kind not in CURRENCY_KINDS:
        fields.fault("currency", f"is of no use with `{kind}`, which has no amount; leave it out")
    elif fx is None:
        fields.fault("currency", f"is {currency}, and the file has no table `fx` that says what one is worth")
    elif currency not in fx.rates:
        fields.fault("currency", f"is {currency}, and the table `fx` has only {', '.join(fx.rates) or 'nothing'}")
    return currency


def _price(fields: Fields, unit: str, currency: str, *, needed: bool) -> Decimal | None:
    """A price a unit, under the name that says what it is in: dollars, or the currency of the card."""
    dollars, other = f"usd_per_{unit}", f"price_per_{unit}"
    right, wrong = (dollars, other) if currency == "USD" else (other, dollars)
    if wrong in fields:
        why = "the card has no `currency`" if currency == "USD" else f"the card's currency is {currency}"
        fields.fault(wrong, f"is not known here, because {why}: write {right}")
    elif needed and fields.get(right) is None:
        fields.fault(right, "is missing")
    return fields.amount(right)


def _match(card: Fields, faults: list[Fault]) -> Match:
    if card.get("match") is None:
        return EVERY_CALL
    fields = Fields(card.get("match"), card.path("match"), faults, MATCH_FIELDS)
    provider = fields.text("provider")
    tags = fields.mapping("tags")
    for name, value in tags.items():
        if not isinstance(value, str):
            fields.fault(f"tags.{name}", "has to be text")
    host = fields.text("base_url_host")
    if host is not None and "/" in host:
        fields.fault("base_url_host", f"is {host!r}; write the host alone, such as llm.example.com or localhost:*")
    return Match(
        provider=None if provider is None else canonical_provider(provider),
        model=fields.texts("model"),
        base_url_host=host,
        tags={str(name): str(value) for name, value in tags.items()},
    )


def read_rates(card: Fields, name: str, faults: list[Fault]) -> Rates:
    """Rates by meter: dollars a million for tokens, dollars each for searches and requests."""
    fields = Fields(card.get(name), card.path(name), faults, METERS)
    rates: dict[str, Rate] = {}
    for meter in METERS:
        price = fields.amount(meter)
        if price is not None:
            rates[meter] = Rate(usd=EXACT.scaleb(price, -6) if meter in TOKEN_METERS else price)
    if card.get(name) == {}:
        card.fault(name, "has no rate; for a call that costs nothing say `free: true`")
    return rates


def read_stepped_rates(card: Fields, faults: list[Fault]) -> Rates:
    """The rates with those of long prompts above them. A meter that a step does not name keeps its rate."""
    rates = dict(read_rates(card, "rates", faults))
    steps = card.get("steps")
    if steps is None:
        return rates
    if not isinstance(steps, list) or not steps:
        card.fault("steps", f"is {kind_of(steps)}; it has to be a list such as [{{above: 200000, rates: {{...}}}}]")
        return rates
    last = 0
    for index, item in enumerate(steps):
        step = Fields(item, f"{card.path('steps')}[{index}]", faults, STEP_FIELDS)
        above = step.get("above")
        if not isinstance(above, int) or isinstance(above, bool) or above <= last:
            step.fault("above", f"is {above!r}; it has to be a number of input tokens, more than {last}")
            continue
        last = above
        for meter, rate in read_rates(step, "rates", faults).items():
            # Without a rate of its own, short prompts would get the meter for nothing.
            if meter not in rates:
                step.fault(f"rates.{meter}", "has no rate in the card's `rates`; give it one there, too")
                continue
            base = rates[meter]
            rates[meter] = Rate(usd=base.usd, steps=(*base.steps, (above, rate.usd)))
    return rates


def _self_hosted(card: Fields, faults: list[Fault], currency: str) -> SelfHosted:
    fields = Fields(card.get("self_hosted"), card.path("self_hosted"), faults, SELF_HOSTED_FIELDS)
    return SelfHosted(
        price_per_instance_hour=_price(fields, "instance_hour", currency, needed=True) or Decimal(0),
        instances=fields.amount("instances", positive=True) or Decimal(1),
        concurrency=fields.amount("concurrency", positive=True) or Decimal(1),
    )
