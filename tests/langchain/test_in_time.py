"""A run that goes on reads the ledger, and its event loop waits for that: all reads share one deadline."""

import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from langchain_finops import Budget, FinOpsHandler
from langchain_finops.ledger.in_time import asked_at
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.records import Event, RunRecord


class Asked(MemoryLedger):
    """Notes since when whoever reads it has waited."""

    def __init__(self) -> None:
        super().__init__()
        self.since: list[float | None] = []

    def runs(self, **asked: Any) -> Iterator[RunRecord]:
        self.since.append(asked_at())
        return super().runs(**asked)

    def events(self, **asked: Any) -> Iterator[Event]:
        self.since.append(asked_at())
        return super().events(**asked)


class State(TypedDict):
    said: Annotated[list[str], operator.add]


def test_what_a_run_reads_to_go_on_is_read_in_time() -> None:
    """Runs and events, of its thread and of itself, by one clock; a report afterwards has no such clock."""
    builder = StateGraph(State)
    builder.add_node("ask", lambda state: {"said": [interrupt("well?")]})
    builder.add_edge(START, "ask")
    graph, ledger = builder.compile(checkpointer=InMemorySaver()), Asked()

    def config() -> Any:
        handler = FinOpsHandler(budgets=[Budget(steps=5)], ledger=ledger)  # Another process's.
        return {"callbacks": [handler], "configurable": {"thread_id": "t-1"}}

    graph.invoke({"said": []}, config())
    ledger.since.clear()
    assert graph.invoke(Command(resume="yes"), config())["said"] == ["yes"]

    assert len(ledger.since) >= 4
    assert len(set(ledger.since)) == 1
    assert ledger.since[0] is not None
    list(ledger.runs())
    assert ledger.since[-1] is None
