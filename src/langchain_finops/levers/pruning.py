"""`prune(...)`: a conversation is shortened when that pays, in dollars, over the steps that are still to come.

It pays where the tokens saved over those steps cost more than the summariser and the cached prefix that is lost. All of
it is reckoned from list prices and estimated tokens, before anything is bought.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import takewhile
from typing import Any, Final, Literal, cast, get_args

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    convert_to_messages,
    get_buffer_string,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import ensure_config
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from langchain_finops.errors import BadArguments
from langchain_finops.levers.choices import Request, is_sound
from langchain_finops.levers.person import messages_in
from langchain_finops.levers.pressure import handler_in
from langchain_finops.levers.shortening import (
    Unit,
    summary_message,
    units_of,
    with_passages,
    with_summary,
    without_results,
)
from langchain_finops.levers.steps import Steps, asked, drive, drive_async, passes, text_of
from langchain_finops.levers.tiers import chat_model_of, prompt_tokens, warn_once
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import Reading
from langchain_finops.usage import Usage

__all__ = ["Pruner", "Way", "prune"]

Way = Literal["tool_results", "summary", "trim", "passages"]
SUMMARY_SHARE: Final = 5
"""A summary is expected to be the fifth part of what it is made of."""
ASKED_FOR: Final = 80
"""Tokens of the summariser's instructions."""
USELESS: Final = 3
"""Summaries in a row that were none, after which nobody is asked for more."""
_NOTHING_BOUND: Final = Request(messages=())
ONE: Final = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    """What tokens cost at one model."""

    book: PriceBook
    metadata: Mapping[str, Any]

    def of(self, usage: Usage) -> Decimal | None:
        """List price; None where none is known."""
        key = self.book.read(ONE, {}, self.metadata, at=datetime.now(UTC)).key
        return self.book.price(Reading(usage=usage, key=key)).usd


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """How a conversation is paid for today, as its last answer tells."""

    prices: _Prices
    cached: float
    """The share of it that is read from the provider's cache."""
    writes: bool
    """Whether what is not in the cache is paid at the price of writing it."""

    def step(self, tokens: int) -> Decimal | None:
        """What a prompt of that length costs at each step."""
        read = int(tokens * self.cached)
        return self.prices.of(Usage(input_tokens=tokens - read, cache_read_tokens=read))

    def broken(self, tokens: int) -> Decimal | None:
        """What it costs beside, once, that so many tokens behind a change are not read from the cache."""
        lost = int(tokens * self.cached)
        if not lost:
            return Decimal(0)
        anew = Usage(cache_write_5m_tokens=lost) if self.writes else Usage(input_tokens=lost)
        dear, cheap = self.prices.of(anew), self.prices.of(Usage(cache_read_tokens=lost))
        return None if dear is None or cheap is None else max(Decimal(0), EXACT.subtract(dear, cheap))


class Pruner:
    """Shortens conversations where that pays. Made by `prune(...)`; one serves all runs and threads."""

    def __init__(
        self,
        *,
        model: Runnable[Any, Any],
        ways: tuple[Way, ...],
        summarizer: Runnable[Any, Any] | None,
        keep_last: int,
        protect: Callable[[BaseMessage], bool] | None,
        remaining_steps: Callable[[Sequence[BaseMessage]], float],
        prices: PriceBook | None,
    ) -> None:
        self._model, self._ways, self._summarizer = model, ways, summarizer
        self._keep_last, self._protect, self._remaining_steps = keep_last, protect, remaining_steps
        self._prices, self._useless = prices, 0

    def messages(self, messages: Sequence[Any], config: RunnableConfig | None = None) -> list[BaseMessage]:
        """The conversation to send: shortened where that pays, else as it is."""
        return drive(self._steps(convert_to_messages(messages), ensure_config(config)))

    async def amessages(self, messages: Sequence[Any], config: RunnableConfig | None = None) -> list[BaseMessage]:
        """The same, in async code."""
        return await drive_async(self._steps(convert_to_messages(messages), ensure_config(config)))

    def update(self, messages: Sequence[Any]) -> dict[str, Any] | None:
        """The same as an update of a state whose messages are reduced by `add_messages`; None: nothing pays."""
        given = convert_to_messages(messages)
        return _update(given, self.messages(given))

    async def aupdate(self, messages: Sequence[Any]) -> dict[str, Any] | None:
        """The same, in async code."""
        given = convert_to_messages(messages)
        return _update(given, await self.amessages(given))

    def node(self) -> RunnableLambda[Any, Any]:
        """A node to stand before the model's: it shortens `messages` in the state."""

        def shorten(state: Any) -> dict[str, Any]:
            return self.update(messages_in(state, "messages")) or {}

        async def ashorten(state: Any) -> dict[str, Any]:
            return await self.aupdate(messages_in(state, "messages")) or {}

        return RunnableLambda(shorten, ashorten, name="finops_prune")

    def _steps(self, messages: list[BaseMessage], config: RunnableConfig) -> Steps[list[BaseMessage]]:
        units = units_of(messages, keep_last=self._keep_last, protect=self._protect)
        is_old = any(not unit.protected for unit in units)
        ways = [way for way in self._ways if is_old or way == "passages"]
        if not ways:
            return messages
        steps = self._expected_steps(messages)
        prompt = self._prompt(messages, config)
        for way in ways:
            if way == "summary":
                shortened = yield from self._summed(messages, units, prompt, steps, config)
            else:
                shortened = self._cut(way, messages, units)
                if shortened is not None and not self._pays(messages, shortened, prompt, steps):
                    shortened = None
            if shortened is not None:
                return shortened
        return messages

    def _cut(self, way: Way, messages: list[BaseMessage], units: Sequence[Unit]) -> list[BaseMessage] | None:
        """The conversation shortened by a way that asks no model."""
        if way == "passages":
            return with_passages(messages, self._protect)
        return without_results(units) if way == "tool_results" else with_summary(units, None)

    # --- does it pay? ------------------------------------------------------------------------------------------------

    def _expected_steps(self, messages: Sequence[BaseMessage]) -> Decimal:
        steps: object = self._remaining_steps(messages)
        if isinstance(steps, bool) or not isinstance(steps, int | float) or not 0 <= steps < 1e6:
            warn_once(
                f"prune: remaining_steps said {type(steps).__name__} {steps!r}, no number of steps; nothing is pruned"
            )
            return Decimal(0)
        return Decimal(repr(steps))

    def _prompt(self, messages: Sequence[BaseMessage], config: RunnableConfig) -> _Prompt:
        last = messages[_answered_at(messages) :][:1]
        usage = cast("Mapping[str, Any]", cast("AIMessage", last[0]).usage_metadata) if last else {}
        details = usage.get("input_token_details") or {}
        read, whole = details.get("cache_read") or 0, usage.get("input_tokens") or 0
        written = any(
            value for name, value in details.items() if name == "cache_creation" or name.startswith("ephemeral")
        )
        cached = min(1.0, read / whole) if whole > 0 else 0.0
        return _Prompt(prices=self._prices_of(self._model, config), cached=cached, writes=bool(written))

    def _prices_of(self, model: Any, config: RunnableConfig) -> _Prices:
        handler = handler_in(config)
        book = self._prices or (PriceBook.default() if handler is None else handler.recorder.meter.prices)
        asked_for = _names(model)
        return _Prices(book=book, metadata=dict(asked_for()) if asked_for is not None else {})

    def _pays(
        self,
        before: Sequence[BaseMessage],
        after: Sequence[BaseMessage],
        prompt: _Prompt,
        steps: Decimal,
        beside: Decimal = Decimal(0),
    ) -> bool:
        """Whether it saves more over the steps to come than it costs now, `beside` included."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], zip(before, after, strict=False)))
        if same >= _answered_at(before):  # Nothing behind the last answer has been read from a cache yet.
            prompt = replace(prompt, cached=0.0)
        tokens = prompt_tokens(after)
        return self._is_worth(
            prompt_tokens(before), tokens, tokens - prompt_tokens(after[:same]), prompt, steps, beside
        )

    def _is_worth(  # noqa: PLR0917  All of one reckoning.
        self, before: int, after: int, behind: int, prompt: _Prompt, steps: Decimal, beside: Decimal
    ) -> bool:
        if after >= before or not steps:
            return False
        dear, cheap, broken = prompt.step(before), prompt.step(after), prompt.broken(behind)
        if dear is None or cheap is None or broken is None:
            warn_once("prune: the model has no known price, so nobody can say what pays; nothing is pruned")
            return False
        saved = EXACT.multiply(EXACT.subtract(dear, cheap), steps)
        return saved > EXACT.add(broken, beside)

    # --- summaries ---------------------------------------------------------------------------------------------------

    def _summed(
        self,
        messages: list[BaseMessage],
        units: Sequence[Unit],
        prompt: _Prompt,
        steps: Decimal,
        config: RunnableConfig,
    ) -> Steps[list[BaseMessage] | None]:
        """The conversation with a summary in it; None where none pays, or what came was none."""
        summarizer = self._summarizer
        if summarizer is None or self._useless >= USELESS:
            return None
        old = [message for unit in units if not unit.protected for message in unit.messages]
        size, whole = prompt_tokens(old), prompt_tokens(messages)
        length = max(1, size // SUMMARY_SHARE)
        own = Usage(input_tokens=size + ASKED_FOR, output_tokens=length)
        cost = self._prices_of(summarizer, config).of(own)
        first = next(at for at, unit in enumerate(units) if not unit.protected)
        head = prompt_tokens([message for unit in units[:first] for message in unit.messages])
        after = whole - size + length
        if cost is None:
            warn_once("prune: the summariser has no known price, so nobody can say what pays; nothing is summed up")
            return None
        if not self._is_worth(whole, after, after - head, prompt, steps, cost):
            return None
        text = yield from self._asked(summarizer, old, config)
        if text is not None:
            shortened = with_summary(units, summary_message(text))
            if self._pays(messages, shortened, prompt, steps):  # One that is as long as what it sums up never does.
                self._useless = 0
                return shortened
        self._useless += 1
        if self._useless == USELESS:
            warn_once(f"prune: {USELESS} summaries in a row failed or were no shorter; nobody is asked for more")
        return None

    def _asked(self, model: Runnable[Any, Any], old: list[BaseMessage], config: RunnableConfig) -> Steps[str | None]:
        prompt: list[BaseMessage] = [
            SystemMessage(
                "Sum up this part of a conversation between a user and an agent for the agent, who goes on with it and "
                "no longer sees it. Keep facts, figures, names, ids, decisions and what is still open. Be brief."
            ),
            HumanMessage(get_buffer_string(old)),
        ]
        try:
            answer = yield from asked(model, prompt, config, "summary")
        except Exception as error:
            if passes(error):
                raise
            return None
        text = text_of(answer)
        return text if text.strip() and is_sound(_NOTHING_BOUND, answer).accepted else None


def prune(
    *,
    model: Runnable[Any, Any],
    ways: Sequence[Way] = ("tool_results",),
    summarizer: Runnable[Any, Any] | None = None,
    keep_last: int = 6,
    protect: Callable[[BaseMessage], bool] | None = None,
    remaining_steps: int | float | Callable[[Sequence[BaseMessage]], float] | None = None,
    prices: PriceBook | None = None,
) -> Pruner:
    """Shorten conversations with `model` by the first of `ways` that pays.

    `ways`: `tool_results` replaces old ones by a few words, `summary` has `summarizer` sum up what is old, `trim`
    drops it, `passages` cuts a document that is most of the prompt, new or old, to what bears on the last request.
    `remaining_steps`: model calls still expected, the one at hand among them; None: as many as there were since the
    user's last message, one at least. `protect`: says of a message that it must stay. `prices`: None for those of the
    run's handler, else the shipped ones. Raises BadArguments.
    """
    known = get_args(Way)
    faults = [f"way {each!r}: use {', '.join(known)}" for each in ways if each not in known]
    if not ways:
        faults.append(f"ways is empty: use {', '.join(known)}")
    if ("summary" in ways) != (summarizer is not None):
        faults.append("the way 'summary' and a summarizer= go together")
    faults += [
        f"{name}= is a {type(each).__name__} whose model nobody can tell: give the chat model itself"
        for name, each in (("model", model), ("summarizer", summarizer))
        if each is not None and _names(each) is None
    ]
    if type(keep_last) is not int or keep_last < 0:
        faults.append(f"keep_last={keep_last!r}: give a whole number of 0 or more")
    if faults:
        raise BadArguments(f"prune: {'; '.join(faults)}.")
    expected = remaining_steps
    return Pruner(
        model=model,
        ways=tuple(ways),
        summarizer=summarizer,
        keep_last=keep_last,
        protect=protect,
        remaining_steps=_steps_so_far if expected is None else expected if callable(expected) else lambda _: expected,
        prices=prices,
    )


def _names(model: Any) -> Callable[[], Mapping[str, Any]] | None:
    """What tells by which names a model's price is found; None for a chain and whatever else hides its model."""
    tiers = getattr(model, "tiers", None)
    known = chat_model_of(tiers[0].model if tiers else model)  # Of tiers the cheapest: rather too little saved.
    asked_for = getattr(known, "_get_ls_params", None)
    return asked_for if callable(asked_for) else None


def _steps_so_far(messages: Sequence[BaseMessage]) -> float:
    """As many steps as there were since the user's last message, one at least: what has gone on goes on."""
    asked_at = max((at for at, each in enumerate(messages) if isinstance(each, HumanMessage)), default=0)
    return max(1, sum(isinstance(each, AIMessage) for each in messages[asked_at:]))


def _answered_at(messages: Sequence[BaseMessage]) -> int:
    """Number of the last answer that tells its usage; past the end where there is none."""
    numbers = (at for at in reversed(range(len(messages))) if getattr(messages[at], "usage_metadata", None))
    return next(numbers, len(messages))


def _update(before: Sequence[BaseMessage], after: list[BaseMessage]) -> dict[str, Any] | None:
    if len(before) == len(after) and all(one is other for one, other in zip(before, after, strict=True)):
        return None
    return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *after]}
