"""Whom a cost belongs to: what the event's metadata says, over the handler's defaults."""

from collections.abc import Mapping
from typing import Any, cast

from langchain_finops.meter import draft_of
from langchain_finops.records import EMPTY, Attribution

__all__ = ["Said", "attribution", "node_path", "said", "written"]

Said = tuple[object, ...]
"""What an event's metadata says of who it is for; equal for events that get one attribution."""

NAMESPACE = "langgraph_checkpoint_ns"
"""Key by which an event belongs to a node's execution, right even where parents are not."""
NODE = "langgraph_node"


AttributionDraft = draft_of(Attribution)


def said(metadata: Mapping[str, Any]) -> Said:
    """What the metadata says, in the order of the parameters of `attribution`. One tuple, so that it compares fast."""
    get = metadata.get
    return (
        get("agent_id"),
        get("user_id"),
        get("task_id"),
        get("task_type"),
        get("customer_id"),
        get("project"),
        get("environment"),
        get("release"),
        get("tags"),
        get("thread_id"),
        get("lc_agent_name"),
        # Calls that LangChain's middleware makes for itself: summaries, tool choice, emulation.
        get("lc_source") or get("lc_internal_call"),
    )


def node_path(namespace: str) -> str:
    """`researcher/search` for `researcher:<id>|search:<id>`; the numbers LangGraph puts between are left out."""
    if "|" not in namespace:
        return namespace.partition(":")[0]
    return "/".join(part.partition(":")[0] for part in namespace.split("|") if not part.isdigit())


def attribution(
    said_of: Said,
    defaults: Attribution,
    *,
    graph_name: str | None,
    own_task: str | None = None,
    path: str | None = None,
    step: int | None = None,
    attempt: int | None = None,
) -> Attribution:
    """Build the attribution of an event: the metadata first, then the defaults, then the names LangChain gives."""
    agent, user, task, task_type, customer, project, environment, release, tags, thread, lc_agent, internal = said_of
    draft = AttributionDraft()
    draft.agent_id = _name(agent) or defaults.agent_id or _name(lc_agent) or graph_name
    draft.user_id = _name(user) or defaults.user_id
    draft.task_id = _name(task) or defaults.task_id or own_task
    draft.task_type = _name(task_type) or defaults.task_type
    draft.thread_id = _name(thread)
    draft.customer_id = _name(customer) or defaults.customer_id
    draft.project = _name(project) or defaults.project
    draft.environment = _name(environment) or defaults.environment
    draft.release = _name(release) or defaults.release
    draft.node = None if path is None else path.rpartition("/")[2]
    draft.node_path, draft.step, draft.attempt = path, step, attempt
    draft.role = "overhead" if internal and defaults.role == "agent" else defaults.role
    draft.tags = defaults.tags if tags is None else _tags(tags, defaults.tags)
    draft.__class__ = Attribution
    return cast(Attribution, draft)


def _name(value: object) -> str | None:
    """Ids come as numbers and UUIDs as well; records hold text."""
    return None if value is None else _text(value) or None


def written(value: object) -> str:
    """The text of an id of whatever type; of one that has none the type's name: a fault here would lose the event."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  The user's own class.
        return type(value).__name__


def _text(value: object) -> str:
    text = value if isinstance(value, str) else written(value)
    # JSON can bring half a surrogate pair, which no encoding has: a ledger would have to refuse the record.
    return text if text.isascii() else text.encode(errors="replace").decode()


def _tags(tags: object, defaults: Mapping[str, str]) -> Mapping[str, str]:
    """The metadata's tags over the default ones. Whatever is no mapping is somebody else's `tags`."""
    if not isinstance(tags, Mapping) or not tags:
        return defaults or EMPTY
    return {**defaults, **{_text(name): _text(value) for name, value in tags.items()}}
