"""Who bears a row: the rule of a file of shares that it meets. The division itself is `finops allocate`'s."""

from datetime import datetime
from typing import Any, Final

from langchain_finops.budgets.windows import zone_of
from langchain_finops.ledger.codec import from_micros
from langchain_finops.ledger.grouping import time_of, value_of
from langchain_finops.ledger.totals import DIMENSIONS
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.reports.allocation import Allocation, Part

__all__ = ["bearers"]

UNALLOCATED: Final = "unallocated"


def bearers(record: CallRecord | ChargeRecord, allocation: Allocation) -> dict[str, Any]:
    """The cells that tell who bears a record: one team and cost centre, or several with their shares.

    A cost is not divided into more rows: quantities would no longer be what was used, and thirds of a picodollar have
    nowhere to go. What no rule meets has none of these cells.
    """
    day = _local(from_micros(time_of(record)), allocation).date()
    values = {name: value_of(record, DIMENSIONS[name]) for name in allocation.names}
    rule = next((rule for rule in allocation.rules if rule.holds(day) and rule.meets(values)), None)
    if rule is None:
        return {}
    if rule.by_cost:
        return {"x_AllocatedShares": {"split": "by_cost"}}
    if len(rule.parts) == 1:
        team, centre = rule.parts[0].target
        return {"x_Team": team, "x_CostCentre": centre}
    return {"x_AllocatedShares": {_name(part): str(part.share) for part in rule.parts}}


def _local(at: datetime, allocation: Allocation) -> datetime:
    return at.astimezone(zone_of(allocation.time_zone))


def _name(part: Part) -> str:
    """Team and cost centre in one name."""
    return " / ".join(name for name in part.target if name) or UNALLOCATED
