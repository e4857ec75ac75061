"""A stored call priced again costs what it would have cost if the book had been that one from the start."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.meter import Answer, Faults, Meter, OpenCall, Request
from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.pricing.again import is_matter_of_prices, price_call_again, price_tool_again
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord
from langchain_finops.usage import Usage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def usage(input_tokens: int, output_tokens: int, **details: Mapping[str, int]) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "input_token_details": details.get("inputs", {}),
        "output_token_details": details.get("outputs", {}),
    }


ANTHROPIC_RAW = {
    "input_tokens": 700,
    "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 100,
    "output_tokens": 50,
    "service_tier": "batch",
    "server_tool_use": {"web_search_requests": 2},
}
WRITES = {"cache_read": 200, "ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}
ANSWERS: dict[str, tuple[str, str, Answer]] = {
    "plain": ("openai", "gpt-4.1-mini", Answer(usage=usage(1000, 100))),
    "cached": ("openai", "gpt-4.1-mini", Answer(usage=usage(1000, 100, inputs={"cache_read": 400}))),
    "priority": (
        "openai", "gpt-4.1-mini",
        Answer(usage=usage(1000, 100, inputs={"priority": 1000}), response={"service_tier": "priority"}),
    ),
    "priority told by the keys of the details alone": (
        "openai", "gpt-4.1-mini", Answer(usage=usage(1000, 100, inputs={"priority_cache_read": 400, "priority": 600})),
    ),
    "a tier that nobody has a rate for": (
        "openai", "gpt-4.1-mini", Answer(usage=usage(1000, 100), response={"service_tier": "warp"}),
    ),
    "counts of Anthropic itself: batch and searches": (
        "anthropic", "claude-sonnet-4-5",
        Answer(usage=usage(1000, 50, inputs=WRITES), response={"usage": ANTHROPIC_RAW}),
    ),
    "Anthropic in America": (
        "anthropic", "claude-sonnet-5",
        Answer(usage=usage(1000, 50), response={"usage": {"cache_read_input_tokens": 0, "inference_geo": "us"}}),
    ),
    "a stream of Anthropic's, whose writes name no time to live": (
        "anthropic", "claude-sonnet-4-5", Answer(usage=usage(1000, 50, inputs={"cache_creation": 300})),
    ),
    "Bedrock's tier": (
        "amazon_bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0",
        Answer(usage=usage(1000, 50), response={"serviceTier": {"type": "priority"}}),
    ),
    "Gemini with grounding": (
        "google_genai", "gemini-3-flash-preview",
        Answer(usage=usage(1000, 50), response={"grounding_metadata": {"web_search_queries": ["a", "b", "c"]}}),
    ),
    "Perplexity's size of search": (
        "perplexity", "sonar",
        Answer(usage=usage(1000, 50), response={"search_context_size": "high", "num_search_queries": 1}),
    ),
    "Perplexity's deep research": (
        "perplexity", "sonar-deep-research",
        Answer(usage=usage(1000, 50, outputs={"reasoning": 70}), response={"num_search_queries": 7}),
    ),
    "reported by OpenRouter": (
        "openrouter", "openai/gpt-4.1-mini", Answer(usage=usage(1000, 50), response={"cost": 0.00123}),
    ),
    "a hit of LangChain's cache": ("openai", "gpt-4.1-mini", Answer(usage={**usage(1000, 100), "total_cost": 0})),
    "a stream that broke off": (
        "openai", "gpt-4.1-mini", Answer(usage=usage(1000, 3), whole=False, reasons=("stream_left",)),
    ),
    "cut off, with counts that are enough": (
        "openai", "gpt-4.1-mini", Answer(usage=usage(5000, 5000), whole=False, reasons=("cancelled",)),
    ),
    "no usage": ("openai", "gpt-4.1-mini", Answer(received_bytes=400)),
    "counts that contradict each other": (
        "openai", "gpt-4.1-mini", Answer(usage=usage(1000, 100, inputs={"cache_read": 5000})),
    ),
    "refused": (
        "openai", "gpt-4.1-mini",
        Answer(error=CallError(error_class="RateLimitError", http_status=429), charged=False, reasons=("http_error",)),
    ),
    "unknown": ("nobody", "nothing", Answer(usage=usage(1000, 100))),
}  # fmt: skip
BOOKS = {
    "the shipped one": [],
    "a contract": [{"id": "contract", "factor": 0.85}],
    "rates of our own": [
        {"id": "flat", "rates": {"input_tokens": 7, "output_tokens": 11, "cache_read_tokens": 1, "web_searches": 0.02}}
    ],
    "a machine": [{"id": "machine", "self_hosted": {"usd_per_instance_hour": 3600}}],
    "free": [{"id": "free", "free": True}],
    "no price at all": None,
}


@pytest.fixture(scope="module")
def books() -> dict[str, PriceBook]:
    return {
        name: PriceBook(catalog=False) if cards is None else PriceBook(cards=parse_cards(cards, where="test"))
        for name, cards in BOOKS.items()
    }


def metered(name: str, book: PriceBook) -> CallRecord:
    """The call as the meter writes it down, at a time that is always the same."""
    provider, model, answer = ANSWERS[name]
    metadata = {"ls_provider": provider, "ls_model_name": model}
    call = OpenCall(("c", "r", "i"), Attribution(node_path="a"), metadata, lambda: Request(60, 100, 1))
    call.started_at = AT
    return Meter(ledger=open_ledger(":memory:"), prices=book, faults=Faults()).close(call, replace(answer))


def figures(record: CallRecord) -> dict[str, Any]:
    """All fields, but for the moment it ended: the clock has gone on."""
    values = {each.name: getattr(record, each.name) for each in fields(record) if each.name != "ended_at"}
    return values | {"meter_usd": dict(record.meter_usd or {})}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_book_changes_nothing(name: str, books: dict[str, PriceBook]) -> None:
    """Whatever the answer told, the record keeps enough of it to come to the same cost, status and reasons."""
    record = metered(name, books["the shipped one"])

    assert figures(price_call_again(record, books["the shipped one"])) == figures(record)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("then", BOOKS)
def test_another_book_gives_what_it_would_have_given(name: str, then: str, books: dict[str, PriceBook]) -> None:
    """Metered by one and priced again by another is metered by the other, from any book to any book."""
    direct = metered(name, books[then])
    for first in BOOKS:
        again = price_call_again(metered(name, books[first]), books[then])
        if not is_matter_of_prices(again):
            continue  # A stated bill and a call that was not charged stay as they were.
        expected = figures(replace(direct, ended_at=again.ended_at))
        if then == "a machine":  # What that costs is the time it took, which no two runs share.
            share = Decimal(str((again.ended_at - AT).total_seconds()))
            assert again.cost_usd == share
            for field in ("cost_usd", "contracted_usd", "billed_usd", "meter_usd"):
                expected[field] = figures(again)[field]
        assert figures(again) == expected, first


@pytest.mark.parametrize("name", ["reported by OpenRouter", "refused"])
def test_what_no_book_decides_stays(name: str, books: dict[str, PriceBook]) -> None:
    """A bill that the provider stated and a call that was not charged are themselves, even at rates of one's own."""
    record = metered(name, books["the shipped one"])

    assert price_call_again(record, books["rates of our own"]) is record


def test_a_replay_stays_one(books: dict[str, PriceBook]) -> None:
    """Its list cost follows the book; nothing is billed, known price or not."""
    record = replace(metered("plain", books["the shipped one"]), billing_mode="replay", billed_usd=Decimal(0))
    priced = price_call_again(record, books["rates of our own"])
    unpriced = price_call_again(record, books["no price at all"])

    # 1000 x 7 + 100 x 11 millionths.
    assert (priced.cost_usd, priced.billed_usd, priced.billing_mode) == (Decimal("0.0081"), 0, "replay")
    assert (unpriced.cost_usd, unpriced.billed_usd, unpriced.billing_mode) == (None, 0, "replay")


def test_the_second_prompt_of_a_batch_pays_for_no_machine_time(books: dict[str, PriceBook]) -> None:
    """Its time is the first one's, which has paid for it."""
    machine = books["a machine"]
    record = replace(
        metered("plain", machine), cost_usd=Decimal(0), billing_mode="self_hosted", meter_usd={"seconds": Decimal(0)}
    )

    assert price_call_again(record, machine).cost_usd == 0


def test_an_alias_that_came_later_counts() -> None:
    """A deployment that nobody could price has its model's price once the user says which it is."""
    nameless = PriceBook()
    metadata = {"ls_provider": "azure", "ls_model_name": "our-deployment"}
    call = OpenCall(("c", "r", "i"), Attribution(), metadata, lambda: Request(1, 1, 1))
    call.started_at = AT
    meter = Meter(ledger=open_ledger(":memory:"), prices=nameless, faults=Faults())
    record = meter.close(call, Answer(usage=usage(1000, 100)))
    again = price_call_again(record, PriceBook(aliases={"our-deployment": "gpt-4.1-mini"}))

    assert record.cost_usd is None
    assert again.cost_usd == Decimal("0.00056")  # (1000 x 0.40 + 100 x 1.60) / 1,000,000


def charge(**more: Any) -> ChargeRecord:
    values: dict[str, Any] = {"charge_id": "c", "kind": "tool", "name": "search", "at": AT, "quantity": Decimal(3)}
    return ChargeRecord(**values | more)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (charge(), (Decimal("0.015"), "exact", "search")),
        (charge(cost_usd=Decimal(1), cost_status="exact", card_id="old"), (Decimal("0.015"), "exact", "search")),
        (charge(cost_usd=Decimal(1), cost_status="exact"), (Decimal(1), "exact", None)),  # a user named it
        (charge(kind="human", unit="minutes"), (None, "unpriced", None)),
        (charge(name="other", cost_usd=Decimal(1), card_id="old"), (Decimal(1), "unpriced", "old")),
    ],
)
def test_a_tool_is_priced_by_its_card(stored: ChargeRecord, expected: tuple[Any, ...]) -> None:
    """3 calls at $0.005. What a user named, what is no tool, and what has no card any more stays."""
    cards = parse_cards([{"id": "search", "tool": "search", "usd_per_call": "0.005"}], where="test")
    again = price_tool_again(stored, PriceBook(cards=cards, catalog=False))

    assert (again.cost_usd, again.cost_status, again.card_id) == expected


def test_a_record_without_raw_counts_is_priced_by_its_meters() -> None:
    """Somebody else may have written it; a call that is said to have cost an exact amount is not doubted."""
    cards = parse_cards([{"id": "c", "rates": {"input_tokens": 1, "output_tokens": 2}}], where="test")
    record = CallRecord(
        call_id="c", run_id="r", invocation_id="i", provider="p", model="m",
        usage=Usage(input_tokens=10, output_tokens=5), cost_usd=Decimal(1), cost_status="exact",
        started_at=AT, ended_at=AT,
    )  # fmt: skip
    again = price_call_again(record, PriceBook(cards=cards, catalog=False))

    assert (again.cost_usd, again.cost_status, again.reasons) == (Decimal("0.00002"), "exact", ())
    assert again.usage == record.usage


def test_counts_are_read_again_too() -> None:
    """A record of a version that did not know of cached tokens gets its meters from the raw counts."""
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-4.1-mini"}
    call = OpenCall(("c", "r", "i"), Attribution(), metadata, lambda: Request(1, 1, 1))
    call.started_at = AT
    meter = Meter(ledger=open_ledger(":memory:"), prices=PriceBook(), faults=Faults())
    record = meter.close(call, Answer(usage=usage(1000, 100, inputs={"cache_read": 400})))
    stored = replace(record, usage=Usage(input_tokens=1000, output_tokens=100), cost_usd=Decimal("0.00056"))
    again = price_call_again(stored, PriceBook())

    assert again.usage == Usage(input_tokens=600, cache_read_tokens=400, output_tokens=100)
    assert again.cost_usd == Decimal("0.00044")  # (600 x 0.40 + 400 x 0.10 + 100 x 1.60) / 1,000,000
