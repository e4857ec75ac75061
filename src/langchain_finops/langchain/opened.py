"""Calls that are open, by the ids that LangChain's events name them by."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_finops.langchain.runs import Batch, RunCall

__all__ = ["OpenCalls"]


class OpenCalls:
    """Finds the call of an event. Two calls may have been given one id: whose end comes, nobody can tell."""

    __slots__ = ("_batches", "_calls")

    def __init__(self) -> None:
        self._calls: dict[int, RunCall] = {}
        self._batches: dict[int, Batch] = {}

    def get(self, run_id: UUID) -> RunCall | None:
        """The open call of this id, the oldest of several."""
        return self._calls.get(run_id.int)

    def all_of(self, run_id: UUID) -> list[RunCall]:
        """All open calls of this id, the oldest first."""
        found = []
        call = self._calls.get(run_id.int)
        while call is not None:
            found.append(call)
            call = call.twin
        return found

    def has(self, run_id: UUID, prompt: object) -> bool:
        """Whether the very call is open already: a handler on the model and on the config is told of it twice."""
        call = self._calls.get(run_id.int)
        while call is not None and call.prompt is not prompt:
            call = call.twin
        return call is not None

    def add(self, call: RunCall) -> None:
        """Open a call."""
        last = self._calls.setdefault(call.key.int, call)
        if last is not call:
            while last.twin is not None:
                last = last.twin
            last.twin = call

    def take(self, run_id: UUID) -> RunCall | None:
        """The open call of this id, the oldest of several, which from now on is nobody else's to settle."""
        call = self._calls.pop(run_id.int, None)
        if call is not None and call.twin is not None:
            self._calls[run_id.int] = call.twin
        return call

    def take_this(self, call: RunCall) -> bool:
        """The same for one of them; False if somebody has settled it."""
        before = self._calls.get(call.key.int)
        if before is call:
            return self.take(call.key) is call
        while before is not None and before.twin is not call:
            before = before.twin
        if before is None:
            return False
        before.twin = call.twin
        return True

    # --- requests for several prompts ---------------------------------------------------------------------------------

    def batch(self, params: Mapping[str, Any]) -> Batch:
        """The request that a completion model's call is a part of."""
        batch = self._batches.get(id(params))
        if batch is None:
            batch = self._batches[id(params)] = Batch(params)
        batch.open += 1
        return batch

    def leave_batch(self, batch: Batch) -> None:
        """A call of the request has ended."""
        batch.open -= 1
        if not batch.open:
            self._batches.pop(id(batch.params), None)

    def refuse_all(self, params: object) -> list[RunCall]:
        """The open calls of a request of which one was refused: none of it will be sent."""
        return [call for call in list(self._calls.values()) if call.sent_with is params and self.take_this(call)]
