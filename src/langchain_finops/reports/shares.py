"""Dividing an amount so that the parts add up to it: the largest remainder method, at whole picodollars."""

from collections.abc import Sequence

__all__ = ["divided"]


def divided(amount: int, weights: Sequence[int]) -> list[int]:
    """Return whole parts in proportion to the weights, which add up to the amount exactly.

    Each part is its share rounded down; what is then left goes, one by one, to the parts that lost most by rounding,
    earlier ones first (Hamilton's method). Where all weights are 0 the parts are as equal as they can be. Negative
    amounts are divided like positive ones. Raises ValueError for no weights, and for negative ones.
    """
    if not weights or min(weights) < 0:
        raise ValueError(f"{list(weights)} are no weights: there must be one, and none may be negative")
    if amount < 0:
        return [-part for part in divided(-amount, weights)]
    shares = list(weights) if any(weights) else [1] * len(weights)
    whole = sum(shares)
    parts = [amount * share // whole for share in shares]
    lost = [amount * share % whole for share in shares]
    left = amount - sum(parts)
    for place in sorted(range(len(shares)), key=lambda place: -lost[place])[:left]:
        parts[place] += 1
    return parts
