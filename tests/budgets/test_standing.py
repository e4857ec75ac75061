"""What was set from outside reaches running handlers within a second, in every process, whatever fails."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from langchain_finops.budgets import standing as module
from langchain_finops.budgets import switch
from langchain_finops.budgets.outside import set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.standing import Standing
from langchain_finops.errors import BadData, LedgerError
from langchain_finops.ledger import open_ledger
from langchain_finops.records import NO_ATTRIBUTION, Attribution

SUPPORT = Attribution(agent_id="support", user_id="u-1", task_id="t-1")


class Clocks:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.monotonic = 1_000.0
        self.now = datetime.now(UTC)

    def pass_s(self, seconds: float) -> None:
        self.monotonic += seconds
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    opened = open_ledger(":memory:" if request.param == "memory" else tmp_path / "l.db")
    yield opened
    opened.close()


@pytest.fixture
def faults():
    return []


@pytest.fixture
def standing(ledger, clocks, faults, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Standing(ledger, failed=faults.append, monotonic=lambda: clocks.monotonic, now=lambda: clocks.now)


def test_a_kill_is_known_within_half_a_second(ledger, standing, clocks):
    """Not at the very next moment, so that a thousand calls a second do not ask a thousand times; but soon."""
    switch.kill(ledger, "agent_id", "support", reason="loops")
    clocks.pass_s(0.4)
    standing.refresh()
    assert standing.kill_for(SUPPORT) is None

    clocks.pass_s(0.1)
    standing.refresh()
    assert standing.kill_for(SUPPORT).reason == "loops"
    assert standing.kill_for(Attribution(agent_id="sales")) is None


def test_revived_is_let_through_again(ledger, standing, clocks):
    """As fast as it was killed."""
    switch.kill(ledger, "all")
    clocks.pass_s(1)
    standing.refresh()
    assert standing.kill_for(NO_ATTRIBUTION) is not None

    switch.revive(ledger, "all")
    clocks.pass_s(1)
    standing.refresh()
    assert standing.kill_for(NO_ATTRIBUTION) is None


def test_a_kill_that_stood_before_is_known_from_the_start(ledger, faults, tmp_path, monkeypatch):
    """A process that starts after the kill makes no call at all."""
    monkeypatch.chdir(tmp_path)
    switch.kill(ledger, "user_id", "u-1")

    assert Standing(ledger, failed=faults.append).kill_for(SUPPORT) is not None


def test_a_kill_ends_by_itself(ledger, standing, clocks):
    """Without anybody asking the ledger again: by the clock of the wall."""
    switch.kill(ledger, "task_id", "t-1", until=clocks.now + timedelta(hours=1))
    clocks.pass_s(1)
    standing.refresh()
    assert standing.kill_for(SUPPORT) is not None

    clocks.pass_s(3_600)
    assert standing.kill_for(SUPPORT) is None


def test_only_a_kill_with_now_cuts_streams_off(ledger, standing, clocks):
    """`kills_now` says whether anybody has to look at each token."""
    switch.kill(ledger, "agent_id", "support")
    clocks.pass_s(1)
    standing.refresh()
    assert (standing.kills_now, standing.kill_for(SUPPORT, now=True)) == (False, None)

    switch.kill(ledger, "user_id", "u-1", now=True)
    clocks.pass_s(1)
    standing.refresh()
    assert standing.kills_now
    assert standing.kill_for(SUPPORT, now=True).key == "user_id=u-1"
    assert standing.kill_for(SUPPORT).key == "agent_id=support"
    assert standing.kill_for(Attribution(user_id="u-2"), now=True) is None


def test_a_budget_is_taken_up(ledger, standing, clocks):
    """Set on the ledger, it stands in the policies; a new object tells that something changed."""
    before = standing.policies
    set_budget(ledger, Budget.parse("$20/day per agent_id"))
    clocks.pass_s(1)
    standing.refresh()

    assert standing.policies.budgets == (Budget.parse("$20/day per agent_id"),)
    assert standing.policies is not before
    unchanged = standing.policies
    clocks.pass_s(1)
    standing.refresh()
    assert standing.policies is unchanged


def test_the_policy_file_is_taken_up_beside_the_ledger(ledger, standing, clocks, tmp_path):
    """Both hold together, and a change of one keeps the other."""
    set_budget(ledger, Budget(usd=1))
    (tmp_path / "finops.yaml").write_text("budgets: [$2 per run]\nprotect: [check]", encoding="utf-8")
    clocks.pass_s(1)
    standing.refresh()

    assert standing.policies.budgets == (Budget(usd=1), Budget(usd=2))
    assert standing.policies.protect == ("check",)
    assert [event.action for event in ledger.events()] == ["budget.set", "policy"]


def test_a_faulty_file_at_the_start_is_told(ledger, faults, tmp_path, monkeypatch):
    """Whoever starts with limits that do not hold has to know: every fault is raised."""
    (tmp_path / "finops.yaml").write_text("budgets: [$2 per moon, 3 wishes]", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadData) as caught:
        Standing(ledger, failed=faults.append)
    assert len(caught.value.faults) == 2


def test_a_file_that_becomes_faulty_keeps_the_last_good_one_and_is_logged_once(
    standing, clocks, faults, tmp_path, caplog
):
    """The run goes on with what the file said before."""
    path = tmp_path / "finops.yaml"
    path.write_text("budgets: [$2 per run]", encoding="utf-8")
    clocks.pass_s(1)
    standing.refresh()
    path.write_text("budgets: [$2 per moon]", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(5):
            clocks.pass_s(1)
            standing.refresh()

    assert standing.policies.budgets == (Budget(usd=2),)
    assert len(caplog.messages) == 1
    assert "moon" in caplog.messages[0]
    assert not faults  # It is the file's, has been said, and would take the one line there is for faults of ours.


def test_a_ledger_that_cannot_be_read_leaves_what_was_known(ledger, standing, clocks, monkeypatch, caplog):
    """The kill stays, it is logged once, and nothing is raised; when the ledger is back, so is what is new."""
    switch.kill(ledger, "all")
    clocks.pass_s(1)
    standing.refresh()
    version = type(ledger).controls_version

    def gone(self: object) -> int:
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(type(ledger), "controls_version", gone)
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(3):
            clocks.pass_s(1)
            standing.refresh()
    assert standing.kill_for(SUPPORT) is not None
    assert len(caplog.messages) == 1

    monkeypatch.setattr(type(ledger), "controls_version", version)
    switch.revive(ledger, "all")
    clocks.pass_s(1)
    standing.refresh()
    assert standing.kill_for(SUPPORT) is None


def test_the_file_is_read_while_the_ledger_is_gone(standing, clocks, faults, tmp_path, monkeypatch):
    """One does not keep the other from being taken up; what no ledger ought to raise is counted as a fault of ours."""
    monkeypatch.setattr(type(standing._ledger), "controls_version", lambda self: 1 / 0)
    (tmp_path / "finops.yaml").write_text("budgets: [$2 per run]", encoding="utf-8")
    clocks.pass_s(1)
    standing.refresh()

    assert standing.policies.budgets == (Budget(usd=2),)
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


def test_a_thousand_calls_ask_once(ledger, standing, clocks, monkeypatch):
    """A look is shared by all calls of half a second."""
    asked: list[int] = []
    monkeypatch.setattr(type(ledger), "controls_version", lambda self: asked.append(1) or 0)
    clocks.pass_s(1)
    for _ in range(1_000):
        standing.refresh()

    assert asked == [1]


def test_who_comes_while_another_looks_waits_for_the_answer(ledger, standing, clocks, monkeypatch):
    """After an idle hour 20 threads start at once: none of them misses the kill that came meanwhile."""
    switch.kill(ledger, "all")
    clocks.pass_s(3_600)
    began, go_on = threading.Event(), threading.Event()
    version = type(ledger).controls_version

    def slow(self: object) -> int:
        began.set()
        go_on.wait(10)
        return version(self)

    monkeypatch.setattr(type(ledger), "controls_version", slow)
    monkeypatch.setattr(module, "PATIENCE_S", 10.0)
    found: list[object] = []

    def start() -> None:
        standing.refresh()
        found.append(standing.kill_for(SUPPORT))

    threads = [threading.Thread(target=start) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 20
    assert None not in found


async def test_under_an_event_loop_it_looks_on_another_thread(ledger, clocks, faults, tmp_path, monkeypatch):
    """No file and no database is touched on the loop's own thread, which would be an error under blockbuster."""
    from blockbuster import blockbuster_ctx

    monkeypatch.chdir(tmp_path)
    (tmp_path / "finops.yaml").write_text("budgets: [$2 per run]", encoding="utf-8")
    with blockbuster_ctx("langchain_finops"):
        standing = Standing(ledger, failed=faults.append, monotonic=lambda: clocks.monotonic, now=lambda: clocks.now)
        await asyncio.to_thread(switch.kill, ledger, "all")
        clocks.pass_s(1)
        standing.refresh()

    assert standing.kill_for(SUPPORT) is not None
    assert standing.policies.budgets == (Budget(usd=2),)
    assert faults == []


async def test_a_ledger_that_hangs_costs_one_wait(ledger, standing, clocks, monkeypatch, caplog):
    """The first call waits for a moment, the next ones go on at once, until the look that hangs is through."""
    go_on = threading.Event()
    looked: list[int] = []
    monkeypatch.setattr(type(ledger), "controls_version", lambda self: looked.append(1) or go_on.wait(10) or 0)
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        for _ in range(5):
            clocks.pass_s(1)
            standing.refresh()
    go_on.set()

    assert looked == [1]
    assert [message for message in caplog.messages if "did not answer" in message]


async def test_a_thread_that_cannot_be_had_costs_one_look_and_not_the_kill_switch(
    ledger, standing, clocks, monkeypatch, caplog
):
    """A container that is out of threads for a moment: the start goes on, and the next ones look again."""

    def no_more(self: object) -> None:
        raise RuntimeError("can't start new thread")

    switch.kill(ledger, "all")
    clocks.pass_s(1)
    with monkeypatch.context() as out_of_threads, caplog.at_level(logging.WARNING, "langchain_finops"):
        out_of_threads.setattr(threading.Thread, "start", no_more)
        standing.refresh()
    assert standing.kill_for(SUPPORT) is None
    assert [message for message in caplog.messages if "can't start new thread" in message]

    clocks.pass_s(1)
    standing.refresh()
    assert standing.kill_for(SUPPORT) is not None


def test_a_ledger_that_is_slow_to_fail_takes_a_tenth_of_the_time_at_most(
    ledger, standing, clocks, monkeypatch, tmp_path
):
    """A second for a look that fails, then nine without one; the policy file is looked at meanwhile."""
    asked: list[float] = []
    version = type(ledger).controls_version

    def slow(self: object) -> int:
        asked.append(clocks.monotonic)
        clocks.pass_s(1)
        raise LedgerError("timed out")

    monkeypatch.setattr(type(ledger), "controls_version", slow)
    for _ in range(18):
        clocks.pass_s(0.5)
        standing.refresh()
    # From 1,000.5 to 1,001.5; then 17 half seconds, until 1,010.
    assert asked == [1_000.5]
    clocks.pass_s(0.5)
    standing.refresh()
    assert asked == [1_000.5, 1_010.5]

    monkeypatch.setattr(type(ledger), "controls_version", version)
    (tmp_path / "finops.yaml").write_text("budgets: [$2 per run]", encoding="utf-8")
    clocks.pass_s(0.5)
    standing.refresh()
    assert standing.policies.budgets == (Budget(usd=2),)

    switch.kill(ledger, "all")
    clocks.pass_s(8.5)
    standing.refresh()
    assert standing.kill_for(SUPPORT) is not None


def test_a_child_of_a_fork_looks_for_itself(ledger, standing):
    """What the parent looked at in this moment is not what the child may rely on: it asks anew."""
    switch.kill(ledger, "all")
    child = os.fork()
    if child == 0:
        standing.refresh()
        # A memory ledger's copy is the child's own; the kill is in both.
        os._exit(0 if standing.kill_for(SUPPORT) is not None else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


WATCHING = """
import sys, time
from langchain_finops.budgets.standing import Standing
from langchain_finops.ledger import open_ledger
from langchain_finops.records import Attribution
standing = Standing(open_ledger(sys.argv[1]), failed=print)
who = Attribution(agent_id="support")
print("none" if standing.kill_for(who) is None else "killed", flush=True)
sys.stdin.readline()  # The kill is set by now.
began = time.monotonic()
while standing.kill_for(who) is None and time.monotonic() - began < 10:
    standing.refresh()
print("killed" if standing.kill_for(who) and time.monotonic() - began < 1 else "too late")
"""


def test_a_kill_is_seen_by_another_process_within_a_second(tmp_path):
    """Set in this process, it stops the calls of one that has run for a while."""
    ledger = open_ledger(tmp_path / "l.db")
    command = [sys.executable, "-c", WATCHING, str(tmp_path / "l.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "none\n"
        switch.kill(ledger, "agent_id", "support")
        out, _ = process.communicate("go\n", timeout=30)

    assert out == "killed\n"
    ledger.close()
