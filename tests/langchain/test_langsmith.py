"""LangSmith: our marks arrive with the real client on a loopback server, whoever put the tracer there."""

import copy
import inspect
import pickle
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt
from langsmith import Client
from langsmith import run_trees as langsmith_run_trees
from langsmith import utils as langsmith_utils
from langsmith_server import PROJECT, LangSmithServer

from langchain_finops import FinOpsHandler, PriceBook, attach, detach
from langchain_finops.langchain.langsmith import marked
from langchain_finops.pricing import parse_cards

CARDS = [{"id": "scripted", "match": {"model": "scripted"}, "rates": {"input_tokens": 3, "output_tokens": 15}}]
COST = "0.00063"
"""10 input tokens at $3 and 40 output tokens at $15 a million, in dollars."""


@pytest.fixture
def traced_by_environment(
    server: LangSmithServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LangSmithServer]:
    """Tracing is on as users switch it on: by the environment."""
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
    monkeypatch.setenv("LANGSMITH_API_KEY", "x")
    monkeypatch.setattr(langsmith_run_trees, "_CLIENT", client)
    langsmith_utils.get_env_var.cache_clear()
    yield server
    monkeypatch.undo()
    langsmith_utils.get_env_var.cache_clear()


def scripted() -> GenericFakeChatModel:
    """A scripted model that reports 10 input and 40 output tokens each time."""

    def answers() -> Iterator[AIMessage]:
        while True:
            yield AIMessage(
                "secret",
                usage_metadata={"input_tokens": 10, "output_tokens": 40, "total_tokens": 50},
                response_metadata={"model_name": "scripted"},
            )

    return GenericFakeChatModel(messages=answers(), name="the-model")


def graph() -> Any:
    """A graph of one node that makes one call."""
    model = scripted()

    def sync_node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", sync_node)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile(name="the-graph")


def handler(**more: Any) -> FinOpsHandler:
    book = PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)
    return FinOpsHandler(agent_id="support", ledger=":memory:", prices=book, **more)


METADATA = {"task_id": "t-42", "user_id": "u-7"}
QUESTION = {"messages": [("user", "hello")]}


def assert_marked(run: dict[str, Any], *, status: str = "completed") -> None:
    metadata = run["extra"]["metadata"]
    assert metadata["finops:agent_id"] == "support"
    assert metadata["finops:task_id"] == "t-42"
    assert metadata["finops:user_id"] == "u-7"
    assert metadata["finops:status"] == status
    assert Decimal(metadata["finops:cost_usd"]) == Decimal(COST)
    assert metadata["finops:cost_status"] == "exact"
    wanted = {"finops:agent_id=support", "finops:task_id=t-42", f"finops:status={status}", f"finops:cost_usd={COST}"}
    assert wanted <= set(run["tags"])
    assert run["end_time"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_marks_arrive_with_tracing_from_the_environment(
    traced_by_environment: LangSmithServer, asynchronous: bool
) -> None:
    """The root run and its model run carry agent, task, status and exact cost, as tags and as metadata."""
    config = {"callbacks": [handler()], "metadata": METADATA}
    if asynchronous:
        await graph().ainvoke(QUESTION, config)
    else:
        graph().invoke(QUESTION, config)

    assert_marked(traced_by_environment.named("the-graph"))
    assert_marked(traced_by_environment.named("the-model"))


@pytest.mark.parametrize("ours_first", [False, True])
def test_marks_arrive_with_a_tracer_passed_by_hand(server: LangSmithServer, client: Client, ours_first: bool) -> None:
    """It does not matter which of the two handlers stands first in the list."""
    handlers = [handler(), LangChainTracer(client=client)]
    graph().invoke(QUESTION, {"callbacks": handlers if ours_first else handlers[::-1], "metadata": METADATA})

    assert_marked(server.named("the-graph"))
    assert_marked(server.named("the-model"))


def test_marks_arrive_when_attached(traced_by_environment: LangSmithServer) -> None:
    """An attached handler hears of everything after the tracer; the marks arrive all the same."""
    attach(handler())
    try:
        graph().invoke(QUESTION, {"metadata": METADATA})
    finally:
        detach()

    assert_marked(traced_by_environment.named("the-graph"))
    assert_marked(traced_by_environment.named("the-model"))


def test_marks_arrive_for_a_bare_call(traced_by_environment: LangSmithServer) -> None:
    """A model called outside any graph is a run of its own and is marked once."""
    scripted().invoke("hello", {"callbacks": [handler()], "metadata": METADATA})

    assert_marked(traced_by_environment.named("the-model"))


def test_a_node_that_makes_no_call_is_not_marked(traced_by_environment: LangSmithServer) -> None:
    """Marks are on the root and on model runs alone: they do not leak into runs that share LangChain's metadata."""
    graph().invoke(QUESTION, {"callbacks": [handler()], "metadata": METADATA})

    node = traced_by_environment.named("ask")
    assert not [name for name in node["extra"]["metadata"] if name.startswith("finops:")]
    assert not [tag for tag in node.get("tags") or [] if tag.startswith("finops:")]


def test_an_unpriced_call_has_no_cost_in_its_marks(traced_by_environment: LangSmithServer) -> None:
    """Unknown is not zero on LangSmith either: there is no cost tag, and the status says why."""
    unpriced = FinOpsHandler(agent_id="support", ledger=":memory:", prices=PriceBook(catalog=False))
    graph().invoke(QUESTION, {"callbacks": [unpriced], "metadata": METADATA})

    for name in ("the-graph", "the-model"):
        run = traced_by_environment.named(name)
        assert run["extra"]["metadata"]["finops:cost_usd"] is None
        assert run["extra"]["metadata"]["finops:cost_status"] == "unpriced"
        assert not [tag for tag in run["tags"] if tag.startswith("finops:cost_usd")]


def test_a_failed_run_says_so(traced_by_environment: LangSmithServer) -> None:
    """The status of a run that raised is `failed`, and what it spent before is there."""
    model = scripted()

    def node(state: MessagesState) -> dict[str, Any]:
        model.invoke(state["messages"])
        raise RuntimeError("after the call")

    builder = StateGraph(MessagesState)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    with pytest.raises(RuntimeError, match="after the call"):
        builder.compile(name="the-graph").invoke(QUESTION, {"callbacks": [handler()], "metadata": METADATA})

    assert_marked(traced_by_environment.named("the-graph"), status="failed")


def test_an_outcome_becomes_feedback_on_the_root_run(traced_by_environment: LangSmithServer) -> None:
    """The outcome of a task is on its root run: success as a score, the value exact, as text."""
    ours = handler()
    graph().invoke(QUESTION, {"callbacks": [ours], "metadata": METADATA})
    ours.log_outcome(task_id="t-42", success=True, value_usd=Decimal("0.00001234"), score=0.75, reason="solved")
    ours.flush()

    root = traced_by_environment.named("the-graph")["id"]
    rows = {row["key"]: row for row in traced_by_environment.feedback}
    assert set(rows) == {"finops:success", "finops:score", "finops:value_usd"}
    assert {row["run_id"] for row in rows.values()} == {root}
    # Older clients do not know the project's id, and older servers do without it.
    known = "session_id" in inspect.signature(Client.create_feedback).parameters
    assert {row.get("session_id") for row in rows.values()} == {PROJECT if known else None}
    assert rows["finops:success"]["score"] == 1
    assert rows["finops:success"]["comment"] == "solved"
    assert rows["finops:score"]["score"] == 0.75
    assert rows["finops:value_usd"]["value"] == "0.00001234"


USAGE = {
    "input_tokens": 10,
    "output_tokens": 40,
    "total_tokens": 50,
    "input_cost": 0.00003,
    "output_cost": 0.0006,
    "total_cost": 0.00063,
}
"""10 tokens at $3 and 40 at $15 a million."""


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_the_cost_is_in_the_model_runs_usage(
    server: LangSmithServer, client: Client, ours_first: bool, bare: bool
) -> None:
    """LangSmith sums model runs: theirs carry the cost beside the counts, and the root's, which it adds up, none."""
    handlers = [handler(), LangChainTracer(client=client)]
    config: Any = {"callbacks": handlers if ours_first else handlers[::-1], "metadata": METADATA}
    scripted().invoke("hello", config) if bare else graph().invoke(QUESTION, config)

    metadata = server.named("the-model")["extra"]["metadata"]
    assert metadata["usage_metadata"] == USAGE
    if not bare:
        assert "usage_metadata" not in server.named("the-graph")["extra"]["metadata"]


def test_metadata_with_a_cost_can_be_copied() -> None:
    """Whoever copies a run, or hands it to another process, gets what it says."""
    whole, _ = marked({"a": 1, "usage_metadata": {"input_tokens": 7}}, None, {}, {"total_cost": 0.5})
    wanted = {"a": 1, "usage_metadata": {"input_tokens": 7, "total_cost": 0.5}}
    assert copy.deepcopy(whole) == pickle.loads(pickle.dumps(whole)) == whole == wanted


def test_a_cost_that_is_not_ours_stays() -> None:
    """Where we knew no price before and know none now, the cost that somebody else named is left."""
    theirs = {"usage_metadata": {"input_tokens": 7, "total_cost": 0.5}, "finops:cost_usd": None}
    assert marked(theirs, None, {"finops:cost_usd": None}, {"input_tokens": 7})[0] == theirs


def test_an_unknown_cost_is_not_zero_in_the_usage(traced_by_environment: LangSmithServer) -> None:
    """Counts without a cost: LangSmith may look the price up, and is not told that it was nothing."""
    unpriced = FinOpsHandler(ledger=":memory:", prices=PriceBook(catalog=False))
    graph().invoke(QUESTION, {"callbacks": [unpriced]})

    metadata = traced_by_environment.named("the-model")["extra"]["metadata"]
    assert metadata["usage_metadata"] == {name: count for name, count in USAGE.items() if name.endswith("_tokens")}


def test_a_cached_answer_was_not_paid_for(traced_by_environment: LangSmithServer) -> None:
    """What LangChain's cache answers costs nothing there, and keeps its list cost among our marks."""
    model = scripted()
    model.cache = InMemoryCache()
    for name in ("first", "second"):
        model.invoke("hello", {"callbacks": [handler()], "metadata": METADATA, "run_name": name})

    (first, second) = (traced_by_environment.named(name)["extra"]["metadata"] for name in ("first", "second"))
    assert first["usage_metadata"]["total_cost"] == 0.00063
    assert second["usage_metadata"]["total_cost"] == 0
    assert "input_cost" not in second["usage_metadata"]
    assert Decimal(second["finops:cost_usd"]) == Decimal(COST)


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_a_tool_with_a_price_has_its_cost(
    server: LangSmithServer, client: Client, ours_first: bool, bare: bool
) -> None:
    """Half a cent for a search: its run carries that, and one without a price carries nothing of ours."""

    @tool
    def search(question: str) -> str:
        """Search."""
        return question

    @tool
    def look_up(question: str) -> str:
        """Look it up."""
        return question

    def node(state: MessagesState) -> dict[str, Any]:
        search.invoke({"question": "?"})
        look_up.invoke({"question": "?"})
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    cards = parse_cards([{"id": "search", "tool": "search", "usd_per_call": "0.005"}], where="test")
    ours = FinOpsHandler(agent_id="support", ledger=":memory:", prices=PriceBook(cards=cards, catalog=False))
    handlers = [ours, LangChainTracer(client=client)]
    config: Any = {"callbacks": handlers if ours_first else handlers[::-1], "metadata": METADATA}
    search.invoke({"question": "?"}, config) if bare else builder.compile().invoke(QUESTION, config)

    metadata = server.named("search")["extra"]["metadata"]
    assert metadata["usage_metadata"] == {"total_cost": 0.005}
    assert metadata["finops:cost_usd"] == "0.005"
    if not bare:
        other = server.named("look_up")["extra"]["metadata"]
        assert not [name for name in other if name.startswith("finops:") or name == "usage_metadata"]
    assert ours.faults == 0


async def test_each_run_of_a_thread_says_so(traced_by_environment: LangSmithServer) -> None:
    """LangSmith adds a thread's cost up by `thread_id` on its runs, and by provider and model of the model runs."""
    builder = StateGraph(MessagesState)
    model = scripted()
    builder.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "ask")
    compiled = builder.compile(name="the-graph", checkpointer=InMemorySaver())
    for _ in range(2):
        config: Any = {"callbacks": [handler()], "configurable": {"thread_id": "th-1"}}
        await compiled.ainvoke(QUESTION, config)

    runs = list(traced_by_environment.runs.values())
    assert len(runs) == 6
    assert {run["extra"]["metadata"].get("thread_id") for run in runs} == {"th-1"}
    models = [run["extra"]["metadata"] for run in runs if run["run_type"] == "llm"]
    assert sum(run["usage_metadata"]["total_cost"] for run in models) == 2 * 0.00063
    assert {(run["ls_provider"], run["ls_model_name"]) for run in models} == {("genericfakechatmodel", "scripted")}


@pytest.mark.parametrize("start", ["failed", "interrupted", "bare"])
def test_an_outcome_finds_every_kind_of_run(traced_by_environment: LangSmithServer, start: str) -> None:
    """A run that failed or waits for somebody, and a call that is a run of its own, take a later outcome as well."""

    def fail(state: MessagesState) -> dict[str, Any]:
        raise RuntimeError("no")

    def ask(state: MessagesState) -> dict[str, Any]:
        interrupt("?")
        return {}

    ours = handler()
    config = {"callbacks": [ours], "metadata": METADATA}
    if start == "bare":
        scripted().invoke("hello", config)
    else:
        builder = StateGraph(MessagesState)
        builder.add_node("ask", fail if start == "failed" else ask)
        builder.add_edge(START, "ask")
        with suppress(RuntimeError):
            builder.compile(name="the-graph").invoke(QUESTION, config)
    ours.log_outcome(task_id="t-42", success=False)
    ours.flush()

    root = traced_by_environment.named("the-model" if start == "bare" else "the-graph")["id"]
    assert [(row["run_id"], row["score"]) for row in traced_by_environment.feedback] == [(root, 0)]


@pytest.mark.parametrize(("calls", "status", "cost"), [(1, "exact", COST), (0, "unpriced", None)])
def test_a_tool_without_a_price_leaves_the_calls_status(
    traced_by_environment: LangSmithServer, calls: int, status: str, cost: str | None
) -> None:
    """Nearly every agent has such tools; but where nothing has a price, there is no cost to be exact about."""
    model = scripted()

    @tool
    def look_up(question: str) -> str:
        """Look it up."""
        return question

    def node(state: MessagesState) -> dict[str, Any]:
        look_up.invoke({"question": "?"})
        return {"messages": [model.invoke("hello") for _ in range(calls)]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    builder.compile(name="the-graph").invoke(QUESTION, {"callbacks": [handler()], "metadata": METADATA})

    marked = traced_by_environment.named("the-graph")["extra"]["metadata"]
    assert (marked["finops:cost_status"], marked["finops:cost_usd"]) == (status, cost)


async def test_an_outcome_judged_at_the_end_of_a_run_does_not_block_the_loop(
    traced_by_environment: LangSmithServer,
) -> None:
    """`success=` on the handler sends its feedback from another thread: the hook waits for no HTTP."""
    book = PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)
    ours = FinOpsHandler(agent_id="support", ledger=":memory:", prices=book, success=lambda state: False)
    compiled = graph()
    with blockbuster_ctx() as guard:
        # The tracer of this test posts in place, which is what blockbuster is for; what is tested is our part.
        for function in guard.functions.values():
            function.can_block_in("langsmith/client.py", "request_with_retries")
        await compiled.ainvoke(QUESTION, {"callbacks": [ours], "metadata": METADATA})
    ours.flush()

    (row,) = traced_by_environment.feedback
    assert (row["key"], row["score"]) == ("finops:success", 0)


def test_a_fault_of_langsmith_reaches_nobody(
    traced_by_environment: LangSmithServer, caplog: pytest.LogCaptureFixture
) -> None:
    """LangSmith refusing feedback is logged once; the run, the outcome and the ledger are as they should be."""
    traced_by_environment.fail_feedback = True
    ours = handler()
    graph().invoke(QUESTION, {"callbacks": [ours], "metadata": METADATA})
    for _ in range(2):
        ours.log_outcome(task_id="t-42", success=True)
    ours.flush()

    (record,) = [record for record in caplog.records if record.name == "langchain_finops"]
    assert record.getMessage().startswith("LangSmith did not take an outcome (")
    assert not record.exc_info  # It may hold the outcome's reason.
    assert [outcome.success for outcome in ours.ledger.outcomes()] == [True]


def test_without_a_tracer_nothing_is_sent(server: LangSmithServer) -> None:
    """A process that does not trace sends nothing anywhere."""
    ours = handler()
    graph().invoke(QUESTION, {"callbacks": [ours], "metadata": METADATA})
    ours.log_outcome(task_id="t-42", success=True)
    ours.flush()

    assert not server.runs
    assert not server.feedback
