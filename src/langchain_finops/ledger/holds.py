"""What is set aside before a call, settled by the truth after it, and what stands against each budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["Balance", "HoldAnswer", "Line", "Settlement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a hold takes from one balance."""

    balance: str
    """The balance's key; everything with one key shares what is left."""
    amount: int
    """In the balance's smallest unit: picodollars, tokens, calls, steps or microseconds."""
    limit: int | None = None
    """Refused where spent, held and this amount come to more; None never refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What stands against a budget, in its smallest unit."""

    balance: str
    spent: int = 0
    held: int = 0
    """By calls that are in flight."""
    unsettled: int = 0
    """Held by calls that nobody settled in time: their process died, and what they spent is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAnswer:
    """What became of a hold: all its lines are held, or none."""

    refused: int | None
    """Index of the first line that does not fit; None where all are held."""
    balances: tuple[Balance, ...]
    """One for each line, in order, as they stood before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A call or charge that ended, and what it takes from balances."""

    record: CallRecord | ChargeRecord
    hold_id: str | None = None
    """The hold it replaces; None where nothing was held."""
    amounts: Mapping[str, int] = field(default_factory=dict)
    """What is added to each balance; less than nothing where a revision costs less than the version before it."""
