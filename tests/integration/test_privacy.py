"""Promise 7: no text of a prompt, an answer, a state, a tool or an error is stored anywhere."""

import asyncio
import sqlite3
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from graphs import State, graph_of
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from provider_server import Answer, ProviderServer, openai_usage
from scripted_models import Gate, ProviderError, Reply, ScriptedChat, ScriptedLLM, scripted, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook, open_ledger
from langchain_finops.ledger.marks import read_marks
from langchain_finops.pricing.cards import parse_cards

SECRETS = ("PROMPT-SECRET", "ANSWER-SECRET", "ERROR-SECRET", "TOOL-SECRET", "STATE-SECRET", "JUDGE-SECRET")


def bytes_of(folder: Path) -> bytes:
    """All that was written there: the ledger, its journal, a spill file."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def expect_no_secret(folder: Path, ledger: Ledger) -> None:
    ledger.flush(30)
    stored = bytes_of(folder)
    assert b"marker-task" in stored, "nothing was stored, so nothing was tested"
    for secret in SECRETS:
        for written in (secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()):
            assert written not in stored
    assert not any(secret in repr(call) for call in ledger.calls() for secret in SECRETS)


def config(handler: FinOpsHandler) -> Any:
    return {"callbacks": [handler], "metadata": {"task_id": "marker-task"}}


@pytest.fixture
def sql_handler(sql_ledger: Ledger) -> FinOpsHandler:
    cards = parse_cards([{"id": "search", "tool": "*", "usd_per_call": "0.005"}], where="test")
    return FinOpsHandler(ledger=sql_ledger, prices=PriceBook(cards=cards, catalog=False))


def test_prompts_answers_and_state(tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler) -> None:
    """Of what a graph reads and says nothing is stored, with usage and without, chat or completion."""
    reply = Reply(text="ANSWER-SECRET", usage=tokens(7, 3))
    chat, silent = ScriptedChat(script=lambda *_: reply), ScriptedChat(script=lambda *_: Reply(text="ANSWER-SECRET"))
    completion = ScriptedLLM(script=lambda *_: Reply(text="ANSWER-SECRET"))

    def node(state: State) -> State:
        answers = [model.invoke("PROMPT-SECRET") for model in (chat, silent, completion)]
        return {"answers": [str(answer) for answer in answers]}

    graph_of({"ask": node}).invoke({"answers": ["STATE-SECRET"]}, config(sql_handler))

    expect_no_secret(tmp_path, sql_ledger)


def test_tools_and_their_arguments(tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler) -> None:
    """A tool is known by its name; what it was given and what it gave is not kept, nor why it failed."""

    def search(query: str) -> str:
        if "fail" in query:
            raise ValueError("ERROR-SECRET")
        return "TOOL-SECRET answer"

    tool = StructuredTool.from_function(search, name="search", description="Search.", handle_tool_error=True)
    model = scripted(
        Reply(usage=tokens(1, 1), tool_calls=[("search", {"query": "TOOL-SECRET"})]),
        Reply(usage=tokens(1, 1), tool_calls=[("search", {"query": "TOOL-SECRET fail"})]),
    )
    agent = create_agent(model, [tool], name="support")

    with pytest.raises(ValueError, match="ERROR-SECRET"):
        agent.invoke({"messages": [HumanMessage("PROMPT-SECRET")]}, config(sql_handler))

    expect_no_secret(tmp_path, sql_ledger)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, lambda text: ProviderError(500, text)])
def test_messages_of_errors(tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler, error: Any) -> None:
    """Providers quote the prompt in their errors: class and status are kept, the message is not."""
    failure = error("ERROR-SECRET: 'PROMPT-SECRET' is not allowed")
    failure.code = "ERROR-SECRET with a sentence"

    with pytest.raises(type(failure)):
        graph_of({"ask": lambda state: scripted(Reply(error=failure)).invoke("PROMPT-SECRET")}).invoke(
            {"answers": []}, config(sql_handler)
        )

    expect_no_secret(tmp_path, sql_ledger)


async def test_streams_that_were_left(tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler) -> None:
    """What was received of a broken-off stream is counted and not kept."""
    gate = Gate(asyncio.Event)
    reply = Reply(text="ANSWER-SECRET ANSWER-SECRET", pieces=2, gate=gate, gate_after=1)
    stream = ScriptedChat(script=lambda *_: reply).astream("PROMPT-SECRET", config(sql_handler))
    async for _ in stream:
        break
    await stream.aclose()

    expect_no_secret(tmp_path, sql_ledger)


def test_interrupts(tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler) -> None:
    """What a person is asked at a pause is the user's own."""
    builder = StateGraph(State)
    builder.add_node("ask", lambda state: {"answers": [interrupt("STATE-SECRET: may I?")]})
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=InMemorySaver())

    graph.invoke({"answers": ["STATE-SECRET"]}, config(sql_handler) | {"configurable": {"thread_id": "th"}})

    expect_no_secret(tmp_path, sql_ledger)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_real_providers(
    kind: str, provider: ProviderServer, tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler
) -> None:
    """Nor do the SDKs' answers, errors and headers leave any text or key behind."""
    usage = openai_usage(5, 5) if kind == "openai" else None
    provider.answers = [Answer(text="ANSWER-SECRET", status=status, usage=usage) for status in (200, 400, 500)]
    model: Any = (
        ChatOpenAI(model="m", base_url=f"{provider.url}/v1", api_key="KEY-SECRET", max_retries=0)
        if kind == "openai"
        else ChatAnthropic(model_name="m", base_url=provider.url, api_key="KEY-SECRET", max_retries=0)
    )
    prompt = [("system", "PROMPT-SECRET"), ("user", "PROMPT-SECRET")]

    model.invoke(prompt, config(sql_handler))
    for _ in range(2):
        with pytest.raises(Exception, match="SECRET"):
            model.invoke(prompt, config(sql_handler))

    assert len(list(sql_ledger.calls())) == 3
    expect_no_secret(tmp_path, sql_ledger)
    assert b"KEY-SECRET" not in bytes_of(tmp_path)


def test_digests_of_long_prompts(tmp_path: Path, sql_ledger: Ledger, sql_handler: FinOpsHandler) -> None:
    """Of a prompt that is long enough for marks inside it there are digests, and no piece of what they are of."""
    text = "PROMPT-SECRET " * 500
    tool = {"type": "function", "function": {"name": "f", "description": "TOOL-SECRET " * 50}}
    model = ScriptedChat(script=lambda *_: Reply(text="ANSWER-SECRET", usage=tokens(7, 3))).bind(tools=[tool])
    history = [SystemMessage(f"10:59 {text}"), HumanMessage(text), AIMessage("ANSWER-SECRET"), HumanMessage(text)]

    model.invoke(history, config(sql_handler))

    (call,) = sql_ledger.calls()
    marks = read_marks(call.prompt_digests or b"")
    assert marks.tools is not None
    assert marks.system_masked is not None
    assert len(marks.system_inner) == len(marks.first_inner) == 6
    expect_no_secret(tmp_path, sql_ledger)
    for digest in (
        marks.tools,
        marks.system,
        marks.ends[-1].digest,
    ):  # Without the key.
        for data in (text, f"10:59 {text}", "TOOL-SECRET " * 50):
            assert digest not in {blake2b(data.encode(), digest_size=8, key=key).digest() for key in (b"", bytes(32))}


def test_a_ledger_that_cannot_be_written_spills_no_text(tmp_path: Path, prices: PriceBook) -> None:
    """The spill file beside a locked ledger holds what the ledger would have held, and no more."""
    ledger = open_ledger(tmp_path / "ledger.db", hold_timeout=0.05)
    handler = FinOpsHandler(ledger=ledger, prices=prices)
    ScriptedChat().invoke("1/1", config(handler))
    ledger.flush(30)
    lock = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    reply = Reply(text="ANSWER-SECRET")
    ScriptedChat(script=lambda *_: reply).invoke("PROMPT-SECRET", config(handler))

    lock.execute("ROLLBACK")
    lock.close()
    expect_no_secret(tmp_path, ledger)
    ledger.close()
