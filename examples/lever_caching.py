"""Prompt caching: a LangGraph agent that adds up a shop's stock, before and after `cache_policy()`.

Anthropic's caches cannot be asked here. So the provider is scripted: `golden_datasets/levers/scripted_claude.py` plays
the documented rules of its caches, on a clock that the agent moves, and answers by a script. The requests are those of
the real SDK (`langchain-anthropic`), the prices Anthropic's. This prints the figures from the recording, offline:

    python examples/lever_caching.py [RESULTS]
    finops-eval run golden_datasets/levers/caching.jsonl

Configurations: `plain` marks nothing, `policy` is the lever, `policy-told` the lever with `expected_uses=3`, `always`
marks every prompt for five minutes. `caching.jsonl` has
loops of calls seconds apart, `caching-day.jsonl` agents that are asked one thing after the other, minutes apart,
`caching-apart.jsonl` single questions two hours apart.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypedDict

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode, tools_condition

from langchain_finops.levers import cache_policy

LEVERS = Path(__file__).parent.parent / "golden_datasets" / "levers"
DATASETS = ("caching", "caching-day", "caching-apart")
URL = "http://127.0.0.1:8093"
CALL_S = 4
"""What a call takes on the scripted clock."""
HANDBOOK = (LEVERS / "caching-handbook.txt").read_text(encoding="utf-8")
FOR_FIVE_MINUTES = {"type": "ephemeral", "ttl": "5m"}


class Talk(TypedDict):
    """A conversation."""

    messages: Annotated[list[AnyMessage], add_messages]


class Clock:
    """The scripted provider's time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


@tool
def look_up(part: str) -> str:
    """Look up how many pieces of a part are in stock. Parts have a letter and a number, such as B-204."""
    return f"{part}: {ord(part[0]) * int(part[2:]) % 97} pieces"


def build(configuration: Mapping[str, object]) -> Runnable[Mapping[str, Any], Mapping[str, str]]:
    """The agent in one configuration: `caching` is `plain`, `policy`, `told` or `always`."""
    caching = str(configuration["caching"])

    async def work(task: Mapping[str, Any], config: RunnableConfig) -> dict[str, str]:
        """Answer the questions one after the other, each `gaps_s` after the one before; `apart`: with no memory."""
        clock = Clock()
        model, system = asked_by(caching, clock, str((config.get("metadata") or {}).get("thread_id")))
        graph = agent(model, system, clock)
        talk: list[AnyMessage] = []
        answers = []
        for question, gap in zip(task["questions"], task["gaps_s"], strict=True):
            clock.now += gap
            begun = [] if task.get("apart") else talk
            talk = (await graph.ainvoke({"messages": [*begun, HumanMessage(question)]}, config))["messages"]
            answers.append(talk[-1].text)
        return {"answer": ", ".join(answers)}

    return RunnableLambda(work)


def asked_by(caching: str, clock: Clock, session: str) -> tuple[ChatAnthropic, SystemMessage]:
    """The model and the system message of a configuration; each task has a cache of its own."""
    made: dict[str, Any] = {"model": "claude-opus-5", "api_key": "not needed", "max_tokens": 256, "max_retries": 0}
    made["base_url"] = os.environ.get("FINOPS_MODEL_URL") or URL
    model: Any = ChatAnthropic(**made, default_headers={"x-scripted-session": session})
    system = SystemMessage(HANDBOOK)
    if caching in {"policy", "told"}:
        model = cache_policy(expected_uses=3 if caching == "told" else None, clock=clock).bind(model)
    elif caching == "always":
        block: Any = {"type": "text", "text": HANDBOOK, "cache_control": FOR_FIVE_MINUTES}
        system = SystemMessage([block])
    return model, system


def agent(model: Any, system: SystemMessage, clock: Clock) -> Any:
    """The loop: model, tool, model, until it answers."""
    always = {} if isinstance(system.content, str) else {"cache_control": FOR_FIVE_MINUTES}
    tools = model.bind_tools([look_up], **always)

    async def think(state: Talk, config: RunnableConfig) -> Talk:
        """Ask the model, at the time of the scripted clock."""
        headers = {"x-scripted-time": str(clock.now)}
        said: AIMessage = await tools.ainvoke([system, *state["messages"]], config, extra_headers=headers)
        clock.now += CALL_S
        return {"messages": [said]}

    graph = StateGraph(Talk)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph.compile(name="stock_agent")


def main(folder: Path, show: Callable[[str], object] = print) -> None:
    """Print each configuration's figures, and the paired comparisons with `plain`, for each dataset."""
    from langchain_finops.evals import CompareOptions, Options, compare, load_dataset, load_suite, run
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

    for name in DATASETS:
        data = LEVERS / f"{name}.jsonl"
        dataset, suite, into = load_dataset(data), load_suite(data.with_suffix(".yaml")), folder / name
        show(f"\n{name}: a scripted provider that plays Anthropic's documented cache; no model answered.\n")
        results = run(dataset, suite, Options(folder=into))
        render(table_of(results), "table", sys.stdout)
        for way in suite.configurations[1:]:
            options = CompareOptions(min_tasks=len(dataset.items), min_successes=8)
            render(compare(f"{into}:{way.name}", f"{into}:plain", options).table(), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as made:
            main(Path(made))
