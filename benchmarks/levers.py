"""What each lever adds to a model call, beyond the models it calls: `python benchmarks/levers.py [--repeat N]`.

Each row asks with the lever and without it in turn, A B A B, with models that answer at once, and prints the median of
the differences. To reach: one millisecond.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from langchain_finops import Budget, FinOpsHandler, PriceBook, open_ledger
from langchain_finops.levers import (
    PastFailures,
    Request,
    Tier,
    TieredChatModel,
    by_budget,
    by_difficulty,
    cache_policy,
    cap_answers,
    cascade,
    handoff,
    prune,
    shape_difficulty,
)
from langchain_finops.pricing import parse_cards

CARDS = parse_cards(
    [{"id": "scripted", "match": {"model": "scripted"}, "rates": {"input_tokens": 3, "output_tokens": 15}}],
    where="benchmark",
)
BOOK = PriceBook(cards=CARDS, catalog=False)
HANDBOOK = Path(__file__).parent.parent / "golden_datasets" / "levers" / "handbooks" / "tessaro.md"
QUESTION = "How often is the brake fluid of the Tessaro City changed?"
TOOLS = [StructuredTool.from_function(lambda query: "found", name=f"look{n}", description="Look.") for n in range(5)]


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


class Scripted(BaseChatModel):
    """Answers at once, so that nothing but the frame around it is measured."""

    model_name: str = "scripted"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[tool.name for tool in tools], **kwargs)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        usage = {"input_tokens": 10, "output_tokens": 40, "total_tokens": 50}
        message = AIMessage("ok", usage_metadata=usage, response_metadata={"model_name": "scripted"})
        return ChatResult(generations=[ChatGeneration(message=message)])


class ChatAnthropic(Scripted):
    """Named as the model whose requests a cache's marks are for, and answering at once."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "anthropic", "ls_model_name": "claude-sonnet-5", "ls_model_type": "chat"}


def difference(with_lever: Callable[[], Any], without: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """Median of what the lever adds, and what is asked without it takes, in milliseconds."""
    added, plain = [], []
    for place in range(repeat + 20):
        began = time.perf_counter()
        with_lever()
        between = time.perf_counter()
        without()
        ended = time.perf_counter()
        if place >= 20:  # The first ones load and remember.
            added.append((between - began) - (ended - between))
            plain.append(ended - between)
    return statistics.median(added) * 1_000, statistics.median(plain) * 1_000


def talk(exchanges: int = 20) -> list[Any]:
    """A conversation with results of tools of 1,000 tokens each."""
    messages: list[Any] = [HumanMessage("the task")]
    for number in range(exchanges):
        call = {"name": "look0", "args": {"query": "x"}, "id": str(number), "type": "tool_call"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage("found " * 700, tool_call_id=str(number))]
    return messages


def tiers(policy: Any) -> TieredChatModel:
    return TieredChatModel([Tier("worker", Scripted()), Tier("brain", Scripted())], policy=policy)


def rows() -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Each lever, and the same without it."""
    metered = {"callbacks": [FinOpsHandler(ledger=open_ledger(":memory:"), prices=BOOK)]}
    limited = FinOpsHandler(ledger=open_ledger(":memory:"), prices=BOOK, budgets=[Budget(usd=1_000, per="day")])
    budget: Any = {"callbacks": [limited]}
    plain, messages = Scripted(), talk()
    past = PastFailures()
    for number in range(500):
        past.learn(Request(messages=[HumanMessage(f"book a flight to Rome on day {number}")]), success=True)
    scorer = shape_difficulty(past)

    def asked(model: Any, config: Any = metered, prompt: Any = "hi") -> Callable[[], Any]:
        return lambda: model.invoke(prompt, config)

    def graph(before: Any, model: Any = plain) -> Callable[[], Any]:
        built = StateGraph(State).add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        if before is None:
            built.add_node("before", lambda state: {})
            built.add_edge("before", "model")
        else:
            built.add_node("before", before)
        app = built.add_edge(START, "before").compile()
        return lambda: app.invoke({"messages": [HumanMessage("hi")]}, metered)

    shorten = prune(model=plain, keep_last=40, prices=BOOK)
    cut = prune(model=plain, ways=["passages"], prices=BOOK)
    retrieved = [HumanMessage(QUESTION), ToolMessage(HANDBOOK.read_text(encoding="utf-8"), tool_call_id="1")]
    ask = handoff(threshold=0.99, usd_per_hour=60, minutes=5)
    learnt = handoff(threshold=0.99, usd_per_hour=60, minutes=5, scorer=scorer)
    bound = Scripted().bind_tools(TOOLS)
    cascading = tiers(cascade(lambda request, answer: True))
    claude, long = ChatAnthropic(), [SystemMessage("be careful " * 1_000), *messages]
    caching = cache_policy(prices=PriceBook()).bind(claude).bind_tools(TOOLS)
    uncached = claude.bind_tools(TOOLS)
    return [
        ("tiers: a rule", asked(tiers(lambda request: "worker")), asked(plain)),
        ("tiers: cascade with a judging function", asked(cascading), asked(plain)),
        (
            "tiers: by what is left of the budget",
            asked(tiers(by_budget({"worker": 0.1})), budget),
            asked(plain, budget),
        ),
        ("tiers: by difficulty, 500 past tasks", asked(tiers(by_difficulty(scorer, {"brain": 0.9}))), asked(plain)),
        (
            "tiers: five tools bound at each call, 41 messages",
            lambda: cascading.bind_tools(TOOLS).invoke(messages, metered),
            lambda: bound.invoke(messages, metered),
        ),
        ("handoff: by shape", graph(ask.node(then="model")), graph(None)),
        ("handoff: by 500 past tasks, kept over a pause", graph(learnt.node(then="model")), graph(None)),
        ("prune: 41 messages, does it pay?", lambda: shorten.messages(messages), lambda: None),
        ("cache_policy: five tools, 42 messages", asked(caching, prompt=long), asked(uncached, prompt=long)),
        ("prune: a document of 1,000 tokens cut to passages", lambda: cut.messages(retrieved), lambda: None),
        ("cap_answers: a cap of the node", graph(None, cap_answers(plain, {"model": 100})), graph(None)),
    ]


def main() -> None:
    """Print a row for each lever."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=300)
    repeat = parser.parse_args().repeat
    print(f"{'lever':<52} {'added, ms':>10} {'reach':>8} {'the call without it, ms':>25}")
    for name, with_lever, without in rows():
        added, plain = difference(with_lever, without, repeat)
        print(f"{name:<52} {added:>10.2f} {'<= 1.00':>8} {plain:>25.2f}", flush=True)


if __name__ == "__main__":
    main()
