"""One budget spent by many at once: never a call too many, never one too few, whoever dies in the middle."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guarded_scenes import EVERY_STORE, asking, cents, line

from langchain_finops import Budget, BudgetExceeded, Ledger, open_ledger

ON_DISK = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


@EVERY_STORE
def test_64_threads_make_ten_calls(guarded: Any, ledger: Ledger) -> None:
    """Ten cents and a bit, 64 graphs on threads of their own, through one handler."""
    model, handler = cents(), guarded(Budget(usd="0.105", scope="agent_id"))
    graph = line({"a": asking(model)})

    def once(number: int) -> bool:
        try:
            graph.invoke({"said": [], "prompt": f"p{number}"}, {"callbacks": [handler]})
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        made = sum(pool.map(once, range(64)))

    assert made == model.calls == 10
    assert [(each.spent, each.held) for each in ledger.balances()] == [(10 * 10**10, 0)]


@EVERY_STORE
def test_200_tasks_make_ten_calls(guarded: Any, ledger: Ledger) -> None:
    """The same on one event loop."""
    model, handler = cents(), guarded(Budget(usd="0.105", scope="agent_id"))
    graph = line({"a": asking(model)})

    async def all_at_once() -> list[Any]:
        runs = (graph.ainvoke({"said": [], "prompt": f"p{n}"}, {"callbacks": [handler]}) for n in range(200))
        return await asyncio.gather(*runs, return_exceptions=True)

    ended = asyncio.run(all_at_once())

    assert model.calls == 10
    assert sum(isinstance(each, BudgetExceeded) for each in ended) == 190
    assert [(each.spent, each.held) for each in ledger.balances()] == [(10 * 10**10, 0)]


def spend(url: str, usd: str, count: int, *killed: int) -> list[list[str]]:
    program = str(Path(__file__).with_name("spending_processes.py"))
    command = [sys.executable, program, url, usd, str(count), *map(str, killed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return [said.split() for said in done.stdout.splitlines() if said]


@ON_DISK
def test_eight_processes_spend_one_budget_to_the_last_cent(url: str) -> None:
    """60 cents, a cent a call: sixty calls in all, each on the ledger, in whichever process."""
    open_ledger(url).close()

    said = spend(url, "0.605", 8)

    ledger = open_ledger(url)
    assert [(why, faults) for _, why, faults in said] == [("budget", "0")] * 8
    assert sum(int(calls) for calls, _, _ in said) == 60
    assert len(list(ledger.calls())) == 60
    assert [(each.spent, each.held, each.unsettled) for each in ledger.balances()] == [(60 * 10**10, 0, 0)]
    ledger.close()


@ON_DISK
def test_a_process_that_is_killed_in_mid_call_loses_no_settled_call(url: str) -> None:
    """Three of eight are killed -9 in their second call: their first is on the ledger, what they held stays held."""
    open_ledger(url).close()

    said = spend(url, "0.605", 8, 1, 2, 5)

    ledger = open_ledger(url)
    assert said[:3] == [["killed"]] * 3
    survivors = said[3:]
    assert [(why, faults) for _, why, faults in survivors] == [("budget", "0")] * 5
    # Each that died holds its second call, at a cent and a little for its prompt: three calls less for the others.
    written = len(list(ledger.calls()))
    assert written == 3 + sum(int(calls) for calls, _, _ in survivors) == 57
    (balance,) = ledger.balances()
    assert balance.spent == 57 * 10**10
    assert 3 * 10**10 <= balance.held < 3 * 10**10 + 10**9
    ledger.close()
