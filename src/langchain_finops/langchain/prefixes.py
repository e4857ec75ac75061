"""Digests of a prompt's prefixes, made when a call starts: what a cache could have read, and no text of it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Final

from langchain_core.messages import BaseMessage

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
RECENT: Final = 8
SYSTEM: Final = frozenset({"system", "developer"})
LONGEST_BYTES: Final = 8_000_000
"""Of a prompt of which digests are made: hashing it takes ten milliseconds, in which an event loop stands still."""
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
_AS_JSON: Final = json.JSONEncoder(default=lambda value: type(value).__name__).encode


class _Part:
    """A message as bytes that are equal for what reads the same."""

    __slots__ = ("data", "kind", "size")

    def __init__(self, kind: str, data: bytes, size: int) -> None:
        self.kind = kind
        self.data = data
        self.size = size


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

        None where it is too short, or too long. Marks of where a cache begins (`cache_control` and the like) are no
        part of a prompt.
        """
        extra = [] if BESIDE.isdisjoint(params) else beside(params)
        if not extra and _is_short(prompt):
            return None
        key = self._key()
        messages: Sequence[BaseMessage | str] = (prompt,) if isinstance(prompt, str) else prompt
        parts = [_part(message) for message in messages]
        schemas = [_tool(each) for each in extra]
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
            system, system_inner = _inside(key, text)
            masked = self._mask(key, system, text)
        messages = parts[begin:]
        ends, recent, chain = _ends(key, messages)
        first_inner = _inside(key, messages[0].data)[1] if messages and len(messages[0].data) > LENGTHS[0] else ()
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
        if not isinstance(content, str) or not content.isascii() or getattr(message, "tool_calls", None):
            return False
        size += len(content)
        if size >= LEAST_WHOLE_BYTES:
            return False
    return True


# --- parts -----------------------------------------------------------------------------------------------------------


def _part(message: BaseMessage | str) -> _Part:
    if isinstance(message, str):
        data = _utf8(message)
        return _Part("human", data, len(data))
    kind, content = message.type, message.content
    pieces: list[bytes] = []
    less = 0
    if isinstance(content, str):
        pieces.append(_utf8(content))
    else:
        for block in content:
            less += _add_block(pieces, block)
    calls, answers = getattr(message, "tool_calls", None), getattr(message, "tool_call_id", None)
    if calls or answers or message.name:
        _add(pieces, (message.name, answers, calls or ()))
    data = pieces[0] if len(pieces) == 1 else b"\x1f".join(pieces)
    return _Part(kind, data, len(data) - less)


def _add_block(pieces: list[bytes], block: object) -> int:
    """Add a block of content; how many bytes more than it counts for that takes."""
    if not isinstance(block, Mapping):
        _add(pieces, block)
        return 0
    kind = block.get("type")
    if kind == "text" and isinstance(text := block.get("text"), str):
        pieces.append(_utf8(text))  # As where the message is a plain text: how it is wrapped is no part of the prompt.
        return 0
    before = len(pieces)
    _add(pieces, block)
    if kind not in MEDIA:
        return 0
    return len(b"\x1f".join(pieces[before:])) - MEDIA_BYTES


def _add(pieces: list[bytes], value: object) -> None:
    """Add anything that a prompt may hold, in its own order: a provider's cache minds that, too."""
    if isinstance(value, str):
        pieces.append(_utf8(value))
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name not in CACHE_MARKS:
                pieces.append(_utf8(str(name)))
                _add(pieces, each)
        pieces.append(b"}")
    elif isinstance(value, list | tuple):
        for each in value:
            _add(pieces, each)
        pieces.append(b"]")
    else:
        pieces.append(value if isinstance(value, bytes) else _utf8(str(value)))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _tool(value: object) -> bytes:
    if isinstance(value, Mapping) and not CACHE_MARKS.isdisjoint(value):
        value = {name: each for name, each in value.items() if name not in CACHE_MARKS}
    try:
        return _utf8(_AS_JSON(value))
    except (TypeError, ValueError):  # No JSON: keys that are no text, or a circle.
        return _utf8(repr(value))


# --- digests ---------------------------------------------------------------------------------------------------------


def _digest(key: bytes, data: bytes, kind: bytes = b"") -> bytes:
    return blake2b(data, key=key, digest_size=DIGEST_BYTES, person=kind).digest()


def _message_digest(key: bytes, part: _Part) -> bytes:
    return _digest(key, part.data, part.kind.encode()[:PERSON])


def _whole(key: bytes, parts: Iterable[_Part], schemas: Sequence[bytes], size: int) -> Marks:
    messages = b"".join([_message_digest(key, part) for part in parts])
    beside_them = b"".join([_digest(key, each) for each in schemas])
    return Marks(whole=_digest(key, messages + b"\0" + beside_them), size=size)


def _inside(key: bytes, text: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The digest of a part, and those of its beginnings."""
    hashed = blake2b(key=key, digest_size=DIGEST_BYTES)
    view, inner, lengths = memoryview(text), [], [0, *(length for length in LENGTHS if length < len(text))]
    for start, stop in pairwise(lengths):
        hashed.update(view[start:stop])
        inner.append(hashed.copy().digest())
    hashed.update(view[lengths[-1] :])
    return hashed.digest(), tuple(inner)


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
    return {1, count, *range(step, count, step), *answered}


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
