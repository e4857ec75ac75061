"""Every table leaves by one door: readable for people, exact for programs, harmless for both."""

import csv
import io
import json
from decimal import Decimal

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.reports.render import FORMATS, Column, Table, exact, render

COLUMNS = (
    Column(title="agent", text=lambda row: str(row["agent"]), name=True),
    Column(title="calls", text=lambda row: f"{row['calls']:,}", rank=1),
    Column(title="rarely read", text=lambda row: "x" * 20, rank=9),
    Column(title="cost", text=lambda row: f"${row['cost_usd']:.2f}"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table(*rows: dict[str, object], **more: object) -> Table:
    return Table(rows=rows, fields=("agent", "calls", "cost_usd"), columns=COLUMNS, **more)


def rendered(what: Table, output_format: str, file: io.StringIO | None = None) -> str:
    file = file or io.StringIO()
    render(what, output_format, file)
    return file.getvalue()


ROW = {"agent": "support", "calls": 1200, "cost_usd": Decimal("0.100000000000")}
TOTAL = {"agent": "total", "calls": 1200, "cost_usd": Decimal("0.1")}


def test_json_is_exactly_one_array_of_exact_values():
    """Amounts are strings of exact decimals, counts numbers; no total, no notes, nothing else."""
    text = rendered(table(ROW, ROW, total=TOTAL, caption="Cost", notes=("Note.",)), "json")

    assert json.loads(text) == [{"agent": "support", "calls": 1200, "cost_usd": "0.1"}] * 2


def test_json_of_no_rows_is_an_empty_array():
    """Programs need no special case."""
    assert json.loads(rendered(table(), "json")) == []


def test_csv_has_every_field_and_a_header_even_without_rows():
    """The fields, in order, and no total that a sum over a column would count again."""
    assert rendered(table(ROW, total=TOTAL), "csv") == "agent,calls,cost_usd\nsupport,1200,0.1\n"
    assert rendered(table(), "csv") == "agent,calls,cost_usd\n"


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", " =", "\u3000+", "\xa0@", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
)
def test_csv_neutralises_formulas(start):
    """A spreadsheet reads a name as text, whatever it begins with."""
    text = rendered(table({**ROW, "agent": f'{start}HYPERLINK("http://x")'}), "csv")

    cell = list(csv.reader(io.StringIO(text)))[1][0]
    assert cell == f'\'{start}HYPERLINK("http://x")'


@pytest.mark.parametrize("odd", ["\t", "\r", "\n", "\x00", "\ufeff", "\u2028"])
def test_csv_has_a_line_a_row_whatever_the_names(odd):
    """A control character neither breaks a row nor hides a formula; JSON has the name as it is."""
    text = rendered(table({**ROW, "agent": f"{odd}=1{odd}=2"}), "csv")

    assert text == "agent,calls,cost_usd\n'\N{REPLACEMENT CHARACTER}=1\N{REPLACEMENT CHARACTER}=2,1200,0.1\n"
    assert json.loads(rendered(table({**ROW, "agent": odd}), "json"))[0]["agent"] == odd


def test_csv_leaves_negative_amounts_alone():
    """A credit is a number, not a formula."""
    text = rendered(table({**ROW, "cost_usd": Decimal("-0.5")}), "csv")
    assert text.splitlines()[1] == "support,1200,-0.5"


def test_csv_writes_unknown_as_nothing_and_flags_as_words():
    """None is an empty cell, which no program reads as 0."""
    text = rendered(table({"agent": None, "calls": True, "cost_usd": None}), "csv")
    assert text.splitlines()[1] == ",true,"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Decimal("0E-12"), "0"),
        (Decimal(100), "100"),
        (Decimal("1234567.000000000123"), "1234567.000000000123"),
        (Decimal("12345678901234567890123456789.5"), "12345678901234567890123456789.5"),
        (Decimal("1E-12"), "0.000000000001"),
        (("a", "b"), ["a", "b"]),
        (None, None),
    ],
)
def test_amounts_keep_every_digit(value, kept):
    """No exponent, no trailing zeros, no rounding."""
    assert exact(value) == kept


def test_markdown_shows_names_as_they_are():
    """Nothing in a name acts: no bold, no cell border, no HTML, no link, no new line."""
    text = rendered(table({**ROW, "agent": "__a__|<b>[c](d)*e\nf_g"}), "markdown")

    assert text.splitlines() == [
        "| agent | calls | rarely read | cost |",
        "| :--- | ---: | ---: | ---: |",
        "| \\_\\_a\\_\\_\\|&lt;b>\\[c\\](d)\\*e\N{REPLACEMENT CHARACTER}f_g | 1,200 | xxxxxxxxxxxxxxxxxxxx | $0.10 |",
    ]


def test_markdown_has_total_and_notes():
    """People get the sum and how to read it."""
    text = rendered(table(ROW, total=TOTAL, notes=("How to read it.",)), "markdown")
    assert "| total | 1,200 |" in text
    assert text.endswith("\n\nHow to read it.\n")


def test_a_pipe_gets_all_columns_whatever_the_terminal(monkeypatch):
    """Piped output is the same everywhere: nothing is cut, nothing coloured."""
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a" * 150

    text = rendered(table({**ROW, "agent": name}, total=TOTAL, caption="Cost", notes=("Note.",)), "table")

    assert text.splitlines() == [
        "Cost",
        f"{'agent':150}  calls           rarely read   cost",
        "─" * 186,
        f"{name}  1,200  xxxxxxxxxxxxxxxxxxxx  $0.10",
        "─" * 186,
        f"{'total':150}  1,200  xxxxxxxxxxxxxxxxxxxx  $0.10",
        "Note.",
    ]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_is_never_overrun(monkeypatch, columns):
    """The least needed columns leave first, then names are cut at their beginning; figures never are."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = rendered(table({**ROW, "agent": "researcher/" * 20 + "search"}), "table", Terminal())

    lines = text.splitlines()
    assert all(len(_plain(line)) <= columns for line in lines)
    assert "$0.10" in text
    assert "search  " in text
    assert ("rarely read" in text) == (columns >= 80)


def _plain(line: str) -> str:
    """The line without a terminal's colour codes."""
    import re

    return re.sub("\x1b\\[[0-9;]*m", "", line)


@pytest.mark.parametrize("columns", [40, 80])
def test_sentences_stand_below_their_row_and_are_never_cut(monkeypatch, columns):
    """Every word of a reason is there at any width, in lines of its own; who gave none has no line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    reason = "loops since noon, and nobody knows why: ask Ada, who is on call until Friday"
    why = Column(title="why", text=lambda row: row["reason"] or "-", below=True)
    rows = [{**ROW, "reason": reason}, {**ROW, "agent": "router", "reason": None}]
    lines = rendered(Table(rows=rows, fields=(), columns=(*COLUMNS, why)), "table", Terminal()).splitlines()

    plain = [_plain(line) for line in lines]
    assert all(len(line) <= columns for line in plain)
    start, end = (next(place for place, line in enumerate(plain) if name in line) for name in ("support", "router"))
    below = plain[start + 1 : end]
    assert " ".join(line.strip() for line in below) == reason
    assert all(line.startswith("    ") for line in below)
    assert plain[end + 1 :] == []


def test_a_rule_is_as_long_as_the_longest_row():
    """A last column of names that are longer than its title is ruled off whole."""
    name = Column(title="what", text=lambda row: str(row["agent"]), name=True)
    lines = rendered(Table(rows=[ROW], fields=(), columns=(name,)), "table").splitlines()

    assert lines == ["what", "─" * len("support"), "support"]


def test_names_are_not_read_as_markup(monkeypatch):
    """A name such as [red] is shown, not obeyed; a cursor movement is not even shown."""
    monkeypatch.setenv("COLUMNS", "80")
    text = _plain(rendered(table({**ROW, "agent": "[red]x[/red]\x1b[2J:smile:"}), "table", Terminal()))
    assert "[red]x[/red]\N{REPLACEMENT CHARACTER}[2J:smile:" in text


def test_an_unknown_format_names_the_known():
    """The error says what would be right."""
    with pytest.raises(BadArguments, match="table, json, csv, markdown"):
        rendered(table(ROW), "xml")
    assert FORMATS == ("table", "json", "csv", "markdown")
