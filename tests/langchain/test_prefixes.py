"""What two prompts have in common is told by their digests, and nothing else is."""

import json
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)  # fmt: skip
from langchain_core.tools import StructuredTool
from pydantic import BaseModel

from langchain_finops.langchain.prefixes import Prefixes
from langchain_finops.ledger.marks import Marks, read_marks

KEY = bytes(range(32))
RULES = "Be brief, and say what you do not know. " * 100  # 4,000 bytes.
CHINESE = "请用中文回答所有问题" * 3
"""Without a blank: one long word."""
NO_TOOLS: dict[str, Any] = {}
CALLS: Any = [{"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}]
CHUNKS: Any = [{"name": "f", "args": '{"a": 1}', "id": "1", "index": 0, "type": "tool_call_chunk"}]


def marks(prompt: list[BaseMessage] | str, *, tools: list[Any] | None = None, key: bytes = KEY) -> Marks:
    found = Prefixes(lambda: key).of(prompt, {"tools": tools} if tools else NO_TOOLS)
    assert found is not None
    assert len(found) < 700
    return read_marks(found)


def history(count: int) -> list[BaseMessage]:
    """A question, and answers and tools' results in turn, of 100 bytes each."""
    kinds = (AIMessage, lambda text: ToolMessage(text, tool_call_id="c"))
    return [HumanMessage("q" * 100), *(kinds[n % 2](f"{n:>100}") for n in range(count - 1))]


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": f"{name} something " * 20}}


def test_a_longer_prompt_has_the_end_of_the_shorter_one() -> None:
    """At 100 messages, too: where an answer follows is where an earlier prompt ended."""
    for count in (1, 2, 3, 9, 27, 63, 99):
        shorter = marks([SystemMessage(RULES), *history(count)])
        longer = marks([SystemMessage(RULES), *history(count + 2)])
        assert shorter.system == longer.system
        assert shorter.ends[-1].parts == count
        assert shorter.ends[-1] in longer.ends
        assert len(longer.ends) <= 1 + 8 + 5 + 1
        assert shorter.whole != longer.whole


def test_what_was_cut_far_back_leaves_most_of_the_ends_before_it() -> None:
    """Of 96 messages every sixteenth is marked: with the 50th rewritten, 48 are known to be the same."""
    before, after = history(96), history(96)
    after[49] = AIMessage("x" * 100)
    ends, others = marks(before).ends, marks(after).ends
    assert {end.parts for end in ends} >= {1, 16, 32, 48, 64, 80, 96}
    assert max(end.parts for end in ends if end in others) == 48
    # Of 23 tools' results the call's id, and the marks around it, count as well.
    assert next(end.size for end in ends if end.parts == 48) == 48 * 100 + 23 * len("\x1fNone\x1fc\x1f]\x1f]")


def test_tools_in_another_order_are_the_same_set() -> None:
    """And other tools are not; the system prompt and the messages have nothing to do with it."""
    prompt = [SystemMessage(RULES), HumanMessage("q")]
    one, two = marks(prompt, tools=[tool("a"), tool("b")]), marks(prompt, tools=[tool("b"), tool("a")])
    assert one.tools != two.tools
    assert one.tools_sorted == two.tools_sorted
    assert marks(prompt, tools=[tool("a")]).tools_sorted != one.tools_sorted
    assert (one.system, one.ends) == (two.system, two.ends)
    assert one.tools_size == sum(len(json.dumps(tool(name))) for name in "ab")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 10:59 on 2026-11-26.", "It is 11:00 on 2026-11-27."),
        ("Today is Thursday, November 26, 2026.", "Today is Friday, December 4, 2026."),
        ("Request 7f3a-9c of 12", "Request 03bb-11 of 13"),
        (f"{CHINESE}2026年11月26日", f"{CHINESE}2027年01月02日"),
    ],
)  # fmt: skip
def test_a_clock_or_counter_is_told_from_another_prompt(one: str, other: str) -> None:
    """Without what has digits in it the two are equal; a word that differs shows all the same."""
    first, second = (marks([SystemMessage(f"{text} {RULES}")]) for text in (one, other))
    third = marks([SystemMessage(f"{one} {RULES}".replace("brief", "short"))])
    assert first.system != second.system
    assert first.system_masked == second.system_masked
    assert first.system_masked != third.system_masked


def test_a_system_prompt_that_changes_late_shares_its_beginning() -> None:
    """Of 4,000 bytes and a time stamp the first 3,072 are marked the same, and the 4,096 are not."""
    first, second = (marks([SystemMessage(f"{RULES}It is {minute}. {'x' * 200}")]) for minute in (10, 11))
    assert len(first.system_inner) == len(second.system_inner) == 5
    assert [a == b for a, b in zip(first.system_inner, second.system_inner, strict=True)] == [True] * 4 + [False]


def test_a_long_first_message_is_marked_inside_too() -> None:
    """A document with a question at its end, in one message, or in one text without a chat."""
    for make in (lambda text: [HumanMessage(text)], str):
        first, second = marks(make(RULES + "Who?")), marks(make(RULES + "Why?"))
        assert first.first_inner == second.first_inner
        assert len(first.first_inner) == 4
        assert first.ends != second.ends


def test_how_a_text_is_wrapped_and_marked_for_a_cache_is_no_part_of_it() -> None:
    """What `cache_control` is put on moves from call to call; the prompt before it stays the same."""
    plain = marks([SystemMessage(RULES), HumanMessage("Who?")], tools=[tool("a")])
    mark = {"cache_control": {"type": "ephemeral"}}
    blocks = [{"type": "text", "text": RULES, **mark}]
    marked = marks([SystemMessage(blocks), HumanMessage([{"type": "text", "text": "Who?"}])], tools=[tool("a") | mark])
    assert marked == plain


def test_an_image_counts_for_its_tokens_and_not_for_its_bytes() -> None:
    """Two images are two prompts; 300 KB of one are taken for 4,000 bytes."""
    first, second = (
        marks([HumanMessage([{"type": "image", "base64": letter * 300_000}, {"type": "text", "text": RULES}])])
        for letter in "ab"
    )
    assert first.whole != second.whole
    assert first.size == second.size == 4_000 + len(RULES) + 1


def test_what_follows_an_image_is_no_beginning_that_is_shared() -> None:
    """Its bytes say nothing of its tokens: a first message is marked inside up to it, and not behind it."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    text = {"type": "text", "text": RULES}
    assert marks([HumanMessage([image, text])]).first_inner == ()
    assert marks([HumanMessage([text, image])]).first_inner == marks([HumanMessage(RULES)]).first_inner != ()
    assert len(marks([SystemMessage([text, image]), HumanMessage("q")]).system_inner) == 4
    assert marks([SystemMessage([image, text]), HumanMessage("q")]).system_inner == ()
    result = ToolMessage([{"type": "tool_result", "content": [image]}], tool_call_id="1")
    assert marks([HumanMessage(RULES), result]).size < 4000 + 4000 + 100


def test_a_large_image_is_known_by_its_length_head_middle_and_tail() -> None:
    """40 MB of them are hashed in no time, and another one is another prompt."""

    def sent(image: str) -> Marks:
        return marks([HumanMessage([{"type": "image", "base64": image}, {"type": "text", "text": RULES}])] * 40)

    one = "a" * 1_000_000
    assert sent(one).whole == sent("a" * 1_000_000).whole
    others = ["b" + one[1:], one[:-1] + "b", one + "a", one[:500_000] + "b" * 1_000 + one[501_000:]]
    assert len({sent(each).whole for each in (one, *others)}) == 5


def test_a_prompt_that_takes_long_to_hash_has_no_digests() -> None:
    """Images count for what is hashed of them, and each message for what it takes besides: 8 MB together."""
    images = [HumanMessage([{"type": "image", "base64": "a" * 200_000}])]
    assert Prefixes(lambda: KEY).of(images * 30, NO_TOOLS) is not None
    assert Prefixes(lambda: KEY).of(images * 40, NO_TOOLS) is None
    short: list[BaseMessage] = [HumanMessage("a b c")]
    assert Prefixes(lambda: KEY).of(short * 2_000, NO_TOOLS) is not None
    assert Prefixes(lambda: KEY).of(short * 3_000, NO_TOOLS) is None


class City(BaseModel):
    """Look up a city."""

    name: str


class Street(BaseModel):
    """Look up a street."""

    name: str


def test_tools_that_are_objects_are_told_apart() -> None:
    """By what is sent of them: equal ones are equal, whichever object it is."""

    def made(name: str) -> StructuredTool:
        return StructuredTool.from_function(lambda q="": q, name=name, description=f"{name} something " * 20)

    prompt = [SystemMessage(RULES), HumanMessage("q")]
    a, b = marks(prompt, tools=[made("a")]), marks(prompt, tools=[made("b")])
    assert marks(prompt, tools=[made("a")]) == a
    assert a.tools != b.tools
    assert a.tools_size > 20 * len("a something ")
    assert marks(prompt, tools=[City]).tools != marks(prompt, tools=[Street]).tools
    inside = [{"type": "json_schema", "schema": each} for each in (City, Street)]
    assert marks(prompt, tools=inside[:1]).tools != marks(prompt, tools=inside[1:]).tools


def test_an_object_of_which_nobody_knows_what_is_sent_leaves_no_digests() -> None:
    """Never one that is equal for two different ones; a model's instance and a time are known by what they hold."""
    circle: dict[str, Any] = {"name": "a"}
    circle["self"] = circle
    for tools in ([object()], [{"name": "a", "of": object()}], [circle]):
        assert Prefixes(lambda: KEY).of([HumanMessage(RULES)], {"tools": tools}) is None

    def holding(value: object) -> bytes | None:
        return Prefixes(lambda: KEY).of([HumanMessage([{"type": "odd", "of": value, "text": RULES}])], NO_TOOLS)

    assert holding(object()) is None
    assert holding(circle) is None
    assert holding(City(name="Bern")) == holding(City(name="Bern")) != holding(City(name="Rome"))
    assert holding(Street(name="Bern")) != holding(City(name="Bern"))


def test_a_message_that_came_in_chunks_is_the_same_message() -> None:
    """And so is one of a role that has a class of its own."""
    one = marks([SystemMessage(RULES), HumanMessage("q"), AIMessage("So it is.", tool_calls=CALLS)])
    chunks = AIMessageChunk("So it ") + AIMessageChunk("is.", tool_call_chunks=CHUNKS)
    assert marks([SystemMessage(RULES), HumanMessage("q"), chunks]) == one
    assert marks([SystemMessage(RULES), ChatMessage("q", role="user"), chunks]) == one


def test_ends_before_questions_are_marked_too() -> None:
    """Where every answer comes as a question, each earlier prompt of a conversation is found all the same."""
    said: list[BaseMessage] = [HumanMessage(f"{n:>400}") for n in range(40)]
    for count in range(9, 39):
        assert marks(said[:count]).ends[-1] in marks(said[: count + 1]).ends


@pytest.mark.parametrize(
    "other",
    [
        [SystemMessage(RULES), AIMessage("Who?")],
        [SystemMessage(RULES), HumanMessage("Who?", name="ada")],
        [SystemMessage(RULES), HumanMessage("Who"), HumanMessage("?")],
        [SystemMessage(RULES + "Who?")],
        [SystemMessage(RULES), AIMessage("Who?", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}])],
        [SystemMessage(RULES), ToolMessage("Who?", tool_call_id="1")],
        [SystemMessage(RULES), ChatMessage("Who?", role="critic")],
    ],
)
def test_another_prompt_has_another_digest(other: list[BaseMessage]) -> None:
    """Who says it, and where a message ends, is part of a prompt; a message's own id is not."""
    one = [SystemMessage(RULES, id="1"), HumanMessage("Who?", id="2")]
    assert marks(one).whole == marks([SystemMessage(RULES), HumanMessage("Who?")]).whole
    assert marks(one).whole != marks(other).whole


def test_another_key_makes_other_digests() -> None:
    """All of them: none of what is kept can be compared with another ledger's."""
    prompt = [SystemMessage(RULES), *history(3)]
    one, other = marks(prompt, tools=[tool("a")]), marks(prompt, tools=[tool("a")], key=bytes(32))
    assert one.size == other.size
    for name in ("whole", "tools", "tools_sorted", "system", "system_masked", "ends"):
        assert getattr(one, name) != getattr(other, name)
    for name in ("system_inner", "first_inner", "recent"):
        assert set(getattr(one, name)).isdisjoint(getattr(other, name))


def test_a_short_prompt_has_a_digest_of_the_whole_only() -> None:
    """From 200 bytes on; no cache keeps what is shorter than 2,048."""
    assert Prefixes(lambda: KEY).of([HumanMessage("q" * 199)], NO_TOOLS) is None
    assert Prefixes(lambda: KEY).of("q" * 199, NO_TOOLS) is None
    short = marks([SystemMessage("r" * 100), HumanMessage("q" * 100)])
    assert (short.size, short.ends, short.system) == (200, (), None)
    assert short.whole != marks([SystemMessage("r" * 100), HumanMessage("p" * 100)]).whole
    assert marks([HumanMessage("q" * 2048)]).ends
    assert not marks([HumanMessage("q" * 2047)]).ends
    assert Prefixes(lambda: KEY).of([HumanMessage("q" * 8_000_001)], NO_TOOLS) is None


def test_what_is_no_json_has_digests_all_the_same() -> None:
    """A tool with odd keys, a block of odd things: equal ones are equal."""
    odd = [{("a", 1): RULES}]
    assert marks("q", tools=odd).tools == marks("q", tools=[{("a", 1): RULES}]).tools
    blocks = [HumanMessage([{"type": "odd", "of": [None, 1.5, b"\xff", {"deep": (1, 2)}], "text": RULES}])]
    assert marks(blocks).whole == marks(blocks).whole
