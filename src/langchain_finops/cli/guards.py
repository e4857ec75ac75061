"""`finops kill`, `revive`, `kills`, `budget`, `policy` and `events`: limits without code, and who changed what."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langchain_finops.cli.arguments import (
    check_named,
    counted,
    existing_ledger,
    moment_of,
    period_of,
    place_of,
    warn_of_spilled,
)
from langchain_finops.cli.common import ExitCode, FormatOption, LedgerOption, OutputFormat, warn
from langchain_finops.errors import BadArguments, BadData

if TYPE_CHECKING:
    from langchain_finops.budgets.switch import KillScope
    from langchain_finops.ledger.base import Ledger
    from langchain_finops.reports.render import Table

__all__ = ["mount"]

ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who says so. Default: your user name.", show_default=False),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")]
AgentOption = Annotated[str | None, typer.Option("--agent-id", metavar="NAME", help="All calls of this agent.")]
UserOption = Annotated[str | None, typer.Option("--user-id", metavar="NAME", help="All calls for this user.")]
TaskOption = Annotated[str | None, typer.Option("--task-id", metavar="NAME", help="All calls of this task.")]
AllOption = Annotated[bool, typer.Option("--all", help="All calls on this ledger.")]

BudgetArgument = Annotated[str, typer.Argument(metavar="BUDGET", show_default=False)]
OnExceedOption = Annotated[
    str | None,
    typer.Option(metavar="WORD", help="raise, interrupt, drain or warn. Default: raise.", show_default=False),
]
WarnAtOption = Annotated[
    str | None, typer.Option(metavar="SHARES", help="Where to warn. Default: 0.5,0.8.", show_default=False)
]
AdmissionOption = Annotated[
    str | None, typer.Option(metavar="WORD", help="expected or strict. Default: expected.", show_default=False)
]
ExpectedOption = Annotated[
    int | None, typer.Option(metavar="N", help="What calls answer, where neither they nor the past say.")
]
UnpricedOption = Annotated[
    str | None, typer.Option(metavar="WORD", help="refuse or estimate. Default: refuse.", show_default=False)
]
FailClosedOption = Annotated[bool, typer.Option("--fail-closed", help="Refuse calls while the ledger cannot be asked.")]
TimeZoneOption = Annotated[
    str | None, typer.Option(metavar="ZONE", help="Of the window, such as Europe/Berlin. Default: UTC.")
]

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
budget = typer.Typer(
    name="budget",
    help="Set limits without code, and see what stands against them.",
    rich_markup_mode=None,
    context_settings=_SETTINGS,
    invoke_without_command=True,
)
policy = typer.Typer(
    name="policy",
    help="Check a policy file.",
    rich_markup_mode=None,
    context_settings=_SETTINGS,
    invoke_without_command=True,
)


def mount(app: typer.Typer) -> None:
    """Add these commands to `finops`."""
    app.command("kill", short_help="Refuse all further calls of an agent, user or task, or of all.")(kill_command)
    app.command("revive", short_help="Let calls through again.")(revive_command)
    app.command("kills", short_help="Show whose calls are refused.")(kills_command)
    app.add_typer(budget)
    app.add_typer(policy)
    app.command("events", short_help="Show who changed what, when and why.")(events_command)


@budget.callback()
@policy.callback()
def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# --- kill switch -----------------------------------------------------------------------------------------------------


def kill_command(
    *,
    agent_id: AgentOption = None,
    user_id: UserOption = None,
    task_id: TaskOption = None,
    everything: AllOption = False,
    reason: ReasonOption = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Ends by itself: 2h (from now), or 2026-01-31T12:00 (UTC).")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Cut streams in flight off, too.")] = False,
    by: ByOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Refuse all further calls of an agent, user or task, or of all.

    Takes effect on the next call of every process on this ledger, within a second.

    \b
    finops kill --agent-id support --reason "loops since 9:00" --until 2h
    finops kill --all --now
    """
    from langchain_finops.budgets import switch

    scope, value = _whose(agent_id, user_id, task_id, everything=everything)
    end = None if until is None else _ahead(until)
    check_named(by, "--by", "name who says so, or leave it out for your user name")
    with existing_ledger(ledger) as target:
        kill = switch.kill(target, scope, value, by=by, reason=reason, until=end, now=now)
        lasts = "until `finops revive`" if end is None else f"until {end:%Y-%m-%d %H:%M} UTC"
        typer.echo(f"Killed {_named(kill.scope, kill.value)} {lasts}, in {place_of(target)}")


def revive_command(
    *,
    agent_id: AgentOption = None,
    user_id: UserOption = None,
    task_id: TaskOption = None,
    everything: AllOption = False,
    reason: ReasonOption = None,
    by: ByOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Let calls through again. Undoes the `finops kill` with the same words; others stay.

    \b
    finops revive --agent-id support --reason "prompt is fixed"
    """
    from langchain_finops.budgets import switch

    scope, value = _whose(agent_id, user_id, task_id, everything=everything)
    check_named(by, "--by", "name who says so, or leave it out for your user name")
    with existing_ledger(ledger) as target:
        was = switch.revive(target, scope, value, by=by, reason=reason)
        named = _named(scope, value)
        if was is None:
            typer.echo(f"Nothing to revive: `finops kills` shows no kill of {named}, in {place_of(target)}")
        else:
            typer.echo(f"Revived {named}, killed by {was.by} at {was.at:%Y-%m-%d %H:%M} UTC, in {place_of(target)}")
        others = [kill for kill in switch.kills(target) if kill.scope == "all" and kill.holds(datetime.now(UTC))]
        if others and scope != "all":
            warn("all calls are still killed: see `finops kills`, and `finops revive --all`.")


def kills_command(output_format: FormatOption = OutputFormat.TABLE, ledger: LedgerOption = None) -> None:
    """Show whose calls are refused, by whom, until when and why."""
    from langchain_finops.budgets import switch
    from langchain_finops.reports.guards import kill_table

    with existing_ledger(ledger) as target:
        place = place_of(target)
        table = kill_table(switch.kills(target), datetime.now(UTC), caption=f"Kills, in {place}")
    _show(table, output_format, f"Nobody is killed, in {place}")


def _whose(
    agent_id: str | None, user_id: str | None, task_id: str | None, *, everything: bool
) -> tuple["KillScope", str | None]:
    """The one thing that is named."""
    given: list[tuple[KillScope, str | None]] = [
        (scope, value)
        for scope, value in _scopes(("agent_id", agent_id), ("user_id", user_id), ("task_id", task_id))
        if value is not None
    ]
    if everything:
        given.append(("all", None))
    if len(given) != 1:
        said = "none of them is given" if not given else "give one at a time"
        raise BadArguments(f"Whose calls? --agent-id, --user-id, --task-id or --all: {said}.")
    scope, value = given[0]
    check_named(value, f"--{scope.replace('_', '-')}", "name it as the calls do")
    return scope, value


def _scopes(
    *pairs: tuple[Literal["agent_id", "user_id", "task_id"], str | None],
) -> Sequence[tuple["KillScope", str | None]]:
    return list(pairs)


def _named(scope: str, value: str | None) -> str:
    return "all calls" if value is None else f"{scope.removesuffix('_id')} {value!r}"


_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _ahead(text: str) -> datetime:
    """A span from now on, or a moment to come."""
    span = _SPAN.fullmatch(text)
    if span is None:
        moment = moment_of(text, "--until")
    else:
        moment = datetime.now(UTC) + timedelta(**{_UNITS[span[2]]: int(span[1])})
    if moment <= datetime.now(UTC):
        raise BadArguments(f"--until {text} has passed: name a time to come, such as 2h or 2099-01-31T12:00.")
    return moment


# --- budgets ---------------------------------------------------------------------------------------------------------


@budget.command("set", short_help="Set a limit for every handler on this ledger.")
def budget_set_command(
    *,
    text: BudgetArgument,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="A balance of its own under that name.")] = None,
    on_exceed: OnExceedOption = None,
    warn_at: WarnAtOption = None,
    admission: AdmissionOption = None,
    expected_output_tokens: ExpectedOption = None,
    unpriced: UnpricedOption = None,
    fail_closed: FailClosedOption = False,
    time_zone: TimeZoneOption = None,
    reason: ReasonOption = None,
    by: ByOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Set a limit for every handler on this ledger, within a second; a new amount replaces the old.

    Write it in single quotes, or the shell takes $2 for a variable.

    \b
    finops budget set '$20/day per agent_id'
    finops budget set '$5/day per user_id where agent_id=support' --warn-at 0.9
    finops budget set '100000 tokens/hour per all' --name burst --on-exceed drain
    """
    from langchain_finops.budgets.outside import identity, set_budget

    options = {
        "name": name,
        "on_exceed": on_exceed,
        "warn_at": None if warn_at is None else _shares(warn_at),
        "admission": admission,
        "expected_output_tokens": expected_output_tokens,
        "unpriced": unpriced,
        "fail_closed": fail_closed or None,
        "time_zone": time_zone,
    }
    new = _budget(text, {option: value for option, value in options.items() if value is not None})
    check_named(by, "--by", "name who says so, or leave it out for your user name")
    with existing_ledger(ledger) as target:
        was = set_budget(target, new, by=by, reason=reason)
        before = "" if was is None else f", was {was}"
        name_said = f" as {identity(new)!r}" if new.name else ""
        typer.echo(f"Set {new}{name_said}{before}, in {place_of(target)}")


def _budget(text: str, options: dict[str, Any]) -> Any:
    """The budget that is meant, with the shell's trap named where it may have snapped."""
    from dataclasses import replace

    from langchain_finops.budgets.policy import Budget

    try:
        read = Budget.parse(text)
    except BadArguments as error:
        # Of '$20/day', '$5/day' and '$0.50' the shell leaves no word before the window: '0', nothing, 'bash.50'.
        is_trap = "$" not in text and " " not in text.partition("/")[0]
        trap = " Dollars need single quotes: '$20/day', or the shell makes '0/day' of it." if is_trap else ""
        raise BadArguments(f"{error}.{trap}") from error
    try:
        return replace(read, **options)
    except BadArguments as error:
        raise BadArguments(f"{error}.") from error


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadArguments(f"--warn-at {text!r}: write shares of the limit with commas, such as 0.5,0.8.") from error


@budget.command("list", short_help="Show limits, and what stands against them.")
def budget_list_command(
    *,
    past: Annotated[bool, typer.Option("--past", help="Windows that have ended, too.")] = False,
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Its budgets, too. Default: $FINOPS_POLICY, else finops.yaml here.",
            show_default=False,
        ),
    ] = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show limit, spent, held and forecast of every balance, the fullest first."""
    from langchain_finops.budgets.outside import BUDGET, kept_budgets
    from langchain_finops.budgets.policy_file import PolicyFile
    from langchain_finops.errors import Fault
    from langchain_finops.reports.guards import budget_table

    at = datetime.now(UTC)
    faults: list[Fault] = []
    from_file = PolicyFile(policy_file).budgets()
    with existing_ledger(ledger) as target:
        warn_of_spilled(target)
        place = place_of(target)
        known = {"ledger": kept_budgets(target.controls(BUDGET), faults), "policy file": from_file}
        table = budget_table(target.balances(), known, at, past=past, caption=f"Budgets, in {place}")
    for fault in faults:
        warn(f"{fault}; it is left out.")
    _show(table, output_format, f"No budget is set, and nothing was counted on any, in {place}")


@budget.command("remove", short_help="Take a limit away that was set with `finops budget set`.")
def budget_remove_command(
    *,
    name: BudgetArgument,
    reason: ReasonOption = None,
    by: ByOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Take a limit away that was set with `finops budget set`: by its name, or as it was written.

    What was spent stays counted.

    \b
    finops budget remove '$20/day per agent_id'
    finops budget remove burst
    """
    from langchain_finops.budgets.outside import BUDGET, remove_budget

    check_named(name, "BUDGET", "name one of `finops budget list`")
    check_named(by, "--by", "name who says so, or leave it out for your user name")
    with existing_ledger(ledger) as target:
        was = remove_budget(target, name, by=by, reason=reason)
        if was is None:
            there = ", ".join(sorted(target.controls(BUDGET))) or "none"
            raise BadArguments(f"no budget {name!r} was set in {place_of(target)}: there is {there}.")
        typer.echo(f"Removed {was['budget']}, in {place_of(target)}")


# --- policy files ----------------------------------------------------------------------------------------------------


@policy.command("check", short_help="Tell every fault of a policy file.")
def policy_check_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> ExitCode:
    """Tell every fault of a policy file, each with its place and its remedy. Exits 1 if there is one.

    \b
    finops policy check finops.yaml
    """
    from langchain_finops.budgets.policy_file import read_policies

    if not file.is_file():
        raise BadArguments(f"{file} is no file: name the policy file, such as finops.yaml.")
    try:
        said = read_policies(file).summary()
    except BadData as error:
        typer.echo("\n".join(f"Error: {fault}" for fault in error.faults), err=True)
        return ExitCode.NO
    holds = ", ".join(counted(len(texts), _PARTS[name]) for name, texts in said.items())
    typer.echo(f"{file} has no fault. It says: {holds or 'nothing'}.")
    return ExitCode.GOOD


_PARTS = {
    "budgets": "budget",
    "loop_guards": "loop guard",
    "models": "rule on models",
    "alerts": "alert",
    "protect": "protected node",
    "notify": "target of alerts",
}


# --- audit trail -----------------------------------------------------------------------------------------------------


def events_command(
    *,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 7d, 24h, or 2026-01-31 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before then, in the same forms.")] = None,
    action: Annotated[str | None, typer.Option(metavar="NAME", help="Only these, such as kill or budget.set.")] = None,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show who changed which budget, kill, approval or policy, when, why, before and after; the oldest first."""
    from langchain_finops.reports.guards import event_table

    start, end = period_of(since, until)
    with existing_ledger(ledger) as target:
        found = _events(target, start, end, action)
        place = place_of(target)
        of = "" if action is None else f" of action {action!r}"
        _show(event_table(found, caption=f"Events, in {place}"), output_format, f"No event{of}, in {place}")


def _events(ledger: "Ledger", start: datetime | None, end: datetime | None, action: str | None) -> list[Any]:
    wanted: dict[str, Any] = {} if action is None else {"action": action}
    return list(ledger.events(since=start, until=end, **wanted))


def _show(table: "Table", output_format: OutputFormat, nothing: str) -> None:
    """Print a table; for people a sentence instead of an empty one."""
    from langchain_finops.reports.render import render

    if not table.rows and output_format in {OutputFormat.TABLE, OutputFormat.MARKDOWN}:
        typer.echo(nothing)
    else:
        render(table, output_format, sys.stdout)
