"""Advice as a table: one line a finding, below it what it rests on, what to do, what may go wrong and where to look."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from langchain_finops.ledger.summary import UNATTRIBUTED, show_usd
from langchain_finops.reports.advise import FIELDS, Advice
from langchain_finops.reports.economics_table import percent
from langchain_finops.reports.render import Column, Table

__all__ = ["advice_table"]

Row = Mapping[str, Any]
SHORT_DAYS: Final = 7


def advice_table(found: Advice, caption: str) -> Table:
    """Return the findings ready to render."""
    return Table(
        rows=found.rows,
        fields=FIELDS,
        columns=(
            Column(title="#", text=lambda row: str(row["n"])),
            Column(title="finding", text=lambda row: row["kind"].replace("_", " "), name=True),
            Column(title="agent", text=lambda row: _name(row["agent"]), name=True, rank=1),
            Column(title="node", text=lambda row: _name(row["node"]), name=True, rank=2),
            Column(title="model", text=lambda row: _name(row["model"]), name=True, rank=3),
            Column(title="$/month", text=_saving),
            Column(title="share", text=lambda row: percent(row["share"]), rank=4),
            Column(title="confidence", text=lambda row: row["confidence"]),
            *(Column(title=title, text=_below(title, field), below=True) for title, field in BELOW),
        ),
        caption=caption,
        notes=tuple(_notes(found)),
    )


BELOW: Final = (("why", "rests_on"), ("do", "lever"), ("risk", "risk"), ("see", "see"))


def _below(title: str, field: str) -> Any:
    return lambda row: f"{title}: {row[field]}"


def _name(value: str | None) -> str:
    return "-" if value is None else value or UNATTRIBUTED


def _saving(row: Row) -> str:
    if row["usd_per_month"] is None:
        return "unknown"
    sign = {"at_least": ">= ", "at_most": "<= "}.get(row["saving_is"], "")
    return sign + show_usd(row["usd_per_month"], bound=bool(sign))


def _notes(found: Advice) -> Iterator[str]:
    days = f"{found.days} day{'' if found.days == 1 else 's'}"
    yield (
        f"$/month: what would have been saved in {days} (UTC, first call to last), scaled to 30 days."
        + (" So short a time may not be like the next month." if found.days < SHORT_DAYS else "")
    )
    yield (
        f"Together {show_usd(found.usd_per_month)} a month, and not the sum of the lines: of a call that several would "
        "make cheaper only the largest saving counts."
    )
    yield (
        f"Known cost of the period: {show_usd(found.cost_usd)}, after discounts; cached replies cost nothing, replays "
        "what they would; judges and simulators are apart."
    )
    yield "Test a change on the same tasks before you trust it: finops-eval run DATA --with-advice N."
    if found.unpriced:
        yield f"{found.unpriced:,} calls have no known price: they are in no amount. `>=`: with some of them."
    if any(row["saving_is"] == "at_most" for row in found.rows):
        yield "`<=`: the most that can be saved."
    if found.folded:
        yield f"{found.folded:,} calls and charges are daily sums (finops prune): nothing is said of them."
    if found.protected:
        yield f"Protected, and left as they are: {', '.join(found.protected)}."
