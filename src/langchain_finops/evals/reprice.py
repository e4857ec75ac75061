"""Prices stored attempts again where prices have changed since: answers were paid for, prices are only looked up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_finops.errors import EvalError
from langchain_finops.evals.costs import price_again, tally
from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import AttemptResult, write_attempts
from langchain_finops.evals.resume import Earlier
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["prices_changed", "reprice"]

Priced = CallRecord | ChargeRecord
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
        by_try = _records_by_try(ledger, earlier.run["run_id"])
        attempts = []
        for attempt in earlier.attempts:
            records = by_try.get((attempt.task_id, attempt.try_number), [])
            before = tally(records, {}, None)
            if len(before.calls) != attempt.calls:
                raise EvalError(
                    f"{prepared.folder}: prices have changed, and the ledger {ledger.url} does not have the calls of "
                    f"{attempt.task_id} to price them again; name the run's --ledger, or start anew with --fresh"
                )
            again = [price_again(record, prepared.prices) for record in records]
            ledger.write(*_changed(records, again))
            attempts.append(_with_costs(attempt, prepared, again, was_unknown=before.fields()["cost_usd"] is None))
    finally:
        ledger.close()
    write_attempts(prepared.folder, attempts)
    return replace(earlier, attempts=attempts)


def _records_by_try(ledger: Ledger, run_id: str) -> dict[tuple[str, int], list[Priced]]:
    def all_records() -> Iterator[Priced]:
        yield from ledger.calls(environment="evaluation")
        yield from ledger.charges(environment="evaluation")

    by_try: dict[tuple[str, int], list[Priced]] = {}
    for record in all_records():
        tags = record.attribution.tags
        if tags.get("evaluation_run") == run_id and record.attribution.task_id is not None:
            by_try.setdefault((record.attribution.task_id, int(tags["evaluation_try"])), []).append(record)
    return by_try


def _changed(records: Sequence[Priced], again: Sequence[Priced]) -> list[Priced]:
    """New versions of the records whose price differs."""
    return [
        replace(new, revision=old.revision + 1)
        for old, new in zip(records, again, strict=True)
        if (old.cost_usd, old.card_id) != (new.cost_usd, new.card_id)
    ]


def _with_costs(
    attempt: AttemptResult, prepared: Prepared, again: Sequence[Priced], *, was_unknown: bool
) -> AttemptResult:
    """The try at the new prices. One that may have cost more than its records say stays unknown."""
    sums = tally(again, prepared.books, prepared.cards).fields()
    if attempt.cost_usd is None and not was_unknown:
        sums["cost_usd"] = sums["contracted_usd"] = sums["billed_usd"] = None
        sums["costs_by_card"] = dict.fromkeys(prepared.books)
        sums["unpriced_calls"] += 1
    return replace(attempt, **sums)
