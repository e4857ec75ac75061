"""LangSmith: our tags and figures on the runs its tracer sends anyway, and outcomes as feedback on them.

We open no trace of our own. Where LangChain's tracer is among a run's handlers, from the environment or passed by
hand, the run and its model runs get the tags and metadata of `marks`, model runs and priced tools the cost of `paid`,
which LangSmith sums by trace and thread; without a tracer nothing here does anything.
"""

import inspect
import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from types import FrameType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_finops.records import Attribution, CallRecord, ChargeRecord, CostStatus, Outcome
from langchain_finops.usage import TOKEN_METERS

if TYPE_CHECKING:
    from langchain_core.tracers import LangChainTracer
    from langsmith import Client
    from langsmith.run_trees import RunTree

__all__ = ["Feedback", "Trace", "find_tracer", "marked", "marks", "paid"]

log = logging.getLogger("langchain_finops")

FRAMES = 8
"""How far up the stack LangChain's callback manager may be: three frames today, in sync and async alike."""

TASKS_KEPT = 10_000
"""How many tasks' traces are remembered, so that an outcome logged later still finds its run."""


def find_tracer() -> "LangChainTracer | None":
    """The LangSmith tracer among the handlers that are told of the event being handled; None where there is none.

    Only to be called from a callback. LangChain shows a root run's or a bare call's handlers to nobody: they are a
    local variable of its callback manager, a few frames up.
    """
    if "langchain_core.tracers.langchain" not in sys.modules:
        return None
    from langchain_core.tracers.langchain import LangChainTracer

    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  No public way leads to these handlers.
    for _ in range(FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name in {"handle_event", "ahandle_event"}:
            for handler in frame.f_locals.get("handlers", ()):
                if isinstance(handler, LangChainTracer):
                    return handler
            return None
        frame = frame.f_back
    return None


def marks(
    attribution: Attribution, *, status: str, cost_usd: Decimal | None, cost_status: CostStatus | None
) -> dict[str, str | None]:
    """What a run carries: `finops:agent_id`, `finops:task_id`, `finops:status`, `finops:cost_usd`, and how it is known.

    Amounts are exact decimal strings; None where no price is known, which is not the same as free. The cost status
    speaks of model calls: a run is `unpriced` if the price of one of its calls is unknown. Tools without a price card,
    which nearly every agent has, are not in its cost, and do not change its status.
    """
    return {
        "finops:agent_id": attribution.agent_id,
        "finops:user_id": attribution.user_id,
        "finops:task_id": attribution.task_id,
        "finops:status": status,
        "finops:cost_usd": None if cost_usd is None else _plain(cost_usd),
        "finops:cost_status": cost_status,
    }


def _plain(amount: Decimal) -> str:
    """An exact amount, always written the same way: equal costs must make equal tags."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


TAGGED = ("finops:agent_id", "finops:task_id", "finops:status", "finops:cost_usd")
"""What is a tag as well, as `name=value`, so that runs can be filtered by it."""


COSTS = ("total_cost", "input_cost", "output_cost")
"""What `paid` says of money."""

INPUT_METERS = frozenset(name for name in TOKEN_METERS if "output" not in name)


def paid(record: CallRecord | ChargeRecord) -> dict[str, Any]:
    """What LangSmith sums: `total_cost` is what is really paid, 0 for a cached answer; nothing where nobody knows.

    `input_cost` and `output_cost` are there where list price is paid and is split by meter; fees of searches and of
    requests are in neither. LangSmith takes numbers: the exact amount at list price stays in `finops:cost_usd`.
    """
    if isinstance(record, ChargeRecord):
        return {} if record.cost_usd is None else {"total_cost": float(record.cost_usd)}
    usage = record.usage
    tokens: dict[str, Any] = {
        "input_tokens": usage.total_input_tokens,
        "output_tokens": usage.total_output_tokens,
        "total_tokens": usage.total_tokens,
    }
    if record.billed_usd is None:
        return tokens
    cost: dict[str, Any] = {"total_cost": float(record.billed_usd)}
    if record.meter_usd is not None and record.billed_usd == record.cost_usd:
        amounts = record.meter_usd.items()
        cost["input_cost"] = float(sum((usd for meter, usd in amounts if meter in INPUT_METERS), Decimal(0)))
        output = sum((usd for meter, usd in amounts if meter in TOKEN_METERS and meter not in INPUT_METERS), Decimal(0))
        cost["output_cost"] = float(output)
    return tokens | cost


class _Metadata(dict[str, Any]):
    """A run's metadata, in which its cost stays when the tracer writes the reported counts down after us."""

    def __init__(self, metadata: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
        super().__init__(metadata)
        self._paid = usage
        self["usage_metadata"] = metadata.get("usage_metadata") or {}

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "usage_metadata" and isinstance(value, Mapping):
            cost = {name: amount for name, amount in self._paid.items() if name.endswith("_cost")}
            value = {**self._paid, **value, **cost}
        super().__setitem__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:  # Copied or sent to another process it is what it says.
        return dict, (dict(self),)


def marked(
    metadata: Mapping[str, Any], tags: Sequence[str] | None, marks: Mapping[str, Any], usage: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """A run's metadata and tags with ours: of our own the newest, of others' all. Names of the model fill gaps only.

    `usage` is what `paid` says; None where the run is none that is paid for, whose usage is not ours.
    """
    reported = metadata.get("usage_metadata")
    if usage is not None and metadata.get("finops:cost_usd") is not None and isinstance(reported, Mapping):
        # We priced it before: what `paid` leaves out now would stay beside the new amounts, as if it still held.
        metadata = {**metadata, "usage_metadata": {name: reported[name] for name in reported if name not in COSTS}}
    gaps = {name: value for name, value in marks.items() if name.startswith("ls_") and not metadata.get(name)}
    whole = {**metadata, **{name: value for name, value in marks.items() if not name.startswith("ls_")}, **gaps}
    ours = [f"{name}={marks[name]}" for name in TAGGED if marks.get(name) is not None]
    kept = [tag for tag in tags or [] if not tag.startswith("finops:")]
    return (_Metadata(whole, usage) if usage else whole), [*kept, *ours]


class Trace:
    """The runs of one root invocation, as the tracer that reports them knows them."""

    __slots__ = ("_held", "_paid", "_tracer", "root")

    def __init__(self, tracer: "LangChainTracer") -> None:
        self._tracer = tracer
        self._held: dict[UUID, RunTree] = {}
        self._paid: dict[UUID, dict[str, Any]] = {}
        self.root: RunTree | None = None
        """The root run, once it has been marked."""

    def started(self, run_id: UUID) -> None:
        """Keep hold of a run that the tracer was told of before us: it forgets the run before we hear of its end."""
        run = self._tracer.run_map.get(str(run_id))
        if run is not None:
            self._held[run_id] = run

    def let_go(self, run_id: UUID) -> None:
        """Forget a run that is not to be marked."""
        self._held.pop(run_id, None)

    def paid(self, run_id: UUID, usage: dict[str, Any]) -> None:
        """Have the run carry what was paid for it, once it is settled."""
        if usage:
            self._paid[run_id] = usage

    def settled(self, run_id: UUID, marks: Mapping[str, Any], *, ended: bool = True, root: bool = False) -> None:
        """Mark a run when its cost is known. `ended=False`: LangChain will never report its end, so we send it."""
        held = self._held.pop(run_id, None)
        run = self._tracer.run_map.get(str(run_id))
        waiting = run is not None
        run = run or held
        if run is None:
            return
        # The metadata is LangChain's own dictionary, shared with the run's children: writing into it would leak.
        metadata = run.extra.get("metadata", {})
        run.extra["metadata"], run.tags = marked(metadata, run.tags, marks, self._paid.pop(run_id, None))
        if root:
            self.root = run
        # Still in the tracer's hands and about to end: its own update carries our marks. Otherwise it was sent already.
        if not (waiting and ended) and not run.extra.get("__disabled"):
            run.patch()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where a task's feedback goes."""

    client: "Client"
    run_id: UUID
    trace_id: UUID | None
    project: str | None


class Feedback:
    """Sends outcomes to the traced runs of their tasks, from a thread of its own: a hook must never wait for HTTP."""

    def __init__(self) -> None:
        self._targets: OrderedDict[str, _Target] = OrderedDict()
        self._lock = threading.RLock()
        self._executor: ThreadPoolExecutor | None = None
        self.faults = 0
        """Outcomes that LangSmith did not take. Logged once, counted always."""

    def remember(self, task_id: str, trace: Trace) -> None:
        """The task's latest root run is the one its outcome belongs to."""
        run = trace.root
        if run is None or run.extra.get("__disabled"):
            return
        target = _Target(client=run.client, run_id=run.id, trace_id=run.trace_id, project=run.session_name)
        with self._lock:
            self._targets[task_id] = target
            self._targets.move_to_end(task_id)
            if len(self._targets) > TASKS_KEPT:
                self._targets.popitem(last=False)

    def send(self, outcome: Outcome) -> bool:
        """Hand an outcome over; False where its task was not traced in this process."""
        with self._lock:
            target = self._targets.get(outcome.task_id)
            if target is None:
                return False
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="finops-langsmith")
            self._executor.submit(self._send, target, outcome)
        return True

    def flush(self) -> None:
        """Wait until what was handed over has been sent."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)

    def _send(self, target: _Target, outcome: Outcome) -> None:
        try:
            where = {"run_id": target.run_id, "trace_id": target.trace_id, **_session(target)}
            for row in _rows(outcome):
                target.client.create_feedback(**where, **row)
        except Exception as error:  # noqa: BLE001  LangSmith being away must never reach the user's run.
            self.faults += 1
            if self.faults == 1:  # Without the error's text: it may hold the outcome's reason.
                name = type(error).__name__
                log.warning("LangSmith did not take an outcome (%s); further ones are only counted", name)


def _session(target: _Target) -> dict[str, Any]:
    """The project's id, which newer deployments ask for and older clients do not know."""
    if target.project is None or "session_id" not in inspect.signature(target.client.create_feedback).parameters:
        return {}
    return {"session_id": target.client.read_project(project_name=target.project).id}


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """An outcome as feedback: figures that LangSmith would round to four decimals go as text."""
    about = {"comment": outcome.reason, "source_info": {"judged_by": outcome.judged_by, "task_id": outcome.task_id}}
    success = {True: 1, False: 0, None: None}[outcome.success]
    word = {True: "success", False: "failure", None: "cannot tell"}[outcome.success]
    yield {"key": "finops:success", "score": success, "value": word, **about}
    if outcome.score is not None:
        yield {"key": "finops:score", "score": outcome.score, "value": repr(outcome.score), **about}
    for name, score in outcome.scores.items():
        yield {"key": f"finops:{name}", "score": score, "value": repr(score), **about}
    if outcome.value_usd is not None:
        yield {"key": "finops:value_usd", "value": _plain(outcome.value_usd), **about}
