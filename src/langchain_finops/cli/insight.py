"""`finops insight`: where money goes that need not; `finops changes`: why a cost changed between two periods."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.arguments import (
    existing_ledger,
    moment_of,
    names_of,
    period_of,
    place_of,
    warn_of_spilled,
)
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy
from langchain_finops.cli.economics import SinceOption, UntilOption
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["mount"]


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.command("insight", short_help="Anomalies, waste, idle agents, caches and contexts.")(insight_command)
    finops.command("changes", short_help="Why a cost changed between two periods.")(changes_command)


def insight_command(
    *,
    finding: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            help="anomalies, retries, failures, failed_tasks, overhead, idle, context, cache, prefixes or verbosity; "
            "none for a summary.",
        ),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show where money goes that need not: a summary, or the rows behind one finding.

    \b
    finops insight --since 30d
    finops insight anomalies
    """
    from langchain_finops.reports.insight import FINDINGS, insight
    from langchain_finops.reports.insight_table import finding_table, insight_table
    from langchain_finops.reports.render import render

    if finding is not None and finding not in FINDINGS:
        raise BadArguments(f"{finding!r} is no finding: choose from {', '.join(FINDINGS)}.")
    start, end = period_of(since, until)
    with existing_ledger(ledger) as source:
        with busy("Looking for what need not be"):
            found = insight(source, since=start, until=end, only=FINDINGS if finding is None else (finding,))
        warn_of_spilled(source)
        place = place_of(source)
    span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
    span = span or ", all time"
    if finding is None:
        render(insight_table(found, f"Insight{span}, in {place}"), output_format, sys.stdout)
        return
    if not found.rows[finding] and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No {finding.replace('_', ' ')}{span}, in {place}")
        return
    render(finding_table(found, finding, f"{finding.capitalize().replace('_', ' ')}{span}, in {place}"),
           output_format, sys.stdout)  # fmt: skip


def changes_command(
    *,
    before: Annotated[str, typer.Option(metavar="A..B", help="The first period: 2026-01-01..2026-02-01, or 14d..7d.")],
    after: Annotated[str, typer.Option(metavar="C..D", help="The second, in the same forms; 7d.. is until now.")],
    by: Annotated[
        str, typer.Option(metavar="NAMES", help="As for `finops economics`. Default: agent.", show_default=False)
    ] = "agent",
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Split a change of cost into volume, steps, tokens, price and mix, which add up to it exactly.

    \b
    finops changes --before 14d..7d --after 7d..
    finops changes --before 2026-01-01..2026-02-01 --after 7d.. --by model
    """
    from langchain_finops.reports.changes import changes
    from langchain_finops.reports.render import render

    spans = [_span(text, option) for text, option in ((before, "--before"), (after, "--after"))]
    with existing_ledger(ledger) as source:
        with busy("Comparing two periods"):
            found = changes(source, spans[0], spans[1], names_of(by))
        warn_of_spilled(source)
        place = place_of(source)
    if not found.rows and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No calls or charges in {before} or {after}, in {place}")
        return
    render(found.table(f"Cost of {after} against {before}, in {place}"), output_format, sys.stdout)


def _span(text: str, option: str) -> "tuple[datetime, datetime | None]":
    """A period: two moments with two dots between them."""
    first, dots, last = (part.strip() for part in text.partition(".."))
    if not dots or not first:
        raise BadArguments(f"{option} {text!r} is no period: write 2026-01-01..2026-02-01, 14d..7d, or 7d.. until now.")
    start, end = moment_of(first, option), moment_of(last, option) if last else None
    if end is not None and start >= end:
        raise BadArguments(f"{option} {text!r} is no period: it ends before it begins.")
    return start, end
