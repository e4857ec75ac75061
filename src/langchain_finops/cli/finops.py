"""`finops`: who spent what, on which node, for which outcome. Parses words, calls one function, prints, exits."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli import (
    advise,
    allocation,
    economics,
    energy,
    exports,
    guards,
    imports,
    insight,
    langsmith,
    machines,
    prices,
    serve,
    top,
)
from langchain_finops.cli.arguments import (
    check_named,
    counted,
    existing_ledger,
    moment_of,
    names_of,
    period_of,
    place_of,
    warn_of_spilled,
)
from langchain_finops.cli.common import (
    DebugOption,
    FormatOption,
    LedgerOption,
    OutputFormat,
    VersionOption,
    busy,
    run,
    warn,
)
from langchain_finops.errors import BadArguments
from langchain_finops.money import usd

if TYPE_CHECKING:
    from langchain_finops.ledger.base import Ledger

__all__ = ["app", "main"]

app = typer.Typer(
    name="finops",
    help="What your agents spend, on which node, for which outcome.",
    rich_markup_mode=None,  # Without it help would differ between versions of rich, and load it.
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run `finops` and exit with its code."""
    sys.exit(run(app, "finops"))


@app.callback()
def _every_command(version: VersionOption = False, debug: DebugOption = False) -> None:
    """What your agents spend, on which node, for which outcome."""


@app.command("report")
def report_command(
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="What to sum by, with commas: agent, node, model, user, task, day, run, thread, provider, customer, "
            "project, environment, release, role, status, task_type; or total. Default: agent.",
            show_default=False,
        ),
    ] = "agent",
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 7d, 24h, or 2026-01-31 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before then, in the same forms.")] = None,
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="Only this agent.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this user.")] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Only this task.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    node: Annotated[str | None, typer.Option(metavar="PATH", help="Only this node, as --by node names it.")] = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show calls, tokens, cost, and cost per success.

    \b
    finops report --by node,model --since 7d
    finops report --by task --agent support --format json
    """
    from langchain_finops.reports.render import render
    from langchain_finops.reports.summary import report

    start, end = period_of(since, until)
    given = {"agent": agent, "user": user, "task": task, "model": model, "node": node}
    filters = {name: value for name, value in given.items() if value is not None}
    for_people = output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}
    with existing_ledger(ledger) as source:
        with busy("Adding up the ledger"):
            result = report(source, names_of(by), since=start, until=end, filters=filters, total=for_people)
        warn_of_spilled(source)
        span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
        chosen = "".join(f", {name} {value}" for name, value in filters.items())
        if for_people and not result.summary.groups:
            typer.echo(_nothing(place_of(source), f"{chosen}{span}"))
            return
        caption = f"Cost by {', '.join(result.by) or 'total'}{chosen}{span or ', all time'}, in {place_of(source)}"
        render(result.table(caption), output_format, sys.stdout)


def _nothing(url: str, selection: str) -> str:
    if selection:
        return f"No calls or charges match: {selection.removeprefix(', ')}, in {url}"
    return f"The ledger is empty: {url}\nRun a graph with callbacks=[FinOpsHandler()], then look again."


@app.command("outcome")
def outcome_command(
    *,
    task: Annotated[str, typer.Argument(metavar="TASK", show_default=False)],
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="What became of it.", show_default=False)
    ] = None,
    value_usd: Annotated[str | None, typer.Option(metavar="X", help="What it is worth, in dollars.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
    score: Annotated[float | None, typer.Option(metavar="0..1", min=0, max=1, help="How good it is.")] = None,
    judged_by: Annotated[
        str, typer.Option(metavar="NAME", help="Who says so. Default: finops outcome.", show_default=False)
    ] = "finops outcome",
    ledger: LedgerOption = None,
) -> None:
    """Say what became of a task. The last word counts; earlier ones stay in the history.

    \b
    finops outcome t-42 --success --value-usd 5
    finops outcome t-43 --failure --reason "wrong account"
    """
    check_named(task, "TASK", "name the task as its calls do")
    if success is None:
        raise BadArguments(f"What became of task {task!r}? Say --success or --failure.")
    if score is not None and not 0 <= score <= 1:  # typer's own bounds let NaN pass in some versions.
        raise BadArguments(f"--score is {score}: a score is between 0 and 1")
    from langchain_finops.records import Outcome

    worth = _amount(value_usd)
    with existing_ledger(ledger) as target:
        earlier = next(target.outcomes(task_id=task), None)
        said = Outcome(
            task_id=task,
            success=success,
            value_usd=worth,
            score=score,
            reason=reason,
            judged_by=judged_by,
            at=datetime.now(UTC),
        )
        target.write(said)  # The ledger counts its revision up, so that no other verdict is lost, whoever is faster.
        if not _is_known(target, task):
            warn(f"no call names task {task!r} in {place_of(target)}: check the id and --ledger. The outcome is kept.")
        was = "" if earlier is None else f", was {_verdict(earlier.success)}"
        typer.echo(f"Task {task!r}: {_verdict(success)}{was}.")


def _is_known(ledger: "Ledger", task: str) -> bool:
    """Whether a call or charge names the task. Sums know those that were pruned, but take longer to ask."""
    if any(True for _ in ledger.calls(task_id=task)) or any(True for _ in ledger.charges(task_id=task)):
        return True
    return any(group.totals.calls or group.totals.charges for group in ledger.totals((), task_id=task))


def _verdict(success: bool | None) -> str:
    return {True: "success", False: "failure", None: "not judged"}[success]


def _amount(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        return usd(text)
    except ValueError as error:
        raise BadArguments(f"--value-usd: {error}; write dollars as 5 or 0.25.") from error


@app.command("forget", short_help="Unlink a person from all records; costs stay.")
def forget_command(
    user: Annotated[str, typer.Argument(metavar="USER", show_default=False)],
    ledger: LedgerOption = None,
) -> None:
    """Unlink a person from all records: costs stay, nobody can tell whose they were. Cannot be undone."""
    check_named(user, "USER", "name the person as the records do")
    with existing_ledger(ledger) as target:
        count = target.forget(user)
        found = f"Unlinked {counted(count, 'record')} from user {user!r}" if count else f"No record names user {user!r}"
        typer.echo(f"{found}, in {place_of(target)}")


@app.command("prune")
def prune_command(
    before: Annotated[str, typer.Option(metavar="WHEN", help="90d (older than that), or 2026-01-31 (UTC).")],
    ledger: LedgerOption = None,
) -> None:
    """Fold old calls into daily sums, which reports go on counting. Cannot be undone."""
    moment = moment_of(before, "--before")
    if moment > datetime.now(UTC):
        raise BadArguments(f"--before {before} lies ahead: today's calls stay as they are, name a day that has ended.")
    with existing_ledger(ledger) as target:
        with busy("Folding old calls"):
            count = target.prune(moment)
        folded = f"Folded {counted(count, 'record')}" if count else "Nothing is"
        typer.echo(f"{folded} from before {moment:%Y-%m-%d %H:%M} UTC, in {place_of(target)}")


@app.command("recover", short_help="Bring in what was set aside in the spill file.")
def recover_command(ledger: LedgerOption = None) -> None:
    """Bring in what went to the spill file while the ledger could not be written."""
    from langchain_finops.ledger import recover

    with existing_ledger(ledger) as target:
        with busy("Recovering"):
            count = recover(target)
        found = f"Recovered {counted(count, 'record')}" if count else "Nothing to recover"
        typer.echo(f"{found}, in {place_of(target)}")


top.mount(app)
serve.mount(app)
guards.mount(app)
economics.mount(app)
insight.mount(app)
advise.mount(app)
machines.mount(app)
allocation.mount(app)
imports.mount(app)
exports.mount(app)
langsmith.mount(app)
prices.mount(app)
energy.mount(app)


if __name__ == "__main__":
    main()
