"""`prune`: only where it pays; pairs are never broken, what is protected stays, useless summaries are not used."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from tier_models import BOOK, Said, answer, tool_call, worded

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger
from langchain_finops.errors import BadArguments
from langchain_finops.levers import PruneMiddleware, Tier, TieredChatModel, prune
from langchain_finops.levers.shortening import DROPPED
from langchain_finops.levers.tiers import prompt_tokens


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


BIG = Said(model_name="big", say=worded("big"))


def exchange(number: int, size: int = 4_000) -> list[BaseMessage]:
    """A call of a tool, and a result of so many letters."""
    call = {"name": "look", "args": {}, "id": str(number), "type": "tool_call"}
    return [AIMessage("", tool_calls=[call]), ToolMessage("x" * size, tool_call_id=str(number), name="look")]  # type: ignore[list-item]


def talk(*, exchanges: int = 3, cached: int = 0, written: int = 0) -> list[BaseMessage]:
    """A request, exchanges with a tool, and an answer that says how much of its prompt came from the cache."""
    messages: list[BaseMessage] = [SystemMessage("system"), HumanMessage("the task", id="task")]
    for number in range(exchanges):
        messages += exchange(number)
    usage = answer("so far", "big", input_tokens=10_000).usage_metadata
    usage["input_token_details"] = {"cache_read": cached, "cache_creation": written}  # type: ignore[index, typeddict-item]
    return [*messages, AIMessage("so far", usage_metadata=usage)]


def paired(messages: Sequence[BaseMessage]) -> bool:
    """Each result stands behind its call, and each call before its result."""
    open_calls: set[str | None] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in open_calls:
                return False
            open_calls.discard(message.tool_call_id)
        else:
            if open_calls:
                return False
            open_calls = {call["id"] for call in message.tool_calls} if isinstance(message, AIMessage) else set()
    return not open_calls


def pruner(**changed: Any) -> Any:
    return prune(**{"model": BIG, "prices": BOOK, "keep_last": 1, "remaining_steps": 1, **changed})


# --- does it pay? ----------------------------------------------------------------------------------------------------


def test_without_a_cache_each_token_saved_pays_from_the_first_step_on() -> None:
    """Old results become a few words; calls, ids and the rest stay."""
    before = talk()

    after = pruner().messages(before)

    assert [message.text == DROPPED for message in after] == [isinstance(each, ToolMessage) for each in before]
    assert [getattr(each, "tool_call_id", None) for each in after] == [
        getattr(each, "tool_call_id", None) for each in before
    ]
    assert paired(after)
    assert pruner().messages(after) == after


def test_with_a_cache_it_pays_only_over_enough_steps() -> None:
    """All of it is cached: a step saves $1 a million tokens saved; what is behind the change costs $9 more, once.

    With writes to the cache, at $12, it is $11 more.
    """
    before = talk(cached=10_000)
    after = pruner(remaining_steps=10_000).messages(before)
    saved, behind = prompt_tokens(before) - prompt_tokens(after), prompt_tokens(after[3:])
    assert behind > 0

    for extra, messages in ((9, before), (11, talk(cached=10_000, written=5))):
        enough = extra * behind // saved + 1
        assert pruner(remaining_steps=enough - 1).messages(messages) == messages
        assert pruner(remaining_steps=enough).messages(messages) != messages


@pytest.mark.parametrize(("model", "steps", "calls"), [("small", 1, 1), ("big", 3, 0), ("big", 4, 1)])
def test_a_summary_is_bought_only_where_it_pays(model: str, steps: int, calls: int) -> None:
    """Of N tokens it saves 4/5 at $10 a million a step; `small` asks N x $1 + N/5 x $10, `big` ten times that."""
    summarizer = Said(model_name=model, say=worded(model, "short"))

    after = pruner(ways=["summary"], summarizer=summarizer, remaining_steps=steps).messages(talk())

    assert summarizer.calls == calls
    assert len(after) == (4 if calls else 9)
    if calls:
        assert [type(each).__name__ for each in after] == ["SystemMessage", "HumanMessage", "HumanMessage", "AIMessage"]
        assert "short" in after[2].text
        assert "xxxx" in summarizer.asked[0][0][1].text


def test_a_summary_must_pay_for_the_summariser_and_for_the_cache_that_it_invalidates() -> None:
    """All is cached: a step saves $1 a million tokens saved. Once, what is behind costs $9 more, and `small` its price:
    $1 a million for the N tokens summed up and 80 of instructions, and $10 for the N/5 that are expected of it."""
    messages = talk(cached=10_000)
    old, behind = prompt_tokens(messages[2:-1]), prompt_tokens(messages) - prompt_tokens(messages[:2])
    length = old // 5
    once = 9 * (behind - old + length) + (old + 80) + 10 * length
    enough = once // (old - length) + 1
    assert enough > 1 + 9 * (behind - old + length) // (old - length)  # The summariser's price alone makes it later.

    for steps, calls in ((enough - 1, 0), (enough, 1)):
        summarizer = Said(model_name="small", say=worded("small", "short"))
        after = pruner(ways=["summary"], summarizer=summarizer, remaining_steps=steps).messages(messages)
        assert (summarizer.calls, after != messages) == (calls, bool(calls))


def test_nothing_is_done_where_nobody_knows_the_price(caplog: pytest.LogCaptureFixture) -> None:
    """Of the model, or of the summariser; it is said once, and a free model saves nothing."""
    unknown = Said(model_name="unheard-of", say=worded("unheard-of"))
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(2):
            assert pruner(model=unknown).messages(talk()) == talk()
            assert pruner(ways=["summary"], summarizer=unknown).messages(talk()) == talk()
    assert len(caplog.records) == 2
    assert unknown.calls == 0


@pytest.mark.parametrize("steps", [0, float("nan"), -1, lambda _: float("inf"), lambda _: None])
def test_without_a_number_of_steps_to_come_nothing_pays(steps: Any) -> None:
    assert pruner(remaining_steps=steps).messages(talk()) == talk()


def test_by_default_as_many_steps_are_expected_as_there_were() -> None:
    """Four answers in the talk and two more since the request are six; after the next request it is one at least."""
    seen: list[float] = []
    made = prune(model=BIG, prices=BOOK)
    original = made._remaining_steps
    made._remaining_steps = lambda messages: seen.append(original(messages)) or seen[-1]  # type: ignore[func-returns-value]

    made.messages([*talk(), *exchange(8), *exchange(9)])
    made.messages([*talk(), *exchange(8), HumanMessage("next")])

    assert seen == [6, 1]


def test_of_tiers_the_cheapest_ones_price_counts(small: Said) -> None:
    """Rather too little saved than too much: at $1 a million the summariser's $3 are not worth one step's 80 cents."""
    summarizer = Said(model_name="small", say=worded("small", "short"))
    tiered = TieredChatModel([Tier("small", small), Tier("big", BIG)])

    assert pruner(model=tiered, ways=["summary"], summarizer=summarizer).messages(talk()) == talk()
    assert pruner(model=tiered, ways=["summary"], summarizer=summarizer, remaining_steps=5).messages(talk()) != talk()


# --- what stays ------------------------------------------------------------------------------------------------------


def test_what_is_protected_stays() -> None:
    """System messages, first and last request, the last messages, what is marked, and what the user says."""
    marked = HumanMessage("marked", additional_kwargs={"finops_protected": True})
    chosen, other = HumanMessage("KEEP this"), HumanMessage("other " * 100)
    messages = [*talk(), marked, chosen, other, *exchange(7), HumanMessage("last"), *exchange(8)]

    after = pruner(ways=["trim"], keep_last=2, protect=lambda message: "KEEP" in message.text).messages(messages)

    assert [message.text[:9] for message in after] == ["system", "the task", "marked", "KEEP this", "last", "", "x" * 9]
    assert other not in after
    assert paired(after)


def test_calls_that_wait_for_their_results_are_not_touched() -> None:
    """Nor results whose call is gone: they were broken before, and must not become worse."""
    waiting = AIMessage("", tool_calls=[tool_call("look")])
    orphan = ToolMessage("x" * 4_000, tool_call_id="gone")
    messages = [HumanMessage("a"), orphan, waiting, HumanMessage("b")]

    for way in ("tool_results", "trim"):
        assert pruner(ways=[way], keep_last=0).messages(messages) == messages


def test_results_of_calls_made_at_once_are_old_together() -> None:
    """Two calls in one message, and their results in whichever order."""
    calls = [{"name": "look", "args": {}, "id": each, "type": "tool_call"} for each in "ab"]
    results = [ToolMessage("x" * 4_000, tool_call_id=each) for each in "ba"]
    messages = [HumanMessage("a"), AIMessage("", tool_calls=calls), *results, AIMessage("so far")]  # type: ignore[arg-type]

    assert [message.text == DROPPED for message in pruner().messages(messages)] == [False, False, True, True, False]
    assert pruner(ways=["trim"]).messages(messages) == [messages[0], messages[-1]]


MESSAGES = st.lists(st.one_of(st.just("human"), st.just("said"), st.integers(1, 3)), max_size=12)


@given(kinds=MESSAGES, keep_last=st.integers(0, 6), way=st.sampled_from(["tool_results", "trim", "summary"]))
def test_whatever_the_conversation_pairs_stay_whole(kinds: list[Any], keep_last: int, way: Any) -> None:
    """Calls of one to three tools at once, in any order of messages."""
    messages: list[BaseMessage] = []
    for place, kind in enumerate(kinds):
        if isinstance(kind, int):
            ids = [f"{place}-{number}" for number in range(kind)]
            calls = [{"name": "look", "args": {}, "id": each, "type": "tool_call"} for each in ids]
            messages.append(AIMessage("", tool_calls=calls))  # type: ignore[arg-type]
            messages += [ToolMessage("x" * 900, tool_call_id=each) for each in reversed(ids)]
        else:
            messages.append(HumanMessage("h" * 300) if kind == "human" else AIMessage("s" * 300))
    summarizer = Said(model_name="small", say=worded("small", "short")) if way == "summary" else None

    after = pruner(ways=[way], keep_last=keep_last, summarizer=summarizer, remaining_steps=9).messages(messages)

    assert paired(messages)
    assert paired(after)
    assert prompt_tokens(after) <= prompt_tokens(messages)
    assert after[-keep_last:] == messages[-keep_last:] or not keep_last


# --- summaries that are none -----------------------------------------------------------------------------------------


CUT_OFF = answer("It was", output_tokens=10, response_metadata={"finish_reason": "length"})
DECLINED = answer("I cannot", output_tokens=10, additional_kwargs={"refusal": "I cannot"})
NONE = ["long " * 4_000, "", " \n", CUT_OFF, DECLINED, ConnectionError("down")]


@pytest.mark.parametrize("said", NONE, ids=["longer", "empty", "blank", "cut off", "declined", "failed"])
def test_a_summary_that_is_none_is_not_used_and_three_are_enough(said: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One that is longer than what it sums up, no summary, or not there; the next way is taken then."""
    summarizer = Said(
        model_name="small", say=lambda *_: answer(said, output_tokens=10) if isinstance(said, str) else said
    )
    made = pruner(ways=["summary", "tool_results"], summarizer=summarizer)

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(5):
            assert [message.text for message in made.messages(talk())].count(DROPPED) == 3
    assert summarizer.calls == 3
    assert "no shorter" in caplog.text


class Completing(FakeListLLM):
    """A completion model of a known price: its answer is a text."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "test", "ls_model_name": "small", "ls_model_type": "llm"}


@pytest.mark.parametrize(("said", "texts"), [("", 3), (" \n", 3), ("long " * 4_000, 3), ("short", 0)])
def test_a_completion_models_empty_or_longer_text_is_no_summary(said: str, texts: int) -> None:
    after = pruner(ways=["summary"], summarizer=Completing(responses=[said])).messages(talk())

    assert sum("xxxx" in message.text for message in after) == texts
    assert any("short" in message.text for message in after) == (said == "short")


class CutOff(Completing):
    """One that its limit cuts off, and that says so where no text tells it."""

    def _generate(self, prompts: Any, *args: Any, **kwargs: Any) -> LLMResult:
        return LLMResult(generations=[[Generation(text="The sum", generation_info={"finish_reason": "length"})]])


def test_a_completion_models_text_that_was_cut_off_is_used_as_the_page_says() -> None:
    after = pruner(ways=["summary"], summarizer=CutOff(responses=[""])).messages(talk())

    assert [message.text.endswith("The sum") for message in after] == [False, False, True, False]


def test_a_refused_summary_stops_the_run(ledger: Ledger) -> None:
    summarizer = Said(model_name="small", say=worded("small", "short"))
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(llm_calls=1, per="day", scope="all")])
    BIG.invoke("hi", {"callbacks": [handler]})

    with pytest.raises(BudgetExceeded):
        pruner(ways=["summary"], summarizer=summarizer).messages(talk(), {"callbacks": [handler]})
    assert summarizer.calls == 0


# --- where it stands -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "sync":
        return lambda app, *args: app.invoke(*args)
    return lambda app, *args: asyncio.run(app.ainvoke(*args))


def test_as_a_node_it_shortens_the_state_and_its_summary_is_overhead(
    run: Any, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """At the handler's own prices; what stays keeps its id."""
    summarizer = Said(model_name="small", say=worded("small", "short"))
    graph = StateGraph(State)
    graph.add_node("prune", prune(model=BIG, ways=["summary"], summarizer=summarizer, keep_last=1).node())
    graph.add_node("model", lambda state: {"messages": [BIG.invoke(state["messages"])]})
    graph.add_edge(START, "prune").add_edge("prune", "model")

    result = run(graph.compile(), {"messages": talk()}, {"callbacks": [handler]})

    assert [message.type for message in result["messages"]] == ["system", "human", "human", "ai", "ai"]
    assert result["messages"][1].id == "task"
    made = [(call.model, call.attribution.node, call.attribution.role) for call in ledger.calls()]
    assert made == [("small", "prune", "overhead"), ("big", "model", "agent")]
    assert next(ledger.calls()).attribution.tags == {"tier_for": "summary"}


def test_in_an_agent_old_results_go_while_it_works(run: Any, handler: FinOpsHandler) -> None:
    """The fourth call sees the newest result whole, and the older ones as a few words."""
    look = StructuredTool.from_function(lambda: "found " * 500, name="look", description="Look.")

    def say(_: Any, number: int) -> AIMessage:
        call = {"name": "look", "args": {}, "id": str(number), "type": "tool_call"}
        return answer("done", "big") if number == 4 else answer("", "big", tool_calls=[call])

    model = Said(model_name="big", say=say)
    middleware = PruneMiddleware(prune(model=model, keep_last=2))

    run(
        create_agent(model, [look], middleware=[middleware]),
        {"messages": [HumanMessage("go")]},
        {"callbacks": [handler]},
    )

    seen = [message.text for message in model.asked[3][0] if isinstance(message, ToolMessage)]
    assert [text == DROPPED for text in seen] == [True, True, False]


def test_arguments_that_make_no_sense_are_all_told_at_once() -> None:
    with pytest.raises(BadArguments) as told:
        prune(model=BIG, ways=["cut", "summary"], keep_last=-1)  # type: ignore[list-item]
    for part in ("'cut'", "summarizer=", "keep_last=-1"):
        assert part in str(told.value)
    with pytest.raises(BadArguments, match="empty"):
        prune(model=BIG, ways=[])


@pytest.mark.parametrize("made", ["plain", "raw", "tiers"])
def test_a_chain_is_no_model_whose_price_could_be_known(made: str) -> None:
    """It would never prune, and blame a missing price; said of a model and of a summariser."""
    models = {"plain": BIG, "raw": BIG, "tiers": TieredChatModel([Tier("a", BIG), Tier("b", BIG)])}
    chain = models[made].with_structured_output({"title": "A", "description": "A.", "type": "object"})
    chain = BIG | (lambda message: message.text) if made == "raw" else chain
    with pytest.raises(BadArguments, match=r"model= is a \w+ whose model .*: give the chat model itself"):
        prune(model=chain)
    with pytest.raises(BadArguments, match="summarizer= is a"):
        prune(model=BIG, ways=["summary"], summarizer=chain)


def test_models_in_retries_fallbacks_and_bindings_are_found() -> None:
    for model in (BIG.with_retry(), BIG.with_fallbacks([BIG]), BIG.bind(stop=["x"]), BIG.bind_tools([]).with_retry()):
        assert pruner(model=model).messages(talk()) != talk()


def test_a_node_needs_a_list_of_messages() -> None:
    with pytest.raises(BadArguments, match="list of messages"):
        prune(model=BIG).node().invoke({"text": "hi"})
