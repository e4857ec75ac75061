"""Puts the results of a run's shards together, so that they read and go on like those of one run."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_finops.errors import BadArguments, BadData, EvalError, Fault
from langchain_finops.evals.labels import keep_labels, stored_labels
from langchain_finops.evals.results import (
    ASKED,
    BEGUN,
    SCORES,
    AttemptResult,
    JudgingKey,
    Verdict,
    encoded,
    encoded_start,
    read_asked,
    write_attempts,
    write_run,
)
from langchain_finops.evals.resume import Earlier, Results, folder_lock, load_results, read_earlier
from langchain_finops.evals.stock import runs_of
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Record

__all__ = ["merge"]

SAME = (
    *("mode", "target", "fingerprint", "configurations", "repeats", "baseline", "scorers", "tries", "limits"),
    *("cards", "card_sets", "price_book_hashes", "recording_hash", "human", "value_usd", "failure_usd", "margin"),
)
"""What `run.json` tells that shards of one run have in common, besides their items."""
OWN_LEDGER = "ledger.db"

Slot = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A results folder that goes into the whole."""

    folder: Path
    run: Mapping[str, Any]
    earlier: Earlier
    asked: Counter[JudgingKey]
    """How often judges began to be asked, with a verdict by now or not."""

    @property
    def slots(self) -> dict[Slot, bytes]:
        """What it knows of each slot, as its lines."""
        lines: dict[Slot, bytes] = {}
        rows: list[AttemptResult | Verdict] = [*self.earlier.attempts, *self.earlier.verdicts]
        for row in rows:
            lines[row.slot] = lines.get(row.slot, b"") + encoded(row)
        return lines

    @property
    def ledger(self) -> str:
        """Where its calls are. It may have been moved, its ledger with it. Raises EvalError where it is gone."""
        own = self.folder / OWN_LEDGER
        url = str(self.run["ledger"])
        if own.exists():
            return str(own)
        if Path(url).name == OWN_LEDGER and not Path(url).exists():
            raise EvalError(f"{self.folder} has no {OWN_LEDGER}, which has its calls: copy it there, beside run.json")
        return url


def merge(out: Path, folders: Sequence[Path]) -> Results:
    """Put results of shards into a new folder, in one piece, and return all that counts; the shards stay as they are.

    Raises BadArguments where `out` is there already, EvalError or BadData with every fault where the parts are not of
    one run, overlap, or lack something.
    """
    if not folders:
        raise BadArguments("nothing to merge: name the results folders of the shards")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadArguments(f"{out} is there already: choose another folder, or move it aside")
    with ExitStack() as locks:
        parts = []
        for folder in dict.fromkeys(path.resolve() for path in folders):
            if not folder.is_dir():
                raise EvalError(f"{folder} is no results folder: it is not there")
            locks.enter_context(folder_lock(folder))  # A shard that still runs is not whole.
            parts.append(_read(folder))
        _check(parts)
        new = out.with_name(f".{out.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # What a crash left of an earlier merge.
        try:
            _write(new, out, _without_copies(parts))
            if out.exists():
                out.rmdir()
            new.rename(out)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return load_results(out)


def _read(folder: Path) -> _Part:
    earlier = read_earlier(folder)
    if earlier.run is None:
        raise EvalError(f"{folder} is no results folder: it has no run.json")
    return _Part(folder=folder, run=earlier.run, earlier=earlier, asked=read_asked(folder))


def _check(parts: Sequence[_Part]) -> None:
    """Raise BadData with all that keeps the parts from being one."""
    faults = [
        Fault(where=fault.where, what="is torn by a crash: run the shard's command again, which mends it, then merge")
        for part in parts
        for fault in part.earlier.torn
    ]
    first = parts[0]
    for part in parts[1:]:
        differing = [name for name in SAME if part.run.get(name) != first.run.get(name)]
        if part.run["dataset"]["items"] != first.run["dataset"]["items"]:
            differing.insert(0, "dataset")
        if differing:
            what = f"is of another run than {first.folder}: it differs in {', '.join(differing)}"
            faults.append(Fault(where=str(part.folder), what=what))
    faults += _overlaps(parts)
    if faults:
        raise BadData(faults)


def _overlaps(parts: Sequence[_Part]) -> Iterator[Fault]:
    """Slots that two parts know different things of: each was bought twice, and only one can count."""
    seen: dict[Slot, tuple[bytes, Path]] = {}
    for part in parts:
        for slot, lines in part.slots.items():
            other, folder = seen.setdefault(slot, (lines, part.folder))
            if other != lines:
                name, task, repeat = slot
                where = f"{part.folder}: configuration {name!r}, task {task!r}, repeat {repeat}"
                yield Fault(where=where, what=f"was tried in {folder} too: leave one of the two out")


def _without_copies(parts: Sequence[_Part]) -> list[_Part]:
    """The parts, each slot in the first one that has it alone."""
    seen: set[Slot] = set()
    kept = []
    for part in parts:
        mine = part.slots.keys() - seen
        seen |= mine
        earlier = Earlier(
            run=part.run,
            attempts=[row for row in part.earlier.attempts if row.slot in mine],
            verdicts=[row for row in part.earlier.verdicts if row.slot in mine],
            begun={key for key in part.earlier.begun if key[0] in mine or key[0] not in seen},
        )
        kept.append(replace(part, earlier=earlier))
    return kept


def _write(new: Path, out: Path, parts: Sequence[_Part]) -> None:
    new.mkdir(parents=True)
    write_attempts(new, [row for part in parts for row in part.earlier.attempts])
    (new / SCORES).write_bytes(b"".join(encoded(row) for part in parts for row in part.earlier.verdicts))
    begun = sorted({key for part in parts for key in part.earlier.begun})
    (new / BEGUN).write_bytes(b"".join(map(encoded_start, begun)))
    asked: Counter[JudgingKey] = Counter()
    for part in parts:
        asked |= part.asked  # The most that a part knows of: a copy tells of the same once more.
    if asked:  # Without it what a killed judge may have cost would be known, as nothing.
        (new / ASKED).write_bytes(b"".join(map(encoded_start, sorted(asked.elements()))))
    keep_labels(new, [label for part in parts for label in stored_labels(part.folder)])
    ledgers = {part.ledger for part in parts}
    one = len(ledgers) == 1 and Path(next(iter(ledgers))).name != OWN_LEDGER
    if not one:
        with ExitStack() as stack:
            whole = open_ledger(new / OWN_LEDGER)
            stack.callback(whole.close)
            for part in parts:
                _copy_calls(part, whole)
    write_run(new, _manifest(parts, ledger=ledgers.pop() if one else str(out / OWN_LEDGER)))


def _copy_calls(part: _Part, whole: Ledger) -> None:
    """Every version of every record of a part's run: what a price was before stays known."""
    ids = set(runs_of(part.run))
    own = open_ledger(part.ledger)
    try:
        tagged: list[Record] = [
            record
            for read in (own.calls, own.charges, own.runs)
            for record in read(history=True)
            if record.attribution.tags.get("evaluation_run") in ids
        ]
        outcomes = [each for each in own.outcomes(history=True) if each.task_id.partition("/")[0] in ids]
        if records := [*tagged, *outcomes]:
            whole.write(*records)
    finally:
        own.close()


def _manifest(parts: Sequence[_Part], *, ledger: str) -> dict[str, object]:
    runs = [part.run for part in parts]
    first = runs[0]
    planned = len(first["configurations"]) * len(first["dataset"]["items"]) * first["repeats"]
    known = len({row.slot for part in parts for row in part.earlier.attempts})
    ended = [run["finished_at"] for run in runs]
    said = list(dict.fromkeys(run["stopped"] for run in runs if run.get("stopped")))
    if known < planned:
        said.append(f"{planned - known} of {planned} slots are in none of the folders that were merged")
    elif None in ended and not said:
        names = ", ".join(str(part.folder) for part in parts if part.run["finished_at"] is None)
        said.append(f"not finished when they were merged: {names}")
    ids = Counter(run_id for run in runs for run_id in runs_of(run))
    looks = [int(run["looks"]) for run in runs if run.get("looks") is not None]
    return {
        **first,
        "looks": max(looks) if len(looks) == len(runs) else None,
        "run_id": f"{first['dataset']['name']}-{uuid4().hex[:8]}",
        "merged": sorted(ids),
        "created_at": min(run["created_at"] for run in runs),
        "finished_at": None if said else max(ended),
        "stopped": "; ".join(said) or None,
        "shard": None,
        "ledger": ledger,
    }
