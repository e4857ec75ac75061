"""Keeps a second process out of a file."""

__all__ = ["lock"]


def lock(handle: int, *, wait: bool = False) -> None:
    """Lock an open file until it is closed; a crash lets go of it too.

    Where another process has it, wait for it, or raise OSError.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock.
        import msvcrt

        how = msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK  # type: ignore[attr-defined]  # Typeshed shows it on Windows.
        msvcrt.locking(handle, how, 1)  # type: ignore[attr-defined]  # The same.
    else:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
