"""Who sold the call, and which model: one rule a provider, table-driven."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["Identity", "Rule", "canonical_provider", "identify", "is_known_endpoint", "rule_of"]

Extras = Literal["openai", "anthropic", "bedrock", "endpoint", "google", "openrouter", "perplexity", "xai"]

PROVIDERS: Mapping[str, str] = {
    "openai": "openai",
    "azure": "azure",
    "azure-openai": "azure",
    "azure-ai": "azure",
    "azureai": "azure",
    "anthropic": "anthropic",
    "anthropic-bedrock": "aws",
    "amazon-bedrock": "aws",
    "amazon-bedrock-converse": "aws",
    "bedrock": "aws",
    "bedrock-converse": "aws",
    "aws": "aws",
    "google-genai": "google",
    "google-vertexai": "google",
    "google-anthropic-vertex": "google",
    "anthropic-vertex": "google",
    "vertexai": "google",
    "vertex-ai": "google",
    "gemini": "google",
    "google": "google",
    "mistralai": "mistral",
    "mistral": "mistral",
    "groq": "groq",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "x-ai": "x-ai",
    "openrouter": "openrouter",
    "ollama": "ollama",
    "together": "together",
    "together-ai": "together",
    "togetherai": "together",
    "fireworks": "fireworks",
    "fireworks-ai": "fireworks",
    "cohere": "cohere",
    "perplexity": "perplexity",
    "moonshot": "moonshotai",
}
"""What LangChain's integrations call a provider (`_` read as `-`), and what we and the catalogue call it."""

HOSTS: tuple[tuple[str, str], ...] = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("api.anthropic.com", "anthropic"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "x-ai"),
    ("api.mistral.ai", "mistral"),
    ("api.together.xyz", "together"),
    ("api.together.ai", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("googleapis.com", "google"),
    ("amazonaws.com", "aws"),
)
"""Ends of host names, and who answers there."""

OPEN_CLIENTS = frozenset({"openai", "anthropic"})
"""Clients that people point at other servers: there the host tells who sold the call."""

EXACT_HOSTS = frozenset({"api.openai.com", "api.anthropic.com"})
"""Hosts where those clients pay the list price. A regional host of the same provider may charge more."""

SHORTEST_NAME = 2
"""Shorter than any model is called: what is said twice of fewer letters is no repetition of a name."""
MODEL_PREFIXES = ("models/", "publishers/google/models/", "azure/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a provider's answers are read, where they differ from the common way."""

    tiers: Mapping[str, str | None]
    """The provider's names for a service tier, and ours: None is the standard one. Others stay as they are."""
    splits_cache_writes: bool = False
    """Cache writes come with their time to live; where it is missing, five minutes are an assumption."""
    extras: Extras | None = None
    """Which further facts are looked for in the response metadata."""
    usual_places: tuple[str | None, ...] = ()
    """Regions whose price is the one that is listed; empty for what is usual everywhere."""


STANDARD_TIERS: Mapping[str, str | None] = {
    "default": None,
    "standard": None,
    "standard_only": None,
    "on_demand": None,
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",  # What OpenAI calls priority from the models after 5.6 on.
    "batch": "batch",
}
# Groq charges flex as on demand, and names the tier that was asked for: `auto` is one of the two.
GROQ_TIERS: Mapping[str, str | None] = {**STANDARD_TIERS, "flex": None, "auto": None}

# What Perplexity charges a request by is the size of its search context: low is what it takes unasked.
PERPLEXITY_SIZES: Mapping[str, str | None] = {"low": None}
# The regions that Amazon's price pages show first, and whose prices the catalogue has.
AWS_PLACES = (None, "global", "us", "us-east-1", "us-east-2", "us-west-2")
GOOGLE_PLACES = (None, "global", "us-central1")

COMMON = Rule(tiers=STANDARD_TIERS)
RULES: Mapping[str, Rule] = {
    "openai": Rule(tiers=STANDARD_TIERS, extras="openai"),
    "azure": Rule(tiers=STANDARD_TIERS, extras="openai"),
    "anthropic": Rule(tiers=STANDARD_TIERS, splits_cache_writes=True, extras="anthropic"),
    "aws": Rule(tiers=STANDARD_TIERS, extras="bedrock", usual_places=AWS_PLACES),
    "endpoint": Rule(tiers=STANDARD_TIERS, extras="endpoint"),
    "google": Rule(tiers=STANDARD_TIERS, extras="google", usual_places=GOOGLE_PLACES),
    "groq": Rule(tiers=GROQ_TIERS),
    "openrouter": Rule(tiers=STANDARD_TIERS, extras="openrouter"),
    "perplexity": Rule(tiers=PERPLEXITY_SIZES, extras="perplexity"),
    "x-ai": Rule(tiers=STANDARD_TIERS, extras="xai"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answered: the parts of a price key that are the same from call to call."""

    provider: str | None
    model: str | None
    requested_model: str | None
    rule: Rule


def canonical_provider(name: str) -> str:
    """The name that we and the catalogue use for a provider; an unknown name stays, in lower case."""
    plain = name.strip().lower().replace("_", "-")
    if plain.endswith("mantle"):  # Bedrock's newer endpoints, whatever the client.
        return "aws"
    return PROVIDERS.get(plain, name.strip().lower())


def rule_of(provider: str | None) -> Rule:
    """How this provider's answers are read."""
    return RULES.get(provider, COMMON) if provider else COMMON


@lru_cache(maxsize=1024)
def provider_at(host: str) -> str | None:
    """Who answers at a host, port and case aside; None for a host that is not in the table."""
    name = host.lower().rsplit("@", 1)[-1].split(":", 1)[0]
    return next((provider for end, provider in HOSTS if name == end or name.endswith(f".{end}")), None)


def is_known_endpoint(provider: str | None, host: str | None) -> bool:
    """False where an open client talks to a host that is not the provider's own: the list price may not be paid."""
    if host is None or provider not in OPEN_CLIENTS:
        return True
    return host.lower().split(":", 1)[0] in EXACT_HOSTS


def identify(
    *,
    asked_provider: str | None,
    answering_provider: str | None,
    asked_model: str | None,
    answering_model: str | None,
    host: str | None,
    aliases: Mapping[str, str],
) -> Identity:
    """Who answered, from what the request said, what the answer said, and where it was sent.

    Provider: the request's (`ls_provider`; Azure's answers call themselves openai), else the answer's. Model: the
    answer's, else the request's; the user's aliases replace either.
    """
    stated = asked_provider or answering_provider
    provider = canonical_provider(stated) if stated else None
    if host and (provider is None or provider in OPEN_CLIENTS):
        provider = provider_at(host) or provider
    requested = _clean_model(asked_model)
    if answering_model != asked_model:
        answering_model = _once(answering_model)
    model = _clean_model(answering_model) or requested
    if model and requested and model.startswith("arn:") and not requested.startswith("arn:"):
        model = requested  # An application profile's id says nothing; the request may name the model below it.
    for name in (answering_model, model, asked_model, requested):
        if name is not None and name in aliases:
            model = aliases[name]
            break
    return Identity(provider=provider, model=model, requested_model=requested, rule=rule_of(provider))


def _once(name: str | None) -> str | None:
    """The name without its repetitions: merged chunks of a stream may name the model once for each chunk."""
    if not name:
        return name
    period = (name + name).find(name, 1)
    return name[:period] if period >= SHORTEST_NAME else name


def _clean_model(name: str | None) -> str | None:
    if name is None:
        return None
    plain = name.strip()
    # Other resources, such as application profiles, have ids of their own: the user's aliases have to name the model.
    for kind in (":foundation-model/", ":inference-profile/"):
        if plain.startswith("arn:") and kind in plain:
            plain = plain.partition(kind)[2]
    for prefix in MODEL_PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain or None
