"""Reads a dataset's records, whatever it is written in: each with its line, or what is wrong with that line."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from langchain_finops.errors import BadData, EvalError, Fault, MissingExtra
from langchain_finops.evals.yaml_files import read_yaml_entries

__all__ = ["Numbered", "long_cells", "read_lines", "read_records"]

Numbered = tuple[int, dict[str, object] | ValueError]
"""A line or row, counted from 1, and what it holds, or what is wrong with it."""
MAPPINGS = ("inputs", "outputs", "metadata", "labels")
"""Fields that hold fields; a table's columns name them with dots: `inputs.text`."""
SPARSE = ("metadata", "labels")
"""Of these a field that is not there and one that says nothing are the same."""
AS_JSON = ("turns", "answers", *MAPPINGS)
"""Fields that a cell holds whole, as JSON."""
TYPED = ":json"
"""Ends the name of a column whose cells are JSON, such as `inputs.number:json`; other cells are texts."""


def read_records(path: Path) -> Iterator[Numbered]:
    """The records of a file: `.csv`, `.yaml`, `.yml`, `.parquet`, else JSON lines.

    Raises BadData where the file is nothing of the kind, EvalError where it cannot be read.
    """
    return READERS.get(path.suffix.lower(), _jsonl)(path)


def read_lines(lines: Iterable[bytes]) -> Iterator[Numbered]:
    """The records of lines of JSON; blank ones are none."""
    for number, raw in enumerate(lines, start=1):
        if raw.strip():
            yield number, _or_error(_json_record, raw)


def _json_record(raw: bytes) -> dict[str, object]:
    """One line of JSON as an object. Raises ValueError saying what it is instead."""
    try:
        record = _json(raw.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(record, dict):
        raise ValueError(f"{type(record).__name__} found: an object is expected")  # noqa: TRY004  A fault of the file.
    return record


def _jsonl(path: Path) -> Iterator[Numbered]:
    data = _bytes(path)
    return read_lines(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


def _yaml(path: Path) -> Iterator[Numbered]:
    entries = read_yaml_entries(path, "dataset")
    if entries is None:
        what = "a list of items is expected, each with `id`, `inputs`, `outputs`; a suite is passed by --suite"
        raise BadData([Fault(where=str(path), what=what)])
    for line, entry in entries:
        yield line, _or_error(_plain_record, entry)


def _csv(path: Path) -> Iterator[Numbered]:
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData([Fault(where=str(path), what=f"byte {error.start + 1} is not UTF-8")]) from error
    with long_cells():
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns: list[str] = []
        begins = 1
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield begins, ValueError(f"not CSV: {error}")
                return
            begins, line = rows.line_num + 1, begins
            if not any(cell.strip() for cell in row):
                continue
            if not columns:
                columns = _checked(row, path, line)
            elif len(row) != len(columns):
                yield line, ValueError(f"{len(row)} cells found: {len(columns)} columns are named in the first line")
            else:
                yield line, _or_error(_from_cells, dict(zip(columns, row, strict=True)))


@contextmanager
def long_cells() -> Iterator[None]:
    """Python stops at 131,072 letters in a cell, which a document passes."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _checked(columns: list[str], path: Path, line: int) -> list[str]:
    """A table's columns. Raises BadData with all that cannot be told apart."""
    columns = [column.strip() for column in columns]
    plain = [column.removesuffix(TYPED) for column in columns]
    named = [name for name in dict.fromkeys(plain) if name]
    faults = [f"the column {name!r} stands there twice" for name in named if plain.count(name) > 1]
    faults += [
        f"the column {name!r} stands beside columns of its fields: keep one or the other"
        for name in named
        if any(other.startswith(f"{name}.") for other in plain)
    ]
    if "id" not in plain and len(columns) == 1 and ";" in columns[0]:
        faults = ["columns are expected between commas, not semicolons"]
    if faults:
        raise BadData([Fault(where=f"{path}:{line}", what=what) for what in faults])
    return columns


def _from_cells(cells: Mapping[str, str]) -> dict[str, object]:
    """A row of texts. An empty cell is null."""
    record: dict[str, object] = {}
    for column, text in cells.items():
        name = column.removesuffix(TYPED)
        typed = column != name or name in AS_JSON or name.startswith("labels.")
        if not text.strip():
            _put(record, name, None)
        else:
            _put(record, name, _cell(column, text) if typed else text)
    return record


def _cell(column: str, text: str) -> object:
    try:
        return _json(text)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ValueError(f"column {column!r}: {text[:40]!r} is not JSON: {what}") from error


def _parquet(path: Path) -> Iterator[Numbered]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("a Parquet dataset", "eval") from error
    data = _bytes(path)
    try:
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    except pa.ArrowException as error:
        raise BadData([Fault(where=str(path), what=f"not Parquet: {str(error).splitlines()[0]}")]) from error
    columns = _checked(list(rows[0]) if rows else [], path, 1)
    for number, row in enumerate(rows, start=1):
        yield number, _or_error(_from_row, dict(zip(columns, row.values(), strict=True)))


def _from_row(row: Mapping[str, object]) -> dict[str, object]:
    """A row of typed values. Fields that hold others may be texts of JSON, as tables without structures have them."""
    record: dict[str, object] = {}
    for column, value in row.items():
        name = column.removesuffix(TYPED)
        is_json = isinstance(value, str) and (column != name or name in AS_JSON)
        read = _cell(column, str(value)) if is_json else value
        if name in SPARSE and isinstance(read, dict):
            read = {key: entry for key, entry in read.items() if entry is not None}
        _put(record, name, read)
    return _plain_record(record)


def _put(record: dict[str, object], name: str, value: object) -> None:
    """Set `inputs.text` within `inputs`. Other names keep their dots: they are no fields of items."""
    first, *deeper = name.split(".")
    if not deeper or first not in MAPPINGS:
        record[name] = value
        return
    if first in SPARSE and value is None:
        return
    within: Any = record
    for part in (first, *deeper[:-1]):
        within = within.setdefault(part, {})
    within[deeper[-1]] = value


def _plain_record(value: object) -> dict[str, object]:
    """An entry as JSON would hold it. Raises ValueError naming what JSON cannot hold."""
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} found: an object is expected")  # noqa: TRY004  A fault of the file.
    try:
        _check_plain(value, "")
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where}: the key {key!r} is no text: write it in quotes")  # noqa: TRY004  A fault.
            _check_plain(entry, f"{where}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            _check_plain(entry, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not JSON")
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"{where}: {type(value).__name__} {value!s:.40} found: write it as a text, in quotes")


def _or_error(read: Callable[[Any], dict[str, object]], given: object) -> dict[str, object] | ValueError:
    try:
        return read(given)
    except ValueError as error:
        return error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvalError(f"dataset {path} cannot be read: {error.strerror or error}") from error


def _no_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the field {repeated[0]!r} stands there twice")
    return record


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_no_repeated_keys, parse_constant=_no_constant, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


READERS: Mapping[str, Callable[[Path], Iterator[Numbered]]] = {
    ".csv": _csv,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".parquet": _parquet,
}
