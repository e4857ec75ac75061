"""How far a run is: attempts done, money spent, and what all of it will come to."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from langchain_finops.evals.matrix import Trial
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.money import sum_usd

__all__ = ["Forecast", "Observer", "Progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    errors: int
    """Slots that ended in an error, this time."""
    known_usd: Decimal
    """List cost of this time's tries and verdicts, as far as it is known."""
    forecast_usd: Decimal | None = None
    """What they will have cost when all is done; None before anything is known of a configuration that is waiting."""


Observer = Callable[[Progress], None]


class Forecast:
    """What is still to be done, at what a slot of its configuration has cost on average."""

    def __init__(self, pending: Iterable[Trial]) -> None:
        self._left = Counter(trial.configuration.name for trial in pending)
        self._slots: Counter[str] = Counter()
        self._usd: dict[str, Decimal] = {}

    def begin(self, attempts: Iterable[AttemptResult], verdicts: Iterable[Verdict]) -> None:
        """Learn from what is on file."""
        rows: list[AttemptResult | Verdict] = [*attempts, *verdicts]
        for row in rows:
            self.spent(row.configuration, row.known_usd)
        for configuration in {row.slot: row.configuration for row in rows}.values():
            self._slots[configuration] += 1

    def spent(self, configuration: str, usd: Decimal) -> None:
        """A try or a verdict has cost this."""
        self._usd[configuration] = sum_usd([self._usd.get(configuration, Decimal(0)), usd])

    def done(self, configuration: str) -> None:
        """A slot is through."""
        self._slots[configuration] += 1
        self._left[configuration] -= 1

    def total(self, spent_usd: Decimal) -> Decimal | None:
        """What is spent, and what is still to come; None where nothing is known of a configuration."""
        total = spent_usd
        for configuration, left in self._left.items():
            if left <= 0:
                continue
            if not self._slots[configuration]:
                return None
            total += self._usd.get(configuration, Decimal(0)) * left / self._slots[configuration]
        return total
