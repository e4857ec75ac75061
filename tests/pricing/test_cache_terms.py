"""Prompt caches: what there are, what they cost, and from how many reads on they pay."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops import PriceBook
from langchain_finops.errors import BadArguments
from langchain_finops.pricing import parse_cards
from langchain_finops.pricing.cache_terms import CacheTerms, caches_of, least_cacheable_tokens
from langchain_finops.pricing.cost import PriceKey

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Caches = Callable[..., dict[str, CacheTerms]]


@pytest.fixture
def caches(book: PriceBook) -> Caches:
    """The caches of a model by their names."""

    def caches(provider: str | None, model: str | None, prompt_tokens: int = 1_000) -> dict[str, CacheTerms]:
        key = PriceKey(provider=provider, model=model, at=NOON)
        return {each.name: each for each in caches_of(book, key, prompt_tokens=prompt_tokens)}

    return caches


def terms(*, ttl_s: int = 300, least: int = 0, write: str | None = "1.25", read: str | None = "0.10") -> CacheTerms:
    """A cache of a model whose input costs $1 a token."""
    return CacheTerms(
        name="x",
        kind="explicit",
        ttl_s=ttl_s,
        least_tokens=least,
        input_usd=Decimal(1),
        write_usd=None if write is None else Decimal(write),
        read_usd=None if read is None else Decimal(read),
    )


def prices(cache: CacheTerms) -> tuple[str | None, str | None, str | None]:
    """Dollars a million tokens: plain, written, read."""
    rates = (cache.input_usd, cache.write_usd, cache.read_usd)
    million = (None if rate is None else f"{(rate * 1_000_000).normalize():f}" for rate in rates)
    plain, written, read = million
    return plain, written, read


# --- which there are -------------------------------------------------------------------------------------------------


def test_claude_has_two_caches_whose_writing_costs_a_quarter_more_and_twice(caches: Caches) -> None:
    """Sonnet 5: $2 a million in, 2 x 1.25 = 2.50 written for 5 minutes, 2 x 2 = 4 for an hour, 2 x 0.1 = 0.20 read."""
    found = caches("anthropic", "claude-sonnet-5")

    assert list(found) == ["5m", "1h"]
    assert prices(found["5m"]) == ("2", "2.5", "0.2")
    assert prices(found["1h"]) == ("2", "4", "0.2")
    assert [each.ttl_s for each in found.values()] == [300, 3_600]
    assert {(each.kind, each.is_longest, each.least_tokens) for each in found.values()} == {("explicit", False, 1_024)}


def test_openai_keeps_what_it_likes_and_charges_nothing_for_writing_before_gpt_5_6(caches: Caches) -> None:
    """gpt-4.1: $2 in, $0.50 read; five minutes are sure, a day is the most."""
    found = caches("openai", "gpt-4.1-2025-04-14")

    assert list(found) == ["in_memory", "24h"]
    assert [prices(each) for each in found.values()] == [("2", "2", "0.5")] * 2
    assert [(each.ttl_s, each.is_longest) for each in found.values()] == [(300, False), (86_400, True)]
    assert {(each.kind, each.least_tokens) for each in found.values()} == {("automatic", 1_024)}


def test_openai_since_gpt_5_6_keeps_for_half_an_hour_and_charges_a_quarter_more(caches: Caches) -> None:
    """gpt-5.6-sol: $4 in, 4 x 1.25 = 5 written, 0.40 read."""
    found = caches("openai", "gpt-5.6-sol")

    assert list(found) == ["30m"]
    assert prices(found["30m"]) == ("4", "5", "0.4")
    assert (found["30m"].ttl_s, found["30m"].is_longest) == (1_800, False)


def test_gemini_says_only_how_long_it_keeps_at_most(caches: Caches) -> None:
    """gemini-2.5-pro: $1.25 in and for what was not read, 0.125 read; from 2,048 tokens, Gemini 3 from 4,096."""
    found = caches("google", "gemini-2.5-pro")

    assert list(found) == ["implicit"]
    assert prices(found["implicit"]) == ("1.25", "1.25", "0.125")
    assert found["implicit"].is_longest
    assert found["implicit"].least_tokens == 2_048
    assert caches("google", "gemini-3.6-flash")["implicit"].least_tokens == 4_096


def test_claude_has_the_same_caches_at_other_sellers(caches: Caches) -> None:
    """Bedrock's own region costs $3.30 a million of Sonnet 4.5, 4.125 and 6.60 written."""
    found = caches("aws", "anthropic.claude-sonnet-4-5-20250929-v1:0")

    assert prices(found["5m"]) == ("3.3", "4.125", "0.33")
    assert prices(found["1h"]) == ("3.3", "6.6", "0.33")
    assert list(caches("google", "claude-sonnet-4-5@20250929")) == ["5m", "1h"]


def test_a_price_that_the_book_does_not_have_is_none(caches: Caches) -> None:
    """Bedrock lists no price of writing for Nova, nor OpenAI one of reading for o1-pro: nobody can say what pays."""
    nova, o1 = caches("aws", "amazon.nova-pro-v1:0")["5m"], caches("openai", "o1-pro")["in_memory"]

    assert prices(nova) == ("0.8", None, "0.2")
    assert prices(o1)[2] is None
    for unknown in (nova, o1):
        assert unknown.break_even_reads is None
        assert unknown.least_reads is None
        assert unknown.stream(10_000, [1, 1]) is None
        assert unknown.saved_usd(read_tokens=1, written_tokens=1) is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [("anthropic", "claude-9"), ("openai", "unheard-of"), (None, None), ("groq", "llama-3.3-70b-versatile")],
)
def test_a_model_without_price_or_cache_has_none(caches: Caches, provider: str | None, model: str | None) -> None:
    assert caches(provider, model) == {}


def test_a_long_prompt_has_its_own_prices(caches: Caches) -> None:
    """Haiku 5.5 up to 100,000 tokens: $0.10 in, 0.01 read; above: 0.50 and 0.05."""
    assert prices(caches("anthropic", "claude-haiku-5-5")["5m"])[0] == "0.1"
    assert prices(caches("anthropic", "claude-haiku-5-5", 150_000)["5m"])[::2] == ("0.5", "0.05")


def test_a_card_of_the_users_decides() -> None:
    """Their negotiated price is the one that is reckoned with."""
    rates = {"input_tokens": "1", "cache_read_tokens": "0.5", "cache_write_1h_tokens": "3"}
    cards = parse_cards([{"id": "ours", "match": {"model": "claude-x"}, "rates": rates}], where="test")
    book = PriceBook(cards=cards, catalog=False)
    five, hour = caches_of(book, PriceKey(provider="anthropic", model="claude-x", at=NOON))

    assert prices(five) == ("1", None, "0.5")
    assert prices(hour) == ("1", "3", "0.5")


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("claude-opus-5", 512),
        ("claude-opus-5-20260724", 512),
        ("claude-opus-5-5", 4_096),
        ("claude-fable-5-1", 4_096),
        ("claude-sonnet-5", 1_024),
        ("claude-sonnet-4-5-20250929", 1_024),
        ("claude-opus-4-20250514", 1_024),
        ("claude-opus-4.1", 1_024),
        ("claude-opus-4-8", 1_024),
        ("claude-3-opus-latest", 1_024),
        ("claude-opus-4-5-20251101", 4_096),
        ("claude-opus-4-7", 4_096),
        ("claude-haiku-4-5", 4_096),
        ("us.anthropic.claude-3-5-haiku-20241022-v1:0", 2_048),
        ("claude-3-haiku", 2_048),
        ("claude-something-new", 4_096),
    ],
)
def test_the_smallest_prefix_is_known_by_the_models_name(model: str, least: int) -> None:
    """Of a model that is not documented to us, the largest figure of all."""
    assert least_cacheable_tokens(model) == least


# --- what pays -------------------------------------------------------------------------------------------------------


def test_break_even_is_exact(caches: Caches) -> None:
    """(1.25 - 1) / (1 - 0.1) = 5/18 of a read: the first pays. (2 - 1) / 0.9 = 10/9: the second does."""
    found = caches("anthropic", "claude-sonnet-5")

    assert found["5m"].break_even_reads == Fraction(5, 18)
    assert found["1h"].break_even_reads == Fraction(10, 9)
    assert [each.least_reads for each in found.values()] == [1, 2]
    assert caches("openai", "gpt-4.1")["in_memory"].break_even_reads == 0
    assert caches("openai", "gpt-4.1")["in_memory"].least_reads == 1


def test_at_break_even_nothing_is_saved_yet() -> None:
    """(1.9 - 1) / (1 - 0.1) = 1: one read costs as much as none, 1.9 + 0.1 = 2."""
    even = terms(write="1.9")

    assert even.break_even_reads == 1
    assert even.least_reads == 2
    assert even.stream(7, [10]).saved_usd == 0  # type: ignore[union-attr]


def test_a_cache_whose_reading_is_no_cheaper_never_pays() -> None:
    assert terms(read="1").break_even_reads is None
    assert terms(read="1").least_reads is None


def test_writing_that_is_cheaper_than_plain_input_pays_unread() -> None:
    """(0.5 - 1) / 0.9 is below 0: no read is needed."""
    assert terms(write="0.5").least_reads == 0


def test_a_use_in_time_reads_and_keeps_it_and_a_later_one_writes() -> None:
    """Gaps of 299 s keep it for 598 s in all; 300 s is too late. 100 tokens: 2 written at 1.25, 3 read at 0.10."""
    cost = terms().stream(100, [299, 299, 300, 0])

    assert cost is not None
    assert (cost.reads, cost.writes) == (3, 2)
    assert cost.cached_usd == 100 * (2 * Decimal("1.25") + 3 * Decimal("0.10")) == 280
    assert cost.uncached_usd == 500
    assert cost.saved_usd == 220


def test_uses_too_far_apart_cost_more_than_without() -> None:
    """Each writes: 3 x 10 x 1.25 against 3 x 10."""
    cost = terms().stream(10, [301, 1e6])

    assert cost is not None
    assert cost.saved_usd == Decimal("-7.50")


def test_a_prefix_that_is_too_small_is_not_cached() -> None:
    """One token below the least: nothing is written, nothing saved; at the least it is."""
    small, enough = terms(least=1_024).stream(1_023, [1]), terms(least=1_024).stream(1_024, [1])

    assert small is not None
    assert enough is not None
    assert (small.reads, small.writes, small.cached_usd) == (0, 0, Decimal(2_046))
    assert (enough.reads, enough.writes) == (1, 1)


GAPS = st.lists(st.floats(0, 10_000), max_size=20)


@given(gaps=GAPS, tokens=st.integers(1, 10**6), write=st.integers(1, 400), read=st.integers(0, 99))
def test_it_saves_exactly_where_there_are_more_reads_than_break_even(
    gaps: list[float], tokens: int, write: int, read: int
) -> None:
    """Whatever the prices, the formula and the sum agree, to the last digit."""
    cache = terms(write=str(Decimal(write) / 100), read=str(Decimal(read) / 100))
    cost, even = cache.stream(tokens, gaps), cache.break_even_reads

    assert cost is not None
    assert even is not None
    assert cost.reads + cost.writes == len(gaps) + 1
    assert cost.uncached_usd == tokens * (len(gaps) + 1)
    assert cost.saved_usd == cache.saved_usd(read_tokens=tokens * cost.reads, written_tokens=tokens * cost.writes)
    assert (cost.saved_usd > 0) == (Fraction(cost.reads, cost.writes) > even)
    assert (cost.saved_usd == 0) == (Fraction(cost.reads, cost.writes) == even)


@given(gaps=GAPS, tokens=st.integers(1, 10**6))
def test_a_longer_cache_never_reads_less(gaps: list[float], tokens: int) -> None:
    short, long = terms(ttl_s=300).stream(tokens, gaps), terms(ttl_s=3_600).stream(tokens, gaps)

    assert short is not None
    assert long is not None
    assert long.reads >= short.reads
    assert long.cached_usd <= short.cached_usd


@pytest.mark.parametrize("gap", [-1, float("nan"), float("inf"), True, "1"])
def test_a_gap_that_is_no_time_is_refused(gap: float) -> None:
    with pytest.raises(BadArguments, match="no time between two uses"):
        terms().stream(10, [gap])


@pytest.mark.parametrize("tokens", [-1, 1.5, True])
def test_tokens_are_whole_numbers(book: PriceBook, tokens: int) -> None:
    with pytest.raises(BadArguments, match="tokens="):
        terms().stream(tokens, [])
    with pytest.raises(BadArguments, match="prompt_tokens="):
        caches_of(book, PriceKey(provider="openai", model="gpt-4.1", at=NOON), prompt_tokens=tokens)
