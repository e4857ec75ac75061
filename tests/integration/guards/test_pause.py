"""A limit that asks a person: what is paid stays paid, answers go where they belong, and a resumed run is the same."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from guarded_scenes import CENT, FITS_THREE, State, asking, both, cents, ending, line, looping, statuses
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from scripted_models import Reply, ScriptedChat

from langchain_finops import Budget, BudgetExceeded, CallRefused, Ledger, stopped
from langchain_finops.langchain import answers

SCOPES = ["run", "agent_id"]


def asks(scope: str = "run", usd: str = FITS_THREE, **more: Any) -> Budget:
    return Budget(usd=usd, scope=scope, on_exceed="interrupt", **more)


@pytest.mark.parametrize("scope", SCOPES)
def test_more_money_goes_on_and_nothing_is_paid_twice(scope: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Three calls, a question, $0.02 more: two calls, a question again, $1: the rest. Eight calls for eight rounds."""
    model, handler = cents(), guarded(asks(scope))
    graph = looping(asking(model), rounds=8, checkpointer=InMemorySaver())

    first = play(graph, {"said": []}, handler, thread="t")
    assert model.calls == 3
    stop = stopped(first)
    assert stop is not None
    assert (stop.budget, stop.node_path, len(first["said"])) == (asks(scope).label, "agent", 3)

    second = play(graph, Command(resume={"approve": True, "usd": 0.02}), handler, thread="t")
    assert model.calls == 5
    assert stopped(second) is not None

    third = play(graph, Command(resume={"approve": True, "usd": 1.0}), handler, thread="t")
    assert stopped(third) is None
    assert model.calls == len(third["said"]) == 8
    assert statuses(ledger) == [("completed", None)]
    assert len(list(ledger.events(action="approve"))) == 2


@pytest.mark.parametrize("answer", [{"approve": False}, {"approve": False, "by": "ada"}])
def test_no_ends_the_run_and_stays_no(answer: Any, guarded: Any, play: Any, ledger: Ledger) -> None:
    """After a no nothing is asked and nothing is called, however often it is resumed."""
    model, handler = cents(), guarded(asks())
    graph = looping(asking(model), checkpointer=InMemorySaver())

    play(graph, {"said": []}, handler, thread="t")
    refusals = [ending(play, graph, Command(resume=answer), handler, thread="t")]
    refusals.append(ending(play, graph, None, handler, thread="t"))

    assert model.calls == 3
    assert isinstance(refusals[0], BudgetExceeded)
    assert statuses(ledger)[0] == ("stopped", f"budget:{asks().label}")


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        True,
        {"approve": "yes"},
        {"approve": True, "usd": -1},
        {"approve": True, "usd": "a lot"},
        {"approve": True, "dollars": 1},
        ["approve"],
        {},
    ],
)
def test_anything_else_asks_again(answer: Any, guarded: Any, play: Any) -> None:
    """An answer that is not understood raises no limit and ends nothing."""
    model, handler = cents(), guarded(asks())
    graph = looping(asking(model), rounds=4, checkpointer=InMemorySaver())

    first = play(graph, {"said": []}, handler, thread="t")
    again = play(graph, Command(resume=answer), handler, thread="t")
    assert model.calls == 3
    assert stopped(again) is not None
    done = play(graph, Command(resume=answers(again, {"approve": True})), handler, thread="t")
    assert (model.calls, stopped(done)) == (4, None)
    assert stopped(first) is not None


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_the_users_own_question_in_the_same_node_gets_its_own_answer(order: str, guarded: Any, play: Any) -> None:
    """Ours comes before or after the user's `interrupt()`: each is asked, and each answer goes where it belongs."""
    model, heard = cents(), []
    own = interrupt

    def node(state: State) -> State:
        if order == "theirs first":
            heard.append(own("which colour?"))
        said = model.invoke("go").text
        if order == "ours first":
            heard.append(own("which colour?"))
        return {"said": [said]}

    async def anode(state: State) -> State:
        if order == "theirs first":
            heard.append(own("which colour?"))
        said = (await model.ainvoke("go")).text
        if order == "ours first":
            heard.append(own("which colour?"))
        return {"said": [said]}

    graph = line({"a": asking(model), "b": both(node, anode)}, checkpointer=InMemorySaver())
    handler = guarded(asks(usd="0.015"))

    result = play(graph, {"said": []}, handler, thread="t")
    if order == "theirs first":
        assert stopped(result) is None
        assert result["__interrupt__"][0].value == "which colour?"
        result = play(graph, Command(resume="blue"), handler, thread="t")
    assert stopped(result) is not None
    result = play(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="t")
    if order == "ours first":
        assert stopped(result) is None
        assert result["__interrupt__"][0].value == "which colour?"
        result = play(graph, Command(resume="blue"), handler, thread="t")

    assert "__interrupt__" not in result
    assert set(heard) == {"blue"}


@pytest.mark.parametrize("by_id", [False, True])
def test_a_no_holds_where_there_is_room_again(by_id: bool, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Somebody raised the agent's limit while the question waited: it would fit, and the person said no."""
    model = cents()
    graph = looping(asking(model), checkpointer=InMemorySaver())

    result = play(graph, {"said": []}, guarded(asks("agent_id")), thread="t")
    no = {"approve": False, "by": "ada"}
    resume = Command(resume=answers(result, no) if by_id else no)
    refusal = ending(play, graph, resume, guarded(asks("agent_id", "1")), thread="t")

    assert isinstance(refusal, BudgetExceeded)
    assert "denied by ada" in str(refusal)
    assert model.calls == 3
    assert statuses(ledger) == [("stopped", f"budget:{asks('agent_id').label}")]
    assert len(list(ledger.events(action="deny"))) == 1


def waiting_branches(model: Any, count: int, **options: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("first", asking(model, "first"))
    builder.add_edge(START, "first")
    for number in range(count):
        builder.add_node(f"b{number}", asking(model, f"b{number}"))
        builder.add_edge("first", f"b{number}")
    return builder.compile(**options)


def test_parallel_branches_are_answered_by_the_helper(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Two of five fit; the others wait side by side, each with a question of its own; one map answers all."""
    model, handler = cents(), guarded(asks())
    graph = waiting_branches(model, 5, checkpointer=InMemorySaver())

    result = play(graph, {"said": []}, handler, thread="t")
    assert model.calls == 3
    stop = stopped(result)
    assert stop is not None
    assert len(stop.interrupts) == 3
    result = play(graph, Command(resume=answers(result, {"approve": True, "usd": 1})), handler, thread="t")

    assert stopped(result) is None
    assert model.calls == len(result["said"]) == 6
    assert statuses(ledger) == [("completed", None)]


@pytest.mark.parametrize("denied", [0, 1, 2])
def test_one_no_among_several_answers_ends_the_run(denied: int, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Whichever of the branches it is for: a yes beside it buys nothing."""
    model, handler = cents(), guarded(asks())
    graph = waiting_branches(model, 5, checkpointer=InMemorySaver())

    result = play(graph, {"said": []}, handler, thread="t")
    said = {each: {"approve": True, "usd": 1} for each in answers(result, {"approve": True})}
    said[list(said)[denied]] = {"approve": False}
    refusal = ending(play, graph, Command(resume=said), handler, thread="t")

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3
    assert statuses(ledger) == [("stopped", f"budget:{asks().label}")]


def test_a_question_inside_a_subgraph_reaches_the_outside(guarded: Any, play: Any) -> None:
    """Asked two graphs deep, answered at the root."""
    model, handler = cents(), guarded(asks(usd="0.015"))
    inner = line({"search": asking(model, "inner one"), "read": asking(model, "inner two")})
    graph = line({"middle": line({"deep": inner}), "after": asking(model)}, checkpointer=InMemorySaver())

    result = play(graph, {"said": []}, handler, thread="t")
    stop = stopped(result)
    assert stop is not None
    assert stop.node_path == "middle/deep/read"
    result = play(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="t")

    assert stopped(result) is None
    assert model.calls == 3


def agent_of(model: Any, tools: list[Any], **options: Any) -> Any:
    return create_agent(model, tools, **options)


def wants(name: str, rounds: int, **arguments: Any) -> ScriptedChat:
    """A model that wants a tool so many times, and then answers."""
    return ScriptedChat(
        script=lambda _p, call: Reply(
            text="done" if call >= rounds else "",
            usage=CENT,
            tool_calls=[(name, {**arguments, "place": f"p{call}"})] if call < rounds else [],
        )
    )


def test_an_agent_pauses_and_goes_on_without_repeating_its_tools(guarded: Any, play: Any) -> None:
    """A `create_agent` waits at its model; after a yes it goes on, and no tool has run twice."""
    looked: list[str] = []

    def look(place: str) -> str:
        """Look there."""
        looked.append(place)
        return "nothing"

    model, handler = wants("look", 5), guarded(asks())
    agent = agent_of(model, [look], checkpointer=InMemorySaver())

    result = play(agent, {"messages": [HumanMessage("go")]}, handler, thread="t")
    assert model.calls == 3
    assert stopped(result) is not None
    result = play(agent, Command(resume={"approve": True, "usd": 1}), handler, thread="t")

    assert result["messages"][-1].text == "done"
    assert model.calls == 6
    assert looked == [f"p{n}" for n in range(5)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_workflow_keeps_its_finished_tasks(is_async: bool, guarded: Any) -> None:
    """`@task`: those that are done are not paid again after the pause."""
    model, handler = cents(), guarded(asks())
    config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t"}}

    @task
    def step(n: int) -> str:
        return str(model.invoke(f"p{n}").text)

    @task
    async def astep(n: int) -> str:
        return str((await model.ainvoke(f"p{n}")).text)

    @entrypoint(checkpointer=InMemorySaver())
    def flow(rounds: int) -> list[str]:
        return [step(n).result() for n in range(rounds)]

    @entrypoint(checkpointer=InMemorySaver())
    async def aflow(rounds: int) -> list[str]:
        return [await astep(n) for n in range(rounds)]

    def go(state: Any) -> Any:
        return asyncio.run(aflow.ainvoke(state, config)) if is_async else flow.invoke(state, config)

    result = go(5)
    assert model.calls == 3
    assert stopped(result) is not None
    result = go(Command(resume={"approve": True, "usd": 1}))
    assert len(result) == 5
    assert model.calls == 5


def test_an_agent_as_a_tool_asks_from_inside(guarded: Any, play: Any) -> None:
    """The inner agent's question reaches the outer caller; the answer finds its way back."""
    inner_model = wants("look", 1)

    def look(place: str) -> str:
        """Look there."""
        return f"nothing at {place}"

    inner = agent_of(inner_model, [look], name="inner")

    def delegate(place: str) -> str:
        """Have another look."""
        return str(inner.invoke({"messages": [HumanMessage(place)]})["messages"][-1].text)

    async def adelegate(place: str) -> str:
        return str((await inner.ainvoke({"messages": [HumanMessage(place)]}))["messages"][-1].text)

    outer_model, handler = wants("delegate", 1), guarded(asks(usd="0.015"))
    tool = StructuredTool.from_function(delegate, coroutine=adelegate)
    outer = agent_of(outer_model, [tool], checkpointer=InMemorySaver())

    result = play(outer, {"messages": [HumanMessage("go")]}, handler, thread="t")
    assert (outer_model.calls, inner_model.calls) == (1, 0)
    assert stopped(result) is not None
    result = play(outer, Command(resume={"approve": True, "usd": 1}), handler, thread="t")

    assert result["messages"][-1].text == "done"
    assert (outer_model.calls, inner_model.calls) == (2, 2)


def test_without_a_checkpointer_it_is_the_graceful_stop(guarded: Any, play: Any, ledger: Ledger) -> None:
    """The best state so far comes back, with no exception, and `stopped` says why."""
    model, budget = cents(), asks()

    result = play(looping(asking(model)), {"said": []}, guarded(budget))

    stop = stopped(result)
    assert stop is not None
    assert (stop.reason, stop.budget, stop.interrupts != ()) == (f"budget:{budget.label}", budget.label, True)
    assert result["said"] == ["answer 0", "answer 1", "answer 2"]
    assert [status for status, _ in statuses(ledger)] in (["stopped"], ["interrupted"])


def test_outside_a_graph_there_is_nobody_to_ask(guarded: Any) -> None:
    """A bare model under an asking budget is refused by exception."""
    model, handler = cents(), guarded(asks("agent_id"))

    for n in range(3):
        model.invoke(f"p{n}", {"callbacks": [handler]})
    with pytest.raises(CallRefused):
        model.invoke("p3", {"callbacks": [handler]})
    assert model.calls == 3


def test_new_input_is_a_new_run(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Input on a thread whose run waits begins anew, with a run budget of its own."""
    model, handler = cents(), guarded(asks())
    graph = line({"a": asking(model, "a"), "b": asking(model, "b")}, checkpointer=InMemorySaver())

    for _ in range(3):
        assert stopped(play(graph, {"said": []}, handler, thread="t")) is None
    assert model.calls == 6
    assert len({run.run_id for run in ledger.runs()}) == 3


def test_the_users_own_pause_does_not_refill_the_budget(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Paused by the user's `interrupt()` after two calls: the resumed run has room for one more, in another handler."""
    model = cents()

    def ask(state: State) -> State:
        return {"said": [interrupt("go on?")]}

    graph = line(
        {"a": asking(model), "b": asking(model), "ask": both(ask, _later(ask)), "c": asking(model), "d": asking(model)},
        checkpointer=InMemorySaver(),
    )
    budget = Budget(usd=FITS_THREE)

    assert stopped(play(graph, {"said": []}, guarded(budget), thread="t")) is None
    refusal = ending(play, graph, Command(resume="yes"), guarded(budget), thread="t")

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3
    assert len({run.run_id for run in ledger.runs()}) == 1


def _later(function: Any) -> Any:
    async def run(state: State) -> Any:
        return function(state)

    return run


def test_steps_ask_before_the_node_begins(guarded: Any, play: Any) -> None:
    """`Budget(steps=2, on_exceed="interrupt")`: the third node waits; its body has not run."""
    ran: list[str] = []

    def node(name: str) -> Any:
        def run(state: State) -> State:
            ran.append(name)
            return {"said": [name]}

        return both(run, _later(run))

    graph = line({name: node(name) for name in "abcd"}, checkpointer=InMemorySaver())
    handler = guarded(Budget(steps=2, on_exceed="interrupt"))

    result = play(graph, {"said": []}, handler, thread="t")
    assert ran == ["a", "b"]
    assert stopped(result) is not None
    result = play(graph, Command(resume={"approve": True, "steps": 5}), handler, thread="t")
    assert stopped(result) is None
    assert ran == ["a", "b", "c", "d"]


RESUMER = """
import asyncio, pickle, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from guarded_scenes import asking, cents, looping
from langchain_finops import Budget, FinOpsHandler, PriceBook, stopped
from langchain_finops.pricing import parse_cards
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

folder, words, is_async = Path({folder!r}), {words!r}, {is_async!r}
saver, kept = InMemorySaver(), folder / "checkpoints"
if kept.exists():  # What a checkpointer on disk does.
    storage, writes, blobs = pickle.loads(kept.read_bytes())
    for thread, spaces in storage.items():
        for space, checkpoints in spaces.items():
            saver.storage[thread][space] = checkpoints
    saver.writes.update(writes)
    saver.blobs.update(blobs)
rates = {{"input_tokens": "2", "output_tokens": "10"}}
cards = [{{"id": "scripted", "match": {{"model": "scripted*"}}, "rates": rates}}]
model = cents()
graph = looping(asking(model), rounds=8, checkpointer=saver)
handler = FinOpsHandler(
    budgets=[Budget(usd="0.035", scope={scope!r}, on_exceed="interrupt")], ledger=folder / "ledger.db",
    prices=PriceBook(cards=parse_cards(cards, where="test"), catalog=False), agent_id="support",
)
state = {{"said": []}} if words is None else Command(resume=words)
config = {{"callbacks": [handler], "configurable": {{"thread_id": "t"}}}}
try:
    result = asyncio.run(graph.ainvoke(state, config)) if is_async else graph.invoke(state, config)
    print(model.calls, "asks" if stopped(result) else "done", len({{run.run_id for run in handler.ledger.runs()}}))
except Exception as error:
    print(model.calls, type(error).__name__, len({{run.run_id for run in handler.ledger.runs()}}))
plain = {{t: {{s: dict(c) for s, c in spaces.items()}} for t, spaces in saver.storage.items()}}
kept.write_bytes(pickle.dumps((plain, {{k: dict(v) for k, v in saver.writes.items()}}, dict(saver.blobs))))
"""


@pytest.mark.parametrize(("is_async", "scope"), [(False, "run"), (True, "agent_id")])
def test_another_process_goes_on_with_the_same_run(is_async: bool, scope: str, tmp_path: Path) -> None:
    """Three calls here; with two cents more two there; asked again; a no in a third process ends it."""

    def process(words: Any) -> list[str]:
        here = Path(__file__).parent
        code = RESUMER.format(
            paths=[str(here), str(here.parent)], folder=str(tmp_path), words=words, is_async=is_async, scope=scope
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
        assert done.stdout, done.stderr
        return done.stdout.split()

    assert process(None) == ["3", "asks", "1"]
    assert process({"approve": True, "usd": "0.02"}) == ["2", "asks", "1"]
    assert process({"approve": False}) == ["0", "BudgetExceeded", "1"]
