"""The port: what every ledger does. `langchain_finops.testing.LedgerContract` is this module as tests."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from langchain_finops.ledger.totals import Group
from langchain_finops.records import CallRecord, ChargeRecord, Event, Outcome, Record, RunRecord

__all__ = ["Ledger"]


@runtime_checkable
class Ledger(Protocol):
    """An append-only store of records.

    Readers yield the current version of each record, one for each `call_id`, `charge_id`, `run_id`, task or
    `event_id`, oldest first; `history=True` yields every version. `since` (inclusive) and `until` (exclusive) are
    aware datetimes, compared with `started_at` or `at`. Filters name a field of the record or of its attribution
    and the value it must have; an unknown name raises BadArguments.
    """

    @property
    def url(self) -> str:
        """Where it is, in the form `open_ledger` takes."""

    def write(self, *records: Record) -> None:
        """Append records, all or none. On return they are durable, or in the spill file; never raises for a full disk
        or a locked file. Writing an id and revision that is there already changes nothing."""

    def calls(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[CallRecord]:
        """Model calls."""

    def charges(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[ChargeRecord]:
        """What is not a model call."""

    def runs(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[RunRecord]:
        """Logical runs."""

    def outcomes(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Outcome]:
        """What became of tasks. The one written last is the current one of its task."""

    def events(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Event]:
        """The audit trail."""

    def totals(
        self, by: Sequence[str] = (), *, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> list[Group]:
        """Exact sums of current versions, grouped by names of `DIMENSIONS`, dearest first; one group for `by=()`."""

    def forget(self, user_id: str) -> int:
        """Unlink a person: `user_id` becomes None in all records; return how many named it."""

    def prune(self, before: datetime) -> int:
        """Fold calls and charges of UTC days that ended by `before` into daily sums, which `totals` goes on counting;
        return how many those were."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is durable; False if `timeout` seconds passed first."""

    def close(self) -> None:
        """Write what is pending and let go of files and threads. Closing twice is fine."""
