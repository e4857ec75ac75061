"""Exact dollars: Decimal in the API, integer picodollars in storage. Floats never touch an amount."""

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

__all__ = ["PICO_PER_USD", "from_pico", "show_usd", "sum_usd", "to_pico", "usd"]

PICO_PER_USD = 10**12
"""Picodollars in a dollar. $1 per million tokens is 1,000,000 pico a token."""

# The default context rounds at 28 digits without a word, which a large sum of picodollars passes.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def usd(value: Decimal | int | str | float) -> Decimal:
    """Read an amount or a limit that a person wrote. A float is read by its repr: 0.1 is ten cents exactly.

    Raises ValueError for what is no finite number.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not an amount of money")
    try:
        amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{value!r} is not an amount of money") from error
    if not amount.is_finite():
        raise ValueError(f"{value!r} is not a finite amount of money")
    return amount


def to_pico(amount: Decimal | int) -> int:
    """Dollars as integer picodollars, rounded half to even below one picodollar. Raises TypeError for floats."""
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int):
        raise TypeError(f"an amount of money is a Decimal or an int, not {type(amount).__name__}")
    scaled = EXACT.multiply(Decimal(amount), Decimal(PICO_PER_USD))
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


def from_pico(pico: int) -> Decimal:
    """Integer picodollars as dollars, exactly and without trailing zeros' noise in the exponent."""
    return EXACT.scaleb(Decimal(pico), -12)


def sum_usd(amounts: "list[Decimal] | tuple[Decimal, ...]") -> Decimal:
    """Exact sum of dollars; the built-in sum rounds at 28 digits."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def show_usd(amount: Decimal, *, bound: bool = False) -> str:
    """Return dollars for a reader: cents from $10 up, four decimals below, two digits of what is tiny.

    What is not zero is never shown as zero. A `bound` is rounded down, so that "at least" stays true.
    """
    size = abs(amount)
    decimals = 2 if size >= 10 else 4
    if 0 < size < Decimal("0.001"):
        decimals = 1 - size.adjusted()
    step = Decimal(1).scaleb(-decimals)
    rounded = amount.quantize(step, ROUND_FLOOR if bound else ROUND_HALF_EVEN, EXACT) if amount else Decimal(0)
    return f"-${-rounded:,f}" if rounded < 0 else f"${rounded:,f}"
