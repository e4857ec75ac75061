"""A child that was forked while other threads write goes on, and is not left with their locks."""

import os
import signal
import threading
from pathlib import Path

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.forks import in_sqlite
from langchain_finops.testing.records import a_call


def forked(child) -> int:
    """Exit code of a child that does something and ends."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            child()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_waits_until_no_thread_is_inside_sqlite():
    """The child would inherit the locks that SQLite holds just then, and wait for them for ever."""
    order: list[str] = []
    is_inside = threading.Event()

    def work() -> None:
        with in_sqlite:
            is_inside.set()
            while not in_sqlite.forking:
                os.sched_yield()
            order.append("left")

    thread = threading.Thread(target=work)
    thread.start()
    is_inside.wait()

    code = forked(lambda: order.append("forked"))
    order.append("forked")
    thread.join()

    assert (order, code) == (["left", "forked"], 0)
    assert (in_sqlite.inside, in_sqlite.forking) == ([], False)


def test_a_fork_from_within_goes_on(monkeypatch):
    """It waits for itself no longer than it must, and the child starts with nobody inside."""
    monkeypatch.setattr("langchain_finops.ledger.forks.PATIENCE_S", 0.01)

    def child() -> None:
        assert in_sqlite.inside == []

    with in_sqlite:
        assert forked(child) == 0
    assert in_sqlite.inside == []


def test_children_forked_while_threads_write_can_write(path: Path, opened):
    """Twenty times, while three threads are in the midst of it."""
    ledger = opened(path, hold_timeout=60.0)
    is_over = threading.Event()

    def write(name: int) -> None:
        number = 0
        while not is_over.is_set():
            ledger.write(a_call(f"{name}-{number}"))
            number += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    codes = [forked(lambda name=f"child{number}": ledger.write(a_call(name))) for number in range(20)]
    is_over.set()
    for thread in threads:
        thread.join()

    assert codes == [0] * 20
    assert sum(call.call_id.startswith("child") for call in open_ledger(path).calls()) == 20
