"""Work that no call waits for: jobs on a thread of their own, each at its time, never more than so many."""

import atexit
import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue
from typing import Final

from langchain_finops.ledger.forks import renew_in_child

__all__ = ["Background", "Job"]

Job = Callable[[], None]
KEYS_KEPT: Final = 10_000
LATEST_S: Final = 60.0
"""The longest that the thread waits in one go."""
LAST_S: Final = 2.0
"""How long a process that ends waits for what is still to do."""
_ALIVE: Final["weakref.WeakSet[Background]"] = weakref.WeakSet()


class Background:
    """Runs jobs one after the other. Its thread lives while there are any, so that nobody has to close it."""

    def __init__(
        self, name: str, failed: Callable[[Exception], None], *, most: int = 1_000, apart_s: float = 0.0
    ) -> None:
        """`most`: jobs that may wait. `apart_s`: jobs of one key begin so far apart."""
        self._name, self._failed, self._most, self._apart_s = name, failed, most, apart_s
        self._number = itertools.count()
        self.after_fork()
        renew_in_child(self)
        _ALIVE.add(self)

    def after_fork(self) -> None:
        """Start empty: what waits in the parent is done by the parent."""
        self._changed = threading.Condition(threading.RLock())
        self._jobs: list[tuple[float, int, Hashable | None, Job]] = []
        self._keys: set[Hashable] = set()
        self._began: dict[Hashable, float] = {}
        self._working = False
        self._alive = False
        self._idle: list[SimpleQueue[None]] = []

    def submit(self, job: Job, *, delay_s: float = 0.0, key: Hashable | None = None) -> bool:
        """Have a job done; False if too many wait already. A job whose key waits already is left out."""
        with self._changed:
            if key is not None and key in self._keys:
                return True
            if len(self._jobs) >= self._most:
                return False
            due = time.monotonic() + delay_s
            if key is not None:
                self._keys.add(key)
                due = max(due, self._began.get(key, 0.0) + self._apart_s)
            heapq.heappush(self._jobs, (due, next(self._number), key, job))
            is_first, self._alive = not self._alive, True
            self._changed.notify_all()
        if is_first:
            self._start()
        return True

    def hurry(self) -> None:
        """Have all that waits for its time done now."""
        with self._changed:
            self._jobs = [(0.0, number, key, job) for _, number, key, job in self._jobs]
            heapq.heapify(self._jobs)
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; False if `timeout` seconds passed first."""
        idle: SimpleQueue[None] = SimpleQueue()  # The one wait that an event loop's thread may do.
        with self._changed:
            if not self._jobs and not self._working:
                return True
            self._idle.append(idle)
        try:
            idle.get(timeout=timeout)
        except Empty:
            return False
        return True

    def _start(self) -> None:
        try:
            # A daemon, or the interpreter would not end before the last retry.
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:  # While it ends it starts no thread: who comes now is a job of another `Background`.
            self.hurry()
            self._run()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - one job's fault must not cost the others theirs.
                self._failed(error)

    def _next(self) -> Job | None:
        """The next job when its time has come; None where there is none, which ends the thread."""
        with self._changed:
            self._working = False
            while self._jobs:
                wait_s = self._jobs[0][0] - time.monotonic()
                if wait_s <= 0:
                    _, _, key, job = heapq.heappop(self._jobs)
                    self._begin(key)
                    return job
                self._changed.wait(min(wait_s, LATEST_S))
            self._alive = False
            for idle in self._idle:
                idle.put(None)
            self._idle.clear()
            return None

    def _begin(self, key: Hashable | None) -> None:
        self._working = True
        if key is None:
            return
        self._keys.discard(key)
        if len(self._began) >= KEYS_KEPT:
            self._began.clear()  # Then some jobs begin a little sooner.
        self._began[key] = time.monotonic()


@atexit.register
def _finish() -> None:
    """A script's last call may have set an alert off: somebody is told before the threads are gone."""
    end = time.monotonic() + LAST_S
    for _ in range(2):  # What the first ones do may be to have the second ones do something.
        for each in list(_ALIVE):
            each.hurry()
            each.flush(max(0.0, end - time.monotonic()))
