"""Which run, node and step an event belongs to. Knows what is open, and forgets a run when it has ended.

Everything is keyed by the ids' integers: a UUID's own hash is a Python function, and an event looks up a dozen.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config

from langchain_finops.budgets.run_state import RunState
from langchain_finops.langchain.attribution import NAMESPACE, NODE, attribution, said
from langchain_finops.langchain.runs import Node, Paused, Run, Span
from langchain_finops.langchain.sums import Who, who_of
from langchain_finops.records import Attribution, CallRecord, RunStatus

__all__ = ["Tracker", "is_node_start", "namespace_of", "retry_attempt"]

NODES_KEPT = 64
"""Node executions of an open run that are remembered after their end, for what they left running."""
FAILED_KEPT = 1_000
"""The same for those that failed: a retry of the node is told by its namespace."""
IDS_KEPT = 10_000
"""Ids remembered, at least, so that one that is given twice names two things."""
PAUSED_KEPT = 10_000
"""Threads whose run did not complete and may be resumed."""
LEFT_KEPT = 1_000
"""Runnables that ended with something still going on in them: its next start belongs to their run, ended or not."""
RETRY = "retry:attempt:"
START = "__start__:"
"""Where LangGraph takes a graph's input in and asks its entry's router; no node of the user's, and so no step."""


class Tracker:
    """Finds the run and node of each event. Safe between threads."""

    def __init__(self, defaults: Attribution) -> None:
        self._defaults = defaults
        self._spans: dict[int, Span] = {}
        self._nodes: dict[str, Node] = {}
        self._left: OrderedDict[int, Span] = OrderedDict()
        self._lock = threading.RLock()
        self._ids: dict[int, int] = {}
        self._older_ids: dict[int, int] = {}
        self._paused: OrderedDict[tuple[str, str], Paused] = OrderedDict()
        self._runs: dict[str, Run] = {}
        self._going_on: dict[str, Run] = {}

    # --- ids and spans -----------------------------------------------------------------------------------------------

    def name_of(self, run_id: UUID) -> str:
        """A record's id. LangChain's own ids are used once; one that the user gives twice gets a number."""
        key = run_id.int
        with self._lock:
            count = (self._ids.get(key) or self._older_ids.get(key, 0)) + 1
            self._ids[key] = count
            if len(self._ids) > IDS_KEPT:
                self._ids, self._older_ids = {}, self._ids
        return str(run_id) if count == 1 else f"{run_id}:{count}"

    def span(self, run_id: UUID) -> Span | None:
        """The span of an open runnable."""
        return self._spans.get(run_id.int)

    def place(self, parent_run_id: UUID | None, metadata: Mapping[str, Any]) -> Span | None:
        """Where an event belongs: by its parent, else its namespace, else the context; None for a new root."""
        span = None if parent_run_id is None else self._spans.get(parent_run_id.int)
        if span is not None:
            return span
        namespace = namespace_of(metadata)
        node = None if namespace is None else self._nodes.get(namespace)
        if node is not None:
            return Span(node.run, node, node.run.root.int)
        # RunnableWithFallbacks hands its own parent to its children, and the context tells of itself.
        config = var_child_runnable_config.get()
        manager = None if config is None else config.get("callbacks")
        outer = getattr(manager, "parent_run_id", None)
        span = self._spans.get(outer.int) if isinstance(outer, UUID) else None
        return span if span is not None or not self._left else self._left_by(parent_run_id, outer)

    def _left_by(self, *parents: object) -> Span | None:
        """The ended runnable that an event belongs to which goes on all the same."""
        left = (self._left.get(each.int) for each in parents if isinstance(each, UUID))
        return next((span for span in left if span is not None), None)

    def leave(self, key: int, span: Span) -> None:
        """Remember a runnable that ended while something in it may go on.

        Neither `asyncio.gather` nor LangChain cancels the other branches of one that failed: each of their calls would
        be a run of its own, with limits of its own.
        """
        with self._lock:
            self._left[key] = span
            if len(self._left) > LEFT_KEPT:
                self._left.popitem(last=False)

    def open_span(self, run_id: UUID, span: Span) -> Span:
        """Remember where the children of a runnable belong."""
        key = run_id.int
        self._spans[key] = span
        span.run.spans.add(key)
        return span

    def close_span(self, run_id: UUID) -> Span | None:
        """Forget a runnable that has ended; None if it was not open."""
        key = run_id.int
        span = self._spans.pop(key, None)
        if span is not None:
            span.run.spans.discard(key)
        return span

    # --- nodes -------------------------------------------------------------------------------------------------------

    def open_node(self, run_id: UUID, outer: Span, namespace: str) -> Node:
        """Begin an execution of a node, or the next attempt at one."""
        node = self._node(outer, namespace)
        node.attempt += 1
        node.running += 1
        node.told = None  # Without it the next attempt's calls would be told of as the first one's.
        self.open_span(run_id, Span(outer.run, node, run_id.int))
        return node

    def _node(self, outer: Span, namespace: str) -> Node:
        """The execution of a node, which begins with the first event of its namespace."""
        run = outer.run
        node = self._nodes.get(namespace)
        if node is not None and node.run is run:
            return node
        with run.lock:
            counts = not namespace.rpartition("|")[2].startswith(START)
            run.steps += counts
            node = Node(run, namespace, run.steps if counts else None, outer.graph)
            if not run.ended:  # Nobody would forget it.
                self._nodes[namespace] = node
                run.nodes.add(namespace)
        return node

    def refuse_node(self, run_id: UUID, node: Node) -> None:
        """Take back that an execution of a node began; of a first attempt nothing is left."""
        run = node.run
        self.close_span(run_id)
        with run.lock:
            node.running -= 1
            node.attempt -= 1
            if not node.attempt:
                run.steps -= node.step is not None
                run.nodes.discard(node.namespace)
                self._nodes.pop(node.namespace, None)

    def close_node(self, node: Node, *, failed: bool) -> None:
        """Forget a node's execution, but not at once: RetryPolicy may begin its next attempt."""
        run = node.run
        ended, kept = (run.failed_nodes, FAILED_KEPT) if failed else (run.ended_nodes, NODES_KEPT)
        with run.lock:
            node.running -= 1
            if run.ended:
                return
            ended.append(node)
            oldest = ended.popleft() if len(ended) > kept else None
            if oldest is not None and not oldest.running and not oldest.open:
                run.nodes.discard(oldest.namespace)
                self._nodes.pop(oldest.namespace, None)

    def attribute(
        self, span: Span, metadata: Mapping[str, Any], tags: list[str] | None
    ) -> tuple[Node | None, Attribution, Who]:
        """Whom an event belongs to. A node's calls share one attribution while their metadata says the same."""
        run, node = span.run, span.node
        namespace = namespace_of(metadata)
        if namespace is not None and (node is None or node.namespace != namespace):
            node = self._node(span, namespace)
        place: Node | Run = run if node is None else node
        said_of = said(metadata)
        tries = retry_attempt(tags) or span.attempt
        told = place.told  # Read once: another thread may tell of another user meanwhile.
        if tries is None and told is not None and told[0] == said_of:
            return node, told[1], told[2]
        found = attribution(
            said_of,
            self._defaults,
            graph_name=run.graph_name if node is None else node.graph,
            own_task=run.own_task,
            path=None if node is None else node.path,
            step=None if node is None else node.step,
            attempt=tries or (1 if node is None else max(1, node.attempt)),
        )
        who = who_of(found)
        if tries is None:
            place.told = said_of, found, who
        return node, found, who

    def outside(self, metadata: Mapping[str, Any]) -> Attribution:
        """Whom something belongs to that happens outside all runs."""
        return attribution(said(metadata), self._defaults, graph_name=None)

    # --- runs --------------------------------------------------------------------------------------------------------

    def open_run(self, run_id: UUID, name: str, metadata: Mapping[str, Any]) -> Span:
        """Begin a run."""
        run = Run(run_id, self.name_of(run_id), name, metadata)
        self._runs[run.invocation_id] = run
        return self.open_span(run_id, Span(run, None, run_id.int, graph=name))

    def join(self, run: Run) -> bool:
        """Give a run that goes on what another invocation of it has that does so just now, such as for another answer
        to the same question; False if there is none."""
        with self._lock:
            first = self._going_on.get(run.run_id)
            if first is None:
                return False
            run.state, run.questions, run.lock = first.state, first.questions, first.lock
            return True

    def lead(self, run: Run, state: RunState) -> None:
        """Give a run that goes on its state, unless another invocation of it was first."""
        with self._lock:
            if not self.join(run):
                state.steps = run.state.steps  # Of this invocation, in a graph before the one that goes on.
                run.state = state
                self._going_on[run.run_id] = run

    def _hand_over(self, run: Run) -> None:
        """Forget that a run goes on, unless another invocation of it does."""
        with self._lock:
            if self._going_on.get(run.run_id) is run:
                del self._going_on[run.run_id]
                for other in list(self._runs.values()):
                    if other.state is run.state and not other.ended:
                        self._going_on[run.run_id] = other
                        return

    def open_runs(self) -> list[Run]:
        """Runs that have not ended."""
        return list(self._runs.values())

    def run_named(self, invocation_id: str) -> Run | None:
        """The open run of this invocation; None if it has ended."""
        return self._runs.get(invocation_id)

    def run_of(self, call: CallRecord) -> Run | None:
        """The open run that a call was made in; None if it has ended."""
        return self._runs.get(call.invocation_id)

    def of_run(self, run: Run) -> Attribution:
        """Whom a run belongs to: what its root was told."""
        return attribution(said(run.metadata), self._defaults, graph_name=run.graph_name, own_task=run.own_task)

    def close_run(self, run: Run) -> bool:
        """Forget all that was open in a run; False if it was closed before."""
        with run.lock:
            if run.ended:
                return False
            run.ended = True
        if run.goes_on:
            self._hand_over(run)
        for key in list(run.spans):
            span = self._spans.get(key)
            if span is not None and span.run is run:  # Two runs at once may have been given one id.
                self._spans.pop(key, None)
                if key != run.root.int:
                    self.leave(key, span)
        for namespace in list(run.nodes):
            self._nodes.pop(namespace, None)
        for kept in (run.spans, run.nodes, run.ended_nodes, run.failed_nodes):
            kept.clear()
        return True

    def forget_run(self, run: Run) -> None:
        """Forget a run that is in the sums."""
        self._runs.pop(run.invocation_id, None)

    def remember(self, run: Run, status: RunStatus) -> None:
        """Keep what a later invocation of the same thread needs to go on, if this one did not complete."""
        if run.thread_id is None:
            return
        key = run.thread_id, run.name  # Other graphs, and calls, of the same thread leave it as it is.
        with self._lock:
            self._paused.pop(key, None)
            if status != "completed":
                cells = run.before | run.cells.keys()
                asked, answered = frozenset(run.questions.asked), run.questions.answered
                self._paused[key] = Paused(run.run_id, run.name, run.steps, run.revision, cells, asked, answered)
                if len(self._paused) > PAUSED_KEPT:
                    self._paused.popitem(last=False)

    def unfinished(self, thread_id: str, name: str) -> Paused | None:
        """What this handler knows of a thread's run that did not complete."""
        return self._paused.get((thread_id, name))


def namespace_of(metadata: Mapping[str, Any]) -> str | None:
    """The namespace of the node's execution; None outside graphs."""
    namespace = metadata.get(NAMESPACE)
    return namespace if isinstance(namespace, str) and namespace else None


def is_node_start(span: Span, name: str | None, namespace: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a chain's start is a node's: a router and inner chains carry the node's metadata as well."""
    return name == metadata.get(NODE) and (span.node is None or span.node.namespace != namespace)


def retry_attempt(tags: list[str] | None) -> int | None:
    """Which try of `with_retry` this is; None where it is the first or none."""
    for tag in tags or ():
        if tag.startswith(RETRY) and tag[len(RETRY) :].isdigit():
            return int(tag[len(RETRY) :])
    return None
