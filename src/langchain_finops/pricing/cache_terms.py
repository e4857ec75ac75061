"""Which prompt caches a model has, what they cost, and what a stream of uses of one prefix costs with each. Pure.

Rules, all for one prefix, whose tokens are charged at `input_usd` where no cache is used:

- A use writes the prefix (`write_usd` a token) where no cache holds it, and else reads it (`read_usd` a token).
- A write or read keeps it for `ttl_s`. A use that comes sooner reads, and so refreshes it; a later one writes again.
- A prefix below `least_tokens` is not cached, whatever is asked for: every use costs `input_usd`.
- A prompt that grows is several prefixes: what was added at each step is written then, and read with the rest.

`break_even_reads`, the number n of reads for each write from which on a cache pays, is where both sides of
`write + n * read = (n + 1) * input` are equal: `n = (write - input) / (input - read)`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import floor, isfinite
from typing import Final, Literal

from langchain_finops.errors import BadArguments
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import PriceKey, Reading
from langchain_finops.usage import Usage

__all__ = ["CacheTerms", "StreamCost", "caches_of", "least_cacheable_tokens"]

Kind = Literal["explicit", "automatic"]
TTL_S: Final = {"5m": 300, "30m": 1_800, "1h": 3_600, "12h": 43_200, "24h": 86_400}
SAMPLE_TOKENS: Final = 1_000

CLAUDE_SELLERS: Final = ("anthropic", "aws", "google", "azure")
OPENAI_SELLERS: Final = ("openai", "azure")
CLAUDE_LEAST: Final[tuple[tuple[str, int], ...]] = (
    (r"(opus|fable|mythos)-5(?!-\d(\D|$))", 512),
    (r"opus-4-[567](\D|$)", 4_096),
    (r"opus-4|[34]-opus|sonnet", 1_024),
    (r"3(-5)?-haiku", 2_048),
)
"""Parts of a Claude model's name, and the smallest prefix that is cached; the first that fits counts. From
https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read in November 2026; for Opus 4.7 it says 2,048,
and Bedrock 4,096."""
CLAUDE_OTHER_LEAST: Final = 4_096
"""Of Haiku 4.5, and of a Claude model that is not listed: rather too little is expected of its cache."""
OPENAI_LEAST: Final = 1_024
"""https://developers.openai.com/api/docs/guides/prompt-caching"""
NOVA_LEAST: Final = 1_024
"""Bedrock says "1K": https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html"""
GEMINI_LEAST, GEMINI_25_LEAST = 4_096, 2_048
"""https://ai.google.dev/gemini-api/docs/caching, of 2026-10-13; the second for Gemini 2.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCost:
    """What the uses of one prefix cost, in dollars, with a cache and without."""

    reads: int
    writes: int
    cached_usd: Decimal
    uncached_usd: Decimal

    @property
    def saved_usd(self) -> Decimal:
        """What the cache saves; below 0 it costs more than none."""
        return EXACT.subtract(self.uncached_usd, self.cached_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTerms:
    """One prompt cache of a model: how long it keeps a prefix, and dollars a token at list price."""

    name: str
    """What it is asked for by: `5m`, `1h`, `30m`, `in_memory`, `24h`, or `implicit`."""
    kind: Kind
    """`explicit`: only what a request marks is cached. `automatic`: the provider caches by itself."""
    ttl_s: int
    """Seconds after the last use, for which it can be counted on unless `is_longest`."""
    is_longest: bool = False
    """The provider names the longest time only: what is reckoned by `ttl_s` is the most that can be saved."""
    least_tokens: int
    """The smallest prefix that is cached."""
    input_usd: Decimal
    """A token that no cache has to do with."""
    write_usd: Decimal | None
    """A token written to the cache; None where no price is known."""
    read_usd: Decimal | None
    """A token read from the cache; None where no price is known."""
    reasons: tuple[str, ...] = ()
    """Why these prices are estimates; empty where they are sure."""

    @property
    def break_even_reads(self) -> Fraction | None:
        """Reads for each write at which the cache costs what none would: more of them pay. At most 0: it costs nothing
        more even unread. None where a price is unknown, or reading is no cheaper, so that no number pays."""
        if self.write_usd is None or self.read_usd is None or self.read_usd >= self.input_usd:
            return None
        return (Fraction(self.write_usd) - Fraction(self.input_usd)) / (
            Fraction(self.input_usd) - Fraction(self.read_usd)
        )

    @property
    def least_reads(self) -> int | None:
        """The smallest whole number of reads for each write that saves something; None as in `break_even_reads`."""
        even = self.break_even_reads
        return None if even is None else max(0, floor(even) + 1)

    def saved_usd(self, *, read_tokens: int, written_tokens: int) -> Decimal | None:
        """What is saved against plain input where so many tokens are read and so many written; None where a price is
        unknown. `least_tokens` is not looked at."""
        if self.write_usd is None or self.read_usd is None:
            return None
        gained = EXACT.multiply(EXACT.subtract(self.input_usd, self.read_usd), read_tokens)
        return EXACT.subtract(gained, EXACT.multiply(EXACT.subtract(self.write_usd, self.input_usd), written_tokens))

    def reads_in(self, gaps_s: Iterable[float]) -> int:
        """How many uses after these gaps, in seconds, come in time to read; a gap as long as `ttl_s` is too long.

        Raises BadArguments for a gap that is no finite number of 0 or more.
        """
        return sum(gap < self.ttl_s for gap in _gaps(gaps_s))

    def stream(self, tokens: int, gaps_s: Sequence[float]) -> StreamCost | None:
        """Uses of a prefix of `tokens`, one more than there are gaps between them, in seconds. The first one writes.

        None where a price is unknown. Raises BadArguments as `reads_in`, and for tokens that are no whole number.
        """
        _whole("tokens", tokens)
        reads, uses = self.reads_in(gaps_s), len(gaps_s) + 1
        if self.write_usd is None or self.read_usd is None:
            return None
        uncached = EXACT.multiply(self.input_usd, tokens * uses)
        if tokens < self.least_tokens:
            return StreamCost(reads=0, writes=0, cached_usd=uncached, uncached_usd=uncached)
        written = EXACT.multiply(self.write_usd, tokens * (uses - reads))
        cached = EXACT.add(written, EXACT.multiply(self.read_usd, tokens * reads))
        return StreamCost(reads=reads, writes=uses - reads, cached_usd=cached, uncached_usd=uncached)


def caches_of(book: PriceBook, key: PriceKey, *, prompt_tokens: int = SAMPLE_TOKENS) -> tuple[CacheTerms, ...]:
    """The caches of the key's model, by the book's list prices at the key's time for a prompt of `prompt_tokens`.

    Shortest first. Empty where the model has none that we know of, or its input has no price by the token.
    """
    _whole("prompt_tokens", prompt_tokens, least=1)
    provider, model = key.provider, (key.model or "").lower()
    rates = _Rates(book, key, prompt_tokens)
    if "claude" in model and provider in CLAUDE_SELLERS:
        found = [("5m", "cache_write_5m_tokens"), ("1h", "cache_write_1h_tokens")]
        return _terms(rates, "explicit", least_cacheable_tokens(model), found)
    if provider in OPENAI_SELLERS:
        return _of_openai(rates)
    if provider == "aws" and "amazon.nova" in model:
        return _terms(rates, "explicit", NOVA_LEAST, [("5m", "cache_write_5m_tokens")])
    if provider == "google" and "gemini" in model:
        least = GEMINI_25_LEAST if "gemini-2.5" in model else GEMINI_LEAST
        # What is not read is plain input; how long it can be read is not said, at most a day.
        return _terms(rates, "automatic", least, [("implicit", "input_tokens")])
    return ()


def least_cacheable_tokens(model: str) -> int:
    """The smallest prefix that a Claude model caches, by its name: of one that is not known, the largest of all."""
    name = model.lower().replace(".", "-")
    return next((least for part, least in CLAUDE_LEAST if re.search(part, name)), CLAUDE_OTHER_LEAST)


@dataclass(frozen=True, slots=True)
class _Rates:
    book: PriceBook
    key: PriceKey
    prompt_tokens: int

    def of(self, meter: str) -> tuple[Decimal | None, tuple[str, ...]]:
        """Dollars a token on a meter, and why they are an estimate; None where the meter has no rate of its own."""
        usage = Usage(**{meter: self.prompt_tokens, "requests": 0})
        cost = self.book.price(Reading(usage=usage, key=self.key))
        known = cost.by_meter.get(meter)
        if known is None or f"no_rate:{meter}" in cost.reasons:
            return None, cost.reasons
        return known.unit_price_usd, cost.reasons


def _of_openai(rates: _Rates) -> tuple[CacheTerms, ...]:
    """Models since GPT-5.6 charge for writing, and keep a prefix for 30 minutes at least; those before do neither."""
    fresh, _ = rates.of("input_tokens")
    written, _ = rates.of("cache_write_30m_tokens")
    longer = [("12h", "cache_write_12h_tokens")] if rates.of("cache_write_12h_tokens")[0] is not None else []
    if fresh is not None and written is not None and written != fresh:
        return _terms(rates, "automatic", OPENAI_LEAST, [("30m", "cache_write_30m_tokens"), *longer])
    found = [("in_memory", "cache_write_5m_tokens"), *longer, ("24h", "cache_write_5m_tokens")]
    return _terms(rates, "automatic", OPENAI_LEAST, found)


def _terms(rates: _Rates, kind: Kind, least: int, found: Iterable[tuple[str, str]]) -> tuple[CacheTerms, ...]:
    fresh, reasons = rates.of("input_tokens")
    if fresh is None:
        return ()
    read, more = rates.of("cache_read_tokens")
    reasons = tuple(dict.fromkeys((*reasons, *(each for each in more if not each.startswith("no_rate:cache")))))
    return tuple(
        CacheTerms(
            name=name,
            kind=kind,
            # OpenAI clears its memory after 5 to 10 minutes without a use.
            ttl_s=TTL_S.get(name, TTL_S["24h"] if name == "implicit" else TTL_S["5m"]),
            is_longest=name in {"24h", "implicit"},
            least_tokens=least,
            input_usd=fresh,
            write_usd=rates.of(meter)[0],
            read_usd=read,
            reasons=reasons,
        )
        for name, meter in found
    )


def _gaps(gaps_s: Iterable[float]) -> Iterator[float]:
    for gap in gaps_s:
        if type(gap) not in {int, float} or not isfinite(gap) or gap < 0:
            raise BadArguments(f"a gap of {gap!r} seconds is no time between two uses: give a number of 0 or more")
        yield gap


def _whole(name: str, value: int, *, least: int = 0) -> None:
    if type(value) is not int or value < least:
        raise BadArguments(f"{name}={value!r} is no whole number of {least} or more")
