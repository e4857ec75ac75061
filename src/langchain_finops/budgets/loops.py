"""When a run goes in circles: the same model call or tool again and again, alone or in a cycle with others.

What counts as the same: a model call in the same node with the same prompt, whatever it answers; a tool with the same
arguments, in whatever node, as long as its result does not change. Prompts and arguments come as digests.

What is parallel is no repetition: branches of one superstep, and whatever starts before the other has ended.
"""

from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_finops.budgets import checks
from langchain_finops.budgets.checks import Decide
from langchain_finops.budgets.refusal import OnExceed
from langchain_finops.budgets.scopes import Match, check_match
from langchain_finops.budgets.texts import where_text

__all__ = ["Kind", "Level", "LoopGuard", "LoopWatch", "Place", "Places", "Superstep"]

Kind = Literal["llm", "tool"]
Superstep = tuple[int, int]
"""Which invocation of a graph, and which of its supersteps."""
Level = tuple[str, Superstep | None]
"""A part of a LangGraph namespace, and the superstep it runs in; None where that tells nothing of what is parallel."""
Place = tuple[Level, ...]
"""Where in the run something happens, outermost level first; empty outside a graph."""

LONGEST_WINDOW: Final = 1_000
BRANCHES: Final = 64
"""So many windows of events are kept: in a fan-out each branch has a window of its own, and the events of all mix."""
OPEN_KEPT: Final = 10_000
"""Ends that never come would fill the memory."""


@dataclass(frozen=True, slots=True, init=False)
class LoopGuard:
    """Refuses what would be done the same way once more than `repeats` times within `window` events of a run."""

    repeats: int
    """So many equal ones are allowed; the next is refused."""
    window: int
    """So many starts of model calls and tools are looked at, the one in question included."""
    on_exceed: OnExceed | Decide
    match: Match
    name: str | None

    def __init__(
        self,
        repeats: int = 3,
        window: int = 12,
        *,
        on_exceed: OnExceed | Decide = "raise",
        match: Mapping[str, str] | Match = (),
        name: str | None = None,
    ) -> None:
        given = (repeats, window, on_exceed, match, name)
        faults = checks.settle(self, _RULES, dict(zip(_RULES, given, strict=True)))
        if not faults and window <= repeats:
            faults.append(f"window: must be more than repeats={repeats}, or nothing is ever refused, not {window}")
        checks.refuse("LoopGuard", faults)

    @property
    def label(self) -> str:
        """What refusals and events call it: its name, else what it says."""
        return self.name or str(self)

    def __str__(self) -> str:
        return f"loop guard: {self.repeats} repeats within {self.window} events{where_text(self.match)}"


def _window(value: Any) -> int:
    if checks.whole(value) > LONGEST_WINDOW:
        raise ValueError(f"must be at most {LONGEST_WINDOW}, not {value}")
    return int(value)


_RULES: Final[dict[str, checks.Rule]] = {
    "repeats": checks.whole,
    "window": _window,
    "on_exceed": checks.on_exceed,
    "match": check_match,
    "name": checks.name,
}
"""How each argument is read, in the order of the fields."""


class Places:
    """Where the open nodes of a run are: what tells a fan-out from a loop. Not safe between threads: the run's lock."""

    __slots__ = ("_root", "_supersteps")

    def __init__(self) -> None:
        self._supersteps: dict[str, Superstep | None] = {}
        self._root: Superstep = (0, 0)

    def enter(self, namespace: str, superstep: int | None) -> None:
        """A node starts, LangGraph's own `__start__` included.

        None for a `@task`: those of one entrypoint are all in one superstep, whether they are parallel or not.
        """
        if superstep is None:
            self._supersteps[namespace] = None
        elif "|" in namespace:  # A graph that its node invokes again has a number in its namespace.
            self._supersteps[namespace] = (0, superstep)
        else:
            invocation, last = self._root
            # Numbers begin anew when a chain invokes its graph again; those would look parallel to the ones before.
            self._supersteps[namespace] = self._root = (invocation + (superstep < last), superstep)

    def leave(self, namespace: str) -> None:
        """It has ended."""
        self._supersteps.pop(namespace, None)

    def of(self, namespace: str | None) -> Place:
        """The place of what happens in a node."""
        if not namespace:
            return ()
        parts = namespace.split("|")
        above = ("|".join(parts[: depth + 1]) for depth in range(len(parts)))
        return tuple((part, self._supersteps.get(whole)) for part, whole in zip(parts, above, strict=True))


What = tuple[str, str | None, Hashable]
"""Kind, node path or tool, digest: equal for what is done the same way."""


@dataclass(slots=True)
class _Event:
    """The start of a model call or a tool."""

    what: What
    place: Place
    began: int
    ended: int | None
    """Order of its end among all starts and ends of the run; None while it goes on."""
    result: Hashable = None
    moot: bool = False
    """Another result came of the same since: the tool is polled, and something moves."""


class LoopWatch:
    """What one guard has seen of one run. Bounded. Not safe between threads: the caller holds the run's lock."""

    __slots__ = ("_clock", "_counts", "_events", "_guard", "_open")

    def __init__(self, guard: LoopGuard) -> None:
        self._guard = guard
        self._events: deque[_Event] = deque()
        self._counts: Counter[What] = Counter()
        self._open: dict[str, _Event] = {}
        self._clock = 0

    def see(
        self,
        node_path: str | None,
        kind: Kind,
        digest: Hashable,
        *,
        tool: str | None = None,
        event_id: str | None = None,
        place: Place = (),
    ) -> str | None:
        """Note a start; what goes in circles, as a sentence, where it would be one repetition too many.

        With an `event_id` it counts as going on until `ended` or `released` is told of it.
        """
        self._clock += 1
        ended = self._clock if event_id is None else None
        what = (kind, tool if kind == "tool" else node_path, digest)
        event = _Event(what=what, place=place, began=self._clock, ended=ended)
        found = self._found(event) if self._counts[what] >= self._guard.repeats else None
        self._keep(event, event_id)
        return found

    def ended(self, event_id: str, result: Hashable = None) -> None:
        """It has ended; of a tool, with what: a digest of its result or error, None where that is not known."""
        event = self._open.pop(event_id, None)
        if event is None:
            return
        self._clock += 1
        event.ended, event.result = self._clock, result
        if event.what[0] != "tool" or result is None:
            return
        for other in self._events:
            if other.what == event.what and other.result is not None and other.result != result:
                other.moot = True

    def released(self, event_id: str) -> None:
        """Nothing came of it, and nothing was spent: to try again is no repetition."""
        event = self._open.get(event_id)
        self.ended(event_id)
        if event is not None:
            event.moot = True

    def forget(self) -> None:
        """Begin anew, as after a person's approval."""
        self._events.clear()
        self._counts.clear()
        self._open.clear()

    def _found(self, event: _Event) -> str | None:
        """What goes in circles, if the event would go on with it.

        Looks back through the guard's window, past what the event is parallel to. What is parallel to each other
        counts as one, both for the window and for repetitions.
        """
        turns: list[_Event] = []
        same: list[_Event] = []
        for other in reversed(self._events):
            if _parallel(other, event):
                continue
            if not (turns and _parallel(other, turns[-1])):
                if len(turns) == self._guard.window - 1:
                    break
                turns.append(other)
            if other.what == event.what and not other.moot and not (same and _parallel(other, same[-1])):
                same.append(other)
        enough = len(same) >= self._guard.repeats
        return self._says(event.what, [turn.what for turn in turns], len(same)) if enough else None

    def _keep(self, event: _Event, event_id: str | None) -> None:
        self._events.append(event)
        self._counts[event.what] += 1
        if len(self._events) > self._guard.window * BRANCHES:
            oldest = self._events.popleft().what
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        if event_id is not None:
            self._open[event_id] = event
            if len(self._open) > OPEN_KEPT:
                del self._open[next(iter(self._open))]

    def _says(self, what: What, before: list[What], times: int) -> str:
        """What goes in circles, as a sentence; what was before it is given newest first."""
        within = f"within {self._guard.window} events"
        period = before.index(what) + 1 if what in before else 1
        cycle = before[:period]
        if period > 1 and cycle == before[period : 2 * period]:
            return f"{' -> '.join(map(_name, reversed(cycle)))} went round {times} times {within}"
        same = "arguments and result" if what[0] == "tool" else "prompt"
        return f"{_name(what)} came {times} times with the same {same} {within}"


def _parallel(earlier: _Event, later: _Event) -> bool:
    """Whether two events are of branches of one superstep, or the later one did not wait for the earlier one's end."""
    fork = next((pair for pair in zip(earlier.place, later.place, strict=False) if pair[0][0] != pair[1][0]), None)
    if fork is not None and fork[0][1] is not None and fork[0][1] == fork[1][1]:
        return True
    if earlier.ended is not None and earlier.ended < later.began:
        return False
    # What happens inside a tool that goes on, such as an agent's calls, comes after its start.
    return fork is not None or len(earlier.place) >= len(later.place)


def _name(what: What) -> str:
    kind, name, _ = what
    if kind == "tool":
        return f"tool {name!r}"
    return "the model outside a graph" if name is None else f"the model in node {name!r}"
