"""What a call is expected to use, and what one without reported usage is charged. Pure, but for the running means.

No tokenizer: a count of bytes is the same everywhere, needs no download, and an estimate is flagged as one anyway.
"""

import threading
from dataclasses import replace

from langchain_finops.usage import Usage

__all__ = ["DEFAULT_OUTPUT_TOKENS", "PastOutput", "charged_usage", "expected_output_tokens", "tokens_of_bytes"]

DEFAULT_OUTPUT_TOKENS = 1_000
"""What a call is expected to answer where neither the request nor the past says how much."""
BYTES_PER_TOKEN = 4
"""UTF-8 bytes in a token: about right for English, and not far off for scripts that take three bytes a letter."""
KEYS_KEPT = 10_000
"""Pairs of node and model whose means are kept; later ones are expected to use the default."""


def tokens_of_bytes(utf8_bytes: int) -> int:
    """Tokens in a text of so many UTF-8 bytes, rounded up."""
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def expected_output_tokens(*, max_tokens: int | None, past: int | None, answers: int = 1) -> int:
    """Output tokens to hold for a call: the stated maximum for each answer, else the past's mean, else 1,000."""
    if max_tokens is not None:
        return max_tokens * answers
    return DEFAULT_OUTPUT_TOKENS * answers if past is None else past


def charged_usage(reported: Usage | None, *, prompt_tokens: int, received_tokens: int, expected_tokens: int) -> Usage:
    """Usage to charge for a call whose own count is missing or broken off.

    Output is the larger of what was expected and what the text received shows: hidden reasoning is billed too. Input
    is what a broken-off answer reported so far, else the estimate of the prompt.
    """
    output = max(received_tokens, expected_tokens)
    if reported is None:
        return Usage(input_tokens=prompt_tokens, output_tokens=output)
    missing_input = 0 if reported.total_input_tokens else prompt_tokens
    return replace(
        reported,
        input_tokens=reported.input_tokens + missing_input,
        output_tokens=max(output, reported.output_tokens),
    )


class PastOutput:
    """Mean output tokens of the calls so far, for each node and model. Bounded; safe between threads."""

    __slots__ = ("_lock", "_sums")

    def __init__(self) -> None:
        self._sums: dict[tuple[str | None, str | None], list[int]] = {}
        self._lock = threading.RLock()

    def add(self, node_path: str | None, model: str | None, output_tokens: int) -> None:
        """Count a call that reported its usage."""
        key = (node_path, model)
        with self._lock:
            sums = self._sums.get(key)
            if sums is not None:
                sums[0] += 1
                sums[1] += output_tokens
            elif len(self._sums) < KEYS_KEPT:
                self._sums[key] = [1, output_tokens]

    def mean(self, node_path: str | None, model: str | None) -> int | None:
        """Mean, rounded up; None where no call has reported yet."""
        with self._lock:
            sums = self._sums.get((node_path, model))
            return None if sums is None else -(-sums[1] // sums[0])
