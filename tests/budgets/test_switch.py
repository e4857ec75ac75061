"""The kill switch: whose calls stop, until when, and that each change leaves its event."""

from datetime import UTC, datetime, timedelta

import pytest

from langchain_finops.budgets import switch
from langchain_finops.errors import BadArguments
from langchain_finops.ledger import open_ledger
from langchain_finops.records import NO_ATTRIBUTION, Attribution


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    opened = open_ledger(":memory:" if request.param == "memory" else tmp_path / "l.db")
    yield opened
    opened.close()


def test_a_kill_stands_until_it_is_revived(ledger):
    """What was set is read back the same, and is gone afterwards."""
    set_ = switch.kill(ledger, "agent_id", "support", by="anna", reason="loops", now=True)

    assert switch.kills(ledger) == [set_]
    assert (set_.key, set_.by, set_.reason, set_.until, set_.now) == ("agent_id=support", "anna", "loops", None, True)
    assert switch.revive(ledger, "agent_id", "support", by="ben", reason="fixed") == set_
    assert switch.kills(ledger) == []


def test_every_change_leaves_an_event(ledger):
    """Who, when, why, what stood before and what stands after."""
    until = datetime.now(UTC) + timedelta(hours=2)
    switch.kill(ledger, "all", by="anna", reason="budget")
    switch.kill(ledger, "all", by="ben", reason="longer", until=until)
    switch.revive(ledger, "all", by="cleo", reason="fixed")

    first, second, third = ledger.events()
    assert [(each.actor, each.action, each.subject, each.reason) for each in (first, second, third)] == [
        ("anna", "kill", "all", "budget"),
        ("ben", "kill", "all", "longer"),
        ("cleo", "revive", "all", "fixed"),
    ]
    assert first.before is None
    assert first.after == second.before
    assert second.after == third.before
    assert third.after is None
    assert second.after["until"] == until.isoformat()


def test_a_second_kill_of_the_same_replaces_the_first(ledger):
    """One switch for each agent, user or task; others stay."""
    switch.kill(ledger, "user_id", "u-1", reason="a")
    switch.kill(ledger, "user_id", "u-2", reason="b")
    switch.kill(ledger, "user_id", "u-1", reason="c")

    assert [(each.value, each.reason) for each in switch.kills(ledger)] == [("u-2", "b"), ("u-1", "c")]


def test_reviving_what_was_not_killed_changes_nothing(ledger):
    """No event, no version: handlers have nothing to look at."""
    version = ledger.controls_version()

    assert switch.revive(ledger, "task_id", "t-1") is None
    assert list(ledger.events()) == []
    assert ledger.controls_version() == version


@pytest.mark.parametrize(
    ("scope", "value", "who", "stops"),
    [
        ("all", None, NO_ATTRIBUTION, True),
        ("agent_id", "a", Attribution(agent_id="a"), True),
        ("agent_id", "a", Attribution(agent_id="A"), False),
        ("agent_id", "a", Attribution(user_id="a"), False),
        ("user_id", "u", Attribution(agent_id="a", user_id="u"), True),
        ("task_id", "t", Attribution(task_id="t"), True),
        ("task_id", "t", NO_ATTRIBUTION, False),
    ],
)
def test_whose_calls_a_kill_stops(ledger, scope, value, who, stops):
    """Those that it names, exactly, and nobody else's."""
    assert switch.kill(ledger, scope, value).stops(who) is stops


def test_a_kill_ends_by_itself():
    """Up to its end, which is the first moment at which calls pass again."""
    at = datetime(2026, 11, 26, tzinfo=UTC)
    kill = switch.Kill(scope="all", by="anna", at=at, until=at + timedelta(hours=2))

    assert kill.holds(at + timedelta(hours=1, minutes=59))
    assert not kill.holds(at + timedelta(hours=2))


@pytest.mark.parametrize(
    ("scope", "value", "until", "told"),
    [
        ("agent_id", None, None, "one agent_id, user_id or task_id"),
        ("agent_id", " ", None, "one agent_id, user_id or task_id"),
        ("all", "x", None, "one agent_id, user_id or task_id"),
        ("all", None, datetime(2020, 1, 1, tzinfo=UTC), "has passed"),
    ],
)
def test_a_kill_that_makes_no_sense_is_refused(ledger, scope, value, until, told):
    """Nothing is set, and nobody believes that it was."""
    with pytest.raises(BadArguments, match=told):
        switch.kill(ledger, scope, value, until=until)
    assert switch.kills(ledger) == []


def test_who_says_so_is_the_user_of_the_process(ledger, monkeypatch):
    """Without a name it is the user's; in a container without one it is told as unknown, and works."""
    monkeypatch.setenv("LOGNAME", "anna")
    assert switch.kill(ledger, "all").by == "anna"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert switch.kill(ledger, "all").by == "unknown"
