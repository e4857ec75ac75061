"""`TieredChatModel`: several models as one chat model, of which the cheapest that will do answers each request."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr, SkipValidation

from langchain_finops.errors import BadArguments
from langchain_finops.levers.choices import Policy
from langchain_finops.levers.ladder import Ladder, Tally
from langchain_finops.levers.policies import Rule, policy_of
from langchain_finops.levers.tiers import Slot, Tier, chat_model_of, checked

__all__ = ["TieredChatModel"]


class TieredChatModel(BaseChatModel):
    """A chat model of tiers, cheapest first: for each request `policy` chooses which of them answers.

    `policy`: None for `cascade()`, small model first; a function of a `Request` that names a tier; `by_intent`,
    `by_difficulty`, `by_budget`. Each tier's call is made, metered and traced as that model's own; this one makes
    none. A tier that fails gives way to the next dearer one; a guard's refusal never does. The answer's
    `response_metadata["finops_tier"]` has the decision, the ledger's tags `tier`, `tier_why`, `tier_score`,
    `tier_try`. Raises BadArguments with all that is wrong with the tiers.
    """

    tiers: SkipValidation[Sequence[Tier]]
    policy: SkipValidation[Policy | Rule | None] = Field(default=None)
    _slots: tuple[Slot, ...] = PrivateAttr(default=())
    _tools: frozenset[str] = PrivateAttr(default=frozenset())
    _chosen_by: Policy = PrivateAttr()
    _tally: Tally = PrivateAttr(default_factory=Tally)

    def __init__(self, tiers: Sequence[Tier] = (), **fields: Any) -> None:
        super().__init__(**{"tiers": checked(tiers), **fields})
        self._slots = tuple(Slot(tier=tier) for tier in self.tiers)
        self._chosen_by = policy_of(self.policy)
        if self.profile is None:
            self.profile = _common_profile(self.tiers)

    @property
    def _llm_type(self) -> str:
        return "finops-tiered"

    @property
    def _dearest(self) -> Any:
        return chat_model_of(self._slots[-1].tier.model)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        """The dearest tier's: what a budget has to have room for."""
        known = getattr(self._dearest, "_get_ls_params", None)
        return known(stop=stop, **kwargs) if callable(known) else super()._get_ls_params(stop=stop, **kwargs)

    def _ladder(self) -> Ladder:
        return Ladder(self._slots, self._chosen_by, tools=self._tools, tally=self._tally, converted=self._converted)

    def _converted(self, prompt: LanguageModelInput) -> list[BaseMessage]:
        return self._convert_input(prompt).to_messages()

    # --- binding -----------------------------------------------------------------------------------------------------

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> "TieredChatModel":
        """The same model, whose tiers may call tools; a tier whose model cannot is not asked."""
        offered = list(tools)
        slots = tuple(
            slot.bound(lambda model: model.bind_tools(offered, **kwargs), has_tools=bool(offered))
            for slot in self._slots
        )
        return self._copy(slots, frozenset(name for tool in offered if (name := _name_of(tool)) is not None))

    def with_each_model(self, change: Callable[[BaseChatModel], BaseChatModel]) -> "TieredChatModel":
        """The same model of changed tiers: by this `tag_requests` tags what each of them sends."""
        slots = tuple(slot.changed(change) for slot in self._slots)
        copy = self._copy(slots, self._tools)
        copy.tiers = tuple(slot.tier for slot in slots)
        return copy

    def _copy(self, slots: tuple[Slot, ...], tools: frozenset[str]) -> "TieredChatModel":
        copy = self.model_copy()
        private: Any = copy.__pydantic_private__
        private.update(_slots=slots, _tools=tools)
        return copy

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers that fit a schema, each tier in its own way; one that cannot be parsed gives way to the next tier."""

        def structured(model: Any) -> Runnable[Any, Any]:
            return cast("Runnable[Any, Any]", model.with_structured_output(schema, include_raw=True, **kwargs))

        slots = [slot.bound(structured, has_schema=True) for slot in self._slots]
        return Ladder(slots, self._chosen_by, tally=self._tally, converted=self._converted, structured=include_raw)

    # --- what LangChain calls ----------------------------------------------------------------------------------------

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """The answer of the tier that the policy comes to."""
        return cast("AIMessage", self._ladder().invoke(input, config, **_with_stop(stop, kwargs)))

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """The same, in async code."""
        return cast("AIMessage", await self._ladder().ainvoke(input, config, **_with_stop(stop, kwargs)))

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """The answer as it comes, unless a judge has to see it first; the last chunk has the decision."""
        yield from self._ladder().stream(input, config, **_with_stop(stop, kwargs))

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """The same, in async code."""
        stream = self._ladder().astream(input, config, **_with_stop(stop, kwargs))
        async with aclosing(cast("AsyncGenerator[AIMessageChunk, None]", stream)):  # As in the ladder's own.
            async for chunk in stream:
                yield chunk

    def generate(
        self, messages: list[list[BaseMessage]], stop: Any = None, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        """Answers to several prompts, one after the other."""
        config, kwargs = _config_of(callbacks, kwargs)
        answers = [self.invoke(each, config, stop=stop, **kwargs) for each in messages]
        return LLMResult(generations=[[ChatGeneration(message=answer)] for answer in answers])

    async def agenerate(
        self, messages: list[list[BaseMessage]], stop: Any = None, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        """The same, in async code."""
        config, kwargs = _config_of(callbacks, kwargs)
        answers = [await self.ainvoke(each, config, stop=stop, **kwargs) for each in messages]
        return LLMResult(generations=[[ChatGeneration(message=answer)] for answer in answers])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        config = None if run_manager is None else RunnableConfig(callbacks=run_manager.get_child())  # type: ignore[attr-defined]
        return ChatResult(generations=[ChatGeneration(message=self.invoke(messages, config, stop=stop, **kwargs))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        config = None if run_manager is None else RunnableConfig(callbacks=run_manager.get_child())  # type: ignore[attr-defined]
        answer = await self.ainvoke(messages, config, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _chat_model_stream_v3(self, *_: Any, **__: Any) -> Any:
        raise BadArguments(_NO_V3)

    def _achat_model_stream_v3(self, *_: Any, **__: Any) -> Any:
        raise BadArguments(_NO_V3)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        """As the dearest tier counts them."""
        counts = getattr(self._dearest, "get_num_tokens_from_messages", None)
        return (
            int(counts(messages, tools)) if callable(counts) else super().get_num_tokens_from_messages(messages, tools)
        )


_NO_V3 = (
    "stream_events(version='v3') of a TieredChatModel itself is not there, because which tier answers is open when it "
    "begins: use stream(), stream_events(version='v2'), or stream_events(version='v3') of the graph that it is in"
)


def _with_stop(stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs if stop is None else {**kwargs, "stop": stop}


def _config_of(callbacks: Any, kwargs: dict[str, Any]) -> tuple[RunnableConfig, dict[str, Any]]:
    """What `generate` takes apart, together again."""
    names = ("tags", "metadata", "run_name", "run_id")
    given = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
    config = cast("RunnableConfig", {"callbacks": callbacks, **given})
    return config, {name: value for name, value in kwargs.items() if name not in names}


def _name_of(tool: Any) -> str | None:
    """What a tool is called; None for one that the provider runs and names by its type."""
    if isinstance(tool, BaseTool):
        return tool.name
    try:
        return str(convert_to_openai_tool(tool)["function"]["name"])
    except (KeyError, TypeError, ValueError):
        return None


def _common_profile(tiers: Sequence[Tier]) -> Any:
    """What all tiers can do: abilities that each has, and the smallest of their sizes; None where one says nothing."""
    profiles = [getattr(chat_model_of(tier.model), "profile", None) for tier in tiers]
    if not all(isinstance(each, dict) and each for each in profiles):
        return None
    first: dict[str, Any] = cast("dict[str, Any]", profiles[0])
    common: dict[str, Any] = {}
    for name, value in first.items():
        values = [cast("dict[str, Any]", each).get(name) for each in profiles]
        if all(type(each) is type(value) for each in values):
            if isinstance(value, bool):
                common[name] = all(values)
            elif isinstance(value, int):
                common[name] = min(cast("list[int]", values))
    return common
