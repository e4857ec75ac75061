"""`callbacks=[FinOpsHandler()]`: every call metered once, whatever the entry point, and never at the run's risk."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.charges import record_charge
from langchain_finops.langchain.guards import REQUIRED, Policy, guard_of, policies_of
from langchain_finops.langchain.hooks import Hooks
from langchain_finops.langchain.observers import Observer
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


def _number(name: str, value: Decimal | int | str | float) -> Decimal:
    try:
        return usd(value)
    except ValueError as error:
        raise BadArguments(f"{name}: {error}") from error


def _amount(name: str, value: Decimal | int | str | float | None) -> Decimal | None:
    return None if value is None else _number(name, value)


class FinOpsHandler(Hooks):
    """Records what every model call, tool and run costs, for whom, and where in the graph; refuses what breaks a limit.

    Pass one to `config["callbacks"]`, or `attach()` it to everything in the process. One handler may serve many runs,
    threads and event loops at once. Names of whom and what a run is for are defaults of the attribution; a run's
    metadata overrides them. Raises BadArguments with all that is wrong with the guards.
    """

    def __init__(
        self,
        *,
        agent_id: str | None = None,
        user_id: str | None = None,
        task_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        budgets: Iterable[Policy] = (),
        strict: bool = False,
        require: Sequence[str] = REQUIRED,
        protect: Sequence[str] = (),
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
        """`budgets`: limits, loop guards, burn alerts and model policies alike. `strict`: refuse calls without a limit,
        or without all of `require`. `protect`: nodes that no limit stops. `success`: judges a run by its final state.
        """
        super().__init__()
        policies = policies_of(budgets, protect=protect, require=require)
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
        kept = open_ledger(ledger)
        guard = guard_of(policies, kept, strict=strict, require=require, failed=self._faults.note)
        meter = Meter(ledger=kept, prices=book, faults=self._faults, guard=guard)
        self._recorder = Recorder(meter, self._defaults, judges=success is not None)
        self._success = success

    # --- what users call -----------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The ledger in use."""
        return self._recorder.meter.ledger

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
        charge_id: str | None = None,
    ) -> ChargeRecord:
        """Write down a cost that is no model call: a person's minutes, an embedding, a machine, a credit (negative).

        Inside a run it belongs to the node it is recorded in. `metadata` says otherwise, with the keys of a run's.
        Without `cost_usd` a tool card of that `name` gives the price of one unit; else it is unpriced. `charge_id`: a
        ledger keeps one charge of an id, and a handler counts it once and returns the first one: what may be recorded
        again is there once. Raises BadArguments for a time without a zone, and for an amount that no ledger can keep.
        """
        amount = _amount("cost_usd", cost_usd)
        charge = ChargeRecord(
            charge_id=charge_id or "",
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

    def observe(self, observer: Observer) -> None:
        """Tell `observer(record, before)` of each call, charge and run as it is written down; `before` is the version
        of a call that the record supersedes.

        It is told in the thread and context of the event, so that it finds the current trace there, and must not wait
        for anything. What it raises is counted in `faults` and reaches no run.
        """
        self._recorder.observers.add(observer)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was recorded is durable and alerts are sent; False if `timeout` seconds passed first."""
        end = None if timeout is None else time.monotonic() + timeout
        self._recorder.feedback.flush()
        kept = self.ledger.flush(timeout)
        left = None if end is None else max(0.0, end - time.monotonic())
        return self._recorder.meter.guard.accounts.flush(left) and kept

    # --- outcomes --------------------------------------------------------------------------------------------------

    def after_run(self, run: Run, outputs: Any) -> None:
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
