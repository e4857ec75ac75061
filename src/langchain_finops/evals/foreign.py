"""Results that another harness measured, as attempts and verdicts: CSV, JSON lines, or LangSmith's exports."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from langchain_finops.errors import BadArguments, BadData, EvalError, Fault
from langchain_finops.evals.dataset_files import long_cells
from langchain_finops.evals.langsmith_export import is_export, read_export
from langchain_finops.evals.results import AttemptResult, Verdict

__all__ = ["COLUMNS", "Foreign", "columns_of", "read_foreign"]

COLUMNS = ("configuration", "task", "cost", "success", "repeat")
"""What a row says; `configuration` and `repeat` may be missing."""
NEEDED = ("task", "cost", "success")
UNKNOWN = frozenset({"", "none", "null", "nan", "n/a", "-"})
"""How files write that a figure is not known."""
TRUE, FALSE = frozenset({"true", "yes", "pass", "passed"}), frozenset({"false", "no", "fail", "failed"})
ROUNDING = Decimal("1e-6")
"""A reward that a sum of floats missed by a hair is still 0 or 1, as tau-bench counts it."""
SCORER, FINGERPRINT = "success", "foreign"
NO_TIME = datetime.fromtimestamp(0, UTC)

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What foreign files say, as the table reads it. Everything else about an attempt is unknown."""

    attempts: list[AttemptResult]
    verdicts: list[Verdict]
    configurations: tuple[str, ...]
    """In the order in which they appear."""


def columns_of(text: str | None) -> dict[str, str]:
    """Read `cost=user_cost,success=reward`: our name, and the file's. Raises BadArguments."""
    names: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        ours, equals, theirs = (word.strip() for word in part.partition("="))
        if not equals or not theirs or ours not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise BadArguments(
                f"--columns: {part.strip()!r} found, where OURS=THEIRS is expected, such as cost=total_cost; "
                f"ours are {known}"
            )
        if ours in names:
            raise BadArguments(f"--columns names {ours} twice: {names[ours]} and {theirs}; leave one out")
        names[ours] = theirs
    return names


def read_foreign(
    paths: Sequence[Path], *, columns: Mapping[str, str] | None = None, zero_is_unknown: bool = False
) -> Foreign:
    """Read files of rows with a configuration, a task, a cost in dollars and a success, and maybe a repeat.

    `columns` maps our names to the files'. Without a column for it, the configuration is the file's name, and further
    rows of the same configuration and task are its repeats. A cost that is not there is unknown, and so is a success;
    `zero_is_unknown` takes a cost of 0 for unknown too. Raises BadData with every fault of all files.
    """
    faults: list[Fault] = []
    rows: list[_Read] = []
    for path in paths:
        try:
            rows += _read_file(path, columns or {}, zero_is_unknown=zero_is_unknown)
        except BadData as error:
            faults += error.faults
        except EvalError as error:  # The other files' faults are told with it.
            faults.append(Fault(where=str(path), what=str(error).removeprefix(f"{path}").lstrip(": ")))
    faults += _doubles(rows)
    if faults:
        raise BadData(faults)
    seen: Counter[tuple[str, str]] = Counter()
    attempts, verdicts = [], []
    for row in rows:
        repeat = seen[row.configuration, row.task] if row.repeat is None else row.repeat
        seen[row.configuration, row.task] += 1
        attempts.append(_attempt(row, repeat))
        verdicts.append(_verdict(row, repeat))
    names = tuple(dict.fromkeys(row.configuration for row in rows))
    return Foreign(attempts=attempts, verdicts=verdicts, configurations=names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A row, understood."""

    where: str
    configuration: str
    task: str
    repeat: int | None
    cost: Decimal | None
    success: bool | None


def _read_file(path: Path, columns: Mapping[str, str], *, zero_is_unknown: bool) -> list[_Read]:
    rows = list(_rows(path))
    if not rows:
        raise BadData([Fault(where=str(path), what="has no rows: a row for each attempt is expected")])
    if not columns and is_export(rows[0][1]):
        exported = read_export(path)
        rows = [(f"{path}: run {number}", row) for number, row in enumerate(exported, start=1)]
    names = {ours: columns.get(ours, ours) for ours in COLUMNS}
    _check_columns(path, rows, names, columns)
    read: list[_Read] = []
    faults: list[Fault] = []
    for where, row in rows:
        try:
            read.append(_understood(where, row, names, path, zero_is_unknown=zero_is_unknown))
        except ValueError as error:
            faults.append(Fault(where=where, what=str(error)))
    if faults:
        raise BadData(faults)
    return read


def _check_columns(
    path: Path, rows: Sequence[tuple[str, Row]], names: Mapping[str, str], columns: Mapping[str, str]
) -> None:
    """Raise where a column that must be there is in no row."""
    there = dict.fromkeys(name for _, row in rows for name in row)
    missing = [ours for ours in COLUMNS if (ours in NEEDED or ours in columns) and names[ours] not in there]
    if missing:
        told = ", ".join(ours if names[ours] == ours else f"{names[ours]} (for {ours})" for ours in missing)
        example = ",".join(f"{ours}=..." for ours in missing)
        what = f"has no column {told}; it has {', '.join(there)}: say which is which by --columns {example}"
        raise BadData([Fault(where=str(path), what=what)])


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Each row with its place. Raises EvalError or BadData for what cannot be read."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise EvalError(f"{path} cannot be read: {why}; check the path, and that it is text") from error
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        return _csv_rows(path, text, "\t" if kind == ".tsv" else ",")
    if kind in (".jsonl", ".ndjson", ".json"):
        return _json_rows(path, text)
    raise EvalError(f"{path}: a results folder, or a .csv, .tsv, .jsonl or .json file is expected")


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, Row]]:
    rows = _csv_cells(path, text, delimiter)
    header = [name.strip() for name in rows[0][1]] if rows else []
    double = sorted(name for name, count in Counter(header).items() if count > 1)
    if double:
        raise BadData([Fault(where=f"{path}:1", what=f"has two columns {double[0]!r}: rename one")])
    faults: list[Fault] = []
    for line, cells in rows[1:]:
        where = f"{path}:{line}"
        if not cells:
            continue
        if len(cells) != len(header):
            what = f"has {len(cells)} cells, and the header names {len(header)}: the row is cut, or a comma unquoted"
            faults.append(Fault(where=where, what=what))
            continue
        yield where, dict(zip(header, cells, strict=True))
    if faults:
        raise BadData(faults)


def _csv_cells(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Each row's cells, and its last line. Raises BadData for what is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    with long_cells():  # A column of answers has some.
        try:
            return [(reader.line_num, cells) for cells in reader]
        except csv.Error as error:
            raise BadData([Fault(where=f"{path}:{reader.line_num}", what=f"not CSV: {error}")]) from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    if text.lstrip().startswith("["):
        entries = enumerate(_json(text, str(path)), start=1)
        yield from ((f"{path}: row {number}", _object(entry, f"{path}: row {number}")) for number, entry in entries)
        return
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield where, _object(_json(line, where), where)
        except BadData as error:
            faults += error.faults
    if faults:
        raise BadData(faults)


def _json(text: str, where: str) -> list[object]:
    try:
        # A float would turn $0.1 into something near it.
        read: list[object] = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise BadData([Fault(where=where, what=f"not JSON: {error}; the file may be cut there")]) from error
    return read


def _object(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise BadData([Fault(where=where, what="not a row: an object with the columns as keys is expected")])
    return value


# --- one row -----------------------------------------------------------------------------------------------------


def _understood(where: str, row: Row, names: Mapping[str, str], path: Path, *, zero_is_unknown: bool) -> _Read:
    """Raises ValueError for what cannot be understood."""
    task = _name(row.get(names["task"]))
    if not task:
        raise ValueError(f"{names['task']} is empty: the task that was tried is expected")
    configuration = path.stem
    if names["configuration"] in row:
        configuration = _name(row[names["configuration"]])
        if not configuration:
            raise ValueError(f"{names['configuration']} is empty: the name of a configuration is expected")
    cost = _cost(row.get(names["cost"]), names["cost"])
    repeat = _repeat(row[names["repeat"]], names["repeat"]) if names["repeat"] in row else None
    return _Read(
        where=where,
        configuration=configuration,
        task=task,
        repeat=repeat,
        cost=None if zero_is_unknown and cost == 0 else cost,
        success=_success(row.get(names["success"]), names["success"]),
    )


def _name(value: object) -> str:
    return "" if value is None else str(value).strip()


def _is_unknown(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in UNKNOWN
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cost(value: object, column: str) -> Decimal | None:
    if _is_unknown(value):
        return None
    expected = f"{column} is {value!s}: an amount in dollars is expected, such as 0.0125, or nothing if it is unknown"
    try:
        cost = Decimal(str(value).strip())  # "True" is no amount either.
    except InvalidOperation as error:
        raise ValueError(expected) from error
    if not cost.is_finite() or cost < 0 or cost > Decimal("1e12"):
        raise ValueError(expected)
    return cost


def _success(value: object, column: str) -> bool | None:
    if _is_unknown(value):
        return None
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    try:
        figure = Decimal(word)
    except InvalidOperation:
        figure = Decimal("Infinity")
    if figure.is_nan():  # It compares with nothing.
        figure = Decimal("Infinity")
    for whole in (0, 1):
        if abs(figure - whole) <= ROUNDING:
            return bool(whole)
    partial = " (a partial score is no success: decide from which score on it is one)" if 0 < figure < 1 else ""
    raise ValueError(f"{column} is {value!s}: 0 or 1, true or false is expected{partial}")


def _repeat(value: object, column: str) -> int:
    try:
        figure = Decimal(str(value).strip())
        if not isinstance(value, bool) and figure == figure.to_integral_value() and 0 <= figure < 10**9:
            return int(figure)
    except InvalidOperation:
        pass
    raise ValueError(f"{column} is {value!s}: a whole number from 0 on is expected")


def _doubles(rows: Iterable[_Read]) -> Iterator[Fault]:
    """Rows for one repeat of a task that two rows claim: neither can be dropped, nor both counted."""
    seen: dict[tuple[str, str, int], str] = {}
    numbered: dict[tuple[str, str], _Read] = {}
    for row in rows:
        first = numbered.setdefault((row.configuration, row.task), row)
        if (first.repeat is None) != (row.repeat is None):
            what = f"{row.configuration}, {row.task} has rows with a repeat and without: {first.where} is of the others"
            yield Fault(where=row.where, what=what)
        if row.repeat is None:
            continue
        slot = row.configuration, row.task, row.repeat
        if slot in seen:
            what = f"{row.configuration}, {row.task}, repeat {row.repeat} was in {seen[slot]} already: leave one out"
            yield Fault(where=row.where, what=what)
        seen.setdefault(slot, row.where)


def _attempt(row: _Read, repeat: int) -> AttemptResult:
    return AttemptResult(
        configuration=row.configuration,
        task=row.task,
        repeat=repeat,
        try_number=1,
        status="completed",
        cost_usd=row.cost,
        known_usd=row.cost or Decimal(0),
        contracted_usd=None,
        billed_usd=None,
        charges_usd=None,
        overhead_usd=None,
        latency_s=0.0,
        started_at=NO_TIME,
        ended_at=NO_TIME,
        task_id=row.where,
        fingerprint=FINGERPRINT,
    )


def _verdict(row: _Read, repeat: int) -> Verdict:
    return Verdict(
        configuration=row.configuration,
        task=row.task,
        repeat=repeat,
        try_number=1,
        scorer=SCORER,
        success=row.success,
        cost_usd=None,
    )
