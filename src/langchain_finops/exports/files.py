"""Rows to CSV, JSON lines or Parquet: one by one, exactly, and to a file that is there whole or not at all."""

import csv
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_finops.errors import BadArguments, MissingExtra
from langchain_finops.money import EXACT
from langchain_finops.reports.render import csv_cell, exact

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["SUFFIXES", "Field", "Kind", "Row", "check_target", "replaced", "write_rows"]

Kind = Literal["text", "integer", "money", "decimal", "number", "boolean", "time", "json"]
Row = Sequence[Any]
"""One value for each field, in their order; None is unknown."""
SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
BATCH: Final = 10_000
"""Rows of a Parquet row group: what is in memory at once."""
PLACES: Final = {"money": 12, "decimal": 24}
"""Decimals that Parquet keeps: amounts are whole picodollars; prices and quantities are rounded half to even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column of a file."""

    name: str
    kind: Kind
    meaning: str
    """What it says, in a line of the documentation."""


def check_target(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise BadArguments, before anything is read, where a file could not be written; MissingExtra without pyarrow."""
    if path.suffix.lower() not in suffixes:
        raise BadArguments(f"--out {path} has no ending that tells its format: choose one of {', '.join(suffixes)}.")
    if path.exists() and not path.is_file():
        raise BadArguments(f"--out {path} is no ordinary file: name one that is, or that is not there yet.")
    if not path.absolute().parent.is_dir():
        raise BadArguments(f"--out {path}: there is no folder {path.absolute().parent}: make it first.")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401
        except ImportError as error:
            raise MissingExtra("a Parquet file", "focus") from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it takes the name once all is written, and goes where anything fails."""
    target = path.resolve()  # Without it a link would be replaced by a file, and what it points to stay as it is.
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_rows(path: Path, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    """Write rows to a file whose ending names the format; how many there were. One batch is in memory at once."""
    check_target(path)
    write = {".csv": _write_csv, ".jsonl": _write_lines, ".parquet": _write_parquet}[path.suffix.lower()]
    with replaced(path) as part:
        return write(part, fields, rows)


# --- CSV -----------------------------------------------------------------------------------------------------------


def _write_csv(path: Path, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    cells = [_CSV[field.kind] for field in fields]
    count = 0
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields])
        for row in rows:
            writer.writerow(["" if value is None else cell(value) for cell, value in zip(cells, row, strict=True)])
            count += 1
    return count


def _decimal_cell(value: Decimal) -> str:
    """Always with a point: what reads a column of whole numbers takes it for integers, and the next file's for not."""
    text = f"{value:f}"
    if "." not in text:
        return f"{text}.0"
    text = text.rstrip("0")
    return f"{text}0" if text.endswith(".") else text


@lru_cache(maxsize=1024)
def _time_cell(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


_json_text: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=exact).encode

# Most texts are names that thousands of rows share, and each is looked at letter by letter.
_text_cell: Final = lru_cache(maxsize=2**15)(csv_cell)

_CSV: Final[dict[Kind, Callable[[Any], str]]] = {
    "text": _text_cell,
    "integer": str,
    "money": _decimal_cell,
    "decimal": _decimal_cell,
    "number": repr,
    "boolean": csv_cell,
    "time": _time_cell,
    "json": lambda value: _text_cell(_json_text(value)),
}

# --- JSON lines ----------------------------------------------------------------------------------------------------


def _write_lines(path: Path, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    names = [field.name for field in fields]
    count = 0
    with path.open("x", encoding="utf-8", newline="") as file:
        for row in rows:
            line = {name: _json_value(value) for name, value in zip(names, row, strict=True)}
            file.write(_json_text(line) + "\n")
            count += 1
    return count


def _json_value(value: object) -> object:
    return _time_cell(value) if isinstance(value, datetime) else value


# --- Parquet -------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, fields: Sequence[Field], rows: Iterable[Row]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([pa.field(field.name, _arrow_type(field.kind)) for field in fields])
    count, source = 0, iter(rows)
    first = list(islice(source, BATCH))  # Before the file is made: what fails at once leaves nothing.
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in chain([first], iter(lambda: list(islice(source, BATCH)), [])):
            columns = zip(*batch, strict=True) if batch else [()] * len(fields)
            arrays = [
                pa.array([_arrow_value(field.kind, value) for value in column], type=schema.field(field.name).type)
                for field, column in zip(fields, columns, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(batch)
    return count


def _arrow_type(kind: Kind) -> "pa.DataType":
    import pyarrow as pa

    if kind in PLACES:
        return pa.decimal128(38, PLACES[kind])
    types = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "time": pa.timestamp("us", "UTC")}
    return types.get(kind, pa.string())


def _arrow_value(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind in PLACES:
        if value.adjusted() >= 38 - PLACES[kind]:
            raise BadArguments(f"{value} has more digits than a column of a Parquet file holds: write .csv instead.")
        return value.quantize(Decimal(1).scaleb(-PLACES[kind]), ROUND_HALF_EVEN, EXACT)
    return _json_text(value) if kind == "json" else value
