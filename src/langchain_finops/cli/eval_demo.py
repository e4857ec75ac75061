"""`finops-eval demo`: the main job, from a recording that comes with the package."""

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.cli.common import FormatOption, OutputFormat
from langchain_finops.cli.eval_common import need

__all__ = ["mount"]

OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Results folder.")]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo_command)


def demo_command(*, out: OutOption = Path("results/demo"), output_format: FormatOption = OutputFormat.TABLE) -> None:
    """Evaluate an agent from a recording of a real model: no key, model or network.

    \b
    finops-eval demo

    60 tasks, 5 configurations, 3 repeats of a LangGraph agent; under a minute.
    """
    for module in ("scipy", "vcr", "langchain_openai"):
        need(module, "finops-eval demo")
    from langchain_finops.cli.finops_eval import progress, show
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.runner import run
    from langchain_finops.evals.shipped import shipped_dataset
    from langchain_finops.evals.suite import load_suite, suite_beside

    data = shipped_dataset()
    with progress() as observer, redirect_stdout(sys.stderr):
        options = Options(mode="replay", folder=out, ledger=out / "ledger.db")
        results = run(load_dataset(data), load_suite(suite_beside(data)), options, observer=observer)
    show(results, output_format, None)
    sys.stdout.flush()
    folder = shlex.quote(str(out))
    typer.echo(
        f"Results: {out}. Data, suite and agent: {data.parent.parent}\n"
        "Next:\n"
        f"  finops-eval compare {folder}:five-shot {folder}:two-shot\n"
        f'  finops-eval gate {folder} --rules "unpriced == 0" --rules "success_rate >= 10%"',
        err=True,
    )
