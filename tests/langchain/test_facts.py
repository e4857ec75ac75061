"""Facts of LangChain and LangGraph that the handler stands on: a new version that breaks one is noticed here."""

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from langchain_finops.langchain.attribution import node_path

Make = Callable[..., Any]


class State(TypedDict, total=False):
    n: int


class Events(BaseCallbackHandler):
    """Notes each event's kind, name, id, parent, metadata and tags."""

    run_inline = True

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def _note(self, kind: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        self.seen.append({**fields, "kind": kind, "args": args})

    def on_chain_start(self, *args: Any, **fields: Any) -> None:
        self._note("chain start", args, fields)

    def on_chain_end(self, *args: Any, **fields: Any) -> None:
        self._note("chain end", args, fields)

    def on_chain_error(self, *args: Any, **fields: Any) -> None:
        self._note("chain error", args, fields)

    def on_chat_model_start(self, *args: Any, **fields: Any) -> None:
        self._note("model start", args, {**fields, "context": var_child_runnable_config.get()})

    def on_llm_end(self, *args: Any, **fields: Any) -> None:
        self._note("model end", args, fields)

    def on_llm_error(self, *args: Any, **fields: Any) -> None:
        self._note("model error", args, fields)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.seen if event["kind"] == kind]


def graph_of(node: Any, **options: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("node", node, **options)
    builder.add_edge(START, "node")
    return builder


def test_a_nodes_start_has_its_name_and_a_namespace_that_its_calls_share(model: Make) -> None:
    """By these a node is told from its router, and a call is put into its node."""
    events = Events()
    builder = graph_of(lambda _: model().invoke("hi") and {})
    builder.add_conditional_edges("node", lambda _: "__end__")

    builder.compile().invoke({}, {"callbacks": [events]})

    of_node = [each for each in events.of("chain start") if each["metadata"].get("langgraph_node") == "node"]
    router = of_node[1]
    assert [each["name"] == "node" for each in of_node] == [True, False]
    assert router["parent_run_id"] == of_node[0]["run_id"]
    (call,) = events.of("model start")
    namespaces = {each["metadata"]["langgraph_checkpoint_ns"] for each in [*of_node, call]}
    assert len(namespaces) == 1
    assert node_path(namespaces.pop()) == "node"


def test_namespaces_nest_as_nodes_do(model: Make) -> None:
    """Subgraphs, a second subgraph in one node, tasks: the path is the names in it, numbers left out."""
    events = Events()
    inner = graph_of(lambda _: model().invoke("hi") and {}).compile()

    def twice(_: State) -> State:
        inner.invoke({})
        inner.invoke({})
        return {}

    @task
    def ask() -> str:
        return str(model().invoke("hi").text)

    @entrypoint()
    def workflow(_: object) -> str:
        return ask().result()

    graph_of(twice).compile().invoke({}, {"callbacks": [events]})
    workflow.invoke("", {"callbacks": [events]})

    paths = [node_path(each["metadata"]["langgraph_checkpoint_ns"]) for each in events.of("model start")]
    assert paths == ["node/node", "node/node", "workflow/ask"]


def test_a_retried_node_starts_again_under_the_same_namespace() -> None:
    """That is how attempts are counted."""
    events, tries = Events(), []

    def fails_once(_: State) -> State:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return {}

    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=2)
    graph_of(fails_once, retry_policy=policy).compile().invoke({}, {"callbacks": [events]})

    starts = [each for each in events.of("chain start") if each["name"] == "node"]
    assert len(starts) == 2
    assert len({each["metadata"]["langgraph_checkpoint_ns"] for each in starts}) == 1


def test_with_retry_tags_later_tries() -> None:
    """`retry:attempt:N`, from the second on."""
    from langchain_core.runnables import RunnableLambda

    events, tries = Events(), []

    def fails_once(_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError

    RunnableLambda(fails_once).with_retry(wait_exponential_jitter=False).invoke("", {"callbacks": [events]})

    starts = [each["tags"] for each in events.of("chain start") if each["parent_run_id"]]
    assert starts == [[], ["retry:attempt:2"]]


def test_a_pause_is_told_by_its_node_and_a_resume_by_its_input() -> None:
    """The root of a run that pauses ends well; the root of one that is resumed gets a Command or None."""
    events = Events()
    graph = graph_of(lambda _: interrupt("?") and {}).compile(checkpointer=InMemorySaver())
    config: Any = {"callbacks": [events], "configurable": {"thread_id": "t"}}

    graph.invoke({}, config)
    assert [type(each["args"][0]).__name__ for each in events.of("chain error")] == ["GraphInterrupt"]
    assert [each["parent_run_id"] for each in events.of("chain end")][-1] is None
    graph.invoke(Command(resume="yes"), config)

    roots = [each for each in events.of("chain start") if each["parent_run_id"] is None]
    assert [type(each["args"][1]).__name__ for each in roots] == ["dict", "Command"]
    assert {each["metadata"]["thread_id"] for each in roots} == {"t"}


async def test_a_cancelled_call_ends_without_a_word(model: Make) -> None:
    """Neither end nor error: its node's error is all there is."""
    events, reached = Events(), asyncio.Event()

    async def never() -> Any:
        reached.set()
        await asyncio.Event().wait()

    async def ask(_: State) -> State:
        await model(never).ainvoke("hi")
        return {}

    running = asyncio.ensure_future(graph_of(ask).compile().ainvoke({}, {"callbacks": [events]}))
    await reached.wait()
    running.cancel()
    await asyncio.wait([running])

    assert len(events.of("model start")) == 1
    assert events.of("model end") == events.of("model error") == []
    assert {type(each["args"][0]).__name__ for each in events.of("chain error")} == {"CancelledError"}


def test_fallbacks_hide_their_parent_and_the_context_knows_it(model: Make) -> None:
    """Outside a graph the call looks like a root; the context's callbacks have the parent (langchain#36072)."""
    events = Events()

    model(RuntimeError).with_fallbacks([model()]).invoke("hi", {"callbacks": [events]})

    (root,) = events.of("chain start")
    for call in events.of("model start"):
        assert call["parent_run_id"] in {None, root["run_id"]}
        assert call["context"]["callbacks"].parent_run_id == root["run_id"]


def test_a_handler_on_the_model_and_on_the_call_is_told_twice_with_the_same_prompt(model: Make) -> None:
    """By the very list of messages the second telling is known for one."""
    events = Events()

    model().with_config(callbacks=[events]).invoke("hi", {"callbacks": [events]})

    starts = events.of("model start")
    assert len(starts) == 2
    assert starts[0]["run_id"] == starts[1]["run_id"]
    assert starts[0]["args"][1][0] is starts[1]["args"][1][0]


def test_ids_are_uuids(model: Make) -> None:
    """Everything is keyed by their integers."""
    events = Events()
    model().invoke("hi", {"callbacks": [events]})

    assert all(isinstance(each["run_id"], UUID) for each in events.seen)
