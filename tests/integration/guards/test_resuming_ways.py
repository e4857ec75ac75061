"""However a paused run goes on: with each durability, after an edit of its state, from a breakpoint, as a stream."""

from typing import Any

import pytest
from guarded_scenes import FITS_THREE, asking, both, cents, ending, line, looping, statuses
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from scripted_models import Reply, ScriptedLLM, tokens

from langchain_finops import Budget, BudgetExceeded, Ledger, stopped
from langchain_finops.langchain import answers

ASKS = Budget(usd=FITS_THREE, on_exceed="interrupt")
RUN = Budget(usd=FITS_THREE)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_each_durability_pauses_and_goes_on(durability: str, guarded: Any, play: Any, ledger: Ledger) -> None:
    """Whenever LangGraph saves: three calls, a question, and after a yes the other five."""
    model, handler = cents(), guarded(ASKS)
    graph = looping(asking(model), rounds=8, checkpointer=InMemorySaver())

    result = _with(play, graph, {"said": []}, handler, durability)
    assert (model.calls, stopped(result) is None) == (3, False)
    result = _with(play, graph, Command(resume={"approve": True, "usd": 1}), handler, durability)
    assert (model.calls, stopped(result), len(result["said"])) == (8, None, 8)
    assert statuses(ledger) == [("completed", None)]


def _with(play: Any, graph: Any, state: Any, handler: Any, durability: str) -> Any:
    """Run with a durability, which is an argument and not a part of the config."""

    class Bound:
        def invoke(self, state: Any, config: Any) -> Any:
            return graph.invoke(state, config, durability=durability)

        async def ainvoke(self, state: Any, config: Any) -> Any:
            return await graph.ainvoke(state, config, durability=durability)

    return play(Bound(), state, handler, thread="t")


def test_a_breakpoint_of_the_users_is_no_refill(guarded: Any, play: Any, ledger: Ledger) -> None:
    """`interrupt_before=["c"]`: paused after two calls, gone on with None, one more fits."""
    model = cents()
    graph = line({name: asking(model) for name in "abcde"}, checkpointer=InMemorySaver(), interrupt_before=["c"])

    play(graph, {"said": []}, guarded(RUN), thread="t")
    assert model.calls == 2
    assert isinstance(ending(play, graph, None, guarded(RUN), thread="t"), BudgetExceeded)
    assert model.calls == 3
    assert len({run.run_id for run in ledger.runs()}) == 1


def test_a_person_who_edits_the_state_while_it_waits(guarded: Any, play: Any, ledger: Ledger) -> None:
    """`update_state` between the question and the answer: still the same run, and the limit holds."""
    model, handler = cents(), guarded(ASKS)
    graph = looping(asking(model), rounds=8, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}

    play(graph, {"said": []}, handler, thread="t")
    graph.update_state(config, {"said": ["edited"]}, as_node="agent")
    again = play(graph, None, handler, thread="t")
    assert model.calls == 3
    assert stopped(again) is not None
    result = play(graph, Command(resume=answers(again, {"approve": True, "usd": 1})), handler, thread="t")
    assert stopped(result) is None
    assert len(result["said"]) == 8
    assert model.calls == 7
    assert len({run.run_id for run in ledger.runs()}) == 1


def test_a_stream_says_that_it_waits(guarded: Any) -> None:
    """`stopped` reads the chunk of each mode, and of `version="v2"`, and a GraphOutput."""
    for options in ({"stream_mode": "updates"}, {"stream_mode": "values"}, {"stream_mode": ["updates", "values"]},
                    {"stream_mode": "updates", "version": "v2"}):  # fmt: skip
        graph = looping(asking(cents()), checkpointer=InMemorySaver())
        config: Any = {"callbacks": [guarded(ASKS)], "configurable": {"thread_id": "t"}}
        chunks = list(graph.stream({"said": []}, config, **options))
        assert [each for each in map(stopped, chunks) if each is not None], options
        assert stopped(chunks[0]) is None
    graph = looping(asking(cents()), checkpointer=InMemorySaver())
    config = {"callbacks": [guarded(ASKS)], "configurable": {"thread_id": "t"}}
    assert stopped(graph.invoke({"said": []}, config, version="v2")) is not None


def test_threads_wait_side_by_side(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Two threads of one graph wait; an answer on one leaves the other waiting, with a limit of its own."""
    model, handler = cents(), guarded(ASKS)
    graph = looping(asking(model), rounds=5, checkpointer=InMemorySaver())

    for thread in ("one", "two"):
        assert stopped(play(graph, {"said": []}, handler, thread=thread)) is not None
    assert model.calls == 6
    done = play(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="one")
    assert (stopped(done), model.calls) == (None, 8)
    waits = play(graph, None, handler, thread="two")
    assert (stopped(waits) is not None, model.calls) == (True, 8)
    assert len({run.run_id for run in ledger.runs()}) == 2


def test_the_limit_stays_raised_by_what_was_said_and_no_more(guarded: Any, play: Any) -> None:
    """One cent more, three times: one call each time."""
    model, handler = cents(), guarded(ASKS)
    graph = looping(asking(model), rounds=20, checkpointer=InMemorySaver())

    play(graph, {"said": []}, handler, thread="t")
    for calls in (4, 5, 6):
        result = play(graph, Command(resume={"approve": True, "usd": "0.01"}), handler, thread="t")
        assert model.calls == calls
        assert stopped(result) is not None


def test_a_run_after_one_that_was_approved_has_the_old_limit(guarded: Any, play: Any) -> None:
    """An approval is for its run: new input on the thread has three and a half cents again."""
    model, handler = cents(), guarded(ASKS)
    graph = line({name: asking(model, name) for name in "abcde"}, checkpointer=InMemorySaver())

    play(graph, {"said": []}, handler, thread="t")
    assert stopped(play(graph, Command(resume={"approve": True, "usd": 1}), handler, thread="t")) is None
    assert model.calls == 5
    assert stopped(play(graph, {"said": []}, handler, thread="t")) is not None
    assert model.calls == 8


def test_completion_models_are_stopped_like_chat_models(guarded: Any, play: Any) -> None:
    """`BaseLLM` fires other events."""
    model = ScriptedLLM(script=lambda _p, _c: Reply(usage=tokens(0, 1_000)))

    def ask(state: Any) -> Any:
        return {"said": [model.invoke(f"round {len(state['said'])}")]}

    async def aask(state: Any) -> Any:
        return {"said": [await model.ainvoke(f"round {len(state['said'])}")]}

    assert isinstance(ending(play, looping(both(ask, aask)), {"said": []}, guarded(RUN)), BudgetExceeded)
    assert model.calls == 3
