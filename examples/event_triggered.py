"""What polling costs: one agent is asked each hour whether there is mail, the other runs when mail arrives.

python examples/event_triggered.py
"""

from collections.abc import Iterable

from langchain_core.runnables import RunnableConfig, RunnableLambda

from langchain_finops import FinOpsHandler
from one_line import Scripted, said

ARRIVALS: dict[int, str] = {9: "Where is my order?", 17: "Please cancel it."}
"""The mail of a day, by the hour."""


def answer(mail: str | None) -> str:
    """Read the inbox with a scripted model: 1,000 tokens in, 10 out where there is nothing to do, else 200."""
    text, output_tokens = ("nothing to do", 10) if mail is None else (f"Re: {mail}", 200)
    model = Scripted(messages=iter([said(text, input_tokens=1_000, output_tokens=output_tokens)]))
    return str(model.invoke(f"Mail: {mail}").content)


def run(agent: str, mails: Iterable[str | None]) -> None:
    """Run an agent once for each of these, and print what that cost."""
    handler = FinOpsHandler(agent_id=agent, ledger=":memory:")
    config: RunnableConfig = {"callbacks": [handler]}
    replies = [RunnableLambda(answer, name=agent).invoke(mail, config) for mail in mails]
    calls = list(handler.ledger.calls())
    cost = sum(call.cost_usd for call in calls if call.cost_usd is not None)
    useful = sum(reply.startswith("Re: ") for reply in replies)
    print(f"{agent}: {len(calls)} calls, {useful} replies, ${cost:.6f}, ${cost / useful:.6f} a reply")


def main() -> None:
    """Let both agents have the same day."""
    run("polling", (ARRIVALS.get(hour) for hour in range(24)))
    # What starts this one is plain code: a webhook, a queue, a file that changed. It asks no model.
    run("triggered", ARRIVALS.values())


if __name__ == "__main__":
    main()
