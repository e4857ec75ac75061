"""Pauses and resumes: one logical run, an invocation each, and every call that was made."""

from collections import Counter
from typing import Any

import pytest
from graphs import State, asking, recorded
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from scripted_models import ScriptedChat

from langchain_finops import FinOpsHandler, Ledger, PriceBook

PAUSE: Any = {"configurable": {"thread_id": "th-1"}}


def pausing(model: ScriptedChat, *, checkpointer: Any = None) -> Any:
    """`draft` asks the model, `approve` asks it and then a person, `publish` asks it again."""

    def approve(state: State) -> State:
        model.invoke("5/1")
        return {"answers": [interrupt("may I?")]}

    builder = StateGraph(State)
    builder.add_node("draft", asking(model, "7/3"))
    builder.add_node("approve", approve)
    builder.add_node("publish", asking(model, "11/4"))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "approve")
    builder.add_edge("approve", "publish")
    return builder.compile(checkpointer=checkpointer)


def test_a_pause_is_an_interrupted_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """What was called before the pause is recorded, and the run is neither completed nor failed."""
    pausing(ScriptedChat(), checkpointer=InMemorySaver()).invoke({"answers": []}, {"callbacks": [handler], **PAUSE})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3), ("approve", 5, 1)])
    assert [run.status for run in ledger.runs()] == ["interrupted"]


def test_a_pause_that_cannot_be_resumed_is_an_interrupted_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Without a checkpointer LangGraph returns the state so far and raises nothing."""
    pausing(ScriptedChat()).invoke({"answers": []}, {"callbacks": [handler]})

    assert [run.status for run in ledger.runs()] == ["interrupted"]


@pytest.mark.parametrize("native_async", [False, True], ids=["sync", "async"])
async def test_a_resumed_run_keeps_its_id(native_async: bool, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Both invocations are one run, completed in the end; the call before the pause was paid twice and counts twice."""
    graph = pausing(ScriptedChat(), checkpointer=InMemorySaver())
    config = {"callbacks": [handler], **PAUSE}

    if native_async:
        await graph.ainvoke({"answers": []}, config)
        await graph.ainvoke(Command(resume="yes"), config)
    else:
        graph.invoke({"answers": []}, config)
        graph.invoke(Command(resume="yes"), config)

    calls = list(ledger.calls())
    assert recorded(calls) == Counter([("draft", 7, 3), ("approve", 5, 1), ("approve", 5, 1), ("publish", 11, 4)])
    assert len({call.run_id for call in calls}) == 1
    assert len({call.invocation_id for call in calls}) == 2
    (run,) = ledger.runs()
    assert (run.status, run.run_id) == ("completed", calls[0].run_id)
    assert [each.status for each in ledger.runs(history=True)] == ["interrupted", "completed"]
    # draft and approve, then approve again and publish.
    assert [each.steps for each in ledger.runs(history=True)] == [2, 4]
    assert [call.attribution.step for call in calls] == [1, 2, 3, 4]


def test_resumed_by_another_handler_it_is_still_one_run(ledger: Ledger, prices: PriceBook) -> None:
    """A person's answer comes hours later, to another process: the run is found by its thread."""
    graph = pausing(ScriptedChat(), checkpointer=InMemorySaver())
    graph.invoke({"answers": []}, {"callbacks": [FinOpsHandler(ledger=ledger, prices=prices)], **PAUSE})

    later = FinOpsHandler(ledger=ledger, prices=prices)
    graph.invoke(Command(resume="yes"), {"callbacks": [later], **PAUSE})

    assert len({call.run_id for call in ledger.calls()}) == 1
    assert [run.status for run in ledger.runs()] == ["completed"]
    assert [run.steps for run in ledger.runs()] == [4]


def test_a_run_that_goes_from_worker_to_worker_is_one(ledger: Ledger, prices: PriceBook) -> None:
    """Two pauses, answered by whichever of two workers is free: what the first one remembers may be out of date."""
    first, second = (FinOpsHandler(ledger=ledger, prices=prices) for _ in range(2))
    model = ScriptedChat()

    def approve(state: State) -> State:
        model.invoke("5/1")
        return {"answers": [interrupt("may I?")]}

    builder = StateGraph(State)
    builder.add_node("approve", approve)
    builder.add_node("confirm", approve)
    builder.add_edge(START, "approve")
    builder.add_edge("approve", "confirm")
    graph = builder.compile(checkpointer=InMemorySaver())

    graph.invoke({"answers": []}, {"callbacks": [first], **PAUSE})
    graph.invoke(Command(resume="yes"), {"callbacks": [second], **PAUSE})
    graph.invoke(Command(resume="yes"), {"callbacks": [first], **PAUSE})

    assert len({call.run_id for call in ledger.calls()}) == 1
    assert [run.status for run in ledger.runs()] == ["completed"]
    assert [run.status for run in ledger.runs(history=True)] == ["interrupted", "interrupted", "completed"]
    # approve; approve and confirm; confirm.
    assert [run.steps for run in ledger.runs(history=True)] == [1, 3, 4]


def test_a_new_input_after_a_pause_is_a_new_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Somebody starts over on the thread instead of answering."""
    graph = pausing(ScriptedChat(), checkpointer=InMemorySaver())
    config = {"callbacks": [handler], **PAUSE}

    graph.invoke({"answers": []}, config)
    graph.invoke({"answers": []}, config)

    assert len(list(ledger.runs())) == 2


def test_branches_that_pause_together_are_resumed_together(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Three branches wait for three answers: one interrupted run, then one completed run, calls of both counted."""
    model = ScriptedChat()

    def branch(state: State) -> State:
        model.invoke(state["prompt"])
        return {"answers": [interrupt(state["prompt"])]}

    builder = StateGraph(State)
    builder.add_node("branch", branch)
    builder.add_conditional_edges(START, lambda _: [Send("branch", {"prompt": f"{size}/1"}) for size in (1, 2, 3)])
    graph = builder.compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], **PAUSE}

    paused = graph.invoke({"answers": []}, config)
    graph.invoke(Command(resume={each.id: "yes" for each in paused["__interrupt__"]}), config)

    assert recorded(ledger.calls()) == Counter({("branch", size, 1): 2 for size in (1, 2, 3)})
    assert [run.status for run in ledger.runs()] == ["completed"]


def test_a_pause_inside_a_subgraph_is_the_runs(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The innermost node pauses; there is one run, and it is the root's."""
    model = ScriptedChat()
    inner = pausing(model)
    builder = StateGraph(State)
    builder.add_node("desk", inner)
    builder.add_edge(START, "desk")
    graph = builder.compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], **PAUSE}

    graph.invoke({"answers": []}, config)
    graph.invoke(Command(resume="yes"), config)

    assert recorded(ledger.calls()) == Counter(
        [("desk/draft", 7, 3), ("desk/approve", 5, 1), ("desk/approve", 5, 1), ("desk/publish", 11, 4)]
    )
    assert [run.status for run in ledger.runs()] == ["completed"]
    assert [run.status for run in ledger.runs(history=True)] == ["interrupted", "completed"]


def test_a_failed_run_is_continued_as_the_same_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`invoke(None)` goes on where a run failed: the same logical run, completed at last."""
    model, failures = ScriptedChat(), [ValueError("SECRET")]

    def check(state: State) -> State:
        if failures:
            raise failures.pop()
        return {"answers": []}

    builder = StateGraph(State)
    builder.add_node("draft", asking(model, "7/3"))
    builder.add_node("check", check)
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "check")
    graph = builder.compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], **PAUSE}

    with pytest.raises(ValueError, match="SECRET"):
        graph.invoke({"answers": []}, config)
    graph.invoke(None, config)

    assert [run.status for run in ledger.runs()] == ["completed"]
    assert [run.status for run in ledger.runs(history=True)] == ["failed", "completed"]
    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
