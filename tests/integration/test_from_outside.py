"""What people set and hear while real graphs run: kills, budgets, policy files and alerts, counted by calls made."""

import subprocess
import sys
from pathlib import Path

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from scripted_models import Reply, ScriptedChat, tokens

from langchain_finops import BudgetExceeded, BurnRateAlert, CallRefused, FinOpsHandler, Ledger, open_ledger, stopped
from langchain_finops.budgets import standing, switch
from langchain_finops.budgets.notify import Alert
from langchain_finops.budgets.outside import set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.langchain.refusals import Killed

CENT = tokens(0, 1_000)
"""At $10 a million output tokens it costs $0.01."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch, tmp_path):
    """Handlers look at every start, so that no test waits for half a second; no policy file lies about."""
    monkeypatch.setattr(standing, "POLL_S", 0.0)
    monkeypatch.chdir(tmp_path)


def loop(model: ScriptedChat, turns: int = 8) -> object:
    """A graph of one node that asks again and again."""
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [model.invoke("0/1000")]})
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", lambda state: "ask" if len(state["messages"]) <= turns else "__end__")
    return builder.compile()


QUESTION = {"messages": [("user", "go")]}


def test_an_alert_is_told_once_and_stops_nothing(ledger: Ledger, prices) -> None:
    """8 calls of a cent with an alert at half of 5 cents: all are made, one alert at the third."""
    told: list[Alert] = []
    alert = BurnRateAlert(of=Budget(usd="0.05", per="day", scope="agent_id"), actual=0.5, notify=told.append)
    handler = FinOpsHandler(agent_id="support", budgets=[alert], ledger=ledger, prices=prices)
    model = ScriptedChat()
    loop(model).invoke(QUESTION, {"callbacks": [handler]})
    assert handler.flush(10)

    assert model.calls == 8
    assert [(each.scope, each.kind) for each in told] == [("agent_id=support", "actual")]
    assert str(ledger.balances()[0].spent) == "80000000000"
    assert handler.faults == 0


def test_an_alert_beside_its_budget_counts_once(ledger: Ledger, prices) -> None:
    """$0.051 are five calls of a cent; an alert on the same balance counts none of them a second time."""
    told: list[Alert] = []
    budget = Budget(usd="0.051", per="day", scope="agent_id", warn_at=())
    handler = FinOpsHandler(
        agent_id="support",
        budgets=[budget, BurnRateAlert(of=budget, actual=0.98, notify=told.append)],
        ledger=ledger,
        prices=prices,
    )
    model = ScriptedChat(max_tokens=1_000)
    with pytest.raises(BudgetExceeded):
        loop(model).invoke(QUESTION, {"callbacks": [handler]})
    assert handler.flush(10)

    assert model.calls == 5
    assert [balance.spent for balance in ledger.balances()] == [5 * 10**10]
    assert [str(alert.spent) for alert in told] == ["0.05"]


def test_a_kill_stops_the_next_call(ledger: Ledger, prices) -> None:
    """Set while the third call is made, the fourth is not; a handler of another agent goes on."""

    def answer(prompt: str, call: int) -> Reply:
        if call == 2:
            switch.kill(ledger, "agent_id", "support", by="anna", reason="loops")
        return Reply(usage=CENT)

    model = ScriptedChat(script=answer)
    handler = FinOpsHandler(agent_id="support", ledger=ledger, prices=prices)
    with pytest.raises(Killed, match="loops") as caught:
        loop(model).invoke(QUESTION, {"callbacks": [handler]})
    assert model.calls == 3
    assert stopped(caught.value).reason == "killed"

    other = FinOpsHandler(agent_id="sales", ledger=ledger, prices=prices)
    loop(model).invoke(QUESTION, {"callbacks": [other]})
    assert model.calls == 11

    switch.revive(ledger, "agent_id", "support")
    loop(model).invoke(QUESTION, {"callbacks": [handler]})
    assert model.calls == 19


def test_a_stream_is_cut_off_only_with_now(ledger: Ledger, prices) -> None:
    """A kill lets the stream in flight end; with `now` it ends at its next token, and is charged."""
    for now in (False, True):

        def answer(prompt: str, call: int) -> Reply:
            return Reply(text="abcdefgh", usage=CENT, pieces=8)

        handler = FinOpsHandler(agent_id="support", ledger=ledger, prices=prices)
        model = ScriptedChat(script=answer)
        seen: list[str] = []

        def stream(model=model, handler=handler, seen=seen, now=now) -> None:
            for chunk in model.stream("go", {"callbacks": [handler]}):
                seen.append(str(chunk.content))
                if len(seen) == 2:
                    switch.kill(ledger, "agent_id", "support", now=now)

        if now:
            with pytest.raises(CallRefused):
                stream()
            assert len("".join(seen)) < 8
        else:
            stream()
            assert "".join(seen) == "abcdefgh"
        switch.revive(ledger, "agent_id", "support")
    cut, whole = sorted(ledger.calls(), key=lambda call: call.estimated, reverse=True)
    assert (cut.estimated, whole.estimated) == (True, False)
    assert cut.cost_usd > 0


def test_a_budget_that_is_set_meanwhile_holds(ledger: Ledger, prices) -> None:
    """A handler without any limit keeps to the one that is set on its ledger after its second call."""

    def answer(prompt: str, call: int) -> Reply:
        if call == 1:
            set_budget(ledger, Budget(llm_calls=3, per="day", scope="agent_id"))
        return Reply(usage=CENT)

    model = ScriptedChat(script=answer)
    handler = FinOpsHandler(agent_id="support", ledger=ledger, prices=prices)
    with pytest.raises(BudgetExceeded, match="3 llm_calls/day per agent_id"):
        loop(model).invoke(QUESTION, {"callbacks": [handler]})

    # What was made before the budget stood has not counted on it.
    assert model.calls in {4, 5}


def test_the_policy_file_holds(ledger: Ledger, prices, tmp_path: Path) -> None:
    """Limits without code: a file in the directory that the process starts in."""
    (tmp_path / "finops.yaml").write_text("budgets: [3 llm_calls per run]", encoding="utf-8")
    model = ScriptedChat()
    handler = FinOpsHandler(ledger=ledger, prices=prices)
    with pytest.raises(BudgetExceeded):
        loop(model).invoke(QUESTION, {"callbacks": [handler]})
    assert model.calls == 3

    (tmp_path / "finops.yaml").write_text("budgets: [5 llm_calls per run]", encoding="utf-8")
    with pytest.raises(BudgetExceeded):
        loop(model).invoke(QUESTION, {"callbacks": [handler]})
    assert model.calls == 3 + 5


def test_finops_kill_of_another_process_stops_a_running_agent(tmp_path: Path, prices) -> None:
    """The command as a person types it, on a SQLite ledger that the agent has open."""
    ledger = open_ledger(tmp_path / "l.db")

    def answer(prompt: str, call: int) -> Reply:
        if call == 1:
            code = "from langchain_finops.cli.finops import main; main()"
            words = ["kill", "--all", "--reason", "enough", "--ledger", str(tmp_path / "l.db")]
            subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
        return Reply(usage=CENT)

    model = ScriptedChat(script=answer)
    handler = FinOpsHandler(ledger=ledger, prices=prices)
    with pytest.raises(Killed, match="enough"):
        loop(model).invoke(QUESTION, {"callbacks": [handler]})

    assert model.calls == 2
    (event,) = ledger.events(action="kill")
    assert (event.subject, event.reason) == ("all", "enough")
    ledger.close()


async def test_no_alert_and_no_look_blocks_an_event_loop(tmp_path: Path, prices) -> None:
    """Under blockbuster an async graph with an alert, a policy file and a SQLite ledger makes its calls, and tells."""
    from blockbuster import blockbuster_ctx

    (tmp_path / "finops.yaml").write_text("budgets: [$1/day per agent_id]", encoding="utf-8")
    told: list[Alert] = []
    model = ScriptedChat()
    builder = StateGraph(MessagesState)

    async def ask(state: MessagesState) -> dict[str, object]:
        return {"messages": [await model.ainvoke("0/1000")]}

    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", lambda state: "ask" if len(state["messages"]) <= 8 else "__end__")
    graph = builder.compile()
    with blockbuster_ctx("langchain_finops"):
        alert = BurnRateAlert(of="$0.05/day per agent_id", share=0.5, within="1h", notify=told.append)
        handler = FinOpsHandler(agent_id="support", budgets=[alert], ledger=tmp_path / "l.db", prices=prices)
        await graph.ainvoke(QUESTION, {"callbacks": [handler]})
    assert handler.flush(10)

    assert (model.calls, len(told), handler.faults) == (8, 1, 0)
    budget, *_ = [balance for balance in handler.ledger.balances() if balance.balance.startswith("usd/day")]
    assert budget.spent == 8 * 10**10
    handler.ledger.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Of modules that Apprise's plug-ins import.
def test_the_python_of_the_documentation_runs() -> None:
    """Each block of docs/alerts.md, as it stands."""
    pytest.importorskip("apprise")
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    blocks = text.split("```python\n")[1:]
    assert len(blocks) == 3
    for block in blocks:
        exec(block.partition("```")[0], {})
