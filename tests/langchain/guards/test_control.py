"""The private keys of LangGraph that pausing stands on: a new version that renames one fails here first, and loudly."""

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained, GraphInterrupt
from langgraph.func import entrypoint, task
from langgraph.types import Command, Interrupt, interrupt
from limited_graphs import Paid, State, asking, fan_out, line

from langchain_finops.langchain import control
from langchain_finops.langchain.control import Questions, read_answer


class Looking(BaseCallbackHandler):
    """Notes what is found where calls, tools and nodes begin."""

    raise_error = True
    run_inline = True

    def __init__(self, pause_at: str | None = None) -> None:
        self.found: list[tuple[str, Any]] = []
        self.answers: list[Any] = []
        self.steps: dict[str, int | None] = {}
        self.pause_at = pause_at

    def _look(self, kind: str, metadata: dict[str, Any] | None) -> Any:
        namespace = (metadata or {}).get("langgraph_checkpoint_ns")
        if not namespace:
            return None
        configurable = control.task_config(namespace)
        self.found.append((kind, configurable))
        self.steps[namespace] = control.superstep(metadata or {})
        return configurable

    def on_chain_start(self, *_: Any, metadata: Any = None, **fields: Any) -> None:
        name = fields.get("name")
        if name == (metadata or {}).get("langgraph_node"):
            configurable = self._look("node", metadata)
            if name == self.pause_at and configurable is not None:
                answer = (configurable.get(control.RESUME_MAP) or {}).get("a" * 32)
                answer = answer or configurable[control.SCRATCHPAD].get_null_resume(consume=True)
                self.answers.append(answer)
                if answer is None:
                    raise GraphInterrupt((Interrupt(value="ours", id="a" * 32),))

    def on_chat_model_start(self, *_: Any, metadata: Any = None, **__: Any) -> None:
        self._look("call", metadata)


@pytest.mark.parametrize("checkpointer", [None, InMemorySaver()])
def test_the_tasks_configuration_is_found_where_calls_and_nodes_begin(checkpointer: Any, run: Any) -> None:
    """At the root and in a subgraph; it has the scratchpad, and says whether there is a checkpointer."""
    looking = Looking()
    graph = line(asking(Paid(), "hi"), line(asking(Paid(), "hi")), checkpointer=checkpointer)

    run(graph, {"said": []}, looking, thread="t")

    assert [kind for kind, _ in looking.found if kind == "call"] == ["call"] * 2
    assert len(looking.found) >= 5
    for _, configurable in looking.found:
        assert configurable is not None
        assert callable(configurable[control.SCRATCHPAD].get_null_resume)
        assert control.resumable(configurable) == (checkpointer is not None)


@pytest.mark.parametrize("by_id", [False, True])
def test_an_answer_is_found_where_a_node_begins_and_taken_from_the_users_question(by_id: bool, run: Any) -> None:
    """With an id it is in the resume map, without one in the scratchpad, once."""
    looking = Looking(pause_at="b")
    graph = line(lambda _: {}, lambda _: {"said": [interrupt("own?")]}, checkpointer=InMemorySaver())

    result = run(graph, {"said": []}, looking, thread="t")
    assert [each.value for each in result["__interrupt__"]] == ["ours"]
    result = run(graph, Command(resume={"a" * 32: "yes"} if by_id else "yes"), looking, thread="t")

    assert looking.answers == [None, "yes"]
    assert [each.value for each in result["__interrupt__"]] == ["own?"]


def test_a_superstep_is_told_of_nodes_and_branches_and_not_of_tasks() -> None:
    """Tasks of one entrypoint run in one superstep, one after the other or not."""
    looking = Looking()

    @task
    def double(number: int) -> int:
        return number * 2

    @entrypoint()
    def workflow(_: object) -> int:
        return double(double(1).result()).result()

    line(lambda _: {}, lambda _: {}).invoke({"said": []}, {"callbacks": [looking]})
    fan_out(lambda _: {}, 2).invoke({}, {"callbacks": [looking]})
    nodes = [step for namespace, step in looking.steps.items() if "__start__" not in namespace]
    assert nodes == [1, 2, 1, 1]
    looking.steps.clear()
    workflow.invoke("", {"callbacks": [looking]})

    steps = {namespace.rpartition("|")[2].partition(":")[0]: step for namespace, step in looking.steps.items()}
    assert steps["workflow"] is not None
    assert steps["double"] is None


def test_a_bubble_up_saves_what_ran_beside_it_and_cancels_nobody(run: Any) -> None:
    """A drain that one branch raises leaves the others' writes, and only that branch runs again."""

    def node(state: State) -> State:
        if state["prompt"] == "p1" and refusing:
            raise GraphDrained("x")
        ran.append(state["prompt"])
        return {"said": [state["prompt"]]}

    refusing, ran = [True], list[str]()
    graph = fan_out(RunnableLambda(node), 3, checkpointer=InMemorySaver())
    with pytest.raises(GraphDrained):
        run(graph, {}, thread="t")
    assert sorted(ran) == ["p0", "p2"]
    refusing.clear()
    run(graph, None, thread="t")

    assert sorted(ran) == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    ("answer", "approve", "amount"),
    [
        ({"approve": True}, True, None),
        ({"approve": True, "usd": "0.5"}, True, "0.5"),
        ({"approve": True, "usd": 0.5, "by": "ada"}, True, "0.5"),
        ({"approve": False, "usd": 5}, False, None),
        ({"approve": True, "usd": 0}, None, None),
        ({"approve": True, "usd": "much"}, None, None),
        ({"approve": True, "usd": None}, None, None),
        ({"approve": True, "steps": 3}, None, None),
        ({"approve": 1}, None, None),
        ({}, None, None),
        ("yes", None, None),
        (None, None, None),
    ],
)
def test_answers_are_read_or_not_at_all(answer: Any, approve: bool | None, amount: str | None) -> None:
    """What is not understood is neither yes nor no, whatever is in it."""
    read = read_answer(answer, "usd")

    assert read.approve is approve
    assert (None if read.amount is None else str(read.amount)) == amount


def test_each_question_has_an_id_of_its_own() -> None:
    """By place, by budget, and by how many answers came before: an answer sent twice counts once."""
    questions = Questions()
    ids = {questions.id_of(questions.place(namespace, budget)) for namespace in "ab" for budget in ("x", "y")}
    assert len(ids) == 4
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)

    place = questions.place("a", "x")
    first = questions.id_of(place)
    given: Any = {control.RESUME_MAP: {first: {"approve": True}}}
    assert questions.take_answer(place, given, "usd") is not None
    assert questions.id_of(place) != first
    questions.waiting = frozenset()
    assert questions.take_answer(place, given, "usd") is None
