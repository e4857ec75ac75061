"""Digests of a prompt's prefixes, made when a call starts: what a cache could have read, and no text of it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_finops.langchain.extract import BESIDE, CACHE_MARKS, MEDIA, beside
from langchain_finops.ledger.marks import (
    DIGEST_BYTES,
    KINDS,
    LEAST_BYTES,
    LEAST_WHOLE_BYTES,
    LENGTHS,
    MEDIA_BYTES,
    SHORT_BYTES,
    End,
    Marks,
)

__all__ = ["Prefixes"]

RULED: Final = 8
"""Messages' ends that are marked at even distances, at most."""
ANSWERED: Final = 5
"""Ends that are marked because an answer follows: earlier prompts of the same conversation ended there."""
ASKED: Final = 3
"""The same before a question: another agent's answer may come as one."""
RECENT: Final = 8
SYSTEM: Final = frozenset({"system", "developer"})
ROLES: Final = {
    "user": "human", "assistant": "ai", "AIMessageChunk": "ai", "HumanMessageChunk": "human",
    "SystemMessageChunk": "system", "ToolMessageChunk": "tool", "FunctionMessageChunk": "function",
}  # fmt: skip
"""Of a `ChatMessage`, and of messages that were put together from chunks: what we call them."""
LONGEST_BYTES: Final = 8_000_000
"""Of a prompt of which digests are made: that takes ten milliseconds or so, in which an event loop stands still."""
MESSAGE_COSTS: Final = 2_500
PIECE_COSTS: Final = 500
JSON_COSTS: Final = 8
"""Bytes that could be hashed in the time that a message, a value in it, and a byte of a tool takes besides."""
LARGE_BYTES: Final = 262_144
SAMPLE_BYTES: Final = 16_384
"""From the first on an image or a file is known by its length and as much of its head, its middle and its tail."""
MASKED_BYTES: Final = 16_384
"""How much of a system prompt's beginning, and of its end, is looked through for time stamps."""
LONGEST_WORD: Final = 64
MASKED_KEPT: Final = 1_000
PERSON: Final = blake2b.PERSON_SIZE
_DIGITS: Final = b"0123456789"
_NAMES: Final = frozenset(
    word.encode() + mark
    for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "January", "February",
                "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
    for word in (day, day[:3], "AM", "PM")
    for mark in (b"", b",", b".")
)  # fmt: skip
_FIELDS: Final = ("tool_calls", "tool_call_id", "name", "additional_kwargs")
_SCALARS: Final = (Decimal, date, time, UUID)
DEEPEST: Final = 50


class _Unreadable(Exception):
    """What is sent of a value cannot be told, or there is too much of it: the prompt has no digests."""


class _Part:
    """A message as bytes that are equal for what reads the same."""

    __slots__ = ("data", "kind", "plain", "size")

    def __init__(self, kind: str, data: bytes, size: int, plain: int) -> None:
        self.kind = kind
        self.data = data
        self.size = size
        self.plain = plain
        """Bytes before the first image or file, of which the size says nothing."""


class Prefixes:
    """Makes digests with the key of a ledger, so that those of all processes which write to it can be compared."""

    __slots__ = ("_key", "_masked")

    def __init__(self, key: Callable[[], bytes]) -> None:
        """`key`: the ledger's own; asked at each call, and so without any I/O."""
        self._key = key
        self._masked: dict[bytes, bytes] = {}
        """Of system prompts, by their digests: looking for time stamps takes ten times as long as hashing."""

    def of(self, prompt: Sequence[BaseMessage] | str, params: Mapping[str, Any]) -> bytes | None:
        """The digests of a prompt and what goes with it, as `ledger.marks` reads them.

        None where it is too short or too long, or holds an object of which nobody can tell what is sent. Marks of where
        a cache begins (`cache_control` and the like) are no part of a prompt.
        """
        extra = [] if BESIDE.isdisjoint(params) else beside(params)
        if not extra and _is_short(prompt):
            return None
        key = self._key()
        messages: Sequence[BaseMessage | str] = (prompt,) if isinstance(prompt, str) else prompt
        reader = _Reader()
        try:
            parts = [reader.part(message) for message in messages]
            schemas = [reader.tool(each) for each in extra]
        except (_Unreadable, RecursionError):
            return None
        size = sum([part.size for part in parts]) + sum(map(len, schemas))
        if not LEAST_WHOLE_BYTES <= size <= LONGEST_BYTES:
            return None
        return (
            _whole(key, parts, schemas, size) if size < LEAST_BYTES else self._long(key, parts, schemas, size)
        ).to_bytes()

    def _long(self, key: bytes, parts: Sequence[_Part], schemas: Sequence[bytes], size: int) -> Marks:
        begin = next((n for n, part in enumerate(parts) if part.kind not in SYSTEM), len(parts))
        tools = tools_sorted = system = masked = None
        if schemas:
            each = [_digest(key, schema) for schema in schemas]
            tools, tools_sorted = _digest(key, b"".join(each)), _digest(key, b"".join(sorted(each)))
        system_inner: tuple[bytes, ...] = ()
        if begin:
            text = b"\x1f".join([part.data for part in parts[:begin]])
            system, system_inner = _inside(key, text, _plain_bytes(parts[:begin]))
            masked = self._mask(key, system, text)
        messages = parts[begin:]
        ends, recent, chain = _ends(key, messages)
        first_inner: tuple[bytes, ...] = ()
        if messages and messages[0].plain > LENGTHS[0]:
            first_inner = _beginnings(blake2b(key=key, digest_size=DIGEST_BYTES), messages[0].data, messages[0].plain)
        return Marks(
            whole=_digest(key, b"%b\0%b\0%b" % (tools or b"", system or b"", chain)),
            size=size,
            tools=tools,
            tools_sorted=tools_sorted,
            tools_size=sum(map(len, schemas)),
            system=system,
            system_masked=masked,
            system_size=sum([part.size for part in parts[:begin]]),
            system_inner=system_inner,
            first_inner=first_inner,
            ends=ends,
            recent=recent,
        )

    def _mask(self, key: bytes, system: bytes, text: bytes) -> bytes:
        found = self._masked.get(system)
        if found is None:
            if len(self._masked) >= MASKED_KEPT:
                self._masked.clear()
            found = self._masked[system] = _digest(key, _without_times(text), b"masked")
        return found


def _is_short(prompt: Sequence[BaseMessage] | str) -> bool:
    """Whether so little is said that nothing needs to be hashed; counts as far as it takes."""
    if isinstance(prompt, str):
        return len(prompt) < LEAST_WHOLE_BYTES and prompt.isascii()
    size = 0
    for message in prompt:
        content = message.content
        if not isinstance(content, str) or not content.isascii() or message.__dict__.get("tool_calls"):
            return False
        size += len(content)
        if size >= LEAST_WHOLE_BYTES:
            return False
    return True


# --- parts -----------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads what a prompt holds, as long as there is not too much of it."""

    __slots__ = ("_left", "_less", "_pieces", "_plain")

    def __init__(self) -> None:
        self._left = LONGEST_BYTES
        self._pieces: list[bytes] = []
        """Of the message that is read."""
        self._less = 0
        """Bytes that its images and files take more than they count for."""
        self._plain = -1
        """Where the first of them begins; -1 where there is none."""

    def part(self, message: BaseMessage | str) -> _Part:
        """A message, or a text that is a prompt by itself."""
        self._left -= MESSAGE_COSTS
        if isinstance(message, str):
            data = self._text(message)
            return _Part("human", data, len(data), len(data))
        kind, content, fields = message.type, message.content, message.__dict__
        if kind in {"chat", "ChatMessageChunk"}:
            kind = str(fields.get("role"))
        kind = ROLES.get(kind, kind)
        # A message without the field looks for it in vain for as long as hashing it takes.
        calls, answers, name, others = (fields.get(each) for each in _FIELDS)
        asked = others.get("function_call") if others else None
        if isinstance(content, str) and not (calls or answers or name or asked):
            data = self._text(content)
            return _Part(kind, data, len(data), len(data))
        self._pieces, self._less, self._plain = [], 0, -1
        for block in (content,) if isinstance(content, str) else content:
            self._add_block(block)
        if calls or asked:
            self._add((name, answers, calls or (), *([asked] if asked else [])))
        elif answers or name:
            self._pieces += (self._text(str(name)), self._text(str(answers)), b"]", b"]")
        data = b"\x1f".join(self._pieces)
        return _Part(kind, data, len(data) - self._less, len(data) if self._plain < 0 else self._plain)

    def tool(self, value: object) -> bytes:
        """A tool, or how an answer is to look."""
        if isinstance(value, Mapping) and not CACHE_MARKS.isdisjoint(value):
            value = {name: each for name, each in value.items() if name not in CACHE_MARKS}
        try:
            text = _AS_JSON(value)
        except (TypeError, ValueError):  # No JSON: keys that are no text, or a circle.
            text = _AS_JSON(_listed(value))
        self._take(JSON_COSTS * len(text))
        return text.encode()

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _Unreadable

    def _text(self, text: str) -> bytes:
        self._take(len(text) + PIECE_COSTS)
        return text.encode("utf-8", "surrogatepass")

    def _add_block(self, block: object) -> None:
        """Add a block of content."""
        if not isinstance(block, Mapping):
            self._add(block)
            return
        kind, within = block.get("type"), block.get("content")
        if kind == "text" and isinstance(text := block.get("text"), str):
            # As where the message is a plain text: how it is wrapped is no part of the prompt.
            self._pieces.append(self._text(text))
        elif kind in MEDIA:
            before = len(self._pieces)
            if self._plain < 0:
                self._plain = sum(map(len, self._pieces)) + before
            self._add(block, is_media=True)
            added = self._pieces[before:]
            self._less += sum(map(len, added)) + len(added) - 1 - MEDIA_BYTES
        elif isinstance(within, list):  # A tool's result may hold images of its own.
            self._add({name: each for name, each in block.items() if name != "content"})
            for each in within:
                self._add_block(each)
            self._pieces.append(b"]")
        else:
            self._add(block)

    def _add(self, value: object, *, is_media: bool = False) -> None:
        """Add anything that a prompt may hold, in its own order: a provider's cache minds that, too."""
        if isinstance(value, str | bytes):
            if is_media and len(value) >= LARGE_BYTES:
                self._pieces.append(b"%d" % len(value))
                for piece in _samples(value):
                    self._add(piece)
            elif isinstance(value, str):
                self._pieces.append(self._text(value))
            else:
                self._take(len(value) + PIECE_COSTS)
                self._pieces.append(value)
        elif isinstance(value, Mapping):
            for name, each in value.items():
                if name not in CACHE_MARKS:
                    self._add(name)
                    self._add(each, is_media=is_media)
            self._pieces.append(b"}")
        elif isinstance(value, list | tuple):
            for each in value:
                self._add(each, is_media=is_media)
            self._pieces.append(b"]")
        elif value is None or isinstance(value, int | float):
            self._pieces.append(self._text(str(value)))
        else:
            self._add(_known(value), is_media=is_media)


def _samples(value: str | bytes) -> "tuple[str | bytes, ...]":
    """The head, the tail, and single letters at even distances between them."""
    step = len(value) // SAMPLE_BYTES
    return value[:SAMPLE_BYTES], value[SAMPLE_BYTES:-SAMPLE_BYTES:step], value[-SAMPLE_BYTES:]


def _known(value: object) -> object:
    """What is sent of an object, as JSON has it. Raises _Unreadable where nobody can tell."""
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, _SCALARS):
        return str(value)
    dump = None if isinstance(value, type | BaseTool) else getattr(value, "model_dump", None)
    try:
        if callable(dump):
            return [type(value).__name__, dump(mode="json")]
        if isinstance(value, type | BaseTool) or callable(value):
            return convert_to_openai_tool(value)
    except Exception as error:
        raise _Unreadable from error
    raise _Unreadable


def _listed(value: object, depth: int = 0) -> object:
    """The same with lists for mappings, whose keys may then be anything."""
    if depth > DEEPEST:
        raise _Unreadable
    if isinstance(value, Mapping):
        return ["{}", *([_listed(name, depth + 1), _listed(each, depth + 1)] for name, each in value.items())]
    if isinstance(value, list | tuple):
        return [_listed(each, depth + 1) for each in value]
    return value


_AS_JSON: Final = json.JSONEncoder(default=_known).encode


# --- digests ---------------------------------------------------------------------------------------------------------


def _digest(key: bytes, data: bytes, kind: bytes = b"") -> bytes:
    return blake2b(data, key=key, digest_size=DIGEST_BYTES, person=kind).digest()


def _message_digest(key: bytes, part: _Part) -> bytes:
    return _digest(key, part.data, part.kind.encode()[:PERSON])


def _whole(key: bytes, parts: Iterable[_Part], schemas: Sequence[bytes], size: int) -> Marks:
    messages = b"".join([_message_digest(key, part) for part in parts])
    beside_them = b"".join([_digest(key, each) for each in schemas])
    return Marks(whole=_digest(key, messages + b"\0" + beside_them), size=size)


def _inside(key: bytes, text: bytes, plain: int) -> tuple[bytes, tuple[bytes, ...]]:
    """The digest of a part, and those of its beginnings among its first `plain` bytes."""
    hashed = blake2b(key=key, digest_size=DIGEST_BYTES)
    inner = _beginnings(hashed, text, plain)
    hashed.update(memoryview(text)[LENGTHS[len(inner) - 1] if inner else 0 :])
    return hashed.digest(), inner


def _beginnings(hashed: blake2b, text: bytes, plain: int) -> tuple[bytes, ...]:
    """The digests of a part's beginnings; what they take in is hashed then."""
    view, inner = memoryview(text), []
    for start, stop in pairwise((0, *(length for length in LENGTHS if length < plain))):
        hashed.update(view[start:stop])
        inner.append(hashed.copy().digest())
    return tuple(inner)


def _plain_bytes(parts: Sequence[_Part]) -> int:
    """Bytes of all of them together before the first image or file."""
    size = -1
    for part in parts:
        size += 1 + part.plain
        if part.plain < len(part.data):
            break
    return size


def _ends(key: bytes, messages: Sequence[_Part]) -> tuple[tuple[End, ...], tuple[bytes, ...], bytes]:
    """The messages' ends that are marked, the digests of the last ones alone, and that of all of them together."""
    marked = _marked(messages)
    chain = blake2b(key=key, digest_size=DIGEST_BYTES)
    ends, recent, size = [], [], 0
    for number, part in enumerate(messages, 1):
        own = _message_digest(key, part)
        chain.update(own)
        size += part.size
        if number > len(messages) - RECENT:
            recent.append(own[:SHORT_BYTES])
        if number in marked:
            kind = part.kind if part.kind in KINDS else "other"
            ends.append(End(kind, number, size, chain.copy().digest()))
    if not messages:
        ends.append(End("system", 0, 0, chain.digest()))
    return tuple(ends), tuple(recent), chain.digest()


def _marked(messages: Sequence[_Part]) -> set[int]:
    """Which messages' ends are marked: two prompts of one conversation have the ends in common that both of them mark.

    Those at even distances are also marked in every longer prompt, or every second of them is.
    """
    count, step = len(messages), 1
    while count // step > RULED:
        step *= 2
    answered = [number for number in range(1, count) if messages[number].kind == "ai"][-ANSWERED:]
    asked = [number for number in range(1, count) if messages[number].kind == "human"][-ASKED:]
    return {1, count, *range(step, count, step), *answered, *asked}


def _without_times(text: bytes) -> bytes:
    """A system prompt without what a clock or a counter changes in it."""
    if len(text) > 2 * MASKED_BYTES:
        head, tail = text[:MASKED_BYTES], text[-MASKED_BYTES:]
        return _without_times(head) + text[MASKED_BYTES:-MASKED_BYTES] + _without_times(tail)
    return b" ".join([word if word.isalpha() else _timeless(word) for word in text.split() if word not in _NAMES])


def _timeless(word: bytes) -> bytes:
    rest = word.translate(None, _DIGITS)
    # What has no blanks in it, such as Chinese, is no single word: all of it would go.
    return rest if rest == word or len(word) > LONGEST_WORD else b""
