"""Settings that every test shares."""

import os
import signal

import pytest
from hypothesis import settings

# Without it each run would try other examples, and a failure could not be repeated.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell starts background jobs with Ctrl-C ignored, children inherit that, and tests of Ctrl-C would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the ledger, prices or traces of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("FINOPS_", "LANGSMITH_", "LANGCHAIN_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    # Test runners set it for their own output; tables would be cut to it.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
