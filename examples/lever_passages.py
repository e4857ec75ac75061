"""Passages: a LangGraph agent that answers a question from a handbook, before and after the lever.

The handbook is looked up whole and is most of the prompt. With the lever, `prune(ways=["passages"])` stands before the
model as a node and leaves of it what bears on the question, where that pays at the model's price. For comparison, the
handbook's first words alone, about as many as the passages have. This prints the table and the paired comparisons,
from the recording, without a model or a network:

    python examples/lever_passages.py [RESULTS]
    finops-eval run golden_datasets/levers/passages.jsonl
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import tool
from langchain_openai import OpenAI
from langgraph.graph import START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from pydantic import SecretStr

from langchain_finops.levers import prune

LEVERS = Path(__file__).parent.parent / "golden_datasets" / "levers"
MODEL = "gemma-3-270m"
URL = "http://127.0.0.1:8089/v1"
FIRST = 950
"""Letters of a handbook that the configuration `first` keeps: about as many as the passages have on average."""

# Worked examples: text, question, answer. None of them is of the dataset's handbooks.
EXAMPLES = (
    (
        "# Birch kettle\n\n## Use\n\nIt boils in 4 minutes.\n\n## Care\n\nDescale it every month with lemon juice.",
        "How often is the kettle descaled?",
        "every month",
    ),
    (
        "# Town library\n\n## Loans\n\nBooks may be kept for four weeks, films for one. A fine is 20 cents a day.",
        "What is the fine?",
        "20 cents a day",
    ),
    (
        "# Oak bookcase\n\n## Screws\n\n| bag | screws | where |\n|---|---|---|\n| A | 12 | sides |\n| B | 8 | back |",
        "For which part is bag B?",
        "back",
    ),
    (
        "# River ferry\n\n## Trips\n\nThe first boat leaves at 6.40, the last one at 22.15. Bicycles cost 3 euros.",
        "When does the last boat leave?",
        "at 22.15",
    ),
)


class Desk(TypedDict, total=False):
    """What is asked of which handbook, what was looked up, and the answer."""

    handbook: str
    question: str
    messages: Annotated[list[AnyMessage], add_messages]
    answer: str


@tool
def look_up(handbook: str) -> str:
    """Look up a handbook by its name, and return all of it."""
    return (LEVERS / "handbooks" / f"{Path(handbook).name}.md").read_text(encoding="utf-8")


def build(configuration: Mapping[str, object]) -> Runnable[Desk, Desk]:
    """The agent in one configuration. `reads`: `whole`, `passages` or `first`, what the model reads of the handbook."""
    model = OpenAI(
        model=str(os.environ.get("FINOPS_MODEL") or MODEL),
        base_url=str(os.environ.get("FINOPS_MODEL_URL") or URL),
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        api_key=SecretStr(os.environ.get("FINOPS_MODEL_KEY", "not needed")),
        temperature=0.3,
        max_tokens=12,
    )

    def ask(state: Desk) -> Desk:
        """Which handbook to look up is known here: what the look-up costs is not what is measured."""
        call = {"name": "look_up", "args": {"handbook": state["handbook"]}, "id": "look-up-1"}
        return {"messages": [HumanMessage(state["question"]), AIMessage("", tool_calls=[call])]}

    async def answer(state: Desk, config: RunnableConfig) -> Desk:
        """Have the model answer from what it is shown."""
        said = await model.ainvoke(prompt(state["messages"]), config, stop=["\n"])
        said = said.strip().strip("\"'").rstrip(".,;:!")
        return {"messages": [AIMessage(said)], "answer": said}

    # The one answer to come is the only step that the document is paid for, and the prices are those of the run.
    shorten: dict[str, Any] = {"passages": prune(model=model, ways=["passages"]).node(), "first": first_words}
    graph = StateGraph(Desk)
    graph.add_node("ask", ask)
    graph.add_node("look_up", ToolNode([look_up]))
    graph.add_node("answer", answer)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "look_up")
    if (node := shorten.get(str(configuration["reads"]))) is None:
        graph.add_edge("look_up", "answer")
    else:
        graph.add_node("shorten", node)
        graph.add_edge("look_up", "shorten")
        graph.add_edge("shorten", "answer")
    return graph.compile(name="handbook_agent")


def first_words(state: Desk) -> Desk:
    """The naive way to a shorter prompt: the beginning of the handbook."""
    found = state["messages"][-1]
    return {"messages": [found.model_copy(update={"content": found.text[:FIRST]})]}


def prompt(messages: list[AnyMessage]) -> str:
    """Examples, then the handbook and the question, with the answer left open: a base model goes on from there."""
    question = next(message.text for message in messages if isinstance(message, HumanMessage))
    shown = "".join(f"Text: {text}\nQuestion: {asked}\nAnswer: {said}\n\n" for text, asked, said in EXAMPLES)
    return f"{shown}Text: {messages[-1].text}\nQuestion: {question}\nAnswer:"


def main(folder: Path) -> None:
    """Print each configuration's figures, and the paired comparisons with the whole handbook."""
    from langchain_finops.evals import Options, compare, load_dataset, load_suite, run
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

    data = LEVERS / "passages.jsonl"
    results = run(load_dataset(data), load_suite(data.with_suffix(".yaml")), Options(folder=folder))
    render(table_of(results), "table", sys.stdout)
    for reads in ("passages", "first"):
        render(compare(f"{folder}:{reads}", f"{folder}:whole").table(), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as made:
            main(Path(made) / "passages")
