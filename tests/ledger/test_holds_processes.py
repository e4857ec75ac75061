"""One SQLite budget, many threads, tasks and processes, some of them killed: never a call more than fits, nor less."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from langchain_finops.testing.holding import hold, in_threads, now, settle, standing

SPEND = """
    import os, signal, sys
    from langchain_finops.ledger import open_ledger
    from langchain_finops.ledger.sql import SqlLedger  # Before the forks: it is slow to import.
    from langchain_finops.testing.holding import hold, settle

    def spend(path, name, limit):
        ledger = open_ledger(path, hold_timeout=60)
        ledger.balances()
        os.write(ready, b".")
        os.read(go, 1)  # Until all are there: the first ones would spend it all.
        number = 0
        while hold(ledger, f"{name}-{number}", ("outer", 10, limit), ("inner", 1)) is None:
            os.write(1, f"{name} {os.getpid()} held {number}\\n".encode())
            if name in "ab" and number == 3 and mortal:
                os.kill(os.getpid(), signal.SIGKILL)
            settle(ledger, f"{name}-{number}", outer=10, inner=1)
            os.write(1, f"{name} {os.getpid()} settled {number}\\n".encode())
            number += 1
        ledger.close()

    path, limit, mortal, names = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "mortal", sys.argv[4:]
    (is_ready, ready), (go, may_go) = os.pipe(), os.pipe()
    children = []
    for name in names:
        if not (child := os.fork()):
            os.close(may_go)
            spend(path, name, limit)
            os._exit(0)
        children.append(child)
    for _ in names:
        os.read(is_ready, 1)
    os.close(may_go)
    for child in children:
        os.waitpid(child, 0)
"""


def start(path: Path, names: Sequence[str], limit: int, lot: str = "") -> "subprocess.Popen[str]":
    """Processes that each spend until the budget refuses, and say what they do; `mortal`: a and b die in mid-call."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(SPEND), str(path), str(limit), lot, *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_eight_processes_spend_a_budget_to_the_last_call(path: Path, opened):
    """Not one call more, and not one less; the inner balance and the records say the same."""
    with start(path, list("abcdefgh"), 3009) as spenders:
        said = [line.split() for line in spenders.communicate()[0].splitlines()]

    ledger = opened(path)
    assert sum(words[2] == "settled" for words in said) == 300
    assert [standing(ledger, key) for key in ("outer", "inner")] == [(3000, 0, 0), (300, 0, 0)]
    assert ledger.totals()[0].totals.calls == 300


def test_kill_9_leaves_holds_that_expire_and_no_call_too_many(path: Path, opened):
    """Six of eight are killed, in mid-call or wherever they are: what they held counts until it expires."""
    ledger = opened(path)
    names, killed = list("abcdefgh"), set("ab")
    when = dict(zip("cdef", random.Random(7).sample(range(8), 4), strict=True))
    settled = 0
    with start(path, names, 3000, "mortal") as spenders:
        assert spenders.stdout is not None
        for line in spenders.stdout:
            name, pid, what, number = line.split()
            settled += what == "settled"
            if name not in killed and what == "held" and int(number) >= when.get(name, 10**9):
                os.kill(int(pid), signal.SIGKILL)
                killed.add(name)

    (outer,), (inner,) = ledger.balances("outer"), ledger.balances("inner")
    calls = ledger.totals()[0].totals.calls
    # One that is killed may have settled just before, without having said so.
    assert settled <= calls <= settled + len(killed)
    assert (outer.spent, inner.spent) == (10 * calls, calls)
    assert outer.held == 10 * inner.held
    assert 2 <= inner.held <= len(killed)
    # Nobody can spend what dead processes hold, until it expires; then all of it.
    assert outer.spent + outer.held == 3000
    later = {"at": now() + timedelta(days=1)}
    for number in range(inner.held):
        assert hold(ledger, f"late{number}", ("outer", 10, 3000), **later) is None
    assert hold(ledger, "late", ("outer", 10, 3000), **later) == 0


def test_sixty_four_threads_on_one_object(path: Path, opened):
    """A server's threads share a handler."""
    ledger = opened(path, hold_timeout=60.0)

    def spend(thread: int) -> int:
        admitted = 0
        for number in range(6):
            if hold(ledger, f"{thread}-{number}", ("a", 10, 1009)) is None:
                settle(ledger, f"{thread}-{number}", a=10)
                admitted += 1
        return admitted

    assert sum(in_threads(64, spend)) == 100
    assert standing(ledger, "a") == (1000, 0, 0)


def test_four_event_loops_and_four_threads_at_once(path: Path, opened):
    """Two objects on one file, in place and on the ledger's own thread."""
    ledgers = [opened(path, hold_timeout=60.0) for _ in range(2)]

    def spend(thread: int) -> int:
        ledger = ledgers[thread % 2]

        def call(number: int) -> bool:
            if hold(ledger, f"{thread}-{number}", ("a", 10, 1509)) is not None:
                return False
            settle(ledger, f"{thread}-{number}", a=10)
            return True

        async def gather() -> int:
            async def one(number: int) -> bool:
                await asyncio.sleep(0)
                return call(number)

            return sum(await asyncio.gather(*(one(number) for number in range(40))))

        return asyncio.run(gather()) if thread < 4 else sum(call(number) for number in range(40))

    assert sum(in_threads(8, spend)) == 150
    assert [standing(ledger, "a") for ledger in ledgers] == [(1500, 0, 0)] * 2
