"""The catalogue behind our words: conditions, dates and windows, of the one that ships and of one made by hand."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from langchain_finops.pricing.catalog import METER_OF_KEY, Catalog, Listing, catalog_version, shipped_catalog
from langchain_finops.pricing.engine import Rate

MODEL = ModelInfo(
    id="m",
    match=ClauseEquals("m"),
    prices=[
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2))),
        ConditionalPrice(
            constraint=StartDateConstraint(date(2026, 3, 1)),
            prices=ModelPrice(
                input_mtok=TieredPrices(base=Decimal(3), tiers=[Tier(start=100, price=Decimal(4))]),
                output_mtok=Decimal(5),
            ),
        ),
        ConditionalPrice(
            constraint=TimeOfDateConstraint(time(22, tzinfo=UTC), time(2, tzinfo=UTC)),
            prices=ModelPrice(input_mtok=Decimal(6), output_mtok=Decimal(7)),
        ),
    ],
    price_variants=[
        PriceVariant(when={"processing": "batch", "region": "x"}, prices=ModelPrice(input_mtok=Decimal(0))),
        PriceVariant(
            when={"processing": "batch"},
            prices=ModelPrice(input_mtok=Decimal(8)),
            constraint=StartDateConstraint(date(2026, 6, 1)),
        ),
        PriceVariant(when={"processing": "batch"}, prices=ModelPrice(input_mtok=Decimal(9), output_mtok=Decimal(1))),
        PriceVariant(when={"service_tier": "default"}, prices=ModelPrice()),
    ],
)
LATER = ModelInfo(
    id="later",
    match=ClauseEquals("later"),
    prices=[
        ConditionalPrice(
            constraint=StartDateConstraint(date(2026, 1, 1)), prices=ModelPrice(requests_kcount=Decimal(5))
        )
    ],
)
CATALOG = Catalog(
    DataSnapshot(
        providers=[
            Provider(id="p", name="P", api_pattern="p", models=[MODEL, LATER]),
            Provider(id="q", name="Q", api_pattern="q", fallback_model_providers=["p"]),
        ],
        from_auto_update=False,
    ),
    "book-1",
)


def listing(model: str = "m", provider: str = "p") -> Listing:
    """A listing that has to be there."""
    found = CATALOG.listing(provider, model)
    assert found is not None
    return found


def at(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rate(per_million: int, *steps: tuple[int, int]) -> Rate:
    """A rate in dollars a million."""
    return Rate(
        usd=Decimal(per_million).scaleb(-6), steps=tuple((above, Decimal(usd).scaleb(-6)) for above, usd in steps)
    )


@pytest.mark.parametrize(
    ("moment", "text", "card_id"),
    [
        ("2026-02-28T21:59:59", rate(1), "book-1:p/m"),
        ("2026-02-28T22:00:00", rate(6), "book-1:p/m"),
        ("2026-03-01T01:59:59", rate(6), "book-1:p/m"),
        ("2026-03-01T02:00:00", rate(3, (100, 4)), "book-1:p/m@2026-03-01"),
        ("2026-03-01T22:00:00", rate(6), "book-1:p/m"),
    ],
)
def test_the_last_price_whose_condition_holds_counts(moment: str, text: Rate, card_id: str) -> None:
    """By date and by hour, over midnight, and the card says since when."""
    rates, card, doubts = listing().standard(at(moment))

    assert (rates["input_tokens"], card, doubts) == (text, card_id, ())


def test_a_day_before_the_first_price_is_said() -> None:
    """The first price stands in, and the call is an estimate; a fee that the catalogue assumes is one as well."""
    assert listing("later").standard(at("2025-12-31T23:59:59"))[2] == ("request_fee_assumed", "before_first_price")
    assert listing("later").standard(at("2026-01-01T00:00:00"))[2] == ("request_fee_assumed",)
    assert listing("later").standard(at("2026-01-01T00:00:00"))[0] == {"requests": Rate(usd=Decimal("0.005"))}


def test_a_condition_changes_the_prices_it_names() -> None:
    """The first variant that names a price decides it; one for more conditions than one asks for does not count."""
    assert listing().variant(at("2026-05-31T12:00:00"), "processing", "batch") == {
        "input_tokens": rate(9),
        "output_tokens": rate(1),
    }
    assert listing().variant(at("2026-06-01T00:00:00"), "processing", "batch") == {
        "input_tokens": rate(8),
        "output_tokens": rate(1),
    }


def test_no_variant_is_another_thing_than_the_same_price() -> None:
    """The first is not known, the second is known to be the standard."""
    assert listing().variant(at("2026-06-01T00:00:00"), "service_tier", "flex") is None
    assert listing().variant(at("2026-06-01T00:00:00"), "service_tier", "default") == {}


def test_another_sellers_tiers_are_not_its_own() -> None:
    """Who sells a maker's model has the list price, but the maker's batch discount is nobody else's."""
    resold = listing(provider="q")

    assert (resold.provider, resold.own) == ("q", False)
    assert resold.standard(at("2026-01-01T12:00:00"))[0]["input_tokens"] == rate(1)
    assert resold.variant(at("2026-06-01T00:00:00"), "processing", "batch") is None


def test_boundaries_are_all_dates_and_the_hours_around() -> None:
    """Between two of them nothing changes."""
    found = set(listing().boundaries(at("2026-05-05T12:00:00")))

    assert {at("2026-03-01"), at("2026-06-01")} <= found
    assert {at("2026-05-05T22:00:00"), at("2026-05-05T02:00:00"), at("2026-05-06T02:00:00")} <= found


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_time_have_no_day_before_or_after(moment: datetime) -> None:
    """A date that makes no sense must not raise from within a callback."""
    assert list(listing().boundaries(moment))


@pytest.mark.parametrize(("provider", "model"), [("p", "n"), ("r", "m"), (None, "m")])
def test_what_is_not_listed_is_none(provider: str | None, model: str) -> None:
    """An unknown model, an unknown provider, a name that tells no provider."""
    assert CATALOG.listing(provider, model) is None


def test_the_shipped_catalogue_is_our_own() -> None:
    """Somebody who replaces the process-wide snapshot does not change our prices, and we do not change theirs."""
    before = get_snapshot()
    try:
        set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=False))
        assert shipped_catalog().listing("openai", "gpt-4.1") is not None
    finally:
        set_custom_snapshot(None)

    assert get_snapshot() is before
    assert shipped_catalog().name == catalog_version()
    assert catalog_version().startswith("genai-prices-0.")


def test_every_price_of_the_shipped_catalogue_is_known_or_left_out_on_purpose() -> None:
    """A new kind of price in a new version must not be overlooked."""
    from genai_prices.data import providers

    left_out = {
        "input_image_mtok", "output_image_mtok", "cache_image_read_mtok", "input_video_mtok", "output_video_mtok",
        "output_citation_mtok", "audio_hours", "input_audio_hours", "input_mchars",
        "input_document_kpages", "input_annotated_document_kpages", "storage_searches_kcount",
        "input_text_messages_kcount",
    }  # fmt: skip
    used: set[str] = set()
    for provider in providers:
        for info in provider.models:
            prices = info.prices if isinstance(info.prices, list) else [ConditionalPrice(prices=info.prices)]
            for entry in (*prices, *(info.price_variants or ())):
                used |= {key for key, value in vars(entry.prices).items() if value is not None}

    assert used <= left_out | set(METER_OF_KEY), used - left_out - set(METER_OF_KEY)


def test_openais_one_rate_for_writing_to_a_cache_is_for_thirty_minutes() -> None:
    """Twelve hours cost more, and are not in the catalogue."""
    found = shipped_catalog().listing("openai", "gpt-6.1-terra")
    assert found is not None
    rates = found.standard(at("2026-11-20"))[0]

    assert rates["cache_write_30m_tokens"] == rates["cache_write_5m_tokens"]
    assert "cache_write_12h_tokens" not in rates


@pytest.mark.parametrize("seller", ["openai", "azure"])
def test_models_before_gpt_5_6_charge_nothing_for_writing_to_a_cache(seller: str) -> None:
    """So what they wrote costs what input does, in each tier."""
    found = shipped_catalog().listing(seller, "gpt-4.1")
    assert found is not None
    rates = found.standard(at("2026-11-20"))[0]

    assert rates["cache_write_5m_tokens"] == rates["cache_write_30m_tokens"] == rates["input_tokens"]
    if seller == "openai":
        fast = found.variant(at("2026-11-20"), "service_tier", "priority")
        assert fast is not None
        assert fast["cache_write_5m_tokens"] == fast["input_tokens"]


def test_citations_cost_what_input_does() -> None:
    """So that what deep research read for its answer can be counted as input."""
    from genai_prices.data import providers

    found = 0
    for info in (info for provider in providers for info in provider.models):
        for entry in info.prices if isinstance(info.prices, list) else [ConditionalPrice(prices=info.prices)]:
            price = vars(entry.prices).get("output_citation_mtok")
            if price is not None:
                found += 1
                assert price == entry.prices.input_mtok
    assert found
