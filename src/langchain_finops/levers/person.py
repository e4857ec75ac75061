"""`handoff(threshold=...)`: a person answers what the agent would burn money on; their minutes have a price.

It stands before the model, as a node of any graph or as a middleware of `create_agent`, and pauses the run by
LangGraph's interrupt. The run needs a checkpointer to go on; without one it ends there with what it has.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from threading import Lock
from typing import Any, Final, TypeGuard
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.config import get_config
from langgraph.func import task
from langgraph.graph import END
from langgraph.runtime import get_runtime
from langgraph.types import Command, Send, interrupt

from langchain_finops.errors import BadArguments
from langchain_finops.levers.choices import Request, share_of
from langchain_finops.levers.difficulty import shape_difficulty
from langchain_finops.levers.pressure import handler_in
from langchain_finops.levers.steps import Steps, drive, drive_async, passes, resolved
from langchain_finops.levers.tiers import warn_once
from langchain_finops.money import EXACT, usd

__all__ = ["HANDOFF", "Handoff", "handoff", "messages_in"]

HANDOFF: Final = "finops_handoff"
"""`type` of the interrupt's payload, and the mark of a message that a person gave."""
SENT: Final = "finops_handoff_score"
ANSWERS_KEPT: Final = 10_000
"""So many charged answers are remembered: a node is tried again soon, if at all."""
_lock: Final = Lock()
_answers: OrderedDict[UUID, tuple[object, int]] = OrderedDict()
"""For each words of an answer the execution of a node that got them last, and how many times over."""
PICO: Final = Decimal("0.000000000001")
ANSWERS: Final = (
    {"answer": "text, which ends the loop", "minutes": "how long it took; left out: as usual"},
    {"guidance": "text, with which the agent goes on", "minutes": "the same"},
)


class Handoff:
    """Asks a person where a request is too difficult. Made by `handoff(...)`."""

    def __init__(self, *, threshold: float, scorer: Any, usd_per_hour: Decimal, minutes: Decimal) -> None:
        self.threshold, self.scorer = threshold, scorer
        self.usd_per_hour, self.minutes = usd_per_hour, minutes
        self._charged: OrderedDict[str, None] = OrderedDict()
        """Charges of answers: a node that is tried again after it got one is given the same once more."""

    def asks(self, messages: Sequence[Any], *, tools: Sequence[str] = ()) -> BaseMessage | None:
        """What a person says instead of the model, or to it; None where nobody is asked. In a node of a graph."""
        request = self._request(messages, tools)
        if request is None:
            return None
        # A finished task does not run again when the run is resumed: a score that came out otherwise the second time
        # would throw the person's answer away, and one that a model gave would be paid for twice.
        pure = self._is_pure
        score = share_of(self.scorer(request)) if pure else _SYNC_SCORE(self.scorer, request).result()
        return self._said(score, len(request.messages))

    async def aasks(self, messages: Sequence[Any], *, tools: Sequence[str] = ()) -> BaseMessage | None:
        """The same, in async code."""
        request = self._request(messages, tools)
        if request is None:
            return None
        score = share_of(self.scorer(request)) if self._is_pure else await _ASYNC_SCORE(self.scorer, request)
        return self._said(score, len(request.messages))

    def node(self, then: str, *, end: str = END, messages_key: str = "messages") -> RunnableLambda[Any, Any]:
        """A node that goes on to node `then`, or with a person's answer to `end`. It needs no edges out of it.

        A score that would have to be kept over a pause is sent to the node itself: a step more where a person is asked,
        and a millisecond less than a LangGraph task where nobody is.
        """

        def ask(state: Any) -> Command[Any]:
            if self._is_pure:
                return _command(self.asks(messages_in(state, messages_key)), then, end, messages_key)
            if _is_sent(state):
                return self._answered(state, then, end, messages_key)
            request = self._request(messages_in(state, messages_key), ())
            return self._asked_or_on(request, drive(_score(self.scorer, request)) if request else None, then)

        async def aask(state: Any) -> Command[Any]:
            if self._is_pure:
                return _command(await self.aasks(messages_in(state, messages_key)), then, end, messages_key)
            if _is_sent(state):
                return self._answered(state, then, end, messages_key)
            request = self._request(messages_in(state, messages_key), ())
            return self._asked_or_on(
                request, await drive_async(_score(self.scorer, request)) if request else None, then
            )

        return RunnableLambda(ask, aask, name=HANDOFF)

    def _answered(self, sent: Mapping[str, Any], then: str, end: str, key: str) -> Command[Any]:
        return _command(self._said(sent[SENT], sent["messages"]), then, end, key)

    def _asked_or_on(self, request: Request | None, score: float | None, then: str) -> Command[Any]:
        """To the same node with the score, where a person is to be asked, else to `then`."""
        if request is None or not self._is_reached(score):
            return Command(goto=then)
        own: str = get_config()["metadata"]["langgraph_node"]
        return Command(goto=Send(own, {SENT: score, "messages": len(request.messages)}))

    @property
    def _is_pure(self) -> bool:
        return getattr(self.scorer, "is_pure", False) is True

    def _request(self, messages: Sequence[Any], tools: Sequence[str]) -> Request | None:
        given = convert_to_messages(messages)
        if any(HANDOFF in each.additional_kwargs for each in _since_last_request(given)):
            return None  # A person has helped with it already: asking at each step would cost more than the agent.
        return Request(messages=given, tools=frozenset(tools), config=get_config())

    def _is_reached(self, score: float | None) -> TypeGuard[float]:
        if score is None:
            warn_once("handoff: the scorer failed or gave no share between 0 and 1; nobody is asked meanwhile")
            return False
        return score >= self.threshold

    def _said(self, score: float | None, messages: int) -> BaseMessage | None:
        if not self._is_reached(score):
            return None
        question = {
            "type": HANDOFF,
            "score": round(score, 4),
            "threshold": self.threshold,
            "minutes": format(self.minutes, "f"),
            "usd_per_hour": format(self.usd_per_hour, "f"),
            "answers": [dict(each) for each in ANSWERS],
        }
        while True:  # Whatever else is said asks again.
            read = _read(interrupt(question), self.minutes)
            if read is not None:
                message, minutes = read
                self._charge_once(_charge_id(get_config(), messages, message.text), minutes)
                return message

    def _charge_once(self, charge_id: str, minutes: Decimal) -> None:
        if charge_id in self._charged:
            return
        self._charge(charge_id, minutes)
        self._charged[charge_id] = None
        if len(self._charged) > ANSWERS_KEPT:
            self._charged.popitem(last=False)

    def _charge(self, charge_id: str, minutes: Decimal) -> None:
        handler = handler_in(get_config())
        if handler is None:
            warn_once("handoff: no FinOpsHandler sees this run, so a person's minutes are not written down")
            return
        cost = EXACT.divide(EXACT.multiply(self.usd_per_hour, minutes), Decimal(60)).quantize(PICO, context=EXACT)
        handler.record_charge(
            "human", cost_usd=cost, name="handoff", quantity=minutes, unit="minutes", charge_id=charge_id
        )


def handoff(
    *,
    threshold: float,
    usd_per_hour: Decimal | int | str | float,
    minutes: Decimal | int | str | float,
    scorer: Callable[[Request], Any] | None = None,
) -> Handoff:
    """Ask a person where a request scores `threshold` or more; `minutes` is what one usually takes.

    `scorer`: None for `shape_difficulty()`. The person answers `Command(resume="text")`, which ends the loop, or
    `{"answer": ..., "minutes": 4}`, or `{"guidance": ...}`, with which the agent goes on. Their time is a charge of
    kind `human` in the run. Raises BadArguments.
    """
    share = share_of(threshold)
    rate, usual = _amount(usd_per_hour), _minutes(minutes)
    if share is None or isinstance(threshold, bool) or rate is None or usual is None:
        raise BadArguments(
            f"handoff: threshold={threshold!r}, usd_per_hour={usd_per_hour!r}, minutes={minutes!r}: give a share from "
            "0 to 1, dollars of 0 or more, and more than 0 minutes"
        )
    return Handoff(threshold=share, scorer=scorer or shape_difficulty(), usd_per_hour=rate, minutes=usual)


def _charge_id(config: RunnableConfig, messages: int, answer: str) -> str:
    """The same for the same answer to the same execution of a node, in whatever process it is run again.

    Keyed by where it runs: LangGraph's namespace names this very execution by a hash that stands in its checkpoints and
    in no ledger, so that nobody can guess answers from a ledger's ids. Where one execution gets the same words more
    than once, each time has an id of its own: a node that runs again is given its answers in the same order.
    """
    told = config.get("configurable", {})
    where = blake2b(f"{told.get('thread_id')}|{told.get('checkpoint_ns')}".encode("utf-8", "surrogatepass"))
    said = f"{messages}|{answer}".encode("utf-8", "surrogatepass")
    words = UUID(bytes=blake2b(said, key=where.digest(), digest_size=16).digest())
    again = _times_before(words)
    return str(UUID(bytes=blake2b(f"{again}".encode(), key=words.bytes, digest_size=16).digest()) if again else words)


def _times_before(words: UUID) -> int:
    """How many times this execution of the node has got these words already; each try is an execution."""
    execution: object = get_runtime().execution_info
    with _lock:
        last, times = _answers.pop(words, (None, 0))
        before = times if last is execution else 0
        _answers[words] = execution, before + 1
        if len(_answers) > ANSWERS_KEPT:
            _answers.popitem(last=False)
    return before


def _score(scorer: Any, request: Request) -> Steps[float | None]:
    try:
        return share_of((yield from resolved(scorer, request)))
    except Exception as error:
        if passes(error):
            raise
        return None


def _sync_score(scorer: Any, request: Request) -> float | None:
    return drive(_score(scorer, _here(request)))


async def _async_score(scorer: Any, request: Request) -> float | None:
    return await drive_async(_score(scorer, _here(request)))


_SYNC_SCORE, _ASYNC_SCORE = task(_sync_score), task(_async_score)


def _here(request: Request) -> Request:
    """The request as it is asked within a task: its calls belong there."""
    return Request(messages=request.messages, tools=request.tools, config=get_config())


def _since_last_request(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """The messages from the last one on that the user, and not a person asked, has written."""
    asked = [at for at, each in enumerate(messages) if isinstance(each, HumanMessage) and not _is_persons(each)]
    return messages[asked[-1] :] if asked else messages


def _is_persons(message: BaseMessage) -> bool:
    return HANDOFF in message.additional_kwargs


def _read(said: Any, usual: Decimal) -> tuple[BaseMessage, Decimal] | None:
    """What a person said, and how long it took; None where it is not understood."""
    given: Mapping[str, Any] = {"answer": said} if isinstance(said, str) else said if isinstance(said, Mapping) else {}
    minutes = usual if given.get("minutes") is None else _minutes(given["minutes"])
    answer, guidance = given.get("answer"), given.get("guidance")
    if minutes is None or (answer is None) == (guidance is None):
        return None
    mark = {HANDOFF: True}
    if isinstance(answer, str) and answer.strip():
        return AIMessage(answer, name="person", additional_kwargs=mark), minutes
    if isinstance(guidance, str) and guidance.strip():
        return HumanMessage(guidance, name="person", additional_kwargs=mark), minutes
    return None


def _amount(value: Any) -> Decimal | None:
    try:
        amount = usd(value)
    except (ValueError, TypeError):
        return None
    return amount if amount >= 0 and not isinstance(value, bool) else None


def _minutes(value: Any) -> Decimal | None:
    amount = _amount(value)
    return amount if amount is not None and 0 < amount <= 7 * 24 * 60 else None


def messages_in(state: Any, key: str) -> Sequence[Any]:
    """The messages in a graph's state. Raises BadArguments where there are none."""
    found = state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise BadArguments(f"the state has no list of messages in {key!r}")
    return found


def _is_sent(state: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(state, Mapping) and SENT in state


def _command(message: BaseMessage | None, then: str, end: str, key: str) -> Command[Any]:
    if message is None:
        return Command(goto=then)
    return Command(update={key: [message]}, goto=end if isinstance(message, AIMessage) else then)
