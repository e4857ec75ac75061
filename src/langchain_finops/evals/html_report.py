"""The evaluation as one page for a browser and for paper: nothing is loaded, nothing runs, every name is text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from langchain_finops.errors import BadArguments
from langchain_finops.evals.arms import Arm, Plan, arms_of
from langchain_finops.evals.html_charts import Point, Scale, bar, scatter, strip
from langchain_finops.evals.html_style import STYLE
from langchain_finops.evals.html_words import dollars, escaped
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.resume import Results
from langchain_finops.evals.rows import TableOptions
from langchain_finops.ledger.summary import fit
from langchain_finops.money import sum_usd
from langchain_finops.reports import stats
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["Evaluation", "about_of", "check_html_path", "html_report", "write_html"]

FIRST_RANKS = 4
"""Columns that leave a narrow terminal sooner than these stand in a table of their own."""
NODES = 12
"""More nodes of a configuration are one line."""
DEAREST = 3
"""Tasks that are named, dearest first."""
TASK_WIDTH = 24
"""Longer names of tasks are cut in their middle: three of them would make a row of ten lines."""
OUTSIDE = "outside of nodes"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a report is of: a table, and what it was made from."""

    title: str
    about: Sequence[tuple[str, str]] = ()
    """Lines under the title: what, and which."""
    table: Table
    attempts: Iterable[AttemptResult]
    verdicts: Iterable[Verdict]
    plan: Plan
    options: TableOptions


def check_html_path(path: Path) -> None:
    """Raise BadArguments where a report cannot be written, before anything is bought for it."""
    if path.is_dir():
        raise BadArguments(f"--html {path} is a folder: name a file, such as {path / 'report.html'}")
    if not path.parent.is_dir():
        raise BadArguments(f"--html {path}: there is no folder {path.parent}: make it first")


def write_html(path: Path, report: str) -> None:
    """Put a report on disk, whole or not at all; an older one is replaced. Raises BadArguments where that fails."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(report, "utf-8", "backslashreplace")
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise BadArguments(f"--html {path} cannot be written: {error.strerror or error}") from error


def html_report(of: Evaluation) -> str:
    """Return the page. It holds the same figures as the table, and how they lie to each other."""
    rows = list(of.table.rows)
    arms, _ = arms_of(of.attempts, of.verdicts, of.plan, scorer=of.options.scorer, cards=of.options.cards)
    if of.options.impute == "max":
        arms = [arm.imputed() for arm in arms]
    sections = [
        *_tables(rows, of.table.columns),
        *_picture(rows, arms, of.options.level),
        *_tasks(arms),
        *_nodes(arms, of),
        "<h2>Checklist</h2>",
        f'<ul class="checks">{"".join(f"<li>{escaped(note)}</li>" for note in of.table.notes)}</ul>',
    ]
    about = "".join(f"<span>{escaped(what)} <b>{escaped(which)}</b></span>" for what, which in of.about)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escaped(of.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escaped(of.title)}</h1>\n<div class="about">{about}</div>\n'
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def about_of(results: Results) -> list[tuple[str, str]]:
    """What a report says under its title of a results folder: of what it is, and of when."""
    run = results.run
    mode = {"replay": "replayed from a recording", "record": "live, and recorded"}.get(run["mode"], run["mode"])
    finished = run.get("finished_at")
    return [
        ("Dataset", f"{run['dataset']['name']} {str(run['dataset']['hash'])[:12]}"),
        ("Run", str(run["run_id"])),
        ("Finished", str(finished)[:16].replace("T", " ") + " UTC" if finished else "not yet"),
        ("Answers", str(mode)),
    ]


# --- the table ---------------------------------------------------------------------------------------------------


def _tables(rows: Sequence[Row], columns: Sequence[Column]) -> Iterator[str]:
    yield "<h2>Which configuration is worth its money</h2>"
    if not rows:
        yield "<p>There are no attempts yet.</p>"
        return
    named = [column for column in columns if column.name]
    first = [column for column in columns if column.name or column.rank <= FIRST_RANKS]
    others = [column for column in columns if column not in first]
    yield _table(rows, first)
    if others:
        yield "<h2>Further figures</h2>"
        yield _table(rows, [*named, *others])


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    heads = "".join(f"<th{_kind(column)}>{escaped(column.title)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(_cell(column, row, number) for column in columns)}</tr>" for number, row in enumerate(rows, 1)
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(column: Column, row: Row, number: int) -> str:
    text = escaped(column.text(row))
    if column.name:
        return f'<td class="name"><span class="soft">{number}</span> {text}</td>'
    judged = {"WORSE": "worse", "BETTER": "better", "NON_INFERIOR": "better"}.get(str(row.get("verdict")))
    return f'<td class="{judged}">{text}</td>' if judged and column.title == "verdict" else f"<td>{text}</td>"


def _kind(column: Column) -> str:
    return ' class="name"' if column.name else ""


# --- cost against success ----------------------------------------------------------------------------------------


def _picture(rows: Sequence[Row], arms: Sequence[Arm], level: float) -> Iterator[str]:
    yield "<h2>Cost against success</h2>"
    points = [
        point
        for number, (row, arm) in enumerate(zip(rows, arms, strict=True), start=1)
        if (point := _point(number, row, arm, level)) is not None
    ]
    drawn = scatter(points)
    if drawn:
        told = (
            f"Crosses are {level * 100:g}% intervals. Dashed: the frontier; no mix of two others is as cheap and good."
        )
        key = "".join(f'<li value="{point.number}">{escaped(point.name)}</li>' for point in points)
        yield f'<figure>{drawn}<ol class="key">{key}</ol><figcaption>{told}</figcaption></figure>'
    else:
        yield "<p>No configuration has a cost above $0 that is known.</p>"
    shown = {point.number for point in points} if drawn else set()
    missing = [str(row["configuration"]) for number, row in enumerate(rows, start=1) if number not in shown]
    if drawn and missing:
        yield f"<p>Not in the picture, for their cost is not known: {escaped(', '.join(missing))}.</p>"


def _point(number: int, row: Row, arm: Arm, level: float) -> Point | None:
    """None where a part of the cost is unknown, or nothing was tried: it would stand where it is not."""
    cost, rate = row["cost_per_attempt_usd"], row["success_rate"]
    if cost is None or rate is None or row["unknown_costs"]:
        return None
    sums = arm.whole
    counts = [float(count) for count in sums.attempts]
    mean = stats.cost_per_success(sums.cost, counts, sums.attempts, level=level)
    return Point(
        number=number,
        name=str(row["configuration"]),
        cost=float(cost),
        cost_low=mean.interval.low if mean.interval else None,
        cost_high=mean.interval.high if mean.interval else None,
        rate=rate,
        rate_low=row["success_rate_low"],
        rate_high=row["success_rate_high"],
        is_on_frontier=bool(row["frontier"]),
    )


# --- by task and by node -----------------------------------------------------------------------------------------


def _tasks(arms: Sequence[Arm]) -> Iterator[str]:
    yield "<h2>Cost by task</h2>"
    costs = {arm.name: _by_task(arm) for arm in arms}
    scale = Scale.of([cost for by_task in costs.values() for cost in by_task.values()])
    if scale is None:
        yield "<p>No task has a cost above $0 that is known.</p>"
        return
    yield (
        "<p>What an attempt at each task costs, its repeats averaged: a tick is a task, the box holds the middle half, "
        "the line is the median. The scale is logarithmic.</p>"
    )
    ends = f'<span class="ends"><span>{dollars(scale.low)}</span><span>{dollars(scale.high)}</span></span>'
    heads = f'<th class="name">configuration</th><th>{ends}</th><th>median</th><th>dearest</th>'
    body = "".join(_task_row(arm, costs[arm.name], scale) for arm in arms)
    head = f'{heads}<th class="name">dearest tasks</th>'
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _by_task(arm: Arm) -> dict[str, float]:
    """Of the tasks whose cost is known to the last attempt."""
    return {
        task: float(sum_usd([slot.cost_usd for slot in slots])) / len(slots)
        for task, slots in arm.by_task.items()
        if not any(slot.unknown for slot in slots)
    }


def _task_row(arm: Arm, costs: Mapping[str, float], scale: Scale) -> str:
    name = f'<td class="name">{escaped(arm.name)}</td>'
    unknown = len(arm.by_task) - len(costs)
    left_out = f"{unknown} of unknown cost" if unknown else ""
    if not costs:
        return f'<tr>{name}<td class="plot"></td><td>unknown</td><td>unknown</td><td class="node">{left_out}</td></tr>'
    ordered = sorted(costs.values())
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    dearest = [fit(task, TASK_WIDTH).rstrip() for task in sorted(costs, key=lambda task: -costs[task])[:DEAREST]]
    told = "; ".join([", ".join(dearest), *([left_out] if left_out else [])])
    return (
        f'<tr>{name}<td class="plot">{strip(ordered, scale)}</td><td>{dollars(middle)}</td>'
        f'<td>{dollars(ordered[-1])}</td><td class="node">{escaped(told)}</td></tr>'
    )


def _nodes(arms: Sequence[Arm], of: Evaluation) -> Iterator[str]:
    yield "<h2>Cost by node</h2>"
    body = "".join(_node_rows(arm) for arm in arms)
    if not body:
        yield "<p>Nothing is known of nodes.</p>"
        return
    cards = of.plan.priced_by
    by = f" by the run's card set {escaped(cards)}" if cards and of.options.cards not in (None, cards) else ""
    yield f"<p>List cost of all attempts{by}, and its share of the configuration's.</p>"
    heads = '<th class="name">configuration</th><th class="name">node</th><th></th><th>share</th><th>cost</th>'
    yield f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _node_rows(arm: Arm) -> str:
    known: dict[str, Decimal] = {}
    unknown: set[str] = set()
    for attempt in arm.tries:
        for node, cost in attempt.costs_by_node.items():
            known[node] = sum_usd([known.get(node, Decimal(0)), cost or Decimal(0)])
            if cost is None:
                unknown.add(node)
    total = sum_usd(list(known.values()))
    ordered = sorted(known, key=lambda node: (-known[node], node))
    lines = [(node or OUTSIDE, known[node], node in unknown) for node in ordered[:NODES]]
    if more := ordered[NODES:]:
        rest = sum_usd([known[node] for node in more])
        lines.append((f"{len(more)} more", rest, not unknown.isdisjoint(more)))
    return "".join(
        f'<tr><td class="name">{escaped(arm.name) if not at else ""}</td>'
        + _node_cells(node, cost, total, is_unknown=is_unknown, all_known=not unknown)
        for at, (node, cost, is_unknown) in enumerate(lines)
    )


def _node_cells(node: str, cost: Decimal, total: Decimal, *, is_unknown: bool, all_known: bool) -> str:
    share = float(cost / total) if total else 0.0
    told = dollars(cost) if not is_unknown else f"at least {dollars(cost)}" if cost else "unknown"
    part = f"{share:.0%}" if all_known and total else "unknown" if not all_known else "-"
    plot = bar(share) if all_known else ""
    return f'<td class="node">{escaped(node)}</td><td class="plot">{plot}</td><td>{part}</td><td>{told}</td></tr>'
