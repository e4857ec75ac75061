"""How calls that overlap share machines: the time of each, divided by how many there were at each moment.

Machines bear `capacity` calls at once. Where no more are under way, each takes 1/capacity of the machines, and
what is left over is idle; where there are more, they take equal parts of all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

__all__ = ["BITS", "MASK", "Busy", "busy", "mark"]

BITS: Final = 24
"""Of a mark that say whose it is."""
MASK: Final = (1 << BITS) - 1
SCALE: Final = 10**12
"""Parts of a microsecond in which the time of more calls than the capacity is divided: rounding comes to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Time of the machines, in parts of a microsecond: `unit` of them are one microsecond of all machines."""

    parts: list[int]
    """By number of the group."""
    unit: int
    crowded: int
    """Microseconds in which there were more calls than the machines bear at once."""
    most: int
    """Calls at once, at most."""


def mark(at: int, group: int) -> int:
    """A moment (microseconds, not negative) with the number of the group whose call begins or ends then."""
    return at << BITS | group


def busy(begins: Sequence[int], ends: Sequence[int], *, groups: int, capacity: Fraction) -> Busy:
    """Return how long each group kept the machines busy.

    `begins` and `ends` are sorted marks, as many of the one as of the other; no call ends before it begins or has no
    length. A call's part is that of the time which had passed for any call when it ended, less when it began: so no
    call is looked at while it lasts, and a million take as long as it takes to sort them.
    """
    most_at_ease = capacity.numerator // capacity.denominator
    eased, crowd = [0] * groups, [0] * groups
    ease = crowding = crowded = 0
    here = most = last = place = 0
    for end in ends:
        until = end >> BITS
        while place < len(begins) and (at := (begin := begins[place]) >> BITS) < until:
            if at > last:
                if here > most_at_ease:
                    crowding -= (last - at) * capacity.numerator * SCALE // here  # Rounded up, so that none is idle.
                    crowded += at - last
                elif here:
                    ease += at - last
                last = at
            group = begin & MASK
            eased[group] -= ease
            crowd[group] -= crowding
            here += 1
            most = max(most, here)
            place += 1
        if until > last:
            if here > most_at_ease:
                crowding -= (last - until) * capacity.numerator * SCALE // here
                crowded += until - last
            elif here:
                ease += until - last
            last = until
        group = end & MASK
        eased[group] += ease
        crowd[group] += crowding
        here -= 1
    share = capacity.denominator * SCALE
    parts = [time * share + more for time, more in zip(eased, crowd, strict=True)]
    return Busy(parts=parts, unit=capacity.numerator * SCALE, crowded=crowded, most=most)
