"""Scripted tiers that cost a cent, two and ten a call, a handler that prices them, and ways to call them all."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

sys.path.insert(0, str(Path(__file__).parent))  # Tests are imported by path and have no package.
sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from tier_models import BOOK, Said, worded

from langchain_finops import FinOpsHandler, Ledger, open_ledger
from langchain_finops.levers import tiers


@pytest.fixture
def ledger() -> Ledger:
    return open_ledger(":memory:")


@pytest.fixture
def handler(ledger: Ledger) -> Iterator[FinOpsHandler]:
    handler = FinOpsHandler(ledger=ledger, prices=BOOK)
    yield handler
    assert handler.faults == 0


@pytest.fixture(autouse=True)
def _said_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said once in another test is said again in this one."""
    monkeypatch.setattr(tiers, "_said", set())


@pytest.fixture
def small() -> Said:
    return Said(model_name="small", say=worded("small"))


@pytest.fixture
def big() -> Said:
    return Said(model_name="big", say=worded("big"))


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream"])
def ask(request: pytest.FixtureRequest) -> Callable[..., AIMessage]:
    """Ask a model in one of the four ways; a stream's chunks are added up."""
    import asyncio

    async def streamed(model: Any, *args: Any) -> Any:
        return added([chunk async for chunk in model.astream(*args)])

    def added(chunks: list[Any]) -> Any:
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        return whole

    ways: dict[str, Callable[..., Any]] = {
        "invoke": lambda model, *args: model.invoke(*args),
        "ainvoke": lambda model, *args: asyncio.run(model.ainvoke(*args)),
        "stream": lambda model, *args: added(list(model.stream(*args))),
        "astream": lambda model, *args: asyncio.run(streamed(model, *args)),
    }
    return ways[request.param]
