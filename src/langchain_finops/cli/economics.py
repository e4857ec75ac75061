"""`finops economics`: was it worth it; `finops outcomes import`: what became of many tasks at once."""

import re
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.arguments import (
    counted,
    existing_ledger,
    names_of,
    period_of,
    place_of,
    warn_of_spilled,
)
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy, warn
from langchain_finops.errors import BadArguments
from langchain_finops.money import usd

if TYPE_CHECKING:
    from langchain_finops.ledger.base import Ledger
    from langchain_finops.reports.economics import Human

__all__ = ["mount"]

SinceOption = Annotated[str | None, typer.Option(metavar="WHEN", help="From then on: 7d, 24h, or 2026-01-31 (UTC).")]
UntilOption = Annotated[str | None, typer.Option(metavar="WHEN", help="Before then, in the same forms.")]

outcomes = typer.Typer(
    name="outcomes",
    help="What became of many tasks.",
    rich_markup_mode=None,  # As for `finops` itself.
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.command("economics", short_help="What a success costs, saves and earns.")(economics_command)
    finops.add_typer(outcomes)


@outcomes.callback()
def _every_command(context: typer.Context) -> None:
    """What became of many tasks."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def economics_command(
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="As for `finops report`; not day, run, task. Default: agent.", show_default=False
        ),
    ] = "agent",
    human_usd_per_hour: Annotated[
        str | None, typer.Option(metavar="X", help="What a person costs who would do it.")
    ] = None,
    human_tasks_per_hour: Annotated[
        str | None, typer.Option(metavar="N", help="How many tasks that person does.")
    ] = None,
    value_usd: Annotated[
        str | None, typer.Option(metavar="X", help="Worth of a success whose outcome does not say it.")
    ] = None,
    accept_after: Annotated[
        str, typer.Option(metavar="SPAN", help="How long a success must stand. Default: 7d.", show_default=False)
    ] = "7d",
    since: SinceOption = None,
    until: UntilOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show cost per success and per accepted outcome, failures, loops, and gain against a person.

    \b
    finops economics --human-usd-per-hour 25 --human-tasks-per-hour 5
    finops economics --by agent,model --value-usd 2 --since 30d
    """  # fmt: skip
    human = _human(human_usd_per_hour, human_tasks_per_hour)
    worth = None if value_usd is None else amount_of(value_usd, "--value-usd")
    with existing_ledger(ledger) as source:
        _show_economics(
            source,
            names_of(by),
            (since, until),
            output_format,
            human=human,
            value_usd=worth,
            accept_after=span_of(accept_after, "--accept-after"),
        )


def _show_economics(
    source: "Ledger",
    by: tuple[str, ...],
    period: tuple[str | None, str | None],
    output_format: OutputFormat,
    *,
    human: "Human | None",
    value_usd: Decimal | None,
    accept_after: timedelta,
) -> None:
    from langchain_finops.reports.economics import economics
    from langchain_finops.reports.economics_table import economics_table
    from langchain_finops.reports.render import render

    start, end = period_of(*period)
    with busy("Adding up the ledger"):
        found = economics(
            source, by, since=start, until=end, human=human, value_usd=value_usd, accept_after=accept_after
        )
    warn_of_spilled(source)
    place = place_of(source)
    span = "".join(f", {word} {value}" for word, value in zip(("since", "until"), period, strict=True) if value)
    if not found.rows and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No task began{span}, in {place}" if span else f"The ledger is empty: {place}")
        return
    caption = f"Economics by {', '.join(found.by) or 'total'}{span or ', all time'}, in {place}"
    render(economics_table(found, caption), output_format, sys.stdout)


def _human(usd_per_hour: str | None, tasks_per_hour: str | None) -> "Human | None":
    from langchain_finops.reports.economics import Human

    if usd_per_hour is None and tasks_per_hour is None:
        return None
    if usd_per_hour is None or tasks_per_hour is None:
        given, missing = ("--human-usd-per-hour", "--human-tasks-per-hour")[:: 1 if tasks_per_hour is None else -1]
        raise BadArguments(f"{given} needs {missing}: together they say what a task costs when a person does it.")
    wage, pace = (
        amount_of(text, option)
        for text, option in (
            (usd_per_hour, "--human-usd-per-hour"),
            (tasks_per_hour, "--human-tasks-per-hour"),
        )
    )
    for amount, option in ((wage, "--human-usd-per-hour"), (pace, "--human-tasks-per-hour")):
        if amount <= 0:
            raise BadArguments(f"{option} is {amount}: write a number above 0.")
    return Human(usd_per_hour=wage, tasks_per_hour=pace)


def amount_of(text: str, option: str) -> Decimal:
    """A number as people write it, exactly."""
    try:
        return usd(text)
    except ValueError as error:
        raise BadArguments(f"{option}: {error}; write it as 5 or 0.25.") from error


_SPAN = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def span_of(text: str, option: str) -> timedelta:
    """A span of time."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise BadArguments(f"{option} {text!r} is no span of time: write 7d, 24h or 2w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@outcomes.command("import", short_help="Read outcomes from a CSV or JSONL file.")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    judged_by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Who says so, where the file does not. Default: the file's name.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Read outcomes from a CSV or JSONL file: all of them, or none where a line is wrong.

    Doing it twice changes nothing. docs/economics.md tells the fields.

    \b
    finops outcomes import tickets.csv
    """  # fmt: skip
    from langchain_finops.reports.outcomes import import_outcomes, read_outcomes

    said = read_outcomes(file, judged_by=judged_by)
    if dry_run:
        typer.echo(f"{file}: {counted(len(said), 'outcome')}, no fault. Nothing was written.")
        return
    with existing_ledger(ledger) as target:
        with busy("Importing outcomes"):
            done = import_outcomes(target, said)
        if done.unknown:
            example = f", such as {done.example!r}" if done.example is not None else ""
            warn(f"no call names the task of {counted(done.unknown, 'outcome')}{example}: check ids and --ledger. "
                 "They are kept.")  # fmt: skip
        typer.echo(
            f"{counted(done.new, 'outcome')} new, {done.revised:,} of them revising another, {done.known:,} there "
            f"already, in {place_of(target)}"
        )
