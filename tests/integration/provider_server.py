"""A loopback HTTP server that answers as OpenAI and Anthropic document, whole or streamed, well or badly."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "ProviderServer", "anthropic_usage", "openai_usage", "provider_server"]


def openai_usage(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Usage of a chat completion; cached tokens are a part of the prompt, reasoning of the completion."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def anthropic_usage(
    fresh: int, output: int, *, read: int = 0, written_5m: int = 0, written_1h: int = 0
) -> dict[str, Any]:
    """Usage of a message; unlike OpenAI's, `input_tokens` leaves out what was read from or written to a cache."""
    return {
        "input_tokens": fresh,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written_5m + written_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": written_5m, "ephemeral_1h_input_tokens": written_1h},
        "service_tier": "standard",
    }


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How the server meets one request."""

    text: str = "ANSWER one two three"
    usage: dict[str, Any] | None = None
    model: str = "scripted-model"
    status: int = 200
    drop_after: int | None = None
    """Close the connection after so many pieces of text, without a farewell."""
    wait_for: threading.Event | None = None
    """Send nothing before this is set."""
    answers: int = 1
    """`n`: so many choices, in one answer."""
    tier: str | None = None
    is_cut: bool = False
    """It was cut off at its limit."""
    wait_after: int = 0
    """In a stream: `wait_for` after so many pieces of text."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ProviderServer"

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.server.take(self.path, body, self.headers)
        if answer.wait_for and not (body.get("stream") and answer.wait_after):
            answer.wait_for.wait(30)
        try:
            self._meet(answer, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # The client walked away, as some tests want it to.

    def _meet(self, answer: Answer, body: dict[str, Any]) -> None:
        if answer.status != 200:
            self._send(answer.status, {"type": "error", "error": {"type": "scripted", "code": "scripted_code",
                                                                  "message": "SECRET error text"}})  # fmt: skip
        elif body.get("stream"):
            self._stream(answer, self._events(answer, body))
        elif answer.drop_after is not None:
            self.close_connection = True
        else:
            self._send(200, self._whole(answer))

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if not self.server.keeps_alive:
            self.send_header("connection", "close")
        self.send_header("x-request-id", "req-scripted")
        self.send_header("request-id", "req-scripted")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: Answer, events: Iterator[tuple[str | None, Any, bool]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        texts = 0
        for name, content, is_text in events:
            if is_text and answer.drop_after == texts:
                # Chunked encoding without its last chunk: the client sees that the connection was lost.
                self.close_connection = True
                return
            if is_text and answer.wait_for and answer.wait_after == texts:
                answer.wait_for.wait(30)
            texts += is_text
            data = content if isinstance(content, str) else json.dumps(content)
            text = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
            self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _whole(self, answer: Answer) -> dict[str, Any]:
        if self.path.endswith("/messages"):
            return {
                "id": "msg-scripted",
                "type": "message",
                "role": "assistant",
                "model": answer.model,
                "content": [{"type": "text", "text": answer.text}],
                "stop_reason": "max_tokens" if answer.is_cut else "end_turn",
                "stop_sequence": None,
                "usage": answer.usage or anthropic_usage(0, 0),
            }
        if self.path.endswith("/responses"):
            text = {"type": "output_text", "text": answer.text, "annotations": []}
            said = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [text]}
            return {
                "id": "resp-scripted",
                "object": "response",
                "created_at": 1_700_000_000,
                "status": "completed",
                "model": answer.model,
                "output": [said],
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
            }
        chat, why = self.path.endswith("/chat/completions"), "length" if answer.is_cut else "stop"
        said = {"message": {"role": "assistant", "content": answer.text}} if chat else {"text": answer.text}
        return {
            "id": "cmpl-scripted",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1_700_000_000,
            "model": answer.model,
            "choices": [{"index": n, "finish_reason": why, "logprobs": None} | said for n in range(answer.answers)],
            **({"usage": answer.usage} if answer.usage else {}),
            **({"service_tier": answer.tier} if answer.tier else {}),
        }

    def _events(self, answer: Answer, body: dict[str, Any]) -> Iterator[tuple[str | None, Any, bool]]:
        pieces = [f"{word} " for word in answer.text.split()]
        if self.path.endswith("/messages"):
            return self._anthropic_events(answer, pieces)
        return self._openai_events(answer, pieces, bool((body.get("stream_options") or {}).get("include_usage")))

    def _openai_events(
        self, answer: Answer, pieces: list[str], wants_usage: bool
    ) -> Iterator[tuple[str | None, Any, bool]]:
        chat = self.path.endswith("/chat/completions")
        frame = {"id": "cmpl-scripted", "object": "chat.completion.chunk" if chat else "text_completion",
                 "created": 1_700_000_000, "model": answer.model}  # fmt: skip
        for piece in pieces:
            said = {"delta": {"role": "assistant", "content": piece}} if chat else {"text": piece}
            yield None, frame | {"choices": [{"index": 0, "finish_reason": None, "logprobs": None} | said]}, True
        last = {"delta": {}} if chat else {"text": ""}
        why = "length" if answer.is_cut else "stop"
        yield None, frame | {"choices": [{"index": 0, "finish_reason": why, "logprobs": None} | last]}, False
        if wants_usage and answer.usage:
            yield None, frame | {"choices": [], "usage": answer.usage}, False
        yield None, "[DONE]", False

    def _anthropic_events(self, answer: Answer, pieces: list[str]) -> Iterator[tuple[str | None, Any, bool]]:
        usage = answer.usage or anthropic_usage(0, 0)
        start = self._whole(answer) | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
        yield "message_start", {"type": "message_start", "message": start}, False
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield "content_block_start", block, False
        for piece in pieces:
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            yield "content_block_delta", delta, True
        yield "content_block_stop", {"type": "content_block_stop", "index": 0}, False
        end = {"stop_reason": "max_tokens" if answer.is_cut else "end_turn", "stop_sequence": None}
        # Cumulative counts; LangChain's integration reads them from here and not from the message's start.
        counted = {name: count for name, count in usage.items() if name.endswith("_tokens")}
        yield "message_delta", {"type": "message_delta", "delta": end, "usage": counted}, False
        yield "message_stop", {"type": "message_stop"}, False


@dataclass
class _Seen:
    path: str
    body: dict[str, Any]
    headers: Message


class ProviderServer(ThreadingHTTPServer):
    """Answers requests in the order of `answers`; the last one is given again and again."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = [Answer()]
        self.seen: list[_Seen] = []
        self.arrived = threading.Event()
        self.keeps_alive = False
        """Clients are never closed by LangChain: their sockets would be left."""
        self.connections = 0
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count it."""
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a client dropped."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str, body: dict[str, Any], headers: Message) -> Answer:
        with self._lock:
            self.seen.append(_Seen(path, body, headers))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.arrived.set()
        return answer


@contextmanager
def provider_server() -> Iterator[ProviderServer]:
    """A server that runs until the block ends."""
    server = ProviderServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        for answer in server.answers:
            if answer.wait_for:
                answer.wait_for.set()
        server.shutdown()
        server.server_close()
        thread.join()
