"""`TieredChatModel`: whichever way it is asked, the right tier answers, and each call is metered once as its own."""

import logging
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from tier_models import BOOK, Said, answer, tool_call, worded

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger, stopped
from langchain_finops.errors import BadArguments
from langchain_finops.levers import (
    Choice,
    Request,
    Tier,
    TieredChatModel,
    by_budget,
    by_difficulty,
    by_intent,
    by_rule,
    cascade,
)

Ask = Callable[..., AIMessage]
LOOK = StructuredTool.from_function(lambda query="": "found", name="look", description="Look.")


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


class Reply(BaseModel):
    """A reply."""

    city: str


def tiered(*models: Said, policy: Any = None, **fields: Any) -> TieredChatModel:
    return TieredChatModel([Tier(model.model_name, model) for model in models], policy=policy, **fields)


def decision(message: AIMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["finops_tier"]
    return found


# --- small model first -----------------------------------------------------------------------------------------------


def test_the_cheapest_tier_answers_first_and_alone_where_its_answer_is_sound(
    ask: Ask, small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """One call, of the small model, as its own; what the big one would have cost is an estimate of ten cents."""
    message = ask(tiered(small, big), "hi", {"callbacks": [handler]})

    assert (message.text, small.calls, big.calls) == ("small", 1, 0)
    (call,) = ledger.calls()
    assert (call.model, call.cost_usd) == ("small", Decimal("0.01"))
    assert dict(call.attribution.tags) == {"tier": "small", "tier_why": "first", "tier_try": "1"}
    assert decision(message) == {
        "tier": "small",
        "why": "first",
        "score": None,
        "tried": ["small"],
        "dearest": "big",
        "dearest_alone_usd_estimate": "0.100000000000",
    }
    assert [run.status for run in ledger.runs()] == ["completed"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (answer(" "), "empty"),
        (answer("I am sor", response_metadata={"finish_reason": "length"}), "cut_off"),
        (answer("", response_metadata={"stop_reason": "refusal"}), "declined"),
        (answer("No.", additional_kwargs={"refusal": "No."}), "declined"),
        (answer("", tool_calls=[tool_call("unheard_of")]), "bad_tool_call"),
    ],
)
def test_an_answer_that_is_none_goes_up_a_tier(
    bad: AIMessage, why: str, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Both calls are paid for and in one run: eleven cents."""
    small = Said(model_name="small", say=lambda *_: bad)

    message = tiered(small, big).bind_tools([LOOK]).invoke("hi", {"callbacks": [handler]})

    assert (message.text, decision(message)["why"], decision(message)["tried"]) == ("big", why, ["small", "big"])
    assert [call.attribution.tags["tier_why"] for call in ledger.calls()] == ["first", why]
    assert sum(call.cost_usd or 0 for call in ledger.calls()) == Decimal("0.11")
    assert len({call.run_id for call in ledger.calls()}) == 1


def test_a_bound_of_the_callers_own_is_no_reason_to_go_up(small: Said, big: Said) -> None:
    """Whoever bounds an answer has to take it cut off."""
    small.say = lambda *_: answer("I am", response_metadata={"finish_reason": "length"})

    assert tiered(small, big).bind(max_tokens=3).invoke("hi").text == "I am"
    assert small.asked[0][1]["max_tokens"] == 3


@pytest.mark.parametrize(("share", "tier"), [(0.69, "big"), (0.7, "small"), (True, "small"), (False, "big")])
def test_a_judge_decides_by_its_share_of_certainty(ask: Ask, share: Any, tier: str, small: Said, big: Said) -> None:
    """0.7 does unless said otherwise."""
    message = ask(tiered(small, big, policy=cascade(judge=lambda request, answer: share)), "hi")

    assert message.text == tier
    assert decision(message)["score"] == float(share)


def test_a_models_judgement_is_metered_as_overhead(
    ask: Ask, small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The judge's call is counted against the router: role overhead, and tagged as the judge's."""
    judge = Said(model_name="judge", say=lambda *_: answer("40", "judge"))

    message = ask(
        tiered(small, big, policy=cascade(judge)),
        "Where?",
        {"callbacks": [handler], "metadata": {"tags": {"team": "cx"}}},
    )

    assert (message.text, decision(message)["why"], decision(message)["score"]) == ("big", "rejected", 0.4)
    made = [(call.model, call.attribution.role, dict(call.attribution.tags)) for call in ledger.calls()]
    assert made == [
        ("small", "agent", {"team": "cx", "tier": "small", "tier_why": "first", "tier_try": "1"}),
        ("judge", "overhead", {"team": "cx", "tier_for": "judge"}),
        ("big", "agent", {"team": "cx", "tier": "big", "tier_why": "rejected", "tier_try": "2", "tier_score": "0.40"}),
    ]
    assert "Where?" in judge.asked[0][0][-1].text


@pytest.mark.parametrize("said", ["no idea", "between 60 and 90", "900", ""])
def test_a_judge_that_says_no_share_has_accepted_nothing(
    said: str, small: Said, big: Said, caplog: pytest.LogCaptureFixture
) -> None:
    """And that is told once."""
    judge = Said(model_name="judge", say=lambda *_: answer(said, "judge"))
    model = tiered(small, big, policy=cascade(judge))

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        assert [decision(model.invoke("hi"))["why"] for _ in range(2)] == ["judge_unclear"] * 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("judge", [lambda *_: float("nan"), lambda *_: 1 / 0, lambda *_: None, lambda *_: 7])
def test_a_judge_that_breaks_costs_the_dearer_tier_and_not_the_answer(
    ask: Ask, judge: Any, small: Said, big: Said
) -> None:
    assert ask(tiered(small, big, policy=cascade(judge)), "hi").text == "big"


# --- the other policies ----------------------------------------------------------------------------------------------


def test_a_rule_names_a_tier_or_makes_a_choice(ask: Ask, small: Said, big: Said) -> None:
    def rule(request: Request) -> Any:
        assert request.tiers == ("small", "big")
        return Choice(tier="big", why="long", score=0.9) if request.tokens > 20 else "small"

    model = tiered(small, big, policy=rule)

    assert decision(ask(model, "hi"))["why"] == "rule"
    assert ask(model, "hi " * 100).text == "big"
    chosen = decision(ask(model, "hi " * 100))
    assert (chosen["tier"], chosen["why"], chosen["score"], chosen["tried"]) == ("big", "long", 0.9, ["big"])


async def test_a_rule_may_be_async_where_the_model_is(small: Said, big: Said) -> None:
    async def rule(request: Request) -> str:
        return "big"

    model = tiered(small, big, policy=by_rule(rule))

    assert (await model.ainvoke("hi")).text == "big"
    assert "".join([chunk.text async for chunk in model.astream("hi")]) == "big"
    with pytest.raises(BadArguments, match="ainvoke"):
        model.invoke("hi")


@pytest.mark.parametrize(
    ("said", "tier", "why"),
    [
        ("refund", "small", "intent:refund"),
        ("Refund.", "small", "intent:refund"),
        ("It is a complaint!", "big", "intent:complaint"),
        ("refund or complaint", "big", "intent_unknown"),
        ("weather", "big", "intent_unknown"),
        (RuntimeError("down"), "big", "intent_failed"),
    ],
)
def test_a_small_models_classification_decides_and_is_overhead(
    said: Any, tier: str, why: str, *, ask: Ask, small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """What cannot be sorted goes to the dearest tier; the classifier's call is counted, whatever it said."""
    sorter = Said(model_name="judge", say=lambda *_: said if isinstance(said, Exception) else answer(said, "judge"))
    policy = by_intent(sorter, {"refund": "small", "complaint": "big"})

    message = ask(tiered(small, big, policy=policy), "I want my money back", {"callbacks": [handler]})

    assert (message.text, decision(message)["why"]) == (tier, why)
    assert [call.attribution.role for call in ledger.calls()] == ["overhead", "agent"]


@pytest.mark.parametrize(
    ("score", "tier", "why"),
    [
        (0.29, "small", "difficulty"),
        (0.7, "big", "difficulty"),
        (Decimal("0.29"), "small", "difficulty"),
        (np.float32(0.9), "big", "difficulty"),
        (np.bool_(0), "small", "difficulty"),
        (float("nan"), "big", "score_invalid"),
        (np.float32("nan"), "big", "score_invalid"),
        (Decimal("NaN"), "big", "score_invalid"),
        (Decimal("sNaN"), "big", "score_invalid"),
        (2, "big", "score_invalid"),
        (10**400, "big", "score_invalid"),
        ("0.1", "big", "score_invalid"),
    ],
)
def test_difficulty_decides_and_what_is_no_score_is_taken_for_the_hardest(
    score: Any, tier: str, why: str, *, ask: Ask, small: Said, big: Said
) -> None:
    """NaN among it, of whatever kind; Decimals and NumPy's numbers are scores as well."""
    model = tiered(small, big, policy=by_difficulty(lambda request: score, {"big": 0.7}))

    message = ask(model, "hi")

    assert (message.text, decision(message)["why"]) == (tier, why)


def test_tiers_step_down_as_the_budget_runs_out(big: Said, small: Said, ledger: Ledger) -> None:
    """Of 50 cents at ten a call: 40 left is under 90 %; the small one's cents last from there."""
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(usd="0.50", per="day", scope="all")])
    model = tiered(small, big, policy=by_budget({"small": 0.7}))

    said = [model.invoke("hi", {"callbacks": [handler]}) for _ in range(4)]

    assert [message.text for message in said] == ["big", "big", "small", "small"]
    assert [decision(message)["why"] for message in said] == ["in_budget", "in_budget", "budget", "budget"]
    assert decision(said[2])["score"] == pytest.approx(0.6)


def test_a_cascade_under_budget_pressure_does_not_go_up(small: Said, big: Said, ledger: Ledger) -> None:
    """The cap holds for what is tried after, too; without a budget nothing is capped."""
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(usd="0.15", per="day", scope="all")])
    model = tiered(small, big, policy=by_budget({"small": 0.5}, otherwise=cascade(lambda *_: 0.0)))

    assert model.invoke("hi").text == "big"
    assert model.invoke("hi", {"callbacks": [handler]}).text == "big"
    assert model.invoke("hi", {"callbacks": [handler]}).text == "small"


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [TimeoutError("late"), ConnectionError("down"), ValueError("context too long")])
def test_a_tier_that_fails_gives_way_to_the_next(
    ask: Ask, error: Exception, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    small = Said(model_name="small", say=lambda *_: error)

    message = ask(tiered(small, big, policy=lambda request: "small"), "hi", {"callbacks": [handler]})

    assert (message.text, decision(message)["why"]) == ("big", f"failed:{type(error).__name__}")
    assert [call.error is None for call in ledger.calls()] == [False, True]


def test_the_dearest_tiers_failure_is_the_users(ask: Ask, small: Said) -> None:
    """A weaker answer in its place would look like its own; `with_fallbacks` is for that, and works."""
    big = Said(model_name="big", say=lambda *_: ConnectionError("down"))
    model = tiered(small, big, policy=lambda request: "big")

    with pytest.raises(ConnectionError):
        ask(model, "hi")
    assert small.calls == 0
    assert ask(model.with_fallbacks([small]), "hi").text == "small"


def test_a_stream_that_broke_off_is_not_begun_anew(small: Said, big: Said) -> None:
    """The user has seen a part of it: a second answer behind it would be nobody's."""
    small.say = worded("small", "BREAK it")
    stream = tiered(small, big, policy=lambda request: "small").stream("hi")

    assert next(stream).text == "BREAK"
    with pytest.raises(ConnectionError):
        next(stream)
    assert big.calls == 0


@pytest.mark.parametrize("policy", [None, lambda request: "small"])
def test_a_refusal_is_never_a_reason_to_go_up(ask: Ask, policy: Any, small: Said, big: Said, ledger: Ledger) -> None:
    """The second call of a run with a budget of one is refused in whichever tier, and reaches the caller."""
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(llm_calls=1)])
    model = tiered(small, big, policy=policy)

    def node(state: State) -> Any:
        return {"messages": [ask(model, "hi"), ask(model, "hi")]}

    graph = StateGraph(State).add_node("ask", node).add_edge(START, "ask").compile()
    with pytest.raises(BudgetExceeded):
        graph.invoke({"messages": []}, {"callbacks": [handler]})
    assert (small.calls, big.calls) == (1, 0)


def test_a_refused_judge_or_router_stops_the_run(small: Said, big: Said, ledger: Ledger) -> None:
    """It is not taken for one that is down: nothing more is bought in this run."""
    judge = Said(model_name="judge", say=worded("judge"))
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(llm_calls=1)])

    with pytest.raises(BudgetExceeded):
        tiered(small, big, policy=cascade(judge)).invoke("hi", {"callbacks": [handler]})
    assert (small.calls, judge.calls, big.calls) == (1, 0, 0)


class Toolless(Said):
    """A model that cannot call tools."""

    bind_tools = Said.__mro__[1].bind_tools  # type: ignore[attr-defined]  # BaseChatModel's


def test_a_tier_that_cannot_call_tools_is_not_asked_for_them(ask: Ask, big: Said) -> None:
    small = Toolless(model_name="small", say=worded("small"))
    model = tiered(small, big)

    assert ask(model, "hi").text == "small"
    message = ask(model.bind_tools([LOOK]), "hi")
    assert (message.text, decision(message)["why"], small.calls) == ("big", "no_tools", 1)


def test_where_only_a_cheaper_tier_can_it_answers(small: Said) -> None:
    big = Toolless(model_name="big", say=worded("big"))

    assert tiered(small, big, policy=lambda request: "big").bind_tools([LOOK]).invoke("hi").text == "small"
    with pytest.raises(BadArguments, match="no_tools"):
        tiered(Toolless(model_name="small", say=worded("small")), big).bind_tools([LOOK]).invoke("hi")


def test_a_context_that_is_too_small_is_not_asked(ask: Ask, small: Said, big: Said) -> None:
    """By the tier's own bound, else by the model's profile."""
    bounded = TieredChatModel([Tier("small", small, max_input_tokens=50), Tier("big", big)])
    profiled = tiered(Said(model_name="small", say=worded("small"), profile={"max_input_tokens": 50}), big)

    for model in (bounded, profiled):
        assert ask(model, "hi").text == "small"
        message = ask(model, "hi " * 100)
        assert (message.text, decision(message)["why"]) == ("big", "context_too_small")


def test_an_unpriced_tier_has_no_counterfactual_and_that_is_said(
    small: Said, handler: FinOpsHandler, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows is not free; a budget in dollars refuses its call, which goes up no tier."""
    unknown = Said(model_name="unheard-of", say=worded("unheard-of"))
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        message = tiered(small, unknown).invoke("hi", {"callbacks": [handler]})
    assert decision(message)["dearest_alone_usd_estimate"] is None
    assert "no known price" in caplog.text

    strict = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(usd=1)])
    with pytest.raises(Exception, match="price") as refused:
        tiered(unknown, small).invoke("hi", {"callbacks": [strict]})
    assert stopped(refused.value) is not None
    assert small.calls == 1


def test_only_a_tier_that_can_is_asked_for_an_answer_that_fits_a_schema(small: Said) -> None:
    """LangChain's way to such an answer is a tool: where the dearest tier has none, the nearest that can answers."""
    small.say = lambda *_: answer("", tool_calls=[tool_call("Reply", city="Rome")])
    big = Toolless(model_name="big", say=worded("big"))

    model = tiered(small, big, policy=lambda request: "big").with_structured_output(Reply, include_raw=True)
    said = model.invoke("Where?")
    assert (said["parsed"], decision(said["raw"])["why"], big.calls) == (Reply(city="Rome"), "no_tools", 0)


def test_a_tier_that_times_out_is_charged_its_estimate_and_the_next_one_needs_room_beside_it(
    ask: Ask, big: Said, ledger: Ledger
) -> None:
    """Nobody knows what it did until then: a cent for the small model's 1,000 tokens. The big one's ten cents fit into
    twelve with that, and not into ten and a half, which ends the run."""
    small = Said(model_name="small", say=lambda *_: TimeoutError("late"))
    model = tiered(small, big)
    graph = StateGraph(State).add_node("ask", lambda state: {"messages": [ask(model, "hi")]}).add_edge(START, "ask")

    def run(usd: str) -> list[str | None]:
        budget = Budget(usd=usd, expected_output_tokens=1_000, warn_at=())
        before = sum(1 for _ in ledger.calls())
        with suppress(BudgetExceeded):
            config = {"callbacks": [FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[budget])]}
            graph.compile().invoke({"messages": []}, config)  # type: ignore[arg-type]
        made = list(ledger.calls())[before:]
        assert (made[0].estimated, "timed_out" in made[0].reasons) == (True, True)
        # A few tokens of the prompt cost a dollar a million.
        assert made[0].cost_usd == Decimal(made[0].usage.input_tokens) / 10**6 + Decimal("0.01")
        return [call.attribution.tags["tier"] for call in made]

    assert (run("0.12"), big.calls) == (["small", "big"], 1)
    assert (run("0.105"), big.calls) == (["small"], 1)


def test_a_tier_that_always_fails_is_told_of_once(big: Said, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong key would send all requests to the dearest tier, and nobody would know. One that works now and then is
    not told of."""
    small = Said(model_name="small", say=lambda _, number: answer() if number == 10 else PermissionError("secret"))
    model = tiered(small, big)

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(29):
            model.bind_tools([LOOK]).invoke("hi")
        assert caplog.records == []
        for _ in range(21):
            model.invoke("hi")
    (told,) = [record.message for record in caplog.records]
    assert told.startswith("tier 'small' has failed 20 times in a row, the last time with PermissionError: ")
    assert "secret" not in told


def test_a_policy_that_always_goes_up_is_told_of_once(small: Said, big: Said, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty in a row paid twice for what the big one alone gives."""
    model = tiered(small, big, policy=cascade(lambda *_: 0.0))

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(19):
            model.bind_tools([LOOK]).invoke("hi")
        assert caplog.records == []
        for _ in range(21):
            model.invoke("hi")
    assert ["costs more than 'big' alone" in record.message for record in caplog.records] == [True]


def test_arguments_that_make_no_sense_are_all_told_at_once(small: Said) -> None:
    with pytest.raises(BadArguments) as told:
        TieredChatModel([Tier("", small), Tier("a", small), Tier("a", 7), Tier("b", small, max_input_tokens=0)])  # type: ignore[arg-type]
    for part in ("1 to 64 letters", "two are named 'a'", "a int for a model", "max_input_tokens=0"):
        assert part in str(told.value)
    with pytest.raises(BadArguments, match="two at least"):
        TieredChatModel([Tier("a", small)])
    with pytest.raises(BadArguments, match="policy"):
        tiered(small, small.model_copy(update={"model_name": "big"}), policy="cheap")
    with pytest.raises(BadArguments, match="no tier; there are small, big"):
        tiered(small, small.model_copy(update={"model_name": "big"}), policy=lambda request: "huge").invoke("hi")
    with pytest.raises(BadArguments, match="short code"):
        Choice(tier="a", why="text " * 40)


# --- as users expect of a chat model ---------------------------------------------------------------------------------


def test_structured_output_is_parsed_by_each_tier_and_what_cannot_be_goes_up(
    small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    small.say = lambda *_: answer("", tool_calls=[tool_call("Reply", town="Rome")])
    big.say = lambda *_: answer("", "big", tool_calls=[tool_call("Reply", city="Rome")])
    model = tiered(small, big)

    assert model.with_structured_output(Reply).invoke("Where?", {"callbacks": [handler]}) == Reply(city="Rome")
    assert [call.attribution.tags["tier"] for call in ledger.calls()] == ["small", "big"]
    raw = model.with_structured_output(Reply, include_raw=True).invoke("Where?")
    assert (raw["parsed"], decision(raw["raw"])["why"]) == (Reply(city="Rome"), "not_parsed")


async def test_structured_output_works_in_async_code_and_fails_as_a_models_own_does(small: Said, big: Said) -> None:
    small.say = big.say = lambda *_: answer("", tool_calls=[tool_call("Reply", town="Rome")])
    model = tiered(small, big).with_structured_output(Reply)

    with pytest.raises(ValueError, match="city"):
        await model.ainvoke("Where?")
    small.say = lambda *_: answer("", tool_calls=[tool_call("Reply", city="Rome")])
    assert await model.ainvoke("Where?") == Reply(city="Rome")
    assert [chunk async for chunk in model.astream("Where?")] == [Reply(city="Rome")]


def test_what_is_bound_reaches_the_tier_retries_of_its_own_included(small: Said, big: Said) -> None:
    """LangChain loses a retry when tools are bound to it; a tier's stays."""
    small.say = lambda _, number: ConnectionError("once") if number == 1 else answer("second")
    model = TieredChatModel([Tier("small", small.with_retry(wait_exponential_jitter=False)), Tier("big", big)])

    assert model.bind_tools([LOOK], tool_choice="look").invoke("hi", stop=["x"]).text == "second"
    settings = small.asked[1][1]
    assert (settings["tools"][0]["function"]["name"], settings["tool_choice"], settings["stop"]) == (
        "look",
        "look",
        ["x"],
    )


def test_a_stream_comes_in_pieces_where_nobody_judges_and_whole_where_somebody_does(small: Said, big: Said) -> None:
    small.say, big.say = worded("small", "a b"), worded("big", "c d")

    def pieces(model: TieredChatModel) -> list[str]:
        return [chunk.text for chunk in model.stream("hi") if chunk.text]

    assert pieces(tiered(small, big, policy=lambda request: "small")) == ["a", " b"]
    assert pieces(tiered(small, big)) == ["a b"]
    assert pieces(tiered(small, big, policy=cascade(lambda *_: 0))) == ["c", " d"]


def test_a_graph_streams_no_answer_that_is_thrown_away(small: Said, big: Said) -> None:
    """Tokens of the judged tier would stand before the right answer."""
    small.say, big.say = worded("small", "wrong one"), worded("big", "right one")
    model = tiered(small, big, policy=cascade(lambda *_: 0))
    graph = StateGraph(State).add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    app = graph.add_edge(START, "ask").compile()

    said = [message.text for message, _ in app.stream({"messages": ["hi"]}, stream_mode="messages")]

    assert "".join(said) == "right one"
    accepted = [
        message.text
        for message, _ in StateGraph(State)
        .add_node("ask", lambda state: {"messages": [tiered(small, big).invoke(state["messages"])]})
        .add_edge(START, "ask")
        .compile()
        .stream({"messages": ["hi"]}, stream_mode="messages")
    ]
    assert accepted == ["wrong one"]


async def test_an_agent_runs_on_it_and_each_step_has_its_tier(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The tool's result goes to the big model, the rest to the small one; nodes and tags are in the ledger."""
    small = Said(model_name="small", say=lambda *_: answer("", tool_calls=[tool_call(query="x")]))
    big = Said(model_name="big", say=worded("big", "done"))

    def rule(request: Request) -> str:
        assert request.tools == {"look"}
        return "big" if isinstance(request.messages[-1], ToolMessage) else "small"

    agent = create_agent(tiered(small, big, policy=rule), [LOOK])
    state = await agent.ainvoke({"messages": [HumanMessage("hi")]}, {"callbacks": [handler]})
    again = agent.invoke({"messages": [HumanMessage("hi")]}, {"callbacks": [handler]})

    for result in (state, again):
        assert [message.text for message in result["messages"]] == ["hi", "", "found", "done"]
    made = [(call.attribution.node, call.attribution.tags["tier"], call.cost_usd) for call in ledger.calls()]
    assert made == [("model", "small", Decimal("0.01")), ("model", "big", Decimal("0.10"))] * 2


def test_an_agents_structured_answer_comes_from_a_tool_that_is_known(small: Said, big: Said) -> None:
    small.say = lambda *_: answer("", tool_calls=[tool_call("Reply", city="Rome")])

    result = create_agent(tiered(small, big), [LOOK], response_format=Reply).invoke({"messages": [HumanMessage("hi")]})

    assert (result["structured_response"], big.calls) == (Reply(city="Rome"), 0)


def test_batches_generate_and_events_work_as_a_models_own(small: Said, big: Said) -> None:
    model = tiered(small, big)

    assert [message.text for message in model.batch(["a", "b"])] == ["small", "small"]
    assert model.generate_prompt([model._convert_input("a")]).generations[0][0].text == "small"
    with pytest.raises(BadArguments, match="v2"):
        model.stream_events("a", version="v3")


def test_profiles_are_what_all_tiers_can_do(small: Said, big: Said) -> None:
    small.profile = {"max_input_tokens": 100, "tool_calling": True, "structured_output": False}
    big.profile = {"max_input_tokens": 900, "tool_calling": True, "structured_output": True}

    assert tiered(small, big).profile == {"max_input_tokens": 100, "tool_calling": True, "structured_output": False}
    assert tiered(small, Said(model_name="big", say=worded("big"))).profile is None


async def test_a_stream_that_its_user_leaves_is_settled_at_once(
    small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Closed after the first piece: the model's own stream is closed with it, and its call charged as estimated."""
    small.say = worded("small", "a b")
    stream = tiered(small, big, policy=lambda request: "small").astream("hi", {"callbacks": [handler]})

    assert (await anext(stream)).text == "a"
    await stream.aclose()  # type: ignore[attr-defined]

    assert [(call.model, call.estimated) for call in ledger.calls()] == [("small", True)]
    assert [run.status for run in ledger.runs()] == ["cancelled"]


def test_a_tiers_own_fallbacks_are_asked_before_the_next_tier(small: Said, big: Said) -> None:
    """With the tools that were bound."""
    down = Said(model_name="small", say=lambda *_: ConnectionError("down"))
    model = TieredChatModel([Tier("worker", down.with_fallbacks([small])), Tier("brain", big)])

    assert model.bind_tools([LOOK]).invoke("hi").text == "small"
    assert (len(small.asked[0][1]["tools"]), big.calls) == (1, 0)
