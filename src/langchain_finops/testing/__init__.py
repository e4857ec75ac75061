"""For who writes a ledger: the contract that every ledger passes, as tests to install.

class TestMyLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, tmp_path):
        return MyLedger(tmp_path)
"""

import pytest

# Without it a failed assert of the contract would not say what it compared.
pytest.register_assert_rewrite(
    *(f"langchain_finops.testing.ledger{part}" for part in ("", "_controls", "_holds", "_records", "_totals"))
)

from langchain_finops.testing.ledger import LedgerContract  # noqa: E402 - after what makes its asserts speak
from langchain_finops.testing.ledger_holds import HoldsContract  # noqa: E402

__all__ = ["HoldsContract", "LedgerContract"]
