"""From which difficulty on a person is cheaper: the threshold of least expected cost on an evaluation's results.

Each task is either handed to a person at once, or the agent tries, and what it fails at a person does after all. The
figure on the tasks that it was chosen on flatters; `held_out_usd` is that of thresholds chosen without each task.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from langchain_finops.errors import BadArguments
from langchain_finops.levers.choices import share_of
from langchain_finops.money import EXACT, usd

__all__ = ["HandoffThreshold", "TriedTask", "best_threshold"]

FOLDS: Final = 5
LEAST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedTask:
    """One task of an evaluation: how difficult it seemed, what the agent's attempt cost, and whether it succeeded."""

    score: float
    cost_usd: Decimal
    success: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffThreshold:
    """The threshold, and what a task is expected to cost with it, with the agent first, and with people only."""

    threshold: float | None
    """Hand off from this score on; None: never."""
    tasks: int
    handed_off: int
    """How many of them a person would get at once."""
    expected_usd: Decimal
    """Per task, on the tasks it was chosen on."""
    held_out_usd: Decimal
    """Per task, by five folds: what such a choice is worth on tasks that it has not seen."""
    agent_first_usd: Decimal
    """Per task, where the agent always tries."""
    person_usd: Decimal
    """Per task, where a person does them all."""

    @property
    def pays(self) -> bool:
        """Whether it beats both of the plain ways on tasks that it has not seen."""
        return self.held_out_usd < min(self.agent_first_usd, self.person_usd)


def best_threshold(
    tasks: Iterable[TriedTask],
    *,
    usd_per_hour: Decimal | int | str | float,
    minutes: Decimal | int | str | float,
    failure_usd: Decimal | int | str | float = 0,
) -> HandoffThreshold:
    """The threshold at which tasks cost least. A failure costs the person who does it over, and `failure_usd` beside.

    Raises BadArguments for fewer than ten tasks, for scores that are none, and for unknown costs: left out or taken
    for 0 they would move the threshold.
    """
    given = list(tasks)
    try:
        person = EXACT.divide(EXACT.multiply(usd(usd_per_hour), usd(minutes)), Decimal(60))
        failure = EXACT.add(person, usd(failure_usd))
    except ValueError as error:
        raise BadArguments(f"best_threshold: {error}") from error
    wrong = sum(share_of(each.score) is None or not _is_amount(each.cost_usd) for each in given)
    if len(given) < LEAST or wrong or person < 0 or failure < person:
        raise BadArguments(
            f"best_threshold: {len(given)} tasks, {wrong} of them without a score from 0 to 1 or a known cost: give "
            f"{LEAST} at least, all with both, and amounts of 0 or more"
        )
    chosen = _best(given, person, failure)
    folds = [given[start::FOLDS] for start in range(FOLDS)]
    held_out: list[Decimal] = []
    for fold in folds:
        others = _best([each for other in folds if other is not fold for each in other], person, failure)
        held_out += [_cost(each, others, person, failure) for each in fold]
    count = Decimal(len(given))
    return HandoffThreshold(
        threshold=chosen,
        tasks=len(given),
        handed_off=sum(_is_handed(each, chosen) for each in given),
        expected_usd=EXACT.divide(sum((_cost(each, chosen, person, failure) for each in given), Decimal(0)), count),
        held_out_usd=EXACT.divide(sum(held_out, Decimal(0)), count),
        agent_first_usd=EXACT.divide(sum((_cost(each, None, person, failure) for each in given), Decimal(0)), count),
        person_usd=person,
    )


def _best(tasks: Sequence[TriedTask], person: Decimal, failure: Decimal) -> float | None:
    """The threshold of least total cost; of several the highest, which asks people least."""
    total = sum((_cost(each, None, person, failure) for each in tasks), Decimal(0))
    best, least = None, total
    ranked = sorted(tasks, key=lambda each: each.score, reverse=True)
    for place, each in enumerate(ranked):
        total += person - _cost(each, None, person, failure)
        last_of_its_score = place + 1 == len(ranked) or ranked[place + 1].score != each.score
        if last_of_its_score and total < least:
            best, least = each.score, total
    return best


def _cost(task: TriedTask, threshold: float | None, person: Decimal, failure: Decimal) -> Decimal:
    if _is_handed(task, threshold):
        return person
    return task.cost_usd if task.success else EXACT.add(task.cost_usd, failure)


def _is_handed(task: TriedTask, threshold: float | None) -> bool:
    return threshold is not None and task.score >= threshold


def _is_amount(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value >= 0
