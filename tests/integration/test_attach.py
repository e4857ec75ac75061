"""`attach` meters everything in the process without touching code; `detach` ends it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from graphs import State, asking, graph_of, recorded
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers import context
from scripted_models import ScriptedChat

from langchain_finops import FinOpsHandler, Ledger, PriceBook, attach, detach, open_ledger


@pytest.fixture(autouse=True)
def _detached() -> Iterator[None]:
    """No test leaves a handler attached."""
    yield
    detach()


def draft() -> State:
    return graph_of({"draft": asking(ScriptedChat(), "7/3")}).invoke({"answers": []})


def test_attached_it_sees_runs_that_name_no_handler(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Nothing of the graph or its call is changed, and its calls and runs are recorded with their nodes."""
    assert attach(handler) is handler

    draft()

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
    assert [run.status for run in ledger.runs()] == ["completed"]


async def test_attached_it_sees_async_runs(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The same in an event loop."""
    attach(handler)

    await graph_of({"draft": asking(ScriptedChat(), "7/3", native_async=True)}).ainvoke({"answers": []})

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])


def test_detached_it_sees_nothing(handler: FinOpsHandler, ledger: Ledger) -> None:
    """After `detach` nothing is recorded, and detaching twice is fine."""
    attach(handler)
    draft()
    detach()
    detach()

    draft()

    assert len(list(ledger.calls())) == 1


@pytest.mark.parametrize("where", ["thread", "pool", "no callbacks", "other callbacks"])
def test_what_loses_other_handlers_does_not_lose_an_attached_one(
    where: str, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Raw threads, plain executors, `callbacks=[]` and lists of other handlers: each call is recorded once."""
    attach(handler)
    model = ScriptedChat()

    def node(state: State) -> State:
        if where == "thread":
            thread = threading.Thread(target=model.invoke, args=("5/2",))
            thread.start()
            thread.join()
        elif where == "pool":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(model.invoke, "5/2").result()
        else:
            model.invoke("5/2", {"callbacks": [] if where == "no callbacks" else [BaseCallbackHandler()]})
        return {"answers": []}

    graph_of({"draft": node}).invoke({"answers": []})

    (call,) = ledger.calls()
    assert (call.usage.input_tokens, call.usage.output_tokens) == (5, 2)
    # A raw thread has no node to tell of; inside the node it is known.
    assert call.attribution.node_path == (None if where in {"thread", "pool"} else "draft")


async def test_executors_of_the_event_loop_are_seen(handler: FinOpsHandler, ledger: Ledger) -> None:
    """`run_in_executor` loses the context, and with it other handlers."""
    attach(handler)
    model = ScriptedChat()

    async def node(state: State) -> State:
        await asyncio.get_running_loop().run_in_executor(None, model.invoke, "5/2")
        return {"answers": []}

    await graph_of({"draft": node}).ainvoke({"answers": []})

    assert [(call.usage.input_tokens, call.usage.output_tokens) for call in ledger.calls()] == [(5, 2)]


def test_attached_and_given_it_counts_once(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The same handler attached and passed along is one handler."""
    attach(handler)

    graph_of({"draft": asking(ScriptedChat(callbacks=[handler]), "7/3")}).invoke(
        {"answers": []}, {"callbacks": [handler]}
    )

    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])
    assert handler.summary(by="node").total().calls == 1


def test_attaching_again_replaces(handler: FinOpsHandler, ledger: Ledger, prices: PriceBook) -> None:
    """The second handler sees what follows, the first nothing more, and no hook is registered twice."""
    attach(handler)
    hooks = len(context._configure_hooks)
    second = FinOpsHandler(ledger=open_ledger(":memory:"), prices=prices)

    attach(second)
    draft()

    assert len(list(ledger.calls())) == 0
    assert recorded(second.ledger.calls()) == Counter([("draft", 7, 3)])
    assert len(context._configure_hooks) == hooks


def test_attaching_again_after_detaching_registers_no_second_hook(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A process that attaches for each request does not slow down with every one."""
    attach(handler)
    hooks = len(context._configure_hooks)

    for _ in range(5):
        detach()
        attach(handler)
    draft()

    assert len(context._configure_hooks) == hooks
    assert recorded(ledger.calls()) == Counter([("draft", 7, 3)])


def test_without_a_handler_it_makes_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`attach()` alone meters into the ledger that the environment names."""
    monkeypatch.setenv("FINOPS_LEDGER", str(tmp_path / "calls.db"))

    made = attach()
    draft()
    made.ledger.flush(30)

    with_another = open_ledger(tmp_path / "calls.db")
    assert recorded(with_another.calls()) == Counter([("draft", 7, 3)])
    with_another.close()
    made.ledger.close()


def test_it_is_attached_in_threads_that_run_already(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A worker thread that was started before is metered from then on, and no more after `detach`."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(draft).result()
        attach(handler)
        pool.submit(draft).result()
        detach()
        pool.submit(draft).result()

    assert len(list(ledger.calls())) == 1
