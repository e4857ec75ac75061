"""What an event comes to: the answer of a call that broke off, a tool's charge, the marks of a trace."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from langchain_core.outputs import LLMResult

from langchain_finops.langchain import extract, failures
from langchain_finops.langchain.langsmith import marks
from langchain_finops.langchain.runs import OpenTool, Run, RunCall
from langchain_finops.ledger.totals import Totals
from langchain_finops.meter import Answer
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord, CostStatus, RunRecord, RunStatus

__all__ = [
    "NotStarted",
    "broken",
    "marks_of_call",
    "marks_of_run",
    "marks_of_tool",
    "marks_of_total",
    "missing",
    "model_name",
    "numbered",
    "run_record",
    "streamed",
    "tool_charge",
]

CANCELLED = CallError(error_class="CancelledError")


class NotStarted(Exception):
    """Another handler's refusal at a call's start: its request was never made."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        super().__init__()


def numbered(run_id: UUID, number: int) -> str:
    """The id of the `number`th record that was given this id."""
    return str(run_id) if number == 1 else f"{run_id}:{number}"


def streamed(call: RunCall) -> bool:
    """Whether a part of the answer has come."""
    return bool(call.received_bytes or call.event_bytes)


def broken(error: BaseException, response: LLMResult | None, *, streamed: bool) -> Answer:
    """The answer of a call that ended in an error."""
    answer = extract.answer_of(response)
    answer.received_bytes = extract.received_bytes(response)
    answer.error = failures.call_error(error)
    answer.whole = False
    unbilled = failures.not_charged(error)
    # Text that was streamed proves that the model worked, whatever the error says.
    if unbilled is not None and not streamed:
        answer.charged, answer.reasons = False, (unbilled,)
    else:
        answer.reasons = (failures.reason_of(error),)
    return answer


def missing(error: BaseException | None) -> Answer:
    """The answer of a call whose end nobody reported."""
    if isinstance(error, NotStarted):
        refusal = CANCELLED if error.error is None else failures.call_error(error.error)
        return Answer(error=refusal, whole=False, charged=False, reasons=("not_sent",))
    reason = "cancelled" if error is None else failures.reason_of(error)
    return Answer(error=CANCELLED if error is None else failures.call_error(error), whole=False, reasons=(reason,))


def tool_charge(tool: OpenTool, error: BaseException | None) -> ChargeRecord:
    """A tool's charge, yet to be priced by its card; free where it met an HTTP error or was never sent."""
    unbilled = error is not None and failures.not_charged(error) is not None
    return ChargeRecord(
        charge_id=tool.charge_id,
        kind="tool",
        run_id=tool.run.run_id,
        invocation_id=tool.run.invocation_id,
        attribution=tool.attribution,
        name=tool.name,
        cost_usd=Decimal(0) if unbilled else None,
        cost_status="free" if unbilled else "unpriced",
        source="callback",
        at=tool.started_at,
        ended_at=datetime.now(UTC),
        error=None if error is None else failures.call_error(error),
    )


def model_name(serialized: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> str:
    """What a run is called that is a model's call and nothing more."""
    return (serialized or {}).get("name") or metadata.get("ls_model_name") or "model"


def run_record(run: Run, attribution: Attribution, status: RunStatus, reason: str | None) -> RunRecord:
    """A run that ends now."""
    return RunRecord(
        run_id=run.run_id,
        invocation_id=run.invocation_id,
        attribution=attribution,
        name=run.name,
        status=status,
        stop_reason=reason,
        started_at=run.started_at,
        ended_at=datetime.now(UTC),
        steps=run.steps,
        revision=run.revision,
    )


def marks_of_call(record: CallRecord) -> dict[str, str | None]:
    """What a call's trace carries; of the model only what its own integration has left out."""
    status = "completed" if record.error is None else "failed"
    marked = marks(record.attribution, status=status, cost_usd=record.cost_usd, cost_status=record.cost_status)
    return {**marked, "ls_provider": record.provider, "ls_model_name": record.model or record.requested_model}


def marks_of_tool(charge: ChargeRecord) -> dict[str, str | None]:
    """What a tool's trace carries."""
    status = "completed" if charge.error is None else "failed"
    return marks(charge.attribution, status=status, cost_usd=charge.cost_usd, cost_status=charge.cost_status)


def marks_of_run(run: Run, attribution: Attribution, status: RunStatus) -> dict[str, str | None]:
    """What the trace of a run carries that ends now."""
    total = Totals()
    for each in list(run.cells.values()):  # Late calls may bring new ones meanwhile.
        total.merge(each)
    return marks_of_total(total, attribution, status)


def marks_of_total(total: Totals, attribution: Attribution, status: RunStatus) -> dict[str, str | None]:
    """A run's own marks: its cost is a lower bound, and called unpriced, where a call's is unknown."""
    unknown = total.unpriced + total.charges_unpriced
    known = total.calls + total.charges - unknown
    cost = total.cost_usd if known or not unknown else None
    unpriced = total.unpriced or cost is None
    cost_status: CostStatus = "unpriced" if unpriced else "estimated" if total.estimated else "exact"
    return marks(attribution, status=status, cost_usd=cost, cost_status=cost_status)
