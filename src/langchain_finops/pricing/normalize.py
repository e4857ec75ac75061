"""What an answer says of itself, made comparable: disjoint meters and a price key.

Nothing in here raises on a provider's data: it clamps, assumes, and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from langchain_finops.money import usd
from langchain_finops.pricing.cost import PriceKey, Reading
from langchain_finops.pricing.drafts import PriceKeyDraft, ReadingDraft, UsageDraft, sealed
from langchain_finops.pricing.providers import Identity, Rule
from langchain_finops.records import EMPTY
from langchain_finops.usage import Usage

__all__ = ["CONTEXT_KEYS", "NO_USAGE", "read_answer"]

NO_USAGE = "no_usage_reported"
MOST_TOKENS = 10**9
"""More tokens than one call can have. Beyond it a cost in picodollars may not fit into a ledger's 64 bits."""
CONTEXT_KEYS = frozenset(
    {"processing", "service_tier", "speed", "region", "server_tools", "cache_ttl", "seconds"},
)
"""What a caller may state in `context`. It replaces what the answer says."""

INPUT_NAMES = ("input_tokens", "prompt_tokens")
OUTPUT_NAMES = ("output_tokens", "completion_tokens")
INPUT_DETAILS = ("input_token_details", "prompt_tokens_details", "input_tokens_details")
OUTPUT_DETAILS = ("output_token_details", "completion_tokens_details", "output_tokens_details")
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
SPLIT_NAMES = tuple((f"ephemeral_{ttl}_input_tokens", meter) for ttl, meter in TTL_METERS.items())
REDUCED_FIRST = (
    "cache_read_tokens",
    "cached_audio_tokens",
    "audio_input_tokens",
    "cache_write_5m_tokens",
    "cache_write_30m_tokens",
    "cache_write_1h_tokens",
    "cache_write_12h_tokens",
)
"""Where the parts are more than the whole input, the cheap ones give way: rather charge too much than too little."""
NOTHING: Mapping[str, object] = {}


@dataclass(slots=True)
class Facts:
    """What an answer or its caller tell next to the counts."""

    tier: str | None = None
    batch: bool = False
    speed: str | None = None
    geography: str | None = None
    web_searches: int = 0
    cache_ttl: str | None = None
    """How long cache writes live that come without saying so."""
    reported_usd: Decimal | None = None
    remarks: list[str] = field(default_factory=list)
    """What was said and could not be made use of: the price may then be another."""


PLAIN = Facts()
"""The facts of most calls; never changed."""


def read_answer(
    usage_metadata: object,
    response_metadata: Mapping[str, object],
    identity: Identity,
    *,
    at: datetime,
    context: Mapping[str, object] | None = None,
    base_url_host: str | None = None,
    tags: Mapping[str, str] = EMPTY,
) -> Reading:
    """Make a reading of one answer. `at` is an aware datetime."""
    rule = identity.rule
    service_tier = response_metadata.get("service_tier")
    plain = not context and service_tier in USUAL_TIERS and _is_plain(response_metadata, rule)
    facts = PLAIN if plain else _facts(response_metadata, service_tier, identity, context)
    raw = usage_metadata if type(usage_metadata) is dict or isinstance(usage_metadata, Mapping) else NOTHING
    doubts = list(facts.remarks)
    counts = raw
    usage = _disjoint(counts, response_metadata, rule, facts, doubts) if _has_counts(counts) else None
    if usage is None:
        counts = _token_usage(response_metadata)
        usage = _disjoint(counts, response_metadata, rule, facts, doubts) if _has_counts(counts) else None

    key = PriceKeyDraft()
    key.provider, key.model, key.requested_model = identity.provider, identity.model, identity.requested_model
    key.at = at if at.tzinfo is UTC else at.astimezone(UTC)
    key.tier, key.batch, key.speed, key.geography = facts.tier, facts.batch, facts.speed, facts.geography
    if facts.tier is None and service_tier is None and not facts.batch:
        key.tier = _tier_in_details(counts)
    key.base_url_host, key.tags = base_url_host, tags

    reading = ReadingDraft()
    reading.usage, reading.key, reading.reported_usd = usage, sealed(key, PriceKey), facts.reported_usd
    # LangChain's cache writes this into an answer that it gives again.
    reading.cache_hit = raw.get("total_cost") == 0 if "total_cost" in raw else False
    reading.estimated = bool(doubts)
    reading.reasons = tuple(doubts) if usage is not None else (*doubts, NO_USAGE)
    return sealed(reading, Reading)


def _is_plain(said: Mapping[str, object], rule: Rule) -> bool:
    """True where the answer tells nothing next to its counts, as nearly all do. For speed alone: `_facts` knows all."""
    extras = rule.extras
    if extras is None:
        return True
    if extras == "anthropic":
        raw = said.get("usage")
        return raw is None or (
            type(raw) is dict
            and raw.get("service_tier") in USUAL_TIERS
            and raw.get("speed") in USUAL_SPEEDS
            and raw.get("inference_geo") in USUAL_PLACES
            and not raw.get("server_tool_use")
        )
    if extras == "google":
        return not said.get("grounding_metadata")
    return extras == "bedrock" and "serviceTier" not in said


def _has_counts(raw: Mapping[str, object]) -> bool:
    """False where nothing was counted: a call that used no token at all does not exist."""
    return bool(
        raw.get("input_tokens") or raw.get("output_tokens") or raw.get("prompt_tokens") or raw.get("completion_tokens")
    )


def _token_usage(response_metadata: Mapping[str, object]) -> Mapping[str, object]:
    """The counts as an OpenAI-like answer gave them, where LangChain's own are missing."""
    for name in ("token_usage", "usage"):
        raw = response_metadata.get(name)
        if isinstance(raw, Mapping) and "cache_read_input_tokens" not in raw:
            return raw
    return NOTHING


def _disjoint(
    raw: Mapping[str, object], response_metadata: Mapping[str, object], rule: Rule, facts: Facts, doubts: list[str]
) -> Usage | None:
    """Meters on which no token is counted twice, from totals and details that are parts of them."""
    draft = UsageDraft()
    draft.cache_read_tokens = draft.cached_audio_tokens = draft.audio_input_tokens = 0
    draft.cache_write_5m_tokens = draft.cache_write_30m_tokens = 0
    draft.cache_write_1h_tokens = draft.cache_write_12h_tokens = 0
    draft.audio_output_tokens = draft.reasoning_tokens = 0
    draft.web_searches, draft.requests = facts.web_searches, 1
    draft.input_tokens = whole = _named(raw, INPUT_NAMES, "input_tokens", doubts)
    details = _details(raw, INPUT_DETAILS, response_metadata)
    if details:
        _split_input(draft, details, rule, facts, doubts)
    draft.output_tokens = output = _named(raw, OUTPUT_NAMES, "output_tokens", doubts)
    details = _details(raw, OUTPUT_DETAILS, response_metadata)
    if details:
        _split_output(draft, details, doubts)
    # Counts that were all clamped away are no usage: they must not become a call that costs nothing.
    return sealed(draft, Usage) if whole or output else None


def _details(
    raw: Mapping[str, object], names: tuple[str, str, str], response_metadata: Mapping[str, object]
) -> Mapping[str, object]:
    details = raw.get(names[0])
    if details and (type(details) is dict or isinstance(details, Mapping)):
        return details
    # Some adapters drop the details, and leave them in the provider's own counts.
    token_usage = response_metadata.get("token_usage")
    for source in (raw, token_usage):
        if isinstance(source, Mapping):
            for name in names[1:]:
                details = source.get(name)
                if details and isinstance(details, Mapping):
                    return details
    if names is INPUT_DETAILS and isinstance(token_usage, Mapping) and "prompt_cache_hit_tokens" in token_usage:
        return {"cache_read": token_usage["prompt_cache_hit_tokens"]}  # DeepSeek's own name.
    return NOTHING


def _split_input(draft: UsageDraft, details: Mapping[str, object], rule: Rule, facts: Facts, doubts: list[str]) -> None:
    """Put the parts of the input on their meters, and leave on `input_tokens` what is in none of them."""
    draft.cache_read_tokens = read = _part(details, "cache_read", "cached_tokens", doubts)
    draft.audio_input_tokens = audio = _part(details, "audio", "audio_tokens", doubts)
    written = _part(details, "cache_creation", "cache_write_tokens", doubts)
    split = 0
    if rule.splits_cache_writes or "ephemeral_1h_input_tokens" in details or "ephemeral_5m_input_tokens" in details:
        for name, meter in SPLIT_NAMES:
            part = details.get(name)
            if part:
                count = _count(part, meter, doubts)
                setattr(draft, meter, count)
                split += count
    if written > split:  # The split names the same tokens again, or there is none.
        meter = TTL_METERS.get(facts.cache_ttl or "5m", "cache_write_5m_tokens")
        setattr(draft, meter, getattr(draft, meter) + written - split)
        if rule.splits_cache_writes and facts.cache_ttl is None:
            doubts.append("cache_ttl_assumed")
    rest = draft.input_tokens - read - audio - max(written, split)
    if audio and read:
        rest += _overlap(draft, -rest, doubts)
    if rest < 0:
        _clamp(draft, -rest, doubts)
    draft.input_tokens = max(0, rest)


def _overlap(draft: UsageDraft, excess: int, doubts: list[str]) -> int:
    """Move what must be both audio and read from a cache to its own meter; return how many tokens that is.

    Nobody reports how much it is: it is taken to be as little as the counts allow.
    """
    doubts.append("cached_audio_assumed")
    both = max(0, min(excess, draft.audio_input_tokens, draft.cache_read_tokens))
    draft.cached_audio_tokens = both
    draft.audio_input_tokens -= both
    draft.cache_read_tokens -= both
    return both


def _clamp(draft: UsageDraft, excess: int, doubts: list[str]) -> None:
    """Take the excess of the parts over the whole away."""
    for meter in REDUCED_FIRST:
        count = getattr(draft, meter)
        less = min(count, excess)
        if less:
            setattr(draft, meter, count - less)
            excess -= less
            doubts.append(f"clamped:{meter}")


def _split_output(draft: UsageDraft, details: Mapping[str, object], doubts: list[str]) -> None:
    """Put audio on its meter, note the reasoning, and leave on `output_tokens` what is not audio."""
    whole = draft.output_tokens
    audio = _part(details, "audio", "audio_tokens", doubts)
    reasoning = _part(details, "reasoning", "reasoning_tokens", doubts)
    if audio > whole:
        audio = whole
        doubts.append("clamped:audio_output_tokens")
    if reasoning > whole - audio:
        reasoning = whole - audio
        doubts.append("clamped:reasoning_tokens")
    draft.audio_output_tokens, draft.reasoning_tokens = audio, reasoning
    draft.output_tokens = whole - audio


def _part(details: Mapping[str, object], name: str, raw_name: str, doubts: list[str]) -> int:
    """A part of the counts, under LangChain's name, the provider's, or LangChain's with OpenAI's tier before it."""
    value = details.get(name)
    if value is None:
        value = details.get(raw_name)
        if value is None and ("priority" in details or "flex" in details):
            value = details.get(f"priority_{name}") or details.get(f"flex_{name}")
    if not value:
        return 0
    return value if type(value) is int and 0 < value <= MOST_TOKENS else _count(value, name, doubts)


def _named(raw: Mapping[str, object], names: tuple[str, str], meter: str, doubts: list[str]) -> int:
    value = raw.get(names[0])
    if value is None:
        value = raw.get(names[1])
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else _count(value, meter, doubts)


def _count(value: object, name: str, doubts: list[str]) -> int:
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


def _tier_in_details(raw: Mapping[str, object]) -> str | None:
    """OpenAI's tier as its adapter names it in the keys of the details; None for the standard one."""
    for name in ("input_token_details", "output_token_details"):
        details = raw.get(name)
        if type(details) is dict or isinstance(details, Mapping):
            if "priority" in details:
                return "priority"
            if "flex" in details:
                return "flex"
    return None


def _facts(
    response_metadata: Mapping[str, object],
    service_tier: object,
    identity: Identity,
    context: Mapping[str, object] | None,
) -> Facts:
    facts = Facts()
    rule = identity.rule
    if rule.extras == "anthropic":
        service_tier = _read_anthropic(response_metadata, service_tier, facts)
    elif rule.extras == "bedrock":
        named = response_metadata.get("serviceTier")
        service_tier = named.get("type") if isinstance(named, Mapping) else service_tier
    elif rule.extras == "google":
        _read_google(response_metadata, identity.model, facts)
    elif rule.extras == "openrouter":
        _read_openrouter(response_metadata, facts)
    _set_tier(facts, service_tier, rule)
    if context:
        _read_context(context, facts, rule)
    return facts


def _set_tier(facts: Facts, name: object, rule: Rule) -> None:
    if not isinstance(name, str) or not name:
        return
    tier = rule.tiers.get(name.lower(), name.lower())
    facts.batch = facts.batch or tier == "batch"
    facts.tier = None if tier == "batch" else tier


def _read_anthropic(response_metadata: Mapping[str, object], service_tier: object, facts: Facts) -> object:
    """Speed, geography and searches from Anthropic's own counts, which only `invoke` keeps; returns the tier."""
    raw = response_metadata.get("usage")
    if not isinstance(raw, Mapping):
        return service_tier
    facts.speed = _unusual(raw.get("speed"), USUAL_SPEEDS)
    facts.geography = _unusual(raw.get("inference_geo"), USUAL_PLACES)
    tools = raw.get("server_tool_use")
    if isinstance(tools, Mapping):
        facts.web_searches = _count(tools.get("web_search_requests"), "web_searches", facts.remarks)
    return raw.get("service_tier") or service_tier


def _unusual(value: object, usual: tuple[str | None, ...]) -> str | None:
    return value.lower() if isinstance(value, str) and value and value.lower() not in usual else None


def _read_google(response_metadata: Mapping[str, object], model: str | None, facts: Facts) -> None:
    """Grounding searches. Up to Gemini 2.5 a grounded prompt is charged, from Gemini 3 on each query."""
    grounding = response_metadata.get("grounding_metadata")
    queries = grounding.get("web_search_queries") if isinstance(grounding, Mapping) else None
    if isinstance(queries, list | tuple):
        by_prompt = model is not None and model.startswith(("gemini-1", "gemini-2"))
        facts.web_searches = min(1, len(queries)) if by_prompt else len(queries)


def _read_openrouter(response_metadata: Mapping[str, object], facts: Facts) -> None:
    """What OpenRouter says it billed. Where the user's own key paid the provider, that is the provider's charge."""
    source = response_metadata
    if source.get("cost") is None:
        nested = response_metadata.get("token_usage")
        source = nested if isinstance(nested, Mapping) else NOTHING
    cost, upstream = source.get("cost"), source.get("cost_details")
    if cost == 0 and isinstance(upstream, Mapping):
        cost = upstream.get("upstream_inference_cost") or cost
    if cost is None:
        return
    try:
        amount = usd(cost) if isinstance(cost, int | float | str | Decimal) else Decimal(-1)
    except ValueError:
        amount = Decimal(-1)
    if amount < 0:
        facts.remarks.append("bad_reported_cost")
    else:
        facts.reported_usd = amount


def _read_context(context: Mapping[str, object], facts: Facts, rule: Rule) -> None:
    """Let what only the caller knows replace what the answer says."""
    if "service_tier" in context:
        facts.tier, facts.batch = None, False
        _set_tier(facts, context["service_tier"], rule)
    processing = context.get("processing")
    if processing is not None:
        facts.batch = processing == "batch"
        if facts.batch:
            facts.tier = None
        elif processing not in ("standard", "realtime"):
            facts.remarks.append(f"unknown_processing:{processing}")
    if "speed" in context:
        facts.speed = _unusual(context["speed"], USUAL_SPEEDS)
    if "region" in context:
        facts.geography = _unusual(context["region"], USUAL_PLACES)
    if "cache_ttl" in context:
        facts.cache_ttl = str(context["cache_ttl"])
        if facts.cache_ttl not in TTL_METERS:
            facts.remarks.append(f"unknown_cache_ttl:{facts.cache_ttl}")
    tools = context.get("server_tools")
    if isinstance(tools, Mapping):
        facts.web_searches = _count(tools.get("web_search"), "web_searches", facts.remarks)
    facts.remarks += [f"ignored_context:{name}" for name in context if name not in CONTEXT_KEYS]
