"""`finops-eval merge`: the shards of a run as one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.cli.common import FormatOption, OutputFormat
from langchain_finops.cli.eval_common import need

__all__ = ["mount"]

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The new results folder.", show_default=False)]
FoldersArgument = Annotated[
    list[Path], typer.Argument(metavar="DIR", help="Results folders of the shards.", show_default=False)
]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("merge")(merge_command)


def merge_command(out: OutArgument, folders: FoldersArgument, output_format: FormatOption = OutputFormat.TABLE) -> None:
    """Put results of `run --shard` together, and show the table of all.

    \b
    finops-eval run tasks.jsonl --live --shard 1/2 --out part-1
    finops-eval run tasks.jsonl --live --shard 2/2 --out part-2
    finops-eval merge results/tasks part-1 part-2

    Folders of another run, and slots that were tried in two of them, are refused.
    """
    from langchain_finops.cli.finops_eval import show

    need("scipy", "finops-eval merge")
    from langchain_finops.evals.merging import merge

    results = merge(out, folders)
    show(results, output_format, None)
    sys.stdout.flush()
    typer.echo(f"Results: {results.folder}", err=True)
