"""Small graphs of each nesting, what is to be recorded of each, and all ways to start one."""

import asyncio
import operator
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import StructuredTool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send
from scripted_models import Reply, ScriptedChat, failing, tokens

from langchain_finops.records import CallRecord

__all__ = ["ENTRY_POINTS", "NESTINGS", "Case", "State", "asking", "fan_out", "graph_of", "line_of", "recorded"]


class State(TypedDict, total=False):
    """Answers gathered so far, and the prompt of a `Send` branch."""

    answers: Annotated[list[str], operator.add]
    prompt: str


Node = Callable[..., Any]


def asking(model: Runnable[Any, Any], prompt: str | None = None, *, native_async: bool = False) -> Node:
    """A node that asks the model once: for the prompt given, or for the one in the state."""

    def ask(state: State) -> State:
        return {"answers": [model.invoke(prompt or state["prompt"]).text]}

    async def aask(state: State) -> State:
        return {"answers": [(await model.ainvoke(prompt or state["prompt"])).text]}

    return aask if native_async else ask


def line_of(nodes: dict[str, Any], **options: Any) -> StateGraph[State, None, State, State]:
    """Nodes that run one after the other; not compiled yet."""
    builder = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node, **options)
    for before, after in zip([START, *nodes], nodes, strict=False):
        builder.add_edge(before, after)
    return builder


def graph_of(nodes: dict[str, Any], **options: Any) -> Any:
    """A compiled line of nodes."""
    return line_of(nodes).compile(**options)


def fan_out(node: Node, prompts: Sequence[str], **options: Any) -> Any:
    """A compiled graph that sends each prompt to a branch of its own, all at once."""
    builder = StateGraph(State)
    builder.add_node("branch", node)
    builder.add_conditional_edges(START, lambda _: [Send("branch", {"prompt": prompt}) for prompt in prompts])
    return builder.compile(**options)


Expected = list[tuple[str | None, int, int]]
"""Node path, input tokens and output tokens of each call."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A graph, its input, and the calls that one invocation makes."""

    graph: Any
    expected: Expected
    input: Any = None


def plain(native_async: bool = False) -> Case:
    model = ScriptedChat()
    nodes = {"draft": asking(model, "7/3", native_async=native_async),
             "polish": asking(model, "11/5", native_async=native_async)}  # fmt: skip
    return Case(graph=graph_of(nodes), expected=[("draft", 7, 3), ("polish", 11, 5)])


def subgraph(native_async: bool = False) -> Case:
    model = ScriptedChat()
    inner = graph_of({"search": asking(model, "13/2", native_async=native_async)})
    nodes = {"draft": asking(model, "7/3", native_async=native_async), "researcher": inner}
    return Case(graph=graph_of(nodes), expected=[("draft", 7, 3), ("researcher/search", 13, 2)])


def invoked_in_a_node(native_async: bool = False) -> Case:
    model = ScriptedChat()
    inner = graph_of({"search": asking(model, "13/2", native_async=native_async)})

    def run(state: State) -> State:
        inner.invoke({"answers": []})
        return {"answers": [model.invoke("4/1").text]}

    async def arun(state: State) -> State:
        await inner.ainvoke({"answers": []})
        return {"answers": [(await model.ainvoke("4/1")).text]}

    outer = graph_of({"researcher": arun if native_async else run})
    return Case(graph=outer, expected=[("researcher/search", 13, 2), ("researcher", 4, 1)])


def send_fan_out(native_async: bool = False) -> Case:
    prompts = ["1/9", "2/8", "3/7"]
    graph = fan_out(asking(ScriptedChat(), native_async=native_async), prompts)
    return Case(graph=graph, expected=[("branch", 1, 9), ("branch", 2, 8), ("branch", 3, 7)])


def functional(native_async: bool = False) -> Case:
    model = ScriptedChat()

    async def aflow(state: Any) -> list[str]:
        await model.ainvoke("5/5")
        return [await adouble("6/1"), await adouble("6/2")]

    async def adouble(prompt: str) -> str:
        return str((await model.ainvoke(prompt)).text)

    def flow(state: Any) -> list[str]:
        model.invoke("5/5")
        return [future.result() for future in (double("6/1"), double("6/2"))]

    def double(prompt: str) -> str:
        return str(model.invoke(prompt).text)

    if native_async:
        adouble = task(name="double")(adouble)
        aflow.__name__ = "flow"
        graph = entrypoint()(aflow)
    else:
        double = task(name="double")(double)
        graph = entrypoint()(flow)
    return Case(graph=graph, expected=[("flow", 5, 5), ("flow/double", 6, 1), ("flow/double", 6, 2)], input="x")


USE_TOOL = Reply(usage=tokens(21, 4), tool_calls=[("search", {"query": "x"})])
ASK: Any = {"messages": [HumanMessage("PROMPT hello")]}


def agent_script(prompt: str, call: int) -> Reply:
    """Call the tool on a person's message, answer on the tool's."""
    return USE_TOOL if "PROMPT" in prompt else Reply(usage=tokens(30, 6))


def agent(native_async: bool = False) -> Case:
    tool = StructuredTool.from_function(lambda query: "found", name="search", description="Search.")
    graph = create_agent(ScriptedChat(script=agent_script), [tool], name="support")
    return Case(graph=graph, expected=[("model", 21, 4), ("model", 30, 6)], input=ASK)


def agent_as_tool(native_async: bool = False) -> Case:
    inner = create_agent(ScriptedChat(script=lambda *_: Reply(usage=tokens(8, 2))), [], name="helper")

    def search(query: str) -> str:
        return str(inner.invoke({"messages": [HumanMessage(query)]})["messages"][-1].text)

    async def asearch(query: str) -> str:
        return str((await inner.ainvoke({"messages": [HumanMessage(query)]}))["messages"][-1].text)

    tool = StructuredTool.from_function(search, coroutine=asearch, name="search", description="Ask a helper.")
    graph = create_agent(ScriptedChat(script=agent_script), [tool], name="support")
    return Case(graph=graph, expected=[("model", 21, 4), ("tools/model", 8, 2), ("model", 30, 6)], input=ASK)


def fallbacks(native_async: bool = False) -> Case:
    model = ScriptedChat(script=failing(10**6)).with_fallbacks([ScriptedChat()])
    graph = graph_of({"draft": asking(model, "7/3", native_async=native_async)})
    return Case(graph=graph, expected=[("draft", 0, 0), ("draft", 7, 3)])


def fail_every_other(prompt: str, call: int) -> Reply:
    """Fail, succeed, fail, succeed: a batch of two meets two of each, in whatever order its calls arrive."""
    return failing(1)(prompt, call % 2)


def with_retry(native_async: bool = False) -> Case:
    model = ScriptedChat(script=fail_every_other).with_retry(stop_after_attempt=9, wait_exponential_jitter=False)
    graph = graph_of({"draft": asking(model, "7/3", native_async=native_async)})
    return Case(graph=graph, expected=[("draft", 0, 0), ("draft", 7, 3)])


def retry_policy(native_async: bool = False) -> Case:
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=9, retry_on=Exception)
    node = asking(ScriptedChat(script=fail_every_other), "7/3", native_async=native_async)
    graph = line_of({"draft": node}, retry_policy=policy).compile()
    return Case(graph=graph, expected=[("draft", 0, 0), ("draft", 7, 3)])


NESTINGS: dict[str, Callable[..., Case]] = {
    "plain": plain,
    "subgraph": subgraph,
    "subgraph invoked in a node": invoked_in_a_node,
    "Send": send_fan_out,
    "@task": functional,
    "create_agent": agent,
    "agent as tool": agent_as_tool,
    "with_fallbacks": fallbacks,
    "with_retry": with_retry,
    "RetryPolicy": retry_policy,
}


def do_invoke(case: Case, config: RunnableConfig) -> None:
    case.graph.invoke(case.input or {"answers": []}, config)


def do_stream(case: Case, config: RunnableConfig) -> None:
    for _ in case.graph.stream(case.input or {"answers": []}, config, stream_mode=["updates", "messages"]):
        pass


def do_batch(case: Case, config: RunnableConfig) -> None:
    case.graph.batch([case.input or {"answers": []}] * 2, config)


async def do_ainvoke(case: Case, config: RunnableConfig) -> None:
    await case.graph.ainvoke(case.input or {"answers": []}, config)


async def do_astream(case: Case, config: RunnableConfig) -> None:
    async for _ in case.graph.astream(case.input or {"answers": []}, config, stream_mode=["updates", "messages"]):
        pass


async def do_events_v2(case: Case, config: RunnableConfig) -> None:
    async for _ in case.graph.astream_events(case.input or {"answers": []}, config, version="v2"):
        pass


async def do_events_v3(case: Case, config: RunnableConfig) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The v3 streaming protocol")
        stream = await case.graph.astream_events(case.input or {"answers": []}, config, version="v3")
        async for _ in stream:
            pass


async def do_abatch(case: Case, config: RunnableConfig) -> None:
    await case.graph.abatch([case.input or {"answers": []}] * 2, config)


@dataclass(frozen=True)
class EntryPoint:
    """One way to start a graph; `runs` invocations are made of it."""

    start: Callable[[Case, RunnableConfig], Awaitable[None] | None]
    native_async: bool
    runs: int = 1

    def run(self, case: Case, config: RunnableConfig) -> None:
        """Start it and wait for its end."""
        going = self.start(case, config)
        if self.native_async:
            asyncio.run(going)  # type: ignore[arg-type]


ENTRY_POINTS = {
    "invoke": EntryPoint(do_invoke, native_async=False),
    "stream": EntryPoint(do_stream, native_async=False),
    "batch": EntryPoint(do_batch, native_async=False, runs=2),
    "ainvoke": EntryPoint(do_ainvoke, native_async=True),
    "astream": EntryPoint(do_astream, native_async=True),
    "astream_events v2": EntryPoint(do_events_v2, native_async=True),
    "astream_events v3": EntryPoint(do_events_v3, native_async=True),
    "abatch": EntryPoint(do_abatch, native_async=True, runs=2),
}


def recorded(calls: Iterable[CallRecord]) -> Counter[tuple[str | None, int, int]]:
    """Node path, input tokens and output tokens of each call, and how often each was recorded."""
    return Counter(
        (call.attribution.node_path, call.usage.total_input_tokens, call.usage.total_output_tokens) for call in calls
    )
