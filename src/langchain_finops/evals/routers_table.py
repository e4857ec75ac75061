"""The router report for people: columns, and under them the verdicts in words and what the figures are of."""

from collections.abc import Iterator, Sequence

from langchain_finops.evals import shown
from langchain_finops.evals.routers import BEATS, COMPARISON, DOES_NOT_BEAT, OF_PRICE, RouterReport
from langchain_finops.evals.table import success_unit
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["FIELDS", "routers_table"]

FIELDS = (
    *("policy", "kind", "best_single", "highest_rate", "tasks", "tasks_left_out", "attempts", "unjudged"),
    *OF_PRICE,
    *("level", "failure_usd", "measure"),
    *("regret_usd", "regret_least_usd", "regret_most_usd", "regret_share", "gap_closed"),
    *COMPARISON,
)
"""Names and order of every row's fields, the same for any data."""


def routers_table(report: RouterReport) -> Table:
    """One row a policy: routers, singles, Random, Oracle; the verdict on each router below, in words."""
    return Table(rows=report.rows, fields=FIELDS, columns=_columns(report), notes=tuple(_notes(report)))


# --- columns -----------------------------------------------------------------------------------------------------


def _columns(report: RouterReport) -> tuple[Column, ...]:
    """Costs of a success and regrets are told for so many successes that they can be read."""
    expected = report.failure_usd is not None
    unit, times = success_unit([row["cost_per_success_usd"] for row in report.rows])
    columns = [
        Column(title="policy", text=lambda row: row["policy"], name=True),
        Column(title="is", text=_kind, name=True, rank=1),
        Column(title="success rate", text=_rate),
        Column(title="total cost", text=_total, rank=5),
        Column(
            title=f"cost per {unit}",
            text=lambda row: _figure(row, "cost_per_success", times),
            rank=4 if expected else 0,
        ),
        Column(title="regret", text=lambda row: _regret(row, 1 if expected else times)),
        Column(title="gap closed", text=lambda row: shown.share(row["gap_closed"]), rank=6),
        Column(title="vs BestSingle", text=_against, rank=3),
        Column(title="beats it", text=_beats, rank=2),
    ]
    if expected:
        columns.insert(5, Column(title="expected cost", text=lambda row: _figure(row, "expected_cost", 1)))
    return tuple(columns)


def _kind(row: Row) -> str:
    if row["kind"] != "single":
        return "router" if row["kind"] == "router" else ""
    best = ("BestSingle" if row["best_single"] else "", "top rate" if row["highest_rate"] else "")
    return ", ".join(filter(None, best)) or "single"


def _beats(row: Row) -> str:
    return {BEATS: "yes", DOES_NOT_BEAT: "no"}.get(row["verdict"], row["verdict"] or "")


def _rate(row: Row) -> str:
    if row["success_rate"] is None:
        return "-"
    best = row["unscored_won_success_rate"]
    most = "" if best is None else f"-{best:.0%}"
    low, high = row["success_rate_low"], row["success_rate_high"]
    interval = "" if low is None else f" ({low * 100:.0f}-{high * 100:.0f})"
    return f"{row['success_rate']:.0%}{most}{interval}"


def _total(row: Row) -> str:
    total = row["total_cost_usd"]
    return shown.bound(">=", total) if row["unknown_costs"] and total is not None else shown.usd(total)


def _figure(row: Row, name: str, times: int) -> str:
    value = row[f"{name}_usd"]
    if value is None:
        return "unknown" if row["unknown_costs"] else "no success" if row["tasks"] else "-"
    bound = row["cost_per_success_bound"] if name == "cost_per_success" else ">=" if row["unknown_costs"] else "="
    if bound != "=":
        return shown.bound(bound, value * times)
    best = row[f"unscored_won_{name}_usd"]
    text = shown.usd(value * times) if best is None else f"{shown.usd(best * times)}-{shown.figure(value * times)}"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None:
        return text
    upper = f"-{shown.figure(high * times)}" if high is not None else ""
    return f"{text} ({'' if upper else 'from '}{shown.figure(low * times)}{upper})"


def _regret(row: Row, times: int) -> str:
    least, most = (None if row[name] is None else row[name] * times for name in ("regret_least_usd", "regret_most_usd"))
    if row["regret_usd"] is not None:
        share = "" if row["regret_share"] is None else f" ({row['regret_share']:+.0%})"
        return f"{shown.usd(row['regret_usd'] * times)}{share if row['regret_usd'] else ''}"
    if least is None:
        return "-" if most is None else shown.bound("<=", most)
    return shown.bound(">=", least) if most is None else f"{shown.usd(least)} to {shown.usd(most)}"


def _against(row: Row) -> str:
    ratio, low, high = (row[f"vs_best_single_{name}"] for name in ("ratio", "low", "high"))
    return "" if row["against"] is None else shown.ratio(ratio, low, high)


# --- in words ----------------------------------------------------------------------------------------------------


def _notes(report: RouterReport) -> Iterator[str]:
    yield from _verdicts(report)
    yield from _counted(report)
    yield from _singles(report)
    yield from _bounds(report)
    yield from _how(report)


def _measure(report: RouterReport) -> str:
    return "cost per success" if report.failure_usd is None else "expected cost"


def _verdicts(report: RouterReport) -> Iterator[str]:
    routers = [row for row in report.rows if row["kind"] == "router"]
    if not routers:
        yield "No configuration is a router: name them by --routers, or write `router: true` in the suite."
    for row in routers:
        yield _verdict(row, report)


def _verdict(row: Row, report: RouterReport) -> str:
    name, best = row["policy"], f"BestSingle ({report.best})" if report.best else "BestSingle"
    if row["verdict"] == "INCONCLUSIVE":
        return f"INCONCLUSIVE: it is not shown that {name} beats {best}, because of: {row['verdict_why']}."
    verb = "beats" if row["verdict"] == BEATS else "does not beat"
    ratio = "" if row["vs_best_single_ratio"] is None else f", at {_against(row)} times its {_measure(report)}"
    gap = shown.points(
        row["success_rate_difference"], row["success_rate_difference_low"], row["success_rate_difference_high"]
    )
    rates = "" if gap == "-" else f", its success rate {gap} points from BestSingle's"
    others = [each for each in row["dearer_than"] if each != report.best]
    also = f" It is dearer than {shown.named(others)} too." if others else ""
    return f"{name} {verb} {best}{ratio}{rates}.{also}"


def _counted(report: RouterReport) -> Iterator[str]:
    shown_names = [row["policy"] for row in report.rows if row["kind"] in ("router", "single")]
    text = (
        f"All figures are of the {len(report.tasks):,} tasks that are complete in all {len(shown_names)} configurations"
    )
    left = report.planned - len(report.tasks)
    if left:
        lacking = ", ".join(f"{name} {count:,}" for name, count in report.lacking.items())
        text += f"; {left:,} are left out, not complete in: {lacking}"
    yield f"{text}."
    if report.left_out:
        yield f"Neither router nor single, left out: {', '.join(report.left_out)}."
    yield from (f"Not finished: {why}." for why in report.plan.stopped)


def _singles(report: RouterReport) -> Iterator[str]:
    singles = [row for row in report.rows if row["kind"] == "single"]
    if report.best is not None:
        text = f"BestSingle is {report.best}: the lowest {_measure(report)} of {len(singles)} singles"
        if report.contenders:
            text += f", as far as is known: {', '.join(report.contenders)} may have a lower one"
        yield f"{text}. It was picked by that figure on these tasks, which flatters it."
    top = next((row for row in singles if row["highest_rate"]), None)
    if top is None or top["best_single"]:
        return
    yield f"{top['policy']} has the highest success rate of the singles, which LLMRouterBench calls the best single."
    if report.failure_usd is None and report.best is not None:
        yield (
            f"Cost per success asks nothing for a failure but its attempt, and prefers {report.best}: "
            "--failure-usd says what mending one costs."
        )


def _bounds(report: RouterReport) -> Iterator[str]:
    if not report.tasks:
        return
    yield "Random: each task goes to one of the singles by equal chance; expected figures, nothing was drawn."
    sent = ", ".join(f"{count:,} to {name}" for name, count in report.oracle_tasks.items())
    yield (
        f"Oracle: each task goes to the single that makes the whole {_measure(report)} least ({sent}). It knows the "
        "attempts that are counted, as no router does, and so flatters."
    )
    if any(row["kind"] == "oracle_held_out" for row in report.rows):
        yield (
            "Oracle, held out: chosen for each repeat on the others. So few attempts choose badly: the best choice by "
            "task is to be looked for between the two."
        )
    yield "Oracle, most solved: each task goes to the single that solves it most often, the cheapest of equals."
    yield (
        f"Regret: {_measure(report)} beyond the Oracle's. Gap closed: 0% costs what BestSingle does, 100% what the "
        "Oracle does. A router that asks several models, or asks otherwise, may pass the Oracle."
    )


def _how(report: RouterReport) -> Iterator[str]:
    options = report.options
    routers: Sequence[Row] = [row for row in report.rows if row["kind"] == "router"]
    yield (
        f"Paired by task, {options.level * 100:g}% intervals; a verdict needs {options.min_tasks} tasks and "
        f"{options.min_successes} successes a side."
    )
    if routers:
        yield (
            "Whichever single is the best: a router beats it that is cheaper than each of them, and does not that is "
            "dearer than one, adjusted for the number of pairs."
        )
    used = options.cards or report.plan.priced_by
    by = f" by card set {used}" if used else ""
    yield f"Costs are list costs{by} of all attempts, a router's own calls included; judges and harness are apart."
    if report.failure_usd is not None:
        yield f"Expected cost: of an attempt, and ${report.failure_usd:f} for each failure."
    unknown = [f"{row['policy']} {row['unknown_costs']:,}" for row in report.rows if row["unknown_costs"]]
    if unknown:
        yield f">=: attempts of unknown cost, no upper bound: {', '.join(unknown)}."
    imputed = [f"{row['policy']} {row['imputed_costs']:,}" for row in report.rows if row["imputed_costs"]]
    if imputed:
        yield f"Unknown costs filled with the dearest attempt: {', '.join(imputed)}."
    if any(row["unjudged"] for row in report.rows):
        unjudged = ", ".join(f"{row['policy']} {row['unjudged']:,}" for row in report.rows if row["unjudged"])
        yield f"Attempts without a verdict, from none of them as successes to all: {unjudged}."
