"""The contract of every ledger: what is set from outside, what exactly one may do, what is forgotten in keys."""

import asyncio

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Settlement
from langchain_finops.testing.holding import hold, in_threads, now, settle, standing
from langchain_finops.testing.records import a_call, an_event

__all__ = ["ControlsContract", "ForgettingContract"]


class ControlsContract:
    """What people set while agents run, and what exactly one process may do."""

    def test_exactly_one_gets_a_claim(self, ledger: Ledger) -> None:
        """Of all who ask at once, and of all who ask later; another key is another's."""
        got = in_threads(8, lambda _: ledger.claim("alert 80%", at=now()))

        assert sorted(got) == [False] * 7 + [True]
        assert ledger.claim("alert 80%", at=now()) is False
        assert ledger.claim("alert 90%", at=now()) is True

    def test_a_control_stands_until_it_is_changed(self, ledger: Ledger) -> None:
        """With an event for each change; kinds do not see each other's keys."""
        body = {"until": None, "who": {"id": "ä"}, "list": [1, 0.5, True]}
        ledger.set_control("kill", "b", body, an_event("1"))
        ledger.set_control("kill", "a", {}, an_event("2"))
        ledger.set_control("budget", "a", {"usd": "1"}, an_event("3"))
        ledger.set_control("kill", "b", {"until": 1}, an_event("4"))
        ledger.set_control("budget", "a", None, an_event("5"))
        ledger.set_control("budget", "none", None, an_event("6"))

        assert list(ledger.controls("kill").items()) == [("a", {}), ("b", {"until": 1})]
        assert ledger.controls("budget") == ledger.controls("policy") == {}
        assert [event.event_id for event in ledger.events()] == ["1", "2", "3", "4", "5", "6"]

    def test_what_was_set_is_kept_as_it_was(self, ledger: Ledger) -> None:
        """Whoever set it may change its own copy, and whoever reads it, too."""
        body: dict[str, object] = {"who": {"id": "ä"}, "list": [1, 0.5, True, None]}
        ledger.set_control("kill", "a", body, an_event("1"))

        body["who"] = "changed"
        ledger.controls("kill")["a"]["who"] = "changed"

        assert ledger.controls("kill") == {"a": {"who": {"id": "ä"}, "list": [1, 0.5, True, None]}}

    def test_the_version_grows_with_every_change(self, ledger: Ledger) -> None:
        """Of any kind, a removal too: handlers ask for it instead of reading all."""
        versions = [ledger.controls_version()]
        for number, (kind, body) in enumerate([("kill", {"a": 1}), ("kill", {"a": 1}), ("budget", None)]):
            ledger.set_control(kind, "a", body, an_event(f"{number}"))
            versions.append(ledger.controls_version())
        ledger.write(an_event("other"), a_call())
        settle(ledger, "2", a=1)

        assert versions == sorted(set(versions))
        assert ledger.controls_version() == versions[-1]

    def test_an_event_that_is_there_changes_nothing_again(self, ledger: Ledger) -> None:
        """A change that is repeated because nobody heard of its success must not undo what came after it."""
        ledger.set_control("kill", "a", {"by": "one"}, an_event("1"))
        ledger.set_control("kill", "a", None, an_event("2"))
        version = ledger.controls_version()

        ledger.set_control("kill", "a", {"by": "one"}, an_event("1"))

        assert ledger.controls("kill") == {}
        assert ledger.controls_version() == version

    def test_controls_are_changed_under_an_event_loop(self, ledger: Ledger) -> None:
        """A dashboard sets them, and handlers look."""

        async def use() -> None:
            ledger.set_control("kill", "a", {"by": "x"}, an_event("1"))
            assert (ledger.controls("kill"), ledger.controls_version()) == ({"a": {"by": "x"}}, 1)
            assert [ledger.claim("c", at=now()) for _ in range(2)] == [True, False]

        asyncio.run(use())


class ForgettingContract:
    """A person's id is in keys and events, too."""

    def test_forget_unlinks_balances(self, ledger: Ledger) -> None:
        """What was spent stays spent, and is nobody's; whoever has another id keeps a balance."""
        key, other = "usd/day user_id=a%20b @2026-03-02T00:00:00Z", "usd/day user_id=a%20bc @2026-03-02T00:00:00Z"
        matched = "usd all match:user_id=a%20b name=x"
        for number, (name, amount) in enumerate([(key, 5), (other, 6), (matched, 7)]):
            ledger.settle(Settlement(record=a_call(f"{number}"), amounts={name: amount}))
            hold(ledger, f"held{number}", (name, 1))

        ledger.forget("a b")

        after = {balance.balance: (balance.spent, balance.held) for balance in ledger.balances()}
        assert after.pop(other) == (6, 1)
        assert sorted(after.values()) == [(5, 0), (7, 0)]
        assert [name.split("=")[0] for name in sorted(after)] == ["usd all match:user_id", "usd/day user_id"]
        assert not any("a%20b" in name for name in after)
        assert standing(ledger, key) == (0, 0, 0)

    def test_forget_takes_away_what_was_set_for_a_person(self, ledger: Ledger) -> None:
        """A kill that nobody could tell whom it is for; others stay, and handlers see that something was changed."""
        controls: list[tuple[str, str, dict[str, object]]] = [
            ("kill", "user_id=ada", {"scope": "user_id", "value": "ada"}),
            ("kill", "user_id=ada l", {"scope": "user_id", "value": "ada l"}),
            ("kill", "agent_id=ada", {"scope": "agent_id", "value": "ada"}),
            ("budget", "$1 per run where user_id=ada, node=x", {"text": "$1 per run"}),
            ("budget", "vip", {"text": "$1 per run where user_id=ada"}),
            ("budget", "all", {"match": {"user_id": "adam"}}),
        ]
        for number, (kind, key, body) in enumerate(controls):
            ledger.set_control(kind, key, body, an_event(f"{number}"))
        ledger.claim("alert 80% usd user_id=ada", at=now())
        ledger.claim("alert 80% usd user_id=adam", at=now())
        version = ledger.controls_version()

        ledger.forget("ada")

        assert list(ledger.controls("kill")) == ["agent_id=ada", "user_id=ada l"]
        assert list(ledger.controls("budget")) == ["all"]
        assert ledger.controls_version() > version
        assert ledger.claim("alert 80% usd user_id=ada", at=now()) is True
        assert ledger.claim("alert 80% usd user_id=adam", at=now()) is False

    def test_forget_reaches_the_audit_trail(self, ledger: Ledger) -> None:
        """What was done stays, and to whom is gone: subject, reason, before and after."""
        kill = {"scope": "user_id", "value": "ada", "until": None}
        ledger.write(
            an_event("1", subject="user_id=ada", reason="ada (not adam) loops", before=kill, after={"all": [kill]}),
            an_event("2", subject="user_id=adam", before={"user_id": "ada"}, after={"user_id": "adam"}),
            an_event("3", subject="ada", actor="ada", after={"scope": "agent_id", "value": "ada"}),
        )

        ledger.forget("ada")

        gone = {"scope": "user_id", "value": "forgotten", "until": None}
        assert list(ledger.events()) == [
            an_event("1", subject="user_id=forgotten", reason="forgotten (not adam) loops", before=gone,
                     after={"all": [gone]}),
            an_event("2", subject="user_id=adam", before={"user_id": "forgotten"}, after={"user_id": "adam"}),
            an_event("3", subject="ada", actor="ada", after={"scope": "agent_id", "value": "ada"}),
        ]  # fmt: skip
