"""What differs between two card files, or between two catalogues: each price that came, went or changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from langchain_finops.errors import BadData, Fault, PriceError
from langchain_finops.money import EXACT
from langchain_finops.pricing.cards import Card, read_card_file
from langchain_finops.pricing.catalog import Catalog, catalog_version, checked_catalog, shipped_catalog
from langchain_finops.pricing.engine import Rates
from langchain_finops.pricing.snapshots import read_snapshot
from langchain_finops.usage import TOKEN_METERS

__all__ = ["SHIPPED", "Change", "Place", "catalog_prices", "changes", "read_prices"]

SHIPPED = "shipped"
"""Instead of a file: the catalogue of the installed genai-prices."""


class Place(NamedTuple):
    """Where a price stands."""

    name: str
    """A card's id, or a catalogue's provider/model."""
    condition: str
    """`standard`, `batch`, ...; nothing for cards."""
    since: str
    """From when, or at which hours; nothing for always."""
    what: str
    """A meter, with the size of prompts it is for; or a field of a card."""


Prices = Mapping[Place, Decimal | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One price or field that is not the same."""

    place: Place
    kind: Literal["added", "removed", "changed"]
    old: Decimal | str | None
    new: Decimal | str | None

    @property
    def ratio(self) -> Decimal | None:
        """New over old, less one; None where one of them is no amount, or the old one is 0."""
        if not isinstance(self.old, Decimal) or not isinstance(self.new, Decimal) or not self.old:
            return None
        return EXACT.subtract(EXACT.divide(self.new, self.old), Decimal(1))


def read_prices(name: str) -> Prices:
    """The prices of a card file (YAML), of a catalogue (JSON), or of the `shipped` one.

    Raises BadData that names every fault of a card file, PriceError for a catalogue that cannot be read.
    """
    if name == SHIPPED:
        return catalog_prices(shipped_catalog())
    path = Path(name)
    if not path.exists():
        raise PriceError(f"{path}: there is no such file; name a card file, a catalogue, or `{SHIPPED}`")
    if path.suffix == ".json":
        return catalog_prices(checked_catalog(read_snapshot(path.read_bytes(), str(path)), catalog_version()))
    faults: list[Fault] = []
    cards, aliases = read_card_file(path, faults)
    if faults:
        raise BadData(faults)
    prices: dict[Place, Decimal | str] = {}
    for card in cards:
        prices.update({Place(card.id, "", "", what): value for what, value in _card(card)})
        if card.fx is not None:
            rates = card.fx.rates.items()
            prices.update(
                (Place(f"fx {card.fx.id}", currency, f"{since:%Y-%m-%d}", "dollars"), usd)
                for currency, dated in rates
                for since, usd in dated
            )
    prices.update({Place("aliases", "", "", name): model for name, model in aliases.items()})
    return prices


def catalog_prices(catalog: Catalog) -> Prices:
    """All prices of a catalogue, by where they stand."""
    prices: dict[Place, Decimal | str] = {}
    for listing in catalog.listings():
        name = f"{listing.provider}/{listing.info.id}"
        for condition, since, rates in listing.every():
            for what, price in _amounts(rates):
                # The first variant that names a price decides it.
                prices.setdefault(Place(name, condition, since, what), price)
    return prices


def changes(old: Prices, new: Prices) -> list[Change]:
    """What is not the same, in the order of names."""
    found = []
    for place in sorted({*old, *new}):
        before, after = old.get(place), new.get(place)
        if before != after:
            kind: Literal["added", "removed", "changed"] = "changed"
            if before is None or after is None:
                kind = "added" if before is None else "removed"
            found.append(Change(place=place, kind=kind, old=before, new=after))
    return found


def _amounts(rates: Rates) -> Iterator[tuple[str, Decimal]]:
    """Dollars by meter, a million tokens or each, and for long prompts from which size."""
    for meter, rate in rates.items():
        power = 6 if meter in TOKEN_METERS or meter == "reasoning_tokens" else 0
        yield meter, EXACT.scaleb(rate.usd, power)
        for above, usd in rate.steps:
            yield f"{meter} above {above:,}", EXACT.scaleb(usd, power)


def _card(card: Card) -> Iterator[tuple[str, Decimal | str]]:
    """What a card says, field by field."""
    yield from _amounts(card.rates or {})
    amounts = {"factor": card.factor, "price_per_call": card.price_per_call}
    if card.self_hosted is not None:
        machine = card.self_hosted
        amounts |= {"price_per_instance_hour": machine.price_per_instance_hour}
        amounts |= {"instances": machine.instances, "concurrency": machine.concurrency}
    yield from ((name, amount) for name, amount in amounts.items() if amount is not None)
    match = card.match
    texts = {
        "free": "true" if card.free else None,
        "tool": card.tool,
        "currency": card.currency,
        "match.provider": match.provider,
        "match.model": ", ".join(match.model) or None,
        "match.base_url_host": match.base_url_host,
        **{f"match.tags.{name}": glob for name, glob in match.tags.items()},
        "from": _moment(card.validity.starts),
        "until": _moment(card.validity.until),
    }
    yield from ((name, text) for name, text in texts.items() if text is not None)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M}"
