"""What both command lines share: exit codes, and errors in one sentence."""

import io
import sys
import time

import pytest
import typer

from langchain_finops.cli import common
from langchain_finops.cli.common import ExitCode, OutputFormat, busy, run, warn
from langchain_finops.errors import BadData, Fault, FinOpsError, MissingExtra
from langchain_finops.reports.render import FORMATS


@pytest.fixture
def ended(capsys):
    """Run a command that does this; return exit code, stdout and stderr."""

    def with_command(action, *words: str) -> tuple[int, str, str]:
        app = typer.Typer(rich_markup_mode=None, add_completion=False)

        @app.callback()
        def nothing() -> None:
            """Nothing."""

        @app.command("do")
        def do(path: str = "") -> object:
            return action()

        code = run(app, "tool", ["do", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return with_command


def raising(error: BaseException):
    def action() -> None:
        raise error

    return action


def test_a_command_that_returns_nothing_is_good(ended):
    """Exit 0 is the default."""
    assert ended(lambda: None) == (0, "", "")


@pytest.mark.parametrize("code", list(ExitCode))
def test_a_command_chooses_its_exit_code(ended, code):
    """A gate exits 1 or 3 by returning it."""
    assert ended(lambda: code)[0] == code


def test_an_error_is_one_sentence_and_exit_2(ended):
    """Our errors say the remedy themselves; nothing else is printed."""
    assert ended(raising(FinOpsError("no ledger at x: name another."))) == (
        2,
        "",
        "Error: no ledger at x: name another.\n",
    )
    assert "pip install 'langchain-finops[eval]'" in ended(raising(MissingExtra("finops-eval", "eval")))[2]


def test_all_faults_of_a_file_are_listed(ended):
    """One look is enough: a sentence for each fault, with file and line."""
    faults = [Fault(where="t.jsonl:2", what="no id"), Fault(where="t.jsonl:5", what="id 'a' again")]
    code, _, err = ended(raising(BadData(faults)))
    assert (code, err) == (2, "Error: t.jsonl:2: no id\nError: t.jsonl:5: id 'a' again\n")


def test_a_file_that_cannot_be_read_is_named(ended):
    """The operating system's reason, with the file."""
    code, _, err = ended(lambda: open("/nowhere/at/all"))  # noqa: SIM115, PTH123 - it fails
    assert code == 2
    assert err == "Error: /nowhere/at/all: No such file or directory. Check the path, and that you may use it.\n"


def test_a_fault_of_ours_says_how_to_see_where(ended):
    """Even a bug is one sentence; --debug, wherever it stands, shows the traceback."""
    code, _, err = ended(raising(KeyError("cost")))
    assert (code, err) == (
        2,
        "Error: KeyError: 'cost'. This should not happen: run it again with --debug to see where.\n",
    )
    assert "Traceback" in ended(raising(KeyError("cost")), "--debug")[2]


def test_an_interrupt_is_no_traceback(ended):
    """Ctrl-C ends a command with the exit code shells know."""
    assert ended(raising(KeyboardInterrupt())) == (130, "", "")


def test_a_wrong_option_names_the_help(ended):
    """The user's next step is in the sentence."""
    code, _, err = ended(lambda: None, "--nope")
    assert code == 2
    assert err.startswith("Error: No such option: --nope")
    assert err.endswith("See `tool do --help`.\n")


def test_two_dashes_end_the_options(ended):
    """What follows `--` is data, even when it looks like --debug."""
    code, _, err = ended(raising(KeyError("x")), "--", "--debug")
    assert code == 2
    assert "Traceback" not in err


def test_a_warning_leaves_stdout_alone(capsys):
    """JSON stays JSON."""
    warn("odd.")
    assert capsys.readouterr() == ("", "Warning: odd.\n")


def test_names_that_the_terminal_cannot_show_are_replaced(monkeypatch):
    """An ASCII terminal gets a question mark, not a traceback."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    app = typer.Typer(rich_markup_mode=None)
    app.command()(lambda: print("caf\u00e9"))

    assert run(app, "tool", ["--"]) == 0
    assert stream.buffer.getvalue() == b"caf?\n"


def test_formats_are_those_that_can_be_rendered():
    """The option offers exactly what the renderer writes."""
    assert tuple(OutputFormat) == FORMATS


def test_what_takes_long_shows_on_a_terminal_only(monkeypatch, capsys):
    """After a second a terminal shows what is being done; a pipe shows nothing, and the result is not held up."""
    with monkeypatch.context() as patched:
        patched.setattr(common.threading, "Thread", lambda **_: pytest.fail("a pipe gets no progress"))
        with busy("Adding up"):
            pass
    assert capsys.readouterr().err == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(common, "PATIENCE_S", 0)
    with busy("Adding up"):
        deadline = time.monotonic() + 10
        while "Adding up" not in terminal.getvalue() and time.monotonic() < deadline:
            pass
    assert "Adding up" in terminal.getvalue()
