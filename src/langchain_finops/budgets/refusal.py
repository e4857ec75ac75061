"""Why a call, a tool or a step is not to happen: a value, which the handler turns into an exception or a pause."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

__all__ = ["OnExceed", "Refusal", "RefusalKind"]

RefusalKind = Literal["budget", "loop", "kill", "unpriced", "model_policy", "strict", "ledger"]
OnExceed = Literal["raise", "interrupt", "drain", "warn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One thing that was refused, and everything that a person needs to change it."""

    kind: RefusalKind
    reason: str
    """One sentence: what was estimated, from what, and how to change it."""
    budget: str | None = None
    """The budget's name, such as `$20/day per agent_id`; of other guards theirs."""
    scope: str | None = None
    """Whose balance it is, such as `run` or `agent_id=support`."""
    unit: str | None = None
    """Of the amounts below: `usd`, `tokens`, `llm_calls`, `tool_calls`, `steps` or `seconds`."""
    limit: Decimal | None = None
    spent: Decimal | None = None
    held: Decimal | None = None
    estimate: Decimal | None = None
    """What was asked for; None where nothing could be estimated."""
    node_path: str | None = None
    run_id: str | None = None
    on_exceed: OnExceed = "raise"
    approval: str | None = None
    """The name by which an approval knows the limit; names of budgets need not be unique."""
