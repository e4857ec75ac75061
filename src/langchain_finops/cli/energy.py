"""`finops energy`: what calls took of energy, as ranges."""

import sys
from typing import Annotated

import typer

from langchain_finops.cli.arguments import existing_ledger, names_of, period_of, place_of, warn_of_spilled
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy

__all__ = ["mount"]


def mount(finops: typer.Typer) -> None:
    """Add the command to `finops`."""
    finops.command("energy", short_help="Energy, greenhouse gases and water of calls, as ranges.")(energy_command)


def energy_command(
    *,
    by: Annotated[
        str, typer.Option(metavar="NAMES", help="As for `finops report`. Default: agent.", show_default=False)
    ] = "agent",
    zone: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Whose electricity, such as FRA; without it the data centres'."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 7d, 24h, or 2026-01-31 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before then, in the same forms.")] = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show energy, greenhouse gases and water of calls: ranges by the model of EcoLogits. Needs the extra `carbon`.

    \b
    finops energy --by model --since 30d
    finops energy --by task_type --zone FRA
    """
    from langchain_finops.reports.energy import energy_report
    from langchain_finops.reports.render import render

    start, end = period_of(since, until)
    with existing_ledger(ledger) as source:
        with busy("Estimating energy"):
            found = energy_report(source, names_of(by), since=start, until=end, zone=zone and zone.upper())
        warn_of_spilled(source)
        span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
        place = place_of(source)
    if not found.sums and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No calls{span}, in {place}")
        return
    caption = f"Energy by {', '.join(found.by) or 'total'}{span or ', all time'}, in {place}"
    render(found.table(caption), output_format, sys.stdout)
