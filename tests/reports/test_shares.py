"""Parts of an amount: they add up to it, to the last picodollar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.reports.shares import divided


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),  # 33.3 each: the first of equals gets what is left
        (100, [3, 5, 9], [18, 29, 53]),  # 17.65, 29.41, 52.94: one left for each of the largest remainders
        (-100, [1, 2], [-33, -67]),  # 33.3 and 66.7, mirrored
        (7, [0, 0], [4, 3]),
        (0, [5], [0]),
    ],
)
def test_the_largest_remainders_get_what_is_left(amount, weights, parts):
    """By hand, each."""
    assert divided(amount, weights) == parts


@given(amount=st.integers(-(10**24), 10**24), weights=st.lists(st.integers(0, 10**18), min_size=1, max_size=9))
def test_parts_add_up(amount, weights):
    """Exactly, and no part is a whole unit off its share."""
    parts = divided(amount, weights)
    assert sum(parts) == amount
    if whole := sum(weights):
        assert all(abs(part * whole - amount * weight) < whole for part, weight in zip(parts, weights, strict=True))


@pytest.mark.parametrize("weights", [[], [1, -1]])
def test_what_is_no_weight_is_refused(weights):
    """A negative share would be a loan from the others."""
    with pytest.raises(ValueError, match="no weights"):
        divided(1, weights)
