"""The ledger against a provider's own totals, by day, key and model; the differences have names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import show_usd
from langchain_finops.money import EXACT
from langchain_finops.reports.bills import Bill
from langchain_finops.reports.economics_table import percent
from langchain_finops.reports.render import Column, Table

__all__ = ["FIELDS", "Reconciled", "reconcile"]

FIELDS: Final = ("day", "key", "model", "unit", "theirs", "ours", "difference", "share", "unpriced", "unstated", "what")
BY: Final = ("day", "key", "model")
Key = tuple[str | None, str | None, str | None]
"""UTC day, API key or project, model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """A row for each day, key and model, those that differ most first."""

    rows: list[dict[str, Any]]
    unit: str
    """`usd` or `tokens`: what the file tells."""
    tolerance: Decimal

    @property
    def agrees(self) -> bool:
        """Whether every row is within the tolerance."""
        return all(row["what"] == "agrees" for row in self.rows)

    def table(self, caption: str) -> Table:
        """Return it ready to render."""
        differ = [row for row in self.rows if row["what"] != "agrees"]
        whole = {name: sum((row[name] for row in self.rows), Decimal(0)) for name in ("theirs", "ours", "difference")}
        share = _share(whole["difference"], whole["theirs"])
        total = {
            **whole,
            "share": share,
            "day": "total",
            "key": "",
            "model": "",
            "unpriced": 0,
            "unstated": 0,
            "what": "",
        }
        unpriced = sum(row["unpriced"] for row in self.rows)
        how_many = (
            f"{len(differ):,} of {len(self.rows):,} days, keys and models differ by more than "
            f"{percent(float(self.tolerance))}. difference: ours less theirs."
        )
        notes = [how_many]
        if unpriced:
            notes.append(f"{unpriced:,} calls of ours have no price, which is not free: ours is at least that.")
        if unstated := sum(row["unstated"] for row in self.rows):
            notes.append(
                f"Lines of the file without an amount: {unstated:,}. That is not nothing: theirs is at least that."
            )
        return Table(
            rows=self.rows,
            fields=FIELDS,
            columns=(
                Column(title="day", text=lambda row: row["day"] or "-", name=True),
                Column(title="key", text=lambda row: row["key"] or "-", name=True, rank=2),
                Column(title="model", text=lambda row: row["model"] or "-", name=True),
                Column(title="theirs", text=lambda row: self._shown(row["theirs"])),
                Column(title="ours", text=lambda row: self._shown(row["ours"])),
                Column(title="difference", text=lambda row: self._shown(row["difference"])),
                Column(title="share", text=lambda row: "-" if row["share"] is None else f"{row['share']:+.1%}", rank=1),
                Column(title="what", text=lambda row: row["what"], name=True, rank=0),
            ),
            total=total if self.rows else None,
            caption=caption,
            notes=tuple(notes),
        )

    def _shown(self, amount: Decimal) -> str:
        return show_usd(amount) if self.unit == "usd" else f"{amount:,f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Naming:
    """Which names of a bill's lines its rows have."""

    by_day: bool
    by_key: bool
    by_project: bool
    by_model: bool

    @classmethod
    def of(cls, bill: Bill, by: Sequence[str]) -> "_Naming":
        """What is asked for, as far as the bill tells it; projects stand in for keys."""
        has_key, has_model = (name in by and any(getattr(line, name) for line in bill.lines) for name in BY[1:])
        by_project = "key" in by and not has_key and any(line.project for line in bill.lines)
        return cls(by_day="day" in by, by_key=has_key, by_project=by_project, by_model=has_model)

    def key(self, at: datetime, key: str | None, project: str | None, model: str | None) -> Key:
        """The row that something belongs to."""
        return (
            at.astimezone(UTC).date().isoformat() if self.by_day else None,
            key if self.by_key else project if self.by_project else None,
            model if self.by_model else None,
        )


def _stated(bill: Bill, naming: _Naming, unit: str) -> tuple[dict[Key, Decimal], dict[Key, int]]:
    """What the bill's lines say, and how many of them do not."""
    theirs: dict[Key, Decimal] = {}
    unstated: dict[Key, int] = {}
    for line in bill.lines:
        key = naming.key(line.at, line.key, line.project, line.model)
        tokens = None if line.usage is None else Decimal(line.usage.total_tokens)
        amount = line.usd if unit == "usd" else tokens
        theirs[key] = EXACT.add(theirs.get(key, Decimal(0)), amount or Decimal(0))
        unstated[key] = unstated.get(key, 0) + (amount is None)
    return theirs, unstated


def _recorded(ledger: Ledger, bill: Bill, naming: _Naming, unit: str) -> tuple[dict[Key, Decimal], dict[Key, int]]:
    """What handlers have recorded of the bill's providers and days, and how many of those calls have no price."""
    ours: dict[Key, Decimal] = {}
    unpriced: dict[Key, int] = {}
    if not bill.lines:
        return ours, unpriced
    since, until = min(line.at for line in bill.lines), max(line.until for line in bill.lines)
    providers = {line.provider for line in bill.lines}
    for call in ledger.calls(since=since, until=until):
        if call.provider not in providers or any(each.startswith("imported:") for each in call.reasons):
            continue
        key = naming.key(call.started_at, call.account, call.project or call.attribution.project, call.model)
        amount = Decimal(call.usage.total_tokens) if unit == "tokens" else call.billed_usd or Decimal(0)
        ours[key] = EXACT.add(ours.get(key, Decimal(0)), amount)
        unpriced[key] = unpriced.get(key, 0) + (unit == "usd" and call.billed_usd is None)
    return ours, unpriced


def reconcile(
    ledger: Ledger,
    bill: Bill,
    by: Sequence[str] = BY,
    *,
    tolerance: Decimal = Decimal("0.01"),
    tolerance_usd: Decimal = Decimal("0.01"),
) -> Reconciled:
    """Compare what a file says with what handlers have recorded of the same provider and days.

    Dollars are what was billed, where the file tells them; else all tokens. Within either tolerance a row agrees.
    Records that were imported are left out: they would agree with themselves. A report without keys, or without
    models, is compared without.
    """
    if unknown := sorted(set(by) - set(BY)):
        raise BadArguments(f"cannot compare by {', '.join(map(repr, unknown))}: there are {', '.join(BY)}")
    unit = "usd" if bill.has_usd else "tokens"
    naming = _Naming.of(bill, by)
    theirs, unstated = _stated(bill, naming, unit)
    ours, unpriced = _recorded(ledger, bill, naming, unit)
    least = tolerance_usd if unit == "usd" else Decimal(0)
    rows = [
        _row(
            key, unit, theirs.get(key), ours.get(key), unknown=(unpriced.get(key, 0), unstated.get(key, 0)),
            tolerance=tolerance, least=least,
        )
        for key in {*theirs, *ours}
    ]  # fmt: skip
    rows.sort(key=lambda row: (-abs(row["difference"]), row["day"] or "", row["key"] or "", row["model"] or ""))
    return Reconciled(rows=rows, unit=unit, tolerance=tolerance)


def _row(
    key: Key, unit: str, theirs: Decimal | None, ours: Decimal | None, *, unknown: tuple[int, int],
    tolerance: Decimal, least: Decimal,
) -> dict[str, Any]:  # fmt: skip
    unpriced, unstated = unknown
    there, here = theirs or Decimal(0), ours or Decimal(0)
    difference = EXACT.subtract(here, there)
    within = abs(difference) <= max(EXACT.multiply(tolerance, abs(there)), least)
    if within and not unpriced and not unstated:
        what = "agrees"
    elif theirs is None:
        what = "only in the ledger"
    elif ours is None:
        what = "only in the file"
    elif unpriced:
        what = "unpriced calls"
    elif unstated:
        what = "lines without an amount"
    else:
        what = "more in the ledger" if difference > 0 else "more in the file"
    day, name, model = key
    values: Mapping[str, Any] = {
        "day": day, "key": name, "model": model, "unit": unit, "theirs": there, "ours": here,
        "difference": difference, "share": _share(difference, there), "unpriced": unpriced,
        "unstated": unstated, "what": what,
    }  # fmt: skip
    return dict(values)


def _share(difference: Decimal, theirs: Decimal) -> float | None:
    return float(difference / theirs) if theirs else None
