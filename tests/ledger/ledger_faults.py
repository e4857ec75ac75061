"""What befalls a ledger on disk: other processes, full disks, missing permissions."""

import ctypes
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that is in the midst of a write."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk on which no file can grow beyond a size: what SQLite meets when it is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def nobody() -> Iterator[None]:
    """This thread as a user whom file permissions hold: they do not hold root."""
    if os.geteuid() != 0:
        yield
        return
    setfsuid = ctypes.CDLL(None).setfsuid
    setfsuid(65534)
    try:
        yield
    finally:
        setfsuid(0)


def spill_of(path: Path) -> Path:
    return path.with_name("ledger.db.spill.jsonl")
