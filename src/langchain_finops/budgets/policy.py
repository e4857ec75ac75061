"""What a budget is: how much, per what time, for whom, and what happens at the limit. Pure: no clock, no ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Final, Literal, Self

from langchain_finops.budgets import checks
from langchain_finops.budgets.checks import Decide, Number
from langchain_finops.budgets.refusal import OnExceed
from langchain_finops.budgets.scopes import Match, check_match, check_scope
from langchain_finops.budgets.texts import where_text, written
from langchain_finops.budgets.units import UNITS, Unit, say, smallest
from langchain_finops.budgets.windows import per_of, zone_of

__all__ = ["Admission", "Budget", "Limit", "Reach", "Unpriced"]

Admission = Literal["expected", "strict"]
Unpriced = Literal["refuse", "estimate"]
Reach = Literal["process", "host", "fleet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a budget; a budget with several has as many balances."""

    unit: Unit
    amount: int
    """In the unit's smallest part: picodollars, microseconds, or whole."""
    budget: "Budget"

    def warnings(self) -> tuple[int, ...]:
        """The amounts at which `warn_at` warns, ascending."""
        shares = (Fraction(repr(share)) for share in self.budget.warn_at)
        return tuple(ceil(self.amount * share) for share in shares)


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """Limits that hold: what would break one is refused before it is sent. docs/budgets.md explains each argument.

    All that is wrong with the arguments is told at once, by BadArguments.
    """

    usd: Decimal | None
    tokens: int | None
    llm_calls: int | None
    tool_calls: int | None
    steps: int | None
    seconds: Decimal | None
    per: str | None
    """The window; None is this run for scopes `run` and `node`, and the whole life of any other scope."""
    scope: str
    match: Match
    on_exceed: OnExceed | Decide
    warn_at: tuple[float, ...]
    """Shares of the limit, ascending."""
    admission: Admission
    expected_output_tokens: int | None
    fail_closed: bool
    unpriced: Unpriced
    reach: Reach | None
    name: str | None
    time_zone: str

    def __init__(
        self,
        *,
        usd: Number | None = None,
        tokens: Number | None = None,
        llm_calls: Number | None = None,
        tool_calls: Number | None = None,
        steps: Number | None = None,
        seconds: Number | None = None,
        per: str | None = None,
        scope: str | None = None,
        match: Mapping[str, str] | Match = (),
        on_exceed: OnExceed | Decide = "raise",
        warn_at: Iterable[float] | float = (0.5, 0.8),
        admission: Admission = "expected",
        expected_output_tokens: int | None = None,
        fail_closed: bool = False,
        unpriced: Unpriced = "refuse",
        reach: Reach | None = None,
        name: str | None = None,
        time_zone: str = "UTC",
    ) -> None:
        if scope is None:  # A window for everybody: one run hardly outlives a day.
            scope = "run" if per is None else "all"
        limits = (usd, tokens, llm_calls, tool_calls, steps, seconds)
        whose = (per, scope, match, on_exceed, warn_at, admission, expected_output_tokens)
        given = (*limits, *whose, fail_closed, unpriced, reach, name, time_zone)
        faults = checks.settle(self, _RULES, dict(zip(_RULES, given, strict=True)))
        if all(limit is None for limit in limits):
            faults.append(f"no limit: give at least one of {', '.join(UNITS)}")
        if seconds is not None and admission == "strict":
            faults.append("admission: nothing bounds how long a call takes, so `seconds` must be a budget of its own")
        checks.refuse("Budget", faults)

    def limits(self) -> tuple[Limit, ...]:
        """One for each unit that is limited."""
        values: list[tuple[Unit, Decimal | int | None]] = [(unit, getattr(self, unit)) for unit in UNITS]
        return tuple(
            Limit(unit=unit, amount=smallest(unit, Decimal(value)), budget=self)
            for unit, value in values
            if value is not None
        )

    @property
    def label(self) -> str:
        """What refusals and events call it: its name, else its text."""
        return self.name or str(self)

    def __str__(self) -> str:
        amounts = " and ".join(say(limit.unit, limit.amount) for limit in self.limits())
        window = "" if self.per is None else f"/{self.per}"
        return f"{amounts}{window} per {self.scope}{where_text(self.match)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The budget that a text such as `$20/day per agent_id` says.

        Raises BadArguments, naming what is understood.
        """
        return cls(**written(text))


def _per(value: Any) -> str | None:
    return None if value is None else per_of(str(value))


def _shares(value: Any) -> tuple[float, ...]:
    shares = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float | Decimal) or not 0 < share < 1:
            raise ValueError(f"must be shares of the limit between 0 and 1, such as 0.8, not {share!r}")
    return tuple(sorted({float(share) for share in shares}))


def _zone(value: Any) -> str:
    name = value if isinstance(value, str) else str(value)  # A ZoneInfo's text is its name.
    zone_of(name)
    return name


_RULES: Final[dict[str, checks.Rule]] = {
    **{unit: checks.limit(unit) for unit in UNITS},
    "per": _per,
    "scope": check_scope,
    "match": check_match,
    "on_exceed": checks.on_exceed,
    "warn_at": _shares,
    "admission": checks.word("expected", "strict"),
    "expected_output_tokens": lambda value: None if value is None else checks.whole(value),
    "fail_closed": checks.flag,
    "unpriced": checks.word("refuse", "estimate"),
    "reach": checks.word(None, "process", "host", "fleet"),
    "name": checks.name,
    "time_zone": _zone,
}
"""How each argument is read, in the order of the fields."""
