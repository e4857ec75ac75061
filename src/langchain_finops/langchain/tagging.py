"""`tag_requests(model)`: each request tells the provider, or a gateway of one's own, whom it is for.

The tags are what the run's metadata and its FinOpsHandler say, looked up call by call: one model serves many tenants
at once. They are added to the call's own arguments, below LangChain's cache and tracing, and never to an HTTP client:
models that share one see nothing of it, and streams report their usage as before.
"""

import functools
import ipaddress
import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

from langchain_core.callbacks import BaseRunManager
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tracers import BaseTracer
from langgraph.runtime import get_runtime

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.attribution import attribution, said
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.langchain.tagging_styles import GATEWAYS, STYLES, Tags
from langchain_finops.langchain.tagging_users import hash_of, hashed_user, key_of, warn_once
from langchain_finops.pricing.providers import provider_at
from langchain_finops.records import NO_ATTRIBUTION, Attribution

__all__ = ["Users", "hashed_user", "settings_of", "tag_requests", "tagged", "tagged_within"]

Model = TypeVar("Model", bound=BaseChatModel)
Users = Literal["hashed", "plain", "omitted"]
"""How a user's id is sent."""

FRAMES: Final = 4
"""How far up the stack LangChain's stream may be: one frame today, in sync and async alike."""
CALLS: Final = (
    "_generate",
    "_agenerate",
    "_stream",
    "_astream",
    "_stream_chat_model_events",
    "_astream_chat_model_events",
)
"""Where a chat model makes its requests. LangChain asks which of them a class has: none is added that it has not."""
FIELDS_OF_MODELS: Final = frozenset({"request_metadata", "labels"})
"""Fields of the request that are fields of the model as well."""
OWN_SUFFIXES: Final = (".local", ".internal", ".lan", ".svc", ".localhost", ".home.arpa")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """How a model's requests are tagged."""

    styles: tuple[str, ...]
    users: Users
    key: bytes = field(repr=False)


def tag_requests(
    model: Model,
    style: str | Sequence[str] = "auto",
    *,
    users: Users = "hashed",
    user_key: str | bytes | None = None,
) -> Model:
    """A copy of a chat model whose requests each carry agent, user, task and run; of the same class, for all uses.

    `style`: where they stand, one name or several: `openai`, `azure`, `anthropic`, `bedrock`, `google`, `openrouter`,
    `litellm`, `helicone`, `portkey`, `cloudflare`, or `gateway` for `X-Agent-Id`, `X-User-Id`, `X-Task-Id`,
    `X-Run-Id`. `auto`: the provider's own field at the provider's own address, `gateway` at an address of a private
    network, and nothing, with one warning in the log, anywhere else. `users`: `hashed` with `user_key` (else
    `$FINOPS_USER_KEY`, else a key file in the user's data directory), `plain`, or `omitted`.
    Raises BadArguments for what is no chat model, and for a style that its requests have no field for.
    """
    if not isinstance(model, BaseChatModel):
        raise BadArguments(
            f"tag_requests takes a chat model, and this is a {type(model).__name__}: tag the model first, then bind "
            "tools, schemas or fallbacks to it."
        )
    settings = settings_of(style, users, user_key)
    for name in settings.styles:
        if name != "auto" and not hasattr(model, "with_each_model") and _kind(model) not in STYLES[name].kinds:
            raise BadArguments(
                f"style {name!r}: requests of {type(model).__name__} have no such field; it is for models of "
                f"{' and '.join(sorted(STYLES[name].kinds))}."
            )
    return tagged(model, settings)


def settings_of(style: str | Sequence[str], users: Users, user_key: str | bytes | None) -> _Settings:
    """The settings, checked. Raises BadArguments."""
    styles = (style,) if isinstance(style, str) else tuple(style)
    unknown = [name for name in styles if name != "auto" and name not in STYLES]
    if unknown or not styles:
        raise BadArguments(f"style {', '.join(map(repr, unknown)) or repr(style)}: use auto, {', '.join(STYLES)}.")
    if users not in {"hashed", "plain", "omitted"}:
        raise BadArguments(f"users={users!r}: use hashed, plain or omitted.")
    return _Settings(styles=styles, users=users, key=key_of(user_key) if users == "hashed" else b"")


def tagged(model: Model, settings: _Settings) -> Model:
    """The same, with settings that are checked; a style that the model's requests have no field for adds nothing."""
    of_several = getattr(model, "with_each_model", None)
    if callable(of_several):  # Several models as one, such as tiers: it sends nothing itself.
        return cast("Model", of_several(lambda each: tagged(each, settings)))
    copy = model.model_copy()
    # LangChain makes new models of a model's class, as for configurable fields: these are tagged as well.
    object.__setattr__(copy, "__class__", _tagging_class(_plain_class(type(model)), settings))
    return copy


def tagged_within(model: Any, settings: _Settings) -> Any:
    """The same where bindings, retries and fallbacks may be around the model; what is no chat model stays as it is."""
    # Wrappers first: what they have not they look up in the model inside, as if they were it.
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": tagged_within(model.bound, settings)})
    if isinstance(model, RunnableWithFallbacks):
        fallbacks = [tagged_within(each, settings) for each in model.fallbacks]
        return model.model_copy(update={"runnable": tagged_within(model.runnable, settings), "fallbacks": fallbacks})
    if isinstance(model, BaseChatModel):
        return tagged(model, settings)
    warn_once(f"requests of {type(model).__name__} are not tagged: no chat model is found in it")
    return model


def _plain_class(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    return cast("type[BaseChatModel]", getattr(cls, "__finops_plain__", cls))


def _untagged(model: BaseChatModel) -> BaseChatModel:
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", _plain_class(type(model)))
    return copy


@functools.lru_cache(maxsize=256)
def _tagging_class(cls: type[BaseChatModel], settings: _Settings) -> type[BaseChatModel]:
    """A class like this one, name and all, that adds the tags to whatever it sends."""
    names = [name for name in CALLS if getattr(cls, name, None) is not getattr(BaseChatModel, name, None)]
    if "_stream" in names and "_astream" not in names:
        names.append("_astream")  # LangChain's own calls `_stream` on another thread, where nobody knows the run.
    members: dict[str, Any] = {name: _adding(getattr(cls, name), settings) for name in names}
    # Found by its name, a class made here would be another one: pickled, it could not go to another process.
    members["__reduce_ex__"] = lambda model, _: (tagged, (_untagged(model), settings))
    about = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    metaclass: Any = type(cls)
    return cast("type[BaseChatModel]", metaclass(cls.__name__, (cls,), {**about, **members, "__finops_plain__": cls}))


def _adding(original: Any, settings: _Settings) -> Any:
    @functools.wraps(original)
    def call(self: BaseChatModel, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        model, kwargs = _with_tags(self, run_manager or _callers_manager(), kwargs, settings)
        # The manager as it came: a stream that is given one reports each token to the handlers, and LangChain again.
        return original(model, messages, stop=stop, run_manager=run_manager, **kwargs)

    return call


def _callers_manager() -> Any:
    """The run manager of a stream, which LangChain keeps to itself: a local variable of its function, a frame up.

    None rather than the context's: inside another run that could be another tenant's.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  No public way leads there.
    for _ in range(FRAMES):
        if frame is None:
            return None
        if frame.f_globals.get("__name__") == BaseChatModel.__module__:
            manager = frame.f_locals.get("run_manager")
            if isinstance(manager, BaseRunManager):
                return manager
        frame = frame.f_back
    return None


# --- a call's tags -----------------------------------------------------------------------------------------------


def _with_tags(
    model: BaseChatModel, run_manager: Any, kwargs: dict[str, Any], settings: _Settings
) -> tuple[BaseChatModel, dict[str, Any]]:
    """The model and the arguments to make the call with. A fault of ours sends it as it was."""
    try:
        tags = _tags(run_manager, settings)
        for name in dict.fromkeys(_chosen(model, each) for each in settings.styles):
            if name is not None:
                model, kwargs = _filled(model, kwargs, name, tags)
    except Exception as error:  # noqa: BLE001  A tag is never worth an answer.
        _note(run_manager, error)
    return model, kwargs


def _filled(
    model: BaseChatModel, kwargs: dict[str, Any], style: str, tags: Tags
) -> tuple[BaseChatModel, dict[str, Any]]:
    added = STYLES[style].fields(tags, _given(model, kwargs))
    if added and FIELDS_OF_MODELS.isdisjoint(added.keys() - kwargs.keys()):
        return model, {**kwargs, **added}
    # As an argument LangChain would rewrite the user's own names in it: `cost_center` to `costCenter`.
    return (model.model_copy(update=added) if added else model), kwargs


def _given(model: BaseChatModel, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the request would have without us."""
    kind = _kind(model)
    facts: dict[str, Any] = {"kind": kind, "default_headers": getattr(model, "default_headers", None)}
    if kind in {"bedrock", "google"}:
        return ChainMap(dict(kwargs), {name: getattr(model, name, None) for name in FIELDS_OF_MODELS})
    own = getattr(model, "_default_params", None) if kind != "anthropic" else getattr(model, "model_kwargs", None)
    given = ChainMap(dict(kwargs), dict(own or {}), facts)
    if kind == "openai":
        facts["stored"] = bool(given.get("store")) or _is_response(model, given)
    return given


def _is_response(model: BaseChatModel, given: Mapping[str, Any]) -> bool:
    """Whether a request goes to OpenAI's Responses API, whose answers have metadata in any case."""
    asked = getattr(model, "_use_responses_api", None)
    return bool(asked(dict(given))) if callable(asked) else False


def _tags(run_manager: Any, settings: _Settings) -> Tags:
    who, run_id = _whose(run_manager)
    user = who.user_id
    if user is not None and settings.users != "plain":
        user = hash_of(user, settings.key) if settings.users == "hashed" else None
    return Tags(agent_id=who.agent_id, user_id=user, task_id=who.task_id, run_id=run_id, team=who.tags.get("team"))


def _whose(run_manager: Any) -> tuple[Attribution, str | None]:
    """Whom the call is for, and its run: as the run's FinOpsHandler has it, else as the metadata say."""
    if run_manager is None:
        return NO_ATTRIBUTION, None
    for handler in run_manager.handlers:
        if isinstance(handler, FinOpsHandler):
            known = handler.recorder.calls.whose(run_manager.run_id, run_manager.metadata)
            if known is not None:
                return known
    metadata: Mapping[str, Any] = run_manager.metadata or {}
    run_id = metadata.get("run_id") or _root(run_manager)
    return attribution(said(metadata), NO_ATTRIBUTION, graph_name=None), None if run_id is None else str(run_id)


def _root(run_manager: Any) -> object:
    """The root run of a call: itself, as a tracer knows it, or as the graph was told; None where nobody knows it."""
    if run_manager.parent_run_id is None:
        return run_manager.run_id
    for handler in run_manager.handlers:
        traced = handler.run_map.get(str(run_manager.run_id)) if isinstance(handler, BaseTracer) else None
        if traced is not None and traced.trace_id is not None:
            return traced.trace_id
    try:
        # In a chain outside of a graph LangGraph says None, and not what its signature says.
        info = getattr(get_runtime(), "execution_info", None)
    except (RuntimeError, KeyError):  # Not in a graph.
        return None
    return None if info is None else info.run_id


def _note(run_manager: Any, error: Exception) -> None:
    for handler in getattr(run_manager, "handlers", ()):
        if isinstance(handler, FinOpsHandler):
            handler.note_fault(error)
            return
    warn_once(f"a request could not be tagged ({type(error).__name__}) and was sent without tags")


# --- where it goes -----------------------------------------------------------------------------------------------


def _chosen(model: BaseChatModel, style: str) -> str | None:
    """The style for a model; None, with a word in the log, where its requests have no field of ours."""
    kind, host = _kind(model), _host(model)
    if style != "auto":
        if kind in STYLES[style].kinds:
            return style
        warn_once(f"requests of {type(model).__name__} are not tagged: they have no field of style {style!r}")
        return None
    known = _known(model, kind, host)
    if known is not None and known in STYLES and kind in STYLES[known].kinds:
        return known
    if kind in STYLES["gateway"].kinds and host is not None and _is_own(host):
        return "gateway"
    warn_once(
        f"requests of {type(model).__name__}{f' to {host}' if host else ''} are not tagged: no field for tags is known "
        "there. tag_requests(model, style='gateway') sends headers to a gateway of your own"
    )
    return None


def _known(model: BaseChatModel, kind: str | None, host: str | None) -> str | None:
    """The style of a provider or a gateway that is known by its address, or by the only place its models talk to."""
    if kind in {"bedrock", "openrouter"}:
        return kind
    if kind == "google":  # Gemini's developer API refuses labels; Vertex puts them on the invoice.
        return "google" if getattr(model, "_use_vertexai", True) else None
    if host is None:
        return None
    ends = next((name for end, name in GATEWAYS if host == end or host.endswith(f".{end}")), None)
    return ends or provider_at(host)


@functools.lru_cache(maxsize=256)
def _kind_of(cls: type[BaseChatModel]) -> str | None:
    names = {each.__name__ for each in cls.__mro__}
    if "BaseChatOpenAI" in names:
        return "openai"
    if "ChatAnthropicBedrock" in names or "ChatAnthropicVertex" in names:
        return None  # Those clouds refuse fields that they do not know.
    if "ChatAnthropic" in names:
        return "anthropic"
    if "ChatOpenRouter" in names:
        return "openrouter"
    if "request_metadata" in cls.model_fields:
        return "bedrock"
    return "google" if names & {"ChatGoogleGenerativeAI", "ChatVertexAI"} and "labels" in cls.model_fields else None


def _kind(model: BaseChatModel) -> str | None:
    """What kind of requests a model makes; None for one that takes no fields of ours."""
    return _kind_of(type(model))


def _host(model: BaseChatModel) -> str | None:
    """The host that a model's requests go to, without the port."""
    client = getattr(model, "root_client", None) or getattr(model, "root_async_client", None)
    url = getattr(client, "base_url", None) or getattr(model, "anthropic_api_url", None)
    try:
        return None if url is None else urlsplit(str(url)).hostname
    except ValueError:
        return None


def _is_own(host: str) -> bool:
    """Whether an address can only be one's own: in this machine, or in a network that the internet does not reach."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(OWN_SUFFIXES)
    return address.is_private and not address.is_unspecified
