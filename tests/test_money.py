"""Amounts are exact, whatever they are read from and summed with."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.money import from_pico, sum_usd, to_pico, usd


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        (0.1, Decimal("0.1")),
        (1e-7, Decimal("0.0000001")),
        ("0.50", Decimal("0.50")),
        (3, Decimal(3)),
        (Decimal("1.25"), Decimal("1.25")),
        (-2.5, Decimal("-2.5")),
        (10**25 - 1, Decimal(10**25 - 1)),
    ],
)
def test_what_a_person_wrote_is_read_as_written(written: float | str | Decimal, amount: Decimal) -> None:
    """A float is read by its repr, so that 0.1 is ten cents and not 0.1000000000000000055."""
    assert amount == usd(written)


@pytest.mark.parametrize(
    "written",
    [True, False, "ten", "", "NaN", "-Infinity", float("nan"), float("inf"), Decimal("sNaN"), 10**25, "1e999999999"],
)
def test_what_is_no_finite_amount_is_refused(written: float | str | Decimal) -> None:
    """A bool is no dollar, and an amount that would fill the memory as an integer is no money."""
    with pytest.raises(ValueError, match="money"):
        usd(written)


def test_a_list_is_no_amount() -> None:
    """One kind of error, whatever the type: the caller says which field it was."""
    with pytest.raises(ValueError, match="is not an amount"):
        usd([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dollars", "pico"),
    [
        ("0", 0),
        ("1", 10**12),
        ("0.000000000001", 1),
        ("0.0000000000005", 0),  # Half goes to the even neighbour: 0 and not 1,
        ("0.0000000000015", 2),  # 2 and not 1,
        ("0.0000000000025", 2),  # 2 and not 3.
        ("0.00000000000050000001", 1),
        ("-0.0000000000015", -2),
        ("1234567.000000000123", 1234567000000000123),
        ("123456789012345678901234", 123456789012345678901234 * 10**12),
    ],
)
def test_dollars_become_picodollars_rounded_half_even(dollars: str, pico: int) -> None:
    """Below a picodollar the nearest counts, the even one of two that are as near."""
    assert pico == to_pico(Decimal(dollars))


def test_an_integer_of_dollars_is_exact() -> None:
    """Whole dollars may be given as int."""
    assert to_pico(7) == 7 * 10**12


@pytest.mark.parametrize("amount", [0.1, True, "1", None])
def test_only_exact_types_become_picodollars(amount: object) -> None:
    """A float that slips in is refused where it does."""
    with pytest.raises(TypeError, match="Decimal or an int"):
        to_pico(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_what_is_not_finite_is_not_stored(amount: str) -> None:
    """Not a number is an error and not a cost of 0."""
    with pytest.raises(ValueError, match="finite"):
        to_pico(Decimal(amount))


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_picodollars_survive_the_way_to_dollars_and_back(pico: int) -> None:
    """Storing and reading an amount changes nothing."""
    assert pico == to_pico(from_pico(pico))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
def test_rounding_is_that_of_the_exact_fraction(amount: Decimal) -> None:
    """The same as Python's half-even rounding of the exact fraction."""
    assert round(Fraction(amount) * 10**12) == to_pico(amount)


def test_a_sum_keeps_every_digit() -> None:
    """The built-in sum would round 10^20 + 10^-12 at 28 digits."""
    assert Decimal("100000000000000000000.000000000001") == sum_usd([Decimal(10**20), Decimal("1e-12")])


@given(st.lists(st.integers(min_value=-(10**25), max_value=10**25)))
def test_summing_dollars_is_summing_picodollars(picos: list[int]) -> None:
    """However many amounts there are, and in which order."""
    assert from_pico(sum(picos)) == sum_usd(from_pico(pico) for pico in picos)
