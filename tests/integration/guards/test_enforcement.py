"""What a refusal meets on its way out: no wrapper, retry, fallback or handler of errors turns it into another call."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from guarded_scenes import CENT, State, asking, both, cents, ending, line, looping, statuses
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import StructuredTool
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import RetryPolicy
from scripted_models import ProviderError, Reply, ScriptedChat

from langchain_finops import Budget, BudgetExceeded, CallRefused, Ledger, LoopGuard, stopped

TWO = Budget(usd="0.025", scope="agent_id")
"""Two calls of a cent fit."""
NO_WAIT = {"wait_exponential_jitter": False}


def retrying_as_langchain_does(model: ScriptedChat) -> Runnable[Any, Any]:
    """The retry that SummarizationMiddleware puts around its model."""
    try:
        from langchain_core.exceptions import ModelError
    except ImportError:  # pragma: no cover
        pytest.skip("this core has no typed model errors")
    return model.with_retry(retry_if_exception_type=(ModelError, Exception), **NO_WAIT)


WRAPPERS: dict[str, Callable[[ScriptedChat, ScriptedChat], Runnable[Any, Any]]] = {
    "bare": lambda model, spare: model,
    "with_fallbacks": lambda model, spare: model.with_fallbacks([spare]),
    "with_fallbacks of anything": lambda model, spare: model.with_fallbacks(
        [spare], exceptions_to_handle=(Exception, BudgetExceeded)
    ),
    "with_retry": lambda model, spare: model.with_retry(stop_after_attempt=3, **NO_WAIT),
    "with_retry as langchain does": lambda model, spare: retrying_as_langchain_does(model),
    "retry in fallbacks": lambda model, spare: model.with_retry(**NO_WAIT).with_fallbacks(
        [spare.with_retry(**NO_WAIT)]
    ),
    "bound": lambda model, spare: model.bind(stop=["x"]),
    "configured": lambda model, spare: model.with_config(tags=["t"]),
    "in a chain": lambda model, spare: RunnableLambda(lambda prompt: prompt) | model,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_nothing_around_a_model_makes_another_call(wrapper: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Two calls are paid; the third is neither made by the model nor by its stand-in, however often it is tried."""
    model, spare = cents(), cents(model_name="scripted-spare")
    node = asking(WRAPPERS[wrapper](model, spare))

    refusal = ending(play, line({"a": node, "b": node, "c": node, "d": node}), {"said": []}, guarded(TWO))

    assert (model.calls, spare.calls) == (2, 0)
    assert isinstance(refusal, BudgetExceeded)
    assert refusal.node_path == "c"
    assert statuses(ledger) == [("stopped", f"budget:{TWO.label}")]


@pytest.mark.parametrize("retry_on", [{}, {"retry_on": Exception}], ids=["by default", "of anything"])
def test_a_retry_policy_does_not_run_the_node_again(retry_on: Any, guarded: Any, play: Any) -> None:
    """The node that is refused runs once, not three times."""
    model, ran = cents(), []
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, **retry_on)

    def noted(state: State) -> State:
        ran.append("c")
        return {"said": []}

    node = asking(model)
    third = both(
        lambda state: (noted(state), node.invoke(state))[1],
        lambda state: _then(noted, node, state),
    )
    graph = line({"a": node, "b": node, "c": third}, node={"retry_policy": policy})

    assert isinstance(ending(play, graph, {"said": []}, guarded(TWO)), BudgetExceeded)
    assert (model.calls, ran) == (2, ["c"])


async def _then(first: Any, node: Any, state: State) -> Any:
    first(state)
    return await node.ainvoke(state)


def test_an_error_handler_of_a_node_is_not_asked(guarded: Any, play: Any) -> None:
    """A handler of errors must not turn a refusal into a result, nor go on elsewhere."""
    model, handled = cents(), []
    node = asking(model)

    def on_error(state: State) -> State:
        handled.append(state)
        return {"said": ["handled"]}

    builder = StateGraph(State)
    builder.add_node("a", asking(model, "first"))
    builder.add_node("b", asking(model, "second"))
    builder.add_node("c", node, error_handler=on_error)
    builder.add_edge(START, "a").add_edge("a", "b").add_edge("b", "c")

    assert isinstance(ending(play, builder.compile(), {"said": []}, guarded(TWO)), BudgetExceeded)
    assert (model.calls, handled) == (2, [])


def inside(tool_name: str, model: ScriptedChat) -> StructuredTool:
    """A tool that asks the model itself."""

    def ask(question: str) -> str:
        """Ask."""
        return str(model.invoke(question).text)

    async def aask(question: str) -> str:
        return str((await model.ainvoke(question)).text)

    return StructuredTool.from_function(ask, coroutine=aask, name=tool_name)


def call_of(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"id-{arguments}", "type": "tool_call"}])


def test_a_tool_node_that_handles_errors_hands_no_refusal_to_the_model(guarded: Any, play: Any) -> None:
    """Three calls inside a tool: the third is refused, and its text never becomes a ToolMessage."""
    model = cents()
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([inside("ask", model)], handle_tool_errors=True))
    builder.add_edge(START, "tools")
    graph, handler = builder.compile(), guarded(TWO)

    refusals = [ending(play, graph, {"messages": [call_of("ask", question=f"q{n}")]}, handler) for n in range(4)]

    assert model.calls == 2
    assert [isinstance(each, BudgetExceeded) for each in refusals] == [False, False, True, True]


def endless(**fields: Any) -> ScriptedChat:
    """A model that always wants a tool, with other arguments each time."""
    return ScriptedChat(
        script=lambda _prompt, call: Reply(text="", usage=CENT, tool_calls=[("look", {"place": f"p{call}"})]), **fields
    )


def look(place: str) -> str:
    """Look there."""
    return f"nothing at {place}"


MIDDLEWARE: dict[str, Callable[[ScriptedChat], list[Any]]] = {
    "none": lambda spare: [],
    "model retry": lambda spare: [ModelRetryMiddleware(max_retries=3, initial_delay=0.001, jitter=False)],
    "model retry that raises": lambda spare: [
        ModelRetryMiddleware(max_retries=3, initial_delay=0.001, jitter=False, on_failure="error")
    ],
    "fallback": lambda spare: [ModelFallbackMiddleware(spare)],
    "retry in fallback": lambda spare: [
        ModelFallbackMiddleware(spare),
        ModelRetryMiddleware(max_retries=2, initial_delay=0.001, jitter=False),
    ],
    "tool retry": lambda spare: [ToolRetryMiddleware(max_retries=3, initial_delay=0.001, jitter=False)],
    "call limit": lambda spare: [ModelCallLimitMiddleware(run_limit=50)],
}


@pytest.mark.parametrize("middleware", MIDDLEWARE)
def test_an_agent_stops_whatever_its_middleware_does(middleware: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """An agent that would go on for ever makes two calls, and its refusal is not turned into an AIMessage."""
    model, spare = endless(), endless(model_name="scripted-spare")
    agent = create_agent(model, [look], middleware=MIDDLEWARE[middleware](spare))

    refusal = ending(play, agent, {"messages": [HumanMessage("go")]}, guarded(TWO), recursion_limit=60)

    assert (model.calls, spare.calls) == (2, 0)
    assert isinstance(refusal, BudgetExceeded)
    assert statuses(ledger) == [("stopped", f"budget:{TWO.label}")]


def test_calls_inside_a_retried_tool_are_made_once(guarded: Any, play: Any) -> None:
    """ToolRetryMiddleware runs a failed tool again; a refused one not."""
    thinker = cents()
    model = ScriptedChat(
        script=lambda _prompt, call: Reply(text="", usage=CENT, tool_calls=[("ask", {"question": f"q{call}"})])
    )
    agent = create_agent(
        model, [inside("ask", thinker)], middleware=[ToolRetryMiddleware(max_retries=3, initial_delay=0.001)]
    )

    refusal = ending(play, agent, {"messages": [HumanMessage("go")]}, guarded(Budget(usd="0.045", scope="agent_id")))

    assert isinstance(refusal, BudgetExceeded)
    assert (model.calls, thinker.calls) == (2, 2)


def test_a_summary_is_a_call_like_any_other(guarded: Any, play: Any, ledger: Ledger) -> None:
    """SummarizationMiddleware retries its model with pauses of seconds: a refusal ends at once, and buys no summary."""
    model, writer = endless(), cents(model_name="scripted-writer")
    agent = create_agent(
        model, [look], middleware=[SummarizationMiddleware(writer, trigger=("messages", 3), keep=("messages", 1))]
    )

    refusal = ending(play, agent, {"messages": [HumanMessage("go")]}, guarded(TWO), recursion_limit=60)

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls + writer.calls == 2
    assert len(list(ledger.calls())) == 2


def test_a_user_who_catches_everything_in_one_node_makes_no_further_call(guarded: Any, play: Any) -> None:
    """`except Exception` in a loop inside a node: ten tries, and not one of them is sent."""
    model = cents()

    def stubborn(state: State) -> State:
        said = []
        for n in range(10):
            try:
                said.append(model.invoke(f"p{n}").text)
            except Exception as error:
                said.append(type(error).__name__)
        return {"said": said}

    async def astubborn(state: State) -> State:
        said = []
        for n in range(10):
            try:
                said.append((await model.ainvoke(f"p{n}")).text)
            except Exception as error:
                said.append(type(error).__name__)
        return {"said": said}

    graph = line({"stubborn": both(stubborn, astubborn), "next": asking(model)})
    refusal = ending(play, graph, {"said": []}, guarded(TWO))

    assert model.calls == 2
    assert isinstance(refusal, BudgetExceeded)


def test_a_cheaper_call_after_a_refusal_is_refused_as_well(guarded: Any, play: Any) -> None:
    """A refusal sticks: what would fit by itself is no way on."""
    model, cheap = cents(), ScriptedChat(script=lambda _p, _c: Reply(usage=None), max_tokens=1)
    graph = line({"a": asking(model), "b": asking(model), "c": asking(model, swallow=True), "d": asking(cheap)})

    assert isinstance(ending(play, graph, {"said": []}, guarded(TWO)), BudgetExceeded)
    assert (model.calls, cheap.calls) == (2, 0)


def test_batches_and_gathers_that_return_exceptions_make_no_further_call(guarded: Any, play: Any) -> None:
    """`batch(return_exceptions=True)` and `gather(return_exceptions=True)`: eight at once, two are sent."""
    model = cents()
    prompts = [f"p{n}" for n in range(8)]

    def many(state: State) -> State:
        return {"said": [type(each).__name__ for each in model.batch(prompts, return_exceptions=True)]}

    async def amany(state: State) -> State:
        calls = [model.ainvoke(prompt) for prompt in prompts]
        return {"said": [type(each).__name__ for each in await asyncio.gather(*calls, return_exceptions=True)]}

    refusal = ending(play, line({"many": both(many, amany), "next": asking(model)}), {"said": []}, guarded(TWO))

    assert model.calls == 2
    assert isinstance(refusal, BudgetExceeded)


def test_siblings_of_a_refused_branch_keep_their_paid_answers(guarded: Any, play: Any, ledger: Ledger) -> None:
    """A paid answer is on the ledger whatever became of the branch beside it."""
    model = cents()
    builder = StateGraph(State)
    for name in "abcd":
        builder.add_node(name, asking(model, name))
        builder.add_edge(START, name)

    assert isinstance(ending(play, builder.compile(), {"said": []}, guarded(TWO)), BudgetExceeded)
    assert model.calls == len(list(ledger.calls())) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_a_workflow_of_tasks_makes_two_calls(is_async: bool, guarded: Any) -> None:
    """`@entrypoint` and `@task`: the third task is refused."""
    model, handler = cents(), guarded(TWO)

    @task
    def step(n: int) -> str:
        return str(model.invoke(f"p{n}").text)

    @task
    async def astep(n: int) -> str:
        return str((await model.ainvoke(f"p{n}")).text)

    @entrypoint()
    def flow(rounds: int) -> list[str]:
        return [step(n).result() for n in range(rounds)]

    @entrypoint()
    async def aflow(rounds: int) -> list[str]:
        return [await astep(n) for n in range(rounds)]

    def run() -> None:
        if is_async:
            asyncio.run(aflow.ainvoke(6, {"callbacks": [handler]}))
        else:
            flow.invoke(6, {"callbacks": [handler]})

    with pytest.raises(BudgetExceeded):
        run()
    assert model.calls == 2


def test_agents_as_tools_draw_on_the_outer_budget(guarded: Any, play: Any) -> None:
    """An agent inside a tool of an agent: two calls in all, and the refusal reaches the outermost caller."""
    inner_model = endless(model_name="scripted-inner")
    inner_agent = create_agent(inner_model, [look], name="inner")

    def delegate(question: str) -> str:
        """Have another agent look."""
        return str(inner_agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text)

    async def adelegate(question: str) -> str:
        return str((await inner_agent.ainvoke({"messages": [HumanMessage(question)]}))["messages"][-1].text)

    outer_model = ScriptedChat(
        script=lambda _p, call: Reply(text="", usage=CENT, tool_calls=[("delegate", {"question": f"q{call}"})])
    )
    outer = create_agent(outer_model, [StructuredTool.from_function(delegate, coroutine=adelegate)])

    refusal = ending(play, outer, {"messages": [HumanMessage("go")]}, guarded(TWO))

    assert isinstance(refusal, BudgetExceeded)
    assert (outer_model.calls, inner_model.calls) == (1, 1)


def test_a_refusal_by_a_run_budget_leaves_the_next_run_alone(guarded: Any, play: Any) -> None:
    """Final for its run, and for no other."""
    model, handler = cents(), guarded(Budget(usd="0.025"))
    graph = looping(asking(model), rounds=5)

    assert all(isinstance(ending(play, graph, {"said": []}, handler), BudgetExceeded) for _ in range(3))
    assert model.calls == 6


def test_a_retry_after_an_http_error_is_no_loop_and_costs_nothing(guarded: Any, play: Any, ledger: Ledger) -> None:
    """The same prompt after a 429 is neither a repetition nor a charge."""
    model = ScriptedChat(script=lambda _p, call: Reply(error=ProviderError(429)) if call % 3 else Reply(usage=CENT))
    node = asking(model.with_retry(stop_after_attempt=6, **NO_WAIT), "the same")
    graph = line({"a": node, "b": node})

    assert ending(play, graph, {"said": []}, guarded(TWO, LoopGuard(repeats=2))) is None
    assert model.calls == 4
    assert sum(call.cost_usd or 0 for call in ledger.calls()) * 100 == 2


def test_the_other_handlers_see_no_answer_and_the_exception_travels(guarded: Any, play: Any) -> None:
    """A refusal has fields, is picklable, and `stopped` reads it even where somebody wrapped it."""
    import pickle

    refusal = ending(play, looping(asking(cents())), {"said": []}, guarded(TWO))
    assert isinstance(refusal, CallRefused)
    again = pickle.loads(pickle.dumps(refusal))
    assert (type(again), str(again), again.limit, again.node_path) == (
        type(refusal), str(refusal), refusal.limit, refusal.node_path,
    )  # fmt: skip
    wrapped = RuntimeError("agent failed")
    wrapped.__cause__ = again
    stop = stopped(wrapped)
    assert stop is not None
    assert (stop.reason, stop.budget) == (f"budget:{TWO.label}", TWO.label)
