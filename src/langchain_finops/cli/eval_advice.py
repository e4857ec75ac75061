"""`finops-eval run --with-advice`: which advice is tested, and what it promised beside what was seen."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.arguments import existing_ledger, place_of, warn_of_spilled
from langchain_finops.cli.common import OutputFormat, busy
from langchain_finops.cli.eval_common import render_report
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from langchain_finops.evals.advised import Advice
    from langchain_finops.evals.resume import Results
    from langchain_finops.evals.suite import Suite

__all__ = ["AdviceFileOption", "AdviceForOption", "AdviceLedgerOption", "WithAdviceOption", "advised", "show_promise"]

WithAdviceOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Test this advice of `finops advise`: the baseline, and the same as the advice has it, alone.",
        show_default=False,
    ),
]
AdviceLedgerOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The ledger that is advised on. Default: $FINOPS_LEDGER, else that of `finops`.",
        show_default=False,
    ),
]
AdviceFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Advice that `finops advise --format json` wrote, instead.", show_default=False),
]
AdviceForOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The configuration that it changes. Default: the baseline.", show_default=False),
]


def advised(suite: "Suite", given: Mapping[str, Any]) -> "Suite":
    """The suite as it stands, or the one that tests the advice which the options name."""
    n = given["with_advice"]
    if n is None:
        for name in ("advice_ledger", "advice_file", "advice_for"):
            if given[name] is not None:
                raise BadArguments(f"--{name.replace('_', '-')} is for --with-advice N: say which advice is meant")
        return suite
    from langchain_finops.evals.advised import with_advice

    if given["advice_file"] is not None and given["advice_ledger"] is not None:
        raise BadArguments("--advice-file and --advice-ledger exclude each other: an advice has one source")
    return with_advice(suite, _advice(n, given), configuration=given["advice_for"])


def _advice(n: int, given: Mapping[str, Any]) -> "Advice":
    from langchain_finops.evals.advised import advice_of, read_advice_file

    if (file := given["advice_file"]) is not None:
        return advice_of(read_advice_file(file), n, str(file))
    from langchain_finops.budgets.policy_file import PolicyFile
    from langchain_finops.reports.advise import advise

    policy = PolicyFile(None)
    policy.look()
    with existing_ledger(given["advice_ledger"], "--advice-ledger") as ledger:
        place = place_of(ledger)
        if given["ledger"] is not None and _path(given["ledger"]) == _path(ledger.url):
            raise BadArguments(f"--ledger {given['ledger']}: the run's own calls would change the advice on it")
        with busy("Looking for what would be cheaper"):
            rows = advise(ledger, protect=policy.policies.protect).rows
        warn_of_spilled(ledger)
    return advice_of(rows, n, place)


def _path(url: str) -> str:
    """The ledger as one name, whichever way it is written."""
    place = url.removeprefix("sqlite:///")
    return place if "://" in place else os.path.realpath(Path(place).expanduser())


def show_promise(results: "Results", output_format: OutputFormat) -> None:
    """The comparison below the table, for people; programs have the table alone on stdout, and `compare`."""
    if results.run.get("advice") is None:
        return
    from langchain_finops.evals.promised import against_baseline, promise_and_proof

    comparison = against_baseline(results)
    sentences = list(promise_and_proof(results, comparison))
    if output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        table = comparison.table()
        typer.echo()
        render_report(replace(table, notes=(*table.notes, *sentences)), output_format)
        return
    for sentence in sentences:
        typer.echo(sentence, err=True)
