"""What one start takes from budgets: a share of each balance, all of them or none."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from langchain_finops.budgets.estimate import Expectation
from langchain_finops.budgets.keys import applies, balance_keys, is_local
from langchain_finops.budgets.policy import Budget, Limit
from langchain_finops.budgets.units import Unit
from langchain_finops.money import to_pico
from langchain_finops.records import Attribution, CallRecord, ChargeRecord

if TYPE_CHECKING:
    from langchain_finops.budgets.run_state import RunState

__all__ = [
    "NOTHING",
    "ONE_CALL",
    "ONE_STEP",
    "ONE_TOOL",
    "Counted",
    "Estimate",
    "Hold",
    "Share",
    "Start",
    "Steps",
    "amounts_of",
    "approval_of",
    "balances_of",
    "steps_id",
    "taken_by",
    "taken_by_charge",
    "taken_from",
]

MICROSECOND = timedelta(microseconds=1)
UNSENT = frozenset({"http_error", "not_sent"})
"""Why a call is not charged, as records say it."""


class Estimate(NamedTuple):
    """What a start is expected to take, or took, in each unit; None where it takes none of it, or nobody knows."""

    usd: int | None = None
    """Picodollars."""
    tokens: int | None = None
    llm_calls: int | None = None
    tool_calls: int | None = None
    steps: int | None = None
    seconds: int | None = None
    """Microseconds."""
    expected: Expectation | None = None
    """What the amounts were made from; None where nothing had to be estimated."""
    unpriced: str | None = None
    """Why no price is known; None where one is."""

    def of(self, unit: Unit) -> int | None:
        """The amount in one unit."""
        amount: int | None = getattr(self, unit)
        return amount


NOTHING = Estimate()


class Start(NamedTuple):
    """What wants to begin: a call, a tool, or a step."""

    hold_id: str
    what: str
    """As a sentence names it, such as `a call of gpt-5-mini`."""
    who: Attribution
    at: datetime
    fixed: Mapping[Unit, int]
    """What it is known to take."""
    estimate: Callable[[Budget], Estimate] | None = None
    """The rest, as a budget wants it estimated; None where there is no rest."""

    def takes(self, unit: Unit) -> bool:
        """Whether it takes anything in a unit."""
        return unit in self.fixed or (self.estimate is not None and unit in ESTIMATED)

    def amount(self, limit: Limit) -> int | None:
        """What it takes of a limit; None where it takes none of its unit."""
        amount = self.fixed.get(limit.unit)
        if amount is None and self.estimate is not None and limit.unit in ESTIMATED:
            amount = self.estimate(limit.budget).of(limit.unit)
        return amount

    def estimated(self, limit: Limit) -> Estimate:
        """How that amount came about."""
        return NOTHING if self.estimate is None or limit.unit not in ESTIMATED else self.estimate(limit.budget)


ESTIMATED: Final[frozenset[Unit]] = frozenset({"usd", "tokens", "seconds"})
"""Units that nobody knows of a call before it is made."""
ONE_CALL: Final[Mapping[Unit, int]] = {"llm_calls": 1}
ONE_TOOL: Final[Mapping[Unit, int]] = {"tool_calls": 1}
ONE_STEP: Final[Mapping[Unit, int]] = {"steps": 1}


class Counted(NamedTuple):
    """A limit, and what would be worked out again for every start."""

    limit: Limit
    label: str
    """Its budget's."""
    name: str
    """By which approvals know it."""
    is_own: bool
    """True: its balances are of one run each, which keeps them."""
    is_wall: bool
    """True: it is of the run's time, which passes without anybody taking it."""
    balance: tuple[object, ...]
    """What its balances have in common with those of other limits, within a run."""
    warnings: tuple[tuple[float, int], ...]
    """The shares at which it warns, and what they come to."""

    @classmethod
    def of(cls, limit: Limit) -> "Counted":
        """The same, worked out."""
        budget = limit.budget
        is_own = is_local(budget)
        is_wall = limit.unit == "seconds" and budget.scope == "run" and is_own and not budget.match
        warnings = tuple(zip(budget.warn_at, limit.warnings(), strict=True))
        balance = (limit.unit, budget.scope, budget.match, budget.name)
        return cls(limit, budget.label, approval_of(limit), is_own, is_wall, balance, warnings)


def balances_of(
    limits: Iterable[Counted], who: Attribution, at: datetime, *, run_id: str
) -> Iterator[tuple[Counted, str]]:
    """What a start counts on: each limit that applies, with each of its balances, outermost first.

    Several limits may share a balance, which counts a start once all the same.
    """
    for each in limits:
        if applies(each.limit.budget, who):
            for key in balance_keys(each.limit, who, at, run_id=run_id):
                yield each, key


def approval_of(limit: Limit) -> str:
    """The name by which an approval raises a limit for its run: two budgets that are called alike are two."""
    budget = limit.budget
    if budget.name is None:
        return f"{limit.unit} {budget.label}"  # Which says all.
    window = "" if budget.per is None else f"/{budget.per}"
    match = "".join(f" {field}={value}" for field, value in budget.match)
    return f"{limit.unit}{window} {budget.scope}{match} {budget.name}"


class Share:
    """What a start takes from one balance, under one limit. A small mutable slot: every start makes a few."""

    __slots__ = ("amount", "cap", "counted", "key", "label", "limit")

    def __init__(self, counted: Counted, key: str, amount: int, cap: int | None) -> None:
        self.counted, self.limit, self.label = counted, counted.limit, counted.label
        self.key = key
        """The balance's."""
        self.amount = amount
        self.cap = cap
        """The limit as it stands for this run; None: counted, and never refused."""


class Steps:
    """Steps of one invocation on balances of the ledger: one hold that grows, and ends with the run's record."""

    __slots__ = ("_settled", "held", "held_at", "in_shadow", "lock")

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        """What the ledger holds, by balance."""
        self.held_at: dict[str, datetime] = {}
        """Since when it does; each step renews it."""
        self.in_shadow: dict[str, int] = {}
        """What it could not be asked for, and this process holds; the next hold of the ledger's takes it in."""
        self.lock = threading.RLock()
        self._settled = 0

    def named(self, hold_id: str) -> str:
        """The hold's id; after a settlement, which may be spilled with its hold in its place, another one."""
        return f"{hold_id}:{self._settled}" if self._settled else hold_id

    def before(self, key: str) -> int:
        """How many were taken from a balance so far, and are not settled."""
        return self.held.get(key, 0) + self.in_shadow.get(key, 0)

    @property
    def is_open(self) -> bool:
        """Whether there is something to settle."""
        return bool(self.held or self.in_shadow)

    def clear(self) -> None:
        """They are settled; whatever begins from now on is counted anew."""
        self.held, self.held_at, self.in_shadow = {}, {}, {}
        self._settled += 1


def steps_id(invocation_id: str) -> str:
    """The id of the hold of an invocation's steps."""
    return f"steps:{invocation_id}"


class Hold:
    """What was set aside for one start, until it is settled or released."""

    __slots__ = ("expected", "in_shadow", "own", "prompt_tokens", "shared", "shares", "start", "state", "steps")

    def __init__(
        self, start: Start, state: "RunState", shares: list[Share], own: list[Share], steps: Steps | None = None
    ) -> None:
        self.start = start
        """It settles in the windows of its time, whenever it ends."""
        self.state = state
        self.shares = shares
        """All, outermost budget first."""
        self.own = own
        """Those of balances that the run keeps."""
        self.shared = shares if not own else [share for share in shares if share not in own]
        """Those of balances that the ledger keeps."""
        self.steps = steps
        """The growing hold that it is a part of; None: it is one by itself."""
        self.in_shadow = False
        """True: the ledger could not be asked, and the shared ones are held in this process."""
        self.expected: Sequence[Expectation] = ()
        """What the amounts were made from; different budgets may estimate differently."""
        self.prompt_tokens = 0
        """The prompt's size before it was corrected."""


def amounts_of(shares: Iterable[Share]) -> dict[str, int]:
    """What is held on each balance: several limits on one balance hold the largest of their amounts, not the sum."""
    amounts: dict[str, int] = {}
    for share in shares:
        held = amounts.get(share.key)
        amounts[share.key] = share.amount if held is None else max(share.amount, held)
    return amounts


def taken_from(shares: Iterable[Share], taken: Estimate) -> dict[str, int]:
    """What a start took from each balance in the end. Where nobody knows, that is what was held."""
    amounts: dict[str, int] = {}
    for share in shares:
        amount = taken.of(share.limit.unit)
        if amount is None:
            amount = max(share.amount, amounts.get(share.key, 0))
        amounts[share.key] = amount
    return amounts


def taken_by(record: CallRecord, *, timed_elsewhere: bool = False) -> Estimate:
    """What a call counts for. One that a local cache answered, or that was not charged, counts for nothing.

    Contracted cost of what was really sent; a replayed call counts at list cost, as if sent.
    """
    if record.billing_mode == "cache" or not UNSENT.isdisjoint(record.reasons):
        return Estimate(usd=0, tokens=0, llm_calls=0, seconds=0)
    usd = record.cost_usd if record.billing_mode == "replay" else record.contracted_usd
    return Estimate(
        usd=None if usd is None else to_pico(usd),
        tokens=record.usage.total_tokens,
        llm_calls=1,
        # Clocks step back.
        seconds=0 if timed_elsewhere else max(0, (record.ended_at - record.started_at) // MICROSECOND),
    )


def taken_by_charge(charge: ChargeRecord) -> Estimate:
    """What a charge counts for: its cost, and of a tool that ran its call, whatever came of it."""
    return Estimate(
        usd=None if charge.cost_usd is None else to_pico(charge.cost_usd),
        tool_calls=1 if charge.kind == "tool" and charge.source == "callback" else 0,
    )
