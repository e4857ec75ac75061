"""How the report writes names and amounts: names harmless, amounts in three digits, what is unknown as `unknown`."""

import html
import math
from decimal import Decimal

from langchain_finops.ledger.summary import printable

__all__ = ["dollars", "escaped"]


def escaped(text: object) -> str:
    """Anybody's text as text: no markup, no control characters, no way to turn the line around."""
    return html.escape(printable(str(text)), quote=True)


def dollars(amount: float | Decimal | None, *, digits: int = 3) -> str:
    """An amount as it is read; None is not known, which is not nothing."""
    if amount is None:
        return "unknown"
    value = float(amount)
    if not value:
        return "$0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"${value:,.{decimals}f}"
