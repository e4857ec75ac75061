"""The contract of every ledger: what is held before a call, settled after it, and set from outside."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Balance, Line, Settlement
from langchain_finops.testing.holding import hold, in_threads, now, settle, standing
from langchain_finops.testing.ledger_controls import ControlsContract, ForgettingContract
from langchain_finops.testing.records import MONDAY, a_call, a_charge, a_run

__all__ = ["HoldsContract"]

HOUR = timedelta(hours=1)


class HoldingContract:
    """Setting aside: how much fits, for how long."""

    def test_a_hold_fits_up_to_the_limit_and_not_beyond(self, ledger: Ledger) -> None:
        """Spent, held by others and asked for may come to the limit exactly."""
        settle(ledger, "1", a=30)
        assert hold(ledger, "2", ("a", 50, 100)) is None

        assert hold(ledger, "3", ("a", 21, 100)) == 0
        assert hold(ledger, "3", ("a", 20, 100)) is None

        assert standing(ledger, "a") == (30, 70, 0)

    def test_a_hold_takes_all_its_lines_or_none(self, ledger: Ledger) -> None:
        """The outermost budget is not charged for a call that an inner one refused."""
        assert hold(ledger, "1", ("outer", 5, 100), ("inner", 5, 4)) == 1
        assert ledger.balances() == []

        assert hold(ledger, "2", ("outer", 5, 100), ("inner", 4, 4)) is None
        assert [standing(ledger, key) for key in ("outer", "inner")] == [(0, 5, 0), (0, 4, 0)]

    def test_the_first_line_that_does_not_fit_is_named(self, ledger: Ledger) -> None:
        """In the order given, with all balances as they stood before, for the sentence that says why."""
        settle(ledger, "1", a=1, b=2)
        hold(ledger, "2", ("b", 3))
        lines = [Line(balance=key, amount=9, limit=9) for key in ("c", "b", "a")]

        answer = ledger.hold("3", lines, at=now())

        assert answer.refused == 1
        assert answer.balances == (
            Balance(balance="c"), Balance(balance="b", spent=2, held=3), Balance(balance="a", spent=1),
        )  # fmt: skip

    def test_a_line_without_a_limit_always_fits(self, ledger: Ledger) -> None:
        """It only counts. A hold of nothing is held, too."""
        assert hold(ledger, "1", ("a", 10**15)) is None
        assert hold(ledger, "2") is None

        assert standing(ledger, "a") == (0, 10**15, 0)

    def test_a_limit_below_what_is_spent_refuses_even_nothing(self, ledger: Ledger) -> None:
        """A limit that was lowered ends what goes on beyond it."""
        settle(ledger, "1", a=10)

        assert hold(ledger, "2", ("a", 0, 9)) == 0
        assert hold(ledger, "2", ("a", 0, 10)) is None

    def test_holding_again_takes_the_larger_amount(self, ledger: Ledger) -> None:
        """A second handler on the same call: the call is made once, and does not stand in its own way."""
        assert hold(ledger, "1", ("a", 6, 10)) is None

        assert hold(ledger, "1", ("a", 8, 10)) is None
        assert standing(ledger, "a") == (0, 8, 0)
        assert hold(ledger, "1", ("a", 3, 10), ("b", 1)) is None
        assert [standing(ledger, key) for key in ("a", "b")] == [(0, 8, 0), (0, 1, 0)]
        assert hold(ledger, "1", ("a", 11, 10)) == 0
        assert standing(ledger, "a") == (0, 8, 0)

    def test_two_lines_on_one_balance_hold_the_larger_amount(self, ledger: Ledger) -> None:
        """Budgets with different limits share a balance; each checks its own limit."""
        assert hold(ledger, "1", ("a", 5, 9), ("a", 5, 5)) is None
        assert standing(ledger, "a") == (0, 5, 0)

        assert hold(ledger, "2", ("a", 4, 9), ("a", 4, 8)) == 1
        assert standing(ledger, "a") == (0, 5, 0)

    def test_a_released_hold_is_free_again(self, ledger: Ledger) -> None:
        """And no other is. Releasing what is not held changes nothing."""
        hold(ledger, "1", ("a", 6, 10), ("b", 6))
        hold(ledger, "2", ("a", 1))

        ledger.release("1")
        ledger.release("never")
        assert [standing(ledger, key) for key in ("a", "b")] == [(0, 1, 0), (0, 0, 0)]
        ledger.release("1")

        assert [standing(ledger, key) for key in ("a", "b")] == [(0, 1, 0), (0, 0, 0)]
        assert hold(ledger, "3", ("a", 9, 10)) is None

    def test_a_hold_that_nobody_settles_expires(self, ledger: Ledger) -> None:
        """Its process died: it stands in nobody's way any more, but is not forgotten."""
        hold(ledger, "dead", ("a", 6, 10), at=now() - HOUR, ttl_s=3599.0)
        hold(ledger, "alive", ("a", 1), at=now() - HOUR, ttl_s=7200.0)

        assert standing(ledger, "a") == (0, 1, 6)
        assert hold(ledger, "next", ("a", 9, 10)) is None
        assert standing(ledger, "a") == (0, 10, 6)

    def test_a_hold_expires_by_the_time_of_who_asks(self, ledger: Ledger) -> None:
        """To the microsecond; and where the clock steps back, what had expired is held again."""
        hold(ledger, "1", ("a", 6, 10), at=MONDAY, ttl_s=60.0)

        end = MONDAY + timedelta(seconds=60)
        assert hold(ledger, "2", ("a", 5, 10), at=end - timedelta(microseconds=1)) == 0
        assert hold(ledger, "2", ("a", 5, 10), at=end, ttl_s=1.0) is None
        assert hold(ledger, "3", ("a", 5, 10), at=MONDAY - HOUR) == 0

    def test_a_hold_made_again_lives_on(self, ledger: Ledger) -> None:
        """Its call begins now."""
        hold(ledger, "1", ("a", 6), at=now() - 2 * HOUR)
        assert standing(ledger, "a") == (0, 0, 6)

        hold(ledger, "1", ("a", 5))

        assert standing(ledger, "a") == (0, 6, 0)

    @pytest.mark.parametrize("amount", [1.0, -1, True, Decimal(1), 10**25])
    def test_what_is_no_amount_is_refused(self, ledger: Ledger, amount: Any) -> None:
        """A float is rounded somewhere, and less than nothing would let others spend what is not there."""
        for wrong in ({"amount": amount}, {"amount": 1, "limit": 1.5}):
            with pytest.raises(BadArguments, match="integer"):
                ledger.hold("1", [Line(balance="a", **wrong)], at=now())
        if amount != -1:
            with pytest.raises(BadArguments, match="integer"):
                ledger.settle(Settlement(record=a_call(), amounts={"a": amount}))

        assert (ledger.balances(), list(ledger.calls())) == ([], [])

    def test_threads_never_hold_more_than_the_limit(self, ledger: Ledger) -> None:
        """A fan-out on a strict limit: exactly as many get through as fit."""

        def calls(thread: int) -> int:
            admitted = 0
            for number in range(10):
                if hold(ledger, f"{thread}-{number}", ("a", 5, 104), ("b", 1)) is None:
                    settle(ledger, f"{thread}-{number}", a=5, b=1)
                    admitted += 1
            return admitted

        assert sum(in_threads(8, calls)) == 20

        assert [standing(ledger, key) for key in ("a", "b")] == [(100, 0, 0), (20, 0, 0)]
        assert len(list(ledger.calls())) == 20


class SettlingContract:
    """Replacing what was held by the truth."""

    def test_settling_replaces_the_hold_by_the_truth(self, ledger: Ledger) -> None:
        """And writes the record; the balances that it names are told, as they now stand."""
        hold(ledger, "1", ("a", 6), ("b", 1))
        hold(ledger, "2", ("a", 2))

        told = settle(ledger, "1", b=1, a=9)

        assert told == (Balance(balance="b", spent=1), Balance(balance="a", spent=9, held=2))
        assert [standing(ledger, key) for key in ("a", "b")] == [(9, 2, 0), (1, 0, 0)]
        assert list(ledger.calls()) == [a_call("1")]

    def test_settling_twice_counts_once(self, ledger: Ledger) -> None:
        """Whether with the hold's id or without; charges and runs as well as calls."""
        charge = Settlement(record=a_charge(), amounts={"a": 1})
        run = Settlement(record=a_run(), amounts={"a": 100})
        hold(ledger, "1", ("a", 6))

        for _ in range(2):
            settle(ledger, "1", a=9)
            ledger.settle(Settlement(record=a_call("1"), amounts={"a": 9}), charge, run, charge)

        assert standing(ledger, "a") == (110, 0, 0)
        assert (len(list(ledger.calls())), list(ledger.charges())) == (1, [a_charge()])
        assert list(ledger.runs(history=True)) == [a_run()]

    def test_what_nobody_held_can_be_settled(self, ledger: Ledger) -> None:
        """A charge that was made without asking, and a call that was let through because the ledger did not answer."""
        told = ledger.settle(Settlement(record=a_charge(), amounts={"a": 3}))

        assert told == (Balance(balance="a", spent=3),)
        assert ledger.settle() == ()

    def test_a_call_that_another_handler_wrote_is_counted_where_it_was_held(self, ledger: Ledger) -> None:
        """One handler has no budgets, others have balances of their own and one in common: each counts it once."""
        hold(ledger, "1", ("a", 6), ("shared", 6))
        hold(ledger, "1", ("b", 6), ("shared", 6))
        ledger.write(a_call("1"))

        settle(ledger, "1", a=5, shared=5)
        settle(ledger, "1", b=5, shared=5)

        assert [standing(ledger, key) for key in ("a", "b", "shared")] == [(5, 0, 0)] * 3
        assert len(list(ledger.calls())) == 1

    def test_settling_at_nothing_gives_the_hold_back(self, ledger: Ledger) -> None:
        """A call that was not charged; one that names no balance gives back all that it holds."""
        hold(ledger, "1", ("a", 6), ("b", 6))
        hold(ledger, "2", ("a", 6), ("b", 6))

        assert settle(ledger, "1", a=0, b=0) == (Balance(balance="a", held=6), Balance(balance="b", held=6))
        assert settle(ledger, "2") == ()

        assert ledger.balances() == []
        assert [call.call_id for call in ledger.calls()] == ["1", "2"]

    def test_a_late_settlement_of_an_expired_hold_counts(self, ledger: Ledger) -> None:
        """The process was not dead, only slow: what it spent is known now."""
        hold(ledger, "1", ("a", 6), at=now() - HOUR, ttl_s=1.0)

        settle(ledger, "1", a=9)

        assert standing(ledger, "a") == (9, 0, 0)

    def test_a_revision_settles_the_difference(self, ledger: Ledger) -> None:
        """Upwards and downwards, even below nothing."""
        settle(ledger, "1", a=9, b=1)

        for revision, more in ((1, -2), (2, -8), (2, -8)):
            ledger.settle(Settlement(record=a_call("1", revision=revision), amounts={"a": more, "b": 1}))

        assert [standing(ledger, key)[0] for key in ("a", "b")] == [-1, 3]
        assert hold(ledger, "2", ("a", 11, 10)) is None

    def test_a_batch_is_settled_whole_or_not_at_all(self, ledger: Ledger) -> None:
        """A record that no ledger can keep takes its batch with it, amounts included."""
        naive = a_call("2", started_at=datetime(2026, 3, 2))  # noqa: DTZ001 - the fault
        hold(ledger, "1", ("a", 6))

        with pytest.raises(BadArguments, match="time zone"):
            ledger.settle(
                Settlement(record=a_call("1"), hold_id="1", amounts={"a": 5}),
                Settlement(record=naive, amounts={"a": 5}),
            )

        assert standing(ledger, "a") == (0, 6, 0)
        assert list(ledger.calls()) == []

    def test_balances_are_exact_however_large(self, ledger: Ledger) -> None:
        """Sums of picodollars pass 64 bits at $9 million, and the 53 bits of a float far earlier."""
        large = 2**63 - 1
        for number in range(5):
            hold(ledger, f"{number}", ("a", large), ("b", 10**24))
        assert standing(ledger, "a") == (0, 5 * large, 0)
        for number in range(12):
            hold(ledger, f"more{number}", ("c", 10**18 - 1))
        assert standing(ledger, "c") == (0, 12 * 10**18 - 12, 0)
        for number in range(4):
            settle(ledger, f"{number}", a=large - number, b=-(10**24) + 1)

        assert standing(ledger, "a") == (4 * large - 6, large, 0)
        assert standing(ledger, "b") == (4 * (1 - 10**24), 10**24, 0)
        assert hold(ledger, "9", ("a", 1, 5 * large - 6)) == 0
        assert hold(ledger, "9", ("a", 1, 5 * large - 5)) is None

    def test_balances_are_told_in_order(self, ledger: Ledger) -> None:
        """Those asked for, nothing where nothing stands; without keys all that stand, by key."""
        settle(ledger, "1", b=1, c=1)
        hold(ledger, "2", ("a", 5))
        hold(ledger, "3", ("d", 5))
        ledger.release("3")
        ledger.settle(Settlement(record=a_call("4"), amounts={"c": -1}))

        assert ledger.balances() == [Balance(balance="a", held=5), Balance(balance="b", spent=1)]
        assert [balance.balance for balance in ledger.balances("z", "b", "a")] == ["z", "b", "a"]
        assert ledger.balances("z", "d") == [Balance(balance="z"), Balance(balance="d")]

    def test_odd_keys_lose_no_amount(self, ledger: Ledger) -> None:
        """A lone surrogate in a user's name, quotes, a key as long as ids get, an empty one."""
        for number, key in enumerate(("user_id=caf\udce9", 'it\'s "100%" ?', "k" * 2000, "", "ä 🎉")):
            assert hold(ledger, f"\ud83d{number}", (key, 5, 9)) is None
            assert hold(ledger, "another", (key, 5, 9)) == 0
            ledger.settle(Settlement(record=a_call(f"{number}"), hold_id=f"\ud83d{number}", amounts={key: 7}))
            assert [(b.spent, b.held) for b in ledger.balances(key)] == [(7, 0)]

    def test_holds_work_under_an_event_loop(self, ledger: Ledger) -> None:
        """What a coroutine held stands on its next line, beside what two hundred others do at once."""

        async def call(number: int) -> bool:
            await asyncio.sleep(0)
            if hold(ledger, f"{number}", ("a", 3, 300)) is not None:
                return False
            await asyncio.sleep(0)
            settle(ledger, f"{number}", a=2)
            return True

        async def use() -> tuple[int, list[Balance]]:
            assert hold(ledger, "released", ("a", 300, 300)) is None
            assert standing(ledger, "a") == (0, 300, 0)
            ledger.release("released")
            admitted = await asyncio.gather(*(call(number) for number in range(200)))
            return sum(admitted), ledger.balances("a")

        assert asyncio.run(use()) == (100, [Balance(balance="a", spent=200)])


class HoldsContract(ForgettingContract, HoldingContract, SettlingContract, ControlsContract):
    """Holds, balances and controls: a part of `LedgerContract`, which needs the same fixture."""
