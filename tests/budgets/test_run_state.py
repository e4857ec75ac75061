"""What a run carries, for itself: what two threads at once must not both get."""

import threading
from collections.abc import Iterator
from typing import Any

from langchain_finops.budgets.holding import Counted, Share
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.ledger.holds import Balance

(LIMIT,) = Budget(tokens=10).limits()


def share(amount: int, cap: int | None = 10, key: str = "k") -> Share:
    return Share(Counted.of(LIMIT), key, amount, cap)


def test_what_is_looked_at_and_what_is_held_is_one_step() -> None:
    """A thread that asks between the two waits, and then finds nothing left."""
    state = RunState("run", "invocation")
    others: list[Share | None] = []
    other = threading.Thread(target=lambda: others.append(state.reserve([share(6)])))

    class Watched(list[Share]):
        """Lets the other thread ask as soon as this one has looked."""

        looks = 0

        def __iter__(self) -> Iterator[Any]:
            self.looks += 1
            if self.looks == 2:
                other.start()
                other.join(0.1)
            return super().__iter__()

    assert state.reserve(Watched([share(6)])) is None
    other.join()

    assert others[0] is not None
    assert state.balance("k") == Balance(balance="k", held=6)


def test_a_limit_may_be_used_up_to_the_last() -> None:
    """Ten of ten fit, one more does not, and what is only counted always does."""
    state = RunState("run", "invocation")

    assert state.reserve([share(10)]) is None
    assert state.reserve([share(1)]) is not None
    assert state.reserve([share(1, cap=None)]) is None
    assert state.balance("k").held == 11


def test_all_is_held_or_nothing() -> None:
    """The second balance has no room, so the first keeps its own."""
    state = RunState("run", "invocation")
    refused = share(11, key="b")

    assert state.reserve([share(5, key="a"), refused]) is refused
    assert (state.balance("a").held, state.balance("b").held) == (0, 0)


def test_settling_replaces_what_was_held() -> None:
    """By more or by less; what is spent afterwards is told."""
    state = RunState("run", "invocation")
    shares = [share(5)]
    state.reserve(shares)

    assert state.settle(shares, {"k": 7}) == {"k": 7}
    assert state.balance("k") == Balance(balance="k", spent=7)


def test_the_first_refusal_stays() -> None:
    """Later ones do not replace it, only an approval lets the run go on, and an end is an end."""
    state = RunState("run", "invocation")
    first, second = (Refusal(kind="budget", reason=each, on_exceed="interrupt") for each in "ab")
    state.refuse(first)
    state.refuse(second)
    found = state.refusal_for("a", 1)
    assert found is not None
    assert (found.reason, found.node_path, found.on_exceed) == ("a", "a", "interrupt")

    state.approve("tokens label", 5)
    assert state.refusal_for("a", 1) is None
    assert state.raised_by("tokens label") == 5

    state.refuse(second)
    state.end(first)
    found = state.refusal_for(None, None)
    assert found is not None
    assert (found.reason, found.on_exceed) == ("a", "raise")


def test_time_goes_on_where_earlier_invocations_left_it() -> None:
    """A clock that stepped back between two records takes nothing away."""
    now = [5.0]
    state = RunState("run", "invocation", clock=lambda: now[0])
    state.took_before(2_000_000)
    state.took_before(-1)
    now[0] = 6.5

    assert state.microseconds == 3_500_000


def test_a_thing_is_said_to_one_caller_only() -> None:
    """However many ask."""
    state = RunState("run", "invocation")

    assert [state.first_time("x") for _ in range(3)] == [True, False, False]
