"""`finops top`: what agents spend right now, in a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_finops.cli.arguments import existing_ledger, place_of, warn_of_spilled
from langchain_finops.cli.common import FormatOption, LedgerOption, OutputFormat, busy, warn
from langchain_finops.errors import BadArguments

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from langchain_finops.reports.live import Live

__all__ = ["mount"]

REFRESH_S = 1.0
KEY_S = 0.1
"""How long a key waits to be noticed."""
WIDE = 150
"""Columns from which on lists stand side by side."""


def mount(app: typer.Typer) -> None:
    """Add the command to `finops`."""
    app.command("top", short_help="What agents spend right now, in the terminal.")(top_command)


def top_command(
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
    output_format: FormatOption = OutputFormat.TABLE,
    ledger: LedgerOption = None,
) -> None:
    """Show what agents spend right now; anew each second, until q or Ctrl-C.

    Spend rate, running runs with cost so far, steps and what is left of their limit, who spent most in the last hour,
    kills, budgets and alerts, and what today will come to.

    \b
    finops top
    finops top --once --format json
    """
    from langchain_finops.budgets.policy_file import PolicyFile
    from langchain_finops.reports.live import Watch
    from langchain_finops.reports.live_table import live_table
    from langchain_finops.reports.render import render

    if not once and output_format is not OutputFormat.TABLE:
        raise BadArguments(f"--format {output_format.value} is for one look: add --once.")
    with existing_ledger(ledger) as source:
        warn_of_spilled(source)
        place = place_of(source)
        watch = Watch(source, budgets=PolicyFile(None).budgets())
        with busy("Reading what is new"):
            live = watch.look()
        for fault in live.faults:
            warn(f"{fault}; it is left out.")
        if output_format is not OutputFormat.TABLE:
            render(live_table(live, f"Live, in {place}"), output_format, sys.stdout)
        elif once or not sys.stdout.isatty():
            _print_once(live, place)
        else:
            _show(watch.look, live, place)


def _print_once(live: "Live", place: str) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _columns()
    Console(width=width, highlight=False).print(_screen(live, place, width or Console().width, None))


def _columns() -> int:
    import os

    given = os.environ.get("COLUMNS", "")
    return max(int(given), 40) if given.isdigit() else 100


def _show(look: "Callable[[], Live]", live: "Live", place: str) -> None:
    """Refresh until q or Ctrl-C; a look that takes long is followed by a pause as long."""
    from rich.console import Console
    from rich.live import Live as Screen

    console = Console(highlight=False)

    def screen() -> "Group":
        return _screen(live, place, console.width, console.height)

    with _keys() as pressed, Screen(screen(), console=console, screen=True, auto_refresh=False) as display:
        try:
            while True:
                began = time.monotonic()
                live = look()
                display.update(screen(), refresh=True)
                wait = max(REFRESH_S, time.monotonic() - began)
                if any(key in "qQ\x1b\x03" for key in pressed(wait)):
                    return
        except KeyboardInterrupt:
            return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for keys, and returns early with what was pressed."""
    try:
        import termios
        import tty
    except ImportError:  # Windows: Ctrl-C still ends it.
        yield _sleep
        return
    try:
        before = termios.tcgetattr(sys.stdin)
    except (OSError, ValueError, termios.error):  # There is no terminal to read from.
        yield _sleep
        return
    tty.setcbreak(sys.stdin)
    try:
        yield _pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _pressed(seconds: float) -> str:
    import os
    import select

    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    return os.read(sys.stdin.fileno(), 64).decode(errors="replace")


# --- what is shown ---------------------------------------------------------------------------------------------------


def _screen(live: "Live", place: str, width: int, height: int | None) -> "Group":
    """All of it; with a height, lists are as long as fit."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    from langchain_finops.reports.live import DIMENSIONS

    side_by_side = width >= WIDE
    rows = _room(height, side_by_side=side_by_side)
    tops = [_top(live, name, rows, width // 3 - 2 if side_by_side else width) for name in DIMENSIONS]
    parts: list[Any] = [*_head(live, place, width), "", _runs(live, rows, width), ""]
    if side_by_side:
        parts.append(Columns(tops, padding=(0, 2)))
    else:
        parts += [part for top in tops for part in (top, "")][:-1]
    parts += ["", *_alerts(live, rows)]
    if height is not None:
        parts += [Text("q quits. Amounts are list cost of calls and charges, by when they began.", style="dim")]
    return Group(*parts)


def _room(height: int | None, *, side_by_side: bool) -> int:
    """How many rows each list may have."""
    if height is None:
        return 10
    lists = 3 if side_by_side else 5
    return max((height - 6 - 2 * lists) // lists, 1)


def _head(live: "Live", place: str, width: int) -> Iterator[Any]:
    from rich.text import Text

    from langchain_finops.ledger.summary import fit, show_usd
    from langchain_finops.reports.live import PACE
    from langchain_finops.reports.live_table import amount, per_hour

    rate = per_hour(live.pace, PACE)
    bound = ">= " if live.pace.unpriced else ""
    said = "unpriced" if rate is None else f"{bound}{show_usd(rate, bound=bool(bound))}/h"
    ahead = live.forecast_usd
    at_least = ">= " if live.today.unpriced else ""
    forecast = "unpriced" if ahead is None else f"{at_least}{show_usd(ahead, bound=bool(at_least))}"
    when = f"{live.at:%Y-%m-%d %H:%M:%S} UTC"
    yield Text.assemble(("finops top", "bold"), f"  {when}  ", (fit(place, max(width - 37, 8)).rstrip(), "dim"))
    yield Text.assemble(
        ("now ", "dim"), (said, "bold"), (" (last 5 min)   ", "dim"),
        ("last hour ", "dim"), (amount(live.hour), "bold"), f", {live.hour.calls:,} calls",
    )  # fmt: skip
    yield Text.assemble(
        ("today ", "dim"), (amount(live.today), "bold"), ("   forecast of today ", "dim"), (forecast, "bold"),
    )  # fmt: skip
    if live.today.unpriced:
        text = f">=: at least; {live.today.unpriced:,} calls or charges of today are unpriced, which is not free."
        yield Text(text, style="yellow")


def _table(title: str, *columns: tuple[str, bool], width: int) -> "Table":
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, width=width, show_edge=False
    )
    for index, (name, is_name) in enumerate(columns):
        table.add_column(
            name,
            justify="left" if is_name else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if index == 0 else None,
            header_style="dim",
        )
    return table


def _runs(live: "Live", rows: int, width: int) -> "Table":
    from rich.text import Text

    from langchain_finops.reports.live_table import amount, span

    columns = [("run", True), ("agent", True), ("at node", True), ("step", False), ("cost so far", False),
               ("left", False)]  # fmt: skip
    columns += [("calls", False), ("tokens", False)] * (width >= 110)
    columns += [("running for", False)]
    table = _table(f"Running: {live.running:,}", *columns, width=min(width, 130))
    for run in live.runs[:rows]:
        cells = [run.run_id, _named(run.agent), run.node or "-", "-" if run.step is None else f"{run.step:,}"]
        cells += [amount(run.spent), run.left or "-"]
        cells += [f"{run.spent.calls:,}", f"{run.spent.tokens:,}"] * (width >= 110)
        cells += [span(live.at - run.began)]
        names = [_cut(cell, limit) for cell, limit in zip(cells, (60, width // 6, width // 6), strict=False)]
        table.add_row(*map(Text, [*names, *cells[3:]]))
    if not live.runs:
        table.add_row(Text("none: no call of an unfinished run in the last 15 minutes", style="dim"))
    return table


def _top(live: "Live", dimension: str, rows: int, width: int) -> "Table":
    from rich.text import Text

    from langchain_finops.reports.live_table import amount

    of_agents = dimension == "agent"
    names = [(dimension, True), *[("dearest node", True)] * of_agents]
    table = _table(f"Top {dimension}s, last hour", *names, ("calls", False), ("cost", False), ("share", False),
                   width=width)  # fmt: skip
    for key, spent in live.top[dimension][:rows]:
        share = f"{spent.pico / live.hour.pico:.0%}" if live.hour.pico else "-"
        nodes = [_cut(_named(live.dearest_node.get(key)), max(width // 4, 12))] * of_agents
        table.add_row(*map(Text, (_cut(_named(key), width), *nodes, f"{spent.calls:,}", amount(spent), share)))
    if not live.top[dimension]:
        table.add_row(Text("no call in the last hour", style="dim"))
    return table


def _alerts(live: "Live", rows: int) -> Iterator[Any]:
    from rich.text import Text

    from langchain_finops.ledger.summary import printable

    yield Text("Kills, budgets, alerts of the last day", style="bold")
    for at, said in live.alerts[: max(rows, 2)]:
        when = "now" if at is None else f"{at:%H:%M}"
        style = "" if at is not None or said.startswith(("AHEAD", "WARNING")) else "red"
        yield Text(f"{when:>5}  {printable(said)}", style=style, no_wrap=True, overflow="ellipsis")
    if len(live.alerts) > max(rows, 2):
        yield Text(
            f"       and {len(live.alerts) - max(rows, 2):,} more: finops events, finops budget list", style="dim"
        )
    if not live.alerts:
        yield Text("  none", style="dim")


def _named(name: str | None) -> str:
    from langchain_finops.ledger.summary import UNATTRIBUTED, printable

    return UNATTRIBUTED if name is None else printable(name)


def _cut(name: str, width: int) -> str:
    from langchain_finops.ledger.summary import cell_width, fit, printable

    shown = printable(name)
    return shown if cell_width(shown) <= width else fit(shown, max(width, 8))
