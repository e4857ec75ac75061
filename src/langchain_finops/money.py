"""Exact dollars: Decimal in the API, integer picodollars in storage. Floats never touch an amount."""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal

__all__ = ["PICO_PER_USD", "from_pico", "sum_usd", "to_pico", "usd"]

PICO_PER_USD = 10**12
"""Picodollars in a dollar. $1 per million tokens is 1,000,000 pico a token."""

# The default context rounds at 28 digits without a word, which a large sum of picodollars passes.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)

LARGEST_EXPONENT = 24
"""No amount has more digits before the point than this plus one."""


def usd(value: Decimal | int | str | float) -> Decimal:
    """Read an amount or a limit that a person wrote. A float is read by its repr: 0.1 is ten cents exactly.

    Raises ValueError for what is no finite number, or has more than 25 digits before the point.
    """
    try:
        # A bool's repr is no number, so that True is refused and not read as one dollar.
        amount = Decimal(repr(value)) if isinstance(value, bool | float) else Decimal(value)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{value!r} is not an amount of money") from error
    if not amount.is_finite():
        raise ValueError(f"{value!r} is not a finite amount of money")
    # Without it `1e999999999` in a card file would fill the memory when it becomes an integer.
    if amount.adjusted() > LARGEST_EXPONENT:
        raise ValueError(f"{value!r} is more money than there is")
    return amount


def to_pico(amount: Decimal | int) -> int:
    """Dollars as integer picodollars, rounded half to even below one picodollar.

    Raises TypeError for floats, ValueError for what is not finite.
    """
    if type(amount) is Decimal:
        shifted = amount.scaleb(12, EXACT)
        if shifted.is_finite():
            pico = int(shifted)
            # Amounts of this package nearly always are whole picodollars, and every call reads a few of them.
            if shifted == pico:
                return pico
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int):
        raise TypeError(f"an amount of money is a Decimal or an int, not {type(amount).__name__}")
    dollars = Decimal(amount)
    if not dollars.is_finite():
        raise ValueError(f"{amount!r} is not a finite amount of money")
    scaled = EXACT.multiply(dollars, PICO_PER_USD)
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


def from_pico(pico: int) -> Decimal:
    """Integer picodollars as dollars, exactly; the exponent is always -12."""
    return Decimal(pico).scaleb(-12, EXACT)


def sum_usd(amounts: Iterable[Decimal]) -> Decimal:
    """Exact sum of dollars; the built-in sum rounds at 28 digits."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
