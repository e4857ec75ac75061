"""The levers that stand before the model, in an agent made with `create_agent`. Extra `langchain`."""

from typing import Any

from langchain_core.messages import AIMessage

from langchain_finops.errors import MissingExtra
from langchain_finops.levers.person import Handoff
from langchain_finops.levers.pruning import Pruner

try:
    from langchain.agents.middleware import AgentMiddleware, hook_config
except ImportError as error:
    raise MissingExtra("HandoffMiddleware", "langchain") from error

__all__ = ["HandoffMiddleware", "PruneMiddleware"]


class HandoffMiddleware(AgentMiddleware[Any, Any, Any]):
    """Asks a person before a model call that is too difficult; their answer is the agent's last message."""

    def __init__(self, ask: Handoff) -> None:
        super().__init__()
        self._ask = ask

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002  LangChain passes it.
        """Ask, if it is worth it."""
        return _update(self._ask.asks(state["messages"]))

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002  As above.
        """The same, in async code."""
        return _update(await self._ask.aasks(state["messages"]))


class PruneMiddleware(AgentMiddleware[Any, Any, Any]):
    """Shortens an agent's conversation before a model call, where that pays."""

    def __init__(self, pruner: Pruner) -> None:
        super().__init__()
        self._pruner = pruner

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002  LangChain passes it.
        """Shorten it, if it pays."""
        return self._pruner.update(state["messages"])

    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002  As above.
        """The same, in async code."""
        return await self._pruner.aupdate(state["messages"])


def _update(said: Any) -> dict[str, Any] | None:
    if said is None:
        return None
    return {"messages": [said], **({"jump_to": "end"} if isinstance(said, AIMessage) else {})}
