"""Real graphs that waste, and one that does not: what the handler wrote is enough for `advise` to tell them apart."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from langchain_finops import FinOpsHandler, Ledger, open_ledger
from langchain_finops.reports.advise import advise

WORDS = 400
"""Each message is as many words, and as many tokens."""


class Said(BaseChatModel):
    """Answers with so many words; a token is a word."""

    name_: str
    words: int = WORDS

    @property
    def _llm_type(self) -> str:
        return "said"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.name_, "ls_model_type": "chat"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        asked = sum(len(message.text.split()) for message in messages)
        usage = {"input_tokens": asked, "output_tokens": self.words, "total_tokens": asked + self.words}
        answer = AIMessage("so " * self.words, usage_metadata=usage, response_metadata={"model_name": self.name_})
        return ChatResult(generations=[ChatGeneration(message=answer)])


def looping(model: BaseChatModel, steps: int) -> Any:
    """An agent that thinks so many times, and keeps all that it thought."""

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def is_over(state: MessagesState) -> str:
        return END if len(state["messages"]) > steps else "think"

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", is_over)
    return builder.compile(name="loop")


@pytest.fixture
def ledger(tmp_path: Any) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path / "ledger.db", hold_timeout=60.0)
    yield opened
    opened.close()


def config(handler: FinOpsHandler, number: int, **metadata: str) -> Any:
    """The configuration of one run, for a task and a user of its own."""
    return {
        "callbacks": [handler],
        "recursion_limit": 50,
        "metadata": {"task_id": f"t{number}", "user_id": f"u{number}", **metadata},
    }


def question() -> dict[str, Any]:
    return {"messages": [HumanMessage("why " * WORDS)]}


def run(ledger: Ledger, graph: Any, count: int, *, success: bool = True, **metadata: str) -> None:
    """Run the graph for so many tasks, and log what became of them."""
    handler = FinOpsHandler(ledger=ledger)
    for number in range(count):
        graph.invoke(question(), config(handler, number, **metadata))
        handler.log_outcome(task_id=f"t{number}", success=success)
    handler.flush(60)


def kinds(ledger: Ledger, **more: Any) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in advise(ledger, **more).rows}


def test_a_loop_that_keeps_everything_is_found(ledger: Ledger) -> None:
    """Eight calls of 400, 800 ... 3,200 tokens: from the fourth on the one before has 1,024 or more, and from the fifth
    on 400, 800, 1,200 and 1,600 tokens are past the first prompt and the last three steps."""
    run(ledger, looping(Said(name_="gpt-4.1"), 8), 3)
    found = kinds(ledger)
    assert found.keys() == {"uncached_prefix", "growing_context"}
    assert found["growing_context"]["saving_usd"] == 3 * 4000 * Decimal(2) / 1_000_000
    reads = 1200 + 1600 + 2000 + 2400 + 2800
    assert found["uncached_prefix"]["saving_usd"] == 3 * reads * Decimal("1.5") / 1_000_000
    assert found["uncached_prefix"]["node"] == "think"
    assert kinds(ledger, protect=["think"]) == {}


def test_a_short_loop_is_clean(ledger: Ledger) -> None:
    """Two calls a run, long answers, a model that is not dear, users who wait, all solved: nothing is found."""
    run(ledger, looping(Said(name_="gpt-4.1-mini"), 2), 60)
    result = advise(ledger)
    assert result.rows == []
    # 60 runs of 400 and 800 tokens in and 400 out twice.
    assert result.cost_usd == 60 * (1200 * Decimal("0.4") + 800 * Decimal("1.6")) / 1_000_000


def test_a_loop_over_questions_that_names_nobody_is_clean(ledger: Ledger) -> None:
    """A script asks one thing after the other, with no user and no outcome, and gets a word: that is no clock."""
    handler, graph = FinOpsHandler(ledger=ledger), looping(Said(name_="gpt-4.1-mini", words=1), 1)
    for _ in range(20):
        graph.invoke(question(), {"callbacks": [handler]})
    handler.flush(60)
    assert advise(ledger).rows == []


def test_retries_of_a_node_that_cannot_succeed_are_found(ledger: Ledger) -> None:
    """Each of six runs asks three times, and fails all the same: two calls of each were for nothing."""
    model = Said(name_="gpt-4.1-mini")

    def judge(state: MessagesState) -> dict[str, Any]:
        model.invoke(state["messages"])
        raise ValueError("no JSON")

    builder = StateGraph(MessagesState)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.0, jitter=False, retry_on=ValueError)
    builder.add_node("judge", judge, retry_policy=policy)
    builder.add_edge(START, "judge")
    graph = builder.compile(name="judging")
    handler = FinOpsHandler(ledger=ledger)
    for number in range(6):
        with pytest.raises(ValueError, match="no JSON"):
            graph.invoke(question(), config(handler, number))
    handler.flush(60)
    (row,) = advise(ledger).rows
    assert (row["kind"], row["node"], row["calls"]) == ("futile_retries", "judge", 12)
    assert row["saving_usd"] == 12 * (400 * Decimal("0.4") + 400 * Decimal("1.6")) / 1_000_000


def test_a_router_on_a_dear_model_and_summaries_are_found(ledger: Ledger) -> None:
    """A word by gpt-4.1 for each of 50 questions; a summary, which LangChain's middleware marks, for every answer."""
    router, worker = Said(name_="gpt-4.1", words=1), Said(name_="gpt-4.1-mini")

    def summary(state: MessagesState) -> dict[str, Any]:
        worker.invoke(state["messages"], {"metadata": {"lc_source": "summarization"}})
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("route", lambda state: {"messages": [router.invoke(state["messages"])]})
    builder.add_node("answer", lambda state: {"messages": [worker.invoke(state["messages"])]})
    builder.add_node("sum", summary)
    for edge in ((START, "route"), ("route", "answer"), ("answer", "sum")):
        builder.add_edge(*edge)
    run(ledger, builder.compile(name="routed"), 50)
    found = kinds(ledger)
    assert found.keys() == {"small_answers", "overhead"}
    # 400 tokens in at $2 and one out at $8: a fifth of it with gpt-4.1-mini.
    assert found["small_answers"]["saving_usd"] == 50 * Decimal("0.000808") * 4 / 5
    assert (found["overhead"]["node"], found["overhead"]["saving_is"]) == ("sum", "at_most")
    assert found["overhead"]["saving_usd"] == 50 * (801 * Decimal("0.4") + 400 * Decimal("1.6")) / 1_000_000


def test_two_models_for_the_same_tasks_are_compared(ledger: Ledger) -> None:
    """Forty tasks by each, all solved: the cheap one is enough. Where it solves none, it is not."""
    for name in ("gpt-4.1", "gpt-4.1-mini"):
        handler = FinOpsHandler(ledger=ledger)
        graph = looping(Said(name_=name), 1)
        for number in range(40):
            graph.invoke(question(), config(handler, number, task_id=f"{name}-{number}"))
            handler.log_outcome(task_id=f"{name}-{number}", success=True)
        handler.flush(60)
    (row,) = advise(ledger).rows
    assert (row["kind"], row["model"]) == ("cheaper_model", "gpt-4.1")
    assert row["saving_usd"] == 40 * (400 * Decimal(2) + 400 * Decimal(8)) / 1_000_000 * 4 / 5

    for number in range(40):
        handler.log_outcome(task_id=f"gpt-4.1-mini-{number}", success=False)
    handler.flush(60)
    assert advise(ledger).rows == []
