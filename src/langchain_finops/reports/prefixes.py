"""Which beginnings of prompts come again, what a cache of them would save, and what breaks it: rows of `insight`."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from statistics import median
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import from_micros
from langchain_finops.ledger.columns import Sort
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.prompts import with_prompts
from langchain_finops.ledger.totals import APART
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cache_terms import CacheTerms, caches_of
from langchain_finops.pricing.cost import PriceKey
from langchain_finops.reports.prefix_audit import CAUSES, Group, Plan, audit

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
    _, _, provider, model = group.key
    where = PriceKey(
        provider=provider, model=model, requested_model=model, at=from_micros(group.last_at), base_url_host=group.host
    )
    now = {each.name: each for each in caches_of(book, where)}
    if group.longest > SAME_PRICE_TOKENS:
        long = {each.name: each for each in caches_of(book, where, prompt_tokens=group.longest)}
        now = {name: each if long.get(name) == each else _unknown(each) for name, each in now.items()}
    plans = [replace(plan, terms=now.get(plan.terms.name, _unknown(plan.terms))) for plan in group.plans]
    return replace(group, plans=plans, terms=tuple(now.get(each.name, _unknown(each)) for each in group.terms))


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
    breaks = sorted(_breaks(group), key=lambda each: -each["tokens"])
    lost = [each["usd"] for each in breaks]
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
        "cached_usd": _saved_so_far(group),
        "best_cache": None if best is None else _name(best),
        "could_save_usd": None if best is None else max(best["saved_usd"], Decimal(0)),
        "caches": caches,
        "broken_by": breaks[0]["what"] if breaks else None,
        "lost_tokens": sum(each["tokens"] for each in breaks),
        "lost_usd": None if None in lost else EXACT.create_decimal(sum(lost, Decimal(0))),
        "breaks": breaks,
    }


def _name(cache: Row) -> str:
    if cache["saved_usd"] <= 0:
        return "none"
    return str(cache["name"]) if cache["kind"] == "automatic" else f"{cache['name']}, {cache['after']}"


def _within(group: Group, span: int) -> float | None:
    return sum(gap < span for gap in group.gaps) / len(group.gaps) if group.gaps else None


def _caches(group: Group) -> Iterator[Row]:
    for plan in group.plans:
        terms, even = plan.terms, plan.terms.break_even_reads
        yield {
            "name": terms.name,
            "kind": terms.kind,
            "ttl_s": terms.ttl_s,
            "after": "each prompt" if plan.is_whole else "the system prompt",
            "read_tokens": plan.reads,
            "write_tokens": plan.writes,
            "break_even_reads": None if even is None else float(even),
            "least_reads": terms.least_reads,
            "saved_usd": saved_usd(plan),
            "is_most": terms.is_longest,
        }


def saved_usd(plan: Plan) -> Decimal | None:
    """What a plan would save; below 0 it costs more than no cache. None where a price is unknown."""
    return _difference(plan.terms, plan.reads, {plan.terms.write_usd: plan.writes})


def _difference(terms: CacheTerms, reads: int, writes: dict[Decimal | None, int]) -> Decimal | None:
    if terms.read_usd is None or any(price is None and tokens for price, tokens in writes.items()):
        return None
    saved = EXACT.multiply(EXACT.subtract(terms.input_usd, terms.read_usd), reads)
    for price, tokens in writes.items():
        if price is not None:
            saved = EXACT.subtract(saved, EXACT.multiply(EXACT.subtract(price, terms.input_usd), tokens))
    return saved


def _saved_so_far(group: Group) -> Decimal | None:
    """What was read from caches, and written to them, has saved so far, by what the provider reported."""
    if not group.terms:
        return None
    shortest = group.terms[0]
    long = next((each.write_usd for each in group.terms if each.name in {"1h", "12h"}), None)
    saved = _difference(shortest, group.read, {shortest.write_usd: group.written})
    if not group.kept:
        return saved
    if saved is None or long is None:
        return None
    return EXACT.subtract(saved, EXACT.multiply(EXACT.subtract(long, shortest.input_usd), group.kept))


def _breaks(group: Group) -> Iterator[Row]:
    terms = group.terms[0] if group.terms else None
    for cause, (calls, tokens) in group.broken.items():
        usd = None
        if terms is not None and terms.read_usd is not None:
            usd = EXACT.multiply(EXACT.subtract(terms.input_usd, terms.read_usd), tokens)
        yield {"cause": CAUSES[cause], "what": WORDS[CAUSES[cause]], "calls": calls, "tokens": tokens, "usd": usd}
