"""Up the tiers until an answer will do: each try recorded, refusals let through, and what the dearest alone would cost.

`Ladder` is what a `TieredChatModel` runs on, and what `with_structured_output` of one gives.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.levers.choices import Choice, Policy, Request, Verdict, declined
from langchain_finops.levers.pressure import handler_in
from langchain_finops.levers.steps import Call, Given, Pending, Steps, chunk_of, drive, drive_async, passes, told
from langchain_finops.levers.tiers import Slot, chat_model_of, warn_once

__all__ = ["DECISION", "Ladder", "Tally"]

DECISION: Final = "finops_tier"
"""Key of the decision in an answer's `response_metadata`."""
IN_A_ROW: Final = 20
"""So many decisions one after the other that paid for a cheap try and ended at the dearest tier are worth a word."""
NOT_USED: Final = object()


class Tally:
    """What all copies of a model have decided; no lock: it only decides when a warning is due."""

    __slots__ = ("failures", "in_vain", "warned")

    def __init__(self) -> None:
        self.in_vain = 0
        self.warned = False
        self.failures: dict[str, int] = {}

    def answered(self, tier: str) -> None:
        """A tier works."""
        self.failures.pop(tier, None)

    def failed(self, tier: str, error: Exception) -> None:
        """Count a failure that the next tier makes good, and say it once where that has become the rule."""
        self.failures[tier] = self.failures.get(tier, 0) + 1
        if self.failures[tier] == IN_A_ROW:
            warn_once(
                f"tier {tier!r} has failed {IN_A_ROW} times in a row, the last time with {type(error).__name__}: "
                "dearer tiers answer meanwhile. Mend it, or leave it out"
            )

    def count(self, names: Sequence[str], *, in_vain: bool) -> None:
        """Count a decision, and say it once where the tiers do nothing but cost."""
        self.in_vain = self.in_vain + 1 if in_vain else 0
        if self.in_vain >= IN_A_ROW and not self.warned:
            self.warned = True
            warn_once(
                f"the tiers {', '.join(names)}: the last {IN_A_ROW} requests all paid for a cheaper try or a router, "
                f"and went to {names[-1]!r} all the same, which costs more than {names[-1]!r} alone. Judge less "
                "strictly, or use that model alone for such requests"
            )


@dataclass(slots=True, kw_only=True)
class _Climb:
    """One request on its way up."""

    request: Request
    slots: tuple[Slot, ...]
    prompt: Any
    why: str = ""
    score: float | None = None
    tried: list[str] = field(default_factory=list)
    answered: int = 0
    asked_others: bool = False
    """A router or judge was paid for it."""


class Ladder(Runnable[Any, Any]):
    """Tiers and a policy as one runnable. Each request is a run of its own, with its tries in it."""

    def __init__(
        self,
        slots: Sequence[Slot],
        policy: Policy,
        *,
        tools: frozenset[str] = frozenset(),
        tally: Tally | None = None,
        converted: Callable[[Any], list[BaseMessage]],
        structured: bool | None = None,
    ) -> None:
        """`structured`: tiers answer with a raw message, what was parsed of it, and a parsing error; True: all of it
        is given back, False: what was parsed. None: tiers answer with messages."""
        self._slots, self._policy, self._tools = tuple(slots), policy, tools
        self._tally, self._converted, self._structured = tally or Tally(), converted, structured

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """As it stands in traces."""
        return super().get_name(suffix, name=name or "TieredChatModel")

    # --- the runnable ------------------------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The answer of the tier that the policy comes to."""

        def answer(input: Any, config: RunnableConfig, **kwargs: Any) -> Any:  # noqa: A002
            return drive(self._steps(input, config, kwargs))

        return self._call_with_config(cast("Any", answer), input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same, in async code."""

        async def answer(input: Any, config: RunnableConfig, **kwargs: Any) -> Any:  # noqa: A002
            return await drive_async(self._steps(input, config, kwargs))

        return await self._acall_with_config(cast("Any", answer), input, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """The answer as it comes, where nobody has to judge it first; else whole."""

        def chunks(inputs: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
            steps = self._steps(next(inputs), config, kwargs)
            streamed = False
            try:
                want = next(steps)
                while True:
                    whole: Any = None
                    try:
                        if isinstance(want, Call) and want.final and self._structured is None:
                            for each in want.runnable.stream(want.prompt, want.config, **want.settings):
                                chunk = chunk_of(each)
                                whole = chunk if whole is None else whole + chunk
                                yield chunk
                            streamed = True
                        came = Given(answer=whole, streamed=True) if streamed else drive(_one(want))
                    except Exception as error:
                        if whole is not None:  # The user has seen a part of it.
                            raise
                        want = steps.throw(error)
                    else:
                        want = steps.send(came)
            except StopIteration as end:
                yield _last_chunk(end.value, streamed=streamed)

        yield from self._transform_stream_with_config(iter([input]), cast("Any", chunks), config, **kwargs)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """The same, in async code."""

        async def chunks(inputs: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any) -> AsyncIterator[Any]:
            steps = self._steps(await anext(inputs), config, kwargs)
            streamed = False
            try:
                want = next(steps)
                while True:
                    whole: Any = None
                    try:
                        if isinstance(want, Call) and want.final and self._structured is None:
                            stream = want.runnable.astream(want.prompt, want.config, **want.settings)
                            async with aclosing(cast("AsyncGenerator[Any, None]", stream)):
                                async for each in stream:
                                    chunk = chunk_of(each)
                                    whole = chunk if whole is None else whole + chunk
                                    yield chunk
                            streamed = True
                        came = Given(answer=whole, streamed=True) if streamed else await drive_async(_one(want))
                    except Exception as error:
                        if whole is not None:  # As above.
                            raise
                        want = steps.throw(error)
                    else:
                        want = steps.send(came)
            except StopIteration as end:
                yield _last_chunk(end.value, streamed=streamed)

        async def inputs() -> AsyncIterator[Any]:
            yield input

        whole_stream = self._atransform_stream_with_config(inputs(), cast("Any", chunks), config, **kwargs)
        # Whoever walks away closes this one alone: the model's stream would go on, and its call stay open.
        async with aclosing(cast("AsyncGenerator[Any, None]", whole_stream)):
            async for chunk in whole_stream:
                yield chunk

    # --- up the tiers ------------------------------------------------------------------------------------------------

    def _steps(self, prompt: Any, config: RunnableConfig, settings: Mapping[str, Any]) -> Steps["_Done"]:
        names = tuple(slot.name for slot in self._slots)
        messages = self._converted(prompt)
        request = Request(messages=messages, tools=self._tools, tiers=names, config=config, settings=settings)
        climb = _Climb(request=request, slots=self._slots, prompt=messages)
        choice = yield from self._counting(climb, self._policy.steps(request))
        if not isinstance(choice, Choice) or choice.tier not in names or (choice.up_to or names[0]) not in names:
            raise BadArguments(f"the policy chose {choice!r}: choose one of {', '.join(names)}")
        climb.why, climb.score = choice.why, choice.score
        order = self._order(climb, choice)
        for place, slot in enumerate(order):
            answer = yield from self._try(climb, slot, choice, last=place == len(order) - 1)
            if answer is not NOT_USED:
                dearest = slot is self._slots[-1]
                vain = dearest and (climb.answered > 1 or climb.asked_others)
                self._tally.count(names, in_vain=vain)
                return self._done(climb, slot, answer)
        raise BadArguments(
            f"none of the tiers {', '.join(names)} can take this request: {climb.why}. Give a tier whose model can."
        )

    def _order(self, climb: _Climb, choice: Choice) -> list[Slot]:
        """The tiers to try, in order: those between the choice and its cap that can, else the nearest that can."""
        names, able = climb.request.tiers, []
        first, cap = names.index(choice.tier), names.index(choice.up_to or names[-1])
        known: list[int] = []

        def tokens() -> int:
            if not known:
                known.append(climb.request.tokens)
            return known[0]

        lacking: dict[str, str] = {}
        for slot in self._slots:
            lack = slot.lacks(tokens)
            if lack is None:
                able.append(slot)
            else:
                lacking[slot.name] = lack
        places = {slot.name: place for place, slot in enumerate(self._slots)}
        within = [slot for slot in able if first <= places[slot.name] <= max(first, cap)]
        above = [slot for slot in able if places[slot.name] > max(first, cap)]
        order = within or above[:1] or able[-1:]
        if choice.tier in lacking:
            climb.why = lacking[choice.tier]
        return order

    def _try(self, climb: _Climb, slot: Slot, choice: Choice, *, last: bool) -> Steps[Any]:
        """Ask a tier: its answer, or NOT_USED where the next one is to be asked."""
        judged = choice.accept is not None and not last
        tags = {"tier": slot.name, "tier_why": climb.why, "tier_try": str(climb.answered + 1)}
        if climb.score is not None:
            tags["tier_score"] = f"{climb.score:.2f}"
        request = climb.request
        climb.tried.append(slot.name)
        try:
            given: Given = yield Call(
                runnable=slot.runnable(),
                prompt=climb.prompt,
                config=told(request.config, tags, quiet=judged),
                settings=request.settings,
                final=not judged,
            )
        except Exception as error:
            if last or passes(error):
                raise
            self._tally.failed(slot.name, error)
            climb.why, climb.score = f"failed:{type(error).__name__}"[:64], None
            return NOT_USED
        self._tally.answered(slot.name)
        climb.answered += 1
        answer = given.answer
        verdict = yield from self._judged(climb, choice, answer, streamed=given.streamed, last=last)
        if verdict.accepted:
            climb.score = climb.score if verdict.score is None else verdict.score
            return answer
        climb.why, climb.score = verdict.why, verdict.score
        return NOT_USED

    def _judged(self, climb: _Climb, choice: Choice, answer: Any, *, streamed: bool, last: bool) -> Steps[Verdict]:
        raw = answer["raw"] if self._structured is not None else answer
        if last or streamed:
            return Verdict(accepted=True, why="last")
        if self._structured is not None and (answer.get("parsing_error") or answer.get("parsed") is None):
            return Verdict(accepted=False, why="not_parsed")
        if choice.accept is None:
            return Verdict(accepted=not declined(raw), why="declined")
        return cast("Verdict", (yield from self._counting(climb, choice.accept(climb.request, raw))))

    def _counting(self, climb: _Climb, steps: Steps[Any]) -> Steps[Any]:
        """The same steps, and whether any of them called a model."""
        try:
            want = next(steps)
            while True:
                climb.asked_others = climb.asked_others or isinstance(want, Call)
                try:
                    came = yield want
                except Exception as error:  # noqa: BLE001  The policy's to handle.
                    want = steps.throw(error)
                else:
                    want = steps.send(came)
        except StopIteration as end:
            return end.value

    # --- what it comes to --------------------------------------------------------------------------------------------

    def _done(self, climb: _Climb, slot: Slot, answer: Any) -> Any:
        raw = answer["raw"] if self._structured is not None else answer
        if isinstance(raw, AIMessage):
            decision = self._decision(climb, slot, raw)
            raw = raw.model_copy(update={"response_metadata": {**raw.response_metadata, DECISION: decision}})
        if self._structured is None:
            return raw
        if self._structured:
            return {**answer, "raw": raw}
        if answer.get("parsing_error") is not None:
            raise answer["parsing_error"]
        return answer.get("parsed")

    def _decision(self, climb: _Climb, slot: Slot, answer: AIMessage) -> dict[str, Any]:
        """Plain JSON: it goes through checkpoints."""
        handler = handler_in(climb.request.config)
        alone = None if handler is None else handler.tell(self._alone, handler, answer)
        return {
            "tier": slot.name,
            "why": climb.why,
            "score": climb.score,
            "tried": list(climb.tried),
            "dearest": self._slots[-1].name,
            "dearest_alone_usd_estimate": alone,
        }

    def _alone(self, handler: FinOpsHandler, answer: AIMessage) -> str | None:
        """List price of the answer's tokens at the dearest tier's model; None where there is none, or no tokens."""
        if answer.usage_metadata is None:
            return None
        model: Any = chat_model_of(self._slots[-1].tier.model)
        asked = getattr(model, "_get_ls_params", None)
        metadata = dict(asked()) if callable(asked) else {}
        seen = AIMessage("", usage_metadata=answer.usage_metadata)
        cost = handler.recorder.meter.prices.price_message(seen, metadata=metadata, at=datetime.now(UTC))
        if cost.usd is None:
            warn_once(f"tier {self._slots[-1].name!r} has no known price, so nobody can say what the others save")
            return None
        return format(cost.usd, "f")


_Done = Any
"""What a ladder gives back: a message, or what was parsed."""


def _one(want: Call | Pending) -> Steps[Any]:
    return (yield want)


def _last_chunk(answer: Any, *, streamed: bool) -> Any:
    """The end of a stream: the decision where the answer was streamed, else all of the answer."""
    if not isinstance(answer, AIMessage):
        return answer
    if streamed:
        decision = {DECISION: answer.response_metadata.get(DECISION)}
        return AIMessageChunk(content="", id=answer.id, response_metadata=decision)
    return chunk_of(answer)
