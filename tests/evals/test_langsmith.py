"""LangSmith with its real client on a loopback server: datasets come from there, runs go there, and nothing doubles."""

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid5

import pytest
from langsmith import Client
from urllib3 import Retry

from langchain_finops.cli.common import run
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments, EvalError
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.langsmith import dataset_name, fetch, own_client
from langchain_finops.evals.langsmith_upload import SENT, upload
from langchain_finops.evals.resume import load_results

MakeResults = Callable[..., Path]
SOME = UUID("00000000-0000-4000-8000-000000000001")
DAY = "2026-05-01T12:00:00+00:00"


class LangSmith(ThreadingHTTPServer):
    """Keeps what the client sends, by id, as LangSmith does: what is sent twice is there once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.datasets: dict[str, dict[str, Any]] = {}
        self.examples: list[dict[str, Any]] = []
        self.versions = True
        self.asked_as_of: list[str | None] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.feedback: dict[str, dict[str, Any]] = {}
        self.posts: list[str] = []
        self.fail_after: int | None = None
        self.lock = threading.Lock()

    def dataset(self, name: str) -> dict[str, Any]:
        made = {"id": str(uuid5(SOME, name)), "name": name, "created_at": DAY, "modified_at": DAY}
        return self.datasets.setdefault(name, made)

    def add(self, dataset: str, number: int, **fields: object) -> None:
        example = {"id": str(UUID(int=number)), "inputs": {"n": number}, "outputs": {"answer": "a"}, **fields}
        self.examples.append({**example, "dataset_id": self.dataset(dataset)["id"], "created_at": DAY})


class Answer(BaseHTTPRequestHandler):
    server: LangSmith
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Keep the test's output quiet."""

    def reply(self, body: object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/datasets":
            found = self.server.datasets.get(query["name"][0])
            self.reply([found] if found else [])
        elif path.endswith("/version"):
            self.reply(
                {"as_of": DAY, "tags": ["latest"]} if self.server.versions else {}, 200 if self.server.versions else 404
            )
        elif path == "/examples":
            self.server.asked_as_of.append(query.get("as_of", [None])[0])
            start, limit = int(query["offset"][0]), int(query["limit"][0])
            of = [each for each in self.server.examples if each["dataset_id"] == query["dataset"][0]]
            self.reply(of[start : start + limit])
        elif path == "/sessions":
            own = {"id": str(SOME), "name": "default", "tenant_id": str(SOME), "start_time": DAY}
            self.reply([{**own, "reference_dataset_id": None}])
        else:
            self.reply({"version": "0.9.0", "batch_ingest_config": {"use_multipart_endpoint": False}})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = urlsplit(self.path).path
        with server.lock:
            server.posts.append(path)
            if server.fail_after is not None and server.posts.count("/runs") > server.fail_after:
                return self.reply({"detail": "down for maintenance"}, 503)
            if path == "/datasets":
                self.reply(server.dataset(body["name"]))
            elif path == "/examples/bulk":
                kept = ("id", "dataset_id", "inputs", "outputs", "metadata")
                server.examples += [{**{name: each[name] for name in kept}, "created_at": DAY} for each in body]
                self.reply([{"id": each["id"]} for each in body])
            elif path == "/sessions":
                body = {**body, "start_time": DAY, "tenant_id": str(SOME)}
                self.reply(server.sessions.setdefault(body["name"], body))
            elif path == "/runs":
                known = body["id"] in server.runs
                server.runs.setdefault(body["id"], body)
                self.reply({}, 409 if known else 202)
            elif path == "/feedback":
                server.feedback[body["id"]] = body
                self.reply(body)
        return None

    def do_PATCH(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kind, name = urlsplit(self.path).path.strip("/").split("/")
        with server.lock:
            if kind == "runs":
                server.runs[name] |= body
                self.reply({})
            else:
                (session,) = [each for each in server.sessions.values() if each["id"] == name]
                session |= {key: value for key, value in body.items() if value is not None}
                self.reply(session)


@pytest.fixture
def langsmith(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangSmith]:
    with LangSmith() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "key-of-a-test")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(langsmith: LangSmith) -> Client:
    return own_client()


# --- datasets ---


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("langsmith:Support", ("Support", None)),
        ("langsmith:Support@prod", ("Support", "prod")),
        ("langsmith:a@b@2026-05-01T12:00:00+00:00", ("a@b", "2026-05-01T12:00:00+00:00")),
    ],
)
def test_a_spec_names_a_dataset_and_maybe_a_version(spec: str, expected: tuple[str, str | None]) -> None:
    """The version is behind the last @."""
    assert dataset_name(spec) == expected


def test_examples_are_read_with_their_splits_and_metadata(langsmith: LangSmith, client: Client) -> None:
    """By id, whatever order they come in; an example without outputs has none to compare with."""
    langsmith.add("Support", 2, metadata={"dataset_split": ["test", "hard"], "topic": "refund"})
    langsmith.add("Support", 1, outputs=None)
    langsmith.add("Other", 3)

    fetched = fetch("langsmith:Support", client=client)

    assert fetched.records == [
        {"id": str(UUID(int=1)), "inputs": {"n": 1}, "outputs": {}},
        {
            "id": str(UUID(int=2)),
            "inputs": {"n": 2},
            "outputs": {"answer": "a"},
            "metadata": {"dataset_split": ["test", "hard"], "topic": "refund"},
            "split": "test",
        },
    ]


def test_every_page_is_read(langsmith: LangSmith, client: Client) -> None:
    """LangSmith gives a hundred examples at a time."""
    for number in range(250):
        langsmith.add("Big", number)

    assert len(fetch("langsmith:Big", client=client).records) == 250


def test_the_version_that_was_read_is_named(langsmith: LangSmith, client: Client) -> None:
    """The latest is pinned to its point in time, so that what is read again is the same; a tag goes as it is. A server
    that keeps no versions is asked for what it has."""
    langsmith.add("Support", 1)

    assert fetch("langsmith:Support", client=client).source == f"langsmith:Support@{DAY}"
    assert fetch("langsmith:Support@prod", client=client).source == "langsmith:Support@prod"
    langsmith.versions = False
    assert fetch("langsmith:Support", client=client).source == f"langsmith:Support@{DAY}"
    assert langsmith.asked_as_of == [DAY, "prod", None]


def test_what_cannot_be_fetched_is_one_sentence(
    langsmith: LangSmith, client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A dataset that is not there, a spec without a name, no key, no network."""
    nowhere = Client(api_url="http://127.0.0.1:9", api_key="k", auto_batch_tracing=False, retry_config=Retry(0))
    with pytest.raises(EvalError, match="dataset 'langsmith:None' is not on LangSmith"):
        fetch("langsmith:None", client=client)
    with pytest.raises(EvalError, match="has no name"):
        fetch("langsmith:", client=client)
    with pytest.raises(EvalError, match="LangSmith says"):
        fetch("langsmith:X", client=nowhere)
    monkeypatch.delenv("LANGSMITH_ENDPOINT")
    monkeypatch.delenv("LANGSMITH_API_KEY")
    with pytest.raises(EvalError, match="set LANGSMITH_API_KEY"):
        fetch("langsmith:Support")
    assert capfd.readouterr().err == ""


def test_a_langsmith_dataset_runs_like_a_file(
    workshop: Any, langsmith: LangSmith, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its version stands in run.json; the same command goes on, and an example that has changed alone is run again.
    The run goes back to the examples it came from."""
    for number in (1, 2):
        langsmith.add("Support", number, inputs={"number": number}, outputs={"answer": str(2 * number)})
    words = ["run", "langsmith:Support", "--suite", "tasks.yaml", "--langsmith", "--format", "json"]

    assert run(app, "finops-eval", words) == 0, capsys.readouterr().err
    assert [row["successes"] for row in json.loads(capsys.readouterr().out)] == [2, 0]
    manifest = json.loads((workshop.folder / "results/Support-tasks/run.json").read_text())
    assert manifest["dataset"]["path"] == f"langsmith:Support@{DAY}"
    assert manifest["dataset"]["name"] == "Support"
    assert {run["reference_example_id"] for run in langsmith.runs.values()} == {str(UUID(int=n)) for n in (1, 2)}
    assert len(langsmith.examples) == 2
    workshop.calls()

    langsmith.examples[0]["inputs"] = {"number": 5}
    assert run(app, "finops-eval", words) == 0
    assert workshop.calls() == ["answer 5", "answer 5"]


def test_a_langsmith_dataset_needs_a_suite_by_name(langsmith: LangSmith, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing lies beside it."""
    langsmith.add("Support", 1)

    assert run(app, "finops-eval", ["run", "langsmith:Support"]) == 2
    assert "pass --suite FILE" in capsys.readouterr().err


# --- experiments ---


def test_a_run_becomes_an_experiment_a_configuration(workshop: Any, langsmith: LangSmith) -> None:
    """Each attempt is a run on its example, with configuration, exact cost and success. By hand: 100 x $1 + 10 x $10
    a million is $0.0002 an attempt."""
    results = workshop.run()

    uploaded = upload(results, load_dataset(workshop.dataset))

    run_id = results.run["run_id"]
    assert uploaded.experiments == {"right": f"{run_id} right", "wrong": f"{run_id} wrong"}
    assert (uploaded.attempts, uploaded.sent) == (4, 4)
    dataset = langsmith.datasets[uploaded.dataset]
    session = langsmith.sessions[f"{run_id} right"]
    assert session["reference_dataset_id"] == dataset["id"]
    assert session["extra"]["metadata"]["finops:configuration"] == "right"
    assert session["end_time"] is not None
    examples = {each["id"]: each for each in langsmith.examples}
    runs = [run for run in langsmith.runs.values() if run["session_name"] == f"{run_id} right"]
    assert sorted(examples[run["reference_example_id"]]["inputs"]["number"] for run in runs) == [1, 2]
    assert runs[0]["outputs"]["answer"] in {"2", "4"}
    assert runs[0]["extra"]["metadata"]["finops:cost_usd"] == "0.0002"
    said = {(each["run_id"], each["key"]): each for each in langsmith.feedback.values()}
    assert said[runs[0]["id"], "success"]["score"] == 1
    assert said[runs[0]["id"], "scorer:exact"]["score"] == 1
    assert (said[runs[0]["id"], "cost_usd"]["value"], said[runs[0]["id"], "cost_usd"]["score"]) == ("0.0002", 0.0002)
    assert said[runs[0]["id"], "cost_microusd"]["score"] == 200
    (wrong, _) = [run for run in langsmith.runs.values() if run["session_name"] == f"{run_id} wrong"]
    assert said[wrong["id"], "success"]["score"] == 0


def test_the_same_again_sends_nothing_twice(workshop: Any, langsmith: LangSmith) -> None:
    """What was sent is known; where that is lost, the same ids keep everything single. A verdict that has changed is
    sent once more, in place of the old one."""
    workshop.run()
    dataset = load_dataset(workshop.dataset)
    upload(load_results(workshop.results), dataset)
    counts = len(langsmith.runs), len(langsmith.feedback), len(langsmith.examples), len(langsmith.sessions)

    assert upload(load_results(workshop.results), dataset).sent == 0
    (workshop.results / SENT).unlink()
    assert upload(load_results(workshop.results), dataset).sent == 4
    assert (len(langsmith.runs), len(langsmith.feedback), len(langsmith.examples), len(langsmith.sessions)) == counts

    workshop.suite(
        (workshop.folder / "tasks.yaml").read_text().replace("scorer: exact", "scorer: {type: regex, pattern: '2'}")
    )
    results = workshop.run()
    assert upload(results, dataset).sent == 4
    successes = [each["score"] for each in langsmith.feedback.values() if each["key"] == "success"]
    assert sorted(successes) == [0, 0, 0, 1]
    assert len(langsmith.runs) == 4


def test_an_upload_that_fails_loses_nothing_and_goes_on(
    workshop: Any, langsmith: LangSmith, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence, no traceback; the results are as they were, and the next time sends the rest alone."""
    workshop.data(number=list(range(20)))
    results = workshop.run()
    before = {path.name: path.read_bytes() for path in workshop.results.glob("*.json*")}
    client = Client(api_url=langsmith.url, api_key="k", auto_batch_tracing=False, retry_config=Retry(0))
    langsmith.fail_after = 12
    with pytest.raises(EvalError, match=r"upload of .*: LangSmith says"):
        upload(results, load_dataset(workshop.dataset), client=client)
    assert capfd.readouterr().err == ""
    assert {path.name: path.read_bytes() for path in workshop.results.glob("*.json*") if path.name != SENT} == before

    langsmith.fail_after = None
    sent = upload(results, load_dataset(workshop.dataset), client=client).sent
    assert sent < 40
    assert len(langsmith.runs) == 40
    assert len(langsmith.feedback) == 40 * 4


def test_unknown_costs_and_unscored_attempts_are_not_sent_as_zero(
    make_results: MakeResults, tmp_path: Path, langsmith: LangSmith
) -> None:
    """An unknown cost has no score, an unscored attempt no success, and a stopped one is no success and says why."""
    lines = [{"id": task, "inputs": {}, "outputs": {}} for task in ("a", "b", "c", "d")]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = load_dataset(tmp_path / "tasks.jsonl")
    tasks = {"a": [(None, True)], "b": [("0.00000207", None)], "c": [("1", "stopped")], "d": [("0.5", True)]}
    items = {item.id: [f"in {item.id}", item.hash] for item in dataset.items}
    folder = make_results(
        {"x": tasks}, dataset={"path": "tasks.jsonl", "name": "tasks", "hash": "h" * 9, "items": items}
    )

    upload(load_results(folder), dataset)

    by_run = {run["extra"]["metadata"]["finops:item"]: run for run in langsmith.runs.values()}
    said = {
        task: {each["key"]: each for each in langsmith.feedback.values() if each["run_id"] == run["id"]}
        for task, run in by_run.items()
    }
    assert said["a"]["cost_usd"].get("score") is None
    assert said["a"]["cost_usd"]["value"] == "unknown"
    assert "cost_microusd" not in said["a"]
    assert "success" not in said["b"]
    assert said["b"]["cost_usd"].get("score") is None  # Four decimals would make it nothing.
    assert (said["b"]["cost_usd"]["value"], said["b"]["cost_microusd"]["score"]) == ("0.00000207", 2.07)
    assert (said["c"]["success"]["score"], by_run["c"]["error"]) == (0, "stopped: no reason given")
    assert Decimal(str(said["d"]["cost_usd"]["score"])) == Decimal("0.5")


def test_results_of_other_items_are_refused(workshop: Any, langsmith: LangSmith) -> None:
    """Examples that the attempts never saw must not stand beside their answers."""
    results = workshop.run()
    workshop.data(number=[1, 3])

    with pytest.raises(BadArguments, match="is not of the items in"):
        upload(results, load_dataset(workshop.dataset), client=client)
    assert not langsmith.posts


# --- the command ---


def test_run_uploads_and_a_failure_is_one_warning(
    workshop: Any, langsmith: LangSmith, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is as it was, exit code and all; the same command sends what is missing, and buys nothing again."""
    words = ["run", "tasks.jsonl", "--langsmith", "--format", "json"]
    langsmith.fail_after = 0
    monkeypatch.setattr(
        "langchain_finops.evals.langsmith_upload.own_client",
        lambda: Client(api_url=langsmith.url, api_key="k", auto_batch_tracing=False, retry_config=Retry(0)),
    )
    assert run(app, "finops-eval", words) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 2
    (warning,) = [line for line in err.splitlines() if line.startswith("Warning: ")]
    assert "the results are in results/tasks, and the same command uploads them" in warning
    workshop.calls()

    langsmith.fail_after = None
    assert run(app, "finops-eval", words) == 0
    assert "4 attempts sent" in capsys.readouterr().err
    assert workshop.calls() == []
    assert len(langsmith.runs) == 4


def test_a_missing_key_is_told_before_anything_is_bought(
    workshop: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after an hour of attempts."""
    for name in ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY", "LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)

    assert run(app, "finops-eval", ["run", "tasks.jsonl", "--langsmith"]) == 2
    assert "set LANGSMITH_API_KEY" in capsys.readouterr().err
    assert workshop.calls() == []
