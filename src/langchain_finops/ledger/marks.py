"""What a ledger keeps of a call's prompt: keyed digests of its prefixes, with how long they are. Never any text.

A prompt is what goes in, in the order in which providers cache it: tools, system prompt, messages. Each of the three
has digests of its own, so that a change in one of them does not hide what stayed the same in the others. Lengths are
UTF-8 bytes; an image or another file counts as `MEDIA_BYTES`, whatever its size.
"""

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["DIGEST_BYTES", "LEAST_BYTES", "LEAST_WHOLE_BYTES", "LENGTHS", "MEDIA_BYTES", "End", "Marks", "read_marks"]

DIGEST_BYTES: Final = 8
"""Two different texts among a million have equal digests once in ten million ledgers."""
SHORT_BYTES: Final = 4
"""Of a single message's digest, which is compared with a few others of the same run only."""
LEAST_WHOLE_BYTES: Final = 200
"""About 50 tokens: a shorter prompt has no digests at all."""
LEAST_BYTES: Final = 2048
"""Hardly a prompt of 1,024 tokens is shorter, and few are cached that have fewer: it has a digest of the whole only."""
LENGTHS: Final = tuple(1024 * half << power >> 1 for power in range(8) for half in (2, 3))
"""Bytes after which a long part is marked inside: 1,024, 1,536, 2,048, 3,072 ... 196,608."""
MEDIA_BYTES: Final = 4_000
KINDS: Final = ("human", "ai", "tool", "system", "other")
"""Of messages, as the first byte of a mark numbers them."""
WHOLE, LONG = 1, 2
_HEAD: Final = struct.Struct(">BIIIBBBBB")
_END: Final = struct.Struct(f">BHI{DIGEST_BYTES}s")


class End(NamedTuple):
    """A message's end: what the messages up to it are the same as."""

    kind: str
    """Of the message that ends here: one of `KINDS`."""
    parts: int
    """Messages up to here, the system prompt apart."""
    size: int
    """Their bytes."""
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The digests of one prompt. Two are comparable if they are of one ledger."""

    whole: bytes
    """Of all of it. Prompts with equal ones are the same."""
    size: int
    """Its bytes."""
    tools: bytes | None = None
    """Of the tools and schemas in their order; None where there are none."""
    tools_sorted: bytes | None = None
    """The same whatever their order."""
    tools_size: int = 0
    system: bytes | None = None
    """Of the system prompt; None where there is none."""
    system_masked: bytes | None = None
    """The same without words that have digits in them, and names of days and months."""
    system_size: int = 0
    system_inner: tuple[bytes, ...] = ()
    """Of its first `LENGTHS[0]`, `LENGTHS[1]` ... bytes."""
    first_inner: tuple[bytes, ...] = ()
    """The same of the first message after it."""
    ends: tuple[End, ...] = ()
    """Some of the messages' ends, the last one among them; empty for a prompt below `LEAST_BYTES`."""
    recent: tuple[bytes, ...] = ()
    """Of each of the last messages alone, in order."""

    def to_bytes(self) -> bytes:
        """As short as it gets; `read_marks` reads it."""
        if not self.ends:
            return b"\1" + self.whole + self.size.to_bytes(8)
        flags = (self.tools is not None) | (self.system is not None) << 1
        counts = (len(self.system_inner), len(self.first_inner), len(self.ends), len(self.recent))
        return b"".join(
            (
                _HEAD.pack(LONG, self.size, self.tools_size, self.system_size, flags, *counts),
                self.whole,
                self.tools or b"",
                self.tools_sorted or b"",
                self.system or b"",
                self.system_masked or b"",
                *self.system_inner,
                *self.first_inner,
                *[
                    _END.pack(KINDS.index(kind), min(parts, 65_535), size, digest)
                    for kind, parts, size, digest in self.ends
                ],
                *self.recent,
            )
        )


def read_marks(data: bytes) -> Marks:
    """What `Marks.to_bytes` wrote. Raises ValueError for anything else, such as what a newer version writes."""
    try:
        if data[0] == WHOLE and len(data) == 1 + DIGEST_BYTES + 8:
            return Marks(whole=data[1 : 1 + DIGEST_BYTES], size=int.from_bytes(data[1 + DIGEST_BYTES :]))
        if data[0] == LONG:
            return _long(data)
    except (IndexError, struct.error) as error:
        raise ValueError(f"no digests of a prompt: {error}") from error
    raise ValueError(f"digests of a prompt in form {data[0]}, which this version does not know")


def _long(data: bytes) -> Marks:
    _, size, tools_size, system_size, flags, inner, first, ends, recent = _HEAD.unpack_from(data)
    at = _HEAD.size
    has_tools, has_system = bool(flags & 1), bool(flags & 2)
    count = 1 + 2 * has_tools + 2 * has_system + inner + first
    digests = [data[at + n * DIGEST_BYTES : at + (n + 1) * DIGEST_BYTES] for n in range(count)]
    at += count * DIGEST_BYTES
    messages = []
    for number in range(ends):
        kind, parts, length, digest = _END.unpack_from(data, at + number * _END.size)
        messages.append(End(KINDS[kind], parts, length, digest))
    at += ends * _END.size
    if len(data) != at + recent * SHORT_BYTES:
        raise ValueError("digests of a prompt were cut short")
    whole, *rest = digests
    tools, tools_sorted = (rest.pop(0), rest.pop(0)) if has_tools else (None, None)
    system, masked = (rest.pop(0), rest.pop(0)) if has_system else (None, None)
    return Marks(
        whole=whole,
        size=size,
        tools=tools,
        tools_sorted=tools_sorted,
        tools_size=tools_size,
        system=system,
        system_masked=masked,
        system_size=system_size,
        system_inner=tuple(rest[:inner]),
        first_inner=tuple(rest[inner:]),
        ends=tuple(messages),
        recent=tuple(data[at + n * SHORT_BYTES : at + (n + 1) * SHORT_BYTES] for n in range(recent)),
    )
