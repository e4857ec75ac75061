"""A page on a ledger of its own, asked as a browser asks."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

# Tests are imported by path and have no package: without this they could not share the example.
sys.path.insert(0, str(Path(__file__).parent))

from langchain_finops.dashboard import desk
from langchain_finops.dashboard.access import Access
from langchain_finops.dashboard.app import make_app
from langchain_finops.ledger import open_ledger

HOST = "http://127.0.0.1:8321"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Any]:
    opened = open_ledger(tmp_path / "a place nobody should know" / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine's figures are waited for."""
    monkeypatch.setattr(desk, "PATIENCE_S", 60)
    monkeypatch.setattr(desk, "FIRST_PATIENCE_S", 60)


@pytest.fixture
def visit(ledger: Any) -> Iterator[Callable[..., TestClient]]:
    """A browser on the page; keywords are those of `Access`."""
    clients: list[TestClient] = []

    def made(base_url: str = HOST, **access: Any) -> TestClient:
        app = make_app(ledger, Access(**{"host": "127.0.0.1", **access}))
        client = TestClient(app, base_url=base_url, headers={"accept": "text/html"}, follow_redirects=False)
        clients.append(client.__enter__())
        return client

    yield made
    for client in clients:
        client.__exit__()


@pytest.fixture
def client(visit: Callable[..., TestClient]) -> TestClient:
    return visit()


@pytest.fixture
def form_token() -> Callable[[str], str]:
    """The token of a page's forms."""

    def found(html: str) -> str:
        return re.findall(r'name="form_token" value="([^"]+)"', html)[0]

    return found
