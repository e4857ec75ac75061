"""What a record adds to counters that only ever grow. What is corrected counts again, and is taken back beside it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["MOST_SERIES", "OTHER", "Amounts", "amounts_of", "signed"]

Amounts = Mapping[str, Decimal | int]
"""What is added to counters, by their names in the table."""

MOST_SERIES: Final = 1_000
"""Combinations of names that are told apart; later ones are `OTHER` together."""
OTHER: Final = "other"
ZERO: Final = Decimal(0)


def signed(cost: Decimal | int, billed: Decimal | int, *, sign: int) -> Amounts:
    """What an amount adds to the cost's counters: below zero it is a credit; with sign -1 it is taken back."""
    if sign > 0:
        return {"cost": max(cost, 0), "credits": max(-cost, 0), "billed": max(billed, 0)}
    # A credit that is taken back is cost again.
    return {"taken_back_cost": max(cost, 0), "cost": max(-cost, 0), "taken_back_billed": max(billed, 0)}


def amounts_of(record: CallRecord | ChargeRecord, *, sign: int = 1) -> dict[str, Decimal | int]:
    """What a record adds to each counter, by its name in the table; with sign -1 what taking it back adds."""
    cost = record.cost_usd
    if isinstance(record, ChargeRecord):
        counts: dict[str, Decimal | int] = {"charges": 1, "charges_unpriced": int(cost is None)} if sign > 0 else {}
        return counts | dict(signed(cost or ZERO, cost or ZERO, sign=sign))
    usage = record.usage
    billed = ZERO if cost is None else cost if record.billed_usd is None else record.billed_usd
    money = signed(cost or ZERO, billed, sign=sign)
    if sign < 0:
        return {"taken_back_calls": 1, "taken_back_tokens": usage.total_tokens, **money}
    return {
        "calls": 1,
        "failed": int(record.error is not None),
        "estimated": int(record.estimated),
        "unpriced": int(cost is None),
        "input_tokens": usage.total_input_tokens,
        "cached_tokens": usage.cache_read_tokens + usage.cached_audio_tokens,
        "output_tokens": usage.total_output_tokens,
        **money,
    }
