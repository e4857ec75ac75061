"""What stored calls and tools cost by another price book, and the new figures as new versions of their records.

The old figures stay in the ledger's history. A call that the book has no price for keeps the one it has: an amount
that is known never becomes unknown by looking it up again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import show_usd
from langchain_finops.money import EXACT
from langchain_finops.pricing import PriceBook
from langchain_finops.pricing.again import is_matter_of_prices, price_call_again, price_tool_again
from langchain_finops.records import CallRecord, ChargeRecord, Event
from langchain_finops.reports.close import adjustments, closed_periods
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["Repricing", "reprice"]

BATCH = 1000
WINDOW = timedelta(hours=1)
AMOUNTS = ("cost_usd", "contracted_usd", "billed_usd")
CALL_FIELDS = (*AMOUNTS, "meter_usd", "currency", "fx_id", "billing_mode", "cost_status", "estimated", "usage")
CHARGE_FIELDS = ("cost_usd", "cost_status")
"""What makes a price another one. Not the card's id: a newer catalogue gives every card a new one at the same price."""
COUNTS = ("calls", "charges", "changed", "newly_priced", "kept", "unpriced", "not_by_price", "now_estimated")
SUMS = tuple(f"{name.removesuffix('_usd')}_{when}_usd" for name in AMOUNTS for when in ("before", "after"))
FIELDS = ("provider", "model", *COUNTS, *SUMS)

R = TypeVar("R", CallRecord, ChargeRecord)


@dataclass(slots=True)
class Sums:
    """What became of the records of one model, or of one tool."""

    calls: int = 0
    charges: int = 0
    changed: int = 0
    newly_priced: int = 0
    """Of the changed ones, those that had no price."""
    kept: int = 0
    """The book has no price for them: they keep the one they have."""
    unpriced: int = 0
    """They had no price and have none now."""
    not_by_price: int = 0
    """Billed amounts that the provider stated, calls that were not charged, amounts that a user named."""
    now_estimated: int = 0
    """Of the changed ones, those whose cost was not an estimate and is one now."""
    amounts: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(SUMS, Decimal(0)))

    def add(self, old: CallRecord | ChargeRecord, new: CallRecord | ChargeRecord | None) -> None:
        """Count a record; `new` is its new version, None where it stays as it is."""
        if isinstance(old, CallRecord):
            self.calls += 1
        else:
            self.charges += 1
        now = new or old
        if new is not None:
            self.changed += 1
            self.newly_priced += old.cost_usd is None
            self.now_estimated += new.cost_status == "estimated" != old.cost_status
        for name in AMOUNTS:
            plain = name.removesuffix("_usd")
            for record, when in ((old, "before"), (now, "after")):
                # A charge has one amount, and no discount that would change it.
                amount = getattr(record, name, None) if isinstance(record, CallRecord) else record.cost_usd
                self.amounts[f"{plain}_{when}_usd"] = EXACT.add(self.amounts[f"{plain}_{when}_usd"], amount or 0)

    def row(self, provider: str | None, model: str | None) -> dict[str, Any]:
        """The same as a table shows it."""
        return {
            "provider": provider,
            "model": model,
            **{name: getattr(self, name) for name in COUNTS},
            **self.amounts,
        }


@dataclass(slots=True, kw_only=True)
class Repricing:
    """What repricing changed, or would change."""

    sums: dict[tuple[str | None, str | None], Sums] = field(default_factory=dict)
    """By provider and model; a tool's charges have no provider."""
    folded: int = 0
    """Calls and charges of the period that were pruned: their sums cannot be priced again."""
    dry_run: bool = False

    @property
    def changed(self) -> int:
        """How many records got another price."""
        return sum(each.changed for each in self.sums.values())

    def total(self) -> dict[str, Any]:
        """The sums over everything."""
        rows = [each.row(None, None) for each in self.sums.values()]
        whole: dict[str, Any] = {name: sum(row[name] for row in rows) for name in COUNTS}
        for name in SUMS:
            whole[name] = Decimal(0)
            for row in rows:
                whole[name] = EXACT.add(whole[name], row[name])
        return {"provider": "", "model": "total", **whole}

    def table(self, caption: str) -> Table:
        """Ready to render: the models and tools whose prices changed most come first."""
        found = [each.row(*key) for key, each in self.sums.items()]
        rows = sorted(found, key=lambda row: (-abs(_difference(row)), -row["changed"], str(row["model"])))
        total = self.total()
        return Table(
            rows=rows,
            fields=FIELDS,
            columns=tuple(_columns(total)),
            total=total,
            caption=caption,
            notes=tuple(self._notes(total)),
        )

    def _notes(self, total: Row) -> Iterator[str]:
        if not total["changed"]:
            yield "Nothing to change: every price is the one on file."
        elif self.dry_run:
            yield "Nothing was written. Without --dry-run the new figures go above the old ones, which stay as history."
        else:
            yield "The old figures stay in the ledger's history. What budgets have counted stays as it was charged."
        for name, text in NOTES.items():
            if total[name]:
                yield f"{total[name]:,} {text}"
        if self.folded:
            yield f"{self.folded:,} pruned before: their daily sums keep the prices they were folded at."


NOTES = {
    "newly_priced": "had no price before: what they cost is part of the difference.",
    "kept": "have no price in this book and keep the one on file. `finops prices show MODEL` says why there is none.",
    "unpriced": "have no price, before and after. A card in $FINOPS_PRICES can give them one.",
    "not_by_price": "stay as they are: the provider stated the bill, nothing was charged, or a user named the amount.",
    "now_estimated": "were exact or free and are estimates now.",
}


def reprice(
    ledger: Ledger,
    book: PriceBook,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    actor: str = "finops reprice",
) -> Repricing:
    """Price calls and tools of a period again, and write new versions of those whose price is another.

    Doing it twice changes nothing the second time. Writes one event that says what changed, if anything did.
    """
    found = Repricing(dry_run=dry_run)
    pending: list[CallRecord | ChargeRecord] = []
    closed, now = closed_periods(ledger), datetime.now(UTC)
    adjusted = 0

    def take(old: R, new: R, names: Sequence[str]) -> None:
        better = _better(old, new, names)
        sums = found.sums.setdefault(_group(old), Sums())
        sums.add(old, better)
        sums.not_by_price += not is_matter_of_prices(old)
        if is_matter_of_prices(old) and new.cost_usd is None:
            sums.unpriced += old.cost_usd is None
            sums.kept += old.cost_usd is not None
        if better is not None and not dry_run:
            # Together, so that no figure of a closed period changes even for a moment.
            pending.append(better)
            pending.extend(adjustments(closed, [(old, better)], at=now))

    for call in _in_windows(ledger.calls, since, until, lambda record: record.started_at):
        take(call, price_call_again(call, book), CALL_FIELDS)
        _write_full(ledger, pending)
    for charge in _in_windows(ledger.charges, since, until, lambda record: record.at):
        if charge.kind == "adjustment":  # What this very command, or another correction, posted.
            adjusted += 1
            continue
        take(charge, price_tool_again(charge, book), CHARGE_FIELDS)
        _write_full(ledger, pending)
    if pending:
        ledger.write(*pending)
    found.folded = max(0, _folded(ledger, found, since, until) - adjusted)
    if found.changed and not dry_run:
        ledger.write(_event(found, book, since, until, actor))
    return found


def _better(old: R, new: R, names: Sequence[str]) -> R | None:
    """The new version to write; None where the price is the same, or the old one is all there is."""
    if new.cost_usd is None and old.cost_usd is not None:
        return None
    if all(_plain(getattr(old, name)) == _plain(getattr(new, name)) for name in names):
        return None
    return replace(new, revision=old.revision + 1)


def _plain(value: Any) -> Any:
    """A breakdown compares by what it holds; none of it is the same as none."""
    return dict(value) or None if hasattr(value, "keys") else value


def _group(record: CallRecord | ChargeRecord) -> tuple[str | None, str | None]:
    return (record.provider, record.model) if isinstance(record, CallRecord) else (None, record.name)


def _in_windows(
    read: Callable[..., Iterator[R]], since: datetime | None, until: datetime | None, at: Callable[[R], datetime]
) -> Iterator[R]:
    """The records of a period, read an hour at a time: nothing is being read while something is written."""
    while True:
        first = next(read(since=since, until=until), None)
        if first is None:
            return
        end = at(first) + WINDOW
        if until is not None:
            end = min(end, until)
        yield from list(read(since=at(first), until=end))
        since = end
        if until is not None and since >= until:
            return


def _write_full(ledger: Ledger, pending: list[CallRecord | ChargeRecord]) -> None:
    if len(pending) >= BATCH:
        ledger.write(*pending)
        pending.clear()


def _folded(ledger: Ledger, found: Repricing, since: datetime | None, until: datetime | None) -> int:
    """How many records of the period exist as daily sums only."""
    known = sum(group.totals.calls + group.totals.charges for group in ledger.totals((), since=since, until=until))
    return max(0, known - sum(each.calls + each.charges for each in found.sums.values()))


def _event(found: Repricing, book: PriceBook, since: datetime | None, until: datetime | None, actor: str) -> Event:
    total = found.total()
    return Event(
        event_id=str(uuid4()),
        at=datetime.now(UTC),
        actor=actor,
        action="reprice",
        subject="calls",
        reason=f"priced again by the book {book.hash}",
        before={name: str(total[name]) for name in SUMS if "_before_" in name},
        after={
            **{name: str(total[name]) for name in SUMS if "_after_" in name},
            **{name: total[name] for name in COUNTS},
            "price_book_hash": book.hash,
            "since": None if since is None else since.isoformat(),
            "until": None if until is None else until.isoformat(),
        },
    )


def _difference(row: Row) -> Decimal:
    """What changes most: list cost, else what is paid of it."""
    list_cost = EXACT.subtract(row["cost_after_usd"], row["cost_before_usd"])
    return list_cost or EXACT.subtract(row["contracted_after_usd"], row["contracted_before_usd"])


def _columns(total: Row) -> Iterator[Column]:
    yield Column(title="model", text=lambda row: row["model"] or "-", name=True)
    yield Column(title="provider", text=lambda row: row["provider"] or "", name=True, rank=4)
    if total["charges"]:
        yield Column(title="charges", text=lambda row: f"{row['charges']:,}", rank=3)
    yield Column(title="calls", text=lambda row: f"{row['calls']:,}", rank=2)
    yield Column(title="changed", text=lambda row: f"{row['changed']:,}")
    yield Column(title="cost before", text=lambda row: show_usd(row["cost_before_usd"]), rank=1)
    yield Column(title="cost after", text=lambda row: show_usd(row["cost_after_usd"]))
    if total["contracted_after_usd"] != total["cost_after_usd"] or _is_changed(total, "contracted"):
        yield Column(title="contracted before", text=lambda row: show_usd(row["contracted_before_usd"]), rank=5)
        yield Column(title="contracted after", text=lambda row: show_usd(row["contracted_after_usd"]), rank=5)


def _is_changed(total: Row, name: str) -> bool:
    """Whether discounts changed otherwise than the list did."""
    changes = [EXACT.subtract(total[f"{each}_after_usd"], total[f"{each}_before_usd"]) for each in ("cost", name)]
    return changes[0] != changes[1]
