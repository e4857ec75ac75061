"""A run that goes on and on is worth a word."""

import logging

import pytest
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_finops import FinOpsHandler, PriceBook


class State(TypedDict):
    count: int


def looping(steps: int):
    """A graph whose one node runs that often."""
    builder = StateGraph(State)
    builder.add_node("again", lambda state: {"count": state["count"] + 1})
    builder.add_edge(START, "again")
    builder.add_conditional_edges("again", lambda state: "again" if state["count"] < steps else END)
    return builder.compile()


@pytest.mark.parametrize(("steps", "warnings"), [(25, 0), (26, 1)])
def test_a_run_past_25_steps_is_told_once(steps: int, warnings: int, caplog: pytest.LogCaptureFixture) -> None:
    """The 26th step warns, with the remedy; the same handler's next long run does not warn again."""
    handler = FinOpsHandler(ledger=":memory:", prices=PriceBook(catalog=False))
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(2):
            looping(steps).invoke({"count": 0}, {"callbacks": [handler], "recursion_limit": 100})

    told = [record.getMessage() for record in caplog.records if "without a limit" in record.getMessage()]
    assert len(told) == warnings
    assert all("passed 25 steps" in message and "recursion_limit" in message for message in told)
