"""Pauses and drains a graph, and reads a person's answers. The only module that knows LangGraph's private keys.

`interrupt()` matches answers to questions by position: called in a callback it would be given the answer to the user's
own question in that node, or give ours away. So questions of ours have ids of their own, and an answer that came
without an id is taken only where our question was the one that waited, and then nobody else gets it.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.runtime import get_runtime
from langgraph.types import Interrupt

from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain.refusals import DrainReason
from langchain_finops.langchain.stops import Question, questions, told_of
from langchain_finops.money import usd

__all__ = ["ASK", "Answered", "Questions", "answers", "drain", "pause", "resumable", "superstep", "task_config"]

ASK = "ask"
"""Action of the event that a question leaves in the audit trail, by which another process knows that it waits."""
CHECKPOINTER = "__pregel_checkpointer"
RESUME_MAP = "__pregel_resume_map"
SCRATCHPAD = "__pregel_scratchpad"
NAMESPACE = "checkpoint_ns"
FRAMES = 16
"""How far up a node's configuration is looked for; it is four or five frames away."""
ID_DIGITS = 32
"""LangGraph takes a map for answers by id only where all its keys have so many hexadecimal digits."""

Configurable = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a person said to a question."""

    approve: bool | None
    """None: it cannot be read as an answer."""
    amount: Decimal | None = None
    """By how much the limit is raised, in the budget's unit; None: by what this one start needs."""
    by: str | None = None
    """Who said so."""


class Questions:
    """What a run has asked, and which questions have been answered. Part of what a resumed run takes over."""

    __slots__ = ("answered", "approvals", "asked", "places", "waiting")

    def __init__(self, waiting: frozenset[str] = frozenset(), answered: Mapping[str, int] | None = None) -> None:
        self.waiting = waiting
        """Ids of the questions that the invocation before this one ended with."""
        self.answered = dict(answered or {})
        """How many answers a place has had: its next question gets another id, so an answer counts once."""
        self.asked: set[str] = set()
        """Ids of the questions of this invocation."""
        self.places: set[str] = set()
        """Namespaces that asked them."""
        self.approvals = 0
        """How often somebody said yes in this invocation."""

    def place(self, namespace: str, budget: str | None) -> str:
        """Where and on what a question is asked."""
        return f"{namespace}|{budget}"

    def id_of(self, place: str) -> str:
        """The id of the question there that is not answered yet."""
        return sha256(f"finops|{place}|{self.answered.get(place, 0)}".encode()).hexdigest()[:ID_DIGITS]

    def take_no(self, configurable: Configurable) -> Answered | None:
        """The no that this invocation was given to any of the questions that waited; None if it was given none.

        It is looked for before a yes is, and before there is a reason to ask again: a yes to another branch, or a new
        day, makes room where somebody was denied.
        """
        if not self.waiting:
            return None
        given = configurable.get(RESUME_MAP) or {}
        said = [read_answer(given[each], None) for each in self.waiting & given.keys()]
        # Without an id it is for the one question that waited: LangGraph takes no such answer where several do.
        said = said or [read_answer(configurable[SCRATCHPAD].get_null_resume(consume=False), None)]
        denied = next((each for each in said if each.approve is False), None)
        if denied is not None:
            self.waiting = frozenset()
            configurable[SCRATCHPAD].get_null_resume(consume=True)
        return denied

    def were_asked_in(self, namespace: str) -> bool:
        """Whether a question of this invocation was asked there, or in what runs in it."""
        return any(each == namespace or each.startswith(f"{namespace}|") for each in list(self.places))

    def take_answer(self, place: str, configurable: Configurable, unit: str | None) -> Answered | None:
        """The answer that this invocation was given to the question there; None if it was given none.

        A no to any of several questions is one to all: it ends the run.
        """
        question = self.id_of(place)
        denied = self.take_no(configurable)
        if denied is not None:
            return denied
        answer = (configurable.get(RESUME_MAP) or {}).get(question)
        if answer is None and question in self.waiting:
            # `consume`: without it the user's own `interrupt()` in the same node would be given our answer.
            answer = configurable[SCRATCHPAD].get_null_resume(consume=True)
        if answer is None:
            return None
        self.answered[place] = self.answered.get(place, 0) + 1
        return read_answer(answer, unit)


def read_answer(answer: object, unit: str | None) -> Answered:
    """What an answer says; whatever has another shape says neither yes nor no."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("approve"), bool):
        return Answered(approve=None)
    by = answer.get("by")
    more = set(answer) - {"approve", "by"}
    if not more or not answer["approve"]:
        return Answered(approve=answer["approve"], by=by if isinstance(by, str) else None)
    try:
        amount = usd(answer[unit]) if more == {unit} else None
    except (TypeError, ValueError, KeyError):
        amount = None
    if amount is None or amount <= 0:  # An amount that is not understood must not turn into one that is.
        return Answered(approve=None)
    return Answered(approve=True, amount=amount, by=by if isinstance(by, str) else None)


def answers(result: object, answer: Mapping[str, object] | Callable[[Question], object]) -> dict[str, object]:
    """The map for `Command(resume=...)` that answers every question of ours which waits in a result.

    `answer` is one answer for all, or a function of the question. Questions of the user's own are not in it.
    """
    return {each: answer(question) if callable(answer) else answer for each, question in questions(result)}


def pause(refusal: Refusal, question: str, unvalidated: tuple[str, ...], *, understood: bool) -> GraphInterrupt:
    """What pauses the graph, and asks."""
    told = told_of(refusal, unvalidated)
    if not understood:
        told["reason"] = f"The last answer was not understood. {told['reason']}"
    accepted: list[dict[str, object]] = [{"approve": True}, {"approve": False}]
    if refusal.kind == "budget" and refusal.unit is not None:
        accepted.insert(0, {"approve": True, refusal.unit: "how much more"})
    return GraphInterrupt((Interrupt(value=dict(Question(**told, answers=accepted)), id=question),))


def task_config(namespace: str) -> Configurable | None:
    """What LangGraph configured the task of this namespace with; None where it cannot be found.

    Inside the task LangGraph's context has it; where a node is only about to start it is looked for up the stack.
    """
    with suppress(RuntimeError):
        configurable: Configurable = get_config().get("configurable") or {}
        if configurable.get(NAMESPACE) == namespace and SCRATCHPAD in configurable:
            return configurable
    frame = inspect.currentframe()
    for _ in range(FRAMES):
        frame = None if frame is None else frame.f_back
        if frame is None:
            return None
        config = frame.f_locals.get("config")
        found = config.get("configurable") if isinstance(config, dict) else None
        if isinstance(found, dict) and found.get(NAMESPACE) == namespace and SCRATCHPAD in found:
            return found
    return None


def superstep(metadata: Mapping[str, Any]) -> int | None:
    """The superstep that a node runs in; None for a `@task`, of which one superstep has many, one after the other."""
    path, step = metadata.get("langgraph_path"), metadata.get("langgraph_step")
    is_task = isinstance(path, tuple | list) and len(path) > 3 and path[-1] is True
    return None if is_task or not isinstance(step, int) else step


def resumable(configurable: Configurable) -> bool:
    """Whether a graph that pauses here can go on: somebody keeps its state."""
    return configurable.get(CHECKPOINTER) is not None


def drain(refusal: Refusal, unvalidated: tuple[str, ...]) -> None:
    """Have the graph end after this superstep, resumable: a node that swallows the refusal ends it all the same."""
    with suppress(RuntimeError):  # A node that is about to start has no runtime yet; what it raises drains by itself.
        control = get_runtime().control
        if control is not None:
            control.request_drain(DrainReason(refusal, unvalidated))
