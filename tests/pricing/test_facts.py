"""What an answer tells next to its counts."""

from types import SimpleNamespace

import pytest
from langchain_core.messages import AIMessage

from langchain_finops.pricing.facts import MOST_USD, Facts, read_facts, searches_in
from langchain_finops.pricing.providers import identify

SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}


def facts(provider: str, said: dict[str, object], context: object = None, model: str = "m", searches: int = 0) -> Facts:
    """The facts of an answer of a provider."""
    identity = identify(
        asked_provider=provider,
        answering_provider=None,
        asked_model=model,
        answering_model=None,
        host=None,
        aliases={},
    )
    return read_facts(said, said.get("service_tier"), identity, context, searches)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "searches"),
    [
        ("text", 0),
        ([], 0),
        ([SEARCH, SEARCH], 2),
        ([{"type": "web_search_call"}], 1),
        ([{"type": "web_search_call", "action": {"type": "open_page"}}], 0),
        ([{"type": "web_search_call", "action": {"type": "find_in_page"}}], 0),
        ([{"type": "web_search_call", "status": "failed", "action": {"type": "search"}}], 0),
        ([{"type": "server_tool_use", "name": "web_search"}], 1),
        ([{"type": "server_tool_use", "name": "code_execution"}], 0),
        ([{"type": "server_tool_call", "name": "web_search"}, {"type": "server_tool_result"}], 1),
        ([{"type": "web_search_tool_result", "content": {"type": "web_search_tool_result_error"}}], 0),
        (["piece", {"type": "text", "text": "x"}], 0),
    ],
)
def test_searches_are_counted_by_what_was_charged(content: list[object], searches: int) -> None:
    """A search is; opening a page, a failed search and other tools are not."""
    assert searches_in(SimpleNamespace(content=content)) == searches


def test_an_older_integration_keeps_them_beside_the_content() -> None:
    """`langchain-openai` with `output_version="v0"` puts them into `additional_kwargs`."""
    message = AIMessage("found", additional_kwargs={"tool_outputs": [SEARCH, {"type": "file_search_call"}]})

    assert searches_in(message) == 1
    assert searches_in(object()) == 0


def test_a_count_goes_before_the_content() -> None:
    """Anthropic's `invoke` counts; its streams do not, and the content has to tell."""
    counted = {"usage": {"server_tool_use": {"web_search_requests": 3}}}

    assert facts("anthropic", counted, searches=1).web_searches == 3
    assert facts("anthropic", {}, searches=1).web_searches == 1


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
