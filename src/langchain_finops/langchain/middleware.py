"""An agent made with `create_agent`, where a middleware does what a callback cannot. Extra `langchain`.

The callback refuses; this asks for answers that fit, turns a refusal into the agent's last message, and tags requests.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config
from langgraph.types import Command

from langchain_finops.errors import BadArguments, MissingExtra
from langchain_finops.langchain.affording import Asked, affordable_output_tokens, let_end, thinking_tokens
from langchain_finops.langchain.extract import MAX_TOKENS
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.langchain.refusals import CallRefused, Killed, RunDrained
from langchain_finops.langchain.stops import MARKER, Told, told_of
from langchain_finops.langchain.tagging import Users, settings_of, tagged_within
from langchain_finops.langchain.tagging_users import warn_once

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, ToolCallRequest
except ImportError as error:
    raise MissingExtra("FinOpsMiddleware", "langchain") from error

__all__ = ["FinOpsMiddleware", "TaggingMiddleware"]

LEAST_TOKENS: Final = 64
"""No bound is set below that: such an answer is not worth its prompt. A budget without room for it refuses the call."""
SAFE_TOKENS: Final = 4_096
"""A bound that any model takes; of one that says how much it takes, that is the most that is set."""

Request = ModelRequest[Any]
Response = ModelResponse[Any]
Ran = ToolMessage | Command[Any]


class FinOpsMiddleware(AgentMiddleware[Any, Any, Any]):
    """Bounds an agent's answers by what its budgets afford, and ends it with a message once they afford none.

    `handler` is the one in the run's callbacks, or attached: it counts each call, once. A drain, a question to a person
    and the kill switch are no last message: they go on as without the middleware.
    """

    def __init__(self, handler: FinOpsHandler) -> None:
        super().__init__()
        self._handler = handler

    def wrap_model_call(self, request: Request, handler: Callable[[Request], Response]) -> Response | AIMessage:
        """Make the call with a bound, or say why it was not made."""
        try:
            return handler(self._bounded(request))
        except CallRefused as refusal:
            return self._last_message(refusal)

    async def awrap_model_call(
        self, request: Request, handler: Callable[[Request], Awaitable[Response]]
    ) -> Response | AIMessage:
        """The same, in async code."""
        try:
            return await handler(self._bounded(request))
        except CallRefused as refusal:
            return self._last_message(refusal)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Ran]) -> Ran | ToolMessage:
        """Run the tool, or say in its place that it did not run: the agent's last message follows."""
        try:
            return handler(request)
        except CallRefused as refusal:
            return self._not_run(request, refusal)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Ran]]
    ) -> Ran | ToolMessage:
        """The same, in async code."""
        try:
            return await handler(request)
        except CallRefused as refusal:
            return self._not_run(request, refusal)

    def _last_message(self, refusal: CallRefused) -> AIMessage:
        marker = self._let_end(refusal)
        return AIMessage(f"I have to stop here. {refusal}", response_metadata={MARKER: marker})

    def _not_run(self, request: ToolCallRequest, refusal: CallRefused) -> ToolMessage:
        marker, call = self._let_end(refusal), request.tool_call
        return ToolMessage(
            f"Not run. {refusal}",
            name=call["name"],
            tool_call_id=call["id"] or "",
            status="error",
            response_metadata={MARKER: marker},
        )

    def _let_end(self, refusal: CallRefused) -> Told:
        """Let the agent come to its end; what is no last message is raised again."""
        if isinstance(refusal, RunDrained | Killed):
            raise refusal
        self._handler.tell(let_end, self._handler.recorder, _metadata())
        return told_of(refusal.refusal, refusal.unvalidated)

    def _bounded(self, request: Request) -> Request:
        """The request with a maximum that the budgets have room for, where its own is larger or it has none."""
        model, settings, metadata = request.model, request.model_settings, _metadata()
        recorder = self._handler.recorder
        if recorder.tracker.place(None, metadata) is None:
            raise BadArguments(
                "FinOpsMiddleware's handler does not see this run: pass config={'callbacks': [handler]}, or "
                "attach(handler)"
            )
        prompt = [*([request.system_message] if request.system_message is not None else []), *request.messages]
        asked = Asked(prompt, _model_metadata(model, settings), {**settings, "tools": _schemas(request.tools)})
        affordable = self._handler.tell(affordable_output_tokens, recorder, asked, metadata)
        name, own = _own_bound(model, settings)
        if affordable is None or affordable >= (own or _most(model)):
            return request
        bound = max(affordable, LEAST_TOKENS)
        if bound <= thinking_tokens(model, settings) or (own is not None and bound >= own):
            return request  # A provider refuses a maximum that leaves no room beside the thinking it is to do.
        return request.override(model_settings={**settings, name: bound})


class TaggingMiddleware(AgentMiddleware[Any, Any, Any]):
    """Tags each of an agent's model requests as `tag_requests` does, whichever model other middleware has chosen."""

    def __init__(
        self, style: str | Sequence[str] = "auto", *, users: Users = "hashed", user_key: str | bytes | None = None
    ) -> None:
        """Raises BadArguments for a style that there is not."""
        super().__init__()
        self._settings = settings_of(style, users, user_key)

    def wrap_model_call(self, request: Request, handler: Callable[[Request], Response]) -> Response:
        """Make the call with a model that tags its requests."""
        return handler(self._tagged(request))

    async def awrap_model_call(self, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """The same, in async code."""
        return await handler(self._tagged(request))

    def _tagged(self, request: Request) -> Request:
        """The request with a model that tags; as it was, with one warning in the log, where a fault of ours comes."""
        try:
            return request.override(model=tagged_within(request.model, self._settings))
        except Exception as error:  # noqa: BLE001  A tag is never worth an answer.
            kind = f"{type(request.model).__name__} ({type(error).__name__})"
            warn_once(f"requests of {kind} could not be tagged and are sent without tags")
            return request


def _metadata() -> Mapping[str, Any]:
    """What the run's callbacks are told of where this is."""
    return get_config().get("metadata") or {}


def _model_metadata(model: BaseChatModel, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What callbacks are told of the model; LangChain has no public name for it."""
    return dict(model._get_ls_params(**settings))  # noqa: SLF001


def _schemas(tools: Sequence[Any]) -> list[Any]:
    """The tools as they go over the wire: their size is a part of the prompt's."""
    return [tool if isinstance(tool, Mapping) else convert_to_openai_tool(tool) for tool in tools]


def _own_bound(model: BaseChatModel, settings: Mapping[str, Any]) -> tuple[str, int | None]:
    """The name of the model's bound, and its value; None where there is none."""
    for name in MAX_TOKENS:
        value = settings.get(name)
        if isinstance(value, int):
            return name, value
    known = [name for name in MAX_TOKENS if name in type(model).model_fields]
    name = known[0] if known else MAX_TOKENS[0]
    value = getattr(model, name, None)
    return name, value if isinstance(value, int) and value > 0 else None


def _most(model: BaseChatModel) -> int:
    profile = getattr(model, "profile", None)
    most = profile.get("max_output_tokens") if isinstance(profile, Mapping) else None
    return most if isinstance(most, int) and most > 0 else SAFE_TOKENS
