"""`finops-eval gate`: rules on a results folder, for CI."""

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.cli.common import ExitCode, FormatOption, OutputFormat, busy
from langchain_finops.cli.eval_common import (
    CardsOption,
    LevelOption,
    MinSuccessesOption,
    MinTasksOption,
    ScorerOption,
    need,
    verdict_code,
)
from langchain_finops.errors import BadArguments

__all__ = ["mount"]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gate")(gate_command)


def gate_command(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder.", show_default=False)],
    *,
    rules: Annotated[
        list[str],
        typer.Option("--rules", metavar="FILE|RULE", help="A file with a rule a line, or a rule; may be repeated."),
    ],
    configuration: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What rules without `for` are on; may be repeated. Default: all."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the run's.")] = None,
    failure_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="What a failure costs, for expected_cost. Default: the suite's.")
    ] = None,
    impute: Annotated[
        str, typer.Option(metavar="WORD", help="max: fill unknown costs with the dearest attempt.")
    ] = "none",
    scorer: ScorerOption = None,
    cards: CardsOption = None,
    level: LevelOption = 0.95,
    min_tasks: MinTasksOption = 50,
    min_successes: MinSuccessesOption = 10,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a summary for a pull request.", show_default=False)
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.", show_default=False)] = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> ExitCode:
    """Do results keep these rules? Decided on the bounds of intervals, never on the point.

    \b
    finops-eval gate results/tickets --rules "cost_per_success <= 0.05"
    finops-eval gate results/tickets --rules gate.rules --junit gate.xml

    A rule is METRIC OP NUMBER or METRIC not_worse_than baseline by MARGIN, with
    ` for CONFIGURATION` behind it where it does not hold for all.

    Exit code: 0 pass, 1 fail, 2 could not run, 3 inconclusive.
    """
    need("scipy", "finops-eval gate")
    from langchain_finops.evals import gate_files
    from langchain_finops.evals.gate import GateOptions, gate
    from langchain_finops.reports.render import render

    if impute not in ("none", "max"):
        raise BadArguments(f"--impute is {impute!r}: choose none or max")
    options = GateOptions(
        configurations=tuple(configuration or ()),
        baseline=baseline,
        scorer=scorer,
        cards=cards,
        impute="max" if impute == "max" else "none",
        failure_usd=_usd(failure_usd),
        level=level,
        min_tasks=min_tasks,
        min_successes=min_successes,
    )
    with busy("Judging"):
        report = gate(results, rules, options)
    if markdown is not None:
        gate_files.write(markdown, gate_files.markdown(report))
    if junit is not None:
        gate_files.write(junit, gate_files.junit(report))
    render(report.table(), output_format, sys.stdout)
    return verdict_code(report.outcome)


def _usd(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise BadArguments(f"--failure-usd {text!r} is no amount: such as 5 or 0.25")
    return amount
