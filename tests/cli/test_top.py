"""`finops top`, as a person at a terminal, or a script, meets it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.testing.records import a_call

WIDE_NAME = "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 60


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A ledger with two running runs of the last minutes, one without a price."""
    file = tmp_path / "ledger.db"
    ledger = open_ledger(file)
    now = datetime.now(UTC)
    ledger.write(
        a_call("a", usd="0.25", run_id="r1", agent_id="[bold]support", node_path="plan", started_at=now),
        a_call("b", usd=None, run_id="r2", invocation_id="i2", agent_id=WIDE_NAME, started_at=now),
    )
    ledger.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINOPS_LEDGER", str(file))
    return file


@pytest.mark.parametrize("width", [80, 200])
def test_once_fits_the_terminal(path, monkeypatch, capsys, width):
    """No line is wider than the screen, names are shown as they are, and unpriced is not $0."""
    from langchain_finops.ledger.summary import cell_width

    monkeypatch.setenv("COLUMNS", str(width))
    assert run(app, "finops", ["top", "--once"]) == 0
    out = capsys.readouterr().out

    assert max(map(cell_width, out.splitlines())) <= width
    assert "[bold]support" in out
    assert ">= $0.2500" in out
    assert "unpriced" in out
    assert "$0.0000" not in out


def test_once_as_json_has_exact_amounts(path, capsys):
    """One array of objects: runs, totals, and who spent most."""
    assert run(app, "finops", ["top", "--once", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)

    runs = {row["name"]: row["cost_usd"] for row in rows if row["kind"] == "run"}
    assert runs == {"r1": "0.25", "r2": None}
    assert [(row["name"], row["unpriced"]) for row in rows if row["kind"] == "agent"] == [
        ("[bold]support", 0),
        (WIDE_NAME, 1),
    ]


def test_a_format_wants_once(path, capsys):
    """JSON that never ends is no use: one sentence, exit 2."""
    assert run(app, "finops", ["top", "--format", "json"]) == 2
    assert "--once" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["q", "ctrl-c"])
def test_it_refreshes_and_ends_cleanly(path, end):
    """On a terminal a call that another process writes shows, and q or Ctrl-C ends it with exit code 0."""
    parent, child = pty.openpty()
    finops = Path(sys.executable).with_name("finops")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    process = subprocess.Popen([finops, "top"], stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    assert "support" in read_until(parent, "support")
    ledger = open_ledger(path)
    ledger.write(a_call("new", usd="0.5", agent_id="newcomer", started_at=datetime.now(UTC) - timedelta(seconds=1)))
    ledger.close()
    assert "newcomer" in read_until(parent, "newcomer")
    if end == "q":
        os.write(parent, b"q")
    else:
        process.send_signal(signal.SIGINT)
    shown = read_until(parent, None)

    assert process.wait(60) == 0
    assert "Traceback" not in shown
    os.close(parent)


def read_until(terminal: int, text: str | None) -> str:
    """What a terminal shows until a text, or the program's end."""
    shown, end = "", time.monotonic() + 90
    while time.monotonic() < end and (text is None or text not in shown):
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            got = os.read(terminal, 65_536)
        except OSError:  # The program has closed its side.
            break
        if not got:
            break
        shown += got.decode(errors="replace")
    return shown
