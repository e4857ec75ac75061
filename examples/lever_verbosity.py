"""Output caps: a LangGraph agent that reads a fact in a message, before and after its answers are capped.

The model is a base model: after its answer it goes on with messages and questions of its own, up to its output limit.
The agent takes the first line; the rest is paid for nothing. The cap is learnt on other tasks: as many tokens as their
right answers needed. A third configuration has a stop sequence instead, which needs no learning.

    python examples/lever_verbosity.py [RESULTS]             # what they cost, from the recording: no model, no network
    finops-eval run golden_datasets/levers/verbosity.jsonl
"""

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_openai import OpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

from langchain_finops import open_ledger
from langchain_finops.levers import AnswerCaps, cap_answers, learn_caps, needed_tokens

LEVERS = Path(__file__).parent.parent / "golden_datasets" / "levers"
MODEL = "gemma-3-270m"
URL = "http://127.0.0.1:8089/v1"
LIMIT = 128
"""Output tokens before the lever: a generous limit, half of what LangChain sets by itself."""
COVERAGE = 0.90
"""Of the tasks that succeed: 29 of them teach a cap for it, and 299 one for 99%."""

# Worked examples: message, field, answer. None of them is a task of the dataset.
EXAMPLES = (
    ("The tour was planned for Friday at 10:00 but starts on Sunday at 9:30.", "day the tour starts", "Sunday"),
    ("You sent 3 lamps, I paid for 4. Order 6120, Nina Roth.", "number of lamps sent", "3"),
    ("Mr Okoro wrote the report, Ms Silva will present it in room 12.", "name of the presenter", "Ms Silva"),
    ("Invoice A-31 is paid. Invoice A-47 over 230.00 is still open.", "open invoice", "A-47"),
    ("Please change my hotel from Rome to Milan, 2 to 5 May.", "new hotel city", "Milan"),
)


class Ticket(TypedDict, total=False):
    """What is asked, all that the model said, and the answer."""

    message: str
    field: str
    said: str
    answer: str


def build(configuration: Mapping[str, object]) -> Runnable[Ticket, Ticket]:
    """The agent in one configuration. `cap`: output tokens of node `read`, or none. `stop`: whether a line ends it."""
    cap, options = configuration["cap"], {"stop": ["\n"]} if configuration["stop"] else {}
    model = OpenAI(
        model=os.environ.get("FINOPS_MODEL") or MODEL,
        base_url=os.environ.get("FINOPS_MODEL_URL") or URL,
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        api_key=SecretStr(os.environ.get("FINOPS_MODEL_KEY", "not needed")),
        temperature=0.3,
        max_tokens=LIMIT,
    )
    if cap is not None:
        model = cap_answers(model, {"read": int(str(cap))})

    async def read(state: Ticket, config: RunnableConfig) -> Ticket:
        """Have the model name the fact."""
        return {"said": await model.ainvoke(prompt(state), config, **options)}

    def answer(state: Ticket) -> Ticket:
        """What the first line says."""
        return {"answer": first_line(state["said"])}

    graph = StateGraph(Ticket)
    graph.add_node("read", read)
    graph.add_node("answer", answer)
    graph.add_edge(START, "read")
    graph.add_edge("read", "answer")
    graph.add_edge("answer", END)
    return graph.compile(name="verbosity_agent")


def first_line(said: str) -> str:
    """The part of a text that is the answer."""
    return said.strip().partition("\n")[0].strip().strip("\"'").rstrip(".,;:!")


def question(message: str, field: str) -> str:
    """The request, with its answer left open: a base model goes on from there."""
    return f"Text: {message}\nQuestion: What is the {field}?\nAnswer:"


def prompt(state: Ticket) -> str:
    """Worked examples, then the ticket."""
    shown = [f"{question(message, field)} {answer}\n\n" for message, field, answer in EXAMPLES]
    return "".join(shown) + question(state["message"], state["field"])


def learn(folder: Path) -> AnswerCaps:
    """Caps from an evaluation of the agent as it was before, on tasks that are for nothing else.

    How long the answers were says nothing here: nearly all go on to the limit. So each is cut shorter and shorter, as
    long as it holds the fact.
    """
    from langchain_finops.evals import Options, load_dataset, load_suite, run

    data = LEVERS / "verbosity-dev.jsonl"
    dataset = load_dataset(data)
    results = run(dataset, load_suite(data.with_suffix(".yaml")), Options(folder=folder))
    facts = {item.id: str(item.outputs["answer"]).casefold() for item in dataset.items}
    needed: dict[str, int | None] = {}
    for attempt in results.attempts:

        def holds_it(cut: str, fact: str = facts[attempt.task]) -> bool:
            return fact in first_line(cut).casefold()

        answer: Any = attempt.answer
        needed[attempt.task_id] = needed_tokens(answer["said"], holds_it)
    with closing(open_ledger(folder / "ledger.db")) as ledger:
        return learn_caps(ledger, coverage=COVERAGE, needed=lambda call: needed.get(call.attribution.task_id or ""))


def main(folder: Path) -> None:
    """Print the cap that was learnt, each configuration's figures, and both ways beside the agent before."""
    from langchain_finops.evals import Options, compare, load_dataset, load_suite, run
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

    (row,) = learn(folder / "dev").rows
    print(
        f"node {row.node}: {row.tokens} output tokens are enough for {COVERAGE:.0%} of the tasks that succeed (95% "
        f"confidence, {row.successes} tasks); {row.output_tokens:,} were paid for in {row.calls} calls"
    )
    data = LEVERS / "verbosity.jsonl"
    results = run(load_dataset(data), load_suite(data.with_suffix(".yaml")), Options(folder=folder / "test"))
    render(table_of(results), "table", sys.stdout)
    for name in ("capped", "stopped"):
        render(compare(f"{folder / 'test'}:{name}", f"{folder / 'test'}:before").table(), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as made:
            main(Path(made))
