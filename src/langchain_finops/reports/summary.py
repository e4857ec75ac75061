"""Who spent what, on which node, for which outcome: the rows of `finops report`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import UNATTRIBUTED, Summary, known_usd, merged, show_usd
from langchain_finops.ledger.totals import DIMENSIONS, Group, Totals
from langchain_finops.money import from_pico
from langchain_finops.reports.render import Column, Table
from langchain_finops.reports.success_cost import SuccessCost, success_cost

__all__ = ["Report", "report"]

# Any, because a row mixes names, counts and amounts: which field holds which is told by Summary and below.
ReportRow = dict[str, Any]
"""Fields of `Summary.rows()`, and `share`, `success_rate`, `cost_per_success_usd` with what qualifies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Iterable[ReportRow]):
    """Sums of calls and charges by key, with shares and what became of the tasks.

    Its rows are one for each key, and by node one for each prefix; they are made while one iterates. Own costs add up
    to the total's.
    """

    by: tuple[str, ...]
    fields: tuple[str, ...]
    summary: Summary
    total_usd: Decimal
    """All cost that is known."""
    total: ReportRow | None
    """The same fields over everything. Distinct runs and tasks are counted, not summed over the rows."""
    in_part: bool = False
    """Whether there is a period: what its tasks cost after it is then counted in the cost per success alone."""

    def __iter__(self) -> Iterator[ReportRow]:
        return (_enriched(row, group, self.total_usd) for group, row in self.summary.each())

    @property
    def rows(self) -> list[ReportRow]:
        """All rows at once."""
        return list(self)

    def table(self, caption: str | None = None) -> Table:
        """Return it ready to render: with the columns that say something, and how to read them."""
        if self.total is None:  # Programs get every field, and no total.
            return Table(rows=self, fields=self.fields, columns=())
        names: ReportRow = dict(zip(self.by, ["total", *[""] * len(self.by)], strict=False))
        groups = self.summary.groups
        return Table(
            rows=self,
            fields=self.fields,
            columns=tuple(_columns(self.by, self.total)),
            total={**self.total, **names} if self.by and groups else None,
            caption=caption,
            notes=tuple(_notes(self.by, groups, self.total, self.in_part)) if groups else (),
        )


def report(
    ledger: Ledger,
    by: Sequence[str] = ("agent",),
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    filters: Mapping[str, str] | None = None,
    total: bool = True,
) -> Report:
    """Return the sums by these dimensions, dearest first, days in order; no dimension gives one row of everything.

    `since` is inclusive, `until` is not. `filters` name dimensions and the value to keep. Without `total` it is ready
    in half the time, and for programs only. Raises BadArguments for names that are no dimension.
    """
    keys = tuple(dict.fromkeys(by))
    wanted = {DIMENSIONS[_dimension(name)]: value for name, value in (filters or {}).items()}
    groups = ledger.totals(tuple(map(_dimension, keys)), since=since, until=until, **wanted)
    groups = [group for group in groups if group.totals.calls or group.totals.charges]
    fields = _fields(keys)
    everything = None
    if total:
        counted = ledger.totals((), since=since, until=until, **wanted) if keys else groups
        everything = _total(keys, groups, counted)
        everything = {name: everything[name] for name in fields}
    total_usd = from_pico(sum(group.totals.cost_pico + group.totals.charge_pico for group in groups))
    return Report(
        by=keys,
        fields=fields,
        summary=Summary(keys, groups),
        total_usd=total_usd,
        total=everything,
        in_part=since is not None or until is not None,
    )


def _dimension(name: str) -> str:
    if name in DIMENSIONS:
        return name
    near = get_close_matches(name, DIMENSIONS, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise BadArguments(f"{name!r} is nothing to report by: {guess}Choose from {', '.join(DIMENSIONS)}")


def _total(by: tuple[str, ...], groups: Sequence[Group], counted: Sequence[Group]) -> ReportRow:
    """The total: sums over the groups, so that it agrees with them even while calls are being written; and the
    ledger's count of distinct runs and tasks, which no sum over groups gives."""
    counts = counted[0] if counted else Group(key=(), totals=Totals())
    everything = replace(counts, key=(), totals=merged(group.totals for group in groups))
    row: ReportRow = next(Summary((), [everything]).each_row())
    if "node" in by:
        row |= {f"subtree_{name}": row[name] for name in ("calls", "unpriced", "charges_unpriced", "cost_usd")}
    blank: ReportRow = dict.fromkeys(by)
    return _enriched(blank | row, everything, everything.totals.cost_usd)


ENRICHMENT = (
    *("judges_usd", "judges_unpriced", "share", "success_rate", "tasks_usd", "tasks_unpriced"),
    *("cost_per_success_usd", "cost_per_success_above_usd", "cost_per_success_statement"),
)
"""Fields that a report adds to a summary's."""


def _enriched(row: ReportRow, group: Group, total_usd: Decimal) -> ReportRow:
    """The row with what judges cost, its share, success rate and cost per success."""
    cost, totals, spent = row["cost_usd"], group.totals, group.task_cost
    success = success_cost(spent, tasks=group.tasks, judged=group.judged, successes=group.successes)
    known, unknown = totals.apart - totals.apart_unpriced, totals.apart_unpriced
    judges = known_usd(totals.apart_usd, known=known, unknown=unknown)
    share = None if cost is None or not total_usd else float(cost / total_usd)
    rate = row["successes"] / row["judged"] if row["judged"] else None
    tasks = spent.usd if spent.records else Decimal(0)
    values = (judges, unknown, share, rate, tasks, spent.unpriced, success.usd, success.above_usd, success.statement)
    row |= zip(ENRICHMENT, values, strict=True)
    return row


def _fields(by: tuple[str, ...]) -> tuple[str, ...]:
    """Field names and their order, which an empty report has as well."""
    return (*Summary(by, []).fields(), *ENRICHMENT)


# --- for people --------------------------------------------------------------------------------------------------

Show = Callable[[Mapping[str, Any]], str]


def _columns(by: Sequence[str], total: ReportRow) -> Iterator[Column]:
    """Columns in the order of reading; those that would say nothing in any row are left out."""
    for name in by:
        yield Column(title=name, text=_name(name), name=True)
    yield Column(title="calls", text=_count("calls"), rank=2)
    yield Column(title="input", text=_tokens("total_input_tokens"), rank=4)
    yield Column(title="cached", text=_tokens("cache_read_tokens"), rank=6)
    yield Column(title="output", text=_tokens("total_output_tokens"), rank=5)
    if total["reasoning_tokens"]:
        yield Column(title="reasoning", text=_tokens("reasoning_tokens"), rank=13)
    if total["charges"]:
        yield Column(title="model cost", text=_usd("model_usd", "unpriced"), rank=12)
        yield Column(title="charges", text=_usd("charge_usd", "charges_unpriced"), rank=12)
    yield Column(title="cost", text=_usd("cost_usd", "unpriced"))
    if "node" in by:
        yield Column(title="subtree", text=_usd("subtree_cost_usd", "subtree_unpriced"), rank=1)
    yield Column(title="share", text=_share, rank=8)
    yield from _qualifying_columns(total)
    yield Column(title="runs", text=_count("runs"), rank=10)
    if total["tasks"]:
        yield Column(title="judged", text=lambda row: f"{row['judged']:,}/{row['tasks']:,}", rank=9)
    if total["judged"]:
        yield Column(title="success", text=_success_rate, rank=7)
        yield Column(title="cost/success", text=_success_cost, rank=3)


def _qualifying_columns(total: ReportRow) -> Iterator[Column]:
    """What is paid where it is not the list cost, and what is not known for sure."""
    if total["judges_usd"] != 0:
        yield Column(title="judges", text=_usd("judges_usd", "judges_unpriced"), rank=11)
    if total["contracted_usd"] != total["model_usd"]:
        yield Column(title="contracted", text=_usd("contracted_usd", "unpriced"), rank=11)
    if total["billed_usd"] != total["model_usd"]:
        yield Column(title="billed", text=_usd("billed_usd", "unpriced"), rank=11)
    if total["unpriced"]:
        yield Column(title="unpriced", text=_count("unpriced"), rank=8)
    if total["estimated"]:
        yield Column(title="estimated", text=_count("estimated"), rank=9)
    if total["errors"]:
        yield Column(title="errors", text=_count("errors"), rank=10)


def _name(name: str) -> Show:
    return lambda row: UNATTRIBUTED if row[name] is None else str(row[name])


def _count(name: str) -> Show:
    return lambda row: f"{row[name]:,}"


def _tokens(name: str) -> Show:
    def show(row: Mapping[str, Any]) -> str:
        count = row[name]
        if count >= 10**9:
            return f"{count / 10**9:,.2f}B"
        return f"{count / 10**6:.2f}M" if count >= 10**6 else f"{count:,}"

    return show


def _usd(name: str, *unknown: str) -> Show:
    def show(row: Mapping[str, Any]) -> str:
        if row[name] is None:
            return "unpriced"
        lower_bound = any(row[count] for count in unknown)
        return f">= {show_usd(row[name], bound=True)}" if lower_bound else show_usd(row[name])

    return show


def _success_cost(row: Mapping[str, Any]) -> str:
    return str(
        SuccessCost(
            statement=row["cost_per_success_statement"],
            usd=row["cost_per_success_usd"],
            above_usd=row["cost_per_success_above_usd"],
            unknown=row["tasks_unpriced"],
        )
    )


def _share(row: Mapping[str, Any]) -> str:
    share = row["share"]
    if share is None:
        return "-"
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _success_rate(row: Mapping[str, Any]) -> str:
    return "-" if row["success_rate"] is None else f"{row['success_rate']:.1%}"


def _notes(by: Sequence[str], groups: Sequence[Group], total: ReportRow, in_part: bool) -> Iterator[str]:
    """How to read the figures: what they count, what is only a bound, what is missing and how to mend it."""
    charges = " and charges (tools, people, machines)" if total["charges"] else ""
    yield f"cost: list price of calls{charges}. input: cached tokens included."
    if "node" in by:
        yield "cost is a node's own and adds up to the total; subtree is the node and all below it."
    if total["billed_usd"] != total["model_usd"]:
        yield "billed: what is really paid; answers from a local cache or a recording are not."
    if total["judges_usd"] != 0:
        yield "judges: judges and simulators, which are part of the cost, not of cost/success."
    if total["unpriced"]:
        yield (
            f">=: at least; {total['unpriced']:,} of {total['calls']:,} calls are unpriced, which is not free. `finops "
            "report --by provider,model,status` shows which; a card in a file that $FINOPS_PRICES names prices those "
            "to come."
        )
    if total["charges_unpriced"]:
        yield (
            f"left out: {total['charges_unpriced']:,} of {total['charges']:,} charges, such as tools, have no price. A "
            "tool card in a file that $FINOPS_PRICES names prices those to come, free ones too."
        )
    if total["estimated"]:
        yield f"estimated: {total['estimated']:,} of {total['calls']:,} calls, which did not report tokens or price."
    yield from _outcome_notes(groups, total, in_part or "day" in by)


def _outcome_notes(groups: Sequence[Group], total: ReportRow, in_part: bool) -> Iterator[str]:
    if not total["tasks"]:
        yield 'No call names a task: pass metadata={"task_id": ...} and log its outcome to see the cost per success.'
        return
    if not total["judged"]:
        yield (
            f"not judged: all {total['tasks']:,} tasks. `finops outcome TASK --success` or handler.log_outcome(...) "
            "says what became of one; then the cost per success shows."
        )
        return
    yield f"cost/success: all cost of tasks, failed and unjudged ones too, over the successes.{_LATER * in_part}"
    yield from _left_out(total, in_part)
    if total["judged"] < total["tasks"]:
        left = total["tasks"] - total["judged"]
        yield f"not judged: {left:,} of {total['tasks']:,} tasks; rates leave them out, costs do not."
    without = [group for group in groups if group.judged and not group.successes]
    if any(group.judged == group.tasks and group.task_cost.pico > 0 for group in without):
        yield "> $X: no success yet; at 95% confidence one costs more than that."
    elif without:
        yield "- under cost/success: no success among the judged tasks yet."


_LATER = " A task belongs to when its first call began, with all that it costs later."


def _left_out(total: ReportRow, in_part: bool) -> Iterator[str]:
    """Which part of the cost a cost per success leaves out."""
    cost, judges, tasks = (total[name] or Decimal(0) for name in ("cost_usd", "judges_usd", "tasks_usd"))
    rest = cost - judges - tasks
    if in_part:
        yield "cost/success leaves out what names no task, and tasks that began at another time."
    elif rest:
        yield f"cost/success leaves out {show_usd(rest)} of calls and charges that name no task."
