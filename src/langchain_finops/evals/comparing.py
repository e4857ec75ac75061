"""One results folder against another, task by task: which wins where, and whether the cost per success is worse."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadArguments, EvalError
from langchain_finops.evals import shown
from langchain_finops.evals.arms import Arm, arms_of
from langchain_finops.evals.pairs import Judged, Pair, divided, judged, paired
from langchain_finops.evals.results import RUN
from langchain_finops.evals.resume import Results, check_cards, load_results, plan_of
from langchain_finops.money import sum_usd
from langchain_finops.reports import stats
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["CompareOptions", "Comparison", "Side", "compare", "side_of"]

FIELDS = (
    *("a", "b", "tasks", "tasks_left_out", "a_attempts", "b_attempts"),
    *("a_cost_usd", "b_cost_usd", "cost_difference_usd", "tasks_dearer", "tasks_cheaper"),
    *("a_successes", "b_successes", "a_success_rate", "b_success_rate"),
    *("a_cost_per_success_usd", "b_cost_per_success_usd", "ratio", "ratio_low", "ratio_high", "level", "margin"),
    *("verdict", "verdict_why", "p_adjusted"),
    *("success_rate_difference", "success_rate_difference_low", "success_rate_difference_high", "rate_verdict"),
    *("tasks_won", "tasks_lost", "unknown_costs", "unscored"),
)
TASK_FIELDS = (
    *("a", "b", "task", "a_cost_usd", "b_cost_usd", "cost_difference_usd"),
    *("a_successes", "a_attempts", "b_successes", "b_attempts", "success_rate_difference", "flip", "unscored"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """How two sides are compared. The footer says so."""

    common_tasks: bool = False
    """Compare results of different datasets, on the tasks whose id and content are the same in both."""
    allow_mixed: bool = False
    """Compare although the scorers differ."""
    scorer: str | None = None
    """The scorer that decides alone. None: all that judged must agree."""
    cards: str | None = None
    """The card set that prices both. None: each by the one chosen for its run."""
    level: float = 0.95
    margin: float | None = None
    """How much dearer still counts as not inferior: 0.1 for 10%. None: as A's suite says, else 0."""
    min_tasks: int = stats.MIN_TASKS
    min_successes: int = stats.MIN_SUCCESSES

    def __post_init__(self) -> None:
        if (self.margin or 0) < 0 or self.min_tasks < 0 or self.min_successes < 0:
            raise BadArguments("margin, min_tasks and min_successes must not be negative")
        if not 0 < self.level < 1:
            raise BadArguments(f"level is {self.level}: it must lie between 0 and 1, such as 0.95")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A results folder, and which of its configurations: None for all."""

    results: Results
    configuration: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The configurations that are meant."""
        names = tuple(entry["name"] for entry in self.results.run["configurations"])
        return names if self.configuration is None else (self.configuration,)

    def label(self, name: str) -> str:
        """How the reader tells it from the other side."""
        return f"{self.results.folder}:{name}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A against B. `verdict` is on A's cost per success: BETTER and NON_INFERIOR are good, of several pairs the worst
    counts."""

    pairs: Sequence[Pair]
    labels: Sequence[tuple[str, str]]
    """A's and B's, by pair."""
    left_out: Sequence[int]
    """Tasks that could not be paired, by pair."""
    judgements: Sequence[Judged]
    options: CompareOptions
    remarks: Sequence[str] = ()
    """What was found different between the two sides."""

    @property
    def verdict(self) -> stats.VerdictKind:
        """WORSE where one pair is, else INCONCLUSIVE where one is, else NON_INFERIOR, else BETTER."""
        found = {judgement.verdict for judgement in self.judgements}
        order: tuple[stats.VerdictKind, ...] = ("WORSE", "INCONCLUSIVE", "NON_INFERIOR")
        return next((kind for kind in order if kind in found), "BETTER")

    @cached_property
    def rows(self) -> list[Row]:
        """A row for each pair of configurations. Sums of dollars are exact Decimals, statistics floats."""
        return [
            {"a": a, "b": b, "tasks": len(pair.tasks), "tasks_left_out": left}
            | _figures(pair, judgement, self.options, of=len(self.pairs))
            for pair, (a, b), left, judgement in zip(
                self.pairs, self.labels, self.left_out, self.judgements, strict=True
            )
        ]

    def table(self) -> Table:
        """One row a pair of configurations: ratio, verdict, rates, and the names of the tasks that flipped."""
        return Table(rows=self.rows, fields=FIELDS, columns=_COLUMNS, notes=tuple(self._notes()))

    def by_task(self) -> Table:
        """One row a task: what it cost and how often it succeeded on either side; flips first."""
        rows = [
            {"a": a, "b": b} | _task_row(task)
            for pair, (a, b) in zip(self.pairs, self.labels, strict=True)
            for task in sorted(pair.by_task, key=lambda task: (task.flip is None, task.flip != "lost"))
        ]
        return Table(rows=rows, fields=TASK_FIELDS, columns=_task_columns(len(self.pairs)), notes=tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        options = self.options
        for row in self.rows:
            yield _sentence(row)
        yield from self.remarks
        several = f" The {len(self.pairs)} verdicts are Holm-adjusted." if len(self.pairs) > 1 else ""
        yield (
            f"Paired by task, {options.level * 100:g}% intervals, margin {(options.margin or 0) * 100:g}%; a verdict "
            f"needs {options.min_tasks} tasks and {options.min_successes} successes a side.{several}"
        )
        yield "Costs are list costs of all attempts. won: tasks that A solves more often than B; lost: less often."


def side_of(side: "Side | Results | Path | str") -> Side:
    """A side from results, a results folder, or FOLDER:CONFIGURATION. Raises EvalError or BadArguments."""
    if isinstance(side, Side):
        return side
    if isinstance(side, Results):
        return Side(results=side)
    text = str(side)
    if (Path(text) / RUN).is_file():
        return Side(results=load_results(Path(text)))
    for place, letter in enumerate(text):
        # A configuration's name may have colons of its own, so that the first folder found is the one.
        if letter == ":" and (Path(text[:place]) / RUN).is_file():
            found = Side(results=load_results(Path(text[:place])), configuration=text[place + 1 :])
            known = Side(results=found.results).names
            if found.configuration not in known:
                raise BadArguments(
                    f"{text[:place]} has no configuration {found.configuration!r}: choose one of {', '.join(known)}"
                )
            return found
    raise EvalError(f"{text} is no results folder, nor FOLDER:CONFIGURATION of one: a results folder has a {RUN}")


def compare(
    a: "Side | Results | Path | str", b: "Side | Results | Path | str", options: CompareOptions | None = None
) -> Comparison:
    """Compare A with B, task by task: is A's cost per success worse?

    Each is what `run` or `load_results` returned, a results folder, or "FOLDER:CONFIGURATION". Where both have several
    configurations, those of the same name are paired, and the verdicts Holm-adjusted. Raises BadArguments where they
    cannot be compared: other datasets without `common_tasks`, other scorers without `allow_mixed`, no pair at all.
    """
    first, second = side_of(a), side_of(b)
    options = options or CompareOptions()
    margin = float(first.results.run.get("margin") or 0) if options.margin is None else options.margin
    options = replace(options, margin=margin)
    couples = _couples(first, second)
    tasks, remarks = _tasks(first.results, second.results, options)
    remarks += _differences(first.results, second.results, options)
    arms_a, arms_b = _arms(first.results, options), _arms(second.results, options)
    pairs = [paired(arms_a[one], arms_b[other], tasks, level=options.level) for one, other in couples]
    remarks += _unpaired(first, second, couples)
    every = len(set(first.results.run["dataset"]["items"]) | set(second.results.run["dataset"]["items"]))
    return Comparison(
        pairs=pairs,
        labels=_labels(first, second, couples),
        left_out=[every - len(pair.tasks) for pair in pairs],
        judgements=judged(pairs, margin=margin, min_tasks=options.min_tasks, min_successes=options.min_successes),
        options=options,
        remarks=remarks,
    )


def _arms(results: Results, options: CompareOptions) -> dict[str, Arm]:
    cards = check_cards(results, options.cards)
    arms, _ = arms_of(results.attempts, results.verdicts, plan_of(results), scorer=options.scorer, cards=cards)
    return {arm.name: arm for arm in arms}


def _couples(first: Side, second: Side) -> list[tuple[str, str]]:
    """Which configuration of A is compared with which of B."""
    ones, others = first.names, second.names
    if len(ones) == len(others) == 1:
        couples = [(ones[0], others[0])]
    else:
        couples = [(name, name) for name in ones if name in others]
    if not couples and min(len(ones), len(others)) == 1:
        couples = _only_one(ones, others)
    if not couples:
        raise BadArguments(
            f"no configuration is in both ({', '.join(ones)}; {', '.join(others)}): name them as FOLDER:CONFIGURATION"
        )
    if first.results.folder.resolve() == second.results.folder.resolve() and any(one == two for one, two in couples):
        raise BadArguments(
            f"{first.results.folder} cannot be compared with itself: name two of its configurations as "
            f"FOLDER:CONFIGURATION; it has {', '.join(Side(results=first.results).names)}"
        )
    return couples


def _only_one(ones: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """The one configuration of a side against each of the other's is many comparisons: they have to be asked for."""
    (alone,), several = (ones, others) if len(ones) == 1 else (others, ones)
    raise BadArguments(
        f"{alone!r} can be compared with any of {', '.join(several)}: name the other as FOLDER:CONFIGURATION"
    )


def _labels(first: Side, second: Side, couples: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names alone where the folder is the same."""
    if first.results.folder.resolve() == second.results.folder.resolve():
        return list(couples)
    return [(first.label(one), second.label(other)) for one, other in couples]


def _tasks(first: Results, second: Results, options: CompareOptions) -> tuple[list[str], list[str]]:
    """The tasks that are the same on both sides, and what to tell of them."""
    mine, theirs = first.run["dataset"], second.run["dataset"]
    if mine["hash"] == theirs["hash"]:
        return list(mine["items"]), []
    same = [task for task, hashes in mine["items"].items() if theirs["items"].get(task) == hashes]
    changed = sum(task in theirs["items"] for task in mine["items"]) - len(same)
    told = (
        f"{len(same):,} of {len(mine['items']):,} tasks of {first.folder} and {len(theirs['items']):,} of "
        f"{second.folder} are the same"
    )
    told += f", {changed:,} of the same id have other content" if changed else ""
    if not options.common_tasks:
        raise BadArguments(f"the datasets differ: {told}; compare those alone with --common-tasks")
    if not same:
        raise BadArguments(f"the datasets have no task in common: {told}")
    return same, [f"The datasets differ: {told}; all else is left out."]


def _differences(first: Results, second: Results, options: CompareOptions) -> list[str]:
    """What else may make a difference. Raises BadArguments where success means another thing on either side."""
    told = []
    mine, theirs = (_scorers(each, options.scorer) for each in (first, second))
    if mine != theirs:
        what = f"the scorers differ ({', '.join(mine)}; {', '.join(theirs)}): success may mean another thing"
        if not options.allow_mixed:
            raise BadArguments(f"{what}; run both again with the same scorers, or pass --allow-mixed")
        told.append(f"{what[0].upper()}{what[1:]}.")
    cards = [check_cards(each, options.cards) for each in (first, second)]
    books = [each.run["price_book_hashes"].get(name or "") for each, name in zip((first, second), cards, strict=True)]
    if books[0] != books[1]:
        told.append("They are priced by different prices: a part of the difference may be that.")
    if first.run["mode"] != second.run["mode"]:
        told.append(f"A is a {first.run['mode']} run, B a {second.run['mode']} run.")
    targets = {attempt.fingerprint for each in (first, second) for attempt in each.attempts}
    if len(targets) > 1:
        told.append(f"Answers come from {len(targets)} versions of the target.")
    told += [
        f"{each.folder}: the run has not finished; only tasks that are complete are compared."
        for each in (first, second)
        if each.run["finished_at"] is None or each.run.get("stopped")
    ]
    return told


def _scorers(results: Results, only: str | None) -> dict[str, str]:
    scorers = {entry["name"]: entry["hash"] for entry in results.run["scorers"]}
    return scorers if only is None else {name: hash_ for name, hash_ in scorers.items() if name == only}


def _unpaired(first: Side, second: Side, couples: Sequence[tuple[str, str]]) -> list[str]:
    alone = [name for name in first.names if name not in {one for one, _ in couples}]
    alone += [name for name in second.names if name not in {other for _, other in couples}]
    return [f"Without a counterpart, left out: {', '.join(alone)}."] if alone else []


def _figures(pair: Pair, judgement: Judged, options: CompareOptions, *, of: int) -> dict[str, Any]:
    tasks = pair.by_task
    a = _side([(task.a_cost_usd, task.a_successes, task.a_attempts) for task in tasks])
    b = _side([(task.b_cost_usd, task.b_successes, task.b_attempts) for task in tasks])
    row: dict[str, Any] = {f"{side}_{name}": value for side, of in (("a", a), ("b", b)) for name, value in of.items()}
    known = a["cost_usd"] is not None and b["cost_usd"] is not None
    row["cost_difference_usd"] = a["cost_usd"] - b["cost_usd"] if known else None
    gaps = [task.cost_difference_usd for task in tasks]
    row["tasks_dearer"] = sum(gap is not None and gap > 0 for gap in gaps)
    row["tasks_cheaper"] = sum(gap is not None and gap < 0 for gap in gaps)
    low, high = pair.interval
    row |= {"ratio": pair.ratio.ratio, "ratio_low": low, "ratio_high": high}
    row |= {"level": options.level, "margin": options.margin, "p_adjusted": judgement.p_adjusted}
    row |= {"verdict": judgement.verdict, "verdict_why": judgement.why}
    low, high = pair.rates_interval
    row["success_rate_difference"] = pair.rates.difference if pair.rates else None
    row |= {"success_rate_difference_low": low, "success_rate_difference_high": high}
    row["rate_verdict"] = replace(pair, level=divided(options.level, of)).rate_verdict(options.margin or 0.0)
    row["tasks_won"] = [task.task for task in tasks if task.flip == "won"]
    row["tasks_lost"] = [task.task for task in tasks if task.flip == "lost"]
    row["unknown_costs"] = sum(slot.unknown for arm in (pair.a, pair.b) for t in pair.tasks for slot in arm.by_task[t])
    row["unscored"] = pair.unscored
    return row


def _side(tasks: Sequence[tuple[Decimal | None, int, int]]) -> Mapping[str, Any]:
    known = [cost for cost, _, _ in tasks if cost is not None]
    cost = sum_usd(known) if len(known) == len(tasks) else None
    won, attempts = sum(won for _, won, _ in tasks), sum(count for _, _, count in tasks)
    return {
        "cost_usd": cost,
        "successes": won,
        "attempts": attempts,
        "success_rate": won / attempts if attempts else None,
        "cost_per_success_usd": float(cost) / won if cost is not None and won else None,
    }


def _task_row(task: Any) -> dict[str, Any]:
    names = ("task", "a_cost_usd", "b_cost_usd", "cost_difference_usd", "a_successes", "a_attempts", "b_successes")
    row = {name: getattr(task, name) for name in (*names, "b_attempts", "flip", "unscored")}
    return {**row, "success_rate_difference": task.rate_difference}


# --- for people --------------------------------------------------------------------------------------------------


def _flips(row: Row) -> str:
    won, lost = row["tasks_won"], row["tasks_lost"]
    parts = [f"won: {shown.named(won)}" if won else "", f"lost: {shown.named(lost)}" if lost else ""]
    return "; ".join(part for part in parts if part)


def _sentence(row: Row) -> str:
    """The verdict in words, for whoever reads one line only."""
    head = f"{row['verdict']}: {row['a']} against {row['b']} on {row['tasks']:,} tasks"
    left = f" ({row['tasks_left_out']:,} could not be paired)" if row["tasks_left_out"] else ""
    why = f", because of: {row['verdict_why']}" if row["verdict_why"] else ""
    return f"{head}{left}{why}."


def _gap(row: Row) -> str:
    return shown.points(
        row["success_rate_difference"], row["success_rate_difference_low"], row["success_rate_difference_high"]
    )


_COLUMNS = (
    Column(title="A", text=lambda row: row["a"], name=True),
    Column(title="B", text=lambda row: row["b"], name=True, rank=3),
    Column(title="tasks", text=lambda row: f"{row['tasks']:,}", rank=4),
    Column(title="A a success", text=lambda row: shown.usd(row["a_cost_per_success_usd"]), rank=2),
    Column(title="B a success", text=lambda row: shown.usd(row["b_cost_per_success_usd"]), rank=2),
    Column(title="A / B", text=lambda row: shown.ratio(row["ratio"], row["ratio_low"], row["ratio_high"])),
    Column(title="verdict", text=lambda row: row["verdict"]),
    Column(title="rate, points", text=_gap, rank=1),
    Column(title="won", text=lambda row: f"{len(row['tasks_won']):,}", rank=1),
    Column(title="lost", text=lambda row: f"{len(row['tasks_lost']):,}", rank=1),
    Column(title="flips", text=_flips, below=True),
)


def _task_columns(pairs: int) -> tuple[Column, ...]:
    columns = [
        Column(title="task", text=lambda row: row["task"], name=True),
        Column(title="A cost", text=lambda row: shown.usd(row["a_cost_usd"])),
        Column(title="B cost", text=lambda row: shown.usd(row["b_cost_usd"])),
        Column(title="dearer an attempt", text=lambda row: shown.usd(row["cost_difference_usd"]), rank=1),
        Column(title="A right", text=lambda row: f"{row['a_successes']} of {row['a_attempts']}"),
        Column(title="B right", text=lambda row: f"{row['b_successes']} of {row['b_attempts']}"),
        Column(title="flip", text=lambda row: row["flip"] or ""),
    ]
    if pairs > 1:
        columns.insert(1, Column(title="A", text=lambda row: row["a"], name=True))
    return tuple(columns)
