"""Cost by team and cost centre, from a dated file of shares, applied when reading: the ledger is left as it is.

Each cost goes by the first rule that it meets, and is divided by that rule's shares with the largest remainder at whole
picodollars; so the rows add up to the ledger's sum. What no rule meets is in a row of its own, `unallocated`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Final

from langchain_finops.errors import BadArguments, BadData, Fault
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import known_usd, show_usd
from langchain_finops.ledger.totals import DIMENSIONS
from langchain_finops.money import from_pico
from langchain_finops.pricing.fields import Fields, kind_of, read_yaml
from langchain_finops.reports.calendars import Calendar
from langchain_finops.reports.economics_table import percent
from langchain_finops.reports.render import Column, Table
from langchain_finops.reports.shares import divided

__all__ = ["Allocated", "Allocation", "Part", "Rule", "allocate", "read_allocation"]

NAMES: Final = tuple(name for name in DIMENSIONS if name not in {"day", "run", "task", "thread"})
"""What a rule can go by."""
UNALLOCATED: Final = "unallocated"
Target = tuple[str | None, str | None]
"""Team and cost centre."""
NOBODY: Final[Target] = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Who bears how much of it."""

    target: Target
    share: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A cost that meets `where`, from a day until another, goes to these."""

    where: Mapping[str, tuple[str | None, ...]]
    """By dimension, the values that it may have; None for costs that do not say."""
    starts: date | None
    until: date | None
    """The first day on which it does not hold any more."""
    parts: tuple[Part, ...]
    """Their shares come to 1, the remainder included."""
    by_cost: bool = False
    """Divided as the costs that other rules give to teams stand to each other, not by shares."""

    def holds(self, day: date) -> bool:
        """Whether it holds on that day."""
        return (self.starts is None or day >= self.starts) and (self.until is None or day < self.until)

    def meets(self, values: Mapping[str, str | None]) -> bool:
        """Whether a cost with these values is meant."""
        return all(values[name] in wanted for name, wanted in self.where.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What an allocation file says."""

    rules: tuple[Rule, ...]
    time_zone: str = "UTC"

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions that its rules go by."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.where))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated:
    """A row for each team and cost centre, dearest first; what no rule meets last."""

    rows: list[dict[str, Any]]
    total: dict[str, Any]

    def table(self, caption: str) -> Table:
        """Return it ready to render."""
        return Table(
            rows=self.rows,
            fields=FIELDS,
            columns=(
                Column(title="team", text=lambda row: _named(row, "team"), name=True),
                Column(title="cost centre", text=lambda row: row["cost_centre"] or "", name=True),
                Column(title="cost", text=_cost),
                Column(title="share", text=lambda row: percent(row["share"])),
            ),
            total={**self.total, "team": "total", "cost_centre": ""} if self.rows else None,
            caption=caption,
            notes=tuple(_notes(self.total)),
        )


FIELDS: Final = ("team", "cost_centre", "cost_usd", "unpriced", "share")


def read_allocation(path: Path) -> Allocation:
    """Return what an allocation file says. Raises BadData that names every fault in it, BadArguments without a file."""
    if not path.is_file():
        raise BadArguments(f"{path}: there is no such file; name the YAML file of your shares.")
    faults: list[Fault] = []
    fields = Fields(read_yaml(path, faults), str(path), faults, ("time_zone", "rules"))
    zone = fields.text("time_zone") or "UTC"
    try:
        Calendar(time_zone=zone)
    except BadArguments as error:
        fields.fault("time_zone", str(error))
    data = fields.get("rules")
    if not isinstance(data, list) or not data:
        fields.fault("rules", f"is {'empty' if data == [] else kind_of(data)}; it has to be a list of rules")
        data = []
    rules = [_rule(item, f"{fields.path('rules')}[{place}]", faults) for place, item in enumerate(data)]
    if faults:
        raise BadData(faults)
    return Allocation(rules=tuple(rules), time_zone=zone)


def _rule(data: object, where: str, faults: list[Fault]) -> Rule:
    fields = Fields(data, where, faults, ("where", "from", "until", "to", "remainder", "split"))
    starts, until = (_day(fields, name) for name in ("from", "until"))
    if starts is not None and until is not None and until <= starts:
        fields.fault("until", f"is {until}, which is not after {starts}: the rule would never hold")
    by_cost = fields.text("split") == "by_cost"
    if "split" in fields and not by_cost:
        fields.fault("split", f"is {fields.get('split')!r}; there is by_cost, or give shares under `to`")
    parts: list[Part] = []
    if not by_cost:
        parts = _parts(fields, faults)
    elif "to" in fields or "remainder" in fields:
        fields.fault("split", "has no shares: leave `to` and `remainder` out")
    return Rule(where=_where(fields, faults), starts=starts, until=until, parts=tuple(parts), by_cost=by_cost)


def _day(fields: Fields, name: str) -> date | None:
    text = fields.get(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        fields.fault(name, f"is {text!r}; it has to be a date such as 2026-01-31")
        return None


def _where(fields: Fields, faults: list[Fault]) -> dict[str, tuple[str | None, ...]]:
    inner = Fields(fields.get("where") or {}, fields.path("where"), faults, NAMES)
    found: dict[str, tuple[str | None, ...]] = {}
    for name in NAMES:
        if name in inner:
            # `agent: null` means costs that name no agent.
            found[name] = (None,) if inner.get(name) is None else inner.texts(name)
    return found


def _parts(fields: Fields, faults: list[Fault]) -> list[Part]:
    data = fields.get("to")
    if not isinstance(data, list) or not data:
        fields.fault("to", f"is {kind_of(data)}; it has to be a list of teams or cost centres with shares")
        return []
    parts = [_part(item, f"{fields.path('to')}[{place}]", faults) for place, item in enumerate(data)]
    whole = sum((part.share for part in parts), Fraction(0))
    if whole > 1:
        fields.fault("to", f"has shares that come to {_plain(whole)}: they come to 1 at most")
    elif whole < 1 and "remainder" not in fields:
        fields.fault("remainder", f"is missing: shares come to {_plain(whole)}; say who bears the rest")
    if "remainder" in fields:
        if whole == 1:
            fields.fault("remainder", "has nothing left: shares come to 1")
        target = _target(Fields(fields.get("remainder"), fields.path("remainder"), faults, ("team", "cost_centre")))
        parts.append(Part(target=target, share=max(1 - whole, Fraction(0))))
    named = [part.target for part in parts if part.target != NOBODY]
    if len(set(named)) < len(named):
        fields.fault("to", "names the same team and cost centre twice; add their shares up")
    return parts


def _part(data: object, where: str, faults: list[Fault]) -> Part:
    fields = Fields(data, where, faults, ("team", "cost_centre", "share"))
    share = fields.get("share")
    return Part(target=_target(fields), share=_share(fields, share))


def _target(fields: Fields) -> Target:
    if "team" not in fields and "cost_centre" not in fields:
        fields.fault("team", "is missing: name a team, a cost centre, or both")
    return fields.text("team"), fields.text("cost_centre")


def _share(fields: Fields, value: object) -> Fraction:
    """A decimal such as 0.25, exactly, or a fraction in quotes such as "1/3"."""
    try:
        # A float by its repr: 0.1 is a tenth, not the binary number next to it.
        share = Fraction(repr(value) if isinstance(value, float) else str(value))
        if isinstance(value, bool) or not 0 < share <= 1:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        fields.fault("share", f'is {value!r}; it is a number above 0 and at most 1, such as 0.25 or "1/3"')
        return Fraction(0)
    return share


def _plain(share: Fraction) -> str:
    return f"{float(share):g}"


def allocate(
    ledger: Ledger,
    allocation: Allocation,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Allocated:
    """Return the cost of a period by team and cost centre. The rows add up to what the ledger sums, exactly."""
    calendar = Calendar(time_zone=allocation.time_zone)
    costs: dict[Target, int] = {}
    unpriced: dict[Target, int] = {}
    known: dict[Target, int] = {}
    shared: list[tuple[int, int, int]] = []
    for day, begin, end in _stretches(allocation, calendar, since, until):
        rules = [rule for rule in allocation.rules if rule.holds(day)]
        for group in ledger.totals(allocation.names, since=begin, until=end):
            values = dict(zip(allocation.names, group.key, strict=True))
            rule = next((rule for rule in rules if rule.meets(values)), None)
            pico = group.totals.cost_pico + group.totals.charge_pico
            unknown = group.totals.unpriced + group.totals.charges_unpriced
            records = group.totals.calls + group.totals.charges - unknown
            if rule is not None and rule.by_cost:
                shared.append((pico, unknown, records))
                continue
            for target, part in _divided(pico, rule):
                costs[target] = costs.get(target, 0) + part
                unpriced[target] = unpriced.get(target, 0) + unknown
                known[target] = known.get(target, 0) + records
    _share_out(shared, costs, unpriced, known)
    return _told(costs, unpriced, known)


def _stretches(
    allocation: Allocation, calendar: Calendar, since: datetime | None, until: datetime | None
) -> Iterator[tuple[date, datetime | None, datetime | None]]:
    """The stretches of time in which the same rules hold, each with its first day."""
    days = sorted({day for rule in allocation.rules for day in (rule.starts, rule.until) if day is not None})
    edges: list[tuple[date, datetime | None]] = [
        (date.min, None),
        *((day, calendar.begin(day)) for day in days),
    ]
    for place, (day, begin) in enumerate(edges):
        end = edges[place + 1][1] if place + 1 < len(edges) else None
        first = begin if since is None else since if begin is None else max(begin, since)
        last = end if until is None else until if end is None else min(end, until)
        if first is None or last is None or first < last:
            yield day, first, last


def _divided(pico: int, rule: Rule | None) -> Iterator[tuple[Target, int]]:
    if rule is None:
        yield NOBODY, pico
        return
    whole = lcm(*(part.share.denominator for part in rule.parts))
    weights = [int(part.share * whole) for part in rule.parts]
    for part, amount in zip(rule.parts, divided(pico, weights), strict=True):
        yield part.target, amount


def _share_out(
    shared: Sequence[tuple[int, int, int]], costs: dict[Target, int], unpriced: dict[Target, int],
    known: dict[Target, int],
) -> None:  # fmt: skip
    """Divide what is split by cost among the teams that bear a cost of their own; nobody's where there are none."""
    if not shared:
        return
    targets = [target for target, cost in costs.items() if target != NOBODY and cost > 0]
    pico, unknown, records = (sum(each) for each in zip(*shared, strict=True))
    parts = divided(pico, [costs[target] for target in targets]) if targets else [pico]
    for target, part in zip(targets or [NOBODY], parts, strict=True):
        costs[target] = costs.get(target, 0) + part
        unpriced[target] = unpriced.get(target, 0) + unknown
        known[target] = known.get(target, 0) + records


def _told(costs: Mapping[Target, int], unpriced: Mapping[Target, int], known: Mapping[Target, int]) -> Allocated:
    whole = from_pico(sum(costs.values()))

    def row(target: Target, pico: int) -> dict[str, Any]:
        usd = known_usd(from_pico(pico), known=known[target], unknown=unpriced[target])
        share = None if usd is None or not whole else float(usd / whole)
        return {"team": target[0], "cost_centre": target[1], "cost_usd": usd, "unpriced": unpriced[target],
                "share": share}  # fmt: skip

    def order(entry: tuple[Target, int]) -> tuple[bool, int, str, str]:
        (team, centre), pico = entry
        return (team, centre) == NOBODY, -pico, team or "", centre or ""

    rows = [row(*entry) for entry in sorted(costs.items(), key=order)]
    total = {"team": None, "cost_centre": None, "cost_usd": whole, "unpriced": sum(unpriced.values()),
             "share": 1.0 if whole else None}  # fmt: skip
    return Allocated(rows=rows, total=total)


def _named(row: Mapping[str, Any], name: str) -> str:
    if row["team"] is None and row["cost_centre"] is None:
        return UNALLOCATED
    return row[name] or ""


def _cost(row: Mapping[str, Any]) -> str:
    if row["cost_usd"] is None:
        return "unpriced"
    return f">= {show_usd(row['cost_usd'], bound=True)}" if row["unpriced"] else show_usd(row["cost_usd"])


def _notes(total: Mapping[str, Any]) -> Iterator[str]:
    yield "Rows add up to the ledger's sum exactly. unallocated: what no rule of the file meets."
    if total["unpriced"]:
        yield ">=: at least; calls or charges that are shared out there have no price, which is not free."
