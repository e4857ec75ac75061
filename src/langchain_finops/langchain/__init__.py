"""Where LangChain and LangGraph are met: the handler, its signals, and what reads them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_finops.langchain.control import answers
    from langchain_finops.langchain.middleware import FinOpsMiddleware, TaggingMiddleware
    from langchain_finops.langchain.refusals import Killed, LoopDetected, RunDrained, UnpricedCall
    from langchain_finops.langchain.stops import Question, Stop
    from langchain_finops.langchain.tagging import hashed_user, tag_requests

__all__ = [
    "FinOpsMiddleware",
    "Killed",
    "LoopDetected",
    "Question",
    "RunDrained",
    "Stop",
    "TaggingMiddleware",
    "UnpricedCall",
    "answers",
    "hashed_user",
    "tag_requests",
]

_HOMES = {
    "FinOpsMiddleware": "middleware",
    "Killed": "refusals",
    "LoopDetected": "refusals",
    "Question": "stops",
    "RunDrained": "refusals",
    "Stop": "stops",
    "TaggingMiddleware": "middleware",
    "UnpricedCall": "refusals",
    "answers": "control",
    "hashed_user": "tagging",
    "tag_requests": "tagging",
}


def __getattr__(name: str) -> object:
    """Load a name when it is first used: importing one module of this package must not load LangGraph for another."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
