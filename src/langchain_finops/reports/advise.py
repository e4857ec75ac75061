"""What to change, dearest first: each finding with what it saves a month, how sure that is, and what it rests on.

docs/advise.md defines each finding.
"""

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import MICROS_PER_DAY, from_micros
from langchain_finops.ledger.columns import Columns, Series, Sort, columns_of
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.prompts import with_prompts
from langchain_finops.ledger.totals import APART
from langchain_finops.money import EXACT, from_pico
from langchain_finops.pricing.book import PriceBook
from langchain_finops.reports.advise_agents import Machine, idle_polling, late_handoff, not_waited_for, self_hosting
from langchain_finops.reports.advise_answers import long_answers
from langchain_finops.reports.advise_calls import (
    futile_retries,
    growing_context,
    repeated_calls,
    unread_cache,
)
from langchain_finops.reports.advise_look import PAID_MODES, Finding, Look
from langchain_finops.reports.advise_models import cheaper_success, overhead, small_answers
from langchain_finops.reports.advise_prefixes import broken_cache, uncached_prefix
from langchain_finops.reports.advise_prices import Prices
from langchain_finops.reports.prefix_audit import Group, audit
from langchain_finops.reports.render import exact
from langchain_finops.reports.success_cost import QUOTIENT

__all__ = ["CHANGES", "FIELDS", "KINDS", "Advice", "Machine", "advise"]

Row = dict[str, Any]
FINDERS: Final = (
    cheaper_success, small_answers, overhead, uncached_prefix, broken_cache, unread_cache, growing_context,
    repeated_calls, futile_retries, idle_polling, not_waited_for, late_handoff, long_answers,
)  # fmt: skip
KINDS: Final = (
    "cheaper_model", "small_answers", "overhead", "uncached_prefix", "broken_cache", "unread_cache",
    "growing_context", "repeated_calls", "futile_retries", "idle_polling", "not_waited_for", "late_handoff",
    "long_answers", "self_hosting",
)  # fmt: skip
CHANGES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(KINDS, ()),
    **dict.fromkeys(("cheaper_model", "small_answers", "overhead"), ("provider", "model")),
    "not_waited_for": ("way",),
    "late_handoff": ("calls",),
    "long_answers": ("tokens",),
}
"""By kind, what `change` of a row may name: what its lever sets."""
FIELDS: Final = (
    *("n", "kind", "agent", "node", "provider", "model", "usd_per_month", "adds_usd_per_month", "saving_usd"),
    *("saving_is", "share", "calls", "unpriced", "confidence", "rests_on", "evidence", "see", "lever", "change"),
    *("risk", "days"),
)
"""What a row holds, in order."""
MONTH_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What was found in a period."""

    rows: list[Row]
    """The largest saving first, those whose saving is unknown last."""
    days: int
    """UTC days from the first call to the last, both included: a saving over them is scaled to 30."""
    cost_usd: Decimal
    """What calls and charges of the period cost after discounts, as far as it is known, measuring apart."""
    usd_per_month: Decimal
    """Of all findings together: of a call that several would make cheaper only the largest saving counts."""
    unpriced: int
    """Calls whose price is unknown: they are in no amount."""
    folded: int
    """Calls and charges that are daily sums only: nothing is said of them."""
    protected: tuple[str, ...]


def advise(
    ledger: Ledger,
    *,
    book: PriceBook | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    protect: Collection[str] = (),
    unattended: Collection[str] = (),
    machine: Machine | None = None,
) -> Advice:
    """Return what would make the calls of a period cheaper; nothing of it touches a node in `protect`.

    `unattended` are agents whose runs nobody waits for; with a `machine` it is told for which models it would pay.
    Other prices than those that were paid are those of `book` (the shipped one) at the time of the last call.
    """
    period, prices = Period.of(since, until), book or PriceBook.default()
    columns = columns_of(ledger, period)
    if columns.first is None or columns.last is None:
        return _told([], columns, days=1, protect=protect)
    days = columns.last // MICROS_PER_DAY - columns.first // MICROS_PER_DAY + 1
    look = Look(
        ledger=ledger,
        columns=columns,
        prices=Prices(prices, from_micros(columns.last)),
        protected=frozenset(protect),
        unattended=frozenset(unattended),
        audited=_audited(ledger, period, prices),
    )
    found = [finding for finder in FINDERS for finding in finder(look)]
    if machine is not None:
        found += self_hosting(look, machine, days)
    return _told(_without_doubles(found), columns, days=days, protect=protect)


def _audited(ledger: Ledger, period: Period, book: PriceBook) -> dict[tuple[str | None, ...], Group]:
    """What digests of prompts tell of calls that are paid by their tokens."""

    def wanted(sort: Sort) -> bool:
        return sort.mode in PAID_MODES and sort.role in {"agent", "overhead"}

    groups = with_prompts(ledger, period, lambda prompts: audit(prompts, book, wanted=wanted, by_call=True))
    return {group.key: group for group in groups}


def _without_doubles(found: Sequence[Finding]) -> list[Finding]:
    """Where successes speak for a cheaper model, the size of its answers has nothing to add."""
    better = {(each.agent, each.node, each.provider, each.model) for each in found if each.kind == "cheaper_model"}
    return [
        each
        for each in found
        if each.kind != "small_answers" or (each.agent, each.node, each.provider, each.model) not in better
    ]


def _told(found: Sequence[Finding], columns: Columns, *, days: int, protect: Collection[str]) -> Advice:
    ranked = sorted(found, key=_largest)
    counted: dict[Series, array[int]] = {}
    rows, whole = [], 0
    cost = sum(sum(series.pico) for series in columns.series if series.sort.role not in APART)
    for number, finding in enumerate(ranked, 1):
        adds = _add(counted, finding)
        whole += adds
        rows.append(_row(number, finding, adds, cost, days))
    unpriced = (len(s) for s in columns.series if s.sort.unpriced and s.sort.is_call and s.sort.role not in APART)
    return Advice(
        rows=rows,
        days=days,
        cost_usd=from_pico(cost),
        usd_per_month=_monthly(whole, days),
        unpriced=sum(unpriced),
        folded=columns.folded,
        protected=tuple(sorted(protect)),
    )


def _largest(finding: Finding) -> tuple[int, int, str, tuple[str, ...]]:
    names = (finding.agent, finding.node, finding.provider, finding.model)
    return -finding.claims.pico, -finding.claims.calls, finding.kind, tuple(name or "" for name in names)


def _add(counted: dict[Series, "array[int]"], finding: Finding) -> int:
    """What a finding saves beyond those that were counted before: of each call only the largest saving counts."""
    added = 0
    for series, places, amounts in finding.claims.items():
        best = counted.get(series)
        if best is None:
            best = counted[series] = array("q", bytes(8 * len(series)))
        for place, amount in zip(places, amounts, strict=True):
            if amount > best[place]:
                added += amount - best[place]
                best[place] = amount
    return added


def _monthly(pico: int, days: int) -> Decimal:
    return QUOTIENT.divide(EXACT.multiply(from_pico(pico), MONTH_DAYS), Decimal(days))


def _row(number: int, finding: Finding, adds: int, cost: int, days: int) -> Row:
    claims = finding.claims
    pico, unpriced = claims.pico, claims.unpriced
    is_known = not finding.is_unknown and claims.has_known
    evidence = [{name: exact(value) for name, value in row.items()} for row in finding.evidence]
    return {
        "n": number,
        "kind": finding.kind,
        "agent": finding.agent,
        "node": finding.node,
        "provider": finding.provider,
        "model": finding.model,
        "usd_per_month": _monthly(pico, days) if is_known else None,
        "adds_usd_per_month": _monthly(adds, days),
        "saving_usd": from_pico(pico) if is_known else None,
        "saving_is": _how_known(finding, is_known=is_known),
        "share": pico / cost if is_known and cost else None,
        "calls": claims.calls,
        "unpriced": unpriced,
        "confidence": finding.confidence,
        "rests_on": finding.rests_on,
        "evidence": evidence,
        "see": finding.see,
        "lever": finding.lever,
        "change": dict(finding.change),
        "risk": finding.risk,
        "days": days,
    }


def _how_known(finding: Finding, *, is_known: bool) -> str:
    if not is_known:
        return "unknown"
    if finding.is_most:
        return "at_most"
    return "at_least" if finding.claims.unpriced else "known"
