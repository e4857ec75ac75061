"""What is set aside before a call, settled by the truth after it, and what stands against each budget."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.cleaning import clean_text
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord

__all__ = ["DATED", "TIMED", "Balance", "HoldAnswer", "Line", "Settlement", "answer_to", "checked_amounts",
           "checked_lines", "is_over", "timed"]  # fmt: skip

TIMED: Final = "until "
"""What the key of a balance begins with that is of use for some time only."""
DATED: Final = " @"
"""What the key of a balance has in it that is of one window, such as `usd/day all @2026-11-26T00:00:00Z`."""
LARGEST_AMOUNT: Final = 10**24
"""Of one line or settlement, in the smallest unit: a trillion dollars. Balances may be as large as they like."""


def timed(key: str, end_s: int) -> str:
    """The key of a balance that is of no use from that second since 1970 on: `Ledger.prune` takes it away."""
    return f"{TIMED}{end_s:010d} {key}"  # Ten digits, so that keys sort by time.


_DAY_S: Final = 86_400
_LENGTHS: Final = {"hour": 3_600, "day": _DAY_S, "week": 7 * _DAY_S, "month": 31 * _DAY_S, "quarter": 92 * _DAY_S,
                   "year": 366 * _DAY_S}  # fmt: skip
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": _DAY_S}
_TIMED: Final = re.compile(rf"{TIMED}(\d{{10}}) ")
_WINDOW: Final = re.compile(r"[^ /]+/(?:([a-z]+)|(\d{1,8})([smhd])) .* @(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)Z(?: .*)?")


def is_over(key: str, by_s: int) -> bool:
    """Whether a balance was of no use any more by that second since 1970: its time was over, or its window.

    A window counts for a day longer than it is: where clocks change, some are.
    """
    found = _TIMED.match(key)
    if found is not None:
        return int(found[1]) < by_s
    found = _WINDOW.fullmatch(key)
    if found is None:
        return False
    name, count, unit, start = found.groups()
    length = _LENGTHS.get(name) if unit is None else int(count) * _SECONDS[unit]
    try:
        began = datetime.fromisoformat(f"{start}+00:00").timestamp()
    except ValueError:  # 31 February: no key of ours.
        return False
    return length is not None and began + length + _DAY_S <= by_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a hold takes from one balance."""

    balance: str
    """The balance's key; everything with one key shares what is left."""
    amount: int
    """In the balance's smallest unit: picodollars, tokens, calls, steps or microseconds."""
    limit: int | None = None
    """Refused where spent, held and this amount come to more; None never refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What stands against a budget, in its smallest unit."""

    balance: str
    spent: int = 0
    held: int = 0
    """By calls that are in flight."""
    unsettled: int = 0
    """Held by calls that nobody settled in time: their process died, and what they spent is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAnswer:
    """What became of a hold: all its lines are held, or none."""

    refused: int | None
    """Index of the first line that does not fit; None where all are held."""
    balances: tuple[Balance, ...]
    """One for each line, in order, as they stood before it; what the same hold had set aside already is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A call, charge or run that ended, and what it takes from balances."""

    record: CallRecord | ChargeRecord | RunRecord
    hold_id: str | None = None
    """The hold it replaces; None where nothing was held."""
    amounts: Mapping[str, int] = field(default_factory=dict)
    """What is added to each balance; less than nothing where a revision costs less than the version before it.

    It names every balance that its hold took from, with 0 where nothing was spent: what another handler has set aside
    for the same call, from balances of its own, stays until that one settles. Empty: the whole hold is given back.
    """


def checked_lines(lines: Sequence[Line]) -> list[Line]:
    """The lines with keys that every ledger can keep. Raises BadArguments for an amount that nobody can set aside."""
    for line in lines:
        _check_amount(line.amount, line.balance, least=0)
        if line.limit is not None and type(line.limit) is not int:
            raise BadArguments(
                f"the limit of {line.balance!r} is {line.limit!r}: it is an integer in the smallest unit"
            )
    return [line if (key := clean_text(line.balance)) == line.balance else replace(line, balance=key) for line in lines]


def checked_amounts(amounts: Mapping[str, int]) -> dict[str, int]:
    """The amounts by keys that every ledger can keep. Raises BadArguments for what is no integer."""
    checked: dict[str, int] = {}
    for key, amount in amounts.items():
        _check_amount(amount, key, least=-LARGEST_AMOUNT)
        checked[clean_text(key)] = amount
    return checked


def _check_amount(amount: int, key: str, *, least: int) -> None:
    # A float would be rounded somewhere on its way, and a negative hold would let others spend what is not there.
    if type(amount) is not int or not least <= amount <= LARGEST_AMOUNT:
        raise BadArguments(f"{amount!r} for {key!r} is no amount: it is an integer from {least} to {LARGEST_AMOUNT}")


def answer_to(lines: Sequence[Line], standing: Mapping[str, Balance]) -> HoldAnswer:
    """Which line does not fit beside what stands already, if any."""
    balances = tuple(standing[line.balance] for line in lines)
    for index, (line, balance) in enumerate(zip(lines, balances, strict=True)):
        if line.limit is not None and balance.spent + balance.held + line.amount > line.limit:
            return HoldAnswer(refused=index, balances=balances)
    return HoldAnswer(refused=None, balances=balances)
