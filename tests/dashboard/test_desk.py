"""`Desk`: figures are made once, shown while they are made anew, and their faults are told."""

import threading
from datetime import datetime

import pytest

from langchain_finops.dashboard import desk as module
from langchain_finops.dashboard.desk import Desk, Unreadable
from langchain_finops.errors import LedgerError


@pytest.fixture
async def desk(ledger):
    made = Desk(ledger)
    yield made
    await made.close()


async def test_an_old_figure_is_shown_while_a_new_one_is_made(desk, monkeypatch):
    """What takes long is not waited for: the first value stands, with its time, until the second one is there."""
    monkeypatch.setattr(module, "FRESH_S", 0)
    monkeypatch.setattr(module, "REST", 0)
    may_end, values = threading.Event(), iter((1, 2))

    def make(ledger: object, at: datetime) -> int:
        value = next(values)
        if value == 2:
            may_end.wait(60)
        return value

    first = await desk.figure("name", "live", make)
    monkeypatch.setattr(module, "PATIENCE_S", 0)
    second = await desk.figure("name", "live", make)
    assert first is second
    assert first.value == 1
    may_end.set()
    monkeypatch.setattr(module, "PATIENCE_S", 60)
    assert (await desk.figure("name", "live", make)).value == 2


async def test_a_figure_that_was_just_made_is_not_made_again_but_when_it_is_outdated(desk, monkeypatch):
    """Ten visitors cost as much as one; who has changed something sees it."""
    monkeypatch.setattr(module, "FRESH_S", 3600)
    made = []

    def make(ledger: object, at: datetime) -> int:
        made.append(at)
        return len(made)

    assert [(await desk.figure("name", "live", make)).value for _ in range(10)] == [1] * 10
    desk.outdate("name")
    assert (await desk.figure("name", "live", make)).value == 2


async def test_faults_are_told_and_not_kept(desk):
    """A ledger that does not answer is unreadable, any other fault is itself; the next one who asks may be lucky."""
    faults = iter((LedgerError("disk"), ZeroDivisionError("ours"), None))

    def make(ledger: object, at: datetime) -> int:
        if (fault := next(faults)) is not None:
            raise fault
        return 7

    with pytest.raises(Unreadable):
        await desk.figure("name", "live", make)
    with pytest.raises(ZeroDivisionError):
        await desk.figure("name", "live", make)
    assert (await desk.figure("name", "live", make)).value == 7


async def test_figures_that_nobody_asks_for_are_forgotten(desk):
    """A visitor who tries a thousand amounts does not fill the memory."""
    for number in range(module.KEPT + 20):
        await desk.figure(number, "live", lambda ledger, at: 1)
    assert len(desk._slots) == module.KEPT
