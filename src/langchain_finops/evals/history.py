"""What earlier looks said: a line a look, appended in one piece by one process at a time."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals.locks import lock
from langchain_finops.evals.results import cut_torn_line
from langchain_finops.reports.render import exact

__all__ = ["append", "read"]

NEEDED = frozenset({"run_id", "baseline", "candidate", "dataset", "level", "counted", "verdict"})
"""What is read of a line."""


def read(path: Path) -> list[Mapping[str, Any]]:
    """All looks, oldest first; none where there is no file. What a crash has left of a last line is left out.

    Raises BadData with every line that is no look.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EvalError(f"history {path} cannot be read: {error.strerror or error}") from error
    looks: list[Mapping[str, Any]] = []
    faults: list[Fault] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            look = json.loads(line)
            missing = sorted(NEEDED - look.keys())
        except (ValueError, AttributeError) as error:
            faults.append(Fault(where=f"{path}:{number}", what=f"no look: {error}"))
            continue
        if missing:
            faults.append(Fault(where=f"{path}:{number}", what=f"no look, for want of {', '.join(missing)}"))
        looks.append(look)
    if faults:
        raise BadData(faults)
    return looks


def append(path: Path, look: Mapping[str, Any]) -> None:
    """Append a look, unless it is there already; it is on disk when this returns. Raises EvalError where it cannot."""
    line = json.dumps(look, default=exact, allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path), path.open("ab") as file:
            cut_torn_line(path)
            if any(known["run_id"] == look["run_id"] for known in read(path)):
                return
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise EvalError(f"history {path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process appends; a crash lets go. A file beside it is locked, which no editor replaces."""
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(handle, wait=True)
        yield
    finally:
        os.close(handle)
