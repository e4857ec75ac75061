"""`finops langsmith sync` with the real client on a loopback server."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langgraph.graph import END, START, MessagesState, StateGraph
from langsmith import Client
from langsmith_server import LangSmithServer

from langchain_finops import FinOpsHandler, PriceBook, open_ledger
from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.testing.records import a_call, a_charge, a_run

Command = Callable[..., tuple[int, str, str]]
COUNTS = ("in_ledger", "updated", "unchanged", "not_found", "not_ended", "other_ids", "folded")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def finops(
    server: LangSmithServer, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`finops langsmith sync` on the ledger and the server; returns exit code, stdout and stderr."""
    monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
    monkeypatch.setenv("LANGSMITH_API_KEY", "x")
    monkeypatch.setattr("langsmith.client.time.sleep", lambda _: None)

    def command(*words: str) -> tuple[int, str, str]:
        code = run(app, "finops", ["langsmith", "sync", "--ledger", str(path), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def counts(finops: Command) -> Callable[..., dict[str, tuple[int, ...]]]:
    """What the command says of each kind, in the order of COUNTS."""

    def of(*words: str) -> dict[str, tuple[int, ...]]:
        code, out, err = finops("--format", "json", *words)
        assert (code, err) == (0, "")
        return {row["kind"]: tuple(row[name] for name in COUNTS) for row in json.loads(out)}

    return of


def updates(server: LangSmithServer) -> int:
    """How many runs were written to."""
    return sum(method == "PATCH" for method, _, _ in server.sent)


@pytest.fixture
def traced(path: Path, client: Client, server: LangSmithServer, model: Any, prices: PriceBook) -> LangSmithServer:
    """A graph of a call and a priced tool, and a bare call, recorded and traced: LangSmith has five runs."""

    @tool
    def search(question: str) -> str:
        """Search."""
        return question

    chat = model()

    def ask(state: MessagesState) -> dict[str, Any]:
        search.invoke({"question": "?"})
        return {"messages": [chat.invoke("hello")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    ledger = open_ledger(path)
    ours = FinOpsHandler(agent_id="support", ledger=ledger, prices=prices)
    config: Any = {
        "callbacks": [ours, LangChainTracer(client=client)],
        "metadata": {"task_id": "t-42", "user_id": "u-7"},
        "tags": ["theirs"],
    }
    builder.compile(name="the-graph").invoke({"messages": []}, config)
    chat.invoke("hello", {**config, "run_name": "bare"})
    assert ours.faults == 0
    ledger.close()
    server.sent.clear()
    return server


def as_without_us(server: LangSmithServer) -> dict[str, dict[str, Any]]:
    """Take our marks and costs off all runs, as if traced without the handler; return them as they were."""
    before = copy.deepcopy(server.runs)
    for each in server.runs.values():
        metadata = each["extra"]["metadata"]
        usage = metadata.pop("usage_metadata", None)
        if usage and "input_tokens" in usage:
            metadata["usage_metadata"] = {name: usage[name] for name in usage if not name.endswith("_cost")}
        for name in [name for name in metadata if name.startswith("finops:")]:
            del metadata[name]
        each["tags"] = [tag for tag in each.get("tags") or [] if not tag.startswith("finops:")]
    return before


def test_what_was_marked_live_is_left_alone(traced: LangSmithServer, counts: Any) -> None:
    """A run that the handler marked is as the sync would have it: nothing is sent."""
    assert counts() == {
        "model calls": (1, 0, 1, 0, 0, 0, 0),
        "tools": (1, 0, 1, 0, 0, 0, 0),
        "runs": (2, 0, 2, 0, 0, 0, 0),
    }
    assert updates(traced) == 0


def test_past_runs_get_what_live_ones_have(traced: LangSmithServer, counts: Any) -> None:
    """Cost, tags and metadata are filled in; what others have put there stays, and so does each run's end."""
    before = as_without_us(traced)
    assert counts() == {
        "model calls": (1, 1, 0, 0, 0, 0, 0),
        "tools": (1, 1, 0, 0, 0, 0, 0),
        "runs": (2, 2, 0, 0, 0, 0, 0),
    }
    for run_id, wanted in before.items():
        after = traced.runs[run_id]
        assert sorted(after["tags"]) == sorted(wanted["tags"] or [])
        assert after["extra"]["metadata"] == wanted["extra"]["metadata"]
        assert after["extra"]["runtime"] == wanted["extra"]["runtime"]
        assert (after["end_time"], after["outputs"]) == (wanted["end_time"], wanted["outputs"])
        assert "theirs" in after["tags"]
    root = traced.named("the-graph")
    # 7 tokens at $2 and 3 at $10 a million, and half a cent for the search.
    assert Decimal(root["extra"]["metadata"]["finops:cost_usd"]) == Decimal("0.000044") + Decimal("0.005")
    assert traced.named("bare")["extra"]["metadata"]["usage_metadata"]["total_cost"] == 0.000044

    sent = updates(traced)
    assert counts()["runs"] == (2, 0, 2, 0, 0, 0, 0)
    assert updates(traced) == sent == 4


def test_a_dry_run_only_looks(traced: LangSmithServer, finops: Command) -> None:
    """It counts what would be sent, says so, and sends nothing."""
    as_without_us(traced)
    code, out, _ = finops("--dry-run")

    assert code == 0
    assert updates(traced) == 0
    assert out.startswith("Would be sent from ")
    assert [line.split()[-7:-5] for line in out.splitlines() if line.startswith(("model calls", "runs"))] == [
        ["1", "1"],
        ["2", "2"],
    ]


def test_what_langsmith_does_not_have_is_not_made(
    path: Path, server: LangSmithServer, finops: Command, counts: Any
) -> None:
    """Unknown runs, ids that are not LangChain's and runs still going on are counted, and nothing is created."""
    going_on = "00000000-0000-4000-8000-000000000001"
    server.runs[going_on] = {"id": going_on, "extra": {}, "tags": None, "end_time": None}
    ledger = open_ledger(path)
    ledger.write(*(a_call(name) for name in (going_on, "00000000-0000-4000-8000-000000000002", "imported:1")))
    ledger.close()

    assert counts()["model calls"] == (3, 0, 0, 1, 1, 1, 0)
    assert updates(server) == 0
    assert list(server.runs) == [going_on]
    notes = finops()[1]
    assert "not found: never traced" in notes
    assert "not ended: still going on" in notes
    assert "other ids: imported" in notes


def many(path: Path, server: LangSmithServer, count: int, **about: Any) -> list[str]:
    """So many calls in the ledger, each with a bare run on the server."""
    names = [str(UUID(int=number + 1, version=4)) for number in range(count)]
    ledger = open_ledger(path)
    ledger.write(*(a_call(name, usd="0.25", agent_id="support", **about) for name in names))
    ledger.close()
    ended = "2026-03-02T10:00:00+00:00"
    server.runs.update({name: {"id": name, "extra": None, "tags": None, "end_time": ended} for name in names})
    return names


def test_many_runs_are_asked_for_by_the_hundred(path: Path, server: LangSmithServer, counts: Any) -> None:
    """120 runs are two questions; each gets its cost."""
    names = many(path, server, 120)
    assert counts()["model calls"] == (120, 120, 0, 0, 0, 0, 0)
    assert sum(place == "/runs/query" for _, place, _ in server.sent) == 2
    costs = [server.runs[name]["extra"]["metadata"]["usage_metadata"]["total_cost"] for name in names]
    assert costs == [0.25] * 120


@pytest.mark.parametrize("status", [429, 500, 502])
def test_a_rate_limit_is_waited_for(path: Path, server: LangSmithServer, counts: Any, status: int) -> None:
    """Too many requests, or a fault over there: the same request again, and nothing is lost."""
    many(path, server, 3)
    server.refusals = [status, status, status]
    assert counts()["model calls"] == (3, 3, 0, 0, 0, 0, 0)


def test_a_sync_that_was_cut_off_goes_on(path: Path, server: LangSmithServer, finops: Command, counts: Any) -> None:
    """It ends with one sentence; the same command sends the rest, and only that."""
    names = many(path, server, 20)
    server.refusals = [0] * 11 + [403]  # After the question and ten of the runs.
    code, out, err = finops()
    assert (code, out) == (2, "")
    assert err.startswith("Error: The sync stopped; the same command goes on from there: LangSmith says ")
    assert err.count("\n") == 1

    there = sum(bool(server.runs[name]["tags"]) for name in names)
    assert 10 <= there < 20
    assert counts()["model calls"] == (20, 20 - there, there, 0, 0, 0, 0)


def test_a_run_that_was_deleted_meanwhile_is_not_found(path: Path, server: LangSmithServer, counts: Any) -> None:
    """It stops nobody: the others are sent."""
    many(path, server, 3)
    server.refusals = [0, 404]
    assert counts()["model calls"] == (3, 2, 0, 1, 0, 0, 0)


def test_only_what_was_asked_for(path: Path, server: LangSmithServer, finops: Command, counts: Any) -> None:
    """`--since` by the ledger's times, `--project` by LangSmith's; a project that is not there is an error."""
    now = datetime.now(UTC)
    many(path, server, 2, started_at=now - timedelta(days=9), ended_at=now - timedelta(days=9))
    assert counts("--since", "7d")["model calls"] == (0, 0, 0, 0, 0, 0, 0)
    assert counts("--project", "default", "--dry-run")["model calls"] == (2, 2, 0, 0, 0, 0, 0)
    code, _, err = finops("--project", "nowhere")
    assert code == 2
    assert err.startswith("Error: Project 'nowhere' is not on LangSmith: ")
    assert finops("--project", " ")[0] == 2


def test_without_a_key_it_says_so(path: Path, finops: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and exit code 2: before anything is read from the ledger but that it is there."""
    open_ledger(path).close()
    monkeypatch.delenv("LANGSMITH_API_KEY")
    monkeypatch.delenv("LANGSMITH_ENDPOINT")
    assert finops() == (2, "", "Error: LangSmith needs a key: set LANGSMITH_API_KEY\n")


def test_an_unknown_cost_stays_unknown(path: Path, server: LangSmithServer, counts: Any) -> None:
    """A call without a price gets its tags and counts, and no cost of 0."""
    (name,) = many(path, server, 1)
    ledger = open_ledger(path)
    ledger.write(a_call(name, usd=None, agent_id="support", revision=1))
    ledger.close()
    assert counts()["model calls"] == (1, 1, 0, 0, 0, 0, 0)

    metadata = server.runs[name]["extra"]["metadata"]
    assert not [field for field in metadata["usage_metadata"] if field.endswith("_cost")]
    assert metadata["finops:cost_status"] == "unpriced"
    assert metadata["finops:cost_usd"] is None


PRUNED = {
    "a call that is a run of its own": ([("0.5", -1)], []),
    "some of its calls": ([("0.5", -1), ("0.25", 1)], []),
    "a charge": ([("0.25", 1)], [("0.5", -1)]),
}
"""Calls and charges, each with its cost and how many minutes after midnight it was."""


@pytest.mark.parametrize("pruned", PRUNED)
def test_what_was_folded_makes_no_cost_smaller(
    path: Path, server: LangSmithServer, finops: Command, counts: Any, pruned: str
) -> None:
    """A run over midnight whose first day was pruned keeps the cost that it has; one of the next day is marked."""
    first, later = (str(UUID(int=number, version=4)) for number in (1, 2))
    ended = "2026-03-02T10:00:00+00:00"
    server.runs.update({name: {"id": name, "extra": None, "tags": None, "end_time": ended} for name in (first, later)})
    midnight = datetime(2026, 3, 3, tzinfo=UTC)
    at = {minute: midnight + timedelta(minutes=minute) for minute in (-2, -1, 1, 2)}
    of: Any = {"run_id": first, "invocation_id": first}
    calls, charges = PRUNED[pruned]
    ledger = open_ledger(path)
    for number, (usd, minute) in enumerate(calls):
        name = f"call:{number}" if number or charges else first
        ledger.write(a_call(name, usd=usd, started_at=at[minute], ended_at=at[minute], **of))
    ledger.write(*(a_charge(usd=usd, at=at[minute], **of) for usd, minute in charges))
    ledger.write(a_run(first, invocation_id=first, started_at=at[-2], ended_at=at[2]))
    assert counts()["runs"] == (1, 1, 0, 0, 0, 0, 0)
    marked = copy.deepcopy(server.runs[first])
    whole = sum(Decimal(usd) for usd, _ in (*calls, *charges))
    assert Decimal(marked["extra"]["metadata"]["finops:cost_usd"]) == whole

    assert ledger.prune(midnight) == 1
    ledger.write(
        a_call(usd="0.125", run_id=later, invocation_id=later, started_at=at[1], ended_at=at[1]),
        a_run(later, invocation_id=later, started_at=at[1], ended_at=at[2]),
    )
    ledger.close()
    assert counts("--since", "2026-03-02T23:58")["runs"] == (2, 1, 0, 0, 0, 0, 1)
    assert counts()["runs"] == (2, 0, 1, 0, 0, 0, 1)
    assert server.runs[first] == marked
    assert server.runs[later]["extra"]["metadata"]["finops:cost_usd"] == "0.125"
    table = finops()[1]
    assert "folded: finops prune has folded some of what they cost" in " ".join(table.split())
    assert max(len(line) for line in table.splitlines() if line.startswith(("what", "runs", "model"))) <= 80


@pytest.mark.parametrize("bare", [False, True])
def test_costs_of_old_prices_do_not_stay(path: Path, server: LangSmithServer, counts: Any, bare: bool) -> None:
    """With a discount the parts at list price go, without a price all of it; what a root's author put there stays."""
    (name,) = many(path, server, 1)
    root = str(UUID(int=9, version=4))
    theirs = {"total_cost": 7.0, "input_cost": 3.0}
    extra = {"metadata": {"usage_metadata": theirs}}
    server.runs[root] = {**server.runs[name], "id": root, "extra": extra}
    of: Any = {"run_id": root, "invocation_id": name if bare else root, "agent_id": "support"}
    meters = {"input_tokens": Decimal(1), "output_tokens": Decimal(2)}
    ledger = open_ledger(path)
    ledger.write(*(a_run(root, invocation_id=each) for each in ([root, name] if bare else [root])))

    def costs(revision: int, **changes: Any) -> dict[str, float]:
        ledger.write(a_call(name, revision=revision, **of, **{"usd": "3", **changes}))
        counts()
        usage = server.runs[name]["extra"]["metadata"]["usage_metadata"]
        assert usage["input_tokens"] > 0
        return {field: usage[field] for field in usage if field.endswith("_cost")}

    assert costs(1, meter_usd=meters) == {"total_cost": 3, "input_cost": 1, "output_cost": 2}
    assert costs(2, meter_usd=meters, billed_usd=Decimal("0.3")) == {"total_cost": 0.3}
    assert costs(3, usd=None) == {}
    assert counts()["runs"][1] == 0
    assert costs(4, meter_usd=meters) == {"total_cost": 3, "input_cost": 1, "output_cost": 2}
    ledger.close()
    assert server.runs[root]["extra"]["metadata"]["usage_metadata"] == theirs
    assert "finops:cost_usd" in server.runs[root]["extra"]["metadata"]
