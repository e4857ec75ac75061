"""A scripted provider on this machine: it plays Anthropic's documented rules of prompt caching, and no model.

    python golden_datasets/levers/scripted_claude.py [PORT]        # 8093

What it says of its caches, in the usage of each answer, follows
https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read in November 2026:

- A prefix is tools, system message and messages up to a mark, compared block by block; marks are no part of it.
- The request's own `cache_control` marks the last block. More than four marks, or a mark of an hour behind one of five
  minutes, are an error.
- At a mark the longest cached prefix is read that ends there or at one of the 20 blocks before it. What stands behind
  it is written, up to each mark, if the prefix has 512 tokens or more.
- Reading keeps a prefix for its time to live again. Nobody else's requests are in the cache: the header
  `x-scripted-session` names the cache.

Where that page says nothing it does what saves less: a prefix that was written for five minutes stays one of five
minutes, however it is marked later. A token is four bytes. The clock is the request's header `x-scripted-time`.

What it answers is scripted too (`answer_to`): it looks up one thing after the other and adds up what it found.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, ClassVar

LEAST_TOKENS = 512
LOOK_BACK = 20
MOST_MARKS = 4
TTL_S = {"5m": 300, "1h": 3_600}
FORGOTTEN = 5
"""Of so many things to look up it forgets the last one: what it adds up is wrong then, whatever is cached."""


class Refused(Exception):
    """A request that the provider does not take."""


@dataclass(frozen=True)
class Block:
    """A piece of a prompt: the prefix that ends with it, and how it is marked."""

    prefix: str
    tokens: int
    """Of the whole prefix."""
    ttl: str | None


@dataclass
class Cache:
    """What is cached, and until when."""

    kept: dict[str, tuple[float, str]] = field(default_factory=dict)

    def usage(self, body: Mapping[str, Any], now: float) -> dict[str, Any]:
        """What a request reads, writes and pays in full."""
        blocks = list(blocks_of(body))
        marks = checked([at for at, block in enumerate(blocks) if block.ttl is not None], blocks)
        read_at = max((found for at in marks if (found := self._found(blocks, at, now)) is not None), default=None)
        read = 0 if read_at is None else blocks[read_at].tokens
        done, written = read, dict.fromkeys(TTL_S, 0)
        for at in marks:
            block = blocks[at]
            assert block.ttl is not None
            if block.tokens > done and block.tokens >= LEAST_TOKENS:
                written[block.ttl] += block.tokens - done
                done = block.tokens
                self.kept[block.prefix] = now + TTL_S[block.ttl], block.ttl
        for block in blocks[: 0 if read_at is None else read_at + 1]:
            if self._lives(block.prefix, now):
                ttl = self.kept[block.prefix][1]
                self.kept[block.prefix] = now + TTL_S[ttl], ttl
        return {
            "input_tokens": blocks[-1].tokens - done,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(written.values()),
            "cache_creation": {f"ephemeral_{ttl}_input_tokens": count for ttl, count in written.items()},
            "service_tier": "standard",
        }

    def _found(self, blocks: list[Block], mark: int, now: float) -> int | None:
        behind = range(mark, max(-1, mark - LOOK_BACK - 1), -1)
        return next((at for at in behind if self._lives(blocks[at].prefix, now)), None)

    def _lives(self, prefix: str, now: float) -> bool:
        return prefix in self.kept and now < self.kept[prefix][0]


def blocks_of(body: Mapping[str, Any]) -> Iterator[Block]:
    """The prompt in blocks, in the order in which it is read."""
    pieces: list[tuple[str, Any]] = [("tool", tool) for tool in body.get("tools") or ()]
    pieces += [("system", block) for block in as_blocks(body.get("system") or [])]
    for message in body["messages"]:
        pieces += [(message["role"], block) for block in as_blocks(message["content"])]
    running, tokens = sha256(), 0
    for at, (role, piece) in enumerate(pieces):
        mark = piece.get("cache_control") or (body.get("cache_control") if at == len(pieces) - 1 else None)
        text = json.dumps([role, {name: value for name, value in piece.items() if name != "cache_control"}])
        running.update(text.encode())
        tokens += -(-len(text.encode()) // 4)
        yield Block(running.hexdigest(), tokens, None if mark is None else mark.get("ttl", "5m"))


def as_blocks(content: Any) -> list[dict[str, Any]]:
    """Text is short for one block of text, in results of tools as well."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{**each, "content": as_blocks(each["content"])} if "content" in each else each for each in blocks]


def checked(marks: list[int], blocks: list[Block]) -> list[int]:
    """The marks, if there may be so many and in that order."""
    if len(marks) > MOST_MARKS:
        raise Refused(f"a request may have {MOST_MARKS} marks of cache_control, and this one has {len(marks)}")
    ttls = [blocks[at].ttl for at in marks]
    if any(before == "5m" and after == "1h" for before, after in pairwise(ttls)):
        raise Refused("a mark of 1h must not come after one of 5m")
    return marks


def answer_to(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the script says: the next thing to look up, or the sum of what was found."""
    asked = ""
    found: list[int] = []
    for message in messages:
        for block in as_blocks(message["content"]):
            if message["role"] == "user" and block["type"] == "text":
                asked, found = block["text"], []
            elif block["type"] == "tool_result":
                found.append(int(re.findall(r"\d+", json.dumps(block["content"]))[-1]))
    product = re.search(r"(\d+) times (\d+)", asked)
    if product:
        return [{"type": "text", "text": str(int(product[1]) * int(product[2]))}]
    wanted = re.findall(r"[A-Z]-\d+", asked)
    if len(found) < len(wanted) - (len(wanted) >= FORGOTTEN):
        thing = wanted[len(found)]
        return [{"type": "tool_use", "id": f"toolu_{len(messages)}", "name": "look_up", "input": {"part": thing}}]
    return [{"type": "text", "text": str(sum(found))}]


class Handler(BaseHTTPRequestHandler):
    """Answers `POST /v1/messages`."""

    protocol_version = "HTTP/1.1"
    caches: ClassVar[dict[str, Cache]] = {}

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        cache = self.caches.setdefault(self.headers.get("x-scripted-session", ""), Cache())
        try:
            status, said = 200, message(body, cache, float(self.headers.get("x-scripted-time", "0")))
        except Refused as error:
            status = 400
            said = {"type": "error", "error": {"type": "invalid_request_error", "message": str(error)}}
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)


def message(body: Mapping[str, Any], cache: Cache, now: float) -> dict[str, Any]:
    """The whole answer."""
    content = answer_to(body["messages"])
    usage = cache.usage(body, now) | {"output_tokens": -(-len(json.dumps(content)) // 4)}
    reason = "tool_use" if content[-1]["type"] == "tool_use" else "end_turn"
    about = {"id": "msg_scripted", "type": "message", "role": "assistant", "model": body["model"]}
    return {**about, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": usage}


def serve(port: int) -> ThreadingHTTPServer:
    """A server on loopback; port 0 for one that is free. `serve_forever()` has it answer."""
    return ThreadingHTTPServer(("127.0.0.1", port), type("Scripted", (Handler,), {"caches": {}}))


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 8093).serve_forever()
