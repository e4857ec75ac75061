"""Finds an evaluation's calls in a ledger: by the harness's own tags, whatever the target's metadata says."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.results import AttemptResult, TryKey
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = ["Priced", "TryKey", "find_tries", "key_of", "runs_of", "tags_of"]

Priced = CallRecord | ChargeRecord


def tags_of(run_id: str, trial: Trial, try_number: int, hashes: tuple[str, str, str]) -> dict[str, str]:
    """The tags of every call of a try. Those that must be found again begin with `evaluation_`: no target has them."""
    return {
        "configuration": trial.configuration.name,
        "item": trial.item.id,
        "repeat": str(trial.repeat),
        "evaluation_run": run_id,
        "evaluation_slot": json.dumps(trial.slot),
        "evaluation_try": str(try_number),
        "evaluation_hashes": " ".join(hashes),
    }


def key_of(attempt: AttemptResult) -> TryKey:
    """What tells a stored try from all others."""
    hashes = attempt.item_hash, attempt.configuration_hash, attempt.fingerprint
    return attempt.slot, attempt.try_number, *hashes


def runs_of(run: Mapping[str, Any]) -> list[str]:
    """Ids under which the ledger knows a run's calls: its own, and those of the runs it was merged from."""
    return [run["run_id"], *run.get("merged", ())]


def find_tries(ledger: Ledger, runs: Iterable[str], *, since: datetime | None = None) -> dict[TryKey, list[Priced]]:
    """Calls and charges of runs, by try."""
    ids = set(runs)

    def records() -> Iterator[Priced]:
        yield from ledger.calls(since=since)
        yield from ledger.charges(since=since)

    found: dict[TryKey, list[Priced]] = {}
    for record in records():
        tags = record.attribution.tags
        if tags.get("evaluation_run") in ids and "evaluation_slot" in tags:
            configuration, item, repeat = json.loads(tags["evaluation_slot"])
            inputs, parameters, target = tags["evaluation_hashes"].split(" ")
            slot = (configuration, item, repeat)
            found.setdefault((slot, int(tags["evaluation_try"]), inputs, parameters, target), []).append(record)
    return found
