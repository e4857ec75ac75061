"""Records what a model said, and says it again: byte for byte, per slot, in any order and at any concurrency.

vcrpy catches the requests of httpx, httpx2, aiohttp, urllib3 and http.client. What to do with one is decided here:
matching is by an index on (slot, method, path, body), and each answer is on disk before the caller gets it.
"""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from langchain_finops.errors import EvalError, RecordingMissing
from langchain_finops.evals.differing import differences, in_words
from langchain_finops.evals.intercept import STREAM_START, Request, StreamStart, langsmith_passes, patchers
from langchain_finops.evals.locks import lock
from langchain_finops.evals.recorded import (
    Asked,
    Ended,
    Recorded,
    Slot,
    dump,
    dump_dataset,
    dump_end,
    head,
    kept_headers,
    loads,
    plain,
    secrets_of,
    without,
)
from langchain_finops.evals.recorded_dataset import RecordedDataset
from langchain_finops.evals.sockets import blocking

__all__ = ["Recording", "Slot"]

Mode = Literal["replay", "record"]
Tries = dict[int, dict[str, list[Recorded]]]

RETRY_HEADER = "x-stainless-retry-count"

# vcrpy patches classes for the whole process: a second recording would take the first one's calls, and leave its
# patches behind.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(slots=True)
class _Sent:
    """A request on its way to the real server."""

    asked: Asked
    retry: int
    request: Request
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.perf_counter)
    stream: StreamStart = field(default_factory=StreamStart)


@dataclass(slots=True)
class _Visit:
    """One stay in a slot: what is left to be served, and what is on its way."""

    slot: Slot
    try_number: int
    calls: Mapping[str, list[Recorded]]
    served: Counter[str] = field(default_factory=Counter)
    held: dict[int, tuple[Request, Recorded]] = field(default_factory=dict)
    """Set aside for a request, which is kept beside it so that its id stays its own."""
    on_the_way: dict[int, _Sent] = field(default_factory=dict)
    stopped: str | None = None
    """Why the harness stopped this try: in a replay, when it was recorded."""

    @property
    def is_over(self) -> bool:
        """The try was stopped, and all that it had asked for by then has been asked for again."""
        return self.stopped is not None and all(self.served[key] >= len(calls) for key, calls in self.calls.items())


_VISIT: ContextVar[_Visit | None] = ContextVar("finops_slot", default=None)


class Recording:
    """A file of recorded calls, open for replay or for recording; one at a time in a process.

    Recording goes on where it stopped: what the file holds for a slot is served from it, the rest is bought and
    added. Delete the file to buy everything anew.
    """

    def __init__(
        self, path: Path, mode: Mode, *, dataset: RecordedDataset | None = None, offline: bool = False
    ) -> None:
        """`dataset`: what is recorded now, or played; calls of other versions of its items are left out.

        `offline`: a replay refuses who opens a connection within a slot, past the HTTP clients.
        """
        self.path = path
        self._dataset = dataset
        self._made_for: dict[str, str] = {}
        """The versions of items that the last lines of the file are of."""
        self.mode: Mode = mode
        self._offline = offline and mode == "replay"
        self._tries: dict[Slot, Tries] = {}
        self._stopped: dict[tuple[Slot, int], str | None] = {}
        self._visits: Counter[Slot] = Counter()
        self._missing: dict[Slot, RecordingMissing] = {}
        self._stray: EvalError | None = None
        """The first request that belonged to no slot: whose it was is not known, so every slot's end tells of it."""
        self._lock = threading.Lock()
        self._file: int | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            raise EvalError(f"recording {self.path}: another recording is open in this process; close it first")
        with ExitStack() as opening:
            opening.callback(_ONE_AT_A_TIME.release)
            self._read()
            if self.mode == "record":
                self._open_to_write()
                opening.callback(self._close_file)
                self._read()  # Again, now that it is ours alone: another recording may have ended in between.
                self._say_what_it_is_of()
            for patcher in patchers(self):
                opening.enter_context(patcher)
            if self._offline:
                for patcher in blocking(self._refuse_connection, langsmith_passes()):
                    opening.enter_context(patcher)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @contextmanager
    def slot(self, slot: Slot, try_number: int | None = None) -> Iterator[None]:
        """Requests made within belong to this slot, those of tasks and threads started within too.

        Raises RecordingMissing at the end if anything was missing, and EvalError if anything was asked for outside of
        every slot, whatever the target or its client made of it.
        In a replay `try_number` says which try it is; without it, entering a slot again is its next try.
        """
        with self._lock:
            visit = self._visit(slot, try_number)
            self._missing.pop(slot, None)
        token = _VISIT.set(visit)
        try:
            yield
        except Exception as error:
            if (ours := self._fault(slot)) is not None and error is not ours:
                # A fresh one: with the first, which `error` may be raised from, the chain of causes would be a circle.
                raise type(ours)(str(ours)) from error
            raise
        else:
            if (ours := self._fault(slot)) is not None:
                raise ours
        finally:
            _VISIT.reset(token)
            self._give_up(visit)

    def missing(self, slot: Slot) -> RecordingMissing | None:
        """What this try of the slot asked for in vain, if anything: clients may have wrapped or swallowed it."""
        return self._missing.get(slot)

    def _fault(self, slot: Slot) -> EvalError | None:
        return self.missing(slot) or self._stray

    def end(self, stopped: str | None) -> str | None:
        """Note why the harness stopped the try that this context is in, if it did; a replay tells why it did then."""
        visit = _VISIT.get()
        if visit is None:
            return stopped
        if self.mode == "record":
            visit.stopped = stopped
        return visit.stopped

    def is_over(self) -> bool:
        """Whether the try that this context replays had been stopped before it asked for anything more."""
        visit = _VISIT.get()
        return self.mode == "replay" and visit is not None and visit.is_over

    def goes_on(self, slot: Slot, try_number: int) -> bool:
        """Whether there is anything for another try of the slot: one that was never recorded has no answers."""
        tries = self._tries.get(slot, {})
        return not tries or max(tries) > try_number

    def _visit(self, slot: Slot, try_number: int | None) -> _Visit:
        self._visits[slot] += 1
        number = self._visits[slot]
        tries = self._tries.get(slot, {})
        if self.mode == "record":
            return _Visit(slot=slot, try_number=number, calls=tries.get(number, {}))
        number = number if try_number is None else try_number
        number = min((known for known in tries if known >= number), default=number)  # One that asked nothing has none.
        stopped = self._stopped.get((slot, number))
        return _Visit(slot=slot, try_number=number, calls=tries.get(number, {}), stopped=stopped)

    def _read(self) -> None:
        self._tries, self._visits, self._missing, self._stray = {}, Counter(), {}, None
        self._stopped = {}
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            if self.mode == "record":
                return
            raise EvalError(f"recording {self.path} is not there: record it first (--record)") from None
        except OSError as error:
            raise EvalError(f"recording {self.path} cannot be read: {error.strerror or error}") from error
        self._made_for = {}
        for call in loads(data, self.path):
            if isinstance(call, RecordedDataset):
                self._made_for |= call.items
                continue
            if self._is_outdated(call.slot.task):
                continue
            calls = self._tries.setdefault(call.slot, {}).setdefault(call.try_number, {})
            if isinstance(call, Ended):
                self._stopped[call.slot, call.try_number] = call.reason
            else:
                calls.setdefault(call.asked.key, []).append(call)
        for tries in self._tries.values():
            for calls in tries.values():
                for same in calls.values():  # Written in the order of answers, asked for in the order of requests.
                    same.sort(key=lambda one: one.started_at)

    def _is_outdated(self, task: str) -> bool:
        """Whether the lines being read are of another version of the task's item than is played or recorded now."""
        now = None if self._dataset is None else self._dataset.items.get(task)
        return now is not None and self._made_for.get(task, now) != now

    def _open_to_write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise EvalError(f"recording {self.path} cannot be written: {error.strerror or error}") from error
        try:
            lock(file)  # A crash lets go of it.
        except OSError:
            os.close(file)
            raise EvalError(f"recording {self.path} is being written by another process: wait for it") from None
        data = self.path.read_bytes()
        os.ftruncate(file, data.rfind(b"\n") + 1)  # A torn last line would spoil the one that comes after it.
        if b"\n" not in data:
            os.write(file, head(self._dataset))
        self._file = file

    def _say_what_it_is_of(self) -> None:
        """Where what comes now is of other items, or of others than the lines so far, the file says so."""
        if self._dataset is not None and any(self._made_for.get(id_) != of for id_, of in self._dataset.items.items()):
            self._append(dump_dataset(self._dataset))

    def _close_file(self) -> None:
        with self._lock:  # A thread that a target left behind must not write into whatever gets this number next.
            file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def find(self, request: Request) -> Recorded | None:
        """The answer for this request, set aside for it; None if it must be asked of the server.

        Raises RecordingMissing in a replay without one, EvalError for a request that belongs to no slot.
        """
        try:
            visit = _visit_of(request)
        except EvalError as error:
            with self._lock:
                self._stray = self._stray or error
            raise
        asked = Asked.read(request.method, request.uri, request.body)
        key = asked.key
        with self._lock:
            if (held := visit.held.get(id(request))) is not None:
                return held[1]
            up_next = self._up_next(visit, key)
            if up_next is not None:
                call = visit.calls[key][up_next]
                visit.served[key] = up_next + 1
                visit.held[id(request)] = request, call
                return call
            if self.mode == "replay":
                if visit.is_over:
                    raise asyncio.CancelledError  # It was stopped before this was sent.
                # The file holds none either; compared as it stands, a key in a prompt would be shown.
                shown = replace(asked, body=without(secrets_of(request.headers), asked.body), known_key=key)
                missing = RecordingMissing(self._why(visit, shown))
                self._missing.setdefault(visit.slot, missing)
                raise missing
            self._send(visit, asked, request)
        return None

    def _refuse_connection(self, where: str) -> RecordingMissing | None:
        """The error for who opens a connection within a slot; None outside of all, where the harness has its own."""
        visit = _VISIT.get()
        if visit is None:
            return None
        error = RecordingMissing(
            f"{self.path}: {visit.slot}: a connection to {where} is in no recording, and a replay opens none: "
            "have the target ask by an HTTP client (httpx, aiohttp, requests, urllib), or run with --live"
        )
        with self._lock:
            return self._missing.setdefault(visit.slot, error)

    def take(self, request: Request) -> Recorded:
        """What `find` set aside for this request."""
        with self._lock:
            return _visit_of(request).held.pop(id(request))[1]

    def _up_next(self, visit: _Visit, key: str) -> int | None:
        calls = visit.calls.get(key, [])
        index = visit.served[key]
        # What the client itself tried again is passed over: it would sleep in between, as it did then.
        while index + 1 < len(calls) and calls[index].failed and calls[index + 1].retry:
            index += 1
        # What failed last, before recording was stopped, is asked again.
        if index >= len(calls) or (self.mode == "record" and calls[index].failed and index + 1 == len(calls)):
            return None
        return index

    def _send(self, visit: _Visit, asked: Asked, request: Request) -> None:
        retry = int(request.headers.get(RETRY_HEADER) or 0)
        if visit.served[asked.key] < len(visit.calls.get(asked.key, ())):
            retry = max(retry, 1)  # The file holds a failure of it, from before recording was stopped.
        if retry:  # What it repeats needs no line of its own: no answer of it will come.
            keys = [name for name, sent in visit.on_the_way.items() if sent.asked.key == asked.key]
            for name in keys[:1]:
                del visit.on_the_way[name]
        sent = visit.on_the_way[id(request)] = _Sent(asked=asked, retry=retry, request=request)
        STREAM_START.set(sent.stream)

    def add(self, request: Request, status: int, headers: Mapping[str, list[str] | str], answer: bytes) -> Recorded:
        """Write an answer down, and return what was written. When this returns, it is on disk."""
        ended_s = time.perf_counter()
        visit = _visit_of(request)
        with self._lock:
            sent = visit.on_the_way.pop(id(request), None)
        if sent is None:  # A redirect that a client followed by itself.
            sent = _Sent(asked=Asked.read(request.method, request.uri, request.body), retry=0, request=request)
        kept = kept_headers(headers)
        spoke_s = sent.stream.at_s if "event-stream" in kept.get("content-type", "") else None
        call = Recorded(
            slot=visit.slot,
            try_number=visit.try_number,
            asked=sent.asked,
            retry=sent.retry,
            status=status,
            answer=plain(answer, kept),
            headers=kept,
            started_at=sent.started_at,
            first_token_s=None if spoke_s is None else round(spoke_s - sent.started_s, 6),
            duration_s=round(max(ended_s - sent.started_s, 0.0), 6),  # As the file has it: a replay tells the same.
        )
        self._write(call, secrets_of(request.headers))
        return call

    def _give_up(self, visit: _Visit) -> None:
        """Write down what was sent and never answered, so that a replay fails there instead of missing it."""
        with self._lock:
            left, visit.on_the_way = list(visit.on_the_way.values()), {}
        for sent in left:
            self._write(
                Recorded(
                    slot=visit.slot,
                    try_number=visit.try_number,
                    asked=sent.asked,
                    retry=sent.retry,
                    status=None,
                    headers={},
                    answer=b"",
                    started_at=sent.started_at,
                    first_token_s=None,
                    duration_s=time.perf_counter() - sent.started_s,
                    gave_up=visit.stopped is not None and not sent.stream.failed,
                ),
                secrets_of(sent.request.headers),
            )
        if self.mode == "record" and visit.stopped != self._stopped.get((visit.slot, visit.try_number)):
            self._append(dump_end(Ended(slot=visit.slot, try_number=visit.try_number, reason=visit.stopped)))

    def _write(self, call: Recorded, secrets: list[str]) -> None:
        self._append(dump(call, secrets))

    def _append(self, line: str) -> None:
        # Half of a surrogate pair in a prompt is no UTF-8; replaced like this, it is JSON's own escape.
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if self._file is None:
                return
            os.write(self._file, data)  # One write of a whole line: a kill comes before or after it.
            os.fsync(self._file)

    def _why(self, visit: _Visit, asked: Asked) -> str:
        """One sentence: which slot, and what differs from what was recorded."""
        what = f"{asked.method} {asked.path}"
        remedy = "run with --record to buy what is missing, or with --live"
        return f"{self.path}: {visit.slot}: {what} {self._difference(visit, asked)}; {remedy}"

    def _difference(self, visit: _Visit, asked: Asked) -> str:
        slot = visit.slot
        if slot not in self._tries:
            known = {recorded.configuration for recorded in self._tries}
            tasks = {recorded.task for recorded in self._tries if recorded.configuration == slot.configuration}
            if slot.configuration not in known:
                return "was not recorded: nothing was for this configuration"
            return "was not recorded: nothing was for this " + ("repeat" if slot.task in tasks else "task")
        if not visit.calls:
            return f"was not recorded: the slot was tried {max(self._tries[slot])} times, and this is one more"
        if asked.key in visit.calls:
            count = sum(not call.failed for call in visit.calls[asked.key])
            return f"was recorded {count} times and is asked for once more"
        held = [calls[0].asked for calls in visit.calls.values()]
        near = [held_one for held_one in held if (held_one.method, held_one.path) == (asked.method, asked.path)]
        if not near:
            return f"was not recorded; {', '.join(sorted({f'{one.method} {one.path}' for one in held}))} was"
        return f"differs from what was recorded in {in_words(min((differences(one, asked) for one in near), key=len))}"


def _visit_of(request: Request) -> _Visit:
    visit = _VISIT.get()
    if visit is None:
        where = f"{request.method} {urlsplit(request.uri).netloc}{urlsplit(request.uri).path}"
        raise EvalError(
            f"{where} was asked for outside of every slot: start threads with contextvars.copy_context().run, "
            "so that the recording knows whose call it is"
        )
    return visit
