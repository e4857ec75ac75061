"""An attempt's view of the run's ledger: what was paid for is passed on, and holds are the shared ledger's."""

import pytest

from langchain_finops.evals.watch import Witness
from langchain_finops.ledger import Ledger, open_ledger
from langchain_finops.ledger.holds import Balance
from langchain_finops.testing.holding import hold, settle
from langchain_finops.testing.ledger_holds import HoldsContract
from langchain_finops.testing.records import a_call, a_run


class TestWitness(HoldsContract):
    """Everything that is held and settled through it is so on the shared ledger."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        return Witness(open_ledger(":memory:"))


def test_two_attempts_share_a_budget():
    """Each sees what the other holds."""
    shared = open_ledger(":memory:")
    one, other = Witness(shared), Witness(shared)

    assert hold(one, "1", ("a", 6, 10)) is None
    assert hold(other, "2", ("a", 6, 10)) == 0
    settle(one, "1", a=3)

    assert other.balances("a") == [Balance(balance="a", spent=3)]
    assert (one.records, other.records) == ([a_call("1")], [])


def test_a_replay_holds_its_records_back_and_spends_nothing():
    """What it held is free again; its records are written with the attempt, once."""
    shared = open_ledger(":memory:")
    witness = Witness(shared, hold_back=True)
    witness.write(a_run())
    hold(witness, "1", ("a", 6))

    assert settle(witness, "1", a=3) == ()

    assert shared.balances() == []
    assert list(shared.calls()) == []
    assert witness.records == [a_run(), a_call("1")]
    assert witness.let_go() == [a_run(), a_call("1")]
    settle(witness, "2", a=2)
    assert [call.call_id for call in shared.calls()] == ["2"]
    assert shared.balances() == [Balance(balance="a", spent=2)]
