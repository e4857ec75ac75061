"""Agents that waste money, each in one way, and the same agents mended: what `finops advise` says of their ledgers.

python examples/wasteful_agents.py                                         all of them, in a table
python examples/wasteful_agents.py repeated_calls --ledger ledger.db       one of them, into a ledger
python examples/wasteful_agents.py repeated_calls --ledger ledger.db --mended

The graphs, the handler and the advice are real. The models are scripted: they say so many words, and a word is a token.
So is the clock: no example waits for the hours and nights that it tells of.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, RetryPolicy
from pydantic import PrivateAttr

from langchain_finops import FinOpsHandler, Ledger, PriceBook, open_ledger
from langchain_finops.cli.common import run as run_command
from langchain_finops.cli.finops import app
from langchain_finops.clock import CALL_CLOCK, CallClock
from langchain_finops.levers import Request, cap_answers, handoff, prune
from langchain_finops.pricing import parse_cards
from langchain_finops.reports.advise import Machine, advise

Update = dict[str, list[BaseMessage]]
Graph = CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]
MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
CACHE_LIVES = timedelta(minutes=5)


class Clock:
    """What time it is in these examples."""

    now = MONDAY


class Scripted(BaseChatModel):
    """Says so many words, and passes for a model that has a price. It first calls a tool `looks` times.

    Of a prompt with a breakpoint it caches what stands before it, as Anthropic does, for five minutes.
    """

    model_name: str
    words: int = 100
    looks: int = 0
    service_tier: str | None = None
    _cached: dict[str, datetime] = PrivateAttr(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _provider(self) -> str:
        return "anthropic" if self.model_name.startswith("claude") else "openai"

    def _get_ls_params(self, *_: object, **__: object) -> LangSmithParams:
        return LangSmithParams(ls_provider=self._provider, ls_model_type="chat", ls_model_name=self.model_name)

    def _generate(
        self, messages: list[BaseMessage], *_: object, max_tokens: int | None = None, **__: object
    ) -> ChatResult:
        if (clock := CALL_CLOCK.get()) is not None:
            clock.started_at = clock.ended_at = Clock.now
        steps = sum(isinstance(each, AIMessage) for each in messages)
        calls = [ToolCall(name="look", args={}, id=f"look-{steps}")] if steps < self.looks else []
        said = {"model_name": self.model_name, "model_provider": self._provider, "service_tier": self.service_tier}
        count = self.words if max_tokens is None else min(self.words, max_tokens)
        answer = AIMessage(words(count), tool_calls=calls, usage_metadata=self._usage(messages, count))
        answer.response_metadata = {name: value for name, value in said.items() if value is not None}
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _usage(self, messages: list[BaseMessage], said: int) -> UsageMetadata:
        asked = sum(len(each.text.split()) for each in messages)
        details = self._from_cache(messages)
        return UsageMetadata(
            input_tokens=asked, output_tokens=said, total_tokens=asked + said, input_token_details=details
        )

    def _from_cache(self, messages: list[BaseMessage]) -> InputTokenDetails:
        marked = [place for place, each in enumerate(messages) if has_breakpoint(each)]
        if not marked:
            return InputTokenDetails()
        text = " ".join(each.text for each in messages[: marked[-1] + 1])
        alive = [kept for kept, at in self._cached.items() if Clock.now - at <= CACHE_LIVES and text.startswith(kept)]
        read = max((len(kept.split()) for kept in alive), default=0)
        self._cached[text] = Clock.now
        return InputTokenDetails(cache_read=read, cache_creation=len(text.split()) - read)


def words(count: int, word: str = "so") -> str:
    """A text of so many words."""
    return " ".join([word] * count)


def has_breakpoint(message: BaseMessage) -> bool:
    """Whether Anthropic is told to cache up to here."""
    return isinstance(message.content, list) and any(
        isinstance(block, dict) and "cache_control" in block for block in message.content
    )


def request(count: int, *, breakpoint_: bool = False, word: str = "why") -> HumanMessage:
    """What a user asks, in so many words."""
    text = words(count, word)
    if not breakpoint_:
        return HumanMessage(text)
    return HumanMessage([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}])


@dataclass(kw_only=True)
class Office:
    """An agent at work: its runs go to one ledger."""

    agent: str
    ledger: Ledger
    prices: PriceBook | None = None
    handler: FinOpsHandler = field(init=False)

    def __post_init__(self) -> None:
        self.handler = FinOpsHandler(agent_id=self.agent, ledger=self.ledger, prices=self.prices)
        Clock.now = MONDAY

    def run(self, graph: Graph, number: int, asked: Any) -> Any:
        """Run the agent for one user's task, and return the state it ends in."""
        config: RunnableConfig = {
            "callbacks": [self.handler],
            "metadata": {"task_id": self.task(number), "user_id": f"user-{number}"},
            "configurable": {"thread_id": f"thread-{number}"},
            "recursion_limit": 50,
        }
        return graph.invoke(asked, config)

    def ask(self, graph: Graph, number: int, message: HumanMessage) -> None:
        """Run it, and say that the task is solved."""
        self.run(graph, number, {"messages": [message]})
        self.judge(number, success=True)

    def judge(self, number: int, *, success: bool) -> None:
        """Say what became of a task."""
        self.handler.log_outcome(task_id=self.task(number), success=success)

    def task(self, number: int) -> str:
        """What a task is called."""
        return f"{self.agent}-{number}"


def tasks(count: int) -> Iterable[int]:
    """Tasks as users bring them: some minutes apart, never twice as many."""
    for number in range(count):
        Clock.now = MONDAY + timedelta(minutes=number**2)
        yield number


def calling(model: BaseChatModel, **metadata: str) -> Any:
    """A node that asks a model."""

    def call(state: MessagesState) -> Update:
        return {"messages": [model.invoke(state["messages"], {"metadata": metadata})]}

    return call


def in_a_row(**nodes: Any) -> Graph:
    """A graph of nodes one after the other."""
    builder = StateGraph(MessagesState)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(name="agent")


def looping(model: BaseChatModel, *, result: int, minutes: int, before: Any = None) -> Graph:
    """An agent that calls a tool as long as its model wants to. A result has so many words, and takes so long."""

    def look(state: MessagesState) -> Update:
        Clock.now += timedelta(minutes=minutes)
        (call,) = last_answer(state["messages"]).tool_calls
        return {"messages": [ToolMessage(words(result, "found"), tool_call_id=str(call["id"]))]}

    def is_over(state: MessagesState) -> str:
        return "look" if last_answer(state["messages"]).tool_calls else END

    builder = StateGraph(MessagesState)
    builder.add_node("think", calling(model))
    builder.add_node("look", look)
    first = "think"
    if before is not None:
        first = "before"
        builder.add_node("before", before)
        if before.name != "finops_handoff":  # It says itself where to go on.
            builder.add_edge("before", "think")
    builder.add_edge(START, first)
    builder.add_edge("look", first)
    builder.add_conditional_edges("think", is_over, ["look", END])
    return builder.compile(name="agent", checkpointer=InMemorySaver())


def last_answer(messages: list[AnyMessage]) -> AIMessage:
    """What the model said last."""
    return next(each for each in reversed(messages) if isinstance(each, AIMessage))


# --- the kinds of waste ----------------------------------------------------------------------------------------------


def cheaper_model(office: Office, *, mended: bool) -> None:
    """Half of the tasks go to a dear model that solves no more of them. Mended: the cheap one does all."""
    for number in tasks(80):
        dear = number % 2 and not mended
        office.ask(in_a_row(answer=calling(Scripted(model_name="gpt-4.1" if dear else "gpt-4.1-mini"))), number,
                   request(400))  # fmt: skip


def small_answers(office: Office, *, mended: bool) -> None:
    """A dear model picks a word for each question. Mended: a small one does."""
    router = Scripted(model_name="gpt-4.1-mini" if mended else "gpt-4.1", words=1)
    graph = in_a_row(route=calling(router), answer=calling(Scripted(model_name="gpt-4.1-mini")))
    for number in tasks(50):
        office.ask(graph, number, request(400))


def overhead(office: Office, *, mended: bool) -> None:
    """Each talk is summed up by the dear model. Mended: one in fifteen, as the long ones would be."""
    model = Scripted(model_name="gpt-4.1")
    sums_up = in_a_row(answer=calling(model), summary=calling(model, lc_source="summarization"))
    plain = in_a_row(answer=calling(model))
    for number in tasks(30):
        office.ask(sums_up if not mended or number % 15 == 0 else plain, number, request(400))


def uncached_prefix(office: Office, *, mended: bool) -> None:
    """Each step sends the long manual again, at full price. Mended: a breakpoint behind it has it cached."""
    graph = looping(Scripted(model_name="claude-sonnet-4-5", looks=3), result=100, minutes=1)
    for number in tasks(10):
        office.ask(graph, number, request(3_000, breakpoint_=mended, word=f"page{number}"))


def broken_cache(office: Office, *, mended: bool) -> None:
    """The time stands before a manual that is the same for all. Mended: it comes last, and the manual is cached."""
    model, manual = Scripted(model_name="claude-sonnet-4-5"), words(3_000, "manual")
    marked = {"type": "text", "text": manual, "cache_control": {"type": "ephemeral"}}

    def answer(state: MessagesState) -> Update:
        now = f"{Clock.now:%H:%M}"
        if mended:
            return {"messages": [model.invoke([SystemMessage([marked]), *state["messages"], HumanMessage(now)])]}
        return {"messages": [model.invoke([SystemMessage(f"{now} {manual}"), *state["messages"]])]}

    for number in range(20):
        Clock.now += timedelta(minutes=1 + number % 3)
        office.ask(in_a_row(answer=answer), number, request(400, word=f"why{number:03}"))


def unread_cache(office: Office, *, mended: bool) -> None:
    """Letters that are read once are written to the cache. Mended: no breakpoint."""
    graph = in_a_row(read=calling(Scripted(model_name="claude-sonnet-4-5")))
    for number in tasks(12):
        Clock.now += timedelta(hours=number)
        office.ask(graph, number, request(4_000, breakpoint_=not mended, word=f"letter{number}"))


def growing_context(office: Office, *, mended: bool) -> None:
    """Old results stay, build after build of ten minutes. Mended: `prune` drops them where that pays."""
    model = Scripted(model_name="gpt-4.1", looks=7)
    shorten = prune(model=model, keep_last=3).node() if mended else None
    graph = looping(model, result=400, minutes=10, before=shorten)
    for number in tasks(6):
        office.ask(graph, number, request(300, word=f"why{number}"))


def repeated_calls(office: Office, *, mended: bool) -> None:
    """Three workers ask the same of one model. Mended: LangChain's cache answers two of them."""
    model = Scripted(model_name="gpt-4.1-mini", cache=InMemoryCache() if mended else None)

    def work(state: MessagesState) -> Update:
        question = state["messages"][:1]
        first, *_ = [model.invoke(question) for _ in range(3)]
        return {"messages": [first]}

    graph = in_a_row(work=work)
    for number in tasks(10):
        office.ask(graph, number, request(400 + number))


def futile_retries(office: Office, *, mended: bool) -> None:
    """An answer that cannot be parsed is bought three times. Mended: only faults that pass are tried again."""
    model = Scripted(model_name="gpt-4.1-mini")

    def read(state: MessagesState) -> Update:
        model.invoke(state["messages"])
        raise ValueError("no JSON")

    retry_on = ConnectionError if mended else ValueError
    builder = StateGraph(MessagesState)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.0, jitter=False, retry_on=retry_on)
    builder.add_node("read", read, retry_policy=policy)
    builder.add_edge(START, "read")
    graph = builder.compile(name="agent")
    for number in tasks(6):
        try:
            office.ask(graph, number, request(400))
        except ValueError:
            office.judge(number, success=False)


def idle_polling(office: Office, *, mended: bool) -> None:
    """A model looks into the inbox each hour, mostly for nothing. Mended: mail that arrives starts the agent."""
    graph = in_a_row(look=calling(Scripted(model_name="gpt-4.1-mini", words=10)))
    reply = in_a_row(look=calling(Scripted(model_name="gpt-4.1-mini")))
    for hour in range(24):
        Clock.now = MONDAY + timedelta(hours=hour)
        has_mail = hour in {3, 4, 9, 17, 21}
        if has_mail:
            office.ask(reply, hour, request(400))
        elif not mended:
            office.run(graph, hour, {"messages": [request(300)]})


def not_waited_for(office: Office, *, mended: bool) -> None:
    """A report each night is made at once, and at the price for it. Mended: at that of a slower tier."""
    graph = in_a_row(report=calling(Scripted(model_name="gpt-5", service_tier="flex" if mended else None)))
    for night in range(12):
        Clock.now = MONDAY + timedelta(days=night)
        config: RunnableConfig = {"callbacks": [office.handler], "metadata": {"task_id": f"night-{night}"}}
        graph.invoke({"messages": [request(900)]}, config)


def late_handoff(office: Office, *, mended: bool) -> None:
    """What is not solved in three steps never is, and goes on for ten. Mended: a person is asked after three."""

    def is_late(asked: Request) -> float:
        return float(sum(isinstance(each, AIMessage) for each in asked.messages) >= 3)

    ask = handoff(threshold=1, scorer=is_late, usd_per_hour=30, minutes=4)
    node = ask.node(then="think") if mended else None
    for number in tasks(26):
        hard = number % 4 == 3
        model = Scripted(model_name="gpt-4.1-mini", words=40, looks=9 if hard else 2)
        graph = looping(model, result=40, minutes=1, before=node)
        state = office.run(graph, number, {"messages": [request(100)]})
        if "__interrupt__" in state:
            office.run(graph, number, Command(resume={"answer": "It is solved."}))
        office.judge(number, success=mended or not hard)


def long_answers(office: Office, *, mended: bool) -> None:
    """What it cannot solve it talks about at length. Mended: no answer is longer than those that solve something."""
    for number in tasks(80):
        solves = number % 4 != 3
        model = Scripted(model_name="gpt-4.1-mini", words=100 if solves else 900)
        graph = in_a_row(answer=calling(cap_answers(model, {"answer": 100}) if mended else model))
        office.run(graph, number, {"messages": [request(400)]})
        office.judge(number, success=solves)


def self_hosting(office: Office, *, mended: bool) -> None:
    """Ten long calls in each hour of a day, by the token. Mended: on a machine of one's own."""
    if mended:
        machine = {"usd_per_instance_hour": 0.25, "instances": 1, "concurrency": 1}
        card = {"id": "own", "match": {"model": "open-model"}, "self_hosted": machine}
        office = Office(
            agent=office.agent, ledger=office.ledger, prices=PriceBook(cards=parse_cards([card], where="example"))
        )
    graph = in_a_row(write=calling(Scripted(model_name="open-model" if mended else "gpt-4.1", words=2_000)))
    for number in range(240):
        Clock.now = MONDAY.replace(hour=0) + timedelta(minutes=6 * number)
        office.ask(graph, number, request(8_000))


MACHINE = Machine(usd_per_hour=Decimal("0.25"), tokens_per_second=Decimal(100))
"""What a machine of one's own is to cost and to do, for `self_hosting`."""
WASTE: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        cheaper_model, small_answers, overhead, uncached_prefix, broken_cache, unread_cache, growing_context,
        repeated_calls, futile_retries, idle_polling, not_waited_for, late_handoff, long_answers, self_hosting,
    )
}  # fmt: skip


def fill(ledger: Ledger, kind: str, *, mended: bool = False) -> None:
    """Let one of the agents work, and write it down."""
    office = Office(agent=kind, ledger=ledger)
    token = CALL_CLOCK.set(CallClock())  # By this calls have the clock's time, as those of a replay do.
    try:
        WASTE[kind](office, mended=mended)
    finally:
        CALL_CLOCK.reset(token)
    office.handler.flush(60)


def findings(kind: str, *, mended: bool) -> list[dict[str, Any]]:
    """What is advised to one of the agents, in memory."""
    ledger = open_ledger(":memory:")
    fill(ledger, kind, mended=mended)
    return advise(ledger, machine=MACHINE if kind == "self_hosting" else None).rows


def show_all() -> None:
    """Print what is found in each agent and in its mended twin."""
    print(f"{'planted waste':<16} {'found':<16} {'$/month':>10}  {'confidence':<10}  found in the mended one")
    for kind in WASTE:
        mended = ", ".join(row["kind"] for row in findings(kind, mended=True)) or "nothing"
        for row in findings(kind, mended=False):
            dollars = f"{row['usd_per_month']:,.4f}"
            print(f"{kind:<16} {row['kind']:<16} {dollars:>10}  {row['confidence']:<10}  {mended}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Agents that waste money, and what finops advise says of them.")
    parser.add_argument("kind", nargs="?", choices=WASTE, help="one of the agents; left out: all, in a table")
    parser.add_argument("--ledger", metavar="FILE", help="where its calls are written")
    parser.add_argument("--mended", action="store_true", help="the agent without the waste")
    given = parser.parse_args()
    if given.kind is None:
        show_all()
    elif given.ledger is None:
        parser.error("--ledger: name a file for the agent's calls")
    else:
        ledger = open_ledger(given.ledger)
        fill(ledger, given.kind, mended=given.mended)
        ledger.close()
        words = ["advise", "--ledger", given.ledger]
        if given.kind == "self_hosting":
            words += ["--machine-usd-per-hour", str(MACHINE.usd_per_hour)]
            words += ["--machine-tokens-per-second", str(MACHINE.tokens_per_second)]
        sys.exit(run_command(app, "finops", words))


if __name__ == "__main__":
    main()
