"""Every error of this package; one ``except FinOpsError`` catches them all.

* FinOpsError                 something this package can say in one sentence
  x BadData                   a file holds lines that cannot be read; all of them are listed
  x BadArguments              arguments that make no sense together
  x MissingExtra              a command needs an optional dependency; names the pip line
  x LedgerError               the ledger cannot be opened, read or written
    + LedgerTooNew            it was written by a newer version of this package
  x PriceError                a price card or price file is wrong
  x EvalError                 an evaluation cannot run or cannot go on
    + RecordingMissing        a replay asked for a call that was never recorded
    + TargetChanged           the target differs from the one that earlier attempts ran on
  x CallRefused               a guard refused a call, tool or step before it was made
    + BudgetExceeded          it would have broken a budget
    + LoopDetected            it would have been one round too many of the same
    + Killed                  somebody pulled the kill switch
    + UnpricedCall            a budget is in dollars, and nobody knows the price
    + RunDrained              the run ends with its superstep, and can be resumed

The refusals need LangGraph's base classes and live in ``langchain_finops.langchain.refusals``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "BadArguments",
    "BadData",
    "EvalError",
    "Fault",
    "FinOpsError",
    "LedgerError",
    "LedgerTooNew",
    "MissingExtra",
    "PriceError",
    "RecordingMissing",
    "TargetChanged",
]


class FinOpsError(Exception):
    """Something this package can say in one sentence, with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in one place of a file."""

    where: str
    """File, and line or field within it, such as ``tasks.jsonl:7`` or ``suite.yaml: scorer.type``."""
    what: str
    """What is wrong there, and what would be right."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class BadData(FinOpsError):
    """A file cannot be used. Lists every fault found, so that one look is enough."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[object, ...]:  # Without it a process pool would rebuild it from the joined text.
        return type(self), (self.faults,)


class BadArguments(FinOpsError):
    """Arguments that make no sense, alone or together."""


class MissingExtra(FinOpsError):
    """An optional dependency is missing."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs an extra: pip install 'langchain-finops[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:  # Without it unpickling calls __init__ with one argument and fails.
        return type(self), (self.what, self.extra)


class LedgerError(FinOpsError):
    """The ledger cannot be opened, read or written."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version of this package."""


class PriceError(FinOpsError):
    """A price card or a price file cannot be used."""


class EvalError(FinOpsError):
    """An evaluation cannot run, or cannot go on."""


class RecordingMissing(EvalError):
    """A replay asked for a call that is not in the recording."""


class TargetChanged(EvalError):
    """The target, suite or data differ from those that the results so far came from."""
