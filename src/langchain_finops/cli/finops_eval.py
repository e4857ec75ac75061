"""`finops-eval`: which configuration is worth its money. Parses words, calls one function, prints, exits."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from langchain_finops.cli import eval_compare, eval_demo, eval_gate, eval_merge, eval_run, eval_shadow
from langchain_finops.cli.common import DebugOption, FormatOption, OutputFormat, VersionOption, warn
from langchain_finops.cli.common import run as run_command_line
from langchain_finops.cli.eval_common import need
from langchain_finops.errors import BadData

if TYPE_CHECKING:
    from langchain_finops.evals.resume import Results
    from langchain_finops.evals.runner import Observer

__all__ = ["app", "both", "main", "progress", "show"]

app = typer.Typer(
    name="finops-eval",
    help="What a success costs with each configuration, how sure that is, and whether the dearer one pays.",
    rich_markup_mode=None,  # Without it help would differ between versions of rich, and load it.
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


TableCardsOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The card set of the suite that prices. Default: the run's.")
]


def main() -> None:
    """Run `finops-eval` and exit with its code."""
    sys.exit(run_command_line(app, "finops-eval"))


@app.callback()
def _every_command(version: VersionOption = False, debug: DebugOption = False) -> None:
    """What a success costs with each configuration, how sure that is, and whether the dearer one pays."""


eval_run.mount(app)


@app.command("table")
def table_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.", show_default=False)],
    *,
    cards: TableCardsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show the table of a results folder again, without running anything.

    \b
    finops-eval table results/tickets --format markdown
    """
    need("scipy", "finops-eval table")
    from langchain_finops.evals.resume import load_results

    show(load_results(folder), output_format, cards)


eval_compare.mount(app)
eval_demo.mount(app)
eval_gate.mount(app)
eval_merge.mount(app)
eval_shadow.mount(app)


T = TypeVar("T")
U = TypeVar("U")


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """The results of two readers; where both fail on bad data, the faults of both, so that one look is enough."""
    try:
        one = first()
    except BadData as error:
        try:
            second()
        except BadData as other:
            raise BadData([*error.faults, *other.faults]) from error
        raise
    return one, second()


def show(results: "Results", output_format: OutputFormat, cards: str | None) -> None:
    """Print the table on stdout, and what is worth knowing besides on stderr."""
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

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
    if undecided := [said for said in results.verdicts if said.success is None]:
        warn(f"{len(undecided)} verdicts could not be told; the first: {undecided[0].reason}")
    reasons = {said.reason for said in results.verdicts if not said.success}
    if len(reasons) == 1 and None not in reasons and not any(said.success for said in results.verdicts):
        warn(f"no answer was a success, each time because of the same: {reasons.pop()}")
    if results.run.get("stopped"):
        warn(f"the run is not finished: {results.run['stopped']}")
    render(table_of(results, cards=cards), output_format, sys.stdout)


@contextmanager
def progress() -> Iterator["Observer | None"]:
    """A bar on stderr, on a terminal only: attempts done, remaining time, money spent and forecast, errors."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from langchain_finops.evals.runner import Progress as Stand

    columns = (
        TextColumn("Attempts"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("", total=None)

        def observe(stand: Stand) -> None:
            errors = f", {stand.errors} errors" if stand.errors else ""
            forecast = "" if stand.forecast_usd is None else f" of about ${stand.forecast_usd:.6f}"
            spent = f"${stand.known_usd:.6f}{forecast}{errors}"
            bar.update(shown, completed=stand.done, total=stand.total, description=spent)

        yield observe


if __name__ == "__main__":
    main()
