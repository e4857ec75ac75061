"""The tables of docs/exports.md, made of what the code says: `python tests/exports/exports_page.py` writes them."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

from langchain_finops.exports.focus_columns import COLUMNS, ONLY, OWN
from langchain_finops.exports.names import BAGGAGE, LABELS, METRICS, SPAN
from langchain_finops.exports.records import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


def records() -> Iterator[str]:
    """Every field of the record files, and in which of them it is."""
    yield "| field | type | in | meaning |"
    yield "|---|---|---|---|"
    known: dict[tuple[str, str, str], list[str]] = {}
    for kind, columns in FIELDS.items():
        for field in columns:
            known.setdefault((field.name, field.kind, field.meaning), []).append(kind)
    for (name, type_, meaning), kinds in known.items():
        yield f"| `{name}` | {type_} | {', '.join(kinds)} | {meaning} |"


def focus() -> Iterator[str]:
    """Every column of a FOCUS file."""
    yield "| column | version | what stands in it |"
    yield "|---|---|---|"
    for field in (*COLUMNS, *OWN):
        yield f"| `{field.name}` | {ONLY.get(field.name, 'both')} | {field.meaning} |"


def metrics() -> Iterator[str]:
    """Every metric."""
    yield "| OpenTelemetry | Prometheus | kind | unit | meaning |"
    yield "|---|---|---|---|---|"
    for metric in METRICS:
        names = (f"`{name}`" if name else "-" for name in (metric.otel, metric.prometheus))
        yield f"| {' | '.join(names)} | {metric.kind} | `{metric.unit}` | {metric.meaning} |"


def attributes() -> Iterator[str]:
    """What metrics are broken down by, what stands on spans, and what is read from baggage."""
    yield "| what | on metrics | on the span | from baggage |"
    yield "|---|---|---|---|"
    labels, span = ({field.name: getattr(table, field.name) for field in fields(table)} for table in (LABELS, SPAN))
    baggage = {name.removesuffix("_id"): key for name, key in BAGGAGE.items()}
    for what in dict.fromkeys((*labels, *span)):
        cells = (f"`{table[what]}`" if what in table else "-" for table in (labels, span, baggage))
        yield f"| {what.replace('_', ' ')} | {' | '.join(cells)} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "records": records,
    "focus": focus,
    "metrics": metrics,
    "attributes": attributes,
}


def with_tables(text: str) -> str:
    """The page with its tables as the code has them."""
    for name, table in TABLES.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert start, name
        assert end, name
        text = "".join((before, start, *(f"{line}\n" for line in table()), end, after))
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
