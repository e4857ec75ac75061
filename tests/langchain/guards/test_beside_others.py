"""Another handler's refusal outside graphs: what we admitted is never made, and gives back all that it held."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, LLMResult
from langchain_core.tools import StructuredTool
from limited_graphs import BOOK, Paid, Streaming, cent

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger


class Refuses(BaseCallbackHandler):
    """Another handler's guard, which lets nothing pass."""

    raise_error = run_inline = True

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("SECRET")

    on_chat_model_start = on_llm_start = on_tool_start = _refuse  # type: ignore[assignment]


class Completing(BaseLLM):
    """A completion model, which must not be asked."""

    @property
    def _llm_type(self) -> str:
        return "completing"

    def _generate(self, prompts: Any, *_: Any, **__: Any) -> LLMResult:
        return LLMResult(generations=[[Generation(text="x")] for _ in prompts])


def search(query: str) -> str:
    """Search."""
    return query


async def asearch(query: str) -> str:
    """Search."""
    return query


BARE: dict[str, tuple[Any, Any]] = {
    "chat": (Paid, "hi"),
    "completion": (Completing, "hi"),
    "tool": (lambda: StructuredTool.from_function(search), {"query": "hi"}),
}


@pytest.fixture
def no_collector() -> Any:
    """What is given back must not wait for the garbage collector, which may come in an hour."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("bare", BARE)
def test_what_another_handler_refused_holds_nothing(bare: str, limited: Any, ledger: Ledger) -> None:
    """Five times: the day's three calls, or tools, are all still there, and no run is open."""
    make, given = BARE[bare]
    handler = limited(Budget(llm_calls=3, tool_calls=3, per="day"))
    for _ in range(5):
        with pytest.raises(RuntimeError, match="SECRET") as refusal:
            make().invoke(given, {"callbacks": [handler, Refuses()]})
        del refusal

    assert [(balance.spent, balance.held) for balance in ledger.balances()] in ([(0, 0)], [])
    assert handler.recorder.tracker.open_runs() == []
    assert [(call.reasons, call.cost_usd) for call in ledger.calls()] == [(("not_sent",), 0)] * 5 * (bare != "tool")
    assert list(ledger.charges()) == []
    assert {run.status for run in ledger.runs()} == {"cancelled"}


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("bare", ["chat", "tool", "coroutine"])
async def test_what_another_handler_refused_holds_nothing_in_async_code(
    bare: str, limited: Any, ledger: Ledger
) -> None:
    """The same, where a call that was cancelled ends like that as well, and is charged."""
    make, given = BARE.get(bare) or (lambda: StructuredTool.from_function(coroutine=asearch), {"query": "hi"})
    handler = limited(Budget(llm_calls=3, tool_calls=3, per="day"))
    for _ in range(5):
        with ThreadPoolExecutor(1) as pool:  # A sync tool runs there, and its thread may come to its end after us.
            asyncio.get_running_loop().set_default_executor(pool)
            with pytest.raises(RuntimeError, match="SECRET") as refusal:
                await make().ainvoke(given, {"callbacks": [handler, Refuses()]})
            del refusal
        await asyncio.sleep(0)

    assert [(balance.spent, balance.held) for balance in ledger.balances()] in ([(0, 0)], [])
    assert handler.recorder.tracker.open_runs() == []
    assert [(call.reasons, call.cost_usd) for call in ledger.calls()] == [(("not_sent",), 0)] * 5 * (bare == "chat")
    assert list(ledger.charges()) == []


@pytest.mark.parametrize("says", [None, 0, True, "yes"])
async def test_a_handler_that_says_in_its_own_way_whether_it_raises(says: Any, limited: Any, ledger: Ledger) -> None:
    """LangChain asks only whether it is true. Each call is settled, in both kinds of code."""

    class MayRefuse(BaseCallbackHandler):
        raise_error = says

    handler = limited(Budget(llm_calls=3, per="day"))
    Paid().invoke("hi", {"callbacks": [handler, MayRefuse()]})
    await Paid().ainvoke("hi", {"callbacks": [handler, MayRefuse()]})

    assert [call.reasons for call in ledger.calls()] == [(), ()]
    assert [(balance.spent, balance.held) for balance in ledger.balances()] == [(2, 0)]


async def test_a_call_that_is_cancelled_beside_another_handler_is_charged(limited: Any, ledger: Ledger) -> None:
    """It was on its way: what it may have cost counts, whoever else might have refused it."""

    class MayRefuse(BaseCallbackHandler):
        raise_error = run_inline = True

    class Stuck(Paid):
        async def _agenerate(self, messages: Any, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    handler = limited(Budget(llm_calls=3, per="day"))
    call = asyncio.ensure_future(Stuck().ainvoke("hi", {"callbacks": [handler, MayRefuse()]}))
    for _ in range(3):
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)

    assert [each.reasons[-1] for each in ledger.calls()] == ["cancelled"]
    assert [(balance.spent, balance.held) for balance in ledger.balances()] == [(1, 0)]


@pytest.mark.usefixtures("no_collector")
def test_a_second_handlers_limit_gives_the_firsts_back(limited: Any, ledger: Ledger) -> None:
    """Two of ours side by side: what the second one refuses does not count on the first one's budget."""
    model, first = Paid(), limited(Budget(llm_calls=3, per="day"))
    second = FinOpsHandler(budgets=[Budget(llm_calls=1, scope="all")], ledger=":memory:", prices=BOOK)
    for turn in range(5):
        try:
            model.invoke("hi", {"callbacks": [first, second]})
        except BudgetExceeded:
            assert turn > 0
    for _ in range(2):
        model.invoke("hi", {"callbacks": [first]})
    with pytest.raises(BudgetExceeded):
        model.invoke("hi", {"callbacks": [first]})

    assert model.calls == 3


@pytest.mark.usefixtures("no_collector")
def test_streams_side_by_side_are_not_taken_for_refused(limited: Any, ledger: Ledger) -> None:
    """Two streams in one thread, in turns, beside a handler that might refuse: each is charged as it ends."""

    class MayRefuse(BaseCallbackHandler):
        raise_error = True

    handler, model = limited(Budget(llm_calls=3, per="day")), Streaming(say=lambda *_: cent("one two three"))
    config: Any = {"callbacks": [handler, MayRefuse()]}
    one, two = model.stream("a", config), model.stream("b", config)
    for _turn in range(3):
        next(one)
        next(two)
    rest = [*one, *two]

    assert all(not chunk.text for chunk in rest)
    assert [call.reasons for call in ledger.calls()] == [(), ()]
    assert [run.status for run in ledger.runs()] == ["completed"] * 2
    assert [(balance.spent, balance.held) for balance in ledger.balances()] == [(2, 0)]


@pytest.mark.usefixtures("no_collector")
def test_a_refusal_of_ours_keeps_nothing_alive(limited: Any) -> None:
    """The prompt and the model go with the exception, and do not wait for the garbage collector."""
    import weakref

    handler, model = limited(Budget(llm_calls=1, scope="all")), Paid()
    model.invoke("hi", {"callbacks": [handler]})
    kept = weakref.ref(model)
    with pytest.raises(BudgetExceeded) as refusal:
        model.invoke("hi", {"callbacks": [handler]})
    del refusal, model

    assert kept() is None
