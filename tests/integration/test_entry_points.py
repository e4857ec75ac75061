"""Promise 1: each call is recorded once, with its tokens and its node, however a graph is started and nested."""

from collections import Counter
from decimal import Decimal

import pytest
from graphs import ENTRY_POINTS, NESTINGS, Case, State, asking, graph_of, recorded
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, StateGraph
from scripted_models import Reply, ScriptedChat, ScriptedLLM

from langchain_finops import FinOpsHandler, Ledger


def list_cost(calls: Counter[tuple[str | None, int, int]]) -> Decimal:
    """By the card of the tests: $2 per million input tokens, $10 per million output tokens."""
    return sum((times * (Decimal(2) * read + 10 * wrote) for (_, read, wrote), times in calls.items()), Decimal(0)) / (
        1_000_000
    )


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_each_call_is_recorded_once_with_its_tokens_and_node(
    entry: str, nesting: str, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Every call that LangChain reports is recorded exactly once, and the sums are those of the calls."""
    point = ENTRY_POINTS[entry]
    case = NESTINGS[nesting](point.native_async)
    expected = Counter(case.expected * point.runs)

    point.run(case, {"callbacks": [handler]})

    calls = list(ledger.calls())
    assert recorded(calls) == expected
    assert sum((call.cost_usd for call in calls if call.cost_usd is not None), Decimal(0)) == list_cost(expected)
    assert handler.summary(by="node").total().cost_usd == list_cost(expected)
    assert len({call.call_id for call in calls}) == len(calls)


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_each_invocation_is_one_completed_run(entry: str, nesting: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """A root invocation is one run, whatever it nests, and all its calls point at it."""
    point = ENTRY_POINTS[entry]

    point.run(NESTINGS[nesting](point.native_async), {"callbacks": [handler]})

    runs = list(ledger.runs())
    assert [run.status for run in runs] == ["completed"] * point.runs
    assert {call.run_id for call in ledger.calls()} == {run.run_id for run in runs}
    assert {call.invocation_id for call in ledger.calls()} == {run.invocation_id for run in runs}


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("entry", ["invoke", "ainvoke"])
def test_leaves_add_up_to_the_total_in_every_nesting(entry: str, nesting: str, handler: FinOpsHandler) -> None:
    """Own costs of all node paths add up to the total, and so do the subtree costs of the topmost ones (promise 5)."""
    point = ENTRY_POINTS[entry]
    case = NESTINGS[nesting](point.native_async)

    point.run(case, {"callbacks": [handler]})

    rows = handler.summary(by="node").rows()
    total = list_cost(Counter(case.expected))
    # A tool without a card has no known cost; the models' costs are what adds up here.
    assert sum(row["cost_usd"] or 0 for row in rows) == total
    assert sum(row["subtree_cost_usd"] or 0 for row in rows if "/" not in str(row["node"])) == total


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_completion_models_are_recorded_in_a_graph(entry: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """A completion model's usage stands elsewhere in the answer, and is read all the same."""
    point = ENTRY_POINTS[entry]
    model = ScriptedLLM()

    def ask(state: object) -> dict[str, list[str]]:
        return {"answers": [model.invoke("17/4")]}

    async def aask(state: object) -> dict[str, list[str]]:
        return {"answers": [await model.ainvoke("17/4")]}

    case = Case(graph=graph_of({"complete": aask if point.native_async else ask}), expected=[("complete", 17, 4)])

    point.run(case, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter(case.expected * point.runs)
    assert {call.estimated for call in ledger.calls()} == {False}
    assert {call.model for call in ledger.calls()} == {"scripted-completion"}


@pytest.mark.parametrize("model", [ScriptedChat(), ScriptedLLM()], ids=["chat", "completion"])
def test_a_bare_call_is_a_run_of_its_own(
    model: ScriptedChat | ScriptedLLM, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """A model that is called outside any chain is recorded, without a node, and its run is completed."""
    model.invoke("19/6", {"callbacks": [handler]})

    (call,) = ledger.calls()
    (run,) = ledger.runs()
    assert recorded([call]) == Counter([(None, 19, 6)])
    assert call.run_id == run.run_id
    assert run.status == "completed"


@pytest.mark.parametrize("model", [ScriptedChat(), ScriptedLLM()], ids=["chat", "completion"])
async def test_a_bare_call_is_recorded_in_each_way_of_asking(
    model: ScriptedChat | ScriptedLLM, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """invoke, stream, batch and their async forms of a model each record what was asked."""
    config = {"callbacks": [handler]}
    model.invoke("1/1", config)
    list(model.stream("2/2", config))
    model.batch(["3/3"], config)
    await model.ainvoke("5/5", config)
    _ = [chunk async for chunk in model.astream("6/6", config)]
    await model.abatch(["7/7"], config)
    _ = [event async for event in model.astream_events("9/9", config, version="v2")]

    assert recorded(ledger.calls()) == Counter((None, size, size) for size in (1, 2, 3, 5, 6, 7, 9))
    # An answer that came after its call was given up for lost would be a second version of it.
    assert [call.revision for call in ledger.calls(history=True)] == [0] * 7
    assert [run.status for run in ledger.runs()] == ["completed"] * 7


def test_prompts_of_one_completion_request_are_not_charged_twice(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A completion model that is asked two prompts at once reports one usage for both: it is charged once in all."""
    ScriptedLLM().batch(["3/1", "4/2"], {"callbacks": [handler]})

    calls = list(ledger.calls())
    assert len(calls) == 2
    assert sum(call.usage.total_input_tokens for call in calls) == 3 + 4
    assert sum(call.usage.total_output_tokens for call in calls) == 1 + 2


def test_prompts_of_one_completion_request_without_usage_are_estimated(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Where the answer to both reports nothing, neither is free: both are charged at their estimates."""
    ScriptedLLM(script=lambda *_: Reply()).batch(["PROMPT one", "PROMPT two"], {"callbacks": [handler]})

    calls = list(ledger.calls())
    assert [call.estimated for call in calls] == [True, True]
    assert all(call.cost_usd for call in calls)


def test_a_chain_of_prompt_and_model_is_one_call(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Runnables around a model add no calls."""
    chain = ChatPromptTemplate.from_messages([("user", "{size}")]) | ScriptedChat()

    chain.invoke({"size": "21/8"}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([(None, 21, 8)])
    assert [run.status for run in ledger.runs()] == ["completed"]


def test_a_handler_given_three_times_counts_once(handler: FinOpsHandler, ledger: Ledger) -> None:
    """In the constructor, with `with_config` and at `invoke`: LangChain reports such a call several times."""
    model = ScriptedChat(callbacks=[handler]).with_config(callbacks=[handler])

    graph_of({"draft": asking(model, "7/3")}).with_config(callbacks=[handler]).invoke(
        {"answers": []}, {"callbacks": [handler]}
    )
    model.invoke("1/2", {"callbacks": [handler]})
    ScriptedLLM(callbacks=[handler]).with_config(callbacks=[handler]).invoke("3/4", {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3), (None, 1, 2), (None, 3, 4)])
    assert handler.summary(by="model").total().calls == 3


def test_two_handlers_on_one_ledger_count_once_in_it(prices: object, ledger: Ledger) -> None:
    """Two handlers that both see a call write one record of it; each keeps its own sums."""
    first = FinOpsHandler(ledger=ledger, prices=prices)
    second = FinOpsHandler(ledger=ledger, prices=prices)

    graph_of({"draft": asking(ScriptedChat(), "7/3")}).invoke({"answers": []}, {"callbacks": [first, second]})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
    assert len(list(ledger.runs())) == 1
    assert [group.totals.calls for group in ledger.totals()] == [1]
    assert first.summary(by="node").total().calls == second.summary(by="node").total().calls == 1


def test_a_router_counts_nothing(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A conditional edge repeats its node's start: neither calls nor steps are counted twice."""
    builder = StateGraph(State)
    builder.add_node("draft", asking(ScriptedChat(), "7/3"))
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", lambda state: "draft" if len(state["answers"]) < 3 else END)

    builder.compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter({("draft", 7, 3): 3})
    assert [call.attribution.step for call in ledger.calls()] == [1, 2, 3]
    assert [run.steps for run in ledger.runs()] == [3]


def test_a_model_called_by_a_router_belongs_to_its_node(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A router that asks a model is a part of the node it leads away from."""
    model = ScriptedChat()
    builder = StateGraph(State)
    builder.add_node("draft", asking(model, "7/3"))
    builder.add_edge(START, "draft")

    def decide(state: State) -> str:
        model.invoke("2/1")
        return END

    builder.add_conditional_edges("draft", decide, [END])

    builder.compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3), ("draft", 2, 1)])
