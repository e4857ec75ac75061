"""`handler.observe`: each record once, as it is written down, and no fault of an observer in anybody's run."""

import logging

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_finops import FinOpsHandler
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord


def graph_of(calls: int = 2):
    """A graph of one node that asks a scripted model, and records a minute of a person's time."""
    answers = iter([AIMessage("yes", response_metadata={"model_name": "gpt-4.1"})] * 9)
    model = GenericFakeChatModel(messages=answers, metadata={"ls_provider": "openai", "ls_model_name": "gpt-4.1"})

    def ask(state):
        return {"messages": [model.invoke(state["messages"]) for _ in range(calls)]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder.compile(name="support")


def test_each_call_charge_and_run_is_told_once_in_order():
    """What is told is what the ledger holds: two calls, then the run; a charge where it is recorded."""
    handler, told = FinOpsHandler(ledger=":memory:"), []
    handler.observe(lambda record, before: told.append((record, before)))
    graph_of().invoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})
    charge = handler.record_charge("human", cost_usd=1)

    assert [type(record) for record, _ in told] == [CallRecord, CallRecord, RunRecord, ChargeRecord]
    assert [record for record, _ in told] == [*handler.ledger.calls(), *handler.ledger.runs(), charge]
    assert {before for _, before in told} == {None}


@pytest.mark.parametrize("entry", ["invoke", "ainvoke"])
async def test_a_faulty_observer_is_counted_and_nobody_notices(entry, caplog):
    """The run ends well, all is recorded, and the observer after it is told all the same."""
    handler, told = FinOpsHandler(ledger=":memory:"), []

    def faulty(record, before):
        raise RuntimeError("the collector is away")

    handler.observe(faulty)
    handler.observe(lambda record, before: told.append(record))
    state, config = {"messages": [("user", "hello")]}, {"callbacks": [handler]}
    with caplog.at_level(logging.ERROR, "langchain_finops"):
        if entry == "invoke":
            graph_of().invoke(state, config)
        else:
            await graph_of().ainvoke(state, config)

    assert len(told) == 3
    assert handler.faults == 3
    assert len(list(handler.ledger.calls())) == 2
    assert "the collector is away" not in caplog.text  # A message may hold a prompt's text.
