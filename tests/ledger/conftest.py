"""Ledgers on disk and in PostgreSQL, closed when their test ends."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests are imported by path and have no package: without this they could not share the server.
sys.path.insert(0, str(Path(__file__).parent))

from postgres_server import Server

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, started when the first test needs it."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    """An empty place in it."""
    return postgres.new_url()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that somebody who is not root may enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)
