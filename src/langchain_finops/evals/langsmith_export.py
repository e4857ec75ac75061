"""Files that LangSmith exports, as rows for the table: configuration, task, repeat, cost, success.

Two shapes: runs as the API and its client have them (JSON lines or one array), and an experiment's results as CSV, as
`evaluate(...).to_pandas().to_csv(...)` and the web page's download have them.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals.dataset_files import long_cells

__all__ = ["is_export", "read_export"]

Record = Mapping[str, Any]
NOT_SCORES = frozenset({"cost_usd", "cost_microusd"})


def is_export(fields: Iterable[str]) -> bool:
    """Whether a record with these fields, or a CSV file with these columns, is one of LangSmith's."""
    names = set(fields)
    return bool(names & {"reference_example_id", "example_id", "session_name", "session_id"}) and "task" not in names


def read_export(path: Path, *, feedback: str | None = None) -> list[dict[str, object]]:
    """Read an export: a row for each run on an example, with `configuration`, `task`, `repeat`, `cost`, `success`.

    `feedback` names the feedback that says success; None: `success` if there is one, else the only one there is. A cost
    that is not there is None, which is unknown; so is a success that nobody judged. An error is no success.
    Raises BadData with every record that cannot be used, EvalError where the file cannot be read.
    """
    records = list(_records(path))
    key = feedback or _feedback_key([record for _, record in records], path)
    rows: list[dict[str, object]] = []
    faults: list[Fault] = []
    seen: Counter[tuple[str, str]] = Counter()
    for where, record in records:
        if record.get("parent_run_id"):
            continue  # A step of a run: what it costs is in the run's.
        try:
            row = _row(record, key, path.stem)
        except ValueError as error:
            faults.append(Fault(where=where, what=str(error)))
            continue
        slot = str(row["configuration"]), str(row["task"])
        rows.append({**row, "repeat": seen[slot]})
        seen[slot] += 1
    if not records:
        faults.append(Fault(where=str(path), what="has no runs"))
    if faults:
        raise BadData(faults)
    return rows


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    """Each record with its place."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{path} cannot be read: {error}") from error
    if path.suffix == ".csv":
        with long_cells():  # A column of outputs has some.
            try:
                rows = list(csv.DictReader(io.StringIO(text, newline="")))
            except csv.Error as error:
                raise BadData([Fault(where=str(path), what=f"not CSV: {error}")]) from error
        yield from ((f"{path}:{number}", row) for number, row in enumerate(rows, start=2))
        return
    try:
        whole = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError as error:
        raise BadData([Fault(where=str(path), what=f"not JSON: {error}")]) from error
    if whole is not None:
        yield from (
            (f"{path}: run {number}", _object(each, f"{path}: run {number}")) for number, each in enumerate(whole, 1)
        )
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                yield where, _object(json.loads(line), where)
            except ValueError as error:
                raise BadData([Fault(where=where, what=f"not JSON: {error}")]) from error


def _object(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        raise BadData([Fault(where=where, what="no run: an object is expected")])
    return value


def _feedback_key(records: Sequence[Record], path: Path) -> str | None:
    """Which feedback says success. Raises BadData where there are several and none is called so."""
    found = sorted({name for record in records for name in _feedback(record)} - NOT_SCORES)
    if not found or "success" in found:
        return "success" if found else None
    if len(found) > 1:
        what = f"several kinds of feedback may say success: choose one of {', '.join(found)}"
        raise BadData([Fault(where=str(path), what=what)])
    return found[0]


def _feedback(record: Record) -> dict[str, object]:
    """Scores by key."""
    stats = record.get("feedback_stats")
    if isinstance(stats, dict):
        return {key: value.get("avg") for key, value in stats.items() if isinstance(value, dict)}
    return {name.removeprefix("feedback."): value for name, value in record.items() if name.startswith("feedback.")}


def _row(record: Record, key: str | None, stem: str) -> dict[str, object]:
    task = record.get("reference_example_id") or record.get("example_id")
    if not task:
        raise ValueError("has no reference_example_id: it is of no example")
    extra = record.get("extra")
    metadata = extra.get("metadata") or {} if isinstance(extra, dict) else {}
    names = (metadata.get("finops:configuration"), record.get("session_name"), record.get("session_id"), stem)
    return {
        "configuration": str(next(name for name in names if name)),
        "task": str(metadata.get("finops:item") or task),
        "cost": _cost(metadata.get("finops:cost_usd", record.get("total_cost"))),
        "success": _success(record, key),
    }


def _cost(value: object) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        cost = Decimal(repr(value)) if isinstance(value, float) else Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError(f"total_cost is {value!r}: an amount in dollars is expected") from error
    if not cost.is_finite():
        raise ValueError(f"total_cost is {value!r}: an amount in dollars is expected")
    return cost


def _success(record: Record, key: str | None) -> float | bool | None:
    if record.get("error"):
        return False
    said = _feedback(record).get(key) if key else None
    if said is None or said == "":
        return None
    if isinstance(said, str) and said.lower() in ("true", "false"):
        return said.lower() == "true"
    try:
        return float(str(said)) if not isinstance(said, bool) else said
    except ValueError as error:
        raise ValueError(f"feedback {key!r} is {said!r}: a number or true or false is expected") from error
