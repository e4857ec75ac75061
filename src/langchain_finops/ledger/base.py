"""The port: what every ledger does. `langchain_finops.testing.LedgerContract` is this module as tests."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from langchain_finops.ledger.holds import Balance, HoldAnswer, Line, Settlement
from langchain_finops.ledger.totals import Group
from langchain_finops.records import CallRecord, ChargeRecord, Event, Outcome, Record, RunRecord

__all__ = ["Ledger"]


@runtime_checkable
class Ledger(Protocol):
    """An append-only store of records.

    Readers yield the current version of each record, one for each `call_id`, `charge_id`, `run_id`, task or
    `event_id`, oldest first; `history=True` yields every version. `since` (inclusive) and `until` (exclusive) are
    aware datetimes, compared with `started_at` or `at`. Filters name a field of the record or of its attribution
    and the value it must have; where both have one (`project`) it is the attribution's. An unknown name raises
    BadArguments. Amounts are kept to the picodollar, and one record holds at most $9.2 million.
    """

    @property
    def url(self) -> str:
        """Where it is, in the form `open_ledger` takes."""

    @property
    def digest_key(self) -> bytes:
        """What digests of prompts are keyed with: 32 bytes of this ledger's own, the same for all who open it.

        Known once the ledger is open, so that a hook may ask for it.
        """

    def write(self, *records: Record) -> None:
        """Append records, all or none. On return they are durable, or in the spill file; a full disk or a locked file
        raises nothing. Raises LedgerError only where the spill file fails too or the ledger is closed, and BadArguments
        for a record that no ledger can keep.

        Writing an id and revision that is there already changes nothing. Of runs and outcomes, which several processes
        may number alike, a different invocation or judgement under a revision that is taken gets the next one; but if
        it ended or was judged before the current one, it came late, and is kept as history below all others.
        """

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
        """Exact sums of current versions, grouped by names of `DIMENSIONS`, dearest first; one group for `by=()`.

        Period and filters pick calls and charges; a field that a record does not have is None. A task counts in each
        group that it has a call or charge in, if its first call (of all, whatever the filters) is in the period, and of
        the group's day where groups are of days.
        """

    def hold(self, hold_id: str, lines: Sequence[Line], *, at: datetime, ttl_s: float = 3600) -> HoldAnswer:
        """Set the lines' amounts aside, all or none, until they are settled or released, or `ttl_s` after `at`.

        A line fits if what its balance has spent, what others hold on it at that time, and its amount come to no more
        than its limit; the first one that does not is named, in the order given. A hold that takes from a balance
        already (a second handler on the same call) takes the larger amount, not both. Raises LedgerError where that
        cannot be told within `hold_timeout`: nothing is held then. Who fails open settles all the same.
        """

    def settle(self, *settlements: Settlement) -> tuple[Balance, ...]:
        """Append records as `write` does, add their amounts to balances, and take their holds away, in one transaction.

        Amounts of a record that is there already are not added again, but to a balance that its hold still takes from.
        A hold that has expired is settled like any other. On return it is durable, or in the spill file, from which
        `finops recover` settles it once. Returns the balances it names as they now stand; none where it was spilled.
        Raises what `write` raises, and BadArguments for an amount that is no integer.
        """

    def release(self, hold_id: str) -> None:
        """Give back what is held: nothing was spent. Where the ledger cannot be written, it is done a little later."""

    def balances(self, *keys: str) -> list[Balance]:
        """What stands against these keys, in order; without keys, all balances in which something stands, by key.

        What was held and is neither settled nor released counts as `held` until it expires, then as `unsettled`.
        """

    def claim(self, key: str, *, at: datetime) -> bool:
        """True for exactly one caller in all processes. Raises LedgerError where that cannot be told."""

    def set_control(self, kind: str, key: str, body: Mapping[str, object] | None, event: Event) -> None:
        """Put something set from outside (JSON) in place of what was there, and the event that tells of it, together.

        None takes it away. An event that is there already changes nothing. Raises LedgerError, and has then done
        nothing.
        """

    def controls(self, kind: str) -> dict[str, dict[str, object]]:
        """What is set now, by key."""

    def controls_version(self) -> int:
        """A number that grows with every change of the controls, of whatever kind: cheap to ask for."""

    def forget(self, user_id: str) -> int:
        """Unlink a person: `user_id` becomes None in all calls, charges and runs; return how many named it."""

    def prune(self, before: datetime) -> int:
        """Fold calls and charges of UTC days that ended by `before` into daily sums; return how many those were.

        Readers no longer yield them, nor can they be written again; `totals` goes on counting them exactly. Balances
        of windows, or by `holds.timed`, whose time was over by then go, too, some of them a day later.
        """

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is durable; False if `timeout` seconds passed first."""

    def close(self) -> None:
        """Write what is pending and let go of files and threads. Closing twice is fine."""
