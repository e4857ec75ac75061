"""Token meters of one model call: disjoint, so that a token is counted and priced once."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter

__all__ = ["METERS", "TOKEN_METERS", "Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call consumed. Disjoint: a token is counted on one meter, except the informative subset below.

    Raises ValueError for counts that are no whole numbers, negative, or contradict each other.
    """

    input_tokens: int = 0
    """Input tokens that were neither audio nor read from or written to a cache."""
    cache_read_tokens: int = 0
    """Input tokens, not audio, read from the provider's prompt cache."""
    cache_write_5m_tokens: int = 0
    """Input tokens written to a cache that lives five minutes, or as long as the provider's default."""
    cache_write_30m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_write_12h_tokens: int = 0
    audio_input_tokens: int = 0
    """Audio input tokens that were not read from a cache."""
    cached_audio_tokens: int = 0
    """Audio input tokens read from a cache."""
    output_tokens: int = 0
    """Output tokens that are not audio. Reasoning is among them."""
    audio_output_tokens: int = 0
    reasoning_tokens: int = 0
    """Informative: the part of `output_tokens` that was hidden reasoning. Not a meter of its own."""
    web_searches: int = 0
    requests: int = 1
    """Requests that carry a fee: 1 for a call, however many answers (`n`) it asked for."""

    def __post_init__(self) -> None:
        counts = ALL_COUNTS(self)
        # A ledger makes a million of these for a report: most are sound, and one look in C tells.
        if set(map(type, counts)) != {int} or min(counts) < 0:
            self._refuse(counts)
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError(
                f"reasoning_tokens is {self.reasoning_tokens}, more than output_tokens, {self.output_tokens}"
            )

    def _refuse(self, counts: tuple[object, ...]) -> None:
        """Raise ValueError for the first meter that is no whole number of 0 or more."""
        for meter, count in zip(METERS_AND_REASONING, counts, strict=True):
            if type(count) is not int or count < 0:
                raise ValueError(f"{meter} is {count!r}: a meter is a whole number, 0 or more")

    @property
    def total_input_tokens(self) -> int:
        """All input tokens, cached, written and audio included."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_30m_tokens
            + self.cache_write_1h_tokens
            + self.cache_write_12h_tokens
            + self.audio_input_tokens
            + self.cached_audio_tokens
        )

    @property
    def total_output_tokens(self) -> int:
        """All output tokens, audio included."""
        return self.output_tokens + self.audio_output_tokens

    @property
    def total_tokens(self) -> int:
        """All tokens of the call."""
        return self.total_input_tokens + self.total_output_tokens


METERS = tuple(field.name for field in fields(Usage) if field.name != "reasoning_tokens")
"""The meters a price can be put on, in the order of the fields."""
TOKEN_METERS = tuple(name for name in METERS if name.endswith("_tokens"))
"""The meters that count tokens."""
METERS_AND_REASONING = tuple(field.name for field in fields(Usage))
"""The meters and the informative subset, in the order of the fields."""
ALL_COUNTS: Callable[[Usage], tuple[int, ...]] = attrgetter(*METERS_AND_REASONING)
"""The counts of a usage, in that order."""
