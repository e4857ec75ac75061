"""Finds an evaluation's calls in a ledger: by the harness's own tags, whatever the target's metadata says."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.results import AttemptResult, JudgingKey, TryKey
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import CallRecord, ChargeRecord

__all__ = [
    "JudgingKey",
    "Priced",
    "TryKey",
    "find_judgings",
    "find_tries",
    "judging_tags_of",
    "key_of",
    "runs_of",
    "tags_of",
]

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


def judging_tags_of(run_id: str, attempt: AttemptResult, key: JudgingKey) -> dict[str, str]:
    """The tags of every call of a judge: those of none of the target's."""
    return {
        "configuration": attempt.configuration,
        "item": attempt.task,
        "repeat": str(attempt.repeat),
        "scorer": key.scorer,
        "evaluation_run": run_id,
        "evaluation_judging": json.dumps(key),
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
    found: dict[TryKey, list[Priced]] = {}
    for record in _tagged(ledger, runs, "evaluation_slot", since):
        tags = record.attribution.tags
        configuration, item, repeat = json.loads(tags["evaluation_slot"])
        inputs, parameters, target = tags["evaluation_hashes"].split(" ")
        slot = (configuration, item, repeat)
        found.setdefault((slot, int(tags["evaluation_try"]), inputs, parameters, target), []).append(record)
    return found


def find_judgings(ledger: Ledger, runs: Iterable[str]) -> dict[JudgingKey, list[Priced]]:
    """Calls and charges of runs' judges, by the time of asking, in the order in which they ended."""
    found: dict[JudgingKey, list[Priced]] = {}
    # Of all times: in a replayed run that is scored live, calls may have begun before the run was made, or after.
    for record in _tagged(ledger, runs, "evaluation_judging", None):
        key = JudgingKey.read(json.loads(record.attribution.tags["evaluation_judging"]))
        found.setdefault(key, []).append(record)
    for records in found.values():
        records.sort(key=_ended_at)
    return found


def _ended_at(record: Priced) -> datetime:
    return record.ended_at if isinstance(record, CallRecord) else record.at


def _tagged(ledger: Ledger, runs: Iterable[str], tag: str, since: datetime | None) -> Iterator[Priced]:
    ids = set(runs)
    for records in (ledger.calls(since=since), ledger.charges(since=since)):
        for record in records:
            tags = record.attribution.tags
            if tags.get("evaluation_run") in ids and tag in tags:
                yield record
