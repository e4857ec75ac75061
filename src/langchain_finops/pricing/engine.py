"""The arithmetic: counts times a compiled rate card, in integers. Pure; it knows no provider and no date."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from langchain_finops.money import EXACT, PICO_PER_USD
from langchain_finops.pricing.cost import MeterCost
from langchain_finops.usage import METERS, Usage

__all__ = [
    "Breakdown",
    "Rate",
    "RateCard",
    "Rates",
    "Step",
    "amount_pico",
    "compile_card",
    "gaps_used",
    "round_half_even",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of one unit of a meter, which may be another one for long prompts."""

    usd: Decimal
    """Dollars a token, search or request."""
    steps: tuple[tuple[int, Decimal], ...] = ()
    """(tokens, dollars): a prompt of more input tokens than that pays this price for all of its tokens."""

    def at(self, input_tokens: int) -> Decimal:
        """Price of a unit in a prompt of more than `input_tokens` tokens."""
        price = self.usd
        for above, usd in self.steps:
            if input_tokens >= above:
                price = usd
        return price

    def times(self, factor: Decimal) -> "Rate":
        """This rate, multiplied exactly."""
        steps = tuple((above, EXACT.multiply(usd, factor)) for above, usd in self.steps)
        return Rate(usd=EXACT.multiply(self.usd, factor), steps=steps)


Rates = Mapping[str, Rate]
"""Rates by meter. A meter without one takes that of the meter it is a part of, and the cost is then estimated."""

FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "cache_read_tokens": ("input_tokens",),
    "cache_write_5m_tokens": ("input_tokens",),
    "cache_write_30m_tokens": ("cache_write_5m_tokens", "input_tokens"),
    "cache_write_1h_tokens": ("cache_write_5m_tokens", "input_tokens"),
    "cache_write_12h_tokens": ("cache_write_1h_tokens", "cache_write_5m_tokens", "input_tokens"),
    "cached_audio_tokens": ("audio_input_tokens",),
}
"""What a meter is charged at where its own rate is unknown. Audio has no stand-in: text is far cheaper."""

NO_FEE_UNLESS_LISTED = ("requests",)
"""A card that does not list these means that they are not charged for."""
REASONING = "reasoning_tokens"
"""No meter, but a subset of the output, which a few models charge at a rate of its own."""
LOWER_BOUND_WITHOUT = ("web_searches",)
"""Fees that come on top: without their rate the rest of the cost still stands, as a lower bound."""
RARE = (
    "cache_write_30m_tokens",
    "cache_write_1h_tokens",
    "cache_write_12h_tokens",
    "audio_input_tokens",
    "cached_audio_tokens",
    "audio_output_tokens",
    "web_searches",
)
"""Meters that most calls do not use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Integer rates for prompts of more than `above` input tokens."""

    above: int
    units: tuple[int, ...]
    """One for each of METERS, in 1/`scale` of a picodollar a unit; last, what a token of reasoning costs more than
    another one of output, nearly always 0."""
    reasons: tuple[str, ...] = ()
    """Why a cost at these rates is an estimate, where those for shorter prompts are sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """Rates compiled to integers, and what has to be said of a cost made from them."""

    card_id: str
    scale: int
    """Parts of a picodollar that the rates are counted in: 1, unless a price has more than 6 decimals a million."""
    steps: tuple[Step, ...]
    """By size of prompt, smallest first; the first is for all."""
    common_gaps: tuple[str, ...]
    """Meters in everyday use that have no rate of their own."""
    rare_gaps: tuple[str, ...]
    unpriced_meters: frozenset[str]
    """Those of the gaps that nothing stands in for: a call that uses one has no known price."""
    reasons: tuple[str, ...] = ()
    """Why any cost from this card is an estimate; empty where it is exact."""

    def units(self, usage: Usage) -> tuple[int, ...]:
        """The integer rates that count for a prompt of this size."""
        return self.step(usage).units

    def step(self, usage: Usage) -> Step:
        """The step that a prompt of this size is on."""
        steps = self.steps
        found = steps[0]
        if len(steps) > 1:
            size = usage.total_input_tokens
            for step in steps:
                if size > step.above:
                    found = step
        return found


def compile_card(
    card_id: str,
    rates: Rates,
    reasons: Sequence[str] = (),
    *,
    uncertain: Collection[str] = (),
    long_reasons: Sequence[str] = (),
) -> RateCard:
    """A card of integers. Exact: `scale` grows until no rate has a fraction left.

    A meter that is `uncertain` counts as one without a rate of its own: what stands there is a stand-in.
    `long_reasons` say why the rates for long prompts are estimates.
    """
    resolved = {meter: _stand_in(meter, rates) for meter in METERS}
    prices = [price for rate in rates.values() for price in (rate.usd, *(usd for _, usd in rate.steps))]
    scale = 10 ** max(0, *(-12 - _exponent(price) for price in prices)) if prices else 1
    thresholds = sorted({above for rate in rates.values() for above, _ in rate.steps})
    steps = []
    for above in (-1, *thresholds):
        usd = [rate.at(above) if rate else Decimal(0) for rate in resolved.values()]
        usd.append(_reasoning_premium(rates, above))
        units = tuple(int(EXACT.multiply(price, PICO_PER_USD * scale)) for price in usd)
        steps.append(Step(above=above, units=units, reasons=tuple(long_reasons) if above >= 0 else ()))
    gaps = [m for m in METERS if (m not in rates or m in uncertain) and m not in NO_FEE_UNLESS_LISTED]
    return RateCard(
        card_id=card_id,
        scale=scale,
        steps=tuple(steps),
        common_gaps=tuple(meter for meter in gaps if meter not in RARE),
        rare_gaps=tuple(meter for meter in gaps if meter in RARE),
        unpriced_meters=frozenset(m for m in gaps if resolved[m] is None and m not in LOWER_BOUND_WITHOUT),
        reasons=tuple(reasons),
    )


def _reasoning_premium(rates: Rates, input_tokens: int) -> Decimal:
    if REASONING not in rates or "output_tokens" not in rates:
        return Decimal(0)
    return EXACT.subtract(rates[REASONING].at(input_tokens), rates["output_tokens"].at(input_tokens))


def _stand_in(meter: str, rates: Rates) -> Rate | None:
    for name in (meter, *FALLBACKS.get(meter, ())):
        if name in rates:
            return rates[name]
    return None


def _exponent(price: Decimal) -> int:
    exponent = price.normalize(EXACT).as_tuple().exponent
    assert isinstance(exponent, int)  # Rates are finite: files and the catalogue are checked when they are read.
    return exponent


def amount_pico(usage: Usage, units: tuple[int, ...], rare: int | None = None) -> int:
    """Exact cost in 1/`scale` of a picodollar. `rare` is `has_rare`, for who has asked it already."""
    (
        text,
        read,
        write_5m,
        write_30m,
        write_1h,
        write_12h,
        audio,
        cached_audio,
        output,
        audio_output,
        search,
        request,
        premium,
    ) = units
    total = (
        usage.input_tokens * text
        + usage.cache_read_tokens * read
        + usage.cache_write_5m_tokens * write_5m
        + usage.output_tokens * output
        + usage.requests * request
    )
    if has_rare(usage) if rare is None else rare:
        total += (
            usage.cache_write_30m_tokens * write_30m
            + usage.cache_write_1h_tokens * write_1h
            + usage.cache_write_12h_tokens * write_12h
            + usage.audio_input_tokens * audio
            + usage.cached_audio_tokens * cached_audio
            + usage.audio_output_tokens * audio_output
            + usage.web_searches * search
        )
    if premium:
        total += usage.reasoning_tokens * premium
    return total


def has_rare(usage: Usage) -> int:
    """Something other than 0 where a call used one of the meters in RARE."""
    return (
        usage.cache_write_30m_tokens
        | usage.cache_write_1h_tokens
        | usage.cache_write_12h_tokens
        | usage.audio_input_tokens
        | usage.cached_audio_tokens
        | usage.audio_output_tokens
        | usage.web_searches
    )


def gaps_used(usage: Usage, card: RateCard, rare: int | None = None) -> tuple[str, ...]:
    """The meters that this call used and the card has no rate of its own for. `rare` as in `amount_pico`."""
    used: tuple[str, ...] = ()
    for meter in card.common_gaps:
        if getattr(usage, meter):
            used += (meter,)
    if card.rare_gaps and (has_rare(usage) if rare is None else rare):
        for meter in card.rare_gaps:
            if getattr(usage, meter):
                used += (meter,)
    return used


def round_half_even(numerator: int, denominator: int) -> int:
    """The nearest integer to a fraction of two integers, the even one of two that are as near."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


class Breakdown(Mapping[str, MeterCost]):
    """A call's cost by meter, worked out when somebody looks. The amounts add up to the rounded total exactly.

    Where rates have fractions of a picodollar, each amount is the difference of two rounded running sums.
    """

    __slots__ = ("_costs", "_scale", "_units", "_usage")

    def __init__(self, usage: Usage, units: tuple[int, ...], scale: int) -> None:
        self._usage, self._units, self._scale = usage, units, scale
        self._costs: dict[str, MeterCost] | None = None

    def _meters(self) -> dict[str, MeterCost]:
        if self._costs is None:
            self._costs = self._work_out()
        return self._costs

    def _work_out(self) -> dict[str, MeterCost]:
        costs: dict[str, MeterCost] = {}
        running = rounded = 0
        for meter, unit, count in self._priced():
            if not count or (not unit and meter in NO_FEE_UNLESS_LISTED):
                continue
            running += count * unit
            so_far = round_half_even(running, self._scale)
            costs[meter] = MeterCost(
                quantity=Decimal(count),
                unit_price_usd=EXACT.divide(Decimal(unit), PICO_PER_USD * self._scale),
                amount_usd=EXACT.scaleb(Decimal(so_far - rounded), -12),
            )
            rounded = so_far
        return costs

    def _priced(self) -> Iterator[tuple[str, int, int]]:
        """Each meter, its rate and its count. Reasoning that has a rate of its own is taken out of the output."""
        premium, reasoning = self._units[-1], self._usage.reasoning_tokens
        for meter, unit in zip(METERS, self._units, strict=False):
            count = getattr(self._usage, meter)
            if premium and meter == "output_tokens":
                yield meter, unit, count - reasoning
                yield REASONING, unit + premium, reasoning
            else:
                yield meter, unit, count

    def __getitem__(self, meter: str) -> MeterCost:
        return self._meters()[meter]

    def __iter__(self) -> Iterator[str]:
        return iter(self._meters())

    def __len__(self) -> int:
        return len(self._meters())

    def __repr__(self) -> str:
        return repr(self._meters())
