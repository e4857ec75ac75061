"""Each test of the contract finds the fault it is there for: a ledger with that fault fails it."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.ledger.codec import floor_day, identity, now_micros
from langchain_finops.ledger.grouping import Period, check_by, fold, matches, time_of
from langchain_finops.ledger.holds import Balance, HoldAnswer, Settlement
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.ledger.memory_book import MemoryBook
from langchain_finops.ledger.totals import Group
from langchain_finops.records import CallRecord, Record
from langchain_finops.testing import LedgerContract

NAMES = [name for name in dir(LedgerContract) if name.startswith("test_")]


class StoresFloats(MemoryLedger):
    def write(self, *records: Record) -> None:
        super().write(
            *(
                replace(r, cost_usd=Decimal(repr(float(r.cost_usd)))) if isinstance(r, CallRecord) and r.cost_usd else r
                for r in records
            )
        )


class TakesUnknownForFree(MemoryLedger):
    def write(self, *records: Record) -> None:
        super().write(
            *(replace(r, cost_usd=r.cost_usd or Decimal(0)) if isinstance(r, CallRecord) else r for r in records)
        )


class KeepsCopies(MemoryLedger):
    def _append(self, record: Record) -> None:
        kind, id_, revision = identity(record)
        versions = self._kinds.setdefault(kind, {}).setdefault(id_, {})
        versions[max(versions, default=-1) + 1 if revision in versions else revision] = (self._writes, record)


class Overwrites(MemoryLedger):
    def _append(self, record: Record) -> None:
        super()._append(record)
        kind, id_, _ = identity(record)
        versions = self._kinds[kind][id_]
        for revision in sorted(versions)[:-1]:
            del versions[revision]


class LastWrittenWins(MemoryLedger):
    def _append(self, record: Record) -> None:
        kind, id_, revision = identity(record)
        versions = self._kinds.setdefault(kind, {}).setdefault(id_, {})
        versions[max(revision, *versions, -1) + 1] = (len(versions), record)


class WritesOneByOne(MemoryLedger):
    def write(self, *records: Record) -> None:
        for record in records:
            super().write(record)


class DropsWhatIsTaken(MemoryLedger):
    def _append(self, record: Record) -> None:
        kind, id_, revision = identity(record)
        if revision not in self._kinds.get(kind, {}).get(id_, {}):
            super()._append(record)


class OrdersById(MemoryLedger):
    def calls(self, **options: Any) -> Iterator[CallRecord]:
        return iter(sorted(super().calls(**options), key=lambda call: call.call_id))


class DropsWhatIsOdd(MemoryLedger):
    def write(self, *records: Record) -> None:
        super().write(*(record for record in records if "\ud83d" not in identity(record)[1]))


class EndsNamesAtNul(MemoryLedger):
    def write(self, *records: Record) -> None:
        super().write(
            *(replace(r, call_id=r.call_id.partition("\0")[0]) if isinstance(r, CallRecord) else r for r in records)
        )


class TakesAnything(MemoryLedger):
    def write(self, *records: Record) -> None:
        for record in records:
            self._append(record)


class IncludesTheEnd(MemoryLedger):
    def calls(self, *, until: datetime | None = None, **options: Any) -> Iterator[CallRecord]:
        return super().calls(until=until and until + timedelta(microseconds=1), **options)


class FiltersByTheFirstName(MemoryLedger):
    def calls(self, **options: Any) -> Iterator[CallRecord]:
        return super().calls(**dict(list(options.items())[:1]))


class LosesTheSecondPage(MemoryLedger):
    def calls(self, **options: Any) -> Iterator[CallRecord]:
        return iter(list(super().calls(**options))[:1000])


class Tampered(MemoryLedger):
    """Totals with a fault in each group."""

    def totals(self, *args: Any, **options: Any) -> list[Group]:
        groups = super().totals(*args, **options)
        for group in groups:
            self.tamper(group)
        return groups

    def tamper(self, group: Group) -> None:
        raise NotImplementedError


class SumsFloats(Tampered):
    def tamper(self, group: Group) -> None:
        group.totals.cost_pico = round(group.totals.cost_pico / 1e12 * 1e12)


class MixesUpColumns(Tampered):
    def tamper(self, group: Group) -> None:
        meters = group.totals.meters
        meters["web_searches"], meters["requests"] = meters["requests"], meters["web_searches"]


class CountsCalls(Tampered):
    def tamper(self, group: Group) -> None:
        group.runs = group.tasks = group.totals.calls


class TakesUnjudgedForFailure(Tampered):
    def tamper(self, group: Group) -> None:
        group.judged = group.tasks


class SumsAllVersions(MemoryLedger):
    def totals(self, by: Any = (), *, since: Any = None, until: Any = None, **_: Any) -> list[Group]:
        calls, period = self.calls(history=True), Period.of(since, until)
        return fold(calls, self.charges(), self.outcomes(), by=check_by(by), period=period, filters={})


class FirstOfWhatWasAskedFor(MemoryLedger):
    def totals(self, by: Any = (), *, since: Any = None, until: Any = None, **filters: Any) -> list[Group]:
        period = Period.of(since, until)
        calls, charges = (
            [r for r in read() if time_of(r) in period and matches(r, filters)] for read in (self.calls, self.charges)
        )
        return fold(calls, charges, self.outcomes(), by=check_by(by), period=Period(), filters={})


class LeavesOutWhatDoesNotSay(MemoryLedger):
    def totals(self, *args: Any, **options: Any) -> list[Group]:
        return [group for group in super().totals(*args, **options) if None not in group.key]


class OrdersByModelCost(MemoryLedger):
    def totals(self, *args: Any, **options: Any) -> list[Group]:
        return sorted(super().totals(*args, **options), key=lambda group: -group.totals.cost_pico)


class HasNoEmptyGroup(MemoryLedger):
    def totals(self, *args: Any, **options: Any) -> list[Group]:
        return [group for group in super().totals(*args, **options) if group.runs]


class TakesAllCostForThatOfTasks(MemoryLedger):
    def totals(self, by: Any = (), **asked: Any) -> list[Group]:
        groups = super().totals(by, **asked)
        for group in groups:
            group.task_cost.pico = group.totals.cost_pico + group.totals.charge_pico
        return groups


class FiltersCallsOnly(MemoryLedger):
    def totals(self, by: Any = (), **filters: Any) -> list[Group]:
        calls = self.calls(**{name: value for name, value in filters.items() if name != "kind"})
        return fold(calls, self.charges(), [], by=check_by(by), period=Period(), filters={})


class ForgetsTheNewestVersionOnly(MemoryLedger):
    def forget(self, user_id: str) -> int:
        before = {kind: {id_: dict(v) for id_, v in ids.items()} for kind, ids in self._kinds.items()}
        count = super().forget(user_id)
        for kind, ids in self._kinds.items():
            for id_, versions in ids.items():
                versions |= {r: before[kind][id_][r] for r in versions if r != max(versions)}
        return count


class PrunesForGood(MemoryLedger):
    def prune(self, before: datetime) -> int:
        count = super().prune(before)
        for records in self._folded.values():
            records.clear()
        return count


class ForgetsWhatItPruned(MemoryLedger):
    def prune(self, before: datetime) -> int:
        count = super().prune(before)
        self._folded = {kind: {f"{id_}?": r for id_, r in ids.items()} for kind, ids in self._folded.items()}
        return count


class PrunesByTheNewestVersion(MemoryLedger):
    def prune(self, before: datetime) -> int:
        ids = self._kinds.get("call", {})
        old = [id_ for id_, v in ids.items() if time_of(v[max(v)][1]) < floor_day(before)]
        for id_ in old:
            versions = ids.pop(id_)
            self._folded["call"][id_] = versions[max(versions)][1]
        return len(old)


class KeepsTheFirstDigests(MemoryLedger):
    def calls(self, **options: Any) -> Iterator[CallRecord]:
        found: dict[str, CallRecord] = {}
        for call in super().calls(**options):
            yield replace(call, prompt_digests=found.setdefault(call.call_id, call).prompt_digests)


class HasTheKeyOfAll(MemoryLedger):
    @property
    def digest_key(self) -> bytes:
        return bytes(32)


class IsOfOneThread(MemoryLedger):
    def __init__(self) -> None:
        self._of_thread: dict[int, Any] = {}
        super().__init__()

    @property
    def _kinds(self) -> Any:
        return self._of_thread.setdefault(threading.get_ident(), {})

    @_kinds.setter
    def _kinds(self, value: Mapping[str, Any]) -> None:
        self._of_thread[threading.get_ident()] = value


class WritesLater(MemoryLedger):
    def write(self, *records: Record) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            super().write(*records)
        else:
            loop.call_soon(super().write, *records)


class ClosesOnce(MemoryLedger):
    closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Booked(MemoryLedger):
    """A ledger whose book has a fault."""

    book: type[MemoryBook]

    def __init__(self) -> None:
        super().__init__()
        self._book = self.book()


def booked(book: type[MemoryBook]) -> type[MemoryLedger]:
    return type(book.__name__, (Booked,), {"book": book})


class RefusesAtTheLimit(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        tight = [line if line.limit is None else replace(line, limit=line.limit - 1) for line in lines]
        return super().hold(hold_id, tight, **times)


class HoldsWhatFits(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        answer = super().hold(hold_id, lines, **times)
        if answer.refused:
            super().hold(hold_id, lines[: answer.refused], **times)
        return answer


class NamesTheLast(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        answer = super().hold(hold_id, lines, **times)
        return answer if answer.refused is None else replace(answer, refused=len(lines) - 1)


class TakesNoLimitForNone(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        return super().hold(hold_id, [replace(line, limit=line.limit or 0) for line in lines], **times)


class AdmitsNothing(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        return super().hold(hold_id, [line for line in lines if line.amount], **times)


class StandsInItsOwnWay(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        return super().hold(f"{hold_id}/{len(self._keys)}", lines, **times)


class ChecksTheLastLimit(MemoryBook):
    def hold(self, hold_id: str, lines: Any, **times: int) -> HoldAnswer:
        return super().hold(hold_id, list({line.balance: line for line in reversed(lines)}.values()), **times)


class ReleasesOneBalance(MemoryBook):
    def release(self, hold_id: str) -> None:
        for key in list(self._keys.get(hold_id, ()))[:1]:
            self._take_away(hold_id, key)


class NeverExpires(MemoryBook):
    def hold(self, hold_id: str, lines: Any, *, at: int, expires_at: int) -> HoldAnswer:
        return super().hold(hold_id, lines, at=at, expires_at=2 * expires_at)


class ExpiresForGood(MemoryBook):
    def hold(self, hold_id: str, lines: Any, *, at: int, expires_at: int) -> HoldAnswer:
        for account in self._accounts.values():
            for id_ in [id_ for id_, held in account.holds.items() if held.expires_at <= at]:
                account.take_away(id_)
        return super().hold(hold_id, lines, at=at, expires_at=expires_at)


class KeepsTheFirstEnd(MemoryBook):
    def hold(self, hold_id: str, lines: Any, *, at: int, expires_at: int) -> HoldAnswer:
        ends = [held.expires_at for account in self._accounts.values() if (held := account.holds.get(hold_id))]
        return super().hold(hold_id, lines, at=at, expires_at=min(ends, default=expires_at))


class HoldsUnchecked(MemoryLedger):
    def hold(self, hold_id: str, lines: Any, **options: Any) -> HoldAnswer:
        return super().hold(hold_id, [replace(line, amount=max(0, int(line.amount)), limit=None) for line in lines],
                            **options)  # fmt: skip


class LooksBeforeItLeaps(MemoryLedger):
    """Another thread may come between the look and the leap."""

    def hold(self, hold_id: str, lines: Any, **options: Any) -> HoldAnswer:
        answer = super().hold(hold_id, lines, **options)
        super().release(hold_id)
        if answer.refused is None:
            time.sleep(0.001)
            super().hold(hold_id, [replace(line, limit=None) for line in lines], **options)
        return answer


class SettlesTheEstimate(MemoryBook):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        held = {key: self._accounts[key].holds[hold_id].amount for key in self._keys.get(hold_id, ())}
        super().settle(hold_id, {key: held.get(key, amount) for key, amount in amounts.items()}, is_new=is_new)


class SettlesAgain(MemoryBook):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        super().settle(hold_id, amounts, is_new=True)


class SettlesWhatWasHeld(MemoryBook):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        super().settle(hold_id, amounts, is_new=False)


class SettlesNewRecords(MemoryBook):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        if is_new:
            super().settle(hold_id, amounts, is_new=True)


class KeepsHoldsOfNothing(MemoryBook):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        if any(amounts.values()):
            super().settle(hold_id, amounts, is_new=is_new)


class ForgetsExpired(ExpiresForGood):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        live = {key for key in amounts if self._accounts[key].holds[hold_id].expires_at > now_micros()}
        super().settle(hold_id, {key: amount for key, amount in amounts.items() if key in live}, is_new=is_new)


class NeverGoesDown(MemoryBook):
    def settle(self, hold_id: str | None, amounts: Any, *, is_new: bool) -> None:
        super().settle(hold_id, {key: max(0, amount) for key, amount in amounts.items()}, is_new=is_new)


class SettlesOneByOne(MemoryLedger):
    def settle(self, *settlements: Settlement) -> tuple[Balance, ...]:
        return tuple(
            balance for settlement in settlements for balance in super(SettlesOneByOne, self).settle(settlement)
        )


class BooksFloats(MemoryBook):
    def balances(self, keys: Any, at: int) -> list[Balance]:
        return [replace(b, spent=int(float(b.spent)), held=int(float(b.held))) for b in super().balances(keys, at)]


class TellsInAnyOrder(MemoryBook):
    def balances(self, keys: Any, at: int) -> list[Balance]:
        return super().balances(sorted(keys), at)


class LosesOddHolds(MemoryLedger):
    def hold(self, hold_id: str, lines: Any, **options: Any) -> HoldAnswer:
        return super().hold(hold_id, [line for line in lines if line.balance.isascii()], **options)


class HoldsOfOneThread(MemoryLedger):
    def hold(self, hold_id: str, lines: Any, **options: Any) -> HoldAnswer:
        try:
            asyncio.get_running_loop().call_soon(lambda: super(HoldsOfOneThread, self).hold(hold_id, lines, **options))
        except RuntimeError:
            return super().hold(hold_id, lines, **options)
        return HoldAnswer(refused=None, balances=())


class ClaimsForAll(MemoryBook):
    def claim(self, key: str) -> bool:
        return True


class MixesKinds(MemoryBook):
    def set_control(self, kind: str, key: str, body: Any) -> None:
        super().set_control("all", key, body)

    def controls(self, kind: str) -> Any:
        return super().controls("all")


class KeepsTheCallersBody(MemoryBook):
    def set_control(self, kind: str, key: str, body: Any) -> None:
        super().set_control(kind, key, body)
        self.kept = {key: body}

    def controls(self, kind: str) -> Any:
        return self.kept


class CountsControls(MemoryBook):
    @property
    def version(self) -> int:
        return sum(map(len, self._controls.values()))

    @version.setter
    def version(self, value: int) -> None:
        pass


class ChangesAgain(MemoryLedger):
    def set_control(self, kind: str, key: str, body: Any, event: Any) -> None:
        super().set_control(kind, key, body, replace(event, event_id=f"{event.event_id}/{self._writes}"))


class ControlsLater(MemoryLedger):
    def set_control(self, *change: Any) -> None:
        asyncio.get_running_loop().call_soon(super().set_control, *change)


class KeepsBalancesOfPersons(MemoryBook):
    def forget(self, user_id: str) -> int:
        accounts = dict(self._accounts)
        count = super().forget(user_id)
        self._accounts = accounts
        return count


class KeepsWhatWasSet(MemoryBook):
    def forget(self, user_id: str) -> int:
        controls = {kind: dict(bodies) for kind, bodies in self._controls.items()}
        count = super().forget(user_id)
        self._controls = controls
        return count


class KeepsEvents(MemoryLedger):
    def forget(self, user_id: str) -> int:
        events = {id_: dict(versions) for id_, versions in self._kinds.get("event", {}).items()}
        count = super().forget(user_id)
        self._kinds["event"] = events
        return count


FAULTS: dict[str, type[MemoryLedger]] = {
    "test_forget_unlinks_balances": booked(KeepsBalancesOfPersons),
    "test_forget_takes_away_what_was_set_for_a_person": booked(KeepsWhatWasSet),
    "test_forget_reaches_the_audit_trail": KeepsEvents,
    "test_a_hold_fits_up_to_the_limit_and_not_beyond": booked(RefusesAtTheLimit),
    "test_a_hold_takes_all_its_lines_or_none": booked(HoldsWhatFits),
    "test_the_first_line_that_does_not_fit_is_named": booked(NamesTheLast),
    "test_a_line_without_a_limit_always_fits": booked(TakesNoLimitForNone),
    "test_a_limit_below_what_is_spent_refuses_even_nothing": booked(AdmitsNothing),
    "test_holding_again_takes_the_larger_amount": booked(StandsInItsOwnWay),
    "test_two_lines_on_one_balance_hold_the_larger_amount": booked(ChecksTheLastLimit),
    "test_a_released_hold_is_free_again": booked(ReleasesOneBalance),
    "test_a_hold_that_nobody_settles_expires": booked(NeverExpires),
    "test_a_hold_expires_by_the_time_of_who_asks": booked(ExpiresForGood),
    "test_a_hold_made_again_lives_on": booked(KeepsTheFirstEnd),
    "test_what_is_no_amount_is_refused": HoldsUnchecked,
    "test_threads_never_hold_more_than_the_limit": LooksBeforeItLeaps,
    "test_settling_replaces_the_hold_by_the_truth": booked(SettlesTheEstimate),
    "test_settling_twice_counts_once": booked(SettlesAgain),
    "test_what_nobody_held_can_be_settled": booked(SettlesWhatWasHeld),
    "test_a_call_that_another_handler_wrote_is_counted_where_it_was_held": booked(SettlesNewRecords),
    "test_settling_at_nothing_gives_the_hold_back": booked(KeepsHoldsOfNothing),
    "test_a_late_settlement_of_an_expired_hold_counts": booked(ForgetsExpired),
    "test_a_revision_settles_the_difference": booked(NeverGoesDown),
    "test_a_batch_is_settled_whole_or_not_at_all": SettlesOneByOne,
    "test_balances_are_exact_however_large": booked(BooksFloats),
    "test_balances_are_told_in_order": booked(TellsInAnyOrder),
    "test_odd_keys_lose_no_amount": LosesOddHolds,
    "test_holds_work_under_an_event_loop": HoldsOfOneThread,
    "test_exactly_one_gets_a_claim": booked(ClaimsForAll),
    "test_a_control_stands_until_it_is_changed": booked(MixesKinds),
    "test_what_was_set_is_kept_as_it_was": booked(KeepsTheCallersBody),
    "test_the_version_grows_with_every_change": booked(CountsControls),
    "test_an_event_that_is_there_changes_nothing_again": ChangesAgain,
    "test_controls_are_changed_under_an_event_loop": ControlsLater,
    "test_a_record_comes_back_as_it_was": StoresFloats,
    "test_an_unknown_price_is_not_zero": TakesUnknownForFree,
    "test_writing_twice_changes_nothing": KeepsCopies,
    "test_a_newer_revision_supersedes_and_the_older_one_stays_in_history": Overwrites,
    "test_an_older_revision_that_comes_late_is_history": LastWrittenWins,
    "test_a_batch_is_written_whole_or_not_at_all": WritesOneByOne,
    "test_a_resumed_run_whose_revision_is_taken_gets_the_next": DropsWhatIsTaken,
    "test_the_outcome_written_last_counts": DropsWhatIsTaken,
    "test_a_run_or_outcome_that_comes_late_is_history": KeepsCopies,
    "test_odd_names_and_counts_lose_no_record": DropsWhatIsOdd,
    "test_nul_in_names_becomes_its_escape": EndsNamesAtNul,
    "test_what_no_table_can_hold_is_refused": TakesAnything,
    "test_readers_yield_oldest_first": OrdersById,
    "test_a_period_includes_its_beginning_and_not_its_end": IncludesTheEnd,
    "test_filters_name_fields_of_the_record_or_its_attribution": FiltersByTheFirstName,
    "test_many_records_come_in_order_and_once": LosesTheSecondPage,
    "test_sums_are_exact_however_large": SumsFloats,
    "test_every_meter_and_count_is_summed": MixesUpColumns,
    "test_a_superseded_version_leaves_the_group_it_was_in": SumsAllVersions,
    "test_calls_and_charges_group_by_every_dimension": LeavesOutWhatDoesNotSay,
    "test_groups_of_several_dimensions_come_dearest_first": OrdersByModelCost,
    "test_nothing_sums_to_one_empty_group_or_none": HasNoEmptyGroup,
    "test_runs_and_tasks_are_counted_once_in_each_group": CountsCalls,
    "test_an_outcome_that_cannot_tell_is_not_judged": TakesUnjudgedForFailure,
    "test_a_task_belongs_to_the_day_of_its_first_call": FirstOfWhatWasAskedFor,
    "test_a_task_belongs_to_the_period_of_its_first_call": FirstOfWhatWasAskedFor,
    "test_a_version_that_was_taken_back_is_no_first_call": SumsAllVersions,
    "test_what_tasks_cost_leaves_out_judges_and_what_names_no_task": TakesAllCostForThatOfTasks,
    "test_what_a_task_cost_is_in_the_period_that_it_belongs_to": TakesAllCostForThatOfTasks,
    "test_filters_pick_calls_and_charges": FiltersCallsOnly,
    "test_forget_unlinks_a_person_and_keeps_the_cost": ForgetsTheNewestVersionOnly,
    "test_prune_folds_old_days_and_totals_stay_exact": PrunesForGood,
    "test_prune_leaves_a_task_to_the_period_of_its_first_call": PrunesForGood,
    "test_calls_written_after_a_prune_count_beside_what_was_pruned": PrunesForGood,
    "test_what_was_pruned_cannot_be_written_again": ForgetsWhatItPruned,
    "test_a_record_with_a_version_after_the_limit_stays_whole": PrunesByTheNewestVersion,
    "test_threads_write_at_once": IsOfOneThread,
    "test_it_works_under_an_event_loop": WritesLater,
    "test_each_version_of_a_call_has_digests_of_its_own": KeepsTheFirstDigests,
    "test_its_key_for_digests_is_one_key": HasTheKeyOfAll,
    "test_flush_and_close_may_come_twice": ClosesOnce,
}


ARGUMENTS = {
    "test_calls_and_charges_group_by_every_dimension": {"dimension": "model"},
    "test_what_is_no_amount_is_refused": {"amount": -1},
}


@pytest.mark.parametrize("name", NAMES)
def test_each_test_of_the_contract_finds_a_fault(name: str):
    """A test that no fault can break would promise nothing."""
    arguments = ARGUMENTS.get(name, {})

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(LedgerContract(), name)(FAULTS[name](), **arguments)
