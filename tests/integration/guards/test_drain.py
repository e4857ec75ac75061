"""`on_exceed="drain"`: what runs finishes, the run ends resumable, and going on repeats no call."""

import asyncio
from typing import Any

import pytest
from guarded_scenes import CENT, FITS_THREE, State, asking, cents, line, looping, statuses
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import START, StateGraph
from scripted_models import Reply, ScriptedChat

from langchain_finops import Budget, Ledger, stopped


def drains(usd: str = FITS_THREE, scope: str = "run") -> Budget:
    return Budget(usd=usd, scope=scope, on_exceed="drain")


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_a_run_drains_in_the_middle_and_goes_on(scope: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Three calls are kept; with a larger limit `invoke(None)` makes the other five and none again."""
    model, saver = cents(), InMemorySaver()
    graph = looping(asking(model), rounds=8, checkpointer=saver)

    with pytest.raises(GraphDrained) as caught:
        play(graph, {"said": []}, guarded(drains(scope=scope)), thread="t")
    assert model.calls == 3
    stop = stopped(caught.value)
    assert stop is not None
    assert (stop.reason, stop.budget) == ("drained", drains(scope=scope).label)
    assert len(saver.get_tuple({"configurable": {"thread_id": "t"}}).checkpoint["channel_values"]["said"]) == 3  # type: ignore[union-attr]
    assert statuses(ledger)[0][0] == "stopped"

    result = play(graph, None, guarded(drains("1", scope)), thread="t")
    assert model.calls == len(result["said"]) == 8
    assert len({run.run_id for run in ledger.runs()}) == 1
    assert statuses(ledger) == [("completed", None)]


def test_going_on_under_the_same_limit_makes_no_call(guarded: Any, play: Any) -> None:
    """The drained run carries its spend over: the next try drains at once."""
    model = cents()
    graph = looping(asking(model), rounds=8, checkpointer=InMemorySaver())

    with pytest.raises(GraphDrained):
        play(graph, {"said": []}, guarded(drains()), thread="t")
    with pytest.raises(GraphDrained):
        play(graph, None, guarded(drains()), thread="t")
    assert model.calls == 3


def test_a_run_that_spends_all_on_its_last_node_completes(guarded: Any, play: Any, ledger: Ledger) -> None:
    """At the last node there is nothing left to drain."""
    model = cents()

    result = play(line({name: asking(model) for name in "abc"}), {"said": []}, guarded(drains("0.0301")))

    assert model.calls == len(result["said"]) == 3
    assert stopped(result) is None
    assert statuses(ledger) == [("completed", None)]


def test_a_refusal_on_the_last_node_drains_before_it(guarded: Any, play: Any, ledger: Ledger) -> None:
    """The last node's call is refused: the run is stopped, not completed, and what was said before is kept."""
    model, saver = cents(), InMemorySaver()
    graph = line({name: asking(model) for name in "abcd"}, checkpointer=saver)

    with pytest.raises(GraphDrained):
        play(graph, {"said": []}, guarded(drains()), thread="t")
    assert model.calls == 3
    assert statuses(ledger)[0][0] == "stopped"
    result = play(graph, None, guarded(drains("1")), thread="t")
    assert model.calls == len(result["said"]) == 4


def test_a_node_that_swallows_the_drain_is_the_last(guarded: Any, play: Any) -> None:
    """With `except Exception` around it the superstep ends, and so does the run."""
    model = cents()
    graph = looping(asking(model, swallow=True), rounds=50)

    with pytest.raises(GraphDrained):
        play(graph, {"said": []}, guarded(drains()))
    assert model.calls == 3


def test_parallel_branches_finish_their_superstep(guarded: Any, play: Any) -> None:
    """Three of five branches fit; their answers are kept, and only the other two are asked again."""
    model, saver = cents(), InMemorySaver()
    builder = StateGraph(State)
    for number in range(5):
        builder.add_node(f"b{number}", asking(model, f"b{number}"))
        builder.add_edge(START, f"b{number}")
    graph = builder.compile(checkpointer=saver)

    with pytest.raises(GraphDrained):
        play(graph, {"said": []}, guarded(drains()), thread="t")
    assert model.calls == 3
    result = play(graph, None, guarded(drains("1")), thread="t")
    assert len(result["said"]) == 5
    assert model.calls == 5


def test_a_subgraph_drains_its_parents_too(guarded: Any, play: Any) -> None:
    """Refused two graphs deep: the outer graph ends as well, resumable."""
    model = cents()
    inner = line({"x": asking(model), "y": asking(model)})
    graph = line({"a": asking(model), "deep": inner, "z": asking(model)}, checkpointer=InMemorySaver())

    with pytest.raises(GraphDrained):
        play(graph, {"said": []}, guarded(drains("0.025")), thread="t")
    assert model.calls == 2
    result = play(graph, None, guarded(drains("1")), thread="t")
    assert model.calls == 4
    assert "answer 3" in result["said"]


def test_an_agent_drains(guarded: Any, play: Any) -> None:
    """A `create_agent` ends between its supersteps, and goes on where it was."""
    model = ScriptedChat(
        script=lambda _p, call: Reply(
            text="done", usage=CENT, tool_calls=[("look", {"place": f"p{call}"})] if call < 4 else []
        )
    )
    looked: list[str] = []

    def look(place: str) -> str:
        """Look there."""
        looked.append(place)
        return "nothing"

    agent = create_agent(model, [look], checkpointer=InMemorySaver())
    with pytest.raises(GraphDrained):
        play(agent, {"messages": [HumanMessage("go")]}, guarded(drains()), thread="t")
    assert model.calls == 3
    result = play(agent, None, guarded(drains("1")), thread="t")
    assert result["messages"][-1].text == "done"
    assert (model.calls, looked) == (5, [f"p{n}" for n in range(4)])


@pytest.mark.usefixtures("other_handlers")
def test_a_stream_drains(guarded: Any) -> None:
    """`astream` gives what was done, then GraphDrained."""
    model, seen = cents(), []
    graph = looping(asking(model), rounds=8)

    async def consume() -> None:
        async for chunk in graph.astream({"said": []}, {"callbacks": [guarded(drains())]}, stream_mode="updates"):
            seen.append(chunk)  # noqa: PERF401  A comprehension would lose what came before the drain.

    with pytest.raises(GraphDrained):
        asyncio.run(consume())
    assert len(seen) == model.calls == 3


def test_two_words_at_two_limits(guarded: Any, play: Any) -> None:
    """A budget that drains at two cents, in a run with one that raises at three: the first to be met decides."""
    model = cents()
    with pytest.raises(GraphDrained):
        play(looping(asking(model)), {"said": []}, guarded(Budget(usd="0.035"), drains("0.025", "agent_id")))
    assert model.calls == 2
