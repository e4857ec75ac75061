"""What a logical run carries: its own balances, approvals, and the refusal that ends it.

A run lives in one process at a time, so its balances need no transaction of the ledger's. Another process that resumes
it counts them anew from the run's records.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from langchain_finops.budgets.holding import Counted, Share, Steps, amounts_of
from langchain_finops.budgets.loops import Kind, LoopGuard, LoopWatch, Place
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.ledger.holds import Balance

__all__ = ["RunState"]

MICROSECONDS = 1_000_000


class Counter:
    """One balance of a run."""

    __slots__ = ("held", "spent")

    def __init__(self) -> None:
        self.spent = 0
        self.held = 0


class RunState:
    """What a run's guards remember. Lives as long as the run is open in this process; safe between threads."""

    __slots__ = (
        "_clock",
        "_counters",
        "_drained",
        "_extra",
        "_lock",
        "_microseconds_before",
        "_said",
        "_started",
        "_waived",
        "catching_up",
        "draining",
        "invocation_id",
        "limits",
        "refusal",
        "run_id",
        "steps",
        "swallowed",
        "watches",
    )

    def __init__(self, run_id: str, invocation_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.run_id = run_id
        """The logical run. A resumed run keeps it."""
        self.invocation_id = invocation_id
        self.limits: Sequence[Counted] | None = None
        """Those on balances of its own that have counted what it spent; None: it has not begun."""
        self.catching_up = threading.RLock()
        """Whoever has it counts what was spent on new limits; not the lock of the balances, because that takes time."""
        self.refusal: Refusal | None = None
        """What was refused for good: nothing further of the run is admitted, until somebody approves."""
        self.draining: Refusal | None = None
        """What was refused so that the run is to end after this superstep."""
        self.swallowed = False
        """Whether a node took the question that a pause asks for an answer, and its graph went on."""
        self.watches: dict[str, LoopWatch] = {}
        """What loop guards have seen, by their names."""
        self.steps = Steps()
        self._counters: dict[str, Counter] = {}
        self._extra: dict[str, int] = {}
        self._drained: set[tuple[str | None, int | None]] = set()
        self._waived: set[str] = set()
        self._said: set[str] = set()
        self._lock = threading.RLock()
        self._clock = clock
        self._started = clock()  # The wall clock may step back.
        self._microseconds_before = 0

    # --- balances ----------------------------------------------------------------------------------------------------

    def reserve(self, shares: Sequence[Share]) -> Share | None:
        """Hold all of these, or none; the first that does not fit."""
        with self._lock:
            for share in shares:
                if share.cap is None:
                    continue
                counter = self._counters.get(share.key)
                taken = 0 if counter is None else counter.spent + counter.held
                if taken + share.amount > share.cap:
                    return share
            for key, amount in amounts_of(shares).items():
                self._counter(key).held += amount
        return None

    def release(self, shares: Sequence[Share]) -> None:
        """Give back what was held."""
        with self._lock:
            for key, amount in amounts_of(shares).items():
                self._counter(key).held -= amount

    def settle(self, shares: Sequence[Share], taken: Mapping[str, int]) -> dict[str, int]:
        """Replace what was held by the truth; what is spent on each balance afterwards."""
        with self._lock:
            self.release(shares)
            return {key: self.add(key, amount) for key, amount in taken.items()}

    def add(self, key: str, amount: int) -> int:
        """Count what was never held, such as a charge; what is spent afterwards."""
        with self._lock:
            counter = self._counter(key)
            counter.spent += amount
            return counter.spent

    def balance(self, key: str) -> Balance:
        """What stands against one of the run's own budgets."""
        with self._lock:
            counter = self._counters.get(key)
            if counter is None:
                return Balance(balance=key)
            return Balance(balance=key, spent=counter.spent, held=counter.held)

    def _counter(self, key: str) -> Counter:
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = Counter()
        return counter

    # --- loops -------------------------------------------------------------------------------------------------------

    def see(
        self,
        guard: LoopGuard,
        node_path: str | None,
        kind: Kind,
        digest: Hashable,
        *,
        tool: str | None,
        event_id: str,
        place: Place,
    ) -> str | None:
        """What goes in circles, as a sentence, by what one loop guard has seen of this run."""
        with self._lock:
            watch = self.watches.get(guard.label)
            if watch is None:
                watch = self.watches[guard.label] = LoopWatch(guard)
            return watch.see(node_path, kind, digest, tool=tool, event_id=event_id, place=place)

    def ended(self, event_id: str, result: Hashable = None) -> None:
        """Something that loop guards saw has ended."""
        with self._lock:
            for watch in self.watches.values():
                watch.ended(event_id, result)

    def released(self, event_id: str) -> None:
        """Something that loop guards saw came to nothing, and nothing was spent on it."""
        with self._lock:
            for watch in self.watches.values():
                watch.released(event_id)

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def microseconds(self) -> int:
        """How long the run has been at it, over all its invocations; never less than before."""
        return self._microseconds_before + int((self._clock() - self._started) * MICROSECONDS)

    def took_before(self, microseconds: int) -> None:
        """Count the time of the run's earlier invocations."""
        self._microseconds_before += max(0, microseconds)

    # --- refusals and approvals --------------------------------------------------------------------------------------

    def refuse(self, refusal: Refusal, step: int | None = None) -> None:
        """Remember a refusal: it is final for its run; a drain's only for the execution of the node it was made in."""
        with self._lock:
            if refusal.on_exceed == "drain":
                self.draining = self.draining or refusal
                self._drained.add((refusal.node_path, step))
            elif self.refusal is None:
                self.refusal = refusal

    def refusal_for(self, node_path: str | None, step: int | None) -> Refusal | None:
        """Why nothing further is admitted here; None where nothing stands in the way."""
        refusal = self.refusal
        if refusal is None and self.draining is not None and (node_path, step) in self._drained:
            refusal = self.draining
        return None if refusal is None else replace(refusal, node_path=node_path)

    def pauses_for(self, refusal: Refusal) -> bool:
        """Whether its graphs pause for this by themselves, and what has not begun yet is beside it, not after it."""
        return refusal.on_exceed == "interrupt" and not self.swallowed

    def raised_by(self, budget: str) -> int:
        """By how much this run's limit was raised, in the smallest unit of that budget and unit."""
        return self._extra.get(budget, 0)

    def approve(self, budget: str, extra: int) -> None:
        """Raise this run's limit, and let it go on."""
        with self._lock:
            self._extra[budget] = self._extra.get(budget, 0) + extra
            self.go_on()

    def waive(self, what: str) -> None:
        """Let the run go on with what has no limit to raise, such as a loop."""
        with self._lock:
            self._waived.add(what)
            self.watches.pop(what.partition(":")[2], None)
            self.go_on()

    def is_waived(self, what: str) -> bool:
        """Whether somebody said that this run may go on with it."""
        return what in self._waived

    def end(self, refusal: Refusal) -> None:
        """Refuse everything further for good, whatever was to happen before."""
        with self._lock:
            self.refusal = replace(refusal, on_exceed="raise")

    def go_on(self) -> None:
        """Forget what was refused."""
        with self._lock:
            self.refusal = self.draining = None
            self.swallowed = False
            self._drained.clear()

    def first_time(self, what: str) -> bool:
        """True for exactly one caller, so that a thing is said once in a run."""
        with self._lock:
            if what in self._said:
                return False
            self._said.add(what)
            return True

    def uncounted(self, limits: Sequence[Counted]) -> list[Counted]:
        """Those of these limits on whose balances nothing was counted so far; of a run that only begins none."""
        if self.limits is None:
            return []
        counted = {each.balance for each in self.limits}
        return [each for each in limits if each.balance not in counted]

    def seed(self, spent: Mapping[str, int], *, anew: bool = False) -> None:
        """Count what the run spent, as its records tell; `anew`: in place of what was counted."""
        with self._lock:
            for key, amount in spent.items():
                counter = self._counter(key)
                counter.spent = amount if anew else counter.spent + amount
