"""One row a configuration: what it achieves, what that costs, and how sure either is. See docs/statistics.md."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from langchain_finops.errors import BadArguments
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.tally import Arm, Plan, Slot, tally
from langchain_finops.money import sum_usd
from langchain_finops.reports import stats
from langchain_finops.reports.render import Row, Table
from langchain_finops.usage import TOKEN_METERS

__all__ = ["FIELDS", "Plan", "TableOptions", "evaluation_rows", "evaluation_table"]

OUTPUT_METERS = ("output_tokens", "audio_output_tokens")
INPUT_METERS = tuple(meter for meter in TOKEN_METERS if meter not in OUTPUT_METERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """How the table is computed. The footer names whatever is not the default."""

    scorer: str | None = None
    """The scorer that decides alone. None: all that judged must agree."""
    cards: str | None = None
    """The card set that prices. None: the one chosen for the run."""
    impute: Literal["none", "max"] = "none"
    """`max` fills unknown costs with the configuration's dearest attempt."""
    failure_usd: Decimal | None = None
    """What mending a failure costs: adds the expected cost of a task."""
    level: float = 0.95
    margin: float = 0.0
    """How much dearer still counts as not inferior: 0.1 for 10%."""
    min_tasks: int = stats.MIN_TASKS
    min_successes: int = stats.MIN_SUCCESSES
    half_width: float = 0.2
    """The precision that the number of tasks needed is told for: 0.2 for +-20%."""

    def __post_init__(self) -> None:
        if self.impute not in ("none", "max"):
            raise BadArguments(f"impute is {self.impute!r}: none or max is expected")
        if not 0 < self.level < 1:
            raise BadArguments(f"level is {self.level}: it must lie between 0 and 1, such as 0.95")
        if self.margin < 0 or self.half_width <= 0:
            raise BadArguments("margin must not be negative, and half_width must be more than 0")


@dataclass(kw_only=True)
class _Context:
    """What the rows of one table share."""

    arms: list[Arm]
    planned: Mapping[str, frozenset[int]]
    baseline: str | None
    options: TableOptions
    costs: dict[str, stats.CostPerSuccess] = field(default_factory=dict)

    @property
    def placed(self) -> list[Arm]:
        """Arms that can be compared by their means: all tasks done, all costs known, every answer judged."""
        return [
            arm
            for arm in self.arms
            if self.planned and len(arm.complete) == len(self.planned) and not arm.whole.unknown and not arm.unjudged
        ]


def evaluation_table(
    attempts: Iterable[AttemptResult],
    verdicts: Iterable[Verdict],
    *,
    plan: Plan | None = None,
    options: TableOptions | None = None,
) -> Table:
    """Return the table: all fields of `evaluation_rows` for programs, columns and a footer for people.

    `attempts` in the order they were written, all tries; `verdicts` those that still hold, the last one of a try and
    scorer counts.
    """
    from langchain_finops.evals.footer import COLUMNS, EXPECTED, notes

    plan, options = plan or Plan(), options or TableOptions()
    rows, arms = _rows(attempts, verdicts, plan, options)
    columns = COLUMNS(rows) + (EXPECTED if options.failure_usd is not None else ())
    return Table(rows=rows, fields=FIELDS, columns=columns, notes=notes(rows, arms, plan, options))
