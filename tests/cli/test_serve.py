"""`finops serve` as a process: it says where it is, answers, tells of changes, and ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.testing.records import a_call

FINOPS = Path(sys.executable).with_name("finops")
PATIENCE_S = 60.0


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    opened.write(a_call(agent_id="support"))
    yield opened
    opened.close()


@pytest.fixture
def served(ledger):
    """A server on a free port, and its address."""
    words = [FINOPS, "serve", "--ledger", ledger.url, "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    yield process, re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
    process.kill()
    process.communicate()


def test_it_serves_tells_of_changes_and_ends_with_ctrl_c(served, ledger):
    """A watcher hears of a new call, and does not keep the server from ending: exit code 0, nothing on stderr."""
    process, address = served
    assert "support" in httpx.get(f"{address}/runs", timeout=PATIENCE_S).text
    with httpx.stream("GET", f"{address}/live", timeout=PATIENCE_S) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        ledger.write(a_call("another"))
        assert next(line for line in lines if line.startswith("event:")) == "event: changed"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == ""


@pytest.fixture
def finops(capsys):
    def call(*words):
        code = run(app, "finops", [*map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_what_it_cannot_do_is_one_sentence(finops, ledger, tmp_path, monkeypatch):
    """An address open to others without a token, a port in use, a ledger that is not there, a token too short."""
    code, out, err = finops("serve", "--host", "0.0.0.0", "--ledger", ledger.url)
    assert (code, out) == (2, "")
    assert "a token is needed: set $FINOPS_OPERATOR_TOKEN" in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = finops("serve", "--port", taken.getsockname()[1], "--ledger", ledger.url)
    assert code == 2
    assert err.startswith("Error: cannot listen on 127.0.0.1 port ")
    assert finops("serve", "--ledger", tmp_path / "none.db")[0] == 2
    assert "is empty for all others" in finops("serve", "--ledger", ":memory:")[2]
    assert finops("serve", "--port", "70000")[0] == 2
    monkeypatch.setenv("FINOPS_OPERATOR_TOKEN", "secret")
    _, _, err = finops("serve", "--host", "0.0.0.0", "--ledger", ledger.url)
    assert "has 6 letters" in err
    assert "secret." not in err


def test_without_the_extra_it_says_what_to_install(finops, ledger, monkeypatch):
    """The core package has no web server."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = finops("serve", "--ledger", ledger.url)
    assert code == 2
    assert "pip install 'langchain-finops[dashboard]'" in err


def test_the_sums_of_a_large_ledger_end_with_the_server(ledger, tmp_path):
    """They are the same figures; a server that is killed leaves no process behind that holds the ledger open."""
    psutil = pytest.importorskip("psutil")
    code = (
        "from langchain_finops.dashboard import app; app.LARGE = 0\n"
        "from langchain_finops.cli.finops import main; main()\n"
    )
    script = tmp_path / "large.py"
    script.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}")
    words = [sys.executable, script, "serve", "--ledger", ledger.url, "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ})
    address = re.findall(r"http://\S+", process.stdout.readline())[0]
    answer = httpx.get(f"{address}/agents?agent=support&period=all", timeout=PATIENCE_S)
    while answer.status_code == 503:
        answer = httpx.get(answer.url, timeout=PATIENCE_S)
    assert "<strong>$0.2500</strong> in all" in answer.text
    children = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert children
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert (len(gone), alive) == (len(children), [])
