"""The contract of every ledger. Each test names the fault it is there to find."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.totals import Group
from langchain_finops.testing.ledger_holds import HoldsContract
from langchain_finops.testing.ledger_records import RecordsContract
from langchain_finops.testing.ledger_totals import TotalsContract, by_key
from langchain_finops.testing.records import DAY, MONDAY, TICK, a_call, a_charge, a_run, an_outcome

__all__ = ["LedgerContract"]


class UpkeepContract:
    """Forgetting, pruning, threads, event loops."""

    def test_forget_unlinks_a_person_and_keeps_the_cost(self, ledger: Ledger) -> None:
        """The name is gone from every version, and nobody else's is."""
        ledger.write(a_call("1", user_id="u"), a_call("1", user_id="u", revision=1), a_call("2", user_id="other"))
        ledger.write(a_charge(user_id="u"), a_run(user_id="u"))

        assert ledger.forget("u") == 4
        assert ledger.forget("u") == 0

        assert [call.attribution.user_id for call in ledger.calls(history=True)] == [None, None, "other"]
        assert [charge.attribution.user_id for charge in ledger.charges()] == [None]
        assert [run.attribution.user_id for run in ledger.runs()] == [None]
        assert by_key(ledger.totals(["user"]))[(None,)].totals.cost_usd == Decimal("1.75")
        ledger.write(a_call("3", user_id="u"))
        assert [call.call_id for call in ledger.calls(user_id="u")] == ["3"]

    def test_prune_folds_old_days_and_totals_stay_exact(self, ledger: Ledger) -> None:
        """Whole UTC days that ended; every dimension, outcomes and first calls included."""
        for number in range(6):
            who = {
                "agent_id": f"a{number % 2}",
                "task_id": f"t{number % 3}",
                "run_id": f"r{number % 4}",
                "user_id": "u",
            }
            ledger.write(a_call(f"{number}", started_at=MONDAY + number * DAY / 3, **who))
            ledger.write(a_call(f"same{number}", started_at=MONDAY + number * DAY / 3 + TICK, usd=None, **who))
            ledger.write(a_charge(f"{number}", at=MONDAY + number * DAY / 3, **who))
        ledger.write(a_call("1", started_at=MONDAY + TICK, usd="7", revision=1), an_outcome("t0"), an_outcome("t2"))
        questions: list[Callable[[], list[Group]]] = [
            lambda: ledger.totals(["day", "agent"]),
            lambda: ledger.totals(["user", "status"]),
            lambda: ledger.totals(["task", "run"], agent_id="a1"),
            lambda: ledger.totals(["model"], since=MONDAY.replace(hour=0) + DAY),
        ]
        before = [question() for question in questions]

        # On Monday, at 12:00 and 20:00: two calls, two more just after them, two charges. Versions do not count.
        assert ledger.prune(MONDAY + DAY) == 6
        assert ledger.prune(MONDAY + DAY) == 0

        assert [question() for question in questions] == before
        assert {call.call_id for call in ledger.calls(history=True)} == {
            *("2", "3", "4", "5"),
            *("same2", "same3", "same4", "same5"),
        }
        assert len(list(ledger.charges())) == 4

    def test_prune_leaves_a_task_to_the_period_of_its_first_call(self, ledger: Ledger) -> None:
        """A version that was taken back began earlier, and did so no more before than after."""
        later = MONDAY + DAY / 6
        ledger.write(a_call("1", task_id="t1"), an_outcome("t1"), a_call("2", started_at=later + TICK, run_id="r2"))
        ledger.write(a_call("1", task_id="t1", started_at=later, revision=1))

        def tasks() -> list[int]:
            periods = ({"since": later}, {"until": later})
            return [sum(group.tasks for group in ledger.totals(["run"], **period)) for period in periods]

        assert tasks() == [1, 0]
        ledger.prune(MONDAY + DAY)
        assert tasks() == [1, 0]

    def test_calls_written_after_a_prune_count_beside_what_was_pruned(self, ledger: Ledger) -> None:
        """Sums that are too large to fold keep their parts, which a new call must not be taken for."""
        ledger.write(a_call("1", usd="9000000"), a_call("2", usd="9000000"))
        assert ledger.prune(MONDAY + DAY) == 2

        ledger.write(a_call("3", usd="1"))

        assert list(ledger.calls()) == [a_call("3", usd="1")]
        assert ledger.totals()[0].totals.cost_usd == Decimal(18_000_001)

    def test_what_was_pruned_cannot_be_written_again(self, ledger: Ledger) -> None:
        """A late copy, from a spill file perhaps, would be counted twice."""
        ledger.write(a_call(), a_charge())
        ledger.prune(MONDAY + DAY)

        ledger.write(a_call(), a_charge(), a_call(revision=1), a_call("late"))

        totals = ledger.totals()[0].totals
        assert (totals.calls, totals.charges, totals.cost_usd) == (2, 1, Decimal("2.00"))
        assert [call.call_id for call in ledger.calls()] == ["late"]

    def test_a_record_with_a_version_after_the_limit_stays_whole(self, ledger: Ledger) -> None:
        """Its next revision must still find what it takes the place of."""
        ledger.write(a_call(started_at=MONDAY + 5 * DAY, usd="1"), a_call(usd="2", revision=1))

        assert ledger.prune(MONDAY + DAY) == 0
        ledger.write(a_call(usd="3", revision=2))

        assert ledger.totals()[0].totals.cost_usd == Decimal(3)
        assert len(list(ledger.calls(history=True))) == 3

    def test_each_version_of_a_call_has_digests_of_its_own(self, ledger: Ledger) -> None:
        """Priced again it is the same prompt; where the ledger lost them, those of another call are not its own."""
        ledger.write(a_call("1", prompt_digests=b"one"), a_call("2"), a_call("3", prompt_digests=b"three"))
        ledger.write(a_call("1", usd="2", revision=1, prompt_digests=b"one"), a_call("3", usd="2", revision=1))

        told = [(call.call_id, call.prompt_digests) for call in ledger.calls(history=True)]
        assert sorted(told, key=str) == [("1", b"one"), ("1", b"one"), ("2", None), ("3", None), ("3", b"three")]
        assert ledger.prune(MONDAY + DAY) == 3
        assert list(ledger.calls(history=True)) == []

    def test_its_key_for_digests_is_one_key(self, ledger: Ledger) -> None:
        """Made by chance for this ledger: with a key that all have, whoever knows it could guess what was asked."""
        key = ledger.digest_key
        assert (type(key), len(key), ledger.digest_key) == (bytes, 32, key)
        assert len(set(key)) > 16

    def test_threads_write_at_once(self, ledger: Ledger) -> None:
        """Nothing is lost or doubled, revisions included."""

        def write(thread: int) -> None:
            for number in range(25):
                ledger.write(a_call(f"{number}", usd="0.10", revision=thread), a_call(f"{thread}-{number}", usd="1"))

        threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        totals = ledger.totals()[0].totals
        assert (totals.calls, totals.cost_usd) == (225, Decimal("202.50"))
        assert len(list(ledger.calls(history=True))) == 400

    def test_it_works_under_an_event_loop(self, ledger: Ledger) -> None:
        """What a coroutine wrote, it can read on the next line."""

        async def use() -> list[str]:
            ledger.write(a_call("1"))
            ledger.write(a_call("2"))
            with pytest.raises(BadArguments):
                ledger.write(a_call("3", started_at=datetime(2026, 3, 2)))  # noqa: DTZ001 - the fault
            assert ledger.totals()[0].totals.calls == 2
            assert ledger.flush(30)
            return [call.call_id for call in ledger.calls()]

        assert asyncio.run(use()) == ["1", "2"]

    def test_flush_and_close_may_come_twice(self, ledger: Ledger) -> None:
        """An `atexit`, a `finally` and a context manager may all try."""
        ledger.write(a_call())

        assert ledger.flush() is True
        assert ledger.flush(0.0) in {True, False}
        assert ledger.url
        ledger.close()
        ledger.close()


class LedgerContract(RecordsContract, TotalsContract, HoldsContract, UpkeepContract):
    """What every ledger does: subclass it, and override the fixture `ledger` to return an empty one."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        """The ledger under test, empty."""
        raise NotImplementedError("override the fixture `ledger` to return an empty ledger")
