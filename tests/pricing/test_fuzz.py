"""Whatever a provider or a caller writes into any slot, there is a cost, and it is honest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_finops.money import sum_usd
from langchain_finops.pricing import Cost, PriceBook
from langchain_finops.pricing.facts import MOST_TOKENS

BOOK = PriceBook()
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Message:
    """An AIMessage that nobody has checked."""

    usage_metadata: object = None
    response_metadata: object = field(default_factory=dict)
    content: object = ""
    additional_kwargs: object = field(default_factory=dict)


NUMBERS = st.integers() | st.integers(min_value=0, max_value=10**6) | st.floats() | st.booleans()
WORDS = st.text(max_size=8) | st.sampled_from(
    ["flex", "priority", "fast", "batch", "auto", "us", "eu", "1h", "12h", "high", "search", "web_search", "free"]
)
JUNK = st.recursive(
    st.none() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
MODELS = st.sampled_from(
    [
        ("openai", "gpt-4.1"),
        ("openai", "gpt-5.4"),
        ("openai", "gpt-realtime"),
        ("openai", "text-embedding-3-small"),
        ("openai", "omni-moderation-latest"),
        ("azure", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-haiku-5-5"),
        ("amazon_bedrock", "us.amazon.nova-pro-v1:0"),
        ("google_genai", "gemini-2.5-flash"),
        ("google_genai", "gemini-2.5-pro"),
        ("mistralai", "mistral-small-latest"),
        ("deepseek", "deepseek-flash"),
        ("xai", "grok-4.3"),
        ("perplexity", "sonar"),
        ("perplexity", "sonar-deep-research"),
        ("openrouter", "x/y:free"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("ollama", "llama3"),
    ]
)
DETAILS = st.dictionaries(
    st.sampled_from(
        [
            "cache_read", "cache_creation", "audio", "reasoning", "priority", "flex", "priority_cache_read",
            "flex_reasoning", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "cached_tokens",
            "citation_tokens", "cache_write_tokens_details",
        ]
    ),
    NUMBERS | JUNK,
)  # fmt: skip
USAGES = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": NUMBERS | JUNK,
        "output_tokens": NUMBERS | JUNK,
        "prompt_tokens": NUMBERS | JUNK,
        "input_token_details": DETAILS | JUNK,
        "output_token_details": DETAILS | JUNK,
        "total_cost": NUMBERS | JUNK,
    },
)
SAID = st.dictionaries(
    st.sampled_from(
        [
            "service_tier", "serviceTier", "usage", "token_usage", "grounding_metadata", "cost", "cost_details",
            "model_name", "model_provider", "search_context_size", "num_search_queries",
        ]
    ),
    USAGES | JUNK,
    max_size=4,
)  # fmt: skip
CONTEXTS = st.dictionaries(
    st.sampled_from(
        [
            "processing", "service_tier", "speed", "region", "server_tools", "cache_ttl", "search_context_size",
            "seconds", "x",
        ]
    ),
    JUNK,
    max_size=4,
)  # fmt: skip
CONTENTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["web_search_call", "server_tool_use", "web_search_tool_result", "text"])},
        optional={"action": JUNK, "name": WORDS, "content": JUNK, "status": WORDS},
    )
    | JUNK,
    max_size=3,
)


def price(message: Message, asked: object, context: object = None, at: datetime = AT) -> Cost:
    """Price it, whatever it is."""
    return BOOK.price_message(message, metadata=asked, at=at, context=context)  # type: ignore[arg-type]


def asked(model: tuple[str, str]) -> Mapping[str, str]:
    """The callback's metadata."""
    return {"ls_provider": model[0], "ls_model_name": model[1]}


@given(USAGES | JUNK, SAID | JUNK, CONTENTS | JUNK, MODELS, CONTEXTS | JUNK)
def test_whatever_is_written_anywhere_there_is_an_honest_cost(
    usage: object, said: object, content: object, model: tuple[str, str], context: object
) -> None:
    """No exception; the meters add up exactly; nothing is 0 unless it is free; no price has no amount."""
    message = Message(usage_metadata=usage, response_metadata=said, content=content)
    cost = price(message, asked(model), context)

    assert sum_usd(part.amount_usd for part in cost.by_meter.values()) == (cost.usd or 0)
    assert (cost.usd is None) == (cost.status == "unpriced")
    assert cost.usd is None or cost.usd > 0 or cost.status == "free"
    assert cost.status in ("exact", "free", "reported") or cost.reasons
    for part in cost.by_meter.values():
        assert part.quantity * part.unit_price_usd >= 0


@given(JUNK, JUNK, JUNK, st.datetimes(timezones=st.just(UTC)))
def test_whoever_answered_and_whenever_there_is_a_cost(
    provider: object, model: object, answering: object, at: datetime
) -> None:
    """Names of any kind, and moments from the first to the last."""
    message = Message(
        usage_metadata={"input_tokens": 10, "output_tokens": 5}, response_metadata={"model_name": answering}
    )
    cost = price(message, {"ls_provider": provider, "ls_model_name": model}, at=at)

    assert cost.usd is None or cost.usd >= 0


COUNT = st.integers(min_value=0, max_value=MOST_TOKENS // 4)
PARTS = st.fixed_dictionaries({"cache_read": COUNT, "cache_creation": COUNT, "audio": COUNT})
THRESHOLDS = (100_000, 127_999, 199_999, 200_000, 272_000)
MORE = st.sampled_from(["input_tokens", "output_tokens"])


@given(MODELS, st.tuples(COUNT, COUNT), PARTS, MORE, st.integers(min_value=1, max_value=10**6))
def test_more_tokens_never_cost_less_within_a_tier(
    model: tuple[str, str], totals: tuple[int, int], parts: Mapping[str, int], more: str, step: int
) -> None:
    """With the same parts, and on the same side of each threshold."""
    counts = {"input_tokens": totals[0] + sum(parts.values()), "output_tokens": totals[1]}
    larger = {**counts, more: counts[more] + step}
    sides = [[each["input_tokens"] > size for size in THRESHOLDS] for each in (counts, larger)]
    assume(sides[0] == sides[1])
    before, after = (
        price(Message(usage_metadata={**each, "input_token_details": parts}), asked(model)) for each in (counts, larger)
    )

    assert before.usd is None or (after.usd is not None and after.usd >= before.usd)
