"""What a results folder holds already, and what is still to be done."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_finops.errors import BadArguments, EvalError, Fault, TargetChanged
from langchain_finops.evals.faults import is_worth_trying_again
from langchain_finops.evals.locks import lock
from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import (
    ATTEMPTS,
    INTERRUPTED,
    RUN,
    UNFINISHED,
    AttemptResult,
    TryKey,
    Verdict,
    last_tries,
    read_attempts,
    read_begun,
    read_run,
    read_verdicts,
)
from langchain_finops.money import usd

if TYPE_CHECKING:
    from langchain_finops.evals.arms import Plan
    from langchain_finops.evals.suite import Human
    from langchain_finops.reports.render import Table

__all__ = [
    "Earlier",
    "Results",
    "changed_target",
    "check_cards",
    "check_resumable",
    "current_attempts",
    "current_verdicts",
    "folder_lock",
    "is_done",
    "load_results",
    "pending",
    "plan_of",
    "read_earlier",
    "results_of",
    "set_aside",
    "table_of",
]

Run = Mapping[str, Any]
"""What `run.json` holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A results folder as it stands: what still counts of what was tried and judged."""

    folder: Path
    run: Run
    """`run.json`."""
    attempts: Sequence[AttemptResult]
    """All tries, oldest first, at items and configurations as they are now."""
    verdicts: Sequence[Verdict]
    """Those of the scorers as they are now, on the attempts above."""
    outdated: int = 0
    """Tries at items or configurations that have changed since, or are gone: kept on file, counted nowhere."""
    repriced: int = 0
    """Stored tries that this run priced again, because prices had changed since."""
    set_aside: Path | None = None
    """Where this run put the results that were in the folder before."""
    torn: Sequence[Fault] = ()
    """Lines that a crash cut off."""


@dataclass(slots=True)
class Earlier:
    """Everything that earlier runs into the folder left on file."""

    run: Run | None = None
    attempts: list[AttemptResult] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    torn: list[Fault] = field(default_factory=list)
    begun: set[TryKey] = field(default_factory=set)
    """Tries that ever began, with a line of their own by now or not."""


def check_resumable(prepared: Prepared, run: Run, earlier: Earlier) -> None:
    """Raise where stored results would be passed off as those of other code, or mixed with those of another mode."""
    if earlier.run is None:
        return
    folder = prepared.folder
    if earlier.run["mode"] != prepared.mode:
        raise EvalError(
            f"{folder} holds a {earlier.run['mode']} run, which a {prepared.mode} run must not be mixed with; "
            "choose another --out, or start anew with --fresh"
        )
    _check_advice(folder, earlier.run.get("advice"), run["advice"])
    others = sum(attempt.fingerprint != prepared.fingerprint for attempt in current_attempts(run, earlier.attempts))
    if not _is_same_ledger(prepared, earlier.run["ledger"]):
        raise EvalError(
            f"{folder}: its calls are in the ledger {earlier.run['ledger']}, not in {prepared.ledger}; "
            f"run with --ledger {earlier.run['ledger']}, or start anew with --fresh"
        )
    if others and not prepared.options.allow_mixed:
        raise changed_target(folder, others)
    changed = _changed_limits(earlier.run.get("limits") or {}, run["limits"])
    if changed and earlier.attempts and not prepared.options.allow_mixed:
        raise EvalError(
            f"{folder}: limits have changed since its attempts were made ({changed}), and what the ones before "
            "stopped might not be now; run with --fresh to start anew, or with --allow-mixed to keep them"
        )


def _check_advice(folder: Path, before: Run | None, now: Run | None) -> None:
    """Raise where the folder tests another advice: a ledger that grew may have another one at the same number."""
    if before is None and now is None:
        return
    if before is None or now is None:
        holds = "the suite's configurations" if before is None else _advice_in_words(before)
        raise EvalError(f"{folder} has results of {holds}: choose another --out, or start anew with --fresh")
    same = ("configuration", "baseline", "changed", "agent", "node")
    if any(before[name] != now[name] for name in same):
        raise EvalError(
            f"{folder} has results of {_advice_in_words(before)}, and this is {_advice_in_words(now)}: choose another "
            "--out, or start anew with --fresh; an --advice-file keeps an advice as it was"
        )


def _advice_in_words(advice: Run) -> str:
    sets = ", ".join(f"{name} {value!r}" for name, (_, value) in advice["changed"].items())
    where = "/".join(advice[name] for name in ("agent", "node") if advice[name]) or "any agent"
    return f"advice {advice['n']}, {advice['kind']} of {where}, {advice['baseline']!r} with {sets}"


def _changed_limits(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which limits are others, in words."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} from {before.get(name)} to {now.get(name)}" for name in names)


def changed_target(folder: Path, tries: int) -> TargetChanged:
    """The error for so many tries that other code made."""
    return TargetChanged(
        f"{folder}: the target's code has changed since {tries} of the stored attempts were made; "
        "run with --fresh to start anew, or with --allow-mixed to keep them"
    )


def _is_same_ledger(prepared: Prepared, earlier: str) -> bool:
    own = prepared.folder / "ledger.db"
    if prepared.ledger == str(own) and own.exists():  # The folder may have been moved, its ledger with it.
        return True
    return earlier == prepared.ledger or Path(earlier).resolve() == Path(prepared.ledger).resolve()


def read_earlier(folder: Path) -> Earlier:
    """Read what is on file; nothing is there before the first run. Raises EvalError where `run.json` is missing."""
    if not (folder / RUN).exists():
        if (folder / ATTEMPTS).exists():
            raise EvalError(
                f"{folder} has {ATTEMPTS}, but no {RUN} to tell what they are of; put it back, choose another --out, "
                "or set them aside with --fresh"
            )
        return Earlier()
    attempts, torn = read_attempts(folder)
    verdicts, torn_verdicts = read_verdicts(folder)
    return Earlier(
        run=read_run(folder),
        attempts=attempts,
        verdicts=verdicts,
        torn=[*torn, *torn_verdicts],
        begun=read_begun(folder),
    )


def load_results(folder: Path) -> Results:
    """Read a results folder. Raises EvalError where it is none, BadData where its files cannot be read."""
    run = read_run(folder)
    earlier = read_earlier(folder)
    return results_of(folder, run, earlier)


def results_of(folder: Path, run: Run, earlier: Earlier) -> Results:
    """What counts, by `run.json`, of what is on file."""
    attempts = list(current_attempts(run, earlier.attempts))
    verdicts = list(current_verdicts(run, earlier.verdicts, attempts))
    return Results(
        folder=folder,
        run=run,
        attempts=attempts,
        verdicts=[*verdicts, *_unspoken(run, attempts, verdicts)],
        outdated=len(earlier.attempts) - len(attempts),
        torn=earlier.torn,
    )


def current_attempts(run: Run, attempts: Iterable[AttemptResult]) -> Iterator[AttemptResult]:
    """Tries at items and configurations as `run.json` knows them."""
    items = {item: hashes[0] for item, hashes in run["dataset"]["items"].items()}
    configurations = {entry["name"]: entry["hash"] for entry in run["configurations"]}
    for attempt in attempts:
        if (
            items.get(attempt.task) == attempt.item_hash
            and configurations.get(attempt.configuration) == attempt.configuration_hash
            and attempt.repeat < run["repeats"]
        ):
            yield attempt


def current_verdicts(run: Run, verdicts: Iterable[Verdict], attempts: Iterable[AttemptResult]) -> Iterator[Verdict]:
    """Verdicts by scorers as `run.json` knows them, on the items and answers as they are."""
    scorers = {entry["name"]: entry["hash"] for entry in run["scorers"]}
    items = {item: hashes[1] for item, hashes in run["dataset"]["items"].items()}
    tries = {(attempt.slot, attempt.try_number) for attempt in attempts}
    current = [
        verdict
        for verdict in verdicts
        if scorers.get(verdict.scorer) == verdict.scorer_hash
        and items.get(verdict.task) == verdict.item_hash
        and (verdict.slot, verdict.try_number) in tries
    ]
    # The last one counts: what never came to a verdict must not take the place of one.
    yield from sorted(current, key=lambda verdict: verdict.stop_reason is None)


def _unspoken(run: Run, attempts: Iterable[AttemptResult], verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """That a scorer has not spoken yet, where others have: without it theirs would decide alone."""
    spoke: dict[tuple[tuple[str, str, int], int], set[str]] = {}
    for verdict in verdicts:
        spoke.setdefault((verdict.slot, verdict.try_number), set()).add(verdict.scorer)
    items = run["dataset"]["items"]
    for attempt in last_tries(attempts).values():
        said = spoke.get((attempt.slot, attempt.try_number))
        for scorer in run["scorers"]:
            if said and scorer["name"] not in said:
                yield Verdict(
                    configuration=attempt.configuration,
                    task=attempt.task,
                    repeat=attempt.repeat,
                    try_number=attempt.try_number,
                    scorer=scorer["name"],
                    success=None,
                    reason=f"{scorer['name']} has not judged it yet",
                    stop_reason=INTERRUPTED,
                    scorer_hash=scorer["hash"],
                    item_hash=items[attempt.task][1],
                )


def is_done(tries_in_error: int, last: AttemptResult | None, most_tries: int, *, retry_errors: bool) -> bool:
    """Whether a slot needs no further try."""
    if last is None:
        return False
    if last.status != "error":
        return True
    if last.stop_reason in UNFINISHED:
        return False
    if last.stop_reason != "infrastructure":  # Faults of the target stay: only failures tried again would flatter it.
        return True
    spent = last.error is None or tries_in_error >= most_tries or not is_worth_trying_again(last.error)
    return spent and not retry_errors


def pending(
    trials: Iterable[Trial], attempts: Sequence[AttemptResult], most_tries: int, *, retry_errors: bool
) -> list[Trial]:
    """The trials that still need a try, in their order."""
    last = last_tries(attempts)
    errors = Counter(attempt.slot for attempt in attempts if attempt.stop_reason == "infrastructure")
    return [
        trial
        for trial in trials
        if not is_done(errors[trial.slot], last.get(trial.slot), most_tries, retry_errors=retry_errors)
    ]


def plan_of(results: Results) -> "Plan":
    """What was to be tried, by `run.json`: what comparisons, gates and the table count against."""
    from langchain_finops.evals.arms import Plan

    run = results.run
    sets: Mapping[str, Sequence[str]] = run["card_sets"]
    return Plan(
        configurations=tuple(entry["name"] for entry in run["configurations"]),
        tasks=tuple(run["dataset"]["items"]),
        repeats=run["repeats"],
        baseline=run["baseline"],
        cards={name: ", ".join(ids) for name, ids in sets.items()},
        priced_by=run["cards"],
        routers=_routers(run),
        human=_human(run),
        value_usd=_amount(run, "value_usd"),
        failure_usd=_amount(run, "failure_usd"),
        margin=None if run.get("margin") is None else float(run["margin"]),
        stopped=(str(run["stopped"]),) if run.get("stopped") else (),
        looks=run.get("looks"),
    )


def _routers(run: Run) -> frozenset[str]:
    """Configurations that the suite marks as routers; runs of before parameters were kept mark none."""
    return frozenset(each["name"] for each in run["configurations"] if each.get("parameters", {}).get("router") is True)


def _amount(run: Run, name: str) -> Decimal | None:
    """An amount that `run.json` tells; runs of before it could do not."""
    return None if run.get(name) is None else usd(str(run[name]))


def _human(run: Run) -> "Human | None":
    """The person of the suite."""
    from langchain_finops.evals.suite import Human

    told: Mapping[str, str | None] | None = run.get("human")
    if told is None:
        return None
    amounts: dict[str, Any] = {name: None if each is None else Decimal(each) for name, each in told.items()}
    return Human(**amounts)


def check_cards(results: Results, cards: str | None) -> str | None:
    """The card set that prices: the one asked for, else the run's. Raises BadArguments for one that it has not."""
    sets = results.run["card_sets"]
    if cards is not None and cards not in sets:
        raise BadArguments(f"{cards!r} is no card set of {results.folder}: it has {', '.join(sets) or 'none'}")
    chosen: str | None = cards or results.run["cards"]
    return chosen


def table_of(results: Results, *, cards: str | None = None) -> "Table":
    """The table of a results folder. `cards` prices; None: the card set that the run was priced by."""
    from langchain_finops.evals.labels import agreements_in_words
    from langchain_finops.evals.table import TableOptions, evaluation_table

    options = TableOptions(cards=check_cards(results, cards))
    table = evaluation_table(results.attempts, results.verdicts, plan=plan_of(results), options=options)
    return replace(table, notes=[*table.notes, *agreements_in_words(results)])


def set_aside(folder: Path, now: datetime) -> Path:
    """Move a results folder out of the way, for what is in it was paid for; return where it is now."""
    aside = folder.with_name(f"{folder.name}-until-{now:%Y%m%dT%H%M%S}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}-until-{now:%Y%m%dT%H%M%S}-{number}")
    return folder.rename(aside)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of a results folder; a crash lets go of it. Raises EvalError where another run is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            lock(handle)
        except OSError:
            raise EvalError(f"{folder}: another run is writing here; wait for it, or choose another --out") from None
        yield
    finally:
        os.close(handle)
