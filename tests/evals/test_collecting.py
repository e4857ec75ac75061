"""What a run keeps from Python's collector, and what it gives back."""

import gc
import sys
from contextlib import suppress

import pytest

from langchain_finops.evals.collecting import few_collections

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="Python 3.12 begins with frozen objects of its own: nothing is frozen there"
)


@pytest.fixture(autouse=True)
def _nothing_is_frozen() -> None:
    assert gc.get_freeze_count() == 0


def test_what_was_there_is_left_alone_meanwhile_whatever_happens() -> None:
    """And is looked at again afterwards: a server must not keep cycles for good."""
    with suppress(KeyError), few_collections():
        assert gc.get_freeze_count() > 1_000
        raise KeyError
    assert gc.get_freeze_count() == 0


def test_who_froze_it_before_is_not_interfered_with() -> None:
    """A server that forks freezes for itself; a run within one must not thaw it."""
    gc.freeze()
    try:
        with few_collections():
            pass
        assert gc.get_freeze_count() > 1_000
    finally:
        gc.unfreeze()
