"""Ways around a limit that people find without looking: wrappers of graphs, resumptions, odd requests, attach."""

import asyncio
from typing import Any

import pytest
from guarded_scenes import CENT, FITS_THREE, State, asking, both, cents, ending, fan_out, line, looping, statuses
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableParallel
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.types import Command
from provider_server import Answer, ProviderServer, openai_usage
from scripted_models import Reply, ScriptedChat, tokens

from langchain_finops import Budget, BudgetExceeded, Ledger, PriceBook, attach, detach, stopped
from langchain_finops.langchain import answers
from langchain_finops.pricing import parse_cards

RUN, AGENT = Budget(usd=FITS_THREE), Budget(usd=FITS_THREE, scope="agent_id")
NO_WAIT: Any = {"wait_exponential_jitter": False}


def test_a_graph_that_is_retried_as_a_whole_makes_three_calls(guarded: Any, play: Any) -> None:
    """`graph.with_retry()`: one run, however often it is tried."""
    model = cents()
    graph = looping(asking(model)).with_retry(stop_after_attempt=3, **NO_WAIT)

    assert isinstance(ending(play, graph, {"said": []}, guarded(RUN)), BudgetExceeded)
    assert model.calls == 3


def test_a_graph_that_stands_in_for_another_makes_no_call(guarded: Any, play: Any) -> None:
    """`graph.with_fallbacks([other])`: the other draws on the same run's budget, which is spent."""
    model, spare = cents(), cents(model_name="scripted-spare")
    graph = looping(asking(model)).with_fallbacks([looping(asking(spare))])

    assert isinstance(ending(play, graph, {"said": []}, guarded(RUN)), BudgetExceeded)
    assert (model.calls, spare.calls) == (3, 0)


def test_models_side_by_side_without_a_graph(guarded: Any, play: Any) -> None:
    """A RunnableParallel of eight: three are called."""
    model = cents()
    both_ways = RunnableParallel({f"m{n}": model for n in range(8)})

    assert isinstance(ending(play, both_ways, "hi", guarded(RUN)), BudgetExceeded)
    assert model.calls == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_of_graphs_is_runs_of_their_own(is_async: bool, guarded: Any) -> None:
    """Eight graphs of two calls each fit a run's budget each, and an agent's not."""
    for budget, calls in ((RUN, 16), (AGENT, 3)):
        model = cents()
        graph, config = looping(asking(model), rounds=2), {"callbacks": [guarded(budget)]}
        inputs = [{"said": []}] * 8
        if is_async:
            asyncio.run(graph.abatch(inputs, config, return_exceptions=True))
        else:
            graph.batch(inputs, config, return_exceptions=True)
        assert model.calls == calls


def test_going_on_after_a_refusal_is_not_a_budget_anew(guarded: Any, play: Any, ledger: Ledger) -> None:
    """A run that was refused with `raise` and is invoked with None on its thread spends no second budget."""
    model = cents()
    graph = looping(asking(model), checkpointer=InMemorySaver())

    refusals = [ending(play, graph, {"said": []}, guarded(RUN), thread="t")]
    refusals += [ending(play, graph, None, guarded(RUN), thread="t") for _ in range(3)]

    assert [type(each) for each in refusals] == [BudgetExceeded] * 4
    assert model.calls == 3


def test_a_person_who_approves_tools_is_no_refill(guarded: Any, play: Any, ledger: Ledger) -> None:
    """HumanInTheLoopMiddleware pauses before each tool: one run over all its pauses, three calls in all."""
    model = ScriptedChat(
        script=lambda _p, call: Reply(text="", usage=CENT, tool_calls=[("look", {"place": f"p{call}"})])
    )

    def look(place: str) -> str:
        """Look there."""
        return place

    agent = create_agent(
        model, [look], middleware=[HumanInTheLoopMiddleware(interrupt_on={"look": True})], checkpointer=InMemorySaver()
    )
    state: Any = {"messages": [HumanMessage("go")]}
    for _ in range(3):
        assert stopped(play(agent, state, guarded(RUN), thread="t")) is None
        state = Command(resume={"decisions": [{"type": "approve"}]})
    assert isinstance(ending(play, agent, state, guarded(RUN), thread="t"), BudgetExceeded)
    assert model.calls == 3
    assert len({run.run_id for run in ledger.runs()}) == 1


def test_answers_asked_for_n_times_are_held_n_times(guarded: Any, play: Any) -> None:
    """`n=4` under strict admission: bounded at four thousand tokens, so it does not fit three and a half cents."""
    model = ScriptedChat(script=lambda _p, _c: Reply(usage=tokens(0, 4_000)), max_tokens=1_000)

    strict = Budget(usd=FITS_THREE, admission="strict")
    assert isinstance(ending(play, line({"a": asking(model.bind(n=4))}), {"said": []}, guarded(strict)), BudgetExceeded)
    assert model.calls == 0
    model = ScriptedChat(script=lambda _p, _c: Reply(usage=tokens(0, 3_000)), max_tokens=1_000)
    assert ending(play, line({"a": asking(model.bind(n=3))}), {"said": []}, guarded(strict)) is None


BOOK = PriceBook(
    cards=parse_cards(
        [
            {"id": "gpt", "match": {"model": "gpt-4.1-mini"}, "rates": {"input_tokens": "2", "output_tokens": "10"}},
            {"id": "claude", "match": {"model": "claude-*"}, "rates": {"input_tokens": "2", "output_tokens": "10"}},
        ],
        where="test",
    ),
    catalog=False,
)


def gpt(provider: ProviderServer, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4.1-mini", base_url=f"{provider.url}/v1", api_key="x", max_retries=0, **options)


def test_a_stream_that_reports_no_usage_still_stops(provider: ProviderServer, guarded: Any, play: Any) -> None:
    """ChatOpenAI with a base_url asks for no usage: charged at what was held, a cent; neighbours record $0."""
    provider.answers = [Answer(model="gpt-4.1-mini")]

    refusal = ending(play, looping(asking(gpt(provider, streaming=True))), {"said": []}, guarded(AGENT, prices=BOOK))

    assert isinstance(refusal, BudgetExceeded)
    assert len(provider.seen) == 3


@pytest.mark.parametrize("bound", ["max_tokens", "max_completion_tokens", "bind", "invoke"])
def test_strict_admission_reads_a_real_clients_own_maximum(
    bound: str, provider: ProviderServer, guarded: Any, play: Any
) -> None:
    """However ChatOpenAI is told of it; without any it is refused."""
    provider.answers = [Answer(model="gpt-4.1-mini", usage=openai_usage(0, 1_000))]
    strict = Budget(usd=FITS_THREE, scope="agent_id", admission="strict")
    model: Any = gpt(provider) if bound in ("bind", "invoke") else gpt(provider, **{bound: 1_000})
    if bound in ("bind", "invoke"):
        assert isinstance(
            ending(play, line({"a": asking(model)}), {"said": []}, guarded(strict, prices=BOOK)), BudgetExceeded
        )
        assert provider.seen == []
        model = model.bind(max_tokens=1_000) if bound == "bind" else model.bind(max_completion_tokens=1_000)

    refusal = ending(play, fan_out(asking(model), 8), {"said": []}, guarded(strict, prices=BOOK))

    assert isinstance(refusal, BudgetExceeded)
    assert len(provider.seen) == 3


def test_strict_admission_knows_anthropics_default(provider: ProviderServer, guarded: Any, play: Any) -> None:
    """ChatAnthropic always sends a maximum: its default bounds the call, too."""
    model = ChatAnthropic(model="claude-haiku-4-5", base_url=provider.url, api_key="x", max_retries=0)
    strict = Budget(usd=FITS_THREE, admission="strict")

    refusal = ending(play, line({"a": asking(model)}), {"said": []}, guarded(strict, prices=BOOK))

    assert isinstance(refusal, BudgetExceeded)
    assert "max_tokens" in str(refusal)
    assert provider.seen == []


@pytest.mark.usefixtures("other_handlers")
def test_an_attached_handler_holds_where_callbacks_are_thrown_away(guarded: Any) -> None:
    """`{"callbacks": []}` and raw threads lose events; `attach` does not, and the agent's budget holds."""
    import threading

    model, handler, refused = cents(), guarded(AGENT), []
    attach(handler)
    try:

        def call(number: int) -> None:
            try:
                model.invoke(f"p{number}", {"callbacks": []})
            except BudgetExceeded:
                refused.append(number)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        detach()
    assert (model.calls, len(refused)) == (3, 5)


@pytest.mark.usefixtures("other_handlers")
def test_one_handler_given_three_times_counts_once(guarded: Any, play: Any, ledger: Ledger) -> None:
    """On the model, in the config, and attached."""
    handler = guarded(AGENT)
    model = cents(callbacks=[handler])
    attach(handler)
    try:
        refusal = ending(play, looping(asking(model)), {"said": []}, handler)
    finally:
        detach()
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3
    assert [(each.spent, each.held) for each in ledger.balances()] == [(3 * 10**10, 0)]


def test_twenty_branches_wait_and_are_let_through_together(guarded: Any, play: Any) -> None:
    """A 20-way `Send` with a cap of three: seventeen questions, one map, and nothing is paid twice."""
    model, handler = cents(), guarded(Budget(usd=FITS_THREE, on_exceed="interrupt"))
    graph = fan_out(asking(model), 20, checkpointer=InMemorySaver())

    result = play(graph, {"said": []}, handler, thread="t")
    assert model.calls == 3
    assert len(stopped(result).interrupts) == 17  # type: ignore[union-attr]
    result = play(graph, Command(resume=answers(result, {"approve": True, "usd": 1})), handler, thread="t")
    assert (stopped(result), model.calls, len(result["said"])) == (None, 20, 20)


def test_twenty_branches_drain_together(guarded: Any, play: Any) -> None:
    """Three are kept, and going on asks the other seventeen."""
    model = cents()
    graph = fan_out(asking(model), 20, checkpointer=InMemorySaver())

    with pytest.raises(GraphDrained):
        play(graph, {"said": []}, guarded(Budget(usd=FITS_THREE, on_exceed="drain")), thread="t")
    assert model.calls == 3
    result = play(graph, None, guarded(Budget(usd=1, on_exceed="drain")), thread="t")
    assert (model.calls, len(result["said"])) == (20, 20)


def test_odd_requests_are_measured_all_the_same(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Tools that nobody can write as JSON, and content of other kinds: no way around the limit."""
    odd: Any = {}
    odd["itself"] = odd
    model = cents()

    def node(prompts: Any) -> Any:
        def ask(state: State) -> State:
            return {"said": [model.bind(tools=[odd, object()], response_format=odd).invoke(prompts).text]}

        async def aask(state: State) -> State:
            return {"said": [(await model.bind(tools=[odd, object()], response_format=odd).ainvoke(prompts)).text]}

        return both(ask, aask)

    image = HumanMessage([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}, {"type": "text", "text": "x"}])
    handler = guarded(AGENT)
    refusal = ending(play, looping(node([image])), {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3


def test_a_refusal_names_the_outermost_budget(guarded: Any, play: Any) -> None:
    """Run, agent and all are spent at once: the one for all is named, whatever their order."""
    budgets = [
        Budget(usd="0.025", scope=scope, per=per) for scope, per in (("run", None), ("agent_id", None), ("all", "year"))
    ]
    for order in (budgets, budgets[::-1]):
        refusal = ending(play, looping(asking(cents())), {"said": []}, guarded(*order, agent_id=f"a{len(order)}"))
        assert isinstance(refusal, BudgetExceeded)
        assert refusal.budget == budgets[2].label


def test_what_overshoots_says_by_how_much(guarded: Any, play: Any, caplog: Any, ledger: Ledger) -> None:
    """`expected` may overshoot by what calls in flight exceed their estimates: here each takes five times as much."""
    import logging

    model = ScriptedChat(script=lambda _p, _c: Reply(usage=tokens(0, 5_000)))
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        refusal = ending(play, fan_out(asking(model), 8), {"said": []}, guarded(AGENT))
    assert isinstance(refusal, BudgetExceeded)
    assert 1 <= model.calls <= 3
    assert "0.015 too much" in caplog.text  # One such answer alone is five cents.
    assert statuses(ledger)[0][0] == "stopped"
