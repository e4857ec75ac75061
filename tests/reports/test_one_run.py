"""`one_run`: what a run's page says of a real run of LangGraph, and why others stopped."""

from datetime import timedelta
from decimal import Decimal

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler
from langchain_finops.budgets.switch import kill
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.one_run import one_run
from langchain_finops.testing.records import MONDAY, a_call, a_charge, a_run, an_outcome
from langchain_finops.usage import Usage

MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_a_run_that_a_budget_stopped_says_so(ledger):
    """A graph whose third call would pass the limit of two: two calls, their node, and the budget that stopped it."""
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    answers = [AIMessage("x", usage_metadata=usage, response_metadata={"model_name": "gpt-4.1"}) for _ in range(9)]
    model = GenericFakeChatModel(messages=iter(answers), metadata={"ls_provider": "openai", "ls_model_name": "gpt-4.1"})
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "ask")
    handler = FinOpsHandler(agent_id="s", budgets=[Budget(llm_calls=2)], ledger=ledger)
    with pytest.raises(BudgetExceeded):
        builder.compile().invoke({"messages": [("user", "hi")]}, {"callbacks": [handler]})
    (record,) = ledger.runs()
    run = one_run(ledger, record.run_id)

    assert run is not None
    assert (run.status, run.who.agent_id, run.spent.calls) == ("stopped", "s", 2)
    assert run.why.startswith("Budget ")
    assert run.why.endswith(" stopped it: its next call would have passed the limit.")
    # 2 x (1,000 x $2 + 100 x $8) / 1,000,000
    assert run.spent.usd == Decimal("0.0056")
    assert [(row["node"], row["subtree_cost_usd"]) for row in run.tree] == [("ask", Decimal("0.0056"))]


def test_cost_tree_context_and_outcome(ledger):
    """Own and subtree cost by node; 100 to 500 tokens in three calls grow by 200 a step; a judge is no context."""
    at = [MONDAY + n * MINUTE for n in range(4)]
    sizes = [Usage(input_tokens=size, output_tokens=1) for size in (100, 300, 500)]
    ledger.write(
        *(a_call(f"c{n}", usd="0.5", node_path="a/b", task_id="t", started_at=at[n], usage=sizes[n]) for n in range(3)),
        a_call("j", usd=None, node_path="judge", role="judge", task_id="t", started_at=at[3]),
        a_charge("h", usd="0.25", node_path="a", task_id="t", at=at[1]),
        a_run(ended_at=MONDAY + 5 * MINUTE, steps=4, name="graph"),
        an_outcome("t", success=True, value_usd=Decimal(5)),
    )
    run = one_run(ledger, "r1", MONDAY + 6 * MINUTE)
    assert run is not None
    assert (run.status, run.why, run.name, run.steps) == ("completed", "It ran to its end.", "graph", 4)
    assert (run.spent.usd, run.spent.unpriced, run.spent.calls) == (Decimal("1.75"), 1, 4)
    assert [(row["node"], row["cost_usd"], row["subtree_cost_usd"]) for row in run.tree] == [
        ("a", Decimal("0.25"), Decimal("1.75")),
        ("a/b", Decimal("1.5"), Decimal("1.5")),
        ("judge", None, None),
    ]
    assert [(each.node, each.growth_per_step) for each in run.contexts] == [("a/b", 200)]
    assert run.outcome is not None
    assert run.outcome.success is True


def test_why_runs_stopped(ledger):
    """A kill names who and why; one that is open says whether it may be running; the others say their reason."""
    kill(ledger, "agent_id", "s", by="anna", reason="loops")
    (event,) = ledger.events(action="kill")
    later = event.at + MINUTE
    stopped = {"status": "stopped", "started_at": later, "ended_at": later}
    ledger.write(
        a_call("k", run_id="killed", invocation_id="k", agent_id="s", started_at=later),
        a_run("killed", invocation_id="k", stop_reason="killed", **stopped),
        a_call("o", run_id="open", invocation_id="o", started_at=later),
        a_run("deep", stop_reason="recursion_limit", **stopped),
        a_run("broke", status="failed", stop_reason="TimeoutError"),
    )

    def why(run_id, now=later):
        run = one_run(ledger, run_id, now)
        assert run is not None
        return run.status, run.why

    assert why("killed") == ("stopped", f"It was killed (agent_id=s) by anna at {event.at:%Y-%m-%d %H:%M} UTC: loops.")
    assert why("open")[0] == "running"
    assert why("open", later + 16 * MINUTE)[0] == "no end"
    assert why("deep")[1] == "It reached LangGraph's recursion limit."
    assert why("broke") == ("failed", "It failed: TimeoutError.")
    assert one_run(ledger, "nobody") is None
