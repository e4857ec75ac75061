"""`finops`: who spent what, on which node, for which outcome. Parses words, calls one function, prints, exits."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from langchain_finops.errors import BadArguments, LedgerError
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

    start, end = _period(since, until)
    given = {"agent": agent, "user": user, "task": task, "model": model, "node": node}
    filters = {name: value for name, value in given.items() if value is not None}
    for_people = output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}
    with _existing_ledger(ledger) as source:
        with busy("Adding up the ledger"):
            result = report(source, _names(by), since=start, until=end, filters=filters, total=for_people)
        _warn_of_spilled(source)
        span = "".join(f", {word} {value}" for word, value in (("since", since), ("until", until)) if value)
        chosen = "".join(f", {name} {value}" for name, value in filters.items())
        if for_people and not result.summary.groups:
            typer.echo(_nothing(_place(source), f"{chosen}{span}"))
            return
        caption = f"Cost by {', '.join(result.by) or 'total'}{chosen}{span or ', all time'}, in {_place(source)}"
        render(result.table(caption), output_format, sys.stdout)


@contextmanager
def _existing_ledger(url: str | None) -> Iterator["Ledger"]:
    """The ledger to work on; a file that is not there is an error, not an empty ledger that looking made."""
    from langchain_finops.ledger import default_path, open_ledger

    _check_named(url, "--ledger", "name a file, or leave it out for $FINOPS_LEDGER or the default")
    named = url or os.environ.get("FINOPS_LEDGER") or str(default_path())
    place = named.removeprefix("sqlite:///")
    path = Path(place).expanduser()
    if "://" not in place and place != ":memory:" and not path.exists():
        whose = "name another with --ledger" if url else "run a graph with callbacks=[FinOpsHandler()], or name another"
        raise LedgerError(f"no ledger at {path}: {whose}{'' if url else ' with --ledger or $FINOPS_LEDGER'}.")
    ledger = open_ledger(named)
    try:
        yield ledger
    finally:
        ledger.close()


def _check_named(value: str | None, option: str, remedy: str) -> None:
    """A variable of a script that is empty must not choose something else."""
    if value is not None and not value.strip():
        raise BadArguments(f"{option} is empty: {remedy}.")


def _place(ledger: "Ledger") -> str:
    """Where the ledger is, as a shell takes it."""
    path = ledger.url.removeprefix("sqlite:///")
    home = str(Path.home())
    return f"~{path.removeprefix(home)}" if path.startswith(home + os.sep) else path


def _warn_of_spilled(ledger: "Ledger") -> None:
    """Say that calls are missing from the sums: the ledger could not be written when they ended."""
    from langchain_finops.ledger.spill import Spill

    spill = Spill(Path(ledger.url.removeprefix("sqlite:///")))
    if not spill.is_empty():
        warn(f"records in {spill.path} are not counted yet: run `finops recover`, then look again.")


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
    _check_named(task, "TASK", "name the task as its calls do")
    if success is None:
        raise BadArguments(f"What became of task {task!r}? Say --success or --failure.")
    if score is not None and not 0 <= score <= 1:  # typer's own bounds let NaN pass in some versions.
        raise BadArguments(f"--score is {score}: a score is between 0 and 1")
    from langchain_finops.records import Outcome

    worth = _amount(value_usd)
    with _existing_ledger(ledger) as target:
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
            warn(f"no call names task {task!r} in {_place(target)}: check the id and --ledger. The outcome is kept.")
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
    _check_named(user, "USER", "name the person as the records do")
    with _existing_ledger(ledger) as target:
        count = target.forget(user)
        found = (
            f"Unlinked {_counted(count, 'record')} from user {user!r}" if count else f"No record names user {user!r}"
        )
        typer.echo(f"{found}, in {_place(target)}")


@app.command("prune")
def prune_command(
    before: Annotated[str, typer.Option(metavar="WHEN", help="90d (older than that), or 2026-01-31 (UTC).")],
    ledger: LedgerOption = None,
) -> None:
    """Fold old calls into daily sums, which reports go on counting. Cannot be undone."""
    moment = _moment(before, "--before")
    if moment > datetime.now(UTC):
        raise BadArguments(f"--before {before} lies ahead: today's calls stay as they are, name a day that has ended.")
    with _existing_ledger(ledger) as target:
        with busy("Folding old calls"):
            count = target.prune(moment)
        folded = f"Folded {_counted(count, 'record')}" if count else "Nothing is"
        typer.echo(f"{folded} from before {moment:%Y-%m-%d %H:%M} UTC, in {_place(target)}")


@app.command("recover", short_help="Bring in what was set aside in the spill file.")
def recover_command(ledger: LedgerOption = None) -> None:
    """Bring in what went to the spill file while the ledger could not be written."""
    from langchain_finops.ledger import recover

    with _existing_ledger(ledger) as target:
        with busy("Recovering"):
            count = recover(target)
        found = f"Recovered {_counted(count, 'record')}" if count else "Nothing to recover"
        typer.echo(f"{found}, in {_place(target)}")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# --- reading arguments -------------------------------------------------------------------------------------------


def _names(by: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    if not names:
        raise BadArguments("--by names nothing: write dimensions with commas, such as agent,node.")
    return () if names == ("total",) else names


def _period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    start = None if since is None else _moment(since, "--since")
    end = None if until is None else _moment(until, "--until")
    if start is not None and end is not None and start >= end:
        raise BadArguments(f"--since {since} is not before --until {until}: nothing lies between them.")
    return start, end


_AGO = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def _moment(text: str, option: str) -> datetime:
    """A span back from now, a date, or a time; UTC where it does not say."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadArguments(
            f"{option} {text!r} is no time: write 7d, 24h, 2w, 2026-01-31 or 2026-01-31T12:00."
        ) from error


if __name__ == "__main__":
    main()
