"""What a guard raises: exceptions that retries, fallbacks and error handlers of LangChain and LangGraph let through.

* CallRefused               a call, tool or step was refused before it was made; also for attribution that is missing
  x BudgetExceeded          it would have broken a budget
  x LoopDetected            it would have been one round too many of the same
  x Killed                  somebody pulled the kill switch
  x UnpricedCall            nobody knows what it would have cost
  x RunDrained              the same as a LangGraph drain: what ran beside it is saved, `invoke(None)` goes on

LangGraph retries no `GraphBubbleUp` and hands none to error handlers; LangChain retries no `ModelError` that says it is
not retryable.
"""

from collections.abc import Sequence
from decimal import Decimal

from langchain_core.exceptions import ModelError
from langgraph.errors import GraphBubbleUp, GraphDrained

from langchain_finops.budgets.refusal import Refusal, RefusalKind
from langchain_finops.errors import FinOpsError

__all__ = [
    "BudgetExceeded",
    "CallRefused",
    "DrainReason",
    "Killed",
    "LoopDetected",
    "RunDrained",
    "UnpricedCall",
    "innermost",
    "refused",
    "stop_reason",
    "unvalidated_text",
]


class CallRefused(FinOpsError, GraphBubbleUp, ModelError):
    """A call, tool or step was refused before it was made. Final for its run: catching it buys nothing."""

    is_retryable = False

    def __init__(self, refusal: Refusal, unvalidated: Sequence[str] = ()) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.unvalidated = tuple(unvalidated)
        """Protected nodes that have not run since the state last changed."""

    def __reduce__(self) -> tuple[object, ...]:  # Without it a process pool would rebuild it from its text, and fail.
        return type(self), (self.refusal, self.unvalidated)

    def __str__(self) -> str:
        return f"{self.refusal.reason}{unvalidated_text(self.unvalidated)}"

    @property
    def kind(self) -> RefusalKind:
        """Which kind of guard refused it."""
        return self.refusal.kind

    @property
    def stop_reason(self) -> str:
        """The `stop_reason` of its run, such as `budget:$0.50 per run`, `loop` or `killed`."""
        return stop_reason(self.refusal)

    @property
    def reason(self) -> str:
        """One sentence: what was estimated, from what, and how to change it."""
        return self.refusal.reason

    @property
    def budget(self) -> str | None:
        """Name of the budget, or of the guard."""
        return self.refusal.budget

    @property
    def scope(self) -> str | None:
        """Whose balance it is."""
        return self.refusal.scope

    @property
    def unit(self) -> str | None:
        """Of the amounts: `usd`, `tokens`, `llm_calls`, `tool_calls`, `steps` or `seconds`."""
        return self.refusal.unit

    @property
    def limit(self) -> Decimal | None:
        """What may be spent at most."""
        return self.refusal.limit

    @property
    def spent(self) -> Decimal | None:
        """What was spent by then."""
        return self.refusal.spent

    @property
    def held(self) -> Decimal | None:
        """What calls in flight held by then."""
        return self.refusal.held

    @property
    def estimate(self) -> Decimal | None:
        """What was asked for."""
        return self.refusal.estimate

    @property
    def node(self) -> str | None:
        """The node it was asked for in, the innermost of its path."""
        return innermost(self.refusal.node_path)

    @property
    def node_path(self) -> str | None:
        """Where it was asked for: `researcher/search` for a node in a subgraph."""
        return self.refusal.node_path

    @property
    def run_id(self) -> str | None:
        """The run that it ended."""
        return self.refusal.run_id

    @property
    def approval(self) -> str | None:
        """The name by which an approval knows the limit."""
        return self.refusal.approval


class BudgetExceeded(CallRefused):
    """It would have broken a budget."""


class LoopDetected(CallRefused):
    """It would have been one round too many of the same."""


class Killed(CallRefused):
    """Somebody pulled the kill switch."""


class UnpricedCall(CallRefused):
    """A budget in dollars is in force, and nobody knows what it would have cost."""


class RunDrained(CallRefused, GraphDrained):
    """The run ends with this superstep and can be resumed, because a guard with `on_exceed="drain"` refused it."""

    @property
    def reason(self) -> str:
        """One sentence: what was estimated, from what, and how to change it."""
        return self.refusal.reason

    @reason.setter
    def reason(self, _: str) -> None:
        """Is the refusal's; GraphDrained sets it before the refusal is known."""


class DrainReason(str):
    """The reason LangGraph is asked to drain for: its text, and the refusal, which `GraphDrained.reason` hands back."""

    __slots__ = ("refusal", "unvalidated")

    def __new__(cls, refusal: Refusal, unvalidated: Sequence[str] = ()) -> "DrainReason":
        """The text is the refusal's sentence."""
        text = super().__new__(cls, f"finops: {refusal.reason}")
        text.refusal, text.unvalidated = refusal, tuple(unvalidated)
        return text

    def __reduce__(self) -> tuple[object, ...]:  # GraphDrained travels through process pools, too.
        return type(self), (self.refusal, self.unvalidated)

    refusal: Refusal
    unvalidated: tuple[str, ...]


_KINDS: dict[str, type[CallRefused]] = {
    "budget": BudgetExceeded,
    "ledger": BudgetExceeded,
    "loop": LoopDetected,
    "kill": Killed,
    "unpriced": UnpricedCall,
}


def refused(refusal: Refusal, unvalidated: Sequence[str] = ()) -> CallRefused:
    """The exception for a refusal."""
    return _KINDS.get(refusal.kind, CallRefused)(refusal, unvalidated)


def innermost(node_path: str | None) -> str | None:
    """The last node of a path."""
    return None if node_path is None else node_path.rpartition("/")[2]


def stop_reason(refusal: Refusal) -> str:
    """Why a run stopped, as its record says: `budget:LABEL`, `loop`, `killed`, `unpriced`, or the kind of guard."""
    if refusal.kind == "budget":
        return f"budget:{refusal.budget}"
    return "killed" if refusal.kind == "kill" else refusal.kind


def unvalidated_text(nodes: Sequence[str]) -> str:
    """A sentence that names protected nodes which did not run; nothing where there are none."""
    if not nodes:
        return ""
    names = ", ".join(f"`{name}`" for name in nodes)
    return f" Not validated: {names} did not run since the state last changed."
