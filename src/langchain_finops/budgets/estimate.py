"""What a call is expected to use, and what one without reported usage is charged. Pure, but for the running means.

No tokenizer: a count of bytes is the same everywhere, needs no download, and an estimate is flagged as one anyway.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from operator import attrgetter
from typing import Literal, NamedTuple

from langchain_finops.usage import Usage

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "DEFAULT_SECONDS",
    "WRITE_METERS",
    "Expectation",
    "OutputSource",
    "Past",
    "Request",
    "bound",
    "charged_usage",
    "expect",
    "expected_output_tokens",
    "tokens_of_bytes",
]

DEFAULT_OUTPUT_TOKENS = 1_000
"""What a call is expected to answer where neither the request nor the past says how much."""
DEFAULT_SECONDS = 60
"""What a call is expected to take of a machine that is paid by the hour, where the past does not say how long."""
BYTES_PER_TOKEN = 4
"""UTF-8 bytes in a token: about right for English, and not far off for scripts that take three bytes a letter."""
KEYS_KEPT = 10_000
"""Pairs of node and model whose means are kept; later ones are expected to use the default."""
CALLS_WEIGHED = 1_000
"""Calls after which a model's measure of prompts is halved: what it does today counts more than what it did once."""
LEAST_SHARE = 10
"""A prompt is never taken for less than this part of its estimate: one odd count must not make all others free."""
LARGEST_RATIO = 2
"""What a model counts beyond this is no matter of its tokenizer, but a prompt of its own that comes on top of each."""

CACHE_METERS = (
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_30m_tokens",
    "cache_write_1h_tokens",
    "cache_write_12h_tokens",
)
"""Meters of input that the past tells to expect: read from a cache, and written to one."""
NOTHING_CACHED = (0,) * len(CACHE_METERS)
CACHED_TOKENS = attrgetter(*CACHE_METERS)
WRITE_METERS = CACHE_METERS[1:]
OUTPUT_METERS = frozenset({"output_tokens", "audio_output_tokens"})

OutputSource = Literal["max_tokens", "past", "expected_output_tokens", "default", "unbounded"]
"""Where an expectation of the output comes from."""


class Request(NamedTuple):
    """How large a call is, as far as its request tells."""

    prompt_tokens: int
    """Estimated tokens of the prompt and the tools that go with it."""
    max_tokens: int | None
    """Its own bound on the tokens of one answer."""
    answers: int
    """How many answers it has made (`n`, `best_of`)."""
    terms: tuple[tuple[str, str], ...] = ()
    """What it asks for that changes its price, as `context` names it: `service_tier`, `speed`, `region`."""
    meters: tuple[str, ...] = ()
    """What its tokens may be charged on besides plain input and output, such as what is written to a cache."""
    unmeasured: str | None = None
    """What the provider adds to its prompt that nobody here can see, such as a file by its id; None: nothing."""
    cache_ttl: str | None = None
    """How long all that it has written to a cache is to live, such as `1h`; None: it says several times, or none."""


class Expectation(NamedTuple):
    """What a call may use, and how we came to think so."""

    input_tokens: int
    """Of the whole prompt, cached or not."""
    output_tokens: int
    output_from: OutputSource
    strict: bool
    """True: bounds. False: expectations, which a call may pass."""
    cached: tuple[int, ...] = NOTHING_CACHED
    """How many of the input tokens are expected on each of `CACHE_METERS`."""
    meters: tuple[str, ...] = ()
    """Where a bound has to be dearest: what its tokens may be charged on besides plain input and output."""
    unmeasured: str | None = None
    """What keeps it from being a bound."""

    @property
    def usage(self) -> Usage:
        """The same as meters that can be priced."""
        if not any(self.cached):
            return Usage(input_tokens=self.input_tokens, output_tokens=self.output_tokens)
        read, five_minutes, half_an_hour, hour, half_a_day = self.cached
        return Usage(
            input_tokens=self.input_tokens - sum(self.cached),
            cache_read_tokens=read,
            cache_write_5m_tokens=five_minutes,
            cache_write_30m_tokens=half_an_hour,
            cache_write_1h_tokens=hour,
            cache_write_12h_tokens=half_a_day,
            output_tokens=self.output_tokens,
        )

    def dearest(self, price: Callable[[Usage], Decimal | None], *unasked: str) -> Usage:
        """The same on the meters that cost most, of those that it names and those that count `unasked`."""
        best, most = self.usage, price(self.usage)
        for plain, count in (("input_tokens", self.input_tokens), ("output_tokens", self.output_tokens)):
            start = best
            for meter in (*self.meters, *unasked):
                if (meter in OUTPUT_METERS) == (plain in OUTPUT_METERS):
                    moved = replace(start, **{plain: 0, meter: count})
                    amount = price(moved)
                    if amount is not None and (most is None or amount > most):
                        best, most = moved, amount
        return best

    @property
    def source(self) -> str:
        """From what it was estimated, in words."""
        prompt = "the bytes of the prompt and its tools" if self.strict else "the prompt and its tools"
        if self.cached[0]:
            prompt += f", {self.cached[0]:,} of them cached as so far"
        return f"{self.input_tokens:,} input tokens from {prompt}, {self.output_tokens:,} output tokens {self._why}"

    @property
    def _why(self) -> str:
        return {
            "max_tokens": "from the request's own maximum",
            "past": "from what this node and model answered so far",
            "expected_output_tokens": "from the budget's expected_output_tokens",
            "default": "because nothing says how many: pass max_tokens to the model, or expected_output_tokens to the "
            "budget",
            "unbounded": "because nothing bounds them",
        }[self.output_from]


def tokens_of_bytes(utf8_bytes: int) -> int:
    """Tokens in a text of so many UTF-8 bytes, rounded up."""
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def expected_output_tokens(
    *, max_tokens: int | None, past: int | None, answers: int = 1, promised: int | None = None
) -> tuple[int, OutputSource]:
    """Output tokens of a call, all answers: the stated maximum, else the past's mean, else the promise, else 1,000."""
    if max_tokens is not None:
        return max_tokens * answers, "max_tokens"
    if past is not None:
        return past, "past"
    if promised is not None:
        return promised * answers, "expected_output_tokens"
    return DEFAULT_OUTPUT_TOKENS * answers, "default"


def bounded_output_tokens(*, max_tokens: int | None, answers: int, promised: int | None) -> tuple[int, OutputSource]:
    """The same as a bound: the past is none. `unbounded` where neither the request nor the budget states one."""
    if max_tokens is not None:
        return max_tokens * answers, "max_tokens"
    if promised is not None:
        return promised * answers, "expected_output_tokens"
    return 0, "unbounded"


def expect(
    request: Request, past: "Past", *, node_path: str | None, model: str | None, promised: int | None = None
) -> Expectation:
    """What a call is expected to use. It may use more."""
    output, source = expected_output_tokens(
        max_tokens=request.max_tokens,
        past=None if request.max_tokens is not None else past.mean(node_path, model),
        answers=request.answers,
        promised=promised,
    )
    tokens = past.corrected(model, request.prompt_tokens)
    return Expectation(tokens, output, source, strict=False, cached=past.cached(node_path, model, tokens))


def bound(request: Request, prompt_bytes: int, *, promised: int | None = None) -> Expectation:
    """What a call can use at most: no token is less than a byte of the prompt."""
    output, source = bounded_output_tokens(max_tokens=request.max_tokens, answers=request.answers, promised=promised)
    if request.unmeasured is not None:
        source = "unbounded"
    meters, unmeasured = request.meters, request.unmeasured
    return Expectation(prompt_bytes, output, source, strict=True, meters=meters, unmeasured=unmeasured)


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


class Past:
    """What calls so far have used: means by node and model, and how prompts of a model are counted.

    Bounded; safe between threads.
    """

    __slots__ = ("_cached", "_lock", "_measured", "_sums")

    def __init__(self) -> None:
        self._cached: dict[tuple[str | None, str | None], list[int]] = {}
        self._sums: dict[tuple[str | None, str | None], list[int]] = {}
        self._measured: dict[str | None, list[int]] = {}
        self._lock = threading.RLock()

    def add(self, node_path: str | None, model: str | None, output_tokens: int, microseconds: int = 0) -> None:
        """Count a call that reported its usage."""
        key = (node_path, model)
        with self._lock:
            sums = self._sums.get(key)
            if sums is not None:
                sums[0] += 1
                sums[1] += output_tokens
                sums[2] += microseconds
            elif len(self._sums) < KEYS_KEPT:
                self._sums[key] = [1, output_tokens, microseconds]

    def add_prompt(self, node_path: str | None, model: str | None, usage: Usage) -> None:
        """Count how much of a call's prompt was read from a cache, and how much written to one."""
        cached, key = CACHED_TOKENS(usage), (node_path, model)
        with self._lock:
            sums = self._cached.get(key)
            if sums is None:
                # Calls before the first that was cached are not counted: most models never cache.
                if not any(cached) or len(self._cached) >= KEYS_KEPT:
                    return
                sums = self._cached[key] = [0, 0, *NOTHING_CACHED]
            added = (1, usage.total_input_tokens, *cached)
            sums = self._cached[key] = [before + more for before, more in zip(sums, added, strict=True)]
            if sums[0] >= CALLS_WEIGHED:
                self._cached[key] = [each // 2 for each in sums]

    def cached(self, node_path: str | None, model: str | None, tokens: int) -> tuple[int, ...]:
        """How many of a prompt's tokens to expect on each of `CACHE_METERS`, by their share so far; rounded down."""
        with self._lock:
            sums = self._cached.get((node_path, model))
        if sums is None or not sums[1]:
            return NOTHING_CACHED
        return tuple(tokens * each // sums[1] for each in sums[2:])

    def mean(self, node_path: str | None, model: str | None) -> int | None:
        """Mean output tokens, rounded up; None where no call has reported yet."""
        with self._lock:
            sums = self._sums.get((node_path, model))
            return None if sums is None else -(-sums[1] // sums[0])

    def microseconds(self, node_path: str | None, model: str | None) -> int | None:
        """Mean time of a call, rounded up; None where no call has reported yet."""
        with self._lock:
            sums = self._sums.get((node_path, model))
            return None if sums is None else -(-sums[2] // sums[0])

    def measure(self, model: str | None, *, estimated: int, reported: int) -> None:
        """Learn how many tokens a model really counted in a prompt."""
        if estimated <= 0 or reported <= 0:
            return
        with self._lock:
            sums = self._measured.get(model)
            if sums is None:
                if len(self._measured) < KEYS_KEPT:
                    self._measured[model] = [1, estimated, reported]
                return
            sums[0] += 1
            sums[1] += estimated
            sums[2] += reported
            if sums[0] >= CALLS_WEIGHED:
                self._measured[model] = [each // 2 for each in sums]

    def corrected(self, model: str | None, tokens: int) -> int:
        """An estimate of a prompt, by what the model has counted in others; rounded up."""
        with self._lock:
            sums = self._measured.get(model)
            if sums is None:
                return tokens
            calls, estimated, reported = sums
        on_top = reported - LARGEST_RATIO * estimated
        if on_top > 0:
            return LARGEST_RATIO * tokens - (-on_top // calls)
        return max(tokens // LEAST_SHARE, -(-tokens * reported // estimated))
