"""Drops streams in the middle of our bookkeeping, as the garbage collector does; ends only if nothing waits forever.

Run by `test_dropped_streams.py` in a process of its own, with the path of a ledger and a place in our code.
"""

import faulthandler
import sys
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import START, StateGraph

from langchain_finops import FinOpsHandler, PriceBook, open_ledger

OF_RUNS_OF_THEIR_OWN, OF_THE_RUN = 2, 2
"""Streams that are dropped."""


class Endless(BaseChatModel):
    """Streams until nobody listens any more."""

    @property
    def _llm_type(self) -> str:
        return "endless"

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        while True:
            yield ChatGenerationChunk(message=AIMessageChunk("word "))

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        raise ValueError("refused")


def interrupted(owner: Any, name: str, streams: list[Iterator[Any]]) -> None:
    """Have each stream dropped in the middle of what the named function is called for."""
    function = getattr(owner, name)

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        if streams:
            streams.pop().close()  # type: ignore[attr-defined]  # it is a generator
        return function(*args, **kwargs)

    setattr(owner, name, meanwhile)


def at(place: str) -> tuple[Any, str]:
    """What `module:Class.function` is an attribute of, and its name there."""
    module, _, path = place.partition(":")
    owner, _, name = path.rpartition(".")
    found = import_module(f"langchain_finops.{module}")
    return (attrgetter(owner)(found) if owner else found), name


def main(where: str, place: str) -> None:
    """One run, reports and outcomes, while streams are dropped; then all must have been counted."""
    faulthandler.dump_traceback_later(30, exit=True)
    ledger = open_ledger(where)
    handler = FinOpsHandler(ledger=ledger, prices=PriceBook(catalog=False))
    model = Endless()

    def opened(number: int) -> Iterator[Any]:
        stream = model.stream("hi", {"callbacks": [handler], "metadata": {"user_id": f"user-{number}"}})
        next(stream)
        return stream

    def node(_: Any) -> dict[str, Any]:
        streams.extend(opened(number) for number in range(OF_THE_RUN))
        next(model.stream("hi"))
        handler.summary("user")
        return {}

    builder = StateGraph(dict)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    graph = builder.compile()
    streams = [opened(OF_THE_RUN + number) for number in range(OF_RUNS_OF_THEIR_OWN)]
    interrupted(*at(place), streams)

    graph.invoke({}, {"callbacks": [handler], "metadata": {"task_id": "t"}})
    handler.log_outcome(task_id="t", success=True)
    handler.summary("user")
    for _ in range(2):
        list(ledger.calls())

    expected = {None: 1, **{f"user-{number}": 1 for number in range(OF_THE_RUN + OF_RUNS_OF_THEIR_OWN)}}
    for groups in (ledger.totals(["user"]), handler.summary("user").groups):
        assert {group.key[0]: group.totals.calls for group in groups} == expected
    assert not streams, f"{place} is never reached"
    assert handler.faults == 0
    ledger.close()


main(*sys.argv[1:])
