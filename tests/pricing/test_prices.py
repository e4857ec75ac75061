"""What calls cost, by hand from the providers' own pages, on both sides of every boundary.

Each expectation is written as the page says it: tokens times dollars per million, summed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from langchain_finops.pricing import Cost
from langchain_finops.pricing.catalog import Listing, shipped_catalog
from langchain_finops.pricing.overlay import shipped_overlay

PriceOf = Callable[..., Cost]

M = Decimal("0.000001")
"""One token at a dollar per million."""


def dollars(*parts: tuple[int, str]) -> Decimal:
    """Sum of (tokens, dollars per million)."""
    return sum((tokens * Decimal(price) for tokens, price in parts), Decimal(0)) * M


EXACT = [
    # https://developers.openai.com/api/docs/pricing
    ("openai", "gpt-4.1-mini-2025-04-14", {}, [(1000, "0.40"), (100, "1.60")]),
    ("openai", "gpt-4.1", {}, [(1000, "2"), (100, "8")]),
    ("openai", "gpt-4o", {}, [(1000, "2.50"), (100, "10")]),
    ("openai", "gpt-4o-mini", {}, [(1000, "0.15"), (100, "0.60")]),
    ("openai", "gpt-5", {}, [(1000, "1.25"), (100, "10")]),
    ("openai", "gpt-5-mini", {}, [(1000, "0.25"), (100, "2")]),
    ("openai", "o3", {"at": "2025-06-09T23:59:59Z"}, [(1000, "10"), (100, "40")]),
    ("openai", "o3", {"at": "2025-06-10T00:00:00Z"}, [(1000, "2"), (100, "8")]),
    ("openai", "gpt-4.1-mini", {"inputs": {"cache_read": 400}}, [(600, "0.40"), (400, "0.10"), (100, "1.60")]),
    ("openai", "gpt-5", {"inputs": {"cache_read": 999}}, [(1, "1.25"), (999, "0.125"), (100, "10")]),
    ("openai", "gpt-5", {"outputs": {"reasoning": 90}}, [(1000, "1.25"), (100, "10")]),
    (
        "openai",
        "gpt-6.1-terra",
        {"inputs": {"cache_read": 100, "cache_creation": 200}},
        [(700, "1"), (100, "0.05"), (200, "1.25"), (100, "5")],
    ),
    # Tiers and batch, as the page has them since October 2026; batch and flex were half by policy before.
    ("openai", "gpt-5-mini", {"said": {"service_tier": "flex"}}, [(1000, "0.125"), (100, "1")]),
    (
        "openai",
        "gpt-5-mini",
        {"said": {"service_tier": "flex"}, "at": "2026-10-11T23:59:59Z"},
        [(1000, "0.125"), (100, "1")],
    ),
    ("openai", "gpt-5-mini", {"said": {"service_tier": "priority"}}, [(1000, "0.45"), (100, "3.60")]),
    ("openai", "gpt-5-mini", {"said": {"service_tier": "fast"}}, [(1000, "0.45"), (100, "3.60")]),
    ("openai", "gpt-4.1", {"context": {"processing": "batch"}}, [(1000, "1"), (100, "4")]),
    (
        "openai",
        "gpt-4.1",
        {"context": {"processing": "batch"}, "at": "2026-10-13T23:59:59Z"},
        [(1000, "1"), (100, "4")],
    ),
    (
        "openai",
        "gpt-4.1",
        {"context": {"processing": "batch"}, "said": {"service_tier": "default"}},
        [(1000, "1"), (100, "4")],
    ),
    (
        "openai",
        "gpt-5-mini",
        {"said": {"service_tier": "flex"}, "inputs": {"cache_read": 400}, "at": "2026-10-12T00:00:00Z"},
        [(600, "0.125"), (400, "0.0125"), (100, "1")],
    ),
    (
        "openai",
        "gpt-5-mini",
        {"said": {"service_tier": "priority"}, "at": "2026-10-12T00:00:00Z"},
        [(1000, "0.45"), (100, "3.60")],
    ),
    # Half of two and eight dollars, which o3 has cost from that day on.
    (
        "openai",
        "o3",
        {"said": {"service_tier": "flex"}, "at": "2025-06-10T00:00:00Z"},
        [(1000, "1"), (100, "4")],
    ),
    # https://developers.openai.com/api/docs/models/gpt-4o-audio-preview.md
    (
        "openai",
        "gpt-4o-audio-preview",
        {"inputs": {"audio": 600}, "outputs": {"audio": 80}, "at": "2025-06-03T00:00:00Z"},
        [(400, "2.50"), (600, "40"), (20, "10"), (80, "80")],
    ),
    (
        "openai",
        "gpt-4o-mini-audio-preview-2024-12-17",
        {"inputs": {"audio": 600}, "outputs": {"audio": 80}},
        [(400, "0.15"), (600, "10"), (20, "0.60"), (80, "20")],
    ),
    # Azure's Global prices are OpenAI's.
    (
        "azure",
        "gpt-4.1-mini-2025-04-14",
        {"inputs": {"cache_read": 400}},
        [(600, "0.40"), (400, "0.10"), (100, "1.60")],
    ),
    # https://platform.claude.com/docs/en/about-claude/pricing
    ("anthropic", "claude-sonnet-4-5-20250929", {}, [(1000, "3"), (100, "15")]),
    ("anthropic", "claude-haiku-4-5-20251001", {}, [(1000, "1"), (100, "5")]),
    (
        "anthropic",
        "claude-opus-4-5-20251101",
        {
            "inputs": {
                "cache_read": 300,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 150,
                "ephemeral_1h_input_tokens": 50,
            }
        },
        [(500, "5"), (300, "0.50"), (150, "6.25"), (50, "10"), (100, "25")],
    ),
    (
        "anthropic",
        "claude-opus-4-5-20251101",
        {"said": {"usage": {"service_tier": "batch"}}},
        [(1000, "2.50"), (100, "12.50")],
    ),
    (
        "anthropic",
        "claude-3-5-haiku-20241022",
        {"context": {"processing": "batch"}, "at": "2025-03-01T00:00:00Z", "inputs": {"cache_read": 400}},
        [(600, "0.40"), (400, "0.04"), (100, "2")],
    ),
    (
        "anthropic",
        "claude-opus-4-6",
        {"said": {"usage": {"inference_geo": "us"}}, "inputs": {"cache_read": 400}},
        [(600, "5.50"), (400, "0.55"), (100, "27.50")],
    ),
    (
        "anthropic",
        "claude-opus-4-6",
        {"said": {"usage": {"inference_geo": "us", "service_tier": "batch"}}},
        [(1000, "2.75"), (100, "13.75")],
    ),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {"said": {"usage": {"server_tool_use": {"web_search_requests": 3}}}},
        [(1000, "3"), (100, "15"), (30_000, "1")],  # Three searches at a cent.
    ),
    ("anthropic", "claude-opus-4-8", {"said": {"usage": {"speed": "fast"}}}, [(1000, "10"), (100, "50")]),
    ("anthropic", "claude-haiku-5-5", {"tokens": (100_000, 100)}, [(100_000, "0.10"), (100, "0.50")]),
    ("anthropic", "claude-haiku-5-5", {"tokens": (100_001, 100)}, [(100_001, "0.50"), (100, "2.50")]),
    # https://aws.amazon.com/bedrock/pricing/: global as at Anthropic, a region 10% more.
    ("amazon_bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", {}, [(1000, "3"), (100, "15")]),
    ("amazon_bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", {}, [(1000, "3.30"), (100, "16.50")]),
    # https://ai.google.dev/gemini-api/docs/pricing
    ("google_genai", "gemini-2.5-flash", {}, [(1000, "0.30"), (100, "2.50")]),
    (
        "google_genai",
        "models/gemini-2.5-flash",
        {"inputs": {"cache_read": 400}},
        [(600, "0.30"), (400, "0.03"), (100, "2.50")],
    ),
    ("google_genai", "gemini-2.5-flash", {"inputs": {"audio": 400}}, [(600, "0.30"), (400, "1"), (100, "2.50")]),
    ("google_genai", "gemini-2.5-pro", {"tokens": (200_000, 100)}, [(200_000, "1.25"), (100, "10")]),
    ("google_genai", "gemini-2.5-pro", {"tokens": (200_001, 100)}, [(200_001, "2.50"), (100, "15")]),
    ("google_genai", "gemini-2.5-pro", {"inputs": {"audio": 400}}, [(1000, "1.25"), (100, "10")]),
    ("google_vertexai", "publishers/google/models/gemini-2.5-flash", {}, [(1000, "0.30"), (100, "2.50")]),
    (
        "google_genai",
        "gemini-2.5-flash",
        {"said": {"grounding_metadata": {"web_search_queries": ["a", "b"]}}},
        [(1000, "0.30"), (100, "2.50"), (35_000, "1")],  # One grounded prompt at 3.5 cents.
    ),
    ("google_genai", "gemini-3.6-flash", {"at": "2026-12-31T23:59:59Z"}, [(1000, "0.75"), (100, "3.75")]),
    ("google_genai", "gemini-3.6-flash", {"at": "2027-01-01T00:00:00Z"}, [(1000, "1.50"), (100, "7.50")]),
    # https://groq.com/pricing, https://mistral.ai/pricing, https://docs.x.ai/docs/models
    ("groq", "llama-3.3-70b-versatile", {"said": {"service_tier": "on_demand"}}, [(1000, "0.59"), (100, "0.79")]),
    ("xai", "grok-4-0709", {"inputs": {"cache_read": 400}}, [(600, "3"), (400, "0.75"), (100, "15")]),
    ("xai", "grok-4.3", {"tokens": (199_999, 100)}, [(199_999, "1.25"), (100, "2.50")]),
    ("xai", "grok-4.3", {"tokens": (200_000, 100)}, [(200_000, "2.50"), (100, "5")]),
]


@pytest.mark.parametrize(("provider", "model", "more", "parts"), EXACT)
def test_a_call_costs_what_the_price_page_says(
    price_of: PriceOf, provider: str, model: str, more: Mapping[str, object], parts: list[tuple[int, str]]
) -> None:
    """To the last digit, and the status says so."""
    cost = price_of(provider, model, **more)

    assert (cost.usd, cost.status, cost.reasons) == (dollars(*parts), "exact", ())
    assert cost.contracted_usd == cost.billed_usd == cost.usd
    assert sum(part.amount_usd for part in cost.by_meter.values()) == cost.usd


DEEPSEEK = [
    # https://api-docs.deepseek.com/quick_start/pricing, at different times; input, cache hit, output per million.
    ("deepseek-chat", "2024-12-26T00:00:00Z", "0.14", "0.014", "0.28"),
    ("deepseek-chat", "2025-02-08T15:59:59Z", "0.14", "0.014", "0.28"),
    ("deepseek-chat", "2025-02-08T16:00:00Z", "0.27", "0.07", "1.10"),
    ("deepseek-chat", "2025-02-26T16:29:59Z", "0.27", "0.07", "1.10"),
    ("deepseek-chat", "2025-02-26T16:30:00Z", "0.135", "0.035", "0.55"),
    ("deepseek-chat", "2025-02-27T00:29:59Z", "0.135", "0.035", "0.55"),
    ("deepseek-chat", "2025-02-27T00:30:00Z", "0.27", "0.07", "1.10"),
    ("deepseek-chat", "2025-09-05T15:59:59Z", "0.27", "0.07", "1.10"),
    ("deepseek-chat", "2025-09-05T16:00:00Z", "0.56", "0.07", "1.68"),
    ("deepseek-chat", "2025-09-06T20:00:00Z", "0.56", "0.07", "1.68"),
    ("deepseek-chat", "2025-09-28T15:59:59Z", "0.56", "0.07", "1.68"),
    ("deepseek-chat", "2025-09-30T00:00:00Z", "0.28", "0.028", "0.42"),
    ("deepseek-reasoner", "2026-04-23T15:59:59Z", "0.28", "0.028", "0.42"),
    ("deepseek-chat", "2026-04-26T12:15:00Z", "0.14", "0.0028", "0.28"),
    ("deepseek-chat", "2026-07-24T15:58:59Z", "0.14", "0.0028", "0.28"),
    ("deepseek-reasoner", "2025-02-20T20:00:00Z", "0.55", "0.14", "2.19"),
    ("deepseek-reasoner", "2025-03-20T20:00:00Z", "0.135", "0.035", "0.55"),
    ("deepseek-reasoner", "2025-03-20T12:00:00Z", "0.55", "0.14", "2.19"),
    ("deepseek-v4-flash", "2026-04-26T12:15:00Z", "0.14", "0.0028", "0.28"),
    ("deepseek-v4-flash", "2026-08-10T02:00:00Z", "0.14", "0.0028", "0.28"),
    ("deepseek-v4-flash", "2026-08-16T15:59:59Z", "0.14", "0.0028", "0.28"),
    ("deepseek-v4-flash", "2026-08-16T16:00:00Z", "0.22", "0.007", "0.66"),
    ("deepseek-v4-flash", "2026-08-22T02:00:00Z", "0.44", "0.014", "1.32"),  # A Saturday, under the first rule.
    ("deepseek-v4-flash", "2026-08-23T02:00:00Z", "0.22", "0.007", "0.66"),  # A Sunday, under the second.
    ("deepseek-v4-flash", "2026-08-24T00:59:59Z", "0.22", "0.007", "0.66"),
    ("deepseek-v4-flash", "2026-08-24T01:00:00Z", "0.44", "0.014", "1.32"),
    ("deepseek-v4-flash", "2026-08-24T03:59:59Z", "0.44", "0.014", "1.32"),
    ("deepseek-v4-flash", "2026-08-24T04:00:00Z", "0.22", "0.007", "0.66"),
    ("deepseek-v4-flash", "2026-09-10T03:59:59Z", "0.44", "0.014", "1.32"),
    ("deepseek-v4-flash", "2026-09-10T04:00:00Z", "0.15", "0.003", "0.60"),
    ("deepseek-flash", "2026-11-20T09:59:59Z", "0.30", "0.006", "1.20"),
    ("deepseek-flash", "2026-11-20T10:00:00Z", "0.15", "0.003", "0.60"),
    ("deepseek-flash", "2026-11-21T07:00:00Z", "0.15", "0.003", "0.60"),  # A Saturday.
    ("deepseek-flash", "2026-09-25T07:00:00Z", "0.15", "0.003", "0.60"),  # Mid-Autumn, a Friday.
    ("deepseek-flash", "2026-10-07T07:00:00Z", "0.15", "0.003", "0.60"),  # The last day of the National Day holiday,
    ("deepseek-flash", "2026-10-08T07:00:00Z", "0.30", "0.006", "1.20"),  # and the first after it.
    ("deepseek-flash", "2026-12-31T09:59:59Z", "0.30", "0.006", "1.20"),
    ("deepseek-flash", "2027-01-01T00:59:59Z", "0.15", "0.003", "0.60"),  # A Friday, before its peak.
    ("deepseek-flash", "2027-01-02T07:00:00Z", "0.15", "0.003", "0.60"),  # A Saturday.
    ("deepseek-v4-pro", "2026-04-28T00:00:00Z", "0.435", "0.003625", "0.87"),
    ("deepseek-v4-pro", "2026-08-10T02:00:00Z", "0.435", "0.003625", "0.87"),
    ("deepseek-v4-pro", "2026-09-30T07:00:00Z", "1.32", "0.044", "3.96"),
    ("deepseek-v4-pro", "2026-10-01T07:00:00Z", "0.66", "0.022", "1.98"),
    ("deepseek-v4-pro", "2026-11-22T07:00:00Z", "0.66", "0.022", "1.98"),
    ("deepseek-v4-pro", "2026-12-31T07:00:00Z", "1.32", "0.044", "3.96"),
    ("deepseek-v4-pro", "2027-01-04T12:00:00Z", "0.66", "0.022", "1.98"),
]


@pytest.mark.parametrize("row", DEEPSEEK, ids=lambda row: f"{row[0]} {row[1]}")
def test_deepseeks_prices_by_date_weekday_and_hour(price_of: PriceOf, row: tuple[str, str, str, str, str]) -> None:
    """Date and hours have to hold both; weekends and holidays have no peak."""
    model, at, text, cached, output = row
    cost = price_of("deepseek", model, inputs={"cache_read": 400}, at=at)

    assert (cost.usd, cost.status) == (dollars((600, text), (400, cached), (100, output)), "exact")


DEEPSEEK_IN_DOUBT = [
    # What could not be confirmed, likewise; a changing price's higher one, and why it is in doubt.
    ("deepseek-chat", "2024-12-25T23:59:59Z", "0.14", "0.014", "0.28", "rate_inferred"),
    ("deepseek-chat", "2025-09-28T16:00:00Z", "0.56", "0.07", "1.68", "hour_not_known"),
    ("deepseek-reasoner", "2025-09-29T23:59:59Z", "0.56", "0.07", "1.68", "hour_not_known"),
    ("deepseek-chat", "2026-04-23T16:00:00Z", "0.28", "0.028", "0.42", "hour_not_known"),
    ("deepseek-chat", "2026-04-24T23:59:59Z", "0.28", "0.028", "0.42", "hour_not_known"),
    ("deepseek-chat", "2026-04-25T00:00:00Z", "0.14", "0.028", "0.28", "rate_not_confirmed"),
    ("deepseek-v4-flash", "2026-04-26T12:14:59Z", "0.14", "0.028", "0.28", "rate_not_confirmed"),
    ("deepseek-v4-pro", "2026-04-27T23:59:59Z", "1.74", "0.145", "3.48", "hour_not_known"),
    ("deepseek-chat", "2026-07-24T15:59:00Z", "0.27", "0.07", "1.10", "rate_not_confirmed"),
    ("deepseek-flash", "2027-01-01T01:00:00Z", "0.30", "0.006", "1.20", "holidays_not_announced"),
    ("deepseek-v4-flash", "2027-02-08T09:59:59Z", "0.30", "0.006", "1.20", "holidays_not_announced"),
    ("deepseek-v4-pro", "2027-01-01T07:00:00Z", "1.32", "0.044", "3.96", "holidays_not_announced"),
]


@pytest.mark.parametrize("row", DEEPSEEK_IN_DOUBT, ids=lambda row: f"{row[0]} {row[1]}")
def test_what_nobody_confirmed_of_deepseeks_prices_is_an_estimate(
    price_of: PriceOf, row: tuple[str, str, str, str, str, str]
) -> None:
    """On the other side of the boundaries above."""
    model, at, text, cached, output, reason = row
    cost = price_of("deepseek", model, inputs={"cache_read": 400}, at=at)

    assert cost.usd == dollars((600, text), (400, cached), (100, output))
    assert (cost.status, cost.reasons) == ("estimated", (reason,))


UNSURE = [
    # What the call costs at the best of our knowledge, and what is missing.
    ("openai", "gpt-4.1", {"said": {"service_tier": "flex"}}, [(1000, "2"), (100, "8")], "no_rate:service_tier=flex"),
    ("openai", "gpt-4.1", {"said": {"service_tier": "auto"}}, [(1000, "2"), (100, "8")], "no_rate:service_tier=auto"),
    ("openai", "gpt-4.1", {"said": {"service_tier": "gold"}}, [(1000, "2"), (100, "8")], "no_rate:service_tier=gold"),
    (
        "openai",
        "o1-mini",
        {"context": {"processing": "batch"}},
        [(1000, "1.10"), (100, "4.40")],
        "no_rate:processing=batch",
    ),
    (
        "azure",
        "gpt-5-mini",
        {"said": {"service_tier": "flex"}},
        [(1000, "0.25"), (100, "2")],
        "no_rate:service_tier=flex",
    ),
    (
        "anthropic",
        "claude-opus-4-5",
        {"said": {"usage": {"service_tier": "priority"}}},
        [(1000, "5"), (100, "25")],
        "no_rate:service_tier=priority",
    ),
    (
        "anthropic",
        "claude-opus-4-5",
        {"said": {"usage": {"inference_geo": "us"}}},
        [(1000, "5"), (100, "25")],
        "no_rate:geography=us",
    ),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {"said": {"usage": {"speed": "fast"}}},
        [(1000, "3"), (100, "15")],
        "no_rate:speed=fast",
    ),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {"inputs": {"cache_creation": 200}},
        [(800, "3"), (200, "3.75"), (100, "15")],
        "cache_ttl_assumed",
    ),
    ("openai", "gpt-4.1", {"host": "gateway.example"}, [(1000, "2"), (100, "8")], "unknown_endpoint"),
    (None, "gpt-4.1", {}, [(1000, "2"), (100, "8")], "provider_guessed"),
    (
        "openai",
        "gpt-4o-2024-05-13",
        {"inputs": {"cache_read": 400}},
        [(1000, "5"), (100, "15")],
        "no_rate:cache_read_tokens",
    ),
    (
        "google_genai",
        "gemini-2.5-flash",
        {"inputs": {"cache_read": 400}, "at": "2025-07-01T00:00:00Z"},
        [(600, "0.30"), (400, "0.075"), (100, "2.50")],
        "no_rate:cache_read_tokens",
    ),
    (
        "google_genai",
        "gemini-2.5-flash",
        {"inputs": {"cache_read": 700, "audio": 400}},
        [(600, "0.03"), (300, "1"), (100, "0.10"), (100, "2.50")],
        "cached_audio_assumed",
    ),
    (
        "groq",
        "llama-3.3-70b-versatile",
        {"said": {"service_tier": "performance"}},
        [(1000, "0.59"), (100, "0.79")],
        "no_rate:service_tier=performance",
    ),
    (
        "openai",
        "gpt-4o-audio-preview-2024-10-01",
        {"inputs": {"audio": 600}, "outputs": {"audio": 80}},
        [(400, "2.50"), (600, "100"), (20, "10"), (80, "200")],
        "rate_not_confirmed",
    ),
    (
        "openai",
        "gpt-4o-audio-preview",
        {"inputs": {"audio": 600}, "outputs": {"audio": 80}, "at": "2025-06-02T23:59:59Z"},
        [(400, "2.50"), (600, "40"), (20, "10"), (80, "80")],
        "rate_not_confirmed",
    ),
    (
        "openai",
        "gpt-5.5-pro",
        {"context": {"processing": "batch"}, "at": "2026-10-13T23:59:59Z"},
        [(1000, "15"), (100, "90")],
        "rate_inferred",
    ),
    (
        "openai",
        "gpt-5.5-pro",
        {"said": {"service_tier": "flex"}, "at": "2026-10-11T23:59:59Z"},
        [(1000, "15"), (100, "90")],
        "rate_inferred",
    ),
    (
        "openai",
        "gpt-3.5-turbo-1106",
        {"context": {"processing": "batch"}, "at": "2026-10-13T23:59:59Z"},
        [(1000, "1"), (100, "2")],
        "rate_inferred",
    ),
    # The policy of one half is silent about cached input.
    (
        "openai",
        "gpt-5-mini",
        {"said": {"service_tier": "flex"}, "inputs": {"cache_read": 400}, "at": "2026-10-11T23:59:59Z"},
        [(600, "0.125"), (400, "0.0125"), (100, "1")],
        "no_rate:cache_read_tokens",
    ),
    # The page has no rate for cached input in a batch of GPT-4.1: the standard one stands in.
    (
        "openai",
        "gpt-4.1",
        {"context": {"processing": "batch"}, "inputs": {"cache_read": 400}},
        [(600, "1"), (400, "0.50"), (100, "4")],
        "no_rate:cache_read_tokens",
    ),
    ("openai", "gpt-4.1", {"inputs": {"cache_read": 1500}}, [(1000, "0.50"), (100, "8")], "clamped:cache_read_tokens"),
    (
        "mistralai",
        "mistral-small-latest",
        {"context": {"server_tools": {"web_search": 2}}},
        [(1000, "0.15"), (100, "0.60")],
        "no_rate:web_searches",
    ),
]


@pytest.mark.parametrize("row", UNSURE, ids=lambda row: f"{row[0]} {row[1]} {row[4]}")
def test_what_is_not_known_for_certain_is_an_estimate_with_its_reason(
    price_of: PriceOf, row: tuple[str | None, str, Mapping[str, object], list[tuple[int, str]], str]
) -> None:
    """The standard price, or the stand-in's, and never a silent one."""
    provider, model, more, parts, reason = row
    cost = price_of(provider, model, **more)

    assert (cost.usd, cost.status) == (dollars(*parts), "estimated")
    assert reason in cost.reasons


UNPRICED = [
    ("openai", "gpt-99", {}, "unknown_model"),
    ("openai", "gpt-99", {"at": "1999-01-01T00:00:00Z"}, "unknown_model"),
    ("scripted", "gpt-4.1", {}, "unknown_provider"),
    ("my-openai-proxy", "gpt-4.1", {}, "unknown_provider"),
    ("ollama", "llama3.2", {}, "unknown_provider"),
    (None, "some-model", {}, "unknown_provider"),
    ("openai", None, {}, "no_model_named"),
    ("openai", "omni-moderation-latest", {}, "listed_without_price"),
    ("google_genai", "gemma-3-27b-it", {}, "listed_without_price"),
    ("openai", "gpt-4.1", {"inputs": {"audio": 10}}, "no_rate:audio_input_tokens"),
    ("openai", "gpt-4.1", {"outputs": {"audio": 10}}, "no_rate:audio_output_tokens"),
    ("openai", "gpt-live-transcribe", {}, "listed_without_price"),
    ("openai", "text-embedding-3-small", {}, "no_rate:output_tokens"),
    ("openai", "gpt-4.1", {"tokens": (0, 0)}, "no_usage_reported"),
]


@pytest.mark.parametrize(("provider", "model", "more", "reason"), UNPRICED)
def test_what_has_no_price_is_unpriced_and_not_free(
    price_of: PriceOf, provider: str | None, model: str | None, more: Mapping[str, object], reason: str
) -> None:
    """No amount at all, and why."""
    cost = price_of(provider, model, **more)

    assert (cost.usd, cost.contracted_usd, cost.billed_usd, cost.status) == (None, None, None, "unpriced")
    assert reason in cost.reasons
    assert dict(cost.by_meter) == {}


def test_batch_and_flex_are_half_in_the_catalogue() -> None:
    """What makes their rates of before exact: the catalogue agrees with OpenAI's policy wherever it is relied on."""
    overlay, _ = shipped_overlay()
    before, later = datetime(2026, 10, 11, tzinfo=UTC), datetime(2026, 10, 14, tzinfo=UTC)
    compared = 0
    for model in shipped_catalog()._providers["openai"].models:
        listing = Listing(catalog="", provider="openai", info=model, own=True)
        standard = listing.standard(later)[0]
        for when in (("processing", "batch"), ("service_tier", "flex")):
            entry, rates = overlay.find("openai", model.id, before, when), listing.variant(later, *when)
            if entry is None or entry.doubt or rates is None:
                continue
            compared += 1
            for meter in ("input_tokens", "output_tokens"):
                if meter in standard:
                    assert rates[meter].times(Decimal(2)) == standard[meter], (model.id, when, meter)
    assert compared > 20


def test_a_snapshots_first_day_ends_what_is_remembered(price_of: PriceOf) -> None:
    """A price that was in doubt the day before is not, on the same book, from that day on, and the other way round."""
    days = ["2024-02-28T23:59:59Z", "2024-02-29T00:00:00Z", "2024-02-28T23:59:59Z"]
    found = [price_of("anthropic", "claude-3-opus-20240229", at=day).reasons for day in days]

    assert found == [("before_release",), (), ("before_release",)]
