"""Everything that is settled before anything is bought: what is run, with which code, at which prices, and where."""

import hashlib
import inspect
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from langchain_finops.errors import BadArguments, BadData, EvalError, Fault
from langchain_finops.evals.dataset import Dataset
from langchain_finops.evals.matrix import Trial, trials
from langchain_finops.evals.scorers import Function, reference_faults
from langchain_finops.evals.suite import Suite
from langchain_finops.evals.target import fingerprint, import_roots, resolve
from langchain_finops.pricing import PriceBook

__all__ = ["Mode", "Options", "Prepared", "default_folder", "prepare"]

Mode = Literal["live", "replay", "record"]

PACKAGES = (
    *("langchain-finops", "langchain-core", "langgraph", "langchain", "langchain-openai", "langchain-anthropic"),
    *("openai", "anthropic", "genai-prices", "vcrpy"),
)
"""Whose versions decide what an attempt answers and costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a suite is run this time."""

    mode: Mode | None = None
    """None: `replay` where the suite has a recording, else `live`."""
    folder: Path | None = None
    """Where results go; None: `default_folder`."""
    ledger: str | Path | None = None
    """None: $FINOPS_LEDGER, else `ledger.db` in the results folder; never the user's own."""
    cards: str | None = None
    """The card set that prices; None: the suite's first."""
    concurrency: int | None = None
    """Attempts at once; None: as the suite says."""
    fresh: bool = False
    """Set earlier results aside and start anew."""
    allow_mixed: bool = False
    """Keep answers of a target whose code has changed since."""
    retry_errors: bool = False
    """Try slots again that ended in infrastructure errors. Faults of the target stay: trying failures alone again would
    flatter it."""
    trace: bool = False
    """Let LangSmith's tracing see the attempts, where the environment turns it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that can start: every file is read, every name resolved, every price known or known to be unknown."""

    dataset: Dataset
    suite: Suite
    options: Options
    mode: Mode
    folder: Path
    ledger: str
    target: Any
    """The function that builds a Runnable from a configuration."""
    fingerprint: str
    functions: Mapping[str, Function]
    """Of the python scorers, by the scorer's name."""
    scorer_hashes: Mapping[str, str]
    books: Mapping[str, PriceBook]
    """By card set; empty where the suite names none."""
    cards: str | None
    """The card set that prices the run."""
    prices: PriceBook

    @property
    def concurrency(self) -> int:
        """Attempts at once."""
        return self.options.concurrency or self.suite.concurrency

    @property
    def recording_hash(self) -> str | None:
        """Of the recording that a replay plays; None where answers come from a model."""
        if self.mode != "replay" or self.suite.recording is None:
            return None
        return hashlib.sha256(self.suite.recording.read_bytes()).hexdigest()

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials of the plan, in the order in which they are run."""
        return list(trials(self.suite.configurations, self.dataset.items, self.suite.repeats))

    def manifest(self, run_id: str, created_at: datetime) -> dict[str, object]:
        """What `run.json` tells of the run: what it was made of, with which versions, at which prices."""
        suite, dataset = self.suite, self.dataset
        return {
            "format": 1,
            "run_id": run_id,
            "created_at": created_at.isoformat(),
            "mode": self.mode,
            "dataset": {
                "path": str(dataset.path),
                "name": dataset.name,
                "hash": dataset.hash,
                "items": {item.id: [item.inputs_hash, item.hash] for item in dataset.items},
            },
            "suite": str(suite.path),
            "target": suite.target,
            "fingerprint": self.fingerprint,
            "configurations": [
                {"name": entry.name, "hash": entry.hash, "parameters": entry.parameters}
                for entry in suite.configurations
            ],
            "repeats": suite.repeats,
            "baseline": suite.baseline,
            "tries": suite.tries,
            "limits": {"seconds": suite.limits.seconds, "recursion_limit": suite.limits.recursion_limit},
            "scorers": [
                {"name": scorer.name, "type": scorer.type, "hash": self.scorer_hashes[scorer.name]}
                for scorer in suite.scorers
            ],
            "cards": self.cards,
            "card_sets": {name: [card.id for card in cards] for name, cards in suite.cards.items()},
            "price_book_hashes": {name: book.hash for name, book in self.books.items()} or {"": self.prices.hash},
            "recording": None if self.mode == "live" or suite.recording is None else str(suite.recording),
            "recording_hash": self.recording_hash,
            "ledger": self.ledger,
            "versions": _versions(),
        }


def prepare(dataset: Dataset, suite: Suite, options: Options) -> Prepared:
    """Check everything that can be checked without buying anything. Raises BadData, BadArguments or EvalError."""
    mode = _mode(suite, options)
    roots = import_roots(suite.path)
    faults = [fault for scorer in suite.scorers for fault in reference_faults(scorer, dataset)]
    target, functions = _resolved(suite, roots, faults)
    if faults:
        raise BadData(faults)
    folder = options.folder or default_folder(dataset, suite, mode)
    ledger = str(options.ledger or os.environ.get("FINOPS_LEDGER") or folder / "ledger.db")
    if ledger in (":memory:", "sqlite://", "sqlite:///:memory:"):
        raise BadArguments(
            f"ledger {ledger!r} is gone when the run ends: name a file, or leave it to the results folder"
        )
    shipped = PriceBook.default()
    books = {name: shipped.with_cards(cards) for name, cards in suite.cards.items()}
    cards = _chosen_cards(suite, options)
    return Prepared(
        dataset=dataset,
        suite=suite,
        options=options,
        mode=mode,
        folder=folder,
        ledger=ledger,
        target=target,
        fingerprint=fingerprint(suite.target, roots),
        functions=functions,
        scorer_hashes={
            scorer.name: scorer.hash(fingerprint(scorer.function, roots) if scorer.function else "")
            for scorer in suite.scorers
        },
        books=books,
        cards=cards,
        prices=shipped if cards is None else books[cards],
    )


def default_folder(dataset: Dataset, suite: Suite, mode: Mode) -> Path:
    """The same for the same data, suite and mode, so that the same command goes on where it stopped."""
    parts = [dataset.name]
    if suite.path.stem != dataset.name:
        parts.append(suite.path.stem)
    if suite.recording is not None and mode != "replay":
        parts.append(mode)
    return Path("results") / "-".join(parts)


def _mode(suite: Suite, options: Options) -> Mode:
    mode: Mode = options.mode or ("live" if suite.recording is None else "replay")
    if mode != "live" and suite.recording is None:
        raise BadArguments(f"{suite.path} names no recording: add `recording: FILE.jsonl`, or run it live")
    if mode == "replay" and suite.recording is not None and not suite.recording.is_file():
        raise EvalError(f"recording {suite.recording} is not there: make it with --record, or run with --live")
    return mode


def _chosen_cards(suite: Suite, options: Options) -> str | None:
    if options.cards is not None and options.cards not in suite.cards:
        known = ", ".join(suite.cards) or "none"
        raise BadArguments(f"{options.cards!r} is no card set of {suite.path}: it has {known}")
    return options.cards or next(iter(suite.cards), None)


def _resolved(suite: Suite, roots: Sequence[Path], faults: list[Fault]) -> tuple[object, dict[str, Function]]:
    """The target and the python scorers' functions; what cannot be found is added to `faults`."""

    def found(spec: str, where: str) -> Function | None:
        try:
            return resolve(spec, roots)
        except EvalError as error:
            faults.append(Fault(where=f"{suite.path}: {where}", what=str(error)))
            return None

    target = found(suite.target, "target")
    functions: dict[str, Function] = {}
    for scorer in suite.scorers:
        if scorer.function is None or (function := found(scorer.function, f"scorer {scorer.name}")) is None:
            continue
        if inspect.iscoroutinefunction(function):
            what = f"{scorer.function!r} is a coroutine function: a scorer is a plain function"
            faults.append(Fault(where=f"{suite.path}: scorer {scorer.name}", what=what))
        functions[scorer.name] = function
    return target, functions


def _versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
