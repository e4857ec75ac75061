"""Which prices a model has had and has, under which conditions, and who says so: what `finops prices show` tells."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from langchain_finops.money import EXACT, PICO_PER_USD
from langchain_finops.pricing.cost import PriceKey
from langchain_finops.pricing.engine import RateCard
from langchain_finops.pricing.quotes import FIRST_MOMENT, LAST_MOMENT, Quote, Quoting, Source
from langchain_finops.usage import METERS, TOKEN_METERS

__all__ = ["Period", "history"]

STANDARD = "standard"
WEEK = timedelta(days=7)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One price between two moments, under one condition and for prompts of one size."""

    provider: str | None
    model: str | None
    condition: str = STANDARD
    """`standard`, the name of a tier, `batch`, a place, or the hours (UTC) at which this is the price today."""
    above_input_tokens: int | None = None
    """For prompts of more input tokens than that; None for all others."""
    starts: datetime | None
    until: datetime | None
    in_force: bool
    kind: str
    """`rates`, `free`, `self_hosted` or `unpriced`."""
    prices: Mapping[str, Decimal]
    """Dollars by meter: a million tokens; a search; a request; an hour. A meter that has no rate is missing."""
    stand_ins: Mapping[str, Decimal]
    """What is charged, and flagged, on meters that have no sure rate of their own."""
    quote: Quote
    source: Source


def history(quoting: Quoting, key: PriceKey) -> list[Period]:
    """Every price of the key's model: those in force at `key.at`, the standard one first; then others, newest first."""
    moments = [FIRST_MOMENT, *quoting.dates(key)]
    periods: list[Period] = []
    for start, end in zip(moments, [*moments[1:], LAST_MOMENT], strict=True):
        inside = start <= key.at < end
        at = key.at if inside else _same_time_of_day(start, end, key.at)
        first, last = None if start == FIRST_MOMENT else start, None if end == LAST_MOMENT else end
        found = _at(quoting, replace(key, at=at), inside=inside)
        periods += (replace(each, starts=first, until=last) for each in found)
    known = [each for each in periods if each.in_force or _counts(each)]
    merged = _merged(known)
    current = [each for each in merged if each.in_force]
    others = [each for each in merged if not each.in_force]
    # Sorting keeps the order of what is equal: prompts of one price by size, conditions by name.
    current.sort(key=lambda each: (each.condition != STANDARD, each.condition))
    others.sort(key=lambda each: (each.starts or FIRST_MOMENT, each.condition == STANDARD), reverse=True)
    return current + others


def _counts(period: Period) -> bool:
    """False for what nobody prices, or before the first price that is known."""
    return period.kind != "unpriced" and "before_first_price" not in _doubts(period.quote)


def _same_time_of_day(start: datetime, end: datetime, at: datetime) -> datetime:
    """A moment of the period at the same hour, so that peak hours of one are not set against others of another."""
    if start == FIRST_MOMENT:
        return start
    moment = datetime.combine(start.date(), at.time(), UTC)
    return moment if start <= moment < end else start


def _at(quoting: Quoting, key: PriceKey, *, inside: bool) -> Iterator[Period]:
    """The prices at one moment: the standard one, those of other hours, and those of conditions that differ."""
    standard = quoting.quote(key)
    yield from _periods(quoting, key, standard, STANDARD, inside=inside)
    if inside:
        for quote, hours in _other_hours(quoting, key, standard):
            yield from _periods(quoting, key, quote, hours, inside=inside)
    for condition, changed in _conditions(key):
        quote = quoting.quote(changed)
        unknown = any(reason.startswith("no_rate:") for reason in _doubts(quote))
        if not unknown and _differs(quote, standard):
            yield from _periods(quoting, key, quote, condition, inside=inside)


def _differs(quote: Quote, standard: Quote) -> bool:
    """True where a condition gives a price another value; that it is silent on some meters is no other price."""
    usual = {(above, meter): price for above, prices in _prices_of(standard) for meter, price in prices}
    return any(usual.get((above, meter)) != price for above, prices in _prices_of(quote) for meter, price in prices)


def _conditions(key: PriceKey) -> Iterator[tuple[str, PriceKey]]:
    yield "batch", replace(key, batch=True)
    for tier in ("flex", "priority", "ultrafast", "medium", "high"):  # The last two are sizes of a search context.
        yield tier, replace(key, tier=tier)
    for speed in ("fast", "optimized"):
        yield speed, replace(key, speed=speed)
    yield "us", replace(key, geography="us")


def _other_hours(quoting: Quoting, key: PriceKey, standard: Quote) -> Iterator[tuple[Quote, str]]:
    """Other prices of the same week, and their hours."""
    found: dict[tuple[object, ...], tuple[Quote, list[tuple[datetime, datetime]]]] = {}
    at, end = key.at, min(key.at, LAST_MOMENT - WEEK) + WEEK
    dates = quoting.dates(key)
    while at < end and not any(key.at < date <= at for date in dates):
        quote = quoting.quote(replace(key, at=at))
        if _prices_of(quote) != _prices_of(standard):
            found.setdefault(_prices_of(quote), (quote, []))[1].append((at, min(quote.ends, end)))
        at = quote.ends
    for quote, windows in found.values():
        yield quote, _hours(windows)


def _hours(windows: list[tuple[datetime, datetime]]) -> str:
    """Such as `mon-fri 01:00-04:00`."""
    days = sorted({start.weekday() for start, _ in windows})
    hours = sorted({f"{start:%H:%M}-{end:%H:%M}" for start, end in windows})
    run = len(days) > 2 and days == list(range(days[0], days[-1] + 1))
    named = f"{DAYS[days[0]]}-{DAYS[days[-1]]} " if run else f"{','.join(DAYS[day] for day in days)} "
    return ("" if len(days) == 7 else named) + ", ".join(hours)


def _periods(quoting: Quoting, key: PriceKey, quote: Quote, condition: str, *, inside: bool) -> Iterator[Period]:
    kind = "unpriced"
    if quote.free:
        kind = "free"
    elif quote.self_hosted is not None:
        kind = "self_hosted"
    elif quote.rates is not None:
        kind = "rates"
    for above, prices in _prices_of(quote):
        charged = dict(_prices_of(quote, stand_ins=True))[above]
        yield Period(
            provider=key.provider,
            model=key.model,
            condition=condition,
            above_input_tokens=above,
            starts=None,
            until=None,
            in_force=inside,
            kind=kind,
            prices=dict(prices),
            stand_ins={meter: price for meter, price in charged if meter not in dict(prices)},
            quote=quote,
            source=quoting.source(quote),
        )


def _prices_of(
    quote: Quote, *, stand_ins: bool = False
) -> tuple[tuple[int | None, tuple[tuple[str, Decimal], ...]], ...]:
    """Prices by meter, for each size of prompt; comparable."""
    if quote.self_hosted is not None:
        return ((None, (("hours", quote.self_hosted.price(Decimal(3600))),)),)
    card = quote.rates
    if card is None:
        return ((None, (("requests", Decimal(0)),) if quote.free else ()),)
    return tuple(
        (step.above if step.above >= 0 else None, _rates(card, step.units, stand_ins=stand_ins)) for step in card.steps
    )


def _rates(card: RateCard, units: tuple[int, ...], *, stand_ins: bool) -> tuple[tuple[str, Decimal], ...]:
    gaps = card.unpriced_meters if stand_ins else {*card.common_gaps, *card.rare_gaps}
    prices = []
    for meter, unit in zip(METERS, units, strict=False):
        if meter in gaps or (meter not in TOKEN_METERS and not unit):
            continue
        price = EXACT.divide(Decimal(unit), PICO_PER_USD * card.scale)
        prices.append((meter, EXACT.multiply(price, 10**6) if meter in TOKEN_METERS else price))
    if len(units) > len(METERS) and units[-1]:  # What a token of reasoning costs more than one of output.
        reasoning = Decimal(units[METERS.index("output_tokens")] + units[-1])
        prices.append(("reasoning_tokens", EXACT.divide(EXACT.multiply(reasoning, 10**6), PICO_PER_USD * card.scale)))
    return tuple(prices)


def _doubts(quote: Quote) -> tuple[str, ...]:
    return quote.rates.reasons if quote.rates is not None else quote.reasons


def _merged(periods: list[Period]) -> list[Period]:
    """Neighbours in time of the same price as one; in the order of their start."""
    merged: list[Period] = []
    for period in sorted(periods, key=lambda each: each.starts or FIRST_MOMENT):
        for place, earlier in enumerate(merged):
            if _is_same(earlier, period) and earlier.until == period.starts:
                merged[place] = replace(period, starts=earlier.starts, in_force=earlier.in_force or period.in_force)
                break
        else:
            merged.append(period)
    return sorted(merged, key=lambda each: each.starts or FIRST_MOMENT)


def _is_same(one: Period, other: Period) -> bool:
    return _compared(one) == _compared(other)


def _compared(period: Period) -> tuple[object, ...]:
    """What is charged, and by whose word; how sure it is may change without another price."""
    charged = {**period.stand_ins, **period.prices}
    return (period.condition, period.above_input_tokens, period.kind, charged, period.source)
