"""What guards cost, measured in one run: `python benchmarks/guards.py [--only ROW] [--repeat N]`.

Figures to reach stand beside those measured. Rows on metering run the loop of `metering.py` with two budgets, in turn
with the same loop under an empty handler, A B A B, and print the median of the ratios pair by pair.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from langchain_finops import Budget, FinOpsHandler, PriceBook, open_ledger
from langchain_finops.ledger.holds import Line, Settlement
from langchain_finops.records import Attribution, CallRecord
from langchain_finops.usage import Usage
from metering import CARDS, NODES, Empty, loop_graph, pairs, run_loop

PROCESSES = 8
CALLS = 300
"""Of each process."""
COST_PICO = 10**10
FITS = PROCESSES * CALLS * 9 // 10
"""So many calls the budget has room for: the last ones are refused."""
BALANCE = "usd/day agent_id=support @2026-11-26T00:00:00Z"
BUDGETS = (Budget(usd=1_000), Budget(usd=1_000, per="day", scope="agent_id"))
"""One per run, one per day and agent; nothing is refused."""


def show(what: str, reach: str, got: str) -> None:
    """Print a row."""
    print(f"{what:<76} {reach:>24} {got:>34}", flush=True)


def call(name: str, number: int) -> CallRecord:
    """A call of one cent."""
    at, cost = datetime.now(UTC), Decimal("0.01")
    return CallRecord(
        call_id=f"{name}-{number}",
        run_id=name,
        invocation_id=name,
        attribution=Attribution(agent_id="support", node="write", node_path="write"),
        provider="openai",
        model="gpt-4.1-mini",
        usage=Usage(input_tokens=10, output_tokens=40),
        cost_usd=cost,
        contracted_usd=cost,
        billed_usd=cost,
        cost_status="exact",
        started_at=at,
        ended_at=at,
    )


def spend(path: str, name: str, calls: int) -> None:
    """One process: hold and settle calls on the shared budget; prints how many were admitted, from when to when."""
    ledger = open_ledger(path, hold_timeout=60)
    ledger.balances(BALANCE)
    print("ready", flush=True)
    sys.stdin.readline()
    began, admitted = time.time(), 0
    for number in range(calls):
        record = call(name, number)
        lines = [Line(balance=BALANCE, amount=COST_PICO, limit=FITS * COST_PICO)]
        if ledger.hold(record.call_id, lines, at=record.started_at).refused is None:
            ledger.settle(Settlement(record=record, hold_id=record.call_id, amounts={BALANCE: COST_PICO}))
            admitted += 1
    print(admitted, began, time.time(), flush=True)


def held_and_settled(path: Path) -> float:
    """Calls a second that all processes together held and settled. Raises AssertionError for one too many or few."""
    command = [sys.executable, __file__, "--spend", str(path)]
    processes = [
        subprocess.Popen([*command, f"p{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in processes]
    admitted = sum(int(words[0]) for words in said)
    ledger = open_ledger(path)
    (balance,) = ledger.balances(BALANCE)
    written = sum(1 for _ in ledger.calls())
    ledger.close()
    assert admitted == written == FITS, f"{admitted} admitted, {written} written, and {FITS} fit"
    assert (balance.spent, balance.held) == (FITS * COST_PICO, 0), balance
    return admitted / (max(float(words[2]) for words in said) - min(float(words[1]) for words in said))


def row_holds(repeat: int) -> None:
    """Many processes on one budget in a SQLite file."""
    rates = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "ledger.db"
            open_ledger(path).close()
            rates.append(held_and_settled(path))
    got = f"{statistics.median(rates):,.0f} a second, 0 overspent"
    show(f"{PROCESSES} processes hold and settle on one SQLite budget, strict", ">= 1,000 a second", got)


def metering(repeat: int, where: str, reach: dict[bool, str]) -> None:
    """1,000 one-call nodes under two budgets against the same with an empty handler; a fresh ledger each time."""
    for asynchronous in (False, True):
        graph, empty = loop_graph(asynchronous=asynchronous), Empty()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            names = (Path(folder) / f"{number}.db" for number in itertools.count())

            def with_us(graph: Any = graph, names: Any = names, asynchronous: bool = asynchronous) -> float:
                ledger = open_ledger(":memory:" if where == "memory" else next(names))
                handler = FinOpsHandler(ledger=ledger, prices=PriceBook(cards=CARDS), budgets=BUDGETS)
                seconds = run_loop(graph, [handler], asynchronous=asynchronous)
                spent = [balance for balance in ledger.balances() if balance.spent and not balance.held]
                assert handler.faults == 0
                assert len(spent) == 1, "the run's own balance is with the run, the day's on the ledger"
                ledger.close()
                return seconds

            def without(graph: Any = graph, empty: Any = empty, asynchronous: bool = asynchronous) -> float:
                return run_loop(graph, [empty], asynchronous=asynchronous)

            ratio, ours, other = pairs(with_us, without, repeat)
        added = (ours - other) / NODES * 1e6
        kind = "async" if asynchronous else "sync"
        got = f"{ratio:.2f}x (adds {added:.0f} to {other / NODES * 1e6:.0f} us)"
        show(f"{NODES:,} one-call nodes, two budgets, {where} ledger, {kind}", reach[asynchronous], got)


def row_memory(repeat: int) -> None:
    """Memory ledger."""
    metering(repeat, "memory", {False: "-", True: "-"})


def row_sqlite(repeat: int) -> None:
    """SQLite ledger."""
    metering(repeat, "SQLite", {False: "2.2x", True: "1.7x"})


def row_blocking(repeat: int) -> None:
    """How long a hook keeps the event loop from its other work, SQLite ledger, two budgets, one process."""
    times: dict[str, list[float]] = {"start": [], "end": []}

    class Timed(FinOpsHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            begin = time.perf_counter()
            super().on_chat_model_start(*args, **kwargs)
            times["start"].append(time.perf_counter() - begin)

        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            begin = time.perf_counter()
            super().on_llm_end(*args, **kwargs)
            times["end"].append(time.perf_counter() - begin)

    graph = loop_graph(asynchronous=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ledger = open_ledger(Path(folder) / "ledger.db")
        handler = Timed(ledger=ledger, prices=PriceBook(cards=CARDS), budgets=BUDGETS)
        for _ in range(repeat):
            run_loop(graph, [handler], asynchronous=True)
        ledger.close()
    for what, taken in times.items():
        taken.sort()
        p99, longest = taken[int(len(taken) * 0.99)] * 1e3, taken[-1] * 1e3
        row = f"the hook at a call's {what} blocks the event loop, two budgets, SQLite, p99"
        show(row, "2 ms", f"{p99:.2f} ms (longest {longest:.1f} ms)")


ROWS: dict[str, Callable[[int], None]] = {
    "holds": row_holds,
    "memory": row_memory,
    "sqlite": row_sqlite,
    "blocking": row_blocking,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(ROWS), action="append")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--spend", nargs=2, metavar=("LEDGER", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.spend:
        spend(*arguments.spend, CALLS)
        return
    for name in arguments.only or ROWS:
        ROWS[name](arguments.repeat)


if __name__ == "__main__":
    main()
