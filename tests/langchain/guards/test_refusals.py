"""The exceptions of guards, and `stopped`, which reads them and whatever else a graph gives back."""

import inspect
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from decimal import Decimal
from multiprocessing import get_context
from typing import Any

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, GraphDrained, GraphInterrupt, GraphRecursionError
from langgraph.types import GraphOutput, Interrupt, interrupt
from limited_graphs import Paid, asking, line, refuse

import langchain_finops.errors
from langchain_finops import Budget, CallRefused, FinOpsError, stopped
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain import refusals
from langchain_finops.langchain.refusals import DrainReason, RunDrained, refused
from langchain_finops.langchain.stops import MARKER, told_of

REFUSAL = Refusal(
    kind="budget",
    reason="No money left. Earn some.",
    budget="$1 per run",
    scope="run",
    unit="usd",
    limit=Decimal(1),
    spent=Decimal("0.999999999999"),
    held=Decimal("0.1"),
    estimate=Decimal("0.2"),
    node_path="a/b",
    run_id="r",
    approval="usd $1 per run",
)
ALL = [value for value in vars(refusals).values() if inspect.isclass(value) and issubclass(value, CallRefused)]


@pytest.mark.parametrize("kind", ALL)
def test_every_refusal_is_one_that_langgraph_and_langchain_let_through(kind: type[CallRefused]) -> None:
    """One `except CallRefused` or `except FinOpsError` is enough; both trees list it."""
    assert issubclass(kind, FinOpsError)
    assert issubclass(kind, GraphBubbleUp)
    assert issubclass(kind, ModelError)
    assert kind.is_retryable is False
    for page in (refusals.__doc__, langchain_finops.errors.__doc__):
        assert f" {kind.__name__} " in (page or "")


@pytest.mark.parametrize("kind", ALL)
def test_its_fields_are_the_refusals_and_cross_a_process_boundary(kind: type[CallRefused]) -> None:
    """The message is the refusal's sentence, and says what was not validated."""
    error = kind(REFUSAL, ["validate"])
    copy = pickle.loads(pickle.dumps(error))

    for each in (error, copy):
        assert type(each) is kind
        for field in fields(Refusal):
            if field.name != "on_exceed":
                assert getattr(each, field.name) == getattr(REFUSAL, field.name), field.name
        assert each.node == "b"
        assert each.unvalidated == ("validate",)
        assert str(each) == (
            "No money left. Earn some. Not validated: `validate` did not run since the state last changed."
        )


def test_a_refusal_comes_back_from_a_process_pool() -> None:
    """With its fields."""
    # A Pool waits for ever if its processes cannot start.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(CallRefused) as raised:
        list(pool.map(refuse, [REFUSAL]))

    assert raised.value.spent == REFUSAL.spent


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("budget", "BudgetExceeded", "budget:$1 per run"),
        ("ledger", "BudgetExceeded", "ledger"),
        ("loop", "LoopDetected", "loop"),
        ("kill", "Killed", "killed"),
        ("unpriced", "UnpricedCall", "unpriced"),
        ("strict", "CallRefused", "strict"),
        ("model_policy", "CallRefused", "model_policy"),
    ],
)
def test_each_kind_has_its_exception_and_its_stop_reason(kind: Any, name: str, reason: str) -> None:
    """By which callers tell them apart."""
    error = refused(Refusal(kind=kind, reason="x", budget="$1 per run"))

    assert type(error).__name__ == name
    assert error.stop_reason == reason
    assert stopped(error).reason == reason  # type: ignore[union-attr]


QUESTION = Interrupt(value={**told_of(REFUSAL, ["validate"]), "answers": []}, id="0" * 32)
OWN = Interrupt(value={"type": "own"}, id="1" * 32)
MESSAGE = AIMessage("stop", response_metadata={MARKER: told_of(REFUSAL, ["validate"])})
FORMS: dict[str, Callable[[Any], Any]] = {
    "result": lambda each: {"said": [], "__interrupt__": [each]},
    "GraphOutput": lambda each: GraphOutput(value={"said": []}, interrupts=(each,)),
    "chunk of updates": lambda each: {"__interrupt__": (each,)},
    "chunk with its mode": lambda each: ("updates", {"__interrupt__": (each,)}),
    "chunk with namespace and mode": lambda each: (("a:1",), "updates", {"__interrupt__": (each,)}),
    "chunk of version 2": lambda each: {"type": "updates", "ns": (), "data": {"__interrupt__": (each,)}},
    "chunk of values of version 2": lambda each: {"type": "values", "ns": (), "data": {}, "interrupts": (each,)},
    "exception": lambda each: GraphInterrupt((each,)),
    "list of interrupts": lambda each: [each],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_question_is_read_from_whatever_brings_it(form: str) -> None:
    """With all its figures, exact; an interrupt of the user's own is none of ours, alone or beside one."""
    stop = stopped(FORMS[form](QUESTION))

    assert stop is not None
    assert (stop.reason, stop.budget, stop.spent, stop.node_path) == (
        "budget:$1 per run",
        "$1 per run",
        Decimal("0.999999999999"),
        "a/b",
    )
    assert (stop.node, stop.unvalidated, stop.interrupts) == ("b", ("validate",), ("0" * 32,))
    assert (QUESTION.value["node"], QUESTION.value["node_path"]) == ("b", "a/b")
    assert stopped(FORMS[form](OWN)) is None


def test_what_a_batch_returned_was_stopped_where_one_of_it_was() -> None:
    """With `return_exceptions=True` the refusals are among the results."""
    results = [{"said": []}, ValueError("own"), refused(REFUSAL)]

    assert stopped(results).spent == REFUSAL.spent  # type: ignore[union-attr]
    assert stopped(results[:2]) is None


def test_of_several_interrupts_ours_are_told() -> None:
    """The user's own beside them has no id there."""
    stop = stopped({"__interrupt__": [OWN, QUESTION]})

    assert stop is not None
    assert stop.interrupts == ("0" * 32,)


@pytest.mark.parametrize(
    "result",
    [
        MESSAGE,
        {"messages": [HumanMessage("hi"), MESSAGE]},
        {"model": {"messages": [MESSAGE]}},
        ("updates", {"model": {"messages": [MESSAGE]}}),
        ("messages", (MESSAGE, {})),
        {"type": "updates", "ns": (), "data": {"model": {"messages": [MESSAGE]}}},
        GraphOutput(value={"messages": [MESSAGE]}),
    ],
)
def test_a_last_message_is_read(result: object) -> None:
    """What the middleware leaves."""
    stop = stopped(result)

    assert stop is not None
    assert (stop.budget, stop.limit, stop.unvalidated) == ("$1 per run", Decimal(1), ("validate",))


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        [],
        "text",
        {"messages": [MESSAGE, HumanMessage("go on")]},
        {"said": ["ok"], "type": "x"},
        ValueError("x"),
        GraphInterrupt(),
        7,
    ],
)
def test_what_was_not_stopped_is_none(result: object) -> None:
    """A message that others came after, too: the run has gone on since."""
    assert stopped(result) is None


def test_exceptions_are_read_through_what_was_raised_because_of_them() -> None:
    """Drains of ours and of others, the recursion limit, and a refusal below other errors."""
    wrapped = ValueError("x")
    wrapped.__cause__ = refused(REFUSAL)

    assert stopped(wrapped).budget == "$1 per run"  # type: ignore[union-attr]
    assert stopped(RunDrained(REFUSAL)).reason == "drained"  # type: ignore[union-attr]
    drained = stopped(GraphDrained(DrainReason(REFUSAL, ["validate"])))
    assert drained is not None
    assert (drained.reason, drained.budget, drained.unvalidated) == ("drained", "$1 per run", ("validate",))
    assert stopped(GraphDrained("SIGTERM")).reason == "drained"  # type: ignore[union-attr]
    assert stopped(GraphRecursionError("x")).reason == "recursion_limit"  # type: ignore[union-attr]


def test_real_results_of_both_versions_are_read(limited: Any) -> None:
    """`invoke(version="v2")` returns a GraphOutput; a state's snapshot tells as well."""
    graph = line(asking(Paid(), "hi"), checkpointer=InMemorySaver())
    config: Any = {
        "callbacks": [limited(Budget(tokens=9, on_exceed="interrupt"))],
        "configurable": {"thread_id": "t"},
    }

    result = graph.invoke({"said": []}, config, version="v2")

    assert isinstance(result, GraphOutput)
    assert stopped(result).unit == "tokens"  # type: ignore[union-attr]
    assert stopped(graph.get_state(config)) == stopped(result)
    own = line(lambda _: {"said": [interrupt("own?")]}, checkpointer=InMemorySaver())
    assert stopped(own.invoke({"said": []}, config, version="v2")) is None
