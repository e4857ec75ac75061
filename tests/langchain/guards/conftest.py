"""What tests of guards share: a ledger, handlers with limits on it, and both ways to run a graph."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # Tests are imported by path and have no package.

from limited_graphs import BOOK

from langchain_finops import FinOpsHandler, Ledger, open_ledger

Limited = Callable[..., FinOpsHandler]
Run = Callable[..., Any]


@pytest.fixture
def ledger() -> Ledger:
    return open_ledger(":memory:")


@pytest.fixture
def limited(ledger: Ledger) -> Iterator[Limited]:
    """Makes handlers with these guards; at the end none may have met a fault of its own."""
    made: list[FinOpsHandler] = []

    def make(*budgets: Any, **options: Any) -> FinOpsHandler:
        made.append(FinOpsHandler(budgets=budgets, **{"ledger": ledger, "prices": BOOK, **options}))
        return made[-1]

    yield make
    assert [handler.faults for handler in made] == [0] * len(made)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a graph on an input with handlers: `run(graph, input, handler, thread="t", **config)`."""

    def invoke(graph: Any, state: Any, *handlers: Any, thread: str | None = None, **config: Any) -> Any:
        settings: dict[str, Any] = {"callbacks": list(handlers), **config}
        if thread is not None:
            settings["configurable"] = {"thread_id": thread}
        if request.param == "sync":
            return graph.invoke(state, settings)
        return asyncio.run(graph.ainvoke(state, settings))

    return invoke
