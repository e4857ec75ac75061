"""`finops-eval run --langsmith`: the run as experiments on LangSmith, once it is there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.common import busy, warn
from langchain_finops.errors import FinOpsError

if TYPE_CHECKING:
    from langchain_finops.evals.resume import Results

__all__ = ["LangSmithOption", "check_langsmith", "send_to_langsmith"]

LangSmithOption = Annotated[
    bool, typer.Option("--langsmith", help="Upload the run to LangSmith, an experiment for each configuration.")
]


def check_langsmith(wanted: bool) -> None:
    """Raise EvalError where the upload would fail for want of a key: before anything is bought."""
    if wanted:
        from langchain_finops.evals.langsmith import own_client

        own_client()


def send_to_langsmith(results: "Results") -> None:
    """Upload what is new. A failure is one warning: the results are here, and the same command goes on with it."""
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.langsmith_upload import upload

    try:
        with busy("Uploading to LangSmith"):
            uploaded = upload(results, load_dataset(Path(results.run["dataset"]["path"])))
    except Exception as error:  # noqa: BLE001  Whatever it is: the run is made, and what it found is shown.
        said = error if isinstance(error, FinOpsError) else f"LangSmith: {type(error).__name__}: {error}"
        warn(f"{said}; the results are in {results.folder}, and the same command uploads them")
        return
    names = ", ".join(uploaded.experiments.values())
    typer.echo(
        f"LangSmith: dataset {uploaded.dataset!r}, experiments {names}; {uploaded.sent:,} attempts sent", err=True
    )
