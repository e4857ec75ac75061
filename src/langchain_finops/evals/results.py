"""What an evaluation leaves behind: attempts and verdicts as JSON lines, each on disk as soon as it is known.

Answers (`attempts.jsonl`) are kept apart from verdicts (`scores.jsonl`), so that a new scorer buys no answers.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar, get_args

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals.fields import READ, VERDICT_READ, mapping, same, text, whole
from langchain_finops.records import CallError

__all__ = [
    "ASKED",
    "ATTEMPTS",
    "BEGUN",
    "INTERRUPTED",
    "MAX_USD",
    "RUN",
    "SCORES",
    "STATUSES",
    "UNFINISHED",
    "AttemptResult",
    "AttemptStatus",
    "JsonLines",
    "JudgingKey",
    "TryKey",
    "Verdict",
    "cut_torn_line",
    "encoded",
    "encoded_start",
    "last_tries",
    "read_asked",
    "read_attempts",
    "read_begun",
    "read_run",
    "read_verdicts",
    "replace_file",
    "write_attempts",
    "write_run",
    "write_verdicts",
]

ATTEMPTS, SCORES, RUN, BEGUN = "attempts.jsonl", "scores.jsonl", "run.json", "begun.jsonl"
ASKED = "asked.jsonl"
INTERRUPTED = "interrupted"
"""Stop reason of a try that a crash or Ctrl-C ended."""
MAX_USD = "max_usd"
"""Stop reason of a try that ran out of the run's money, and name of the budget that the run's money puts on a try."""
UNFINISHED = (INTERRUPTED, MAX_USD)
"""Why the harness ended a try for reasons of its own: it says nothing of the target, and its slot is tried again."""
TryKey = tuple[tuple[str, str, int], int, str, str, str]
"""Slot, try number, and the hashes of the item's inputs, of the configuration and of the target's code."""


class JudgingKey(NamedTuple):
    """One time of asking a judge about an answer: what its calls, its verdict and its line in `asked.jsonl` share."""

    slot: tuple[str, str, int]
    try_number: int
    scorer: str
    scorer_hash: str
    item_hash: str
    judging_id: str = ""
    """Its own; "" where any time is meant."""

    @classmethod
    def read(cls, said: object) -> Self:
        """From what JSON holds of it. Raises TypeError or ValueError for anything else."""
        if not isinstance(said, list):
            raise TypeError(f"{said!r} is not a list")
        (configuration, task, repeat), try_number, *names = said
        scorer, scorer_hash, item_hash, judging_id = map(text, names)
        slot = text(configuration), text(task), whole(repeat)
        return cls(slot, whole(try_number), scorer, scorer_hash, item_hash, judging_id)


AttemptStatus = Literal["completed", "stopped", "handed_off", "error"]
"""`stopped`: a limit ended it, such as the time limit. `handed_off`: it asked a person, whose answer no script gives.
`error`: it failed before it could answer."""
STATUSES: tuple[AttemptStatus, ...] = get_args(AttemptStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """A line of `attempts.jsonl`: one try at one slot, and what it cost.

    The slot is (configuration, task, repeat). It has several lines only where an infrastructure error was tried
    again: the last one decides, and the costs of all add up.
    """

    configuration: str
    task: str
    """The item's id in the dataset."""
    repeat: int
    """Counted from 0."""
    try_number: int
    """Counted from 1."""
    status: AttemptStatus
    stop_reason: str | None = None
    """Of `stopped`: `time_limit`, `recursion_limit`, a limit of the suite (`usd_limit`, `steps_limit`,
    `llm_calls_limit`, `tool_calls_limit`, `tokens_limit`), or a guard's. Of `handed_off`: `interrupt`. Of `error`:
    `infrastructure` (network, service, account), `target` (its own code failed), `interrupted` (a crash or Ctrl-C ended
    the try), or `max_usd` (the run's money did)."""
    answer: object = None
    """What the target returned, as JSON; None unless it completed."""
    trajectory: tuple[str, ...] = ()
    """Node paths in the order in which the nodes began."""
    cost_usd: Decimal | None
    """List cost of all model calls and charges of the agent. None where a price is unknown: not the same as free."""
    known_usd: Decimal
    """The part of the list cost whose price is known; all of it where `cost_usd` is not None."""
    contracted_usd: Decimal | None
    """List cost after the user's discounts."""
    billed_usd: Decimal | None
    """What was really paid: 0 in a replay."""
    charges_usd: Decimal | None = Decimal(0)
    """The part of `cost_usd` that is no model call, such as tools."""
    costs_by_card: Mapping[str, Decimal | None] = field(default_factory=dict)
    """List cost by each card set of the suite; `cost_usd` is the one chosen for the run."""
    in_the_dark: bool = False
    """It may have cost more than its calls tell, such as a call in flight when the process was killed: costs are None,
    whatever the prices."""
    overhead_usd: Decimal | None = Decimal(0)
    """What judges and the harness cost, apart; None where a price is unknown."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """Token meters of the agent's calls, summed; meters that are 0 are left out."""
    calls: int = 0
    unpriced_calls: int = 0
    """Calls whose price is unknown."""
    unpriced_charges: int = 0
    """Charges without a price, such as tools without a card: in none of the amounts."""
    estimated_calls: int = 0
    failed_calls: int = 0
    """Calls that ended in an error; in a completed try the target went on without their answer."""
    replayed_calls: int = 0
    """Calls that a recording answered."""
    steps: int = 0
    """Node executions at any depth, of all turns."""
    tool_calls: int = 0
    turns: int = 1
    """Inputs that it was given, one after the other."""
    scripted_answers: int = 0
    """Interrupts that a script of the item's answered in a person's stead."""
    final_output_tokens: int | None = None
    """Generated tokens of the last answered call: what the user gets to see. None where no call was answered."""
    costs_by_node: Mapping[str, Decimal | None] = field(default_factory=dict)
    """List cost by node path, "" outside of every node; adds up to `cost_usd`. None where a price is unknown."""
    overhead_s: float | None = None
    """What the harness added to the try's wall time; None where it was not measured."""
    latency_s: float
    """Wall time of the try; from recorded times where calls were replayed."""
    started_at: datetime
    ended_at: datetime
    error: CallError | None = None
    """How it failed: class, HTTP status and code."""
    task_id: str
    """The try's task in the ledger: unique per run, configuration, item and repeat."""
    fingerprint: str
    """Of the target that answered."""
    item_hash: str = ""
    """Of the item's inputs and outputs: a changed item is answered again."""
    configuration_hash: str = ""
    """Of the configuration's parameters."""

    @property
    def slot(self) -> tuple[str, str, int]:
        """What was tried: configuration, task, repeat."""
        return self.configuration, self.task, self.repeat

    def to_json(self) -> dict[str, object]:
        """The line as plain data; amounts are exact decimal strings."""
        plain: dict[str, object] = {name: _plain(getattr(self, name)) for name in ATTEMPT_FIELDS}
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Read a line back. Raises KeyError, TypeError or ValueError for what is no attempt."""
        values = {name: READ.get(name, same)(data[name]) for name in ATTEMPT_FIELDS if name in data}
        if values.get("status") not in STATUSES:
            raise ValueError(f"status is {values.get('status')!r}: one of {', '.join(STATUSES)} is expected")
        return cls(**values)  # type: ignore[arg-type]  # Checked field by field by READ; missing ones raise TypeError.


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A line of `scores.jsonl`: what one scorer says of one try's answer."""

    configuration: str
    task: str
    repeat: int
    try_number: int
    scorer: str
    """The scorer's name in the suite."""
    success: bool | None
    """None where it could not be told, which is not the same as wrong."""
    score: float | None = None
    """Between 0 and 1."""
    reason: str | None = None
    scorer_hash: str = ""
    """Of the scorer's definition: a changed scorer judges the stored answers again."""
    item_hash: str = ""
    """Of the item, reference included: a corrected reference judges the stored answers again."""
    cost_usd: Decimal | None = Decimal(0)
    """List cost of the judge's model calls; None where a price is unknown. 0 for scorers that ask no model."""
    known_usd: Decimal = Decimal(0)
    """The part of it whose price is known."""
    calls: int = 0
    """Model calls of the judge."""
    model: str | None = None
    """The judge's model as its answer names it."""
    prompt_hash: str | None = None
    """Of the judge's prompt."""
    judging_id: str | None = None
    """Of the time that the judge was asked; its calls in the ledger have it too."""
    stop_reason: str | None = None
    """Why there is no verdict yet, only what asking for it has cost: `infrastructure` (the judge could not be reached),
    `max_usd` (the run's money did not suffice), or `interrupted` (a crash or Ctrl-C). None for all other verdicts."""

    @property
    def slot(self) -> tuple[str, str, int]:
        """Whose answer was judged: configuration, task, repeat."""
        return self.configuration, self.task, self.repeat

    def to_json(self) -> dict[str, object]:
        """The line as plain data."""
        return {name: _plain(getattr(self, name)) for name in VERDICT_FIELDS}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Read a line back. Raises TypeError or ValueError for what is no verdict."""
        values = {name: VERDICT_READ.get(name, same)(data[name]) for name in VERDICT_FIELDS if name in data}
        return cls(**values)  # type: ignore[arg-type]  # Checked by VERDICT_READ; missing ones raise TypeError.


ALIKE = frozenset({bool, int, float, str})
"""Types that JSON holds as they are."""


def _plain(value: object) -> object:  # noqa: PLR0911  A table of types.
    """A field as JSON holds it."""
    if value is None or type(value) in ALIKE:  # Most are; asking whether they are mappings takes ten times as long.
        return value
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.astimezone(UTC).isoformat()
        case CallError():
            return {"error_class": value.error_class, "http_status": value.http_status, "code": value.code}
        case tuple():
            return list(value)
        case Mapping():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case _:
            return value


ATTEMPT_FIELDS = tuple(AttemptResult.__dataclass_fields__)
VERDICT_FIELDS = tuple(Verdict.__dataclass_fields__)
RUN_FIELDS = frozenset(
    {
        *("run_id", "created_at", "finished_at", "mode", "dataset", "configurations", "repeats", "baseline", "scorers"),
        *("cards", "card_sets", "price_book_hashes", "recording_hash", "ledger"),
    }
)
"""What is read of `run.json`."""

Line = TypeVar("Line", AttemptResult, Verdict)


def encoded(row: AttemptResult | Verdict) -> bytes:
    """The row's line. In ASCII: a model may answer half of a surrogate pair, which UTF-8 cannot hold."""
    return json.dumps(row.to_json()).encode() + b"\n"


def encoded_start(key: TryKey | JudgingKey) -> bytes:
    """The line of `begun.jsonl` that tells of a try's beginning, or of `asked.jsonl` that tells of a judge's."""
    return json.dumps(key).encode() + b"\n"


def read_asked(folder: Path) -> Counter[JudgingKey]:
    """How often judges began to be asked about each answer; a torn last line is of one that did not."""
    path = folder / ASKED
    asked: Counter[JudgingKey] = Counter()
    if not path.exists():
        return asked
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            asked[JudgingKey.read(json.loads(line))] += 1
        except (TypeError, ValueError) as error:
            raise BadData([Fault(where=f"{path}:{number}", what=f"not a line of {path.name}: {error}")]) from error
    return asked


def read_begun(folder: Path) -> set[TryKey]:
    """The tries that ever began; a torn last line is of one that did not."""
    path = folder / BEGUN
    if not path.exists():
        return set()
    *complete, _ = path.read_bytes().split(b"\n")
    begun: set[TryKey] = set()
    faults: list[Fault] = []
    for number, line in enumerate(complete, start=1):
        try:
            slot, try_number, *hashes = json.loads(line)
            configuration, task, repeat = slot
            item, parameters, target = map(text, hashes)
            slot = text(configuration), text(task), whole(repeat)
            begun.add((slot, whole(try_number), item, parameters, target))
        except (TypeError, ValueError) as error:
            faults.append(Fault(where=f"{path}:{number}", what=f"not a line of {path.name}: {error}"))
    if faults:
        raise BadData(faults)
    return begun


class JsonLines:
    """Appends lines to a file; each is on disk when `append` returns. Not for several threads at once.

    A last line torn by a crash is cut off first: what follows it would otherwise be glued to its rest.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        cut_torn_line(path)

    def append(self, *rows: AttemptResult | Verdict) -> None:
        """Write rows, a line each, and wait until the disk has them."""
        self.append_encoded(b"".join(map(encoded, rows)))

    def append_encoded(self, lines: bytes) -> None:
        """Write lines that `encoded` made, and wait until the disk has them."""
        self.write_encoded(lines)
        os.fsync(self._file.fileno())

    def write_encoded(self, lines: bytes) -> None:
        """Hand lines to the operating system: the end of the process does not lose them, that of the machine may."""
        self._file.write(lines)
        self._file.flush()

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cut_torn_line(path: Path) -> None:
    """Drop what a crash has left of a last line."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def read_attempts(folder: Path) -> tuple[list[AttemptResult], list[Fault]]:
    """Read all tries of a results folder, oldest first, and what was torn by a crash. Raises BadData otherwise."""
    return _read(folder / ATTEMPTS, AttemptResult)


def read_verdicts(folder: Path) -> tuple[list[Verdict], list[Fault]]:
    """Read all verdicts of a results folder, oldest first, and what was torn by a crash. Raises BadData otherwise."""
    return _read(folder / SCORES, Verdict)


def _read(path: Path, line_type: type[Line]) -> tuple[list[Line], list[Fault]]:
    if not path.exists():
        return [], []
    *complete, rest = path.read_bytes().split(b"\n")
    lines: list[Line] = []
    faults: list[Fault] = []
    for number, line in enumerate(complete, start=1):
        try:
            lines.append(line_type.from_json(mapping(json.loads(line))))
        except (KeyError, TypeError, ValueError) as error:
            faults.append(Fault(where=f"{path}:{number}", what=f"not a line of {path.name}: {error}"))
    if faults:
        raise BadData(faults)
    torn = [Fault(where=f"{path}:{len(complete) + 1}", what="the last line is torn by a crash and is left out")]
    return lines, torn if rest else []


def last_tries(attempts: Iterable[AttemptResult]) -> dict[tuple[str, str, int], AttemptResult]:
    """The try that decides each slot: the last one written."""
    return {attempt.slot: attempt for attempt in attempts}


def read_run(folder: Path) -> dict[str, object]:
    """Read `run.json`. Raises EvalError where there is none, or it cannot be read."""
    path = folder / RUN
    try:
        run = mapping(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise EvalError(f"{folder} is no results folder: it has no {RUN}") from None
    except (OSError, TypeError, ValueError) as error:
        raise EvalError(f"{path} cannot be read: {error}; put it back, or start anew with --fresh") from error
    if missing := RUN_FIELDS - run.keys():
        what = ", ".join(sorted(missing))
        raise EvalError(
            f"{path} is not one of this version, for want of {what}; put it back, or start anew with --fresh"
        )
    return run


def write_attempts(folder: Path, attempts: Iterable[AttemptResult]) -> None:
    """Write all tries anew, in one piece: a crash leaves the old file or the new one."""
    replace_file(folder / ATTEMPTS, b"".join(map(encoded, attempts)))


def write_verdicts(folder: Path, verdicts: Iterable[Verdict]) -> None:
    """Write all verdicts anew, in one piece: a crash leaves the old file or the new one."""
    replace_file(folder / SCORES, b"".join(map(encoded, verdicts)))


def write_run(folder: Path, run: Mapping[str, object]) -> None:
    """Write `run.json` in one piece: a crash leaves the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / RUN, json.dumps(run, indent=2).encode() + b"\n")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one piece: a crash leaves the old one or the new one."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
