"""`handoff`: a person is asked once, before the dear call; their minutes are in the books; nothing is lost."""

import asyncio
import logging
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy
from pydantic import BaseModel
from tier_models import Said, answer, tool_call

from langchain_finops import FinOpsHandler, Ledger, stopped
from langchain_finops.errors import BadArguments
from langchain_finops.levers import HandoffMiddleware, Request, asked_difficulty, handoff

LOOK = StructuredTool.from_function(lambda query="": "found", name="look", description="Look.")


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


def hard(request: Request) -> float:
    return 0.9


def graph(ask: Any, model: Any, checkpointer: Any = True) -> Any:
    built = StateGraph(State)
    built.add_node("ask", ask.node(then="model"))
    built.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    built.add_edge(START, "ask")
    return built.compile(checkpointer=InMemorySaver() if checkpointer else None)


def agent(ask: Any, model: Any, checkpointer: Any = True) -> Any:
    return create_agent(
        model, [LOOK], middleware=[HandoffMiddleware(ask)], checkpointer=InMemorySaver() if checkpointer else None
    )


def config(handler: FinOpsHandler | None = None) -> Any:
    return {"configurable": {"thread_id": "t"}, "callbacks": [handler] if handler else []}


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Any:
    if request.param == "sync":
        return lambda app, *args: app.invoke(*args)
    return lambda app, *args: asyncio.run(app.ainvoke(*args))


@pytest.fixture(params=[graph, agent])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


HELLO: Any = {"messages": [HumanMessage("secretword")]}


def test_a_person_answers_in_the_models_place_and_their_minutes_are_charged(
    make: Any, run: Any, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """12 minutes at $45 an hour are $9, in the node and run that asked; the model was never called."""
    app = make(handoff(threshold=0.8, usd_per_hour=45, minutes=10, scorer=hard), big)

    paused = run(app, HELLO, config(handler))
    (question,) = paused["__interrupt__"]
    assert (question.value["type"], question.value["score"]) == ("finops_handoff", 0.9)
    assert "secretword" not in str(question.value)
    assert stopped(paused) is None  # No limit stopped it.
    result = run(app, Command(resume={"answer": "By hand.", "minutes": 12}), config(handler))

    assert (result["messages"][-1].text, result["messages"][-1].name, big.calls) == ("By hand.", "person", 0)
    (charge,) = ledger.charges()
    assert (charge.kind, charge.cost_usd, charge.quantity, charge.unit) == ("human", Decimal(9), Decimal(12), "minutes")
    assert charge.run_id == next(ledger.runs()).run_id
    assert charge.attribution.node is not None


def test_an_easy_request_goes_to_the_model(make: Any, run: Any, big: Said, handler: FinOpsHandler) -> None:
    """By the default scorer, which calls nobody."""
    app = make(handoff(threshold=0.8, usd_per_hour=45, minutes=10), big, checkpointer=False)

    assert run(app, HELLO, config(handler))["messages"][-1].text == "big"


def test_a_model_that_scores_is_asked_once_and_its_word_stands_when_the_run_is_resumed(
    make: Any, run: Any, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The second time it would be sure: the person's answer counts all the same, and nothing is bought twice."""
    doubtful = Said(model_name="judge", say=lambda _, number: answer("5" if number == 1 else "99", "judge"))
    app = make(handoff(threshold=0.8, usd_per_hour=60, minutes=1, scorer=asked_difficulty(doubtful)), big)

    run(app, HELLO, config(handler))
    result = run(app, Command(resume="By hand."), config(handler))

    assert (result["messages"][-1].text, doubtful.calls, big.calls) == ("By hand.", 1, 0)
    assert [(call.model, call.attribution.role) for call in ledger.calls()] == [("judge", "overhead")]
    assert [charge.cost_usd for charge in ledger.charges()] == [Decimal(1)]


class Validated(BaseModel):
    messages: Annotated[list[Any], add_messages] = []


@pytest.mark.parametrize("schema", [State, Validated])
@pytest.mark.parametrize("inside", [False, True], ids=["graph", "subgraph"])
def test_the_score_of_a_scorer_that_learns_stands_in_another_process(
    *, schema: Any, inside: bool, run: Any, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Who resumes it would ask nobody: the person's answer counts all the same, and is charged once."""

    def made(score: float) -> Any:
        built = StateGraph(schema)
        ask = handoff(threshold=0.5, usd_per_hour=60, minutes=1, scorer=lambda request: score)
        built.add_node("ask", ask.node(then="model"))
        built.add_node("model", lambda state: {"messages": [big.invoke("hi")]})
        built.add_edge(START, "ask")
        if not inside:
            return built.compile(checkpointer=saver)
        outer = StateGraph(schema)
        outer.add_node("agent", built.compile())
        outer.add_edge(START, "agent")
        return outer.compile(checkpointer=saver)

    saver = InMemorySaver()
    (question,) = run(made(0.9), HELLO, config(handler))["__interrupt__"]
    result = run(made(0.1), Command(resume="By hand."), config(handler))

    assert (question.value["score"], result["messages"][-1].text, big.calls) == (0.9, "By hand.", 0)
    assert [(charge.cost_usd, charge.attribution.node) for charge in ledger.charges()] == [(Decimal(1), "ask")]


def test_with_guidance_the_agent_goes_on_and_asks_nobody_again(
    run: Any, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Also not at its later steps; a new request of the user's is another matter."""
    model = Said(say=lambda _, number: answer("", tool_calls=[tool_call()]) if number == 1 else answer("done"))
    app = agent(handoff(threshold=0.8, usd_per_hour=60, minutes=1, scorer=hard), model)

    run(app, HELLO, config(handler))
    result = run(app, Command(resume={"guidance": "Look it up."}), config(handler))

    assert [message.text for message in result["messages"]] == ["secretword", "Look it up.", "", "found", "done"]
    assert [charge.kind for charge in ledger.charges()] == ["human", "tool"]
    assert "__interrupt__" in run(app, {"messages": [HumanMessage("another")]}, config(handler))


@pytest.mark.parametrize(
    "said", [7, "", " ", {}, {"answer": "a", "guidance": "b"}, {"answer": "a", "minutes": -1}, {"answer": 3}]
)
def test_what_is_not_understood_asks_again(said: Any, big: Said, handler: FinOpsHandler, ledger: Ledger) -> None:
    app = graph(handoff(threshold=0.8, usd_per_hour=60, minutes=1, scorer=hard), big)
    app.invoke(HELLO, config(handler))

    assert "__interrupt__" in app.invoke(Command(resume=said), config(handler))
    assert list(ledger.charges()) == []
    assert app.invoke(Command(resume="a"), config(handler))["messages"][-1].text == "a"


def test_a_node_that_is_tried_again_charges_a_person_once(handler: FinOpsHandler, ledger: Ledger) -> None:
    """It fails after it got the answer, and gets it again: the person's minutes were the same ones."""
    ask, tries = handoff(threshold=0.5, scorer=hard, usd_per_hour=60, minutes=1), []

    def node(state: State) -> State:
        said = ask.asks(state["messages"])
        tries.append(said)
        if len(tries) == 1:
            raise ValueError("once")
        return {"messages": [said]}

    built = StateGraph(State)
    again = RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False, retry_on=ValueError)
    built.add_node("ask", node, retry_policy=again)
    built.add_edge(START, "ask")
    app = built.compile(checkpointer=InMemorySaver())
    app.invoke({"messages": [HumanMessage("hi")]}, config(handler))
    app.invoke(Command(resume="42"), config(handler))

    assert len(tries) == 2
    assert [charge.cost_usd for charge in ledger.charges()] == [Decimal(1)]


def tickets(ask: Any, failures: list[str]) -> Any:
    """A node of one's own that asks a person about each ticket, and fails behind the ones in `failures`, once each."""

    def node(state: Any) -> Any:
        said = []
        for ticket in state["messages"]:
            said.append(ask().asks([ticket]))
            if ticket.text in failures:
                failures.remove(ticket.text)
                raise ValueError(ticket.text)
        return {"messages": said}

    built = StateGraph(State)
    again = RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False, retry_on=ValueError)
    built.add_node("each", node, retry_policy=again)
    built.add_edge(START, "each")
    return built.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("made_anew", [False, True])
@pytest.mark.parametrize("failures", [[], ["A"], ["B", "C"], ["C"]], ids="".join)
def test_the_same_words_for_several_tickets_of_one_node_are_charged_each(
    *, failures: list[str], made_anew: bool, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """5, 7 and 11 minutes at $60 an hour are $23, also where the node fails in between and is given them again."""
    one = handoff(threshold=0.5, scorer=hard, usd_per_hour=60, minutes=1)
    app = tickets(
        lambda: handoff(threshold=0.5, scorer=hard, usd_per_hour=60, minutes=1) if made_anew else one, list(failures)
    )
    app.invoke({"messages": [HumanMessage(ticket) for ticket in "ABC"]}, config(handler))
    for minutes in (5, 7, 11):
        result = app.invoke(Command(resume={"answer": "yes", "minutes": minutes}), config(handler))

    assert [message.text for message in result["messages"]] == [*"ABC", "yes", "yes", "yes"]
    assert [charge.cost_usd for charge in ledger.charges()] == [Decimal(5), Decimal(7), Decimal(11)]


def test_a_run_that_died_is_gone_on_with_and_charges_each_ticket_once(handler: FinOpsHandler, ledger: Ledger) -> None:
    """No try of LangGraph's own: the run ends with the error of the third ticket's, and is invoked again."""
    ask = handoff(threshold=0.5, scorer=hard, usd_per_hour=60, minutes=1)
    app = tickets(lambda: ask, ["C", "C"])
    app.invoke({"messages": [HumanMessage(ticket) for ticket in "ABC"]}, config(handler))
    for _ in range(2):
        app.invoke(Command(resume="yes"), config(handler))
    with pytest.raises(ValueError, match="C"):
        app.invoke(Command(resume="yes"), config(handler))
    result = app.invoke(None, config(handler))

    assert [message.text for message in result["messages"]] == [*"ABC", "yes", "yes", "yes"]
    assert [charge.cost_usd for charge in ledger.charges()] == [Decimal(1)] * 3


@pytest.mark.parametrize("scorer", [lambda _: float("nan"), lambda _: 1 / 0, lambda _: None])
def test_a_scorer_that_breaks_asks_nobody_and_that_is_said(
    scorer: Any, make: Any, run: Any, big: Said, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(handoff(threshold=0.0, usd_per_hour=60, minutes=1, scorer=scorer), big)

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        assert run(app, HELLO, config())["messages"][-1].text == "big"
    assert "handoff: the scorer failed" in caplog.text


def test_without_a_checkpointer_the_loop_ends_with_the_question(big: Said) -> None:
    result = graph(handoff(threshold=0.8, usd_per_hour=60, minutes=1, scorer=hard), big, checkpointer=False).invoke(
        HELLO
    )

    assert ("__interrupt__" in result, big.calls) == (True, 0)


def test_minutes_that_nobody_books_are_told_of(big: Said, caplog: pytest.LogCaptureFixture) -> None:
    app = graph(handoff(threshold=0.8, usd_per_hour=60, minutes=1, scorer=hard), big)
    app.invoke(HELLO, config())

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        app.invoke(Command(resume="a"), config())
    assert "not written down" in caplog.text


@pytest.mark.parametrize(
    "change", [{"threshold": float("nan")}, {"threshold": 2}, {"usd_per_hour": -1}, {"minutes": 0}]
)
def test_arguments_that_make_no_sense_are_refused(change: Any) -> None:
    with pytest.raises(BadArguments, match="handoff"):
        handoff(**{"threshold": 0.5, "usd_per_hour": 1, "minutes": 1, **change})
