"""When a call happened, where that is not now: what a replay tells the meter."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["CALL_CLOCK", "CallClock"]


@dataclass(slots=True)
class CallClock:
    """What a recording or a replay knows about one call; the meter reads it when the call closes."""

    started_at: datetime | None = None
    first_token_at: datetime | None = None
    ended_at: datetime | None = None
    replayed: bool = False
    """True: billing mode `replay`, nothing billed; list cost and latencies as recorded."""
    outer: "CallClock | None" = field(default=None, repr=False, compare=False)
    open_calls: dict[int, "CallClock"] = field(default_factory=dict, repr=False, compare=False)
    task: "asyncio.Task[Any] | None" = field(default=None, repr=False, compare=False)
    along_with: "CallClock | None" = field(default=None, repr=False, compare=False)

    def start_call(self) -> "CallClock":
        """A clock for a call that starts where this one is in force."""
        clock = CallClock(outer=self, task=_running_task())
        self.open_calls[id(clock)] = clock
        return clock

    def of_request(self) -> "CallClock":
        """The clock of the call that a request made here belongs to.

        Not always the one that is in force: LangChain starts an async completion model in a task of its own, whose
        context, with the call's clock in it, is gone when the request is made.
        """
        waiting = [clock for clock in list(self.open_calls.values()) if clock.started_at is None]
        left_behind = [clock for clock in waiting if clock.task is not None and clock.task.done()]
        own = left_behind[0] if left_behind else self
        # Several prompts may go in one request: calls that wait here, or that were started one in the other.
        together = left_behind[1:] if left_behind else [self.outer] if self.outer is not None else []
        for clock in together:
            clock.along_with = own
        return own

    def end_call(self) -> None:
        """Nothing more comes. A call without a request of its own has the times of the one it went along with."""
        if self.outer is not None:
            self.outer.open_calls.pop(id(self), None)
            self.outer = None  # A long run's clocks would hang together otherwise.
        along_with, self.along_with, self.task = self.along_with, None, None
        if along_with is not None and not self.replayed and along_with.replayed:
            self.started_at, self.first_token_at = along_with.started_at, along_with.first_token_at
            self.ended_at, self.replayed = along_with.ended_at, True


def _running_task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # No event loop runs in this thread: contexts are not left behind.
        return None


CALL_CLOCK: ContextVar[CallClock | None] = ContextVar("langchain_finops_call_clock", default=None)
"""Set by whoever replays or records; the meter gives each call a fresh clock of its own while it is set."""
