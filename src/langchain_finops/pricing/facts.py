"""What an answer and its caller tell next to the counts: tier, batch, speed, place, searches, what was billed.

One reader a provider, in `READERS`. Nothing in here raises on a provider's data: it assumes, and says so.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from langchain_finops.money import EXACT, usd
from langchain_finops.pricing.providers import Extras, Identity, Rule
from langchain_finops.pricing.server_tools import CHARGED, COMPACTION, Shown

__all__ = [
    "CONTEXT_KEYS",
    "MOST_TOKENS",
    "PLAIN",
    "TTL_METERS",
    "USUAL_TIERS",
    "Facts",
    "count_of",
    "is_plain",
    "read_facts",
]

MOST_TOKENS = 10**9
"""More tokens than one call can have. Beyond it a cost in picodollars may not fit into a ledger's 64 bits."""
MOST_USD = 10**6
"""More dollars than one call can cost, for the same reason."""
CONTEXT_KEYS = frozenset(
    {"processing", "service_tier", "speed", "region", "server_tools", "cache_ttl", "search_context_size", "seconds"},
)
"""What a caller may state in `context`. It replaces what the answer says."""
TTL_METERS: Mapping[str, str] = {
    "5m": "cache_write_5m_tokens",
    "30m": "cache_write_30m_tokens",
    "1h": "cache_write_1h_tokens",
    "12h": "cache_write_12h_tokens",
}
USUAL_TIERS = (None, "default", "standard", "on_demand")
USUAL_SPEEDS = (None, "standard")
USUAL_PLACES = (None, "global", "not_available")
"""What is no condition of a price, whoever says it."""
NOTHING: Mapping[str, object] = {}
XAI_TICKS_PER_USD = Decimal(10**10)
REFUSAL = "refusal"
PROVISIONED = "PROVISIONED_THROUGHPUT"
SHOWN_TOOLS_ARE_FREE = ("google",)
"""Whose tools other than searches cost no more than their tokens: running code, at Google."""


@dataclass(slots=True)
class Facts:
    """What an answer or its caller tell next to the counts."""

    model: str | None = None
    named_tier: object = None
    """What the answer calls its tier."""
    tier: str | None = None
    tier_stated: bool = False
    """The caller has named the tier, so that nothing in the answer does."""
    batch: bool = False
    speed: str | None = None
    geography: str | None = None
    web_searches: int = 0
    on_top: bool = False
    """Reasoning and citations come on top of the totals, and are no parts of them."""
    cache_ttl: str | None = None
    """How long cache writes live that come without saying so."""
    reported_usd: Decimal | None = None
    compactions: tuple[Mapping[str, object], ...] = ()
    """Counts of requests that the call had beside its own, which its totals leave out."""
    remarks: list[str] = field(default_factory=list)
    """What was said and could not be made use of, or not said and assumed: the price may then be another."""


PLAIN = Facts()
"""The facts of most calls; never changed."""


def is_plain(said: Mapping[str, object], rule: Rule) -> bool:
    """True where the answer tells nothing next to its counts, as nearly all do. For speed alone: a reader knows all."""
    extras = rule.extras
    if extras is None or extras == "openai":
        return True
    if extras == "anthropic":
        raw = said.get("usage")
        return said.get("stop_reason") != REFUSAL and (
            raw is None
            or (
                type(raw) is dict
                and raw.get("service_tier") in USUAL_TIERS
                and raw.get("speed") in USUAL_SPEEDS
                and raw.get("inference_geo") in USUAL_PLACES
                and not raw.get("server_tool_use")
                and not raw.get("iterations")
            )
        )
    if extras == "google":
        return not said.get("grounding_metadata") and "usage_metadata" not in said and "usage" not in said
    if extras == "xai":
        return not said.get("token_usage")
    return extras == "bedrock" and "serviceTier" not in said and "performanceConfig" not in said and "usage" not in said


def read_facts(
    said: Mapping[str, object],
    service_tier: object,
    identity: Identity,
    context: Mapping[str, object] | None,
    shown: Shown,
) -> Facts:
    """The facts of one answer. `shown` is what its content shows, where its counts do not tell."""
    facts = Facts(model=identity.model, named_tier=service_tier, web_searches=shown.searches)
    rule = identity.rule
    if rule.extras != "openai":
        facts.remarks += (f"no_rate:{tool}" for tool in shown.tools if tool == COMPACTION)
    if rule.extras not in SHOWN_TOOLS_ARE_FREE:
        facts.remarks += (f"no_rate:{tool}" for tool in shown.tools if tool != COMPACTION)
    if rule.extras in READERS:
        READERS[rule.extras](said, facts)
    _set_tier(facts, facts.named_tier, rule)
    stated: object = context
    if isinstance(stated, Mapping):
        _read_context(stated, facts, rule)
    elif stated:
        facts.remarks.append("ignored_context")
    return facts


def count_of(value: object, name: str, doubts: list[str]) -> int:
    """A whole number from 0 to MOST_TOKENS, whatever was reported; says so where it was something else."""
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        doubts.append(f"bad_count:{name}")
        return 0
    if not 0 <= value <= MOST_TOKENS:
        doubts.append(f"clamped:{name}")
    return min(max(0, value), MOST_TOKENS)


def _set_tier(facts: Facts, name: object, rule: Rule) -> None:
    if not isinstance(name, str) or not name:
        return
    tier = rule.tiers.get(name.lower(), name.lower())
    facts.batch = facts.batch or tier == "batch"
    facts.tier = None if tier == "batch" else tier


def _read_anthropic(said: Mapping[str, object], facts: Facts) -> None:
    """Speed, geography, tools and compactions from Anthropic's own counts, which only `invoke` keeps."""
    raw = said.get("usage")
    if said.get("stop_reason") == REFUSAL and not (isinstance(raw, Mapping) and raw.get("output_tokens")):
        # Some categories are not charged where the model had not begun to answer, and counted all the same.
        facts.remarks.append("refusal_may_be_free")
    if not isinstance(raw, Mapping):
        return
    facts.speed = _unusual(raw.get("speed"), USUAL_SPEEDS)
    facts.geography = _unusual(raw.get("inference_geo"), USUAL_PLACES)
    tools = raw.get("server_tool_use")
    if isinstance(tools, Mapping):
        facts.web_searches = count_of(tools.get("web_search_requests"), "web_searches", facts.remarks)
        if tools.get("code_execution_requests"):
            _lacks_rate(facts, "code_execution")
    _read_iterations(raw, facts)
    facts.named_tier = raw.get("service_tier") or facts.named_tier


def _read_iterations(raw: object, facts: Facts) -> None:
    """What the totals leave out: a summary of the context, which the same model makes, and what other models did.

    The totals hold the other turns. Which step of a long prompt's price a summary is on, nobody says.
    """
    named = raw.get("iterations") if isinstance(raw, Mapping) else None
    iterations = [each for each in named if isinstance(each, Mapping)] if isinstance(named, list | tuple) else []
    facts.compactions = tuple(each for each in iterations if each.get("type") == COMPACTION)
    if facts.compactions:
        facts.remarks = [remark for remark in facts.remarks if remark != f"no_rate:{COMPACTION}"]
        facts.remarks.append("compaction_added")
    for kind, tool in (("advisor_message", "advisor"), ("fallback_message", "fallback")):
        if any(each.get("type") == kind for each in iterations):
            _lacks_rate(facts, tool)


def _lacks_rate(facts: Facts, tool: str) -> None:
    if f"no_rate:{tool}" not in facts.remarks:
        facts.remarks.append(f"no_rate:{tool}")


def _read_bedrock(said: Mapping[str, object], facts: Facts) -> None:
    """A service tier, and the latency that was given, which is to a price what a speed is."""
    _read_iterations(said.get("usage"), facts)  # As `invoke` of Anthropic's models has them.
    named, performance = said.get("serviceTier"), said.get("performanceConfig")
    if isinstance(named, Mapping):
        facts.named_tier = named.get("type")
    if isinstance(performance, Mapping):
        facts.speed = _unusual(performance.get("latency"), USUAL_SPEEDS)


def _read_google(said: Mapping[str, object], facts: Facts) -> None:
    """Grounding searches. Up to Gemini 2.5 a grounded prompt is charged, from Gemini 3 on each query."""
    grounding = said.get("grounding_metadata")
    queries = grounding.get("web_search_queries") if isinstance(grounding, Mapping) else None
    if isinstance(queries, list | tuple):
        by_prompt = facts.model is not None and facts.model.startswith(("gemini-1", "gemini-2"))
        facts.web_searches = min(1, len(queries)) if by_prompt else len(queries)
    _read_iterations(said.get("usage"), facts)  # As Anthropic's models there have them.
    counts = said.get("usage_metadata")
    if isinstance(counts, Mapping) and counts.get("traffic_type") == PROVISIONED:
        facts.remarks.append("provisioned_throughput")  # Paid for by the hour; what is over it is charged as usual.


def _read_perplexity(said: Mapping[str, object], facts: Facts) -> None:
    """Deep research is charged by the search, the other models by the request and the size of its search context.

    That size is to a price what a service tier is, so it is read as one.
    """
    raw = _raw(said)
    cost = raw.get("cost")
    if isinstance(cost, Mapping):
        _report(cost.get("total_cost"), facts)
    facts.named_tier = None
    if facts.model is None or "deep-research" in facts.model:
        facts.on_top = True
        searches = _either(said, raw, "num_search_queries")
        facts.web_searches = count_of(searches, "web_searches", facts.remarks)
        if searches is None:
            facts.remarks.append(NO_SEARCHES)
        return
    facts.named_tier = size = _either(said, raw, "search_context_size")
    if size is None and facts.model.startswith("sonar"):
        facts.remarks.append(NO_SIZE)


NO_SEARCHES = "searches_not_reported"
REPLACED_BY_TOOLS = frozenset({NO_SEARCHES, *(f"no_rate:{tool}" for tool in CHARGED.values())})
NO_SIZE = "search_context_size_assumed"


def _read_xai(said: Mapping[str, object], facts: Facts) -> None:
    """What xAI says it billed, in ticks; sources of the live search of old have no meter."""
    raw = _raw(said)
    ticks = raw.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool):
        _report(EXACT.divide(Decimal(ticks), XAI_TICKS_PER_USD), facts)
    elif ticks is not None:
        facts.remarks.append("bad_reported_cost")
    if raw.get("num_sources_used"):
        facts.remarks.append("live_search_not_metered")


def _read_endpoint(said: Mapping[str, object], facts: Facts) -> None:
    """What an agent behind a URL says that all it did has cost."""
    _report(said.get("cost_usd"), facts)


def _read_openrouter(said: Mapping[str, object], facts: Facts) -> None:
    """What OpenRouter says it billed. Where the user's own key paid the provider, that is the provider's charge."""
    source = said if said.get("cost") is not None else _raw(said)
    cost, upstream = source.get("cost"), source.get("cost_details")
    if cost == 0 and isinstance(upstream, Mapping):
        cost = upstream.get("upstream_inference_cost") or cost
    if cost == 0 and source.get("is_byok"):
        facts.remarks.append("upstream_cost_not_reported")
        return
    _report(cost, facts)


READERS: Mapping[Extras | None, Callable[[Mapping[str, object], Facts], None]] = {
    "anthropic": _read_anthropic,
    "bedrock": _read_bedrock,
    "endpoint": _read_endpoint,
    "google": _read_google,
    "openrouter": _read_openrouter,
    "perplexity": _read_perplexity,
    "xai": _read_xai,
}
"""Who fills in the facts of a provider's answer. OpenAI's tell no more than a tier and, in the content, searches."""


def _raw(said: Mapping[str, object]) -> Mapping[str, object]:
    """The provider's own counts, where an adapter keeps them."""
    raw = said.get("token_usage") or said.get("usage")
    return raw if isinstance(raw, Mapping) else NOTHING


def _either(said: Mapping[str, object], raw: Mapping[str, object], name: str) -> object:
    value = said.get(name)
    return raw.get(name) if value is None else value


def _report(cost: object, facts: Facts) -> None:
    if cost is None:
        return
    try:
        amount = usd(cost) if isinstance(cost, int | float | str | Decimal) else Decimal(-1)
    except ValueError:
        amount = Decimal(-1)
    if not 0 <= amount <= MOST_USD:
        facts.remarks.append("bad_reported_cost")
    else:
        facts.reported_usd = amount


def _unusual(value: object, usual: tuple[str | None, ...]) -> str | None:
    return value.lower() if isinstance(value, str) and value and value.lower() not in usual else None


def _read_context(context: Mapping[str, object], facts: Facts, rule: Rule) -> None:
    """Let what only the caller knows replace what the answer says."""
    if "service_tier" in context:
        facts.tier, facts.tier_stated, facts.batch = None, True, False
        _set_tier(facts, context["service_tier"], rule)
    if "search_context_size" in context:
        facts.tier = None
        _set_tier(facts, context["search_context_size"], rule)
        facts.remarks = [remark for remark in facts.remarks if remark != NO_SIZE]
    _read_processing(context.get("processing"), facts, rule)
    if "speed" in context:
        facts.speed = _unusual(context["speed"], USUAL_SPEEDS)
    if "region" in context:
        facts.geography = _unusual(context["region"], rule.usual_places or USUAL_PLACES)
    if "cache_ttl" in context:
        facts.cache_ttl = str(context["cache_ttl"])
        if facts.cache_ttl not in TTL_METERS:
            facts.remarks.append(f"unknown_cache_ttl:{facts.cache_ttl}")
    if "server_tools" in context:
        _read_tools(context["server_tools"], facts)
    facts.remarks += _ignored(context)


def _read_processing(processing: object, facts: Facts, rule: Rule) -> None:
    """A batch, or not. People call a tier a way of processing, too."""
    if processing is None:
        return
    facts.batch = processing == "batch"
    if facts.batch:
        facts.tier = None
    elif isinstance(processing, str) and rule.tiers.get(processing) is not None:
        _set_tier(facts, processing, rule)
    elif processing not in ("standard", "realtime"):
        facts.remarks.append(f"unknown_processing:{processing}")


def _read_tools(tools: object, facts: Facts) -> None:
    """How often the provider's own tools were used. Only searches have a meter; others make the cost a lower bound."""
    if not isinstance(tools, Mapping):
        facts.remarks.append("ignored_context:server_tools")
        return
    facts.web_searches = count_of(tools.get("web_search"), "web_searches", facts.remarks)
    # What the caller states replaces what the answer shows; of other models and requests he says nothing.
    facts.remarks = [remark for remark in facts.remarks if remark not in REPLACED_BY_TOOLS]
    facts.remarks += [f"no_rate:{name}" for name, count in tools.items() if name != "web_search" and count]


def _ignored(context: Mapping[str, object]) -> Iterator[str]:
    return (f"ignored_context:{name}" for name in context if name not in CONTEXT_KEYS)
