"""A ledger's counters and budgets for Prometheus, read anew at each scrape.

Amounts are exact until here: Prometheus takes floats, so what it shows is right to 15 digits. The ledger has the cents.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from langchain_finops.budgets.outside import BUDGET, kept_budgets
from langchain_finops.budgets.policy import Budget
from langchain_finops.errors import BadArguments, MissingExtra
from langchain_finops.exports.budgets import standings
from langchain_finops.exports.ledger_counters import LedgerCounters
from langchain_finops.exports.names import COUNTERS, GAUGES, READABLE, Metric
from langchain_finops.ledger.base import Ledger
from langchain_finops.money import from_pico

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

__all__ = ["LedgerCollector", "serving"]

log = logging.getLogger("langchain_finops")

LABELS: Final = ("agent", "node", "model")
BUDGET_LABELS: Final = ("budget", "unit")


class LedgerCollector:
    """What prometheus_client asks at each scrape: `registry.register(LedgerCollector(ledger))`.

    Raises MissingExtra without prometheus-client.
    """

    def __init__(self, ledger: Ledger, budgets: Callable[[], Iterable[Budget]] = tuple) -> None:
        """`budgets`: those of a policy file; those that are set on the ledger are read with it."""
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise MissingExtra("a Prometheus endpoint", "prometheus") from error
        self._ledger, self._budgets = ledger, budgets
        self._counters = LedgerCounters(ledger)
        self._said = False

    def describe(self) -> "Iterable[Family]":
        """Nothing: without it registering would read the whole ledger."""
        return ()

    def collect(self) -> "Iterator[Family]":
        """All metrics; only that there are none where the ledger cannot be read."""
        from prometheus_client.core import GaugeMetricFamily

        assert READABLE.prometheus is not None
        readable = GaugeMetricFamily(READABLE.prometheus, READABLE.meaning)
        counters, budgets = self._read(self._of_counters), self._read(self._of_budgets)
        readable.add_metric((), float(bool(counters)))
        return iter((readable, *counters, *budgets))

    def _read(self, of: "Callable[[], Iterator[Family]]") -> "list[Family]":
        """None where they cannot be read: a scrape must not take the others with it, and the next may do better."""
        try:
            return list(of())
        except Exception as error:  # noqa: BLE001  Whatever it is, old figures would be a lie, and so would noughts.
            if not self._said:
                self._said = True
                log.warning("figures for Prometheus cannot be read: %s", error)
            return []

    def _of_counters(self) -> "Iterator[Family]":
        from prometheus_client.core import CounterMetricFamily

        series = self._counters.look()
        for name, metric in COUNTERS.items():
            assert metric.prometheus is not None
            family = CounterMetricFamily(metric.prometheus, metric.meaning, labels=LABELS)
            for labels, counts in series.items():
                # Noughts, too: what shows up with a value has grown by nothing, as Prometheus sees it.
                family.add_metric(labels, _float(counts.get(name, 0), metric))
            yield family

    def _of_budgets(self) -> "Iterator[Family]":
        from prometheus_client.core import GaugeMetricFamily

        budgets = {"ledger": kept_budgets(self._ledger.controls(BUDGET), []), "policy file": list(self._budgets())}
        known = any(budgets.values())
        found = standings(self._ledger.balances(), budgets, datetime.now(UTC)) if known else {}
        for name, metric in GAUGES.items():
            assert metric.prometheus is not None
            family = GaugeMetricFamily(metric.prometheus, metric.meaning, labels=BUDGET_LABELS)
            for one in found.values():
                family.add_metric((one.budget, one.unit), float(getattr(one, name)))
            yield family


def _float(count: int, metric: Metric) -> float:
    return float(from_pico(count)) if metric.unit == "USD" else float(count)


@contextmanager
def serving(collector: LedgerCollector, *, host: str, port: int) -> Iterator[tuple[str, int]]:
    """Serve `/metrics` in a thread; its host and port. Raises BadArguments for an address that is not to be had."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadArguments(f"--host {host} --port {port}: {error.strerror}; choose another.") from error
    try:
        yield host, int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
