"""Whoever wants to hear of each record as it is written down: metrics, for one. Nothing that one does reaches a run."""

from collections.abc import Callable

from langchain_finops.meter import Faults
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord

__all__ = ["Observer", "Observers"]

Observer = Callable[[CallRecord | ChargeRecord | RunRecord, CallRecord | None], None]
"""Told of a record, and of the version that it supersedes, None where it is the first."""


class Observers:
    """Those who are told, in the thread and context of the event that ended it."""

    __slots__ = ("_all", "_faults")

    def __init__(self, faults: Faults) -> None:
        self._all: tuple[Observer, ...] = ()
        self._faults = faults

    def add(self, observer: Observer) -> None:
        """Tell this one, too, from now on."""
        self._all = (*self._all, observer)

    def tell(self, record: CallRecord | ChargeRecord | RunRecord, before: CallRecord | None = None) -> None:
        """Tell all. A fault of an observer is noted, and keeps the others from nothing."""
        for observer in self._all:
            try:
                observer(record, before)
            except Exception as error:  # noqa: BLE001  It must not kill the user's run, nor lose the record's sums.
                self._faults.note(error)
