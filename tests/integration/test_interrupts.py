"""Pauses and resumes: one logical run, an invocation each, and every call that was made."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from graphs import State, asking, graph_of, recorded
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from scripted_models import ScriptedChat

from langchain_finops import FinOpsHandler, Ledger, PriceBook
from langchain_finops.records import Attribution, RunRecord

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


@pytest.mark.parametrize("same_handler", [True, False])
def test_what_else_is_done_for_a_thread_does_not_hide_its_pause(
    same_handler: bool, ledger: Ledger, prices: PriceBook
) -> None:
    """While a person thinks, the server names the conversation: a call, and another graph, of the same thread."""
    first = FinOpsHandler(ledger=ledger, prices=prices)
    second = first if same_handler else FinOpsHandler(ledger=ledger, prices=prices)
    graph = pausing(ScriptedChat(), checkpointer=InMemorySaver())

    graph.invoke({"answers": []}, {"callbacks": [first], **PAUSE})
    elsewhere: Any = {"callbacks": [first], "metadata": {"thread_id": "th-1"}}
    ScriptedChat().invoke("1/1", elsewhere)
    graph_of({"title": asking(ScriptedChat(), "1/1")}, name="titles").invoke({"answers": []}, elsewhere)
    graph.invoke(Command(resume="yes"), {"callbacks": [second], **PAUSE})

    assert Counter((run.name, run.status) for run in ledger.runs()) == {
        ("LangGraph", "completed"): 1,
        ("ScriptedChat", "completed"): 1,
        ("titles", "completed"): 1,
    }


@pytest.mark.parametrize("paused_days_ago", [0, 2, 90])
def test_a_resume_reads_no_long_history(paused_days_ago: int, ledger: Ledger, prices: PriceBook) -> None:
    """A thread of hundreds of runs is not read run by run while the user waits, but an old pause is still found."""
    now = datetime.now(UTC)

    def run(number: int, status: Any, age: timedelta) -> RunRecord:
        return RunRecord(
            run_id=f"r{number}", invocation_id=f"r{number}", attribution=Attribution(thread_id="th-1"),
            name="LangGraph", status=status, started_at=now - age, ended_at=now - age, steps=1,
        )  # fmt: skip

    ledger.write(*(run(number, "completed", timedelta(days=100 + number)) for number in range(300)))
    ledger.write(run(300, "interrupted", timedelta(days=paused_days_ago)))
    read: list[RunRecord] = []
    runs = ledger.runs

    def counted(**filters: Any) -> Any:
        for each in runs(**filters):
            read.append(each)
            yield each

    ledger.runs = counted  # type: ignore[method-assign,assignment]
    handler = FinOpsHandler(ledger=ledger, prices=prices)
    RunnableLambda(lambda _: None, name="LangGraph").invoke(
        Command(resume="yes"), {"callbacks": [handler], "metadata": {"thread_id": "th-1"}}
    )

    assert [each.run_id for each in runs() if each.status == "interrupted"] == []
    assert len(read) == (1 if paused_days_ago < 30 else 301)


def test_a_root_that_answers_its_own_graph_is_completed(handler: FinOpsHandler, ledger: Ledger) -> None:
    """It asked, somebody answered, the graph ended: nothing is left to wait for."""
    graph = pausing(ScriptedChat(), checkpointer=InMemorySaver())

    def root(resumed: bool, config: RunnableConfig) -> None:
        inner: Any = {**config, **PAUSE}
        graph.invoke({"answers": []}, inner)
        RunnableLambda(lambda _: None, name="unrelated").invoke(None)
        if resumed:
            graph.invoke(Command(resume="yes"), inner)

    for resumed in (True, False):
        RunnableLambda(root, name="root").invoke(resumed, {"callbacks": [handler]})

    assert sorted(run.status for run in ledger.runs()) == ["completed", "interrupted"]


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
