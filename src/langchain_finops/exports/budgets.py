"""How full budgets are, one figure each: of a budget for every user, the user who has spent most of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from langchain_finops.budgets.policy import Budget
from langchain_finops.ledger.holds import Balance
from langchain_finops.reports.guards import budget_table

__all__ = ["Standing", "standings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A budget's limit in one unit, and its fullest balance. It does not say whose that is."""

    budget: str
    unit: str
    limit: Decimal
    spent: Decimal
    held: Decimal

    @property
    def share(self) -> Decimal:
        """What is spent, as a share of the limit."""
        return self.spent / self.limit if self.limit else Decimal(1)


def standings(
    balances: Iterable[Balance], budgets: Mapping[str, Iterable[Budget]], at: datetime
) -> dict[tuple[str, str], Standing]:
    """Each budget by its name and unit. Those that single runs keep for themselves have no balance to look at."""
    found: dict[tuple[str, str], Standing] = {}
    for row in budget_table(balances, budgets, at).rows:
        if row["budget"] is None or row["spent"] is None:
            continue
        key = row["budget"], row["unit"]
        one = Standing(
            budget=row["budget"],
            unit=row["unit"],
            limit=Decimal(row["limit"]),
            spent=Decimal(row["spent"]),
            held=Decimal(row["held"]),
        )
        if key not in found or one.share > found[key].share:
            found[key] = one
    return found
