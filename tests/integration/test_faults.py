"""Promises 8 and 15: no fault of the metering kills a run or throws an answer away, and none passes silently."""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from graphs import NESTINGS, State, asking, graph_of, recorded
from scripted_models import ProviderError, Reply, ScriptedChat, ScriptedLLM, scripted, tokens

from langchain_finops import FinOpsHandler, Ledger, Outcome, PriceBook
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.records import Record


class BrokenLedger(MemoryLedger):
    """A ledger that can be read and not be written."""

    def write(self, *records: Record) -> None:
        raise OSError("the disk is on fire")

    def flush(self, timeout: float | None = None) -> bool:
        raise OSError("the disk is on fire")


class BrokenBook(PriceBook):
    """A price book that fails in one of its methods."""

    broken = "price"

    def read(self, *args: Any, **kwargs: Any) -> Any:
        return self._fail() if self.broken == "read" else super().read(*args, **kwargs)

    def price(self, *args: Any, **kwargs: Any) -> Any:
        return self._fail() if self.broken == "price" else super().price(*args, **kwargs)

    def tool_price(self, *args: Any, **kwargs: Any) -> Any:
        return self._fail()

    def _fail(self) -> Any:
        raise ZeroDivisionError("the book has a hole")


def our_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name.startswith("langchain_finops")]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_broken_ledger_kills_no_run(nesting: str, prices: PriceBook, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be written, and the graph answers as it would without a handler; the fault is in the log."""
    caplog.set_level(logging.WARNING)
    handler = FinOpsHandler(ledger=BrokenLedger(), prices=prices)
    case = NESTINGS[nesting]()

    case.graph.invoke(case.input or {"answers": []}, {"callbacks": [handler]})

    assert our_log(caplog)


@pytest.mark.parametrize("broken", ["read", "price"])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_broken_price_book_kills_no_run(
    nesting: str, broken: str, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """No call can be priced: each is recorded all the same, unpriced, never as free."""
    caplog.set_level(logging.WARNING)
    book = BrokenBook(catalog=False)
    book.broken = broken
    case = NESTINGS[nesting]()

    case.graph.invoke(case.input or {"answers": []}, {"callbacks": [FinOpsHandler(ledger=ledger, prices=book)]})

    answered = [call for call in ledger.calls() if call.error is None]
    assert len(answered) == sum(1 for _, read, _ in case.expected if read)
    assert {(call.cost_usd, call.cost_status) for call in answered} == {(None, "unpriced")}
    if broken == "price":
        assert {call.usage.total_input_tokens for call in answered} == {read for _, read, _ in case.expected if read}
    assert our_log(caplog)


async def test_a_broken_ledger_kills_no_async_run(prices: PriceBook, caplog: pytest.LogCaptureFixture) -> None:
    """The same in an event loop, where LangChain would swallow or raise differently."""
    handler = FinOpsHandler(ledger=BrokenLedger(), prices=prices)
    model = ScriptedChat()

    graph = graph_of({"draft": asking(model, "7/3", native_async=True)})
    state = await graph.ainvoke({"answers": []}, {"callbacks": [handler]})

    assert state["answers"] == ["ANSWER"]
    assert model.calls == 1
    assert our_log(caplog)


def test_a_fault_is_logged_once_and_not_for_every_call(prices: PriceBook, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of each of a thousand calls must not fill the user's log."""
    caplog.set_level(logging.WARNING)
    handler = FinOpsHandler(ledger=BrokenLedger(), prices=prices)
    graph = graph_of({"draft": asking(ScriptedChat(), "7/3")})

    for _ in range(20):
        graph.invoke({"answers": []}, {"callbacks": [handler]})

    assert 1 <= len(our_log(caplog)) <= 2
    assert handler.summary(by="node").total().calls == 20


def test_a_success_function_that_fails_kills_no_run(
    ledger: Ledger, prices: PriceBook, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's judge is theirs; the answer is not lost by it."""

    def judge(state: State) -> bool:
        raise KeyError("no such field")

    handler = FinOpsHandler(ledger=ledger, prices=prices, success=judge)

    state = graph_of({"draft": asking(ScriptedChat(), "7/3")}).invoke(
        {"answers": []}, {"callbacks": [handler], "metadata": {"task_id": "t-1"}}
    )

    assert state["answers"] == ["ANSWER"]
    assert our_log(caplog)
    assert not [outcome for outcome in ledger.outcomes() if outcome.success]


STRANGE: dict[str, dict[str, Any]] = {
    "negative": {"input_tokens": -5, "output_tokens": 3, "total_tokens": -2},
    "more cached than read": tokens(5, 3, input_token_details={"cache_read": 50}),
    "more reasoning than output": tokens(5, 3, output_token_details={"reasoning": 50}),
    "no total": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 0},
    "a None among the details": tokens(5, 3, input_token_details={"cache_read": None}),
    "huge": tokens(10**15, 3),
}


@pytest.mark.parametrize("which", STRANGE)
def test_strange_usage_kills_no_run_and_no_record(which: str, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Counts that contradict each other are recorded as far as they make sense, and the answer is kept."""
    usage: Any = STRANGE[which]

    class Model(ScriptedChat):
        def _result(self, reply: Reply, call: int, answers: int) -> Any:
            result = super()._result(reply, call, answers)
            result.generations[0].message.usage_metadata = usage  # What an integration wrote past the types.
            return result

    answer = Model(script=lambda *_: Reply()).invoke("PROMPT", {"callbacks": [handler]})

    (call,) = ledger.calls()
    assert answer.text == "ANSWER"
    assert call.error is None
    assert call.usage.output_tokens == 3
    assert call.usage.reasoning_tokens <= 3


@pytest.mark.parametrize(
    "metadata",
    [
        {"agent_id": ["a", "list"], "task_id": {"a": "mapping"}},
        {"user_id": object()},
        {"tags": ["not", "a", "mapping"]},
        {"agent_id": 7, "task_id": 0},
        {"langgraph_checkpoint_ns": 5},
    ],
    ids=["list and mapping", "object", "list of tags", "numbers", "odd namespace"],
)
def test_strange_metadata_kills_no_run_and_no_record(
    metadata: dict[str, Any], sql_ledger: Ledger, prices: PriceBook
) -> None:
    """Users put all kinds of things into metadata: the call is recorded in any case."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)

    ScriptedChat().invoke("7/3", {"callbacks": [handler], "metadata": metadata})

    assert [(call.usage.input_tokens, call.usage.output_tokens) for call in sql_ledger.calls()] == [(7, 3)]


def test_a_number_as_an_id_is_its_text(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Task 0 is a task."""
    ScriptedChat().invoke("7/3", {"callbacks": [handler], "metadata": {"task_id": 0, "user_id": 12}})

    assert [(call.attribution.task_id, call.attribution.user_id) for call in ledger.calls()] == [("0", "12")]


def test_a_paid_answer_is_never_thrown_away(prices: PriceBook) -> None:
    """Whatever fails when a call ends, the answer reaches the caller and is bought once (promise 15)."""
    for broken in ("read", "price"):
        book = BrokenBook(catalog=False)
        book.broken = broken
        handler = FinOpsHandler(ledger=BrokenLedger(), prices=book)
        for model in (ScriptedChat(), ScriptedLLM()):
            answer = model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).invoke(
                "7/3", {"callbacks": [handler]}
            )
            assert str(getattr(answer, "text", answer)) == "ANSWER"
            assert model.calls == 1


def test_errors_of_the_run_come_through_as_they_are(handler: FinOpsHandler) -> None:
    """The handler neither wraps nor replaces what a node or a model raises."""
    error = ProviderError(429)

    with pytest.raises(ProviderError) as raised:
        graph_of({"draft": asking(scripted(Reply(error=error)), "PROMPT")}).invoke(
            {"answers": []}, {"callbacks": [handler]}
        )

    assert raised.value is error


def test_an_outcome_is_logged_when_the_root_run_ends(ledger: Ledger, prices: PriceBook) -> None:
    """`success` sees the final state once, and its verdict is the task's outcome."""
    seen: list[State] = []

    def judge(state: State) -> bool:
        seen.append(state)
        return len(state["answers"]) == 2

    handler = FinOpsHandler(ledger=ledger, prices=prices, success=judge)
    case = NESTINGS["plain"]()

    case.graph.invoke({"answers": []}, {"callbacks": [handler], "metadata": {"task_id": "t-1"}})

    assert [(outcome.task_id, outcome.success) for outcome in ledger.outcomes()] == [("t-1", True)]
    assert seen == [{"answers": ["ANSWER", "ANSWER"]}]


def test_an_outcome_may_be_given_by_the_success_function_and_revised(ledger: Ledger, prices: PriceBook) -> None:
    """An Outcome is taken as it is; a later one counts; the first stays in the history."""
    judged = Outcome(task_id="t-1", success=False, score=0.2, at=datetime(2026, 1, 1, tzinfo=UTC))
    handler = FinOpsHandler(ledger=ledger, prices=prices, success=lambda state: judged)
    NESTINGS["plain"]().graph.invoke({"answers": []}, {"callbacks": [handler], "metadata": {"task_id": "t-1"}})

    handler.log_outcome(task_id="t-1", success=True, value_usd=5, judged_by="qa")

    (current,) = ledger.outcomes()
    assert (current.success, current.value_usd, current.judged_by) == (True, Decimal(5), "qa")
    assert [outcome.success for outcome in ledger.outcomes(history=True)] == [False, True]


def test_metering_changes_no_answer(handler: FinOpsHandler) -> None:
    """With a handler and without one a graph returns the same, and its model is called as often."""
    for build in NESTINGS.values():
        with_one, without = build(), build()
        metered = with_one.graph.invoke(with_one.input or {"answers": []}, {"callbacks": [handler]})
        bare = without.graph.invoke(without.input or {"answers": []})
        assert _texts(metered) == _texts(bare)


def _texts(result: Any) -> list[str]:
    if isinstance(result, dict):
        return [str(getattr(each, "text", each)) for key in ("answers", "messages") for each in result.get(key, [])]
    return [str(each) for each in result]


def test_the_handler_asks_for_no_stream(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A handler that made `invoke` stream would lose usage that only whole answers report."""

    class Model(ScriptedChat):
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("asked to stream")

    Model().invoke("7/3", {"callbacks": [handler]})

    assert recorded(ledger.calls()) == {(None, 7, 3): 1}
