"""Several inputs on one thread, and scripted answers to what a target asks a person."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadData
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.resume import Results
from langchain_finops.evals.runner import run
from langchain_finops.evals.suite import load_suite

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

ONE_CALL = Decimal("0.0002")
"""By hand: (100 x $1 + 10 x $10) / 1,000,000."""

SUITE = """
target: agent:TARGET
scorer: {type: exact, answer_field: answer}
configurations: [{name: right}]
LIMITS
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
"""

OWN = '''

import operator
from typing import Annotated

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState
from langgraph.types import Send, interrupt


class Talk(MessagesState, total=False):
    answer: str


async def _reply(state):
    """Says how many messages it sees, and asks the model once."""
    await Scripted().ainvoke("answer 1")
    text = f"{len(state['messages'])} messages"
    return {"messages": [("ai", text)], "answer": text}


def _talk():
    graph = StateGraph(Talk)
    graph.add_node("reply", _reply)
    graph.add_edge(START, "reply")
    graph.add_edge("reply", END)
    return graph


def forgets(configuration):
    return _talk().compile()


def remembers(configuration):
    return _talk().compile(checkpointer=InMemorySaver())


class Asked(TypedDict, total=False):
    number: int
    said: Annotated[list, operator.add]
    answer: str


async def _before(state):
    await Scripted().ainvoke("answer 1")
    return {}


def _ask(state):
    first = interrupt("may I?")
    second = interrupt({"how": "many?"})
    return {"said": [first, second], "answer": f"{first} {second}"}


def _sends(state):
    return [Send("branch", {"number": number}) for number in (1, 2)]


def _branch(state):
    return {"said": [interrupt(f"branch {state['number']}?")]}


def _joined(state):
    return {"answer": " ".join(state["said"])}


def asks(configuration, checkpointer=True):
    graph = StateGraph(Asked)
    graph.add_node("before", _before)
    graph.add_node("ask", _ask)
    graph.add_edge(START, "before")
    graph.add_edge("before", "ask")
    graph.add_edge("ask", END)
    return graph.compile(checkpointer=InMemorySaver() if checkpointer else None)


def asks_without(configuration):
    return asks(configuration, checkpointer=False)


def branches(configuration):
    graph = StateGraph(Asked)
    graph.add_node("branch", _branch)
    graph.add_node("joined", _joined)
    graph.add_conditional_edges(START, _sends, ["branch"])
    graph.add_edge("branch", "joined")
    graph.add_edge("joined", END)
    return graph.compile(checkpointer=InMemorySaver()).with_config(tags=["bound"])
'''


def go(
    workshop: "Workshop",
    target: str,
    *,
    turns: Sequence[Mapping[str, object]] = (),
    answers: Sequence[object] = (),
    limits: str = "",
    expected: str = "",
) -> Results:
    """Run one task with these turns and answers."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + OWN)
    workshop.suite(SUITE.replace("TARGET", target).replace("LIMITS", limits))
    workshop.data(number=[1])
    dataset = load_dataset(workshop.dataset)
    (item,) = dataset.items
    item = replace(item, turns=tuple(turns), answers=tuple(answers), outputs={"answer": expected})
    suite = load_suite(workshop.folder / "tasks.yaml")
    return run(replace(dataset, items=(item,)), suite, Options(folder=workshop.results))


def said(*texts: str) -> list[dict[str, object]]:
    return [{"messages": [["human", text]]} for text in texts]


@pytest.mark.parametrize("target", ["remembers", "forgets"])
def test_turns_follow_one_another(workshop: "Workshop", target: str) -> None:
    """The third input meets all that was said: 3 of a person, 2 answers. A graph without a checkpointer is handed the
    messages so far; one with it keeps them on the attempt's thread."""
    results = go(workshop, target, turns=said("one", "two", "three"), expected="5 messages")

    (result,) = results.attempts
    assert (result.status, result.turns, result.answer["answer"]) == ("completed", 3, "5 messages")
    assert (result.calls, result.cost_usd, result.steps) == (3, 3 * ONE_CALL, 3)
    assert [verdict.success for verdict in results.verdicts] == [True]


def test_limits_hold_over_all_turns(workshop: "Workshop") -> None:
    """Two calls are two calls, in whichever turns they are made."""
    results = go(workshop, "remembers", turns=said("one", "two", "three"), limits="limits: {llm_calls: 2}")

    (result,) = results.attempts
    assert (result.status, result.stop_reason, result.calls, result.turns) == ("stopped", "llm_calls_limit", 2, 3)


def test_a_script_answers_what_a_target_asks(workshop: "Workshop") -> None:
    """In its order, any value; what was paid before the question is not paid again."""
    results = go(workshop, "asks", answers=["yes", 3], expected="yes 3")

    (result,) = results.attempts
    assert (result.status, result.scripted_answers, result.turns) == ("completed", 2, 1)
    assert (result.calls, result.cost_usd) == (1, ONE_CALL)
    assert result.steps == 2
    assert [verdict.success for verdict in results.verdicts] == [True]


def test_branches_that_ask_at_once_are_answered_each(workshop: "Workshop") -> None:
    """By the question's id: a plain resume would be refused."""
    (result,) = go(workshop, "branches", answers=["one", "two"]).attempts

    assert (result.status, result.scripted_answers, result.answer["answer"]) == ("completed", 2, "one two")


@pytest.mark.parametrize(("answers", "used"), [((), 0), (("yes",), 1)])
def test_a_question_without_an_answer_is_handed_off(workshop: "Workshop", answers: tuple[str, ...], used: int) -> None:
    """No success, no error and no limit's stop; what it cost counts."""
    results = go(workshop, "asks", answers=answers)

    (result,) = results.attempts
    assert (result.status, result.stop_reason, result.scripted_answers) == ("handed_off", "interrupt", used)
    assert result.cost_usd == ONE_CALL
    assert results.verdicts == []


def test_scripted_answers_need_a_thread(workshop: "Workshop") -> None:
    """Without a checkpointer nobody can go on: told before anything is bought."""
    with pytest.raises(
        BadData, match=r"tasks\.jsonl:1: answers: the target keeps no thread .*compile its graph with a checkpoint"
    ):
        go(workshop, "asks_without", answers=["yes"])
    assert workshop.calls() == []


def test_turns_need_a_thread_or_messages(workshop: "Workshop") -> None:
    """Each would be answered as if nothing had been said before."""
    with pytest.raises(BadData, match=r"tasks\.jsonl:1: turns: the target keeps no thread, .*which not every turn has"):
        go(workshop, "build", turns=[{"number": 1}, {"number": 2}])
    assert workshop.calls() == []


def test_a_changed_script_is_another_question(workshop: "Workshop") -> None:
    """The stored answer was to other turns."""
    dataset = load_dataset(workshop.dataset)
    (item, _) = dataset.items

    hashes = {replace(item, turns=tuple(said(text))).inputs_hash for text in ("one", "two")}

    assert len({*hashes, item.inputs_hash, replace(item, answers=("yes",)).inputs_hash}) == 4
