"""One daily budget, eight processes: together they spend it to the last call that fits, and never a call more.

python examples/shared_budget.py
"""

import multiprocessing
import tempfile
from collections import Counter
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, open_ledger
from one_line import Scripted
from runaway_agent import agent, for_ever, quiet_langchain

PROCESSES = 8
DAILY = Budget(
    usd="0.102", per="day", scope="agent_id", warn_at=(),
    expected_output_tokens=2_500,  # Until the first answer shows what one costs: more than enough is held.
    fail_closed=True,  # Better no call than one that nobody counted.
)  # fmt: skip
"""Room for 25 calls of $0.004."""


def work(path: Path, start: Barrier) -> None:
    """One process: an agent that runs until the budget says no."""
    quiet_langchain()
    handler = FinOpsHandler(agent_id="support", ledger=open_ledger(path, hold_timeout=30), budgets=[DAILY])
    graph = agent(Scripted(messages=for_ever()))
    start.wait()
    with suppress(BudgetExceeded):
        graph.invoke({"messages": [HumanMessage("Which invoice is open?")]}, {"callbacks": [handler]})
    handler.ledger.close()


def main() -> None:
    """Start them all at once on one file, and print what each did, and what the ledger says."""
    can_fork = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    if can_fork:  # What takes time to load is loaded once, not eight times.
        context.set_forkserver_preload(
            ["langchain_finops.langchain.handler", "langgraph.prebuilt", "genai_prices.data"]
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        open_ledger(path).close()
        start = context.Barrier(PROCESSES)
        processes = [context.Process(target=work, args=(path, start)) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        ledger = open_ledger(path)
        calls = list(ledger.calls())
        ledger.close()
    print("calls of each process:", *Counter(call.run_id for call in calls).values())
    print(f"{len(calls)} calls in all, ${sum(call.cost_usd or 0 for call in calls):.3f} of ${DAILY.usd} spent")


if __name__ == "__main__":
    main()
