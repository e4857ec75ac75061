"""What an answer's content shows of tools that the provider ran."""

from types import SimpleNamespace

import pytest
from langchain_core.messages import AIMessage

from langchain_finops.pricing.server_tools import Shown, shown_in

SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
V1_SEARCH = {"type": "server_tool_call", "id": "s", "name": "web_search", "args": {"query": "x"}}
V1_FAILURE = {"type": "server_tool_result", "tool_call_id": "s", "status": "error"}


@pytest.mark.parametrize(
    ("content", "searches"),
    [
        ("text", 0),
        ([], 0),
        ([SEARCH, SEARCH], 2),
        ([{"type": "web_search_call"}], 1),
        ([{"type": "web_search_call", "action": {"type": "open_page"}}], 0),
        ([{"type": "web_search_call", "action": {"type": "find_in_page"}}], 0),
        ([{"type": "web_search_call", "status": "failed", "action": {"type": "search"}}], 0),
        ([{"type": "server_tool_use", "name": "web_search"}], 1),
        ([{"type": "server_tool_use", "name": "code_execution"}], 0),
        ([{"type": "server_tool_call", "name": "web_search"}, {"type": "server_tool_result"}], 1),
        ([{"type": "web_search_tool_result", "content": {"type": "web_search_tool_result_error"}}], 0),
        ([{**V1_SEARCH, "args": {"type": "open_page"}}], 0),
        ([{**V1_SEARCH, "args": {"type": "find_in_page"}}, V1_FAILURE], 0),
        ([{**V1_SEARCH, "args": {"type": "search", "query": "x"}}], 1),
        ([V1_SEARCH, V1_FAILURE], 0),
        ([V1_SEARCH, {**V1_FAILURE, "tool_call_id": "another"}], 1),
        ([V1_SEARCH, {**V1_FAILURE, "status": "success"}], 1),
        (["piece", {"type": "text", "text": "x"}], 0),
    ],
)
def test_searches_are_counted_by_what_was_charged(content: list[object], searches: int) -> None:
    """A search is; opening a page, a failed search and other tools are not."""
    assert shown_in(SimpleNamespace(content=content)).searches == searches


def test_an_older_integration_keeps_them_beside_the_content() -> None:
    """`langchain-openai` with `output_version="v0"` puts them into `additional_kwargs`."""
    message = AIMessage("found", additional_kwargs={"tool_outputs": [SEARCH, {"type": "file_search_call"}]})

    assert shown_in(message) == Shown(1, ("file_search",))
    assert shown_in(object()) == Shown()


@pytest.mark.parametrize(
    ("block", "tools"),
    [
        ({"type": "file_search_call"}, ("file_search",)),
        ({"type": "image_generation_call"}, ("image_generation",)),
        ({"type": "code_interpreter_call"}, ("code_interpreter",)),
        ({"type": "image", "base64": "..."}, ("image_generation",)),
        ({"type": "server_tool_call", "name": "file_search"}, ("file_search",)),
        ({"type": "server_tool_use", "name": "bash_code_execution"}, ("code_execution",)),
        ({"type": "server_tool_use", "name": "advisor"}, ("advisor",)),
        ({"type": "server_tool_use", "name": "web_fetch"}, ()),
        ({"type": "mcp_call"}, ()),
        ({"type": "server_tool_use", "name": ["odd"]}, ()),
        ({"type": "compaction", "content": "summary"}, ("compaction",)),
        ({"type": "non_standard", "value": {"type": "compaction"}}, ("compaction",)),
        ({"type": ["odd"]}, ()),
    ],
)
def test_what_has_no_meter_is_named(block: dict[str, object], tools: tuple[str, ...]) -> None:
    """Once, however often it ran; what costs no more than its tokens is not."""
    assert shown_in(SimpleNamespace(content=[block, block])).tools == tools
