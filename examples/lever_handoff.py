"""Hand-off to a person: an agent that reads a customer's message until two readings agree, before and after the lever.

Before, it reads up to five times and answers in any case. After, `handoff(threshold=...)` looks at how far the readings
so far disagree, which costs no call, and asks a person instead of reading on. The model is a real one, recorded; the
person is scripted and always right, at $30 an hour and a minute a ticket: assumptions, as is what a wrong answer costs.

    python examples/lever_handoff.py [RESULTS]               # what they cost, from the recording: no model, no network
    finops-eval run golden_datasets/levers/handoff.jsonl
"""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_openai import OpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph, add_messages
from pydantic import SecretStr

from langchain_finops.levers import HandoffThreshold, Request, TriedTask, best_threshold, handoff

if TYPE_CHECKING:
    from langchain_finops.evals import Results

LEVERS = Path(__file__).parent.parent / "golden_datasets" / "levers"
MODEL = "gemma-3-270m"
URL = "http://127.0.0.1:8089/v1"
AGREE, MOST = 2, 5
USD_PER_HOUR, MINUTES = 30, 1
BESIDE_USD = "1.50"
"""What a wrong answer costs beside the person who answers after all: `failure_usd` of the suite, less 50 cents."""

# Worked examples: message, field, answer. None of them is a task of the dataset.
EXAMPLES = (
    ("The tour was planned for Friday at 10:00 but starts on Sunday at 9:30.", "day the tour starts", "Sunday"),
    ("You sent 3 lamps, I paid for 4. Order 6120, Nina Roth.", "number of lamps sent", "3"),
    ("Mr Okoro wrote the report, Ms Silva will present it in room 12.", "name of the presenter", "Ms Silva"),
    ("Invoice A-31 is paid. Invoice A-47 over 230.00 is still open.", "open invoice", "A-47"),
    ("Please change my hotel from Rome to Milan, 2 to 5 May.", "new hotel city", "Milan"),
)


class Ticket(TypedDict, total=False):
    """What is asked, what was read so far, the answer, and how far the readings disagreed."""

    message: str
    field: str
    messages: Annotated[list[AnyMessage], add_messages]
    answer: str
    doubt: float


class Disagreement:
    """A `DifficultyScorer` without a call: of the readings that may be paid for, the share that agree with no other."""

    is_pure = True  # It says the same of the same messages for ever, so that nothing need be kept over a pause.

    def __call__(self, request: Request) -> float:
        """The score."""
        return doubt(request.messages)


def build(configuration: Mapping[str, object]) -> Runnable[Ticket, Ticket]:
    """The agent in one configuration. `threshold`: a person is asked from this disagreement on; none: nobody is."""
    threshold = configuration["threshold"]
    model = OpenAI(
        model=os.environ.get("FINOPS_MODEL") or MODEL,
        base_url=os.environ.get("FINOPS_MODEL_URL") or URL,
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        api_key=SecretStr(os.environ.get("FINOPS_MODEL_KEY", "not needed")),
        temperature=0.8,
        max_tokens=12,
    )

    async def read(state: Ticket, config: RunnableConfig) -> Ticket:
        """Have the model name the fact, once more."""
        said = await model.ainvoke(prompt(state), config, stop=["\n"])
        asked = [] if state.get("messages") else [HumanMessage(question(state["message"], state["field"]))]
        return {"messages": [*asked, AIMessage(said.strip().strip("\"'").rstrip(".,;:!"))]}

    def check(state: Ticket) -> Literal["ask", "answer"]:
        """Two readings agree: answer."""
        return "answer" if most_agreeing(state["messages"]) >= AGREE else "ask"

    def go_on(state: Ticket) -> Literal["read", "answer"]:
        """Enough was paid for: answer in any case."""
        return "answer" if len(readings(state["messages"])) >= MOST else "read"

    def answer(state: Ticket) -> Ticket:
        """What the person says, else what most usable readings do, the earliest of them where it is a draw."""
        last = state["messages"][-1]
        found = [last.text] if last.name == "person" else usable(state["messages"]) or readings(state["messages"])
        return {"answer": Counter(found).most_common(1)[0][0], "doubt": doubt(state["messages"])}

    def nothing(state: Ticket) -> Ticket:  # noqa: ARG001  LangGraph calls it so.
        """A place to go on from; before the lever, where a person is asked after it."""
        return {}

    graph = StateGraph(Ticket)
    graph.add_node("read", read)
    graph.add_node("go on", nothing)
    graph.add_node("answer", answer)
    if threshold is None:
        graph.add_node("ask", nothing)
        graph.add_edge("ask", "go on")
    else:
        ask = handoff(
            threshold=float(str(threshold)), usd_per_hour=USD_PER_HOUR, minutes=MINUTES, scorer=Disagreement()
        )
        graph.add_node("ask", ask.node(then="go on", end="answer"))
    graph.add_edge(START, "read")
    graph.add_conditional_edges("read", check)
    graph.add_conditional_edges("go on", go_on)
    graph.add_edge("answer", END)
    return graph.compile(name="handoff_agent", checkpointer=InMemorySaver())


def question(message: str, field: str) -> str:
    """The request, with its answer left open: a base model goes on from there."""
    return f"Text: {message}\nQuestion: What is the {field}?\nAnswer:"


def prompt(state: Ticket) -> str:
    """Worked examples, then the ticket."""
    shown = [f"{question(message, field)} {answer}\n\n" for message, field, answer in EXAMPLES]
    return "".join(shown) + question(state["message"], state["field"])


def readings(messages: Sequence[BaseMessage]) -> list[str]:
    """What the model read so far."""
    return [each.text for each in messages if isinstance(each, AIMessage) and each.name != "person"]


def usable(messages: Sequence[BaseMessage]) -> list[str]:
    """Readings that are copied from the message, and not half of it."""
    message = messages[0].text.partition("\nQuestion:")[0].casefold()
    return [each for each in readings(messages) if each and each.casefold() in message and len(each) <= 40]


def most_agreeing(messages: Sequence[BaseMessage]) -> int:
    """How many usable readings say the same."""
    return max(Counter(usable(messages)).values(), default=0)


def doubt(messages: Sequence[BaseMessage]) -> float:
    """Readings that agree with no other, as a share of those that may be paid for."""
    return (len(readings(messages)) - most_agreeing(messages)) / MOST


def threshold_of(development: "Results") -> HandoffThreshold:
    """The threshold of least expected cost on attempts before the lever, by how far their readings disagreed.

    In the order of repeats, so that all attempts at a task are in one fold.
    """
    solved = {verdict.slot: verdict.success is True for verdict in development.verdicts}
    tried = []
    for each in sorted(development.attempts, key=lambda each: (each.repeat, each.task)):
        assert isinstance(each.answer, dict)
        assert each.cost_usd is not None
        tried.append(TriedTask(score=each.answer["doubt"], cost_usd=each.cost_usd, success=solved[each.slot]))
    return best_threshold(tried, usd_per_hour=USD_PER_HOUR, minutes=MINUTES, failure_usd=BESIDE_USD)


def main(folder: Path) -> None:
    """Print which threshold the development tasks come to, and each configuration's figures on the other tasks."""
    from langchain_finops.evals import Options, compare, load_dataset, load_suite, run
    from langchain_finops.evals.resume import table_of
    from langchain_finops.reports.render import render

    def ran(name: str) -> "Results":
        data = LEVERS / f"{name}.jsonl"
        return run(load_dataset(data), load_suite(data.with_suffix(".yaml")), Options(folder=folder / name))

    best = threshold_of(ran("handoff-dev"))
    print(
        f"{best.tasks} attempts at other tasks: doubt of {best.threshold} or more is handed off, {best.handed_off} of "
        f"them.\nA task then costs ${best.expected_usd:.3f}, where not chosen on it ${best.held_out_usd:.3f}; "
        f"with the agent first ${best.agent_first_usd:.3f}, by a person alone ${best.person_usd:.3f}."
    )
    render(table_of(ran("handoff")), "table", sys.stdout)
    render(compare(f"{folder}/handoff:handoff", f"{folder}/handoff:before").table(), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as made:
            main(Path(made))
