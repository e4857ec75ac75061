"""`finops serve`: the web page of a ledger."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.arguments import existing_ledger, warn_of_spilled
from langchain_finops.cli.common import LedgerOption, warn
from langchain_finops.errors import BadArguments, MissingExtra

if TYPE_CHECKING:
    from langchain_finops.dashboard.access import Access

__all__ = ["mount"]


def mount(app: typer.Typer) -> None:
    """Add the command to `finops`."""
    app.command("serve", short_help="The same on a web page, with a kill switch.")(serve_command)


def serve_command(
    *,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Where to listen. Default: 127.0.0.1, this machine only.", show_default=False
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Default: 8321; 0 takes a free one.", show_default=False, min=0, max=65535)
    ] = 8321,
    ledger: LedgerOption = None,
) -> None:
    """Show on a web page who spends what, live; and stop agents there.

    Any other address than this machine's own needs a token: $FINOPS_OPERATOR_TOKEN for those who may stop agents,
    $FINOPS_VIEWER_TOKEN for those who may only look.

    \b
    finops serve
    FINOPS_VIEWER_TOKEN=... finops serve --host 0.0.0.0 --port 80
    """
    access = _access(host)
    from langchain_finops.budgets.policy_file import PolicyFile
    from langchain_finops.dashboard.server import serve
    from langchain_finops.ledger.sql import SqlLedger
    from langchain_finops.pricing.book import PriceBook

    with existing_ledger(ledger) as source:
        if not isinstance(source, SqlLedger):
            raise BadArguments("--ledger :memory: is empty for all others: name the file that the handlers write.")
        warn_of_spilled(source)
        if access.needs_token and not _is_own(host):
            warn("what the page shows, tokens too, goes over the network as it is: put a proxy with TLS before it.")
        PriceBook.default()  # A fault in a file of cards is told now, and not on a page.
        serve(source, access, port=port, budgets=PolicyFile(None).budgets(), ready=_say)


def _access(host: str) -> "Access":
    try:
        import jinja2  # noqa: F401 - is it there?
        import uvicorn  # noqa: F401

        from langchain_finops.dashboard.access import Access
    except ImportError as error:
        raise MissingExtra("finops serve", "dashboard") from error
    named = {
        role: os.environ.get(f"FINOPS_{role.upper()}_TOKEN", "").strip() or None for role in ("operator", "viewer")
    }
    return Access(host=host, operator_token=named["operator"], viewer_token=named["viewer"])


def _is_own(host: str) -> bool:
    from langchain_finops.dashboard.access import is_loopback

    return is_loopback(host)


def _say(address: str) -> None:
    typer.echo(f"The page is at {address} (Ctrl-C ends it)")
