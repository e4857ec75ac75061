"""LangChain's events: each is booked by the recorder, and nothing gets out of a hook but a guard's signal."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent

from langchain_finops.budgets.refusal import Refusal
from langchain_finops.langchain import extract
from langchain_finops.langchain.recorder import Recorder
from langchain_finops.langchain.refusals import refused
from langchain_finops.langchain.runs import Run
from langchain_finops.meter import Faults
from langchain_finops.sections import here

__all__ = ["Hooks"]

NO_METADATA: dict[str, Any] = {}
NAMELESS: dict[str, Any] = {}

CANNOT_ASK = Refusal(
    kind="ledger",
    reason=(
        "this call began while its own thread was counting another one, as in a `finally` that the garbage collector "
        "runs, or in a callable given to a guard; nothing can be held for it there. Make it outside of those."
    ),
)
CANNOT_COUNT = Refusal(
    kind="ledger",
    reason=(
        "a budget is fail_closed, and a fault of langchain-finops's own (see `FinOpsHandler.faults` and the log) kept "
        "this start from being counted. To let such calls be made uncounted, use fail_closed=False."
    ),
)
P = ParamSpec("P")
T = TypeVar("T")


def _safe(hook: Callable[P, None]) -> Callable[P, None]:
    """Make a hook of all that it does, reading what LangChain hands it included. Nothing gets out of it."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        cast("Hooks", args[0]).tell(hook, *args, **kwargs)

    return guarded


def _asking(hook: Callable[P, BaseException | None]) -> Callable[P, None]:
    """The same for a start, which may return a guard's signal: that is raised, and nothing else."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        signal = cast("Hooks", args[0]).ask(hook, *args, **kwargs)
        if signal is not None:
            try:
                raise signal
            finally:
                del signal  # It knows this frame: all that was asked would wait for the garbage collector.

    return guarded


class Hooks(GraphCallbackHandler):
    """What LangChain and LangGraph tell, handed on to the recorder."""

    raise_error = True  # Without it LangChain logs a refusal and makes the call. Nothing but signals gets out of hooks.
    run_inline = True  # Without it async runs meter on another thread, seconds late under load.

    _recorder: Recorder
    _faults: Faults

    def after_run(self, run: Run, outputs: Any) -> None:
        """Do what is to be done once a root run has ended well."""

    @property
    def recorder(self) -> Recorder:
        """What books its events; for other parts of this package."""
        return self._recorder

    @property
    def faults(self) -> int:
        """How many faults of this package were met and not raised; 0 is good."""
        return self._faults.count

    def note_fault(self, error: BaseException) -> None:
        """Count a fault of ours; the first one is logged."""
        self._faults.note(error)

    def tell(self, event: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Have an event booked, after what this thread is booking just now; what it returns, if it was booked at once.

        No fault of ours gets out: LangChain would log its text, which may be a prompt's.
        """
        thread = here.thread
        if thread.depth:
            thread.waiting.append(partial(self.tell, event, *args, **kwargs))
            return None
        thread.depth = 1
        try:
            return event(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  A fault of ours never kills the user's run.
            self.note_fault(error)
            return None
        finally:
            thread.leave()

    def ask(self, event: Callable[P, BaseException | None], *args: P.args, **kwargs: P.kwargs) -> BaseException | None:
        """Have a start booked, and say what is to be raised instead of it; None: it may begin.

        In the middle of this thread's own bookkeeping a start cannot be put off, because what it starts would be made
        meanwhile, nor be asked about, because what it would be held against is half changed. So it is refused, unless
        there is nothing to hold it against.
        """
        gate, thread = self._recorder.gate, here.thread
        if thread.depth:
            return self.tell(event, *args, **kwargs) if gate.is_idle else refused(CANNOT_ASK)
        thread.depth = 1
        try:
            return event(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  As in `tell`, but where a budget would rather have no call.
            self.note_fault(error)
            return refused(CANNOT_COUNT) if gate.fails_closed else None
        finally:
            thread.leave()

    # --- models ----------------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a call of a chat model."""
        event = (run_id, parent_run_id, metadata or NO_METADATA, tags)
        signal = self.ask(self._recorder.calls.open, event, serialized, messages, kwargs)
        if signal is not None:
            try:
                raise signal
            finally:
                del signal  # As above.

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a call of a completion model."""
        event = (run_id, parent_run_id, metadata or NO_METADATA, tags)
        signal = self.ask(self._recorder.calls.open, event, serialized, prompts, kwargs)
        if signal is not None:
            try:
                raise signal
            finally:
                del signal  # As above.

    def on_llm_new_token(
        self, token: str | list[str | dict[str, Any]], *, chunk: Any = None, run_id: UUID, **_: Any
    ) -> None:
        """Count what is streamed. A stream that is to be cut off ends here."""
        signal = self.tell(self._recorder.calls.stream, run_id, chunk, lambda: extract.chunk_bytes(token, chunk))
        if signal is not None:
            try:
                raise signal
            finally:
                del signal  # As above.

    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Count what a content-block stream brings. The same."""
        signal = self.tell(self._recorder.calls.stream_event, run_id, event)
        if signal is not None:
            try:
                raise signal
            finally:
                del signal  # As above.

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Settle a call by its answer."""
        self.tell(self._recorder.calls.end, run_id, response)

    @_safe
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a call that failed."""
        self._recorder.calls.fail(run_id, error, kwargs.get("response"))

    # --- chains, nodes, graphs, retrievers ---------------------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a run, a node, or a part of one."""
        event = (run_id, parent_run_id, metadata or NO_METADATA, tags)
        name = kwargs.get("name") or (serialized or NAMELESS).get("name")
        signal = self.ask(self._recorder.start_chain, event, name, inputs)
        if signal is not None:
            try:
                raise signal
            finally:
                del signal  # As above.

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **_: Any) -> None:
        """End a run, a node, or a part of one."""
        thread = here.thread
        if thread.depth:
            thread.waiting.append(partial(self.on_chain_end, outputs, run_id=run_id))
            return
        try:
            thread.depth = 1
            try:
                run = self._recorder.end_chain(run_id, None)
            finally:
                thread.leave()
            if run is not None:
                self.after_run(run, outputs)  # Outside: `success` is the user's code, and may make calls.
        except Exception as error:  # noqa: BLE001  As in `tell`.
            self.note_fault(error)

    @_safe
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a run, a node, or a part of one that failed, paused or was cancelled."""
        self._recorder.end_chain(run_id, error)

    @_safe
    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """A graph paused."""
        if event.run_id is not None:
            self._recorder.pause(event.run_id)

    @_safe
    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,  # noqa: ARG002  Text is none of our business.
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A retriever may make calls of its own."""
        name = kwargs.get("name") or (serialized or NAMELESS).get("name")
        self._recorder.start_retriever((run_id, parent_run_id, metadata or NO_METADATA, tags), name)

    @_safe
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  As above.
        """End a retriever."""
        self._recorder.end_chain(run_id, None)

    @_safe
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a retriever that failed."""
        self._recorder.end_chain(run_id, error)

    # --- tools -----------------------------------------------------------------------------------------------------

    @_asking
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseException | None:
        """Open a tool's charge."""
        name = kwargs.get("name") or (serialized or NAMELESS).get("name")
        return self._recorder.tools.start((run_id, parent_run_id, metadata or NO_METADATA, tags), name, input_str)

    @_safe
    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """Write a tool's charge down."""
        self._recorder.tools.end(run_id, None, output)

    @_safe
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Write a failed tool's charge down."""
        self._recorder.tools.end(run_id, error)
