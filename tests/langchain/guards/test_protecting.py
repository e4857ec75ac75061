"""Cutting cost must not cut validation: protected nodes run, and those that did not are named."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.graph import START, StateGraph
from limited_graphs import Paid, State, asking, line, swallowing

from langchain_finops import Budget, BudgetExceeded, Ledger, stopped
from langchain_finops.budgets.switch import kill
from langchain_finops.langchain import Killed

TWO = Budget(llm_calls=2)


def named(**nodes: Any) -> Any:
    """Nodes of these names, one after the other."""
    builder = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for before, after in zip([START, *nodes], nodes, strict=False):
        builder.add_edge(before, after)
    return builder


def test_a_protected_node_runs_and_calls_in_a_refused_run(limited: Any, run: Any, ledger: Ledger) -> None:
    """A swallowed refusal lets the graph get there; what it costs counts, and the node after it is refused."""
    drafts, checks = Paid(), Paid()
    ask = swallowing(drafts, "hi")
    graph = named(a=ask, b=ask, c=ask, validate=asking(checks, "sound?"), after=ask).compile()

    with pytest.raises(BudgetExceeded) as raised:
        run(graph, {"said": []}, limited(TWO, protect=["validate"]))

    assert (drafts.calls, checks.calls) == (2, 1)
    assert raised.value.unvalidated == ()
    assert len(list(ledger.calls())) == 3


def test_all_in_a_protected_subgraph_is_protected(limited: Any, run: Any) -> None:
    """Any element of the node path."""
    drafts, checks = Paid(), Paid()
    inner = named(look=asking(checks, "sound?"), think=asking(checks, "sure?")).compile()
    ask = swallowing(drafts, "hi")

    run(named(a=ask, b=ask, c=ask, validate=inner).compile(), {"said": []}, limited(TWO, protect=["validate"]))

    assert (drafts.calls, checks.calls) == (2, 2)


@pytest.mark.parametrize("word", ["raise", "drain", "interrupt"])
def test_what_did_not_run_is_named(word: Any, limited: Any, run: Any) -> None:
    """By the exception or the question, in its text and its field, and by `stopped`."""
    ask = asking(Paid(), "hi")
    graph = named(a=ask, b=ask, c=ask, validate=lambda _: {}).compile(checkpointer=InMemorySaver())
    handler = limited(Budget(llm_calls=2, on_exceed=word), protect=["validate"])

    if word == "interrupt":
        stop = stopped(run(graph, {"said": []}, handler, thread="t"))
    else:
        with pytest.raises((BudgetExceeded, GraphDrained)) as raised:
            run(graph, {"said": []}, handler, thread="t")
        stop = stopped(raised.value)
        assert "`validate` did not run" in str(raised.value)

    assert stop is not None
    assert stop.unvalidated == ("validate",)


def test_what_ran_and_what_was_changed_after_it(limited: Any, run: Any) -> None:
    """Validated, then refused: nothing is missing. Validated, changed, then refused: it is."""
    ask, check = asking(Paid(), "hi"), lambda _: {}

    with pytest.raises(BudgetExceeded) as raised:
        run(named(a=ask, b=ask, validate=check, c=ask).compile(), {"said": []}, limited(TWO, protect=["validate"]))
    assert raised.value.unvalidated == ()
    with pytest.raises(BudgetExceeded) as raised:
        run(named(a=ask, validate=check, b=ask, c=ask).compile(), {"said": []}, limited(TWO, protect=["validate"]))
    assert raised.value.unvalidated == ("validate",)


def test_a_check_inside_a_subgraph_counts_once_the_subgraph_has_ended(limited: Any, run: Any) -> None:
    """The end of the node that the subgraph is in is no further change."""
    ask = asking(Paid(), "hi")
    inner = named(a=ask, b=ask, validate=lambda _: {}).compile()

    with pytest.raises(BudgetExceeded) as raised:
        run(named(work=inner, c=ask).compile(), {"said": []}, limited(TWO, protect=["validate"]))

    assert raised.value.unvalidated == ()


def test_a_check_beside_a_change_has_not_seen_it(limited: Any, run: Any) -> None:
    """Both ran in one superstep."""
    ask = asking(Paid(), "hi")
    builder = StateGraph(State)
    for name, node in {"a": ask, "validate": lambda _: {}, "b": ask, "c": ask}.items():
        builder.add_node(name, node)
    for before, after in ((START, "a"), (START, "validate"), ("a", "b"), ("b", "c")):
        builder.add_edge(before, after)

    with pytest.raises(BudgetExceeded) as raised:
        run(builder.compile(), {"said": []}, limited(TWO, protect=["validate"]))

    assert raised.value.unvalidated == ("validate",)


def test_a_recursion_limit_names_them_too(limited: Any, run: Any, ledger: Ledger) -> None:
    """It is a stop like others."""
    graph = line(*[lambda _: {}] * 5)

    with pytest.raises(GraphRecursionError) as raised:
        run(graph, {"said": []}, limited(protect=["validate"]), recursion_limit=3)

    stop = stopped(raised.value)
    assert stop is not None
    assert (stop.reason, stop.unvalidated) == ("recursion_limit", ("validate",))
    assert [(each.status, each.stop_reason) for each in ledger.runs()] == [("stopped", "recursion_limit")]


def test_only_a_kill_stops_a_protected_node(limited: Any, run: Any, ledger: Ledger) -> None:
    """Whoever pulls the switch means all of it."""
    model = Paid()
    kill(ledger, "all", reason="runaway")

    with pytest.raises(Killed, match="runaway"):
        run(named(validate=asking(model, "sound?")).compile(), {"said": []}, limited(TWO, protect=["validate"]))

    assert model.calls == 0
    assert [(each.status, each.stop_reason) for each in ledger.runs()] == [("stopped", "killed")]
