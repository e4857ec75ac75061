"""`finops-eval`: which configuration is worth its money. Parses words, calls one function, prints, exits."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer

from langchain_finops.cli import (
    eval_compare,
    eval_demo,
    eval_gate,
    eval_init,
    eval_merge,
    eval_routers,
    eval_run,
    eval_score,
    eval_shadow,
    eval_table,
)
from langchain_finops.cli.common import DebugOption, OutputFormat, VersionOption
from langchain_finops.cli.common import run as run_command_line
from langchain_finops.cli.eval_common import warn_of_results
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


def main() -> None:
    """Run `finops-eval` and exit with its code."""
    sys.exit(run_command_line(app, "finops-eval"))


@app.callback()
def _every_command(version: VersionOption = False, debug: DebugOption = False) -> None:
    """What a success costs with each configuration, how sure that is, and whether the dearer one pays."""


eval_run.mount(app)


eval_compare.mount(app)
eval_demo.mount(app)
eval_gate.mount(app)
eval_init.mount(app)
eval_merge.mount(app)
eval_routers.mount(app)
eval_score.mount(app)
eval_shadow.mount(app)
eval_table.mount(app)


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

    warn_of_results(results)
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
