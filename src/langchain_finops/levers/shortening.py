"""Ways to shorten a conversation that break nothing: calls stay with their results, and what is protected stays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_finops.levers.tiers import prompt_tokens

__all__ = ["DROPPED", "PROTECTED", "PRUNED", "Unit", "summary_message", "units_of", "with_summary", "without_results"]

PROTECTED: Final = "finops_protected"
"""A message with this in its `additional_kwargs` is never touched."""
PRUNED: Final = "finops_pruned"
"""Mark of a message that stands for others, or for its own content."""
DROPPED: Final = "[result dropped to save tokens; call the tool again if it is needed]"
LEAST_TOKENS: Final = 50
"""A result that is shorter saves nothing that a placeholder would not cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Messages that go or stay together."""

    messages: tuple[BaseMessage, ...]
    protected: bool


def units_of(
    messages: Sequence[BaseMessage], *, keep_last: int, protect: Callable[[BaseMessage], bool] | None
) -> list[Unit]:
    """The conversation in units. Protected are system messages, the first and the last request, what is marked, the
    last `keep_last` messages, and calls of tools whose results are not all there."""
    groups = _grouped(messages)
    requests = [each for each in messages if isinstance(each, HumanMessage) and PRUNED not in each.additional_kwargs]
    kept = {id(each) for each in (*requests[:1], *requests[-1:], *(messages[-keep_last:] if keep_last else ()))}

    def is_protected(group: Sequence[BaseMessage]) -> bool:
        return _is_broken(group) or any(
            id(each) in kept
            or isinstance(each, SystemMessage)
            or bool(each.additional_kwargs.get(PROTECTED))
            or (protect is not None and protect(each))
            for each in group
        )

    return [Unit(messages=tuple(group), protected=is_protected(group)) for group in groups]


def without_results(units: Sequence[Unit]) -> list[BaseMessage]:
    """Old results of tools in a few words; their calls stay."""
    return [
        message if unit.protected else _emptied(message) for unit in units for message in unit.messages
    ]  # fmt: skip


def with_summary(units: Sequence[Unit], summary: BaseMessage | None) -> list[BaseMessage]:
    """What is protected, and the summary where the first of the rest stood; without one the rest is just gone."""
    shortened: list[BaseMessage] = []
    for unit in units:
        if unit.protected:
            shortened += unit.messages
        elif summary is not None:
            shortened.append(summary)
            summary = None
    return shortened


def summary_message(text: str) -> BaseMessage:
    """A summary as the conversation has it."""
    return HumanMessage(
        f"Summary of the conversation so far:\n{text}", name="summary", additional_kwargs={PRUNED: True}
    )


def _grouped(messages: Sequence[BaseMessage]) -> list[list[BaseMessage]]:
    groups: list[list[BaseMessage]] = []
    waiting: set[str | None] = set()
    for message in messages:
        if isinstance(message, ToolMessage) and message.tool_call_id in waiting:
            groups[-1].append(message)
            waiting.discard(message.tool_call_id)
            continue
        groups.append([message])
        waiting = {call["id"] for call in message.tool_calls} if isinstance(message, AIMessage) else set()
    return groups


def _is_broken(group: Sequence[BaseMessage]) -> bool:
    """Whether a call of a tool has no result beside it, or a result no call: neither may become any worse."""
    first = group[0]
    if isinstance(first, ToolMessage):
        return True
    called = {call["id"] for call in first.tool_calls} if isinstance(first, AIMessage) else set()
    return called != {each.tool_call_id for each in group[1:] if isinstance(each, ToolMessage)}


def _emptied(message: BaseMessage) -> BaseMessage:
    if not isinstance(message, ToolMessage) or PRUNED in message.additional_kwargs:
        return message
    if prompt_tokens([message]) < LEAST_TOKENS:
        return message
    marked = {**message.additional_kwargs, PRUNED: True}
    return message.model_copy(update={"content": DROPPED, "additional_kwargs": marked})
