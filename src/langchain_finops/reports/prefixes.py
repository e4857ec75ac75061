"""Which beginnings of prompts come again, what a cache of them would save, and what breaks it: rows of `insight`."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from statistics import median
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.columns import Sort
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.prompts import with_prompts
from langchain_finops.ledger.totals import APART
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cache_terms import CacheTerms, caches_of
from langchain_finops.reports.prefix_audit import CAUSES, Group, Plan, Sold, Used, audit

__all__ = ["FIELDS", "prefix_rows", "priced"]

Row = dict[str, Any]
FIELDS: Final = (
    *("agent", "node", "provider", "model", "calls", "input_tokens", "prefix", "prefix_tokens", "prefix_parts"),
    *("prefix_repeats", "repeats", "shared_tokens", "every_s", "within_5m", "within_30m", "within_1h"),
    *("cache_read_tokens", "cache_write_tokens", "cached_usd", "best_cache", "could_save_usd", "caches"),
    *("broken_by", "lost_tokens", "lost_usd", "breaks"),
)
SPANS: Final = {"within_5m": 300_000_000, "within_30m": 1_800_000_000, "within_1h": 3_600_000_000}
SAME_PRICE_TOKENS: Final = 10_000
"""Fewer than any price for long prompts begins at."""
WORDS: Final = {
    "time_stamp": "time stamp in the system prompt",
    "tools_reordered": "tools reordered",
    "tools_changed": "tools changed",
    "system_changed": "system prompt changed",
    "history_rewritten": "history rewritten",
}


def prefix_rows(
    ledger: Ledger, *, book: PriceBook | None = None, since: datetime | None = None, until: datetime | None = None
) -> list[Row]:
    """Return a row for each agent, node, provider and model whose prompts have digests, the largest saving first.

    Prices are those of `book` (the shipped one) at the time of the last call; None where one is not known.
    """
    prices = book or PriceBook.default()
    period = Period.of(since, until)
    groups = with_prompts(ledger, period, lambda prompts: audit(prompts, prices, wanted=_is_the_agents))
    rows = [_row(priced(group, prices)) for group in groups]
    return sorted((row for row in rows if row["repeats"] or row["breaks"]), key=_largest)


def _is_the_agents(sort: Sort) -> bool:
    return sort.role not in APART


def priced(group: Group, book: PriceBook) -> Group:
    """The group with the prices at its last call; with unknown ones where a long prompt has others than a short one."""
    return replace(group, used={sold: _priced(sold, used, group.last_at, book) for sold, used in group.used.items()})


def _priced(sold: Sold, used: Used, at: int, book: PriceBook) -> Used:
    where = sold.key(at)
    now = {each.name: each for each in caches_of(book, where)}
    if used.longest > SAME_PRICE_TOKENS:
        long = {each.name: each for each in caches_of(book, where, prompt_tokens=used.longest)}
        now = {name: each if long.get(name) == each else _unknown(each) for name, each in now.items()}
    plans = [replace(plan, terms=now.get(plan.terms.name, _unknown(plan.terms))) for plan in used.plans]
    return replace(used, plans=plans, terms=tuple(now.get(each.name, _unknown(each)) for each in used.terms))


def _unknown(terms: CacheTerms) -> CacheTerms:
    return replace(terms, write_usd=None, read_usd=None)


def _largest(row: Row) -> tuple[Decimal, int, tuple[str, ...]]:
    saving = max((row[name] for name in ("could_save_usd", "lost_usd") if row[name] is not None), default=Decimal(0))
    return -saving, -row["shared_tokens"], tuple(row[name] or "" for name in ("agent", "node", "provider", "model"))


def _row(group: Group) -> Row:
    top = max(group.top.values(), key=lambda each: each[0] * each[1], default=None)
    caches = list(_caches(group))
    best = max(
        (each for each in caches if each["saved_usd"] is not None), key=lambda each: each["saved_usd"], default=None
    )
    cached = _sum(map(_saved_so_far, group.used.values()))
    breaks = sorted(_breaks(group), key=lambda each: -each["tokens"])
    return {
        **dict(zip(("agent", "node", "provider", "model"), group.key, strict=True)),
        "calls": group.calls,
        "input_tokens": group.tokens,
        "prefix": None if top is None else top[3],
        "prefix_tokens": None if top is None else top[1],
        "prefix_parts": None if top is None else top[2],
        "prefix_repeats": 0 if top is None else top[0],
        "repeats": len(group.gaps),
        "shared_tokens": group.shared,
        "every_s": median(group.gaps) / 1_000_000 if group.gaps else None,
        **{name: _within(group, span) for name, span in SPANS.items()},
        "cache_read_tokens": group.read,
        "cache_write_tokens": group.written + group.kept,
        "cached_usd": cached,
        "best_cache": None if best is None else _name(best),
        "could_save_usd": None if best is None or cached is None else _more(best["saved_usd"], cached),
        "caches": caches,
        "broken_by": breaks[0]["what"] if breaks else None,
        "lost_tokens": sum(each["tokens"] for each in breaks),
        "lost_usd": _sum(each["usd"] for each in breaks),
        "breaks": breaks,
    }


def _more(best: Decimal, cached: Decimal) -> Decimal:
    """What the best cache, or none, saves more than was saved already."""
    return max(EXACT.subtract(max(best, Decimal(0)), cached), Decimal(0))


def _name(cache: Row) -> str:
    if cache["saved_usd"] <= 0:
        return "none"
    return str(cache["name"]) if cache["kind"] == "automatic" else f"{cache['name']}, {cache['after']}"


def _within(group: Group, span: int) -> float | None:
    return sum(gap < span for gap in group.gaps) / len(group.gaps) if group.gaps else None


def _caches(group: Group) -> Iterator[Row]:
    """Each way to cache once, whatever the prices are at which its calls are sold."""
    plans = dict[tuple[str, bool], list[Plan]]()
    for used in group.used.values():
        for plan in used.plans:
            plans.setdefault((plan.terms.name, plan.is_whole), []).append(plan)
    for (name, is_whole), each in plans.items():
        terms = each[0].terms
        even, least = ({way(plan.terms) for plan in each} for way in (_even, _least_reads))
        yield {
            "name": name,
            "kind": terms.kind,
            "ttl_s": terms.ttl_s,
            "after": "each prompt" if is_whole else "the system prompt",
            "read_tokens": sum(plan.reads for plan in each),
            "write_tokens": sum(plan.writes for plan in each),
            "break_even_reads": even.pop() if len(even) == 1 else None,
            "least_reads": least.pop() if len(least) == 1 else None,
            "saved_usd": _sum(saved_usd(plan) for plan in each) if len(each) == len(group.used) else None,
            "is_most": terms.is_longest,
        }


def _even(terms: CacheTerms) -> float | None:
    even = terms.break_even_reads
    return None if even is None else float(even)


def _least_reads(terms: CacheTerms) -> int | None:
    return terms.least_reads


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """None where one of them is not known."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total = EXACT.add(total, amount)
    return total


def saved_usd(plan: Plan) -> Decimal | None:
    """What a plan would save; below 0 it costs more than no cache. None where a price is unknown."""
    return _difference(plan.terms, plan.reads, {plan.terms.write_usd: plan.writes})


def _difference(terms: CacheTerms, reads: int, writes: dict[Decimal | None, int]) -> Decimal | None:
    if (terms.read_usd is None and reads) or any(price is None and tokens for price, tokens in writes.items()):
        return None
    saved = (
        Decimal(0) if terms.read_usd is None else EXACT.multiply(EXACT.subtract(terms.input_usd, terms.read_usd), reads)
    )
    for price, tokens in writes.items():
        if price is not None:
            saved = EXACT.subtract(saved, EXACT.multiply(EXACT.subtract(price, terms.input_usd), tokens))
    return saved


def _saved_so_far(used: Used) -> Decimal | None:
    """What was read from caches, and written to them, has saved so far, by what the provider reported."""
    if not used.terms:
        return None
    shortest = used.terms[0]
    long = next((each.write_usd for each in used.terms if each.name in {"1h", "12h"}), None)
    saved = _difference(shortest, used.read, {shortest.write_usd: used.written})
    if not used.kept:
        return saved
    if saved is None or long is None:
        return None
    return EXACT.subtract(saved, EXACT.multiply(EXACT.subtract(long, shortest.input_usd), used.kept))


def _breaks(group: Group) -> Iterator[Row]:
    for cause, (calls, tokens) in group.broken.items():
        usd = _sum(_lost(used, used.lost[cause]) for used in group.used.values() if cause in used.lost)
        yield {"cause": CAUSES[cause], "what": WORDS[CAUSES[cause]], "calls": calls, "tokens": tokens, "usd": usd}


def _lost(used: Used, tokens: int) -> Decimal | None:
    terms = used.terms[0] if used.terms else None
    if terms is None or terms.read_usd is None:
        return None
    return EXACT.multiply(EXACT.subtract(terms.input_usd, terms.read_usd), tokens)
