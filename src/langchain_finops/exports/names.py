"""Every name that leaves this package in a metric, a span or baggage: one table, because conventions will move.

Cost is not in OpenTelemetry's released conventions. `gen_ai.client.operation.cost` and `gen_ai.usage.cost.*` are those
of the open proposal; what begins with `finops` is our own.
"""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "BAGGAGE",
    "COUNTERS",
    "GAUGES",
    "HISTOGRAM",
    "LABELS",
    "METRICS",
    "READABLE",
    "RUNS",
    "SPAN",
    "Labels",
    "Metric",
    "Span",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric, as OpenTelemetry and as Prometheus call it."""

    otel: str | None
    """None: not in OpenTelemetry."""
    prometheus: str | None
    """None: not in Prometheus. A counter's ends in `_total`."""
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """As OpenTelemetry writes units; ours for dollars is the currency's code."""
    meaning: str


COUNTERS: Final = {
    "calls": Metric(
        otel="finops.calls", prometheus="finops_calls_total", kind="counter", unit="{call}",
        meaning="Model calls that ended.",
    ),
    "failed": Metric(
        otel="finops.calls.failed", prometheus="finops_calls_failed_total", kind="counter", unit="{call}",
        meaning="Those of them that ended in an error.",
    ),
    "estimated": Metric(
        otel="finops.calls.estimated", prometheus="finops_calls_estimated_total", kind="counter", unit="{call}",
        meaning="Those of them whose tokens or price had to be estimated.",
    ),
    "unpriced": Metric(
        otel="finops.calls.unpriced", prometheus="finops_calls_unpriced_total", kind="counter", unit="{call}",
        meaning="Those of them whose price is unknown: costs are lower bounds while it grows.",
    ),
    "charges": Metric(
        otel="finops.charges", prometheus="finops_charges_total", kind="counter", unit="{charge}",
        meaning="Charges that are no model call: tools, people's minutes, credits. They have no model.",
    ),
    "charges_unpriced": Metric(
        otel="finops.charges.unpriced", prometheus="finops_charges_unpriced_total", kind="counter", unit="{charge}",
        meaning="Those of them whose price is unknown.",
    ),
    "input_tokens": Metric(
        otel="finops.tokens.input", prometheus="finops_input_tokens_total", kind="counter", unit="{token}",
        meaning="Input tokens, cached ones included.",
    ),
    "cached_tokens": Metric(
        otel="finops.tokens.cached", prometheus="finops_cached_tokens_total", kind="counter", unit="{token}",
        meaning="Those of the input tokens that were read from the provider's cache.",
    ),
    "output_tokens": Metric(
        otel="finops.tokens.output", prometheus="finops_output_tokens_total", kind="counter", unit="{token}",
        meaning="Output tokens, reasoning included.",
    ),
    "cost": Metric(
        otel="finops.cost", prometheus="finops_cost_usd_total", kind="counter", unit="USD",
        meaning="List cost of calls and charges whose price is known, cached answers and replays included.",
    ),
    "billed": Metric(
        otel="finops.cost.billed", prometheus="finops_billed_usd_total", kind="counter", unit="USD",
        meaning="What is really paid of it: 0 for cached answers and replays.",
    ),
    "credits": Metric(
        otel="finops.cost.credits", prometheus="finops_credits_usd_total", kind="counter", unit="USD",
        meaning="Credits and adjustments below zero, as a positive amount: subtract them from the cost.",
    ),
    "taken_back_calls": Metric(
        otel="finops.taken_back.calls", prometheus="finops_taken_back_calls_total", kind="counter", unit="{call}",
        meaning="Versions of calls that were corrected, by a late answer or by `finops reprice`: subtract them.",
    ),
    "taken_back_cost": Metric(
        otel="finops.taken_back.cost", prometheus="finops_taken_back_cost_usd_total", kind="counter", unit="USD",
        meaning="What those versions had added to the cost, and charges that were corrected: subtract it.",
    ),
    "taken_back_billed": Metric(
        otel="finops.taken_back.billed",
        prometheus="finops_taken_back_billed_usd_total",
        kind="counter",
        unit="USD",
        meaning="What those versions had added to what is paid: subtract it.",
    ),
    "taken_back_tokens": Metric(
        otel="finops.taken_back.tokens", prometheus="finops_taken_back_tokens_total", kind="counter", unit="{token}",
        meaning="What those versions had added to input and output tokens: subtract it.",
    ),
}  # fmt: skip
"""Only ever growing. What is corrected counts again, and what it counted before is taken back beside it."""
RUNS: Final = Metric(
    otel="finops.runs", prometheus=None, kind="counter", unit="{run}",
    meaning="Invocations of graphs that ended, by how.",
)  # fmt: skip
HISTOGRAM: Final = Metric(
    otel="gen_ai.client.operation.cost", prometheus=None, kind="histogram", unit="USD",
    meaning="List cost of each call whose price is known.",
)  # fmt: skip
GAUGES: Final = {
    "limit": Metric(
        otel="finops.budget.limit", prometheus="finops_budget_limit", kind="gauge", unit="1",
        meaning="A budget's limit, in its unit: dollars, tokens, calls, steps, seconds.",
    ),
    "spent": Metric(
        otel="finops.budget.spent", prometheus="finops_budget_spent", kind="gauge", unit="1",
        meaning="What is spent of the budget's fullest balance, in its unit.",
    ),
    "held": Metric(
        otel="finops.budget.held", prometheus="finops_budget_held", kind="gauge", unit="1",
        meaning="What calls in flight hold on that balance.",
    ),
    "share": Metric(
        otel="finops.budget.used_share", prometheus="finops_budget_used_share", kind="gauge", unit="1",
        meaning="What is spent of it, as a share of the limit.",
    ),
}  # fmt: skip
READABLE: Final = Metric(
    otel=None,
    prometheus="finops_ledger_readable",
    kind="gauge",
    unit="1",
    meaning="0 where the ledger could not be read: there are no other figures then, rather than old ones.",
)
METRICS: Final = (*COUNTERS.values(), RUNS, HISTOGRAM, *GAUGES.values(), READABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What metrics are broken down by. Never a user or a task: each would be a series for ever."""

    agent: str
    node: str
    model: str
    requested_model: str
    provider: str
    operation: str
    team: str
    error: str
    source: str
    budget: str
    unit: str
    status: str


LABELS: Final = Labels(
    agent="gen_ai.agent.id",
    node="finops.node",
    model="gen_ai.response.model",
    requested_model="gen_ai.request.model",
    provider="gen_ai.provider.name",
    operation="gen_ai.operation.name",
    team="finops.team",
    error="error.type",
    source="gen_ai.usage.cost.source",
    budget="finops.budget.name",
    unit="finops.budget.unit",
    status="finops.run.status",
)
"""As OpenTelemetry's metrics call them. Prometheus has `agent`, `node`, `model`, and `budget`, `unit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Attributes of the span that is current when a call ends."""

    amount: str
    currency: str
    source: str
    calls: str
    unpriced: str
    user: str
    task: str
    team: str


SPAN: Final = Span(
    amount="gen_ai.usage.cost.amount",
    currency="gen_ai.usage.cost.currency",
    source="gen_ai.usage.cost.source",
    calls="finops.calls",
    unpriced="finops.calls.unpriced",
    user="user.id",
    task="finops.task.id",
    team="finops.team",
)
BAGGAGE: Final = {"user_id": "user.id", "task_id": "task.id", "team": "team"}
"""Where baggage has what a call's metadata may not say."""
