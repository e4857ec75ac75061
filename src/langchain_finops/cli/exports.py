"""`finops export`: files of records, FOCUS, a Prometheus endpoint, and the Grafana dashboard that goes with it."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_finops.cli.arguments import check_named, counted, existing_ledger, period_of, place_of, warn_of_spilled
from langchain_finops.cli.common import ExitCode, LedgerOption, busy, warn
from langchain_finops.cli.economics import SinceOption, UntilOption
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from langchain_finops.exports.focus import FocusFile
    from langchain_finops.ledger.base import Ledger

__all__ = ["mount"]

export = typer.Typer(
    name="export",
    help="What the ledger holds, for other programs.",
    rich_markup_mode=None,  # As for `finops` itself.
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OutOption = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Ends in .csv, .jsonl or .parquet.", show_default=False)
]


def mount(finops: typer.Typer) -> None:
    """Add the commands to `finops`."""
    finops.add_typer(export)


@export.callback()
def _every_command(context: typer.Context) -> None:
    """What the ledger holds, for other programs."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _check_apart(out: Path, source: "Ledger") -> None:
    """A ledger may have any name: it must not be replaced by what is read from it."""
    if out.resolve() == Path(source.url.removeprefix("sqlite:///")).resolve():
        raise BadArguments(f"--out {out} is the ledger itself: name another file.")


def _records(kind: str, out: Path, since: str | None, until: str | None, url: str | None) -> None:
    from langchain_finops.exports.files import check_target
    from langchain_finops.exports.records import export_records

    start, end = period_of(since, until)
    check_target(out)
    with existing_ledger(url) as source:
        _check_apart(out, source)
        with busy(f"Writing {out}"):
            done = export_records(source, kind, out, since=start, until=end)
        warn_of_spilled(source)
        if done.left_out:
            warn(
                f"the ledger's sums count {counted(done.left_out, kind[:-1])} more, folded by `finops prune` or "
                "written meanwhile: not in the file. `finops report --format csv` has their sums."
            )
        typer.echo(f"Wrote {counted(done.rows, kind[:-1])} to {out}, from {place_of(source)}", err=True)


@export.command("calls", short_help="Model calls, one a row.")
def calls_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write each model call, a row of it, with all that is known of it.

    \b
    finops export calls --out calls.csv --since 7d
    """
    _records("calls", out, since, until, ledger)


@export.command("charges", short_help="Charges: tools, people's minutes, credits.")
def charges_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write each charge that is no model call: tools, people's minutes, credits, adjustments."""
    _records("charges", out, since, until, ledger)


@export.command("runs", short_help="Runs, and how they ended.")
def runs_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write each run, with how it ended."""
    _records("runs", out, since, until, ledger)


@export.command("outcomes", short_help="What became of each task.")
def outcomes_command(
    *, out: OutOption, since: SinceOption = None, until: UntilOption = None, ledger: LedgerOption = None
) -> None:
    """Write what became of each task, as it was judged last."""
    _records("outcomes", out, since, until, ledger)


@export.command("focus", short_help="Cost and usage as FOCUS, for FinOps tools.")
def focus_command(
    *,
    version: Annotated[str, typer.Option(metavar="1.2|1.4", help="Of the specification.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Ends in .csv or .parquet.", show_default=False)],
    since: SinceOption = None,
    until: UntilOption = None,
    billing_account: Annotated[
        str, typer.Option(metavar="ID", help="Where a call names none. Default: default.", show_default=False)
    ] = "default",
    shares: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML of shares, as for `finops allocate`: who bears each row.")
    ] = None,
    users: Annotated[bool, typer.Option("--users", help="With users' names, in x_ConsumerId.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Write a FOCUS Cost and Usage file: a row for each call and meter, and for each charge.

    What has no known price has no row; how much that is, is said on stderr.

    \b
    finops export focus --version 1.4 --out march.csv --since 2026-03-01
    """
    from langchain_finops.exports.files import check_target
    from langchain_finops.exports.focus import SUFFIXES, Options, export_focus
    from langchain_finops.reports.allocation import read_allocation

    start, end = period_of(since, until)
    check_target(out, SUFFIXES)
    check_named(billing_account, "--billing-account", "name the account, or leave it out")
    allocation = None if shares is None else read_allocation(shares)
    options = Options(billing_account=billing_account, users=users)
    with existing_ledger(ledger) as source:
        _check_apart(out, source)
        with busy(f"Writing {out}"):
            told = export_focus(source, out, version, since=start, until=end, options=options, allocation=allocation)
        warn_of_spilled(source)
        place = place_of(source)
    _tell(told, out, place)


def _tell(told: "FocusFile", out: Path, place: str) -> None:
    """What the file holds, and what it does not."""
    from langchain_finops.money import from_pico
    from langchain_finops.reports.render import exact

    if told.unpriced_calls:
        tokens = counted(told.unpriced_tokens, "token")
        warn(
            f"{counted(told.unpriced_calls, 'call')} of {tokens} without a known price: not in {out}, which is not the "
            "same as free. Give their models a card, `finops reprice`, and export again."
        )
    if told.unpriced_charges:
        warn(
            f"{counted(told.unpriced_charges, 'charge')} without a known price, such as tools without a card: left out."
        )
    if not told.agrees:
        more = ", ".join(f"{name} {exact(from_pico(pico))}" for name, pico in told.elsewhere.items())
        warn(f"the ledger's sums are more by {more}: folded by `finops prune`, or written meanwhile.")
    sums = ", ".join(f"{name} {exact(usd)}" for name, usd in told.costs.items())
    agrees = "; the ledger's sums are the same" if told.agrees else ""
    typer.echo(
        f"Wrote {counted(told.rows, 'row')} of {counted(told.calls, 'call')} and {counted(told.charges, 'charge')} to "
        f"{out}, from {place}: {sums} USD{agrees}.",
        err=True,
    )


@export.command("prometheus", short_help="Serve metrics of the ledger to Prometheus.")
def prometheus_command(
    *,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Default: 9464.", show_default=False)
    ] = 9464,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen. Default: this machine only.", show_default=False)
    ] = "127.0.0.1",
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="Its budgets, too. Default: $FINOPS_POLICY, else finops.yaml here."
        ),
    ] = None,
    ledger: LedgerOption = None,
) -> ExitCode:
    """Serve /metrics until Ctrl-C: cost, calls and tokens by agent, node and model, and budgets.

    Each scrape reads what is new in the ledger. No user and no task is named.

    \b
    finops export prometheus --port 9464
    """
    from langchain_finops.budgets.policy_file import PolicyFile
    from langchain_finops.exports.prometheus import LedgerCollector, serving

    check_named(host, "--host", "name an address, or leave it out for this machine only")
    with existing_ledger(ledger) as source:
        policies = PolicyFile(policy_file)
        policies.budgets()  # What is wrong with it is told now, and not at some scrape.
        collector = LedgerCollector(source, policies.budgets)
        if host not in {"127.0.0.1", "::1", "localhost"}:
            warn(f"whoever reaches {host} can read agents, nodes, models, budgets and what they spend.")
        with serving(collector, host=host, port=port) as (name, number):
            where = f"[{name}]" if ":" in name else name
            typer.echo(f"Serving http://{where}:{number}/metrics from {place_of(source)}. Ctrl-C ends it.", err=True)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
    return ExitCode.GOOD


@export.command("grafana", short_help="A Grafana dashboard of those metrics.")
def grafana_command(
    *, out: Annotated[Path, typer.Option(metavar="FILE", help="Ends in .json.", show_default=False)]
) -> None:
    """Write a Grafana dashboard that shows what `finops export prometheus` serves: import it in Grafana.

    \b
    finops export grafana --out dashboard.json
    """
    from langchain_finops.exports.grafana import write_dashboard

    write_dashboard(out)
    typer.echo(f"Wrote {out}", err=True)
