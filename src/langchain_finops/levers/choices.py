"""What a policy is asked and what it says: which tier, why, how far up, and who judges its answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any, Protocol, cast

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_finops.errors import BadArguments
from langchain_finops.levers.steps import Steps
from langchain_finops.levers.tiers import prompt_tokens

__all__ = ["Choice", "Judge", "Policy", "Request", "Verdict", "is_sound", "share_of"]

SHORT = 64
CUT_OFF = frozenset({"length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded"})
DECLINED = frozenset({"refusal", "content_filter", "SAFETY", "PROHIBITED_CONTENT", "guardrail_intervened"})
REASONS = ("finish_reason", "stop_reason", "stopReason")
BOUNDS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a model is about to be asked."""

    messages: Sequence[BaseMessage]
    tools: frozenset[str] = frozenset()
    """Names of the tools that it may call."""
    tiers: tuple[str, ...] = ()
    """Names, cheapest first."""
    config: RunnableConfig = field(default_factory=RunnableConfig)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the call is bound with."""

    @property
    def tokens(self) -> int:
        """Estimated tokens of the messages."""
        return prompt_tokens(self.messages)

    @property
    def task_type(self) -> str | None:
        """As the run's metadata has it."""
        value = (self.config.get("metadata") or {}).get("task_type")
        return None if value is None else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an answer will do."""

    accepted: bool
    why: str
    """A short code; never text of the answer."""
    score: float | None = None


class Judge(Protocol):
    """Says whether an answer will do: a bool, or a share of certainty between 0 and 1."""

    def __call__(self, request: Request, answer: AIMessage, /) -> Any:
        """Judge one answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which tier answers."""

    tier: str
    why: str
    """A short code, written into the ledger."""
    score: float | None = None
    up_to: str | None = None
    """The dearest tier that may answer in its place; None: the last."""
    accept: "Callable[[Request, AIMessage], Steps[Verdict]] | None" = None
    """Judges answers of all tiers but the last; None: an answer is an answer."""

    def __post_init__(self) -> None:
        if not 0 < len(self.why) <= SHORT:
            raise BadArguments(
                f"why is {self.why!r}: give a short code of 1 to {SHORT} letters; it is no place for text"
            )


class Policy(Protocol):
    """Chooses a tier. A plain function of a `Request` that returns a tier's name or a `Choice` is one as well."""

    def steps(self, request: Request, /) -> Steps[Choice]:
        """What it wants asked, and what it chooses then."""
        ...


def share_of(value: object) -> float | None:
    """A share between 0 and 1, a Decimal's or NumPy's too; None for what is none, NaN among it."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = cast("Any", value).item()
    if not isinstance(value, Real | Decimal):
        return None
    try:
        share = float(value)
    except (ArithmeticError, ValueError):  # A whole number of hundreds of digits; a signalling NaN.
        return None
    return share if 0 <= share <= 1 else None


def is_sound(request: Request, answer: object) -> Verdict:
    """Whether an answer could be one at all: not empty, cut off, declined, or a call of a tool that there is not."""
    if not isinstance(answer, AIMessage):
        return Verdict(accepted=True, why="sound")
    unknown = [call for call in answer.tool_calls if call["name"] not in request.tools]
    if answer.invalid_tool_calls or (unknown and request.tools):  # Without tools a schema may have been bound.
        return Verdict(accepted=False, why="bad_tool_call")
    if declined(answer):
        return Verdict(accepted=False, why="declined")
    if ended_by(answer) in CUT_OFF and BOUNDS.isdisjoint(request.settings):
        return Verdict(accepted=False, why="cut_off")
    if not answer.tool_calls and not answer.text.strip() and not answer.additional_kwargs.get("parsed"):
        return Verdict(accepted=False, why="empty")
    return Verdict(accepted=True, why="sound")


def declined(answer: object) -> bool:
    """Whether the model itself refused to answer, as its provider marks that."""
    if not isinstance(answer, AIMessage):
        return False
    return bool(answer.additional_kwargs.get("refusal")) or ended_by(answer) in DECLINED


def ended_by(answer: AIMessage) -> str | None:
    """Why the model stopped, in its provider's word."""
    said = answer.response_metadata
    return next((said[name] for name in REASONS if isinstance(said.get(name), str)), None)
