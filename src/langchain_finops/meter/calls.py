"""Calls between their start and their end, and what came back for them."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from langchain_finops.budgets.estimate import Request
from langchain_finops.budgets.holding import Hold
from langchain_finops.budgets.run_state import RunState
from langchain_finops.clock import CALL_CLOCK
from langchain_finops.pricing.server_tools import NOTHING_SHOWN, Shown
from langchain_finops.records import Attribution, CallError

__all__ = ["NOTHING", "UNKNOWN_ENDPOINT", "Answer", "Endpoint", "Faults", "OpenCall", "short_text"]

log = logging.getLogger("langchain_finops")

NOTHING: Mapping[str, Any] = {}
NAME_LENGTH = 256


class Faults:
    """Faults of ours: never raised into the user's run, logged once, counted always."""

    __slots__ = ("_lock", "count")

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.RLock()

    def note(self, error: BaseException) -> None:
        """Count a fault; the first one is logged with its place. Never its message, which may hold a prompt's text."""
        with self._lock:
            self.count += 1
            if self.count > 1:
                return
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        where = "" if traceback is None else f" in {traceback.tb_frame.f_code.co_qualname}:{traceback.tb_lineno}"
        log.error(
            "metering met a fault of its own: %s%s. The run goes on; some of its cost may be missing. "
            "Further faults are only counted, in `FinOpsHandler.faults`.",
            type(error).__name__,
            where,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model's requests go, as far as the model says: what a bill can be matched by."""

    base_url_host: str | None = None
    account: str | None = None
    project: str | None = None
    region: str | None = None


UNKNOWN_ENDPOINT = Endpoint()


class OpenCall:
    """A call between its start and its end: one small mutable slot, because every call pays for it."""

    __slots__ = (
        "attribution",
        "call_id",
        "clock",
        "endpoint",
        "first_token_at",
        "hold",
        "invocation_id",
        "last_chunk",
        "metadata",
        "prompt_digests",
        "received_bytes",
        "request",
        "run_id",
        "started_at",
        "state",
        "usage_so_far",
    )

    def __init__(
        self,
        ids: tuple[str, str, str],
        attribution: Attribution,
        metadata: Mapping[str, Any],
        request: Callable[[], Request],
    ) -> None:
        self.call_id, self.run_id, self.invocation_id = ids
        self.attribution = attribution
        self.metadata = metadata
        """Of the callback: LangChain's provider and model names are in it."""
        self.request = request
        """Measures the request; asked only where no usage is reported, because it takes reading the prompt."""
        self.endpoint = UNKNOWN_ENDPOINT
        self.prompt_digests: bytes | None = None
        """What the prompt is the same as."""
        self.received_bytes = 0
        """Text streamed so far, in UTF-8 bytes."""
        self.usage_so_far: Mapping[str, Any] | None = None
        """What a stream has reported of its usage, which is all there is if it breaks off."""
        self.last_chunk: object = None
        """The very object that was counted last: a handler given twice is told of each chunk twice."""
        self.first_token_at: datetime | None = None
        self.state: RunState | None = None
        """Its run's, where there are guards."""
        self.hold: Hold | None = None
        """What was set aside for it; None where no budget applies."""
        clock = CALL_CLOCK.get()
        if clock is not None:
            # A clock that two calls shared would give the second one the first one's times.
            clock = clock.start_call()
            CALL_CLOCK.set(clock)
        self.clock = clock
        self.started_at = datetime.now(UTC)

    @property
    def requested_model(self) -> str | None:
        """The model's name as it was asked for: an answer's may carry a date, and one that is missing has none."""
        return short_text(self.metadata.get("ls_model_name"))


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came back for a call, whole, broken off, or not at all."""

    usage: Mapping[str, Any] | None = None
    """The integration's own counts; None where it reports none."""
    response: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """The integration's `response_metadata`."""
    shown: Shown = NOTHING_SHOWN
    """The provider's own tools that the content shows, which some integrations count nowhere else."""
    received_bytes: int = 0
    """Text of the answer, in UTF-8 bytes; looked at only where no usage is reported."""
    error: CallError | None = None
    whole: bool = True
    """False: the answer broke off, so a count it may carry is too small."""
    reasons: tuple[str, ...] = ()
    """Why it is not whole, or not charged."""
    charged: bool = True
    """False: refused by the provider, or never sent."""
    counted_elsewhere: bool = False
    """True: another call of the same request carries the usage of both."""
    timed_elsewhere: bool = False
    """True: another call of the same request carries the time that it took."""


def short_text(value: object) -> str | None:
    """A short name as it stands; None for what is none, so that no longer text can slip into a record."""
    return value if isinstance(value, str) and 0 < len(value) <= NAME_LENGTH else None
