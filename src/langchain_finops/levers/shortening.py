"""Ways to shorten a conversation that break nothing: calls stay with their results, and what is protected stays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_finops.levers.excerpts import bearing_on
from langchain_finops.levers.tiers import prompt_tokens, warn_once

__all__ = [
    "DROPPED",
    "PROTECTED",
    "PRUNED",
    "Unit",
    "summary_message",
    "units_of",
    "with_passages",
    "with_summary",
    "without_results",
]

PROTECTED: Final = "finops_protected"
"""A message with this in its `additional_kwargs` is never touched."""
PRUNED: Final = "finops_pruned"
"""Mark of a message that stands for others, or for a result that was dropped."""
CUT: Final = "finops_cut"
"""Mark of a message whose document was cut; its value is the place of that in the content."""
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
    requests = _requests(messages)
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


def with_passages(
    messages: Sequence[BaseMessage], protect: Callable[[BaseMessage], bool] | None
) -> list[BaseMessage] | None:
    """The document that is most of the prompt, cut to what bears on the last request; None where there is none.

    A document is a result of a tool, or the longest of several text blocks in a request, whose others are the question.
    """
    requests = _requests(messages)
    documents = [
        (len(text), number, place, text)
        for number, message in enumerate(messages)
        if not (message.additional_kwargs.keys() & {PRUNED, CUT} or message.additional_kwargs.get(PROTECTED))
        for place, text in _documents(message)
        if protect is None or not protect(message)
    ]
    if not requests or not documents:
        return None
    _, number, place, document = max(documents)
    if 2 * prompt_tokens([HumanMessage(document)]) <= prompt_tokens(messages):
        return None
    question = _question(requests[-1])
    cut = bearing_on(document, question)
    if cut is None:
        warn_once("prune: no passage of the document has a word of the last request; such a document stays whole")
        return None
    return [_cut(each, place, cut) if at == number else each for at, each in enumerate(messages)]


def summary_message(text: str) -> BaseMessage:
    """A summary as the conversation has it."""
    return HumanMessage(
        f"Summary of the conversation so far:\n{text}", name="summary", additional_kwargs={PRUNED: True}
    )


def _requests(messages: Sequence[BaseMessage]) -> list[HumanMessage]:
    """What the user has written: a summary is none of it, a request whose document was cut is."""
    return [each for each in messages if isinstance(each, HumanMessage) and PRUNED not in each.additional_kwargs]


def _question(request: HumanMessage) -> str:
    """The texts of a request without the document in it, whether that was cut before or not."""
    cut = request.additional_kwargs.get(CUT)
    documents = [at for at, _ in _documents(request)] if cut is None else [cut]
    return "\n".join(text for at, text in _texts(request) if at not in documents)


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


def _texts(message: BaseMessage) -> list[tuple[int, str]]:
    """Its texts, and at which place in its content each stands."""
    content: str | list[Any] = message.content
    if isinstance(content, str):
        return [(0, content)]
    texts = [(at, block if isinstance(block, str) else block.get("text")) for at, block in enumerate(content)]
    return [(at, text) for at, text in texts if isinstance(text, str)]


def _documents(message: BaseMessage) -> list[tuple[int, str]]:
    """Those of its texts that may be cut."""
    texts = _texts(message)
    if isinstance(message, ToolMessage):
        return texts
    if isinstance(message, HumanMessage) and len(texts) > 1:
        return [max(texts, key=lambda each: len(each[1]))]
    return []


def _cut(message: BaseMessage, place: int, text: str) -> BaseMessage:
    """The message with another text at this place of its content."""
    content: str | list[Any] = message.content
    if isinstance(content, list):
        block = content[place]
        content = [*content[:place], text if isinstance(block, str) else {**block, "text": text}, *content[place + 1 :]]
    else:
        content = text
    marked = {**message.additional_kwargs, CUT: place}
    return message.model_copy(update={"content": content, "additional_kwargs": marked})
