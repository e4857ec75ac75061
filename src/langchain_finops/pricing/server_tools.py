"""What an answer's content shows of tools that the provider ran: searches, which have a meter, and what has none."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CHARGED", "COMPACTION", "NOTHING_SHOWN", "Shown", "shown_in"]

COMPACTION = "compaction"
"""Anthropic's summary of a context that grew too long: a request of its own, which a stream does not count."""
FAILED = ("failed", "error")
OPENAI_CALLS = ("file_search_call", "code_interpreter_call", "image_generation_call", "shell_call")
"""Items of OpenAI's Responses that cost something beside their tokens."""
CALLS = ("server_tool_use", "server_tool_call", "server_tool_call_chunk")
"""What a call is called by Anthropic, by LangChain's `v1` content, and there in a stream that broke off."""
CHARGED: Mapping[str, str] = {
    "file_search": "file_search",
    "code_interpreter": "code_interpreter",
    "image_generation": "image_generation",
    "code_execution": "code_execution",
    "bash_code_execution": "code_execution",
    "text_editor_code_execution": "code_execution",
    "advisor": "advisor",
}
"""Names of tools that cost something beside their tokens, and what we call them. Others, such as fetching, do not."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the content shows. False in a condition where it shows nothing."""

    searches: int = 0
    """Web searches that were charged."""
    tools: tuple[str, ...] = ()
    """Other things that cost something and have no meter, each once."""

    def __bool__(self) -> bool:
        return bool(self.searches or self.tools)


NOTHING_SHOWN = Shown()


def shown_in(message: object) -> Shown:
    """What an answer's content shows. OpenAI and streams of Anthropic tell it nowhere else."""
    content = getattr(message, "content", None)
    blocks: list[object] = content if isinstance(content, list) else []
    kwargs = getattr(message, "additional_kwargs", None)
    outputs = kwargs.get("tool_outputs") if isinstance(kwargs, Mapping) else None
    if isinstance(outputs, list):
        blocks = blocks + outputs
    return _shown([block for block in blocks if isinstance(block, Mapping)]) if blocks else NOTHING_SHOWN


def _shown(blocks: list[Mapping[object, object]]) -> Shown:
    searches, calls = 0, set[object]()
    tools: dict[str, None] = {}
    for block in map(_unwrapped, blocks):
        if _is_search(block):
            searches += 1
            calls.add(_text(block.get("id")))
        elif _is_failure(block, calls):
            searches -= 1
        elif (tool := _tool(block)) is not None:
            tools[tool] = None
    return Shown(max(0, searches), tuple(tools)) if searches > 0 or tools else NOTHING_SHOWN


def _unwrapped(block: Mapping[object, object]) -> Mapping[object, object]:
    """The block itself: `v1` content wraps what it has no name for."""
    inside = block.get("value")
    return inside if block.get("type") == "non_standard" and isinstance(inside, Mapping) else block


def _is_search(block: Mapping[object, object]) -> bool:
    """True for a search that is charged, unless a later block says that it failed."""
    kind = block.get("type")
    if kind == "web_search_call":
        return _looked(block.get("action")) and block.get("status") not in FAILED
    return kind in CALLS and block.get("name") == "web_search" and _looked(block.get("args"))


def _looked(action: object) -> bool:
    """False for opening a page and for looking for words in it, which are calls of OpenAI's, too, and cost nothing."""
    return action.get("type", "search") == "search" if isinstance(action, Mapping) else True


def _is_failure(block: Mapping[object, object], calls: set[object]) -> bool:
    """True for a result that says that a search failed, which is not charged."""
    kind, result = block.get("type"), block.get("content")
    if kind == "web_search_tool_result":
        return isinstance(result, Mapping) and result.get("type") == "web_search_tool_result_error"
    call = _text(block.get("tool_call_id"))
    return kind == "server_tool_result" and block.get("status") == "error" and call is not None and call in calls


def _tool(block: Mapping[object, object]) -> str | None:
    kind, name = block.get("type"), block.get("name")
    if kind in OPENAI_CALLS:
        return str(kind).removesuffix("_call")
    if kind == "image":
        return "image_generation"  # As `v1` content names what the tool made.
    if kind == COMPACTION:
        return COMPACTION
    return CHARGED.get(name) if kind in CALLS and isinstance(name, str) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
