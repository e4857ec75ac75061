"""Reads why a run stopped out of whatever a graph gives back: a result, a chunk of a stream, or an exception.

Interrupts and messages go through checkpoints, so what they carry is plain JSON; amounts are strings, exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypedDict, cast

from langchain_core.messages import BaseMessage
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError
from langgraph.types import Interrupt

from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain.refusals import (
    CallRefused,
    DrainReason,
    RunDrained,
    innermost,
    stop_reason,
    unvalidated_text,
)

__all__ = ["MARKER", "Question", "Stop", "Told", "questions", "stopped", "told_of"]

MARKER = "finops_stop"
"""Key of a stop in a message's `response_metadata`, and the `type` of a question's payload."""
INTERRUPT = "__interrupt__"
CAUSES = 16
"""Exceptions that are looked at in a chain of causes."""


class Told(TypedDict):
    """A refusal as JSON."""

    type: str
    kind: str
    budget: str | None
    scope: str | None
    unit: str | None
    limit: str | None
    spent: str | None
    held: str | None
    estimate: str | None
    node: str | None
    node_path: str | None
    run_id: str | None
    reason: str
    unvalidated: list[str]


class Question(Told):
    """What a person is asked when a limit pauses a run: the value of the interrupt."""

    answers: list[dict[str, object]]
    """Shapes of the answers that are understood; anything else asks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a run stopped before its end."""

    reason: str
    """`budget:LABEL`, `loop`, `killed`, `unpriced`, `drained`, `recursion_limit`, or another guard's kind."""
    message: str
    """One sentence, with the remedy."""
    kind: str | None = None
    """Kind of guard; None where none of ours stopped it."""
    budget: str | None = None
    scope: str | None = None
    unit: str | None = None
    limit: Decimal | None = None
    spent: Decimal | None = None
    held: Decimal | None = None
    estimate: Decimal | None = None
    node_path: str | None = None
    """Where it was refused: `researcher/search` for a node in a subgraph."""
    run_id: str | None = None
    unvalidated: tuple[str, ...] = ()
    """Protected nodes that have not run since the state last changed."""
    interrupts: tuple[str, ...] = ()
    """Ids of the questions that wait for an answer; `answers` makes the map of them."""

    @property
    def node(self) -> str | None:
        """The node it was refused in, the innermost of its path."""
        return innermost(self.node_path)


def stopped(result: object) -> Stop | None:
    """Why a run stopped, from what `invoke` returned, a `GraphOutput`, a stream's chunk or an exception.

    Of what `batch(return_exceptions=True)` returned, the first that was stopped. None for a run that was not stopped,
    and for interrupts of the user's own.
    """
    if isinstance(result, BaseException):
        return _of_error(result)
    if type(result) is list and any(isinstance(each, BaseException) for each in result):
        return next((stop for each in result if (stop := stopped(each)) is not None), None)
    asked = list(questions(result))
    if asked:
        return _of_told(asked[0][1], tuple(each for each, _ in asked))
    marker = next(_markers(result), None)
    return None if marker is None else _of_told(marker)


def questions(result: object) -> Iterator[tuple[str, Question]]:
    """Id and payload of each question of ours that waits in a result, a chunk or an exception."""
    for each in _interrupts(result):
        value = each.value
        if isinstance(value, Mapping) and value.get("type") == MARKER:
            yield each.id, cast("Question", value)


def told_of(refusal: Refusal, unvalidated: Sequence[str] = ()) -> Told:
    """A refusal as JSON."""
    return Told(
        type=MARKER,
        kind=refusal.kind,
        budget=refusal.budget,
        scope=refusal.scope,
        unit=refusal.unit,
        limit=_figure(refusal.limit),
        spent=_figure(refusal.spent),
        held=_figure(refusal.held),
        estimate=_figure(refusal.estimate),
        node=innermost(refusal.node_path),
        node_path=refusal.node_path,
        run_id=refusal.run_id,
        reason=refusal.reason,
        unvalidated=list(unvalidated),
    )


def _figure(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _of_error(error: BaseException) -> Stop | None:
    each: BaseException | None = error
    for _ in range(CAUSES):
        if each is None:
            return None
        found = _of_one(each)
        if found is not None:
            return found
        each = each.__cause__ or each.__context__
    return None


def _of_one(error: BaseException) -> Stop | None:
    unvalidated = tuple(getattr(error, "unvalidated", ()))
    if isinstance(error, CallRefused):
        reason = "drained" if isinstance(error, RunDrained) else error.stop_reason
        return _of_refusal(error.refusal, reason, unvalidated)
    if isinstance(error, GraphDrained):
        if isinstance(error.reason, DrainReason):
            return _of_refusal(error.reason.refusal, "drained", unvalidated or error.reason.unvalidated)
        return Stop(reason="drained", message=str(error), unvalidated=unvalidated)
    if isinstance(error, GraphRecursionError):
        return Stop(
            reason="recursion_limit", message=f"{error}{unvalidated_text(unvalidated)}", unvalidated=unvalidated
        )
    if isinstance(error, GraphInterrupt):
        asked = list(questions(error))
        return _of_told(asked[0][1], tuple(each for each, _ in asked)) if asked else None
    return None


def _of_refusal(refusal: Refusal, reason: str, unvalidated: tuple[str, ...]) -> Stop:
    return Stop(
        reason=reason,
        message=f"{refusal.reason}{unvalidated_text(unvalidated)}",
        kind=refusal.kind,
        budget=refusal.budget,
        scope=refusal.scope,
        unit=refusal.unit,
        limit=refusal.limit,
        spent=refusal.spent,
        held=refusal.held,
        estimate=refusal.estimate,
        node_path=refusal.node_path,
        run_id=refusal.run_id,
        unvalidated=unvalidated,
    )


def _of_told(told: Mapping[str, Any], interrupts: tuple[str, ...] = ()) -> Stop:
    refusal = Refusal(
        kind=told["kind"],
        reason=told["reason"],
        budget=told.get("budget"),
        scope=told.get("scope"),
        unit=told.get("unit"),
        limit=_amount(told.get("limit")),
        spent=_amount(told.get("spent")),
        held=_amount(told.get("held")),
        estimate=_amount(told.get("estimate")),
        node_path=told.get("node_path"),
        run_id=told.get("run_id"),
    )
    stop = _of_refusal(refusal, stop_reason(refusal), tuple(told.get("unvalidated") or ()))
    return replace(stop, interrupts=interrupts)


def _amount(figure: object) -> Decimal | None:
    return None if figure is None else Decimal(str(figure))


def _interrupts(result: object) -> Iterator[Interrupt]:
    """The interrupts in a result, wherever this entry point and version of LangGraph puts them."""
    if isinstance(result, Interrupt):
        yield result
    elif isinstance(result, GraphInterrupt):
        yield from _interrupts(result.args[0] if result.args else ())
    elif isinstance(result, Mapping):
        yield from _interrupts(result.get(INTERRUPT) or ())
        if _is_part(result):
            inside = tuple(_interrupts(result["data"]))
            yield from inside or _interrupts(result.get("interrupts") or ())
    elif hasattr(result, "interrupts"):  # A GraphOutput, or a state's snapshot, which is a tuple as well.
        yield from _interrupts(result.interrupts or ())
    elif isinstance(result, tuple | list):  # `(mode, chunk)`, `(namespace, mode, chunk)`, or interrupts.
        for each in result:
            if isinstance(each, Interrupt | Mapping):
                yield from _interrupts(each)


def _is_part(result: Mapping[str, Any]) -> bool:
    """Whether it is a chunk of `stream(version="v2")`."""
    return isinstance(result.get("type"), str) and "data" in result


def _markers(result: object) -> Iterator[Mapping[str, Any]]:
    """The typed markers of the last messages in a result."""
    if isinstance(result, BaseMessage):
        marker = result.response_metadata.get(MARKER)
        if isinstance(marker, Mapping):
            yield marker
    elif isinstance(result, tuple | list):
        for each in result:
            if isinstance(each, BaseMessage | Mapping | tuple):
                yield from _markers(each)
    elif isinstance(result, Mapping):
        if _is_part(result):
            yield from _markers(result["data"])
        yield from _last(result.get("messages"))
        for each in result.values():  # A chunk of updates has the state's keys one level further down.
            if isinstance(each, Mapping):
                yield from _last(each.get("messages"))
    elif not isinstance(result, str | bytes):
        value = getattr(result, "value", None)
        yield from _markers(value) if isinstance(value, Mapping) else _last(getattr(result, "messages", None))


def _last(messages: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(messages, list | tuple) and messages:
        yield from _markers(messages[-1])
    elif isinstance(messages, BaseMessage):
        yield from _markers(messages)
