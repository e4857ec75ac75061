"""`finops-eval shadow`: does the expensive configuration still pay?"""

import shlex
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.common import ExitCode, FormatOption, OutputFormat
from langchain_finops.cli.eval_common import (
    LevelOption,
    MinSuccessesOption,
    MinTasksOption,
    need,
    render_report,
    verdict_code,
)

if TYPE_CHECKING:
    from langchain_finops.evals.shadowing import ShadowOptions, ShadowReport

__all__ = ["mount"]

EVERY_MONDAY_AT_SIX = "0 6 * * 1"
DataArgument = Annotated[
    Path, typer.Argument(metavar="SUITE|DATA", help="A suite, or a dataset with its suite.", show_default=False)
]
SuiteOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Default: the YAML file beside DATA.", show_default=False)
]
LooksOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Looks planned in all: divides the level over them.")
]
HistoryOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Default: history.jsonl in DIR.", show_default=False)
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Results, a folder a look. Default: results/<DATA>-shadow.", show_default=False),
]
LedgerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Default: $FINOPS_LEDGER, else one in each look's folder.", show_default=False),
]
MarginOption = Annotated[
    float | None,
    typer.Option(min=0, metavar="SHARE", help="How much dearer still pays. Default: the suite's, else 0."),
]
DATA_ENDINGS = (".jsonl", ".csv", ".parquet")


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("shadow")(shadow_command)


def shadow_command(
    context: typer.Context,
    data: DataArgument,
    *,
    baseline: Annotated[str, typer.Option(metavar="A", help="The expensive configuration.", show_default=False)],
    candidate: Annotated[str, typer.Option(metavar="B", help="The cheaper one.", show_default=False)],
    suite: SuiteOption = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the real model, although the suite has a recording.")
    ] = False,
    looks: LooksOption = None,
    history: HistoryOption = None,
    out: OutOption = None,
    ledger: LedgerOption = None,
    cards: Annotated[str | None, typer.Option(metavar="NAME", help="The card set that prices.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, metavar="N", help="Attempts at once.")] = None,
    max_usd: Annotated[str | None, typer.Option(metavar="USD", help="List cost at which the look is stopped.")] = None,
    margin: MarginOption = None,
    level: LevelOption = 0.95,
    min_tasks: MinTasksOption = 50,
    min_successes: MinSuccessesOption = 10,
    output_format: FormatOption = OutputFormat.TABLE,
) -> ExitCode:
    """Does the quality of expensive A still justify its cost, against cheaper B?

    \b
    finops-eval shadow tickets.jsonl --baseline large --candidate small --live

    Runs both on the dataset, appends to a history, and prints the cron line that
    repeats it. Exit code: 0 justified, 1 not any more, 3 inconclusive.
    """
    need("scipy", "finops-eval shadow")
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.shadowing import ShadowOptions

    run = Options(mode="live" if live else None, ledger=ledger, cards=cards, concurrency=concurrency, max_usd=max_usd)
    minima: dict[str, Any] = {"min_tasks": min_tasks, "min_successes": min_successes}
    options = ShadowOptions(folder=out, history=history, looks=looks, level=level, margin=margin, run=run, **minima)
    report = _shadow(data, suite, (baseline, candidate), options)
    render_report(report.table(), output_format)
    typer.echo(f"To repeat it every Monday at six: {_cron(context)}", err=True)
    return verdict_code(report.verdict)


def _shadow(data: Path, suite: Path | None, names: tuple[str, str], options: "ShadowOptions") -> "ShadowReport":
    from langchain_finops.cli.finops_eval import both, progress
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.shadowing import shadow
    from langchain_finops.evals.suite import load_suite

    data_file, suite_file = _files(data, suite)
    dataset, read_suite = both(lambda: load_dataset(data_file), lambda: load_suite(suite_file))
    baseline, candidate = names
    # What a target prints must not end up among the rows.
    with progress() as observer, redirect_stdout(sys.stderr):
        return shadow(dataset, read_suite, baseline=baseline, candidate=candidate, options=options, observer=observer)


def _files(given: Path, suite: Path | None) -> tuple[Path, Path]:
    """The dataset and the suite, whichever of them was named: the other is the file of the same stem beside it."""
    from langchain_finops.evals.suite import suite_beside

    if suite is not None:
        return given, suite
    if given.suffix in (".yaml", ".yml"):
        stem = given.with_suffix("")
        if stem.suffix == ".suite" and (data := stem.with_suffix(given.suffix)).is_file():
            return data, given
        for ending in DATA_ENDINGS:
            if (data := given.with_suffix(ending)).is_file():
                return data, given
    return given, suite_beside(given)


def _cron(context: typer.Context) -> str:
    """A crontab's line, with the words that were given. It starts in this folder: targets are looked up from there too.
    Cron ends a command at %."""
    program = Path(sys.argv[0]).with_name("finops-eval")
    words = [str(program) if program.is_file() else shutil.which("finops-eval") or "finops-eval", "shadow"]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name == "output_format":
            continue
        value = context.params[name]
        option = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
        words += option if value is True else [*option, str(value)]
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(words)} >> shadow.log 2>&1"
    return f"{EVERY_MONDAY_AT_SIX} {command.replace('%', chr(92) + '%')}"
