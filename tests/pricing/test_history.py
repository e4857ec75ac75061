"""A model's prices through time: each once, none missing between the first and the last, and those in force marked."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
import yaml

from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.pricing.history import Period

CARDS = """
- {id: first, match: {model: m}, rates: {input_tokens: 1, output_tokens: 2}, from: 2026-01-01, until: 2026-06-01}
- {id: second, match: {model: m}, rates: {input_tokens: 3, output_tokens: 4}, from: 2026-06-01}
- {id: half, match: {provider: openai}, factor: 0.5, from: 2026-03-01}
"""


def told(periods: list[Period]) -> list[tuple[object, ...]]:
    """What a reader sees of them."""
    return [
        (
            period.condition,
            period.starts and f"{period.starts:%Y-%m-%d}",
            period.until and f"{period.until:%Y-%m-%d}",
            period.in_force,
            period.source.card_id,
            dict(period.prices).get("input_tokens"),
        )
        for period in periods
    ]


@pytest.fixture(scope="module")
def cards() -> PriceBook:
    return PriceBook(cards=parse_cards(yaml.safe_load(CARDS), where="cards.yaml"), catalog=False)


def test_cards_follow_each_other(cards: PriceBook) -> None:
    """What nobody priced, before the first, is not shown."""
    found = cards.history("m", provider="p", at=datetime(2026, 3, 1, tzinfo=UTC))

    assert told(found) == [
        ("standard", "2026-01-01", "2026-06-01", True, "first", Decimal(1)),
        ("standard", "2026-06-01", None, False, "second", Decimal(3)),
    ]
    assert found[0].kind == "rates"
    assert found[0].source.kind == "card"


def test_before_the_first_card_there_is_no_price(cards: PriceBook) -> None:
    """That is then what is in force, with its reason; what comes later stands below."""
    unpriced, *later = cards.history("m", provider="p", at=datetime(2025, 3, 1, tzinfo=UTC))

    assert (unpriced.kind, unpriced.in_force, unpriced.starts) == ("unpriced", True, None)
    assert unpriced.quote.reasons == ("not_on_a_card",)
    assert [period.source.card_id for period in later] == ["second", "first"]


def test_periods_of_one_price_are_one_and_never_overlap(book: PriceBook) -> None:
    """DeepSeek's holidays cut its off-peak price in two, and no date lies in both parts or in none."""
    found = book.history("deepseek-v4-flash", provider="deepseek", at=datetime(2026, 11, 20, 12, tzinfo=UTC))
    standard = sorted(
        (period for period in found if period.condition == "standard"),
        key=lambda period: period.starts or datetime.min.replace(tzinfo=UTC),
    )

    assert len(standard) > 4
    for earlier, later in pairwise(standard):
        assert earlier.until == later.starts


def test_the_price_in_force_is_that_of_the_hour(book: PriceBook) -> None:
    """Asked at a peak hour, the peak price is the standard one, and the other hours are told beside it."""
    found = book.history("deepseek-v4-flash", provider="deepseek", at=datetime(2026, 11, 20, 2, tzinfo=UTC))
    in_force = {period.condition: dict(period.prices)["input_tokens"] for period in found if period.in_force}

    assert in_force["standard"] == Decimal("0.3")
    assert Decimal("0.15") in in_force.values()


def test_conditions_with_a_price_of_their_own_are_told(book: PriceBook) -> None:
    """Tiers and batches that the provider sells; none that it does not."""
    found = book.history("gpt-4.1-mini", at=datetime(2026, 11, 20, tzinfo=UTC))
    conditions = {period.condition for period in found if period.in_force}

    assert conditions == {"standard", "batch", "priority"}
    assert all(period.provider == "openai" for period in found)


def test_every_price_in_force_is_what_a_call_pays(book: PriceBook) -> None:
    """A million tokens of input at that moment cost what is shown."""
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-haiku-4-5"), ("mistral", "codestral-2508")):
        shown = next(period for period in book.history(model, provider=provider, at=at) if period.in_force)
        usage = {"input_tokens": 1000, "output_tokens": 0}
        cost = book.price(book.read(usage, {}, {"ls_provider": provider, "ls_model_name": model}, at=at))

        assert cost.usd == dict(shown.prices)["input_tokens"] / 1000
