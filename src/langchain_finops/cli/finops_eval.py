"""`finops-eval`: which configuration is worth its money. Parses words, calls one function, prints, exits."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from langchain_finops.cli import eval_compare, eval_demo, eval_gate, eval_merge, eval_shadow
from langchain_finops.cli.common import DebugOption, FormatOption, OutputFormat, VersionOption, warn
from langchain_finops.cli.common import run as run_command_line
from langchain_finops.cli.eval_common import need
from langchain_finops.cli.eval_langsmith import LangSmithOption, check_langsmith, send_to_langsmith
from langchain_finops.errors import BadArguments, BadData

if TYPE_CHECKING:
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.resume import Results
    from langchain_finops.evals.runner import Observer

__all__ = ["app", "both", "main", "progress", "show"]

app = typer.Typer(
    name="finops-eval",
    help="What a success costs with each configuration, how sure that is, and whether the dearer one pays.",
    rich_markup_mode=None,  # Without it help would differ between versions of rich, and load it.
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


class RecordModes(StrEnum):
    """When the real model is asked."""

    NONE = "none"
    ONCE = "once"
    ALL = "all"


DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Golden dataset: JSON lines.", show_default=False)]
SuiteOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Default: the YAML file of the same stem beside DATA.", show_default=False),
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Results folder. Default: results/<name of DATA>.", show_default=False),
]
RunLedgerOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where calls are written. Default: $FINOPS_LEDGER, else ledger.db in the results folder.",
        show_default=False,
    ),
]
ConcurrencyOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Attempts at once. Default: the suite's.", show_default=False)
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Set earlier results aside and start anew.")]
AllowMixedOption = Annotated[
    bool, typer.Option("--allow-mixed", help="Keep answers that the target gave before its code changed.")
]
RetryErrorsOption = Annotated[
    bool, typer.Option("--retry-errors", help="Try attempts again that the infrastructure failed.")
]
TraceOption = Annotated[
    bool, typer.Option("--trace", help="Let LangSmith trace attempts, where the environment turns it on.")
]
CardsOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The card set of the suite that prices. Default: its first.")
]
MaxUsdOption = Annotated[
    str | None,
    typer.Option(
        metavar="USD",
        help="List cost at which no further attempt begins, judges and earlier runs into the folder included.",
        show_default=False,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Run part I of N alone; `merge` puts them together.", show_default=False),
]
SplitOption = Annotated[
    list[str] | None, typer.Option("--split", metavar="NAME", help="Items of this split alone; repeatable.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Items with this in their metadata alone; repeatable."),
]
SampleOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="So many items, drawn at random by --seed.", show_default=False)
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Of the sample.")]
RecordModeOption = Annotated[
    RecordModes | None,
    typer.Option(
        metavar="MODE",
        help="none: replay alone. once: replay what is recorded, record the rest. all: record everything anew.",
        show_default=False,
    ),
]
CassetteOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The recording. Default: the suite's.", show_default=False)
]
TableCardsOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The card set of the suite that prices. Default: the run's.")
]


def main() -> None:
    """Run `finops-eval` and exit with its code."""
    sys.exit(run_command_line(app, "finops-eval"))


@app.callback()
def _every_command(version: VersionOption = False, debug: DebugOption = False) -> None:
    """What a success costs with each configuration, how sure that is, and whether the dearer one pays."""


@app.command("run")
def run_command(
    data: DataArgument,
    *,
    suite: SuiteOption = None,
    record: Annotated[bool, typer.Option("--record", help="Ask the real model, and record what it answers.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the real model; leave the suite's recording alone.")
    ] = False,
    cards: CardsOption = None,
    out: OutOption = None,
    ledger: RunLedgerOption = None,
    concurrency: ConcurrencyOption = None,
    fresh: FreshOption = False,
    allow_mixed: AllowMixedOption = False,
    retry_errors: RetryErrorsOption = False,
    trace: TraceOption = False,
    langsmith: LangSmithOption = False,
    max_usd: MaxUsdOption = None,
    shard: ShardOption = None,
    split: SplitOption = None,
    where: WhereOption = None,
    sample: SampleOption = None,
    seed: SeedOption = 0,
    record_mode: RecordModeOption = None,
    cassette: CassetteOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run a suite on a dataset, or go on with it, and show one row for each configuration.

    \b
    finops-eval run golden_datasets/tickets.jsonl
    finops-eval run tickets.jsonl --live --concurrency 4 --format json
    finops-eval run tickets.jsonl --live --max-usd 2.50 --sample 50

    The same command goes on where a crash or Ctrl-C stopped it, and pays for nothing twice.
    """
    if record and live:
        raise BadArguments("--record and --live exclude each other: a recording asks the real model anyway")
    need("scipy", "finops-eval")
    check_langsmith(langsmith)
    from langchain_finops.evals.prepare import Options

    options = Options(
        mode="record" if record else "live" if live else None,
        folder=out,
        ledger=ledger,
        cards=cards,
        concurrency=concurrency,
        fresh=fresh,
        allow_mixed=allow_mixed,
        retry_errors=retry_errors,
        trace=trace,
        max_usd=max_usd,
        shard=None if shard is None else _shard(shard),
        splits=tuple(split or ()),
        where=_where(where or ()),
        sample=sample,
        seed=seed,
        record_mode=None if record_mode is None else record_mode.value,
        cassette=cassette,
    )
    results = _evaluated(data, suite, options)
    show(results, output_format, cards)
    sys.stdout.flush()  # Without it what follows on stderr may stand in the middle of the table.
    typer.echo(f"Results: {results.folder}\nCosts by node: {_report_command(results)}", err=True)
    if langsmith:
        send_to_langsmith(results)


@app.command("table")
def table_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.", show_default=False)],
    *,
    cards: TableCardsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show the table of a results folder again, without running anything.

    \b
    finops-eval table results/tickets --format markdown
    """
    need("scipy", "finops-eval table")
    from langchain_finops.evals.resume import load_results

    show(load_results(folder), output_format, cards)


eval_compare.mount(app)
eval_demo.mount(app)
eval_gate.mount(app)
eval_merge.mount(app)
eval_shadow.mount(app)


def _shard(text: str) -> tuple[int, int]:
    """Which part of how many."""
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal()):
        raise BadArguments(f"--shard {text} found: a part of how many is expected, such as 1/4")
    return int(number), int(parts)


def _where(texts: Sequence[str]) -> dict[str, str]:
    """What metadata must say, by name."""
    wanted: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadArguments(f"--where {text} found: KEY=VALUE is expected, such as --where hard=true")
        if wanted.setdefault(name, value) != value:
            raise BadArguments(f"--where {name} is given twice: no item has two values of it")
    return wanted


def _evaluated(data: Path, suite: Path | None, options: "Options") -> "Results":
    """Read what is to be run, and run it."""
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.runner import run
    from langchain_finops.evals.suite import load_suite, suite_beside

    dataset, read_suite = both(lambda: load_dataset(data), lambda: load_suite(suite or suite_beside(data)))
    try:
        # What a target prints must not end up among the rows.
        with progress() as observer, redirect_stdout(sys.stderr):
            return run(dataset, read_suite, options, observer=observer)
    except KeyboardInterrupt:
        typer.echo("What was finished is kept: the same command goes on from here.", err=True)
        raise


T = TypeVar("T")
U = TypeVar("U")


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """The results of two readers; where both fail on bad data, the faults of both, so that one look is enough."""
    try:
        one = first()
    except BadData as error:
        try:
            second()
        except BadData as other:
            raise BadData([*error.faults, *other.faults]) from error
        raise
    return one, second()


def show(results: "Results", output_format: OutputFormat, cards: str | None) -> None:
    """Print the table on stdout, and what is worth knowing besides on stderr."""
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

    for fault in results.torn:
        warn(f"{fault}; its slot is tried again by the next run")
    if results.outdated:
        warn(f"{results.outdated} tries at items or configurations that have changed since are left out")
    if results.set_aside is not None:
        warn(f"earlier results are kept in {results.set_aside}")
    if results.repriced:
        warn(f"prices have changed since: {results.repriced} stored tries were priced again, in the ledger too")
    swallowed = sum(attempt.status == "completed" and attempt.failed_calls > 0 for attempt in results.attempts)
    if swallowed:
        warn(f"{swallowed} attempts were completed although some of their calls failed: see failed_calls in attempts")
    if undecided := [said for said in results.verdicts if said.success is None]:
        warn(f"{len(undecided)} verdicts could not be told; the first: {undecided[0].reason}")
    reasons = {said.reason for said in results.verdicts if not said.success}
    if len(reasons) == 1 and None not in reasons and not any(said.success for said in results.verdicts):
        warn(f"no answer was a success, each time because of the same: {reasons.pop()}")
    if results.run.get("stopped"):
        warn(f"the run is not finished: {results.run['stopped']}")
    render(table_of(results, cards=cards), output_format, sys.stdout)


def _report_command(results: "Results") -> str:
    """The command that shows what the calls cost, node by node."""
    command = [_finops(), "report", "--by", "node", "--ledger", str(results.run["ledger"])]
    return shlex.join(command)


def _finops() -> str:
    """How the other command is called from here: by its path where the environment is not activated, as in a demo."""
    beside = Path(sys.argv[0]).with_name("finops")
    return "finops" if shutil.which("finops") or not beside.is_file() else str(beside)


@contextmanager
def progress() -> Iterator["Observer | None"]:
    """A bar on stderr, on a terminal only: attempts done, remaining time, money spent and forecast, errors."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from langchain_finops.evals.runner import Progress as Stand

    columns = (
        TextColumn("Attempts"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("", total=None)

        def observe(stand: Stand) -> None:
            errors = f", {stand.errors} errors" if stand.errors else ""
            forecast = "" if stand.forecast_usd is None else f" of about ${stand.forecast_usd:.6f}"
            spent = f"${stand.known_usd:.6f}{forecast}{errors}"
            bar.update(shown, completed=stand.done, total=stand.total, description=spent)

        yield observe


if __name__ == "__main__":
    main()
