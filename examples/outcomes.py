"""What a success costs: tell the handler what became of each task, and ask for the cost per success.

python examples/outcomes.py
"""

from langchain_core.runnables import RunnableConfig, RunnableLambda

from langchain_finops import FinOpsHandler
from one_line import Scripted, said

ANSWERS = {"t-1": "42", "t-2": "17", "t-3": "no idea", "t-4": "8"}
RIGHT = {"t-1": "42", "t-2": "17", "t-3": "99", "t-4": "8"}


def agent(task_id: str) -> str:
    """Solve a task with a scripted model that uses 1,000 tokens in and 100 out."""
    model = Scripted(messages=iter([said(ANSWERS[task_id], input_tokens=1_000, output_tokens=100)]))
    return str(model.invoke(f"Solve {task_id}").content)


def main() -> None:
    """Solve four tasks, log what became of each, and print the cost per success."""
    handler = FinOpsHandler(agent_id="solver", ledger=":memory:")
    for task_id, right in RIGHT.items():
        config: RunnableConfig = {"callbacks": [handler], "metadata": {"task_id": task_id}}
        answer = RunnableLambda(agent, name="solver").invoke(task_id, config)
        handler.log_outcome(task_id=task_id, success=answer == right, value_usd="0.50", judged_by="exact match")

    calls = list(handler.ledger.calls())
    cost = sum(call.cost_usd for call in calls if call.cost_usd is not None)
    successes = sum(outcome.success is True for outcome in handler.ledger.outcomes())
    print(f"{len(calls)} calls, {successes} of {len(RIGHT)} tasks solved")
    print(f"cost ${cost:.6f}, cost per success ${cost / successes:.6f}")


if __name__ == "__main__":
    main()
