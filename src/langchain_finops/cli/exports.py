"""`finops export`: files of records, FOCUS, a Prometheus endpoint, and the Grafana dashboard that goes with it."""

from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.cli.arguments import counted, existing_ledger, period_of, place_of, warn_of_spilled
from langchain_finops.cli.common import LedgerOption, busy, warn
from langchain_finops.cli.economics import SinceOption, UntilOption

__all__ = ["mount"]

export = typer.Typer(
    name="export",
    help="What the ledger holds, for other programs.",
    rich_markup_mode=None,  # As for `finops` itself.
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OutOption = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Ends in .csv, .jsonl or .parquet.", show_default=False)
]


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.add_typer(export)


@export.callback()
def _every_command(context: typer.Context) -> None:
    """What the ledger holds, for other programs."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _records(kind: str, out: Path, since: str | None, until: str | None, url: str | None) -> None:
    from langchain_finops.exports.files import check_target
    from langchain_finops.exports.records import export_records

    start, end = period_of(since, until)
    check_target(out)
    with existing_ledger(url) as source:
        with busy(f"Writing {out}"):
            done = export_records(source, kind, out, since=start, until=end)
        warn_of_spilled(source)
        if done.left_out:
            warn(
                f"the ledger's sums count {counted(done.left_out, kind[:-1])} more, folded by `finops prune` or "
                "written meanwhile: not in the file. `finops report --format csv` has their sums."
            )
        typer.echo(f"Wrote {counted(done.rows, kind[:-1])} to {out}, from {place_of(source)}", err=True)


@export.command("calls", short_help="Model calls, one a row.")
def calls_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write each model call, a row of it, with all that is known of it.

    \b
    finops export calls --out calls.csv --since 7d
    """
    _records("calls", out, since, until, ledger)


@export.command("charges", short_help="Charges: tools, people's minutes, credits.")
def charges_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write each charge that is no model call: tools, people's minutes, credits, adjustments."""
    _records("charges", out, since, until, ledger)


@export.command("runs", short_help="Runs, and how they ended.")
def runs_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write each run, with how it ended."""
    _records("runs", out, since, until, ledger)


@export.command("outcomes", short_help="What became of each task.")
def outcomes_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write what became of each task, as it was judged last."""
    _records("outcomes", out, since, until, ledger)
