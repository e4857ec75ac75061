"""What the deciding commands of `finops-eval` share: options, and exit codes of verdicts."""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.common import ExitCode, OutputFormat
from langchain_finops.errors import MissingExtra

if TYPE_CHECKING:
    from langchain_finops.reports.render import Table

__all__ = [
    "CardsOption",
    "LevelOption",
    "MinSuccessesOption",
    "MinTasksOption",
    "ScorerOption",
    "need",
    "render_report",
    "verdict_code",
]

CardsOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The card set of the suite that prices. Default: the run's.")
]
ScorerOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The scorer that decides alone. Default: all must agree.")
]
LevelOption = Annotated[float, typer.Option(metavar="SHARE", help="Of the intervals.")]
MinTasksOption = Annotated[int, typer.Option(min=0, metavar="N", help="Fewer tasks are inconclusive.")]
MinSuccessesOption = Annotated[int, typer.Option(min=0, metavar="N", help="Fewer successes are inconclusive.")]

_CODES = {
    **dict.fromkeys(("BETTER", "NON_INFERIOR", "PASS", "JUSTIFIED"), ExitCode.GOOD),
    **dict.fromkeys(("WORSE", "FAIL", "NOT_JUSTIFIED"), ExitCode.NO),
    "INCONCLUSIVE": ExitCode.INCONCLUSIVE,
}


def verdict_code(verdict: str) -> ExitCode:
    """What a verdict exits with."""
    return _CODES[verdict]


def need(module: str, what: str) -> None:
    """Raise MissingExtra before anything is done where the eval extra is not installed."""
    if find_spec(module) is None:
        raise MissingExtra(what, "eval")


def render_report(table: "Table", output_format: OutputFormat) -> None:
    """Print a table on stdout, whole before anything that follows on stderr."""
    from langchain_finops.reports.render import render

    render(table, output_format, sys.stdout)
    sys.stdout.flush()
