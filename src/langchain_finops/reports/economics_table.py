"""Unit economics as a table: the columns that say something, and how to read them."""

from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any

from langchain_finops.ledger.summary import UNATTRIBUTED, show_usd
from langchain_finops.reports.economics import Economics, Human
from langchain_finops.reports.render import Column, Table
from langchain_finops.reports.success_cost import SuccessCost

__all__ = ["economics_table", "money", "percent"]

Row = Mapping[str, Any]
CENT = Decimal("0.01")


def economics_table(found: Economics, caption: str | None = None) -> Table:
    """Return it ready to render. Where nothing was found it has no total and no notes."""
    names: dict[str, Any] = dict(zip(found.by, ["total", *[""] * len(found.by)], strict=False))
    return Table(
        rows=found.rows,
        fields=found.fields,
        columns=tuple(_columns(found)),
        total={**found.total, **names} if found.by and found.rows else None,
        caption=caption,
        notes=tuple(_notes(found)) if found.rows else (),
    )


def money(amount: Decimal) -> str:
    """Return dollars for a reader: whole cents as such, else as `show_usd` has them."""
    if abs(amount) >= CENT and amount == amount.quantize(CENT):
        return f"-${-amount:,.2f}" if amount < 0 else f"${amount:,.2f}"
    return show_usd(amount)


def percent(share: float | Decimal | None) -> str:
    """Return a share as per cent; what is more than nothing is never shown as none."""
    if share is None:
        return "-"
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _columns(found: Economics) -> Iterator[Column]:
    total = found.total
    for name in found.by:
        yield Column(title=name, text=_name(name), name=True)
    yield Column(title="judged", text=lambda row: f"{row['judged']:,}/{row['tasks']:,}", rank=3)
    yield Column(title="success", text=lambda row: percent(row["success_rate"]), rank=4)
    yield Column(title="cost/success", text=_cost_per_success)
    if found.human is not None:
        yield Column(title="gain/task", text=lambda row: _upper(row, "gain_per_task_usd", money), rank=1)
        yield Column(title="ROI", text=lambda row: _upper(row, "roi", _times), rank=1)
        yield Column(title="break-even", text=lambda row: _upper(row, "break_even_loops", _loops), rank=7)
    if found.value_usd is not None or total["value_usd"]:
        yield Column(title="value", text=_value, rank=6)
        yield Column(title="margin", text=lambda row: _upper(row, "margin", percent), rank=1)
    yield Column(title="failures", text=lambda row: percent(row["failure_share"]), rank=5)
    yield Column(title="accepted", text=_accepted, rank=8)
    yield Column(title="cost/accepted", text=_cost_per_accepted, rank=8)
    yield Column(title="first pass", text=lambda row: percent(row["first_pass_rate"]), rank=9)
    yield Column(title="calls p50/p95", text=_calls, rank=10)
    yield Column(title="tokens/success", text=_tokens, rank=11)
    yield Column(title="efficiency", text=lambda row: percent(row["token_efficiency"]), rank=12)
    if total["handoffs"]:
        yield Column(title="hand-offs", text=_handoffs, rank=9)
    if total["no_task_usd"] or total["no_task_unpriced"]:
        yield Column(title="no task", text=lambda row: _known(row["no_task_usd"], row["no_task_unpriced"]), rank=13)
    yield Column(title="cost", text=lambda row: _known(row["agent_usd"], row["agent_unpriced"]), rank=2)


def _name(name: str) -> Callable[[Row], str]:
    return lambda row: UNATTRIBUTED if row[name] is None else str(row[name])


def _known(amount: Decimal | None, unknown: int) -> str:
    if amount is None:
        return "unpriced"
    return f">= {show_usd(amount, bound=True)} ({unknown:,} unknown)" if unknown else money(amount)


def _cost_per_success(row: Row) -> str:
    usd = row["cost_per_success_usd"]
    if usd is not None and not row["unpriced"]:
        return money(usd)
    return str(
        SuccessCost(
            statement=row["cost_per_success_statement"],
            usd=usd,
            above_usd=row["cost_per_success_above_usd"],
            unknown=row["unpriced"],
        )
    )


def _cost_per_accepted(row: Row) -> str:
    if row["cost_per_accepted_usd"] is not None:
        return _known(row["cost_per_accepted_usd"], row["cost_per_accepted_unpriced"])
    bound = row["cost_per_accepted_above_usd"]
    return "-" if bound is None else f"> {show_usd(bound, bound=True)}"


def _upper(row: Row, name: str, show: Callable[[Decimal], str]) -> str:
    """A figure that is less if unknown cost is more than nothing."""
    value = row[name]
    if value is None:
        return "-"
    return f"<= {show(value)}" if row["agent_unpriced"] else show(value)


def _times(ratio: Decimal) -> str:
    text = f"{ratio.quantize(CENT, ROUND_HALF_EVEN):,.2f}"
    return text.removesuffix("0")


def _loops(count: Decimal) -> str:
    return f"{count.quantize(Decimal('0.1'), ROUND_CEILING if count < 1 else ROUND_HALF_EVEN):,.1f} loops"


def _value(row: Row) -> str:
    if row["value_usd"] is None:
        return "-"
    return f">= {money(row['value_usd'])}" if row["without_value"] else money(row["value_usd"])


def _accepted(row: Row) -> str:
    waiting = f" (+{row['not_yet_accepted']:,})" if row["not_yet_accepted"] else ""
    return f"{row['accepted']:,}{waiting}"


def _calls(row: Row) -> str:
    return "-" if row["calls_per_task_p50"] is None else f"{row['calls_per_task_p50']:,}/{row['calls_per_task_p95']:,}"


def _tokens(row: Row) -> str:
    if row["tokens_per_success"] is not None:
        return f"{row['tokens_per_success']:,.0f}"
    bound = row["tokens_per_success_above"]
    return "-" if bound is None else f"> {bound:,}"


def _handoffs(row: Row) -> str:
    return _known(row["handoff_usd"], row["handoffs_unpriced"]) if row["handoffs"] else "-"


# --- notes ---------------------------------------------------------------------------------------------------------


def _notes(found: Economics) -> Iterator[str]:
    total = found.total
    yield (
        "cost/success: all cost of tasks, failed and unjudged ones too, over the successes. A task belongs to when its "
        "first call began, with all that it costs later; judges and simulators are apart."
    )
    if not total["tasks"]:
        yield 'No call names a task: pass metadata={"task_id": ...} and log its outcome to see what a success costs.'
    elif total["judged"] < total["tasks"]:
        left = total["tasks"] - total["judged"]
        yield f"not judged: {left:,} of {total['tasks']:,} tasks; they count with their cost, and as no success."
    if found.human is not None:
        yield from _human_notes(found.human, total)
    if total["without_value"] and total["value_usd"]:
        yield f"{total['without_value']:,} successes have no worth: --value-usd gives them one."
    days = found.accept_after.total_seconds() / 86_400
    waiting = f"{total['not_yet_accepted']:,} not yet; " if total["not_yet_accepted"] else ""
    yield (
        f"accepted: successes that have stood for {days:g} days ({waiting}{total['reopened']:,} were reopened). "
        "cost/accepted leaves out tasks whose verdict is younger."
    )
    yield "failures: the part of the tasks' known cost that went into tasks that failed. calls: of a task."
    yield (
        "first pass: judged tasks that one run solved without a retry. efficiency: output tokens of the final answers "
        "of tasks that succeeded, of all that were generated."
    )
    yield from _unknown_notes(found)


def _human_notes(human: Human, total: Row) -> Iterator[str]:
    yield (
        f"A person takes {money(human.usd_per_task)} a task ({money(human.usd_per_hour)} an hour, "
        f"{human.tasks_per_hour:f} tasks). ROI: what successes save, less all cost, over all cost."
    )
    gain = total["gain_per_task_usd"]
    if gain is not None:
        at_most = "at most " if total["agent_unpriced"] else ""
        what = f"a loss of {money(-gain)} a task" if gain < 0 else f"a gain of {at_most}{money(gain)} a task"
        yield f"Against a person: {what}."
    if total["break_even_loops"] is not None:
        yield (
            f"break-even: at {_loops(total['break_even_loops'])} a task a person costs as much; a loop, one call of a "
            f"task, costs {money(total['cost_per_loop_usd'])}. Now it is {total['calls_per_task']:,.1f}."
        )


def _unknown_notes(found: Economics) -> Iterator[str]:
    total = found.total
    if total["agent_unpriced"]:
        yield (
            f">= and <=: {total['agent_unpriced']:,} calls are unpriced, which is not free: cost is at least, gain at "
            "most that. `finops report --by provider,model,status` shows which."
        )
    if total["charges_unpriced"]:
        yield f"left out: {total['charges_unpriced']:,} charges, such as tools, have no price."
    if total["folded_tasks"]:
        yield f"{total['folded_tasks']:,} tasks were folded by `finops prune`: their final answers are not known."
    if found.by and found.unallocated_usd:
        yield (
            f"unallocated: {money(found.unallocated_usd)}, {percent(found.unallocated_share)} of the cost, names no "
            f"{' or no '.join(found.by)}."
        )
    if total["no_task_usd"] and total["agent_usd"]:
        share = total["no_task_usd"] / total["agent_usd"]
        yield f"no task: {money(total['no_task_usd'])}, {percent(share)} of the cost, names no task; ROI counts it."
