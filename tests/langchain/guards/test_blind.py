"""What cannot be read or counted as it should is no way around a limit: a ledger that is gone, odd prompts and names."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from limited_graphs import BOOK, Paid, asking, line

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler
from langchain_finops.errors import LedgerError
from langchain_finops.ledger.memory import MemoryLedger


class Unreadable(MemoryLedger):
    """A ledger that nothing can be read from while it is down, nor held on."""

    down = False

    def _up(self) -> None:
        if self.down:
            raise LedgerError("cannot read the ledger")

    def runs(self, **filters: Any) -> Any:
        self._up()
        return super().runs(**filters)

    def events(self, **filters: Any) -> Any:
        self._up()
        return super().events(**filters)

    def hold(self, *args: Any, **options: Any) -> Any:
        self._up()
        return super().hold(*args, **options)


def waiting(model: Any, calls: int = 8) -> Any:
    """A graph that waits for its user, and then asks the model in one node after the other."""

    def wait(_: Any) -> dict[str, list[str]]:
        return {"said": [interrupt("go on?")]}

    return line(wait, *[asking(model, f"p{n}") for n in range(calls)], checkpointer=InMemorySaver())


@pytest.mark.parametrize("same_handler", [True, False])
def test_a_run_whose_past_cannot_be_read_has_its_limits_all_the_same(same_handler: bool, run: Any) -> None:
    """The ledger is down when the user answers: three calls in this run, as if nothing had been spent before."""
    ledger, model = Unreadable(), Paid()
    graph, budgets = waiting(model), [Budget(llm_calls=3), Budget(llm_calls=5, per="day")]
    first = FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK)
    second = first if same_handler else FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK)

    run(graph, {"said": []}, first, thread="t")
    ledger.down = True
    with pytest.raises(BudgetExceeded, match="3 llm_calls per run"):
        run(graph, Command(resume="yes"), second, thread="t")
    ledger.down = False

    assert model.calls == 3
    assert second.faults > 0
    assert len(list(ledger.calls())) == 3
    assert len({each.run_id for each in ledger.runs()}) == (1 if same_handler else 2)


@pytest.mark.parametrize("same_handler", [True, False])
def test_a_run_whose_past_cannot_be_read_is_refused_where_a_budget_is_fail_closed(same_handler: bool, run: Any) -> None:
    """Nobody knows what it has spent."""
    ledger, model = Unreadable(), Paid()
    graph, budgets = waiting(model), [Budget(llm_calls=3, fail_closed=True)]
    first = FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK)
    second = first if same_handler else FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK)

    run(graph, {"said": []}, first, thread="t")
    ledger.down = True
    with pytest.raises(BudgetExceeded, match="cannot say what this run spent"):
        run(graph, Command(resume="yes"), second, thread="t")

    assert model.calls == 0


def test_a_pause_that_could_not_be_read_is_not_forgotten(run: Any) -> None:
    """The ledger was down at one resume: the next one knows the run again, and what both have spent."""
    ledger, model = Unreadable(), Paid()
    graph = line(*[asking(model, f"p{n}") for n in range(3)], checkpointer=InMemorySaver(), interrupt_before=["b", "c"])
    handler = FinOpsHandler(budgets=[Budget(llm_calls=2)], ledger=ledger, prices=BOOK)

    run(graph, {"said": []}, handler, thread="t")
    ledger.down = True
    run(graph, None, handler, thread="t")
    ledger.down = False
    with pytest.raises(BudgetExceeded):
        run(graph, None, handler, thread="t")

    assert model.calls == 2
    assert len({each.run_id for each in ledger.runs()}) == 1
