"""One call is one record, however it is told; what users ask of the handler besides."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph

from langchain_finops import FinOpsHandler, Ledger, Outcome, PriceBook
from langchain_finops.errors import BadArguments
from langchain_finops.records import CallError

pytestmark = pytest.mark.usefixtures("faultless")

NAIVE = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)

Make = Callable[..., Any]
RUN_ID = UUID("00000000-0000-4000-8000-000000000001")


class State(TypedDict, total=False):
    ok: bool
    steps: int


def graph_of(**nodes: Any) -> Any:
    """A graph of nodes in a row."""
    builder = StateGraph(State)
    last = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(last, name)
        last = name
    return builder.compile()


# --- one call, one record ----------------------------------------------------------------------------------------


def test_a_handler_bound_to_the_model_and_given_to_the_call_counts_once(
    model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """LangChain fires such a handler twice for each event."""
    model().with_config(callbacks=[handler]).invoke("hi", {"callbacks": [handler]})

    assert len(list(ledger.calls())) == 1
    assert handler.summary(()).total().calls == 1


def test_two_handlers_on_one_ledger_are_one_call(
    model: Make, handler: FinOpsHandler, ledger: Ledger, prices: PriceBook
) -> None:
    """Both see the call, the ledger has it once."""
    other = FinOpsHandler(ledger=ledger, prices=prices)

    graph_of(a=lambda _: model().invoke("hi") and {}).invoke({}, {"callbacks": [handler, other]})

    assert len(list(ledger.calls(history=True))) == 1
    assert len(list(ledger.runs(history=True))) == 1
    assert [each.summary(()).total().calls for each in (handler, other)] == [1, 1]


def test_an_id_that_the_user_gives_twice_is_two_calls(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """The second call would be taken for the first one written again, and be lost."""
    for _ in range(2):
        model().invoke("hi", {"callbacks": [handler], "run_id": RUN_ID})

    assert [call.call_id for call in ledger.calls()] == [str(RUN_ID), f"{RUN_ID}:2"]
    assert [run.run_id for run in ledger.runs()] == [str(RUN_ID), f"{RUN_ID}:2"]


async def test_an_id_that_two_calls_have_at_once_is_two_calls(
    model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Both are open under one id; each end settles one of them."""
    gate = asyncio.Event()

    async def wait() -> AIMessage:
        await gate.wait()
        return AIMessage("ok", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})

    config: Any = {"callbacks": [handler], "run_id": RUN_ID}
    calls = [asyncio.ensure_future(model(wait).ainvoke("hi", config)) for _ in range(2)]
    await asyncio.sleep(0)
    while len(handler._recorder.tracker.open_runs()) < 1:
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)

    assert sorted(call.call_id for call in ledger.calls()) == [str(RUN_ID), f"{RUN_ID}:2"]
    assert {call.usage.input_tokens for call in ledger.calls()} == {7}


def test_fallbacks_outside_a_graph_are_one_run(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """RunnableWithFallbacks hands its own parent on, so that its calls look like roots (langchain#36072)."""
    broken = model(lambda: RuntimeError("no"))

    broken.with_fallbacks([model()]).invoke("hi", {"callbacks": [handler]})

    assert len(list(ledger.calls())) == 2
    (run,) = ledger.runs()
    assert (run.name, run.status) == ("RunnableWithFallbacks", "completed")
    assert {call.run_id for call in ledger.calls()} == {run.run_id}


def test_what_has_its_nodes_name_is_not_the_node_again(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """A subgraph, or a chain inside, that is called like its node is neither a step nor a second attempt."""
    inner = RunnableLambda(lambda _: model().invoke("hi") and {}, name="a")

    graph_of(a=lambda _: inner.invoke({})).invoke({}, {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert (call.attribution.node_path, call.attribution.step, call.attribution.attempt) == ("a", 1, 1)
    assert [run.steps for run in ledger.runs()] == [1]


def test_calls_of_a_retriever_belong_to_its_run(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """A retriever that asks a model is no root of its own."""
    llm = model()

    class Rewriting(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            llm.invoke(query, {"callbacks": run_manager.get_child()})
            return []

    RunnableLambda(Rewriting().invoke).invoke("hi", {"callbacks": [handler]})

    (run,) = ledger.runs()
    assert [call.run_id for call in ledger.calls()] == [run.run_id]


# --- ends that nobody reports ----------------------------------------------------------------------------------


async def test_an_answer_that_comes_after_all_supersedes_the_estimate(
    model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """A call that its node left behind is charged at the node's end; its true usage replaces that."""
    gate, left = asyncio.Event(), []

    async def late() -> AIMessage:
        await gate.wait()
        return AIMessage("ok", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})

    async def node(_: State) -> State:
        left.append(asyncio.ensure_future(model(late).ainvoke("hi")))
        for _ in range(20):
            await asyncio.sleep(0)
        return {}

    await graph_of(a=node).ainvoke({}, {"callbacks": [handler]})
    (estimate,) = ledger.calls()
    gate.set()
    await left[0]

    assert (estimate.estimated, estimate.revision, estimate.usage.output_tokens) == (True, 0, 1000)
    (truth,) = ledger.calls()
    assert (truth.estimated, truth.revision, truth.error) == (False, 1, None)
    assert truth.cost_usd == Decimal("0.000044")  # 7 x $2 and 3 x $10 for a million
    assert truth.attribution == estimate.attribution
    (group,) = handler.summary("node").groups
    assert (group.totals.calls, group.totals.output_tokens, group.totals.estimated) == (1, 3, 0)
    assert (group.totals.cost_usd, group.totals.errors) == (Decimal("0.000044"), 0)


async def test_an_answer_that_comes_while_the_run_goes_on_supersedes_too(
    model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """The sums of a run that is still open are put right as well."""
    gate, left = asyncio.Event(), []

    async def late() -> AIMessage:
        await gate.wait()
        return AIMessage("ok", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})

    async def leaves(_: State) -> State:
        left.append(asyncio.ensure_future(model(late).ainvoke("hi")))
        for _ in range(20):
            await asyncio.sleep(0)
        return {}

    async def waits(_: State) -> State:
        gate.set()
        await left[0]
        return {}

    await graph_of(leaves=leaves, waits=waits).ainvoke({}, {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert (call.revision, call.attribution.node_path) == (1, "leaves")
    assert handler.summary(()).total().output_tokens == 3


def test_a_call_that_ends_while_its_run_is_folded_is_in_the_sums(
    model: Make, handler: FinOpsHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may be settling a call that the root's end no longer finds open."""
    recorder = handler._recorder
    close, ended = recorder.meter.close, []

    def slow_close(call: Any, answer: Any) -> Any:
        recorder.end_run(call.run, "completed")  # The root's end, in the middle of it.
        ended.append(call)
        return close(call, answer)

    monkeypatch.setattr(recorder.meter, "close", slow_close)
    graph_of(a=lambda _: model().invoke("hi") and {}).invoke({}, {"callbacks": [handler]})

    assert len(ended) == 1
    (group,) = handler.summary("node").groups
    assert (group.key, group.totals.calls, group.runs) == (("a",), 1, 1)


class Refuses(BaseCallbackHandler):
    """Another handler that lets no call begin."""

    raise_error = True
    run_inline = True

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        raise PermissionError("no")


@pytest.mark.parametrize("native_async", [False, True])
def test_a_call_that_another_handler_refused_costs_nothing(
    native_async: bool, model: Make, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Its start was told to us, but its request was never made."""

    async def ask(_: State) -> State:
        await model().ainvoke("hi")
        return {}

    graph = graph_of(a=ask if native_async else (lambda _: model().invoke("hi") and {}))
    config: Any = {"callbacks": [handler, Refuses()]}

    with pytest.raises(PermissionError):
        asyncio.run(graph.ainvoke({}, config)) if native_async else graph.invoke({}, config)

    (call,) = ledger.calls()
    assert (call.cost_usd, call.cost_status, call.usage.total_tokens) == (0, "free", 0)
    assert call.reasons == ("not_sent",)
    assert call.error == CallError(error_class="PermissionError")


# --- what users call -------------------------------------------------------------------------------------------


def test_a_run_of_many_steps_without_a_limit_is_worth_one_warning(
    model: Make, handler: FinOpsHandler, caplog: pytest.LogCaptureFixture
) -> None:
    """At the 26th step, once, whatever happens after."""
    builder = StateGraph(State)
    builder.add_node("a", lambda state: {"steps": state["steps"] + 1})
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", lambda state: "a" if state["steps"] < state.get("ok", 25) else "__end__")
    graph = builder.compile()

    graph.invoke({"steps": 0, "ok": 25}, {"callbacks": [handler]})
    assert not caplog.records
    for _ in range(2):
        graph.invoke({"steps": 0, "ok": 40}, {"callbacks": [handler]})

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "25 steps" in caplog.text


def test_a_charge_belongs_to_the_node_it_is_recorded_in(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Two minutes of a person's time in a node count there and in the run's cost."""

    def review(_: State) -> State:
        handler.record_charge("human", cost_usd="1.50", name="reviewer", quantity=2, unit="minutes")
        return {}

    graph_of(review=review).invoke({}, {"callbacks": [handler], "metadata": {"task_id": "t"}})

    (charge,) = ledger.charges()
    (run,) = ledger.runs()
    assert (charge.attribution.node_path, charge.attribution.task_id) == ("review", "t")
    assert (charge.run_id, charge.cost_usd, charge.cost_status) == (run.run_id, Decimal("1.50"), "reported")
    (group,) = handler.summary("node").groups
    assert (group.key, group.totals.charge_usd) == (("review",), Decimal("1.5"))


def test_a_charge_outside_all_runs_belongs_to_whom_it_says(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Its metadata has the keys of a run's."""
    handler.record_charge("infrastructure", cost_usd=3, metadata={"agent_id": "batch", "tags": {"team": "cx"}})

    (charge,) = ledger.charges()
    assert (charge.attribution.agent_id, charge.attribution.tags, charge.run_id) == ("batch", {"team": "cx"}, None)
    (group,) = handler.summary("agent").groups
    assert (group.key, group.totals.charge_usd, group.runs) == (("batch",), 3, 0)


def test_a_charge_of_one_id_counts_once(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Two reviews of $1.50 with one id between them, in a run and after it, are $1.50; with two ids they are $3."""

    def review(_: State) -> State:
        for _ in range(2):
            handler.record_charge("human", cost_usd="1.50", charge_id="review-1")
        return {}

    graph_of(review=review).invoke({}, {"callbacks": [handler]})
    again = handler.record_charge("human", cost_usd="1.50", charge_id="review-1")
    assert [charge.charge_id for charge in ledger.charges()] == ["review-1"]
    assert again == next(ledger.charges())
    assert sum(group.totals.charge_usd for group in handler.summary("node").groups) == Decimal("1.5")

    handler.record_charge("human", cost_usd="1.50", charge_id="review-2")
    assert sum(group.totals.charge_usd for group in handler.summary("node").groups) == 3


def test_a_charge_that_could_not_be_written_down_is_when_it_comes_again(
    handler: FinOpsHandler, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try fails; the second, of the same id, is in the ledger and in the sums, once."""

    def fails(*_: object, **__: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(handler._recorder.meter, "charge", fails)
        with pytest.raises(OSError):
            handler.record_charge("human", cost_usd="1.50", charge_id="review-1")
    handler.record_charge("human", cost_usd="1.50", charge_id="review-1")

    assert [charge.cost_usd for charge in ledger.charges()] == [Decimal("1.5")]
    assert sum(group.totals.charge_usd for group in handler.summary("agent").groups) == Decimal("1.5")


def test_a_charge_without_an_amount_is_priced_by_its_card(handler: FinOpsHandler) -> None:
    """Three searches at half a cent; what has no card is unpriced and not free."""
    searched = handler.record_charge("tool", name="search", quantity=3)
    unknown = handler.record_charge("embedding", name="who knows")

    assert (searched.cost_usd, searched.cost_status, searched.card_id) == (Decimal("0.015"), "exact", "search")
    assert (unknown.cost_usd, unknown.cost_status) == (None, "unpriced")


def test_a_tool_that_was_refused_over_http_costs_nothing(handler: FinOpsHandler, ledger: Ledger) -> None:
    """The charge is there with its error."""

    class Refused(Exception):
        status_code = 429

    @tool
    def search(query: str) -> str:
        """Search."""
        raise Refused

    with pytest.raises(Refused):
        search.invoke({"query": "x"}, {"callbacks": [handler]})

    (charge,) = ledger.charges()
    assert (charge.cost_usd, charge.cost_status) == (0, "free")
    assert charge.error == CallError(error_class="Refused", http_status=429)
    assert [run.status for run in ledger.runs()] == ["failed"]


def test_an_outcome_counts_in_all_that_its_task_cost(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Two runs of one task are one success of their agent; judged again it is none."""
    for _ in range(2):
        model().invoke("hi", {"callbacks": [handler], "metadata": {"task_id": "t", "agent_id": "a"}})
    handler.log_outcome(task_id="t", success=True, value_usd="2.50", scores={"csat": 4.5}, judged_by="user")

    (group,) = handler.summary("agent").groups
    assert (group.runs, group.tasks, group.judged, group.successes) == (2, 1, 1, 1)
    assert group.value_pico == 2_500_000_000_000

    handler.log_outcome(task_id="t", success=False)
    (group,) = handler.summary("agent").groups
    assert (group.tasks, group.judged, group.successes, group.value_pico) == (1, 1, 0, 0)
    assert [each.success for each in ledger.outcomes()] == [False]
    assert [each.success for each in ledger.outcomes(history=True)] == [True, False]


def test_an_outcome_may_come_before_its_task_has_cost_anything(model: Make, handler: FinOpsHandler) -> None:
    """Logged inside the run, it counts when the run ends, and at once where somebody asks meanwhile."""
    seen: list[tuple[int, int]] = []

    def node(_: State) -> State:
        model().invoke("hi")
        handler.log_outcome(task_id="t", success=True)
        (group,) = handler.summary("task").groups
        seen.append((group.tasks, group.successes))
        return {}

    graph_of(a=node).invoke({}, {"callbacks": [handler], "metadata": {"task_id": "t"}})

    assert seen == [(1, 1)]
    (group,) = handler.summary("task").groups
    assert (group.tasks, group.successes) == (1, 1)


def test_a_score_is_between_0_and_1(handler: FinOpsHandler) -> None:
    """Other figures have a place of their own, and the message says which."""
    with pytest.raises(BadArguments, match="scores="):
        handler.log_outcome(task_id="t", score=4.5)


@pytest.mark.parametrize("given", [{"cost_usd": "abc"}, {"quantity": float("nan")}, {"cost_usd": 10**7}, {"at": NAIVE}])
def test_a_charge_that_no_ledger_keeps_is_refused(given: Any, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Whoever records it is told, and nothing is left half recorded."""
    with pytest.raises(BadArguments):
        handler.record_charge("human", **given)

    assert list(ledger.charges()) == []
    assert handler.summary(()).total().charges == 0


@pytest.mark.parametrize("value", ["abc", 10**7, float("inf")])
def test_a_value_that_no_ledger_keeps_is_refused(value: Any, handler: FinOpsHandler, ledger: Ledger) -> None:
    """The same kind of error as for a score."""
    with pytest.raises(BadArguments, match="value_usd"):
        handler.log_outcome(task_id="t", success=True, value_usd=value)

    assert list(ledger.outcomes()) == []


@pytest.mark.parametrize(("verdict", "logged"), [(True, [True]), (0, [False]), (None, [])])
def test_success_judges_the_final_state(
    verdict: object, logged: list[bool], model: Make, ledger: Ledger, prices: PriceBook
) -> None:
    """Without a task id the run's own id is the task's; None is no verdict and logs nothing."""
    states: list[Any] = []
    handler = FinOpsHandler(ledger=ledger, prices=prices, success=lambda state: (states.append(state), verdict)[1])

    graph_of(a=lambda _: {"ok": True}).invoke({"steps": 2}, {"callbacks": [handler]})

    assert states == [{"ok": True, "steps": 2}]
    assert [outcome.success for outcome in ledger.outcomes()] == logged
    assert {outcome.task_id for outcome in ledger.outcomes()} <= {run.run_id for run in ledger.runs()}


@pytest.mark.parametrize("task_id", [None, "t-1"])
def test_success_counts_in_the_costs_of_its_run(
    task_id: str | None, model: Make, ledger: Ledger, prices: PriceBook
) -> None:
    """Where nobody names a task the run is one: an outcome for a task without costs would count nowhere."""
    handler = FinOpsHandler(ledger=ledger, prices=prices, success=lambda _: True)
    metadata = {} if task_id is None else {"task_id": task_id}

    graph_of(a=lambda _: model().invoke("hi") and {}).invoke({}, {"callbacks": [handler], "metadata": metadata})

    (run,), (call,) = ledger.runs(), ledger.calls()
    assert run.attribution.task_id == call.attribution.task_id == (task_id or run.run_id)
    for (group,) in (handler.summary(()).groups, ledger.totals()):
        assert (group.tasks, group.judged, group.successes) == (1, 1, 1)


def test_success_may_give_the_whole_outcome(ledger: Ledger, prices: PriceBook) -> None:
    """It is written as it is."""
    outcome = Outcome(task_id="mine", success=True, score=0.5, at=datetime(2026, 1, 1, tzinfo=UTC))
    handler = FinOpsHandler(ledger=ledger, prices=prices, success=lambda _: outcome)

    graph_of(a=lambda _: {}).invoke({}, {"callbacks": [handler]})

    assert list(ledger.outcomes()) == [outcome]


@pytest.mark.parametrize("by", ["run", "colour", ("agent", "node")])
def test_sums_that_are_not_kept_are_refused_with_the_remedy(by: Any, handler: FinOpsHandler) -> None:
    """The ledger can sum by anything."""
    with pytest.raises(BadArguments, match=r"handler\.ledger\.totals"):
        handler.summary(by)


def test_a_summary_counts_runs_that_are_still_open(model: Make, handler: FinOpsHandler) -> None:
    """What was settled a moment ago is in the sums of every dimension, and stays there once."""
    counts: list[tuple[int, int]] = []

    def node(_: State) -> State:
        model().invoke("hi")
        (group,) = handler.summary("model").groups
        counts.append((group.totals.calls, group.runs))
        return {}

    graph = graph_of(a=node, b=node)
    for _ in range(2):
        graph.invoke({}, {"callbacks": [handler]})

    assert counts == [(1, 1), (2, 1), (3, 2), (4, 2)]
    (group,) = handler.summary("model").groups
    assert (group.totals.calls, group.runs) == (4, 2)


def test_flush_says_whether_all_is_durable(handler: FinOpsHandler) -> None:
    """A process that is about to be frozen waits for it."""
    assert handler.flush(5) is True


def test_a_runs_status_is_no_success(model: Make, handler: FinOpsHandler, ledger: Ledger) -> None:
    """A failed run's final state is unknown, so nobody is asked to judge it."""
    asked: list[Any] = []
    judging = FinOpsHandler(ledger=ledger, prices=handler._recorder.meter.prices, success=asked.append)

    def fails(_: State) -> State:
        raise ValueError

    with pytest.raises(ValueError):
        graph_of(a=fails).invoke({}, {"callbacks": [judging], "run_id": uuid4()})

    assert asked == []
    assert [(run.status, run.stop_reason) for run in ledger.runs()] == [("failed", "ValueError")]
