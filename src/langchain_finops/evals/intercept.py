"""Lets vcrpy catch a process's HTTP requests and asks a tape what to do with each."""

import asyncio
import importlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypedDict
from unittest import mock
from urllib.parse import urlsplit

from langchain_finops.errors import MissingExtra
from langchain_finops.evals.recorded import Recorded
from langchain_finops.evals.sockets import Passes
from langchain_finops.meter import CALL_CLOCK

__all__ = ["STREAM_START", "Headers", "Request", "StreamStart", "Tape", "langsmith_passes", "patchers"]

Headers = Mapping[str, list[str] | str]

LANGSMITH = "smith.langchain.com"
LANGSMITH_VARIABLES = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")
NO_ANSWER = b'{"error": {"message": "no answer was recorded", "type": "no_answer_recorded"}}'


class _Status(TypedDict):
    code: int
    message: str


class _Body(TypedDict, total=False):
    string: bytes | str


class _Answer(TypedDict):
    """An answer as vcrpy has it."""

    status: _Status
    headers: Headers
    body: _Body


class Request(Protocol):
    """A request as vcrpy has it."""

    method: str
    uri: str
    headers: Mapping[str, str]

    @property
    def body(self) -> bytes | str | None:
        """What is sent, as it goes over the wire."""


class Tape(Protocol):
    """What decides about a request: serve it from what was recorded, or record it."""

    @property
    def path(self) -> Path:
        """The file of the recording."""

    def find(self, request: Request) -> Recorded | None:
        """The answer for this request, set aside for it; None if it must be asked of the server."""

    def take(self, request: Request) -> Recorded:
        """What `find` set aside for this request."""

    def add(self, request: Request, status: int, headers: Headers, answer: bytes) -> Recorded:
        """Keep what the server answered; as it is kept."""


@dataclass(slots=True)
class StreamStart:
    """When the first bytes of an answer came, on the clock of `time.perf_counter`."""

    at_s: float | None = None
    failed: bool = False
    """The connection failed, or the client's own time-out passed."""


STREAM_START: ContextVar[StreamStart | None] = ContextVar("finops_stream_start", default=None)
"""Of the request that is being sent in this context."""


class _Stream(Protocol):
    """The body of an answer of httpcore's, which is read either way."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...


class _Response(Protocol):
    """An answer of httpcore's, its body still to come."""

    stream: _Stream


class _FirstBytes:
    """A response's stream that notes when its first bytes come."""

    def __init__(self, stream: _Stream, start: StreamStart) -> None:
        self._stream, self._start = stream, start

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._note()
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._note()
            yield part

    def _note(self) -> None:
        if self._start.at_s is None:
            self._start.at_s = time.perf_counter()

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _noting_failure() -> Iterator[None]:
    try:
        yield
    except Exception:  # Not a cancellation: then nothing has failed.
        if (start := STREAM_START.get()) is not None:
            start.failed = True
        raise


def _noting(handle: Callable[..., _Response]) -> Callable[..., _Response]:
    def handle_request(pool: object, request: object) -> _Response:
        with _noting_failure():
            response = handle(pool, request)
        if (start := STREAM_START.get()) is not None:
            response.stream = _FirstBytes(response.stream, start)
        return response

    return handle_request


def _noting_async(handle: Callable[..., Awaitable[_Response]]) -> Callable[..., Awaitable[_Response]]:
    async def handle_async_request(pool: object, request: object) -> _Response:
        with _noting_failure():
            response = await handle(pool, request)
        if (start := STREAM_START.get()) is not None:
            response.stream = _FirstBytes(response.stream, start)
        return response

    return handle_async_request


class _Cassette:
    """What vcrpy's patches talk to."""

    custom_patches = ()
    skip_patchers = ()
    write_protected = False  # A replay raises by itself, with a message that says what changed.

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._path = str(tape.path)
        self._not_ours = _langsmith_hosts()

    def filter_request(self, request: Request) -> Request | None:
        """None for LangSmith's own traffic, which goes its way: its requests hold the user's key."""
        parts = urlsplit(request.uri)
        theirs = _is_langsmith(parts.hostname or "") or parts.netloc in self._not_ours
        return None if theirs else request

    def can_play_response_for(self, request: Request) -> bool:
        return self.filter_request(request) is not None and self._tape.find(request) is not None

    def play_response(self, request: Request) -> _Answer:
        call = self._tape.take(request)
        _tell_the_clock(call, replayed=True)
        if call.gave_up:  # The meter sees what it saw then: a call that was cut off while it waited.
            raise asyncio.CancelledError
        headers = {name: [value] for name, value in call.headers.items()}
        if call.failed:
            headers["x-should-retry"] = ["false"]  # Without it clients sleep, then miss the next answer.
        if call.status is None:
            headers["content-type"] = ["application/json"]
        return {
            "status": {"code": call.status or 503, "message": ""},
            "headers": headers,
            "body": {"string": NO_ANSWER if call.status is None else call.answer},
        }

    def append(self, request: Request, response: _Answer) -> None:
        if self.filter_request(request) is None:
            return
        answer = response["body"].get("string") or b""
        raw = answer.encode() if isinstance(answer, str) else answer
        call = self._tape.add(request, response["status"]["code"], response["headers"], raw)
        if not call.failed:  # A replay passes over what the client tried again.
            _tell_the_clock(call, replayed=False)

    def find_requests_with_most_matches(self, request: Request) -> list[tuple[Request]]:
        """Asked by vcrpy when it follows a redirect of aiohttp."""
        return [(request,)]


def _is_langsmith(host: str) -> bool:
    return host == LANGSMITH or host.endswith("." + LANGSMITH)


def langsmith_passes() -> Passes:
    """LangSmith's own traffic is no part of an attempt, whoever sends it."""
    urls = [urlsplit(f"//{netloc}") for netloc in _langsmith_hosts()]
    # Of a server of one's own its port alone: others of the same machine may be the target's.
    own = {(url.hostname, port) for url in urls for port in ([url.port] if url.port else [80, 443])}
    return lambda host, port: _is_langsmith(host) or (host, port) in own


def _langsmith_hosts() -> frozenset[str]:
    """Host and port of LangSmith servers of the user's own."""
    urls = [os.environ.get(name, "") for name in LANGSMITH_VARIABLES]
    try:  # Further servers that traces are sent to: a mapping of URLs to keys, or a list with `api_url`s.
        more = json.loads(os.environ.get("LANGSMITH_RUNS_ENDPOINTS") or "{}")
        urls += [url if isinstance(url, str) else url["api_url"] for url in more]
    except (ValueError, TypeError, KeyError):
        pass  # LangSmith's client says what is wrong with it.
    return frozenset(urlsplit(url).netloc for url in urls) - {""}


def _tell_the_clock(call: Recorded, *, replayed: bool) -> None:
    """The meter reads there when a call really started, spoke first and ended: the same while recording and after."""
    clock = CALL_CLOCK.get()
    if clock is None:
        return
    clock = clock.of_request()
    if clock.started_at is None:  # A call of several requests starts with its first one.
        clock.started_at = call.started_at
    if clock.first_token_at is None and call.first_token_s is not None:
        clock.first_token_at = call.started_at + timedelta(seconds=call.first_token_s)
    clock.ended_at = call.started_at + timedelta(seconds=call.duration_s)
    clock.replayed = replayed


def patchers(tape: Tape) -> Iterator[AbstractContextManager[object]]:
    """What makes HTTP clients ask the cassette; vcrpy's, and one that notes when a stream begins."""
    try:
        patch = importlib.import_module("vcr.patch")
    except ImportError:
        raise MissingExtra("replaying a recording", "eval") from None
    # vcrpy reads a stream to its end before the client sees any of it: times to first token would be those of the end.
    for name in ("httpcore", "httpcore2"):
        try:
            pools = importlib.import_module(name)
        except ImportError:
            continue
        yield mock.patch.object(pools.ConnectionPool, "handle_request", _noting(pools.ConnectionPool.handle_request))
        yield mock.patch.object(
            pools.AsyncConnectionPool,
            "handle_async_request",
            _noting_async(pools.AsyncConnectionPool.handle_async_request),
        )
    yield from patch.CassettePatcherBuilder(_Cassette(tape)).build()
