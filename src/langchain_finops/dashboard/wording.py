"""How the page says names, amounts and times: as `finops top` and `finops report` say them."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from langchain_finops.dashboard.charts import share_of
from langchain_finops.ledger.summary import UNATTRIBUTED, printable, show_usd
from langchain_finops.reports.economics_table import money, percent
from langchain_finops.reports.live import Spent
from langchain_finops.reports.live_table import amount, span
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["environment"]


def name(text: str | None) -> str:
    """A name as people read it: without what would move letters about; jinja escapes it."""
    return UNATTRIBUTED if text is None else printable(text)


def when(moment: datetime | None) -> str:
    """A time, to the minute."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def dollars(usd: Decimal | None, *, bound: bool = False) -> str:
    """An amount; `>=` in front where it is at least that, `unpriced` where nothing is known."""
    if usd is None:
        return "unpriced"
    return f">= {show_usd(usd, bound=True)}" if bound else show_usd(usd)


def price(usd: Decimal | None) -> str:
    """A list price, without a digit lost or a zero added."""
    if usd is None:
        return "-"
    text = f"{usd:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents}0" if len(cents) == 1 else f"${text}"


def took(passed: timedelta) -> str:
    """How long something took: seconds with one decimal below a minute."""
    seconds = passed.total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else span(passed)


def count(number: int | None) -> str:
    """A whole number with commas."""
    return "-" if number is None else f"{number:,}"


def tokens(number: float) -> str:
    """Tokens, in millions from a million on."""
    if number >= 10**9:
        return f"{number / 10**9:,.2f}B"
    return f"{number / 10**6:.2f}M" if number >= 10**6 else f"{number:,.0f}"


def share(part: Spent, whole: Spent) -> str:
    """The part of what is known of a cost; `-` where nothing of it is."""
    return percent(Decimal(part.pico) / whole.pico) if whole.pico > 0 and part.usd is not None else "-"


def run_path(run_id: str) -> str:
    """The address of a run's page."""
    return f"/runs/{quote(run_id, safe='')}"


def exact(text: str | None) -> str:
    """A name that a form carries without a letter lost, line breaks too."""
    return quote(text or "", safe="")


def query(values: Mapping[str, Any], **changes: Any) -> str:
    """A query of these values with some changed; what is empty is left out."""
    kept = {key: value for key, value in {**values, **changes}.items() if value not in {None, ""}}
    return f"?{urlencode(kept)}" if kept else "?"


def cells(columns: Iterable[Column], row: Row) -> list[tuple[Column, str]]:
    """What a row shows in each column."""
    return [(column, printable(column.text(row))) for column in columns if not column.below]


def below(table: Table, row: Row) -> list[str]:
    """The sentences that stand under a row."""
    said = [printable(column.text(row)) for column in table.columns if column.below]
    return [sentence for sentence in said if sentence not in {"", "-"}]


def cell_texts(table: Table, row: Row) -> dict[str, str]:
    """What a row shows, by the column's title."""
    return {column.title: text for column, text in cells(table.columns, row)}


_FILTERS: Final = {
    "name": name,
    "when": when,
    "dollars": dollars,
    "price": price,
    "took": took,
    "span": span,
    "count": count,
    "tokens": tokens,
    "percent": percent,
    "amount": amount,
    "money": money,
    "run_path": run_path,
    "exact": exact,
}
_GLOBALS: Final = {
    "share": share,
    "query": query,
    "cells": cells,
    "cell_texts": cell_texts,
    "below": below,
    "share_of": share_of,
}


def environment() -> Environment:
    """The templates: everything they write is escaped, and a name they do not know is an error."""
    made = Environment(
        loader=PackageLoader("langchain_finops.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_FILTERS)
    made.globals.update(_GLOBALS)
    return made
