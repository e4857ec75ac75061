"""`finops allocate`: cost by team and cost centre; `finops close`: figures that never change afterwards."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.cli.arguments import check_named, existing_ledger, period_of, place_of, warn_of_spilled
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy
from langchain_finops.cli.economics import SinceOption, UntilOption
from langchain_finops.errors import BadArguments

__all__ = ["mount"]

TimeZoneOption = Annotated[
    str, typer.Option("--tz", metavar="ZONE", help="Of the period, such as Europe/Berlin. Default: UTC.",
                      show_default=False)
]  # fmt: skip
FiscalOption = Annotated[
    int, typer.Option("--fiscal-year-start", metavar="MONTH", min=1, max=12, help="1 to 12. Default: 1.",
                      show_default=False)
]  # fmt: skip


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.command("allocate", short_help="Cost by team and cost centre, by a file of shares.")(allocate_command)
    finops.command("close", short_help="Close a period: its figures never change afterwards.")(close_command)


def allocate_command(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    period: Annotated[
        str | None, typer.Option(metavar="NAME", help="2026-03, 2026-Q1, 2026, FY2026 or 2026-03-02.")
    ] = None,
    time_zone: TimeZoneOption = "",
    fiscal_year_start: FiscalOption = 1,
    since: SinceOption = None,
    until: UntilOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show cost by team and cost centre, divided by the shares that a YAML file says.

    \b
    finops allocate shares.yaml --period 2026-03 --tz Europe/Berlin
    """
    from langchain_finops.reports.allocation import allocate, read_allocation
    from langchain_finops.reports.calendars import Calendar
    from langchain_finops.reports.render import render

    allocation = read_allocation(file)
    if period is not None and (since is not None or until is not None):
        raise BadArguments("--period says from when until when: leave --since and --until out.")
    start: datetime | None
    end: datetime | None
    if period is not None:
        calendar = Calendar(time_zone=time_zone or allocation.time_zone, fiscal_start=fiscal_year_start)
        start, end = calendar.period(period)
        span = f", {period}"
    else:
        start, end = period_of(since, until)
        span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
    with existing_ledger(ledger) as source:
        with busy("Dividing cost"):
            found = allocate(source, allocation, since=start, until=end)
        warn_of_spilled(source)
        place = place_of(source)
    if not found.rows and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No calls or charges{span}, in {place}")
        return
    render(found.table(f"Cost by team, shares of {file}{span or ', all time'}, in {place}"), output_format, sys.stdout)


def close_command(
    *,
    period: Annotated[str | None, typer.Argument(metavar="PERIOD", show_default=False)] = None,
    time_zone: TimeZoneOption = "",
    fiscal_year_start: FiscalOption = 1,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Close a period that is over; without one, show those that are closed.

    Later corrections post to the open period, as adjustments that name the original. Closing twice changes nothing.

    \b
    finops close 2026-03 --tz Europe/Berlin
    finops close FY2026-Q1 --fiscal-year-start 4
    """
    from langchain_finops.cli.prices import actor
    from langchain_finops.ledger.summary import show_usd
    from langchain_finops.money import from_pico
    from langchain_finops.reports.calendars import Calendar
    from langchain_finops.reports.close import close_period, closed_periods, closed_table, show_cost
    from langchain_finops.reports.render import render

    check_named(period, "PERIOD", "name one, such as 2026-03, or leave it out for those that are closed")
    with existing_ledger(ledger) as target:
        place = place_of(target)
        if period is None:
            if not closed_periods(target) and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
                typer.echo(f"No period is closed, in {place}")
                return
            render(closed_table(target, f"Closed periods, in {place}"), output_format, sys.stdout)
            return
        start, end = Calendar(time_zone=time_zone or "UTC", fiscal_start=fiscal_year_start).period(period)
        with busy("Closing"):
            done = close_period(target, period, start, end, actor=actor())
        warn_of_spilled(target)
    cost = show_cost(from_pico(done.period.cost_pico), done.period.unpriced)
    if done.is_new:
        typer.echo(f"{period} is closed at {cost}, in {place}")
    elif done.posted:
        typer.echo(f"{period} stays at {cost}: {show_usd(done.late_usd)} came late and are posted now, in {place}")
    else:
        typer.echo(f"{period} was closed before, at {cost}; nothing came late, in {place}")
