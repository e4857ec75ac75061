"""What is open: runs, the executions of their nodes, their calls and tools. Plain mutable slots, gone with the run."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from langchain_finops.budgets.holding import Hold
from langchain_finops.budgets.loops import Places
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.langchain.attribution import Said, node_path, written
from langchain_finops.langchain.control import Questions
from langchain_finops.langchain.langsmith import Trace
from langchain_finops.langchain.protect import Validation
from langchain_finops.langchain.sums import Cell, Cells, FoldedRun, Who, cell_of_call, cell_of_charge
from langchain_finops.ledger.totals import Totals
from langchain_finops.meter import OpenCall
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, RunRecord

__all__ = ["Batch", "Node", "OpenTool", "Paused", "Run", "RunCall", "Span"]

UNSUMMED = 256
"""Settled calls of a run that wait to be summed together."""


Told = tuple[Said, Attribution, Who]
"""What an event's metadata said, and whom that names. One tuple: in parts, one user's call could get another's name."""


class Paused(NamedTuple):
    """What is known of a run that did not complete, and may be resumed."""

    run_id: str
    name: str
    steps: int
    revision: int
    """Of its last invocation; -1 where that left no record."""
    cells: frozenset[Cell] = frozenset()
    """What it was summed in so far."""
    asked: frozenset[str] = frozenset()
    """Ids of the questions that its last invocation asked."""
    answered: Mapping[str, int] = {}
    """How many answers each place has had."""


class RunCall(OpenCall):
    """An open call, and where in its run it was made."""

    __slots__ = ("batch", "event_bytes", "key", "node", "prompt", "run", "sent_with", "twin", "unwatch", "who")

    run: "Run"
    node: "Node | None"
    who: Who
    key: UUID
    """LangChain's id, by which its events come."""
    prompt: object
    """The very object the event brought: a second event with the same one is the same call, told twice."""
    batch: "Batch | None"
    """Its request, where that asks for several prompts at once."""
    sent_with: object
    """The parameters of a request for several prompts, the same object for all of them; None where there is one."""
    event_bytes: int
    """Text that came as content-block events; a model may stream the same as tokens."""
    twin: "RunCall | None"
    """The next open call that was given the same id. Which of them an end is of, nobody can tell: the oldest's."""
    unwatch: Callable[[], None] | None
    """Stops waiting for the task of a bare call, whose cancellation LangChain reports to nobody."""


class Batch:
    """A completion model's request for several prompts, whose usage LangChain gives to the first alone."""

    __slots__ = ("open", "params", "reported", "timed")

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        """Of the request, the same object for all its prompts; kept so that its id means nothing else meanwhile."""
        self.open = 0
        self.reported = False
        """Whether a prompt of it has come back with usage."""
        self.timed = False
        """Whether a prompt of it has been charged for the time that it took."""


class OpenTool:
    """A tool between its start and its end."""

    __slots__ = ("attribution", "charge_id", "hold", "key", "name", "node", "run", "started_at", "who")

    def __init__(self, run: "Run", key: UUID, charge_id: str, name: str | None) -> None:
        self.run = run
        self.key = key
        self.charge_id = charge_id
        self.name = name
        self.started_at = datetime.now(UTC)
        self.node: Node | None
        self.attribution: Attribution
        self.who: Who
        self.hold: Hold | None = None
        """What was set aside for it."""


class Node:
    """One execution of a node, and the attribution its calls have had so far."""

    __slots__ = ("attempt", "began", "graph", "inner", "namespace", "open", "path", "run", "running", "step", "told")

    def __init__(self, run: "Run", namespace: str, step: int | None, graph: str | None) -> None:
        self.run = run
        self.namespace = namespace
        self.path = node_path(namespace)
        self.step = step
        self.graph = graph
        """Name of the outermost graph it is in."""
        self.attempt = 0
        """How often it was started: RetryPolicy runs a node again under the same namespace."""
        self.running = 0
        """Attempts that have begun and not ended."""
        self.open = 0
        """Calls and tools that were started in it and have not ended."""
        self.began = 0
        """When, in the order of the run's validation."""
        self.inner = False
        """Whether other nodes run in it: what they do, and not its own end, changes the state."""
        self.told: Told | None = None


class Span:
    """Where the children of an open runnable belong: their run, node and attempt."""

    __slots__ = ("attempt", "graph", "node", "owner", "run")

    def __init__(
        self, run: "Run", node: Node | None, owner: int, attempt: int | None = None, graph: str | None = None
    ) -> None:
        self.run = run
        self.node = node
        self.owner = owner
        """The runnable whose end is the end of the span."""
        self.attempt = attempt
        """Which try of `with_retry`; None where there is none."""
        self.graph = graph if node is None else node.graph
        """Name of the runnable, which is a graph if a node begins in it; in a node, of that node's graph."""


class Run:
    """One invocation from its root, while it is open."""

    __slots__ = (
        "before",
        "begun",
        "cells",
        "closed",
        "ended",
        "ended_nodes",
        "ending",
        "failed_nodes",
        "goes_on",
        "graph_name",
        "invocation_id",
        "lock",
        "metadata",
        "name",
        "nodes",
        "open_calls",
        "open_tools",
        "own_task",
        "paused",
        "places",
        "questions",
        "record",
        "refusal",
        "resumable",
        "revision",
        "root",
        "run_id",
        "spans",
        "started_at",
        "state",
        "steps",
        "thread_id",
        "told",
        "trace",
        "unsummed",
        "validation",
    )

    def __init__(self, root: UUID, invocation_id: str, name: str, metadata: Mapping[str, Any]) -> None:
        self.root = root
        self.invocation_id = self.run_id = invocation_id
        self.name = name
        self.metadata = metadata
        self.thread_id = thread_of(metadata)
        self.graph_name: str | None = None
        """Of the first graph that began in it."""
        self.own_task: str | None = None
        """The task it is where nobody names one, so that its outcome finds its costs."""
        self.started_at = datetime.now(UTC)
        self.steps = 0
        self.revision = 0
        self.before: frozenset[Cell] = frozenset()
        self.goes_on = False
        """Whether it goes on with one that was unfinished."""
        self.paused: set[str | None] = set()
        """Names of the graphs in it that wait for somebody."""
        self.cells: Cells = {}
        self.ended = False
        """Whether somebody has taken it on to end it."""
        self.record: RunRecord | None = None
        """How it was written down, once it has ended."""
        self.closed = False
        """Whether the cells have been folded into the handler's sums."""
        self.unsummed: list[tuple[Who, CallRecord]] = []
        """Settled calls that are not in the cells yet."""
        self.nodes: set[str] = set()
        self.ended_nodes: deque[Node] = deque()
        self.failed_nodes: deque[Node] = deque()
        self.spans: set[int] = set()
        self.open_calls: set[RunCall] = set()
        self.open_tools: set[OpenTool] = set()
        self.trace: Trace | None = None
        self.lock = threading.RLock()
        self.told: Told | None = None
        self.state = RunState(invocation_id, invocation_id)
        """What its guards remember. Never missing: whatever fails at its start, it is guarded."""
        self.begun = self.state
        """The same before it went on: in a chain, graphs may have taken steps by then."""
        self.refusal: Refusal | None = None
        """What stopped it; None again where a person lets it go on."""
        self.resumable = True
        """Whether whoever paused it can have it go on; without a checkpointer nobody can."""
        self.ending: set[str] = set()
        """Namespaces of nodes that took a refusal for their graph's last word: the rest of that graph may run."""
        self.questions = Questions()
        self.places = Places()
        self.validation = Validation()

    def belong_to(self, thread_id: str | None) -> None:
        """Take the thread of a graph in it for its own, where it was told none."""
        if thread_id is not None:
            self.thread_id, self.metadata = thread_id, {**self.metadata, "thread_id": thread_id}

    def resume(self, paused: Paused) -> None:
        """Go on with a run that did not complete: under its id, counting on."""
        self.run_id, self.name, self.revision, self.before = (
            paused.run_id,
            paused.name,
            paused.revision + 1,
            paused.cells,
        )
        self.steps += paused.steps
        self.questions = Questions(paused.asked, paused.answered)
        self.goes_on = True

    def add_call(self, who: Who, call: CallRecord) -> bool:
        """Sum a settled call, a little later: many one after another take a fifth of the time.

        False: the run's sums were closed meanwhile, and do not have it.
        """
        with self.lock:
            if self.closed:
                return False
            self.unsummed.append((who, call))
            if len(self.unsummed) >= UNSUMMED:
                self._sum_up()
            return True

    def supersede(self, who: Who, old: CallRecord, new: CallRecord) -> bool:
        """Sum a call anew by the version that supersedes it; False as for `add_call`."""
        with self.lock:
            if self.closed:
                return False
            self._sum_up()
            cell = cell_of_call(who, old)
            former = self._totals(cell)
            former.add_call(old, -1)
            if not former.calls and not former.charges:
                del self.cells[cell]
            self._totals(cell_of_call(who, new)).add_call(new)
            return True

    def add_charge(self, who: Who, charge: ChargeRecord) -> bool:
        """Sum a charge; False as for `add_call`."""
        with self.lock:
            if self.closed:
                return False
            self._totals(cell_of_charge(who, charge)).add_charge(charge)
            return True

    def close_sums(self) -> Cells:
        """The cells, which do not change from now on."""
        with self.lock:
            self._sum_up()
            self.closed = True
        return self.cells

    def _sum_up(self) -> None:
        unsummed, self.unsummed = self.unsummed, []
        for who, call in unsummed:
            self._totals(cell_of_call(who, call)).add_call(call)

    def _totals(self, cell: Cell) -> Totals:
        totals = self.cells.get(cell)
        if totals is None:
            totals = self.cells[cell] = Totals()
        return totals

    @property
    def folded(self) -> FoldedRun:
        """What the handler's sums have of it, once it is closed."""
        return self.cells, self.before

    def sums(self) -> Cells | None:
        """A copy of the cells that other threads do not change; None once they are closed."""
        with self.lock:
            if self.closed:
                return None
            self._sum_up()
            copies: Cells = {}
            for cell, totals in self.cells.items():
                copies[cell] = Totals()
                copies[cell].merge(totals)
            return copies


def thread_of(metadata: Mapping[str, Any]) -> str | None:
    """The thread's id as text."""
    thread_id = metadata.get("thread_id")
    return None if thread_id is None else written(thread_id)
