"""`finops-eval table`, `show` and `power`: what results say, without running anything."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.common import FormatOption, OutputFormat, busy
from langchain_finops.cli.eval_common import (
    CardsOption,
    LevelOption,
    MinSuccessesOption,
    MinTasksOption,
    ScorerOption,
    need,
    render_report,
    warn_of_results,
)
from langchain_finops.cli.eval_html import HtmlOption, check_html, write_page
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain_finops.evals.arms import Plan
    from langchain_finops.evals.sources import Sources
    from langchain_finops.evals.table import TableOptions
    from langchain_finops.reports.render import Table

__all__ = [
    "ColumnsOption",
    "FailureOption",
    "Impute",
    "ImputeOption",
    "SourcesArgument",
    "ZeroOption",
    "dollars",
    "mount",
]


class Impute(StrEnum):
    """What stands for an unknown cost."""

    NONE = "none"
    MAX = "max"


SourcesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="RESULTS...", help="Results folders, or CSV or JSON lines of other harnesses.", show_default=False
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="OURS=THEIRS,...",
        help="Columns of a file: configuration, task, cost, success, repeat. Default: called so.",
        show_default=False,
    ),
]
ZeroOption = Annotated[bool, typer.Option("--zero-is-unknown", help="In a file, a cost of 0 means that none is known.")]
ImputeOption = Annotated[
    Impute, typer.Option(metavar="HOW", help="max: fill unknown costs with the configuration's dearest attempt.")
]
BaselineOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What others are compared with. Default: the run's, or the first."),
]
FailureOption = Annotated[
    str | None,
    typer.Option(metavar="USD", help="What mending a failure costs. Default: the suite's.", show_default=False),
]
ValueOption = Annotated[
    str | None, typer.Option(metavar="USD", help="What a success earns. Default: the suite's.", show_default=False)
]
HumanRateOption = Annotated[
    str | None,
    typer.Option(
        metavar="USD", help="An hour of the person who would do it. Default: the suite's.", show_default=False
    ),
]
HumanTasksOption = Annotated[
    str | None, typer.Option(metavar="N", help="Tasks that person does in an hour.", show_default=False)
]
KOption = Annotated[
    int | None,
    typer.Option("--k", min=1, metavar="N", help="Of pass^k and pass@k. Default: as many repeats as tasks have."),
]
MarginOption = Annotated[
    float | None,
    typer.Option(min=0, metavar="SHARE", help="How much dearer is no worse. Default: the suite's, else 0."),
]


def mount(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("table")(table_command)
    app.command("show")(show_command)
    app.command("power")(power_command)


def table_command(
    sources: SourcesArgument,
    *,
    columns: ColumnsOption = None,
    zero_is_unknown: ZeroOption = False,
    impute: ImputeOption = Impute.NONE,
    baseline: BaselineOption = None,
    scorer: ScorerOption = None,
    cards: CardsOption = None,
    failure_usd: FailureOption = None,
    value_usd: ValueOption = None,
    human_usd_per_hour: HumanRateOption = None,
    human_tasks_per_hour: HumanTasksOption = None,
    margin: MarginOption = None,
    k: KOption = None,
    level: LevelOption = 0.95,
    min_tasks: MinTasksOption = 50,
    min_successes: MinSuccessesOption = 10,
    html: HtmlOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show a row for each configuration of results, without running anything.

    \b
    finops-eval table results/tickets --format markdown
    finops-eval table results/small results/large
    finops-eval table theirs.csv --columns task=id,cost=usd,success=reward

    A file has a row for each attempt: configuration, task, cost in dollars, success, and repeat if it says. Without a
    configuration, its name is the file's; without a repeat, further rows of a task are its repeats.
    """
    given = locals()
    need("scipy", "finops-eval table")
    check_html(html)
    options = _options(given)
    with busy("Reading results"):
        read = _read(given)
        options = replace(options, cards=read.cards)
        made = _table(read, options)
    for results in read.folders:
        warn_of_results(results)
    render_report(made, output_format)
    write_page(html, made, read, options)


def _read(given: Mapping[str, Any]) -> "Sources":
    """What is named, with what the words say of it in place of what the suite does."""
    from langchain_finops.evals.foreign import columns_of
    from langchain_finops.evals.sources import read_sources

    alike = {name: given[name] for name in ("zero_is_unknown", "cards")}
    read = read_sources(given["sources"], columns=columns_of(given["columns"]), **alike)
    plan = _worth(read.plan, given["value_usd"], given["human_usd_per_hour"], given["human_tasks_per_hour"])
    return replace(read, plan=replace(plan, baseline=given["baseline"] or plan.baseline))


def _table(read: "Sources", options: "TableOptions") -> "Table":
    """The table, and under it how far judges agree with people."""
    from langchain_finops.evals.labels import agreements_in_words
    from langchain_finops.evals.table import evaluation_table

    made = evaluation_table(read.attempts, read.verdicts, plan=read.plan, options=options)
    told = [sentence for results in read.folders for sentence in agreements_in_words(results)]
    return replace(made, notes=[*made.notes, *told])


def _options(given: Mapping[str, Any]) -> "TableOptions":
    """What the words say of the table. Most options are called alike."""
    from langchain_finops.evals.table import TableOptions

    alike = ("scorer", "margin", "k", "level", "min_tasks", "min_successes")
    failure_usd = dollars(given["failure_usd"], "--failure-usd")
    return TableOptions(impute=given["impute"].value, failure_usd=failure_usd, **{name: given[name] for name in alike})


def _worth(plan: "Plan", value: str | None, usd_per_hour: str | None, tasks_per_hour: str | None) -> "Plan":
    """The plan, with what the options say of a success's worth in place of what the suite does."""
    value_usd = dollars(value, "--value-usd")
    plan = plan if value_usd is None else replace(plan, value_usd=value_usd)
    hour = dollars(usd_per_hour, "--human-usd-per-hour")
    pace = dollars(tasks_per_hour, "--human-tasks-per-hour")
    if hour is None and pace is None:
        return plan
    if not hour or not pace:
        raise BadArguments("--human-usd-per-hour and --human-tasks-per-hour belong together, each above 0")
    from langchain_finops.evals.suite import Human

    return replace(plan, human=Human(usd_per_hour=hour, tasks_per_hour=pace))


def show_command(
    folder: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder.", show_default=False)],
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="One task's attempts. Default: a row a task.")
    ] = None,
    *,
    scorer: ScorerOption = None,
    cards: CardsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show what lies behind the table: tasks, or one task's attempts with their steps, costs and errors.

    \b
    finops-eval show results/tickets
    finops-eval show results/tickets t-17
    """
    need("scipy", "finops-eval show")
    from langchain_finops.evals.resume import load_results
    from langchain_finops.evals.showing import attempts_table, tasks_table

    with busy("Reading results"):
        results = load_results(folder)
        if task is None:
            made = tasks_table(results, scorer=scorer, cards=cards)
        else:
            made = attempts_table(results, task, scorer=scorer, cards=cards)
    render_report(made, output_format)


def power_command(
    sources: SourcesArgument,
    *,
    half_width: Annotated[
        float, typer.Option(metavar="SHARE", help="How sure the figures must be: 0.2 for +-20%.")
    ] = 0.2,
    columns: ColumnsOption = None,
    level: LevelOption = 0.95,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """How many tasks a set needs, and what those that are missing would cost.

    \b
    finops-eval power results/tickets --half-width 0.1
    """
    need("scipy", "finops-eval power")
    from langchain_finops.evals.foreign import columns_of
    from langchain_finops.evals.planning import power_table
    from langchain_finops.evals.sources import read_sources

    with busy("Reading results"):
        made = power_table(read_sources(sources, columns=columns_of(columns)), half_width=half_width, level=level)
    render_report(made, output_format)


def dollars(text: str | None, option: str) -> "Decimal | None":
    """An amount that an option gives. Raises BadArguments for what is none, or negative."""
    from langchain_finops.money import usd

    if text is None:
        return None
    try:
        amount = usd(text)
    except ValueError as error:
        raise BadArguments(f"{option} {text} found: an amount in dollars is expected, such as 2.50") from error
    if amount < 0:
        raise BadArguments(f"{option} {text} found: an amount that is not negative is expected")
    return amount
