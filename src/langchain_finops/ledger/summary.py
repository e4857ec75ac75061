"""Sums as rows: what a handler saw or a ledger holds, with own and subtree cost for node paths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width

from langchain_finops.errors import MissingExtra
from langchain_finops.ledger.totals import Group, Totals
from langchain_finops.money import EXACT, from_pico

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNATTRIBUTED", "Summary", "cell_width", "fit", "known_usd", "merged", "printable", "show_usd"]

UNATTRIBUTED = "unattributed"
"""How a table calls what no record names: calls outside a graph, without an agent, a user or a task."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows of sums, one for each key, dearest first, days in order; with `node` one for each prefix as well."""

    by: tuple[str, ...]
    groups: list[Group]

    def rows(self) -> list[dict[str, object]]:
        """Return flat rows with stable field names. Amounts are exact Decimals, None where nothing is priced."""
        return list(self.each_row())

    def each_row(self) -> Iterator[dict[str, object]]:
        """Yield what `rows` returns, one by one: a report by task may have a million of them."""
        return (row for _, row in self.each())

    def each(self) -> Iterator[tuple[Group, dict[str, object]]]:
        """Yield each row with the group that it is of; a node's prefix without calls has a group of zeros."""
        if "node" in self.by:
            yield from _tree_rows(self.by, self.groups)
            return
        groups = self.groups
        if "day" in self.by:
            groups = sorted(groups, key=lambda group: _day(self.by, group.key))
        for group in groups:
            yield group, _flat(self.by, group)

    def fields(self) -> tuple[str, ...]:
        """Return the names of the rows' fields in order, which an empty summary has as well."""
        nothing = Group(key=(None,) * len(self.by), totals=Totals())
        return tuple(_flat(self.by, nothing, subtree=Totals() if "node" in self.by else None))

    def to_pandas(self) -> "pd.DataFrame":
        """Return `rows()` as a frame; amounts stay Decimals, so that sums of them stay exact."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("Summary.to_pandas()", "eval") from error
        return pd.DataFrame(self.rows(), columns=list(self.fields()))

    def total(self) -> Totals:
        """Return the sums over all groups."""
        return merged(group.totals for group in self.groups)

    def __str__(self) -> str:
        return _plain_table(self)


def known_usd(amount: Decimal, *, known: int, unknown: int) -> Decimal | None:
    """Return the amount, or None where all that it sums is unpriced: that is not the same as free."""
    return None if unknown and not known else amount


def merged(totals: Iterator[Totals]) -> Totals:
    """Return the sum of many sums."""
    result = Totals()
    for each in totals:
        result.merge(each)
    return result


def show_usd(amount: Decimal, *, bound: bool = False) -> str:
    """Return dollars for a reader: cents from $10 up, four decimals below, two digits of what is tiny.

    What is not zero is never shown as zero. A `bound` is rounded down, so that "at least" stays true.
    """
    size = abs(amount)
    decimals = 2 if size >= 10 else 4
    if 0 < size < Decimal("0.001"):
        decimals = 1 - size.adjusted()
    step = Decimal(1).scaleb(-decimals)
    rounded = amount.quantize(step, ROUND_FLOOR if bound else ROUND_HALF_EVEN, EXACT) if amount else Decimal(0)
    return f"-${-rounded:,f}" if rounded < 0 else f"${rounded:,f}"


def printable(text: str) -> str:
    """Return the text without control characters: a name must not move the reader's cursor or break a row."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if category(char) in _UNPRINTABLE else char for char in text)


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _flat(by: Sequence[str], group: Group, *, subtree: Totals | None = None) -> dict[str, object]:
    """One row: keys, counts, meters, amounts, tasks."""
    totals = group.totals
    priced, charged = totals.calls - totals.unpriced, totals.charges - totals.charges_unpriced
    row: dict[str, object] = dict(zip(by, group.key, strict=True))
    row |= {"calls": totals.calls, "errors": totals.errors, "estimated": totals.estimated, "unpriced": totals.unpriced}
    row |= totals.meters
    row |= {"total_input_tokens": totals.input_tokens, "total_output_tokens": totals.output_tokens}
    for name, amount in (
        ("model_usd", totals.model_usd),
        ("contracted_usd", totals.contracted_usd),
        ("billed_usd", totals.billed_usd),
    ):
        row[name] = known_usd(amount, known=priced, unknown=totals.unpriced)
    row |= {"charges": totals.charges, "charges_unpriced": totals.charges_unpriced}
    row["charge_usd"] = known_usd(totals.charge_usd, known=charged, unknown=totals.charges_unpriced)
    row["cost_usd"] = _cost_usd(totals)
    if subtree is not None:
        row |= {"subtree_calls": subtree.calls, "subtree_unpriced": subtree.unpriced}
        row["subtree_charges_unpriced"] = subtree.charges_unpriced
        row["subtree_cost_usd"] = _cost_usd(subtree)
    row |= {"runs": group.runs, "tasks": group.tasks, "judged": group.judged, "successes": group.successes}
    row["value_usd"] = from_pico(group.value_pico)
    return row


def _cost_usd(totals: Totals) -> Decimal | None:
    unknown = totals.unpriced + totals.charges_unpriced
    return known_usd(totals.cost_usd, known=totals.calls + totals.charges - unknown, unknown=unknown)


Key = tuple[str | None, ...]


def _day(by: tuple[str, ...], key: Key) -> str:
    """The key's day, for sorting; nothing where sums are not by day."""
    return (key[by.index("day")] or "") if "day" in by else ""


def _prefixes(key: Key, place: int) -> list[Key]:
    """The key of each node path on the way from the root to this one, itself included."""
    path = key[place]
    if path is None:
        return [key]
    parts = path.split("/")
    return [(*key[:place], "/".join(parts[: end + 1]), *key[place + 1 :]) for end in range(len(parts))]


def _tree_rows(by: tuple[str, ...], groups: list[Group]) -> Iterator[tuple[Group, dict[str, object]]]:
    """Parents before children, dearest subtree first. A prefix without own calls has a row, its own cost is 0."""
    place = by.index("node")
    own = {group.key: group for group in groups}
    subtrees: dict[Key, Totals] = {}
    elsewhere: dict[Key, int] = {}
    for group in groups:
        rest = (*group.key[:place], *group.key[place + 1 :])
        elsewhere[rest] = elsewhere.get(rest, 0) + _pico(group.totals)
        for prefix in _prefixes(group.key, place):
            subtrees.setdefault(prefix, Totals()).merge(group.totals)

    def order(key: Key) -> tuple[object, ...]:
        rest = (*key[:place], *key[place + 1 :])
        branch = [(-_pico(subtrees[prefix]), prefix[place] or "") for prefix in _prefixes(key, place)]
        return _day(by, key), -elsewhere[rest], [part or "" for part in rest], branch

    for key in sorted(subtrees, key=order):
        group = own.get(key) or Group(key=key, totals=Totals())
        yield group, _flat(by, group, subtree=subtrees[key])


def _pico(totals: Totals) -> int:
    return totals.cost_pico + totals.charge_pico


# --- the plain table ---------------------------------------------------------------------------------------------

WIDTH = 80


def _plain_table(summary: Summary) -> str:
    """At most 80 columns, for a log or a prompt; `finops report` shows more."""
    if not summary.groups:
        return "No calls yet."
    tree = "node" in summary.by
    head = [*summary.by, "calls", "input", "cached", "output", "cost", *(["subtree"] if tree else [])]
    body = [_plain_row(summary.by, row) for row in summary.rows()]
    total = summary.total()
    nothing: Key = (None,) * len(summary.by)
    total_row = _plain_row(summary.by, _flat(summary.by, Group(key=nothing, totals=total)))
    if summary.by:
        total_row[: len(summary.by)] = ["total", *[""] * (len(summary.by) - 1)]
        body.append(total_row + [""] * tree)
    keys = len(summary.by)
    lines = _aligned([head, *body], keys)
    return "\n".join([*lines, *_notes(total)])


def _plain_row(by: tuple[str, ...], row: dict[str, object]) -> list[str]:
    cells = [UNATTRIBUTED if row[name] is None else printable(str(row[name])) for name in by]
    cells += [f"{row[name]:,}" for name in ("calls", "total_input_tokens", "cache_read_tokens", "total_output_tokens")]
    cells.append(_plain_usd(row["cost_usd"], bool(row["unpriced"])))
    if "subtree_cost_usd" in row:
        cells.append(_plain_usd(row["subtree_cost_usd"], bool(row["subtree_unpriced"])))
    return cells


def _plain_usd(amount: object, lower_bound: bool) -> str:
    if not isinstance(amount, Decimal):
        return "unpriced"
    return f">= {show_usd(amount, bound=True)}" if lower_bound else show_usd(amount)


def _notes(total: Totals) -> Iterator[str]:
    if total.unpriced:
        yield f">=: at least; {total.unpriced:,} of {total.calls:,} calls are unpriced."
    if total.charges_unpriced:
        yield f"left out: {total.charges_unpriced:,} of {total.charges:,} charges, such as tools, without a price."
    if total.estimated:
        yield f"estimated: {total.estimated:,} of {total.calls:,} calls."


def _aligned(table: list[list[str]], keys: int) -> list[str]:
    """Lines of equal columns: names to the left, cut where the line would be too long, figures to the right."""
    widths = [max(cell_width(row[column]) for row in table) for column in range(len(table[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and keys and max(widths[:keys]) > 8:
        widths[widths.index(max(widths[:keys]))] -= 1
    lines = []
    for row in table:
        names = [fit(cell, width) for cell, width in zip(row[:keys], widths[:keys], strict=True)]
        figures = [
            " " * (width - cell_width(cell)) + cell for cell, width in zip(row[keys:], widths[keys:], strict=True)
        ]
        lines.append("  ".join([*names, *figures]).rstrip())
    return lines


def cell_width(text: str) -> int:
    """Return the columns it takes on a terminal: letters of Chinese, Japanese and Korean take two."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def fit(text: str, width: int) -> str:
    """Return the name in exactly `width` columns, cut in its middle: a path's end and a model's beginning tell most."""
    room = width - 1
    head, tail = text[: room // 2], text[-(room - room // 2) :] if room > 0 else ""
    if cell_width(text) > width:
        text = head + _CUT + tail
    while cell_width(text) > width:  # Double-width letters: take from the longer side.
        head, tail = (head[:-1], tail) if len(head) >= len(tail) else (head, tail[1:])
        text = head + _CUT + tail
    return text + " " * (width - cell_width(text))


_CUT = "\N{HORIZONTAL ELLIPSIS}"
