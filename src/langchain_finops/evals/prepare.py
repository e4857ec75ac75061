"""Everything that is settled before anything is bought: what is run, with which code, at which prices, and where."""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from langchain_finops.errors import BadArguments, BadData, EvalError, Fault
from langchain_finops.evals.building import Make, endpoint_faults, maker
from langchain_finops.evals.dataset import Dataset, Item
from langchain_finops.evals.matrix import Trial, in_shard, trials
from langchain_finops.evals.models import model_faults
from langchain_finops.evals.recorded_dataset import check_configuration, check_recorded
from langchain_finops.evals.scorers import Function, reference_faults
from langchain_finops.evals.selection import selected
from langchain_finops.evals.suite import Suite
from langchain_finops.evals.target import fingerprint, import_roots, resolve
from langchain_finops.money import usd
from langchain_finops.pricing import PriceBook

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = [
    "Mode",
    "Options",
    "Prepared",
    "RecordMode",
    "default_folder",
    "prepare",
    "prices_of",
    "scorers_of",
]

T = TypeVar("T")
Mode = Literal["live", "replay", "record"]
RecordMode = Literal["none", "once", "all"]

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
    """None: $FINOPS_LEDGER, else `ledger.db` in the results folder; never the user's own. Of a test of an advice always
    the latter."""
    cards: str | None = None
    """The card set that prices; None: the suite's first."""
    concurrency: int | None = None
    """Attempts at once; None: as the suite says."""
    fresh: bool = False
    """Set earlier results aside and start anew."""
    allow_mixed: bool = False
    """Keep answers of a target whose code, or limits, have changed since."""
    retry_errors: bool = False
    """Try slots again that ended in infrastructure errors. Faults of the target stay: trying failures alone again would
    flatter it."""
    trace: bool = False
    """Let LangSmith's tracing see the attempts, where the environment turns it on."""
    max_usd: Decimal | str | int | float | None = None
    """List cost at which no further attempt begins, of agents and judges, earlier runs into the folder included; None:
    as the suite says."""
    shard: tuple[int, int] | None = None
    """Run the slots of this one, counted from 1, of so many parts; `merge` puts them together."""
    splits: tuple[str, ...] = ()
    """Items of these splits alone; none: all."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Items with these values in their metadata alone."""
    sample: int | None = None
    """So many of the items, drawn with `seed`; None: all."""
    seed: int = 0
    record_mode: RecordMode | None = None
    """`none`: replay alone. `once`: replay what is recorded, and record the rest. `all`: the same, after a recording
    that is there has been set aside at the run's beginning. None: as `mode` says."""
    cassette: Path | None = None
    """The recording; None: the suite's."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that can start: every file is read, every name resolved, every price known or known to be unknown."""

    dataset: Dataset
    suite: Suite
    options: Options
    mode: Mode
    folder: Path
    ledger: str
    target: Make
    """Makes a Runnable for a configuration."""
    fingerprint: str
    functions: Mapping[str, Function]
    """Of the python scorers, by the scorer's name."""
    judges: Mapping[str, "BaseChatModel"] = field(default_factory=dict)
    """Models that judge, by the scorer's name."""
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

    @cached_property
    def items(self) -> Mapping[str, Item]:
        """By id."""
        return {item.id: item for item in self.dataset.items}

    @cached_property
    def max_usd(self) -> Decimal | None:
        """What the whole run may cost."""
        given = self.options.max_usd
        return self.suite.max_usd if given is None else usd(given)

    @cached_property
    def trials(self) -> Sequence[Trial]:
        """All trials of the plan, or of the shard, in the order in which they are run."""
        planned = trials(self.suite.configurations, self.dataset.items, self.suite.repeats)
        if self.options.shard is None:
            return list(planned)
        return [trial for trial in planned if in_shard(trial.slot, self.options.shard)]

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
            "target": suite.target.spec,
            "fingerprint": self.fingerprint,
            "configurations": [
                {"name": entry.name, "hash": entry.hash, "parameters": entry.parameters}
                for entry in suite.configurations
            ],
            "repeats": suite.repeats,
            "baseline": suite.baseline,
            "tries": suite.tries,
            "limits": _written(asdict(suite.limits)),
            "max_usd": _written(self.max_usd),
            "human": None if suite.human is None else _written(asdict(suite.human)),
            "value_usd": _written(suite.value_usd),
            "failure_usd": _written(suite.failure_usd),
            "margin": _written(suite.margin),
            "splits": list(self.options.splits),
            "where": dict(self.options.where),
            "sample": self.options.sample,
            "seed": self.options.seed,
            "advice": suite.tested,
            "shard": None if self.options.shard is None else list(self.options.shard),
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
    _check(options)
    if options.cassette is not None:
        suite = replace(suite, recording=options.cassette)
    mode = _mode(suite, options)
    dataset = selected(dataset, splits=options.splits, where=options.where, sample=options.sample, seed=options.seed)
    roots = import_roots(suite.path)
    faults: list[Fault] = []
    prices = prices_of(suite, options)
    max_usd = suite.max_usd if options.max_usd is None else options.max_usd
    scorers = scorers_of(suite, dataset, faults, replays=mode == "replay", prices=prices["prices"] if max_usd else None)
    target = _found(faults, suite, "target", lambda: _maker(suite, roots, mode))
    faults += _money_faults(suite, max_usd, prices["prices"], mode)
    if faults or target is None:
        raise BadData(faults)
    if mode == "replay" and suite.recording is not None:
        check_recorded(suite.recording, dataset)
        if suite.tested is not None:
            check_configuration(suite.recording, suite.tested["configuration"])
    folder = options.folder or default_folder(dataset, suite, mode, options.shard)
    # Calls of a test in the ledger that is advised on would change the advice.
    usual = None if suite.tested is not None else os.environ.get("FINOPS_LEDGER")
    ledger = str(options.ledger or usual or folder / "ledger.db")
    if ledger in (":memory:", "sqlite://", "sqlite:///:memory:"):
        raise BadArguments(
            f"ledger {ledger!r} is gone when the run ends: name a file, or leave it to the results folder"
        )
    return Prepared(
        dataset=dataset,
        suite=suite,
        options=options,
        mode=mode,
        folder=folder,
        ledger=ledger,
        target=target,
        fingerprint=suite.target.fingerprint(roots),
        **scorers,
        **prices,
    )


def _money_faults(suite: Suite, max_usd: object, prices: PriceBook, mode: Mode) -> list[Fault]:
    """Models that cannot be asked, and limits in money that cannot be held."""
    if suite.target.kind == "url":  # Its models are its own affair, their keys too.
        return endpoint_faults(asdict(suite.limits), max_usd, suite=suite.path)
    return model_faults(
        suite.configurations,
        suite=suite.path,
        prices=prices,
        without_key=mode == "replay",
        needs_prices=max_usd is not None or suite.limits.usd is not None,
    )


def _check(options: Options) -> None:
    """Raise BadArguments for figures that make no sense."""
    if options.max_usd is not None:
        try:
            is_amount = usd(options.max_usd) > 0
        except ValueError:
            is_amount = False
        if not is_amount:
            raise BadArguments(f"--max-usd {options.max_usd} found: an amount above 0 is expected, such as 2.50")
    if options.shard is not None and not 1 <= options.shard[0] <= options.shard[1]:
        raise BadArguments(f"--shard {options.shard[0]}/{options.shard[1]} found: from 1/N to N/N is expected")


def default_folder(dataset: Dataset, suite: Suite, mode: Mode, shard: tuple[int, int] | None = None) -> Path:
    """The same for the same data, suite and mode, so that the same command goes on where it stopped."""
    parts = [dataset.name]
    if suite.path.stem != dataset.name:
        parts.append(suite.path.stem)
    if suite.recording is not None and mode != "replay":
        parts.append(mode)
    if suite.tested is not None:
        parts.append(f"advice-{suite.tested['n']}")
    if shard is not None:
        parts.append(f"{shard[0]}-of-{shard[1]}")
    return Path("results") / "-".join(parts)


def _mode(suite: Suite, options: Options) -> Mode:
    if options.record_mode is not None and options.mode is not None:
        raise BadArguments(
            f"--record-mode {options.record_mode} says by itself what is asked and recorded: leave out "
            "--live and --record"
        )
    mode: Mode = options.mode or ("live" if suite.recording is None else "replay")
    if options.record_mode is not None:
        mode = "replay" if options.record_mode == "none" else "record"
    if mode != "live" and suite.recording is None:
        raise BadArguments(
            f"{suite.path} names no recording: add `recording: FILE.jsonl`, pass --cassette FILE, or run it live"
        )
    if mode == "replay" and suite.recording is not None and not suite.recording.is_file():
        raise EvalError(f"recording {suite.recording} is not there: make it with --record, or run with --live")
    return mode


def _chosen_cards(suite: Suite, options: Options) -> str | None:
    if options.cards is not None and options.cards not in suite.cards:
        known = ", ".join(suite.cards) or "none"
        raise BadArguments(f"{options.cards!r} is no card set of {suite.path}: it has {known}")
    return options.cards or next(iter(suite.cards), None)


def _found(faults: list[Fault], suite: Suite, where: str, find: Callable[[], T]) -> T | None:
    """What a suite names; that it cannot be found is added to `faults`."""
    try:
        return find()
    except EvalError as error:
        faults.append(Fault(where=f"{suite.path}: {where}", what=str(error)))
        return None


def _maker(suite: Suite, roots: Sequence[Path], mode: Mode) -> Make:
    return maker(suite.target, suite.configurations, roots, offline=mode == "replay")


class Prices(TypedDict):
    """The price books of a suite, and which of them prices."""

    books: Mapping[str, PriceBook]
    cards: str | None
    prices: PriceBook


def prices_of(suite: Suite, options: Options) -> Prices:
    """The books of a suite's card sets. Raises BadArguments for a set that it does not have."""
    shipped = PriceBook.default()
    books = {name: shipped.with_cards(cards) for name, cards in suite.cards.items()}
    cards = _chosen_cards(suite, options)
    return Prices(books=books, cards=cards, prices=shipped if cards is None else books[cards])


class Scorers(TypedDict):
    """What the scorers of a suite need."""

    functions: Mapping[str, Function]
    judges: "Mapping[str, BaseChatModel]"
    scorer_hashes: Mapping[str, str]


def scorers_of(
    suite: Suite, dataset: Dataset, faults: list[Fault], *, replays: bool, prices: PriceBook | None
) -> Scorers:
    """What the scorers need; what keeps them from judging is added to `faults`.

    `prices`: where the run's money has a maximum. Raises MissingExtra where the judges' is missing.
    """
    roots = import_roots(suite.path)
    faults += [fault for scorer in suite.scorers for fault in reference_faults(scorer, dataset)]
    functions: dict[str, Function] = {}
    for scorer in suite.scorers:
        if (spec := scorer.function) is None:
            continue
        function = _found(faults, suite, f"scorer {scorer.name}", partial(resolve, spec, roots))
        if function is not None:
            functions[scorer.name] = function
    judges: Mapping[str, BaseChatModel] = {}
    if any(scorer.judge for scorer in suite.scorers):
        from langchain_finops.evals.judging import judges_of

        judges = judges_of(suite, functions, dataset, faults, replays=replays, prices=prices)
    return Scorers(
        functions=functions,
        judges=judges,
        scorer_hashes={
            scorer.name: scorer.hash(fingerprint(scorer.function, roots) if scorer.function else "")
            for scorer in suite.scorers
        },
    )


def _written(value: Any) -> Any:
    """A figure as `run.json` holds it: exact."""
    if isinstance(value, dict):
        return {name: _written(entry) for name, entry in value.items()}
    return format(value, "f") if isinstance(value, Decimal) else value


def _versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
