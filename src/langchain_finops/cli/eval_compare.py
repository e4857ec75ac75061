"""`finops-eval compare`: one results folder against another, task by task."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from langchain_finops.cli.common import ExitCode, FormatOption, OutputFormat, busy
from langchain_finops.cli.eval_common import (
    CardsOption,
    LevelOption,
    MinSuccessesOption,
    MinTasksOption,
    ScorerOption,
    need,
    render_report,
    verdict_code,
)

__all__ = ["mount"]


class By(StrEnum):
    """What a row is."""

    PAIR = "pair"
    TASK = "task"


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_command)


def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help="Results folder, or FOLDER:CONFIGURATION.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="What A is compared with.", show_default=False)],
    *,
    by: Annotated[By, typer.Option(metavar="WORD", help="A row for each pair, or for each task.")] = By.PAIR,
    common_tasks: Annotated[
        bool, typer.Option("--common-tasks", help="Of different datasets, compare the tasks that are the same.")
    ] = False,
    allow_mixed: Annotated[bool, typer.Option("--allow-mixed", help="Compare although the scorers differ.")] = False,
    margin: Annotated[
        float | None,
        typer.Option(min=0, metavar="SHARE", help="How much dearer is no worse. Default: the suite's, else 0."),
    ] = None,
    scorer: ScorerOption = None,
    cards: CardsOption = None,
    level: LevelOption = 0.95,
    min_tasks: MinTasksOption = 50,
    min_successes: MinSuccessesOption = 10,
    output_format: FormatOption = OutputFormat.TABLE,
) -> ExitCode:
    """Is A's cost per success worse than B's? Paired by task, with the tasks that flipped.

    \b
    finops-eval compare results/new results/old
    finops-eval compare results/tickets:small results/tickets:large --by task

    Exit code: 0 better or not inferior, 1 worse, 3 inconclusive.
    """
    need("scipy", "finops-eval compare")
    from langchain_finops.evals.comparing import CompareOptions, compare

    what: dict[str, Any] = {"common_tasks": common_tasks, "allow_mixed": allow_mixed, "scorer": scorer, "cards": cards}
    minima: dict[str, Any] = {"min_tasks": min_tasks, "min_successes": min_successes}
    options = CompareOptions(margin=margin, level=level, **what, **minima)
    with busy("Comparing"):
        comparison = compare(a, b, options)
    render_report(comparison.by_task() if by is By.TASK else comparison.table(), output_format)
    return verdict_code(comparison.verdict)
