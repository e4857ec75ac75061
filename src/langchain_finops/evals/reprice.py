"""Prices stored attempts again where prices have changed since: answers were paid for, prices are only looked up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from langchain_finops.errors import EvalError
from langchain_finops.evals.costs import price_again, tally, total_usd
from langchain_finops.evals.journal import Journal
from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import Verdict, write_attempts, write_verdicts
from langchain_finops.evals.resume import Earlier
from langchain_finops.evals.stock import Priced, find_judgings, find_tries, key_of, runs_of
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.pricing import PriceBook
from langchain_finops.records import CallRecord

__all__ = ["priced_now", "prices_changed", "reprice"]

K = TypeVar("K")

PRICED = (
    *("cost_usd", "contracted_usd", "billed_usd", "meter_usd"),
    *("billing_mode", "cost_status", "reasons", "card_id"),
)
"""Fields of a record that prices decide."""
PRICES = ("cards", "price_book_hashes")
"""What `run.json` tells of the prices: the set that was chosen, and the hash of each book."""


def prices_changed(earlier: Earlier, manifest: Mapping[str, Any]) -> bool:
    """Whether what is on file was priced by other cards, or by another catalogue, than this run prices by."""
    return earlier.run is not None and any(earlier.run[name] != manifest[name] for name in PRICES)


def reprice(prepared: Prepared, earlier: Earlier) -> Earlier:
    """Price every stored try again, from its calls in the ledger, which keeps the old figures as history.

    Raises EvalError where the ledger does not have the calls.
    """
    assert earlier.run is not None, "there is nothing to price before the first run"
    ledger = open_ledger(prepared.ledger)
    try:
        by_try = find_tries(ledger, runs_of(earlier.run))
        for attempt in earlier.attempts:  # All of them before anything is written: half a change would be a mixture.
            if len(tally(by_try.get(key_of(attempt), []), {}, None).calls) != attempt.calls:
                raise _gone(prepared, ledger, attempt.task_id)
        verdicts = _verdicts_again(prepared, earlier, ledger)
        attempts = []
        for attempt in earlier.attempts:
            records = by_try.get(key_of(attempt), [])
            again = [price_again(record, prepared.prices) for record in records]
            ledger.write(*_changed(records, again))
            sums = tally(again, prepared.books, prepared.cards).fields(in_the_dark=attempt.in_the_dark)
            attempts.append(replace(attempt, **sums))
    finally:
        ledger.close()
    write_attempts(prepared.folder, attempts)
    if verdicts != earlier.verdicts:
        write_verdicts(prepared.folder, verdicts)
    return replace(earlier, attempts=attempts, verdicts=verdicts)


def _verdicts_again(prepared: Prepared, earlier: Earlier, ledger: Ledger) -> list[Verdict]:
    """All verdicts, their judges' calls at the prices of now."""
    if not any(verdict.calls for verdict in earlier.verdicts):
        return earlier.verdicts
    assert earlier.run is not None, "there is nothing to price before the first run"
    calls = {key.judging_id: records for key, records in find_judgings(ledger, runs_of(earlier.run)).items()}
    again: list[Verdict] = []
    changed: list[Priced] = []
    for verdict in earlier.verdicts:
        mine = [record for record in calls.get(verdict.judging_id or "", ()) if isinstance(record, CallRecord)]
        if len(mine) != verdict.calls:
            raise _gone(prepared, ledger, f"scorer {verdict.scorer!r} on task {verdict.task!r}")
        new = [price_again(record, prepared.prices) for record in mine]
        changed += _changed(mine, new)
        whole, known = total_usd(record.cost_usd for record in new)
        # One that may have cost more than its calls tell does so at any price.
        unknown = verdict.cost_usd is None and all(record.cost_usd is not None for record in mine)
        again.append(replace(verdict, cost_usd=None if unknown else whole, known_usd=known) if mine else verdict)
    ledger.write(*changed)
    return again


async def priced_now(found: Mapping[K, Sequence[Priced]], prices: PriceBook, journal: Journal) -> dict[K, list[Priced]]:
    """What a crash kept from every line, at the prices of now; the ledger gets new versions of what differs.

    A crash may have come before prices changed, or between their change and the lines: no line tells of it.
    """
    again = {key: [price_again(record, prices) for record in records] for key, records in found.items()}
    if changed := [record for key, records in found.items() for record in _changed(records, again[key])]:
        await journal.keep(records=changed)
    return again


def _gone(prepared: Prepared, ledger: Ledger, whose: str) -> EvalError:
    return EvalError(
        f"{prepared.folder}: prices have changed, and the ledger {ledger.url} does not have the calls of {whose} to "
        "price them again; name the run's --ledger, or start anew with --fresh"
    )


def _changed(records: Sequence[Priced], again: Sequence[Priced]) -> list[Priced]:
    """New versions of the records whose price differs."""
    return [
        replace(new, revision=old.revision + 1)
        for old, new in zip(records, again, strict=True)
        if any(getattr(old, name, None) != getattr(new, name, None) for name in PRICED)
    ]
