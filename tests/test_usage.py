"""Meters are disjoint whole numbers, or there is no usage."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.usage import METERS, METERS_AND_REASONING, TOKEN_METERS, Usage

PRIMES = dict(zip(METERS_AND_REASONING, (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 1, 37, 41), strict=True))


def test_totals_count_every_token_once() -> None:
    """Reasoning is a part of the output, searches and requests are no tokens."""
    usage = Usage(**PRIMES)

    assert usage.total_input_tokens == 2 + 3 + 5 + 7 + 11 + 13 + 17 + 19
    assert usage.total_output_tokens == 23 + 29
    assert usage.total_tokens == 77 + 52


def test_a_call_is_one_request_and_else_nothing() -> None:
    """An empty usage has a request's fee, if any, and no token."""
    assert Usage().total_tokens == 0
    assert Usage().requests == 1


@pytest.mark.parametrize("meter", METERS_AND_REASONING)
@pytest.mark.parametrize("count", [-1, 1.0, "1", None, True])
def test_a_meter_that_is_no_count_is_refused_by_name(meter: str, count: object) -> None:
    """Whichever meter it is on; a bool is no number of tokens."""
    with pytest.raises(ValueError, match=f"^{meter} is "):
        Usage(**{meter: count})  # type: ignore[arg-type]


def test_more_reasoning_than_output_is_a_contradiction() -> None:
    """As much as the output is fine, one more is not."""
    assert Usage(output_tokens=5, reasoning_tokens=5).reasoning_tokens == 5
    with pytest.raises(ValueError, match="reasoning_tokens is 6, more than output_tokens, 5"):
        Usage(output_tokens=5, reasoning_tokens=6)


def test_a_usage_is_frozen() -> None:
    """A fact does not change after it was written down."""
    with pytest.raises(FrozenInstanceError):
        Usage().input_tokens = 1  # type: ignore[misc]


def test_reasoning_is_no_meter() -> None:
    """A price on it would charge those tokens twice."""
    assert "reasoning_tokens" not in METERS
    assert {"web_searches", "requests"} == set(METERS) - set(TOKEN_METERS)


@given(st.dictionaries(st.sampled_from(TOKEN_METERS), st.integers(min_value=0, max_value=10**12)))
def test_the_total_is_the_sum_of_the_meters(counts: dict[str, int]) -> None:
    """No token meter is left out of the total, and none is in it twice."""
    assert sum(counts.values()) == Usage(**counts).total_tokens
