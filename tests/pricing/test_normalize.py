"""Each integration's way of counting becomes the same disjoint meters."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.pricing import PriceBook, Reading
from langchain_finops.usage import Usage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def read(
    usage: Mapping[str, object] | None,
    said: Mapping[str, object] | None = None,
    provider: str = "openai",
    model: str = "a-model",
    **more: object,
) -> Reading:
    """Read one answer with a book of nothing."""
    book = PriceBook(catalog=False)
    return book.read(usage, said or {}, {"ls_provider": provider, "ls_model_name": model}, at=AT, **more)  # type: ignore[arg-type]


def counted(inputs: int, outputs: int, **details: Mapping[str, object]) -> dict[str, object]:
    """Usage as LangChain writes it."""
    return {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs, **details}


def test_openai_details_are_parts_of_the_totals() -> None:
    """1000 input tokens, 400 of them cached and 100 audio, leave 500; reasoning stays in the output."""
    reading = read(
        counted(
            1000,
            200,
            input_token_details={"cache_read": 400, "audio": 0, "cache_creation": 0},
            output_token_details={"reasoning": 150, "audio": 20},
        )
    )

    assert reading.usage == Usage(
        input_tokens=600, cache_read_tokens=400, output_tokens=180, audio_output_tokens=20, reasoning_tokens=150
    )
    assert reading.reasons == ()
    assert not reading.estimated


@pytest.mark.parametrize("tier", ["priority", "flex"])
def test_openai_renames_the_details_of_a_tier(tier: str) -> None:
    """Key `priority` is input without cache reads and still holds cache writes: it is no meter of its own."""
    details = {f"{tier}_cache_read": 400, f"{tier}_cache_creation": 100, tier: 600}
    reading = read(
        counted(
            1000,
            200,
            input_token_details=details,
            output_token_details={f"{tier}_reasoning": 50, tier: 150},
        ),
        {"service_tier": tier},
    )

    assert reading.usage == Usage(
        input_tokens=500,
        cache_read_tokens=400,
        cache_write_5m_tokens=100,
        output_tokens=200,
        reasoning_tokens=50,
    )
    assert reading.key.tier == tier
    assert not reading.estimated


def test_the_renamed_details_tell_the_tier_where_nothing_else_does() -> None:
    """A stream that lost `service_tier` still has the keys."""
    reading = read(counted(10, 5, input_token_details={"flex": 10}, output_token_details={"flex": 5}))

    assert reading.key.tier == "flex"


@pytest.mark.parametrize(
    ("said", "tier", "batch"),
    [
        ("default", None, False),
        ("standard", None, False),
        ("on_demand", None, False),
        ("flex", "flex", False),
        ("priority", "priority", False),
        ("fast", "priority", False),
        ("Priority", "priority", False),
        ("batch", None, True),
        ("auto", "auto", False),
        ("scale", "scale", False),
        ("", None, False),
        (None, None, False),
        (7, None, False),
    ],
)
def test_service_tiers(said: object, tier: str | None, batch: bool) -> None:
    """`fast` is what OpenAI calls priority now; a name that nobody knows stays, so that no price is guessed for it."""
    reading = read(counted(10, 5), {"service_tier": said})

    assert (reading.key.tier, reading.key.batch) == (tier, batch)


@pytest.mark.parametrize("said", ["flex", "auto", "on_demand"])
def test_groq_names_the_tier_that_was_asked_for(said: str) -> None:
    """Flex costs the same there, and `auto` is either of the two."""
    assert read(counted(10, 5), {"service_tier": said}, provider="groq").key.tier is None
    assert read(counted(10, 5), {"service_tier": "performance"}, provider="groq").key.tier == "performance"


def test_anthropic_invoke_tells_how_long_a_cache_lives() -> None:
    """`cache_creation` is 0 then, and the split holds the tokens; its raw counts hold tier, speed, place, searches."""
    reading = read(
        counted(
            1000,
            200,
            input_token_details={
                "cache_read": 300,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 150,
                "ephemeral_1h_input_tokens": 50,
            },
        ),
        {
            "model_name": "claude-opus-4-6",
            "usage": {
                "service_tier": "batch",
                "speed": "fast",
                "inference_geo": "us",
                "server_tool_use": {"web_search_requests": 2},
            },
        },
        provider="anthropic",
    )

    assert reading.usage == Usage(
        input_tokens=500,
        cache_read_tokens=300,
        cache_write_5m_tokens=150,
        cache_write_1h_tokens=50,
        output_tokens=200,
        web_searches=2,
    )
    key = reading.key
    assert (key.batch, key.tier, key.speed, key.geography) == (True, None, "fast", "us")
    assert not reading.estimated


@pytest.mark.parametrize(
    "said",
    [
        {
            "usage": {
                "service_tier": "standard",
                "speed": "standard",
                "inference_geo": "global",
                "server_tool_use": None,
            }
        },
        {"usage": {"inference_geo": "not_available"}},
        {"usage": "none"},
        {"usage": None},
        {},
    ],
)
def test_anthropic_without_anything_unusual(said: Mapping[str, object]) -> None:
    """The standard is no condition."""
    key = read(counted(10, 5), said, provider="anthropic").key

    assert (key.batch, key.tier, key.speed, key.geography) == (False, None, None, None)


def test_an_anthropic_stream_does_not_tell_how_long_a_cache_lives() -> None:
    """Five minutes is the default, so it is assumed and said; a caller who knows may say so instead."""
    usage = counted(1000, 200, input_token_details={"cache_read": 300, "cache_creation": 200})
    assumed = read(usage, provider="anthropic")
    known = read(usage, provider="anthropic", context={"cache_ttl": "1h"})

    assert assumed.usage == Usage(input_tokens=500, cache_read_tokens=300, cache_write_5m_tokens=200, output_tokens=200)
    assert assumed.reasons == ("cache_ttl_assumed",)
    assert assumed.estimated
    assert known.usage == Usage(input_tokens=500, cache_read_tokens=300, cache_write_1h_tokens=200, output_tokens=200)
    assert not known.estimated


def test_a_split_that_names_the_written_tokens_again_is_not_added() -> None:
    """Some adapters keep the sum beside the split: 200 written tokens are 150 and 50, not 400."""
    details = {"cache_creation": 200, "ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50}
    reading = read(counted(1000, 1, input_token_details=details), provider="amazon_bedrock")

    assert reading.usage == Usage(
        input_tokens=800, cache_write_5m_tokens=150, cache_write_1h_tokens=50, output_tokens=1
    )


def test_bedrock_keeps_its_tier_elsewhere() -> None:
    """`serviceTier` is a mapping in the response metadata of Converse."""
    key = read(counted(10, 5), {"serviceTier": {"type": "flex"}}, provider="amazon_bedrock").key

    assert (key.provider, key.tier) == ("aws", "flex")


@pytest.mark.parametrize(
    ("model", "searches"), [("gemini-2.5-flash", 1), ("models/gemini-2.0-flash", 1), ("gemini-3.5-flash", 3)]
)
def test_google_charges_a_prompt_or_each_query(model: str, searches: int) -> None:
    """Up to Gemini 2.5 a grounded prompt, from Gemini 3 on every search query."""
    grounding = {"grounding_metadata": {"web_search_queries": ["a", "b", "c"]}}
    usage = read(counted(10, 5), grounding, provider="google_genai", model=model).usage

    assert usage == Usage(input_tokens=10, output_tokens=5, web_searches=searches)


@pytest.mark.parametrize("grounding", [None, {}, {"web_search_queries": []}, {"web_search_queries": 7}, "x"])
def test_google_without_a_search(grounding: object) -> None:
    """No query, no fee."""
    usage = read(
        counted(10, 5), {"grounding_metadata": grounding}, provider="google_genai", model="gemini-2.5-pro"
    ).usage

    assert usage == Usage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize(
    ("said", "reported"),
    [
        ({"cost": 0.00014}, Decimal("0.00014")),
        ({"token_usage": {"cost": 0.00014}}, Decimal("0.00014")),
        ({"cost": 0, "cost_details": {"upstream_inference_cost": 0.02}}, Decimal("0.02")),
        ({"cost": 0}, Decimal(0)),
        ({"cost": None}, None),
        ({}, None),
    ],
)
def test_openrouter_says_what_it_billed(said: Mapping[str, object], reported: Decimal | None) -> None:
    """Read by its repr; with the user's own key it is the provider who charged."""
    assert read(counted(10, 5), said, provider="openrouter").reported_usd == reported


@pytest.mark.parametrize("cost", [-1, float("nan"), float("inf"), "free", [1], 1e30, 1_000_000.01])
def test_a_reported_cost_that_is_none_is_not_believed(cost: object) -> None:
    """It is said, and the price is looked up."""
    reading = read(counted(10, 5), {"cost": cost}, provider="openrouter")

    assert reading.reported_usd is None
    assert reading.reasons == ("bad_reported_cost",)


def test_a_cost_that_another_provider_reports_is_not_taken_for_dollars() -> None:
    """Only OpenRouter documents that field."""
    assert read(counted(10, 5), {"cost": 3}).reported_usd is None


def test_deepseek_names_cache_hits_its_own_way() -> None:
    """Where the adapter drops the details, the provider's own counts have them."""
    said = {"token_usage": {"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4}}

    assert read(counted(10, 5), said, provider="deepseek").usage == Usage(
        input_tokens=4, cache_read_tokens=6, output_tokens=5
    )


def test_details_that_an_adapter_dropped_are_found_in_the_raw_counts() -> None:
    """As Mistral's adapter does."""
    said = {
        "token_usage": {
            "prompt_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
    }

    assert read(counted(10, 5), said, provider="mistralai").usage == Usage(
        input_tokens=4, cache_read_tokens=6, output_tokens=5, reasoning_tokens=2
    )


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, {"model_name": "davinci-002"}),
        (None, {"token_usage": {"prompt_tokens": 10, "completion_tokens": 5}, "model_name": "davinci-002"}),
        ({}, {"usage": {"input_tokens": 10, "output_tokens": 5}}),
    ],
)
def test_a_completion_models_counts_have_other_names(usage: dict[str, object], said: dict[str, object]) -> None:
    """`llm_output` may be read as it is."""
    assert read(usage, said).usage == Usage(input_tokens=10, output_tokens=5)


def test_a_cache_hit_is_seen() -> None:
    """LangChain adds `total_cost: 0` to an answer from its own cache, and nothing else changes."""
    assert read({**counted(10, 5), "total_cost": 0}).cache_hit
    assert not read(counted(10, 5)).cache_hit
    assert not read({**counted(10, 5), "total_cost": 0.5}).cache_hit


@pytest.mark.parametrize(
    "usage", [None, {}, counted(0, 0), {"input_tokens": None, "output_tokens": None}, "17 tokens", {"total_tokens": 9}]
)
def test_no_usage_is_not_zero_usage(usage: object) -> None:
    """A call without a single token does not exist: nothing was reported."""
    reading = read(usage)  # type: ignore[arg-type]

    assert reading.usage is None
    assert reading.reasons == ("no_usage_reported",)


@pytest.mark.parametrize(
    ("usage", "expected", "doubts"),
    [
        (  # More read from the cache than came in: no more than all of it was.
            counted(100, 5, input_token_details={"cache_read": 150}),
            Usage(cache_read_tokens=100, output_tokens=5),
            ("clamped:cache_read_tokens",),
        ),
        (  # The dear writes stay, the cheap reads give way.
            counted(100, 5, input_token_details={"cache_read": 80, "cache_creation": 50}),
            Usage(cache_read_tokens=50, cache_write_5m_tokens=50, output_tokens=5),
            ("clamped:cache_read_tokens",),
        ),
        (
            counted(100, 5, output_token_details={"reasoning": 9}),
            Usage(input_tokens=100, output_tokens=5, reasoning_tokens=5),
            ("clamped:reasoning_tokens",),
        ),
        (
            counted(100, 5, output_token_details={"audio": 9}),
            Usage(input_tokens=100, audio_output_tokens=5),
            ("clamped:audio_output_tokens",),
        ),
        ({"input_tokens": -3, "output_tokens": 5}, Usage(output_tokens=5), ("clamped:input_tokens",)),
        ({"input_tokens": "many", "output_tokens": 5}, Usage(output_tokens=5), ("bad_count:input_tokens",)),
        ({"input_tokens": True, "output_tokens": 5}, Usage(output_tokens=5), ("bad_count:input_tokens",)),
        ({"input_tokens": 7.0, "output_tokens": 5}, Usage(input_tokens=7, output_tokens=5), ()),
        ({"input_tokens": 7.5, "output_tokens": 5}, Usage(output_tokens=5), ("bad_count:input_tokens",)),
        (
            {"input_tokens": 10**30, "output_tokens": 5},
            Usage(input_tokens=10**9, output_tokens=5),
            ("clamped:input_tokens",),
        ),
        (
            counted(100, 5, input_token_details={"cache_read": -4}),
            Usage(input_tokens=100, output_tokens=5),
            ("clamped:cache_read",),
        ),
    ],
)
def test_counts_that_contradict_each_other_are_clamped_and_said(
    usage: dict[str, object], expected: Usage, doubts: tuple[str, ...]
) -> None:
    """Nothing raises, and such a call is an estimate."""
    reading = read(usage)

    assert reading.usage == expected
    assert reading.reasons == doubts
    assert reading.estimated == bool(doubts)


def test_counts_that_are_all_clamped_away_are_no_usage() -> None:
    """Otherwise a negative count would make a call that costs nothing."""
    reading = read({"input_tokens": -5, "output_tokens": "x"})

    assert reading.usage is None
    assert reading.reasons == ("clamped:input_tokens", "bad_count:output_tokens", "no_usage_reported")


@pytest.mark.parametrize(
    ("audio", "cached", "expected"),
    [
        (40, 60, Usage(cache_read_tokens=60, audio_input_tokens=40, output_tokens=1)),
        (41, 60, Usage(cache_read_tokens=59, audio_input_tokens=40, cached_audio_tokens=1, output_tokens=1)),
        (100, 60, Usage(audio_input_tokens=40, cached_audio_tokens=60, output_tokens=1)),
        (30, 60, Usage(input_tokens=10, cache_read_tokens=60, audio_input_tokens=30, output_tokens=1)),
    ],
)
def test_what_is_audio_and_cached_is_taken_to_be_little(audio: int, cached: int, expected: Usage) -> None:
    """Nobody reports the overlap; it is as small as 100 input tokens allow, and the call an estimate."""
    reading = read(counted(100, 1, input_token_details={"audio": audio, "cache_read": cached}))

    assert reading.usage == expected
    assert reading.reasons == ("cached_audio_assumed",)


def test_what_the_caller_states_replaces_what_the_answer_says() -> None:
    """Never adds to it."""
    said = {"usage": {"service_tier": "standard", "inference_geo": "us", "server_tool_use": {"web_search_requests": 5}}}
    context = {"processing": "batch", "server_tools": {"web_search": 2}, "region": "global", "speed": "standard"}
    reading = read(counted(10, 5), said, provider="anthropic", context=context)

    assert reading.usage == Usage(input_tokens=10, output_tokens=5, web_searches=2)
    assert (reading.key.batch, reading.key.geography, reading.key.speed) == (True, None, None)
    assert not reading.estimated


def test_a_batch_has_no_tier() -> None:
    """OpenAI's answers say `default` in a batch; the renamed details of a tier do not count either."""
    usage = counted(10, 5, input_token_details={"flex": 10})

    assert read(usage, {"service_tier": "flex"}, context={"processing": "batch"}).key.tier is None
    assert read(usage, context={"processing": "batch"}).key.tier is None
    assert read(usage, context={"service_tier": "priority"}).key.tier == "priority"


@pytest.mark.parametrize(
    ("context", "remark"),
    [
        ({"procesing": "batch"}, "ignored_context:procesing"),
        ({"processing": "bulk"}, "unknown_processing:bulk"),
        ({"cache_ttl": "2h"}, "unknown_cache_ttl:2h"),
    ],
)
def test_a_context_that_says_nothing_is_said(context: dict[str, object], remark: str) -> None:
    """A word that we do not know must not be lost without a trace."""
    reading = read(counted(10, 5), context=context)

    assert reading.reasons == (remark,)
    assert reading.estimated


def test_times_are_kept_in_utc() -> None:
    """Prices change at midnight in UTC, wherever the caller is."""
    book = PriceBook(catalog=False)
    at = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))

    assert book.read(counted(1, 1), {}, {}, at=at).key.at == datetime(2025, 12, 31, 23, 30, tzinfo=UTC)
    assert book.read(counted(1, 1), {}, {}, at=at).key.at.tzinfo is UTC


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
NAMES = st.sampled_from(
    ["cache_read", "cache_creation", "audio", "reasoning", "priority", "flex", "priority_cache_read", "flex_reasoning",
     "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "cached_tokens"]
)  # fmt: skip
DETAILS = st.dictionaries(NAMES, JUNK | st.integers(min_value=0, max_value=10**6)) | JUNK
USAGES = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": JUNK | st.integers(min_value=0, max_value=10**6),
        "output_tokens": JUNK | st.integers(min_value=0, max_value=10**6),
        "input_token_details": DETAILS,
        "output_token_details": DETAILS,
        "total_cost": JUNK,
    },
)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "service_tier": JUNK,
        "serviceTier": JUNK | st.dictionaries(st.just("type"), JUNK),
        "usage": JUNK | st.dictionaries(st.sampled_from(["speed", "inference_geo", "server_tool_use"]), JUNK),
        "token_usage": JUNK | st.dictionaries(st.sampled_from(["prompt_tokens", "cost"]), JUNK),
        "grounding_metadata": JUNK | st.dictionaries(st.just("web_search_queries"), JUNK),
        "cost": JUNK,
        "cost_details": JUNK | st.dictionaries(st.just("upstream_inference_cost"), JUNK),
        "model_name": JUNK,
        "model_provider": JUNK,
    },
)
PROVIDERS = st.sampled_from(
    ["openai", "anthropic", "google_genai", "amazon_bedrock", "openrouter", "groq", "x", None, 7]
)


@given(USAGES | JUNK, SAID, PROVIDERS)
def test_whatever_a_provider_writes_is_read(usage: object, said: dict[str, object], provider: object) -> None:
    """No exception, and a usage that its own constructor would accept."""
    book = PriceBook(catalog=False)
    reading = book.read(usage, said, {"ls_provider": provider, "ls_model_name": "m"}, at=AT)  # type: ignore[arg-type]

    if reading.usage is None:
        assert "no_usage_reported" in reading.reasons
    else:
        fields = {name: getattr(reading.usage, name) for name in Usage.__slots__}
        assert Usage(**fields) == reading.usage
        assert reading.usage.total_tokens > 0


COUNT = st.integers(min_value=0, max_value=10**6)


@given(st.tuples(COUNT, COUNT), st.tuples(COUNT, COUNT, COUNT), COUNT, PROVIDERS)
def test_no_token_is_lost_or_counted_twice(
    totals: tuple[int, int], parts: tuple[int, int, int], reasoning: int, provider: object
) -> None:
    """However the details contradict, the meters add up to the totals that were reported."""
    (whole, output), (cached, written, audio) = totals, parts
    usage = counted(
        whole,
        output,
        input_token_details={"cache_read": cached, "cache_creation": written, "audio": audio},
        output_token_details={"reasoning": reasoning},
    )
    reading = PriceBook(catalog=False).read(usage, {}, {"ls_provider": provider}, at=AT)

    if reading.usage is not None:
        assert reading.usage.total_input_tokens == whole
        assert reading.usage.total_output_tokens == output
