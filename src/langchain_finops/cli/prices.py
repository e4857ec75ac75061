"""The commands of `finops` that are about prices: cards, the catalogue, and pricing stored calls again."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.arguments import (
    check_named,
    counted,
    existing_ledger,
    moment_of,
    period_of,
    place_of,
    warn_of_spilled,
)
from langchain_finops.cli.common import ExitCode, FormatOption, LedgerOption, OutputFormat, busy, warn
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from langchain_finops.pricing import Card, PriceBook

__all__ = ["actor", "mount"]

app = typer.Typer(
    help="What models cost: your cards, our corrections, the catalogue.",
    rich_markup_mode=None,  # As for `finops` itself.
    invoke_without_command=True,
)

CardsOption = Annotated[
    list[Path] | None,
    typer.Option("--prices", metavar="FILE", help="Your cards, instead of $FINOPS_PRICES. May be given again."),
]


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.add_typer(app, name="prices")
    finops.command("reprice", short_help="Look the prices of stored calls up again.")(reprice_command)


@app.callback()
def _every_command(context: typer.Context) -> None:
    """What models cost: your cards, our corrections, the catalogue."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("check", short_help="Whether a card file is right; all faults at once.")
def check_command(file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]) -> ExitCode:
    """Tell every fault of a card file, each with its place and its remedy. Exits 1 if there is one."""
    from langchain_finops.errors import Fault
    from langchain_finops.pricing.cards import read_card_file

    if not file.is_file():
        raise BadArguments(f"{file}: there is no such file; name the YAML file of your cards.")
    faults: list[Fault] = []
    cards, aliases = read_card_file(file, faults)
    if faults:
        for fault in faults:
            typer.echo(f"Error: {fault}", err=True)
        return ExitCode.NO
    for sentence in _doubts(cards):
        warn(f"{file}: {sentence}")
    named = "" if not aliases else f" and {counted(len(aliases), 'alias').replace('aliass', 'aliases')}"
    tables = sorted({card.fx.id for card in cards if card.fx is not None})
    used = f", converted by {', '.join(tables)}" if tables else ""
    typer.echo(f"{file}: {counted(len(cards), 'card')}{named}{used}, no fault")
    return ExitCode.GOOD


def _doubts(cards: "tuple[Card, ...]") -> list[str]:
    """What is no fault and yet hardly meant: cards that no call can reach, providers that nobody is called."""
    from langchain_finops.pricing.matching import ALWAYS, EVERY_CALL
    from langchain_finops.pricing.providers import PROVIDERS

    told: list[str] = []
    above: str | None = None
    for card in cards:
        provider = card.match.provider
        if above is not None and card.tool is None:
            told.append(f"card {card.id!r} is never used: {above!r} above it is for every call")
        if provider is not None and "*" not in provider and provider not in PROVIDERS.values():
            told.append(f"card {card.id!r} is for provider {provider!r}, which no integration of LangChain names")
        if card.match == EVERY_CALL and card.validity == ALWAYS and card.tool is None and card.factor is None:
            above = above or card.id
    return told


@app.command("show", short_help="A model's prices, in force and before, and who says so.")
def show_command(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Who sells it, where several do.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="WHEN", help="The prices then: 2026-01-31 (UTC), or 7d for a week ago.")
    ] = None,
    prices: CardsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show a model's prices: the card in force, where it comes from, and its history.

    \b
    finops prices show gpt-4.1-mini
    finops prices show amazon.nova-pro-v1:0 --provider aws --at 2026-01-31
    """
    from langchain_finops.reports.prices import history_table
    from langchain_finops.reports.render import render

    check_named(model, "MODEL", "name the model as its answers do")
    check_named(provider, "--provider", "name it, or leave it out")
    moment = datetime.now(UTC) if at is None else moment_of(at, "--at")
    with busy("Loading prices"):
        book = _book(prices)
        periods = book.history(model, provider=provider, at=moment)
    table = history_table(periods, moment)
    priced = any(period.kind != "unpriced" for period in periods if period.in_force)
    for_people = output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}
    if for_people and not priced:
        of = f" of {periods[0].provider}" if periods[0].provider else ""
        why = ", ".join(periods[0].quote.reasons)
        typer.echo(
            f"{periods[0].model}{of} has no price at {moment:%Y-%m-%d %H:%M} UTC: {why}.\n"
            f"{_remedy(provider, book.similar(model, provider=provider))}"
        )
    if not for_people or any(period.kind != "unpriced" for period in periods):
        render(table, output_format, sys.stdout)


def _remedy(provider: str | None, similar: list[str]) -> str:
    """What to do for a model without a price. Who named the provider is not told to name it."""
    card = "give the model a card in a file that $FINOPS_PRICES names."
    meant = f"There are {', '.join(similar)}.\n" if similar else ""
    named = "Name the provider with --provider" if provider is None else "Name the model as its answers do"
    return f"{meant}{named}, or {card}"


@app.command("diff", short_help="What differs between two card files or catalogues.")
def diff_command(
    old: Annotated[str, typer.Argument(metavar="OLD", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", show_default=False)],
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show which prices came, went and changed, and by how much, between two card files (YAML) or catalogues (JSON).

    `shipped` is the catalogue that is installed.

    \b
    finops prices diff prices-2025.yaml prices.yaml
    finops prices diff shipped data.json --format csv
    """
    from langchain_finops.pricing.diff import changes, read_prices
    from langchain_finops.reports.prices import diff_table
    from langchain_finops.reports.render import render

    with busy("Comparing prices"):
        found = changes(read_prices(old), read_prices(new))
    if not found and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No price differs between {old} and {new}")
        return
    render(diff_table(found, old, new), output_format, sys.stdout)


@app.command("update", short_help="Download a newer catalogue; nothing else ever does.")
def update_command(
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="From there, instead of where genai-prices publishes it.", show_default=False),
    ] = None,
) -> None:
    """Download a newer catalogue into your user data directory. It is checked before it replaces anything.

    Calls that are on file keep their prices; `finops reprice` looks them up again.
    """
    from langchain_finops.pricing.catalog import catalog_version, checked_catalog, current_catalog
    from langchain_finops.pricing.diff import catalog_prices, changes
    from langchain_finops.pricing.snapshots import UPDATE_URL, download, keep, read_snapshot

    check_named(url, "--url", "name an address, or leave it out")
    source = url or UPDATE_URL
    with busy("Downloading the catalogue"):
        data = download(source)
        newer = checked_catalog(read_snapshot(data, source), source)
        current = current_catalog()
        newer.check_size(current)
        path, is_new = keep(data, catalog_version())
    if not is_new:
        typer.echo(f"Up to date: {path} is the newest catalogue there")
        return
    kinds = [change.kind for change in changes(catalog_prices(current), catalog_prices(newer))]
    told = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in ("changed", "added", "removed") if kind in kinds)
    typer.echo(f"Prices: {told or 'no difference'}. The catalogue in use is now {path}")


def reprice_command(
    *,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Calls from then on: 7d, 24h, or 2026-01-31 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Calls before then, in the same forms.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    prices: CardsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Look the prices of stored calls and tools up again. Old figures stay in the history.

    Calls that have no price now keep the one they have. Doing it twice changes nothing more.

    \b
    finops reprice --since 30d --dry-run
    """
    from langchain_finops.reports.render import render
    from langchain_finops.reports.reprice import reprice

    start, end = period_of(since, until)
    book = _book(prices)
    with existing_ledger(ledger) as target:
        with busy("Pricing again"):
            found = reprice(target, book, since=start, until=end, dry_run=dry_run, actor=actor())
        warn_of_spilled(target)
        span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
        place = place_of(target)
    if not found.sums and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(f"No calls or charges to price again{span}, in {place}")
        return
    caption = f"{'Would be priced' if dry_run else 'Priced'} again{span or ', all time'}, in {place}"
    render(found.table(caption), output_format, sys.stdout)


def _book(files: list[Path] | None) -> "PriceBook":
    from langchain_finops.pricing import PriceBook

    return PriceBook.load(*files) if files else PriceBook.default()


def actor() -> str:
    """Who did it, for the audit trail."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container may have no name for whoever runs in it.
        return "finops reprice"
