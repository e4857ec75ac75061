"""`--html`: the table and its pictures as one page, beside what a command prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from langchain_finops.evals.resume import Results
    from langchain_finops.evals.rows import TableOptions
    from langchain_finops.evals.sources import Sources
    from langchain_finops.reports.render import Table

__all__ = ["HtmlOption", "check_html", "write_page", "write_run_page"]

HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a report too: one page for a browser and for paper.",
        show_default=False,
    ),
]


def check_html(path: Path | None) -> None:
    """Raise where the page could not be written, before anything is bought."""
    if path is not None:
        from langchain_finops.evals.html_report import check_html_path

        check_html_path(path)


def write_run_page(path: Path | None, results: "Results", cards: str | None) -> None:
    """The page of a run, if one is wanted."""
    if path is None:
        return
    from langchain_finops.evals.resume import check_cards, plan_of, table_of
    from langchain_finops.evals.rows import TableOptions
    from langchain_finops.evals.sources import Sources

    plan, options = plan_of(results), TableOptions(cards=check_cards(results, cards))
    sources = Sources(attempts=results.attempts, verdicts=results.verdicts, plan=plan, folders=(results,))
    write_page(path, table_of(results, cards=cards), sources, options)


def write_page(path: Path | None, table: "Table", sources: "Sources", options: "TableOptions") -> None:
    """The page of a table, if one is wanted; where it is goes to stderr."""
    if path is None:
        return
    from langchain_finops.evals.html_report import Evaluation, about_of, html_report, write_html

    about = about_of(sources.folders[0]) if len(sources.folders) == 1 else _folders(sources.folders)
    evaluation = Evaluation(
        title=_title(sources.folders),
        about=about,
        table=table,
        attempts=sources.attempts,
        verdicts=sources.verdicts,
        plan=sources.plan,
        options=options,
    )
    write_html(path, html_report(evaluation))
    typer.echo(f"Report: {path}", err=True)


def _title(folders: "Sequence[Results]") -> str:
    names = dict.fromkeys(str(results.run["dataset"]["name"]) for results in folders)
    return f"What a success costs: {', '.join(names)}" if names else "What a success costs"


def _folders(folders: "Sequence[Results]") -> list[tuple[str, str]]:
    return [("Results", str(results.folder)) for results in folders]
