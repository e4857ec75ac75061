"""Keeps a second process out of a file."""

__all__ = ["lock"]


def lock(handle: int) -> None:
    """Lock an open file until it is closed; a crash lets go of it too. Raises OSError where another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock.
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Typeshed shows it on Windows only.
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
