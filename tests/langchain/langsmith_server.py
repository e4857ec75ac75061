"""A loopback server that takes what LangSmith's real client sends."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["PROJECT", "LangSmithServer"]

PROJECT = "00000000-0000-4000-8000-00000000a001"


class LangSmithServer(ThreadingHTTPServer):
    """Takes what the real client sends, and remembers the last that was said of each run."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.feedback: list[dict[str, Any]] = []
        self.fail_feedback = False
        self.refusals: list[int] = []
        """Status codes of the next answers to what is posted or patched; 0 for a good one."""
        self.lock = threading.Lock()
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        """What was asked, in order: method, path, body."""

    def named(self, name: str) -> dict[str, Any]:
        """The run of that name; there must be one."""
        (run,) = [run for run in self.runs.values() if run.get("name") == name]
        return run


class Answer(BaseHTTPRequestHandler):
    server: LangSmithServer

    def log_message(self, *args: object) -> None:
        """Keep the test's output quiet."""

    def reply(self, body: object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "0")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path.startswith("/sessions"):
            if "name=nowhere" in self.path:
                self.reply([])
                return
            session = {
                "id": PROJECT,
                "name": "default",
                "tenant_id": PROJECT,
                "start_time": "2026-01-01T00:00:00Z",
                "reference_dataset_id": None,
            }
            self.reply([session])
        else:
            self.reply({"version": "0.9.0", "batch_ingest_config": {"use_multipart_endpoint": False}})

    def take(self) -> dict[str, Any] | None:
        """The body of a request; None where it has been refused."""
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.sent.append((self.command, self.path, body))
        with self.server.lock:
            status = self.server.refusals.pop(0) if self.server.refusals else 0
        if status:
            self.reply({"detail": "no"}, status)
        return None if status else body

    def query(self, body: dict[str, Any]) -> None:
        """Answer with those of the runs that are there, and with no more than was asked for."""
        assert len(body["id"]) <= 100
        found = [self.server.runs[run] for run in body["id"] if run in self.server.runs]
        rows = [{name: run[name] for name in body["select"] if name in run} for run in found]
        self.reply({"runs": [] if "session" in body and body["session"] != [PROJECT] else rows})

    def do_POST(self) -> None:
        body = self.take()
        if body is None:
            return
        if self.path == "/runs/query":
            self.query(body)
            return
        if self.path == "/feedback":
            if self.server.fail_feedback:
                self.reply({"detail": "no"}, 400)
                return
            self.server.feedback.append(body)
        else:
            for run in body["post"] + body["patch"] if self.path == "/runs/batch" else [body]:
                self.server.runs.setdefault(run["id"], {}).update(run)
        self.reply({})

    def do_PATCH(self) -> None:
        body = self.take()
        if body is None:
            return
        self.server.runs.setdefault(self.path.rpartition("/")[2], {}).update(body)
        self.reply({})
