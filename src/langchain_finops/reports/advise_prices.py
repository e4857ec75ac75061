"""What calls would have cost at another price: another model's, a cache's, a slower tier's. Unknown stays unknown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from langchain_finops.ledger.columns import Series
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import PriceKey, Reading
from langchain_finops.usage import Usage

__all__ = ["Prices", "Units"]

METERS: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "output_tokens")
SAMPLE: Final = 10_000
"""Tokens that are priced to learn a rate: fewer than any price for long prompts begins at."""
SMALLER: Final[tuple[tuple[str, str], ...]] = (
    (r"^(gpt-4\.1|gpt-4o|gpt-5)(-\d{4}-\d\d-\d\d)?$", r"\1-mini"),
    (r"^gpt-5\.\d+(-\d{4}-\d\d-\d\d)?$", "gpt-5-mini"),
    (r"^(.*?)claude-(opus|sonnet)-4.*$", r"\1claude-haiku-4-5"),
    (r"^gemini-(2\.5|3)-pro.*$", "gemini-2.5-flash"),
    (r"^mistral-(large|medium)-.*$", "mistral-small-latest"),
)
"""A model's name, and that of a smaller one by the same maker. One that the price book does not know is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Dollars for a token, contract included, as integers: 1/`scale` of a picodollar."""

    fresh: int
    read: int
    written: int
    output: int
    scale: int

    def pico(self, *, fresh: int = 0, read: int = 0, written: int = 0, output: int = 0) -> int:
        """What so many tokens cost, rounded up to a picodollar: a saving is never told too high."""
        amount = fresh * self.fresh + read * self.read + written * self.written + output * self.output
        return -(-amount // self.scale)

    def cost(self, series: Series, place: int) -> int:
        """What the tokens of one call cost."""
        return self.pico(
            fresh=series.fresh[place],
            read=series.read[place],
            written=series.written[place],
            output=series.output[place],
        )

    def usd_per_million_output(self) -> Decimal:
        """The price of output as price lists have it."""
        return EXACT.divide(Decimal(self.output), Decimal(self.scale * 10**6))


class Prices:
    """A price book, asked for whole prices at one moment."""

    def __init__(self, book: PriceBook, at: datetime) -> None:
        self._book, self._at = book, at
        self._known: dict[tuple[object, ...], Units | None] = {}

    def units(
        self,
        provider: str | None,
        model: str | None,
        *,
        longest: int,
        host: str | None = None,
        tier: str | None = None,
        batch: bool = False,
        needs_cache: bool = False,
    ) -> Units | None:
        """The rates of a model for prompts of up to `longest` input tokens; None where one of them is not known.

        With `needs_cache` only where the model has a price of its own for what is read from a cache.
        """
        key = (provider, model, longest > SAMPLE and longest, host, tier, batch, needs_cache)
        if key not in self._known:
            where = PriceKey(
                provider=provider, model=model, requested_model=model, at=self._at, base_url_host=host,
                tier=None if tier == "default" else tier, batch=batch,
            )  # fmt: skip
            self._known[key] = self._asked(where, longest, needs_cache=needs_cache)
        return self._known[key]

    def smaller(self, model: str | None) -> str | None:
        """The name of a smaller model by the same maker, whether or not it has a price; None where none is known."""
        for pattern, name in SMALLER:
            if model is not None and re.match(pattern, model):
                return re.sub(pattern, name, model)
        return None

    def _asked(self, key: PriceKey, longest: int, *, needs_cache: bool) -> Units | None:
        rates: dict[str, Decimal] = {}
        for meter in METERS:
            rate, reasons = self._rate(key, meter, SAMPLE)
            doubts = {reason for reason in reasons if reason != "no_rate:cache_write_5m_tokens"}
            if needs_cache is False:
                doubts.discard("no_rate:cache_read_tokens")
            if rate is None or any(reason.startswith("no_rate:") for reason in doubts):
                return None
            rates[meter] = rate
        # Prices for long prompts count for the whole call: which calls pay them, a sum of tokens does not tell.
        if longest > SAMPLE and self._rate(key, "input_tokens", longest)[0] != rates["input_tokens"]:
            return None
        return _integers(rates)

    def _rate(self, key: PriceKey, meter: str, tokens: int) -> tuple[Decimal | None, tuple[str, ...]]:
        usage = Usage(**{meter: tokens, "requests": 0})
        cost = self._book.price(Reading(usage=usage, key=key))
        if cost.contracted_usd is None or cost.billing_mode != "payg":
            return None, cost.reasons
        return EXACT.divide(cost.contracted_usd, Decimal(tokens)), cost.reasons


def _integers(rates: Mapping[str, Decimal]) -> Units:
    pico = [EXACT.scaleb(rates[meter], 12) for meter in METERS]
    scale = 1
    while any(each * scale != int(each * scale) for each in pico) and scale < 10**9:
        scale *= 10
    fresh, read, written, output = (int(each * scale) for each in pico)
    return Units(fresh=fresh, read=read, written=written, output=output, scale=scale)
