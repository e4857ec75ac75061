"""What a prompt, a tool's arguments or its result are the same as: keyed hashes, so that no text is kept anywhere."""

import json
import secrets
from collections.abc import Sequence
from hashlib import blake2b

from langchain_core.messages import BaseMessage

__all__ = ["Digests"]

DIGEST_BYTES = 16


class Digests:
    """Hashes with a key of this handler's own, which is never stored: nobody can guess texts by their hashes."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of_prompt(self, prompt: Sequence[BaseMessage] | str) -> bytes:
        """Of what a model reads; ids of messages, which are new each time, are left out."""
        if isinstance(prompt, str):
            return self.of_value(prompt)
        calls = [getattr(message, "tool_calls", None) for message in prompt]
        return self.of_value(
            [
                (message.type, message.content, [(call.get("name"), call.get("args")) for call in each or ()])
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


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=str, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
