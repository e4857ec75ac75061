"""Turns what a guard refuses into what is raised, and what a person answers into an approval.

A refusal is raised. With `on_exceed="interrupt"` it pauses the graph and asks, where there is a graph; with `"drain"`
it ends the graph after its superstep, resumable. Whichever it is, the run's record says what stopped it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from langgraph.errors import GraphDrained, GraphRecursionError

from langchain_finops.budgets.carrying import refusal_of
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.switch import change_event
from langchain_finops.errors import LedgerError
from langchain_finops.langchain import control, failures
from langchain_finops.langchain.attribution import node_path
from langchain_finops.langchain.control import ASK, Answered, Configurable
from langchain_finops.langchain.refusals import CallRefused, RunDrained, refused, stop_reason
from langchain_finops.langchain.runs import Node, Run, RunCall
from langchain_finops.ledger.in_time import in_time
from langchain_finops.meter import Meter
from langchain_finops.records import Attribution, Event, RunStatus

__all__ = ["Gate"]

REFUSE = "refuse"
GUARD = "guard"
"""Who acted, where it was no person."""


class Gate:
    """What stands between a start and what it starts. Safe between threads."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to guard against."""
        return self._meter.is_idle

    @property
    def fails_closed(self) -> bool:
        """Whether some budget would rather have nothing begin than something that is not counted."""
        accounts = self._meter.guard.accounts
        return any(each.limit.budget.fail_closed for each in (*accounts.limits, *accounts.walls))

    # --- admission ---------------------------------------------------------------------------------------------------

    def admit(self, run: Run, namespace: str | None, start: Callable[[], Refusal | None]) -> BaseException | None:
        """Have something begin, asking a person where that is what the guard wants; what is raised if it may not."""
        if run.questions.waiting and namespace is not None and (denied := self._no(run, namespace)) is not None:
            return denied
        approvals = run.questions.approvals
        while (refusal := start()) is not None:
            configurable = self._askable(refusal, namespace)
            if configurable is None or namespace is None:
                return self._refused(run, refusal, namespace)
            place = run.questions.place(namespace, refusal.budget)
            with run.lock:
                # Another branch may have had the limit raised meanwhile: both answers would raise it twice.
                if run.questions.approvals == approvals:
                    answered = run.questions.take_answer(place, configurable, refusal.unit)
                    if answered is None or answered.approve is None:
                        run.questions.places.add(namespace)
                        return self._asked(run, refusal, place, configurable, understood=answered is None)
                    if not answered.approve:
                        return self._refused(run, self._denied(run, refusal, answered), namespace)
                    self._approved(run, refusal, answered)
                approvals = run.questions.approvals
        return None

    def admit_node(self, node: Node, who: Attribution) -> BaseException | None:
        """The same for an execution of a node. Another attempt at one is no further step."""
        run = node.run
        if run.ending and self._is_ending(node):
            return None
        first = node.attempt == 1

        def start() -> Refusal | None:
            if first:
                return self._meter.open_step(run.state, who)
            refusal = run.state.refusal_for(who.node_path, who.step)
            return None if self._is_protected(node) else refusal

        return self.admit(run, node.namespace, start)

    def _is_ending(self, node: Node) -> bool:
        """Whether a node is of a graph that is coming to its end, and not the one that was refused, in a loop."""
        graph = node.namespace.rpartition("|")[0]
        return any(each.rpartition("|")[0] == graph and node_path(each) != node.path for each in list(node.run.ending))

    def cut_off(self, call: RunCall) -> BaseException | None:
        """What ends a stream in flight: only a kill that says so."""
        refusal = self._meter.cut_off(call, call.run.state)
        return None if refusal is None else self._refused(call.run, refusal, None)

    def _askable(self, refusal: Refusal, namespace: str | None) -> Configurable | None:
        """What LangGraph configured the place with where a person can be asked; None where nobody can."""
        return control.task_config(namespace) if refusal.on_exceed == "interrupt" and namespace else None

    def _approved(self, run: Run, refusal: Refusal, answered: Answered) -> None:
        self._meter.approve(run.state, refusal, answered.amount, by=answered.by)
        run.questions.approvals += 1
        run.refusal = None

    def _denied(self, run: Run, refusal: Refusal, answered: Answered) -> Refusal:
        by = "" if answered.by is None else f" by {answered.by}"
        refusal = replace(refusal, on_exceed="raise", reason=f"More was asked for and denied{by}: {refusal.reason}")
        self._meter.deny(run.state, refusal, by=answered.by)
        return refusal

    def _no(self, run: Run, namespace: str) -> BaseException | None:
        """What is raised because a person said no to what the run asked before; whether it would fit by now or not."""
        configurable = control.task_config(namespace)
        with run.lock:
            answered = None if configurable is None else run.questions.take_no(configurable)
            if answered is None:
                return None
            asked: list[Event] = []
            with in_time(), suppress(LedgerError):  # A no is one, also where what was asked cannot be read.
                asked += self._meter.ledger.events(subject=run.run_id, action=ASK)
            reason, after = (asked[-1].reason, asked[-1].after) if asked else (None, None)  # It may be in a spill file.
            refusal = refusal_of(run.run_id, reason or "a limit was met", after or {})
            return self._refused(run, self._denied(run, refusal, answered), namespace)

    def _asked(
        self, run: Run, refusal: Refusal, place: str, configurable: Configurable, *, understood: bool
    ) -> BaseException:
        question = run.questions.id_of(place)
        run.refusal, run.resumable = refusal, control.resumable(configurable)
        if question not in run.questions.asked:
            run.questions.asked.add(question)
            after = {"question": question, "place": place, "invocation_id": run.invocation_id}
            self._note(run, ASK, refusal, after)
        return control.pause(refusal, question, self.unvalidated(run), understood=understood)

    def _refused(self, run: Run, refusal: Refusal, namespace: str | None) -> BaseException:
        missing = self.unvalidated(run)
        drains = refusal.on_exceed == "drain" and namespace is not None
        refusal = refusal if drains else replace(refusal, on_exceed="raise")
        if run.refusal is None:  # Once: a run that swallows its refusal may meet it a thousand times.
            self._note(run, REFUSE, refusal, {})
        run.refusal = refusal
        if not drains:
            return refused(refusal, missing)
        control.drain(refusal, missing)
        return RunDrained(refusal, missing)

    def _note(self, run: Run, action: str, refusal: Refusal, after: dict[str, str]) -> None:
        """Leave an entry in the audit trail."""
        said = ("unit", "limit", "spent", "held", "estimate", "scope", "on_exceed")
        figures = {name: getattr(refusal, name) for name in said}
        told = {name: str(value) for name, value in figures.items() if value is not None}
        after = {**told, **after, "kind": refusal.kind, "budget": refusal.budget or "", "node": refusal.node_path or ""}
        at, reason = datetime.now(UTC), refusal.reason
        self._meter.write(change_event(action, run.run_id, by=GUARD, at=at, reason=reason, after=after))

    # --- nodes -------------------------------------------------------------------------------------------------------

    def enter(self, node: Node, metadata: Mapping[str, Any], *, outer: Node | None) -> None:
        """A node's execution begins."""
        run = node.run
        with run.lock:
            run.places.enter(node.namespace, control.superstep(metadata))
            node.began = run.validation.begin()
            if outer is not None:
                outer.inner = True

    def leave(self, node: Node, *, ended_well: bool) -> None:
        """It has ended."""
        run, protected = node.run, self._meter.protected
        with run.lock:
            run.places.leave(node.namespace)
            if ended_well and run.questions.places and run.questions.were_asked_in(node.namespace):
                run.state.swallowed = True
            if ended_well and node.step is not None and not (node.inner and not self._is_protected(node)):
                run.validation.end(node.path.split("/"), protected, node.began)

    def _is_protected(self, node: Node) -> bool:
        return not self._meter.protected.isdisjoint(node.path.split("/"))

    def unvalidated(self, run: Run) -> tuple[str, ...]:
        """Protected nodes that have not run since the run's state last changed."""
        protected = self._meter.protected
        if not protected:
            return ()
        with run.lock:
            return run.validation.missing(protected)

    # --- the end -----------------------------------------------------------------------------------------------------

    def status(self, run: Run, error: BaseException | None) -> tuple[RunStatus, str | None]:
        """How a run stands that ends now, and why."""
        refusal = run.refusal
        if error is not None:
            status, reason = failures.run_status(error)
            if refusal is None or status not in ("failed", "interrupted"):
                return status, reason
            if status == "failed":
                return ("stopped", _reason(refusal)) if failures.is_refusal(error) else (status, reason)
        if run.paused or error is not None:
            if refusal is None:
                return "interrupted", "interrupt"
            return "interrupted" if run.resumable else "stopped", _reason(refusal)
        return ("completed", None) if refusal is None else ("stopped", _reason(refusal))

    def name_unvalidated(self, run: Run, error: BaseException) -> None:
        """Have the exception that a run ends with name the protected nodes which did not run."""
        missing = self.unvalidated(run)
        if missing and isinstance(error, CallRefused | GraphDrained | GraphRecursionError):
            error.unvalidated = missing  # type: ignore[union-attr]  # LangGraph's own take any attribute.


def _reason(refusal: Refusal) -> str:
    return "drained" if refusal.on_exceed == "drain" else stop_reason(refusal)
