"""What people do from outside while agents run: kills, budgets, policy files, alerts; by the command line."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from guarded_scenes import CENT, asking, cents, ending, line, looping, statuses
from langchain_core.messages import HumanMessage
from scripted_models import Gate, Reply, ScriptedChat, scripted
from typer.testing import CliRunner

from langchain_finops import (
    Budget,
    BudgetExceeded,
    BurnRateAlert,
    FinOpsHandler,
    Ledger,
    PriceBook,
    open_ledger,
    stopped,
)
from langchain_finops.budgets import standing
from langchain_finops.cli.finops import app
from langchain_finops.langchain.refusals import Killed

ON_FILE = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(autouse=True)
def _looks_at_every_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Handlers look twice a second; no scenario waits so long. Nor does one read somebody's `finops.yaml`."""
    monkeypatch.setattr(standing, "POLL_S", 0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finops(url: str) -> Any:
    """Runs a command on the scenario's ledger; its output."""

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--ledger", url])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def at_call(number: int, action: Any) -> ScriptedChat:
    """A model during whose call so many something happens outside."""

    def script(_prompt: str, call: int) -> Reply:
        if call == number:
            action()
        return Reply(usage=CENT)

    return ScriptedChat(script=script)


@ON_FILE
def test_a_kill_by_the_command_line_stops_running_agents(finops: Any, guarded: Any, play: Any, ledger: Ledger) -> None:
    """In the second call: that is finished and paid, the third refused; others run on; revived, so does this one."""
    model = at_call(1, lambda: finops("kill", "--agent-id", "support", "--reason", "too loud"))
    handler = guarded()

    refusal = ending(play, looping(asking(model)), {"said": []}, handler)

    assert isinstance(refusal, Killed)
    assert "too loud" in str(refusal)
    assert model.calls == len(list(ledger.calls())) == 2
    assert statuses(ledger) == [("stopped", "killed")]
    assert ending(play, line({"a": asking(model)}), {"said": []}, guarded(agent_id="other")) is None
    finops("revive", "--agent-id", "support")
    assert ending(play, line({"a": asking(model)}), {"said": []}, handler) is None
    assert [event["action"] for event in json.loads(finops("events", "--format", "json"))].count("kill") == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("words", [("--user-id", "ada"), ("--task-id", "t-1"), ("--all",)])
def test_a_kill_is_of_a_user_a_task_or_all(words: Any, finops: Any, guarded: Any, play: Any) -> None:
    """Protected nodes are stopped, too."""
    model = cents()
    finops("kill", *words)
    graph, metadata = line({"validate": asking(model)}), {"user_id": "ada", "task_id": "t-1"}

    assert isinstance(ending(play, graph, {"said": []}, guarded(protect=["validate"]), metadata=metadata), Killed)
    others = ending(play, graph, {"said": []}, guarded(), metadata={"user_id": "bob", "task_id": "t-2"})
    assert isinstance(others, Killed) == (words == ("--all",))
    assert model.calls == (0 if words == ("--all",) else 1)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_now", [False, True])
@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_in_flight_is_cut_off_when_asked(
    way: str, is_now: bool, finops: Any, guarded: Any, ledger: Ledger
) -> None:
    """With `--now` at its next token, charged at its estimate; without, it goes on to its end."""
    model = ScriptedChat(script=lambda _p, _c: Reply(text="abcdefghij", usage=CENT, pieces=10))
    handler, chunks = guarded(Budget(usd=1, scope="agent_id")), []

    def pull() -> None:
        finops("kill", "--all", *(["--now"] if is_now else []))

    def sync() -> None:
        for chunk in model.stream("hi", {"callbacks": [handler]}):
            chunks.append(chunk)
            if len(chunks) == 3:
                pull()

    async def asynchronous() -> None:
        async for chunk in model.astream("hi", {"callbacks": [handler]}):
            chunks.append(chunk)
            if len(chunks) == 3:
                pull()

    def consume() -> None:
        sync() if way == "stream" else asyncio.run(asynchronous())

    if is_now:
        with pytest.raises(Killed):
            consume()
        assert len(chunks) == 3
    else:
        consume()
        assert len([chunk for chunk in chunks if chunk.text]) == 10
    (call,) = ledger.calls()
    assert call.estimated == is_now
    assert [(each.spent > 0, each.held) for each in ledger.balances()] == [(True, 0)]


@ON_FILE
def test_a_budget_set_by_the_command_line_holds_in_running_handlers(
    finops: Any, guarded: Any, play: Any, ledger: Ledger
) -> None:
    """Set in the second call, it counts from the third: three more calls; then it is removed."""
    model = at_call(1, lambda: finops("budget", "set", "$0.035 per agent_id", "--by", "ada"))
    handler = guarded()

    refusal = ending(play, looping(asking(model)), {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 5
    (row,) = json.loads(finops("budget", "list", "--format", "json"))
    assert row["spent"] == "0.03"
    assert row["held"] == "0"
    finops("budget", "remove", "$0.035 per agent_id")
    assert ending(play, looping(asking(model), rounds=4), {"said": []}, handler) is None
    assert {event.actor for event in ledger.events() if event.action.startswith("budget")} >= {"ada"}


def test_a_policy_file_that_changes_is_seen_by_a_running_handler(
    play: Any, ledger: Ledger, prices: PriceBook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Written in the second call: two calls more. Broken, it keeps what it said; deleted, its limits are gone."""
    file = tmp_path / "finops.yaml"
    model = at_call(1, lambda: file.write_text("budgets: ['2 llm_calls per agent_id']\n"))
    handler = FinOpsHandler(agent_id="support", ledger=ledger, prices=prices)

    assert isinstance(ending(play, looping(asking(model)), {"said": []}, handler), BudgetExceeded)
    assert model.calls == 4
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        file.write_text("budgets: [{usd: -1}]\n")
        assert isinstance(ending(play, looping(asking(model)), {"said": []}, handler), BudgetExceeded)
    assert "finops.yaml" in caplog.text
    assert model.calls == 4
    file.unlink()
    assert ending(play, looping(asking(model), rounds=3), {"said": []}, handler) is None


def test_a_policy_file_holds_all_kinds_of_guards(guarded: Any, play: Any, tmp_path: Path) -> None:
    """Loop guards, model policies and protected nodes from the file stop a run as those in code do."""
    (tmp_path / "finops.yaml").write_text(
        "loop_guards: [{repeats: 2, window: 6}]\n"
        "models: [{match: {node: router}, allow: ['*mini*']}]\n"
        "budgets: ['$0.025']\n"
        "protect: [validate]\n"
    )
    model = cents()
    loop = ending(play, looping(asking(model, "the same")), {"said": []}, guarded())
    assert type(loop).__name__ == "LoopDetected"
    assert model.calls == 2
    refusal = ending(play, line({"router": asking(model)}), {"said": []}, guarded())
    assert refusal is not None
    assert (model.calls, refusal.kind) == (2, "model_policy")  # type: ignore[attr-defined]
    graph = line({"a": asking(model), "b": asking(model), "c": asking(model), "validate": asking(model)})
    assert stopped(ending(play, graph, {"said": []}, guarded())).unvalidated == ("validate",)  # type: ignore[union-attr]


@ON_FILE
def test_an_alert_comes_once_for_all_processes(url: str, prices: PriceBook, play: Any, ledger: Ledger) -> None:
    """Four handlers on ledgers of their own, as four processes have: one message for each threshold passed."""
    told: list[str] = []
    of = Budget(usd="0.10", per="year", scope="agent_id")
    ledgers = [open_ledger(url, hold_timeout=20) for _ in range(4)]
    handlers = [
        FinOpsHandler(
            agent_id="support",
            budgets=[BurnRateAlert(of=of, actual=(0.25, 0.5), notify=lambda alert: told.append(alert.text))],
            ledger=each,
            prices=prices,
        )
        for each in ledgers
    ]
    model = cents()
    for round_ in range(2):
        for handler in handlers:
            play(line({"a": asking(model, f"{round_}")}), {"said": []}, handler)
            assert handler.flush(20)
    assert len(told) == 2
    assert [handler.faults for handler in handlers] == [0] * 4
    assert len(list(ledger.events(action="alert"))) == 2
    for each in ledgers:
        each.close()


def test_a_quarter_of_the_day_within_an_hour(guarded: Any, play: Any) -> None:
    """`share=0.25, within="1h"`: the third cent of ten sets it off, once, and stops nothing."""
    told: list[Any] = []
    of = Budget(usd="0.10", per="day", scope="agent_id")
    handler = guarded(BurnRateAlert(of=of, share=0.25, within="1h", notify=told.append))
    model = cents()
    for _ in range(6):
        play(line({"a": asking(model)}), {"said": []}, handler)
        handler.flush(20)
    assert model.calls == 6
    assert len(told) == 1
    assert told[0].kind == "share"


def test_middleware_ends_an_agent_with_a_message(guarded: Any, play: Any, ledger: Ledger) -> None:
    """A `create_agent` with FinOpsMiddleware: bounded answers, and a last message that `stopped` reads."""
    from langchain.agents import create_agent

    from langchain_finops.langchain.middleware import FinOpsMiddleware

    bounds: list[Any] = []

    class Bounded(ScriptedChat):
        def bind_tools(self, tools: Any, **options: Any) -> Any:
            return self.bind(**options)

        def _generate(self, *arguments: Any, **options: Any) -> Any:
            bounds.append(options.get("max_tokens"))
            return super()._generate(*arguments, **options)

        async def _agenerate(self, *arguments: Any, **options: Any) -> Any:
            bounds.append(options.get("max_tokens"))
            return await super()._agenerate(*arguments, **options)

    def look(place: str) -> str:
        """Look there."""
        return "nothing"

    model = Bounded(script=lambda _p, call: Reply(text="", usage=CENT, tool_calls=[("look", {"place": f"p{call}"})]))
    budget = Budget(usd="0.035", scope="agent_id")
    handler = guarded(budget)
    agent = create_agent(model, [look], middleware=[FinOpsMiddleware(handler)])

    result = play(agent, {"messages": [HumanMessage("go")]}, handler, recursion_limit=60)

    stop = stopped(result)
    assert stop is not None
    assert (stop.reason, stop.budget) == (f"budget:{budget.label}", budget.label)
    assert result["messages"][-1].text
    assert 3 <= model.calls <= 4  # The last half cent affords an answer of some 490 tokens; this one takes its 1,000.
    assert bounds[0] is not None
    assert bounds == sorted(bounds, reverse=True)
    assert statuses(ledger)[0][0] == "stopped"


def test_a_kill_while_a_call_waits_lets_it_finish(guarded: Any, ledger: Ledger) -> None:
    """A paid answer is never thrown away."""
    from langchain_finops.budgets.switch import kill

    handler = guarded(Budget(usd=1, scope="agent_id"))

    async def run() -> Any:
        gate = Gate(asyncio.Event)
        running = asyncio.create_task(scripted(Reply(usage=CENT, gate=gate)).ainvoke("hi", {"callbacks": [handler]}))
        await gate.reached.wait()
        kill(ledger, "all")
        gate.opened.set()
        return await running

    assert asyncio.run(run()).text == "ANSWER"
    assert [(each.spent, each.held) for each in ledger.balances()] == [(10**10, 0)]
