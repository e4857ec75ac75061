"""The handler of one test: meters what it calls, holds its limits, and tells what it came to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Literal

from langchain_finops import Budget
from langchain_finops.clock import CALL_CLOCK, CallClock
from langchain_finops.errors import MissingExtra
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.ledger.summary import show_usd
from langchain_finops.ledger.totals import Totals
from langchain_finops.money import from_pico, usd

__all__ = ["Metered", "metered"]

Figures = dict[str, str | int | None]


class Metered(FinOpsHandler):
    """A handler that a test asks what it cost. Everything counts, whatever the test caught or threw away."""

    limits: dict[str, Decimal]

    @property
    def totals(self) -> Totals:
        """Sums over all calls and charges so far."""
        groups = self.ledger.totals(())
        return groups[0].totals if groups else Totals()

    @property
    def cost_usd(self) -> Decimal | None:
        """List cost of all calls and charges; None where the price of any is unknown, which is not the same as free."""
        totals = self.totals
        if totals.unpriced or totals.charges_unpriced:
            return None
        return self.known_usd

    @property
    def known_usd(self) -> Decimal:
        """The part of the list cost whose price is known."""
        return from_pico(self.totals.cost_pico + self.totals.charge_pico)

    @property
    def calls(self) -> int:
        """Model calls, failed ones too."""
        return self.totals.calls

    @property
    def steps(self) -> int:
        """Node executions at any depth, of all runs that have ended."""
        return sum(run.steps for run in self.ledger.runs())

    def assert_under(
        self, *, usd: "Decimal | str | float | None" = None, steps: int | None = None, calls: int | None = None
    ) -> None:
        """Fail unless all stay within these, inclusive. A cost that is not known is not under anything."""
        said = self._beyond({"max_usd": usd, "max_steps": steps, "max_calls": calls})
        if said:
            raise AssertionError("; ".join(said))

    def check(self) -> None:
        """Fail where the marker's limits were passed, or stopped a run and the test took no notice."""
        said = self._beyond(self.limits)
        stops = [run.stop_reason for run in self.ledger.runs() if run.status in ("stopped", "interrupted")]
        said += [f"a run was stopped by {reason}" for reason in stops if reason and "marker max_" in reason]
        if said:
            raise AssertionError("@pytest.mark.finops: " + "; ".join(dict.fromkeys(said)))

    def figures(self) -> Figures:
        """What the session's summary tells of the test."""
        totals = self.totals
        return {
            "calls": totals.calls,
            "charges": totals.charges,
            "unpriced": totals.unpriced + totals.charges_unpriced,
            "estimated": totals.estimated,
            "known_usd": str(self.known_usd),
            "billed_usd": str(from_pico(totals.billed_pico + totals.charge_pico)),
        }

    @contextmanager
    def recorded(self, path: Path, name: str, record_mode: Literal["none", "once", "all"]) -> Iterator[None]:
        """Play the model calls that are made within from a file, or record them there."""
        try:
            from langchain_finops.evals.recorded import Slot
            from langchain_finops.evals.replay import Recording
        except ImportError as error:
            raise MissingExtra("@pytest.mark.finops(recording=True)", "eval") from error
        if record_mode == "all":
            path.unlink(missing_ok=True)
        with Recording(path, "replay" if record_mode == "none" else "record") as recording:
            token = CALL_CLOCK.set(CallClock())
            try:
                with recording.slot(Slot("pytest", name, 0)):
                    yield
            finally:
                CALL_CLOCK.reset(token)

    def _beyond(self, limits: Mapping[str, object]) -> list[str]:
        said: list[str] = []
        if (most := limits.get("max_usd")) is not None:
            limit, unknown = usd(str(most)), self.totals.unpriced + self.totals.charges_unpriced
            if self.known_usd > limit:
                said.append(f"cost {show_usd(self.known_usd)}, more than {show_usd(limit)}")
            elif unknown:
                known = show_usd(self.known_usd)
                said.append(f"cost at least {known}: the price of {unknown} of its calls and charges is unknown")
        for name, value in (("max_steps", self.steps), ("max_calls", self.calls)):
            if (most := limits.get(name)) is not None and value > Decimal(str(most)):
                said.append(f"{value} {name.removeprefix('max_')}, more than {most}")
        return said


def metered(test: str, *, max_usd: object = None, max_steps: object = None, max_calls: object = None) -> Metered:
    """A handler for a test, its limits held over all its runs together."""
    given = {"usd": ("max_usd", max_usd), "steps": ("max_steps", max_steps), "llm_calls": ("max_calls", max_calls)}
    budgets = [
        Budget(**{unit: str(value) if unit == "usd" else value}, scope="all", name=f"marker {name}")  # type: ignore[arg-type]
        for unit, (name, value) in given.items()
        if value is not None
    ]
    handler = Metered(agent_id="pytest", task_id=test, environment="test", budgets=budgets, ledger=":memory:")
    handler.limits = {name: Decimal(str(value)) for name, value in given.values() if value is not None}
    return handler
