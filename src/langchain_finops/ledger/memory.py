"""A ledger that lives as long as its process. It keeps all records, and its totals are the plain sums of them."""

import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from langchain_finops.ledger.cleaning import clean_text
from langchain_finops.ledger.codec import check, floor_day, identity, now_micros, to_micros
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.grouping import Period, check_by, check_filters, fold, is_late, matches, same, time_of
from langchain_finops.ledger.holds import (
    Balance,
    HoldAnswer,
    Line,
    Settlement,
    checked_amounts,
    checked_lines,
)
from langchain_finops.ledger.memory_book import MemoryBook
from langchain_finops.ledger.naming import unlinked_event
from langchain_finops.ledger.rows import is_kept_by_sums
from langchain_finops.ledger.totals import Group
from langchain_finops.records import CallRecord, ChargeRecord, Event, Outcome, Record, RunRecord
from langchain_finops.sections import section

__all__ = ["MemoryLedger"]

Versions = dict[int, tuple[int, Record]]
"""Versions of one record by revision, each with the number of the write that brought it."""


class MemoryLedger:
    """The `Ledger` of `open_ledger(":memory:")`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kinds: dict[str, dict[str, Versions]] = {}
        self._folded: dict[str, dict[str, Record]] = {"call": {}, "charge": {}}
        self._writes = 0
        self._book = MemoryBook()
        self._digest_key = secrets.token_bytes(32)
        renew_in_child(self)

    def after_fork(self) -> None:
        """The child has a copy of the records, and a lock of its own."""
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        """Another ledger: what is in memory has no address."""
        return ":memory:"

    @property
    def digest_key(self) -> bytes:
        """Of this ledger alone."""
        return self._digest_key

    def write(self, *records: Record) -> None:
        """Append records, all or none."""
        checked = [check(record) for record in records]
        with self._lock:  # No section: what comes in the middle of one append does it no harm.
            for record in checked:
                self._append(record)

    def settle(self, *settlements: Settlement) -> tuple[Balance, ...]:
        """Append records, add their amounts to balances, and take their holds away; the balances as they now stand."""
        checked = [(check(one.record), _clean(one.hold_id), checked_amounts(one.amounts)) for one in settlements]
        with section, self._lock:
            for record, hold_id, amounts in checked:
                is_new = self._append(record)
                self._book.settle(hold_id, amounts, is_new=is_new)
            keys = list(dict.fromkeys(key for _, _, amounts in checked for key in amounts))
            return tuple(self._book.balances(keys, now_micros())) if keys else ()

    def hold(self, hold_id: str, lines: Sequence[Line], *, at: datetime, ttl_s: float = 3600) -> HoldAnswer:
        """Set the lines' amounts aside, all or none."""
        hold_id, lines, micros = clean_text(hold_id), checked_lines(lines), to_micros(at)
        with section, self._lock:
            return self._book.hold(hold_id, lines, at=micros, expires_at=micros + round(ttl_s * 1_000_000))

    def release(self, hold_id: str) -> None:
        """Give back what is held."""
        with section, self._lock:
            self._book.release(clean_text(hold_id))

    def balances(self, *keys: str) -> list[Balance]:
        """What stands against these keys, in order; without keys, all balances in which something stands, by key."""
        with section, self._lock:
            return self._book.balances([clean_text(key) for key in keys], now_micros())

    def claim(self, key: str, *, at: datetime) -> bool:
        """True for exactly one caller."""
        to_micros(at)
        with section, self._lock:
            return self._book.claim(clean_text(key))

    def set_control(self, kind: str, key: str, body: Mapping[str, object] | None, event: Event) -> None:
        """Put something set from outside in place of what was there, and the event that tells of it, together."""
        checked = check(event)
        with section, self._lock:
            if self._append(checked):
                self._book.set_control(kind, clean_text(key), body)

    def controls(self, kind: str) -> dict[str, dict[str, object]]:
        """What is set now, by key."""
        with section, self._lock:
            return self._book.controls(kind)

    def controls_version(self) -> int:
        """A number that grows with every change of the controls."""
        return self._book.version

    def _append(self, record: Record) -> bool:
        """Append what is not there yet; whether it was new."""
        kind, id_, revision = identity(record)
        if id_ in self._folded.get(kind, ()):
            return False
        versions = self._kinds.setdefault(kind, {}).setdefault(id_, {})
        if revision in versions:
            if not isinstance(record, RunRecord | Outcome):
                return False
            if any(same(record, version) for _, version in versions.values()):
                return False
            current = versions[max(versions)][1]
            record, revision = (
                _late(record, min(versions)) if is_late(record, current) else _next(record, max(versions))
            )
        self._writes += 1
        versions[revision] = (self._writes, record)
        return True

    def _read(
        self, kind: str, history: bool, since: datetime | None, until: datetime | None, filters: Mapping[str, object]
    ) -> Iterator[Any]:
        check_filters(filters, kind)
        period = Period.of(since, until)
        with section, self._lock:
            records = [
                (time_of(record), number, record)
                for versions in self._kinds.get(kind, {}).values()
                for number, record in (versions.values() if history else [versions[max(versions)]])
            ]
        records.sort(key=lambda entry: entry[:2])
        return (record for at, _, record in records if at in period and matches(record, filters))

    def calls(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[CallRecord]:
        """Model calls, oldest first."""
        return self._read("call", history, since, until, filters)

    def charges(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[ChargeRecord]:
        """What is not a model call, oldest first."""
        return self._read("charge", history, since, until, filters)

    def runs(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[RunRecord]:
        """Logical runs, oldest first."""
        return self._read("run", history, since, until, filters)

    def outcomes(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Outcome]:
        """What became of tasks, oldest first."""
        return self._read("outcome", history, since, until, filters)

    def events(
        self, *, history: bool = False, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> Iterator[Event]:
        """The audit trail, oldest first."""
        return self._read("event", history, since, until, filters)

    def totals(
        self, by: Sequence[str] = (), *, since: datetime | None = None, until: datetime | None = None, **filters: object
    ) -> list[Group]:
        """Exact sums of the current versions, grouped, dearest first."""
        dimensions = check_by(by)
        check_filters(filters, "call", "charge")
        period = Period.of(since, until)
        calls, charges = list(self.calls()), list(self.charges())
        if is_kept_by_sums(filters):
            with section, self._lock:
                calls += cast("Iterable[CallRecord]", self._folded["call"].values())
                charges += cast("Iterable[ChargeRecord]", self._folded["charge"].values())
        return fold(calls, charges, self.outcomes(), by=dimensions, period=period, filters=filters)

    def folded(self) -> Iterator[CallRecord | ChargeRecord]:
        """Calls and charges that `prune` has folded; totals still count them."""
        with section, self._lock:
            return iter(cast("list[CallRecord | ChargeRecord]", [r for f in self._folded.values() for r in f.values()]))

    def forget(self, user_id: str) -> int:
        """Unlink a person: `user_id` becomes None in all records; how many calls, charges and runs named it."""
        user_id = clean_text(user_id)
        with section, self._lock:
            count = 0
            for kind in ("call", "charge", "run"):
                for versions in self._kinds.get(kind, {}).values():
                    for revision, (number, record) in versions.items():
                        if unlinked := _unlinked(record, user_id):
                            versions[revision] = (number, unlinked)
                            count += 1
            for records in self._folded.values():
                records |= {id_: _unlinked(record, user_id) or record for id_, record in records.items()}
            for versions in self._kinds.get("event", {}).values():
                for revision, (number, event) in versions.items():
                    parts = {name: getattr(event, name) for name in ("subject", "reason", "before", "after")}
                    versions[revision] = (number, replace(event, **unlinked_event(parts, user_id)))
            self._book.forget(user_id)
        return count

    def prune(self, before: datetime) -> int:
        """Fold calls and charges of UTC days that ended by `before` into daily sums; how many those were.

        Readers no longer yield them; totals still count them.
        """
        limit = floor_day(before)
        count = 0
        with section, self._lock:
            for kind, folded in self._folded.items():
                ids = self._kinds.get(kind, {})
                for id_ in [id_ for id_, versions in ids.items() if _is_before(versions, limit)]:
                    versions = ids.pop(id_)
                    folded[id_] = _without_digests(versions[max(versions)][1])
                    count += 1
            self._book.prune(limit // 1_000_000)
        return count

    def flush(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - nothing is ever pending
        """Nothing is ever pending."""
        return True

    def close(self) -> None:
        """Nothing to let go of; the records stay readable."""


def _clean(hold_id: str | None) -> str | None:
    return None if hold_id is None else clean_text(hold_id)


def _next(record: RunRecord | Outcome, newest: int) -> tuple[Record, int]:
    if isinstance(record, Outcome):
        return replace(record, revision=newest + 1, supersedes=newest), newest + 1
    return replace(record, revision=newest + 1), newest + 1


def _late(record: RunRecord | Outcome, oldest: int) -> tuple[Record, int]:
    return replace(record, revision=oldest - 1), oldest - 1


def _unlinked(record: Record, user_id: str) -> Record | None:
    """The record without the person, or None if it does not name the person."""
    assert isinstance(record, CallRecord | ChargeRecord | RunRecord)
    if record.attribution.user_id != user_id:
        return None
    return replace(record, attribution=replace(record.attribution, user_id=None))


def _without_digests(record: Record) -> Record:
    return replace(record, prompt_digests=None) if isinstance(record, CallRecord) else record


def _is_before(versions: Versions, limit: int) -> bool:
    return all(time_of(record) < limit for _, record in versions.values())
