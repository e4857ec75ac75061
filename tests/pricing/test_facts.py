"""What an answer tells next to its counts."""

import pytest

from langchain_finops.pricing.facts import MOST_USD, Facts, read_facts
from langchain_finops.pricing.providers import identify
from langchain_finops.pricing.server_tools import NOTHING_SHOWN, Shown


def facts(
    provider: str, said: dict[str, object], context: object = None, model: str = "m", shown: Shown = NOTHING_SHOWN
) -> Facts:
    """The facts of an answer of a provider."""
    identity = identify(
        asked_provider=provider,
        answering_provider=None,
        asked_model=model,
        answering_model=None,
        host=None,
        aliases={},
    )
    return read_facts(said, said.get("service_tier"), identity, context, shown)  # type: ignore[arg-type]


def test_a_count_goes_before_the_content() -> None:
    """Anthropic's `invoke` counts; its streams do not, and the content has to tell."""
    counted = {"usage": {"server_tool_use": {"web_search_requests": 3}}}

    assert facts("anthropic", counted, shown=Shown(1)).web_searches == 3
    assert facts("anthropic", {}, shown=Shown(1)).web_searches == 1


@pytest.mark.parametrize(
    ("said", "tier", "remarks"),
    [
        ({"search_context_size": "low"}, None, []),
        ({"search_context_size": "high"}, "high", []),
        ({"token_usage": {"search_context_size": "medium"}}, "medium", []),
        ({"search_context_size": "high", "token_usage": {"search_context_size": "low"}}, "high", []),
        ({}, None, ["search_context_size_assumed"]),
    ],
)
def test_perplexitys_search_context_is_its_tier(said: dict[str, object], tier: str | None, remarks: list[str]) -> None:
    """Low is the default, and no condition; it is assumed where nothing is said."""
    found = facts("perplexity", said, model="sonar")

    assert (found.tier, found.remarks) == (tier, remarks)


def test_a_caller_who_knows_the_search_context_settles_it() -> None:
    """What is stated replaces what was assumed."""
    found = facts("perplexity", {}, {"search_context_size": "high"}, model="sonar")

    assert (found.tier, found.remarks) == ("high", [])


def test_deep_research_is_charged_by_the_search() -> None:
    """Its searches are counted, its reasoning is on top, and the size of the context is no condition."""
    found = facts("perplexity", {"num_search_queries": 4, "search_context_size": "high"}, model="sonar-deep-research")

    assert (found.on_top, found.web_searches, found.tier, found.remarks) == (True, 4, None, [])
    assert facts("perplexity", {}, model="sonar-deep-research").remarks == ["searches_not_reported"]
    stated = facts("perplexity", {}, {"server_tools": {"web_search": 2}}, model="sonar-deep-research")
    assert (stated.web_searches, stated.remarks) == (2, [])


def test_perplexity_may_say_what_it_billed() -> None:
    """In the counts' own `cost`."""
    assert facts("perplexity", {"usage": {"cost": {"total_cost": 0.012}}}, model="sonar").reported_usd is not None


@pytest.mark.parametrize(
    ("ticks", "usd"), [(37756000, "0.0037756"), (0, "0"), (-1, None), (True, None), ("7", None), (10**18, None)]
)
def test_xai_says_what_it_billed_in_ticks(ticks: object, usd: str | None) -> None:
    """Ten thousand million make a dollar; what cannot be is not believed."""
    found = facts("xai", {"token_usage": {"cost_in_usd_ticks": ticks}})

    assert (None if found.reported_usd is None else str(found.reported_usd)) == usd
    assert found.remarks == ([] if usd is not None else ["bad_reported_cost"])


def test_no_call_costs_millions() -> None:
    """Such a bill would not fit into a ledger."""
    assert facts("openrouter", {"cost": MOST_USD}).reported_usd == MOST_USD
    assert facts("openrouter", {"cost": MOST_USD + 1}).remarks == ["bad_reported_cost"]


@pytest.mark.parametrize(
    ("context", "remarks"),
    [
        ({"server_tools": {"web_search": 1, "file_search": 2, "code_interpreter": 0}}, ["no_rate:file_search"]),
        ({"server_tools": 3}, ["ignored_context:server_tools"]),
        ({"server_tools": {"web_search": "x"}}, ["bad_count:web_searches"]),
        (["batch"], ["ignored_context"]),
        ({}, []),
        (None, []),
    ],
)
def test_what_a_caller_states_and_we_cannot_use_is_said(context: object, remarks: list[str]) -> None:
    """A tool that has no meter makes the cost a lower bound."""
    assert facts("openai", {}, context).remarks == remarks


@pytest.mark.parametrize(
    ("provider", "region", "geography"),
    [
        ("amazon_bedrock", "us-east-1", None),
        ("amazon_bedrock", "eu-central-1", "eu-central-1"),
        ("google_vertexai", "us-central1", None),
        ("openai", "EU", "eu"),
        ("anthropic", "global", None),
    ],
)
def test_a_region_that_the_price_is_of_is_no_condition(provider: str, region: str, geography: str | None) -> None:
    """The price pages show one region first."""
    assert facts(provider, {}, {"region": region}).geography == geography


@pytest.mark.parametrize(
    ("provider", "tools", "remarks"),
    [
        ("openai", ("file_search", "image_generation"), ["no_rate:file_search", "no_rate:image_generation"]),
        ("anthropic", ("compaction",), ["no_rate:compaction"]),
        ("openai", ("compaction",), []),
        ("google_genai", ("code_interpreter",), []),
    ],
)
def test_a_tool_that_costs_something_makes_a_lower_bound(
    provider: str, tools: tuple[str, ...], remarks: object
) -> None:
    """Unless it is part of the provider's tokens: running code at Google, a compaction at OpenAI."""
    assert facts(provider, {}, shown=Shown(tools=tools)).remarks == remarks


def test_what_the_caller_states_of_tools_replaces_what_the_content_shows() -> None:
    """But not that the provider summarised the context."""
    shown = Shown(searches=2, tools=("code_execution", "compaction"))

    assert facts("anthropic", {}, {"server_tools": {}}, shown=shown).remarks == ["no_rate:compaction"]


@pytest.mark.parametrize(
    ("iterations", "remarks"),
    [
        ([{"type": "message", "input_tokens": 5}], []),
        ([{"type": "compaction", "input_tokens": 5}], ["compaction_added"]),
        ([{"type": "advisor_message", "model": "claude-opus-5"}], ["no_rate:advisor"]),
        ([{"type": "fallback_message", "model": "claude-opus-4-8"}, "odd"], ["no_rate:fallback"]),
        ("odd", []),
    ],
)
def test_requests_beside_the_call_are_told(iterations: object, remarks: list[str]) -> None:
    """Anthropic's totals leave out summaries of the context, and what other models did for a call."""
    found = facts("anthropic", {"usage": {"iterations": iterations}})

    assert found.remarks == remarks
    assert len(found.compactions) == ("compaction_added" in remarks)


@pytest.mark.parametrize(
    ("said", "remarks"),
    [
        ({"stop_reason": "refusal", "usage": {"output_tokens": 0}}, ["refusal_may_be_free"]),
        ({"stop_reason": "refusal"}, ["refusal_may_be_free"]),
        ({"stop_reason": "refusal", "usage": {"output_tokens": 7}}, []),
        ({"stop_reason": "end_turn", "usage": {"output_tokens": 0}}, []),
    ],
)
def test_a_refusal_before_any_output_may_not_be_charged(said: dict[str, object], remarks: list[str]) -> None:
    """It depends on the category; a stream does not say how much there was."""
    assert facts("anthropic", said).remarks == remarks


def test_openrouter_cannot_know_what_the_users_own_key_paid() -> None:
    """A cost of 0 says that OpenRouter charged nothing; the call was not free."""
    own_key = facts("openrouter", {"token_usage": {"cost": 0, "is_byok": True}})

    assert (own_key.reported_usd, own_key.remarks) == (None, ["upstream_cost_not_reported"])
    assert facts("openrouter", {"token_usage": {"cost": 0}}).reported_usd == 0


def test_code_that_anthropic_ran_is_flagged_once() -> None:
    """Its counts and its content may both tell."""
    counted = {"usage": {"server_tool_use": {"web_search_requests": 0, "code_execution_requests": 2}}}

    assert facts("anthropic", counted, shown=Shown(tools=("code_execution",))).remarks == ["no_rate:code_execution"]


def test_provisioned_throughput_is_no_price_of_tokens() -> None:
    """Google charges it by the hour; what it says of a call is not what the call costs."""
    assert facts("google_vertexai", {"usage_metadata": {"traffic_type": "ON_DEMAND"}}).remarks == []
    assert facts("google_vertexai", {"usage_metadata": {"traffic_type": "PROVISIONED_THROUGHPUT"}}).remarks == [
        "provisioned_throughput"
    ]
