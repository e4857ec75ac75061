"""Jobs that nobody waits for: each done, in its time, on a thread that goes when there are none."""

import os
import subprocess
import sys
import threading
import time

from langchain_finops.budgets import background
from langchain_finops.budgets.background import Background


def test_jobs_run_on_another_thread_in_order():
    """Whoever submits goes on at once."""
    jobs = Background("jobs", lambda error: None)
    done: list[tuple[int, str]] = []
    for number in range(20):
        assert jobs.submit(lambda number=number: done.append((number, threading.current_thread().name)))

    assert jobs.flush(10)
    assert done == [(number, "jobs") for number in range(20)]


def test_the_thread_goes_when_there_is_nothing_to_do_and_comes_back():
    """A handler that nobody closes leaves no thread behind."""
    jobs = Background("passing", lambda error: None)
    for _ in range(3):
        done = threading.Event()
        jobs.submit(done.set)
        assert jobs.flush(10)
        assert done.is_set()
        for thread in threading.enumerate():
            if thread.name == "passing":
                thread.join(10)
        assert "passing" not in {thread.name for thread in threading.enumerate()}


def test_a_job_that_waits_for_its_time_can_be_hurried():
    """Who ends soon has what is due in an hour done now."""
    jobs = Background("jobs", lambda error: None)
    done: list[str] = []
    jobs.submit(lambda: done.append("later"), delay_s=3_600)
    jobs.submit(lambda: done.append("now"))
    assert not jobs.flush(0.01)

    jobs.hurry()
    assert jobs.flush(10)
    assert sorted(done) == ["later", "now"]


def test_what_waits_already_is_not_asked_for_twice():
    """A thousand calls that want the same looked at want it once."""
    jobs = Background("jobs", lambda error: None)
    gate = threading.Event()
    done: list[int] = []
    jobs.submit(gate.wait)
    for _ in range(1_000):
        assert jobs.submit(lambda: done.append(1), key="same")
    gate.set()
    assert jobs.flush(10)

    assert done == [1]


def test_jobs_of_one_key_begin_apart():
    """The second one waits for its time, the one of another key does not."""
    jobs = Background("jobs", lambda error: None, apart_s=3_600)
    done: list[str] = []
    jobs.submit(lambda: done.append("a"), key="a")
    assert jobs.flush(10)
    jobs.submit(lambda: done.append("a again"), key="a")
    jobs.submit(lambda: done.append("b"), key="b")
    assert not jobs.flush(0.01)

    assert done[:1] == ["a"]
    assert "a again" not in done
    jobs.hurry()
    assert jobs.flush(10)
    assert sorted(done) == ["a", "a again", "b"]


def test_no_more_than_so_many_wait():
    """What does not fit is refused, not remembered for ever."""
    jobs = Background("jobs", lambda error: None, most=2)
    gate, begun = threading.Event(), threading.Event()
    jobs.submit(lambda: (begun.set(), gate.wait()))
    assert begun.wait(10)

    assert [jobs.submit(lambda: None) for _ in range(3)] == [True, True, False]
    gate.set()
    assert jobs.flush(10)


def test_a_job_that_fails_costs_the_others_nothing():
    """Its fault is told, and the next one runs."""
    faults: list[Exception] = []
    jobs = Background("jobs", faults.append)
    done: list[int] = []
    jobs.submit(lambda: 1 / 0)
    jobs.submit(lambda: done.append(1))

    assert jobs.flush(10)
    assert (done, [type(fault) for fault in faults]) == ([1], [ZeroDivisionError])


def test_keys_are_not_remembered_for_ever(monkeypatch):
    """Memory is bounded, whatever the number of users."""
    monkeypatch.setattr(background, "KEYS_KEPT", 10)
    jobs = Background("jobs", lambda error: None, apart_s=1.0)
    for number in range(100):
        jobs.submit(lambda: None, key=number)
    assert jobs.flush(10)

    assert len(jobs._began) <= 10


def test_a_child_of_a_fork_starts_empty():
    """The parent's jobs are the parent's, and the child's own run."""
    jobs = Background("jobs", lambda error: None)
    gate = threading.Event()
    jobs.submit(gate.wait)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        jobs.submit(lambda: done.append(1))
        os._exit(0 if jobs.flush(10) and done == [1] else 1)
    gate.set()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert jobs.flush(10)


def test_an_idle_flush_returns_at_once():
    """Nothing to do is done."""
    began = time.monotonic()
    assert Background("jobs", lambda error: None).flush(3_600)
    assert time.monotonic() - began < 3_600


AT_THE_END = """
from langchain_finops.budgets.background import Background
first, second = Background("first", print), Background("second", print)
first.submit(lambda: second.submit(lambda: print("told", flush=True)), delay_s=3_600)
"""


def test_a_process_that_ends_does_what_waits():
    """A script's last call sets an alert off: it is looked at, and told, before the threads are gone."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=True, timeout=60)

    assert (done.stdout, done.stderr) == ("told\n", "")


def test_a_process_that_ends_waits_for_nobody_for_long():
    """A job that hangs does not keep the process from ending."""
    code = AT_THE_END.replace('print("told", flush=True)', '__import__("time").sleep(3_600)')
    code += "from langchain_finops.budgets import background\nbackground.LAST_S = 0.1\n"
    assert "sleep" in code
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
