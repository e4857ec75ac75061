"""docs/exports.md says what the code does."""

import re
import sys
from pathlib import Path

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExportResult

sys.path.insert(0, str(Path(__file__).parent))  # Tests are imported by path and have no package.

from exports_page import PAGE, TABLES, with_tables

TEXT = PAGE.read_text("utf-8")


def test_the_tables_are_those_of_the_code():
    """Every field, column, metric and attribute stands in the page with its meaning, and no other."""
    assert with_tables(TEXT) == TEXT
    assert len(TABLES) == 4


@pytest.fixture
def graph():
    """The reader's own."""
    answer = AIMessage("yes", response_metadata={"model_name": "gpt-4.1"})
    model = GenericFakeChatModel(
        messages=iter([answer] * 9), metadata={"ls_provider": "openai", "ls_model_name": "gpt-4.1"}
    )
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "ask")
    return builder.compile(name="support")


def test_the_python_of_the_page_runs(graph, monkeypatch, tmp_path):
    """Each block as it stands, one after the other, with a graph of the reader's own; what it counts is exported."""
    exported = []

    def export(_, data, **more):
        exported.append(data.to_json())
        return MetricExportResult.SUCCESS

    monkeypatch.setattr(ConsoleMetricExporter, "export", export)
    monkeypatch.setenv("FINOPS_LEDGER", str(tmp_path / "ledger.db"))
    names = {"graph": graph, "state": {"messages": [("user", "hello")]}}
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    names["provider"].shutdown()
    assert "finops.calls" in exported[0]
    assert names["handler"].faults == 0
    names["handler"].ledger.close()
