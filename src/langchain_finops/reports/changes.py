"""Why a cost changed between two periods: volume, steps, tokens, price and mix, which add up to the picodollar.

What calls cost is runs x calls a run x tokens a call x dollars a token. The change is divided among the four factors by
the Shapley value (Shorrocks, Decomposition procedures for distributional analysis, J. Econ. Inequality 11, 2013): what
a factor's change adds, averaged over all orders in which the four may change, so that no order is preferred and nothing
is left over. The part of the fourth is divided once more, into price and mix, as Bennet did (The theory of measurement
of changes in cost of living, J. Royal Stat. Soc. 83, 1920): price is what each meter of each model changed in price, at
the mean of its shares in both periods; mix is what the shares changed, at the mean of the prices. Arithmetic is exact
(fractions); only the parts are rounded, by largest remainder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import permutations
from math import floor, prod
from typing import Any, Final

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.grouping import Key, value_of
from langchain_finops.ledger.summary import UNATTRIBUTED, show_usd
from langchain_finops.ledger.totals import DIMENSIONS, Totals
from langchain_finops.money import from_pico, to_pico
from langchain_finops.records import CallRecord
from langchain_finops.reports.economics import check_dimension
from langchain_finops.reports.render import Column, Table
from langchain_finops.usage import METERS, TOKEN_METERS

__all__ = ["PARTS", "Changes", "Span", "changes", "split_change"]

PARTS: Final = ("volume", "steps", "tokens", "price", "mix", "charges", "folded")
FACTORS: Final = 4
Span = tuple[datetime | None, datetime | None]
"""From, inclusive, and until, exclusive."""
Row = dict[str, Any]


@dataclass(slots=True)
class Spent:
    """What calls of one group and one period came to, those without a price left out."""

    calls: int = 0
    runs: set[str] = field(default_factory=set)
    tokens: dict[tuple[str | None, str | None, str], int] = field(default_factory=dict)
    """By provider, model and meter."""
    costs: dict[tuple[str | None, str | None, str], int] = field(default_factory=dict)
    """The same, in picodollars."""
    unpriced: int = 0

    def add(self, call: CallRecord) -> None:
        """Count a call."""
        if call.cost_usd is None:
            self.unpriced += 1
            return
        self.calls += 1
        self.runs.add(call.run_id)
        rest = to_pico(call.cost_usd)
        for meter in METERS if call.meter_usd else ():
            count, cost = getattr(call.usage, meter), to_pico(call.meter_usd.get(meter, Decimal(0)))  # type: ignore[union-attr]
            rest -= cost
            if count or cost:
                self._add(call, meter, count if meter in TOKEN_METERS else 0, cost)
        # Without a breakdown all is one meter; with one, what rounding left over.
        if not call.meter_usd:
            self._add(call, "all", call.usage.total_tokens, rest)
        elif rest:
            self._add(call, "all", 0, rest)

    def _add(self, call: CallRecord, meter: str, tokens: int, cost: int) -> None:
        key = (call.provider, call.model, meter)
        self.tokens[key] = self.tokens.get(key, 0) + tokens
        self.costs[key] = self.costs.get(key, 0) + cost

    @property
    def pico(self) -> int:
        """All of it."""
        return sum(self.costs.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A row for each group, those that changed most first, and their sums."""

    by: tuple[str, ...]
    rows: list[Row]
    total: Row

    @property
    def fields(self) -> tuple[str, ...]:
        """Names and order of the rows' fields."""
        return (*self.by, *FIELDS)

    def table(self, caption: str) -> Table:
        """Return it ready to render."""
        names = dict(zip(self.by, ["total", *[""] * len(self.by)], strict=False))
        return Table(
            rows=self.rows,
            fields=self.fields,
            columns=tuple(_columns(self)),
            total={**self.total, **names} if self.by and self.rows else None,
            caption=caption,
            notes=tuple(_notes(self.total)) if self.rows else (),
        )


FIELDS: Final = (
    *("before_usd", "after_usd", "change_usd", *(f"{part}_usd" for part in PARTS)),
    *("runs_before", "runs_after", "calls_before", "calls_after", "tokens_before", "tokens_after"),
    *("unpriced_before", "unpriced_after"),
)


def changes(ledger: Ledger, before: Span, after: Span, by: Sequence[str] = ("agent",)) -> Changes:
    """Return why the cost of `after` is not that of `before`, by these dimensions; the total is the sum of the rows.

    Raises BadArguments for names that are no dimension.
    """
    keys = tuple(dict.fromkeys(by))
    for name in keys:
        check_dimension(name)
    spent = [_spent(ledger, keys, span) for span in (before, after)]
    totals = [_totals(ledger, keys, span) for span in (before, after)]
    groups = {*spent[0], *spent[1], *totals[0], *totals[1]}
    rows: list[Row] = [
        dict[str, Any](zip(keys, key, strict=True))
        | _row([each.get(key, Spent()) for each in spent], [each.get(key, Totals()) for each in totals])
        for key in groups
    ]
    rows.sort(key=lambda row: (-abs(row["change_usd"]), *((row[name] is None, row[name] or "") for name in keys)))
    total: Row = dict.fromkeys(keys)
    for name in FIELDS:
        whole = sum((Fraction(row[name]) for row in rows), Fraction(0))
        total[name] = from_pico(int(whole * 10**12)) if name.endswith("_usd") else int(whole)
    return Changes(by=keys, rows=rows, total=total)


def _spent(ledger: Ledger, keys: tuple[str, ...], span: Span) -> dict[Key, Spent]:
    found: dict[Key, Spent] = {}
    for call in ledger.calls(since=span[0], until=span[1]):
        key = tuple(value_of(call, DIMENSIONS[name]) for name in keys)
        found.setdefault(key, Spent()).add(call)
    return found


def _totals(ledger: Ledger, keys: tuple[str, ...], span: Span) -> dict[Key, Totals]:
    return {group.key: group.totals for group in ledger.totals(keys, since=span[0], until=span[1])}


def _row(spent: Sequence[Spent], totals: Sequence[Totals]) -> Row:
    before, after = spent
    parts = split_change(before, after)
    sums = [each.cost_pico + each.charge_pico for each in totals]
    charges = totals[1].charge_pico - totals[0].charge_pico
    # Calls that were folded, and calls that came while this was read, are in the sums alone.
    folded = sums[1] - sums[0] - charges - sum(parts.values())
    amounts = {**parts, "charges": charges, "folded": folded}
    return {
        "before_usd": from_pico(sums[0]),
        "after_usd": from_pico(sums[1]),
        "change_usd": from_pico(sums[1] - sums[0]),
        **{f"{part}_usd": from_pico(amounts[part]) for part in PARTS},
        **_counts("before", before),
        **_counts("after", after),
    }


def _counts(when: str, spent: Spent) -> Row:
    return {
        f"runs_{when}": len(spent.runs),
        f"calls_{when}": spent.calls,
        f"tokens_{when}": sum(spent.tokens.values()),
        f"unpriced_{when}": spent.unpriced,
    }


def split_change(before: Spent, after: Spent) -> dict[str, int]:
    """Return the change of the calls' cost as parts in picodollars, which add up to it exactly."""
    change = after.pico - before.pico
    if not before.calls or not after.calls:  # There is nothing to compare a step or a price with.
        return {"volume": change, "steps": 0, "tokens": 0, "price": 0, "mix": 0}
    old, new = _factors(before, after), _factors(after, before)
    volume, steps, tokens, rate = _shapley(old, new)
    price = _price(before, after)
    moved = new[3] - old[3]
    price_part = rate * price / moved if moved else _at_mean(old, new) * price
    parts = {"volume": volume, "steps": steps, "tokens": tokens, "price": price_part}
    parts["mix"] = rate - price_part
    return _rounded(parts, change)


def _factors(spent: Spent, other: Spent) -> list[Fraction]:
    """Runs, calls a run, tokens a call, and picodollars a token; a call, where a period has no tokens at all."""
    tokens = sum(spent.tokens.values())
    if not tokens or not sum(other.tokens.values()):
        tokens = spent.calls
    return [
        Fraction(len(spent.runs)),
        Fraction(spent.calls, len(spent.runs)),
        Fraction(tokens, spent.calls),
        Fraction(spent.pico, tokens),
    ]


def _shapley(old: Sequence[Fraction], new: Sequence[Fraction]) -> list[Fraction]:
    """Each factor's part of the change of the product, averaged over the orders in which they may change."""
    parts = [Fraction(0)] * FACTORS
    orders = list(permutations(range(FACTORS)))
    for order in orders:
        now = list(old)
        for factor in order:
            value = prod(now)
            now[factor] = new[factor]
            parts[factor] += prod(now) - value
    return [part / len(orders) for part in parts]


def _at_mean(old: Sequence[Fraction], new: Sequence[Fraction]) -> Fraction:
    """What a change of the last factor by 1 comes to: where it did not move, price and mix only cancel out."""
    moved = [*new[:-1], old[-1] + 1]
    return _shapley(old, moved)[-1]


def _price(before: Spent, after: Spent) -> Fraction:
    """What prices changed the picodollars a token by (Bennet); the rest is mix, as is what one period alone has."""
    sums = [sum(spent.tokens.values()) for spent in (before, after)]
    by_call = not all(sums)
    if by_call:
        sums = [before.calls, after.calls]
    price = Fraction(0)
    for key in {*before.costs, *after.costs}:
        shares, prices = [], []
        for spent, whole in zip((before, after), sums, strict=True):
            count = 0 if by_call else spent.tokens.get(key, 0)
            shares.append(Fraction(count, whole))
            prices.append(Fraction(spent.costs.get(key, 0), count) if count else None)
        if prices[0] is not None and prices[1] is not None:
            price += (shares[0] + shares[1]) / 2 * (prices[1] - prices[0])
    return price


def _rounded(parts: Mapping[str, Fraction], change: int) -> dict[str, int]:
    """Whole picodollars that add up: each part rounded down, what is left to those that lost most."""
    whole = {name: floor(part) for name, part in parts.items()}
    left = change - sum(whole.values())
    for name in sorted(parts, key=lambda name: whole[name] - parts[name])[:left]:
        whole[name] += 1
    return whole


# --- for people ----------------------------------------------------------------------------------------------------


def _columns(found: Changes) -> Iterator[Column]:
    for name in found.by:
        yield Column(title=name, text=partial(_name, name=name), name=True)
    yield Column(title="before", text=partial(_amount, when="before"), rank=1)
    yield Column(title="after", text=partial(_amount, when="after"), rank=1)
    yield Column(title="change", text=lambda row: _signed(row["change_usd"]))
    for part in PARTS:
        if part not in {"charges", "folded"} or found.total[f"{part}_usd"]:
            yield Column(title=part, text=partial(_part, part=part))


def _name(row: Mapping[str, Any], name: str) -> str:
    return UNATTRIBUTED if row[name] is None else str(row[name])


def _amount(row: Mapping[str, Any], when: str) -> str:
    amount = row[f"{when}_usd"]
    return f">= {show_usd(amount, bound=True)}" if row[f"unpriced_{when}"] else show_usd(amount)


def _part(row: Mapping[str, Any], part: str) -> str:
    return _signed(row[f"{part}_usd"])


def _signed(amount: Decimal) -> str:
    return f"+{show_usd(amount)}" if amount > 0 else show_usd(amount)


def _notes(total: Row) -> Iterator[str]:
    yield (
        "volume: runs. steps: calls a run. tokens: tokens a call. price: of the same meters of the same models. mix: "
        "other models, or more of what is dearer, such as output. The parts add up to the change."
    )
    if total["charges_usd"]:
        yield "charges: tools, people, machines."
    if total["folded_usd"]:
        yield "folded: calls that `finops prune` folded into daily sums: what they changed by cannot be told."
    unpriced = total["unpriced_before"] + total["unpriced_after"]
    if unpriced:
        yield f"left out: {total['unpriced_before']:,} calls before, {total['unpriced_after']:,} after have no price."
