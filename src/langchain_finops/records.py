"""Frozen facts: what a ledger keeps. Wide from the first version; a field that nobody filled is None.

Amounts are exact dollars (Decimal), times aware datetimes in UTC, token counts in `langchain_finops.usage.Usage`.
Records are appended and superseded, never changed: of two with one id the higher `revision` is the current one.
Nothing here ever holds the text of a prompt, an answer, or an error message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from langchain_finops.usage import Usage

__all__ = [
    "NO_ATTRIBUTION",
    "Attribution",
    "BillingMode",
    "CallError",
    "CallRecord",
    "ChargeKind",
    "ChargeRecord",
    "CostStatus",
    "Event",
    "Outcome",
    "Record",
    "Role",
    "RunRecord",
    "RunStatus",
]

CostStatus = Literal["exact", "estimated", "reported", "free", "unpriced"]
BillingMode = Literal["payg", "committed", "credit", "cache", "self_hosted", "replay"]
Role = Literal["agent", "judge", "simulator", "overhead"]
RunStatus = Literal["completed", "stopped", "interrupted", "failed", "cancelled"]
ChargeKind = Literal["tool", "embedding", "human", "infrastructure", "credit", "adjustment"]

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whom a cost belongs to."""

    agent_id: str | None = None
    user_id: str | None = None
    task_id: str | None = None
    task_type: str | None = None
    thread_id: str | None = None
    customer_id: str | None = None
    project: str | None = None
    environment: str | None = None
    release: str | None = None
    node: str | None = None
    """The innermost LangGraph node; None outside a graph."""
    node_path: str | None = None
    """`researcher/search` for node `search` of a subgraph in node `researcher`; None outside a graph."""
    step: int | None = None
    """Which execution of a node within the logical run this is, counted from 1, at any depth."""
    attempt: int | None = None
    """Which try of the node (RetryPolicy) or of the runnable (`with_retry`), counted from 1."""
    role: Role = "agent"
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)


NO_ATTRIBUTION = Attribution()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallError:
    """How a call failed: class, HTTP status and the provider's code. Never the message, which may hold text."""

    error_class: str
    http_status: int | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One model call: one start, one end, one cost."""

    call_id: str
    run_id: str
    """The logical run. A resumed run keeps it."""
    invocation_id: str
    """The root invocation this call was made in."""
    attribution: Attribution = NO_ATTRIBUTION
    provider: str | None = None
    model: str | None = None
    """The model as resolved, that is, as the answer names it."""
    requested_model: str | None = None
    usage: Usage
    """Reported by the provider, or our estimate where `estimated` says so."""
    raw_usage: Mapping[str, Any] | None = None
    """The integration's own counts, as they came, for repricing; None where none were reported."""
    cost_usd: Decimal | None = None
    """List cost. None where no price is known, which is not the same as free."""
    contracted_usd: Decimal | None = None
    """List cost after the user's discounts; None where no price is known."""
    billed_usd: Decimal | None = None
    """What is really paid: 0 for a local cache hit, and for any replay; else None where no price is known."""
    meter_usd: Mapping[str, Decimal] | None = None
    """List cost by meter; adds up to `cost_usd` exactly. None where there is no breakdown."""
    currency: str = "USD"
    fx_id: str | None = None
    billing_mode: BillingMode = "payg"
    cost_status: CostStatus = "unpriced"
    estimated: bool = False
    """Tokens or price were not reported and had to be estimated."""
    reasons: tuple[str, ...] = ()
    """Why the status is what it is, as short codes, such as `no_usage_reported`."""
    card_id: str | None = None
    price_book_hash: str | None = None
    started_at: datetime
    first_token_at: datetime | None = None
    ended_at: datetime
    error: CallError | None = None
    provider_request_id: str | None = None
    account: str | None = None
    project: str | None = None
    region: str | None = None
    service_tier: str | None = None
    base_url_host: str | None = None
    prompt_digests: bytes | None = None
    """What its prompt and the prefixes of that are the same as: keyed digests, read by `ledger.marks.read_marks`. None
    where they are not known, or the prompt is short."""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRecord:
    """A cost that is not a model call: a tool, an embedding, a person's minutes, a machine, a credit."""

    charge_id: str
    kind: ChargeKind
    run_id: str | None = None
    invocation_id: str | None = None
    attribution: Attribution = NO_ATTRIBUTION
    name: str | None = None
    """What was charged for: the tool's name, the machine's type."""
    quantity: Decimal = Decimal(1)
    unit: str = "calls"
    cost_usd: Decimal | None = None
    """None where no price is known, which is not the same as free. Negative for credits."""
    cost_status: CostStatus = "unpriced"
    card_id: str | None = None
    source: str | None = None
    """Who says so: `callback`, `user`, a file."""
    at: datetime
    ended_at: datetime | None = None
    error: CallError | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One invocation of a graph or chain from its root, or a bare model call."""

    run_id: str
    invocation_id: str
    attribution: Attribution = NO_ATTRIBUTION
    name: str | None = None
    status: RunStatus
    stop_reason: str | None = None
    """Why it did not complete: `recursion_limit`, `budget:NAME`, the error's class."""
    started_at: datetime
    ended_at: datetime
    steps: int = 0
    """Node executions at any depth, over all invocations of this logical run so far."""
    revision: int = 0
    """Counted up by each invocation of a logical run: the last one tells how the run stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task. May be revised; the last one written counts."""

    task_id: str
    task_type: str | None = None
    success: bool | None = None
    """True, False, or None where it could not be told."""
    score: float | None = None
    """Between 0 and 1."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Other figures, such as `csat`."""
    value_usd: Decimal | None = None
    reason: str | None = None
    judged_by: str | None = None
    at: datetime
    supersedes: int | None = None
    """Revision of the outcome this one replaces; None for a task's first."""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Who did what to which budget, kill, approval, card, price or record, when and why: the audit trail."""

    event_id: str
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


Record = CallRecord | ChargeRecord | RunRecord | Outcome | Event
