"""The kill switch: the next call is refused; a stream in flight is cut off where that was asked for."""

import asyncio
import warnings
from typing import Any

import pytest
from limited_graphs import Paid, Streaming, asking, cent, line

from langchain_finops import Budget, Ledger
from langchain_finops.budgets import standing
from langchain_finops.budgets.switch import kill, revive
from langchain_finops.langchain import Killed

WORDS = cent(" ".join(["word"] * 20))


@pytest.fixture(autouse=True)
def _looks_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers look twice a second; these tests do not wait so long."""
    monkeypatch.setattr(standing, "POLL_S", 0)


def test_a_kill_in_the_middle_of_a_run_stops_the_next_call(limited: Any, run: Any, ledger: Ledger) -> None:
    """No limit needs to be set for that; after a revival others run again."""

    def say(_: str, number: int) -> Any:
        if number == 2:
            kill(ledger, "agent_id", "support")
        return cent()

    model = Paid(say=say)
    graph = line(*[asking(model, "hi")] * 5)

    with pytest.raises(Killed):
        run(graph, {"said": []}, limited(agent_id="support"))
    assert model.calls == 2
    run(graph, {"said": []}, limited(agent_id="other"))
    assert model.calls == 7
    revive(ledger, "agent_id", "support")
    run(line(asking(model, "hi")), {"said": []}, limited(agent_id="support"))

    assert model.calls == 8


def streamed(model: Any, handler: Any, is_async: bool) -> list[str]:
    config: Any = {"callbacks": [handler]}
    if not is_async:
        return [chunk.text for chunk in model.stream("hi", config)]

    async def collect() -> list[str]:
        return [chunk.text async for chunk in model.astream("hi", config)]

    return asyncio.run(collect())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("budgets", [(), (Budget(usd=1, scope="all"),)], ids=["no limit", "a limit"])
def test_a_stream_in_flight_is_cut_off_and_charged(is_async: bool, budgets: Any, limited: Any, ledger: Ledger) -> None:
    """Only where the kill says so. What was received is charged, at the estimate: the rest was paid for, too."""
    handler = limited(*budgets, agent_id="support")
    kept: list[Any] = []

    class Cutting(Streaming):
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            for place, chunk in enumerate(super()._stream(*args, **kwargs)):
                if place == 5 and kept:
                    kill(ledger, "all", now=kept[0])
                yield chunk

    kept.append(False)
    assert len(streamed(Cutting(say=lambda *_: WORDS), handler, is_async)) >= 20
    revive(ledger, "all")
    kept[0] = True
    with pytest.raises(Killed):
        streamed(Cutting(say=lambda *_: WORDS), handler, is_async)

    whole, cut = ledger.calls()
    assert (whole.error, whole.estimated) == (None, False)
    assert cut.error is not None
    assert (cut.error.error_class, "killed" in cut.reasons, cut.estimated) == ("Killed", True, True)
    assert cut.cost_usd is not None
    assert cut.cost_usd >= whole.cost_usd  # type: ignore[operator]
    assert [(each.status, each.stop_reason) for each in ledger.runs()] == [("completed", None), ("stopped", "killed")]
    assert not any(balance.held for balance in ledger.balances())


def test_a_stream_of_content_blocks_is_cut_off_too(limited: Any, ledger: Ledger) -> None:
    """`astream_events` of version 3 has events of its own."""
    handler = limited()
    graph = line(asking(Streaming(say=lambda *_: WORDS), "hi"))
    kill(ledger, "all", now=True)
    handler.recorder.meter.guard.stopped = lambda *_: None  # The start was before the kill.

    async def consume() -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The v3 streaming protocol")
            stream = await graph.astream_events({"said": []}, {"callbacks": [handler]}, version="v3")
            async for _ in stream:
                pass

    with pytest.raises(Killed):
        asyncio.run(consume())

    (call,) = ledger.calls()
    assert call.estimated


def test_nothing_is_raised_at_a_calls_end(limited: Any, run: Any, ledger: Ledger) -> None:
    """The answer is paid for: a kill that comes with it lets it through."""
    model = Paid(say=lambda *_: kill(ledger, "all", now=True) and cent("kept"))

    result = run(line(asking(model, "hi")), {"said": []}, limited(Budget(usd=1)))

    assert result["said"] == ["kept"]
