"""One way out for every table: for people as a table or markdown, for programs as JSON or CSV."""

import csv
import json
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TextIO, get_args

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.summary import cell_width, fit, printable

__all__ = ["FORMATS", "Column", "Format", "Row", "Table", "csv_cell", "exact", "render"]

Format = Literal["table", "json", "csv", "markdown"]
FORMATS: tuple[str, ...] = get_args(Format)
# Any, because a row mixes names, counts and amounts, and each column knows what it reads.
Row = Mapping[str, Any]

GAP = 2
NAME_WIDTH, WIDE_NAME = 10, 24
"""Names are cut to no less than this before a column has to leave: to the first for one of rank 7 or less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column for people. Programs get every field of the rows instead."""

    title: str
    text: Callable[[Row], str]
    """What a row shows in it."""
    name: bool = False
    """Names stand to the left and may be cut in their middle; figures stand to the right and never are."""
    rank: int = 0
    """Where the terminal is narrow the highest ranks leave first; 0 never does."""
    below: bool = False
    """Sentences stand under their row, over the whole width: cut to a column's width they would say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one command shows, in any format."""

    rows: Iterable[Row]
    """May be made while one iterates, and are iterated once."""
    fields: Sequence[str]
    """Names and order of the fields of every row: what JSON and CSV hold."""
    columns: Sequence[Column]
    total: Row | None = None
    """For people only: a program that sums a column must not count it twice."""
    caption: str | None = None
    notes: Sequence[str] = ()
    """For people: how to read the figures, one sentence a line."""


def render(table: Table, output_format: str, file: TextIO) -> None:
    """Write the table to `file`: JSON as exactly one array, unrounded; nothing but the table in any format."""
    if output_format == "json":
        _write_json(table, file)
    elif output_format == "csv":
        _write_csv(table, file)
    elif output_format == "markdown":
        _write_markdown(table, file)
    elif output_format == "table":
        _write_text(table, file)
    else:
        raise BadArguments(f"--format is {output_format!r}: choose one of {', '.join(FORMATS)}")


def exact(value: object) -> object:
    """Return a value as JSON holds it: amounts are strings of exact decimals, times ISO 8601."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return list(value)
    if value is None or isinstance(value, str | int | float | list | dict):
        return value
    raise TypeError(f"no way to write {type(value).__name__} in a table")


# --- for programs ------------------------------------------------------------------------------------------------


def _write_json(table: Table, file: TextIO) -> None:
    rows = iter(table.rows)
    first = next(rows, None)
    if first is None:
        file.write("[]\n")
        return
    # Row by row: a report by task may have a million of them.
    file.write("[\n" + _json_object(first, table.fields))
    file.writelines(",\n" + _json_object(row, table.fields) for row in rows)
    file.write("\n]\n")


def _json_object(row: Row, fields: Sequence[str]) -> str:
    return _ENCODER.encode({name: row[name] for name in fields})


_ENCODER = json.JSONEncoder(allow_nan=False, default=exact)


def _write_csv(table: Table, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.fields)
    writer.writerows([csv_cell(row[name]) for name in table.fields] for row in table.rows)


def csv_cell(value: object) -> str:
    """Return a value as a CSV cell: no formula, no control character, empty where unknown."""
    if type(value) is int:  # Most cells: this one test instead of seven halves the time.
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = printable(value)  # A carriage return would begin a row: csv does not quote it.
        # A spreadsheet would run a name such as =HYPERLINK(...) as a formula.
        # A sign alone is none, and programs read it: the relation of a bound is one.
        return f"'{text}" if _FORMULA.match(text) and text != "=" else text
    known = exact(value)
    return json.dumps(known) if isinstance(known, list | dict) else str(known)


# Spreadsheets pass over what comes before a formula and shows as nothing.
_FORMULA = re.compile("[\\s\ufffd]*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


# --- for people --------------------------------------------------------------------------------------------------


def _write_markdown(table: Table, file: TextIO) -> None:
    if table.caption:
        file.write(f"{_markdown(table.caption)}\n\n")
    file.write(_bar(_markdown(column.title) for column in table.columns))
    file.write(_bar(":---" if column.name else "---:" for column in table.columns))
    file.writelines(_bar(_markdown(column.text(row)) for column in table.columns) for row in _with_total(table))
    file.writelines(f"\n{_markdown(note)}\n" for note in table.notes)


def _with_total(table: Table) -> Iterator[Row]:
    yield from table.rows
    if table.total is not None:
        yield table.total


def _bar(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _markdown(text: str) -> str:
    """Nothing in a name acts as markup: no bold `__start__`, no cell border, no link, no HTML."""
    return _MARKUP.sub(r"\\\g<0>", printable(text)).replace("<", "&lt;")


_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")


def _write_text(table: Table, file: TextIO) -> None:
    """A terminal's width decides which columns show; output that is piped has them all, however wide."""
    width = _width(file)
    head, rows, total = _layout(table, width)
    rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * max(map(cell_width, [head, *(row[0] for row in rows), *total, "-"]))
    body = [line for row in rows for line in row]
    prose = _wrapped(table.notes, width)
    caption = _wrapped([table.caption] if table.caption else [], width)
    if not file.isatty():
        lines = [*caption, head, rule, *body, *([rule, *total] if total else []), *prose]
        file.writelines(f"{line}\n" for line in lines)
        return
    _write_styled(file, [(caption, "dim"), ([head], "bold"), ([rule], "dim"), (body, "")])
    _write_styled(file, [([rule], "dim"), (total, "bold")] if total else [])
    _write_styled(file, [(prose, "dim")])


def _write_styled(file: TextIO, parts: Sequence[tuple[Sequence[str], str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False)
    for lines, style in parts:
        for line in lines:  # As Text, so that no name is read as rich's markup.
            console.print(Text(line, style=style, no_wrap=True, overflow="ignore"), crop=False, soft_wrap=True)


def _width(file: TextIO) -> int | None:
    """Columns there are; None where there is no terminal, so that a pipe sees the same on every machine."""
    if file.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return max(shutil.get_terminal_size().columns, 40)
    return None


def _layout(table: Table, width: int | None) -> tuple[str, list[list[str]], list[str]]:
    """Return the head line, each row's line with the sentences below it, and the total's line if there is one."""
    columns = [column for column in table.columns if not column.below]
    rows = list(_with_total(table))
    cells = [[column.title for column in columns]]
    cells += ([printable(column.text(row)) for column in columns] for row in rows)
    natural = [max(cell_width(line[place]) for line in cells) for place in range(len(columns))]
    shown, widths = _chosen(columns, natural, width)
    head, *lines = (_line(columns, shown, widths, line) for line in cells)
    said = [column.text for column in table.columns if column.below]
    body = [[line, *_below([text(row) for text in said], width)] for line, row in zip(lines, rows, strict=True)]
    return (head, body[:-1], body[-1]) if table.total else (head, body, [])


def _below(sentences: Sequence[str], width: int | None) -> list[str]:
    """Under the first letters of the row; what says nothing has no line."""
    said = [sentence for sentence in sentences if sentence not in {"", "-"}]
    return [f"    {line}" for line in _wrapped(said, (width or 100) - 4)]


def _chosen(columns: list[Column], natural: list[int], width: int | None) -> tuple[list[int], dict[int, int]]:
    """Which columns show, and how wide each is."""
    widths = dict(enumerate(natural))
    if width is None:
        return list(widths), widths
    fixed = {place for place, column in enumerate(columns) if column.rank == 0}
    shown = fixed
    for rank in sorted({column.rank for column in columns} - {0}):
        more = shown | {place for place, column in enumerate(columns) if column.rank == rank}
        if _least_width(columns, widths, more, WIDE_NAME if rank > 7 else NAME_WIDTH) > width:
            break
        shown = more
    spare = width - _least_width(columns, widths, shown, NAME_WIDTH)
    for place in sorted(shown):
        if columns[place].name:
            least = min(widths[place], NAME_WIDTH)
            grown = max(min(widths[place] - least, spare), 0)
            widths[place], spare = least + grown, spare - grown
    return sorted(shown), widths


def _least_width(columns: list[Column], widths: dict[int, int], shown: set[int], name_width: int) -> int:
    """How wide a line of these columns is when names are cut to `name_width`."""
    sizes = [min(widths[place], name_width) if columns[place].name else widths[place] for place in shown]
    return sum(sizes) + GAP * (len(sizes) - 1)


def _line(columns: list[Column], shown: list[int], widths: dict[int, int], cells: list[str]) -> str:
    parts = []
    for place in shown:
        cell, width = cells[place], widths[place]
        parts.append(fit(cell, width) if columns[place].name else " " * (width - cell_width(cell)) + cell)
    return (" " * GAP).join(parts).rstrip()


def _wrapped(sentences: Sequence[str], width: int | None) -> list[str]:
    lines: list[str] = []
    for sentence in sentences:
        lines += textwrap.wrap(printable(sentence), width or 100, subsequent_indent="  ", break_on_hyphens=False)
    return lines
