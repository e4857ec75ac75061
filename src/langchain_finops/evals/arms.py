"""From tries to slots to sums by task: who is counted, and as what. No statistics here, and no rounding."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from langchain_finops.errors import BadArguments
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.scorers import decide
from langchain_finops.money import sum_usd
from langchain_finops.reports.stats import TaskSums

if TYPE_CHECKING:
    from langchain_finops.evals.suite import Human

__all__ = ["Arm", "Plan", "Slot", "arms_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was to be tried. Whatever is empty is read from the attempts: then no one can tell what is missing."""

    configurations: tuple[str, ...] = ()
    """In the order of the table. Attempts of others are left out."""
    tasks: tuple[str, ...] = ()
    """Attempts at others are left out."""
    repeats: int | None = None
    """Attempts beyond are left out. None: those seen of the task in any configuration."""
    baseline: str | None = None
    """What the others are compared with. None: the first configuration."""
    cards: Mapping[str, str] = field(default_factory=dict)
    """Card sets by name, each with a line about it for the footer, such as where its prices stand."""
    priced_by: str | None = None
    """The card set that `cost_usd` of the attempts is by; None: the price book."""
    foreign: frozenset[str] = frozenset()
    """Configurations of which costs and successes are known, and nothing else."""
    routers: frozenset[str] = frozenset()
    """Configurations that the suite marks by `router: true`: they choose among models by task."""
    human: "Human | None" = None
    """The person who would do the tasks otherwise."""
    value_usd: Decimal | None = None
    """What a success earns."""
    failure_usd: Decimal | None = None
    """What mending a failure costs."""
    margin: float | None = None
    """How much dearer still counts as not inferior."""
    stopped: tuple[str, ...] = ()
    """Why runs ended early, a sentence each."""
    looks: int | None = None
    """How often the figures were seen while they grew; None where nobody counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One attempt at a task: all its tries. The last one decides, the costs of all add up."""

    tries: tuple[AttemptResult, ...]
    success: bool
    """A limit stop, an error and an answer without a verdict are no success."""
    judged: bool
    """False where a completed attempt has no verdict, or one that could not tell."""
    score: float | None
    cost_usd: Decimal
    """List cost; the part that is known where `unknown`."""
    unknown: bool
    imputed: bool = False

    @property
    def last(self) -> AttemptResult:
        """The try that decides."""
        return self.tries[-1]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One configuration: its slots, by task."""

    name: str
    by_task: Mapping[str, Sequence[Slot]]
    complete: frozenset[str]
    """Tasks with every slot of the plan."""

    @cached_property
    def slots(self) -> list[Slot]:
        """All slots."""
        return list(chain.from_iterable(self.by_task.values()))

    @cached_property
    def whole(self) -> TaskSums:
        """Sums by task, over all tasks tried."""
        return self.sums(list(self.by_task))

    @cached_property
    def _of_task(self) -> dict[str, tuple[float, int, int, int]]:
        """Cost, successes, attempts and unknown costs of each task: added up once, however often they are compared."""
        return {
            task: (
                float(sum_usd([slot.cost_usd for slot in slots])),
                sum(slot.success for slot in slots),
                len(slots),
                sum(slot.unknown for slot in slots),
            )
            for task, slots in self.by_task.items()
        }

    def sums(self, tasks: Sequence[str]) -> TaskSums:
        """Sums of these tasks, in this order."""
        figures = [self._of_task[task] for task in tasks]
        return TaskSums(
            cost=[cost for cost, _, _, _ in figures],
            successes=[won for _, won, _, _ in figures],
            attempts=[count for _, _, count, _ in figures],
            unknown=sum(unknown for _, _, _, unknown in figures),
        )

    @cached_property
    def tries(self) -> list[AttemptResult]:
        """All tries of all slots."""
        return [attempt for slot in self.slots for attempt in slot.tries]

    @property
    def unjudged(self) -> int:
        """Attempts of which no one said whether they succeeded."""
        return sum(not slot.judged for slot in self.slots)

    def imputed(self) -> "Arm":
        """The same with unknown costs at the dearest attempt's; unchanged where none is known."""
        known = [slot.cost_usd for slot in self.slots if not slot.unknown]
        if not known or len(known) == len(self.slots):
            return self
        dearest = max(known)

        def filled(slot: Slot) -> Slot:
            # An attempt whose known part alone is dearer must not become cheaper.
            return replace(slot, cost_usd=max(dearest, slot.cost_usd), unknown=False, imputed=True)

        by_task = {
            task: [filled(slot) if slot.unknown else slot for slot in slots] for task, slots in self.by_task.items()
        }
        return Arm(name=self.name, by_task=by_task, complete=self.complete)


Key = tuple[str, str, int]


def arms_of(
    attempts: Iterable[AttemptResult],
    verdicts: Iterable[Verdict],
    plan: Plan,
    *,
    scorer: str | None = None,
    cards: str | None = None,
) -> tuple[list[Arm], dict[str, frozenset[int]]]:
    """Return an arm for each configuration, in the plan's order, and the repeats that each task should have.

    `scorer` decides alone; None: all that judged must agree. `cards` prices; None: the set chosen for the run.
    Raises BadArguments for a scorer or card set that the results do not have.
    """
    cards = None if cards == plan.priced_by else cards  # Then the known part of an unknown cost is known as well.
    tries = _tries_by_slot(attempts, plan)
    said = _verdicts_by_try(verdicts, scorer)
    if tries and cards is not None:
        _check_cards(tries, cards)
    names = plan.configurations or tuple(dict.fromkeys(configuration for configuration, _, _ in tries))
    by_arm: dict[str, dict[str, list[Slot]]] = {name: {} for name in names}
    for (name, task, _), of_slot in tries.items():
        by_arm[name].setdefault(task, []).append(_slot(of_slot, said, cards))
    planned = _planned(by_arm, plan)
    return [_arm(name, by_task, planned) for name, by_task in by_arm.items()], planned


def _tries_by_slot(attempts: Iterable[AttemptResult], plan: Plan) -> dict[Key, list[AttemptResult]]:
    names, tasks = set(plan.configurations), set(plan.tasks)
    tries: dict[Key, list[AttemptResult]] = {}
    for attempt in attempts:
        if names and attempt.configuration not in names:
            continue
        if tasks and attempt.task not in tasks:
            continue
        if plan.repeats is not None and not 0 <= attempt.repeat < plan.repeats:
            continue
        tries.setdefault(attempt.slot, []).append(attempt)
    return tries


def _verdicts_by_try(verdicts: Iterable[Verdict], scorer: str | None) -> dict[tuple[Key, int], dict[str, Verdict]]:
    said: dict[tuple[Key, int], dict[str, Verdict]] = {}
    scorers = set()
    for verdict in verdicts:
        scorers.add(verdict.scorer)
        if scorer is None or verdict.scorer == scorer:
            said.setdefault((verdict.slot, verdict.try_number), {})[verdict.scorer] = verdict
    if scorer is not None and scorers and scorer not in scorers:
        raise BadArguments(f"no verdict is by scorer {scorer!r}: choose one of {', '.join(sorted(scorers))}")
    return said


def _check_cards(tries: Mapping[Key, Sequence[AttemptResult]], cards: str) -> None:
    known = {name for of_slot in tries.values() for attempt in of_slot for name in attempt.costs_by_card}
    if cards not in known:
        choice = f"choose one of {', '.join(sorted(known))}" if known else "the suite declares no card sets"
        raise BadArguments(f"no attempt was priced by card set {cards!r}: {choice}")


def _planned(by_arm: Mapping[str, Mapping[str, Sequence[Slot]]], plan: Plan) -> dict[str, frozenset[int]]:
    tasks = plan.tasks or tuple(dict.fromkeys(task for by_task in by_arm.values() for task in by_task))
    if plan.repeats is not None:
        return dict.fromkeys(tasks, frozenset(range(plan.repeats)))
    seen: dict[str, set[int]] = {task: set() for task in tasks}
    for by_task in by_arm.values():
        for task, slots in by_task.items():
            seen[task].update(slot.last.repeat for slot in slots)
    return {task: frozenset(repeats) for task, repeats in seen.items()}


def _arm(name: str, by_task: Mapping[str, Sequence[Slot]], planned: Mapping[str, frozenset[int]]) -> Arm:
    ordered = {task: by_task[task] for task in planned if task in by_task}
    complete = frozenset(
        task for task, slots in ordered.items() if {slot.last.repeat for slot in slots} == planned[task]
    )
    return Arm(name=name, by_task=ordered, complete=complete)


def _slot(
    tries: Sequence[AttemptResult], said: Mapping[tuple[Key, int], Mapping[str, Verdict]], cards: str | None
) -> Slot:
    last = tries[-1]
    # An item or configuration that was changed is another slot: what its former answer cost is no part of this one.
    if len(tries) > 1:
        version = last.item_hash, last.configuration_hash
        tries = [attempt for attempt in tries if (attempt.item_hash, attempt.configuration_hash) == version]
    verdicts = list(said.get((last.slot, last.try_number), {}).values()) if last.status == "completed" else []
    decision = decide(verdict.success for verdict in verdicts)
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    costs = [_cost(attempt, cards) for attempt in tries]
    return Slot(
        tries=tuple(tries),
        success=decision is True,
        judged=last.status != "completed" or decision is not None,
        score=sum(scores) / len(scores) if scores else None,
        cost_usd=sum_usd([known for known, _ in costs]),
        unknown=any(unknown for _, unknown in costs),
    )


def _cost(attempt: AttemptResult, cards: str | None) -> tuple[Decimal, bool]:
    """What is known of a try's cost, and whether that is not all."""
    if cards is None:
        return (attempt.known_usd, True) if attempt.cost_usd is None else (attempt.cost_usd, False)
    cost = attempt.costs_by_card.get(cards)
    return (Decimal(0), True) if cost is None else (cost, False)
