"""Many processes that spend one budget with real graphs: `python spending_processes.py URL USD COUNT [KILLED ...]`.

Each loops until it is refused; those numbered in KILLED are killed in the middle of their second call. Prints how many
calls each one's provider received, and why it ended. They are forked, so that LangChain is loaded once.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from langchain_finops import Budget, CallRefused, FinOpsHandler, PriceBook, open_ledger
from langchain_finops.pricing import parse_cards

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from guarded_scenes import CENT, asking, looping  # noqa: E402  Found by the path above.
from scripted_models import Reply, ScriptedChat  # noqa: E402

CARDS = [{"id": "scripted", "match": {"model": "scripted*"}, "rates": {"input_tokens": "2", "output_tokens": "10"}}]


def spend(url: str, usd: str, number: int, *, is_killed: bool) -> str:
    """Loop until refused; what came of it."""

    def answer(_prompt: str, call: int) -> Reply:
        if is_killed and call == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Reply(usage=CENT)

    model = ScriptedChat(script=answer)
    handler = FinOpsHandler(
        agent_id="support",
        budgets=[Budget(usd=usd, per="year", scope="agent_id", fail_closed=True)],
        ledger=open_ledger(url, hold_timeout=60),
        prices=PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False),
    )
    config: Any = {"callbacks": [handler], "recursion_limit": 1_000}
    graph = looping(asking(model), rounds=500)
    try:
        if number % 2:
            asyncio.run(graph.ainvoke({"said": []}, config))
        else:
            graph.invoke({"said": []}, config)
    except CallRefused as refusal:
        why = refusal.kind
    else:
        why = "nothing"
    return f"{model.calls} {why} {handler.faults}"


def forked(url: str, usd: str, number: int, *, is_killed: bool) -> int:
    """Start one; the pipe that it will write into."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.write(writing, spend(url, usd, number, is_killed=is_killed).encode())
        os._exit(0)
    os.close(writing)
    return reading


def said(pipe: int) -> str:
    """What one said in the end; nothing if it was killed."""
    with os.fdopen(pipe) as file:
        return file.read() or "killed"


def main(url: str, usd: str, count: str, *killed: str) -> None:
    """Fork those to be killed, wait for their end, fork the others, wait for all, and print what they say."""
    # First: the others would leave some of them no second call to be killed in.
    dying = [forked(url, usd, int(number), is_killed=True) for number in killed]
    print(*map(said, dying), sep="\n", flush=True)
    living = [forked(url, usd, number, is_killed=False) for number in range(int(count)) if str(number) not in killed]
    print(*map(said, living), sep="\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
