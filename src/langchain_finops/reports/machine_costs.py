"""What machines of one's own cost and bear: by their card, by what you say, or by charges in the ledger."""

from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from itertools import pairwise
from typing import Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import from_micros, to_micros
from langchain_finops.ledger.grouping import Period
from langchain_finops.money import EXACT, PICO_PER_USD, to_pico
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cards import Card

__all__ = ["HOUR", "Paid", "Terms", "paid_pico", "terms_of"]

HOUR: Final = 3_600_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What you say of the machines; what is None is as their card says. Raises BadArguments for what is not above 0."""

    usd_per_instance_hour: Decimal | None = None
    instances: Decimal | None = None
    concurrency: Decimal | None = None
    """Calls that all instances together bear at once."""
    instance_hours: Decimal | None = None
    """Hours of all instances that were paid for; None: all of them for the whole period."""
    usd: Decimal | None = None
    """All that was paid."""
    charges: str | None = None
    """Paid is what the ledger's charges of kind `infrastructure` with this name cost; `*` stands for anything."""

    def __post_init__(self) -> None:
        for name in ("usd_per_instance_hour", "instances", "concurrency", "instance_hours", "usd"):
            amount = getattr(self, name)
            if amount is not None and not (amount.is_finite() and amount > 0):
                raise BadArguments(f"{name} is {amount}: it is a number above 0")
        said = [name for name in ("instance_hours", "usd", "charges") if getattr(self, name) is not None]
        if len(said) > 1:
            raise BadArguments(f"{' and '.join(said)} each say what was paid: give one of them")
        if self.usd_per_instance_hour is not None and said and said != ["instance_hours"]:
            raise BadArguments(f"usd_per_instance_hour and {said[0]} each say what was paid: give one of them")

    @property
    def is_of_one(self) -> bool:
        """Whether it can be true of one card's machines only."""
        return self != Paid()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the machines of a card are paid for."""

    paid: Paid
    card: Card | None
    factor: Decimal
    instances: Decimal
    concurrency: Decimal


def terms_of(card_id: str, paid: Paid, book: PriceBook) -> Terms:
    """Raises BadArguments where neither the book's card nor the user says what the machines cost and bear."""
    name, *contracts = card_id.split(" + ")
    card = book.card(name)
    machine = None if card is None else card.self_hosted
    is_priced = machine is not None or paid.usd_per_instance_hour or paid.usd or paid.charges
    if not is_priced or (machine is None and paid.concurrency is None):
        raise BadArguments(
            f"the card {card_id!r} is not in your price book: name its file with --prices, or say what the machines "
            "cost and bear, such as --usd-per-instance-hour 1.20 --concurrency 4"
        )
    factor = Decimal(1)
    for contract in map(book.card, contracts):
        if contract is not None and contract.factor is not None:
            factor = EXACT.multiply(factor, contract.factor)
    return Terms(
        paid=paid,
        card=card,
        factor=factor,
        instances=paid.instances or (machine.instances if machine else Decimal(1)),
        concurrency=paid.concurrency or (machine.concurrency if machine else Decimal(1)),
    )


def paid_pico(terms: Terms, begin: int, end: int, period: Period, ledger: Ledger) -> tuple[int | None, bool]:
    """What was paid, None where nobody knows; and whether more was than is known."""
    paid = terms.paid
    if paid.usd is not None:
        return to_pico(paid.usd), False
    if paid.charges is not None:
        return _charged(paid.charges, period, ledger)
    instances = Fraction(terms.instances)
    if paid.usd_per_instance_hour is not None:
        whole = Fraction(paid.usd_per_instance_hour) * instances * (end - begin) / HOUR
        hourly = Fraction(paid.usd_per_instance_hour)
    else:
        assert terms.card is not None
        by_card = _by_card(terms.card, begin, end)
        if by_card is None:
            return None, False
        whole = by_card * Fraction(terms.factor) * instances
        hourly = whole * HOUR / (instances * (end - begin)) if end > begin else Fraction(0)
    if paid.instance_hours is not None:
        whole = hourly * Fraction(paid.instance_hours)
    return round(whole * PICO_PER_USD), False


def _by_card(card: Card, begin: int, end: int) -> Fraction | None:
    """Dollars for one instance over that time; None where the rate of exchange is not known for all of it."""
    assert card.self_hosted is not None
    edges = {to_micros(edge) for edge in (card.fx.edges(card.currency) if card.fx else ())}
    moments = [begin, *sorted(edge for edge in edges if begin < edge < end), end]
    whole = Fraction(0)
    for first, last in pairwise(moments):
        fx = card.usd_per_unit(from_micros(first))
        if fx is None:
            return None
        whole += Fraction(fx) * Fraction(card.self_hosted.price_per_instance_hour) * (last - first) / HOUR
    return whole


def _charged(name: str, period: Period, ledger: Ledger) -> tuple[int | None, bool]:
    """What charges of that name cost. Raises BadArguments where there are none."""
    found = [
        charge
        for charge in ledger.charges(kind="infrastructure")
        if fnmatchcase(charge.name or "", name) and to_micros(charge.at) in period
    ]
    if not found:
        raise BadArguments(f"no charge of kind infrastructure is called {name!r} in this period")
    known = [to_pico(charge.cost_usd) for charge in found if charge.cost_usd is not None]
    return (sum(known) if known else None), len(known) < len(found)
