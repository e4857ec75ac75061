"""Talks with a target: one input or several in order on one thread, with scripted answers to what it asks a person.

Every attempt is one root run, whatever the target does in it: several turns, resumed interrupts or bare calls of a
model count on the attempt's limits together.
"""

import asyncio
import contextvars
import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManager
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.types import Command

from langchain_finops.errors import BadData, Fault
from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.watch import Watch
from langchain_finops.langchain.stops import stopped

__all__ = ["ASKED", "Talk", "converse", "has_checkpointer", "is_asking", "root_run", "turn_faults"]

ASKED = "__interrupt__"
"""Key of what LangGraph returns where a graph waits for a person."""
GRACE_S = 30.0
"""How long a call in flight of a target in a thread may go on after the attempt was ended."""


@dataclass(slots=True)
class Talk:
    """What was said to a target so far."""

    turns: int = 0
    """Inputs that it was given."""
    scripted_answers: int = 0
    """Interrupts that the item's script answered."""
    target_s: float = 0.0
    """Time spent in the target."""
    left: list[object] = field(default_factory=list)
    """Scripted answers that nothing has asked for yet."""


@contextmanager
def root_run(config: RunnableConfig) -> Iterator[tuple[RunnableConfig, "_Root"]]:
    """Open the attempt's root run; what is invoked with the config that comes back belongs to it.

    The caller says how it ended; an exception that leaves ends it as failed.
    """
    manager = CallbackManager.configure(
        inheritable_callbacks=config["callbacks"], inheritable_metadata=dict(config["metadata"])
    )
    root = _Root(manager.on_chain_start(None, {}, name="attempt"))
    inner: RunnableConfig = {**config, "callbacks": root.run.get_child()}
    # Calls that a target makes without handing its config on are metered all the same.
    token = var_child_runnable_config.set(inner)
    try:
        yield inner, root
    except BaseException as error:
        root.end(error)
        raise
    finally:
        var_child_runnable_config.reset(token)
    root.end(None)


class _Root:
    """The open root run; ends once."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self._ended = False

    def end(self, error: BaseException | None) -> None:
        """Tell the handlers that the attempt has ended."""
        if not self._ended:
            self._ended = True
            if error is None:
                self.run.on_chain_end({})
            else:
                self.run.on_chain_error(error)


async def converse(
    trial: Trial, runnable: Runnable[Any, Any], config: RunnableConfig, watch: Watch, talk: Talk
) -> object:
    """The target's last answer. What it asks a person is answered from the item's script, in its order; the first
    question without an answer there ends the talk, and is in what comes back."""
    item = trial.item
    talk.left = [copy.deepcopy(answer) for answer in item.answers]
    carries_on = not has_checkpointer(runnable)
    answer: object = None
    for inputs in item.turns or (item.inputs,):
        given: Any = copy.deepcopy(dict(inputs))  # A target may change what it is given.
        if talk.turns and carries_on:
            given = _carried_on(answer, given)
        talk.turns += 1
        answer = await _asked(runnable, given, config, watch, talk)
        while is_asking(answer) and stopped(answer) is None:
            resume = _scripted(answer, talk)
            if resume is None:
                return answer
            answer = await _asked(runnable, Command(resume=resume), config, watch, talk)
        if is_asking(answer):
            return answer
    return answer


def is_asking(answer: object) -> bool:
    """Whether a graph came back with a question to a person instead of an answer."""
    return isinstance(answer, Mapping) and ASKED in answer


def _scripted(answer: object, talk: Talk) -> object:
    """What to resume with: an answer of the script for each question that waits; None where the script has run out."""
    assert isinstance(answer, Mapping)
    if not talk.left:  # What stands there may come from a URL, and be no interrupt of LangGraph's.
        return None
    questions = [interrupt.id for interrupt in answer[ASKED]]
    if not questions or len(talk.left) < len(questions):
        return None
    given, talk.left = talk.left[: len(questions)], talk.left[len(questions) :]
    talk.scripted_answers += len(given)
    return dict(zip(questions, given, strict=True))  # By id: several branches may ask at once.


def _carried_on(answer: object, inputs: dict[str, Any]) -> dict[str, Any]:
    """The next turn's input for a target that keeps no thread: all messages so far, and the new ones."""
    said = answer.get("messages") if isinstance(answer, Mapping) else None
    if not isinstance(said, Sequence) or isinstance(said, str):
        return inputs
    return {**inputs, "messages": [*said, *inputs["messages"]]}


async def _asked(runnable: Runnable[Any, Any], inputs: Any, config: RunnableConfig, watch: Watch, talk: Talk) -> object:
    began = time.perf_counter()
    try:
        if type(runnable).ainvoke is Runnable.ainvoke:
            return await _in_thread(lambda: runnable.invoke(inputs, config), watch)
        return await runnable.ainvoke(inputs, config)
    finally:
        talk.target_s += time.perf_counter() - began


async def _in_thread(invoke: Callable[[], object], watch: Watch) -> object:
    """Run a target that blocks in a thread of its own, with this task's context.

    Cancelled, it refuses further calls, and waits for the one in flight: what it costs must be counted.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            answer, error = context.run(invoke), None
        except BaseException as raised:  # noqa: BLE001  Carried to the task that waits.
            answer, error = None, raised
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(_settle, done, answer, error)

    # A daemon: a target that hangs must not keep the process from ending.
    threading.Thread(target=work, name="finops-eval target", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        watch.refuse()
        await asyncio.wait([done], timeout=GRACE_S)
        watch.abandoned = not done.done()
        raise


def _settle(done: "asyncio.Future[object]", answer: object, error: BaseException | None) -> None:
    if error is not None:
        done.set_exception(error)
        done.exception()  # Marks it as seen: a cancelled attempt does not ask.
    else:
        done.set_result(answer)


def has_checkpointer(runnable: Runnable[Any, Any]) -> bool:
    """Whether a graph keeps what was said on a thread; a binding (`with_config`) is looked through."""
    seen: Any = runnable
    while seen is not None:
        if getattr(seen, "checkpointer", None):
            return True
        seen = getattr(seen, "bound", None)
    return False


def turn_faults(trials: Sequence[Trial], runnables: Mapping[str, Runnable[Any, Any]], path: Path) -> None:
    """Raise BadData where a target could not follow an item's turns or take its scripted answers.

    Without it each turn would be answered as if nothing had been said before, and every question be handed off.
    """
    faults: dict[str, Fault] = {}
    for trial in trials:
        item = trial.item
        if not (item.turns or item.answers) or has_checkpointer(runnables[trial.configuration.name]):
            continue
        where = f"{path}:{item.line}: "
        if item.answers:
            what = "the target keeps no thread that an answer could go on with: compile its graph with a checkpointer"
            faults.setdefault(f"{where}answers", Fault(where=f"{where}answers", what=what))
        elif len(item.turns) > 1 and not all(isinstance(turn.get("messages"), list) for turn in item.turns):
            what = (
                "the target keeps no thread, so that turns are carried on as `messages`, which not every turn has: "
                "compile its graph with a checkpointer"
            )
            faults.setdefault(f"{where}turns", Fault(where=f"{where}turns", what=what))
    if faults:
        raise BadData(list(faults.values()))
