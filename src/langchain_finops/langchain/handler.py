"""`callbacks=[FinOpsHandler()]`: every call metered once, whatever the entry point, and never at the run's risk."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, cast
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent

from langchain_finops.errors import BadArguments
from langchain_finops.langchain import extract
from langchain_finops.langchain.charges import record_charge
from langchain_finops.langchain.recorder import Recorder
from langchain_finops.langchain.runs import Run
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import check
from langchain_finops.ledger.summary import Summary
from langchain_finops.meter import Faults, Meter
from langchain_finops.money import usd
from langchain_finops.pricing.book import PriceBook
from langchain_finops.records import EMPTY, Attribution, ChargeKind, ChargeRecord, Outcome, Role
from langchain_finops.sections import here, section

__all__ = ["FinOpsHandler", "Success"]

Success = Callable[[Any], "bool | Outcome | None"]
"""Judges a root run by its final state; None where it cannot tell, which logs nothing."""
NO_METADATA: dict[str, Any] = {}
NAMELESS: dict[str, Any] = {}

P = ParamSpec("P")


def _safe(hook: Callable[P, None]) -> Callable[P, None]:
    """Make a hook of all that it does, reading what LangChain hands it included."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        cast("FinOpsHandler", args[0]).tell(hook, *args, **kwargs)

    return guarded


def _number(name: str, value: Decimal | int | str | float) -> Decimal:
    try:
        return usd(value)
    except ValueError as error:
        raise BadArguments(f"{name}: {error}") from error


def _amount(name: str, value: Decimal | int | str | float | None) -> Decimal | None:
    return None if value is None else _number(name, value)


class FinOpsHandler(GraphCallbackHandler):
    """Records what every model call, tool and run costs, for whom, and where in the graph.

    Pass one to `config["callbacks"]`, or `attach()` it to everything in the process. One handler may serve many runs,
    threads and event loops at once. All arguments but `ledger`, `prices` and `success` are defaults of the
    attribution; a run's metadata overrides them.
    """

    raise_error = False  # Nothing of ours is to stop a run.
    run_inline = True  # Without it async runs meter on another thread, seconds late under load.

    def __init__(
        self,
        *,
        agent_id: str | None = None,
        user_id: str | None = None,
        task_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        ledger: str | Path | Ledger | None = None,
        prices: PriceBook | None = None,
        success: Success | None = None,
        task_type: str | None = None,
        customer_id: str | None = None,
        project: str | None = None,
        environment: str | None = None,
        release: str | None = None,
        role: Role = "agent",
    ) -> None:
        super().__init__()
        self._defaults = Attribution(
            agent_id=agent_id,
            user_id=user_id,
            task_id=task_id,
            task_type=task_type,
            customer_id=customer_id,
            project=project,
            environment=environment,
            release=release,
            role=role,
            tags=dict(tags) if tags else EMPTY,
        )
        self._faults = Faults()
        book = PriceBook.default() if prices is None else prices
        meter = Meter(ledger=open_ledger(ledger), prices=book, faults=self._faults)
        self._recorder = Recorder(meter, self._defaults, judges=success is not None)
        self._success = success

    # --- what users call -----------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The ledger in use."""
        return self._recorder.meter.ledger

    @property
    def faults(self) -> int:
        """How many faults of this package were met and not raised; 0 is good."""
        return self._faults.count

    def note_fault(self, error: BaseException) -> None:
        """Count a fault of ours; the first one is logged."""
        self._faults.note(error)

    def tell(self, event: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have an event booked, after what this thread is booking just now.

        No fault of ours gets out: LangChain would log its text, which may be a prompt's.
        """
        thread = here.thread
        if thread.depth:
            thread.waiting.append(partial(self.tell, event, *args, **kwargs))
            return
        thread.depth = 1
        try:
            event(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  A fault of ours never kills the user's run.
            self.note_fault(error)
        finally:
            thread.leave()

    def summary(self, by: str | Sequence[str] = "node") -> Summary:
        """Totals of what this handler saw, open runs included, by one dimension; `by=()` for one row of all.

        Raises BadArguments for an unknown dimension or several at once.
        """
        recorder = self._recorder
        with section, recorder.sums.lock:
            runs = recorder.tracker.open_runs()
            live = [(cells, run.before) for run in runs if (cells := run.sums()) is not None]
            return recorder.sums.summary((by,) if isinstance(by, str) else tuple(by), live)

    def log_outcome(
        self,
        *,
        task_id: str,
        success: bool | None = None,
        value_usd: Decimal | int | str | float | None = None,
        score: float | None = None,
        scores: Mapping[str, float] | None = None,
        reason: str | None = None,
        judged_by: str | None = None,
        task_type: str | None = None,
    ) -> Outcome:
        """Write down what became of a task. Logging again revises it; the last one counts.

        Raises BadArguments for a score or an amount that no ledger can keep.
        """
        if score is not None and not 0 <= score <= 1:
            raise BadArguments(f"score is {score!r}: a score is between 0 and 1; other figures go into scores=")
        outcome = Outcome(
            task_id=task_id,
            task_type=task_type or self._defaults.task_type,
            success=success,
            score=score,
            scores=dict(scores or {}),
            value_usd=_amount("value_usd", value_usd),
            reason=reason,
            judged_by=judged_by,
            at=datetime.now(UTC),
        )
        check(outcome)
        return self._write_outcome(outcome)

    def record_charge(
        self,
        kind: ChargeKind,
        *,
        cost_usd: Decimal | int | str | float | None = None,
        name: str | None = None,
        quantity: Decimal | int | str | float = 1,
        unit: str = "calls",
        source: str = "user",
        at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> ChargeRecord:
        """Write down a cost that is no model call: a person's minutes, an embedding, a machine, a credit (negative).

        Inside a run it belongs to the node it is recorded in. `metadata` says otherwise, with the keys of a run's.
        Without `cost_usd` a tool card of that `name` gives the price of one unit; else it is unpriced.
        Raises BadArguments for a time without a zone, and for an amount that no ledger can keep.
        """
        amount = _amount("cost_usd", cost_usd)
        charge = ChargeRecord(
            charge_id="",
            kind=kind,
            name=name,
            quantity=_number("quantity", quantity),
            unit=unit,
            cost_usd=amount,
            cost_status="unpriced" if amount is None else "reported" if amount else "free",
            source=source,
            at=at or datetime.now(UTC),
        )
        check(charge)
        with section:
            return record_charge(self._recorder, charge, metadata or NO_METADATA)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was recorded is durable; False if `timeout` seconds passed first."""
        self._recorder.feedback.flush()
        return self.ledger.flush(timeout)

    # --- models ----------------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a call of a chat model."""
        event = (run_id, parent_run_id, metadata or NO_METADATA, tags)
        self.tell(self._recorder.open_call, event, serialized, messages[0], kwargs)

    @_safe
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a call of a completion model."""
        event = (run_id, parent_run_id, metadata or NO_METADATA, tags)
        self._recorder.open_call(event, serialized, prompts[0], kwargs)

    @_safe
    def on_llm_new_token(
        self, token: str | list[str | dict[str, Any]], *, chunk: Any = None, run_id: UUID, **_: Any
    ) -> None:
        """Count what is streamed."""
        self._recorder.stream(run_id, chunk, token_bytes=extract.chunk_bytes(token, chunk))

    @_safe
    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Count what a content-block stream brings."""
        self._recorder.stream(run_id, event, event_bytes=extract.event_bytes(event))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Settle a call by its answer."""
        self.tell(self._recorder.end_call, run_id, response)

    @_safe
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a call that failed."""
        self._recorder.fail_call(run_id, error, kwargs.get("response"))

    # --- chains, nodes, graphs, retrievers ---------------------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a run, a node, or a part of one."""
        event = (run_id, parent_run_id, metadata or NO_METADATA, tags)
        name = kwargs.get("name") or (serialized or NAMELESS).get("name")
        self.tell(self._recorder.start_chain, event, name, inputs)

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **_: Any) -> None:
        """End a run, a node, or a part of one."""
        thread = here.thread
        if thread.depth:
            thread.waiting.append(partial(self.on_chain_end, outputs, run_id=run_id))
            return
        try:
            thread.depth = 1
            try:
                run = self._recorder.end_chain(run_id, None)
            finally:
                thread.leave()
            if run is not None:
                self._after_run(run, outputs)  # Outside: `success` is the user's code, and may make calls.
        except Exception as error:  # noqa: BLE001  As in `tell`.
            self.note_fault(error)

    @_safe
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a run, a node, or a part of one that failed, paused or was cancelled."""
        self._recorder.end_chain(run_id, error)

    @_safe
    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """A graph paused."""
        if event.run_id is not None:
            self._recorder.pause(event.run_id)

    @_safe
    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,  # noqa: ARG002  Text is none of our business.
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A retriever may make calls of its own."""
        name = kwargs.get("name") or (serialized or NAMELESS).get("name")
        self._recorder.start_retriever((run_id, parent_run_id, metadata or NO_METADATA, tags), name)

    @_safe
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  As above.
        """End a retriever."""
        self._recorder.end_chain(run_id, None)

    @_safe
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a retriever that failed."""
        self._recorder.end_chain(run_id, error)

    # --- tools -----------------------------------------------------------------------------------------------------

    @_safe
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,  # noqa: ARG002  As above.
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a tool's charge."""
        name = kwargs.get("name") or (serialized or NAMELESS).get("name")
        self._recorder.start_tool((run_id, parent_run_id, metadata or NO_METADATA, tags), name)

    @_safe
    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  As above.
        """Write a tool's charge down."""
        self._recorder.end_tool(run_id, None)

    @_safe
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Write a failed tool's charge down."""
        self._recorder.end_tool(run_id, error)

    # --- outcomes --------------------------------------------------------------------------------------------------

    def _after_run(self, run: Run, outputs: Any) -> None:
        """Judge a root run that completed by its final state."""
        attribution = self._recorder.tracker.of_run(run)
        task_id = attribution.task_id or run.run_id
        if self._success is None:
            return
        verdict = self._success(outputs)
        if verdict is None:
            return
        if not isinstance(verdict, Outcome):
            verdict = Outcome(
                task_id=task_id,
                task_type=attribution.task_type,
                success=bool(verdict),
                judged_by="success",
                at=datetime.now(UTC),
            )
        self._write_outcome(verdict)

    def _write_outcome(self, outcome: Outcome) -> Outcome:
        """Write an outcome; the ledger numbers the revisions of a task's."""
        if here.thread.depth:  # The user's own code, in the `finally` of a generator that was dropped.
            here.thread.waiting.append(partial(self.tell, self._judge, outcome))
            return outcome
        with section:
            self._judge(outcome)
        return outcome

    def _judge(self, outcome: Outcome) -> None:
        self._recorder.meter.write(outcome)
        self._recorder.sums.judge(outcome)
        self._recorder.feedback.send(outcome)
