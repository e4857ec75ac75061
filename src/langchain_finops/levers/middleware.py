"""The levers that stand before the model, in an agent made with `create_agent`. Extra `langchain`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.messages import AIMessage

from langchain_finops.errors import MissingExtra
from langchain_finops.levers.capping import capped_within, settings_of
from langchain_finops.levers.person import Handoff
from langchain_finops.levers.pruning import Pruner
from langchain_finops.levers.verbosity import AnswerCaps

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, hook_config
except ImportError as error:
    raise MissingExtra("HandoffMiddleware", "langchain") from error

__all__ = ["CapMiddleware", "HandoffMiddleware", "PruneMiddleware"]


class CapMiddleware(AgentMiddleware[Any, Any, Any]):
    """Bounds an agent's answers by caps, as `cap_answers` does, whichever model other middleware has chosen.

    The node of `create_agent`'s model is `model`. Raises BadArguments for what are no caps.
    """

    def __init__(self, caps: AnswerCaps | Mapping[str, int], *, retry: bool = False) -> None:
        super().__init__()
        self._settings = settings_of(caps, retry=retry)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Make the call with a model that answers up to its cap."""
        return handler(self._capped(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same, in async code."""
        return await handler(self._capped(request))

    def _capped(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        return request.override(model=capped_within(request.model, self._settings))


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
