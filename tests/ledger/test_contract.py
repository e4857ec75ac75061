"""Both ledgers pass the contract, and each of its tests finds the fault it is there for."""

from pathlib import Path

import pytest

from langchain_finops.ledger import Ledger, open_ledger
from langchain_finops.testing import LedgerContract


class TestMemoryLedger(LedgerContract):
    """The contract on the ledger in memory."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        return open_ledger(":memory:")


class TestSqlLedger(LedgerContract):
    """The contract on the ledger in a SQLite file."""

    @pytest.fixture
    def ledger(self, opened, path: Path) -> Ledger:
        return opened(f"sqlite:///{path}")
