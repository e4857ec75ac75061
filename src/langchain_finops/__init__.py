"""Financial control of autonomous AI agents on LangChain and LangGraph.

`__all__` is what everybody needs. Some names more are here for those who look for them here: the kinds of refusals
beside `BudgetExceeded`, `ModelPolicy` beside `Budget`, and `Stop`, which `stopped` returns.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_finops.budgets.alerts import BurnRateAlert
    from langchain_finops.budgets.loops import LoopGuard
    from langchain_finops.budgets.models import ModelPolicy as ModelPolicy
    from langchain_finops.budgets.policy import Budget
    from langchain_finops.errors import FinOpsError
    from langchain_finops.langchain.attach import attach, detach
    from langchain_finops.langchain.handler import FinOpsHandler
    from langchain_finops.langchain.refusals import BudgetExceeded, CallRefused
    from langchain_finops.langchain.refusals import Killed as Killed
    from langchain_finops.langchain.refusals import LoopDetected as LoopDetected
    from langchain_finops.langchain.refusals import RunDrained as RunDrained
    from langchain_finops.langchain.refusals import UnpricedCall as UnpricedCall
    from langchain_finops.langchain.stops import Stop as Stop
    from langchain_finops.langchain.stops import stopped
    from langchain_finops.ledger import open_ledger
    from langchain_finops.ledger.base import Ledger
    from langchain_finops.pricing import PriceBook
    from langchain_finops.pricing.cost import Cost
    from langchain_finops.records import Outcome

__all__ = [
    "Budget",
    "BudgetExceeded",
    "BurnRateAlert",
    "CallRefused",
    "Cost",
    "FinOpsError",
    "FinOpsHandler",
    "Ledger",
    "LoopGuard",
    "Outcome",
    "PriceBook",
    "attach",
    "detach",
    "open_ledger",
    "stopped",
]

_HOMES = {
    "Budget": "budgets.policy",
    "BudgetExceeded": "langchain.refusals",
    "BurnRateAlert": "budgets.alerts",
    "CallRefused": "langchain.refusals",
    "Cost": "pricing.cost",
    "FinOpsError": "errors",
    "FinOpsHandler": "langchain.handler",
    "Killed": "langchain.refusals",
    "Ledger": "ledger.base",
    "LoopDetected": "langchain.refusals",
    "LoopGuard": "budgets.loops",
    "ModelPolicy": "budgets.models",
    "Outcome": "records",
    "PriceBook": "pricing",
    "RunDrained": "langchain.refusals",
    "Stop": "langchain.stops",
    "UnpricedCall": "langchain.refusals",
    "attach": "langchain.attach",
    "detach": "langchain.attach",
    "open_ledger": "ledger",
    "stopped": "langchain.stops",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: LangGraph and SQLAlchemy are heavy, and not every user needs both."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *_HOMES})
