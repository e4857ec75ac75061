"""`finops advise`: what to change to spend less, largest saving first."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.arguments import check_named, counted, existing_ledger, period_of, place_of, warn_of_spilled
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy
from langchain_finops.cli.economics import SinceOption, UntilOption, amount_of
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from langchain_finops.reports.advise import Advice, Machine

__all__ = ["mount"]


def mount(finops: typer.Typer) -> None:
    """Add the command to `finops`."""
    finops.command("advise", short_help="What to change to spend less, largest saving first.")(advise_command)


ProtectOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NODE", help="Advise nothing that touches this node; may be repeated.", show_default=False),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Its protected nodes, too. Default: $FINOPS_POLICY, else finops.yaml here.",
        show_default=False,
    ),
]
NobodyWaitsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="AGENT", help="Nobody waits for this agent; may be repeated.", show_default=False),
]
HourOption = Annotated[str | None, typer.Option(metavar="X", help="What a machine of your own would cost.")]
PaceOption = Annotated[str | None, typer.Option(metavar="N", help="What it goes on doing, input and output together.")]


def advise_command(
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    protect: ProtectOption = None,
    policy: PolicyOption = None,
    nobody_waits: NobodyWaitsOption = None,
    machine_usd_per_hour: HourOption = None,
    machine_tokens_per_second: PaceOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Name the savings, largest first: dollars a month, how sure, what it rests on, what to do, and the risk.

    \b
    finops advise --since 30d
    finops advise --protect review --format json
    finops advise --machine-usd-per-hour 2.50 --machine-tokens-per-second 1500
    """
    start, end = period_of(since, until)
    asked = {
        "since": start,
        "until": end,
        "protect": _protected(protect or [], policy),
        "unattended": _named(nobody_waits or [], "--nobody-waits", "name an agent as its calls do"),
        "machine": _machine(machine_usd_per_hour, machine_tokens_per_second),
    }
    span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
    _show(ledger, asked, span or ", all time", output_format)


def _show(url: str | None, asked: dict[str, Any], span: str, output_format: OutputFormat) -> None:
    from langchain_finops.pricing.book import PriceBook
    from langchain_finops.reports.advise import advise
    from langchain_finops.reports.advise_table import advice_table
    from langchain_finops.reports.render import render

    with existing_ledger(url) as source:
        book = PriceBook.default()
        with busy("Looking for what would be cheaper"):
            found = advise(source, book=book, **asked)
        warn_of_spilled(source)
        place = place_of(source)
    if not found.rows and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"Nothing found that would be cheaper{span}, in {place}{_left_out(found)}")
        return
    render(advice_table(found, f"Advice{span}, in {place}"), output_format, sys.stdout)


def _protected(names: list[str], policy: Path | None) -> set[str]:
    """The nodes that options and the policy file name."""
    from langchain_finops.budgets.policy_file import PolicyFile

    file = PolicyFile(policy)
    file.look()
    return {*_named(names, "--protect", "name a node, such as review"), *file.policies.protect}


def _named(names: list[str], option: str, remedy: str) -> list[str]:
    for name in names:
        check_named(name, option, remedy)
    return names


def _machine(usd_per_hour: str | None, tokens_per_second: str | None) -> "Machine | None":
    from langchain_finops.reports.advise import Machine

    if usd_per_hour is None and tokens_per_second is None:
        return None
    if usd_per_hour is None or tokens_per_second is None:
        raise BadArguments("--machine-usd-per-hour and --machine-tokens-per-second go together: give both.")
    return Machine(
        usd_per_hour=_above_zero(usd_per_hour, "--machine-usd-per-hour"),
        tokens_per_second=_above_zero(tokens_per_second, "--machine-tokens-per-second"),
    )


def _above_zero(text: str, option: str) -> Decimal:
    amount = amount_of(text, option)
    if amount <= 0:
        raise BadArguments(f"{option} {text!r} is no such number: write one above 0.")
    return amount


def _left_out(found: "Advice") -> str:
    """What could not be looked at: silence about it would pass for a clean bill."""
    counts = ((found.unpriced, "without a known price"), (found.folded, "in daily sums"))
    parts = [f"{counted(count, 'call')} {what}" for count, what in counts if count]
    return f" ({', '.join(parts)} left out)" if parts else ""
