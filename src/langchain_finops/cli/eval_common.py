"""What the deciding commands of `finops-eval` share: options, and exit codes of verdicts."""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.common import ExitCode, OutputFormat, warn
from langchain_finops.errors import MissingExtra

if TYPE_CHECKING:
    from langchain_finops.evals.resume import Results
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
    "warn_of_results",
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


def warn_of_results(results: "Results") -> None:
    """Tell on stderr what is worth knowing of results besides their table."""
    for fault in results.torn:
        warn(f"{fault}; its slot is tried again by the next run")
    if results.outdated:
        warn(f"{results.outdated} tries at items or configurations that have changed since are left out")
    if results.set_aside is not None:
        warn(f"earlier results are kept in {results.set_aside}")
    if results.repriced:
        warn(f"prices have changed since: {results.repriced} stored tries were priced again, in the ledger too")
    swallowed = sum(attempt.status == "completed" and attempt.failed_calls > 0 for attempt in results.attempts)
    if swallowed:
        warn(f"{swallowed} attempts were completed although some of their calls failed: see failed_calls in attempts")
    last = {(said.slot, said.try_number, said.scorer): said for said in results.verdicts}.values()
    if undecided := [said for said in last if said.success is None]:
        warn(f"{len(undecided)} verdicts could not be told; the first: {undecided[0].reason}")
    reasons = {said.reason for said in results.verdicts if not said.success}
    if len(reasons) == 1 and None not in reasons and not any(said.success for said in results.verdicts):
        warn(f"no answer was a success, each time because of the same: {reasons.pop()}")
    if results.run.get("stopped"):
        warn(f"the run is not finished: {results.run['stopped']}")
