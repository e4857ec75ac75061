"""Scores stored answers with new or changed scorers: buys no answers, keeps old verdicts, goes on where it stopped."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadArguments, BadData, EvalError, Fault
from langchain_finops.evals.dataset import Dataset, load_dataset
from langchain_finops.evals.labels import Label, keep_labels, labels_of_items, read_labels, stored_labels
from langchain_finops.evals.matrix import in_shard
from langchain_finops.evals.one_loop import run_on_loop
from langchain_finops.evals.prepare import Mode, Options, Prepared, prices_of, scorers_of
from langchain_finops.evals.progress import Observer
from langchain_finops.evals.reprice import prices_changed, reprice
from langchain_finops.evals.results import AttemptResult, last_tries, read_run, write_run
from langchain_finops.evals.resume import (
    Earlier,
    Results,
    current_attempts,
    current_verdicts,
    folder_lock,
    is_done,
    load_results,
    read_earlier,
    results_of,
)
from langchain_finops.evals.suite import Suite, load_suite
from langchain_finops.evals.verdicts import by_answer, unjudged
from langchain_finops.evals.workers import Work

__all__ = ["ScoreOptions", "ascore", "score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """How stored answers are scored."""

    mode: Mode | None = None
    """Where judges are asked: `live`, or `record`; None: as in the run, a replay's from its recording."""
    max_usd: Decimal | str | int | float | None = None
    """List cost at which no further judge is asked, what the run has cost included; None: as the suite says."""
    concurrency: int | None = None
    """Answers at once; None: as the suite says."""
    labels: Path | None = None
    """What people said of the answers; kept beside them."""


def score(
    folder: Path | str,
    suite: Suite | None = None,
    options: ScoreOptions | None = None,
    *,
    dataset: Dataset | None = None,
    observer: Observer | None = None,
) -> Results:
    """Score the answers of a results folder, as `ascore` does, from code that has no event loop of its own."""
    return run_on_loop(lambda: ascore(folder, suite, options, dataset=dataset, observer=observer), instead="ascore")


async def ascore(
    folder: Path | str,
    suite: Suite | None = None,
    options: ScoreOptions | None = None,
    *,
    dataset: Dataset | None = None,
    observer: Observer | None = None,
) -> Results:
    """Have every scorer of the suite judge every stored answer that it has not judged, and return all that counts.

    None: the suite by which the folder was scored last, and the run's dataset, for its references. Judges that could
    not be reached are asked again. Raises BadData, BadArguments or EvalError, before anything is bought.
    """
    folder, options = Path(folder), options or ScoreOptions()
    with folder_lock(_existing(folder)):
        run: Mapping[str, Any] = read_run(folder)
        suite = suite or load_suite(Path(run.get("scored_by") or run["suite"]))
        dataset = _as_answered(dataset or load_dataset(run["dataset"]["path"]), run)
        earlier = read_earlier(folder)
        prepared = _prepared(folder, run, suite, dataset, options)
        manifest = _manifest(run, prepared)
        given = _labels(options.labels, results_of(folder, manifest, earlier))
        again = earlier.attempts and prices_changed(earlier, manifest)
        if again:
            earlier = reprice(prepared, earlier)
        said = await _judged(prepared, manifest, earlier, observer)
        manifest = {**manifest, **_ending(prepared, manifest, said)}
        write_run(folder, manifest)
        results = load_results(folder)
        keep_labels(folder, [*labels_of_items(dataset, suite.scorers, results), *given])
        return replace(results, repriced=len(earlier.attempts) if again else 0)


def _existing(folder: Path) -> Path:
    read_run(folder)  # Before a lock file makes a folder of what was none.
    return folder


def _labels(path: Path | None, results: Results) -> list[Label]:
    """What people said. Before any judge is asked: bad labels, or bad ones of before, would be told after the bill."""
    stored_labels(results.folder)
    return [] if path is None else read_labels(path, results)


async def _judged(
    prepared: Prepared, manifest: Mapping[str, Any], earlier: Earlier, observer: Observer | None
) -> str | None:
    """Judge what is to be judged; why some of it is not, in a sentence."""
    work = Work(prepared, manifest, earlier, observer)
    same = earlier.run is not None and all(earlier.run[part] == manifest[part] for part in ("scorers", "dataset"))
    if same and not work.unjudged and manifest["finished_at"] is not None:
        return None
    write_run(prepared.folder, manifest)  # A crash leaves the new scorers, of which the rest is judged next time.
    return await work.go()


def _ending(prepared: Prepared, run: Mapping[str, Any], said: str | None) -> dict[str, str | None]:
    """What `run.json` tells of the run's end now. `said`: why some answers have not been judged."""
    earlier = read_earlier(prepared.folder)
    attempts = list(current_attempts(run, earlier.attempts))
    left, planned = _left(run, attempts, run.get("tries") or prepared.suite.tries)
    slots = f"{left} of {planned} slots are left"
    if said is not None:
        return {"stopped": f"{slots}; {said}" if left else said}
    if left:
        before = run.get("stopped") or ""
        return {"stopped": before if before.endswith(slots) else slots}  # It tells as well why they are.
    # As in a run, one whose judge could not be reached is told as unscored, and keeps no run from being finished.
    final = replace(prepared, options=replace(prepared.options, retry_errors=False))
    verdicts = by_answer(current_verdicts(run, earlier.verdicts, attempts))
    if waiting := unjudged(attempts, verdicts, final):
        return {"stopped": f"{len(waiting)} answers are yet to be judged"}
    return {"stopped": None, "finished_at": run["finished_at"] or datetime.now(UTC).isoformat()}


def _left(run: Mapping[str, Any], attempts: Sequence[AttemptResult], most_tries: int) -> tuple[int, int]:
    """How many slots of the run, or of its shard, still need a try, and how many there are."""
    names = [entry["name"] for entry in run["configurations"]]
    slots = list(product(names, run["dataset"]["items"], range(run["repeats"])))
    if shard := run.get("shard"):
        slots = [slot for slot in slots if in_shard(slot, (shard[0], shard[1]))]
    last = last_tries(attempts)
    errors = Counter(each.slot for each in attempts if each.stop_reason == "infrastructure")
    done = [is_done(errors[slot], last.get(slot), most_tries, retry_errors=False) for slot in slots]
    return len(slots) - sum(done), len(slots)


def _as_answered(dataset: Dataset, run: Mapping[str, Any]) -> Dataset:
    """The items that were answered. Raises BadData for those that are gone, or ask something else now."""
    items = {item.id: item for item in dataset.items}
    faults: list[Fault] = []
    for task, (inputs_hash, _) in run["dataset"]["items"].items():
        if task not in items:
            faults.append(Fault(where=f"{dataset.path}", what=f"item {task!r} is gone, which was answered"))
        elif items[task].inputs_hash != inputs_hash:
            what = "asks something else than was answered: run it again, or put its inputs back"
            faults.append(Fault(where=f"{dataset.path}:{items[task].line}", what=what))
    if faults:
        raise BadData(faults)
    return replace(dataset, items=tuple(items[task] for task in run["dataset"]["items"]))


def _prepared(folder: Path, run: Mapping[str, Any], suite: Suite, dataset: Dataset, options: ScoreOptions) -> Prepared:
    """A run of no trials: its scorers alone are needed, not its target."""
    asks = any(scorer.judge for scorer in suite.scorers)
    mode = (options.mode or run["mode"]) if asks else "live"
    if run["recording"] is not None:
        suite = replace(suite, recording=Path(run["recording"]))
    if mode != "live" and suite.recording is None:
        raise BadArguments(f"{folder} has no recording: score it live")
    suite = replace(suite, configurations=(), baseline=None)
    how = Options(
        folder=folder,
        max_usd=options.max_usd,
        concurrency=options.concurrency,
        cards=run["cards"] if run["cards"] in suite.cards else None,
        retry_errors=True,
    )
    prices = prices_of(suite, how)
    max_usd = suite.max_usd if options.max_usd is None else options.max_usd
    faults: list[Fault] = []
    book = None if max_usd is None else prices["prices"]
    scorers = scorers_of(suite, dataset, faults, replays=mode == "replay", prices=book)
    if faults:
        raise BadData(faults)
    own = folder / "ledger.db"
    return Prepared(
        dataset=dataset,
        suite=suite,
        options=how,
        mode=mode,
        folder=folder,
        ledger=str(own) if own.exists() else run["ledger"],  # The folder may have been moved, its ledger with it.
        target=_no_target,
        fingerprint=run.get("fingerprint", ""),
        **scorers,
        **prices,
    )


def _no_target(*_: object) -> Any:
    raise EvalError("scoring builds no target")


def _manifest(run: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    """`run.json` with the scorers, references and prices of now; all else is as it was run."""
    now = prepared.manifest(run["run_id"], datetime.fromisoformat(run["created_at"]))
    taken = {name: now[name] for name in ("scorers", "cards", "card_sets", "price_book_hashes")}
    return {**run, **taken, "dataset": {**run["dataset"], **_hashes(now)}, "scored_by": str(prepared.suite.path)}


def _hashes(now: Mapping[str, Any]) -> dict[str, Any]:
    return {name: now["dataset"][name] for name in ("hash", "items")}
