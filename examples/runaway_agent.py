"""A runaway agent, stopped at its limit: it would search for ever, but it has two cents.

python examples/runaway_agent.py
"""

import logging
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, stopped
from one_line import Scripted, said


@tool
def search(query: str) -> str:
    """Search the knowledge base."""
    return f"Nothing found for {query!r}. Try other words."


def agent(model: Scripted, **options: Any) -> Any:
    """A model that may search as often as it likes before it answers."""

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("tools", ToolNode([search]))
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", tools_condition)
    builder.add_edge("tools", "think")
    return builder.compile(**options)


def wants_to_search(number: int) -> AIMessage:
    """A thought that costs $0.004: 5,000 tokens in at $0.40 a million, 1,250 out at $1.60."""
    thought = said(f"Search once more ({number}).", input_tokens=5_000, output_tokens=1_250)
    arguments = {"query": f"invoice, attempt {number}"}
    thought.tool_calls = [{"name": "search", "args": arguments, "id": f"call-{number}", "type": "tool_call"}]
    return thought


def for_ever() -> Iterator[AIMessage]:
    """What a runaway agent thinks."""
    return map(wants_to_search, count(1))


def quiet_langchain() -> None:
    """Have LangChain not log each refusal as a failed callback."""
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.ERROR)


def main() -> None:
    """Run the agent until its budget says no, and print why."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")  # What the budget warns of.
    quiet_langchain()
    graph = agent(Scripted(messages=for_ever()))
    handler = FinOpsHandler(ledger=":memory:", budgets=[Budget(usd=0.02)])
    try:
        graph.invoke({"messages": [HumanMessage("Which invoice is open?")]}, {"callbacks": [handler]})
    except BudgetExceeded as refusal:
        stop = stopped(refusal)
        assert stop is not None
        print(f"stopped by {stop.reason} in node {stop.node_path}: ${stop.spent} of ${stop.limit} spent")
        print(refusal)
    calls = sum(1 for _ in handler.ledger.calls())
    print(f"{calls} calls were made, and not one more")


if __name__ == "__main__":
    main()
