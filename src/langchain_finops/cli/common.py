"""What both command lines share: options, exit codes, and errors in one sentence."""

import errno
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum, StrEnum
from typing import Annotated

import typer

from langchain_finops.errors import BadData, FinOpsError

__all__ = [
    "DebugOption",
    "ExitCode",
    "FormatOption",
    "LedgerOption",
    "OutputFormat",
    "VersionOption",
    "busy",
    "run",
    "warn",
]


PATIENCE_S = 1.0
"""What takes no longer shows no progress."""


class ExitCode(IntEnum):
    """What a command's exit code says."""

    GOOD = 0
    NO = 1
    """The answer is no: a gate failed, a budget is broken."""
    COULD_NOT_RUN = 2
    """Bad arguments, bad data, a missing key or file."""
    INCONCLUSIVE = 3


class OutputFormat(StrEnum):
    """How a table is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


FormatOption = Annotated[
    OutputFormat,
    typer.Option(
        "--format",
        metavar="NAME",
        help="table or markdown for people; json or csv for programs, unrounded and with all fields. Default: table.",
        show_default=False,
    ),
]
LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="A file or sqlite:///FILE. Without it: $FINOPS_LEDGER, else ledger.db in your user data directory.",
        show_default=False,
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"langchain-finops {version('langchain-finops')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]


def run(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. Errors are one sentence on stderr; `--debug`, anywhere among the
    arguments, adds the traceback. A command may return an ExitCode."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:] or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Without it a name that a terminal cannot show would be a traceback.
            stream.reconfigure(errors="replace")
    try:
        result = typer.main.get_command(app).main(words, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # Typer turns a closed pipe into exit code 1, which here means that the answer is no.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _drop_output()  # The reader (`| head`) has seen enough.
        return ExitCode.GOOD
    except (KeyboardInterrupt, typer.Abort):
        return 130  # What a shell expects of a command that Ctrl-C ended.
    except Exception as error:  # noqa: BLE001 - the last place where an error can become a sentence.
        if debug:
            traceback.print_exc()
        else:
            for sentence in _sentences(error, name):
                typer.echo(f"Error: {sentence}", err=True)
        _drop_output_that_fails()
        return ExitCode.COULD_NOT_RUN
    return result if isinstance(result, int) else ExitCode.GOOD


def _drop_output() -> None:
    """Write what is left to nowhere: without it Python complains while it shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


def _drop_output_that_fails() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


# Typer brings its own copy of click from 0.26 on: only by typer's name is the class the right one in every version.
_CommandLineError = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _sentences(error: Exception, name: str) -> list[str]:
    """What to tell of an error: which file, line or field, and the remedy."""
    if isinstance(error, BadData):
        return [str(fault) for fault in error.faults]
    if isinstance(error, FinOpsError):
        return [str(error)]
    if isinstance(error, _CommandLineError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else name
        message = error.format_message()  # type: ignore[attr-defined]  # found by its name above
        message = message.replace(": Value error, ", ": ")  # Which Python type said so helps nobody.
        return [f"{message.rstrip('.')}{'' if message.rstrip('.').endswith('?') else '.'} See `{command} --help`."]
    if isinstance(error, OSError) and error.filename is not None:
        return [f"{error.filename}: {error.strerror}. Check the path, and that you may use it."]
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return [f"The output could not be written: {error.strerror}. Make room, or write it elsewhere."]
    return [f"{type(error).__name__}: {error}. This should not happen: run it again with --debug to see where."]


def warn(sentence: str) -> None:
    """Tell the user something that does not stop the command; on stderr, so that the output stays whole."""
    typer.echo(f"Warning: {sentence}", err=True)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on a terminal's stderr what is being done, once it has taken longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    finished = threading.Event()

    def show() -> None:
        if finished.wait(PATIENCE_S):
            return
        from rich.console import Console

        with Console(stderr=True).status(what):
            finished.wait()

    shown = threading.Thread(target=show, daemon=True)
    shown.start()
    try:
        yield
    finally:
        finished.set()
        shown.join()
