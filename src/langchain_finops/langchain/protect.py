"""Whether the nodes that must not be cut have run since the state last changed."""

from collections.abc import Collection

__all__ = ["Validation"]


class Validation:
    """When protected nodes of a run last began, and when another node last ended. The run's lock guards it."""

    __slots__ = ("_began", "_changed", "_now")

    def __init__(self) -> None:
        self._now = 0
        self._changed = 0
        """The run's input counts as a change: a node that has never run has not seen it."""
        self._began: dict[str, int] = {}

    def begin(self) -> int:
        """The moment at which a node begins."""
        self._now += 1
        return self._now

    def end(self, path: Collection[str], protected: Collection[str], began: int) -> None:
        """A node has ended well. One that began before another ended has not seen what that one wrote."""
        guards = [name for name in path if name in protected]
        for name in guards:
            self._began[name] = max(began, self._began.get(name, 0))
        if not guards:
            self._now += 1
            self._changed = self._now

    def missing(self, protected: Collection[str]) -> tuple[str, ...]:
        """The protected nodes that have not run since."""
        return tuple(sorted(name for name in protected if self._began.get(name, -1) < self._changed))
