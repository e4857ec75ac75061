"""`finops-eval init`: a dataset, a suite and an agent to start from."""

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from langchain_finops.errors import BadArguments

__all__ = ["mount"]

STARTER = ("tasks.jsonl", "tasks.yaml", "agent.py")
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Where to. It is made where it is missing.")]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init_command)


def init_command(folder: FolderArgument = Path()) -> None:
    """Write a dataset, a suite and an agent that run as they are, to make your own of.

    \b
    finops-eval init my-evaluation

    The agent asks a scripted model, without a key; the suite says how to put a
    real one in its place. No file is overwritten.
    """
    there = [name for name in STARTER if (folder / name).exists()]
    if there:
        raise BadArguments(f"{folder} has {', '.join(there)} already, and no file is overwritten: name another DIR")
    folder.mkdir(parents=True, exist_ok=True)
    source = files("langchain_finops.evals") / "starter"
    written: list[Path] = []
    try:
        for name in STARTER:
            text = (source / name).read_bytes()
            with (folder / name).open("xb") as file:  # Made by somebody else meanwhile, it is not overwritten either.
                written.append(folder / name)
                file.write(text)
    except BaseException:
        for path in written:  # Without it the next attempt would be refused for the files of this one.
            path.unlink(missing_ok=True)
        raise
    typer.echo(
        f"Written: {', '.join(str(path) for path in written)}\n"
        f"Next:\n  finops-eval run {shlex.quote(str(folder / STARTER[0]))}"
    )
