"""`finops import`: an existing bill or export; `finops reconcile`: the ledger against a provider's totals."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.cli.arguments import counted, existing_ledger, names_of, place_of, warn_of_spilled
from langchain_finops.cli.common import ExitCode, FormatOption, LedgerOption, OutputFormat, busy, warn
from langchain_finops.cli.economics import amount_of
from langchain_finops.errors import BadArguments

__all__ = ["mount"]


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.command("import", short_help="Read an existing bill or export.")(import_command)
    finops.command("reconcile", short_help="Compare the ledger with a provider's totals.")(reconcile_command)


def import_command(
    *,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", show_default=False, help="langsmith, openai, anthropic or litellm.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    agents: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: agents by project, workspace, team or API key.")
    ] = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Read an existing bill: run exports of LangSmith, spend logs of LiteLLM, cost reports of OpenAI and Anthropic.

    All of a file or nothing. Doing it twice changes nothing. Makes the ledger if it is not there.

    \b
    finops import openai costs.json --agents agents.yaml
    """
    from langchain_finops.ledger import open_ledger
    from langchain_finops.reports.bills import KINDS, read_bill
    from langchain_finops.reports.imports import import_bill, read_agents
    from langchain_finops.reports.render import render

    if kind not in KINDS:
        raise BadArguments(f"{kind!r} is nothing to import: choose from {', '.join(KINDS)}.")
    bill = read_bill(file, kind)
    names = {} if agents is None else read_agents(agents)
    target = open_ledger(ledger)
    try:
        with busy("Importing"):
            done = import_bill(target, bill, names)
        place = place_of(target)
    finally:
        target.close()
    if done.metered:
        warn(
            f"{counted(done.metered, 'call')} of the same provider and time were recorded by a handler: the same cost "
            "may now count twice. Import into a ledger of its own, or `finops reconcile`."
        )
    render(done.table(f"Imported from {file} into {place}"), output_format, sys.stdout)


def reconcile_command(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    by: Annotated[
        str, typer.Option(metavar="NAMES", help="day, key, model, with commas. Default: all.", show_default=False)
    ] = "day,key,model",
    tolerance: Annotated[
        str, typer.Option(metavar="SHARE", help="How far a row may be off. Default: 0.01.", show_default=False)
    ] = "0.01",
    tolerance_usd: Annotated[
        str, typer.Option(metavar="X", help="Or by how many dollars. Default: 0.01.", show_default=False)
    ] = "0.01",
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> ExitCode:
    """Compare the ledger with a cost or usage report, by day, key and model. Exits 1 where they differ.

    \b
    finops reconcile costs.json --tolerance 0.005
    """
    from langchain_finops.reports.bills import read_bill
    from langchain_finops.reports.reconcile import reconcile
    from langchain_finops.reports.render import render

    share, least = amount_of(tolerance, "--tolerance"), amount_of(tolerance_usd, "--tolerance-usd")
    for amount, option in ((share, "--tolerance"), (least, "--tolerance-usd")):
        if amount < Decimal(0):
            raise BadArguments(f"{option} is {amount}: write 0 or more.")
    bill = read_bill(file)
    with existing_ledger(ledger) as source:
        with busy("Comparing"):
            found = reconcile(source, bill, names_of(by), tolerance=share, tolerance_usd=least)
        warn_of_spilled(source)
        place = place_of(source)
    render(found.table(f"{file} against {place}"), output_format, sys.stdout)
    return ExitCode.GOOD if found.agrees else ExitCode.NO
