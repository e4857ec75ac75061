"""`finops-eval gate`: rules on a results folder, for CI."""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
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
from langchain_finops.errors import BadArguments

__all__ = ["mount"]


class Impute(StrEnum):
    """What unknown costs are filled with."""

    NONE = "none"
    MAX = "max"


IMPUTE = "max: fill unknown costs with the dearest attempt."
RulesOption = Annotated[
    list[str],
    typer.Option("--rules", metavar="FILE|RULE", help="A file with a rule a line, or a rule; may be repeated."),
]
ConfigurationOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="What rules without `for` are on; may be repeated. Default: all."),
]
FailureOption = Annotated[
    str | None, typer.Option(metavar="USD", help="What a failure costs, for expected_cost. Default: the suite's.")
]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gate")(gate_command)


def gate_command(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder.", show_default=False)],
    *,
    rules: RulesOption,
    configuration: ConfigurationOption = None,
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the run's.")] = None,
    failure_usd: FailureOption = None,
    impute: Annotated[Impute, typer.Option(metavar="WORD", help=IMPUTE)] = Impute.NONE,
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
    from langchain_finops.evals.gating import GateOptions, gate

    what: dict[str, Any] = {
        "configurations": tuple(configuration or ()),
        "baseline": baseline,
        "scorer": scorer,
        "cards": cards,
    }
    how: dict[str, Any] = {"impute": impute.value, "failure_usd": _usd(failure_usd), "level": level}
    options = GateOptions(**what, **how, min_tasks=min_tasks, min_successes=min_successes)
    with busy("Judging"):
        report = gate(results, rules, options)
    for path, text in ((markdown, gate_files.markdown), (junit, gate_files.junit)):
        if path is not None:
            gate_files.write(path, text(report))
    render_report(report.table(), output_format)
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
