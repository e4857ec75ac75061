"""Promise 6: one handler serves many runs, threads, event loops and tenants at once, exact to the token."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from graphs import asking, fan_out, graph_of, recorded
from kept_objects import keeps_text, objects_kept
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from scripted_models import Gate, Reply, ScriptedChat, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook
from langchain_finops.ledger import recover

RUNS, BRANCHES = 200, 8


class AllAtOnce:
    """Holds every call until so many have arrived, so that all are open at the same time."""

    def __init__(self, calls: int) -> None:
        self.waiting_for, self.opened = calls, asyncio.Event()

    def arrive(self) -> Any:
        self.waiting_for -= 1
        if not self.waiting_for:
            self.opened.set()
        return self.opened.wait()


def prompts(run: int) -> list[str]:
    """Prompts of a run's branches: no two calls of the 1,600 ask for the same usage."""
    return [f"{1 + run * BRANCHES + branch}/{1 + branch}" for branch in range(BRANCHES)]


def config(run: int, handler: FinOpsHandler) -> Any:
    metadata = {"task_id": f"task-{run}", "user_id": f"user-{run % 7}", "agent_id": f"agent-{run % 3}"}
    return {"callbacks": [handler], "metadata": metadata}


def expect_every_total(ledger: Ledger, handler: FinOpsHandler) -> None:
    """All calls, and the sums by task, user and in all, against what the prompts asked for."""
    recover(ledger)  # A machine too slow for hundreds of threads on one file spills records, and loses none.
    inputs = {run: sum(1 + run * BRANCHES + branch for branch in range(BRANCHES)) for run in range(RUNS)}
    output = sum(range(1, BRANCHES + 1))

    calls = list(ledger.calls())
    assert len(calls) == RUNS * BRANCHES
    for call in calls:
        run = (call.usage.input_tokens - 1) // BRANCHES
        who = call.attribution
        assert (who.task_id, who.user_id, who.agent_id) == (f"task-{run}", f"user-{run % 7}", f"agent-{run % 3}")
        assert (who.node_path, call.usage.output_tokens) == ("branch", 1 + (call.usage.input_tokens - 1) % BRANCHES)

    for groups in (ledger.totals(["task"]), handler.summary(by="task").groups):
        assert {group.key[0]: group.totals.input_tokens for group in groups} == {
            f"task-{run}": total for run, total in inputs.items()
        }
        assert {group.totals.output_tokens for group in groups} == {output}
        assert {group.totals.calls for group in groups} == {BRANCHES}

    cost = (2 * Decimal(sum(inputs.values())) + 10 * Decimal(output * RUNS)) / 1_000_000
    assert handler.summary(by="user").total().cost_usd == cost
    assert [group.totals.cost_usd for group in ledger.totals()] == [cost]
    assert Counter(run.status for run in ledger.runs()) == {"completed": RUNS}
    assert len({call.run_id for call in calls}) == RUNS


def test_200_runs_of_8_branches_in_threads(sql_ledger: Ledger, prices: PriceBook) -> None:
    """Two hundred threads start a run each at the same moment; every total is right to the token."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    model = ScriptedChat()
    start = threading.Barrier(RUNS)

    def run(number: int) -> None:
        graph = fan_out(asking(model), prompts(number))
        start.wait(30)
        graph.invoke({"answers": []}, config(number, handler))

    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(run, range(RUNS)))

    expect_every_total(sql_ledger, handler)


async def test_200_runs_of_8_branches_in_an_event_loop(sql_ledger: Ledger, prices: PriceBook) -> None:
    """All 1,600 calls are open at the same time before the first one is answered."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    gate: Any = AllAtOnce(RUNS * BRANCHES)

    def script(prompt: str, call: int) -> Reply:
        read, wrote = prompt.split("/")
        return Reply(usage=tokens(int(read), int(wrote)), gate=gate)

    node = asking(ScriptedChat(script=script), native_async=True)
    await asyncio.gather(
        *(fan_out(node, prompts(run)).ainvoke({"answers": []}, config(run, handler)) for run in range(RUNS))
    )

    expect_every_total(sql_ledger, handler)


def test_event_loops_in_several_threads_share_a_handler(sql_ledger: Ledger, prices: PriceBook) -> None:
    """Each loop's run is whole, and none sees another's."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    node = asking(ScriptedChat(), native_async=True)
    start = threading.Barrier(8)

    def loop(number: int) -> None:
        async def runs() -> None:
            graph = fan_out(node, [f"{number + 1}/{branch + 1}" for branch in range(BRANCHES)])
            await asyncio.gather(*(graph.ainvoke({"answers": []}, config(number, handler)) for _ in range(3)))

        start.wait(30)
        asyncio.run(runs())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(loop, range(8)))

    assert recorded(sql_ledger.calls()) == Counter(
        {("branch", number + 1, branch + 1): 3 for number in range(8) for branch in range(BRANCHES)}
    )
    for call in sql_ledger.calls():
        assert call.attribution.task_id == f"task-{call.usage.input_tokens - 1}"


def test_tenants_on_one_graph_do_not_mix(handler: FinOpsHandler, ledger: Ledger) -> None:
    """One compiled graph, one handler, tenants in parallel, some of which fail: each is charged for its own."""
    model = ScriptedChat()
    start = threading.Barrier(16)

    def maybe_fail(state: Any) -> Any:
        read = int(state["prompt"].split("/")[0])
        if read % 2:
            raise ValueError(read)
        return {"answers": []}

    graph = graph_of({"first": asking(model), "check": maybe_fail, "second": asking(model)})

    def run(tenant: int) -> None:
        start.wait(30)
        metadata = {"customer_id": f"customer-{tenant}", "thread_id": f"thread-{tenant}"}
        try:
            graph.invoke({"prompt": f"{tenant}/1"}, {"callbacks": [handler], "metadata": metadata})
        except ValueError:
            assert tenant % 2

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(16)))

    calls = list(ledger.calls())
    assert recorded(calls) == Counter(
        (node, tenant, 1) for tenant in range(16) for node in (["first"] if tenant % 2 else ["first", "second"])
    )
    for call in calls:
        assert call.attribution.customer_id == f"customer-{call.usage.input_tokens}"
        assert call.attribution.thread_id == f"thread-{call.usage.input_tokens}"
    assert Counter(run.status for run in ledger.runs()) == {"completed": 8, "failed": 8}


class Interleaved(str):
    """A user's id that lets another call happen at the moment when it is compared with an equal one."""

    __slots__ = ()
    __hash__ = str.__hash__
    meanwhile: Callable[[], object] | None = None

    def __eq__(self, other: object) -> bool:
        action, Interleaved.meanwhile = Interleaved.meanwhile, None
        if action:
            action()
        return str.__eq__(self, str(other))


def test_calls_of_one_node_for_several_users_do_not_mix(handler: FinOpsHandler, ledger: Ledger) -> None:
    """A node that asks for many users at once: a call that begins while another begins keeps its own user."""
    model = ScriptedChat()

    def ask(size: str, user: str) -> None:
        model.invoke(size, {"metadata": {"user_id": user}})

    def node(state: Any) -> Any:
        ask("1/1", Interleaved("user-1"))
        Interleaved.meanwhile = lambda: ask("2/2", "user-2")
        ask("1/1", Interleaved("user-1"))
        ask("1/1", Interleaved("user-1"))
        Interleaved.meanwhile = None
        return {"answers": []}

    graph_of({"crowd": node}).invoke({"answers": []}, {"callbacks": [handler]})

    assert Counter((call.attribution.user_id, call.usage.input_tokens) for call in ledger.calls()) == {
        ("user-1", 1): 3,
        ("user-2", 2): 1,
    }


def test_nothing_of_finished_runs_is_kept_but_sums(sql_ledger: Ledger, prices: PriceBook) -> None:
    """After a hundred runs the handler holds no more objects than after five, and no prompt."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    graph = fan_out(asking(ScriptedChat()), ["7/3 PROMPT"] * BRANCHES)

    def runs(times: int) -> Counter[str]:
        for _ in range(times):
            graph.invoke({"answers": []}, {"callbacks": [handler]})
        return objects_kept(handler)

    after_five = runs(5)
    assert runs(95) - after_five == Counter()
    assert not keeps_text(handler, "PROMPT")
    assert handler.summary(by="node").total().calls == 100 * BRANCHES


async def test_cancelled_runs_do_not_pile_up(sql_ledger: Ledger, prices: PriceBook) -> None:
    """Whatever is remembered of cancelled calls, so that a late answer still counts, is bounded."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    reply = Reply(usage=tokens(7, 3), gate=Gate(asyncio.Event))
    graph = fan_out(asking(ScriptedChat(script=lambda *_: reply), native_async=True), ["PROMPT"] * 300)

    async def cancelled_run() -> int:
        running = asyncio.ensure_future(graph.ainvoke({"answers": []}, {"callbacks": [handler]}))
        await reply.gate.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        reply.gate.reached.clear()
        return objects_kept(handler).total()

    for _ in range(4):
        kept = await cancelled_run()
    assert await cancelled_run() <= kept * 1.02
    assert not keeps_text(handler, "PROMPT")


async def test_a_fan_out_of_thousands_is_counted_to_the_branch(handler: FinOpsHandler, ledger: Ledger) -> None:
    """Eleven hundred branches open at once: each call has its node, each branch is one step."""
    gate: Any = AllAtOnce(1100)
    reply = Reply(usage=tokens(7, 3), gate=gate)
    graph = fan_out(asking(ScriptedChat(script=lambda *_: reply), native_async=True), ["PROMPT"] * 1100)

    await graph.ainvoke({"answers": []}, {"callbacks": [handler]})

    assert recorded(ledger.calls()) == {("branch", 7, 3): 1100}
    assert [run.steps for run in ledger.runs()] == [1100]
    assert {call.attribution.step for call in ledger.calls()} == set(range(1, 1101))


def test_many_keys_are_summed_up_as_other(handler: FinOpsHandler) -> None:
    """Ten thousand keys of a dimension are told apart; later ones add up under `other`, and the total stays exact."""
    answer = LLMResult(generations=[[ChatGeneration(message=AIMessage("ANSWER", usage_metadata=tokens(1, 1)))]])
    for number in range(10_003):
        call = uuid4()  # The hooks themselves: ten thousand real calls would take seconds.
        metadata = {"ls_model_name": "scripted-chat", "user_id": f"user-{number}"}
        handler.on_chat_model_start({}, [[HumanMessage("PROMPT")]], run_id=call, metadata=metadata)
        handler.on_llm_end(answer, run_id=call)

    groups = {group.key[0]: group.totals.calls for group in handler.summary(by="user").groups}
    assert len(groups) == 10_001
    assert groups["other"] == 3
    assert handler.summary(by="user").total().calls == 10_003
