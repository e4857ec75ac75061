"""Small graphs whose model calls cost a cent each; a scripted provider counts those that it really received."""

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from scripted_models import Reply, ScriptedChat, tokens

from langchain_finops import CallRefused, Ledger

__all__ = ["CENT", "EVERY_STORE", "FITS_THREE", "State", "asking", "cents", "ending", "fan_out", "line", "looping"]

CENT = tokens(0, 1_000)
"""Usage of one call: 1,000 output tokens at $10 a million."""
FITS_THREE = "0.035"
"""Dollars: the standard load's limit. Three calls of a cent fit, a fourth does not."""
EVERY_STORE = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)


class State(TypedDict, total=False):
    """What was said so far, and what a branch is to ask."""

    said: Annotated[list[str], operator.add]
    prompt: str


def cents(**fields: Any) -> ScriptedChat:
    """A model that answers everything, at a cent a call."""
    return ScriptedChat(script=lambda _prompt, call: Reply(text=f"answer {call}", usage=CENT), **fields)


def both(sync: Callable[..., Any], asynchronous: Callable[..., Any]) -> Runnable[Any, Any]:
    """A node for sync and async graphs alike."""
    return RunnableLambda(sync, afunc=asynchronous)


def asking(model: Runnable[Any, Any], prompt: str | None = None, *, swallow: bool = False) -> Runnable[Any, Any]:
    """A node that asks the model once; one that swallows takes a refusal for an answer."""
    caught = Exception if swallow else ()

    def ask(state: State) -> State:
        try:
            return {"said": [model.invoke(prompt or state.get("prompt") or f"round {len(state['said'])}").text]}
        except caught as error:
            return {"said": [type(error).__name__]}

    async def aask(state: State) -> State:
        try:
            asked = prompt or state.get("prompt") or f"round {len(state['said'])}"
            return {"said": [(await model.ainvoke(asked)).text]}
        except caught as error:
            return {"said": [type(error).__name__]}

    return both(ask, aask)


def line(nodes: dict[str, Any], *, node: dict[str, Any] | None = None, **options: Any) -> Any:
    """A compiled graph of nodes that run one after the other."""
    builder = StateGraph(State)
    for name, each in nodes.items():
        builder.add_node(name, each, **(node or {}))
    for before, after in zip([START, *nodes], nodes, strict=False):
        builder.add_edge(before, after)
    return builder.compile(**options)


def looping(node: Any, rounds: int = 10, **options: Any) -> Any:
    """A compiled graph of one node that runs again and again: an agent that does not stop by itself."""
    builder = StateGraph(State)
    builder.add_node("agent", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "agent" if len(state["said"]) < rounds else END)
    return builder.compile(**options)


def fan_out(node: Any, branches: int, **options: Any) -> Any:
    """A compiled graph that sends each prompt to a branch of its own, all at once."""
    builder = StateGraph(State)
    builder.add_node("branch", node)
    builder.add_conditional_edges(START, lambda _: [Send("branch", {"prompt": f"p{n}"}) for n in range(branches)])
    return builder.compile(**options)


def ending(play: Any, *arguments: Any, **options: Any) -> BaseException | None:
    """How a run ended: the refusal that reached the caller, or None."""
    try:
        play(*arguments, **options)
    except CallRefused as refusal:
        return refusal
    return None


def statuses(ledger: Ledger) -> list[tuple[str, str | None]]:
    """Status and reason of each run."""
    return [(run.status, run.stop_reason) for run in ledger.runs()]
