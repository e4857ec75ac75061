"""OpenTelemetry in real graphs: metrics by the SDK's in-memory reader, attributes by its in-memory exporter."""

import gc
import inspect
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry import baggage, context
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_finops import Budget, FinOpsHandler
from langchain_finops.errors import MissingExtra
from langchain_finops.exports.names import COUNTERS, GAUGES, HISTOGRAM, LABELS, METRICS, RUNS, SPAN
from langchain_finops.exports.otel import OpenTelemetryMetrics, metadata_from_baggage
from langchain_finops.exports.tallies import MOST_SERIES, amounts_of
from langchain_finops.testing.records import MONDAY, a_call, a_charge

# 1,000 tokens at $2 and 100 at $8 a million: gpt-4.1 costs $0.0028 a call.
USAGE = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}
CALL_USD = Decimal("0.0028")


class Metrics:
    """What the SDK has collected, by name and attributes."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def points(self, name):
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def sum(self, key):
        return sum(point.value for point in self.points(COUNTERS[key].otel))


@pytest.fixture
def metrics():
    made = Metrics()
    yield made
    made.provider.shutdown()


@pytest.fixture
def spans():
    """A tracer and what it has exported."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def graph_of(calls=2, model_name="gpt-4.1"):
    """A graph whose node asks a scripted model so many times."""
    answer = AIMessage("yes", response_metadata={"model_name": model_name}, usage_metadata=USAGE)
    model = GenericFakeChatModel(
        messages=iter([answer] * 99), metadata={"ls_provider": "openai", "ls_model_name": model_name}
    )

    def ask(state):
        return {"messages": [model.invoke(state["messages"]) for _ in range(calls)]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder.compile(name="support")


def ask(handler, graph, **metadata):
    graph.invoke({"messages": [("user", "hello")]}, {"callbacks": [handler], "metadata": metadata})


def test_a_graph_is_counted_by_agent_node_and_model(metrics):
    """Two calls of $0.0028: calls, tokens, cost, histogram, run; each with the names of whom and what, and no user."""
    handler = OpenTelemetryMetrics(metrics.provider).observe(FinOpsHandler(ledger=":memory:"))
    ask(handler, graph_of(), user_id="ada", task_id="t-1", tags={"team": "cx"})

    (calls,) = metrics.points(COUNTERS["calls"].otel)
    assert calls.value == 2
    assert dict(calls.attributes) == {
        LABELS.agent: "support",
        LABELS.node: "ask",
        LABELS.team: "cx",
        LABELS.operation: "chat",
        LABELS.provider: "openai",
        LABELS.model: "gpt-4.1",
        LABELS.requested_model: "gpt-4.1",
        LABELS.source: "local",
    }
    assert (metrics.sum("input_tokens"), metrics.sum("output_tokens")) == (2_000, 200)
    assert metrics.sum("cost") == pytest.approx(float(2 * CALL_USD), rel=1e-12)
    assert metrics.sum("billed") == pytest.approx(float(2 * CALL_USD), rel=1e-12)
    (histogram,) = metrics.points(HISTOGRAM.otel)
    assert (histogram.count, histogram.sum) == (2, pytest.approx(0.0056))
    (run,) = metrics.points(RUNS.otel)
    assert (run.value, run.attributes[LABELS.status]) == (1, "completed")
    assert handler.faults == 0


@pytest.mark.skipif(
    "explicit_bucket_boundaries_advisory" not in inspect.signature(Meter.create_histogram).parameters,
    reason="this OpenTelemetry takes boundaries from views only",
)
def test_the_histogram_tells_cents_apart(metrics):
    """The SDK's own first boundary above nothing is $5, which no call reaches."""
    handler = OpenTelemetryMetrics(metrics.provider).observe(FinOpsHandler(ledger=":memory:"))
    ask(handler, graph_of())
    (histogram,) = metrics.points(HISTOGRAM.otel)
    assert [edge for edge in histogram.explicit_bounds if edge < 0.01][-1] == 0.005


def test_what_has_no_price_is_counted_and_adds_no_cost(metrics, spans):
    """Unknown is not zero: no amount on the span, nothing in the histogram, a count of its own."""
    tracer, exporter = spans
    handler = OpenTelemetryMetrics(metrics.provider).observe(FinOpsHandler(ledger=":memory:"))
    with tracer.start_as_current_span("work"):
        ask(handler, graph_of(model_name="nobody-knows-me"))
    assert (metrics.sum("calls"), metrics.sum("unpriced"), metrics.sum("cost")) == (2, 2, 0)
    assert metrics.points(HISTOGRAM.otel) == []
    (span,) = exporter.get_finished_spans()
    assert (span.attributes[SPAN.calls], span.attributes[SPAN.unpriced]) == (2, 2)
    assert SPAN.amount not in span.attributes


def test_the_current_span_has_what_its_calls_cost_together(metrics, spans):
    """Two calls in one span are one sum, a span beside it has its own, and none is opened by us."""
    tracer, exporter = spans
    handler = OpenTelemetryMetrics(metrics.provider).observe(FinOpsHandler(ledger=":memory:"))
    with tracer.start_as_current_span("first"):
        ask(handler, graph_of(2), user_id="ada", task_id="t-1", tags={"team": "cx"})
    with tracer.start_as_current_span("second"):
        ask(handler, graph_of(1))
    first, second = exporter.get_finished_spans()
    assert first.attributes[SPAN.amount] == float(2 * CALL_USD)
    assert (first.attributes[SPAN.currency], first.attributes[SPAN.source]) == ("USD", "local")
    assert [first.attributes[name] for name in (SPAN.user, SPAN.task, SPAN.team)] == ["ada", "t-1", "cx"]
    assert second.attributes[SPAN.amount] == float(CALL_USD)


async def test_async_graphs_find_the_span_as_well(metrics, spans):
    """Through LangGraph's tasks, by the context."""
    tracer, exporter = spans
    handler = OpenTelemetryMetrics(metrics.provider).observe(FinOpsHandler(ledger=":memory:"))
    with tracer.start_as_current_span("work"):
        await graph_of(2).ainvoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})
    (span,) = exporter.get_finished_spans()
    assert span.attributes[SPAN.amount] == float(2 * CALL_USD)


def test_nothing_is_kept_of_spans_that_are_gone(metrics, spans):
    """A service of many requests does not grow."""
    tracer, exporter = spans
    observer = OpenTelemetryMetrics(metrics.provider)
    for _ in range(3):
        with tracer.start_as_current_span("work"):
            observer(a_call(), None)
    exporter.clear()
    gc.collect()
    assert len(observer._on_spans) == 0


def test_baggage_says_who_where_metadata_does_not(metrics, spans):
    """Team on metrics, user and task on the span; and all three for the ledger, where one asks for it."""
    tracer, exporter = spans
    handler = OpenTelemetryMetrics(metrics.provider).observe(FinOpsHandler(ledger=":memory:"))
    inside = context.get_current()
    for name, value in (("user.id", "ada"), ("task.id", "t-1"), ("team", "cx")):
        inside = baggage.set_baggage(name, value, inside)
    token = context.attach(inside)
    try:
        with tracer.start_as_current_span("work"):
            ask(handler, graph_of(1))
        ask(handler, graph_of(1), **metadata_from_baggage())
    finally:
        context.detach(token)
    (span,) = exporter.get_finished_spans()
    assert [span.attributes[name] for name in (SPAN.user, SPAN.task, SPAN.team)] == ["ada", "t-1", "cx"]
    assert {point.attributes[LABELS.team] for point in metrics.points(COUNTERS["calls"].otel)} == {"cx"}
    first, second = handler.ledger.calls()
    assert first.attribution.user_id is None
    assert (second.attribution.user_id, second.attribution.task_id) == ("ada", "t-1")
    assert dict(second.attribution.tags) == {"team": "cx"}
    assert metadata_from_baggage() == {}


def test_budgets_are_gauges_of_their_fullest_balance(metrics):
    """Of a budget for each user: who has spent most of it, without a name. Nothing for what runs keep themselves."""
    daily = Budget(usd=1, per="day", scope="user_id", name="daily")
    handler = FinOpsHandler(ledger=":memory:", budgets=[daily, Budget(steps=10)])
    OpenTelemetryMetrics(metrics.provider).observe(handler)
    ask(handler, graph_of(2), user_id="ada")
    ask(handler, graph_of(1), user_id="bob")
    for name, expected in (("limit", 1.0), ("spent", 0.0056), ("held", 0.0), ("share", 0.0056)):
        (point,) = metrics.points(GAUGES[name].otel)
        assert point.value == pytest.approx(expected)
        assert dict(point.attributes) == {LABELS.budget: "daily", LABELS.unit: "usd"}


@pytest.mark.parametrize("tellers", [1, 2])
def test_budgets_of_every_observed_handler_are_gauges(metrics, tellers):
    """Also where each handler has an OpenTelemetryMetrics of its own: the SDK makes each gauge but once."""
    observers = [OpenTelemetryMetrics(metrics.provider) for _ in range(tellers)]
    handlers = [
        observers[number % tellers].observe(
            FinOpsHandler(ledger=":memory:", budgets=[Budget(llm_calls=limit, per="day", name=name)])
        )
        for number, (name, limit) in enumerate((("first", 5), ("second", 8), ("second", 4)))
    ]
    for number, handler in enumerate(handlers):
        ask(handler, graph_of(number + 1))
    # Of two named alike the fuller one: 2 of 8 calls or 3 of 4.
    for name, expected in (
        ("limit", {"first": 5, "second": 4}),
        ("spent", {"first": 1, "second": 3}),
        ("share", {"first": 0.2, "second": 0.75}),
    ):
        points = metrics.points(GAUGES[name].otel)
        assert {point.attributes[LABELS.budget]: point.value for point in points} == expected
        assert len(points) == 2


def test_a_ledger_that_cannot_be_read_takes_no_other_with_it(metrics, monkeypatch):
    """Its handler counts a fault, and the budgets of the others show."""
    observer = OpenTelemetryMetrics(metrics.provider)
    broken, sound = (
        observer.observe(FinOpsHandler(ledger=":memory:", budgets=[Budget(llm_calls=5, per="day", name=name)]))
        for name in ("broken", "sound")
    )
    monkeypatch.setattr(broken.ledger, "balances", lambda: 1 / 0)
    (point,) = metrics.points(GAUGES["limit"].otel)
    assert point.attributes[LABELS.budget] == "sound"
    assert broken.faults > 0
    assert sound.faults == 0


def test_budgets_of_a_handler_that_is_gone_are_gone(metrics):
    """A handler for each request does not add up."""
    observer = OpenTelemetryMetrics(metrics.provider)
    handler = observer.observe(FinOpsHandler(ledger=":memory:", budgets=[Budget(llm_calls=5, per="day", name="calls")]))
    assert len(metrics.points(GAUGES["limit"].otel)) == 1
    del handler
    gc.collect()
    assert metrics.points(GAUGES["limit"].otel) == []


def test_a_late_answer_is_counted_again_and_the_estimate_taken_back(metrics):
    """Counters only grow; what they say less what is taken back is what the ledger says."""
    observer = OpenTelemetryMetrics(metrics.provider)
    old, new = a_call("1", usd="0.5", estimated=True), a_call("1", usd="0.2", revision=1)
    observer(old, None)
    observer(new, old)
    assert metrics.sum("calls") - metrics.sum("taken_back_calls") == 1
    assert metrics.sum("cost") - metrics.sum("taken_back_cost") == pytest.approx(0.2)
    assert metrics.sum("billed") - metrics.sum("taken_back_billed") == pytest.approx(0.2)
    tokens = metrics.sum("input_tokens") + metrics.sum("output_tokens")
    assert tokens - metrics.sum("taken_back_tokens") == 120
    (histogram,) = metrics.points(HISTOGRAM.otel)
    assert histogram.count == 1


def test_credits_are_a_counter_of_their_own(metrics):
    """A counter cannot fall, and OpenTelemetry drops what would make it."""
    observer = OpenTelemetryMetrics(metrics.provider)
    observer(a_charge("1", usd="1.5"), None)
    observer(a_charge("2", usd="-2", kind="credit"), None)
    observer(a_charge("3", usd=None), None)
    assert (metrics.sum("cost"), metrics.sum("credits")) == (1.5, 2.0)
    assert (metrics.sum("charges"), metrics.sum("charges_unpriced")) == (3, 1)


def test_names_without_end_share_one_series(metrics):
    """An agent named after each task would fill every metrics store there is."""
    observer = OpenTelemetryMetrics(metrics.provider)
    for number in range(MOST_SERIES + 5):
        observer(a_call(str(number), agent_id=f"agent-{number}"), None)
    points = metrics.points(COUNTERS["calls"].otel)
    assert len(points) == MOST_SERIES + 1
    assert sum(point.value for point in points) == MOST_SERIES + 5
    (other,) = [point for point in points if point.attributes.get(LABELS.agent) == "other"]
    assert other.value == 5


def test_a_faulty_provider_never_reaches_the_run(metrics, monkeypatch):
    """What OpenTelemetry raises is counted, and the ledger has its calls."""
    observer = OpenTelemetryMetrics(metrics.provider)
    monkeypatch.setattr(observer, "_counters", None)
    handler = observer.observe(FinOpsHandler(ledger=":memory:"))
    ask(handler, graph_of(2))
    assert handler.faults == 2
    assert len(list(handler.ledger.calls())) == 2


def test_what_is_taken_back_is_what_was_added():
    """Cost, credits and what is paid come to the record's own amount, corrected or not."""
    for usd, billed in (("0.25", "0.1"), ("0.25", "0"), ("-0.5", "-0.5")):
        call = replace(a_call(usd=usd), billed_usd=Decimal(billed), ended_at=MONDAY + timedelta(seconds=1))
        added, back = amounts_of(call), amounts_of(call, sign=-1)
        assert added["cost"] - added["credits"] == Decimal(usd)
        assert added["cost"] - added["credits"] - back["taken_back_cost"] + back["cost"] == 0


def test_every_name_is_there_once():
    """One table, no name twice, and Prometheus's counters end as its own do."""
    for names in ([metric.otel for metric in METRICS], [metric.prometheus for metric in METRICS]):
        known = [name for name in names if name is not None]
        assert len(known) == len(set(known))
    for metric in METRICS:
        if metric.prometheus is not None:
            assert metric.prometheus.endswith("_total") == (metric.kind == "counter")


@pytest.mark.parametrize("use", [OpenTelemetryMetrics, metadata_from_baggage])
def test_a_missing_extra_is_named_with_its_pip_line(monkeypatch, use):
    """Before anything is set up."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match=r"langchain-finops\[otel\]"):
        use()
