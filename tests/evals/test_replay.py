"""Recording and replaying with real clients against a model server on this machine."""

import asyncio
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI, OpenAI
from langsmith import Client

from langchain_finops import FinOpsHandler
from langchain_finops.errors import BadData, EvalError, RecordingMissing
from langchain_finops.evals import intercept, recorded
from langchain_finops.evals.differing import differences, in_words
from langchain_finops.evals.replay import Recording, Slot
from langchain_finops.evals.watch import TimeLimitPassed, Watch
from langchain_finops.meter import CALL_CLOCK, CallClock

HTTP = [import_module(name) for name in ("httpx", "httpx2") if find_spec(name)]
"""Older SDKs use httpx, newer ones httpx2."""
NOBODY = "http://127.0.0.1:9"
"""Where no server listens: whatever a replay would send there fails."""
KEY = "sk-live-1234567890"
SLOT = Slot("five-shot", "t1", 0)


@dataclass
class Reply:
    """What the server sends: parts of a body, and how."""

    parts: list[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    between: Callable[[], object] = lambda: None
    """Called after the first part was sent."""


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes


class ModelServer:
    """Counts what it is asked; `script` may answer instead, with a Reply, or None for the usual answer."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: Callable[[Asked, int], Reply | None] = lambda asked, number: None
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            number = len(self.asked)
        return self.script(asked, number) or usual(asked, number)


def usual(asked: Asked, number: int) -> Reply:
    """The answer of OpenAI's and Anthropic's endpoints, numbered."""
    body = json.loads(asked.body) if asked.body else {}
    text = f"answer {number} é"
    if body.get("stream") and "/messages" not in asked.path:
        return Reply(openai_stream(text), headers={"content-type": "text/event-stream"})
    reply = Reply([json.dumps(_message(asked.path, text, number), ensure_ascii=False).encode()])
    if asked.headers.get("x-want") == "gzip":
        reply.parts, reply.headers["content-encoding"] = [gzip.compress(reply.parts[0])], "gzip"
    return reply


def _message(path: str, text: str, number: int) -> dict[str, object]:
    usage = {"prompt_tokens": 10 + number, "completion_tokens": number, "total_tokens": 10 + 2 * number}
    choice = {"index": 0, "logprobs": None, "finish_reason": "stop"}
    if path.endswith("/messages"):
        return {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10 + number, "output_tokens": number},
        }
    if path.endswith("/chat/completions"):
        choices = [{**choice, "message": {"role": "assistant", "content": text}}]
        return {
            "id": f"c{number}",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": choices,
            "usage": usage,
        }
    choices = [{**choice, "text": text}]
    return {
        "id": f"c{number}",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": choices,
        "usage": usage,
    }


def openai_stream(text: str) -> list[bytes]:
    """The events of a streamed answer, one a word, and its usage at the end."""
    head = {"id": "s", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events: list[dict[str, object]] = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]}
        for word in text.split()
    ]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    events.append({**head, "choices": [], "usage": usage})
    return [f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]


@contextmanager
def serving() -> Iterator[ModelServer]:
    """A server on a port of this machine's, gone at the end."""
    model = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = model.answer(Asked(self.path, headers, body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(sum(map(len, reply.parts))))
            self.end_headers()
            for index, part in enumerate(reply.parts):
                self.wfile.write(part)
                self.wfile.flush()
                if index == 0:
                    reply.between()

        do_GET = do_PATCH = do_POST

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Wire:
    """A request of httpx's as vcrpy has it."""

    def __init__(self, request: httpx.Request) -> None:
        self.method, self.uri = request.method, str(request.url)
        self.headers, self.body = dict(request.headers), request.content


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving() as model:
        yield model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "tasks.jsonl"


def chat(url: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{url}/v1", api_key=KEY, model="m", **more)


def completion(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, model="m")


def claude(url: str) -> ChatAnthropic:
    return ChatAnthropic(base_url=url, api_key=KEY, model="claude", max_tokens=10)


async def hang_up(model: Any) -> None:
    """Close a model's connections while their event loop still runs."""
    client = {ChatOpenAI: "root_async_client", OpenAI: "async_client", ChatAnthropic: "_async_client"}[type(model)]
    held = getattr(model, client)
    await (held._client if isinstance(model, OpenAI) else held).close()


CLIENTS = {"ChatOpenAI": chat, "OpenAI": completion, "ChatAnthropic": claude}
SLOTS = [Slot(configuration, f"t{task}", repeat) for configuration in "abc" for task in range(8) for repeat in range(2)]


def text_of(said: Any) -> str:
    return said if isinstance(said, str) else said.content


def lines_of(path: Path) -> list[dict[str, Any]]:
    # Not splitlines: it would break a line at characters that JSON leaves as they are.
    return [json.loads(line) for line in path.read_text().split("\n")[1:-1]]


def record_all(path: Path, model: BaseLanguageModel[Any]) -> dict[Slot, list[str]]:
    """In every slot two identical requests, the same in all slots."""
    said: dict[Slot, list[str]] = {}
    with Recording(path, "record") as recording:
        for slot in SLOTS:
            with recording.slot(slot):
                said[slot] = [text_of(model.invoke("the same prompt")) for _ in range(2)]
    return said


@pytest.mark.parametrize("name", CLIENTS)
def test_shuffled_threads_get_each_slots_own_answers_in_order(name: str, server: ModelServer, path: Path) -> None:
    """Promise 28: any order, any concurrency; identical requests of a slot come in recorded order; nothing is sent."""
    said = record_all(path, CLIENTS[name](server.url))
    assert len({text for texts in said.values() for text in texts}) == 2 * len(SLOTS)
    asked = len(server.asked)
    model = CLIENTS[name](NOBODY)
    shuffled = random.Random(7).sample(SLOTS, len(SLOTS))

    with Recording(path, "replay") as recording:

        def play(slot: Slot) -> list[str]:
            with recording.slot(slot):
                return [text_of(model.invoke("the same prompt")) for _ in range(2)]

        with ThreadPoolExecutor(8) as pool:
            heard = dict(zip(shuffled, pool.map(play, shuffled), strict=True))

    assert heard == said
    assert len(server.asked) == asked


@pytest.mark.parametrize("name", CLIENTS)
async def test_shuffled_tasks_get_each_slots_own_answers_in_order(name: str, server: ModelServer, path: Path) -> None:
    """The same with coroutines, recorded by coroutines too."""
    model = CLIENTS[name](server.url)
    said: dict[Slot, list[str]] = {}
    with Recording(path, "record") as recording:
        for slot in SLOTS:
            with recording.slot(slot):
                said[slot] = [text_of(await model.ainvoke("the same prompt")) for _ in range(2)]
    await hang_up(model)
    nobody = CLIENTS[name](NOBODY)
    shuffled = random.Random(7).sample(SLOTS, len(SLOTS))

    with Recording(path, "replay") as recording:

        async def play(slot: Slot) -> list[str]:
            with recording.slot(slot):
                return [text_of(await nobody.ainvoke("the same prompt")) for _ in range(2)]

        heard = dict(zip(shuffled, await asyncio.gather(*map(play, shuffled)), strict=True))

    assert heard == said


def test_tasks_and_threads_started_in_a_slot_belong_to_it(server: ModelServer, path: Path) -> None:
    """LangGraph runs nodes in copies of the caller's context."""
    model = chat(server.url)
    with Recording(path, "record") as recording, recording.slot(SLOT), ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, model.invoke, "in a thread").result()

    assert lines_of(path)[0]["configuration"] == "five-shot"


@pytest.mark.parametrize("client", [library.Client for library in HTTP])
@pytest.mark.parametrize("body", ['é\n  {"a" : 1}'.encode(), bytes(range(256)), b""])
def test_an_answer_is_the_same_to_the_byte(client: Any, body: bytes, server: ModelServer, path: Path) -> None:
    """Text and what is no text alike, with its status and type."""
    headers = {"content-type": "application/x-anything", "x-request-id": "r-1"}
    server.script = lambda asked, number: Reply([body], status=201, headers=headers)
    heard = []
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        with Recording(path, mode) as recording, recording.slot(SLOT), client() as http:  # type: ignore[arg-type]
            response = http.post(f"{url}/v1/anything", json={"a": 1})
            kept = {name: response.headers.get(name) for name in headers}
            heard.append((response.status_code, response.content, kept))

    assert heard[0] == heard[1] == (201, body, headers)


def test_a_compressed_answer_is_heard_as_it_was_meant(server: ModelServer, path: Path) -> None:
    """gzip is for the way; the file holds the text, so that it can be read and searched for secrets."""
    with Recording(path, "record") as recording, recording.slot(SLOT):
        said = chat(server.url, default_headers={"x-want": "gzip"}).invoke("hello")
    with Recording(path, "replay") as recording, recording.slot(SLOT):
        heard = chat(NOBODY).invoke("hello")

    assert heard.content == said.content == "answer 1 é"
    assert "answer 1 é" in lines_of(path)[0]["answer"]


def test_a_stream_is_replayed_chunk_by_chunk(server: ModelServer, path: Path) -> None:
    """With its usage at the end."""
    chunks = []
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        with Recording(path, mode) as recording, recording.slot(SLOT):  # type: ignore[arg-type]
            chunks.append([(chunk.content, chunk.usage_metadata) for chunk in chat(url, stream_usage=True).stream("x")])

    assert chunks[0] == chunks[1]
    assert [content for content, _ in chunks[1] if content] == ["answer", "1", "é"]
    assert [usage["total_tokens"] for _, usage in chunks[1] if usage] == [14]


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_time_of_a_streams_first_bytes_is_recorded(
    is_async: bool, server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vcrpy reads a stream to its end before the client sees any of it: times would all be those of the end."""
    came = threading.Event()
    note = intercept._FirstBytes._note
    monkeypatch.setattr(intercept._FirstBytes, "_note", lambda stream: (note(stream), came.set()))
    seen: list[bool] = []
    parts = openai_stream("one two")
    server.script = lambda asked, number: Reply(
        parts, headers={"content-type": "text/event-stream"}, between=lambda: seen.append(came.wait(10))
    )
    with Recording(path, "record") as recording, recording.slot(SLOT):
        model = chat(server.url)
        _ = [chunk async for chunk in model.astream("x")] if is_async else list(model.stream("x"))
    await hang_up(model)

    line = lines_of(path)[0]
    assert seen == [True]  # The server sent the rest only after the first bytes had been noted.
    assert 0 < line["first_token_s"] < line["duration_s"]


def test_a_replay_tells_the_meter_when_a_call_began_spoke_and_ended(server: ModelServer, path: Path) -> None:
    """The same while recording and after: latencies, self-hosted cost and limits on it come out as they were."""
    clocks = {}
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        with Recording(path, mode) as recording, recording.slot(SLOT):  # type: ignore[arg-type]
            clocks[mode] = CallClock()
            token = CALL_CLOCK.set(clocks[mode])
            list(chat(url).stream("x"))
            CALL_CLOCK.reset(token)

    line = lines_of(path)[0]
    started = datetime.fromisoformat(line["started_at"])
    for mode, clock in clocks.items():
        assert clock == CallClock(
            started_at=started,
            first_token_at=started + timedelta(seconds=line["first_token_s"]),
            ended_at=started + timedelta(seconds=line["duration_s"]),
            replayed=mode == "replay",
        )


async def test_concurrent_calls_have_clocks_of_their_own(server: ModelServer, path: Path) -> None:
    """What a replay fills in deep in a client reaches the context that asked, and no other."""
    model, nobody = chat(server.url), chat(NOBODY)
    with Recording(path, "record") as recording:
        for slot in SLOTS:
            with recording.slot(slot):
                await model.ainvoke("the same prompt")
    await hang_up(model)
    starts = {Slot(line["configuration"], line["task"], line["repeat"]): line["started_at"] for line in lines_of(path)}

    async def play(recording: Recording, slot: Slot) -> CallClock:
        clock = CallClock()
        CALL_CLOCK.set(clock)
        with recording.slot(slot):
            await nobody.ainvoke("the same prompt")
        return clock

    with Recording(path, "replay") as recording:
        clocks = await asyncio.gather(*(play(recording, slot) for slot in SLOTS))

    assert [clock.started_at for clock in clocks] == [datetime.fromisoformat(starts[slot]) for slot in SLOTS]


async def ask(model: Any, prompts: list[str], config: RunnableConfig, *, parallel: bool) -> list[Any]:
    """A chain that asks side by side or one after the other."""
    if parallel:
        return await asyncio.gather(*(model.ainvoke(prompt, config) for prompt in prompts))
    return [await model.ainvoke(prompt, config) for prompt in prompts]


def recorded_times(path: Path) -> list[tuple[datetime, datetime]]:
    """When each recorded call began and ended, oldest first."""
    began = [(datetime.fromisoformat(line["started_at"]), line["duration_s"]) for line in lines_of(path)]
    return sorted((start, start + timedelta(seconds=seconds)) for start, seconds in began)


ASKED = [(name, False) for name in CLIENTS] + [("ChatOpenAI", True), ("ChatAnthropic", True)]
"""Completion models side by side are left out: whose time is whose cannot be told there, as the docs say."""


@pytest.mark.parametrize(("name", "parallel"), ASKED)
async def test_the_meter_writes_recorded_times_down(name: str, parallel: bool, server: ModelServer, path: Path) -> None:
    """One after the other, and chat models side by side too: each recorded call's times, and no bill.

    LangChain starts async completion models in a task of its own, whose context the HTTP client does not see.
    """
    handlers = {}
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        model, handlers[mode] = CLIENTS[name](url), FinOpsHandler(ledger=":memory:")
        config = {"callbacks": [handlers[mode]]}
        with Recording(path, mode) as recording, recording.slot(SLOT):  # type: ignore[arg-type]
            token = CALL_CLOCK.set(CallClock())
            await RunnableLambda(partial(ask, model, parallel=parallel)).ainvoke(["one", "two", "three"], config)
            CALL_CLOCK.reset(token)
        if mode == "record":
            await hang_up(model)

    calls = list(handlers["replay"].ledger.calls())
    assert sorted((call.started_at, call.ended_at) for call in calls) == recorded_times(path)
    assert {call.billing_mode for call in calls} == {"replay"}
    assert {call.billing_mode for call in handlers["record"].ledger.calls()} == {"payg"}


@pytest.mark.parametrize("is_async", [False, True])
async def test_prompts_that_share_a_request_share_its_times(is_async: bool, server: ModelServer, path: Path) -> None:
    """A completion model sends a batch of prompts at once: none of its calls is billed by a replay."""
    server.script = lambda asked, number: Reply([json.dumps(two_choices()).encode()])
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        model, handler = completion(url), FinOpsHandler(ledger=":memory:")
        config = {"callbacks": [handler]}
        with Recording(path, mode) as recording, recording.slot(SLOT):  # type: ignore[arg-type]
            token = CALL_CLOCK.set(CallClock())
            if is_async:
                await RunnableLambda(model.abatch).ainvoke(["one", "two"], config)
            else:
                RunnableLambda(model.batch).invoke(["one", "two"], config)
            CALL_CLOCK.reset(token)
        if mode == "record":
            await hang_up(model)

    assert [(call.started_at, call.ended_at) for call in handler.ledger.calls()] == recorded_times(path) * 2
    assert {call.billing_mode for call in handler.ledger.calls()} == {"replay"}


def two_choices() -> dict[str, object]:
    answer = _message("/v1/completions", "one", 1)
    return {**answer, "choices": [{"text": text, "index": i, "finish_reason": "stop"} for i, text in enumerate("ab")]}


def test_other_hosts_key_and_client_versions_still_match(server: ModelServer, path: Path) -> None:
    """Host, port, headers, null fields, 0 or 0.0, the order of fields: none of them changes what is asked."""
    with Recording(path, "record") as recording, recording.slot(SLOT), httpx.Client() as http:
        body = {"model": "m", "temperature": 0, "prompt": "x", "tools": [{"name": "f", "strict": None}]}
        said = http.post(f"{server.url}/v1/completions?api_key=one", json=body, headers={"authorization": KEY})
    with Recording(path, "replay") as recording, recording.slot(SLOT), HTTP[-1].Client() as http2:
        other = {"prompt": "x", "model": "m", "temperature": 0.0, "seed": None, "tools": [{"name": "f"}]}
        heard = http2.post("https://elsewhere.example/v1/completions?api_key=two", json=other)

    assert heard.content == said.content


def test_requests_that_differ_in_the_query_are_told_apart(server: ModelServer, path: Path) -> None:
    """A tool's searches go by their query, which is kept as a hash."""
    with Recording(path, "record") as recording, recording.slot(SLOT), httpx.Client() as http:
        said = [http.get(f"{server.url}/search", params={"q": word}).text for word in ("first-word", "second-word")]
    with Recording(path, "replay") as recording, recording.slot(SLOT), httpx.Client() as http:
        heard = [http.get(f"{NOBODY}/search", params={"q": word}).text for word in ("second-word", "first-word")]

    assert heard == said[::-1]
    assert "first-word" not in path.read_text()


def test_no_secret_reaches_the_file(server: ModelServer, path: Path) -> None:
    """Neither from headers, the address or the body of a request, nor where a server says it again."""
    secrets = {
        "authorization": "Bearer sk-header-123456",
        "x-api-key": "sk-anthropic-123456",
        "cookie": "session=cookie-123456",
        "openai-organization": "org-123456789",
        "x-unknown-token": "unknown-123456",
    }
    echoed = "key sk-header-123456 of org-123456789 is wrong; session=cookie-123456"
    tokens = {"access_token": "given-123456", "refresh_token": "given-654321"}
    server.script = lambda asked, number: Reply(
        [json.dumps({"error": echoed, **tokens}).encode()],
        status=401,
        headers={"content-type": "application/json", "set-cookie": "id=set-123456", "x-org": "org-123456789"},
    )
    with Recording(path, "record") as recording, recording.slot(SLOT), httpx.Client() as http:
        url = f"{server.url}/v1/login?key=sk-query-123456"
        body = {"client_secret": "sk-body-123456", "note": "sk-header-123456"}
        http.post(url, headers=secrets, json=body)
        http.post(url, headers=secrets, data={"client_secret": "sk-form-123456"})

    text = path.read_text()
    for secret in ("123456", "654321"):
        assert secret not in text
    assert "is wrong" in text


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-auth-token", "sk-123456"),
        ("Ocp-Apim-Subscription-Key", "sk-123456"),
        ("x-amz-security-token", "sk-123456"),
        ("anthropic-auth", "sk-123456"),
        ("cookie", 'sid="sk-123456"; b=bk-123456'),
    ],
)
def test_secrets_are_known_by_their_headers_names(header: str, value: str, server: ModelServer, path: Path) -> None:
    """Whatever a service calls its key: one that echoes its headers must not spread it."""
    server.script = lambda asked, number: Reply([json.dumps({"you sent": asked.headers[header.lower()]}).encode()])
    with Recording(path, "record") as recording, recording.slot(SLOT), httpx.Client() as http:
        http.post(f"{server.url}/v1", headers={header: value}, json={"a": 1})

    assert "123456" not in path.read_text()
    assert "REDACTED" in path.read_text()


def test_secrets_in_bodies_and_paths_are_not_kept_and_not_matched(server: ModelServer, path: Path) -> None:
    """Another person's token replays the same recording; a count of tokens is no token."""
    said = []
    for mode, url, token in (("record", server.url, "sk-123456"), ("replay", NOBODY, "another")):
        with Recording(path, mode) as recording, recording.slot(SLOT), httpx.Client() as http:  # type: ignore[arg-type]
            body = {"apiKey": token, "token": token, "authorization": token, "botToken": token, "max_tokens": 7}
            said.append(http.post(f"{url}/bot1:{token}/send", json=body).text)

    assert said[0] == said[1]
    assert "123456" not in path.read_text()
    assert lines_of(path)[0]["body"]["max_tokens"] == 7


def test_a_prompt_that_holds_the_key_as_a_word_is_replayed(server: ModelServer, path: Path) -> None:
    """A key for a server that wants none is often a plain word; what was blotted out still matches."""
    said = []
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        model = ChatOpenAI(base_url=f"{url}/v1", api_key="not-needed", model="m")
        with Recording(path, mode) as recording, recording.slot(SLOT):  # type: ignore[arg-type]
            said.append(model.invoke("A receipt is not-needed here.").content)

    assert said[0] == said[1]
    assert "not-needed" not in path.read_text()


def test_a_prompt_with_half_a_surrogate_pair_is_recorded(server: ModelServer, path: Path) -> None:
    """An emoji cut in two: the answer was paid for, so it must reach the file."""
    said = []
    for mode, url in (("record", server.url), ("replay", NOBODY)):
        with Recording(path, mode) as recording, recording.slot(SLOT), httpx.Client() as http:  # type: ignore[arg-type]
            said.append(http.post(f"{url}/v1", content=json.dumps({"prompt": "\ud83d é"})).text)

    assert said[0] == said[1]
    assert "é" in path.read_text()


def test_langsmiths_own_traffic_goes_its_way_unrecorded(
    server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests hold the user's key and are no part of what the model said, in a replay either."""
    with serving() as langsmith:
        langsmith.script = lambda asked, number: Reply([b"{}"])
        monkeypatch.setenv("LANGSMITH_ENDPOINT", langsmith.url)
        client = Client(api_url=langsmith.url, api_key="lsv2-123456", auto_batch_tracing=False)
        for mode, url in (("record", server.url), ("replay", NOBODY)):
            with Recording(path, mode) as recording:  # type: ignore[arg-type]
                client.create_run("outside", {}, "llm", project_name="p")
                with recording.slot(SLOT):
                    client.create_run("inside", {}, "llm", project_name="p")
                    chat(url).invoke("hello")
        posted = [asked for asked in langsmith.asked if asked.path.endswith("/runs")]

    assert len(posted) == 4
    assert [line["path"] for line in lines_of(path)] == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LANGCHAIN_ENDPOINT", "https://traces.example:8443/api"),
        ("LANGSMITH_RUNS_ENDPOINTS", '{"https://traces.example:8443/api": "key"}'),
        ("LANGSMITH_RUNS_ENDPOINTS", '[{"api_url": "https://traces.example:8443/api", "api_key": "key"}]'),
    ],
)
def test_langsmith_servers_of_ones_own_are_known(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By host and port: a model may be served by the same machine."""
    monkeypatch.setenv(variable, value)
    cassette = intercept._Cassette(Recording(tmp_path / "r.jsonl", "record"))

    assert cassette.filter_request(Wire(httpx.Request("POST", "https://traces.example:8443/api/runs"))) is None
    assert cassette.filter_request(Wire(httpx.Request("POST", "https://traces.example:8000/v1"))) is not None


@pytest.mark.parametrize("host", ["api.smith.langchain.com", "eu.api.smith.langchain.com", "smith.langchain.com"])
def test_langsmiths_hosts_are_known(host: str, tmp_path: Path) -> None:
    """All of its regions; a host that only ends alike is somebody else's."""
    cassette = intercept._Cassette(Recording(tmp_path / "r.jsonl", "record"))
    request = httpx.Request("POST", f"https://{host}/runs")
    theirs = httpx.Request("POST", "https://notsmith.langchain.com/runs")

    assert cassette.filter_request(Wire(request)) is None
    assert cassette.filter_request(Wire(theirs)) is not None


def test_what_the_client_tried_again_is_not_tried_again_in_a_replay(
    server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 429 with its wait was for the way: the replay answers at once, and sleeps nowhere."""
    failing = Reply([b'{"error": {"message": "slow down"}}'], 429, {"retry-after-ms": "1", "retry-after": "30"})
    server.script = lambda asked, number: failing if number < 3 else None
    with Recording(path, "record") as recording, recording.slot(SLOT):
        said = chat(server.url).invoke("hello").content
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))
    with Recording(path, "replay") as recording, recording.slot(SLOT):
        heard = chat(NOBODY).invoke("hello").content

    assert heard == said == "answer 3 é"
    assert [line["status"] for line in lines_of(path)] == [429, 429, 200]
    assert "retry-after" not in path.read_text()


def test_a_try_that_failed_fails_again_and_the_next_one_gets_its_own_answers(
    server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs of tries add up, so a replay repeats them as they were, without waiting for anything."""
    server.script = lambda asked, number: Reply([b"{}"], 500, {"retry-after-ms": "1"}) if number in {2, 3, 4} else None

    def attempt(recording: Recording, model: ChatOpenAI) -> list[str]:
        with recording.slot(SLOT):
            first = model.invoke("first").content
            return [first, model.invoke("second").content]

    with Recording(path, "record") as recording:
        with pytest.raises(openai.InternalServerError):
            attempt(recording, chat(server.url))
        said = attempt(recording, chat(server.url))
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))
    with Recording(path, "replay") as recording:
        with pytest.raises(openai.InternalServerError):
            attempt(recording, chat(NOBODY))
        heard = attempt(recording, chat(NOBODY))
        assert recording.goes_on(SLOT, 1)
        assert not recording.goes_on(SLOT, 2)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # Older clients try again what was never recorded.
        with pytest.raises(RecordingMissing, match="the slot was tried 2 times, and this is one more"):
            attempt(recording, chat(NOBODY))
    with Recording(path, "replay") as recording, recording.slot(SLOT, 2):  # Another process goes on with try 2.
        assert chat(NOBODY).invoke("first").content == "answer 5 é"

    assert heard == said == ["answer 5 é", "answer 6 é"]


async def test_a_try_that_was_stopped_is_stopped_there_in_a_replay(server: ModelServer, path: Path) -> None:
    """Nothing is asked after the last call that it had time for; stopped at another time, the new end holds."""
    for stopped in (None, "time_limit"):
        with Recording(path, "record") as recording, recording.slot(SLOT):
            chat(server.url).invoke("one")
            assert not recording.is_over()
            assert recording.end(stopped) == stopped
    with Recording(path, "replay") as recording, recording.slot(SLOT):
        assert not recording.is_over()
        chat(NOBODY).invoke("one")
        assert recording.is_over()
        with pytest.raises(TimeLimitPassed):
            Watch(is_over=recording.is_over).on_chat_model_start()
        with pytest.raises(asyncio.CancelledError):
            chat(NOBODY).invoke("two")
        assert recording.end(None) == "time_limit"
    with Recording(path, "record") as recording, recording.slot(SLOT):
        chat(server.url).invoke("one")
    with Recording(path, "replay") as recording, recording.slot(SLOT):
        assert recording.end(None) is None


def test_identical_requests_are_answered_in_the_order_of_requests(server: ModelServer, path: Path) -> None:
    """Sent side by side, they are written down in the order of their answers."""
    with Recording(path, "record") as recording, recording.slot(SLOT):
        said = [chat(server.url).invoke("the same prompt").content for _ in range(2)]
    head, first, second = path.read_text().splitlines()
    path.write_text("\n".join([head, second, first, ""]))

    with Recording(path, "replay") as recording, recording.slot(SLOT):
        assert [chat(NOBODY).invoke("the same prompt").content for _ in range(2)] == said


def test_a_try_that_asked_for_nothing_leaves_its_successor_in_place(server: ModelServer, path: Path) -> None:
    """A tool broke before any call; a replay, in which it does not, gets the answers of the try that had some."""
    with Recording(path, "record") as recording:
        with recording.slot(SLOT):
            pass
        with recording.slot(SLOT):
            chat(server.url).invoke("hello")
    with Recording(path, "replay") as recording, recording.slot(SLOT):
        assert chat(NOBODY).invoke("hello").content == "answer 1 é"


def test_a_request_that_was_never_answered_fails_in_a_replay_too(
    path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was recorded, without an answer: a replay must neither miss it nor invent one."""
    with Recording(path, "record") as recording:
        with pytest.raises(openai.APIConnectionError), recording.slot(SLOT):
            chat(NOBODY, max_retries=0).invoke("hello")
        with recording.slot(SLOT):
            chat(server.url).invoke("hello")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))
    with Recording(path, "replay") as recording:
        with pytest.raises(openai.InternalServerError, match="no answer was recorded"), recording.slot(SLOT):
            chat(NOBODY).invoke("hello")
        with recording.slot(SLOT):
            assert chat(NOBODY).invoke("hello").content == "answer 1 é"


CHILD = """
import sys
from pathlib import Path
from langchain_openai import ChatOpenAI
from langchain_finops.evals.replay import Recording, Slot

url, path, tasks = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
model = ChatOpenAI(base_url=f"{url}/v1", api_key="sk-live-1234567890", model="m")
with Recording(path, "record") as recording:
    for task in range(tasks):
        with recording.slot(Slot("c", f"t{task}", 0)):
            for turn in range(2):
                print(task, turn, model.invoke("the same prompt").content, flush=True)
"""


def test_kill_9_loses_no_finished_call_and_nothing_is_bought_twice(server: ModelServer, path: Path) -> None:
    """Whatever the process said it had is in the file; recording again goes on from there, call by call."""
    command = [sys.executable, "-c", CHILD, server.url, str(path)]
    child = subprocess.Popen([*command, "1000"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    printed = [child.stdout.readline() for _ in range(7)]  # Tasks 0 to 2, and half of task 3.
    os.kill(child.pid, signal.SIGKILL)
    printed += child.stdout.read().splitlines(keepends=True)
    child.stdout.close()
    child.wait()

    heard = [line.split(" ", 2)[2].strip() for line in printed if line.endswith("\n")]
    # The last line may be torn, if the kill came in the middle of a write; what was printed never is.
    with path.open("rb") as file:
        whole = [json.loads(line) for line in file.read().split(b"\n")[1:-1]]
    stored = [json.loads(line["answer"])["choices"][0]["message"]["content"] for line in whole]
    assert stored[: len(heard)] == heard

    bought = len(server.asked)
    tasks = len(stored) // 2 + 2
    again = subprocess.run([*command, str(tasks)], capture_output=True, text=True, check=True)
    said = [line.split(" ", 2)[2] for line in again.stdout.splitlines()]
    assert said[: len(stored)] == stored
    assert len(server.asked) - bought == 2 * tasks - len(stored)
    assert len(set(said)) == 2 * tasks


def test_each_answer_is_on_the_disk_before_the_caller_has_it(
    server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paid answer survives a power cut too: the file is synced after each line, not only written."""
    synced: list[int] = []
    sync = os.fsync
    monkeypatch.setattr("os.fsync", lambda file: (sync(file), synced.append(len(lines_of(path)))))
    with Recording(path, "record") as recording, recording.slot(SLOT):
        for number in (1, 2):
            chat(server.url).invoke("x")
            assert synced == list(range(1, number + 1))


def test_a_torn_last_line_is_left_out_and_written_anew(server: ModelServer, path: Path) -> None:
    """A machine that lost power within a write leaves half a line."""
    with Recording(path, "record") as recording:
        for task in ("t1", "t2"):
            with recording.slot(Slot("c", task, 0)):
                chat(server.url).invoke("x")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with Recording(path, "replay") as recording, recording.slot(Slot("c", "t1", 0)):
        assert chat(NOBODY).invoke("x").content == "answer 1 é"
    with Recording(path, "record") as recording:
        for task in ("t1", "t2"):
            with recording.slot(Slot("c", task, 0)):
                chat(server.url).invoke("x")

    assert [json.loads(line["answer"])["id"] for line in lines_of(path)] == ["c1", "c3"]


def missing(path: Path, slot: Slot, prompt: str = "a secret prompt", **parameters: Any) -> str:
    """What a replay says that has no answer."""
    with (
        pytest.raises(RecordingMissing) as raised,
        Recording(path, "replay") as recording,
        recording.slot(slot),
    ):
        chat(NOBODY, **parameters).invoke(prompt)
    return str(raised.value)


@pytest.fixture
def one_call(server: ModelServer, path: Path) -> Path:
    with Recording(path, "record") as recording, recording.slot(SLOT):
        chat(server.url, temperature=0.5).invoke("a secret prompt")
    return path


def test_a_missing_recording_names_the_slot_and_shows_what_differs(one_call: Path) -> None:
    """Which attempt, and which fields are others than were recorded, with both values."""
    said = missing(one_call, SLOT, "another prompt", temperature=0.7)

    assert "configuration 'five-shot', task 't1', repeat 0" in said
    assert (
        "differs from what was recorded in messages[0].content ('a secret prompt' was recorded, 'another prompt' is "
        "asked); temperature (0.5 was recorded, 0.7 is asked)"
    ) in said
    assert "--record" in said


def test_of_a_long_prompt_the_part_that_differs_is_shown(server: ModelServer, path: Path) -> None:
    """Sixty characters around the first difference: a prompt of thousands would hide it."""
    long = "x" * 500
    with Recording(path, "record") as recording, recording.slot(SLOT):
        chat(server.url).invoke(f"{long} refund {long}")

    said = missing(path, SLOT, f"{long} credit {long}")

    assert " refund " in said
    assert " credit " in said
    assert "x" * 61 not in said


def test_a_secret_in_a_prompt_is_not_shown_where_its_recording_is_missing(one_call: Path) -> None:
    """The client's own key, pasted into a prompt: the file blots it out, and so does what is told of a difference."""
    said = missing(one_call, SLOT, f"my key is {KEY}")

    assert "'my key is REDACTED' is asked" in said
    assert KEY not in said


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ({"a": [1, 2]}, {"a": [1]}, ["a[1] (2 is gone)"]),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": "x"}}, ["a.c ('x' is new)"]),
        ({"a": 1}, {"a": "1"}, ["a (1 was recorded, '1' is asked)"]),
        ([1], {"a": 1}, ['body ([1] was recorded, {"a": 1} is asked)']),
        ("same", "same but longer", ["body ('same' was recorded, 'same but longer' is asked)"]),
    ],
)
def test_each_kind_of_difference_has_its_words(old: object, new: object, what: list[str]) -> None:
    """What is new, what is gone, and what is another value or another type."""
    one, other = (recorded.Asked(method="POST", path="/v1", body=body) for body in (old, new))

    assert differences(one, other) == what


def test_more_than_three_differences_are_counted() -> None:
    """A request that is another altogether does not fill the screen."""
    assert in_words(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


def test_calls_of_a_judge_are_kept_apart_from_the_targets(server: ModelServer, path: Path) -> None:
    """The same request, of the target and of a scorer's judge in one slot: each gets its own answer again."""
    judged = Slot(SLOT.configuration, SLOT.task, SLOT.repeat, "polite")
    with Recording(path, "record") as recording:
        for slot in (SLOT, judged):
            with recording.slot(slot):
                chat(server.url).invoke("x")
    assert [line.get("scorer") for line in lines_of(path)] == [None, "polite"]

    with Recording(path, "replay") as recording:
        with recording.slot(judged):
            assert chat(NOBODY).invoke("x").content == "answer 2 é"
        with recording.slot(SLOT):
            assert chat(NOBODY).invoke("x").content == "answer 1 é"


def test_two_processes_do_not_record_into_one_file(path: Path) -> None:
    """The second is told at once: their lines would be taken for one another's tries."""
    code = (
        "import sys; from pathlib import Path; from langchain_finops.evals.replay import Recording\n"
        "try:\n    Recording(Path(sys.argv[1]), 'record').__enter__()\n"
        "except Exception as error:\n    print(error)\n"
    )
    with Recording(path, "record"):
        ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    assert "is being written by another process: wait for it" in ran.stdout


@pytest.mark.parametrize(
    ("slot", "what"),
    [
        (Slot("six-shot", "t1", 0), "for this configuration"),
        (Slot("five-shot", "t2", 0), "for this task"),
        (Slot("five-shot", "t1", 1), "for this repeat"),
    ],
)
def test_a_missing_slot_says_which_part_of_it_was_never_recorded(slot: Slot, what: str, one_call: Path) -> None:
    """A new configuration, a new task or one more repeat: each needs another remedy."""
    assert f"nothing was {what}" in missing(one_call, slot, temperature=0.5)


def test_asking_more_often_than_was_recorded_is_missing_too(one_call: Path) -> None:
    """An answer is never served twice: two samples would be one."""
    with (
        pytest.raises(RecordingMissing, match="recorded 1 times and is asked for once more"),
        Recording(one_call, "replay") as recording,
        recording.slot(SLOT),
    ):
        chat(NOBODY, temperature=0.5).batch(["a secret prompt"] * 2, {"max_concurrency": 1})


def test_another_path_is_missing_with_the_paths_that_were_recorded(one_call: Path) -> None:
    """A target that moved from chat to completions."""
    with (
        pytest.raises(RecordingMissing, match="POST /v1/completions was not recorded; POST /v1/chat/completions was"),
        Recording(one_call, "replay") as recording,
        recording.slot(SLOT),
    ):
        completion(NOBODY).invoke("a secret prompt")


def test_a_missing_recording_is_told_whatever_a_client_or_target_makes_of_it(one_call: Path) -> None:
    """Anthropic's client calls it a connection error; a target may swallow it and answer all the same."""
    with Recording(one_call, "replay") as recording:
        with pytest.raises(RecordingMissing) as raised, recording.slot(SLOT):
            anthropic.Anthropic(api_key=KEY, base_url=NOBODY, max_retries=0).messages.create(
                model="claude", max_tokens=1, messages=[{"role": "user", "content": "x"}]
            )
        assert isinstance(raised.value.__cause__, anthropic.APIConnectionError)
        with pytest.raises(RecordingMissing), recording.slot(SLOT):
            chat(NOBODY).batch(["something else"], return_exceptions=True)
        assert recording.missing(SLOT) is not None
        with recording.slot(SLOT):  # The next try of the slot starts afresh.
            assert recording.missing(SLOT) is None


@pytest.mark.parametrize("mode", ["record", "replay"])
def test_a_request_outside_of_every_slot_is_refused(mode: str, one_call: Path, server: ModelServer) -> None:
    """A thread that lost its context would be paid for in a replay, and be missing from a recording."""
    asked = len(server.asked)
    with (
        pytest.raises(EvalError, match="outside of every slot"),
        Recording(one_call, mode) as recording,  # type: ignore[arg-type]
        recording.slot(SLOT),
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(chat(server.url).invoke, "x").result()

    assert len(server.asked) == asked


@pytest.mark.parametrize("mode", ["record", "replay"])
def test_a_request_outside_of_every_slot_is_told_whatever_the_target_makes_of_it(
    mode: str, one_call: Path, server: ModelServer
) -> None:
    """A target that answers all the same would have completed at no cost. It may be any slot's: each end tells."""
    with Recording(one_call, mode) as recording, ThreadPoolExecutor(1) as pool:  # type: ignore[arg-type]
        with pytest.raises(EvalError, match="outside of every slot"), recording.slot(SLOT):
            assert pool.submit(chat(server.url).invoke, "x").exception() is not None
        with pytest.raises(EvalError, match="outside of every slot"), recording.slot(SLOTS[0]):
            pass
    with Recording(one_call, mode) as recording, recording.slot(SLOT):  # type: ignore[arg-type]
        pass


def test_one_recording_at_a_time_and_none_leaves_patches_behind(one_call: Path, server: ModelServer) -> None:
    """Two at once would take each other's calls."""
    transports = [getattr(library, name) for library in HTTP for name in ("HTTPTransport", "AsyncHTTPTransport")]
    before = [dict(vars(transport)) for transport in transports]
    with Recording(one_call, "replay"), pytest.raises(EvalError, match="another recording is open"):
        Recording(one_call, "record").__enter__()
    with pytest.raises(EvalError, match="is not there"):
        Recording(one_call.with_name("none.jsonl"), "replay").__enter__()
    with Recording(one_call, "replay"):
        pass  # Neither failure left the first one's place taken.

    assert [dict(vars(transport)) for transport in transports] == before
    assert chat(server.url).invoke("x").content == "answer 2 é"


def test_files_that_are_no_recording_say_so(one_call: Path) -> None:
    """Every bad line at once; a newer version and another kind of file by their first line."""
    whole = one_call.read_text()
    for text, error, what in (
        (whole + "{}\nnot json\n", BadData, r"(?s)tasks.jsonl:3: .*tasks.jsonl:4: "),
        ('{"recording": 99}\n', EvalError, "version 99"),
        ('{"id": "t1"}\n', EvalError, "this is no recording"),
    ):
        one_call.write_text(text)
        with pytest.raises(error, match=what):
            Recording(one_call, "replay").__enter__()


def test_looking_an_answer_up_takes_no_longer_in_a_long_recording(
    server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies are hashed once a call, and never compared one by one: 20 calls out of 20 or out of 2,000."""
    with Recording(path, "record") as recording, recording.slot(SLOT):
        chat(server.url).invoke("x")
    head, line = path.read_text().splitlines()
    hashed = []
    for length in (20, 2000):
        lines = [line.replace('"t1"', f'"t{number}"') for number in range(length)]
        path.write_text("\n".join([head, *lines, ""]))
        with Recording(path, "replay") as recording:
            count = []
            real = recorded.content_hash
            monkeypatch.setattr(recorded, "content_hash", lambda value, c=count, r=real: c.append(1) or r(value))
            for number in range(20):
                with recording.slot(Slot("five-shot", f"t{number}", 0)):
                    assert chat(NOBODY).invoke("x").content == "answer 1 é"
            monkeypatch.setattr(recorded, "content_hash", real)
            hashed.append(len(count))

    assert hashed == [20, 20]


def test_requests_and_urllib3_are_not_needed(one_call: Path) -> None:
    """Nobody but LangSmith needs them."""
    script = f"""
import sys
sys.modules["requests"] = sys.modules["urllib3"] = None
import httpx
from pathlib import Path
from langchain_finops.evals.replay import Recording, Slot
with Recording(Path({str(one_call)!r}), "replay") as recording:
    assert recording.mode == "replay"
    print("open")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("open\n", "")
