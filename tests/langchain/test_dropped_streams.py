"""A stream that nobody holds any more is closed in the middle of whatever runs then, our own bookkeeping included."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("dropped_streams.py")


@pytest.mark.parametrize(
    ("ledger", "place"),
    [
        (":memory:", "langchain.sums:_split"),
        (":memory:", "langchain.runs:cell_of_call"),
        (":memory:", "ledger.memory:identity"),
        (":memory:", "ledger.memory:time_of"),
        ("ledger.db", "ledger.append:Appender.append"),
        ("ledger.db", "ledger.writer:Writer.opened"),
    ],
)
def test_a_stream_dropped_in_the_middle_of_our_bookkeeping_is_counted(ledger: str, place: str, tmp_path: Path) -> None:
    """Nothing waits for a lock that its own thread holds, nothing is lost, nothing is counted twice."""
    where = ledger if ledger == ":memory:" else str(tmp_path / ledger)

    done = subprocess.run(  # In a process of its own: where the promise is broken, it hangs.
        [sys.executable, str(SCRIPT), where, place], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
