"""The prompt cache's lever in an agent made with `create_agent`. Extra `langchain`."""

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_finops.errors import MissingExtra
from langchain_finops.levers.caching import PromptCachePolicy

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
except ImportError as error:
    raise MissingExtra("PromptCacheMiddleware", "langchain") from error

__all__ = ["PromptCacheMiddleware"]

Request = ModelRequest[Any]
Response = ModelResponse[Any]


class PromptCacheMiddleware(AgentMiddleware[Any, Any, Any]):
    """Has each of an agent's model calls ask for the prompt cache where that pays, whichever model is called."""

    def __init__(self, policy: PromptCachePolicy) -> None:
        super().__init__()
        self._policy = policy

    def wrap_model_call(self, request: Request, handler: Callable[[Request], Response]) -> Response:
        """Make the call with a model that asks."""
        return handler(request.override(model=self._policy.bind(request.model)))

    async def awrap_model_call(self, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """The same, in async code."""
        return await handler(request.override(model=self._policy.bind(request.model)))
