"""Nothing gets out of a hook but a guard's signal, and what cannot be asked about is refused."""

from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage
from langgraph.errors import GraphInterrupt
from limited_graphs import BOOK, Paid, asking, line

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger
from langchain_finops.langchain.calls import Calls
from langchain_finops.langchain.recorder import Recorder
from langchain_finops.sections import section


@pytest.mark.parametrize("budgets", [(), (Budget(usd=1),)], ids=["no limit", "a limit"])
def test_a_fault_of_ours_never_kills_the_run(budgets: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in a hook is counted, and the call is made: only what a guard says is raised."""
    handler, model = FinOpsHandler(budgets=budgets, ledger=ledger, prices=BOOK), Paid()

    def broken(*_: Any, **__: Any) -> None:
        raise GraphInterrupt  # LangGraph would pause for it.

    for part, name in ((Calls, "open"), (Recorder, "start_chain"), (Calls, "end"), (Recorder, "end_chain")):
        monkeypatch.setattr(part, name, broken)
    line(asking(model, "hi")).invoke({"said": []}, {"callbacks": [handler]})

    assert model.calls == 1
    assert handler.faults > 3


@pytest.mark.parametrize(
    "hook",
    ["on_chat_model_start", "on_llm_start", "on_tool_start", "on_chain_start", "on_llm_new_token", "on_llm_end"],
)
def test_even_arguments_that_make_no_sense_are_no_more_than_a_fault(hook: str, ledger: Ledger) -> None:
    """A newer LangChain may hand on something else."""
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, budgets=[Budget(usd=1)])
    some = {"on_llm_end": (None,), "on_llm_new_token": ("x",)}.get(hook, (None, []))

    getattr(handler, hook)(*some, run_id=uuid4())


def test_a_call_in_the_middle_of_our_own_bookkeeping_is_refused_where_there_is_a_limit(
    limited: Any, ledger: Ledger
) -> None:
    """It can neither wait nor be asked about. Without a limit it is booked afterwards, as ever."""
    model = Paid()
    with_limit, without = limited(Budget(usd=1)), limited()

    with section, pytest.raises(BudgetExceeded, match="its own thread was counting another"):
        model.invoke("hi", {"callbacks": [with_limit]})
    assert model.calls == 0
    with section:
        model.invoke("hi", {"callbacks": [without]})

    assert model.calls == 1
    assert len(list(ledger.calls())) == 1
    model.invoke("hi", {"callbacks": [with_limit]})
    assert len(list(ledger.calls())) == 2


def test_a_callable_that_makes_calls_of_its_own_is_not_asked_about_them(limited: Any) -> None:
    """An `on_exceed` that asks a model with the same handler would be asked for ever; it counts as failed: refused."""
    model = Paid()

    def decide(_: Any) -> str:
        model.invoke("what shall I do?", {"callbacks": [handler]})
        return "warn"

    handler = limited(Budget(llm_calls=1, scope="all", on_exceed=decide))
    model.invoke("hi", {"callbacks": [handler]})
    with pytest.raises(BudgetExceeded):
        model.invoke("hi", {"callbacks": [handler]})

    assert model.calls == 1


def test_a_token_in_the_middle_of_our_own_bookkeeping_waits(limited: Any, ledger: Ledger) -> None:
    """A start is refused there, a token is not: it costs nothing that was not admitted."""
    handler, call = limited(Budget(llm_calls=1)), uuid4()
    handler.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=call)

    with section:
        handler.on_llm_new_token("twelve bytes", run_id=call)

    opened = handler.recorder.calls._open.get(call)
    assert opened is not None
    assert opened.received_bytes == 12
