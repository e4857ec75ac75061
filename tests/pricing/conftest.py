"""What the tests of prices share: the shipped book, and a message that needs no LangChain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from langchain_finops.pricing import Cost, PriceBook

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""A Friday at noon, after every date that the catalogue knows of tiers and batches."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """An AIMessage as `price_message` sees it."""

    usage_metadata: Mapping[str, object] | None = None
    response_metadata: Mapping[str, object] = field(default_factory=dict)


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The shipped catalogue and overlay, and no card of anybody's."""
    return PriceBook()


PriceOf = Callable[..., Cost]


@pytest.fixture
def price_of(book: PriceBook) -> PriceOf:
    """Price one answer of a provider: its model, its tokens, and what else it says."""

    def price(
        provider: str | None,
        model: str | None,
        tokens: tuple[int, int] = (1000, 100),
        *,
        inputs: Mapping[str, int] | None = None,
        outputs: Mapping[str, int] | None = None,
        said: Mapping[str, object] | None = None,
        at: str | datetime = NOON,
        context: Mapping[str, object] | None = None,
        host: str | None = None,
    ) -> Cost:
        usage: dict[str, object] = {
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "total_tokens": sum(tokens),
            "input_token_details": dict(inputs or {}),
            "output_token_details": dict(outputs or {}),
        }
        metadata = {"ls_provider": provider, "ls_model_name": model}
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        reading = book.read(usage, dict(said or {}), metadata, at=moment, context=context, base_url_host=host)
        return book.price(reading)

    return price
