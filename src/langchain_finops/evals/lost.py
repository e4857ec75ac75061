"""Finds tries that a crash ended: they began, or have calls in the ledger, and no line among the attempts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.results import AttemptResult, TryKey
from langchain_finops.evals.stock import Priced, find_tries, key_of
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import CallRecord

__all__ = ["Lost", "find_lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What a crash left of tries whose slots are still to be answered."""

    tries: Sequence[tuple[TryKey, Trial]]
    """Oldest number first."""
    records: Mapping[TryKey, Sequence[Priced]] = field(default_factory=dict)
    """Their calls and charges; none of a try that was killed before its first call ended."""

    @property
    def paid(self) -> Sequence[tuple[TryKey, Trial]]:
        """Those of items and configurations as they are now."""
        return [
            (key, trial) for key, trial in self.tries if key[2:4] == (trial.item.inputs_hash, trial.configuration.hash)
        ]

    def calls_of(self, trials: Iterable[Trial]) -> dict[tuple[str, str, int], set[datetime]]:
        """When the calls of earlier tries began, by slot, of items and configurations as they are now."""
        hashes = {trial.slot: (trial.item.inputs_hash, trial.configuration.hash) for trial in trials}
        began: dict[tuple[str, str, int], set[datetime]] = {}
        for (slot, _, *of), records in self.records.items():
            if hashes.get(slot) == tuple(of[:2]):
                calls = (record.started_at for record in records if isinstance(record, CallRecord))
                began.setdefault(slot, set()).update(calls)
        return began

    def of_other_code(self, fingerprint: str) -> int:
        """How many of them other code of the target made."""
        return sum(key[4] != fingerprint for key, _ in self.paid)


def find_lost(
    ledger: Ledger,
    runs: Iterable[str],
    attempts: Iterable[AttemptResult],
    begun: Iterable[TryKey],
    pending: Iterable[Trial],
    *,
    since: datetime | None,
) -> Lost:
    """The tries of these runs that have no line, of slots that are pending."""
    found = find_tries(ledger, runs, since=since)
    known = {key_of(result) for result in attempts}
    waiting = {trial.slot: trial for trial in pending}
    keys = sorted((found.keys() | set(begun)) - known)
    return Lost(tries=[(key, waiting[key[0]]) for key in keys if key[0] in waiting], records=found)
