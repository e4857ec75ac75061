"""OpenTelemetry: metrics of cost, tokens and budgets, and cost on the span that is current. No spans of our own.

Amounts are exact until here: OpenTelemetry takes floats, so what it shows is right to 15 digits. The ledger has the
cents.
"""

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from langchain_finops.errors import MissingExtra
from langchain_finops.exports.budgets import Standing, standings
from langchain_finops.exports.names import BAGGAGE, COUNTERS, GAUGES, HISTOGRAM, LABELS, RUNS, SPAN
from langchain_finops.exports.tallies import MOST_SERIES, OTHER, amounts_of
from langchain_finops.money import EXACT
from langchain_finops.records import CallRecord, ChargeRecord, RunRecord

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

    from langchain_finops.langchain.handler import FinOpsHandler

__all__ = ["OpenTelemetryMetrics", "metadata_from_baggage"]

BOUNDARIES: Final = [1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]
"""Dollars a call: from a thousandth of a cent to $10. The SDK's own begin at $5."""
Attributes = dict[str, str]


class OpenTelemetryMetrics:
    """Tells OpenTelemetry of what a handler records: `OpenTelemetryMetrics().observe(handler)`.

    Metrics go to the global meter provider unless one is given. Raises MissingExtra without OpenTelemetry.
    """

    def __init__(self, meter_provider: "MeterProvider | None" = None) -> None:
        """`meter_provider`: where instruments are made; None: the global one."""
        try:
            from opentelemetry import baggage, metrics, trace
        except ImportError as error:
            raise MissingExtra("OpenTelemetryMetrics", "otel") from error
        self._baggage, self._trace, self._observation = baggage, trace, metrics.Observation
        meter = metrics.get_meter("langchain_finops", meter_provider=meter_provider)
        self._counters = {
            name: meter.create_counter(metric.otel, metric.unit, metric.meaning)
            for name, metric in COUNTERS.items()
            if metric.otel is not None
        }
        assert RUNS.otel is not None
        assert HISTOGRAM.otel is not None
        self._runs = meter.create_counter(RUNS.otel, RUNS.unit, RUNS.meaning)
        advice: dict[str, Any] = {}
        if "explicit_bucket_boundaries_advisory" in inspect.signature(meter.create_histogram).parameters:
            advice["explicit_bucket_boundaries_advisory"] = BOUNDARIES
        self._histogram = meter.create_histogram(HISTOGRAM.otel, HISTOGRAM.unit, HISTOGRAM.meaning, **advice)
        self._observed = _observed_for(meter_provider)
        for name, metric in GAUGES.items():
            if metric.otel is not None:
                meter.create_observable_gauge(metric.otel, [self._reader(name)], metric.unit, metric.meaning)
        self._series: set[tuple[tuple[str, str], ...]] = set()
        self._on_spans: WeakKeyDictionary[Any, _OnSpan] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def observe(self, handler: "FinOpsHandler") -> "FinOpsHandler":
        """Tell of everything that the handler records from now on, and of its budgets; the handler."""
        handler.observe(self)
        self._observed.add(handler)
        return handler

    def __call__(self, record: CallRecord | ChargeRecord | RunRecord, before: CallRecord | None) -> None:
        """Count a record, in place of the version that it supersedes."""
        if isinstance(record, RunRecord):
            self._runs.add(1, self._bounded({**self._names(record), LABELS.status: record.status}))
            return
        if before is not None:
            self._add(before, sign=-1)
        self._add(record, sign=1)
        if isinstance(record, CallRecord):
            if before is None and record.cost_usd is not None:
                self._histogram.record(float(record.cost_usd), self._bounded(self._names(record)))
            self._mark_span(record, before)

    # --- metrics -------------------------------------------------------------------------------------------------

    def _add(self, record: CallRecord | ChargeRecord, *, sign: int) -> None:
        names = self._bounded(self._names(record))
        for name, amount in amounts_of(record, sign=sign).items():
            if amount:
                self._counters[name].add(float(amount) if isinstance(amount, Decimal) else amount, names)

    def _names(self, record: CallRecord | ChargeRecord | RunRecord) -> Attributes:
        who = record.attribution
        named: dict[str, str | None] = {
            LABELS.agent: who.agent_id,
            LABELS.node: who.node_path,
            LABELS.team: who.tags.get("team") or self._from_baggage("team"),
        }
        if isinstance(record, CallRecord):
            named |= {
                LABELS.operation: "chat",
                LABELS.provider: record.provider,
                LABELS.model: record.model,
                LABELS.requested_model: record.requested_model,
                LABELS.source: _source(record),
            }
        if isinstance(record, CallRecord | ChargeRecord) and record.error is not None:
            named[LABELS.error] = record.error.error_class
        return {name: value for name, value in named.items() if value is not None}

    def _bounded(self, names: Attributes) -> Attributes:
        """The same, or of one series too many the one of all others: a name for each task would never end."""
        key = tuple(names.items())
        with self._lock:
            if key in self._series:
                return names
            if len(self._series) < MOST_SERIES:
                self._series.add(key)
                return names
        return dict.fromkeys(names, OTHER)

    def _from_baggage(self, what: str) -> str | None:
        value = self._baggage.get_baggage(BAGGAGE[what])
        return None if value is None else str(value)

    # --- spans ---------------------------------------------------------------------------------------------------

    def _mark_span(self, call: CallRecord, before: CallRecord | None) -> None:
        """Put what the calls in the current span cost so far on it. A call's own answer, come late, finds it gone."""
        span = self._trace.get_current_span()
        if before is not None or not span.is_recording():
            return
        with self._lock:
            sums = self._on_spans.setdefault(span, _OnSpan())
            sums.add(call)
            marks = sums.marks()
        who = call.attribution
        people = {
            SPAN.user: who.user_id or self._from_baggage("user_id"),
            SPAN.task: who.task_id or self._from_baggage("task_id"),
            SPAN.team: who.tags.get("team") or self._from_baggage("team"),
        }
        span.set_attributes({**marks, **{name: value for name, value in people.items() if value is not None}})

    # --- budgets -------------------------------------------------------------------------------------------------

    def _reader(self, name: str) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        def read(_: "CallbackOptions") -> "Iterable[Observation]":
            return [
                self._observation(float(getattr(one, name)), {LABELS.budget: one.budget, LABELS.unit: one.unit})
                for one in self._observed.standings()
            ]

        return read


class _Observed:
    """The handlers whose budgets a meter provider shows, as long as they live; safe between threads."""

    def __init__(self) -> None:
        self._handlers: WeakKeyDictionary[FinOpsHandler, None] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def add(self, handler: "FinOpsHandler") -> None:
        with self._lock:
            self._handlers[handler] = None

    def standings(self) -> Iterable[Standing]:
        """Each budget once, by its name and unit: of those named alike the fullest, since no label tells them apart."""
        with self._lock:
            handlers = list(self._handlers)
        fullest: dict[tuple[str, str], Standing] = {}
        for handler in handlers:
            try:
                found = list(_standings(handler))
            except Exception as error:  # noqa: BLE001  A ledger that cannot be read has no figures, and harms nobody.
                handler.note_fault(error)
                continue
            for one in found:
                known = fullest.setdefault((one.budget, one.unit), one)
                if one.share > known.share:
                    fullest[one.budget, one.unit] = one
        return fullest.values()


_OF_GLOBAL: Final = _Observed()
_OF_GIVEN: Final[WeakKeyDictionary[Any, _Observed]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def _observed_for(provider: "MeterProvider | None") -> _Observed:
    """One for all who tell a provider: it makes each gauge once, and drops what a second one would show."""
    if provider is None:
        return _OF_GLOBAL
    with _LOCK:
        return _OF_GIVEN.setdefault(provider, _Observed())


class _OnSpan:
    """What the calls that ended in a span came to."""

    __slots__ = ("calls", "sources", "unpriced", "usd")

    def __init__(self) -> None:
        self.calls = self.unpriced = 0
        self.usd = Decimal(0)
        self.sources: set[str] = set()

    def add(self, call: CallRecord) -> None:
        self.calls += 1
        if call.cost_usd is None:
            self.unpriced += 1
            return
        self.usd = EXACT.add(self.usd, call.cost_usd)
        self.sources.add(_source(call))

    def marks(self) -> dict[str, str | int | float]:
        """Attributes; no amount as long as no price is known."""
        marks: dict[str, str | int | float] = {SPAN.calls: self.calls}
        if self.unpriced:
            marks[SPAN.unpriced] = self.unpriced
        if self.sources:
            # Where both say something, part of the sum is our own.
            source = "local" if "local" in self.sources else "provider"
            marks |= {SPAN.amount: float(self.usd), SPAN.currency: "USD", SPAN.source: source}
        return marks


def _source(call: CallRecord) -> str:
    return "provider" if call.cost_status == "reported" else "local"


def _standings(handler: "FinOpsHandler") -> Iterator[Standing]:
    limits = handler.recorder.meter.guard.accounts.limits
    budgets = {id(each.limit.budget): each.limit.budget for each in limits if not each.is_own}
    if budgets:
        yield from standings(handler.ledger.balances(), {"handler": budgets.values()}, datetime.now(UTC)).values()


def metadata_from_baggage() -> dict[str, Any]:
    """User, task and team of OpenTelemetry's baggage, as a run's metadata: `{"metadata": metadata_from_baggage()}`.

    Raises MissingExtra without OpenTelemetry.
    """
    try:
        from opentelemetry import baggage
    except ImportError as error:
        raise MissingExtra("metadata_from_baggage()", "otel") from error
    found = {what: str(value) for what, name in BAGGAGE.items() if (value := baggage.get_baggage(name)) is not None}
    team = found.pop("team", None)
    return {**found, **({} if team is None else {"tags": {"team": team}})}
