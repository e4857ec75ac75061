"""Shapes of real graphs beyond the plain nestings: handoffs, breakpoints, parallel runnables, middleware, caches."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from graphs import ASK, State, agent_script, asking, graph_of, line_of, recorded
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import StructuredTool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, interrupt
from scripted_models import ProviderError, Reply, ScriptedChat, failing, scripted, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook
from langchain_finops.ledger.totals import TaskCost

THREAD: Any = {"configurable": {"thread_id": "th-1"}}


def statuses(ledger: Ledger) -> list[tuple[str, str | None]]:
    return [(run.status, run.stop_reason) for run in ledger.runs()]


def test_a_handoff_out_of_a_subgraph_is_no_failure(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`Command(graph=PARENT)` leaves a subgraph by an exception; the run goes on and is completed."""
    model = ScriptedChat()

    def leave(state: State) -> Any:
        model.invoke("7/3")
        return Command(goto="billing", graph=Command.PARENT)

    inner = StateGraph(State)
    inner.add_node("triage", leave)
    inner.add_edge(START, "triage")
    outer = StateGraph(State)
    outer.add_node("desk", inner.compile())
    outer.add_node("billing", asking(model, "2/1"))
    outer.add_edge(START, "desk")

    outer.compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("desk/triage", 7, 3), ("billing", 2, 1)])
    assert statuses(ledger) == [("completed", None)]


@pytest.mark.parametrize("native_async", [False, True], ids=["sync", "async"])
async def test_a_breakpoint_is_a_pause(native_async: bool, handler: FinOpsHandler, ledger: Ledger) -> None:
    """`interrupt_before` stops between nodes, where no node reports it; resumed, the run is completed."""
    node = asking(ScriptedChat(), "7/3", native_async=native_async)
    graph = line_of({"draft": node, "publish": node}).compile(
        checkpointer=InMemorySaver(), interrupt_before=["publish"]
    )
    config = {"callbacks": [handler], **THREAD}
    inputs: list[Any] = [{"answers": []}, None]

    for given, status in zip(inputs, ["interrupted", "completed"], strict=True):
        if native_async:
            await graph.ainvoke(given, config)
        else:
            graph.invoke(given, config)
        assert [run.status for run in ledger.runs()] == [status]

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3), ("publish", 7, 3)])
    assert len({call.run_id for call in ledger.calls()}) == 1


def test_going_back_in_a_completed_thread_is_a_new_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`invoke(None)` from an old checkpoint of a completed run resumes nothing: what it buys is a run of its own."""
    node = asking(ScriptedChat(), "7/3")
    graph = line_of({"draft": node, "publish": node}).compile(checkpointer=InMemorySaver())
    graph.invoke({"answers": []}, {"callbacks": [handler], **THREAD})
    before = next(state for state in graph.get_state_history(THREAD) if state.next == ("publish",))

    graph.invoke(None, {**before.config, "callbacks": [handler]})

    assert Counter(statuses(ledger)) == {("completed", None): 2}
    assert len(list(ledger.calls())) == 3


async def test_resumed_under_an_event_loop_by_another_handler(sql_ledger: Ledger, prices: PriceBook) -> None:
    """The run is found in the ledger file by its thread, without blocking the loop."""
    builder = StateGraph(State)
    builder.add_node("approve", lambda state: {"answers": [interrupt("may I?")]})
    builder.add_node("publish", asking(ScriptedChat(), "7/3", native_async=True))
    builder.add_edge(START, "approve")
    builder.add_edge("approve", "publish")
    graph = builder.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"answers": []}, {"callbacks": [FinOpsHandler(ledger=sql_ledger, prices=prices)], **THREAD})

    later = FinOpsHandler(ledger=sql_ledger, prices=prices)
    with blockbuster_ctx():
        await graph.ainvoke(Command(resume="yes"), {"callbacks": [later], **THREAD})

    assert statuses(sql_ledger) == [("completed", None)]
    assert later.faults == 0


def test_parallel_runnables_in_a_node_belong_to_it(handler: FinOpsHandler, ledger: Ledger) -> None:
    """RunnableParallel, batch and lambdas run in threads of LangChain's that keep the context."""
    model = ScriptedChat()
    chain = RunnableLambda(lambda prompt: prompt) | RunnableParallel(left=model, right=model)

    def node(state: State) -> State:
        chain.invoke("1/1")
        model.batch(["2/2", "3/3", "4/4"])
        return {"answers": []}

    graph_of({"think": node}).invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter({("think", 1, 1): 2} | {("think", n, n): 1 for n in (2, 3, 4)})
    assert [run.steps for run in ledger.runs()] == [1]


async def test_tasks_of_a_node_belong_to_it(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`gather` and `to_thread` in an async node."""
    model = ScriptedChat()

    async def node(state: State) -> State:
        await asyncio.gather(*(model.ainvoke(f"{n}/{n}") for n in range(1, 6)))
        await asyncio.to_thread(model.invoke, "9/9")
        return {"answers": []}

    await graph_of({"think": node}).ainvoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter(("think", n, n) for n in (1, 2, 3, 4, 5, 9))


def test_an_agent_in_a_node_is_a_subgraph(handler: FinOpsHandler, ledger: Ledger) -> None:
    """An agent that is a node has its model and tools below that node."""
    tool = StructuredTool.from_function(lambda query: "found", name="search", description="Search.")
    agent = create_agent(ScriptedChat(script=agent_script), [tool], name="helper")
    builder = StateGraph(dict)
    builder.add_node("desk", lambda state: {"messages": agent.invoke(ASK)["messages"]})
    builder.add_edge(START, "desk")

    builder.compile(name="shop").invoke({}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("desk/model", 21, 4), ("desk/model", 30, 6)])
    assert {call.attribution.agent_id for call in ledger.calls()} == {"helper"}
    assert [(charge.name, charge.attribution.node_path) for charge in ledger.charges()] == [("search", "desk/tools")]


def test_tools_that_are_called_together_are_each_charged(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Three calls of a tool in one answer run in parallel: three charges at one node."""
    model = scripted(
        Reply(usage=tokens(1, 1), tool_calls=[("search", {"query": str(n)}) for n in range(3)]),
        Reply(usage=tokens(2, 2)),
    )
    tool = StructuredTool.from_function(lambda query: "found", name="search", description="Search.")

    create_agent(model, [tool]).invoke(ASK, {"callbacks": [handler]})

    assert Counter((charge.name, charge.attribution.node_path) for charge in ledger.charges()) == {
        ("search", "tools"): 3
    }
    assert {charge.cost_usd for charge in ledger.charges()} == {None}
    assert handler.summary(by="node").total().charges_unpriced == 3


@pytest.mark.parametrize("kind", ["retry", "fallback"])
def test_middleware_that_asks_again_buys_again(kind: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Each try of ModelRetryMiddleware and each model of ModelFallbackMiddleware is a call."""
    middleware: Any = (
        ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)
        if kind == "retry"
        else ModelFallbackMiddleware(ScriptedChat(script=lambda *_: Reply(usage=tokens(8, 2))))
    )
    first = (
        scripted(Reply(error=ProviderError(500)), Reply(usage=tokens(8, 2)))
        if kind == "retry"
        else scripted(Reply(error=ProviderError(500)))
    )

    create_agent(first, [], middleware=[middleware]).invoke(ASK, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("model", 0, 0), ("model", 8, 2)])
    assert statuses(ledger) == [("completed", None)]


def test_a_node_that_langgraph_answers_from_its_cache_calls_nothing(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A cached node does not run: nothing was bought and nothing is recorded."""
    builder = StateGraph(State)
    builder.add_node("draft", asking(ScriptedChat(), "7/3"), cache_policy=CachePolicy())
    builder.add_edge(START, "draft")
    graph = builder.compile(cache=InMemoryCache())

    for _ in range(2):
        graph.invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
    assert statuses(ledger) == [("completed", None)] * 2


def test_an_error_that_a_node_handles_does_not_fail_the_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A failed call that the node catches is recorded with its error, in a completed run."""
    model = ScriptedChat(script=failing(1, 503))

    def node(state: State) -> State:
        try:
            model.invoke("7/3")
        except ProviderError:
            return {"answers": ["sorry"]}
        raise AssertionError

    graph_of({"draft": node}).invoke({"answers": []}, {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert call.error is not None
    assert call.error.http_status == 503
    assert statuses(ledger) == [("completed", None)]


def test_a_batch_that_returns_its_errors_records_all(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`return_exceptions=True` hides a failure from the caller, not from the ledger."""

    def node(state: State) -> State:
        if state["prompt"] == "0/0":
            raise ValueError
        return {"answers": [ScriptedChat().invoke(state["prompt"]).text]}

    graph_of({"draft": node}).batch(
        [{"prompt": "1/1"}, {"prompt": "0/0"}, {"prompt": "2/2"}], {"callbacks": [handler]}, return_exceptions=True
    )

    assert recorded(ledger.calls()) == Counter([("draft", 1, 1), ("draft", 2, 2)])
    assert Counter(statuses(ledger)) == {("completed", None): 2, ("failed", "ValueError"): 1}


def test_ctrl_c_cancels_a_run(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A KeyboardInterrupt is nobody's failure; what was called before it stands."""
    model = ScriptedChat()

    def node(state: State) -> State:
        model.invoke("7/3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graph_of({"draft": node}).invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
    assert statuses(ledger) == [("cancelled", "KeyboardInterrupt")]


def test_a_run_that_loops_adds_up(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A loop of fifty steps: fifty calls, numbered, at one node, in one row of the summary."""
    builder = StateGraph(State)
    builder.add_node("draft", asking(ScriptedChat(), "7/3"))
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", lambda state: END if len(state["answers"]) == 50 else "draft")

    builder.compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert [call.attribution.step for call in ledger.calls()] == list(range(1, 51))
    (row,) = handler.summary(by="node").rows()
    assert (row["node"], row["calls"], row["input_tokens"], row["output_tokens"]) == ("draft", 50, 350, 150)


def test_a_run_can_be_summed_up_while_it_goes_on(handler: FinOpsHandler) -> None:
    """A node sees what its own run has cost so far."""
    seen: list[int] = []

    def look(state: State) -> State:
        seen.append(handler.summary(by="node").total().calls)
        return {"answers": []}

    node = asking(ScriptedChat(), "7/3")
    graph_of({"first": node, "look": look, "second": node, "again": look}).invoke(
        {"answers": []}, {"callbacks": [handler]}
    )

    assert seen == [1, 2]
    assert handler.summary(by="node").total().calls == 2


@pytest.mark.parametrize("by", ["agent", "user", "task", "model", "node", "thread", "status", "role", "day"])
def test_every_summary_of_a_handler_is_its_ledgers(by: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """A handler that is alone on a ledger sums what the ledger sums, by whatever is asked for."""
    tool = StructuredTool.from_function(lambda query: "found", name="search", description="Search.")
    agent = create_agent(ScriptedChat(script=agent_script), [tool], name="support")
    for number in range(4):
        metadata = {"user_id": f"u-{number % 2}", "task_id": f"t-{number}"}
        agent.invoke({"messages": [HumanMessage("PROMPT")]}, {"callbacks": [handler], "metadata": metadata})
    ScriptedChat(model_name="nobody-knows").invoke("5/5", {"callbacks": [handler]})
    handler.log_outcome(task_id="t-1", success=True, value_usd=3)

    ours = {group.key: group for group in handler.summary(by=by).groups}
    # What tasks cost needs all calls of a task, whoever made them, which only a ledger has.
    theirs = {group.key: replace(group, task_cost=TaskCost()) for group in ledger.totals([by])}
    assert ours == theirs
