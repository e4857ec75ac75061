"""What an attempt is seen by: a ledger that notes what is written, and a watch that holds its time limit."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from langgraph.errors import GraphBubbleUp

from langchain_finops.budgets.standing import Standing
from langchain_finops.langchain.attribution import node_path
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, Settlement
from langchain_finops.ledger.totals import Group
from langchain_finops.meter import CALL_CLOCK, CallClock
from langchain_finops.records import CallRecord, ChargeRecord, Event, Outcome, Record, RunRecord

__all__ = ["TimeLimitPassed", "Watch", "Watched", "Witness"]


class TimeLimitPassed(GraphBubbleUp):
    """An attempt's time is up. LangGraph lets it through retries and error handlers, as any deliberate signal."""


class Watch:
    """Notes the nodes in the order they begin, and refuses calls and nodes after the deadline.

    Cancelling ends a coroutine; a target in a thread goes on, and this is what ends it before its next call.
    """

    def __init__(self, seconds: float | None = None, *, is_over: Callable[[], bool] = lambda: False) -> None:
        """`is_over` tells that the time was up by now when this attempt was recorded."""
        self.seconds = seconds
        self._is_over = is_over
        self.trajectory: list[str] = []
        self.abandoned = False
        """A thread went on after the attempt had ended: what it still buys is not known."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def refuse(self) -> None:
        """Refuse every further call and node."""
        self._deadline = -math.inf

    def on_chain_start(
        self, *_: Any, metadata: dict[str, Any] | None = None, name: str | None = None, **__: Any
    ) -> None:
        """Note a node. A conditional edge's router has the node's metadata too, but not its name."""
        self._in_time()
        if metadata and name and name == metadata.get("langgraph_node"):
            self.trajectory.append(node_path(str(metadata.get("langgraph_checkpoint_ns") or name)))
            if CALL_CLOCK.get() is not None:  # Calls of branches that run at once must not meet on one clock.
                CALL_CLOCK.set(CallClock())

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Refuse the call if the time is up."""
        self._in_time(self._is_over())

    def on_llm_start(self, *_: Any, **__: Any) -> None:
        """Refuse the call if the time is up."""
        self._in_time(self._is_over())

    def _in_time(self, is_over: bool = False) -> None:
        if is_over or (self._deadline is not None and time.monotonic() > self._deadline):
            raise TimeLimitPassed("the attempt's time limit has passed")


class Watched(FinOpsHandler):
    """A handler that asks its watch first. LangChain hands events to several handlers in an order of its own, and this
    one would count a call that the watch then refuses."""

    def __init__(self, watch: Watch, **options: Any) -> None:
        super().__init__(**options)
        self.watch = watch

    def on_chain_start(self, *arguments: Any, **named: Any) -> None:
        """Note a node, unless the time is up."""
        self.watch.on_chain_start(*arguments, **named)
        super().on_chain_start(*arguments, **named)

    def on_chat_model_start(self, *arguments: Any, **named: Any) -> None:
        """Count the call, unless the time is up."""
        self.watch.on_chat_model_start()
        super().on_chat_model_start(*arguments, **named)

    def on_llm_start(self, *arguments: Any, **named: Any) -> None:
        """The same for completion models."""
        self.watch.on_llm_start()
        super().on_llm_start(*arguments, **named)


class Witness:
    """One attempt's view of the run's ledger: notes what is written, and passes on what was paid for.

    The rest is kept for the journal, which writes many attempts' at once: how the run ended; and with `hold_back=True`
    everything. A replay does so: it pays for nothing, and one that is killed must not leave half an attempt behind,
    which would be counted again when it is resumed.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        hold_back: bool = False,
        standing: Standing | None = None,
        counted: Collection[datetime] = (),
    ) -> None:
        """`standing`: what was set from outside, as all attempts of the run know it.

        `counted`: when calls began that earlier tries of the slot are charged with. Where a recording serves them to
        this try, they were paid for once, so they are noted apart and written nowhere.
        """
        self._ledger, self._hold_back, self.standing = ledger, hold_back, standing
        self._counted = counted
        self.served_again: list[CallRecord] = []
        """Calls that count for an earlier try."""
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._held_back: list[Record] = []
        self._released = False

    @property
    def url(self) -> str:
        """The shared ledger's."""
        return self._ledger.url

    @property
    def digest_key(self) -> bytes:
        """The shared ledger's."""
        return self._ledger.digest_key

    @property
    def records(self) -> list[Record]:
        """All that was written so far, oldest first."""
        with self._lock:
            return list(self._records)

    def write(self, *records: Record) -> None:
        """Note the records, and write those that must be on disk at once."""
        records = tuple(record for record in records if not self._is_counted(record))
        with self._lock:
            self._records += records
            if self._released:
                now: Sequence[Record] = records
            else:
                now = [] if self._hold_back else [record for record in records if not isinstance(record, RunRecord)]
                self._held_back += [record for record in records if record not in now]
        if now:
            self._ledger.write(*now)

    def settle(self, *settlements: Settlement) -> tuple[Balance, ...]:
        """Note the records and settle them; of a replay, which spends nothing, they are held back, and holds end."""
        again = [one for one in settlements if self._is_counted(one.record)]
        self._release(again)
        settlements = tuple(one for one in settlements if one not in again)
        with self._lock:
            holds_back = self._hold_back and not self._released
            self._records += [settlement.record for settlement in settlements]
            if holds_back:
                self._held_back += [settlement.record for settlement in settlements]
        if not holds_back:
            return self._ledger.settle(*settlements) if settlements else ()
        self._release(settlements)
        return ()

    def _release(self, settlements: Iterable[Settlement]) -> None:
        for settlement in settlements:
            if settlement.hold_id is not None:
                self._ledger.release(settlement.hold_id)

    def _is_counted(self, record: Record) -> bool:
        """Whether an earlier try is charged with a call that is served to this one."""
        if not (isinstance(record, CallRecord) and record.billing_mode == "replay"):
            return False
        if record.started_at not in self._counted:
            return False
        with self._lock:
            self.served_again.append(record)
        return True

    def hold(self, hold_id: str, lines: Sequence[Line], *, at: datetime, ttl_s: float = 3600) -> HoldAnswer:
        """The shared ledger's."""
        return self._ledger.hold(hold_id, lines, at=at, ttl_s=ttl_s)

    def release(self, hold_id: str) -> None:
        """The shared ledger's."""
        self._ledger.release(hold_id)

    def balances(self, *keys: str) -> list[Balance]:
        """The shared ledger's."""
        return self._ledger.balances(*keys)

    def claim(self, key: str, *, at: datetime) -> bool:
        """The shared ledger's."""
        return self._ledger.claim(key, at=at)

    def set_control(self, kind: str, key: str, body: Mapping[str, object] | None, event: Event) -> None:
        """The shared ledger's."""
        self._ledger.set_control(kind, key, body, event)

    def controls(self, kind: str) -> dict[str, dict[str, object]]:
        """The shared ledger's."""
        return self._ledger.controls(kind)

    def controls_version(self) -> int:
        """The shared ledger's."""
        return self._ledger.controls_version()

    def let_go(self) -> list[Record]:
        """What was held back. What comes later, after the attempt has ended, goes through to the ledger."""
        with self._lock:
            self._released = True
            return list(self._held_back)

    def calls(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[CallRecord]:
        """The shared ledger's."""
        return self._ledger.calls(history=history, since=since, until=until, **filters)

    def charges(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[ChargeRecord]:
        """The shared ledger's."""
        return self._ledger.charges(history=history, since=since, until=until, **filters)

    def runs(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[RunRecord]:
        """The shared ledger's."""
        return self._ledger.runs(history=history, since=since, until=until, **filters)

    def outcomes(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Outcome]:
        """The shared ledger's."""
        return self._ledger.outcomes(history=history, since=since, until=until, **filters)

    def events(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Event]:
        """The shared ledger's."""
        return self._ledger.events(history=history, since=since, until=until, **filters)

    def totals(
        self, by: Sequence[str] = (), *, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> list[Group]:
        """The shared ledger's."""
        return self._ledger.totals(by, since=since, until=until, **filters)

    def forget(self, user_id: str) -> int:
        """The shared ledger's."""
        return self._ledger.forget(user_id)

    def prune(self, before: datetime) -> int:
        """The shared ledger's."""
        return self._ledger.prune(before)

    def flush(self, timeout: float | None = None) -> bool:
        """Nothing is pending here."""
        return self._ledger.flush(timeout)

    def close(self) -> None:
        """The shared ledger stays open: other attempts use it."""
