"""Counts times rates, in integers: exact, rounded once, and broken down without a rest."""

import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.money import from_pico, sum_usd
from langchain_finops.pricing.engine import (
    Breakdown,
    Rate,
    amount_pico,
    compile_card,
    gaps_used,
    has_rare,
    round_half_even,
)
from langchain_finops.usage import METERS, Usage

MILLIONTH = Decimal("0.000001")

RATES = st.dictionaries(
    st.sampled_from(METERS), st.decimals(min_value=0, max_value=1, places=9, allow_nan=False), min_size=1
)
COUNTS = st.dictionaries(st.sampled_from(METERS), st.integers(min_value=0, max_value=10**9))


def rate(per_million: str, *steps: tuple[int, str]) -> Rate:
    """A rate in dollars a million."""
    return Rate(
        usd=Decimal(per_million) * MILLIONTH, steps=tuple((above, Decimal(usd) * MILLIONTH) for above, usd in steps)
    )


def test_a_cost_is_the_sum_of_counts_times_rates() -> None:
    """Each meter at its own rate: 300 x 3 + 600 x 0.3 + 100 x 3.75 + 50 x 15, a million of a dollar each."""
    card = compile_card(
        "card",
        {
            "input_tokens": rate("3"),
            "cache_read_tokens": rate("0.3"),
            "cache_write_5m_tokens": rate("3.75"),
            "output_tokens": rate("15"),
        },
    )
    usage = Usage(input_tokens=300, cache_read_tokens=600, cache_write_5m_tokens=100, output_tokens=50)

    assert card.scale == 1
    assert amount_pico(usage, card.units(usage)) == 2_205_000_000  # 0.002205 dollars.


@pytest.mark.parametrize("meter", METERS)
def test_every_meter_is_charged(meter: str) -> None:
    """None is forgotten, and none is charged at another's rate."""
    card = compile_card("card", {name: Rate(usd=Decimal(index + 1)) for index, name in enumerate(METERS)})
    usage = Usage(**{"requests": 0, meter: 7})

    assert amount_pico(usage, card.units(usage)) == 7 * (METERS.index(meter) + 1) * 10**12


@pytest.mark.parametrize(("tokens", "pico"), [(199_999, 199_999), (200_000, 200_000), (200_001, 400_002)])
def test_a_long_prompt_pays_its_rate_for_all_of_its_tokens(tokens: int, pico: int) -> None:
    """A cliff: the step is for prompts of more tokens than it says, and is not a margin."""
    card = compile_card("card", {"input_tokens": rate("0.000001", (200_000, "0.000002"))})
    usage = Usage(input_tokens=tokens)

    assert amount_pico(usage, card.units(usage)) == pico


def test_cached_and_written_tokens_make_a_prompt_long() -> None:
    """What counts is all input: read from a cache, written to one, or audio."""
    card = compile_card("card", {"input_tokens": rate("1"), "output_tokens": rate("1", (4, "5"))})

    assert (
        card.units(Usage(input_tokens=1, cache_read_tokens=1, cache_write_1h_tokens=1, cached_audio_tokens=1))[
            METERS.index("output_tokens")
        ]
        == 10**6
    )
    assert (
        card.units(Usage(input_tokens=2, cache_read_tokens=1, cache_write_1h_tokens=1, cached_audio_tokens=1))[
            METERS.index("output_tokens")
        ]
        == 5 * 10**6
    )


def test_steps_of_different_meters_stay_apart() -> None:
    """Input may change at 10 tokens and output at 20."""
    card = compile_card("card", {"input_tokens": rate("1", (10, "2")), "output_tokens": rate("3", (20, "4"))})
    prices = {
        size: tuple(card.units(Usage(input_tokens=size))[METERS.index(m)] for m in ("input_tokens", "output_tokens"))
        for size in (10, 11, 20, 21)
    }

    assert prices == {
        10: (10**6, 3 * 10**6),
        11: (2 * 10**6, 3 * 10**6),
        20: (2 * 10**6, 3 * 10**6),
        21: (2 * 10**6, 4 * 10**6),
    }


def test_a_rate_below_a_picodollar_stays_exact() -> None:
    """0.0375 millionths of a cent a token has eight decimals a million: the card counts in hundredths."""
    card = compile_card("card", {"input_tokens": rate("0.00000375")})
    usage = Usage(input_tokens=1000)

    assert card.scale == 100
    assert amount_pico(usage, card.units(usage)) == 375_000  # 3,750 picodollars.


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (0, 10, 0),
        (4, 10, 0),
        (5, 10, 0),
        (6, 10, 1),
        (15, 10, 2),
        (25, 10, 2),
        (35, 10, 4),
        (249, 100, 2),
        (251, 100, 3),
    ],
)
def test_half_a_picodollar_goes_to_the_even_one(numerator: int, denominator: int, rounded: int) -> None:
    """Both sides of each half."""
    assert round_half_even(numerator, denominator) == rounded


@given(st.integers(min_value=0, max_value=10**40), st.integers(min_value=1, max_value=10**15))
def test_rounding_is_that_of_fractions(numerator: int, denominator: int) -> None:
    """The same as the language's own rounding of an exact fraction."""
    assert round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(RATES, COUNTS)
def test_a_breakdown_adds_up_to_the_rounded_total(prices: dict[str, Decimal], counts: dict[str, int]) -> None:
    """Whatever the rates and counts, there is no rest, and no meter is negative."""
    usage = Usage(**counts)
    card = compile_card("card", {meter: Rate(usd=price.scaleb(-6)) for meter, price in prices.items()})
    units = card.units(usage)
    total = round_half_even(amount_pico(usage, units), card.scale)
    breakdown = Breakdown(usage, units, card.scale)

    assert sum_usd(cost.amount_usd for cost in breakdown.values()) == from_pico(total)
    assert all(cost.amount_usd >= 0 for cost in breakdown.values())
    for cost in breakdown.values():
        assert abs(cost.amount_usd - cost.quantity * cost.unit_price_usd) < Decimal("1e-12")


@given(RATES, COUNTS)
def test_the_integer_total_is_the_exact_fraction(prices: dict[str, Decimal], counts: dict[str, int]) -> None:
    """Nothing is lost when a card becomes integers: the same sum in fractions gives the same."""
    usage = Usage(**counts)
    card = compile_card("card", {meter: Rate(usd=price.scaleb(-6)) for meter, price in prices.items()})
    known = {meter: Fraction(price) / 10**6 for meter, price in prices.items()}
    stand_ins = {
        "cache_read_tokens": ("input_tokens",),
        "cache_write_5m_tokens": ("input_tokens",),
        "cache_write_30m_tokens": ("cache_write_5m_tokens", "input_tokens"),
        "cache_write_1h_tokens": ("cache_write_5m_tokens", "input_tokens"),
        "cache_write_12h_tokens": ("cache_write_1h_tokens", "cache_write_5m_tokens", "input_tokens"),
        "cached_audio_tokens": ("audio_input_tokens",),
    }
    expected = sum(
        getattr(usage, meter) * next((known[m] for m in (meter, *stand_ins.get(meter, ())) if m in known), Fraction(0))
        for meter in METERS
    )

    assert Fraction(amount_pico(usage, card.units(usage)), card.scale * 10**12) == expected


def test_a_meter_without_a_rate_is_named() -> None:
    """Only where the call used it; a fee for requests that is not listed does not exist."""
    card = compile_card("card", {"input_tokens": rate("1"), "output_tokens": rate("1")})

    assert gaps_used(Usage(input_tokens=1, output_tokens=1), card) == ()
    assert gaps_used(Usage(input_tokens=1, cache_read_tokens=1, web_searches=1), card) == (
        "cache_read_tokens",
        "web_searches",
    )


def test_nothing_stands_in_for_audio_or_for_the_text_itself() -> None:
    """A call that used such a meter has no known price; a search on top leaves a lower bound."""
    card = compile_card("card", {"cache_read_tokens": rate("1")})

    assert card.unpriced_meters == {
        "input_tokens",
        "output_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "cached_audio_tokens",
        "cache_write_5m_tokens",
        "cache_write_30m_tokens",
        "cache_write_1h_tokens",
        "cache_write_12h_tokens",
    }


def test_an_uncertain_rate_counts_and_is_named() -> None:
    """The amount is the best that is known, and the call is no exact one."""
    card = compile_card(
        "card", {"input_tokens": rate("1"), "cache_read_tokens": rate("0.5")}, uncertain=["cache_read_tokens"]
    )
    usage = Usage(input_tokens=0, cache_read_tokens=2)

    assert amount_pico(usage, card.units(usage)) == 1_000_000
    assert gaps_used(usage, card) == ("cache_read_tokens",)
    assert card.unpriced_meters.isdisjoint({"cache_read_tokens"})


@pytest.mark.parametrize("meter", METERS)
def test_rare_meters_are_seen(meter: str) -> None:
    """The short cut for calls of text alone must not swallow a meter."""
    common = {"input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "output_tokens", "requests"}

    assert bool(has_rare(Usage(**{meter: 3}))) == (meter not in common)


def test_a_breakdown_is_a_mapping_like_any() -> None:
    """It compares by value, is shown, and survives a process pool."""
    card = compile_card("card", {"input_tokens": rate("1"), "output_tokens": rate("2")})
    usage = Usage(input_tokens=3, output_tokens=4)
    breakdown = Breakdown(usage, card.units(usage), card.scale)

    assert list(breakdown) == ["input_tokens", "output_tokens"]
    assert breakdown["output_tokens"].amount_usd == Decimal("0.000008")
    assert breakdown == dict(breakdown) == pickle.loads(pickle.dumps(breakdown))
    assert "output_tokens" in repr(breakdown)
    with pytest.raises(KeyError):
        breakdown["requests"]


def test_reasoning_may_have_a_rate_of_its_own() -> None:
    """40 of 100 output tokens at 3 and 60 at 8: the subset is taken out, and both are shown."""
    card = compile_card("card", {"output_tokens": rate("8"), "reasoning_tokens": rate("3")})
    usage = Usage(output_tokens=100, reasoning_tokens=40)
    breakdown = Breakdown(usage, card.units(usage), card.scale)

    assert amount_pico(usage, card.units(usage)) == 600_000_000  # 60 x 8 + 40 x 3, a million of a dollar each.
    assert {meter: (int(part.quantity), part.amount_usd) for meter, part in breakdown.items()} == {
        "output_tokens": (60, Decimal("0.00048")),
        "reasoning_tokens": (40, Decimal("0.00012")),
    }


def test_reasoning_without_a_rate_is_output() -> None:
    """As with every other model."""
    card = compile_card("card", {"output_tokens": rate("8")})
    usage = Usage(output_tokens=100, reasoning_tokens=40)

    assert amount_pico(usage, card.units(usage)) == 800_000_000
    assert set(Breakdown(usage, card.units(usage), card.scale)) == {"output_tokens"}


def test_only_long_prompts_may_be_in_doubt() -> None:
    """The reason is on the step, so that short prompts stay exact."""
    card = compile_card("card", {"input_tokens": rate("1", (10, "2"))}, long_reasons=["why"])

    assert card.step(Usage(input_tokens=10)).reasons == ()
    assert card.step(Usage(input_tokens=11)).reasons == ("why",)
