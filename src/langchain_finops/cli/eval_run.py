"""`finops-eval run`: a suite on a dataset."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.common import FormatOption, OutputFormat
from langchain_finops.cli.eval_advice import (
    AdviceFileOption,
    AdviceForOption,
    AdviceLedgerOption,
    WithAdviceOption,
    advised,
    show_promise,
)
from langchain_finops.cli.eval_common import need
from langchain_finops.cli.eval_html import HtmlOption, check_html, write_run_page
from langchain_finops.cli.eval_langsmith import LangSmithOption, check_langsmith, send_to_langsmith
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.resume import Results

__all__ = ["mount"]


class RecordModes(StrEnum):
    """When the real model is asked."""

    NONE = "none"
    ONCE = "once"
    ALL = "all"


RecordOption = Annotated[
    bool, typer.Option("--record", help="Ask the real model what the recording lacks, and record it.")
]
LiveOption = Annotated[bool, typer.Option("--live", help="Ask the real model; leave the suite's recording alone.")]
DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="Golden dataset: JSON lines, CSV, YAML, Parquet, or langsmith:NAME.", show_default=False
    ),
]
SuiteOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Default: the YAML file of the same stem beside DATA.", show_default=False),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Results folder. Default: results/<name of DATA>.", show_default=False),
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
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Set earlier results aside and start anew; a recording stays.")
]
AllowMixedOption = Annotated[
    bool, typer.Option("--allow-mixed", help="Keep answers of before the target's code or the limits changed.")
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
SplitsOption = Annotated[
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


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run_command)


def run_command(
    data: DataArgument,
    *,
    suite: SuiteOption = None,
    record: RecordOption = False,
    live: LiveOption = False,
    cards: CardsOption = None,
    folder: FolderOption = None,
    ledger: RunLedgerOption = None,
    concurrency: ConcurrencyOption = None,
    fresh: FreshOption = False,
    allow_mixed: AllowMixedOption = False,
    retry_errors: RetryErrorsOption = False,
    trace: TraceOption = False,
    langsmith: LangSmithOption = False,
    max_usd: MaxUsdOption = None,
    shard: ShardOption = None,
    splits: SplitsOption = None,
    where: WhereOption = None,
    sample: SampleOption = None,
    seed: SeedOption = 0,
    record_mode: RecordModeOption = None,
    cassette: CassetteOption = None,
    with_advice: WithAdviceOption = None,
    advice_ledger: AdviceLedgerOption = None,
    advice_file: AdviceFileOption = None,
    advice_for: AdviceForOption = None,
    html: HtmlOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run a suite on a dataset, or go on with it, and show one row for each configuration.

    \b
    finops-eval run golden_datasets/tickets.jsonl
    finops-eval run tickets.jsonl --live --concurrency 4 --format json
    finops-eval run tickets.jsonl --live --max-usd 2.50 --sample 50
    finops-eval run tickets.jsonl --live --with-advice 1

    The same command goes on where a crash or Ctrl-C stopped it, and pays for nothing twice.
    """
    given = locals()
    need("scipy", "finops-eval")
    check_langsmith(langsmith)
    check_html(html)
    _tell(_evaluated(data, suite, given), given)


def _tell(results: "Results", given: Mapping[str, Any]) -> None:
    """The table, what an advice promised, the page, and where all of it is."""
    from langchain_finops.cli.finops_eval import show

    show(results, given["output_format"], given["cards"])
    show_promise(results, given["output_format"])
    sys.stdout.flush()  # Without it what follows on stderr may stand in the middle of the table.
    write_run_page(given["html"], results, given["cards"])
    typer.echo(f"Results: {results.folder}\nCosts by node: {_report_command(results)}", err=True)
    if given["langsmith"]:
        send_to_langsmith(results)


def _options(given: Mapping[str, Any]) -> "Options":
    """What the words say. Most options are called alike."""
    from langchain_finops.evals.prepare import Options

    record, live, record_mode, shard = given["record"], given["live"], given["record_mode"], given["shard"]
    if record and live:
        raise BadArguments("--record and --live exclude each other: a recording asks the real model anyway")
    read: dict[str, Any] = {
        "mode": "record" if record else "live" if live else None,
        "shard": None if shard is None else _shard(shard),
        "splits": tuple(given["splits"] or ()),
        "where": _where(given["where"] or ()),
        "record_mode": None if record_mode is None else record_mode.value,
    }
    alike = {name: given[name] for name in Options.__dataclass_fields__ if name in given and name not in read}
    return Options(**alike, **read)


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


def _evaluated(data: Path, suite: Path | None, given: Mapping[str, Any]) -> "Results":
    """Read what is to be run, and run it."""
    options = _options(given)
    from langchain_finops.cli.finops_eval import both, progress
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.runner import run
    from langchain_finops.evals.suite import load_suite, suite_beside

    dataset, read_suite = both(lambda: load_dataset(data), lambda: load_suite(suite or suite_beside(data)))
    read_suite = advised(read_suite, given)
    try:
        # What a target prints must not end up among the rows.
        with progress() as observer, redirect_stdout(sys.stderr):
            return run(dataset, read_suite, options, observer=observer)
    except KeyboardInterrupt:
        typer.echo("What was finished is kept: the same command goes on from here.", err=True)
        raise


def _report_command(results: "Results") -> str:
    """The command that shows what the calls cost, node by node."""
    command = [_finops(), "report", "--by", "node", "--ledger", str(results.run["ledger"])]
    return shlex.join(command)


def _finops() -> str:
    """How the other command is called from here: by its path where the environment is not activated, as in a demo."""
    beside = Path(sys.argv[0]).with_name("finops")
    return "finops" if shutil.which("finops") or not beside.is_file() else str(beside)
