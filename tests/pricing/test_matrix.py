"""The table of providers and features in the manual says what the cases show."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from langchain_finops.pricing.providers import canonical_provider

Case = Mapping[str, object]
CASES = [
    case
    for path in Path(__file__).parent.joinpath("cases").glob("*.yaml")
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))["cases"]
]
PAGE = Path(__file__).parents[2].joinpath("docs", "prices.md").read_text(encoding="utf-8")


def part(case: Case, name: str) -> Mapping[str, object]:
    """A mapping in a case; an empty one where it has none."""
    value = case.get(name)
    return value if isinstance(value, Mapping) else {}


def usage_of(case: Case) -> Mapping[str, object]:
    """Anthropic's own counts."""
    return part(part(case, "said"), "usage")


def searched(case: Case) -> bool:
    """True for a case that is about searches."""
    said = part(case, "said")
    names = {"grounding_metadata", "search_context_size", "num_search_queries"} & set(said)
    return bool(names or usage_of(case).get("server_tool_use") or case.get("content")) or (
        "web_search" in part(part(case, "context"), "server_tools")
    )


FEATURES: Mapping[str, Callable[[Case], bool]] = {
    "cached input": lambda case: (
        "cache_read" in part(case, "input")
        or bool({"num_cached_tokens", "prompt_cache_hit_tokens"} & set(part(part(case, "said"), "token_usage")))
    ),
    "times to live": lambda case: (
        "cache_ttl" in part(case, "context") or any(name.startswith("ephemeral") for name in part(case, "input"))
    ),
    "tiers, speed": lambda case: (
        part(case, "said").get("service_tier", "default") != "default"
        or part(part(case, "said"), "serviceTier").get("type", "default") != "default"
        or "service_tier" in part(case, "context")
        or "speed" in usage_of(case)
    ),
    "batch": lambda case: (
        part(case, "context").get("processing") == "batch" or usage_of(case).get("service_tier") == "batch"
    ),
    "audio": lambda case: "audio" in part(case, "input"),
    "long prompts": lambda case: case.get("tokens", [0])[0] > 100_000,  # type: ignore[index]
    "time of day": lambda case: case["ask"][0] == "deepseek" and "at" in case,  # type: ignore[index]
    "searches": searched,
    "region": lambda case: (
        "region" in part(case, "context")
        or "inference_geo" in usage_of(case)
        or str(case["ask"][1]).startswith(("us.", "eu.", "apac."))  # type: ignore[index]
    ),
    "billed amount": lambda case: case.get("status") == "reported",
}


def table() -> list[tuple[str, str, str]]:
    """(provider, feature, word) for each cell."""
    lines = PAGE.split("| provider |", 1)[1].splitlines()
    names = [name.strip() for name in lines[0].strip("| ").split("|")]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:] if line.startswith("|")]
    return [(row[0], name, word) for row in rows for name, word in zip(names, row[1:], strict=True)]


@pytest.mark.parametrize(("provider", "feature", "word"), table())
def test_each_word_of_the_table_has_a_case(provider: str, feature: str, word: str) -> None:
    """A cell says exact or estimated only where a case of the provider has the feature, and comes out so."""
    statuses = {
        case.get("status", "exact")
        for case in CASES
        if case["ask"][0] and canonical_provider(case["ask"][0]) == provider and FEATURES[feature](case)
    }

    assert word in ("exact", "estimated", "unsupported", "—")
    if word == "exact":
        assert statuses & {"exact", "reported"}, statuses
    if word == "estimated":
        assert "estimated" in statuses
        assert "exact" not in statuses
    if word == "—":
        assert not statuses & {"exact", "reported"}
