"""Ledgers on disk, closed when their test ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_finops.ledger import Ledger, open_ledger

Open = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens ledgers as `open_ledger` does."""
    ledgers: list[Ledger] = []

    def open_one(where: object, **options: Any) -> Ledger:
        ledgers.append(open_ledger(where, **options))
        return ledgers[-1]

    yield open_one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Open, path: Path) -> Any:
    """A new SQLite ledger."""
    return opened(path)
