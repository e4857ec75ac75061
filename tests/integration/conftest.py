"""What the integration tests share: hand-made prices, ledgers, a handler on them, and a provider on loopback."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are imported by path and have no package: without this they could not share their scripted models.
sys.path.insert(0, str(Path(__file__).parent))

from provider_server import ProviderServer, provider_server

from langchain_finops import FinOpsHandler, Ledger, PriceBook, open_ledger
from langchain_finops.pricing.cards import parse_cards

CARDS = [
    {
        "id": "scripted",
        "match": {"model": "scripted*"},
        "rates": {
            "input_tokens": "2",
            "cache_read_tokens": "0.2",
            "cache_write_5m_tokens": "2.5",
            "cache_write_1h_tokens": "4",
            "output_tokens": "10",
        },
    },
]
"""Dollars per million tokens, so that every expectation can be computed by hand."""


@pytest.fixture
def prices() -> PriceBook:
    """A book of one card; whatever else is asked for is unpriced."""
    return PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """A memory ledger."""
    ledger = open_ledger(":memory:")
    yield ledger
    ledger.close()


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    """Where a SQLite ledger is to be."""
    return tmp_path / "ledger.db"


@pytest.fixture
def sql_ledger(ledger_file: Path) -> Iterator[Ledger]:
    """A SQLite ledger, and a patient one: a busy machine must not look like a fault."""
    ledger = open_ledger(ledger_file, hold_timeout=60.0)
    yield ledger
    ledger.close()


@pytest.fixture
def handler(ledger: Ledger, prices: PriceBook) -> FinOpsHandler:
    """A handler on the memory ledger."""
    return FinOpsHandler(ledger=ledger, prices=prices)


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    """A provider on loopback."""
    with provider_server() as server:
        yield server
