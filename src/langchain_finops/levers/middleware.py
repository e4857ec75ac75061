"""The levers that stand before the model, in an agent made with `create_agent`. Extra `langchain`."""

from typing import Any

from langchain_core.messages import AIMessage

from langchain_finops.errors import MissingExtra
from langchain_finops.levers.person import Handoff

try:
    from langchain.agents.middleware import AgentMiddleware, hook_config
except ImportError as error:
    raise MissingExtra("HandoffMiddleware", "langchain") from error

__all__ = ["HandoffMiddleware"]


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


def _update(said: Any) -> dict[str, Any] | None:
    if said is None:
        return None
    return {"messages": [said], **({"jump_to": "end"} if isinstance(said, AIMessage) else {})}
