"""Prices stored attempts again where prices have changed since: answers were paid for, prices are only looked up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_finops.errors import EvalError
from langchain_finops.evals.costs import price_again, tally
from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import write_attempts
from langchain_finops.evals.resume import Earlier
from langchain_finops.evals.stock import Priced, find_tries, key_of, runs_of
from langchain_finops.ledger import open_ledger

__all__ = ["prices_changed", "reprice"]

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
                raise EvalError(
                    f"{prepared.folder}: prices have changed, and the ledger {ledger.url} does not have the calls of "
                    f"{attempt.task_id} to price them again; name the run's --ledger, or start anew with --fresh"
                )
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
    return replace(earlier, attempts=attempts)


def _changed(records: Sequence[Priced], again: Sequence[Priced]) -> list[Priced]:
    """New versions of the records whose price differs."""
    return [
        replace(new, revision=old.revision + 1)
        for old, new in zip(records, again, strict=True)
        if any(getattr(old, name, None) != getattr(new, name, None) for name in PRICED)
    ]
