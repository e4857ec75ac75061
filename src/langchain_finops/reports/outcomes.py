"""Outcomes from a file: what a help desk, a spreadsheet or a reviewer says became of tasks."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from langchain_finops.errors import BadArguments, BadData, Fault
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.work import known_tasks
from langchain_finops.money import from_pico, to_pico, usd
from langchain_finops.records import Outcome

__all__ = ["Imported", "import_outcomes", "read_outcomes"]

LARGEST_USD: Final = Decimal(9_000_000)
"""What one record of a ledger holds, and a little less."""
FIELDS: Final = ("task_id", "task_type", "success", "score", "scores", "value_usd", "reason", "judged_by", "at")
"""What a line may say; `task_id`, `success` and `at` it must."""
WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("true", "success", "succeeded", "yes", "1"), True),
    **dict.fromkeys(("false", "failure", "failed", "no", "0"), False),
    **dict.fromkeys(("", "none", "null", "unknown"), None),
}
Line = tuple[str, dict[str, Any]]
"""Where it is, and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import changed."""

    new: int
    revised: int
    """Those of the new ones whose task had another outcome already."""
    known: int
    """Outcomes that were there already."""
    unknown: int
    """New ones whose task no call or charge names."""
    example: str | None
    """The task of one of those."""


def read_outcomes(path: Path, *, judged_by: str | None = None) -> list[Outcome]:
    """Return what a CSV or JSONL file says. Raises BadData with every fault of it, BadArguments where there is none."""
    if not path.is_file():
        raise BadArguments(f"{path}: there is no such file; name a CSV or JSONL file of outcomes.")
    faults: list[Fault] = []
    said = []
    for where, parts in read_lines(path, faults):
        outcome = _outcome(parts, where, faults, judged_by or path.name)
        if outcome is not None:
            said.append(outcome)
    if faults:
        raise BadData(faults)
    return said


def read_lines(path: Path, faults: list[Fault]) -> Iterator[Line]:
    """Yield the lines of a CSV file with a header, or of a JSONL file, each with its place; what is none is a fault."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(Fault(where=str(path), what=f"is no UTF-8 text (byte {error.start}); save it as UTF-8"))
        return
    if path.suffix.lower() == ".csv":
        yield from _csv_lines(path, text, faults)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            parts = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(where=where, what=f"is no JSON ({error}); write one object a line"))
            continue
        if isinstance(parts, dict):
            yield where, parts
        else:
            faults.append(Fault(where=where, what="is no object; write one object a line"))


def _csv_lines(path: Path, text: str, faults: list[Fault]) -> Iterator[Line]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if not head or len(set(head)) < len(head):
            faults.append(Fault(where=f"{path}:1", what="is no header: name each column once, such as task_id,success"))
            return
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not row:
                continue
            if len(row) != len(head):
                faults.append(Fault(where=where, what=f"has {len(row)} fields, the header has {len(head)}"))
                continue
            yield (
                where,
                {name: value for name, value in zip(head, row, strict=True) if value != "" or name == "success"},
            )
    except csv.Error as error:
        faults.append(Fault(where=f"{path}:{reader.line_num}", what=f"is no CSV ({error}); is the file whole?"))


def _outcome(parts: Mapping[str, Any], where: str, faults: list[Fault], judged_by: str) -> Outcome | None:
    known = len(faults)
    unknown = sorted(set(parts) - set(FIELDS))
    if unknown:
        faults.append(Fault(where=where, what=f"has {', '.join(map(repr, unknown))}; fields are {', '.join(FIELDS)}"))
    readers = {"task_id": _text, "task_type": _text, "reason": _text, "judged_by": _text, "success": _success,
               "score": _score, "scores": _scores, "value_usd": _value, "at": _time}  # fmt: skip
    values: dict[str, Any] = {}
    for name, read in readers.items():
        try:
            values[name] = None if parts.get(name) is None and name != "success" else read(parts.get(name))
        except (ArithmeticError, TypeError, ValueError) as error:
            faults.append(Fault(where=f"{where}: {name}", what=str(error)))
    faults += [Fault(where=f"{where}: {name}", what=what) for name, what in _MISSING.items() if parts.get(name) is None]
    if "success" not in parts and "score" not in parts and "value_usd" not in parts:
        faults.append(Fault(where=f"{where}: success", what="is missing; write true or false"))
    if len(faults) > known:
        return None
    values["judged_by"] = values["judged_by"] or judged_by
    values["scores"] = values["scores"] or {}
    return Outcome(**values)


_MISSING: Final = {
    "task_id": "is missing; name the task as its calls do",
    # Without it a second import would be a new judgement, of another time.
    "at": "is missing; say when it was judged, such as 2026-01-31T12:00:00Z",
}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"is {value!r}; write a text")
    return value


def _success(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in WORDS:
        raise ValueError(f"is {value!r}; write true, false, or nothing where it cannot be told")
    return WORDS[word]


def _score(value: object) -> float:
    score = _number(value)
    if not 0 <= score <= 1:
        raise ValueError(f"is {value!r}; a score is between 0 and 1")
    return score


def _scores(value: object) -> dict[str, float]:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise TypeError(f'is {value!r}; write an object such as {{"csat": 4.5}}')
    return {str(name): _number(each) for name, each in found.items()}


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"is {value!r}; write a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"is {value!r}; write a number")
    return number


def _value(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise TypeError(f"is {value!r}; write dollars as 5 or 0.25")
    amount = usd(value.strip().removeprefix("$") if isinstance(value, str) else value)
    if abs(amount) > LARGEST_USD:
        raise ValueError(f"is {value}; one outcome is worth at most ${LARGEST_USD:,}")
    return from_pico(to_pico(amount))  # As a ledger keeps it, or a second import would find another amount.


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise TypeError(f"is {value!r}; write a time as 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is {value!r}; write a time as 2026-01-31T12:00:00Z") from error


def import_outcomes(ledger: Ledger, said: Sequence[Outcome]) -> Imported:
    """Write outcomes, in the order of their times, in one transaction; those that are there already are left alone.

    One that was judged before the task's current outcome goes into its history: the last word counts.
    """
    there: dict[str, list[Outcome]] = {}
    wanted = {outcome.task_id for outcome in said}
    for outcome in ledger.outcomes(history=True):
        if outcome.task_id in wanted:
            there.setdefault(outcome.task_id, []).append(outcome)
    new: list[Outcome] = []
    revised = known = 0
    for outcome in sorted(said, key=lambda each: each.at):
        others = there.setdefault(outcome.task_id, [])
        if any(_same(outcome, other) for other in others):
            known += 1
            continue
        revised += bool(others)
        others.append(outcome)
        new.append(outcome)
    if new:
        ledger.write(*new)
    tasks = known_tasks(ledger) if new else set()
    strangers = [outcome.task_id for outcome in new if outcome.task_id not in tasks]
    return Imported(
        new=len(new), revised=revised, known=known, unknown=len(strangers), example=next(iter(strangers), None)
    )


_SAID: Final = tuple(field.name for field in fields(Outcome) if field.name not in {"revision", "supersedes"})


def _same(one: Outcome, other: Outcome) -> bool:
    """Whether they say the same, as a ledger keeps it."""
    return all(_plain(getattr(one, name)) == _plain(getattr(other, name)) for name in _SAID)


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else value
