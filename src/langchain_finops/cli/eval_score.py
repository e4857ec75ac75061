"""`finops-eval score`: stored answers, judged by new or changed scorers, and how far they agree with people."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.common import FormatOption, OutputFormat
from langchain_finops.cli.eval_common import need, render_report, warn_of_results
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from langchain_finops.evals.resume import Results

__all__ = ["mount"]

SuiteOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Whose scorers judge. Default: as it was scored last.", show_default=False),
]
DataOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where references are. Default: the run's.", show_default=False)
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What people said of the answers; kept beside them.", show_default=False),
]
MaxUsdOption = Annotated[
    str | None,
    typer.Option(
        metavar="USD", help="List cost at which no further judge is asked, the run's included.", show_default=False
    ),
]
ConcurrencyOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Answers at once. Default: the suite's.", show_default=False)
]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score_command)


def score_command(
    folder: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder.", show_default=False)],
    *,
    suite: SuiteOption = None,
    data: DataOption = None,
    labels: LabelsOption = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Show how far scorers agree with people, not the table.")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="Ask judges, whatever the run's recording holds.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Ask judges, and record what they say.")] = False,
    max_usd: MaxUsdOption = None,
    concurrency: ConcurrencyOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Judge stored answers by new or changed scorers, and show the table. Buys no answers.

    \b
    finops-eval score results/tickets --suite stricter.yaml
    finops-eval score results/tickets --labels people.jsonl --agreement

    Old verdicts are kept. The same command goes on where it stopped, and asks no judge twice.
    """
    need("scipy", "finops-eval score")
    if live and record:
        raise BadArguments("--live and --record exclude each other: a recording asks the judge anyway")
    from langchain_finops.evals.labels import agreement_table
    from langchain_finops.evals.resume import table_of
    from langchain_finops.evals.scoring import ScoreOptions

    mode: Any = "record" if record else "live" if live else None
    options = ScoreOptions(mode=mode, max_usd=max_usd, concurrency=concurrency, labels=labels)
    results = _scored(folder, suite, data, options)
    warn_of_results(results)
    render_report(agreement_table(results) if agreement else table_of(results), output_format)


def _scored(folder: Path, suite: Path | None, data: Path | None, options: Any) -> "Results":
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.scoring import score
    from langchain_finops.evals.suite import load_suite

    read = None if suite is None else load_suite(suite)
    dataset = None if data is None else load_dataset(data)
    try:
        with redirect_stdout(sys.stderr):  # What a scorer prints must not end up among the rows.
            return score(folder, read, options, dataset=dataset)
    except KeyboardInterrupt:
        typer.echo("What was judged is kept: the same command goes on from here.", err=True)
        raise
