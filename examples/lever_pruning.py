"""Pruning: a LangGraph agent that looks several things up in a row, before and after the lever.

Four questions are answered one after the other, each from a page that a tool returns. Without the lever every page
stays in the prompt until the end. `prune` stands before the model as a node, and replaces pages that were read
(`tool_results`) or has the same small model sum them up (`summary`), where that pays over the questions that are left.
This prints the table and the paired comparisons, from the recording, without a model or a network:

    python examples/lever_pruning.py [RESULTS]
    finops-eval run golden_datasets/levers/pruning.jsonl
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
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
PAGES = 6
"""Pages that a handbook is read in."""

# Worked examples: a page, a question, the answer. None of them is of the dataset's handbooks.
EXAMPLES = (
    (
        "Birch kettle. It boils in 4 minutes. Descale it every month.",
        "How often is the kettle descaled?",
        "every month",
    ),
    (
        "Town library. Books may be kept for four weeks. A fine is 20 cents a day.",
        "What is the fine?",
        "20 cents a day",
    ),
    (
        "River ferry. The first boat leaves at 6.40, the last one at 22.15.",
        "When does the last boat leave?",
        "at 22.15",
    ),
)
# The same for the one who takes notes: what was read, and what is noted.
NOTED = (
    (
        "Tool: Garden tap. Close it before the frost. A new seal costs 2 euros. AI: What is a seal? Answer: 2 euros",
        "Garden tap: close before frost, new seal 2 euros.",
    ),
    (
        "Tool: Night bus. It runs at 0.30 and 1.30. The driver sells tickets. AI: Who sells them? Answer: the driver",
        "Night bus: 0.30, 1.30; tickets from the driver.",
    ),
)


class Errand(TypedDict, total=False):
    """What is to be looked up and where, the conversation so far, and the answers."""

    lookups: list[dict[str, Any]]
    messages: Annotated[list[AnyMessage], add_messages]
    answers: list[str]


@tool
def read_page(handbook: str, page: int) -> str:
    """Read a page of a handbook, numbered from 1."""
    text = (LEVERS / "handbooks" / f"{Path(handbook).name}.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    first, end = ((number * len(sections)) // PAGES for number in (page - 1, page))
    return " ".join("\n## ".join(sections[first:end]).split())


def build(configuration: Mapping[str, object]) -> Runnable[Errand, Errand]:
    """The agent in one configuration. `way`: `keep`, `tool_results` or `summary`, what becomes of pages once read."""
    model = OpenAI(**_served(), temperature=0.3, max_tokens=12)
    way = str(configuration["way"])

    def ask(state: Errand) -> Errand:
        """Read the page for the next question. Which one is known here: only what the model is paid for is measured."""
        lookups = state["lookups"]
        done = len(state.get("answers", []))
        args = {name: lookups[done][name] for name in ("handbook", "page")}
        call = {
            "name": "read_page",
            "args": args,
            "id": f"page-{done + 1}",
        }  # The one who takes notes reads the id too.
        asked = [] if state.get("messages") else [HumanMessage("\n".join(each["question"] for each in lookups))]
        told = {"left": len(lookups) - done}
        return {"messages": [*asked, AIMessage("", tool_calls=[call], additional_kwargs=told)]}

    async def answer(state: Errand, config: RunnableConfig) -> Errand:
        """Have the model answer the question, with all that is still in the conversation before it."""
        answers = state.get("answers", [])
        question = state["lookups"][len(answers)]["question"]
        said = await model.ainvoke(prompt(state["messages"], question), config, stop=["\n"])
        said = said.strip().strip("\"'").rstrip(".,;:!")
        return {"messages": [AIMessage(f"Question: {question}\nAnswer: {said}")], "answers": [*answers, said]}

    def is_done(state: Errand) -> Literal["ask", "__end__"]:
        return "ask" if len(state["answers"]) < len(state["lookups"]) else "__end__"

    graph = StateGraph(Errand)
    graph.add_node("ask", ask)
    graph.add_node("read", ToolNode([read_page]))
    graph.add_node("answer", answer)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "read")
    if way == "keep":
        graph.add_edge("read", "answer")
    else:
        notes = NoteTaker(**_served(), temperature=0.3, max_tokens=60) if way == "summary" else None
        pruner = prune(model=model, ways=[way], summarizer=notes, keep_last=2, remaining_steps=left)  # type: ignore[list-item]
        graph.add_node("shorten", pruner.node())
        graph.add_edge("read", "shorten")
        graph.add_edge("shorten", "answer")
    graph.add_conditional_edges("answer", is_done)
    return graph.compile(name="errand_agent")


def left(messages: Sequence[BaseMessage]) -> int:
    """Questions that are still to be answered, the one at hand among them: `ask` tells with each look-up."""
    calls = [message for message in messages if isinstance(message, AIMessage) and message.tool_calls]
    return int(calls[-1].additional_kwargs["left"])


def right(answer: Errand, outputs: Mapping[str, Any]) -> float:
    """The share of the questions that were answered rightly: the answer holds the reference."""
    pairs = list(zip(answer["answers"], outputs["answers"], strict=True))
    return sum(expected.casefold() in said.casefold() for said, expected in pairs) / len(pairs)


class NoteTaker(OpenAI):
    """A completion model that sums up: it goes on from worked examples, as it knows no instructions."""

    async def ainvoke(
        self,
        input: Any,  # noqa: A002  LangChain's name.
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> str:
        """Notes on the last message."""
        shown = "".join(f"Text: {text}\nNotes: {notes}\n\n" for text, notes in NOTED)
        prompt = f"{shown}Text: {' '.join(input[-1].text.split())}\nNotes:"
        return await super().ainvoke(prompt, config, stop=stop or ["\n"], **kwargs)


def prompt(messages: Sequence[BaseMessage], question: str) -> str:
    """Examples, then all that was read and answered, with the next answer left open for a base model to go on from."""
    shown = "".join(f"Text: {text}\nQuestion: {asked}\nAnswer: {said}\n\n" for text, asked, said in EXAMPLES)
    so_far = "".join(_shown(message) for message in messages[1:])
    return f"{shown}{so_far}Question: {question}\nAnswer:"


def _shown(message: BaseMessage) -> str:
    if isinstance(message, AIMessage):
        return f"{message.text}\n\n" if message.text else ""
    return f"Text: {message.text}\n"


def _served() -> dict[str, Any]:
    return {
        "model": str(os.environ.get("FINOPS_MODEL") or MODEL),
        "base_url": str(os.environ.get("FINOPS_MODEL_URL") or URL),
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        "api_key": SecretStr(os.environ.get("FINOPS_MODEL_KEY", "not needed")),
    }


def main(folder: Path) -> None:
    """Print each configuration's figures, and the paired comparisons with keeping all pages."""
    from langchain_finops.evals import CompareOptions, Options, compare, load_dataset, load_suite, run
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

    data = LEVERS / "pruning.jsonl"
    results = run(load_dataset(data), load_suite(data.with_suffix(".yaml")), Options(folder=folder))
    render(table_of(results), "table", sys.stdout)
    for way in ("tool_results", "summary"):
        options = CompareOptions(min_tasks=len(load_dataset(data).items))
        render(compare(f"{folder}:{way}", f"{folder}:keep", options).table(), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as made:
            main(Path(made) / "pruning")
