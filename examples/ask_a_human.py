"""At its limit the agent asks a person, who gives it more money; then it goes on where it was, and pays nothing twice.

python examples/ask_a_human.py
"""

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_finops import Budget, FinOpsHandler, stopped
from one_line import Scripted, said
from runaway_agent import agent, quiet_langchain, wants_to_search


def thoughts() -> Iterator[AIMessage]:
    """Six searches, and an answer: seven calls of $0.004."""
    yield from (wants_to_search(number) for number in range(1, 7))
    yield said("Invoice A-47 is open.", input_tokens=5_000, output_tokens=1_250)


def main() -> None:
    """Pause at two cents, approve two more, and print the answer."""
    quiet_langchain()
    graph = agent(Scripted(messages=thoughts()), checkpointer=InMemorySaver())  # It keeps the state while we wait.
    handler = FinOpsHandler(ledger=":memory:", budgets=[Budget(usd=0.02, on_exceed="interrupt", warn_at=())])
    config: Any = {"callbacks": [handler], "configurable": {"thread_id": "invoice"}}

    result = graph.invoke({"messages": [HumanMessage("Which invoice is open?")]}, config)
    stop = stopped(result)
    assert stop is not None
    print(f"paused in node {stop.node_path}: ${stop.spent} of ${stop.limit} spent, ${stop.estimate:.4f} asked for")
    print("answers:", *result["__interrupt__"][0].value["answers"], sep="\n  ")
    print()

    print("a person says: yes, two cents more")
    result = graph.invoke(Command(resume={"approve": True, "usd": 0.02, "by": "ada"}), config)
    assert stopped(result) is None
    print("the agent says:", result["messages"][-1].text)

    calls = list(handler.ledger.calls())
    runs = {call.run_id for call in calls}
    print(f"{len(calls)} calls for ${sum(call.cost_usd or 0 for call in calls):.3f}, in {len(runs)} run")
    (approval,) = handler.ledger.events(action="approve")
    assert approval.before is not None
    assert approval.after is not None
    print(f"approved by {approval.actor}: ${approval.before['limit']} -> ${approval.after['limit']}")


if __name__ == "__main__":
    main()
