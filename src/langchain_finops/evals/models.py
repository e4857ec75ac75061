"""Models as suites name them: `openai:gpt-5-mini`, or `{model: "openai:gpt-5-mini", temperature: 0}`.

`chat_model(configuration)` is for targets. Before anything is bought it is checked that a model's provider is known,
its package and key are there, and, where money is limited, that its price is known.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from langchain_finops.errors import EvalError, Fault

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from langchain_finops.evals.matrix import Configuration
    from langchain_finops.pricing import PriceBook

__all__ = ["chat_model", "model_faults", "offline", "split_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provider:
    """Where a provider's chat model is, and what it needs."""

    package: str
    class_name: str
    keys: tuple[str, ...] = ()
    """Variables of the environment, one of which holds the key; none: it needs none, or learns otherwise who asks."""
    module: str | None = None

    @property
    def path(self) -> str:
        """The module to import."""
        return self.module or self.package.replace("-", "_")


PROVIDERS: Mapping[str, _Provider] = {
    "anthropic": _Provider(package="langchain-anthropic", class_name="ChatAnthropic", keys=("ANTHROPIC_API_KEY",)),
    "azure_openai": _Provider(
        package="langchain-openai",
        class_name="AzureChatOpenAI",
        keys=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY"),
    ),
    "bedrock": _Provider(package="langchain-aws", class_name="ChatBedrock"),
    "bedrock_converse": _Provider(package="langchain-aws", class_name="ChatBedrockConverse"),
    "cohere": _Provider(package="langchain-cohere", class_name="ChatCohere", keys=("COHERE_API_KEY",)),
    "deepseek": _Provider(package="langchain-deepseek", class_name="ChatDeepSeek", keys=("DEEPSEEK_API_KEY",)),
    "fireworks": _Provider(package="langchain-fireworks", class_name="ChatFireworks", keys=("FIREWORKS_API_KEY",)),
    "google_genai": _Provider(
        package="langchain-google-genai",
        class_name="ChatGoogleGenerativeAI",
        keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    ),
    "google_vertexai": _Provider(package="langchain-google-vertexai", class_name="ChatVertexAI"),
    "groq": _Provider(package="langchain-groq", class_name="ChatGroq", keys=("GROQ_API_KEY",)),
    "mistralai": _Provider(package="langchain-mistralai", class_name="ChatMistralAI", keys=("MISTRAL_API_KEY",)),
    "nvidia": _Provider(package="langchain-nvidia-ai-endpoints", class_name="ChatNVIDIA", keys=("NVIDIA_API_KEY",)),
    "ollama": _Provider(package="langchain-ollama", class_name="ChatOllama"),
    "openai": _Provider(package="langchain-openai", class_name="ChatOpenAI", keys=("OPENAI_API_KEY",)),
    "openrouter": _Provider(package="langchain-openrouter", class_name="ChatOpenRouter", keys=("OPENROUTER_API_KEY",)),
    "perplexity": _Provider(
        package="langchain-perplexity", class_name="ChatPerplexity", keys=("PPLX_API_KEY", "PERPLEXITY_API_KEY")
    ),
    "together": _Provider(package="langchain-together", class_name="ChatTogether", keys=("TOGETHER_API_KEY",)),
    "xai": _Provider(package="langchain-xai", class_name="ChatXAI", keys=("XAI_API_KEY",)),
}
"""By the names that `init_chat_model` has for them."""
OWN_SERVER = ("base_url", "api_base")
"""Parameters by which a model is asked elsewhere than at its provider: on a machine of one's own it needs no key."""
NO_KEY = "none"
"""What clients are given that insist on a key where none is needed."""
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_OFFLINE: ContextVar[bool] = ContextVar("finops_offline", default=False)


@contextmanager
def offline(*, wanted: bool = True) -> Iterator[None]:
    """Models that are made within need no key: a recording answers for them."""
    token = _OFFLINE.set(wanted)
    try:
        yield
    finally:
        _OFFLINE.reset(token)


def split_model(name: str) -> tuple[str | None, str]:
    """Provider and model of `provider:model`; no provider where what stands before a colon is none."""
    provider, colon, model = name.partition(":")
    provider = provider.replace("-", "_").lower()
    return (provider, model) if colon and provider in PROVIDERS else (None, name)


def chat_model(configuration: Mapping[str, object]) -> "BaseChatModel":
    """The chat model that a configuration names under `model`: `provider:model`, or a mapping with `model` and its
    parameters.

    Raises EvalError, in one sentence, for a provider that is not known and for a package or a key that is missing.
    """
    name, parameters = _named(configuration.get("model"))
    if name is None:
        raise EvalError(f"{configuration.get('model')!r} found as model: write `model: provider:name`")
    provider, model = split_model(name)
    if provider is None:
        raise EvalError(_unknown(name))
    if what := _missing(provider, parameters, without_key=_OFFLINE.get()):
        raise EvalError(f"model {name!r}: {what}")
    known = PROVIDERS[provider]
    made = getattr(import_module(known.path), known.class_name)
    if misspelt := _misspelt(parameters, made):
        raise EvalError(f"model {name!r}: {misspelt}")
    if (key := parameters.get("api_key")) is not None:
        parameters["api_key"] = os.environ.get(str(key)[2:-1]) or NO_KEY
    elif known.keys and not any(os.environ.get(key) for key in known.keys):  # As a replay, or a server of one's own.
        parameters["api_key"] = NO_KEY
    return cast("BaseChatModel", made(model=model, **parameters))


def model_faults(
    configurations: Iterable["Configuration"],
    *,
    suite: Path,
    prices: "PriceBook",
    without_key: bool,
    needs_prices: bool,
) -> list[Fault]:
    """Everything that keeps the configurations' models from being asked, or their money from being limited.

    A text that names no provider is the target's own affair.
    """
    faults: dict[str, Fault] = {}
    for configuration in configurations:
        said = configuration.parameters.get("model")
        name, parameters = _named(said)
        if name is None:
            continue
        where = f"{suite}: {configuration.name}: model"
        provider, model = split_model(name)
        if provider is None:
            if isinstance(said, Mapping) or _nearly_known(name):
                faults.setdefault(name, Fault(where=where, what=_unknown(name)))
            continue
        reached = {**configuration.parameters, **parameters}
        if what := _missing(provider, reached, without_key=without_key):
            faults.setdefault(f"{provider}: {what}", Fault(where=where, what=f"{name!r}: {what}"))
        if needs_prices and not _has_price(provider, model, reached, prices):
            what = (
                f"the price of {name!r} is not known, so that no limit in USD can be held: add a card to the suite's "
                "`cards`, or leave the limit out"
            )
            faults.setdefault(f"price {name}", Fault(where=where, what=what))
    return list(faults.values())


def _named(said: object) -> tuple[str | None, dict[str, Any]]:
    """The name of a model and its parameters, as a suite writes them."""
    if isinstance(said, str):
        return said, {}
    if isinstance(said, Mapping) and isinstance(said.get("model"), str):
        return str(said["model"]), {str(key): value for key, value in said.items() if key != "model"}
    return None, {}


def _nearly_known(name: str) -> list[str]:
    prefix, colon, _ = name.partition(":")
    return get_close_matches(prefix, PROVIDERS, n=1, cutoff=0.88) if colon else []


def _unknown(name: str) -> str:
    near = _nearly_known(name)
    prefix = name.partition(":")[0]
    remedy = f"{near[0]!r} is meant?" if near else f"write provider:model, with one of {', '.join(PROVIDERS)}"
    said = f"{prefix!r} is no provider that is known" if ":" in name else "a provider is missing"
    return f"{name!r}: {said}: {remedy}"


def _missing(provider: str, parameters: Mapping[str, object], *, without_key: bool) -> str:
    """What a provider's models need and is not there, with the remedy; empty where all is."""
    known = PROVIDERS[provider]
    if find_spec(known.path.partition(".")[0]) is None:
        return f"its package is missing: pip install {known.package}"
    keys: Sequence[str] = known.keys
    if (stated := parameters.get("api_key")) is not None:
        named = VARIABLE.fullmatch(stated) if isinstance(stated, str) else None
        if named is None:
            return "its api_key would be written down with the results: write ${NAME} of a variable of the environment"
        keys = [named[1]]
    elif without_key or any(parameters.get(name) for name in OWN_SERVER):
        return ""
    if keys and not without_key and not any(os.environ.get(key) for key in keys):
        return f"its key is missing: set {' or '.join(keys)}"
    return ""


def _misspelt(parameters: Mapping[str, object], made: Any) -> str:
    """A parameter that its class would hand on to the provider, though one of its own is meant; empty where none is."""
    own = {name for key, info in made.model_fields.items() for name in (key, info.alias) if name}
    for name in parameters:
        if name not in own and (near := get_close_matches(name, own, n=1, cutoff=0.85)):
            return f"{name!r} is no parameter: {near[0]!r} is meant?"
    return ""


def _has_price(provider: str, model: str, parameters: Mapping[str, object], prices: "PriceBook") -> bool:
    url = parameters.get("base_url")
    reading = prices.read(
        {"input_tokens": 1000, "output_tokens": 1000, "total_tokens": 2000},
        {},
        {"ls_provider": provider, "ls_model_name": model},
        at=datetime.now(UTC),
        base_url_host=urlsplit(url).netloc if isinstance(url, str) else None,
    )
    return prices.price(reading, seconds=1).usd is not None
