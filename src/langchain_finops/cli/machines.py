"""`finops machines`: what machines of one's own cost, by who kept them busy, and what was idle."""

import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import typer

from langchain_finops.cli.arguments import (
    check_named,
    counted,
    existing_ledger,
    names_of,
    period_of,
    place_of,
    warn_of_spilled,
)
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy
from langchain_finops.cli.economics import SinceOption, UntilOption, amount_of
from langchain_finops.cli.prices import CardsOption
from langchain_finops.errors import BadArguments

__all__ = ["mount"]


def mount(finops: typer.Typer) -> None:
    """Add the command to `finops`."""
    finops.command("machines", short_help="Machines of your own: who kept them busy, and what was idle.")(
        machines_command
    )


def _figure(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


HourOption = Annotated[str | None, _figure("X", "What an instance costs. Default: as the card says.")]
InstancesOption = Annotated[str | None, _figure("N", "How many there are. Default: as the card says.")]
ConcurrencyOption = Annotated[str | None, _figure("N", "Calls that all bear at once. Default: as the card says.")]
HoursOption = Annotated[str | None, _figure("H", "Paid for, of all instances. Default: the whole period.")]
UsdOption = Annotated[str | None, _figure("X", "All that was paid, instead.")]
ChargesOption = Annotated[
    str | None, _figure("NAME", "Paid is what charges of kind infrastructure called so cost; may have *.")
]
ByOption = Annotated[
    str,
    _figure(
        "NAMES",
        "With commas: agent, node, model, user, customer, provider, project, environment, release, role, task_type; or "
        "total. Default: agent.",
    ),
]
CardOption = Annotated[str | None, _figure("ID", "The machines of this card alone.")]
AgainstOption = Annotated[str | None, _figure("MODEL", "What its tokens cost, to compare with.")]
SellerOption = Annotated[str | None, _figure("NAME", "Who sells it; alone: who sells the calls' own model.")]
BreakEvenOption = Annotated[bool, typer.Option("--break-even", help="Show what a token costs by utilisation instead.")]
ReplaysOption = Annotated[
    bool, typer.Option("--replays", help="Count replays of an evaluation, when they were recorded.")
]


def machines_command(
    *,
    by: ByOption = "agent",
    since: SinceOption = None,
    until: UntilOption = None,
    card: CardOption = None,
    prices: CardsOption = None,
    usd_per_instance_hour: HourOption = None,
    instances: InstancesOption = None,
    concurrency: ConcurrencyOption = None,
    instance_hours: HoursOption = None,
    usd: UsdOption = None,
    charges: ChargesOption = None,
    against: AgainstOption = None,
    against_provider: SellerOption = None,
    break_even: BreakEvenOption = False,
    replays: ReplaysOption = False,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Share out what machines of your own cost over the calls that kept them busy; what nobody used is idle.

    \b
    finops machines --since 2026-03-01 --until 2026-04-01 --by agent,node
    finops machines --against-provider together --break-even
    finops machines --card gpu --usd 1840.00 --by user
    """
    given = locals()
    from langchain_finops.pricing import PriceBook
    from langchain_finops.reports.machines import machines

    asked = _asked(given)
    with existing_ledger(ledger) as source:
        with busy("Sharing out the machines"):
            found = machines(source, **asked, book=PriceBook.load(*prices) if prices else PriceBook.default())
        warn_of_spilled(source)
        place = place_of(source)
    span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
    _show(found, span or ", all time", place, output_format, break_even=break_even)


FIGURES = ("usd_per_instance_hour", "instances", "concurrency", "instance_hours", "usd")


def _asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the words ask for. Raises BadArguments for figures that are none."""
    from langchain_finops.reports.machines import Against, Paid

    start, end = period_of(given["since"], given["until"])
    for name in ("card", "charges", "against", "against_provider"):
        check_named(given[name], f"--{name.replace('_', '-')}", "name it, or leave it out")
    said = {name: _amount(given[name], f"--{name.replace('_', '-')}") for name in FIGURES}
    model, seller = given["against"], given["against_provider"]
    return {
        **{name: given[name] for name in ("card", "replays")},
        "by": names_of(given["by"]),
        "since": start,
        "until": end,
        "paid": Paid(**said, charges=given["charges"]),
        "against": None if model is None and seller is None else Against(model=model, provider=seller),
    }


def _amount(text: str | None, option: str) -> Decimal | None:
    if text is None:
        return None
    amount = amount_of(text, option)
    if amount <= 0:
        raise BadArguments(f"{option} {text!r} is no such number: write one above 0.")
    return amount


def _show(found: Any, span: str, place: str, output_format: OutputFormat, *, break_even: bool) -> None:
    from langchain_finops.reports.machines_table import break_even_table, machines_table
    from langchain_finops.reports.render import render

    if not found.pools and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        replays = f" ({counted(found.replays, 'replay')} left out: --replays counts them)" if found.replays else ""
        typer.echo(f"No calls on machines of your own{span}, in {place}{replays}")
        return
    by = ", ".join(found.by) or "total"
    caption = f"Machines by {'utilisation' if break_even else by}{span}, in {place}"
    table = break_even_table(found, caption) if break_even else machines_table(found, caption)
    render(table, output_format, sys.stdout)
