"""Results of several runs and of other harnesses in one table: what belongs together, and what must not be mixed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadArguments
from langchain_finops.evals.arms import Plan
from langchain_finops.evals.foreign import Foreign, read_foreign
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.resume import Results, check_cards, load_results, plan_of

__all__ = ["Sources", "read_sources"]

STATED = ("human", "value_usd", "failure_usd", "margin")
"""What suites say of the tasks' worth, which must not differ within a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that a table is made of."""

    attempts: Sequence[AttemptResult]
    verdicts: Sequence[Verdict]
    plan: Plan
    folders: Sequence[Results] = field(default_factory=tuple)
    cards: str | None = None
    """The card set that prices."""


def read_sources(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str] | None = None,
    zero_is_unknown: bool = False,
    cards: str | None = None,
) -> Sources:
    """Read results folders and foreign files, which may stand side by side.

    Raises BadData with every fault of the files, BadArguments where they must not be in one table: other datasets,
    other scorers, another worth of a success.
    """
    if not paths:
        raise BadArguments("nothing to show: name a results folder, or a CSV or JSON lines file of results")
    doubles = [str(path) for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if doubles:
        raise BadArguments(f"{doubles[0]} is named twice: its attempts would count twice")
    folders = [path for path in paths if path.is_dir() or (not path.suffix and not path.is_file())]
    files = [path for path in paths if path not in folders]
    if (columns or zero_is_unknown) and not files:
        what = "--columns" if columns else "--zero-is-unknown"
        raise BadArguments(f"{what} is for CSV and JSON lines files: {folders[0]} is a results folder")
    if cards is not None and files:
        raise BadArguments(f"--cards {cards} prices calls of a run, and {files[0]} tells costs alone: leave one out")
    results = [load_results(path) for path in folders]
    foreign = read_foreign(files, columns=columns, zero_is_unknown=zero_is_unknown) if files else None
    _check_alike(results)
    return _joined(results, foreign, cards)


def _check_alike(results: Sequence[Results]) -> None:
    for other in results[1:]:
        first = results[0]
        both = f"{first.folder} and {other.folder}"
        if _items(first) != _items(other):
            raise BadArguments(
                f"{both} are of different datasets, whose figures must not stand in one table; "
                "`finops-eval compare --common-tasks` compares the tasks that are the same"
            )
        if _scorers(first) != _scorers(other):
            raise BadArguments(f"{both} were judged by different scorers: rescore one by `finops-eval score`")


def _items(results: Results) -> dict[str, list[str]]:
    items: dict[str, list[str]] = results.run["dataset"]["items"]
    return items


def _scorers(results: Results) -> dict[str, str]:
    return {entry["name"]: entry["hash"] for entry in results.run["scorers"]}


def _joined(results: Sequence[Results], foreign: Foreign | None, cards: str | None) -> Sources:
    plans = [plan_of(each) for each in results]
    if len(plans) == 1 and foreign is None:
        chosen = check_cards(results[0], cards)
        alone = results[0]
        return Sources(attempts=alone.attempts, verdicts=alone.verdicts, plan=plans[0], folders=results, cards=chosen)
    names = _names(results, foreign)
    attempts = [
        replace(attempt, configuration=names[at, attempt.configuration])
        for at, each in enumerate(results)
        for attempt in each.attempts
    ]
    verdicts = [
        replace(verdict, configuration=names[at, verdict.configuration])
        for at, each in enumerate(results)
        for verdict in each.verdicts
    ]
    if foreign is not None:
        attempts += foreign.attempts
        verdicts += foreign.verdicts
    chosen = _one_of_all([check_cards(each, cards) for each in results], "card sets", results)
    return Sources(
        attempts=attempts,
        verdicts=verdicts,
        plan=_plan(results, plans, foreign, names),
        folders=results,
        cards=chosen,
    )


def _names(results: Sequence[Results], foreign: Foreign | None) -> dict[tuple[int, str], str]:
    """A name for each configuration: its folder's goes before it where another has the same."""
    own = [(at, entry["name"]) for at, each in enumerate(results) for entry in each.run["configurations"]]
    taken = Counter([name for _, name in own] + list(foreign.configurations if foreign else ()))
    labels = _labels(results)
    return {(at, name): name if taken[name] == 1 else f"{labels[at]}:{name}" for at, name in own}


def _labels(results: Sequence[Results]) -> list[str]:
    """Names of folders; whole paths where those are alike."""
    names = [each.folder.resolve().name for each in results]
    return names if len(set(names)) == len(names) else [str(each.folder) for each in results]


def _plan(
    results: Sequence[Results], plans: Sequence[Plan], foreign: Foreign | None, names: Mapping[tuple[int, str], str]
) -> Plan:
    configurations = [names[at, name] for at, plan in enumerate(plans) for name in plan.configurations]
    tasks = dict.fromkeys(task for plan in plans for task in plan.tasks)
    repeats = {plan.repeats for plan in plans}
    if foreign is not None:
        configurations += [name for name in foreign.configurations if name not in configurations]
        tasks |= dict.fromkeys(attempt.task for attempt in foreign.attempts)
        repeats.add(None)
    labels = _labels(results)
    looks = [plan.looks for plan in plans if plan.looks is not None]
    base = plans[0].baseline if plans else None
    return Plan(
        configurations=tuple(configurations),
        tasks=tuple(tasks),
        repeats=repeats.pop() if len(repeats) == 1 else None,
        baseline=None if base is None else names[0, base],
        cards={name: told for plan in plans for name, told in plan.cards.items()},
        priced_by=_one_of_all([plan.priced_by for plan in plans], "card sets", results),
        foreign=frozenset(foreign.configurations if foreign else ()),
        routers=frozenset(names[at, name] for at, plan in enumerate(plans) for name in plan.routers),
        stopped=tuple(f"{labels[at]}: {why}" for at, plan in enumerate(plans) for why in plan.stopped),
        looks=max(looks) if plans and len(looks) == len(plans) and foreign is None else None,
        **_worth(plans, results),
    )


def _worth(plans: Sequence[Plan], results: Sequence[Results]) -> dict[str, Any]:
    """What the suites say of it, where they agree."""
    said: dict[str, Any] = {}
    for name in STATED:
        stated = [value for plan in plans if (value := getattr(plan, name)) is not None]
        if any(value != stated[0] for value in stated):
            folders = ", ".join(str(each.folder) for each in results)
            raise BadArguments(
                f"suites of {folders} differ in {name}: make them alike and run again, or show them apart"
            )
        said[name] = stated[0] if stated else None
    return said


def _one_of_all(names: Sequence[str | None], what: str, results: Sequence[Results]) -> str | None:
    """The one that all have. Raises BadArguments where they differ: their costs are not by the same prices."""
    if len(set(names)) > 1:
        folders = ", ".join(str(each.folder) for each in results)
        told = ", ".join(str(name) for name in names)
        raise BadArguments(f"{folders} are priced by different {what} ({told}): choose one of both by --cards")
    return names[0] if names else None
