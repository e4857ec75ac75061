"""What the guards' scenarios share: ledgers of each kind, guarded handlers, and both ways to run a graph.

After each scenario nothing is held any more, no run is open, and no hook met a fault of ours.
"""

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests are imported by path and have no package: without these they could not share scenes and the server.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "ledger"))

from postgres_server import Server

from langchain_finops import FinOpsHandler, Ledger, PriceBook, open_ledger

Guarded = Callable[..., FinOpsHandler]
Play = Callable[..., Any]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, started when the first scenario needs it."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the ledger is: `memory`, `sqlite` or `postgres`, by indirect parameter."""
    kind = getattr(request, "param", "memory")
    if kind == "postgres":
        return str(request.getfixturevalue("postgres").new_url())
    return f"sqlite:///{tmp_path}/ledger.db" if kind == "sqlite" else ":memory:"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """The scenario's ledger."""
    # Whoever shares a slow machine with other tests must not see a ledger that is merely late.
    ledger = open_ledger(url, hold_timeout=20)
    yield ledger
    ledger.close()


@pytest.fixture
def guarded(ledger: Ledger, prices: PriceBook) -> Iterator[Guarded]:
    """Makes handlers with these guards, and looks at the end for what they left."""
    made: list[FinOpsHandler] = []

    def make(*budgets: Any, **options: Any) -> FinOpsHandler:
        named = {"agent_id": "support", "ledger": ledger, "prices": prices}
        made.append(FinOpsHandler(budgets=budgets, **named | options))
        return made[-1]

    yield make
    for handler in made:
        assert handler.flush(20)
        assert handler.faults == 0
        assert list(handler.recorder.tracker.open_runs()) == []
        assert [each for each in handler.ledger.balances() if each.held] == []


@pytest.fixture
def other_handlers() -> Iterator[None]:
    """LangChain makes a coroutine for each handler, and drops those behind the one that raises: none of our faults."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


@pytest.fixture(params=["sync", "async"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a graph: `play(graph, input, handler, thread="t", **config)`."""

    def invoke(graph: Any, state: Any, *handlers: Any, thread: str | None = None, **config: Any) -> Any:
        settings: dict[str, Any] = {"callbacks": list(handlers), **config}
        if thread is not None:
            settings["configurable"] = {"thread_id": thread}
        if request.param == "sync":
            return graph.invoke(state, settings)
        return asyncio.run(graph.ainvoke(state, settings))

    return invoke
