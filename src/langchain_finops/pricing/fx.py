"""What a unit of another currency is worth in dollars, by date: the user's own table, read from a card file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from langchain_finops.errors import Fault
from langchain_finops.pricing.fields import Fields, read_amount, read_moment

__all__ = ["FxTable", "read_fx"]

FX_FIELDS = ("id", "source", "rates")


@dataclass(frozen=True, slots=True, kw_only=True)
class FxTable:
    """Dated rates of exchange. A rate counts from its moment until the next one's, the last one for good."""

    id: str
    """Kept on every record that was converted by it."""
    rates: Mapping[str, tuple[tuple[datetime, Decimal], ...]]
    """By currency: from when, and dollars for one unit; oldest first."""
    source: str | None = None

    def usd_per_unit(self, currency: str, at: datetime) -> Decimal | None:
        """Dollars for one unit at a moment; None before the first rate: what it was then nobody said."""
        known = [usd for since, usd in self.rates.get(currency, ()) if since <= at]
        return known[-1] if known else None

    def edges(self, currency: str) -> Iterator[datetime]:
        """The moments from which another rate counts."""
        return (since for since, _ in self.rates.get(currency, ()))


def read_fx(file: Fields, faults: list[Fault]) -> FxTable | None:
    """The table of a card file; None where it has none. What is wrong with it is added to `faults`."""
    if file.get("fx") is None:
        return None
    fields = Fields(file.get("fx"), file.path("fx"), faults, FX_FIELDS)
    table_id = fields.text("id")
    if not isinstance(file.get("fx"), Mapping):
        return None
    if table_id is None and fields.get("id") is None:
        fields.fault("id", "is missing; records name the table by it")
    currencies = fields.mapping("rates")
    if not currencies and not isinstance(fields.get("rates"), int | float | str | list):
        fields.fault("rates", "is missing; write the dollars for one unit, such as EUR: {2026-01-01: 1.17}")
    rates = {str(name): _dated(str(name), dated, fields) for name, dated in currencies.items()}
    return FxTable(id=table_id or fields.path("id"), rates=rates, source=fields.text("source"))


def _dated(currency: str, dated: object, fields: Fields) -> tuple[tuple[datetime, Decimal], ...]:
    place = f"rates.{currency}"
    if not is_currency(currency) or currency == "USD":
        fields.fault(place, "is no other currency; write its three letters, such as EUR")
    if not isinstance(dated, Mapping) or not dated:
        fields.fault(place, "has to be dates with the dollars for one unit from then on, such as {2026-01-01: 1.17}")
        return ()
    rates: dict[datetime, Decimal] = {}
    for day, value in dated.items():
        try:
            moment, rate = read_moment(day), read_amount(value)
            if not rate:
                raise ValueError("is 0; it has to be more")
            if moment in rates:
                raise ValueError("is a moment that has a rate already; keep one of them")
        except ValueError as error:
            fields.fault(f"{place}.{day}", str(error))
        else:
            rates[moment] = rate
    return tuple(sorted(rates.items()))


def is_currency(name: object) -> bool:
    """True for three capital letters: ISO 4217 in form; what they are worth the table says."""
    return isinstance(name, str) and len(name) == 3 and name.isascii() and name.isalpha() and name.isupper()
