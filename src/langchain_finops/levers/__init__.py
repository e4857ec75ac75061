"""What makes an agent cheaper: tiers of models, hand-off to a person, prompt caches and contexts cut where that pays.

None of them claims a saving: what one saves on your tasks, an evaluation shows. See docs/levers.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_finops.levers.cache_middleware import PromptCacheMiddleware
    from langchain_finops.levers.caching import PromptCachePolicy, cache_policy
    from langchain_finops.levers.capping import cap_answers
    from langchain_finops.levers.choices import Choice, Request
    from langchain_finops.levers.difficulty import (
        DifficultyScorer,
        PastFailures,
        asked_difficulty,
        calibrated,
        shape_difficulty,
    )
    from langchain_finops.levers.excerpts import passages
    from langchain_finops.levers.middleware import CapMiddleware, HandoffMiddleware, PruneMiddleware
    from langchain_finops.levers.person import Handoff, handoff
    from langchain_finops.levers.policies import by_budget, by_difficulty, by_intent, by_rule, cascade
    from langchain_finops.levers.pruning import Pruner, prune
    from langchain_finops.levers.routing import RoutingCosts, routing_costs
    from langchain_finops.levers.threshold import HandoffThreshold, TriedTask, best_threshold
    from langchain_finops.levers.tiering import TieredChatModel
    from langchain_finops.levers.tiers import Tier
    from langchain_finops.levers.verbosity import AnswerCap, AnswerCaps, learn_caps, needed_tokens

__all__ = [
    "AnswerCap",
    "AnswerCaps",
    "CapMiddleware",
    "Choice",
    "DifficultyScorer",
    "Handoff",
    "HandoffMiddleware",
    "HandoffThreshold",
    "PastFailures",
    "PromptCacheMiddleware",
    "PromptCachePolicy",
    "PruneMiddleware",
    "Pruner",
    "Request",
    "RoutingCosts",
    "Tier",
    "TieredChatModel",
    "TriedTask",
    "asked_difficulty",
    "best_threshold",
    "by_budget",
    "by_difficulty",
    "by_intent",
    "by_rule",
    "cache_policy",
    "calibrated",
    "cap_answers",
    "cascade",
    "handoff",
    "learn_caps",
    "needed_tokens",
    "passages",
    "prune",
    "routing_costs",
    "shape_difficulty",
]

_HOMES = {
    "AnswerCap": "verbosity",
    "AnswerCaps": "verbosity",
    "CapMiddleware": "middleware",
    "Choice": "choices",
    "DifficultyScorer": "difficulty",
    "Handoff": "person",
    "HandoffMiddleware": "middleware",
    "HandoffThreshold": "threshold",
    "PastFailures": "difficulty",
    "PromptCacheMiddleware": "cache_middleware",
    "PromptCachePolicy": "caching",
    "PruneMiddleware": "middleware",
    "Pruner": "pruning",
    "Request": "choices",
    "RoutingCosts": "routing",
    "Tier": "tiers",
    "TieredChatModel": "tiering",
    "TriedTask": "threshold",
    "asked_difficulty": "difficulty",
    "best_threshold": "threshold",
    "by_budget": "policies",
    "by_difficulty": "policies",
    "by_intent": "policies",
    "by_rule": "policies",
    "cache_policy": "caching",
    "calibrated": "difficulty",
    "cap_answers": "capping",
    "cascade": "policies",
    "handoff": "person",
    "learn_caps": "verbosity",
    "needed_tokens": "verbosity",
    "passages": "excerpts",
    "prune": "pruning",
    "routing_costs": "routing",
    "shape_difficulty": "difficulty",
}


def __getattr__(name: str) -> object:
    """Load a name when it is first used: one lever must not load what only another needs."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
