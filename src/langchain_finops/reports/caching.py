"""Whether prompt caches pay: how much of the input came from them, and what that saved or cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.totals import Totals
from langchain_finops.money import EXACT
from langchain_finops.records import CallRecord
from langchain_finops.reports.success_cost import QUOTIENT

__all__ = ["cache_rows"]

WRITES: Final = (
    "cache_write_5m_tokens", "cache_write_30m_tokens", "cache_write_1h_tokens", "cache_write_12h_tokens",
)  # fmt: skip
PROMPT: Final = ("input_tokens", "cache_read_tokens", *WRITES)
"""Meters of text that goes in."""
Key = tuple[str | None, str | None, str | None]


@dataclass(slots=True)
class _Saved:
    prompt_usd: Decimal = Decimal(0)
    uncached_usd: Decimal = Decimal(0)
    unknown: int = 0
    """Calls of which nobody knows what they would have cost without a cache."""
    known: int = 0


def cache_rows(ledger: Ledger, *, since: datetime | None = None, until: datetime | None = None) -> list[dict[str, Any]]:
    """Return a row for each agent and model that used a cache: hit rate, and cache efficiency.

    Efficiency is 1 - prompt cost / what the same tokens cost uncached; below 0 the cache cost more than it saved.
    """
    groups = ledger.totals(("agent", "provider", "model"), since=since, until=until)
    used = {group.key: group.totals for group in groups if any(group.totals.meters[name] for name in PROMPT[1:])}
    saved = _saved(ledger, used, since, until) if used else {}
    rows = [_row(key, totals, saved.get(key, _Saved())) for key, totals in used.items()]
    return sorted(rows, key=lambda row: (row["saved_usd"] or Decimal(0), -row["input_tokens"]))


def _row(key: tuple[str | None, ...], totals: Totals, saved: _Saved) -> dict[str, Any]:
    read = totals.meters["cache_read_tokens"]
    written = sum(totals.meters[name] for name in WRITES)
    tokens = totals.meters["input_tokens"] + read + written
    uncached = saved.uncached_usd if saved.known else None
    return {
        **dict(zip(("agent", "provider", "model"), key, strict=True)),
        "calls": totals.calls,
        "input_tokens": tokens,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "hit_rate": read / tokens,
        "prompt_usd": saved.prompt_usd if saved.known else None,
        "uncached_usd": uncached,
        "saved_usd": None if uncached is None else EXACT.subtract(uncached, saved.prompt_usd),
        "efficiency": float(1 - saved.prompt_usd / uncached) if uncached else None,
        "unknown": saved.unknown,
    }


def _saved(
    ledger: Ledger, used: Mapping[tuple[str | None, ...], Totals], since: datetime | None, until: datetime | None
) -> dict[tuple[str | None, ...], _Saved]:
    """What each call's prompt cost, and would have cost; one without uncached tokens has its rate from the last that
    has some, by the same card."""
    found: dict[tuple[str | None, ...], _Saved] = {}
    rates: dict[tuple[str | None, str | None], Decimal] = {}
    waiting: list[tuple[Key, CallRecord]] = []
    for call in ledger.calls(since=since, until=until):
        key = (call.attribution.agent_id, call.provider, call.model)
        if key not in used:
            continue
        meters, usage = call.meter_usd or {}, call.usage
        if usage.input_tokens and "input_tokens" in meters:
            rates[call.model, call.card_id] = QUOTIENT.divide(meters["input_tokens"], Decimal(usage.input_tokens))
        rate = rates.get((call.model, call.card_id))
        if rate is None:
            waiting.append((key, call))
        else:
            _add(found, key, call, rate)
    for key, call in waiting:
        _add(found, key, call, rates.get((call.model, call.card_id)))
    return found


def _add(found: dict[tuple[str | None, ...], _Saved], key: Key, call: CallRecord, rate: Decimal | None) -> None:
    saved = found.setdefault(key, _Saved())
    tokens = sum(getattr(call.usage, name) for name in PROMPT)
    if not tokens:
        return
    if call.meter_usd is None or call.cost_usd is None or rate is None:
        saved.unknown += 1
        return
    saved.known += 1
    for name in PROMPT:
        saved.prompt_usd = EXACT.add(saved.prompt_usd, call.meter_usd.get(name, Decimal(0)))
    saved.uncached_usd = EXACT.add(saved.uncached_usd, EXACT.multiply(rate, tokens))
