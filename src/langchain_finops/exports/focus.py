"""A FOCUS Cost and Usage file of the ledger: one row for each call and meter, and for each charge.

What has no known price has no row: FOCUS has no empty costs, and $0 would be a lie. How much that is, is counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from langchain_finops.errors import BadArguments
from langchain_finops.exports.files import Row, check_target, write_rows
from langchain_finops.exports.focus_columns import SAME_IN_1_2, VERSIONS, fields_of
from langchain_finops.exports.focus_rows import Cells, Options, call_cells, charge_cells
from langchain_finops.exports.records import summed
from langchain_finops.exports.teams import bearers
from langchain_finops.ledger.base import Ledger
from langchain_finops.money import from_pico, to_pico
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.reports.allocation import Allocation

__all__ = ["SUFFIXES", "FocusFile", "Options", "export_focus"]

SUFFIXES: Final = (".csv", ".parquet")
COSTS: Final = ("ListCost", "ContractedCost", "BilledCost")


@dataclass(slots=True)
class FocusFile:
    """What a file holds, and what it leaves out."""

    rows: int = 0
    calls: int = 0
    charges: int = 0
    unpriced_calls: int = 0
    unpriced_tokens: int = 0
    unpriced_charges: int = 0
    unused: int = 0
    """Calls that used nothing and cost nothing, such as those that the provider refused: they have no meter."""
    picos: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COSTS, 0))
    """Sums of the rows."""
    elsewhere: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COSTS, 0))
    """What the ledger's sums have more: days that `finops prune` has folded, or what was written meanwhile."""

    @property
    def costs(self) -> dict[str, Decimal]:
        """The sums of the rows, in dollars."""
        return {name: from_pico(pico) for name, pico in self.picos.items()}

    @property
    def agrees(self) -> bool:
        """Whether the rows add up to the ledger's sums, to the picodollar."""
        return not any(self.elsewhere.values())


def export_focus(
    ledger: Ledger,
    path: Path,
    version: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    options: Options | None = None,
    allocation: Allocation | None = None,
) -> FocusFile:
    """Write calls and charges as FOCUS; what came of it. Raises BadArguments for a version there is no mapping for."""
    if version not in VERSIONS:
        raise BadArguments(f"--version {version!r} is none that can be written: choose one of {', '.join(VERSIONS)}.")
    check_target(path, SUFFIXES)
    told = FocusFile()
    fields = fields_of(version)
    source = _Source(
        told, options or Options(), allocation, tuple(SAME_IN_1_2.get(field.name, field.name) for field in fields)
    )
    told.rows = write_rows(path, fields, source.rows(ledger, since, until))
    totals = summed(ledger, since, until)
    charged = totals.charge_pico
    theirs = (totals.cost_pico, totals.contracted_pico, totals.billed_pico)
    told.elsewhere = {
        name: pico + charged - told.picos[name] for name, pico in zip(COSTS, theirs, strict=True)
    }  # fmt: skip
    return told


@dataclass(frozen=True, slots=True)
class _Source:
    """Makes the rows, and counts what has none."""

    told: FocusFile
    options: Options
    allocation: Allocation | None
    names: tuple[str, ...]
    """Of the cells, in the order of the columns."""

    def rows(self, ledger: Ledger, since: datetime | None, until: datetime | None) -> Iterator[Row]:
        """Calls first, then charges, each oldest first."""
        for call in ledger.calls(since=since, until=until):
            yield from self._of_call(call)
        for charge in ledger.charges(since=since, until=until):
            yield from self._of_charge(charge)

    def _of_call(self, call: CallRecord) -> Iterator[Row]:
        told = self.told
        told.calls += 1
        if call.cost_usd is None:
            told.unpriced_calls += 1
            told.unpriced_tokens += call.usage.total_tokens
            return
        cells = list(call_cells(call, self.options))
        told.unused += not cells
        yield from self._finished(call, cells)

    def _of_charge(self, charge: ChargeRecord) -> Iterator[Row]:
        self.told.charges += 1
        if charge.cost_usd is None:
            self.told.unpriced_charges += 1
            return
        yield from self._finished(charge, [charge_cells(charge, self.options)])

    def _finished(self, record: CallRecord | ChargeRecord, rows: list[Cells]) -> Iterator[Row]:
        borne = {} if self.allocation is None else bearers(record, self.allocation)
        for cells in rows:
            cells.update(borne)
            for name in COSTS:
                self.told.picos[name] += to_pico(cells[name])
            yield list(map(cells.get, self.names))
