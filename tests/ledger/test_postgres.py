"""The PostgreSQL ledger: the same contract as the others, for many machines at once."""

import pytest

from langchain_finops.ledger import Ledger
from langchain_finops.testing import LedgerContract


class TestPostgresLedger(LedgerContract):
    """The contract on the ledger in PostgreSQL."""

    @pytest.fixture
    def ledger(self, opened, postgres_url: str) -> Ledger:
        return opened(postgres_url)
