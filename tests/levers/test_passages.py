"""`passages`, and the way of `prune` that uses it: a document is cut to what bears on the question, or not at all."""

# ruff: noqa: RUF001  Letters of other scripts are what is tested.

import logging
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState
from tier_models import BOOK, Said, answer, tool_call, worded

from langchain_finops import FinOpsHandler
from langchain_finops.levers import PruneMiddleware, passages, prune
from langchain_finops.levers.shortening import DROPPED
from langchain_finops.levers.tiers import prompt_tokens

MANUAL = """# Kettle K1

## Use

Fill it with cold water up to the line, close the lid, and press the lever.

## Care

Descale the kettle each month with a sachet of citric acid.

Wipe its outside with a damp cloth, and dry it.

## Guarantee

Three years, and spare parts are sold for ten more."""


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_bears_on_the_question_stays_under_its_headings() -> None:
    """In the order of the text, with a word for each gap."""
    expected = """# Kettle K1
[...]
## Care

Descale the kettle each month with a sachet of citric acid.
[...]"""

    assert passages(MANUAL, "How is it descaled?") == expected


def test_two_places_are_joined_by_a_word_for_the_gap() -> None:
    text = "The fox sleeps.\n\nNothing here.\n\nThe dog barks.\n\nNor here."

    assert passages(text, "fox, dog?") == "The fox sleeps.\n[...]\nThe dog barks.\n[...]"


@pytest.mark.parametrize("question", ["What of the zebra?", "", "how is it with the", "?!"])
def test_nothing_is_cut_where_no_passage_has_a_word_of_the_question(question: str) -> None:
    assert passages(MANUAL, question) is MANUAL


def test_a_passage_stays_from_half_of_the_best_score_on() -> None:
    """Four passages of three words, so that length plays no part: a word's score is ln(1 + (4 - n + 0.5) / (n + 0.5)).

    In one passage it is ln(10/3) = 1.20, in two ln 2 = 0.69, more than half of that, in three ln(10/7) = 0.36, less.
    """
    two = "fox a1 a2\n\ncat b1 b2\n\ncat c1 c2\n\nelk d1 d2"
    three = "fox a1 a2\n\ncat b1 b2\n\ncat c1 c2\n\ncat d1 d2"

    assert passages(two, "fox cat") == "fox a1 a2\n\ncat b1 b2\n\ncat c1 c2\n[...]"
    assert passages(three, "fox cat") == "fox a1 a2\n[...]"


def test_other_endings_count_less_than_the_word_itself() -> None:
    """Both begin as the question's word does; where one is that word, the other scores less than half of it."""
    text = "He was cleaning it.\n\nIt has a filter.\n\nIt is red.\n\nIt is blue."

    assert passages(text, "clean filters") == "He was cleaning it.\n\nIt has a filter.\n[...]"
    assert (
        passages("It was cleaned.\n\nTo clean it.\n\nIt is red.\n\nIt is old.", "clean") == "[...]\nTo clean it.\n[...]"
    )


def test_a_short_table_stays_whole_and_a_long_ones_row_keeps_its_head() -> None:
    head, rule = "| code | meaning |", "|---|---|"
    rows = [f"| F{number} | {'fault ' * 6}number{number}x |" for number in range(40)]
    long_ = "\n".join(["Text before.", "", head, rule, *rows, "", "Text behind."])
    short = "\n".join(["Text before.", "", head, rule, *rows[:3], "", "Text behind."])

    assert passages(long_, "What is F17?") == f"[...]\n{head}\n{rule}\n[...]\n{rows[17]}\n[...]"
    assert passages(short, "What is F2?") == "\n".join(["[...]", head, rule, *rows[:3], "[...]"])


def test_code_stays_in_one_piece_whatever_stands_in_it() -> None:
    code = "```python\n# Not a heading\n\ndef start():\n\n    return 'ignition'\n```"
    text = f"First.\n\n{code}\n\nLast."

    assert passages(text, "ignition") == f"[...]\n{code}\n[...]"


def test_a_fence_that_is_never_closed_is_none() -> None:
    """A tool's output with one in it would else be one passage to its end."""
    assert passages("```\n\nalpha one\n\nbeta two\n\ngamma three", "beta") == "[...]\nbeta two\n[...]"


def test_a_list_stays_with_what_introduces_it() -> None:
    text = "Buy these for the soup:\n\n- leek\n- salt\n\nThe weather is fine.\n\nSo is the sea."

    assert passages(text, "soup") == "Buy these for the soup:\n\n- leek\n- salt\n[...]"


def test_a_heading_with_nothing_under_it_is_a_passage_of_its_own() -> None:
    assert passages("# Colours: amber\n# Sizes\n\nThree.\n\n# Ends in teal", "amber") == "# Colours: amber\n[...]"
    assert passages("# Colours: amber\n# Sizes\n\nThree.\n\n# Ends in teal", "teal") == "[...]\n# Ends in teal"


def test_a_long_paragraph_is_cut_at_sentences_and_a_long_listing_at_lines() -> None:
    sentences = [f"Sentence {number} of this page says that all is well and nothing happened." for number in range(40)]
    sentences[20] = "In row 20 a heron stood by the pond and did not move for an hour or so."
    for joint in (" ", "\n"):
        cut = passages(joint.join(sentences), "heron")
        assert sentences[20] in cut
        assert len(cut) < 500
        assert cut.startswith("[...]\n")
        assert cut.endswith("\n[...]")


@pytest.mark.parametrize(
    ("text", "question", "kept"),
    [
        ("GRÖSSE: 12 Meter\n\nFarbe: rot\n\nForm: rund", "größe?", "GRÖSSE: 12 Meter\n[...]"),
        ("Ｍｏｄｅｌ　Ｘ９\n\nplain\n\nother", "model x9", "Ｍｏｄｅｌ　Ｘ９\n[...]"),
        ("Cafe\u0301 au lait\n\nplain\n\nother", "caf\u00e9", "Cafe\u0301 au lait\n[...]"),
        ("価格は五百円。\n\n在庫は三個あります。\n\n色は赤。", "在庫はいくつ", "[...]\n在庫は三個あります。\n[...]"),
        ("ราคา 500 บาท\n\nสีแดง\n\nน้ำหนักเบา", "ราคาเท่าไร", "ราคา 500 บาท\n[...]"),
        ("Цена 500\n\nЦвет красный\n\nВес 3", "какая ЦЕНА", "Цена 500\n[...]"),
        ("🦊 fox\n\n🐶 dog\n\n🐱 cat", "fox", "🦊 fox\n[...]"),
        ("windows\r\n\r\nline ends\r\n\r\nmany", "line", "[...]\nline ends\n[...]"),
    ],
)  # fmt: skip
def test_any_script_is_read(text: str, question: str, kept: str) -> None:
    """Case, composed letters and full width do not matter; scripts without spaces are read by pairs of letters."""
    assert passages(text, question) == kept


# --- for any text ----------------------------------------------------------------------------------------------------

LINES = st.one_of(
    st.sampled_from(["", "# head", "## head two", "| a | b |", "|---|---|", "```", "- item:", "word " * 150]),
    st.just("漢字です。" * 90),
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\n\r["), max_size=60),
)  # fmt: skip
TEXTS = st.lists(LINES, max_size=30).map("\n".join)


@given(text=TEXTS, question=st.text(max_size=40) | st.sampled_from(["head", "word", "item b", "漢字"]))
def test_the_result_is_made_of_parts_of_the_text_in_their_order(text: str, question: str) -> None:
    """Never longer, the same each time, and nothing but gaps is added."""
    cut = passages(text, question)

    assert len(cut) <= len(text)
    assert passages(text, question) == cut
    at = 0
    for part in cut.split("[...]") if cut is not text else []:
        piece = part.strip()
        found = text.find(piece, at)
        assert found >= at or not piece
        at = max(at, found + len(piece))


FILLER = st.lists(st.sampled_from(["red", "blue", "stone", "river", "walks", "sings", "under", "often"]), min_size=3)


@given(paragraphs=st.lists(FILLER.map(" ".join), min_size=1, max_size=12), data=st.data())
def test_the_passage_with_the_questions_words_stays(paragraphs: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(paragraphs)))
    sought = "the quagga weighs twelve kilograms"
    paragraphs = [*paragraphs[:place], sought, *paragraphs[place:]]

    assert sought in passages("\n\n".join(paragraphs), "How many kilograms has a quagga?")


@pytest.mark.parametrize(
    "part", [MANUAL + "\n\n", "| a | b |\n", "漢字 ", "x", "```\n", "- list:\n\n", "# a\n", "Fine. "]
)
def test_time_grows_with_the_length_of_the_text_and_no_faster(part: str) -> None:
    """Eight times the text may take sixteen times as long, and not sixty-four."""

    def seconds(letters: int) -> float:
        text = part * (letters // len(part))
        times = []
        for _ in range(3):
            began = time.process_time()
            passages(text, "How often is the kettle descaled, 漢字, a?")
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(32_000) < 16 * seconds(4_000) + 0.01


# --- as a way of prune -----------------------------------------------------------------------------------------------

BIG = Said(model_name="big", say=worded("big"))
LONG_MANUAL = MANUAL + "\n\n" + "\n\n".join(f"Paragraph {number} is of other things entirely." for number in range(100))
QUESTION = "How is the kettle descaled?"


def retrieved(document: Any = LONG_MANUAL, question: Any = QUESTION) -> list[BaseMessage]:
    """A question, the agent's look-up, and the document that came."""
    looked = AIMessage("", tool_calls=[tool_call("look")])
    return [HumanMessage(question), looked, ToolMessage(document, tool_call_id="look-1", artifact="kept", id="r1")]


def pruner(**changed: Any) -> Any:
    return prune(**{"model": BIG, "prices": BOOK, "ways": ["passages"], "remaining_steps": 1, **changed})


def test_a_document_that_has_just_come_is_cut_for_the_one_answer_to_come() -> None:
    """However new it is; all but its text stays, and it is not cut twice."""
    before = retrieved()

    after = pruner().messages(before)

    assert after[:2] == before[:2]
    assert after[2].text == passages(LONG_MANUAL, QUESTION)
    assert "citric acid" in after[2].text
    assert (after[2].id, after[2].tool_call_id, after[2].artifact) == ("r1", "look-1", "kept")
    assert before[2].text == LONG_MANUAL
    assert pruner().messages(after) == after
    assert pruner(remaining_steps=0).messages(before) == before


def test_a_document_among_the_blocks_of_a_request_is_cut_and_the_question_is_not() -> None:
    image = {"type": "image", "url": "https://example.com/kettle.png"}
    blocks = [{"type": "text", "text": LONG_MANUAL, "id": "b1"}, image, {"type": "text", "text": QUESTION}]

    (after,) = pruner().messages([HumanMessage(blocks)])

    assert after.content == [{**blocks[0], "text": passages(LONG_MANUAL, QUESTION)}, *blocks[1:]]


def test_of_a_results_blocks_the_one_that_is_most_of_the_prompt_is_cut() -> None:
    after = pruner().messages(retrieved([{"type": "text", "text": "short"}, {"type": "text", "text": LONG_MANUAL}]))

    assert [block["text"] for block in after[2].content] == ["short", passages(LONG_MANUAL, QUESTION)]


def test_a_document_that_is_not_most_of_the_prompt_stays() -> None:
    """Two of the same length are half of it each, and a little less with what is beside them."""
    other = [AIMessage("", tool_calls=[tool_call("seek")]), ToolMessage(LONG_MANUAL, tool_call_id="seek-1")]
    assert pruner().messages([*retrieved(), *other]) == [*retrieved(), *other]


@pytest.mark.parametrize("kept", ["marked", "protect", "system", "request", "answer"])
def test_what_is_protected_is_not_cut(kept: str) -> None:
    """Nor are system messages, requests of one text, or what the model itself said."""
    messages = retrieved()
    protect = None
    if kept == "marked":
        messages[2].additional_kwargs["finops_protected"] = True
    elif kept == "protect":
        protect = lambda message: message.type == "tool"  # noqa: E731
    else:
        kinds = {"system": SystemMessage, "request": HumanMessage, "answer": AIMessage}
        messages = [kinds[kept](LONG_MANUAL), HumanMessage(QUESTION)]

    assert pruner(protect=protect).messages(messages) == messages


def test_where_no_passage_bears_on_the_request_nothing_is_cut_and_the_next_way_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once."""
    messages = retrieved(question="Zebra?")
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        assert pruner().messages(messages) == messages
        after = pruner(ways=["passages", "tool_results"], keep_last=0).messages(messages)
    assert after[2].text == DROPPED
    assert [record.message[:19] for record in caplog.records] == ["prune: no passage o"]


def test_the_last_request_is_the_question_whatever_was_asked_before() -> None:
    messages = [HumanMessage("Zebra?"), AIMessage("Which?"), *retrieved()]

    assert pruner().messages(messages)[-1].text == passages(LONG_MANUAL, QUESTION)


def blocks(document: str, question: str) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": document}, {"type": "text", "text": question}])


def test_a_request_whose_document_was_cut_is_still_the_users_request() -> None:
    """Over five steps `trim` drops what is old, and the only request stays; old results that were cut may go, too."""
    messages = pruner().messages([blocks(LONG_MANUAL, QUESTION)])
    for number in range(5):
        messages += [AIMessage("", tool_calls=[{**tool_call("look"), "id": str(number)}])]
        messages += [ToolMessage("page " * 500, tool_call_id=str(number))]
        messages = pruner(ways=["passages", "trim"], keep_last=2).messages(messages)

    assert [each.type for each in messages] == ["human", "ai", "tool"]
    assert messages[0].content[1] == {"type": "text", "text": QUESTION}  # Beside what is left of the document.

    old = [*pruner().messages(retrieved(LONG_MANUAL + "\n\nkettle" + " descaled" * 100)), AIMessage("Monthly.")]
    assert pruner(ways=["tool_results"], keep_last=1).messages(old)[2].text == DROPPED


@pytest.mark.parametrize("document", [LONG_MANUAL, "Kettle: citric.\n\n" + "Of other things entirely.\n\n" * 99])
def test_a_later_document_is_cut_by_the_last_request_and_not_by_an_earlier_one(document: str) -> None:
    """Also where what is left of the document in it is shorter than its question."""
    asked = blocks(document, "How is the kettle descaled? Then tell me the number of the open invoice.")
    (request,) = pruner().messages([asked])
    assert request != asked
    invoices = "Invoice 77 is open.\n\nZebra kettle.\n\n" + "\n\n".join(f"Line {at} of it." for at in range(400))
    looked = AIMessage("", tool_calls=[tool_call("look")])

    before = [HumanMessage("Zebra?"), AIMessage("Which?"), request, looked]
    after = pruner().messages([*before, ToolMessage(invoices, tool_call_id="look-1")])

    assert after[:4] == before
    assert after[4].text == passages(
        invoices, "How is the kettle descaled? Then tell me the number of the open invoice."
    )
    assert "Invoice 77" in after[4].text


def cached(message: AIMessage) -> AIMessage:
    """The same as an answer whose prompt was read from the cache altogether."""
    usage = answer("", "big", input_tokens=10_000).usage_metadata
    usage["input_token_details"] = {"cache_read": 10_000}  # type: ignore[index, typeddict-item]
    return message.model_copy(update={"usage_metadata": usage})


def test_an_old_document_is_in_the_cache_and_cutting_it_must_pay_for_that() -> None:
    """A token saved is worth $1 a million a step, one behind the cut costs $9 more, once."""
    before = [*retrieved(), cached(AIMessage("Which one? " * 200)), HumanMessage(QUESTION)]
    after = pruner(remaining_steps=10_000).messages(before)
    saved, behind = prompt_tokens(before) - prompt_tokens(after), prompt_tokens(after[2:])
    enough = 9 * behind // saved + 1

    assert enough > 3
    assert pruner(remaining_steps=enough - 1).messages(before) == before
    assert pruner(remaining_steps=enough).messages(before) == after


def test_a_new_document_is_in_no_cache_and_cutting_it_loses_none() -> None:
    """The agent's own look-up tells that the prompt before it was all cached; what came after it is not yet."""
    question, looked, result = retrieved()
    before = [question, cached(looked), result, AIMessage("kept " * 300), HumanMessage(QUESTION)]  # type: ignore[arg-type]

    assert pruner().messages(before)[2].text == passages(LONG_MANUAL, QUESTION)


def test_without_a_known_price_nothing_is_cut() -> None:
    assert pruner(model=Said(model_name="unheard-of", say=worded("x"))).messages(retrieved()) == retrieved()


def test_in_a_graph_the_model_reads_the_cut_document(handler: FinOpsHandler) -> None:
    """At the prices of the run's handler."""
    seen: list[str] = []
    graph = StateGraph(MessagesState)
    graph.add_node("retrieve", lambda state: {"messages": retrieved()[1:]})
    graph.add_node("shorten", prune(model=BIG, ways=["passages"]).node())
    graph.add_node("model", lambda state: seen.append(state["messages"][-1].text))
    graph.add_edge(START, "retrieve").add_edge("retrieve", "shorten").add_edge("shorten", "model")

    graph.compile().invoke({"messages": [HumanMessage(QUESTION)]}, {"callbacks": [handler]})

    assert seen == [passages(LONG_MANUAL, QUESTION)]


async def test_in_an_agent_the_model_reads_the_cut_document(handler: FinOpsHandler) -> None:
    look = StructuredTool.from_function(lambda: LONG_MANUAL, name="look", description="Look.")

    def say(_: Any, number: int) -> AIMessage:
        return answer("done", "big") if number == 2 else answer("", "big", tool_calls=[tool_call("look")])

    model = Said(model_name="big", say=say)
    agent = create_agent(model, [look], middleware=[PruneMiddleware(prune(model=model, ways=["passages"]))])

    await agent.ainvoke({"messages": [HumanMessage(QUESTION)]}, {"callbacks": [handler]})

    assert model.asked[1][0][-1].text == passages(LONG_MANUAL, QUESTION)
