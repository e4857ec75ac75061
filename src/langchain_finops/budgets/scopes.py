"""For whom a limit is: whose balance a call counts on, and which calls a guard looks at."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from langchain_finops.records import Attribution

__all__ = ["MATCHED", "SCOPES", "Match", "check_match", "check_scope", "elements", "matches", "rank", "values"]

Match = tuple[tuple[str, str], ...]
"""What a call's attribution must say, as sorted pairs: frozen, so that policies hash and pickle."""

_RANKS: Final = {
    "all": 0,
    "customer_id": 1,
    "project": 1,
    "agent_id": 2,
    "user_id": 2,
    "task_id": 2,
    "thread_id": 2,
    "run": 3,
    "node": 4,
}
SCOPES: Final = tuple(_RANKS)
"""All scopes but `tag:NAME`, which there are as many of as names."""
MATCHED: Final = (
    "agent_id",
    "user_id",
    "task_id",
    "task_type",
    "thread_id",
    "customer_id",
    "project",
    "environment",
    "release",
    "role",
    "node",
    "node_path",
)
"""All that `match` understands but `tag:NAME`."""


def check_scope(scope: object) -> str:
    """The scope, if it is one. Raises ValueError."""
    if isinstance(scope, str) and (scope in _RANKS or _tag(scope)):
        return scope
    raise ValueError(f"must be one of {', '.join(SCOPES)}, tag:NAME, not {scope!r}")


def check_match(match: object) -> Match:
    """The pairs of a `match`, sorted. Raises ValueError with all that is wrong."""
    try:
        pairs = dict(match.items() if isinstance(match, Mapping) else match or ())  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be a mapping such as {{'node': 'researcher'}}, not {match!r}") from error
    faults = []
    for name, value in pairs.items():
        if not isinstance(name, str) or not (name in MATCHED or _tag(name)):
            faults.append(f"knows no {name!r}, but {', '.join(MATCHED)}, tag:NAME")
        elif isinstance(value, bool) or not isinstance(value, str | int | UUID) or value == "":
            faults.append(f"{name} must equal one text, not {value!r}")
    if faults:
        raise ValueError(", and ".join(faults))
    return tuple(sorted((name, str(value)) for name, value in pairs.items()))


def matches(match: Match, who: Attribution) -> bool:
    """Whether a call is one that a guard looks at: every value named is equal; what is unknown equals nothing.

    `node` is any element of the node path, `node_path` is the path itself or one it lies under.
    """
    return all(_equals(name, value, who) for name, value in match)


def _equals(name: str, value: str, who: Attribution) -> bool:
    if name == "node":
        return value in elements(who.node_path)
    if name == "node_path":
        path = who.node_path
        return path is not None and (path == value or path.startswith(f"{value}/"))
    return _said(name, who) == value


def elements(node_path: str | None) -> tuple[str, ...]:
    """The nodes that a path goes through, outermost first, each once; none outside a graph."""
    return () if node_path is None else tuple(dict.fromkeys(node_path.split("/")))


def values(scope: str, who: Attribution) -> tuple[str | None, ...]:
    """Whose balances a call counts on, in a scope that is of a name: one, or of `node` each node of its path.

    None where the call does not say: those share one balance.
    """
    if scope == "node":
        return elements(who.node_path) or (None,)
    return (_said(scope, who),)


def rank(scope: str) -> int:
    """Where a scope stands between `all`, the outermost, and `node`."""
    return _RANKS.get(scope, _RANKS["agent_id"])


def _said(name: str, who: Attribution) -> str | None:
    tag = _tag(name)
    value: str | None = who.tags.get(tag) if tag else getattr(who, name)
    return value


def _tag(name: str) -> str:
    prefix, _, tag = name.partition(":")
    return tag if prefix == "tag" else ""
