"""Searches with regular expressions that may take for ever: in a process of its own, which is ended in time.

A pattern such as `(a+)+$` takes twice as long for each further letter, and holds Python's lock all the while: even in a
thread of its own it would stop every attempt.
"""

import atexit
import json
import os
import subprocess
import sys
import threading

__all__ = ["LIMIT_S", "search"]

LIMIT_S = 10.0
"""Longer than any search that is meant takes on a busy machine."""
# Each line is a request, and so is each answer. It ends where its parent does, whose end closes the pipe.
LOOP = """
import json, re, sys
for line in sys.stdin.buffer:
    pattern, flags, text = json.loads(line)
    sys.stdout.write("1\\n" if re.search(pattern, text, flags) else "0\\n")
    sys.stdout.flush()
"""


class _Searcher:
    """The process; it is started when it is needed, and again after it was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        """The process that started it: a fork must not talk into its parent's pipe."""

    def search(self, pattern: str, flags: int, text: str, limit_s: float) -> bool | None:
        with self._lock:
            process = self._process if self._process and self._owner == os.getpid() else self._started()
            assert process.stdin is not None, "it was opened with pipes"
            assert process.stdout is not None, "it was opened with pipes"
            ended = threading.Timer(limit_s, process.kill)
            ended.start()
            try:
                process.stdin.write(json.dumps([pattern, flags, text]).encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = b""
            finally:
                ended.cancel()
            if not answer:
                self._end()
                return None
            return answer == b"1\n"

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-I", "-S", "-c", LOOP]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  Ours.
        self._owner = os.getpid()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._owner == os.getpid():
                self._end()


_SEARCHER = _Searcher()
atexit.register(_SEARCHER.close)


def search(pattern: str, flags: int, text: str, *, limit_s: float = LIMIT_S) -> bool | None:
    """Whether a pattern matches anywhere in a text; None where that could not be told in time."""
    return _SEARCHER.search(pattern, flags, text, limit_s)
