"""What cannot be read or counted is no way around a limit: a ledger that is gone, odd prompts and names."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from limited_graphs import BOOK, Paid, asking, line

from langchain_finops import Budget, BudgetExceeded, CallRefused, FinOpsHandler, LoopDetected, LoopGuard, UnpricedCall
from langchain_finops.errors import LedgerError
from langchain_finops.langchain.calls import Calls
from langchain_finops.langchain.recorder import Recorder
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


# --- what cannot be read ---------------------------------------------------------------------------------------------


class Odd(Paid):
    """Tells callbacks a provider that is no name."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": ["openai"], "ls_model_name": "m", "ls_model_type": "chat"}


class Nameless:
    """Somebody's own class of ids."""

    def __str__(self) -> str:
        raise ValueError("SECRET")

    __repr__ = __str__


def odd_prompt() -> Any:
    """A message whose tool calls have a shape of their own, as some integration may make them."""
    message = AIMessage("x")
    object.__setattr__(message, "tool_calls", [Nameless()])
    return [HumanMessage("q"), message]


def asked_with(model: Any, prompt: Any) -> Any:
    """A node that asks the same ten times."""

    def ask(_: Any) -> dict[str, list[str]]:
        return {"said": [model.invoke(prompt).text for _ in range(10)]}

    return line(ask)


CASES: dict[str, tuple[Any, Any, dict[str, Any], Any, int, type[CallRefused]]] = {
    "provider, calls": (Odd, "x", {}, Budget(llm_calls=2), 2, BudgetExceeded),
    "provider, tokens": (Odd, "x", {}, Budget(tokens=2_000), 2, BudgetExceeded),
    "provider, dollars": (Odd, "x", {}, Budget(usd=1), 0, UnpricedCall),
    "provider, strict": (Odd, "x", {}, Budget(tokens=9, admission="strict"), 0, BudgetExceeded),
    "user, calls": (Paid, "x", {"user_id": Nameless()}, Budget(llm_calls=2), 2, BudgetExceeded),
    "user, a day": (
        Paid,
        "x",
        {"user_id": Nameless()},
        Budget(usd="0.03", per="day", scope="user_id"),
        3,
        BudgetExceeded,
    ),
    "prompt, calls": (Paid, odd_prompt(), {}, Budget(llm_calls=2), 2, BudgetExceeded),
    "prompt, strict": (Paid, odd_prompt(), {}, Budget(usd="0.03", admission="strict"), 0, UnpricedCall),
    "prompt, loop": (Paid, odd_prompt(), {}, LoopGuard(repeats=3), 3, LoopDetected),
}
"""The model, its prompt, the run's metadata, the budget, the calls that it lets pass, and what it raises then."""


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_read_is_counted_all_the_same(case: str, run: Any) -> None:
    """Ten calls; a budget that needs what cannot be read refuses, all others count the calls as ever."""
    make, prompt, metadata, budget, calls, refusal = CASES[case]
    model, handler = make(), FinOpsHandler(budgets=[budget], ledger=":memory:", prices=BOOK)

    with pytest.raises(refusal):
        run(asked_with(model, prompt), {"said": []}, handler, metadata=metadata)

    assert model.calls == calls


@pytest.mark.parametrize(("fail_closed", "calls"), [(False, 1), (True, 0)])
@pytest.mark.parametrize("broken", [(Calls, "open"), (Recorder, "start_chain")])
def test_a_fault_that_nobody_foresaw_refuses_where_a_budget_is_fail_closed(
    broken: tuple[type, str], fail_closed: bool, calls: int, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it never kills the user's run: the call is made, uncounted, and the fault is."""
    model = Paid()
    handler = FinOpsHandler(budgets=[Budget(llm_calls=5, fail_closed=fail_closed)], ledger=":memory:", prices=BOOK)

    def fault(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(*broken, fault)
    graph = line(asking(model, "hi"))
    if fail_closed:
        with pytest.raises(BudgetExceeded, match="fail_closed"):
            run(graph, {"said": []}, handler)
    else:
        run(graph, {"said": []}, handler)

    assert model.calls == calls
    assert handler.faults > 0
