"""Up to where a prompt is to be cached, and for how long: by money, from what was seen. Pure.

What would have paid so far is expected to pay on. The uses of each beginning of the prompt that were seen are played
again with each cache that the model has; a beginning is cached where that would have cost less than plain input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import Final

from langchain_finops.levers.seen_prefixes import Seen, Step, Uses
from langchain_finops.money import EXACT
from langchain_finops.pricing.cache_terms import CacheTerms

__all__ = ["NOTHING", "Plan", "plan"]

NO_SAVING: Final = Decimal(0)
LOOK_BACK: Final = 20
"""At so many blocks Anthropic looks for what is cached, the marked one being the first: 20 new ones are too many.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cache for each beginning of a prompt, by name; None: no mark there. A later one never lives longer."""

    tools: str | None = None
    system: str | None = None
    messages: str | None = None

    def __bool__(self) -> bool:
        return bool(self.tools or self.system or self.messages)


NOTHING: Final = Plan()


@dataclass(frozen=True, slots=True)
class _Part:
    """What a mark adds to the marks before it."""

    name: str
    saved: tuple[Decimal | None, ...]
    """By cache, in the order of the terms."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What comes before the messages, in tokens."""

    tokens: int
    unmarked: int
    """Of these, what no other mark caches."""


def plan(terms: Sequence[CacheTerms], seen: Seen, *, expected_uses: int = 0) -> Plan:
    """The marks that would have saved most so far; NOTHING where none would have saved anything.

    `expected_uses`: until so many further uses of a beginning were seen, those that are missing count as seen, and as
    in time. Each beginning is reckoned beyond the one before it, because a mark caches all that stands before it.
    """
    ordered = sorted(terms, key=lambda each: each.ttl_s)
    if not ordered:
        return NOTHING
    parts = list(_parts(ordered, seen, expected_uses))
    best, most = NOTHING, NO_SAVING
    for chosen in _choices(len(parts), len(ordered)):
        saved = NO_SAVING
        for part, cache in zip(parts, chosen, strict=False):
            amount = part.saved[cache]
            if amount is None:
                break
            saved = EXACT.add(saved, amount)
        else:
            if saved > most:
                named = {part.name: ordered[cache].name for part, cache in zip(parts, chosen, strict=False)}
                best, most = Plan(**named), saved
    return best


def _choices(parts: int, caches: int) -> Iterator[tuple[int, ...]]:
    """A cache for each of the first parts, longer ones first: providers refuse a longer one behind a shorter one."""

    def further(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if chosen:
            yield chosen
        if len(chosen) < parts:
            for cache in range(chosen[-1] + 1 if chosen else caches):
                yield from further((*chosen, cache))

    return further(())


def _parts(terms: Sequence[CacheTerms], seen: Seen, expected_uses: int) -> Iterator[_Part]:
    """The beginnings that are long enough to be cached; a shorter one is a part of the next."""
    least, begun, waiting = terms[0].least_tokens, 0, 0
    for name, uses in (("tools", seen.tools), ("system", seen.system)):
        if uses is None:
            continue
        waiting += max(0, uses.tokens - begun)
        begun = max(begun, uses.tokens)
        if begun >= least:
            yield _Part(name, tuple(_saved_by(each, uses, waiting, expected_uses) for each in terms))
            waiting = 0
    if begun + seen.steps[-1].tokens >= least:
        head = _Head(tokens=begun, unmarked=waiting)
        yield _Part("messages", tuple(_saved_growing(each, seen.steps, head, expected_uses) for each in terms))


def _saved_by(terms: CacheTerms, uses: Uses, tokens: int, expected_uses: int) -> Decimal | None:
    """What the cache would have saved on so many tokens of a prefix, at all uses that were seen."""
    missing = max(0, expected_uses - len(uses.gaps_s))
    reads = terms.reads_in(uses.gaps_s) + missing
    writes = len(uses.gaps_s) + missing + 1 - reads
    return terms.saved_usd(read_tokens=tokens * reads, written_tokens=tokens * writes)


def _saved_growing(terms: CacheTerms, steps: Sequence[Step], head: _Head, expected_uses: int) -> Decimal | None:
    """The same of conversations that grow: each step reads what the step before had sent, and writes the rest.

    A prompt below the least that is cached was neither written nor can it be read, nor one too many blocks ago.
    """
    look_back = LOOK_BACK if terms.kind == "explicit" else inf
    read = written = 0
    for step in steps:
        if head.tokens + step.tokens < terms.least_tokens:
            continue
        is_long = step.tokens_before > 0 and head.tokens + step.tokens_before >= terms.least_tokens
        is_held = is_long and step.gap_s < terms.ttl_s and step.new_blocks < look_back
        held = step.tokens_before + head.unmarked if is_held else 0
        read += held
        written += step.tokens + head.unmarked - held
    missing = max(0, expected_uses - len(steps) + 1)
    return terms.saved_usd(read_tokens=read + missing * (steps[-1].tokens + head.unmarked), written_tokens=written)
