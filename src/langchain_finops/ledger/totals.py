"""Exact sums over calls and charges, the same ones for ledgers, handlers and reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter

from langchain_finops.money import from_pico, to_pico
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.usage import METERS_AND_REASONING, TOKEN_METERS

__all__ = ["APART", "DIMENSIONS", "Group", "TaskCost", "Totals"]

DIMENSIONS: Mapping[str, str] = {
    "agent": "agent_id",
    "customer": "customer_id",
    "environment": "environment",
    "model": "model",
    "node": "node_path",
    "project": "project",
    "provider": "provider",
    "release": "release",
    "role": "role",
    "run": "run_id",
    "status": "cost_status",
    "task": "task_id",
    "task_type": "task_type",
    "thread": "thread_id",
    "user": "user_id",
    "day": "day",
}
"""What sums can be grouped by, and the field it is read from. `day` is the UTC date on which a call began."""

APART = ("judge", "simulator")
"""Roles whose cost is no cost of a success. A summariser's is: the agent pays it wherever it runs."""

_counts = attrgetter(*METERS_AND_REASONING)


@dataclass(slots=True)
class Totals:
    """Running sums of calls and charges. Amounts are integer picodollars, so adding never rounds."""

    calls: int = 0
    errors: int = 0
    """Calls that ended in an error."""
    estimated: int = 0
    """Calls whose tokens or price had to be estimated."""
    unpriced: int = 0
    """Calls whose price is unknown: the amounts below are then lower bounds."""
    meters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(METERS_AND_REASONING, 0))
    """Token meters of `Usage`, and `reasoning_tokens`, summed."""
    cost_pico: int = 0
    """List cost of the calls whose price is known."""
    contracted_pico: int = 0
    billed_pico: int = 0
    charges: int = 0
    charge_pico: int = 0
    """Cost of charges whose price is known: tools, people's minutes, credits."""
    charges_unpriced: int = 0
    apart: int = 0
    """Those of the calls and charges that are of judges and simulators; the amounts above hold them too."""
    apart_unpriced: int = 0
    apart_pico: int = 0

    def add_call(self, call: CallRecord, sign: int = 1) -> None:
        """Count a call; with sign -1 take back a version that was superseded."""
        self.calls += sign
        if call.error is not None:
            self.errors += sign
        if call.estimated:
            self.estimated += sign
        meters = self.meters
        for meter, count in zip(METERS_AND_REASONING, _counts(call.usage), strict=True):
            if count:
                meters[meter] += sign * count
        cost = call.cost_usd
        if call.attribution.role in APART:
            self._add_apart(cost, sign)
        if cost is None:
            self.unpriced += sign
            return
        pico = to_pico(cost)
        self.cost_pico += sign * pico
        contracted, billed = call.contracted_usd, call.billed_usd
        # Nearly always the very same object, and reading an amount is what this costs.
        self.contracted_pico += sign * (pico if contracted is None or contracted is cost else to_pico(contracted))
        self.billed_pico += sign * (pico if billed is None or billed is cost else to_pico(billed))

    def add_charge(self, charge: ChargeRecord, sign: int = 1) -> None:
        """Count a charge."""
        self.charges += sign
        if charge.attribution.role in APART:
            self._add_apart(charge.cost_usd, sign)
        if charge.cost_usd is None:
            self.charges_unpriced += sign
        else:
            self.charge_pico += sign * to_pico(charge.cost_usd)

    def _add_apart(self, cost: Decimal | None, sign: int) -> None:
        self.apart += sign
        if cost is None:
            self.apart_unpriced += sign
        else:
            self.apart_pico += sign * to_pico(cost)

    def merge(self, other: "Totals") -> None:
        """Add another's sums to these."""
        # One by one: by name in a loop takes three times as long, and a run is added to fifteen groups.
        self.calls += other.calls
        self.errors += other.errors
        self.estimated += other.estimated
        self.unpriced += other.unpriced
        self.cost_pico += other.cost_pico
        self.contracted_pico += other.contracted_pico
        self.billed_pico += other.billed_pico
        self.charges += other.charges
        self.charge_pico += other.charge_pico
        self.charges_unpriced += other.charges_unpriced
        self.apart += other.apart
        self.apart_unpriced += other.apart_unpriced
        self.apart_pico += other.apart_pico
        for meter, count in other.meters.items():
            self.meters[meter] += count

    @property
    def model_usd(self) -> Decimal:
        """List cost of all calls whose price is known."""
        return from_pico(self.cost_pico)

    @property
    def charge_usd(self) -> Decimal:
        """Cost of all charges whose price is known."""
        return from_pico(self.charge_pico)

    @property
    def cost_usd(self) -> Decimal:
        """List cost of calls and charges whose price is known; a lower bound while `unpriced` is not 0."""
        return from_pico(self.cost_pico + self.charge_pico)

    @property
    def apart_usd(self) -> Decimal:
        """Cost of judges and simulators whose price is known."""
        return from_pico(self.apart_pico)

    @property
    def contracted_usd(self) -> Decimal:
        """After the user's discounts."""
        return from_pico(self.contracted_pico)

    @property
    def billed_usd(self) -> Decimal:
        """What is really paid for calls: cache hits and replays are 0."""
        return from_pico(self.billed_pico)

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached ones included."""
        return sum(self.meters[meter] for meter in TOKEN_METERS) - self.output_tokens

    @property
    def output_tokens(self) -> int:
        """All output tokens, audio included."""
        return self.meters["output_tokens"] + self.meters["audio_output_tokens"]


@dataclass(slots=True)
class TaskCost:
    """What tasks cost, judges and simulators apart: what a cost per success divides by the successes."""

    records: int = 0
    """Calls and charges."""
    unpriced: int = 0
    """Those of the calls whose price is unknown: the amount is then a lower bound."""
    charges_unpriced: int = 0
    pico: int = 0

    def add(self, records: int, pico: int, *, is_call: bool, unpriced: bool) -> None:
        """Count so many calls, or charges, that cost so much together, or that all have no price."""
        self.records += records
        self.pico += pico
        if unpriced and is_call:
            self.unpriced += records
        elif unpriced:
            self.charges_unpriced += records

    def merge(self, other: "TaskCost") -> None:
        """Add what other tasks cost."""
        self.records += other.records
        self.unpriced += other.unpriced
        self.charges_unpriced += other.charges_unpriced
        self.pico += other.pico

    @property
    def usd(self) -> Decimal | None:
        """List cost of what is priced; None where nothing is."""
        return from_pico(self.pico) if self.records > self.unpriced + self.charges_unpriced else None


@dataclass(slots=True, kw_only=True)
class Group:
    """One row of `Ledger.totals`: the sums of everything that shares a key, and what became of its tasks."""

    key: tuple[str | None, ...]
    """One value for each dimension asked for, in that order; None where a record does not say."""
    totals: Totals
    runs: int = 0
    """Distinct logical runs with a call or charge here."""
    tasks: int = 0
    """Distinct tasks with a call or charge here. Grouped by day: those whose first call is of that day."""
    judged: int = 0
    """Those of the tasks whose current outcome is a success or a failure."""
    successes: int = 0
    value_pico: int = 0
    """Sum of the values of the tasks' current outcomes."""
    task_cost: TaskCost = field(default_factory=TaskCost)
    """All cost of the tasks counted here, as far as it is of this group; what arose outside the period, or on another
    day, included. Only a ledger tells it, a handler's sums do not."""
