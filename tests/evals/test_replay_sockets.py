"""A replay opens no connection of its own: whatever a target tries, it is told once, by slot, host and port."""

import asyncio
import http.client
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from langchain_finops.errors import EvalError, RecordingMissing
from langchain_finops.evals.intercept import langsmith_passes
from langchain_finops.evals.recorded import head
from langchain_finops.evals.replay import Recording, Slot

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

SLOT = Slot("five-shot", "t1", 2)
replay = partial(Recording, mode="replay", offline=True)
NAMES = ("connect", "connect_ex", "sendto", "sendmsg")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recording of nothing."""
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(head())
    return path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens on this machine, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


def tcp(port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).close()


def by_number(port: int) -> None:
    with socket.socket() as sock:
        sock.connect_ex(("127.0.0.1", port))


def datagram(port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", port))


def message(port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"x"], [], 0, ("127.0.0.1", port))


def stream(port: int) -> None:
    async def ask() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    asyncio.run(ask())


def in_a_thread(port: int) -> None:
    async def ask() -> None:
        await asyncio.to_thread(tcp, port)

    asyncio.run(ask())


def in_a_copied_context(port: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, tcp, port).result()


WAYS = [tcp, by_number, datagram, message, stream, in_a_thread, in_a_copied_context]


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_within_a_slot_is_refused_by_name(
    way: Callable[[int], None], path: Path, listener: socket.socket
) -> None:
    """Promise 28: a recording alone answers. Nothing reaches the server, and the error says whose it was, and where."""
    port = listener.getsockname()[1]
    with replay(path) as recording, pytest.raises(RecordingMissing) as raised, recording.slot(SLOT):
        way(port)

    assert str(raised.value) == (
        f"{path}: configuration 'five-shot', task 't1', repeat 2: a connection to 127.0.0.1:{port} is in no recording, "
        "and a replay opens none: have the target ask by an HTTP client (httpx, aiohttp, requests, urllib), or run "
        "with --live"
    )
    with pytest.raises(BlockingIOError):  # Nobody came.
        listener.accept()


@pytest.mark.parametrize("way", WAYS)
def test_what_no_slot_opens_goes_its_way(way: Callable[[int], None], path: Path, listener: socket.socket) -> None:
    """The harness' own traffic (a ledger on PostgreSQL, an upload) is none of the recording's."""
    with replay(path):
        way(listener.getsockname()[1])


def test_names_are_not_even_looked_up(path: Path) -> None:
    """Offline, the look-up would fail first, and the target would be told of its network instead of its replay."""

    async def ask() -> None:
        await asyncio.open_connection("db.example.invalid", 5432)

    for way in (lambda: socket.create_connection(("db.example.invalid", 5432)), lambda: asyncio.run(ask())):
        with (
            replay(path) as recording,
            pytest.raises(RecordingMissing, match=r"a connection to db\.example\.invalid:5432 is in no recording"),
            recording.slot(SLOT),
        ):
            way()


def test_a_target_that_swallows_the_refusal_is_told_on_all_the_same(path: Path, listener: socket.socket) -> None:
    """An answer that a tool's failure shaped is not what was recorded."""
    with replay(path) as recording:
        with (
            pytest.raises(RecordingMissing, match="repeat 2: a connection to"),
            recording.slot(SLOT),
            suppress(Exception),
        ):
            tcp(listener.getsockname()[1])
        with recording.slot(Slot("five-shot", "t1", 3)):  # Another slot has nothing to do with it.
            pass


def test_http_clients_are_told_what_they_asked_for(path: Path, listener: socket.socket) -> None:
    """They are caught before they open a connection: the error names the request, not a port."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models"

    def by_hand() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1])
        connection.request("GET", "/v1/models")
        connection.getresponse()

    for ask in (lambda: httpx.get(url), lambda: urllib.request.urlopen(url), by_hand):
        with (
            replay(path) as recording,
            pytest.raises(RecordingMissing, match="GET /v1/models was not recorded"),
            recording.slot(SLOT),
        ):
            ask()


def test_what_stays_on_the_machine_is_allowed(path: Path, tmp_path: Path) -> None:
    """Unix sockets, pairs, event loops, and names that no network is asked for."""
    with replay(path) as recording, recording.slot(SLOT):
        left, right = socket.socketpair()
        left.sendall(b"x")
        assert right.recv(1) == b"x"
        left.close()
        right.close()
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(tmp_path / "s"))
            server.listen()
            client.connect(str(tmp_path / "s"))
        asyncio.run(asyncio.sleep(0))
        assert socket.getaddrinfo("localhost", 80)
        assert socket.getaddrinfo("127.0.0.1", 80)


def test_a_pair_over_tcp_is_still_a_pair(path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no others: without one no event loop could be made within a slot."""

    def over_tcp() -> socket.socket:
        return socket.create_connection(listener.getsockname())

    monkeypatch.setattr(socket, "socketpair", over_tcp)
    with replay(path) as recording, recording.slot(SLOT):
        socket.socketpair().close()  # type: ignore[attr-defined]


def test_langsmith_is_reached_from_within_a_slot(
    path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces that are posted inline are no part of the attempt; the same machine's other ports may be."""
    port = listener.getsockname()[1]
    monkeypatch.setenv("LANGSMITH_ENDPOINT", f"http://localhost:{port}/api")
    with replay(path) as recording:
        with recording.slot(SLOT):
            socket.create_connection(("localhost", port)).close()
        with pytest.raises(RecordingMissing), recording.slot(SLOT):
            socket.create_connection(("localhost", port + 1))
    passes = langsmith_passes()
    assert passes("api.smith.langchain.com", 443)
    assert passes("eu.api.smith.langchain.com", None)
    assert not passes("smith.langchain.com.example.invalid", 443)


def test_while_recording_connections_are_open(tmp_path: Path, listener: socket.socket) -> None:
    """The real thing is bought there."""
    with Recording(tmp_path / "new.jsonl", "record", offline=True) as recording, recording.slot(SLOT):
        tcp(listener.getsockname()[1])


def test_nothing_is_left_behind_whatever_happens(path: Path, listener: socket.socket) -> None:
    """Several replays of a process, one that fails among them, find sockets as they were and leave them so."""
    before = [vars(socket.socket).get(name) for name in NAMES], socket.getaddrinfo, socket.socketpair
    loop = vars(asyncio.BaseEventLoop)["getaddrinfo"]
    for _ in range(2):
        with replay(path) as recording:
            with pytest.raises(EvalError, match="another recording is open"):
                replay(path).__enter__()
            with pytest.raises(RecordingMissing), recording.slot(SLOT):
                tcp(listener.getsockname()[1])
        assert ([vars(socket.socket).get(name) for name in NAMES], socket.getaddrinfo, socket.socketpair) == before
        assert vars(asyncio.BaseEventLoop)["getaddrinfo"] is loop


def test_a_thread_that_outlives_its_replay_is_free(path: Path, listener: socket.socket) -> None:
    """Its context still knows the slot, but no replay is open that it could spoil."""
    go, failed = threading.Event(), []

    def late() -> None:
        go.wait()
        try:
            tcp(listener.getsockname()[1])
        except Exception as error:  # Shown by the assertion below.
            failed.append(error)

    with replay(path) as recording, recording.slot(SLOT):
        thread = threading.Thread(target=copy_context().run, args=(late,))
        thread.start()
    go.set()
    thread.join()

    assert failed == []


TARGET = """
import socket
from langchain_core.runnables import RunnableLambda


def build(configuration):
    def ask(inputs):
        try:
            socket.create_connection(("127.0.0.1", 9))
        except Exception:
            pass
        return {"answer": "2"}

    return RunnableLambda(ask)
"""


def test_a_run_ends_with_the_sentence(workshop: "Workshop") -> None:
    """A target in a thread of its own, that swallows what it meets, has not answered: nothing of it is kept."""
    (workshop.folder / "agent.py").write_text(TARGET)
    workshop.suite("target: agent:build\nscorer: exact\nrecording: r.jsonl\nconfigurations: [{name: only}]\n")
    (workshop.folder / "r.jsonl").write_text(json.dumps({"recording": 1}) + "\n")

    with pytest.raises(RecordingMissing, match=r"'only', task 't1', repeat 0: a connection to 127\.0\.0\.1:9 is in no"):
        workshop.run()

    assert not (workshop.results / "attempts.jsonl").read_bytes()
