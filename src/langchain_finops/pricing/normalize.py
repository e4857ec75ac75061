"""What an answer says of itself, made comparable: disjoint meters and a price key.

Nothing in here raises on a provider's data: it clamps, assumes, and says so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from langchain_finops.pricing.cost import PriceKey, Reading
from langchain_finops.pricing.drafts import PriceKeyDraft, ReadingDraft, UsageDraft, sealed
from langchain_finops.pricing.facts import (
    MOST_TOKENS,
    PLAIN,
    TTL_METERS,
    USUAL_TIERS,
    Facts,
    count_of,
    is_plain,
    read_facts,
)
from langchain_finops.pricing.providers import Identity, Rule
from langchain_finops.pricing.server_tools import NOTHING_SHOWN, Shown
from langchain_finops.records import EMPTY
from langchain_finops.usage import TOKEN_METERS, Usage

__all__ = ["NO_USAGE", "TTL_ASSUMED", "read_answer"]

NO_USAGE = "no_usage_reported"
TTL_ASSUMED = "cache_ttl_assumed"

INPUT_NAMES = ("input_tokens", "prompt_tokens")
OUTPUT_NAMES = ("output_tokens", "completion_tokens")
INPUT_DETAILS = ("input_token_details", "prompt_tokens_details", "input_tokens_details")
OUTPUT_DETAILS = ("output_token_details", "completion_tokens_details", "output_tokens_details")
SPLIT_NAMES = tuple((f"ephemeral_{ttl}_input_tokens", meter) for ttl, meter in TTL_METERS.items())
RAW_SPLIT_NAMES = tuple((f"ttl_{ttl}_tokens", meter) for ttl, meter in TTL_METERS.items())
"""OpenAI's names for the same, which its adapter drops and the raw counts keep."""
RAW_CACHED = ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")
"""What DeepSeek, Mistral and Together call tokens read from a cache."""
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
OWN_CLIENTS = ("anthropic", "bedrock", "google")
"""Whose adapters are not OpenAI's, which alone names a tier in the keys of the details."""
THINKING = "thinking"
"""What an answer's thinking is to its price, where it has another one: a speed."""
NOTHING: Mapping[str, object] = {}


def read_answer(
    usage_metadata: object,
    response_metadata: Mapping[str, object],
    identity: Identity,
    *,
    at: datetime,
    context: Mapping[str, object] | None = None,
    base_url_host: str | None = None,
    tags: Mapping[str, str] = EMPTY,
    shown: Shown = NOTHING_SHOWN,
) -> Reading:
    """Make a reading of one answer. `at` is aware; `shown` is what its content shows."""
    rule = identity.rule
    service_tier = response_metadata.get("service_tier")
    plain = not context and not shown and service_tier in USUAL_TIERS and is_plain(response_metadata, rule)
    facts = PLAIN if plain else read_facts(response_metadata, service_tier, identity, context, shown)
    raw = usage_metadata if type(usage_metadata) is dict or isinstance(usage_metadata, Mapping) else NOTHING
    doubts = list(facts.remarks)
    counts = raw
    usage = _disjoint(counts, response_metadata, rule, facts, doubts) if _has_counts(counts) else None
    if usage is None:
        counts = _token_usage(response_metadata)
        usage = _disjoint(counts, response_metadata, rule, facts, doubts) if _has_counts(counts) else None
    if not plain and usage is not None:
        for compaction in facts.compactions:
            usage = _with_compaction(usage, _disjoint(_of_anthropic(compaction), NOTHING, rule, facts, doubts))

    key = PriceKeyDraft()
    key.provider, key.model, key.requested_model = identity.provider, identity.model, identity.requested_model
    key.at = at if at.tzinfo is UTC else at.astimezone(UTC)
    key.tier, key.batch, key.speed, key.geography = facts.tier, facts.batch, facts.speed, facts.geography
    if facts.tier is None and service_tier is None and not facts.batch and not facts.tier_stated:
        key.tier = _tier_in_details(counts)
    key.base_url_host, key.tags = base_url_host, tags
    if rule.extras == "google" and usage is not None and usage.reasoning_tokens and _is_dearer_thinking(identity.model):
        key.speed = THINKING

    reading = ReadingDraft()
    reading.usage, reading.key, reading.reported_usd = usage, sealed(key, PriceKey), facts.reported_usd
    # LangChain's cache writes this into an answer that it gives again.
    reading.cache_hit = raw.get("total_cost") == 0 if "total_cost" in raw else False
    reading.estimated = bool(doubts)
    reading.reasons = tuple(doubts) if usage is not None else (*doubts, NO_USAGE)
    return sealed(reading, Reading)


def _is_dearer_thinking(model: str | None) -> bool:
    """True for the first Gemini 2.5 Flash, whose answers had two prices: with thinking, and without."""
    return model is not None and model.startswith("gemini-2.5-flash-preview-0")


def _has_counts(raw: Mapping[str, object]) -> bool:
    """False where nothing was counted: a call that used no token at all does not exist."""
    return bool(
        raw.get("input_tokens") or raw.get("output_tokens") or raw.get("prompt_tokens") or raw.get("completion_tokens")
    )


def _token_usage(response_metadata: Mapping[str, object]) -> Mapping[str, object]:
    """The counts as an OpenAI-like answer gave them, where LangChain's own are missing."""
    for name in ("token_usage", "usage"):
        raw = response_metadata.get(name)
        if isinstance(raw, Mapping):
            return _of_anthropic(raw) if "cache_read_input_tokens" in raw else raw
    return NOTHING


def _of_anthropic(raw: Mapping[str, object]) -> Mapping[str, object]:
    """Anthropic's own counts, in which the input does not hold what was read from or written to a cache."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    text, read, written = (count_of(raw.get(name), name, []) for name in names)
    split = raw.get("cache_creation")
    details = {"cache_read": read, "cache_creation": written, **(split if isinstance(split, Mapping) else {})}
    return {
        "input_tokens": text + read + written,
        "output_tokens": raw.get("output_tokens"),
        "input_token_details": details,
    }


def _with_compaction(usage: Usage, more: Usage | None) -> Usage:
    """The call's tokens and those of a summary of its context; its searches and its request count once."""
    if more is None:
        return usage
    meters = (*TOKEN_METERS, "reasoning_tokens")
    return replace(usage, **{meter: getattr(usage, meter) + getattr(more, meter) for meter in meters})


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
        if rule.extras == "openai" and draft.cache_write_5m_tokens:
            _split_writes(draft, _raw_split(details, response_metadata), doubts)
    draft.output_tokens = output = _named(raw, OUTPUT_NAMES, "output_tokens", doubts)
    details = _details(raw, OUTPUT_DETAILS, response_metadata)
    if facts.on_top:
        _add_on_top(draft, details or raw, doubts)
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
    if token_usage is None and names[1] not in raw and names[2] not in raw:
        return NOTHING  # As in nearly all answers that come here.
    for source in (raw, token_usage):
        if isinstance(source, Mapping):
            for name in names[1:]:
                details = source.get(name)
                if details and isinstance(details, Mapping):
                    return details
    if names is INPUT_DETAILS and isinstance(token_usage, Mapping):
        for name in RAW_CACHED:
            if token_usage.get(name):
                return {"cache_read": token_usage[name]}
    return NOTHING


def _split_input(draft: UsageDraft, details: Mapping[str, object], rule: Rule, facts: Facts, doubts: list[str]) -> None:
    """Put the parts of the input on their meters, and leave on `input_tokens` what is in none of them."""
    draft.cache_read_tokens = read = _part(details, "cache_read", "cached_tokens", doubts)
    draft.audio_input_tokens = audio = _part(details, "audio", "audio_tokens", doubts)
    written = _part(details, "cache_creation", "cache_write_tokens", doubts)
    split = 0
    if facts.cache_ttl is not None:
        # What the caller states goes before the split of the answer.
        written = max(written, sum(_part(details, name, name, doubts) for name, _ in SPLIT_NAMES))
    elif rule.splits_cache_writes or "ephemeral_1h_input_tokens" in details or "ephemeral_5m_input_tokens" in details:
        for name, meter in SPLIT_NAMES:
            part = details.get(name)
            if part:
                if type(part) is not int or not 0 < part <= MOST_TOKENS:
                    part = count_of(part, meter, doubts)
                setattr(draft, meter, part)
                split += part
    if written > split:  # The split names the same tokens again, or there is none.
        meter = TTL_METERS.get(facts.cache_ttl or "5m", "cache_write_5m_tokens")
        setattr(draft, meter, getattr(draft, meter) + written - split)
        if rule.splits_cache_writes and facts.cache_ttl is None:
            doubts.append(TTL_ASSUMED)
    rest = draft.input_tokens - read - audio - (max(split, written))
    if audio and read:
        rest += _overlap(draft, -rest, doubts)
    if rest < 0:
        _clamp(draft, -rest, doubts)
        rest = 0
    draft.input_tokens = rest


def _split_writes(draft: UsageDraft, split: Mapping[str, object], doubts: list[str]) -> None:
    """Put cache writes on the meters of their times to live; what the split does not name stays where it was."""
    for name, meter in RAW_SPLIT_NAMES:
        part = split.get(name)
        if part:
            count = min(count_of(part, meter, doubts), draft.cache_write_5m_tokens)
            draft.cache_write_5m_tokens -= count
            setattr(draft, meter, getattr(draft, meter) + count)


def _raw_split(details: Mapping[str, object], response_metadata: Mapping[str, object]) -> Mapping[str, object]:
    """OpenAI's cache writes by time to live, from the counts that its adapter leaves as they came."""
    for source in (details, *_raw_details(response_metadata)):
        split = source.get("cache_write_tokens_details")
        if isinstance(split, Mapping):
            return split
    return NOTHING


def _raw_details(response_metadata: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    raw = response_metadata.get("token_usage")
    if isinstance(raw, Mapping):
        for name in INPUT_DETAILS[1:]:
            details = raw.get(name)
            if isinstance(details, Mapping):
                yield details


ON_TOP = ("reasoning", "citation_tokens")


def _add_on_top(draft: UsageDraft, details: Mapping[str, object], doubts: list[str]) -> None:
    """Count what Perplexity's deep research does not count in its totals.

    What it read for its citations is input, and charged as such; its reasoning is output, at a rate of its own.
    """
    doubts += [f"{name}_not_reported" for name in ON_TOP if name not in details and f"{name}_tokens" not in details]
    draft.reasoning_tokens = _part(details, "reasoning", "reasoning_tokens", doubts)
    draft.output_tokens += draft.reasoning_tokens
    draft.input_tokens += _part(details, "citation_tokens", "citation", doubts)


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
        if raw_name in details:
            value = details[raw_name]
        elif "priority" in details or "flex" in details:
            value = details.get(f"priority_{name}") or details.get(f"flex_{name}")
    if not value:
        return 0
    return value if type(value) is int and 0 < value <= MOST_TOKENS else count_of(value, name, doubts)


def _named(raw: Mapping[str, object], names: tuple[str, str], meter: str, doubts: list[str]) -> int:
    value = raw.get(names[0])
    if value is None:
        value = raw.get(names[1])
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else count_of(value, meter, doubts)


def _tier_in_details(raw: Mapping[str, object]) -> str | None:
    """OpenAI's tier as its adapter names it in the keys of the details; None for the standard one."""
    for name in ("input_token_details", "output_token_details"):
        details = raw.get(name)
        if details and (type(details) is dict or isinstance(details, Mapping)):
            if "priority" in details:
                return "priority"
            if "flex" in details:
                return "flex"
    return None
