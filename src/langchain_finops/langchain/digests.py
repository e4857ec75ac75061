"""What a prompt, a tool's arguments or its result are the same as: keyed hashes, so that no text is kept anywhere."""

import json
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from langchain_core.messages import BaseMessage

from langchain_finops.langchain.extract import CACHE_MARKS

__all__ = ["Digests"]

DIGEST_BYTES = 16


class Digests:
    """Hashes with a key of this handler's own, which is never stored: nobody can guess texts by their hashes."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of_prompt(self, prompt: Sequence[BaseMessage] | str) -> bytes:
        """Of what a model reads; ids of messages, which are new each time, and marks of caches are left out."""
        if isinstance(prompt, str):
            return self.of_value(prompt)
        calls = [getattr(message, "tool_calls", None) or () for message in prompt]
        return self.of_value(
            [
                (message.type, _unmarked(message.content), [_asked_for(call) for call in each])
                for message, each in zip(prompt, calls, strict=True)
            ]
        )

    def of_result(self, output: object) -> bytes:
        """Of what a tool brought."""
        return self.of_value(getattr(output, "content", output))

    def of_value(self, value: object) -> bytes:
        """Of anything; equal for what reads the same as JSON."""
        text = value if isinstance(value, str) else _json(value)
        return blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=DIGEST_BYTES).digest()


def _asked_for(call: object) -> object:
    """What a message wants called, without the id; what has another shape, as it is."""
    return (call.get("name"), call.get("args")) if isinstance(call, Mapping) else call


def _unmarked(content: object) -> object:
    """A message's content without marks of what is to be cached, and a single block of text as that text."""
    if not isinstance(content, list) or not any(
        isinstance(each, Mapping) and CACHE_MARKS & each.keys() for each in content
    ):
        return content
    blocks = [
        {name: value for name, value in each.items() if name not in CACHE_MARKS} if isinstance(each, Mapping) else each
        for each in content
    ]
    is_text = len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].keys() == {"type", "text"}
    return blocks[0]["text"] if is_text else blocks


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=str, sort_keys=True)
    except Exception:  # noqa: BLE001  The text of a user's own object may fail in any way.
        return _repr(value)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  As above.
        return reprlib.repr(value)  # Short, but never fails.
