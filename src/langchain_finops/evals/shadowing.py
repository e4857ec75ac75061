"""Does the expensive configuration still pay? It runs beside a cheaper one, look after look, and a history is kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_finops.errors import BadArguments, EvalError, TargetChanged
from langchain_finops.evals import history, shown
from langchain_finops.evals.arms import arms_of
from langchain_finops.evals.pairs import Judged, Pair, judged, paired
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.results import RUN, read_run
from langchain_finops.evals.resume import Results, check_cards, folder_lock, plan_of
from langchain_finops.money import sum_usd, usd
from langchain_finops.reports import stats
from langchain_finops.reports.render import Column, Row, Table

if TYPE_CHECKING:
    from langchain_finops.evals.dataset import Dataset
    from langchain_finops.evals.progress import Observer
    from langchain_finops.evals.suite import Suite

__all__ = ["ShadowOptions", "ShadowReport", "ShadowVerdict", "shadow"]

ShadowVerdict = Literal["JUSTIFIED", "NOT_JUSTIFIED", "INCONCLUSIVE"]

FIELDS = (
    *("look", "planned_looks", "counted", "looked_at", "run_id", "folder", "dataset", "dataset_hash", "mode"),
    *("fingerprint", "baseline", "candidate", "tasks", "attempts", "decided_by", "failure_usd"),
    *("baseline_cost_usd", "candidate_cost_usd", "baseline_successes", "candidate_successes"),
    *("baseline_success_rate", "candidate_success_rate"),
    *("baseline_cost_per_success_usd", "candidate_cost_per_success_usd"),
    *("ratio", "ratio_low", "ratio_high", "level", "margin"),
    *("success_rate_difference", "success_rate_difference_low", "success_rate_difference_high"),
    *("incremental_usd_per_success", "verdict", "why"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowOptions:
    """How a look is taken and decided."""

    folder: Path | None = None
    """Where each look's results go, a folder each; None: `results/<name of the dataset>-shadow`."""
    history: Path | None = None
    """None: `history.jsonl` in the folder."""
    looks: int | None = None
    """How many looks are planned in all: the level is divided over them. None: each look is at the full level."""
    level: float = 0.95
    margin: float | None = None
    """How much dearer a success may be and still pay: 0.1 for 10%. None: as the suite says, else 0."""
    min_tasks: int = stats.MIN_TASKS
    min_successes: int = stats.MIN_SUCCESSES
    run: Options = field(default_factory=Options)
    """How both are run; its `folder` is the look's own."""

    def __post_init__(self) -> None:
        if self.looks is not None and self.looks < 1:
            raise BadArguments(f"looks is {self.looks}: at least one look is planned")
        if not 0 < self.level < 1:
            raise BadArguments(f"level is {self.level}: it must lie between 0 and 1, such as 0.95")
        if (self.margin or 0) < 0:
            raise BadArguments("margin must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """This look, and all before it at the same two configurations."""

    look: Row
    looks: Sequence[Row]
    """Oldest first; the last is `look`."""
    history: Path
    results: Results

    @property
    def verdict(self) -> ShadowVerdict:
        """Whether the baseline's quality still justifies its cost."""
        verdict: ShadowVerdict = self.look["verdict"]
        return verdict

    def table(self) -> Table:
        """One row a look, the newest last."""
        rows = [{name: look.get(name) for name in FIELDS} for look in self.looks]
        return Table(rows=rows, fields=FIELDS, columns=_COLUMNS, notes=tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        yield _sentence(self.look)
        yield _rates_sentence(self.look)
        yield _looks_sentence(self.look)
        if self.look["mode"] == "replay":
            yield "Both were replayed: a recording says the same in each look. --live asks the model anew."
        yield f"History: {self.history}. Results of this look: {self.look['folder']}."


def shadow(
    dataset: "Dataset",
    suite: "Suite",
    *,
    baseline: str,
    candidate: str,
    options: ShadowOptions | None = None,
    observer: "Observer | None" = None,
) -> ShadowReport:
    """Run the expensive `baseline` beside the cheaper `candidate`: does its quality still justify its cost?

    JUSTIFIED where a success with the baseline costs no more (with `failure_usd` or `value_usd` in the suite: where
    the expected cost of an attempt, failures included, is no more), NOT_JUSTIFIED where the interval says that it costs
    more, else INCONCLUSIVE. The look is appended to a history. A look that a crash ended is gone on with, and pays for
    nothing twice. Raises BadArguments for unknown configurations or where the planned looks are used up, before
    anything is bought, and what `run` raises.
    """
    from langchain_finops.evals.runner import run  # Loads LangGraph.

    options = options or ShadowOptions()
    chosen = _chosen(suite, baseline, candidate)
    folder = options.folder or Path("results") / f"{dataset.name}-shadow"
    path = options.history or folder / "history.jsonl"
    with folder_lock(folder):  # Two looks at once would buy everything twice.
        before = [look for look in history.read(path) if _is_same(look, dataset.name, baseline, candidate)]
        level = _level(before, options)
        place = _unfinished(folder, (baseline, candidate), {str(look["run_id"]) for look in history.read(path)})
        try:
            results = run(dataset, chosen, replace(options.run, folder=place or _new_folder(folder)), observer=observer)
        except TargetChanged:  # Since a look that was not finished: this one is of the target as it is.
            results = run(dataset, chosen, replace(options.run, folder=_new_folder(folder)), observer=observer)
        look = _judged_look(results, before, level=level, options=options, names=(baseline, candidate))
        history.append(path, look)
    return ShadowReport(look=look, looks=[*before, look], history=path, results=results)


def _chosen(suite: "Suite", baseline: str, candidate: str) -> "Suite":
    """The suite with the two alone."""
    by_name = {entry.name: entry for entry in suite.configurations}
    for name in (baseline, candidate):
        if name not in by_name:
            raise BadArguments(f"{name!r} is no configuration of {suite.path}: it has {', '.join(by_name)}")
    if baseline == candidate:
        raise BadArguments(f"baseline and candidate are both {baseline!r}: name two configurations")
    return replace(suite, configurations=(by_name[baseline], by_name[candidate]), baseline=candidate)


def _is_same(look: Mapping[str, Any], dataset: str, baseline: str, candidate: str) -> bool:
    return (look["dataset"], look["baseline"], look["candidate"]) == (dataset, baseline, candidate)


def _level(before: Sequence[Mapping[str, Any]], options: ShadowOptions) -> float:
    """The level of this look: what earlier looks have left of the error allowed, over the looks still planned."""
    if options.looks is None:
        return options.level
    taken = [look for look in before if look["counted"]]
    left = (1 - options.level) - sum(1 - float(look["level"]) for look in taken)
    waiting = options.looks - len(taken)
    if waiting < 1 or left < 1e-9:
        raise BadArguments(
            f"looks taken: {len(taken)}, planned: {options.looks}, at {options.level * 100:g}% in all: nothing "
            "is left to decide another one on; start anew with another --history, and plan more --looks"
        )
    return 1 - left / waiting


def _unfinished(folder: Path, names: Sequence[str], known: set[str]) -> Path | None:
    looks = sorted(path.parent for path in folder.glob(f"*/{RUN}"))
    if not looks:
        return None
    try:
        run: Mapping[str, Any] = read_run(looks[-1])
    except EvalError:
        return None
    same = [entry["name"] for entry in run["configurations"]] == list(names)
    return looks[-1] if same and run["run_id"] not in known else None


def _new_folder(folder: Path) -> Path:
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    number = 1
    while (found := folder / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return found


def _judged_look(
    results: Results,
    before: Sequence[Mapping[str, Any]],
    *,
    level: float,
    options: ShadowOptions,
    names: tuple[str, str],
) -> dict[str, Any]:
    run, (baseline, candidate) = results.run, names
    cards = check_cards(results, options.run.cards)
    arms, planned = arms_of(results.attempts, results.verdicts, plan_of(results), cards=cards)
    by_name = {arm.name: arm for arm in arms}
    price = _failure_usd(run)
    pair = paired(by_name[baseline], by_name[candidate], list(planned), level=level, failure_usd=price)
    margin = float(run.get("margin") or 0) if options.margin is None else options.margin
    (said,) = judged([pair], margin=margin, min_tasks=options.min_tasks, min_successes=options.min_successes)
    whole = run["finished_at"] is not None and not run.get("stopped") and len(pair.tasks) == len(planned)
    verdict, why = _verdict(said, whole=whole, stopped=run.get("stopped"))
    low, high = pair.interval
    rate_low, rate_high = pair.rates_interval
    return {
        "look": len(before) + 1,
        "planned_looks": options.looks,
        # A look that was not finished has decided nothing, and uses up nothing of the level.
        "counted": whole,
        "looked_at": datetime.now(UTC),
        "run_id": run["run_id"],
        "folder": str(results.folder),
        "dataset": run["dataset"]["name"],
        "dataset_hash": run["dataset"]["hash"],
        "mode": run["mode"],
        "fingerprint": results.attempts[-1].fingerprint if results.attempts else None,
        "tasks": len(pair.tasks),
        "decided_by": "cost_per_success" if price is None else "expected_cost",
        "failure_usd": price,
        "baseline": baseline,
        "candidate": candidate,
        **_figures(pair),
        "ratio": pair.ratio.ratio,
        "ratio_low": low,
        "ratio_high": high,
        "level": level,
        "margin": margin,
        "success_rate_difference": pair.rates.difference if pair.rates else None,
        "success_rate_difference_low": rate_low,
        "success_rate_difference_high": rate_high,
        "incremental_usd_per_success": _incremental(pair),
        "verdict": verdict,
        "why": why,
    }


def _failure_usd(run: Mapping[str, Any]) -> Decimal | None:
    """What is lost by a failure: mending it, and the value of the success that it is not."""
    stated = [usd(str(run[name])) for name in ("failure_usd", "value_usd") if run.get(name) is not None]
    return sum_usd(stated) if stated else None


def _verdict(said: Judged, *, whole: bool, stopped: object) -> tuple[ShadowVerdict, str | None]:
    if not whole:
        return "INCONCLUSIVE", f"the look was stopped: {stopped}" if stopped else "not all attempts were made"
    if said.verdict in ("BETTER", "NON_INFERIOR"):
        return "JUSTIFIED", None
    return ("NOT_JUSTIFIED", None) if said.verdict == "WORSE" else ("INCONCLUSIVE", said.why)


def _figures(pair: Pair) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for side, name in (("a", "baseline"), ("b", "candidate")):
        costs = [getattr(task, f"{side}_cost_usd") for task in pair.by_task]
        won = sum(getattr(task, f"{side}_successes") for task in pair.by_task)
        attempts = sum(getattr(task, f"{side}_attempts") for task in pair.by_task)
        cost = None if None in costs else sum_usd(costs)
        row["attempts"] = row.get("attempts", 0) + attempts
        row[f"{name}_cost_usd"] = cost
        row[f"{name}_successes"] = won
        row[f"{name}_success_rate"] = won / attempts if attempts else None
        row[f"{name}_cost_per_success_usd"] = float(cost) / won if cost is not None and won else None
    return row


def _incremental(pair: Pair) -> float | None:
    """Dollars for one more success; None where it is not known that there are more."""
    if pair.rate_verdict(0.0) != "BETTER":
        return None
    gaps = [task.cost_difference_usd for task in pair.by_task]
    known = [gap for gap in gaps if gap is not None]
    if len(known) < len(gaps) or pair.rates is None or pair.rates.difference <= 0:
        return None
    return float(sum(known)) / len(known) / pair.rates.difference


# --- for people --------------------------------------------------------------------------------------------------


def _sentence(look: Row) -> str:
    names = {"baseline": look["baseline"], "candidate": look["candidate"]}
    what = "a success" if look["decided_by"] == "cost_per_success" else "an attempt, failures included,"
    if look["ratio"] is None:
        told = "no ratio of their costs can be told"
    else:
        ratio = shown.ratio(look["ratio"], look["ratio_low"], look["ratio_high"])
        told = f"{what} with {names['baseline']} costs {ratio} times what it costs with {names['candidate']}"
    verdicts = {
        "JUSTIFIED": f"the quality of {names['baseline']} still justifies its cost",
        "NOT_JUSTIFIED": f"the quality of {names['baseline']} does not justify its cost any more",
        "INCONCLUSIVE": f"whether the quality of {names['baseline']} justifies its cost cannot be told",
    }
    why = f" ({look['why']})" if look["why"] else ""
    return f"{look['verdict']}: {verdicts[look['verdict']]}{why}: {told}, on {look['tasks']:,} tasks."


def _rates_sentence(look: Row) -> str:
    low, high = look["success_rate_difference_low"], look["success_rate_difference_high"]
    gap = shown.points(look["success_rate_difference"], low, high)
    text = f"It succeeds {gap} percentage points more often."
    if look["incremental_usd_per_success"] is not None:
        text += f" One more success costs {shown.usd(look['incremental_usd_per_success'])}."
    if look["decided_by"] == "cost_per_success":
        return f"{text} What a failure costs is not stated: with `failure_usd` in the suite, expected cost decides."
    return f"{text} A failure is counted as {shown.usd(look['failure_usd'])}."


def _looks_sentence(look: Row) -> str:
    level = f"{look['level'] * 100:.4g}%"
    if look["planned_looks"] is not None:
        return f"Look {look['look']} of {look['planned_looks']} planned, at {level}: the level is divided over them."
    if look["look"] == 1:
        return f"The first look, at {level}; if there are to be more, plan them with --looks."
    return (
        f"{look['look']} looks are taken, each at {level}: the more looks, the likelier one of them errs; --looks "
        "divides the level over those planned."
    )


def _when(row: Row) -> str:
    return str(row["looked_at"])[:10]


def _gap(row: Row) -> str:
    low, high = row["success_rate_difference_low"], row["success_rate_difference_high"]
    return shown.points(row["success_rate_difference"], low, high)


_COLUMNS = (
    Column(title="look", text=lambda row: str(row["look"])),
    Column(title="day", text=_when),
    Column(title="tasks", text=lambda row: f"{row['tasks']:,}", rank=2),
    Column(title="base a success", text=lambda row: shown.usd(row["baseline_cost_per_success_usd"]), rank=3),
    Column(title="candidate", text=lambda row: shown.usd(row["candidate_cost_per_success_usd"]), rank=3),
    Column(title="base / candidate", text=lambda row: shown.ratio(row["ratio"], row["ratio_low"], row["ratio_high"])),
    Column(title="rate, points", text=_gap, rank=1),
    Column(title="verdict", text=lambda row: row["verdict"]),
)
