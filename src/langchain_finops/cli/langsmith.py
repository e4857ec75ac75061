"""`finops langsmith`: what LangSmith has of past runs, filled in from the ledger."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.arguments import check_named, existing_ledger, moment_of, place_of, warn_of_spilled
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy

if TYPE_CHECKING:
    from langchain_finops.reports.render import Table

__all__ = ["mount"]

langsmith = typer.Typer(
    name="langsmith",
    help="Put cost and tags of past runs on LangSmith.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)


def mount(app: typer.Typer) -> None:
    """Add these commands to `finops`."""
    app.add_typer(langsmith)


@langsmith.callback()
def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@langsmith.command("sync", short_help="Fill in what LangSmith lacks of past runs.")
def sync_command(
    *,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Runs from then on: 7d, 24h, or 2026-01-31 (UTC). Default: all.")
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs in this project of LangSmith. Default: in any.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look: send nothing.")] = False,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Put cost and tags on the runs that LangSmith has, by LangChain's run ids.

    Nothing is created there. What is as it should be is left alone, so that the
    same command again, or after it was cut off, sends only the rest. Needs
    LANGSMITH_API_KEY; LANGSMITH_ENDPOINT for a server of your own.

    \b
    finops langsmith sync --since 7d --dry-run
    """
    check_named(project, "--project", "name a project of LangSmith, or leave it out for all")
    start = None if since is None else moment_of(since, "--since")
    with existing_ledger(ledger) as source:
        from langchain_finops.langchain.langsmith_client import langsmith_errors, own_client
        from langchain_finops.langchain.langsmith_sync import project_id, sync
        from langchain_finops.reports.render import render

        client = own_client()
        with langsmith_errors(f"Project {project!r}"):
            where = None if project is None else project_id(client, project)
        with busy("Syncing with LangSmith"), langsmith_errors("The sync stopped; the same command goes on from there"):
            counts = sync(source, client, since=start, project=where, dry_run=dry_run)
        warn_of_spilled(source)
        rows = [{"kind": kind, **asdict(count), "dry_run": dry_run} for kind, count in counts.items()]
        caption = f"{'Would be sent' if dry_run else 'Sent'} from {place_of(source)} to LangSmith at {client.api_url}"
        render(_table(rows, caption, dry_run=dry_run), output_format, sys.stdout)


def _table(rows: list[dict[str, Any]], caption: str, *, dry_run: bool) -> "Table":
    from langchain_finops.reports.render import Column, Table

    figures = ("in_ledger", "updated", "unchanged", "not_found", "not_ended", "other_ids", "folded")
    titles = {"updated": "to send" if dry_run else "sent"}
    columns = [Column(title="what", text=lambda row: str(row["kind"]), name=True)]
    for name in figures:
        title = titles.get(name, name.replace("_", " "))
        columns.append(Column(title=title, text=lambda row, name=name: f"{row[name]:,}"))  # type: ignore[misc]
    notes = []
    if any(row["not_found"] for row in rows):
        notes.append("not found: never traced, sampled out, deleted, or in another project; nothing is created there.")
    if any(row["not_ended"] for row in rows):
        notes.append("not ended: still going on at LangSmith; they are marked when they end.")
    if any(row["other_ids"] for row in rows):
        notes.append("other ids: imported, or an id that was given twice; LangSmith knows none of them.")
    if any(row["folded"] for row in rows):
        notes.append(
            "folded: finops prune has folded some of what they cost; what LangSmith says of them is left as it is."
        )
    return Table(rows=rows, fields=("kind", *figures, "dry_run"), columns=columns, caption=caption, notes=notes)
