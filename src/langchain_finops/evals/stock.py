"""Finds an evaluation's calls in a ledger: by the harness's own tags, whatever the target's metadata says."""

import json
from collections.abc import Iterator
from datetime import datetime

from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.results import AttemptResult
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["Priced", "TryKey", "find_tries", "key_of", "tags_of"]

Priced = CallRecord | ChargeRecord

TryKey = tuple[tuple[str, str, int], int, str, str, str]
"""Slot, try number, and the hashes of the item's inputs, of the configuration and of the target's code."""


def tags_of(run_id: str, trial: Trial, try_number: int, fingerprint: str) -> dict[str, str]:
    """The tags of every call of a try. Those that must be found again begin with `evaluation_`: no target has them."""
    return {
        "configuration": trial.configuration.name,
        "item": trial.item.id,
        "repeat": str(trial.repeat),
        "evaluation_run": run_id,
        "evaluation_slot": json.dumps(trial.slot),
        "evaluation_try": str(try_number),
        "evaluation_hashes": " ".join((trial.item.inputs_hash, trial.configuration.hash, fingerprint)),
    }


def key_of(attempt: AttemptResult) -> TryKey:
    """What tells a stored try from all others."""
    hashes = attempt.item_hash, attempt.configuration_hash, attempt.fingerprint
    return attempt.slot, attempt.try_number, *hashes


def find_tries(ledger: Ledger, run_id: str, *, since: datetime | None = None) -> dict[TryKey, list[Priced]]:
    """Calls and charges of a run, by try."""

    def records() -> Iterator[Priced]:
        yield from ledger.calls(since=since)
        yield from ledger.charges(since=since)

    found: dict[TryKey, list[Priced]] = {}
    for record in records():
        tags = record.attribution.tags
        if tags.get("evaluation_run") == run_id and "evaluation_slot" in tags:
            configuration, item, repeat = json.loads(tags["evaluation_slot"])
            inputs, parameters, target = tags["evaluation_hashes"].split(" ")
            slot = (configuration, item, repeat)
            found.setdefault((slot, int(tags["evaluation_try"]), inputs, parameters, target), []).append(record)
    return found
